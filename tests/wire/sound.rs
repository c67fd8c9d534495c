//! Whether a packet's own lengths and checksums are right: what every packet that src/packet makes is judged by.
//!
//! Written from the RFCs, not from src/packet.

use super::checksum;

/// The addresses as they are in the header, and the length and protocol behind them.
pub fn pseudo_header(packet: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let mut pseudo = addresses.to_vec();
    pseudo.extend((length as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo
}

/// Whether the packet's own lengths and checksums are right, extension headers not expected; the rest of it.
#[track_caller]
pub fn check(packet: &[u8]) -> (u8, &[u8]) {
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (protocol, payload) = if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 15) * 4;
        assert_eq!(word(2), packet.len(), "the total length");
        assert_eq!(checksum(&packet[..header]), 0, "the header checksum");
        (packet[9], &packet[header..])
    } else {
        assert_eq!(word(4), packet.len() - 40, "the payload length");
        (packet[6], &packet[40..])
    };
    let covered = match protocol {
        1 => payload.to_vec(),
        17 if payload[6..8] == [0, 0] => return (protocol, payload),
        _ => [&pseudo_header(packet, protocol, payload.len())[..], payload].concat(),
    };
    assert_eq!(checksum(&covered), 0, "the checksum of protocol {protocol}");
    (protocol, payload)
}
