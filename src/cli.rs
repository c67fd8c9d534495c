//! The command line: one variant and one `Args` per subcommand.

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::{demo, lab};

/// Build an IP tunnel step by step, in a lab of its own.
#[derive(Debug, Parser)]
#[command(name = "vpnlab", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The testbed: bring it up, look at it, run programs on its hosts
    Lab(lab::LabArgs),
    /// The handout from step 0 to step 4, told and shown in a fresh lab
    Demo(demo::DemoArgs),
}

impl Cli {
    /// Runs the subcommand; returns the exit code.
    pub fn run(&self) -> Result<u8> {
        match &self.command {
            Command::Lab(args) => lab::run(args),
            Command::Demo(args) => demo::run(args),
        }
    }
}
