//! Packets for the unit tests of this module.

use std::ops::Range;

use super::put;
use crate::packet::checksum::Sum;

/// What kind of packets a flow has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TcpV4,
    TcpV6,
    UdpV4,
    UdpV6,
}
use Kind::{TcpV4, TcpV6, UdpV4, UdpV6};

pub(super) const ALL: [Kind; 4] = [TcpV4, TcpV6, UdpV4, UdpV6];

impl Kind {
    pub(super) fn ipv6(self) -> bool {
        matches!(self, TcpV6 | UdpV6)
    }

    pub(super) fn tcp(self) -> bool {
        matches!(self, TcpV4 | TcpV6)
    }

    /// Where the header of TCP or UDP begins.
    pub(super) fn transport(self) -> usize {
        if self.ipv6() { 40 } else { 20 }
    }

    /// Where the payload begins: TCP has timestamps.
    pub(super) fn payload(self) -> usize {
        self.transport() + if self.tcp() { 32 } else { 8 }
    }

    /// Where the checksum of TCP or UDP is.
    pub(super) fn checksum(self) -> usize {
        self.transport() + if self.tcp() { 16 } else { 6 }
    }

    /// A packet of the flow, the `number`th, after so many bytes of payload.
    pub(super) fn packet(self, number: usize, before: usize, payload: &[u8]) -> Vec<u8> {
        let protocol = if self.tcp() { 6 } else { 17 };
        let mut packet = if self.ipv6() {
            let mut header = vec![0x60, 0x12, 0x34, 0x56, 0, 0, protocol, 64];
            for last in [1, 4] {
                header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
            header
        } else {
            let [high, low] = (IDENTIFICATION.wrapping_add(number as u16)).to_be_bytes();
            vec![0x45, 0, 0, 0, high, low, 0x40, 0, 64, protocol, 0, 0, 10, 1, 3, 1, 10, 1, 3, 4]
        };
        packet.extend([0x9c, 0x40, 0x14, 0x51]);
        if self.tcp() {
            packet.extend(SEQUENCE.wrapping_add(before as u32).to_be_bytes());
            packet.extend([0, 0, 0, 7, 0x80, 0x10, 1, 0xf6, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 3, 0, 0, 0, 4]);
        } else {
            packet.extend([0; 4]);
        }
        packet.extend(payload);
        seal(&mut packet);
        packet
    }

    /// Packets that follow each other, with so many bytes of payload each.
    pub(super) fn stream(self, sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut before = 0;
        let packet = |(number, size): (usize, &usize)| {
            before += size;
            let payload: Vec<u8> = (before - size..before).map(|at| (at % 251) as u8).collect();
            self.packet(number, before - size, &payload)
        };
        sizes.iter().enumerate().map(packet).collect()
    }
}

/// The first packet's identification and sequence number: those of a stream run over their ends.
const IDENTIFICATION: u16 = 0xfffe;
const SEQUENCE: u32 = 0xffff_ff80;

/// Puts right what follows from the rest of a packet without IPv6 extension headers: its lengths and checksums.
pub(super) fn seal(packet: &mut [u8]) {
    let length = packet.len();
    let (at, protocol) = if packet[0] >> 4 == 6 {
        put(packet, 4, (length - 40) as u16);
        (40, packet[6])
    } else {
        let at = usize::from(packet[0] & 15) * 4;
        put(packet, 2, length as u16);
        put(packet, 10, 0);
        let checksum = Sum::default().add(&packet[..at]).checksum();
        put(packet, 10, checksum);
        (at, packet[9])
    };
    let field = at + if protocol == 6 { 16 } else { 6 };
    if protocol == 17 {
        put(packet, at + 4, (length - at) as u16);
    }
    put(packet, field, pseudo_header(packet, at, protocol));
    let checksum = Sum::default().add(&packet[at..]).checksum();
    put(packet, field, if checksum == 0 && protocol == 17 { 0xffff } else { checksum });
}

/// The sum over the pseudo-header.
pub(super) fn pseudo_header(packet: &[u8], at: usize, protocol: u8) -> u16 {
    let addresses = if packet[0] >> 4 == 6 { &packet[8..40] } else { &packet[12..20] };
    Sum::default().add(addresses).add(&[0, protocol]).add_word((packet.len() - at) as u16).folded()
}

/// Changes the first two bytes of the payload, so that the checksum is zero.
pub(super) fn sum_to_zero(packet: &mut [u8], kind: Kind) {
    packet[kind.payload()..kind.payload() + 2].fill(0);
    seal(packet);
    packet.copy_within(kind.checksum()..kind.checksum() + 2, kind.payload());
    seal(packet);
}

/// The packets back to back, and where each is.
pub(super) fn back_to_back(packets: &[Vec<u8>]) -> (Vec<Range<usize>>, Vec<u8>) {
    let mut end = 0;
    let place = |packet: &Vec<u8>| {
        end += packet.len();
        end - packet.len()..end
    };
    (packets.iter().map(place).collect(), packets.concat())
}
