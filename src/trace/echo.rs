//! The one echo request that is traced: sent from a host, with a mark in its payload.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket};

use super::sighting::{ICMP_HEADER, IP_HEADER, Mark};
use crate::error::{Error, RUN_AS_ROOT, Result};
use crate::lab::probe::echo_request;

/// The shortest echo that has room for its mark, and the longest that IPv4 has a length for; in bytes, header included.
pub const SHORTEST: usize = IP_HEADER + ICMP_HEADER + Mark::LENGTH;
/// See [`SHORTEST`].
pub const LONGEST: usize = 65_535;

/// A raw ICMP socket of one host (raw(7)), and the mark of what is sent through it.
pub struct EchoSocket {
    socket: OwnedFd,
    mark: Mark,
}

impl EchoSocket {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The right to open raw sockets is missing.
    pub fn open(mark: Mark) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let opened = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp);
        let socket = opened
            .map_err(|errno| Error::environment("cannot open a raw ICMP socket").because(errno).hint(RUN_AS_ROOT))?;
        Ok(Self { socket, mark })
    }

    /// Sends an echo request of this many bytes in all.
    ///
    /// # Errors
    /// The kernel does not take it: there is no route, or it is too large.
    pub fn send(&self, to: Ipv4Addr, length: usize) -> Result<(), Errno> {
        let mut payload = self.mark.0.to_vec();
        payload.extend((Mark::LENGTH..length.saturating_sub(IP_HEADER + ICMP_HEADER)).map(|place| place as u8));
        let identifier = std::process::id() as u16;
        let address = SockaddrIn::from(SocketAddrV4::new(to, 0));
        let request = echo_request(identifier, 1, &payload);
        sendto(self.socket.as_raw_fd(), &request, &address, MsgFlags::empty()).map(|_| ())
    }

    /// Whether the reply has arrived; reads everything that has.
    pub fn answered(&self) -> io::Result<bool> {
        const ECHO_REPLY: u8 = 0;
        let mut buffer = vec![0; LONGEST];
        let mut answered = false;
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let packet = &buffer[..length];
                    let header = usize::from(packet.first().map_or(0, |byte| byte & 15)) * 4;
                    let is_marked = packet.windows(Mark::LENGTH).any(|window| window == self.mark.0);
                    answered |= is_marked && packet.get(header) == Some(&ECHO_REPLY);
                }
                Err(Errno::EAGAIN) => return Ok(answered),
                // An error that the kernel reports on the socket; what it is about was captured.
                Err(
                    Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EMSGSIZE | Errno::ECONNREFUSED,
                ) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
