//! The fast path behind [`crate::link`]: the same packets on the same wire, many at a time.
//!
//! A tunnel spends its time on system calls and on what the kernel does for each packet, not on the bytes. So the kernel
//! hands over up to 64 KiB at a time, in both directions and at both ends:
//!
//! | file | what it does |
//! |---|---|
//! | [`tun`] | the TUN device with `IFF_VNET_HDR`: one read brings a large packet ([`segment`]), one write takes one ([`coalesce`]) |
//! | [`udp`] | the socket: many datagrams a call, `UDP_SEGMENT` to send, `UDP_GRO` to receive |
//! | [`segment`] | cuts a large packet into the packets it stands for; pure |
//! | [`coalesce`] | finds the packets that one large packet can stand for; pure |
//! | [`vnet`] | the header that says how a packet is to be cut; pure |
//!
//! Nobody but `link` uses it. No packet waits for another: what is handled together had arrived together.

pub mod coalesce;
#[cfg(test)]
mod samples;
pub mod segment;
pub mod tun;
pub mod udp;
pub mod vnet;

use std::net::UdpSocket;

use crate::packet::protocol::{TCP, UDP};
use crate::tun::Tun;

/// Which parts of the fast path are wanted. Without any, packets are still received and sent many at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// TCP segmentation offload of the TUN device.
    pub tso: bool,
    /// UDP segmentation offload of the TUN device.
    pub uso: bool,
    /// `UDP_SEGMENT` on the socket.
    pub gso: bool,
    /// `UDP_GRO` on the socket.
    pub gro: bool,
}

/// Which parts the kernel has, for a TUN device with headers and a socket: each is asked for.
pub fn offered(device: &Tun, socket: &UdpSocket) -> Parts {
    let (tso, uso) = tun::offers(device);
    Parts { tso, uso, gso: udp::takes_runs(socket), gro: udp::joins_received(socket) }
}

/// Where the checksum is in the headers of TCP (RFC 9293, section 3.1) and UDP (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The flags of TCP (RFC 9293, section 3.1; RFC 3168, section 6.1).
mod tcp_flag {
    pub const FIN: u8 = 0x01;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// Whether to ask for more than one packet. While they come one at a time, each further question is a system call for
/// nothing, and a lone ping waits for it; so then it is asked now and then only. Nothing waits meanwhile: what else is
/// there makes `select` return at once.
#[derive(Debug, Default)]
struct Burst {
    many: bool,
    calls: u8,
}

impl Burst {
    /// One call in so many asks for more although there was one packet the last time.
    const NOW_AND_THEN: u8 = 8;

    fn asks_for_more(&mut self) -> bool {
        self.calls = self.calls.wrapping_add(1);
        self.many || self.calls.is_multiple_of(Self::NOW_AND_THEN)
    }

    fn brought(&mut self, packets: usize) {
        self.many = packets > 1;
    }
}

/// How a log line calls what is switched on or off.
fn on(feature: bool) -> &'static str {
    if feature { "on" } else { "off" }
}

/// Writes a number of 16 bits in network order.
fn put(bytes: &mut [u8], at: usize, number: u16) {
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}
