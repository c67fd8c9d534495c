//! An MTU and any packet, cut into fragments: they fit, and are the packet again in any order. Then fragments that nobody
//! cut: what is put together is a packet, and what waits is bounded.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vpnlab::packet::{Reassembler, fragment, validate};

/// Whether a packet is whole, and its header what a fragment's header is made from: without options and extensions.
fn is_plain(packet: &[u8]) -> bool {
    match packet[0] {
        0x45 => wire::word(packet, 6) & 0xbfff == 0,
        first => first >> 4 == 6 && matches!(packet[6], 6 | 17 | 58 | 59 | 132),
    }
}

fn cut_and_put_together(packet: &[u8], mtu: usize, order: u8) {
    let mut pieces = Vec::new();
    if fragment(packet, mtu, 0x1234_5678, |piece| pieces.push(piece.to_vec())).is_err() {
        assert!(pieces.is_empty(), "what cannot be cut is not sent in parts");
        return;
    }
    assert!(pieces.iter().all(|piece| piece.len() <= mtu && validate(piece).is_ok()));
    if pieces.len() < 2 || !is_plain(packet) {
        return;
    }
    let turn = usize::from(order) % pieces.len();
    pieces.rotate_left(turn);
    if order & 1 == 1 {
        pieces.reverse();
    }
    let mut reassembler = Reassembler::new();
    let (last, others) = pieces.split_last().unwrap();
    for piece in others {
        assert!(reassembler.push(piece, Duration::ZERO).packet().is_none());
    }
    let whole = reassembler.push(last, Duration::ZERO);
    let whole = whole.packet().expect("it is whole with its last piece");
    if packet[0] == 0x45 {
        // The header's checksum is made anew.
        assert_eq!((&whole[..6], &whole[12..]), (&packet[..6], &packet[12..whole.len()]));
    } else {
        assert_eq!(whole, &packet[..whole.len()]);
    }
}

/// What the bytes say of fragments, six for each: offset, whether more follow, length, time, datagram, content.
fn forged(bytes: &[u8]) {
    let mut reassembler = Reassembler::with_limits(4, 10_000);
    let mut now = 0;
    for step in bytes.as_chunks::<6>().0 {
        let (length, ipv6) = (usize::from(step[3]) * 4, step[4] & 4 != 0);
        let data = vec![step[5]; length];
        now += u64::from(step[4] >> 4);
        let packet = if ipv6 {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
            wire::put(&mut packet, 4, (length + 8) as u16);
            packet.extend([0xfd; 32]);
            packet.extend([17, 0, step[0] & 0x0f, step[1] & 0xf8 | step[2] & 1, 0, 0, 0, step[4] & 3]);
            [packet, data].concat()
        } else {
            let mut packet =
                vec![0x45, 0, 0, 0, 0, step[4] & 3, step[0] & 0x1f | (step[2] & 1) << 5, step[1], 9, 17, 0, 0];
            packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            wire::put(&mut packet, 2, (length + 20) as u16);
            wire::seal_ipv4(&mut packet);
            [packet, data].concat()
        };
        if let Some(whole) = reassembler.push(&packet, Duration::from_secs(now)).packet() {
            assert!(validate(whole).is_ok());
        }
        assert!(reassembler.pending() <= 4);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([low, high, order], rest)) = bytes.split_first_chunk() else { return };
    cut_and_put_together(rest, usize::from(u16::from_le_bytes([*low, *high]) % 2048), *order);
    forged(rest);
    let mut reassembler = Reassembler::with_limits(4, 10_000);
    for seconds in [0, 0, 40, 30, u64::MAX] {
        reassembler.push(rest, Duration::from_secs(seconds));
    }
});
