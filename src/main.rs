//! Parse, start the log, run, print the error, exit.

use std::process::ExitCode;

use clap::Parser;
use vpnlab::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpnlab: {error}");
            ExitCode::from(error.exit() as u8)
        }
    }
}
