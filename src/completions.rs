//! `vpnlab completions SHELL`: the script that lets a shell complete vpnlab's commands and options.
//!
//! The Debian package has them in place; this is for those who install by hand. Called by the command line alone.

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell as Generator;

use crate::error::Result;
use crate::output;

/// `vpnlab completions`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell that is to complete
    shell: Shell,
}

const EXAMPLES: &str = "EXAMPLES:
  source <(vpnlab completions bash)       in this shell, until it ends; zsh likewise, after compinit
  vpnlab completions bash > ~/.local/share/bash-completion/completions/vpnlab
  vpnlab completions fish > ~/.config/fish/completions/vpnlab.fish

For zsh the file is _vpnlab, in a folder of $fpath. The Debian package brings all three.";

/// The shells that there is a script for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script of this shell for this command line.
///
/// # Errors
/// It cannot be written.
pub fn run(args: &CompletionsArgs, mut vpnlab: Command) -> Result<u8> {
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut vpnlab, "vpnlab", &mut script);
    output::text(String::from_utf8_lossy(&script))?;
    Ok(0)
}
