//! Parse, start the log, run, report the error, exit.

use std::process::ExitCode;

use vpnlab::cli::Cli;
use vpnlab::error::Result;
use vpnlab::lab::standin;
use vpnlab::{logging, memory};

fn main() -> ExitCode {
    if let Some(done) = standin::called_as() {
        return finish(done);
    }
    memory::release();
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    cli.colours.apply();
    memory::release();
    finish(logging::start(&cli.log).and_then(|()| cli.run()))
}

/// The program's exit code; an error is reported first.
fn finish(done: Result<u8>) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(logging::fatal(&error)),
    }
}
