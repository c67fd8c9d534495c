//! Packets as the grader makes and expects them, byte for byte. Pure, and of its own: it shares no code with the steps,
//! whose mistakes it would else repeat.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use pnet_packet::util::checksum;

/// Protocol numbers (IANA protocol-numbers).
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;

/// ICMP types (RFC 792).
pub const ECHO_REQUEST: u8 = 8;
/// See [`ECHO_REQUEST`].
pub const ECHO_REPLY: u8 = 0;
/// See [`ECHO_REQUEST`].
pub const TIMESTAMP_REQUEST: u8 = 13;
/// See [`ECHO_REQUEST`]; RFC 950.
pub const MASK_REQUEST: u8 = 17;

/// An IPv4 header without options (RFC 791 section 3.1).
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Who sends it.
    pub source: Ipv4Addr,
    /// Whom it is for.
    pub destination: Ipv4Addr,
    /// What is in it.
    pub protocol: u8,
    /// How many hops it may take.
    pub ttl: u8,
    /// Its identification.
    pub identification: u16,
}

/// The length of [`Header`] in bytes.
pub const HEADER: usize = 20;

/// A packet with this header, Don't Fragment not set.
pub fn ipv4(header: &Header, payload: &[u8]) -> Vec<u8> {
    let total = (HEADER + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(header.identification.to_be_bytes());
    packet.extend([0, 0, header.ttl, header.protocol, 0, 0]);
    packet.extend(header.source.octets());
    packet.extend(header.destination.octets());
    sum_up(&mut packet);
    packet.extend(payload);
    packet
}

/// The same packet with a type of service, a TTL and a Don't Fragment that nobody can know beforehand.
pub fn with_own_header(mut packet: Vec<u8>, seed: u64) -> Vec<u8> {
    const DONT_FRAGMENT: u8 = 0x40;
    let own = payload(3, seed);
    // A class (RFC 2474), never the default one; the bits of ECN stay 0, which a router may change.
    packet[1] = (1 + own[0] % 63) << 2;
    packet[6] = own[1] & DONT_FRAGMENT;
    // Enough for every lab, and another one than 64, which kernels and libraries set by themselves.
    packet[8] = 65 + own[2] % 190;
    sum_up(&mut packet);
    packet
}

/// A packet as it is after a router: with a TTL that is less by one.
pub fn one_hop_further(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[8] -= 1;
    sum_up(&mut packet);
    packet
}

/// Whether bytes are an IPv4 or an IPv6 packet, by the length that they state (RFC 791 section 3.1, RFC 8200 section 3).
pub fn is_packet(bytes: &[u8]) -> bool {
    const IPV6_HEADER: usize = 40;
    let word = |at: usize| bytes.get(at..at + 2).map(|it| usize::from(u16::from_be_bytes([it[0], it[1]])));
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => bytes.len() >= HEADER && word(2) == Some(bytes.len()),
        Some(6) => bytes.len() >= IPV6_HEADER && word(4) == Some(bytes.len() - IPV6_HEADER),
        _ => false,
    }
}

/// Sets the checksum of a packet's header.
fn sum_up(packet: &mut [u8]) {
    // The checksum's own place, as 16-bit words, is skipped.
    let sum = checksum(&packet[..HEADER], 5);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An ICMP message of eight bytes and a payload: echoes, and others of the same form (RFC 792).
pub fn icmp(kind: u8, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(payload);
    let sum = checksum(&message, 1);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A UDP datagram without a checksum, which IPv4 allows (RFC 768).
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut datagram: Vec<u8> = [from, to, length, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    datagram.extend(payload);
    datagram
}

/// A TCP segment with SYN and nothing else (RFC 9293 section 3.1).
pub fn tcp_syn(header: &Header, from: u16, to: u16, sequence: u32) -> Vec<u8> {
    tcp(header, from, to, sequence, 0x02, &[])
}

/// A TCP segment with PSH, ACK and a payload, of a connection that nobody knows.
pub fn tcp_data(header: &Header, from: u16, to: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    tcp(header, from, to, sequence, 0x18, payload)
}

fn tcp(header: &Header, from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment: Vec<u8> = [from, to].iter().flat_map(|word| word.to_be_bytes()).collect();
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let mut pseudo = [header.source.octets(), header.destination.octets()].concat();
    pseudo.extend([0, TCP]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    pseudo.extend(&segment);
    // Not a word of its own is skipped: the checksum's place is zero.
    let sum = checksum(&pseudo, usize::MAX);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// The reply that an echo request must get: the ends exchanged, the type changed, all else of the message as it was
/// (RFC 792). TTL and identification are the answerer's own, and are taken from `header`.
pub fn echo_reply(header: &Header, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header { source: header.destination, destination: header.source, ..*header };
    ipv4(&header, &icmp(ECHO_REPLY, identifier, sequence, payload))
}

/// Takes over what the answerer may choose in the header of a whole packet: type of service, identification, Don't Fragment,
/// TTL, and the checksum over them. What makes a fragment of it (More Fragments, the offset) is not free.
pub fn take_what_is_free(expected: &mut [u8], reply: &[u8]) {
    const DONT_FRAGMENT: u8 = 0x40;
    if expected.len() < HEADER || reply.len() < HEADER {
        return;
    }
    for free in [1..2, 4..6, 8..9, 10..12] {
        expected[free.clone()].copy_from_slice(&reply[free]);
    }
    expected[6] = reply[6] & DONT_FRAGMENT;
}

/// The first echo reply among packets that answers, by its addresses, identifier and sequence number, what another one before
/// it has answered.
pub fn replied_twice<'p>(packets: impl Iterator<Item = &'p [u8]>) -> Option<&'p [u8]> {
    let mut answered = HashSet::new();
    let mut replies = packets.filter(|packet| packet.get(9) == Some(&ICMP) && packet.get(HEADER) == Some(&ECHO_REPLY));
    replies.find(|reply| {
        let ends_and_number = (reply.get(12..20), reply.get(HEADER + 4..HEADER + 8));
        !answered.insert(ends_and_number)
    })
}

/// A payload of so many bytes that differ from those of any other seed.
pub fn payload(length: usize, seed: u64) -> Vec<u8> {
    // An LCG (Knuth's MMIX): nothing depends on its quality but that a program cannot know it beforehand.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::icmp::IcmpPacket;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::tcp::TcpPacket;

    const HEADER_1: Header = Header {
        source: Ipv4Addr::new(10, 1, 3, 1),
        destination: Ipv4Addr::new(10, 1, 1, 2),
        protocol: ICMP,
        ttl: 64,
        identification: 7,
    };

    #[test]
    fn checksums_are_those_of_another_library() {
        let packet = ipv4(&HEADER_1, &icmp(ECHO_REQUEST, 1, 2, b"odd"));
        let ip = Ipv4Packet::new(&packet).unwrap();
        assert_eq!(ip.get_checksum(), pnet_packet::ipv4::checksum(&ip));
        let message = IcmpPacket::new(&packet[20..]).unwrap();
        assert_eq!(message.get_checksum(), pnet_packet::icmp::checksum(&message));
        let segment = tcp_syn(&HEADER_1, 1, 2, 3);
        let tcp = TcpPacket::new(&segment).unwrap();
        let sum = pnet_packet::tcp::ipv4_checksum(&tcp, &HEADER_1.source, &HEADER_1.destination);
        assert_eq!(tcp.get_checksum(), sum);
    }

    #[test]
    fn a_header_of_its_own_is_right_and_never_what_others_set() {
        let plain = ipv4(&HEADER_1, &tcp_data(&HEADER_1, 1, 2, 3, b"odd"));
        let tcp = TcpPacket::new(&plain[20..]).unwrap();
        assert_eq!(tcp.get_checksum(), pnet_packet::tcp::ipv4_checksum(&tcp, &HEADER_1.source, &HEADER_1.destination));
        for seed in 0..2000 {
            let own = with_own_header(plain.clone(), seed);
            let further = one_hop_further(&own);
            for packet in [&own, &further] {
                let ip = Ipv4Packet::new(packet).unwrap();
                assert_eq!(ip.get_checksum(), pnet_packet::ipv4::checksum(&ip));
                assert_eq!((&packet[2..6], &packet[12..]), (&plain[2..6], &plain[12..]));
            }
            assert!(own[1] != 0 && own[1] & 3 == 0 && own[8] > 64 && further[8] == own[8] - 1);
        }
    }

    #[test]
    fn packets_are_told_from_what_begins_like_one() {
        let packet = ipv4(&HEADER_1, b"abc");
        assert!(is_packet(&packet) && !is_packet(&packet[..22]) && !is_packet(&packet[..2]) && !is_packet(&[]));
        let mut solicitation = vec![0; 48];
        (solicitation[0], solicitation[5]) = (0x60, 8);
        assert!(is_packet(&solicitation) && !is_packet(&solicitation[..40]));
        assert!(!is_packet(b"hello") && !is_packet(b"E is the first byte of an IPv4 packet"));
    }

    #[test]
    fn a_reply_goes_back() {
        let reply = echo_reply(&HEADER_1, 1, 2, b"abc");
        assert_eq!((&reply[12..16], &reply[16..20]), (&[10, 1, 1, 2][..], &[10, 1, 3, 1][..]));
        assert_eq!((reply[20], &reply[24..]), (ECHO_REPLY, &[0, 1, 0, 2, b'a', b'b', b'c'][..]));
    }

    #[test]
    fn a_reply_may_have_a_header_of_its_own_but_is_no_fragment() {
        let expected = |reply: &[u8]| {
            let mut expected = echo_reply(&HEADER_1, 1, 2, b"abc");
            take_what_is_free(&mut expected, reply);
            expected
        };
        let own = Header { ttl: 200, identification: 0xbeef, ..HEADER_1 };
        let mut reply = echo_reply(&own, 1, 2, b"abc");
        (reply[1], reply[6]) = (0x10, 0x40);
        assert_eq!(expected(&reply), reply);
        for (at, bits) in [(6, 0x20), (6, 0x60), (6, 0x01), (7, 0xb9)] {
            let mut fragment = reply.clone();
            fragment[at] = bits;
            assert_ne!(expected(&fragment), fragment, "byte {at}: {bits:#x}");
        }
        let short = [0x45; 5];
        assert_eq!(expected(&short), echo_reply(&HEADER_1, 1, 2, b"abc"));
    }

    #[test]
    fn a_second_reply_is_told_from_one_to_another_ping() {
        let reply = |identification, sequence| echo_reply(&Header { identification, ..HEADER_1 }, 1, sequence, b"abc");
        let request = ipv4(&HEADER_1, &icmp(ECHO_REQUEST, 1, 2, b"abc"));
        let from_elsewhere = echo_reply(&Header { destination: Ipv4Addr::new(1, 2, 3, 4), ..HEADER_1 }, 1, 2, b"abc");
        let one_each = [reply(1, 2), request.clone(), request, from_elsewhere, reply(2, 3)];
        assert_eq!(replied_twice(one_each.iter().map(Vec::as_slice)), None);
        let twice = [&one_each[..], &[reply(9, 2)]].concat();
        assert_eq!(replied_twice(twice.iter().map(Vec::as_slice)), Some(&reply(9, 2)[..]));
    }

    #[test]
    fn payloads_differ_by_their_seed() {
        assert_ne!(payload(16, 1), payload(16, 2));
        assert_eq!(payload(16, 1), payload(16, 1));
        assert_eq!(payload(0, 1).len(), 0);
    }
}
