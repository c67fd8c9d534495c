//! One command at a time changes a lab; the others wait. A lock ends with its process, however that ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::error::{Context, Error, Result};
use crate::lab::{root, rootless};

/// How long to wait for another command that changes a lab.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The lock of all of root's labs: they share `/run/netns` and `/etc/netns`. A file that nobody else can open, so that
/// nobody else can keep root waiting.
pub struct RootLock(#[allow(dead_code)] Flock<File>);

impl RootLock {
    /// Waits for the lock.
    pub fn take() -> Result<Self> {
        let path = root::lock_file();
        wait_for(|| match try_lock(&path) {
            Ok(file) => Ok(file.map(Self)),
            Err(error) => {
                // The directory may have been made for it just now.
                let _ = path.parent().map(fs::remove_dir);
                Err(refused(&path, error))
            }
        })
    }
}

impl Drop for RootLock {
    /// The file and its directory go with the last lab, while the lock is still held.
    fn drop(&mut self) {
        let _ = root::tidy();
    }
}

/// The error where root's labs cannot be locked: a root that may not write to /run is one of a user namespace.
fn refused(path: &Path, error: io::Error) -> Error {
    let what = format!("cannot lock {}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::environment(what).because(error).hint(root::NOT_THE_MACHINES)
        }
        _ => Error::failed(what).because(error),
    }
}

/// Opens and locks the file; `None` where another process has it, or has removed it meanwhile.
fn try_lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let identity = file.metadata()?.ino();
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(fs::metadata(path).is_ok_and(|now| now.ino() == identity).then_some(locked)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The lock of one lab of a plain user's: an abstract socket, bound by one process at a time (unix(7)). It is of the
/// machine's network namespace, so it is taken before the lab is joined.
pub struct UserLock(#[allow(dead_code)] OwnedFd);

impl UserLock {
    /// Waits for the lock of this lab.
    pub fn take(lab: &str) -> Result<Self> {
        let locking = || format!("cannot lock lab {lab}");
        let lock = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context(locking)?;
        let address = UnixAddr::new_abstract(&rootless::lock_name(lab)).context(locking)?;
        wait_for(|| match bind(lock.as_raw_fd(), &address) {
            Ok(()) => Ok(Some(())),
            Err(Errno::EADDRINUSE) => Ok(None),
            Err(errno) => Err(Error::failed(locking()).because(errno)),
        })?;
        Ok(Self(lock))
    }
}

fn wait_for<T>(mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(taken) = attempt()? {
            return Ok(taken);
        }
        if started.elapsed() > TIMEOUT {
            return Err(Error::failed("another `vpnlab lab` is at work on this lab, and does not end"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
