//! The only unsafe code, a SAFETY line per block: system calls that the well-kept crates do not wrap, or wrap with traps
//! (nix's sendmmsg shares control messages among all messages, its recvmmsg does not give back their room); and the one
//! way to wider vectors.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
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

/// Gives what this program has freed back to the kernel (malloc_trim(3)), where the C library can.
pub fn release_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Drops from this process's memory the segments of the program and of its libraries that nobody can write to: code and
/// constants. They are mapped from files, and are read again from there, a page at a time, when they are used.
pub fn release_code() {
    // SAFETY: the callback is of the type that dl_iterate_phdr(3) wants, and gets nothing of ours.
    unsafe { libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut()) };
}

/// Does for one loaded object what [`release_code`] does for all.
///
/// # Safety
/// Called by dl_iterate_phdr(3).
unsafe extern "C" fn release_segments(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr lends a valid object with so many program headers for the time of this call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr as usize, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // SAFETY: sysconf(3) takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for segment in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = base + segment.p_vaddr as usize;
        let end = start + segment.p_memsz as usize;
        let start = start - start % page;
        // SAFETY: a segment has its pages for itself. Those of one that cannot be written to are the file's still, but for a
        // debugger's breakpoints, so dropping them (madvise(2)) changes no byte that anybody reads.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
    0
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

/// The signals that have arrived and that nobody has asked [`noted`] for; bit N is signal N.
static NOTED: AtomicU64 = AtomicU64::new(0);

/// From now on a signal is only noted when it arrives (sigaction(2)); [`noted`] tells.
pub fn note(signal: Signal) -> io::Result<()> {
    extern "C" fn handler(signal: libc::c_int) {
        NOTED.fetch_or(1 << signal, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler changes one atomic number, which is safe wherever it interrupts the program.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// The signals of [`note`] that have arrived since the last call; bit N is signal N.
pub fn noted() -> u64 {
    // Nearly always none, and a look costs less than an exchange.
    match NOTED.load(Ordering::Relaxed) {
        0 => 0,
        _ => NOTED.swap(0, Ordering::Relaxed),
    }
}

/// From now on this process gets SIGIO whenever there is something new to read (fcntl(2), F_SETOWN and O_ASYNC).
pub fn announce(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes integers alone.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, libc::getpid()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_ASYNC))?;
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

/// Has a command lead a session of its own, whose terminal is its standard input (setsid(2), ioctl_tty(2)): Ctrl-C there is for
/// it and what it starts, and so is the hang-up when the other side of the terminal is closed.
pub fn give_terminal(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let lead = || {
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes integers alone.
        match unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and takes no lock and no memory.
    unsafe { command.pre_exec(lead) };
}

/// Creates the TUN interface `name`, or attaches to it, on an open /dev/net/tun: without packet information, and with a
/// header of `header` bytes before each packet (`TUNSETIFF` with `IFF_VNET_HDR`, linux/if_tun.h). Returns its name.
///
/// # Errors
/// As the kernel gives them; and a name that is longer than the kernel's.
pub fn create_tun_with_headers(device: BorrowedFd<'_>, name: &str, header: usize) -> io::Result<String> {
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    let header = header as libc::c_int;
    // SAFETY: both requests read, and the first also writes, what they are given, which outlives them.
    let made = unsafe {
        libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) == 0
            && libc::ioctl(device.as_raw_fd(), libc::TUNSETVNETHDRSZ, &header) == 0
    };
    if !made {
        return Err(io::Error::last_os_error());
    }
    Ok(request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte as u8)).collect())
}

/// A request about the interface of this name (netdevice(7)).
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Asks about the interface of this name in the network namespace of a socket of any kind (netdevice(7)).
fn ask_interface(socket: BorrowedFd<'_>, name: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut request = interface_request(name)?;
    // SAFETY: the request reads and writes one `ifreq`, which outlives it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), what, &mut request) } {
        0 => Ok(request),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of an interface, in the network namespace of this socket.
///
/// # Errors
/// `ENODEV`: there is none of this name.
pub fn interface_index(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let answer = ask_interface(socket, name, libc::SIOCGIFINDEX)?;
    // SAFETY: it is a number that the kernel has written, as are those below.
    Ok(unsafe { answer.ifr_ifru.ifru_ifindex }.unsigned_abs())
}

/// The name of the interface of this number, in the network namespace of this socket.
///
/// # Errors
/// `ENODEV`: there is none.
pub fn interface_name(socket: BorrowedFd<'_>, index: u32) -> io::Result<String> {
    let mut request = interface_request("")?;
    request.ifr_ifru.ifru_ifindex = index as libc::c_int;
    // SAFETY: the request reads and writes one `ifreq`, which outlives it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let name: Vec<u8> = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// How many frames an AF_PACKET socket had no room for since this was last asked (packet(7), PACKET_STATISTICS).
pub fn packets_lost(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct tpacket_stats`: how many frames there were, and how many of them were dropped.
    let mut statistics = [0_u32; 2];
    let mut size = size_of_val(&statistics) as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw mut statistics).cast());
    // SAFETY: `statistics` and `size` outlive the call, which writes no more than the `size` bytes of `statistics`.
    match unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut size) } {
        0 => Ok(statistics[1]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the kernel drop what this classic BPF program refuses before it gets into the socket's queue (socket(7),
/// SO_ATTACH_FILTER); no program: nothing.
///
/// # Errors
/// The program is wrong, or longer than the kernel allows.
pub fn filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut header = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let option = if program.is_empty() { libc::SO_DETACH_FILTER } else { libc::SO_ATTACH_FILTER };
    let (value, size) = ((&raw mut header).cast(), size_of_val(&header) as libc::socklen_t);
    // SAFETY: the kernel copies the `len` instructions, which are no more than `program` has, during the call; it writes nothing.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many datagrams the kernel has dropped at this socket since it was made, because its queue was full or a filter refused
/// them (SO_MEMINFO, linux/sock_diag.h); the number wraps.
pub fn datagrams_dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut size = size_of_val(&values) as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw mut values).cast());
    // SAFETY: `values` and `size` outlive the call, which writes no more than the `size` bytes of `values`.
    match unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, value, &raw mut size) } {
        0 => Ok(values[libc::SK_MEMINFO_DROPS as usize]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The flags of an interface (`IFF_UP`, ...), in the network namespace of this socket.
///
/// # Errors
/// As those of [`interface_index`].
pub fn interface_flags(socket: BorrowedFd<'_>, name: &str) -> io::Result<libc::c_int> {
    let answer = ask_interface(socket, name, libc::SIOCGIFFLAGS)?;
    // SAFETY: see above.
    Ok(unsafe { answer.ifr_ifru.ifru_flags }.into())
}

/// The MTU of an interface in bytes, in the network namespace of this socket.
///
/// # Errors
/// As those of [`interface_index`].
pub fn interface_mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let answer = ask_interface(socket, name, libc::SIOCGIFMTU)?;
    // SAFETY: see above.
    Ok(unsafe { answer.ifr_ifru.ifru_mtu }.unsigned_abs())
}

/// Tells the kernel what it may leave to the reader of this TUN device: `TUN_F_*` (`TUNSETOFFLOAD`, linux/if_tun.h).
///
/// # Errors
/// `EINVAL`: the kernel does not know one of them.
pub fn set_tun_offload(tun: BorrowedFd<'_>, features: u32) -> io::Result<()> {
    // SAFETY: the request takes a number.
    match unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Datagrams in one buffer: one, or several back to back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagrams {
    /// Where they are in the buffer.
    pub place: Range<usize>,
    /// The length of each but the last, in bytes; the kernel cuts there (`UDP_SEGMENT`), or has joined them (`UDP_GRO`).
    pub size: usize,
}

impl Datagrams {
    /// The number of datagrams.
    pub fn count(&self) -> usize {
        self.place.len().div_ceil(self.size).max(1)
    }

    /// Where each datagram is, in order; an empty one is one, too.
    pub fn each(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (Range { start, end }, size) = (self.place.clone(), self.size);
        (0..self.count()).map(move |index| start + index * size..end.min(start + (index + 1) * size))
    }
}

/// The most messages that one call of [`send_datagrams`] handles.
pub const MAX_MESSAGES: usize = 32;

/// A control message with one number in it, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Sends datagrams, many in one call (sendmmsg(2)), runs of one size with `UDP_SEGMENT` (udp(7)), each to its address.
///
/// Returns how many of `messages` were sent, at least 1.
///
/// # Errors
/// Why the first was not sent.
///
/// # Panics
/// A message lies outside `bytes`.
pub fn send_datagrams(socket: BorrowedFd<'_>, bytes: &[u8], messages: &[(Datagrams, SocketAddr)]) -> io::Result<usize> {
    let count = messages.len().min(MAX_MESSAGES);
    // SAFETY: all bytes zero is a valid `iovec`, `mmsghdr` and `sockaddr_in6`.
    let (mut parts, mut headers, mut names): (
        [libc::iovec; MAX_MESSAGES],
        [libc::mmsghdr; MAX_MESSAGES],
        [libc::sockaddr_in6; MAX_MESSAGES],
    ) = unsafe { std::mem::zeroed() };
    let mut controls = [Control([0; 64]); MAX_MESSAGES];
    for (index, (message, to)) in messages[..count].iter().enumerate() {
        let datagrams = &bytes[message.place.clone()];
        parts[index] = libc::iovec { iov_base: datagrams.as_ptr().cast_mut().cast(), iov_len: datagrams.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_namelen = write_address(*to, &mut names[index]);
        header.msg_name = (&raw mut names[index]).cast();
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        if datagrams.len() > message.size {
            let size = message.size as u16;
            header.msg_control = controls[index].0.as_mut_ptr().cast();
            // SAFETY: the control buffer is aligned and large enough for this one message.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(size_of_val(&size) as u32) as _;
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::SOL_UDP;
                (*control).cmsg_type = libc::UDP_SEGMENT;
                (*control).cmsg_len = libc::CMSG_LEN(size_of_val(&size) as u32) as _;
                libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
            }
        }
    }
    // SAFETY: the headers point to what outlives the call; the kernel reads that, and writes to their `msg_len`.
    match unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, 0) } {
        sent @ 1.. => Ok(sent as usize),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives datagrams, up to `N` messages in one call (recvmmsg(2)), each into `slot` bytes of its own of `bytes`; waits
/// for none. Tells where they are, and whom they are from.
///
/// # Errors
/// `EAGAIN`: there is none. Others are those of the socket.
pub fn receive_datagrams<const N: usize>(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    slot: usize,
    received: &mut Vec<(Datagrams, SocketAddr)>,
) -> io::Result<()> {
    received.clear();
    // SAFETY: all bytes zero is a valid `iovec`, `mmsghdr` and `sockaddr_in6`.
    let (mut parts, mut headers, mut from): ([libc::iovec; N], [libc::mmsghdr; N], [libc::sockaddr_in6; N]) =
        unsafe { std::mem::zeroed() };
    let mut controls = [Control([0; 64]); N];
    let mut count = 0;
    for (index, room) in bytes.chunks_exact_mut(slot).take(N).enumerate() {
        parts[index] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = (&raw mut from[index]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = size_of::<Control>() as _;
        count += 1;
    }
    // SAFETY: the headers point to buffers that outlive the call, of the lengths that they say.
    let arrived = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    if arrived < 0 {
        return Err(io::Error::last_os_error());
    }
    for (index, header) in headers.iter().take(arrived as usize).enumerate() {
        let Some(from) = address(&from[index]) else { continue };
        let start = index * slot;
        let length = header.msg_len as usize;
        // SAFETY: the kernel filled in this header and its control messages.
        let size = unsafe { joined_size(&header.msg_hdr) }.unwrap_or(length).max(1);
        received.push((Datagrams { place: start..start + length, size }, from));
    }
    Ok(())
}

/// The size of datagrams that the kernel has joined, from the control messages of what it received (`UDP_GRO`, udp(7)).
///
/// # Safety
/// recvmmsg(2) has filled in this header, and its buffers are still there.
unsafe fn joined_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: as the caller promises.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) {
                let size: libc::c_int = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).ok().filter(|size| *size > 0);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// A socket address as the kernel wrote it into room for either family.
fn address(written: &libc::sockaddr_in6) -> Option<SocketAddr> {
    match libc::c_int::from(written.sin6_family) {
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(written.sin6_addr.s6_addr);
            let port = u16::from_be(written.sin6_port);
            Some(SocketAddrV6::new(ip, port, written.sin6_flowinfo, written.sin6_scope_id).into())
        }
        libc::AF_INET => {
            // SAFETY: the family says that these bytes are a `sockaddr_in`, which is shorter.
            let written = unsafe { &*(&raw const *written).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(written.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(written.sin_port)).into())
        }
        _ => None,
    }
}

/// Writes a socket address as the kernel reads it, into room for either family; returns its length in bytes.
fn write_address(address: SocketAddr, into: &mut libc::sockaddr_in6) -> libc::socklen_t {
    match address {
        SocketAddr::V6(address) => {
            into.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            into.sin6_port = address.port().to_be();
            into.sin6_addr.s6_addr = address.ip().octets();
            (into.sin6_flowinfo, into.sin6_scope_id) = (address.flowinfo(), address.scope_id());
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
        SocketAddr::V4(address) => {
            // SAFETY: a `sockaddr_in` is shorter, aligned no wider, and valid whatever its bytes are.
            let into = unsafe { &mut *(&raw mut *into).cast::<libc::sockaddr_in>() };
            into.sin_family = libc::AF_INET as libc::sa_family_t;
            into.sin_port = address.port().to_be();
            into.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
    }
}

/// Runs arithmetic with wider vectors where this processor has them: the compiler may use AVX2 for what it inlines.
pub fn with_vectors<R>(arithmetic: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(arithmetic: impl FnOnce() -> R) -> R {
            arithmetic()
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { with_avx2(arithmetic) };
        }
    }
    arithmetic()
}

/// The descriptor of a TUN device, as its owner: tun-tap itself lends it as a bare number only.
pub fn tun_descriptor(interface: tun_tap::Iface) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up an open descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_address_is_read_as_it_was_written() {
        for text in ["192.0.2.1:9090", "[2001:db8::1]:9", "[::ffff:192.0.2.1]:65535"] {
            // SAFETY: all bytes zero is a valid `sockaddr_in6`.
            let mut written: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            let length = write_address(text.parse().unwrap(), &mut written);
            assert_eq!(length, if text.starts_with('[') { 28 } else { 16 });
            assert_eq!(address(&written), text.parse().ok(), "{text}");
        }
        let scoped: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 7).into();
        // SAFETY: see above.
        let mut written: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        write_address(scoped, &mut written);
        assert_eq!(address(&written), Some(scoped));
    }
}
