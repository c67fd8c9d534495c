//! What a report is: the stamp, the programs, and per step what was done and seen. Pure data; report.json is these types.
//!
//! docs/report.md describes the JSON. [`VERSION`] rises when a field changes its meaning or goes; fields may be added.

use serde::{Deserialize, Serialize};

use crate::page::ladder::Ladder;

/// By which a report.json is known.
pub const FORMAT: &str = "vpnlab report";

/// The version of the JSON.
pub const VERSION: u32 = 1;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Whether all was seen that the steps promise.
    pub passed: bool,
    /// Why it is about these steps.
    pub chosen: String,
    /// When, where, by whom and with what it was made.
    pub stamp: Stamp,
    /// The programs that hold the tunnel's ends, and those that the report has started.
    pub programs: Vec<Program>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// When, where, by whom and with what a report was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// What `vpnlab --version` says.
    pub vpnlab: String,
    /// The SHA-256 of the vpnlab that made it, if that could be read.
    pub vpnlab_sha256: Option<String>,
    /// When it was begun: RFC 3339, UTC.
    pub made: String,
    /// How long it took.
    pub seconds: f64,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's name.
    pub machine: String,
    /// The user's name, or number where it has none.
    pub user: String,
    /// The lab's name.
    pub lab: String,
    /// How the lab was made: "without root", "as root".
    pub mode: String,
    /// The SHA-256 of the lab's topology, which is the file topology.toml of the report.
    pub topology_sha256: String,
}

/// A program that holds an end of the tunnel, or that the report has started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The host that it runs on.
    pub host: String,
    /// Its command line.
    pub command: String,
    /// Its process id, while it ran.
    pub pid: Option<i32>,
    /// TUN devices and UDP ports that it held: "tun0", "UDP 9090".
    pub holds: Vec<String>,
    /// Whether the report has started it (`--run`), and so has its lines.
    pub started_by_report: bool,
    /// Whether it ended by itself before the report did, and not with exit code 0, where the report has started it.
    #[serde(default)]
    pub failed: bool,
    /// How it ended, where the report has started it.
    pub end: Option<String>,
    /// The file of the report with all that it printed, where the report has started it.
    pub output_file: Option<String>,
    /// The files that it was made of, as far as its command line tells.
    pub sources: Vec<Source>,
}

/// A file that a program was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Where it was.
    pub path: String,
    /// Its SHA-256, if it could be read.
    pub sha256: Option<String>,
    /// The file of the report that is a copy of it, if it is text and not large.
    pub copy: Option<String>,
    /// What else is to be known: that it has changed since the program was started, that it cannot be read.
    pub note: Option<String>,
}

/// A step of the handout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// 0 to 4.
    pub step: u8,
    /// What it is about.
    pub title: String,
    /// What the handout asks to be shown.
    pub asked: String,
    /// Whether all was seen that it promises.
    pub passed: bool,
    /// What it promises, and whether it was seen.
    pub promises: Vec<Promise>,
    /// The commands, in the order in which they were typed.
    pub commands: Vec<Typed>,
    /// What the programs of `--run` printed during the step.
    pub lines: Vec<Lines>,
    /// Echo requests that were followed.
    pub traces: Vec<Trace>,
    /// What passed meanwhile.
    pub capture: Option<Capture>,
    /// The hosts' interfaces, routes, settings and counters at the end of the step.
    pub networks: Vec<Network>,
}

/// Something that a step promises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// What: "useru reaches userv".
    pub text: String,
    /// Whether it was seen; nothing where it could not be looked at.
    pub seen: Option<bool>,
    /// What was seen instead, or why it could not be looked at.
    pub because: Option<String>,
}

/// A command that was typed on a host, or on the machine itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Typed {
    /// The host; empty for the machine.
    pub host: String,
    /// The command line.
    pub command: String,
    /// What it printed, on both streams as they came.
    pub output: String,
    /// Whether it printed more than is kept.
    pub truncated: bool,
    /// Its exit code; 128 + N where signal N ended it.
    pub exit: Option<i32>,
    /// How it ended, in words.
    pub end: String,
    /// How long it ran.
    pub seconds: f64,
    /// The file of the report with the same.
    pub file: String,
}

/// What a program printed during a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lines {
    /// The host that it runs on.
    pub host: String,
    /// Its command line.
    pub command: String,
    /// What it printed, on both streams as they came.
    pub output: String,
    /// Whether it printed more than is kept.
    pub truncated: bool,
    /// The file of the report with the same.
    pub file: String,
}

/// An echo request that was followed: what `vpnlab trace` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The command that finds it.
    pub command: String,
    /// Whether the reply came back.
    pub answered: bool,
    /// Why it did not: a cause of docs/trace.md.
    pub cause: Option<Cause>,
    /// What the command prints.
    pub text: String,
    /// The way, place by place.
    pub ladder: Ladder,
    /// The file of the report with the text.
    pub file: String,
}

/// Why an echo request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its name: `no-forwarding`.
    pub id: String,
    /// What has happened, in a few words.
    pub title: String,
    /// The host that it is about.
    pub host: String,
    /// What was seen that proves it.
    pub facts: Vec<String>,
}

/// What passed every interface of every host during a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capture {
    /// The file of the report.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What the recording said at its end: how many packets there are.
    pub said: String,
}

/// What a host's kernel told about its network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The host.
    pub host: String,
    /// The file of the report.
    pub file: String,
    /// What stands in it; not in the JSON.
    #[serde(skip)]
    pub text: String,
}

impl Promise {
    /// Whether a report with it has failed.
    pub fn is_missing(&self) -> bool {
        self.seen == Some(false)
    }
}
