//! `vpnlab doctor`: what this machine can do, what that is good for, and how to get what it lacks.
//!
//! What can be tried is tried, in child processes with namespaces of their own (`attempts`); nothing of the machine is
//! changed, and nothing stays. A file per family of checks makes the findings; `model` says what follows from them.

use clap::Args;
use nix::unistd::getuid;

use crate::error::{Exit, Result};
use crate::{lab, output};

mod attempts;
mod grading;
mod kernel;
mod model;
mod namespaces;
mod rights;
mod show;
mod tools;

use attempts::{Pieces, Tried};
use model::{Answer, Finding, Purpose, State, Summary};

/// `vpnlab doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON, which docs/doctor.md describes
    #[arg(long)]
    json: bool,
}

/// The examples of `vpnlab doctor --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab doctor                           what this machine can do, and how to get the rest
  sudo vpnlab doctor                      the same for root
  vpnlab doctor --json | jq '.findings[] | select(.state != \"ok\")'

Each line tells whether something is there (ok, limited, missing, not tried), what it is for, and what was seen. What can
be tried is tried, in namespaces that end at once: nothing is changed, and nothing is left.

The exit code is 0 if the lab, grading and the handout's commands all work, 3 if one of them does not. Whatever else is
missing makes vpnlab slower or less convenient, and does not count: the fast path, tmux, landlock, stand-ins for ping,
traceroute and tcpdump; and rights on the machine itself, since the steps also run on the lab's hosts.";

/// Runs `vpnlab doctor`; returns the exit code.
///
/// # Errors
/// This is a host of a lab; the output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    lab::refuse_inside_a_host()?;
    let is_root = getuid().is_root();
    let groups = look();
    let findings: Vec<Finding> = groups.iter().flat_map(|(_, findings)| findings.clone()).collect();
    let summaries = Summary::all(&findings, is_root);
    let passed = summaries.iter().all(|summary| !summary.counts || summary.answer != Answer::No);
    match args.json {
        true => output::text(show::json(&findings, &summaries, passed))?,
        false => output::text(show::table(&groups, &summaries, output::has_colour()))?,
    }
    Ok(if passed { 0 } else { Exit::Environment as u8 })
}

/// The findings, by family.
fn look() -> Vec<(&'static str, Vec<Finding>)> {
    let pieces = attempts::pieces().unwrap_or_else(|error| {
        let refused: Tried = Err::<(), _>(error).into();
        Pieces { user: refused.clone(), network: refused, ..Pieces::default() }
    });
    let (kernel, namespaces) = (kernel::look(&pieces), namespaces::look(&pieces));
    let is_in_the_way = |it: &&Finding| it.state == State::Missing && it.needed_for.contains(&Purpose::Grading);
    let lacking = kernel.iter().chain(&namespaces).find(is_in_the_way).map(|finding| finding.title);
    vec![
        ("The kernel", kernel),
        ("Namespaces", namespaces),
        ("Rights on the machine itself", rights::look()),
        ("Grading", grading::look(lacking)),
        ("Programs", tools::look()),
    ]
}

/// The finding that follows from an attempt: what was seen where it worked, what it could not be tried without, and how to
/// get it where the attempt does not say.
fn judged(finding: Finding, tried: &Tried, seen: &str, without: &str, remedy: &str) -> Finding {
    match tried {
        Tried::Worked => finding.ok(seen),
        Tried::Not => finding.untried(without),
        Tried::Refused(why, known) => finding.missing(why.as_str(), known.as_deref().unwrap_or(remedy)),
    }
}

/// How to get a Debian package.
fn install(package: &str) -> String {
    format!("sudo apt-get install {package}")
}
