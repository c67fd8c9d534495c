//! Linux namespaces: make them, name them, enter them (namespaces(7)).
//!
//! All of it acts on the calling thread; whoever makes or joins a user namespace must have one thread only. Knows
//! nothing of a topology.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

use crate::error::{Context, Error, Result};

/// Puts this process into a new user namespace, in which it has every capability, and its children into a new process
/// namespace. The user stays who they are: their own uid is mapped, not root's, so that `tcpdump` and the like work.
///
/// # Errors
/// The machine forbids unprivileged user namespaces; the message says what forbids it, and the ways out.
pub fn new_user_and_processes() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(|errno| forbidden(errno.into()))?;
    let map = || -> io::Result<()> {
        // Without this, gid_map is refused to whoever has no rights outside (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
    };
    map().map_err(forbidden)
}

/// Makes a network namespace and leaves the thread in it.
pub fn new_network() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| forbidden(errno.into()))?;
    own("net")
}

/// A descriptor of the namespace of this kind (`net`, `user`, `pid`, ...) that the calling thread is in.
pub fn own(kind: &str) -> Result<OwnedFd> {
    open(Path::new("/proc/thread-self/ns").join(kind).as_path())
}

/// A descriptor of the namespace that a file stands for.
pub fn open(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).context(|| format!("cannot open namespace {}", path.display()))?.into())
}

/// Moves the calling thread into a namespace.
pub fn enter(namespace: BorrowedFd<'_>, kind: CloneFlags) -> Result<()> {
    setns(namespace, kind).context(|| format!("cannot enter a namespace ({kind:?})"))
}

/// Runs `work` in another network namespace, and comes back.
pub fn inside<T>(network: &impl AsFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = own("net")?;
    enter(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let done = work();
    enter(home.as_fd(), CloneFlags::CLONE_NEWNET)?;
    done
}

/// What identifies a namespace: two descriptors with equal identities are of one namespace (namespaces(7)).
pub fn identity(namespace: &impl AsFd) -> Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(namespace).context(|| "cannot look at a namespace".into())?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The error for a machine where this user may not make namespaces: what forbids it, and the ways out.
pub fn forbidden(cause: io::Error) -> Error {
    let is_root = getuid().is_root();
    let errno = Errno::from_raw(cause.raw_os_error().unwrap_or(0));
    if is_root && errno == Errno::EPERM {
        return Error::environment("cannot make namespaces, though root").because(cause).hint(
            "this root lacks CAP_SYS_ADMIN, as in a container: give the container that capability, or use the machine itself",
        );
    }
    let (why, way_out) = obstacle(errno, setting);
    let by_sudo = if is_root { "" } else { "either run with sudo, or " };
    Error::environment(format!("cannot make a user namespace: {why}"))
        .because(cause)
        .hint(format!("{by_sudo}allow it: {way_out}"))
}

/// A setting of the kernel's (sysctl(8)), where it has it.
pub fn setting(name: &str) -> Option<String> {
    let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(value.trim().to_string())
}

/// What forbids user namespaces, by the kernel's answer and its settings, and what allows them.
fn obstacle(errno: Errno, setting: impl Fn(&str) -> Option<String>) -> (&'static str, &'static str) {
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if is("kernel.unprivileged_userns_clone", "0") {
        ("kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1")
    } else if is("user.max_user_namespaces", "0") {
        ("user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=10000")
    } else if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        (
            "AppArmor forbids it (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for vpnlab with `userns,`",
        )
    } else if matches!(errno, Errno::ENOSPC | Errno::EUSERS) {
        ("a limit is reached", "sudo sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000")
    } else {
        ("a seccomp filter or a security module forbids it, as in a container", "run outside the container")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forbids_user_namespaces_is_named_by_the_setting_that_does() {
        let with = |name: &'static str, value: &'static str, errno| {
            obstacle(errno, move |asked| (asked == name).then(|| value.to_string())).0
        };
        for name in ["kernel.unprivileged_userns_clone", "user.max_user_namespaces"] {
            assert_eq!(with(name, "0", Errno::EPERM), format!("{name} is 0"));
            assert!(with(name, "1", Errno::EPERM).starts_with("a seccomp filter"), "{name}");
        }
        let restricted = "kernel.apparmor_restrict_unprivileged_userns";
        assert!(with(restricted, "1", Errno::EACCES).starts_with("AppArmor forbids it"));
        assert!(with(restricted, "0", Errno::EACCES).starts_with("a seccomp filter"));
        assert_eq!(with("none", "", Errno::ENOSPC), "a limit is reached");
    }
}
