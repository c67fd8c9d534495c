//! The testbed: the hosts of a topology as network namespaces of this machine.
//!
//! [`Lab::find`] gives a running lab whichever way it was made: `rootless` (a keeper process holds its namespaces) or
//! `root` (named namespaces, as `ip netns` has them). `build` wires either up; `host` runs programs in it; `commands`
//! is what the user types.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apart::apart;
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
pub mod network;
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

/// What is there as long as a lab is.
pub enum Presence {
    /// The process that holds it.
    Keeper(OwnedFd),
    /// The file that root's labs have; it is removed first.
    File(File),
}

impl Presence {
    /// Whether nobody has ended the lab yet.
    pub fn lasts(&self) -> bool {
        match self {
            Self::Keeper(keeper) => {
                poll(&mut [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
            }
            Self::File(file) => file.metadata().is_ok_and(|file| file.nlink() > 0),
        }
    }
}

/// What else is up, where no lab was named: then another was meant, maybe.
fn others(name: &str) -> String {
    let names = if getuid().is_root() { root::names() } else { rootless::names() };
    match names.is_empty() || name != root::DEFAULT {
        true => String::new(),
        false => format!("; or choose one that is up: --lab {}", names.join(", --lab ")),
    }
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
            let error = Error::usage(format!("lab {name} is not up"));
            match !getuid().is_root() && root::names().iter().any(|other| other == name) {
                true => error.hint("but root has one of that name: use sudo"),
                false => error.hint(format!("bring it up: vpnlab lab up{}{}", option(name), others(name))),
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

    /// Something to know by whether the lab is still up, for whoever gives up their rights and cannot look any more.
    ///
    /// # Errors
    /// It has just ended.
    pub fn presence(&self) -> Result<Presence> {
        let ended = || format!("lab {} is not up any more", self.name);
        Ok(match &self.mode {
            Mode::Rootless { keeper, .. } => Presence::Keeper(sys::pidfd(*keeper).context(ended)?),
            Mode::Root => Presence::File(root::open_state(&self.name).context(ended)?),
        })
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
        let looking = || format!("cannot look into lab {}", self.name);
        let answer = apart(looking, || self.join().and_then(|()| work()).map_err(|error| error.to_string()))?;
        answer.map_err(Error::failed)
    }
}

/// The option that names a lab in a command that is recommended; empty for the default lab.
fn option(name: &str) -> String {
    if name == root::DEFAULT { String::new() } else { format!(" --lab {name}") }
}
