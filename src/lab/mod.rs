//! The testbed: the hosts of a topology as network namespaces of this machine.
//!
//! [`Lab::find`] gives a running lab whichever way it was made: `rootless` (a keeper process holds its namespaces) or
//! `root` (named namespaces, as `ip netns` has them). `build` wires either up; `host` runs programs in it; `commands`
//! is what the user types.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, getuid, pipe2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};
use crate::sys;
use crate::topology::Topology;

pub mod build;
pub mod capture;
pub mod check;
pub mod clear;
pub mod commands;
pub mod ending;
pub mod flush;
pub mod host;
pub mod lock;
pub mod names;
pub mod namespace;
pub mod probe;
pub mod processes;
pub mod record;
pub mod reject;
pub mod root;
pub mod rootless;
pub mod standin;
pub mod status;
pub mod sysctl;
pub mod tmux;

pub use commands::{LabArgs, lab_name, refuse_inside_a_host, run};

/// A running lab.
pub struct Lab {
    /// Its name.
    pub name: String,
    /// What it was built from.
    pub topology: Topology,
    /// The topology file's text.
    pub text: String,
    /// Its network namespaces.
    pub networks: build::Networks,
    /// How it was made.
    pub mode: Mode,
}

/// How a lab was made.
pub enum Mode {
    /// In a user namespace, by a plain user.
    Rootless {
        /// The process that holds the lab.
        keeper: Pid,
        /// The lab's user namespace.
        user: OwnedFd,
        /// The lab's process namespace.
        processes: OwnedFd,
    },
    /// As named namespaces, by root.
    Root,
}

impl Lab {
    /// Looks for a lab of the calling user's.
    ///
    /// # Errors
    /// It is there but not whole; the message says what to do.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let (networks, text, mode) = if getuid().is_root() {
            match root::find(name)? {
                root::Found::Nothing => return Ok(None),
                root::Found::Whole(networks, text) => (networks, text, Mode::Root),
                root::Found::Broken(what) => {
                    return Err(Error::failed(format!("lab {name} is not whole: {what}")).hint(format!(
                        "`vpnlab lab up{0}` builds it anew, `vpnlab lab down{0}` clears it away",
                        option(name)
                    )));
                }
            }
        } else {
            match rootless::find(name)? {
                None => return Ok(None),
                Some(kept) => {
                    let mode = Mode::Rootless { keeper: kept.keeper, user: kept.user, processes: kept.processes };
                    (kept.networks, kept.topology, mode)
                }
            }
        };
        let topology = Topology::parse(&text, "of the running lab")?;
        Ok(Some(Self { name: name.to_string(), topology, text, networks, mode }))
    }

    /// The running lab of this name.
    ///
    /// # Errors
    /// There is none; the message says how to bring it up.
    pub fn open(name: &str) -> Result<Self> {
        Self::find(name)?.ok_or_else(|| {
            let error = Error::failed(format!("lab {name} is not up"));
            match !getuid().is_root() && root::names().iter().any(|other| other == name) {
                true => error.hint("but root has one of that name: use sudo"),
                false => error.hint(format!("bring it up: vpnlab lab up{}", option(name))),
            }
        })
    }

    /// Whether nobody has ended it yet.
    pub fn is_up(&self) -> bool {
        match &self.mode {
            Mode::Rootless { keeper, .. } => kill(*keeper, None) != Err(Errno::ESRCH),
            Mode::Root => root::is_up(&self.name),
        }
    }

    /// The network namespace of a host.
    pub fn network(&self, host: &str) -> Result<&OwnedFd> {
        Ok(&self.networks.hosts[self.topology.place(host)?])
    }

    /// Gives this process the lab's rights: without root, those of its user namespace, in which it also takes a network
    /// namespace of the lab's as its own, since the machine's is then closed to it. It cannot be undone.
    pub fn join(&self) -> Result<()> {
        match &self.mode {
            Mode::Rootless { user, .. } => {
                namespace::enter(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
                namespace::enter(self.networks.wires.as_fd(), CloneFlags::CLONE_NEWNET)
            }
            Mode::Root => Ok(()),
        }
    }

    /// Does something that needs the lab's rights, and keeps this process out of the lab: a child joins it instead.
    ///
    /// # Errors
    /// What `work` met; its exit code is lost.
    pub fn apart<T: Serialize + DeserializeOwned>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let failed = || format!("cannot look into lab {}", self.name);
        let (result, report) = pipe2(OFlag::O_CLOEXEC).context(failed)?;
        match sys::fork().context(failed)? {
            ForkResult::Child => {
                let done = self.join().and_then(|()| work()).map_err(|error| error.to_string());
                let written = serde_json::to_writer(std::fs::File::from(report), &done);
                std::process::exit(i32::from(written.is_err()))
            }
            ForkResult::Parent { child } => {
                drop(report);
                let mut answer = String::new();
                std::fs::File::from(result).read_to_string(&mut answer).context(failed)?;
                waitpid(child, None).context(failed)?;
                serde_json::from_str::<Result<T, String>>(&answer).context(failed)?.map_err(Error::failed)
            }
        }
    }
}

/// The option that names a lab in a command that is recommended; empty for the default lab.
fn option(name: &str) -> String {
    if name == root::DEFAULT { String::new() } else { format!(" --lab {name}") }
}
