//! The programs that run in a lab's hosts: find them, end them.
//!
//! A program belongs to a host when it is in the host's network namespace, however it came there, as `ip netns pids`
//! sees it. It belongs to the lab, too, when it has left for another network namespace with the lab's variable in its
//! environment. Works on /proc alone, and touches no other process.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::error::{Error, Result};
use crate::lab::namespace;

/// How long programs have to end on SIGTERM before they get SIGHUP, which ends an interactive shell.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long they have to end by themselves before they are killed.
const GRACE: Duration = Duration::from_millis(500);

/// How long the kernel may take to end a killed program.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Names the lab that a program runs in, in its environment.
pub const LAB_VARIABLE: &str = "VPNLAB_LAB";

/// The comm(5) of the vpnlab process that waits for a host's shell; `lab reset` leaves that shell alone by it.
pub const SHELL_KEEPER: &std::ffi::CStr = c"vpnlab-shell";

/// The process on whose life a lab depends: when it ends, so does the lab. `lab up --owner`, for programs that make labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: Pid,
    /// When it started, in clock ticks since boot; tells it from a later process of the same id.
    pub started: u64,
}

impl Owner {
    /// The running process of this id.
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc_pid_stat(5): starttime is field 22; the comm, field 2, may hold anything.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// A program that runs in a host.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its process id, in the caller's process namespace.
    pub pid: Pid,
    /// Its command line, or its name in brackets where it has none.
    pub command: String,
    parent: Pid,
}

impl Process {
    /// Whether this is a shell that `lab shell` started.
    fn is_lab_shell(&self) -> bool {
        let parent = fs::read_to_string(format!("/proc/{}/comm", self.parent)).unwrap_or_default();
        parent.trim_end().as_bytes() == SHELL_KEEPER.to_bytes()
    }
}

/// The programs in these network namespaces, by namespace.
pub fn running_in(networks: &[impl AsFd]) -> Result<Vec<Vec<Process>>> {
    let identities = networks.iter().map(namespace::identity).collect::<Result<Vec<_>>>()?;
    let mut found = vec![Vec::new(); networks.len()];
    for pid in pids() {
        let of = identity_of(pid);
        if let Some(place) = identities.iter().position(|identity| Some(*identity) == of) {
            // Between the two looks it may have ended.
            found[place].extend(look_at(Pid::from_raw(pid)));
        }
    }
    Ok(found)
}

/// The programs that `lab exec` and `lab shell` have started in this lab, and theirs, in whatever namespaces they are now.
fn running_for(lab: &str) -> Vec<Process> {
    let variable = format!("{LAB_VARIABLE}={lab}");
    // A plain user may have a lab of the same name, and so may the root of a container.
    let own = namespaces_of("self");
    let is_near = |pid: &i32| namespaces_of(&pid.to_string()) == own;
    let is_ours = |pid: &i32| has_in_environment(*pid, &variable);
    pids().filter(is_near).filter(is_ours).filter_map(|pid| look_at(Pid::from_raw(pid))).collect()
}

/// Ends the programs in these network namespaces: asks them first, then kills them; returns when they are gone.
/// With `keep_shells`, those that `lab shell` started go on.
///
/// # Errors
/// One of them does not end, as it is not the caller's to kill or hangs in the kernel.
pub fn end_in(networks: &[impl AsFd], keep_shells: bool) -> Result<()> {
    let running = || Ok(running_in(networks)?.into_iter().flatten().collect());
    end_all(running, |process| keep_shells && process.is_lab_shell())
}

/// Ends the programs in these network namespaces that were started with this word, `NAME=VALUE`, in their environment.
///
/// # Errors
/// As of [`end_in`].
pub fn end_started_with(networks: &[impl AsFd], word: &str) -> Result<()> {
    let running = || {
        let mut found: Vec<Process> = running_in(networks)?.into_iter().flatten().collect();
        found.retain(|process| has_in_environment(process.pid.as_raw(), word));
        Ok(found)
    };
    end_all(running, |_| false)
}

/// Whether a process was started with this word, `NAME=VALUE`, in its environment.
pub fn has_in_environment(pid: i32, word: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|it| it == word.as_bytes())
}

/// Ends the programs of a whole lab of root's as [`end_in`] does: those in its network namespaces, and those that were
/// started in it and have left for another.
///
/// # Errors
/// As of [`end_in`].
pub fn end_of_lab(lab: &str, networks: &[impl AsFd]) -> Result<()> {
    let running = || {
        let mut found: Vec<Process> = running_in(networks)?.into_iter().flatten().collect();
        found.extend(running_for(lab));
        Ok(found)
    };
    end_all(running, |_| false)
}

/// Ends what is running but for this process and what is spared, until nothing is.
fn end_all(running: impl Fn() -> Result<Vec<Process>>, is_spared: impl Fn(&Process) -> bool) -> Result<()> {
    let started = Instant::now();
    let mut sent = Vec::new();
    loop {
        let mut left = running()?;
        left.retain(|process| process.pid != getpid() && !is_spared(process));
        let Some(first) = left.first() else { return Ok(()) };
        if started.elapsed() > GRACE + KILL_TIMEOUT {
            return Err(Error::failed(format!("program {} ({}) does not end", first.pid, first.command))
                .hint("is it another user's?"));
        }
        let signal = match started.elapsed() {
            passed if passed < PATIENCE => Signal::SIGTERM,
            passed if passed < GRACE => Signal::SIGHUP,
            _ => Signal::SIGKILL,
        };
        for pid in left.into_iter().map(|process| process.pid) {
            if !sent.contains(&(pid, signal)) {
                sent.push((pid, signal));
                let _ = kill(pid, signal);
                // A stopped program has to run to end.
                let _ = kill(pid, Signal::SIGCONT);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The user and the process namespace of a process.
fn namespaces_of(process: &str) -> [Option<PathBuf>; 2] {
    ["user", "pid"].map(|kind| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok())
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn identity_of(pid: i32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::metadata(PathBuf::from(format!("/proc/{pid}/ns/net"))).ok()?;
    Some((stat.dev(), stat.ino()))
}

fn look_at(pid: Pid) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): pid (comm) state ppid ...; comm may hold anything, so count from its last bracket.
    let (head, tail) = stat.rsplit_once(')')?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    let command = match arguments.trim_end_matches('\0') {
        "" => format!("[{}]", head.split_once('(')?.1),
        line => line.replace('\0', " "),
    };
    Some(Process { pid, command, parent: Pid::from_raw(parent) })
}
