//! Packets for the unit tests of this module.

use super::checksum::Sum;

/// An IPv4 packet from 10.1.3.1 to 10.1.3.4, identification 0x1234, with the flags and offset word as given.
pub(super) fn v4_fragment(protocol: u8, options: &[u8], flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0x10];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(flags_and_offset.to_be_bytes());
    packet.extend([63, protocol, 0, 0, 10, 1, 3, 1, 10, 1, 3, 4]);
    packet.extend(options);
    let checksum = Sum::default().add(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A whole one, don't-fragment flag clear.
pub(super) fn v4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    v4_fragment(protocol, options, 0, payload)
}

/// An IPv6 packet from fd00::1 to fd00::4 with traffic class 0x12 and flow label 0x34567.
pub(super) fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x61, 0x23, 0x45, 0x67];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 63]);
    for last in [1, 4] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// An ICMP message, or an ICMPv6 one between the ends of [`v6`]: identifier 0xbeef, sequence number 7.
pub(super) fn echo(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0xbe, 0xef, 0, 7];
    message.extend(payload);
    let mut sum = Sum::default();
    if kind >= 128 {
        sum = sum.add(&v6(0, &[])[8..40]).add(&(message.len() as u32).to_be_bytes()).add(&[0, 58]);
    }
    let checksum = sum.add(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Bytes that differ from their neighbors.
pub(super) fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// The frame in which 10.1.3.1 at 02:00:00:00:00:01 asks all for 10.1.3.4.
pub(super) fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 1, 3, 1]);
    frame.extend([0, 0, 0, 0, 0, 0, 10, 1, 3, 4]);
    frame
}
