//! Who keeps the interface while a step carries packets.
//!
//! Routes and addresses have to be put back after the interface was down, the MTU has to follow the path, and `ip_forward`
//! is to be as it was before in the end. All that takes rights, which whoever reads packets from anybody should not have.
//! So [`Keeper::of`] makes two processes of one, just before the loop: the child goes on with the step and gives up its
//! rights ([`crate::privileges`]); the parent keeps the interface, and lives as long as the child. It has closed the TUN
//! device and the socket, and reads no byte that came over a network: netlink(7) tells it about interfaces, and its child
//! asks for an MTU, in a message of four bytes that is checked like a stranger's.
//!
//! To the user they are one program. A signal to the parent is passed on; however the child ends, the parent puts everything
//! back, and ends with the child's exit code; if the parent is killed, the kernel kills the child, too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process;

use log::debug;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, getppid};

use crate::error::{Context, Error, Result};
use crate::interface::Interface;
use crate::packet::SMALLEST_MTU_V4;
use crate::privileges::{self, Privileges};
use crate::signals::{FOR_CARRIER, Signals};
use crate::{logging, memory, select, sys};

/// What the parent is called in lists of processes (comm in proc_pid_comm(5)), so that the other one is "vpnlab".
const NAME: &std::ffi::CStr = c"vpnlab-keeper";

/// The MTUs in bytes that the child may ask for: what IPv4 needs (RFC 791), up to the longest packet.
const MTUS: std::ops::RangeInclusive<u32> = SMALLEST_MTU_V4 as u32..=65535;

/// The process that keeps the interface.
pub enum Keeper {
    /// This one.
    Itself(Box<Interface>),
    /// Its parent, which is asked through this socket.
    Parent(OwnedFd),
}

impl Keeper {
    /// Has the interface kept; this process has only the `privileges` that it is to have afterwards.
    ///
    /// # Errors
    /// The kernel refuses another process; those of [`privileges::bar`] and [`Interface::announce`].
    pub fn of(mut interface: Interface, signals: &mut Signals, privileges: Privileges) -> Result<Self> {
        if privileges.keep {
            interface.announce()?;
            return Ok(Self::Itself(Box::new(interface)));
        }
        Self::divide(interface, signals)
    }

    /// Makes two processes of this one. The child comes back from here, without rights; the parent never does.
    fn divide(interface: Interface, signals: &mut Signals) -> Result<Self> {
        let dividing = || "cannot divide this process".to_string();
        let (parents, childs) = pair().context(dividing)?;
        privileges::bar()?;
        // What both have in memory is best little.
        memory::release();
        let parent = getpid();
        match sys::fork().context(dividing)? {
            ForkResult::Child => {
                drop(parents);
                interface.leave();
                privileges::give_up()?;
                end_with(parent)?;
                Ok(Self::Parent(childs))
            }
            ForkResult::Parent { child } => {
                // The only other end is the child's.
                drop(childs);
                process::exit(keep(child, parents.as_fd(), interface, signals))
            }
        }
    }

    /// Has what changed about the interface put right; to be called when SIGIO has arrived.
    ///
    /// # Errors
    /// Those of [`Interface::restore`].
    pub fn restore(&mut self) -> Result<()> {
        match self {
            Self::Itself(interface) => interface.restore(),
            // It has done so already, and only passes the news on.
            Self::Parent(_) => Ok(()),
        }
    }

    /// Has the interface given this MTU in bytes; says whether the keeper has heard of it.
    pub fn set_mtu(&mut self, mtu: u32) -> bool {
        match self {
            Self::Itself(interface) => {
                interface.set_mtu(mtu);
                true
            }
            Self::Parent(parent) => send(parent.as_raw_fd(), &mtu.to_ne_bytes(), MsgFlags::MSG_DONTWAIT).is_ok(),
        }
    }
}

/// Two ends of a socket that keeps messages apart, and tells the one end when the other is closed (unix(7)).
fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Has the kernel kill this process when its parent ends. To be called after it has become another user, which makes the
/// kernel forget that (prctl(2), PR_SET_PDEATHSIG).
fn end_with(parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context(|| "cannot tie this process to its parent".into())?;
    match getppid() == parent {
        true => Ok(()),
        false => Err(Error::failed("the process that keeps the interface was killed")),
    }
}

/// Keeps the interface until the child has ended, puts back what is to be put back, and returns the exit code.
fn keep(child: Pid, from_child: BorrowedFd<'_>, mut interface: Interface, signals: &mut Signals) -> i32 {
    let kept = watch(child, from_child, &mut interface, signals);
    if kept.is_err() {
        let _ = kill(child, Signal::SIGTERM);
    }
    let ended = waitpid(child, None).context(|| "cannot wait for the process that carries packets".into());
    drop(interface);
    let outcome = kept.and(ended).and_then(|ended| match ended {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => {
            Err(Error::failed(format!("the process that carried packets was ended by {signal}"))
                .hint("what it had changed is put back; the step can be started again"))
        }
        other => Err(Error::failed(format!("the process that carried packets is lost: {other:?}"))),
    });
    outcome.unwrap_or_else(|error| logging::fatal(&error).into())
}

/// Does the parent's work until the child ends.
fn watch(child: Pid, from_child: BorrowedFd<'_>, interface: &mut Interface, signals: &mut Signals) -> Result<()> {
    let watching = || "cannot keep the interface".to_string();
    let mut kept = vec![from_child];
    kept.extend(interface.descriptors());
    kept.extend(logging::file().map(AsFd::as_fd));
    // The TUN device and the socket are the child's alone, and end with it.
    sys::close_all_but(&kept).context(watching)?;
    prctl::set_name(NAME).context(watching)?;
    privileges::keep_for_network()?;
    interface.announce()?;
    memory::release();
    loop {
        select::readable([from_child], signals.waiting())?;
        let arrived = signals.arrived()?;
        match hear(from_child) {
            Heard::Mtu(mtu) => interface.set_mtu(mtu),
            // From here on what becomes of the device is no news. The child closes its end before the device, see `Upkeep`.
            Heard::End => return Ok(()),
            Heard::Nothing => {}
        }
        // After Ctrl-C the terminal has told the child, too, and once more does no harm.
        FOR_CARRIER.iter().filter(|signal| arrived.contains(**signal)).for_each(|signal| pass_on(child, *signal));
        if arrived.contains(Signal::SIGIO) {
            interface.restore()?;
            // It may have been the interface that the tunnel's datagrams leave through.
            pass_on(child, Signal::SIGIO);
        }
    }
}

fn pass_on(child: Pid, signal: Signal) {
    if let Err(error) = kill(child, signal) {
        debug!("{signal} cannot be passed on: {error}");
    }
}

/// What the parent hears from its child.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The interface is to have this MTU in bytes.
    Mtu(u32),
    /// It has closed its end, or was ended.
    End,
    Nothing,
}

/// Takes a message of the child's, where there is one, and believes only what can be believed.
fn hear(child: BorrowedFd<'_>) -> Heard {
    // Room for one byte more tells a longer message, of which the kernel cuts off the rest.
    let mut message = [0; size_of::<u32>() + 1];
    let length = match recv(child.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
        Ok(0) | Err(Errno::ECONNRESET) => return Heard::End,
        Ok(length) => length,
        Err(_) => return Heard::Nothing,
    };
    let mtu = message[..length].try_into().ok().map(u32::from_ne_bytes).filter(|mtu| MTUS.contains(mtu));
    mtu.map_or_else(
        || {
            debug!("The process that carries packets asks for something that is no MTU");
            Heard::Nothing
        },
        Heard::Mtu,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_takes_an_mtu_and_nothing_else() {
        let (parent, child) = pair().unwrap();
        let heard = || hear(parent.as_fd());
        assert_eq!(heard(), Heard::Nothing);
        let mut keeper = Keeper::Parent(child);
        for mtu in [68, 1280, 1472, 65535] {
            assert!(keeper.set_mtu(mtu));
            assert_eq!(heard(), Heard::Mtu(mtu));
        }
        for none in [0, 67, 65536, u32::MAX] {
            assert!(keeper.set_mtu(none));
            assert_eq!(heard(), Heard::Nothing, "{none}");
        }
        let Keeper::Parent(child) = keeper else { unreachable!() };
        let say = |bytes: &[u8]| send(child.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
        let mtu = 1472_u32.to_ne_bytes();
        for strange in [&mtu[..3], &[&mtu[..], &[0]].concat(), &[5; 3000]] {
            say(strange);
            assert_eq!(heard(), Heard::Nothing, "{} bytes", strange.len());
        }
        say(&mtu);
        assert_eq!(heard(), Heard::Mtu(1472));
        drop(child);
        assert_eq!(heard(), Heard::End);
    }

    #[test]
    fn a_parent_that_does_not_listen_keeps_the_child_from_nothing() {
        let (_parent, child) = pair().unwrap();
        let mut keeper = Keeper::Parent(child);
        assert!((0..100_000).any(|_| !keeper.set_mtu(1472)));
    }
}
