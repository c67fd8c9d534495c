//! Runs src/fast and checks what comes of it.

use std::collections::HashMap;
use std::ops::Range;

use vpnlab::fast::coalesce::Coalescer;
use vpnlab::fast::segment::Cut;
use vpnlab::fast::udp;
use vpnlab::fast::vnet::Header;

use super::{HEADER, expand, seal, word};

/// What came of merging.
#[derive(Debug, Default)]
pub struct Merged {
    /// What is to be written to a TUN device: packets behind their headers.
    pub writes: Vec<Vec<u8>>,
    /// The packets by their numbers, in the order in which they are written.
    pub order: Vec<usize>,
}

/// Merges, and checks that what becomes of it in the kernel are the packets that came, in an order that keeps each flow's.
#[track_caller]
pub fn merge(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Merged {
    let (places, bytes) = back_to_back(packets);
    let mut merged = Merged::default();
    let result = coalescer.merge(&places, &bytes, |large, members| {
        let came = members.iter().map(|index| &packets[usize::from(*index)]);
        match large {
            Some(large) => {
                assert!(members.len() > 1 && expand(large).iter().eq(came), "{members:?}");
                merged.writes.push(large.to_vec());
            }
            None => {
                assert_eq!(members.len(), 1);
                merged.writes.extend(came.map(|packet| [&[0; HEADER], &packet[..]].concat()));
            }
        }
        merged.order.extend(members.iter().map(|index| usize::from(*index)));
        Ok::<_, ()>(())
    });
    assert_eq!(result, Ok(()));
    check_order(&merged.order, packets);
    merged
}

#[track_caller]
fn check_order(order: &[usize], packets: &[Vec<u8>]) {
    let mut once = order.to_vec();
    once.sort_unstable();
    assert!(once.into_iter().eq(0..packets.len()), "each packet is written once: {order:?}");
    let mut last = HashMap::new();
    for (position, index) in order.iter().enumerate() {
        match flow_of(&packets[*index]) {
            Some(flow) => assert!(last.insert(flow, *index).is_none_or(|last| last < *index), "{order:?}"),
            // It may belong to any flow, so nothing overtakes it, nor does it overtake anything.
            None => assert_eq!(position, *index, "{order:?}"),
        }
    }
}

/// A flow's name, if the packet is a whole one of a known flow.
fn flow_of(packet: &[u8]) -> Option<(u8, &[u8])> {
    let known = |protocol: u8, from: usize, to: usize| {
        let shortest = to - 4 + if protocol == 6 { 20 } else { 8 };
        (matches!(protocol, 6 | 17) && packet.len() >= shortest).then(|| (protocol, &packet[from..to]))
    };
    match packet {
        [0x45, ..] if packet.len() >= 20 => {
            let whole = word(packet, 2) == packet.len() && word(packet, 6) & 0x3fff == 0;
            whole.then(|| known(packet[9], 12, 24)).flatten()
        }
        [0x60..=0x6f, ..] if packet.len() >= 40 => {
            (word(packet, 4) + 40 == packet.len()).then(|| known(packet[6], 8, 44)).flatten()
        }
        _ => None,
    }
}

/// The packets one behind the other, and where each is.
pub fn back_to_back(packets: &[Vec<u8>]) -> (Vec<Range<usize>>, Vec<u8>) {
    let mut end = 0;
    let place = |packet: &Vec<u8>| {
        end += packet.len();
        end - packet.len()..end
    };
    (packets.iter().map(place).collect(), packets.concat())
}

/// Cuts what was read from a TUN device, or was to be written to one; checks that lengths and checksums are right.
#[track_caller]
pub fn cut(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (header, packet) = bytes.split_first_chunk()?;
    let cut = Cut::plan(&Header::parse(header), packet).ok()?;
    let mut room = vec![0x5a; cut.total() + 3];
    cut.cut(packet, &mut room);
    let mut rest = &room[..];
    let packets: Vec<_> = cut.lengths().map(|length| rest.split_off(..length).unwrap().to_vec()).collect();
    assert_eq!(rest, [0x5a; 3], "it writes as much as it says");
    assert_eq!(packets.len(), cut.count());
    let (at, tcp) = (usize::from(u16::from_ne_bytes([header[6], header[7]])), header[1] & 0x7f != 5);
    for packet in &packets {
        let mut sound = packet.clone();
        seal(&mut sound, at, tcp);
        assert_eq!(*packet, sound);
    }
    Some(packets)
}

/// Joins datagrams, and checks that what the kernel makes of the runs are the datagrams.
#[track_caller]
pub fn runs(places: &[Range<usize>], join: bool) {
    let mut joined = Vec::new();
    let to = std::net::SocketAddr::from(([192, 0, 2, 1], 9));
    udp::runs(places.iter().map(|place| (place.clone(), to)), join, &mut joined);
    let mut datagrams = Vec::new();
    for (run, whose) in &joined {
        assert_eq!(*whose, to);
        let Range { start, end } = run.place;
        let count = (end - start).div_ceil(run.size).max(1);
        assert_eq!(run.count(), count);
        assert!(count == 1 || join && count <= 64 && end - start <= 65507, "{run:?}");
        datagrams.extend((0..count).map(|at| start + at * run.size..end.min(start + (at + 1) * run.size)));
    }
    assert_eq!(datagrams, places);
}
