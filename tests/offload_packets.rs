//! Properties of the fast path's arithmetic, judged by the straightforward builder and splitter of `wire`: what is cut is
//! what would have been sent packet by packet, and what is merged is cut into what came.

mod wire;

use std::ops::Range;

use pnet_packet::{ipv4, ipv6, tcp, udp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Union;
use vpnlab::fast::coalesce::Coalescer;
use vpnlab::fast::segment::complete_checksum;
use vpnlab::fast::vnet::{Checksum, Header};
use wire::judge::{cut, merge, runs};
use wire::{ACK, CWR, ECE, FIN, PSH, Parts, noise, put, seal};

/// Headers without payload: either version, either protocol, with or without options.
fn headers() -> impl Strategy<Value = Parts> {
    let tcp = (any::<(u32, u32, u16, u16)>(), 0_usize..=10);
    (any::<[bool; 3]>(), any::<([u8; 2], [u16; 2])>(), any::<(u8, u32, u8, u16)>(), tcp, any::<u64>()).prop_map(
        |(
            [ipv6, tcp, dont_fragment],
            (hosts, ports),
            ip,
            ((sequence, acknowledgment, window, urgent), words),
            seed,
        )| {
            let (class, label, hops, identification) = ip;
            Parts {
                ipv6,
                tcp,
                hosts,
                ports,
                class,
                label,
                hops,
                identification,
                dont_fragment,
                between: Vec::new(),
                sequence,
                acknowledgment,
                flags: ACK,
                window,
                urgent,
                options: noise(seed, if tcp { words * 4 } else { 0 }),
                payload: Vec::new(),
            }
        },
    )
}

/// A size of segments, and a length of payload: mostly some segments, and seldom thousands of them.
fn sizes() -> impl Strategy<Value = (u16, usize)> {
    let size = prop_oneof![1_u16..40, 40_u16..1500, 40_u16..1500, 1500_u16..9000, 9000_u16..=65535];
    (size, 1_usize..=70, any::<Index>(), any::<bool>()).prop_map(|(size, count, short, even)| {
        let size = usize::from(size);
        (size as u16, size * count - if even { 0 } else { short.index(size) })
    })
}

/// A large packet of any kind and what it is to be cut into. The payload of some makes the first checksum zero.
fn large() -> impl Strategy<Value = (Parts, u16)> {
    let payload = (sizes(), any::<u64>(), prop_oneof![3 => Just(false), 1 => Just(true)]);
    let flags = prop_oneof![select(vec![ACK, ACK | PSH, ACK | PSH | FIN, ACK | CWR, ACK | ECE | CWR]), any::<u8>()];
    (headers(), flags, 0_usize..=10, payload).prop_map(|(mut parts, flags, between, ((size, length), seed, zero))| {
        parts.flags = flags;
        parts.between = match (between, parts.ipv6) {
            (0..7, _) => Vec::new(),
            (words, false) => vec![1; (words - 6) * 4],
            // Destination options, all of them padding.
            (units, true) => {
                let octets = (units - 6) * 8;
                [&[(octets / 8 - 1) as u8, 1, (octets - 4) as u8][..], &vec![0; octets - 4]].concat()
            }
        };
        let most = 65535 - parts.headers() + if parts.ipv6 { 40 } else { 0 };
        parts.payload = noise(seed, length.min(most));
        if zero && size > 1 && parts.payload.len() > 1 {
            first_sums_to_zero(&mut parts, size.into());
        }
        (parts, size)
    })
}

/// Changes the payload's first two bytes, so that the checksum of the first packet is zero.
fn first_sums_to_zero(parts: &mut Parts, size: usize) {
    parts.payload[..2].fill(0);
    let (first, field) = (&parts.pieces(size)[0], parts.checksum());
    parts.payload[..2].copy_from_slice(&first[field..field + 2]);
}

/// A flow's packets, back to back or with bytes left out and PSH set here and there.
fn flow() -> impl Strategy<Value = Vec<Member>> {
    let size = prop_oneof![2_usize..40, 40_usize..1500, Just(1380)];
    let length = prop_oneof![10 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let flags = prop_oneof![12 => Just(ACK), 1 => Just(ACK | PSH), 1 => Just(ACK | ECE), 1 => any::<u8>()];
    (headers(), size, vec((length, flags), 1..14), any::<u64>(), 0_usize..30).prop_map(
        |(mut parts, size, pieces, seed, between)| {
            // Few enough of each that flows share addresses and ports, and get in each other's way.
            parts.hosts = parts.hosts.map(|host| host % 2);
            parts.ports = parts.ports.map(|port| port % 3);
            if between == 0 {
                parts.between = if parts.ipv6 { vec![0, 1, 4, 0, 0, 0, 0] } else { vec![1; 4] };
            }
            let all = noise(seed, size + pieces.len());
            let piece = |(index, (length, flags)): (usize, (Option<Index>, u8))| {
                let length = length.map_or(size, |length| length.index(size + 2));
                parts.flags = flags;
                parts.payload = all[index..index + length.min(all.len() - index)].to_vec();
                let member = Member { bytes: parts.packet(), at: parts.transport(), tcp: parts.tcp };
                parts.identification = parts.identification.wrapping_add(1);
                parts.sequence = parts.sequence.wrapping_add(parts.payload.len() as u32);
                member
            };
            pieces.into_iter().enumerate().map(piece).collect()
        },
    )
}

/// A packet, and where its header of TCP or UDP begins.
#[derive(Debug, Clone)]
struct Member {
    bytes: Vec<u8>,
    at: usize,
    tcp: bool,
}

/// What happens to a packet on its way here.
#[derive(Debug, Clone)]
enum Fate {
    Lost,
    Twice,
    Swapped(Index),
    Behind(Vec<u8>),
    Longer(usize),
    Shorter(Index),
    Bit(Index),
    Payload(Index),
    /// A byte of the headers is another, and the checksums are right again.
    Header(Index, u8),
    /// The same, by little.
    Next(Index),
    /// A checksum that is zero, or absent, or zero in the other way.
    Checksum(bool, u16),
    SumsToZero(bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    let foreign = prop_oneof![vec(any::<u8>(), 0..80), large().prop_map(|(parts, _)| parts.packet())];
    let index = any::<Index>;
    Union::new_weighted(vec![
        (2, Just(Fate::Lost).boxed()),
        (2, Just(Fate::Twice).boxed()),
        (2, index().prop_map(Fate::Swapped).boxed()),
        (1, foreign.prop_map(Fate::Behind).boxed()),
        (1, (1_usize..9).prop_map(Fate::Longer).boxed()),
        (1, index().prop_map(Fate::Shorter).boxed()),
        (3, index().prop_map(Fate::Bit).boxed()),
        (2, index().prop_map(Fate::Payload).boxed()),
        (4, (index(), any::<u8>()).prop_map(|(at, byte)| Fate::Header(at, byte)).boxed()),
        (4, index().prop_map(Fate::Next).boxed()),
        (2, (any::<bool>(), select(vec![0, 0xffff])).prop_map(|(ip, sum)| Fate::Checksum(ip, sum)).boxed()),
        (2, any::<bool>().prop_map(Fate::SumsToZero).boxed()),
    ])
}

impl Fate {
    fn strike(self, packets: &mut Vec<Member>, which: Index) {
        if packets.is_empty() {
            return;
        }
        let index = which.index(packets.len());
        let packet = &mut packets[index];
        let (at, tcp, length) = (packet.at, packet.tcp, packet.bytes.len());
        let headers = (at + if tcp { 20 } else { 8 }).min(length);
        let field = at + if tcp { 16 } else { 6 };
        match self {
            Self::Lost => drop(packets.remove(index)),
            Self::Twice => {
                let twin = packet.clone();
                packets.insert(index, twin);
            }
            Self::Swapped(other) => {
                let other = other.index(packets.len());
                packets.swap(index, other);
            }
            Self::Behind(bytes) => packets.insert(index, Member { bytes, at: 0, tcp: false }),
            Self::Longer(by) => packet.bytes.resize(length + by, 0),
            Self::Shorter(to) => packet.bytes.truncate(to.index(length + 1)),
            _ if headers == 0 => {}
            Self::Bit(bit) => {
                let bit = bit.index(headers * 8);
                packet.bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Self::Payload(at) => packet.bytes[at.index(length)] ^= 0x10,
            Self::Header(at, byte) => packet.seal_with(|header| header[at.index(headers)] = byte),
            Self::Next(at) => packet.seal_with(|header| {
                let byte = &mut header[at.index(headers)];
                *byte = byte.wrapping_add(1);
            }),
            Self::Checksum(true, sum) if packet.bytes[0] >> 4 == 4 && headers >= 12 => put(&mut packet.bytes, 10, sum),
            Self::Checksum(_, sum) if at > 0 && headers >= field + 2 => {
                put(&mut packet.bytes, field, sum);
            }
            Self::SumsToZero(otherwise) if at > 0 && length >= headers + 2 => {
                // TCP's options are the first thing behind these headers; what is in them does not matter here.
                packet.seal_with(|bytes| bytes[headers..headers + 2].fill(0));
                packet.seal_with(|bytes| bytes.copy_within(field..field + 2, headers));
                if otherwise {
                    packet.bytes[field..field + 2].fill(if tcp { 0xff } else { 0 });
                }
            }
            Self::Checksum(..) | Self::SumsToZero(_) => {}
        }
    }
}

impl Member {
    /// Changes the packet, and makes it sound again if its header of TCP or UDP still is where it was.
    fn seal_with(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes);
        let at = match self.bytes[0] {
            first if first >> 4 == 6 => 40,
            first => usize::from(first & 15) * 4,
        };
        if self.at == at && at >= 20 && self.bytes.len() >= at + if self.tcp { 20 } else { 8 } {
            seal(&mut self.bytes, at, self.tcp);
        }
    }
}

/// Packets of several flows, as they come in one batch: some of them changed, lost, doubled or out of order.
fn traffic() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let fates = prop_oneof![1 => vec((fate(), any::<Index>()), 0..1), 4 => vec((fate(), any::<Index>()), 0..7)];
    (vec(flow(), 1..5), vec(any::<Index>(), 0..60), fates).prop_map(|(flows, turns, fates)| {
        let mut flows: Vec<_> = flows.into_iter().map(Vec::into_iter).collect();
        let mut packets: Vec<Member> = Vec::new();
        for turn in turns {
            let flow = turn.index(flows.len());
            packets.extend(flows[flow].next());
        }
        packets.extend(flows.into_iter().flatten());
        for (fate, which) in fates {
            fate.strike(&mut packets, which);
        }
        packets.into_iter().map(|packet| packet.bytes).collect()
    })
}

/// Checks a packet without anything between IP and TCP or UDP with another library's eyes.
fn check(packet: &[u8]) {
    let checksums = if packet[0] >> 4 == 4 {
        let ip = ipv4::Ipv4Packet::new(packet).unwrap();
        assert_eq!((usize::from(ip.get_total_length()), ip.get_checksum()), (packet.len(), ipv4::checksum(&ip)));
        let (from, to, payload) = (ip.get_source(), ip.get_destination(), &packet[20..]);
        match ip.get_next_level_protocol().0 {
            6 => tcp::TcpPacket::new(payload).map(|tcp| (tcp.get_checksum(), tcp::ipv4_checksum(&tcp, &from, &to))),
            _ => udp::UdpPacket::new(payload).map(|udp| (udp.get_checksum(), udp::ipv4_checksum(&udp, &from, &to))),
        }
    } else {
        let ip = ipv6::Ipv6Packet::new(packet).unwrap();
        assert_eq!(usize::from(ip.get_payload_length()), packet.len() - 40);
        let (from, to, payload) = (ip.get_source(), ip.get_destination(), &packet[40..]);
        match ip.get_next_header().0 {
            6 => tcp::TcpPacket::new(payload).map(|tcp| (tcp.get_checksum(), tcp::ipv6_checksum(&tcp, &from, &to))),
            _ => udp::UdpPacket::new(payload).map(|udp| (udp.get_checksum(), udp::ipv6_checksum(&udp, &from, &to))),
        }
    };
    let (is, should) = checksums.unwrap();
    // A library may leave the other zero of UDP to its user.
    assert!(is == should || (is, should) == (0xffff, 0), "{is:#x}, {should:#x}");
}

/// Lengths of datagrams, many of them the same, and gaps between some.
fn datagrams() -> impl Strategy<Value = Vec<Range<usize>>> {
    let length = prop_oneof![4 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let gap = prop_oneof![20 => Just(0_usize), 1 => 1_usize..20];
    let size = prop_oneof![0_usize..4, 0_usize..1500, 0_usize..65576];
    vec((size, vec((length, gap), 1..80)), 0..4).prop_map(|groups| {
        let mut end = 0;
        let mut places = Vec::new();
        for (size, datagrams) in groups {
            for (length, gap) in datagrams {
                let start = end + gap;
                end = start + length.map_or(size, |length| length.index(size + 2));
                places.push(start..end);
            }
        }
        places
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_cut_is_what_would_have_been_sent_one_by_one((parts, size) in large(), hint: u16) {
        let mut written = parts.large(size);
        // The kernel's word on the headers' length is not to be relied on.
        written[2..4].copy_from_slice(&hint.to_ne_bytes());
        let packets = cut(&written).unwrap();
        prop_assert_eq!(&packets, &parts.pieces(size.into()));
        if parts.between.is_empty() {
            packets.iter().for_each(|packet| check(packet));
        }
    }

    #[test]
    fn what_is_cut_is_merged_into_one_packet_that_is_cut_into_the_same((mut parts, size) in large(), flags in 0..4) {
        parts.between.clear();
        parts.flags = [ACK, ACK | PSH, ACK | ECE, ACK | ECE | PSH][flags as usize];
        parts.payload.truncate(65535 - parts.headers());
        let packets = cut(&parts.large(size)).unwrap();
        let writes = merge(&mut Coalescer::new(true), &packets).writes;
        prop_assert_eq!(writes.len(), if parts.tcp { 1 } else { packets.len().div_ceil(64) });
        let again = writes.iter().flat_map(|bytes| match bytes[..wire::HEADER] {
            [0, ..] => vec![bytes[wire::HEADER..].to_vec()],
            _ => cut(bytes).unwrap(),
        });
        prop_assert_eq!(again.collect::<Vec<_>>(), packets);
    }

    #[test]
    fn what_is_merged_is_what_came_whatever_happened_to_it(batches in vec(traffic(), 1..3), udp in 0..8) {
        let mut coalescer = Coalescer::new(udp > 0);
        for packets in batches {
            merge(&mut coalescer, &packets);
        }
    }

    #[test]
    fn no_bytes_make_merging_panic_or_lose_any(packets in vec(vec(any::<u8>(), 0..90), 0..20)) {
        merge(&mut Coalescer::new(true), &packets);
    }

    #[test]
    fn no_bytes_make_cutting_panic(bytes in vec(any::<u8>(), 0..200)) {
        cut(&bytes);
    }

    #[test]
    fn a_damaged_large_packet_is_refused_or_cut_into_sound_packets(
        (parts, size) in large(),
        changes in vec((any::<Index>(), any::<u8>()), 0..5),
        end in any::<Index>(),
    ) {
        let mut written = parts.large(size.max(parts.payload.len().div_ceil(70) as u16));
        for (at, byte) in changes {
            // Most of the decisions are made on the first bytes.
            let near = at.index(written.len()).min(at.index(130));
            written[near] = byte;
        }
        if end.index(4) == 0 {
            written.truncate(end.index(written.len() + 1));
        }
        cut(&written);
    }

    #[test]
    fn a_header_reads_back_as_it_was_written(bytes: [u8; 10]) {
        let header = Header::parse(&bytes);
        prop_assert_eq!(Header::parse(&header.to_bytes()), header);
    }

    #[test]
    fn a_packet_of_its_own_gets_the_checksum_that_is_missing((parts, _) in large()) {
        let mut packet = parts.large(0).split_off(wire::HEADER);
        let (start, field) = (parts.transport() as u16, parts.checksum());
        let at = Checksum { start, offset: field as u16 - start };
        prop_assert_eq!(complete_checksum(at, &mut packet), Ok(()));
        let mut sound = parts.packet();
        // As the kernel's skb_checksum_help() writes it, for TCP, too.
        if sound[field..field + 2] == [0, 0] {
            sound[field..field + 2].fill(0xff);
        }
        prop_assert_eq!(packet, sound);
    }

    #[test]
    fn no_numbers_make_a_checksum_panic(start: u16, offset: u16, mut bytes in vec(any::<u8>(), 0..100), near: bool) {
        let (start, offset) = if near { (start % 100, offset % 100) } else { (start, offset) };
        let room = usize::from(start) + usize::from(offset) + 2 <= bytes.len();
        prop_assert_eq!(complete_checksum(Checksum { start, offset }, &mut bytes).is_ok(), room);
    }

    #[test]
    fn runs_are_cut_into_the_datagrams_that_were_joined(places in datagrams(), join in 0..8) {
        runs(&places, join > 0);
    }
}
