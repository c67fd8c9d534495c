//! What is merged, and what never is.

use super::*;
use crate::fast::samples::Kind::{self, TcpV4, TcpV6, UdpV4, UdpV6};
use crate::fast::samples::{ALL, back_to_back, seal, sum_to_zero};
use crate::fast::segment::Cut;

/// Which packets are written together. Cut again, they are the packets that came.
#[track_caller]
fn merged_by(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<Vec<u16>> {
    let (places, bytes) = back_to_back(packets);
    let mut written = Vec::new();
    let result = coalescer.merge(&places, &bytes, |large, members| {
        if let Some(large) = large {
            let came: Vec<u8> = members.iter().flat_map(|index| packets[usize::from(*index)].clone()).collect();
            assert_eq!(cut(large), came, "{members:?}");
        }
        assert_eq!(large.is_some(), members.len() > 1, "{members:?}");
        written.push(members.to_vec());
        Ok::<_, ()>(())
    });
    assert_eq!(result, Ok(()));
    written
}

#[track_caller]
fn merged(packets: &[Vec<u8>]) -> Vec<Vec<u16>> {
    merged_by(&mut Coalescer::new(true), packets)
}

fn cut(large: &[u8]) -> Vec<u8> {
    let (header, packet) = large.split_first_chunk().unwrap();
    let cut = Cut::plan(&Header::parse(header), packet).unwrap();
    let mut packets = vec![0; cut.total()];
    cut.cut(packet, &mut packets);
    packets
}

/// Changes of the second of three packets.
type Changes<'c> = [(&'c str, &'c [Kind], fn(&mut Vec<u8>, Kind))];

/// Each change keeps the second packet from both others.
#[track_caller]
fn keep_apart(changes: &Changes<'_>, sealed: bool) {
    for (what, kinds, change) in changes {
        for kind in *kinds {
            let mut packets = kind.stream(&[100; 3]);
            assert_eq!(merged(&packets), [[0, 1, 2]], "{kind:?}");
            change(&mut packets[1], *kind);
            if sealed {
                seal(&mut packets[1]);
            }
            let apart = merged(&packets);
            assert!(apart.contains(&vec![1]), "{what}, {kind:?}: {apart:?}");
            assert!(apart.is_sorted(), "{what}, {kind:?}: {apart:?}");
        }
    }
}

const V4: &[Kind] = &[TcpV4, UdpV4];
const V6: &[Kind] = &[TcpV6, UdpV6];
const TCP_ONLY: &[Kind] = &[TcpV4, TcpV6];
const UDP_ONLY: &[Kind] = &[UdpV4, UdpV6];

#[test]
fn packets_that_follow_each_other_become_one() {
    for kind in ALL {
        assert_eq!(merged(&kind.stream(&[100, 100, 100, 100])), [[0, 1, 2, 3]], "{kind:?}");
        assert_eq!(merged(&kind.stream(&[1, 1])), [[0, 1]], "{kind:?}");
        assert_eq!(merged(&kind.stream(&[1401, 1401, 1])), [[0, 1, 2]], "{kind:?}");
    }
}

#[test]
fn nothing_comes_of_nothing() {
    assert!(merged(&[]).is_empty());
    assert_eq!(merged(&[vec![]]), [[0]]);
}

#[test]
fn nothing_joins_behind_a_shorter_segment() {
    for kind in ALL {
        assert_eq!(merged(&kind.stream(&[100, 50, 50, 50])), [vec![0, 1], vec![2, 3]], "{kind:?}");
        assert_eq!(merged(&kind.stream(&[100, 101])), [[0], [1]], "{kind:?}");
    }
}

#[test]
fn packets_without_payload_stay_alone() {
    for kind in ALL {
        assert_eq!(merged(&kind.stream(&[0, 0])), [[0], [1]], "{kind:?}");
        assert_eq!(merged(&kind.stream(&[100, 0, 100])), [[0], [1], [2]], "{kind:?}");
    }
}

#[test]
fn headers_that_differ_keep_packets_apart() {
    keep_apart(
        &[
            ("DSCP", V4, |packet, _| packet[1] ^= 0x04),
            ("ECN", V4, |packet, _| packet[1] ^= 0x01),
            ("don't fragment", V4, |packet, _| packet[6] ^= 0x40),
            ("the reserved flag", V4, |packet, _| packet[6] ^= 0x80),
            ("TTL", V4, |packet, _| packet[8] -= 1),
            ("DSCP", V6, |packet, _| packet[0] ^= 0x01),
            ("ECN", V6, |packet, _| packet[1] ^= 0x10),
            ("flow label", V6, |packet, _| packet[3] ^= 0x01),
            ("hop limit", V6, |packet, _| packet[7] -= 1),
            ("acknowledgment", TCP_ONLY, |packet, kind| packet[kind.transport() + 11] += 1),
            ("reserved bits", TCP_ONLY, |packet, kind| packet[kind.transport() + 12] |= 0x01),
            ("FIN", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x01),
            ("SYN", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x02),
            ("RST", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x04),
            ("no ACK", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] &= !0x10),
            ("URG", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x20),
            ("ECE", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x40),
            ("CWR", TCP_ONLY, |packet, kind| packet[kind.transport() + 13] |= 0x80),
            ("window", TCP_ONLY, |packet, kind| packet[kind.transport() + 15] ^= 1),
            ("urgent pointer", TCP_ONLY, |packet, kind| packet[kind.transport() + 19] = 1),
            ("timestamp", TCP_ONLY, |packet, kind| packet[kind.transport() + 27] += 1),
            ("fewer options", TCP_ONLY, |packet, kind| {
                packet[kind.transport() + 12] -= 0x30;
                packet.drain(kind.transport() + 20..kind.payload());
            }),
            ("options that were payload", TCP_ONLY, |packet, kind| packet[kind.transport() + 12] += 0x10),
            ("source", V4, |packet, _| packet[15] ^= 1),
            ("destination", V6, |packet, _| packet[39] ^= 1),
            ("port", &ALL, |packet, kind| packet[kind.transport() + 1] ^= 1),
        ],
        true,
    );
}

#[test]
fn a_header_may_be_longer_than_the_whole_packet_before() {
    for kind in [TcpV4, TcpV6] {
        let mut packets = kind.stream(&[1, 1]);
        packets[1][kind.transport() + 12] = 0xf0;
        packets[1].splice(kind.payload()..kind.payload(), [1; 28]);
        seal(&mut packets[1]);
        assert_eq!(merged(&packets), [[0], [1]], "{kind:?}");
    }
}

#[test]
fn a_header_shorter_than_tcp_has_keeps_packets_apart() {
    for kind in [TcpV4, TcpV6] {
        // What such a header would leave as payload is counted right.
        let packets: Vec<_> = (0..3).map(|number| short(kind.packet(number, number * 116, &[7; 100]), kind)).collect();
        assert_eq!(merged(&packets), [[0], [1], [2]], "{kind:?}");
    }
    fn short(mut packet: Vec<u8>, kind: Kind) -> Vec<u8> {
        packet[kind.transport() + 12] = 0x40;
        seal(&mut packet);
        packet
    }
}

#[test]
fn identifications_that_do_not_count_up_keep_packets_apart() {
    keep_apart(
        &[
            ("a gap", V4, |packet, _| packet[5] = packet[5].wrapping_add(1)),
            ("the same again", V4, |packet, _| packet[5] = packet[5].wrapping_sub(1)),
            ("upper byte", V4, |packet, _| packet[4] ^= 1),
        ],
        true,
    );
    let mut packets = UdpV4.stream(&[100; 3]);
    for packet in &mut packets {
        packet[4..6].fill(0);
        seal(packet);
    }
    assert_eq!(merged(&packets), [[0], [1], [2]], "always zero");
}

#[test]
fn gaps_and_repetitions_keep_segments_apart() {
    keep_apart(
        &[
            ("a byte missing", TCP_ONLY, |packet, kind| packet[kind.transport() + 7] += 1),
            ("a byte again", TCP_ONLY, |packet, kind| packet[kind.transport() + 7] -= 1),
            ("another half", TCP_ONLY, |packet, kind| packet[kind.transport() + 4] ^= 0x80),
        ],
        true,
    );
    for kind in [TcpV4, TcpV6] {
        let packets = kind.stream(&[100; 4]);
        let [a, b, c, d] = packets.try_into().unwrap();
        assert_eq!(merged(&[a.clone(), b.clone(), d.clone()]), [vec![0, 1], vec![2]], "{kind:?}");
        assert_eq!(merged(&[a.clone(), a.clone(), b.clone()]), [vec![0], vec![1, 2]], "{kind:?}");
        assert_eq!(merged(&[b, a, d, c]), [[0], [1], [2], [3]], "{kind:?}");
    }
}

#[test]
fn a_segment_that_pushes_ends_its_packet_and_begins_none() {
    for kind in [TcpV4, TcpV6] {
        let mut packets = kind.stream(&[100; 5]);
        packets[2][kind.transport() + 13] |= 0x08;
        seal(&mut packets[2]);
        assert_eq!(merged(&packets), [vec![0, 1, 2], vec![3, 4]], "{kind:?}");
        assert_eq!(merged(&packets[2..]), [vec![0], vec![1, 2]], "{kind:?}");
    }
}

#[test]
fn only_segments_in_the_middle_of_a_stream_are_merged() {
    for kind in [TcpV4, TcpV6] {
        for (flags, together) in [(0x10, true), (0x50, true), (0x11, false), (0x12, false), (0x14, false)]
            .into_iter()
            .chain([(0x18, false), (0x30, false), (0x90, false), (0xd0, false), (0x00, false), (0x40, false)])
        {
            let mut packets = kind.stream(&[100; 2]);
            for packet in &mut packets {
                packet[kind.transport() + 13] = flags;
                seal(packet);
            }
            assert_eq!(merged(&packets).len(), if together { 1 } else { 2 }, "{kind:?}, flags {flags:#x}");
        }
    }
}

#[test]
fn wrong_checksums_and_lengths_keep_packets_apart() {
    keep_apart(
        &[
            ("IPv4 header", V4, |packet, _| packet[11] ^= 1),
            ("TCP or UDP", &ALL, |packet, kind| packet[kind.checksum()] ^= 1),
            ("payload", &ALL, |packet, kind| packet[kind.payload() + 50] ^= 1),
            ("last byte", &ALL, |packet, _| *packet.last_mut().unwrap() ^= 1),
            ("none for UDP", UDP_ONLY, |packet, kind| put(packet, kind.checksum(), 0)),
            ("zero for TCP", TCP_ONLY, |packet, kind| put(packet, kind.checksum(), 0)),
            ("UDP length", UDP_ONLY, |packet, kind| {
                // The checksum sums up both: what goes to the one comes from the other.
                packet[kind.transport() + 5] -= 1;
                packet[kind.payload() + 51] += 1;
            }),
        ],
        false,
    );
}

#[test]
fn a_damaged_packet_parts_what_is_before_it_from_what_is_behind_it() {
    for kind in ALL {
        let mut packets = kind.stream(&[100; 6]);
        packets[3][kind.payload() + 7] ^= 1;
        assert_eq!(merged(&packets), [vec![0, 1, 2], vec![3], vec![4, 5]], "{kind:?}");
        packets[0][kind.payload() + 7] ^= 1;
        packets[4][kind.payload() + 7] ^= 1;
        assert_eq!(merged(&packets), [vec![0], vec![1, 2], vec![3], vec![4], vec![5]], "{kind:?}");
    }
}

#[test]
fn a_checksum_of_zero_that_the_kernel_would_write_otherwise_stays() {
    for kind in ALL {
        let mut packets = kind.stream(&[100; 3]);
        sum_to_zero(&mut packets[1], kind);
        assert_eq!(packets[1][kind.checksum()..][..2], if kind.tcp() { [0, 0] } else { [0xff, 0xff] });
        assert_eq!(merged(&packets), [[0, 1, 2]], "{kind:?}");
        packets[1][kind.checksum()..][..2].fill(if kind.tcp() { 0xff } else { 0 });
        assert_eq!(merged(&packets), [[0], [1], [2]], "{kind:?}");
    }
    for kind in [TcpV4, UdpV4] {
        let mut packets = kind.stream(&[100; 3]);
        let checksum: [u8; 2] = packets[1][10..12].try_into().unwrap();
        let sum = Sum::default().add(&checksum).add(&packets[1][14..16]).folded();
        for packet in &mut packets {
            put(packet, 14, sum);
            seal(packet);
        }
        assert_eq!(packets[1][10..12], [0, 0]);
        assert_eq!(merged(&packets), [[0, 1, 2]], "{kind:?}");
        packets[1][10..12].fill(0xff);
        assert_eq!(merged(&packets), [[0], [1], [2]], "{kind:?}");
    }
}

#[test]
fn packets_of_another_shape_stay_alone() {
    fn extended(packet: &mut Vec<u8>, kind: Kind) {
        // Destination options: PadN over all of it.
        let next = std::mem::replace(&mut packet[6], 60);
        packet.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        let length = packet.len() - 40;
        put(packet, 4, length as u16);
        assert!(kind.ipv6());
    }
    fn optional(packet: &mut Vec<u8>, _: Kind) {
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 1]);
        seal(packet);
    }
    fn sealed(packet: &mut [u8], at: usize, byte: u8) {
        packet[at] = byte;
        seal(packet);
    }
    let shapes: &Changes<'_> = &[
        ("IPv4 options", V4, optional),
        ("IPv6 extension header", V6, extended),
        ("the first fragment", V4, |packet, _| sealed(packet, 6, 0x20)),
        ("a later fragment", V4, |packet, _| sealed(packet, 7, 0x10)),
        ("a far fragment", V4, |packet, _| sealed(packet, 6, 0x10)),
        ("another protocol", V4, |packet, _| sealed(packet, 9, 47)),
        ("another protocol", V6, |packet, _| sealed(packet, 6, 58)),
        ("bytes behind it", &ALL, |packet, _| packet.push(0)),
        ("cut off", &ALL, |packet, _| packet.truncate(packet.len() - 1)),
        ("cut off in the header", &ALL, |packet, kind| packet.truncate(kind.payload() - 1)),
        ("cut off in IP's header", &ALL, |packet, _| packet.truncate(9)),
        ("nothing of it", &ALL, |packet, _| packet.clear()),
        ("another version", &ALL, |packet, _| packet[0] ^= 0x10),
        ("too short a header", TCP_ONLY, |packet, kind| {
            sealed(packet, kind.transport() + 12, 0x40);
        }),
        ("too long a header", TCP_ONLY, |packet, kind| {
            packet.truncate(kind.payload());
            sealed(packet, kind.transport() + 12, 0xf0);
        }),
    ];
    keep_apart(shapes, false);
    // Nor do they keep each other company.
    for (what, kinds, change) in shapes {
        for kind in *kinds {
            let mut packets = kind.stream(&[100; 3]);
            packets.iter_mut().for_each(|packet| change(packet, *kind));
            assert_eq!(merged(&packets), [[0], [1], [2]], "{what}, {kind:?}");
        }
    }
}

#[test]
fn nothing_overtakes_a_packet_whose_flow_is_unknown() {
    for kind in ALL {
        let mut packets = kind.stream(&[100; 4]);
        packets.insert(2, vec![0; 60]);
        assert_eq!(merged(&packets), [vec![0, 1], vec![2], vec![3, 4]], "{kind:?}");
    }
}

#[test]
fn flows_are_told_apart() {
    let mut flows: Vec<_> = ALL.into_iter().map(|kind| kind.stream(&[100; 3])).collect();
    let (mut other_port, mut other_host) = (TcpV4.stream(&[100; 3]), UdpV6.stream(&[100; 3]));
    for (one, other) in other_port.iter_mut().zip(&mut other_host) {
        one[21] ^= 1;
        other[23] ^= 1;
        seal(one);
        seal(other);
    }
    flows.extend([other_port, other_host]);
    let packets: Vec<_> = (0..3).flat_map(|index| flows.iter().map(move |flow| flow[index].clone())).collect();
    assert_eq!(merged(&packets), [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 16], [5, 11, 17]]);
}

#[test]
fn a_large_packet_is_no_larger_than_ip_and_the_kernel_take() {
    for kind in ALL {
        let sizes = |written: Vec<Vec<u16>>| written.iter().map(Vec::len).collect::<Vec<_>>();
        let fit = (65535 - kind.payload()) / 1400;
        assert_eq!(sizes(merged(&kind.stream(&vec![1400; fit + 2]))), [fit, 2], "{kind:?}");
        // Full to the last byte, and one byte too many.
        let half = (65535 - kind.payload()) / 2;
        let rest = 65535 - kind.payload() - half;
        assert_eq!(sizes(merged(&kind.stream(&[rest, half]))), [2], "{kind:?}");
        assert_eq!(sizes(merged(&kind.stream(&[rest, half + 1]))), [1, 1], "{kind:?}");
        let counted = sizes(merged(&kind.stream(&[1; 130])));
        assert_eq!(counted, if kind.tcp() { vec![130] } else { vec![64, 64, 2] }, "{kind:?}");
    }
}

#[test]
fn packets_of_the_largest_size_pass() {
    for kind in ALL {
        let most = 65535 - if kind.ipv6() { kind.payload() - 40 } else { kind.payload() };
        assert_eq!(merged(&kind.stream(&[most, most])), [[0], [1]], "{kind:?}");
    }
}

#[test]
fn datagrams_stay_alone_where_the_kernel_does_not_take_them_together() {
    let mut never = Coalescer::new(false);
    let mut no_longer = Coalescer::new(true);
    no_longer.leave_udp();
    for coalescer in [&mut never, &mut no_longer] {
        assert_eq!(merged_by(coalescer, &UdpV4.stream(&[100; 2])), [[0], [1]]);
        assert_eq!(merged_by(coalescer, &UdpV6.stream(&[100; 2])), [[0], [1]]);
        assert_eq!(merged_by(coalescer, &TcpV6.stream(&[100; 2])), [[0, 1]]);
    }
}

#[test]
fn one_batch_leaves_nothing_for_the_next() {
    let mut coalescer = Coalescer::new(true);
    for kind in ALL {
        let packets = kind.stream(&[100; 4]);
        assert_eq!(merged_by(&mut coalescer, &packets), [[0, 1, 2, 3]], "{kind:?}");
        assert_eq!(merged_by(&mut coalescer, &packets[..1]), [[0]], "{kind:?}");
        assert_eq!(merged_by(&mut coalescer, &packets[1..]), [[0, 1, 2]], "{kind:?}");
    }
}

#[test]
fn the_first_error_ends_the_writing() {
    let (places, bytes) = back_to_back(&[UdpV4.stream(&[100, 50, 50]), UdpV6.stream(&[100])].concat());
    let mut asked = 0;
    let result = Coalescer::new(true).merge(&places, &bytes, |_, _| {
        asked += 1;
        if asked == 2 { Err("full") } else { Ok(()) }
    });
    assert_eq!((result, asked), (Err("full"), 2));
}

#[test]
fn the_header_for_the_kernel_says_how_to_cut() {
    for (kind, segments) in ALL.into_iter().zip([Segments::TcpV4, Segments::TcpV6, Segments::Udp, Segments::Udp]) {
        let (places, bytes) = back_to_back(&kind.stream(&[100, 100, 9]));
        let mut seen = Vec::new();
        let write = |large: Option<&[u8]>, _: &[u16]| {
            seen.extend(large.map(|large| Header::parse(large.first_chunk().unwrap())));
            Ok::<_, ()>(())
        };
        assert_eq!(Coalescer::new(true).merge(&places, &bytes, write), Ok(()));
        let (start, end) = (kind.transport() as u16, kind.checksum() as u16);
        let checksum = Some(Checksum { start, offset: end - start });
        let header = Header { segments, header_length: kind.payload() as u16, segment_size: 100, checksum };
        assert_eq!(seen, [header], "{kind:?}");
    }
}
