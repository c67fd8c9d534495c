//! A sandbox on trial: does this machine run programs as they are run when they are graded?
//!
//! Called by `doctor`, in a process of its own, which does not come back from it as it was.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::apart::apart;
use crate::error::{Context, Result};
use crate::grade::sandbox::Sandbox;
use crate::grade::stage::Stage;
use crate::grade::submission::Submission;
use crate::grade::worker::{self, Job};

/// How long a program may take; scapy is slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Whether it ended well.
    pub well: bool,
    /// The last line that it printed.
    pub said: String,
}

/// Runs commands on a host of a lab, one after another, as the programs of a submission; returns what became of each.
///
/// # Errors
/// The machine lacks what a sandbox or a lab needs.
pub fn run(commands: &[&[&str]]) -> Result<Vec<Ran>> {
    let own = std::fs::File::open("/proc/self/exe").context(|| "cannot read vpnlab itself".into())?;
    worker::become_root_of_nothing()?;
    let tried =
        apart(|| "cannot try the sandbox".into(), || in_sandbox(own, commands).map_err(|error| error.to_string()))?;
    tried.map_err(crate::error::Error::environment)
}

fn in_sandbox(own: std::fs::File, commands: &[&[&str]]) -> Result<Vec<Ran>> {
    let job = Job {
        folder: None,
        steps: Vec::new(),
        start_timeout: PATIENCE.as_secs_f64(),
        shown: Vec::<PathBuf>::new(),
        is_open: false,
        evidence: false,
        python: String::new(),
    };
    let mut submission = Submission::own();
    let sandbox: Sandbox = worker::furnish(&job, &mut submission, own)?;
    let mut stage = Stage::set(&sandbox, &submission, 0, PATIENCE)?;
    let host = stage.topology().tunnel.client.clone();
    commands.iter().map(|words| run_one(&mut stage, &host, words)).collect()
}

fn run_one(stage: &mut Stage<'_>, host: &str, words: &[&str]) -> Result<Ran> {
    let place = stage.run(host, &words.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let ended = stage.program(place).wait(PATIENCE);
    let program = stage.program(place);
    if ended {
        program.wait_for_output(Duration::from_secs(1));
    }
    let output = program.output();
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let said = if ended { last.to_string() } else { format!("it takes longer than {} s", PATIENCE.as_secs()) };
    Ok(Ran { well: ended && program.exit_code() == Some(0), said })
}
