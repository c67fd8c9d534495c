//! Waiting until the kernel has taken a lab's interfaces back.
//!
//! It does so some time after the last reference to a namespace has gone, so whoever waits must not hold one. A mounted
//! sysfs is no such reference: it shows a namespace's interfaces (`/sys/class/net`), and is empty when they are gone. A TCP
//! connection is one, also when its program has ended: what was sent last may be on its way still, into a tunnel that has
//! ended, too. So the connections are ended first.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;

use crate::error::{Context, Error, Result};
use crate::lab::flush;
use crate::sys;

/// How long the kernel may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sees the interfaces of namespaces that it does not hold.
pub struct Watch(Vec<OwnedFd>);

impl Watch {
    /// Ends the connections in a lab's network namespaces, whose programs have ended, and looks at the first and the last
    /// of them: the kernel takes the interfaces of all of them together. The process must have one thread, and the right
    /// to mount.
    pub fn on(networks: &[impl AsFd]) -> Result<Self> {
        let watched = match networks {
            [first, .., last] => &[first.as_fd(), last.as_fd()][..],
            [one] => &[one.as_fd()],
            [] => return Ok(Self(Vec::new())),
        };
        let watching = || "cannot watch the lab's end".to_string();
        let (ours, theirs) = UnixStream::pair().context(watching)?;
        // A child, since nobody comes back from a mount namespace, or, without root, from the lab's networks.
        match sys::fork().context(watching)? {
            ForkResult::Child => {
                drop(ours);
                let sent = networks.iter().try_for_each(end_connections).and_then(|()| look_into(watched, &theirs));
                std::process::exit(i32::from(sent.is_err()))
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let (_, seen) = sys::receive_fds(ours.as_fd(), &mut [0]).context(watching)?;
                waitpid(child, None).context(watching)?;
                if seen.len() < watched.len() {
                    // As in a container whose own /sys is partly hidden (sysfs is then refused): nobody can look.
                    debug!("the end of the lab's interfaces cannot be seen");
                }
                Ok(Self(seen))
            }
        }
    }

    /// Returns when there is no interface any more.
    ///
    /// # Errors
    /// Somebody else holds one of the namespaces, or the kernel is slow.
    pub fn wait(self) -> Result<()> {
        let started = Instant::now();
        while !self.0.iter().all(is_empty) {
            if started.elapsed() > TIMEOUT {
                return Err(Error::failed("the lab is down, but the kernel has not taken its links back").hint(
                    "a program outside may hold them, as a `vpnlab watch` that Ctrl-Z has stopped: `fg` ends that",
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// In a child: ends the TCP connections of a namespace. What cannot be ended ends by itself, later.
fn end_connections(network: &impl AsFd) -> io::Result<()> {
    setns(network, CloneFlags::CLONE_NEWNET)?;
    if let Err(error) = flush::connections() {
        debug!("{error}");
    }
    Ok(())
}

/// In a child: opens `/sys/class/net` of each namespace, and sends the descriptors.
fn look_into(networks: &[BorrowedFd<'_>], to: &UnixStream) -> io::Result<()> {
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    let mut seen = Vec::new();
    for network in networks {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::MS_RDONLY, nothing)?;
        seen.push(fs::File::open("/sys/class/net")?);
    }
    let fds: Vec<_> = seen.iter().map(AsRawFd::as_raw_fd).collect();
    sendmsg::<()>(
        to.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

fn is_empty(directory: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
