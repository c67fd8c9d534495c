//! A large packet as a TUN device may hand it over: cut, merged and cut again, every packet is what it was at first.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::fast::coalesce::Coalescer;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, large)) = bytes.split_first() else { return };
    let Some(mut packets) = wire::judge::cut(large) else { return };
    // Another flow, or what only looks like one, between them.
    if first & 1 != 0 && packets.len() > 2 {
        let turn = usize::from(*first) % packets.len();
        packets.rotate_left(turn);
    }
    // The judge checks that the kernel would cut what is merged into these packets. So must this program.
    let merged = wire::judge::merge(&mut Coalescer::new(first & 2 == 0), &packets);
    let mut rest = merged.order.iter();
    for write in &merged.writes {
        let again = wire::judge::cut(write);
        let again = match again {
            Some(again) if write[1] != 0 => again,
            _ => vec![write[wire::HEADER..].to_vec()],
        };
        for packet in again {
            assert_eq!(packet, packets[*rest.next().unwrap()]);
        }
    }
    assert_eq!(rest.next(), None);
});
