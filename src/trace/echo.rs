//! The one echo request that is traced: sent from a host, with a mark in its payload.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket};
use pnet_packet::icmp::{IcmpPacket, checksum};
use pnet_packet::ipv4::Ipv4Packet;

use super::sighting::{ICMP_HEADER, IP_HEADER, Mark};
use crate::error::{Error, RUN_AS_ROOT, Result};
use crate::lab::probe::echo_request;

/// The shortest echo that has room for its mark, and the longest that IPv4 has a length for; in bytes, header included.
pub const SHORTEST: usize = IP_HEADER + ICMP_HEADER + Mark::LENGTH;
/// See [`SHORTEST`].
pub const LONGEST: usize = 65_535;

/// A raw ICMP socket of one host (raw(7)), and what is sent through it.
pub struct EchoSocket {
    socket: OwnedFd,
    request: Request,
}

/// The echo request, and what its reply must be.
struct Request {
    mark: Mark,
    to: Ipv4Addr,
    /// The ICMP message.
    message: Vec<u8>,
}

/// An echo reply with the mark in it.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The one to the request.
    Right,
    /// Not the one to the request, which is why the program that waits for that does not take it; how it differs.
    Wrong(Vec<String>),
}

impl EchoSocket {
    /// Opens the socket in the calling thread's network namespace, for a request of so many bytes in all.
    ///
    /// # Errors
    /// The right to open raw sockets is missing.
    pub fn open(mark: Mark, to: Ipv4Addr, length: usize) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let opened = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp);
        let socket = opened
            .map_err(|errno| Error::environment("cannot open a raw ICMP socket").because(errno).hint(RUN_AS_ROOT))?;
        let mut payload = mark.0.to_vec();
        payload.extend((Mark::LENGTH..length.saturating_sub(IP_HEADER + ICMP_HEADER)).map(|place| place as u8));
        let message = echo_request(std::process::id() as u16, 1, &payload);
        Ok(Self { socket, request: Request { mark, to, message } })
    }

    /// Sends the echo request.
    ///
    /// # Errors
    /// The kernel does not take it: there is no route, or it is too large.
    pub fn send(&self) -> Result<(), Errno> {
        let address = SockaddrIn::from(SocketAddrV4::new(self.request.to, 0));
        sendto(self.socket.as_raw_fd(), &self.request.message, &address, MsgFlags::empty()).map(|_| ())
    }

    /// Whether a reply has arrived; reads everything that has.
    pub fn answered(&self) -> io::Result<Option<Answer>> {
        let mut buffer = vec![0; LONGEST];
        let mut answer = None;
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => match self.request.answered_by(&buffer[..length]) {
                    Some(Answer::Wrong(_)) if answer.is_some() => {}
                    Some(found) => answer = Some(found),
                    None => {}
                },
                Err(Errno::EAGAIN) => return Ok(answer),
                // An error that the kernel reports on the socket; what it is about was captured.
                Err(
                    Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EMSGSIZE | Errno::ECONNREFUSED,
                ) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Request {
    /// Whether an IP packet is an echo reply with the mark, and the one to this request (RFC 792: the data, the identifier and
    /// the number are the request's, the addresses change places). A raw socket is given those with a wrong checksum, too.
    fn answered_by(&self, packet: &[u8]) -> Option<Answer> {
        const ECHO_REPLY: u8 = 0;
        let ip = Ipv4Packet::new(packet)?;
        let reply = packet.get(usize::from(ip.get_header_length()) * 4..)?;
        let is_marked = reply.windows(Mark::LENGTH).any(|window| window == self.mark.0);
        let icmp = IcmpPacket::new(reply).filter(|icmp| is_marked && icmp.get_icmp_type().0 == ECHO_REPLY)?;
        let number = |message: &[u8], place| u16::from_be_bytes([message[place], message[place + 1]]);
        let mut differs = Vec::new();
        if ip.get_source() != self.to {
            differs.push(format!("the reply comes from {}, and the request was for {}", ip.get_source(), self.to));
        }
        for (name, place) in [("identifier", 4), ("sequence number", 6)] {
            let (is, was) = (number(reply, place), number(&self.message, place));
            if is != was {
                differs.push(format!("the reply's {name} is {is}, the request's {was}"));
            }
        }
        let (is, was) = (&reply[ICMP_HEADER..], &self.message[ICMP_HEADER..]);
        if is.len() != was.len() {
            differs.push(format!("the reply has {} bytes of payload, the request {}", is.len(), was.len()));
        } else if let Some(place) = (0..is.len()).find(|place| is[*place] != was[*place]) {
            let (is, was) = (is[place], was[place]);
            differs.push(format!("byte {place} of the reply's payload is {is:#04x}, of the request's {was:#04x}"));
        }
        let (is, right) = (icmp.get_checksum(), checksum(&icmp));
        if is != right {
            differs.push(format!("the reply's ICMP checksum is {is:#06x}, and {right:#06x} would be right"));
        }
        Some(if differs.is_empty() { Answer::Right } else { Answer::Wrong(differs) })
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_the_requests_in_all_its_fields() {
        let mark = Mark::new(7);
        let payload = [&mark.0[..], b"more"].concat();
        let request = Request { mark, to: [10, 1, 3, 4].into(), message: echo_request(500, 1, &payload) };
        let packet = |source: [u8; 4], change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = request.message.clone();
            message[0] = 0;
            change(&mut message);
            message[2..4].fill(0);
            let sum = checksum(&IcmpPacket::new(&message).unwrap());
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let header = [0x45, 0, 0, 20 + message.len() as u8, 0, 0, 0, 0, 64, 1, 0, 0];
            [&header[..], &source, &[10, 1, 3, 1], &message].concat()
        };
        let says = |packet: &[u8]| match request.answered_by(packet) {
            Some(Answer::Wrong(differs)) => differs.join("; "),
            other => format!("{other:?}"),
        };
        let there = [10, 1, 3, 4];
        let right = packet(there, &|_| {});
        let mut summed = right.clone();
        summed[22] ^= 0x80;
        let other = packet(there, &|message| *message = echo_request(500, 1, b"somebody else's echo"));
        let table = [
            (says(&right), "Some(Right)"),
            (says(&other), "None"),
            (says(&right[..19]), "None"),
            (says(&packet(there, &|message| message[0] = 8)), "None"),
            (says(&packet([10, 1, 3, 9], &|_| {})), "the reply comes from 10.1.3.9, and the request was for 10.1.3.4"),
            (
                says(&packet(there, &|message| message[4..8].fill(0))),
                "the reply's identifier is 0, the request's 500; the reply's sequence number is 0, the request's 1",
            ),
            (
                says(&packet(there, &|message| message.truncate(26))),
                "the reply has 18 bytes of payload, the request 20",
            ),
            (
                says(&packet(there, &|message| message[27] = 0)),
                "byte 19 of the reply's payload is 0x00, of the request's 0x65",
            ),
        ];
        for (is, expected) in table {
            assert_eq!(is, expected);
        }
        assert!(says(&summed).starts_with("the reply's ICMP checksum is 0x"), "{}", says(&summed));
    }
}
