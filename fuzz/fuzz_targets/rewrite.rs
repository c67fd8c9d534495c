//! A source address and any packet: sent back under that source, its checksums are as right or wrong as they were.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vpnlab::packet::{reply_from, validate};

/// Whether the checksum of a TCP, UDP or ICMP message right behind the IP header is right; nothing where there is none.
fn transport_is_sound(packet: &[u8]) -> Option<bool> {
    let is_v4 = packet[0] >> 4 == 4;
    if is_v4 && wire::word(packet, 6) & 0x3fff != 0 {
        return None;
    }
    let header = if is_v4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let end = if is_v4 { wire::word(packet, 2) } else { 40 + wire::word(packet, 4) };
    let (protocol, message) = (if is_v4 { packet[9] } else { packet[6] }, &packet[header..end]);
    let (field, covered) = match protocol {
        1 => (2, Vec::new()),
        6 => (16, wire::sound::pseudo_header(packet, protocol, message.len())),
        17 => (6, wire::sound::pseudo_header(packet, protocol, message.len())),
        58 => (2, wire::sound::pseudo_header(packet, protocol, message.len())),
        _ => return None,
    };
    let stated = message.get(field..field + 2)?;
    (protocol != 17 || stated != [0, 0]).then(|| wire::checksum(&[&covered, message].concat()) == 0)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((source, packet)) = bytes.split_first_chunk::<16>() else { return };
    let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let source = if is_v4 { IpAddr::from(*source.first_chunk::<4>().unwrap()) } else { IpAddr::from(*source) };
    let mut out = [0; 70_000];
    if let Ok(new) = reply_from(packet, source, &mut out) {
        let (before, after) = (validate(packet).unwrap(), validate(new).unwrap());
        assert_eq!((after.source, after.destination), (source, before.source));
        assert_eq!(transport_is_sound(new), transport_is_sound(packet));
        if is_v4 {
            assert_eq!(wire::checksum(&new[..20]), 0, "the header checksum");
        }
        let needed = new.len();
        assert!(reply_from(packet, source, &mut vec![0; needed - 1]).is_err());
    }
});
