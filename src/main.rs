//! Parse, start the log, run, print the error, exit.

use std::process::ExitCode;

use clap::Parser;
use vpnlab::cli::Cli;
use vpnlab::lab::standin;

fn main() -> ExitCode {
    match standin::called_as().unwrap_or_else(|| Cli::parse().run()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vpnlab: {error}");
            ExitCode::from(error.exit() as u8)
        }
    }
}
