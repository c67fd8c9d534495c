//! `vpnlab man`: the manual, a page for vpnlab and one for each subcommand, made from the command line's own help.
//!
//! A page on a terminal is shown by man(1), elsewhere it is printed as it is. `--dir` writes them all, which is how the Debian
//! package gets them. Called by the command line alone.

mod page;

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use clap::{Args, Command};

use crate::error::{Context, Error, Result};
use crate::output;

/// `vpnlab man`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// The subcommand that the page is about [default: vpnlab itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages to DIR, a file each; it is created where it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "EXAMPLES:
  vpnlab man                              as `man vpnlab`, where no package has installed that
  vpnlab man lab up
  vpnlab man vpn | man -l -               to a pipe the page goes as it is
  vpnlab man --dir ~/.local/share/man/man1    for man itself, from then on";

/// Shows, prints or writes pages of this command line.
///
/// # Errors
/// There is no such subcommand, or the pages cannot be written.
pub fn run(args: &ManArgs, vpnlab: Command) -> Result<u8> {
    let mut vpnlab = vpnlab.disable_help_subcommand(true);
    vpnlab.build();
    match &args.dir {
        Some(directory) => write(&vpnlab, directory)?,
        None => show(&page::render(find(&vpnlab, &args.command)?)?)?,
    }
    Ok(0)
}

fn find<'a>(vpnlab: &'a Command, path: &[String]) -> Result<&'a Command> {
    path.iter().try_fold(vpnlab, |command, name| {
        let of = command.get_bin_name().unwrap_or("vpnlab");
        command.find_subcommand(name).filter(|found| !found.is_hide_set()).ok_or_else(|| {
            Error::usage(format!("{of} has no subcommand '{name}'")).hint(format!("they are in: {of} --help"))
        })
    })
}

/// To a terminal by man(1), which formats and pages; else as it is.
fn show(page: &str) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return output::text(page);
    }
    let mut man = process::Command::new("man").args(["-l", "-"]).stdin(Stdio::piped()).spawn().map_err(|error| {
        Error::environment("cannot run man").because(error).hint("install man-db, or read the same in --help")
    })?;
    if let Some(mut stdin) = man.stdin.take() {
        // A man that ends early has said why.
        let _ = stdin.write_all(page.as_bytes());
    }
    match man.wait().context(|| "cannot wait for man".into())? {
        status if status.success() => Ok(()),
        status => Err(Error::failed(format!("man could not show the page: {status}"))),
    }
}

/// Writes the pages of this command and of those below it.
fn write(command: &Command, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).context(|| format!("cannot create {}", directory.display()))?;
    let file = directory.join(format!("{}.1", page::name(command)));
    fs::write(&file, page::render(command)?).context(|| format!("cannot write {}", file.display()))?;
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| write(sub, directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_command_is_found_by_its_path() {
        let mut vpnlab = crate::cli::Cli::command();
        vpnlab.build();
        let path = ["lab", "up"].map(String::from);
        assert_eq!(find(&vpnlab, &path).unwrap().get_bin_name(), Some("vpnlab lab up"));
        let error = find(&vpnlab, &["lab", "upp"].map(String::from)).unwrap_err().to_string();
        assert_eq!(error, "vpnlab lab has no subcommand 'upp'; they are in: vpnlab lab --help");
    }
}
