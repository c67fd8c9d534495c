//! Parse, start the log, run, report the error, exit.

use std::process::ExitCode;

use vpnlab::cli::Cli;
use vpnlab::logging;

fn main() -> ExitCode {
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    match logging::start(&cli.log).and_then(|()| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::fatal(&error);
            ExitCode::from(error.exit() as u8)
        }
    }
}
