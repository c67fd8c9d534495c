//! One ICMP echo request, and what came of it: a probe of our own, so that no `ping` has to be installed.
//!
//! Used by `lab check`, and by the stand-ins for ping and traceroute. Needs CAP_NET_RAW in the network namespace that
//! the socket is opened in.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket, sockopt,
};
use pnet_packet::MutablePacket;
use pnet_packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet_packet::icmp::{IcmpPacket, IcmpTypes, checksum};
use pnet_packet::ipv4::Ipv4Packet;

use crate::error::{Context, Error, RUN_AS_ROOT, Result};

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An echo reply: who sent it, the TTL it arrived with, how many bytes of ICMP it holds.
    Reply {
        /// Who answered.
        from: Ipv4Addr,
        /// The TTL that the reply arrived with.
        ttl: u8,
        /// The length of the ICMP message in bytes.
        length: usize,
    },
    /// ICMP Destination Unreachable (type 3) with this code (RFC 792).
    Unreachable {
        /// The router that says so.
        from: Ipv4Addr,
        /// Why: 0 network, 1 host, 2 protocol, 3 port, 4 fragmentation needed, ... .
        code: u8,
    },
    /// ICMP Time Exceeded (type 11): the TTL ran out at this router.
    Expired {
        /// The router where the TTL ran out.
        from: Ipv4Addr,
    },
    /// The sender's own kernel did not let the request out: no route, no neighbour, or a route or a
    /// firewall that forbids it.
    NotSent(i32),
    /// Nothing came before the deadline.
    Silence,
}

/// A raw ICMP socket of one network namespace.
pub struct Prober {
    socket: OwnedFd,
    identifier: u16,
    interrupt: Option<SignalFd>,
}

const ICMP_HEADER: usize = 8;

impl Prober {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The right to open raw sockets is missing.
    pub fn open() -> Result<Self> {
        let opened = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp);
        let opened = opened
            .map_err(|errno| Error::environment("cannot open a raw ICMP socket").because(errno).hint(RUN_AS_ROOT))?;
        Ok(Self { socket: opened, identifier: std::process::id() as u16, interrupt: None })
    }

    /// Stops waiting once there is a signal in this descriptor; see [`Prober::pause`].
    pub fn until(self, interrupt: SignalFd) -> Self {
        Self { interrupt: Some(interrupt), ..self }
    }

    /// Waits this long. Returns whether there is a signal that ends the waiting; it stays where it is.
    pub fn pause(&self, wait: Duration) -> io::Result<bool> {
        let Some(interrupt) = &self.interrupt else {
            std::thread::sleep(wait);
            return Ok(false);
        };
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut awaited = [PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
            match poll(&mut awaited, timeout(left)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends one echo request of `payload` bytes and waits for what comes of it; also says how long that took.
    pub fn probe(
        &self,
        to: Ipv4Addr,
        ttl: u8,
        sequence: u16,
        payload: usize,
        wait: Duration,
    ) -> Result<(Answer, Duration)> {
        let failed = || format!("cannot send an echo request to {to}");
        setsockopt(&self.socket, sockopt::Ipv4Ttl, &i32::from(ttl)).context(failed)?;
        let payload: Vec<u8> = (ICMP_HEADER..ICMP_HEADER + payload).map(|place| place as u8).collect();
        let request = echo_request(self.identifier, sequence, &payload);
        let started = Instant::now();
        let address = SockaddrIn::from(SocketAddrV4::new(to, 0));
        match sendto(self.socket.as_raw_fd(), &request, &address, MsgFlags::empty()) {
            Ok(_) => {}
            Err(errno) if is_no_way(errno) || is_forbidden(errno) => {
                return Ok((Answer::NotSent(errno as i32), started.elapsed()));
            }
            Err(errno) => return Err(Error::failed(failed()).because(errno)),
        }
        let answer =
            self.answer(sequence, started + wait).context(|| format!("cannot wait for an answer from {to}"))?;
        Ok((answer, started.elapsed()))
    }

    fn answer(&self, sequence: u16, deadline: Instant) -> io::Result<Answer> {
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Answer::Silence);
            }
            let mut awaited = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            awaited.extend(self.interrupt.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
            match poll(&mut awaited, timeout(left)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            // What has arrived counts, also when the signal has arrived, too.
            if awaited[0].any() != Some(true) {
                return Ok(Answer::Silence);
            }
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                // Errors that the kernel reports on the socket come as messages too.
                Err(errno) if is_no_way(errno) || errno == nix::errno::Errno::EAGAIN => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some(answer) = self.understand(&buffer[..length], sequence) {
                return Ok(answer);
            }
        }
    }

    /// What a received packet says about the request, if it is about it.
    fn understand(&self, bytes: &[u8], sequence: u16) -> Option<Answer> {
        let packet = Ipv4Packet::new(bytes)?;
        let from = packet.get_source();
        let message = bytes.get(usize::from(packet.get_header_length()) * 4..)?;
        let icmp = IcmpPacket::new(message)?;
        match icmp.get_icmp_type() {
            IcmpTypes::EchoReply => self.is_ours(message, sequence).then(|| Answer::Reply {
                from,
                ttl: packet.get_ttl(),
                length: message.len(),
            }),
            kind @ (IcmpTypes::DestinationUnreachable | IcmpTypes::TimeExceeded) => {
                // An error quotes the header and at least eight bytes of what it is about (RFC 792).
                let quoted = message.get(ICMP_HEADER..)?;
                let header = usize::from(Ipv4Packet::new(quoted)?.get_header_length()) * 4;
                let about_us = self.is_ours(quoted.get(header..)?, sequence);
                about_us.then(|| match kind {
                    IcmpTypes::TimeExceeded => Answer::Expired { from },
                    _ => Answer::Unreachable { from, code: icmp.get_icmp_code().0 },
                })
            }
            _ => None,
        }
    }

    fn is_ours(&self, echo: &[u8], sequence: u16) -> bool {
        let word = |at: usize| echo.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        word(4) == Some(self.identifier) && word(6) == Some(sequence)
    }
}

/// An ICMP echo request with this payload (RFC 792), from its ICMP header on.
pub fn echo_request(identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut request = vec![0; ICMP_HEADER];
    request.extend(payload);
    if let Some(mut echo) = MutableEchoRequestPacket::new(&mut request) {
        echo.set_icmp_type(IcmpTypes::EchoRequest);
        echo.set_identifier(identifier);
        echo.set_sequence_number(sequence);
        if let Some(sum) = IcmpPacket::new(echo.packet_mut()).map(|packet| checksum(&packet)) {
            echo.set_checksum(sum);
        }
    }
    request
}

/// A time as poll(2) takes it, rounded up to whole milliseconds.
fn timeout(left: Duration) -> PollTimeout {
    match left.is_zero() {
        true => PollTimeout::ZERO,
        false => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
    }
}

/// Whether a `blackhole` or `prohibit` route, a firewall or an IPsec policy keeps the request in: EINVAL, EACCES, EPERM
/// (`fib_props` in net/ipv4/fib_semantics.c; `nf_hook_slow()`; `xfrm_lookup()`).
fn is_forbidden(errno: nix::errno::Errno) -> bool {
    use nix::errno::Errno::{EACCES, EINVAL, EPERM};
    matches!(errno, EINVAL | EACCES | EPERM)
}

/// Whether the kernel says that there is no way to the destination.
fn is_no_way(errno: nix::errno::Errno) -> bool {
    use nix::errno::Errno::{EHOSTUNREACH, ENETDOWN, ENETUNREACH};
    matches!(errno, EHOSTUNREACH | ENETUNREACH | ENETDOWN)
}
