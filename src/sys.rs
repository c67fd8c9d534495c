//! The only unsafe code: system calls that the well-kept crates do not wrap, a SAFETY line per block.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::cmsg_space;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, Pid};

/// The most descriptors that [`receive_fds`] takes in one message (the kernel's own limit is 253, unix(7)).
pub const MAX_FDS: usize = 128;

/// Forks this process, which must have a single thread (fork(2)).
///
/// # Errors
/// The process has other threads, or the kernel refuses another process.
pub fn fork() -> io::Result<ForkResult> {
    single_threaded()?;
    // SAFETY: there is one thread, so no lock can be held by a thread that the child lacks.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// A descriptor for a process: readable once it has ended (pidfd_open(2)).
pub fn pidfd(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor, or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    match fd {
        // SAFETY: the kernel just made this descriptor, and nothing else knows it.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The MTU in bytes of the path that a connected IPv6 socket's packets take, as the kernel knows it (ipv6(7), IPV6_MTU).
pub fn ipv6_path_mtu(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let (mut mtu, mut size): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    let (fd, value) = (socket.as_raw_fd(), (&raw mut mtu).cast());
    // SAFETY: `mtu` and `size` outlive the call, which writes no more than the `size` bytes of `mtu`.
    match unsafe { libc::getsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU, value, &raw mut size) } {
        0 => Ok(mtu.unsigned_abs()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives bytes and the descriptors that came with them (SCM_RIGHTS, unix(7)); the descriptors are close-on-exec.
///
/// Returns how many bytes arrived, 0 at the end of the stream.
pub fn receive_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([i32; MAX_FDS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            // SAFETY: the kernel just installed these descriptors for this message, and nothing else knows them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Closes every descriptor of this process but the standard streams and these (close_range(2)): for a process that
/// outlives its caller, whose pipes it would else keep open. Nobody may use another descriptor afterwards.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.iter().map(|fd| fd - 1).chain([u32::MAX]) {
        if first <= last {
            close_range(first, last)?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// Makes programs on every mount of this mount namespace run without the rights that their files grant (mount_setattr(2),
/// MOUNT_ATTR_NOSUID): neither the set-user-ID bit nor file capabilities count any more.
pub fn ignore_file_rights() -> io::Result<()> {
    const MOUNT_ATTR_NOSUID: u64 = 2; // linux/mount.h
    // `struct mount_attr`: what to set, what to clear, the propagation, a user namespace.
    let attributes: [u64; 4] = [MOUNT_ATTR_NOSUID, 0, 0, 0];
    let (pointer, size) = (attributes.as_ptr(), size_of_val(&attributes));
    let flags = libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, and `attributes` outlives the call, which reads `size` bytes of it.
    match unsafe { libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c"/".as_ptr(), flags, pointer, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes descriptors in one system call where their numbers follow each other, so that the kernel gets what they
/// refer to back at one time.
pub fn close_together(fds: Vec<OwnedFd>) -> io::Result<()> {
    let mut numbers: Vec<u32> = fds.into_iter().map(|fd| fd.into_raw_fd() as u32).collect();
    numbers.sort_unstable();
    for row in numbers.chunk_by(|one, next| one + 1 == *next) {
        close_range(row[0], row[row.len() - 1])?;
    }
    Ok(())
}

/// Closes the descriptors of these numbers, `first` and `last` included (close_range(2)).
fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes integers alone; both callers own the descriptors, or promise that nobody uses them again.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ignores a signal from now on (signal(7)).
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Lets a signal do again what it does by default (signal(7)).
pub fn restore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(())
}

/// Sets a variable of this process's environment; for a child between fork and exec.
///
/// # Errors
/// The process has other threads, which might read the environment at the same time.
pub fn set_variable(name: &str, value: &std::ffi::OsStr) -> io::Result<()> {
    single_threaded()?;
    // SAFETY: there is one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Checks that this process has one thread.
fn single_threaded() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    match status.lines().find_map(|line| line.strip_prefix("Threads:")).map(str::trim) {
        Some("1") => Ok(()),
        threads => Err(io::Error::other(format!("this process has {} threads", threads.unwrap_or("unknown")))),
    }
}

/// The descriptor of a TUN device, as its owner: tun-tap itself lends it as a bare number only.
pub fn tun_descriptor(interface: tun_tap::Iface) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up an open descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) }
}
