//! The process that grades one submission: root of a user namespace of its own, and the first of its process namespace.
//!
//! It reads the submission with the rights of whoever grades. From then on it is a plain user outside, also where root grades.
//! With it ends everything that the submission has started, and the
//! labs that it ran in. It is told what to do on stdin, and tells what it has found on stdout, a line of JSON each.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use log::LevelFilter;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, getgid, getuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::grade::model::{Check, Grade};
use crate::grade::sandbox::Sandbox;
use crate::grade::submission::{self, Submission};
use crate::lab::host::mount_point;
use crate::lab::namespace::forbidden;
use crate::sys;
use crate::tun::Tun;

/// Who a submission is outside of its sandbox, where root grades: a user that owns nothing.
const NOBODY: u32 = 65534;

/// The tmpfs where the worker has its files, above all the submission's folder, with what it writes there.
const ROOM: &str = "size=192m,mode=755";

/// What to grade, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The submission's folder; vpnlab grades itself where there is none.
    pub folder: Option<PathBuf>,
    /// The steps to judge.
    pub steps: Vec<u8>,
    /// How long a program may take to start, in seconds.
    pub start_timeout: f64,
    /// What is shown read-only in the sandbox besides /usr.
    pub shown: Vec<PathBuf>,
    /// Whether the programs are trusted, and run without a sandbox.
    pub is_open: bool,
    /// Whether everything that was seen is to be told, for `--evidence`.
    pub evidence: bool,
    /// The Python that runs the handout's files, and must be able to import scapy where the submission needs it.
    pub python: String,
}

/// What a worker tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A check has come to its end.
    Check(Box<Check>),
    /// A piece of a file that is evidence of a check; the next one follows it.
    Evidence {
        /// The check.
        check: String,
        /// The file.
        name: String,
        /// What is appended to it.
        bytes: Vec<u8>,
    },
    /// All have, or there is none to be made.
    Grade(Box<Grade>),
    /// The machine lacks something.
    Lacks(String),
}

/// The life of a worker; returns its exit code.
///
/// # Errors
/// The kernel refuses what a sandbox needs.
pub fn run() -> Result<u8> {
    // Whoever started this may have signals blocked, as `--watch` has; the programs would inherit that.
    SigSet::all().thread_unblock().context(|| "cannot let signals through".into())?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context(|| "cannot read what to grade".into())?;
    let job: Job = serde_json::from_str(&text).context(|| "cannot read what to grade".into())?;
    drop(text);
    let read = |folder: &PathBuf| Submission::read(folder, &job.python);
    let submission = match job.folder.as_ref().map_or_else(|| Ok(Submission::own()), read) {
        Ok(submission) => submission,
        Err(error) => {
            let name = job.folder.as_deref().map(submission::name).unwrap_or_default();
            tell(&Told::Grade(Box::new(super::checks::refused(&name, &job.steps, error.to_string()))));
            return Ok(0);
        }
    };
    let own = fs::File::open("/proc/self/exe").context(|| "cannot read vpnlab itself".into())?;
    become_root_of_nothing()?;
    // Whoever kills the grader ends its workers. (Only from here on: becoming somebody else would have cleared it.)
    end_with_the_grader()?;
    match sys::fork().context(|| "cannot start the grader's own process".into())? {
        ForkResult::Child => {
            // Whoever kills the one outside ends this one, and the kernel then ends everything else in here.
            end_with_the_grader()?;
            let mut submission = submission;
            let done = furnish(&job, &mut submission, own)
                .and_then(|sandbox| super::checks::run(&job, &submission, &sandbox, &tell));
            match done {
                Ok(grade) => tell(&Told::Grade(Box::new(grade))),
                Err(error) => tell(&Told::Lacks(error.to_string())),
            }
            Ok(0)
        }
        ForkResult::Parent { child } => {
            drop(submission);
            match waitpid(child, None).context(|| "cannot wait for the grader".into())? {
                WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(1)),
                _ => Err(Error::failed("the grader's own process was killed")),
            }
        }
    }
}

/// Has the kernel end this process with its parent; and ends it now if whoever reads what it tells has gone before that.
fn end_with_the_grader() -> Result<()> {
    let failed = || "cannot tie the grader to its parent".to_string();
    prctl::set_pdeathsig(Signal::SIGKILL).context(failed)?;
    let stdout = io::stdout();
    let mut reader = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    poll(&mut reader, PollTimeout::ZERO).context(failed)?;
    // A pipe that nobody reads any more (poll(2)).
    match reader[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR)) {
        true => Err(Error::failed("the grader that this is a worker of is gone")),
        false => Ok(()),
    }
}

/// Tells whoever started this worker; there is nobody else to tell that it failed.
fn tell(told: &Told) {
    let mut stdout = io::stdout().lock();
    let _ = serde_json::to_writer(&mut stdout, told).map_err(io::Error::from).and_then(|()| stdout.write_all(b"\n"));
    let _ = stdout.flush();
}

/// Gives up root where this is root, and becomes root of new namespaces, in which everything is this process's own; the
/// process namespace is that of its next child.
///
/// # Errors
/// The machine forbids unprivileged user namespaces.
pub fn become_root_of_nothing() -> Result<()> {
    let leaving = || "cannot become another user".to_string();
    // Root of a user namespace that has nobody else in it is a plain user outside.
    if getuid().is_root() && is_mapped(NOBODY) {
        setgroups(&[]).context(leaving)?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group).context(leaving)?;
        setresuid(user, user, user).context(leaving)?;
        // A process that was somebody else cannot write its own maps in /proc (prctl(2), PR_SET_DUMPABLE).
        prctl::set_dumpable(true).context(leaving)?;
    }
    let (user, group) = (getuid(), getgid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(all).map_err(|errno| forbidden(errno.into()))?;
    let map = || -> io::Result<()> {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))
    };
    map().map_err(forbidden)
}

/// Whether a user is one in this process's user namespace (user_namespaces(7)): a line is first, first outside, how many.
fn is_mapped(user: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next().unwrap_or(0), numbers.next(), numbers.next().unwrap_or(0));
        (first..first + count).contains(&u64::from(user))
    })
}

/// Gives the new namespaces a /proc and a folder of their own, and puts the submission's files there, and nowhere else.
///
/// # Errors
/// The kernel refuses what a sandbox needs.
pub fn furnish(job: &Job, submission: &mut Submission, own: fs::File) -> Result<Sandbox> {
    let nothing: Option<&str> = None;
    let failed = || "cannot furnish the sandbox".to_string();
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context(failed)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing).context(failed)?;
    // Where this user can make none, no program of a student's can, and that is not the student's fault.
    // Its name is nobody's concern.
    let level = log::max_level();
    log::set_max_level(level.min(LevelFilter::Warn));
    let made = Tun::open("vpnlab%d").map(drop);
    log::set_max_level(level);
    made?;
    let directory = mount_point();
    mount(Some("vpnlab"), &directory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(ROOM))
        .context(failed)?;
    let mut program = std::env::current_exe().context(failed)?;
    if fs::File::open(&program).is_err() {
        // Root's home is closed to everybody else.
        program = directory.join("vpnlab");
        let mut copy = fs::File::create(&program).context(failed)?;
        io::copy(&mut &own, &mut copy).context(failed)?;
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).context(failed)?;
    }
    let own = job.folder.is_none().then_some(program);
    let sandbox = Sandbox::new(&directory, own, job.shown.clone(), job.is_open)?;
    for entry in std::mem::take(&mut submission.entries) {
        let path = sandbox.work().join(&entry.path);
        let made = match &entry.bytes {
            None => fs::create_dir_all(&path),
            Some(bytes) => fs::write(&path, bytes),
        };
        made.context(|| format!("cannot copy {} into the sandbox", entry.path.display()))?;
        if entry.executable {
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).context(failed)?;
        }
    }
    // In a namespace of its own a program would have every right, if over nothing; it needs none.
    fs::write("/proc/sys/user/max_user_namespaces", "0").context(failed)?;
    Ok(sandbox)
}
