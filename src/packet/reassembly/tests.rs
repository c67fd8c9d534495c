//! Fragments in order, out of order, twice, too late, too many, and forged.

use super::super::fragment;
use super::super::samples::{data, v4, v4_fragment, v6};
use super::*;

const START: Duration = Duration::from_secs(1000);

fn pieces(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    fragment(packet, mtu, 7, |piece| pieces.push(piece.to_vec())).unwrap();
    pieces
}

/// A piece of the datagram of [`v4_fragment`]: `length` bytes of `fill` at `offset`.
fn v4_piece(offset: usize, length: usize, more: bool, fill: u8) -> Vec<u8> {
    v4_fragment(17, &[], (offset / 8) as u16 | if more { 0x2000 } else { 0 }, &vec![fill; length])
}

#[test]
fn a_whole_packet_is_given_back_as_it_is() {
    let packet = v4(17, &[], b"whole");
    let mut reassembler = Reassembler::new();
    assert_eq!(reassembler.push(&packet, START), Reassembled::Unfragmented(&packet));
    assert_eq!(reassembler.push(b"what?", START), Reassembled::Dropped(Dropped::NotIp(NotIp::Version(7))));
    assert_eq!(reassembler.pending(), 0);
}

#[test]
fn the_last_missing_piece_completes_the_packet_in_any_order() {
    let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
    let hop_by_hop = [&[17, 0, 5, 2, 0, 0, 1, 0][..], &data(100)].concat();
    for packet in [v4(17, &record_route, &data(100)), v6(0, &hop_by_hop)] {
        let pieces = pieces(&packet, packet.len() - 40);
        let [first, second] = &pieces[..] else { panic!("{} pieces", pieces.len()) };
        for order in [[first, second], [second, first]] {
            let mut reassembler = Reassembler::new();
            assert_eq!(reassembler.push(order[0], START), Reassembled::Incomplete);
            assert_eq!(reassembler.push(order[1], START).packet(), Some(&packet[..]));
            assert_eq!(reassembler.pending(), 0);
        }
    }
}

#[test]
fn the_same_piece_twice_does_no_harm() {
    let mut reassembler = Reassembler::new();
    let (first, last) = (v4_piece(0, 8, true, 1), v4_piece(8, 3, false, 2));
    for _ in 0..3 {
        assert_eq!(reassembler.push(&first, START), Reassembled::Incomplete);
    }
    assert!(reassembler.push(&last, START).packet().is_some());
}

#[test]
fn an_overlap_gives_the_datagram_up_for_good() {
    let table = [
        ("other bytes", v4_piece(16, 16, true, 9)),
        ("into the next", v4_piece(8, 16, true, 1)),
        ("into the previous", v4_piece(24, 16, true, 1)),
        ("around", v4_piece(8, 32, true, 1)),
        ("an end before what is there", v4_piece(8, 8, false, 1)),
        ("the same place, but the end", v4_piece(16, 16, false, 1)),
    ];
    for (what, intruder) in table {
        let mut reassembler = Reassembler::new();
        assert_eq!(reassembler.push(&v4_piece(16, 16, true, 1), START), Reassembled::Incomplete);
        assert_eq!(reassembler.push(&intruder, START), Reassembled::Dropped(Dropped::Overlap), "{what}");
        for rest in [v4_piece(0, 16, true, 1), v4_piece(32, 8, false, 1)] {
            assert_eq!(reassembler.push(&rest, START), Reassembled::Dropped(Dropped::GivenUp), "{what}");
        }
        // Once its time has passed, the identification may be used again.
        assert_eq!(reassembler.push(&v4_piece(0, 16, true, 1), START + V4_TIMEOUT), Reassembled::Incomplete);
    }
}

#[test]
fn nothing_comes_after_the_end() {
    for beyond in [v4_piece(16, 8, true, 1), v4_piece(16, 8, false, 1)] {
        let mut reassembler = Reassembler::new();
        assert_eq!(reassembler.push(&v4_piece(8, 8, false, 1), START), Reassembled::Incomplete);
        assert_eq!(reassembler.push(&beyond, START), Reassembled::Dropped(Dropped::Overlap));
    }
}

#[test]
fn a_piece_that_cannot_be_one_is_dropped_alone() {
    let mut broken = v4_piece(0, 8, true, 1);
    broken[8] ^= 1;
    let table = [
        (v4_piece(0, 7, true, 1), Dropped::BadLength),
        (v4_piece(8, 0, false, 1), Dropped::BadLength),
        (broken, Dropped::BadHeaderChecksum),
    ];
    for (piece, why) in table {
        let mut reassembler = Reassembler::new();
        assert_eq!(reassembler.push(&piece, START), Reassembled::Dropped(why));
        assert_eq!(reassembler.pending(), 0);
    }
}

#[test]
fn no_datagram_grows_beyond_65535_bytes() {
    let mut reassembler = Reassembler::new();
    assert_eq!(reassembler.push(&v4_piece(65528, 8, false, 1), START), Reassembled::Dropped(Dropped::TooLong));
    // The data would fit behind 20 bytes of header, but not behind these 24.
    let mut reassembler = Reassembler::new();
    let first = v4_fragment(17, &[1, 1, 1, 0], 0x2000, &[1; 65504]);
    assert_eq!(reassembler.push(&first, START), Reassembled::Incomplete);
    assert_eq!(reassembler.push(&v4_piece(65504, 11, false, 1), START), Reassembled::Dropped(Dropped::TooLong));
}

#[test]
fn an_ipv4_datagram_has_30_seconds_and_an_ipv6_packet_60() {
    for (packet, timeout) in [(v4(17, &[], &data(100)), 30), (v6(17, &data(100)), 60)] {
        let pieces = pieces(&packet, 100);
        let timeout = Duration::from_secs(timeout);
        let mut reassembler = Reassembler::new();
        reassembler.push(&pieces[0], START);
        reassembler.expire(START + timeout - Duration::from_nanos(1));
        assert_eq!(reassembler.pending(), 1);
        assert_eq!(reassembler.push(&pieces[1], START + timeout), Reassembled::Incomplete, "the first is forgotten");
        assert!(reassembler.push(&pieces[0], START + timeout).packet().is_some());
    }
}

#[test]
fn the_oldest_datagram_goes_when_there_are_too_many() {
    let of = |identification: u16| {
        let mut piece = v4_piece(0, 8, true, 1);
        piece[4..6].copy_from_slice(&identification.to_be_bytes());
        rewrite::set_v4_checksum(&mut piece[..20]);
        piece
    };
    let mut reassembler = Reassembler::with_limits(2, 1 << 20);
    for identification in 0..3 {
        reassembler.push(&of(identification), START + Duration::from_secs(identification.into()));
    }
    assert_eq!(reassembler.pending(), 2);
    let mut last = v4_piece(8, 8, false, 1);
    last[4..6].copy_from_slice(&[0, 1]);
    rewrite::set_v4_checksum(&mut last[..20]);
    assert!(reassembler.push(&last, START).packet().is_some(), "the second oldest is still there");
}

#[test]
fn the_memory_is_bounded() {
    let mut reassembler = Reassembler::with_limits(1000, 100_000);
    for identification in 0..1000_u16 {
        let mut piece = v4_piece(usize::from(identification) * 8, 8, true, 1);
        piece[4..6].copy_from_slice(&identification.to_be_bytes());
        rewrite::set_v4_checksum(&mut piece[..20]);
        assert_eq!(reassembler.push(&piece, START), Reassembled::Incomplete);
        assert!(reassembler.used() <= 100_000, "{} bytes", reassembler.used());
    }
    let mut small = Reassembler::with_limits(1, 1000);
    assert_eq!(small.push(&v4_piece(60000, 8, true, 1), START), Reassembled::Dropped(Dropped::NoRoom));
}

#[test]
fn an_atomic_ipv6_fragment_is_whole_whatever_else_bears_its_identification() {
    let first = v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 7][..], &data(16)].concat());
    let atomic = v6(44, &[&[17, 0, 0, 0, 0, 0, 0, 7][..], &data(5)].concat());
    let mut reassembler = Reassembler::new();
    assert_eq!(reassembler.push(&first, START), Reassembled::Incomplete);
    assert_eq!(reassembler.push(&atomic, START).packet(), Some(&v6(17, &data(5))[..]));
    assert_eq!(reassembler.pending(), 1);
}
