//! Properties of the packet module, judged by straightforward readers of our own: no panic whatever the bytes, replies
//! that are valid packets, and fragments that become the packet again.

mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use vpnlab::packet::{
    Frame, Mac, Reassembler, arp_reply, describe, describe_frame, echo_reply, echo_reply_in_frame, ethertype, fragment,
    hex_dump, reply_from, too_big, validate,
};
use wire::sound::{check, pseudo_header};
use wire::{checksum, put};

prop_compose! {
    /// An address of a single host.
    fn host_v4()(octets: [u8; 4]) -> [u8; 4] {
        [octets[0].clamp(1, 223), octets[1], octets[2], octets[3]]
    }
}

prop_compose! {
    fn host_v6()(octets: [u8; 16]) -> [u8; 16] {
        let mut octets = octets;
        octets[0] = 0xfd;
        octets
    }
}

/// A packet of either version, sound in every respect: the transport's checksum is put at `field`, where there is one.
fn packet_of(protocol: u8, field: Option<usize>, payload: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let v4 = (host_v4(), host_v4(), any::<[u8; 2]>(), vec(Just(1_u8), 0..=10)).prop_map({
        let payload = payload.clone();
        move |(source, destination, id, words)| {
            let header = 20 + words.len() * 4;
            let mut packet = vec![0; header];
            packet[0] = 0x40 | (header / 4) as u8;
            put(&mut packet, 2, (header + payload.len()) as u16);
            packet[4..6].copy_from_slice(&id);
            packet[8..10].copy_from_slice(&[7, protocol]);
            packet[12..16].copy_from_slice(&source);
            packet[16..20].copy_from_slice(&destination);
            packet[20..].fill(1);
            let sum = checksum(&packet);
            put(&mut packet, 10, sum);
            packet.extend(&payload);
            with_checksum(packet, header, protocol, field)
        }
    });
    let v6 = (host_v6(), host_v6(), any::<[u8; 3]>()).prop_map(move |(source, destination, class)| {
        let next = if protocol == 1 { 58 } else { protocol };
        let mut packet = vec![0x60 | class[0] >> 4, class[0] << 4 | class[1] & 15, class[2], 0, 0, 0, next, 9];
        put(&mut packet, 4, payload.len() as u16);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(&payload);
        if next == 58 && packet.get(40) == Some(&8) {
            packet[40] = 128;
        }
        with_checksum(packet, 40, next, field)
    });
    prop_oneof![v4, v6]
}

fn with_checksum(mut packet: Vec<u8>, header: usize, protocol: u8, field: Option<usize>) -> Vec<u8> {
    let Some(at) = field.map(|field| header + field) else { return packet };
    put(&mut packet, at, 0);
    let mut covered = if protocol == 1 { vec![] } else { pseudo_header(&packet, protocol, packet.len() - header) };
    covered.extend(&packet[header..]);
    let sum = checksum(&covered);
    put(&mut packet, at, sum);
    packet
}

fn echo_request() -> impl Strategy<Value = Vec<u8>> {
    (any::<[u8; 4]>(), vec(any::<u8>(), 0..1500)).prop_flat_map(|(id_and_sequence, data)| {
        packet_of(1, Some(2), [&[8, 0, 0, 0][..], &id_and_sequence, &data].concat())
    })
}

fn tcp_or_udp() -> impl Strategy<Value = Vec<u8>> {
    let segment = vec(any::<u8>(), 20..600);
    (prop_oneof![Just((6, 16)), Just((17, 6))], segment)
        .prop_flat_map(|((protocol, field), segment)| packet_of(protocol, Some(field), segment))
}

fn unknown() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..5000).prop_flat_map(|payload| packet_of(253, None, payload))
}

/// Sound packets with some bytes changed and some gone.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop_oneof![echo_request(), tcp_or_udp(), unknown()], changes, any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(mut packet, changes, end, cut)| {
            for (at, byte) in changes {
                // Most of the decisions are made on the first bytes.
                let near = at.index(packet.len()).min(at.index(80));
                packet[near] = byte;
            }
            if cut {
                packet.truncate(end.index(packet.len() + 1));
            }
            packet
        })
}

/// Bytes that a dissector takes for a chain of headers: a sound start, then any small numbers.
fn chained() -> impl Strategy<Value = Vec<u8>> {
    let small =
        prop_oneof![0_u8..8, Just(41), Just(43), Just(44), Just(51), Just(58), Just(60), 128_u8..156, any::<u8>()];
    (prop_oneof![Just(4), Just(41), Just(43), Just(58), Just(0), Just(44), Just(47)], vec(small, 0..400))
        .prop_flat_map(|(protocol, payload)| packet_of(protocol, None, payload))
}

fn use_everything(bytes: &[u8]) {
    let mut out = [0; 70_000];
    let valid = validate(bytes);
    assert!(!describe(bytes).is_empty());
    let dump = hex_dump(bytes);
    assert_eq!(dump.lines().count(), bytes.len().div_ceil(16));
    for size in [0, 27, 60, out.len()] {
        let _ = echo_reply(bytes, &mut out[..size]);
        for source in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let _ = reply_from(bytes, source, &mut out[..size]);
        }
    }
    for mtu in [0, 1, 20, 28, 48, 56, 68, 100, 1280] {
        let mut longest = 0;
        if fragment(bytes, mtu, 1, |piece| longest = longest.max(piece.len())).is_ok() {
            assert!(longest <= mtu && valid.is_ok());
        }
        for size in [0, 27, 575, out.len()] {
            if let Ok(error) = too_big(bytes, mtu, &mut out[..size]) {
                check(error);
                assert!(valid.is_ok());
            }
        }
    }
    let mut reassembler = Reassembler::with_limits(4, 10_000);
    for seconds in [0, 0, 40, 30, u64::MAX] {
        reassembler.push(bytes, Duration::from_secs(seconds));
    }
}

const OURS: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);

prop_compose! {
    /// A frame with an ARP request of a single host for another one, and any bytes behind it.
    fn arp_request()(
        mac: [u8; 6], sender in host_v4(), target in host_v4(), there: [u8; 6], to_all: bool, padding in vec(any::<u8>(), 0..20)
    ) -> Vec<u8> {
        let mac = [mac[0] & 0xfe, mac[1], mac[2], mac[3], mac[4], mac[5] | 1];
        let target = if target == sender { [1, 2, 3, sender[3] ^ 1] } else { target };
        let destination = if to_all { Mac::BROADCAST } else { OURS };
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        [&destination.0[..], &mac, &[8, 6], &head, &mac, &sender, &there, &target, &padding].concat()
    }
}

fn damaged_frame() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((0_usize..60, any::<u8>()), 0..4);
    let framed = (damaged(), any::<[u8; 12]>(), any::<bool>()).prop_map(|(packet, ends, is_v4)| {
        let kind = if is_v4 { ethertype::IPV4 } else { ethertype::IPV6 };
        [&ends[..], &kind.to_be_bytes(), &packet].concat()
    });
    (prop_oneof![arp_request(), framed], changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, end, cut)| {
            for (at, byte) in changes.into_iter().filter(|(at, _)| *at < frame.len()).collect::<Vec<_>>() {
                frame[at] = byte;
            }
            if cut {
                frame.truncate(end.index(frame.len() + 1));
            }
            frame
        },
    )
}

/// Whatever a TAP device may hand over: described in one line, and answered by nothing, or by a whole frame from us.
fn use_frame(bytes: &[u8]) {
    let line = describe_frame(bytes);
    assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
    let Ok(frame) = Frame::parse(bytes) else { return assert!(bytes.len() < 14) };
    let mut out = [0; 70_000];
    if let Ok(reply) = arp_reply(&frame, OURS, |_| true, &mut out) {
        assert_eq!(reply.len(), 42);
        assert_eq!(Frame::parse(reply).unwrap().source, OURS);
        assert_eq!(reply[20..22], [0, 2]);
    }
    if let Ok(reply) = echo_reply_in_frame(&frame, &mut out) {
        let reply = Frame::parse(reply).unwrap();
        assert_eq!((reply.destination, reply.source), (frame.source, frame.destination));
        assert_eq!(check(reply.payload).0, 1);
    }
    for size in [0, 13, 14, 41] {
        assert!(arp_reply(&frame, OURS, |_| true, &mut out[..size]).is_err());
        let _ = echo_reply_in_frame(&frame, &mut out[..size]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_anything_panic(bytes in vec(any::<u8>(), 0..200)) {
        use_everything(&bytes);
    }

    #[test]
    fn no_frame_makes_anything_panic(bytes in vec(any::<u8>(), 0..100), frame in damaged_frame()) {
        use_frame(&bytes);
        use_frame(&frame);
    }

    #[test]
    fn every_sound_arp_request_is_answered_with_the_addresses_exchanged(request in arp_request()) {
        let mut out = [0; 42];
        let reply = arp_reply(&Frame::parse(&request).unwrap(), OURS, |_| true, &mut out).unwrap();
        prop_assert_eq!(&reply[..6], &request[22..28]);
        prop_assert_eq!((&reply[6..12], &reply[12..20], &reply[20..22]), (&OURS.0[..], &request[12..20], &[0, 2][..]));
        prop_assert_eq!((&reply[22..28], &reply[28..32]), (&OURS.0[..], &request[38..42]));
        prop_assert_eq!((&reply[32..38], &reply[38..42]), (&request[22..28], &request[28..32]));
        let again = arp_reply(&Frame::parse(reply).unwrap(), OURS, |_| true, &mut [0; 42]).is_err();
        prop_assert!(again, "a reply is not answered");
        let nobody = arp_reply(&Frame::parse(&request).unwrap(), OURS, |_| false, &mut [0; 42]).is_err();
        prop_assert!(nobody);
    }

    #[test]
    fn no_damaged_packet_makes_anything_panic(packet in damaged()) {
        use_everything(&packet);
    }

    #[test]
    fn no_chain_of_headers_makes_anything_panic(packet in chained()) {
        use_everything(&packet);
    }

    #[test]
    fn every_sound_echo_request_gets_a_sound_reply(request in echo_request()) {
        let mut out = [0; 2048];
        let reply = echo_reply(&request, &mut out).unwrap();
        let (asked, question) = check(&request);
        let (answered, answer) = check(reply);
        prop_assert_eq!(asked, answered);
        prop_assert_eq!(answer[0], if asked == 1 { 0 } else { 129 });
        prop_assert_eq!(&answer[4..], &question[4..]);
        let (from, to) = (validate(&request).unwrap(), validate(reply).unwrap());
        prop_assert_eq!((from.source, from.destination), (to.destination, to.source));
    }

    #[test]
    fn the_sender_of_a_large_packet_is_told_by_a_sound_error_that_is_not_too_large_itself(
        packet in prop_oneof![echo_request(), tcp_or_udp(), unknown()], mtu in 0_usize..70_000
    ) {
        let mut out = [0; 1280];
        let (told, from) = (too_big(&packet, mtu, &mut out), validate(&packet).unwrap());
        if matches!(from.source, IpAddr::V4(source) if source.is_loopback()) {
            prop_assert!(told.is_err());
            return Ok(());
        }
        let error = told.unwrap();
        let (protocol, message) = check(error);
        let (longest, kind, least, most) =
            if protocol == 1 { (576, [3, 4], 68, 65535) } else { (1280, [2, 0], 1280, 70_000) };
        prop_assert_eq!(&message[..2], &kind);
        prop_assert_eq!(u32::from_be_bytes(message[4..8].try_into().unwrap()) as usize, mtu.clamp(least, most));
        prop_assert!(packet.starts_with(&message[8..]), "it quotes the packet's beginning");
        prop_assert_eq!(error.len(), longest.min(error.len() - message.len() + 8 + packet.len()));
        let to = validate(error).unwrap();
        prop_assert_eq!((from.source, from.destination), (to.destination, to.source));
        prop_assert!(too_big(error, mtu, &mut [0; 1280]).is_err(), "an error is not answered by another");
    }

    #[test]
    fn a_packet_under_another_source_is_sound(packet in tcp_or_udp(), v4: [u8; 4], v6: [u8; 16]) {
        let ends = validate(&packet).unwrap();
        let source = if ends.source.is_ipv4() { IpAddr::from(v4) } else { IpAddr::from(v6) };
        let mut out = [0; 2048];
        let new = reply_from(&packet, source, &mut out).unwrap();
        let (protocol, segment) = check(&packet);
        let (new_protocol, new_segment) = check(new);
        let field = if protocol == 6 { 16 } else { 6 };
        prop_assert_eq!(protocol, new_protocol);
        prop_assert_eq!(&segment[..field], &new_segment[..field]);
        prop_assert_eq!(&segment[field + 2..], &new_segment[field + 2..]);
        let new = validate(new).unwrap();
        prop_assert_eq!((new.source, new.destination), (source, ends.source));
    }

    #[test]
    fn fragments_in_any_order_become_the_packet_again(
        (packet, pieces) in (prop_oneof![tcp_or_udp(), unknown()], 60_usize..1600).prop_flat_map(|(packet, mtu)| {
            let mut pieces = Vec::new();
            // The largest IPv4 header leaves no room below 68 bytes, RFC 791's least MTU.
            fragment(&packet, mtu.max(68), 0x1234_5678, |piece| pieces.push(piece.to_vec())).unwrap();
            (Just(packet), Just(pieces).prop_shuffle())
        })
    ) {
        let mut reassembler = Reassembler::new();
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            let is_whole = reassembler.push(piece, Duration::ZERO).packet().is_some();
            prop_assert!(!is_whole);
        }
        let whole = reassembler.push(last, Duration::ZERO);
        prop_assert_eq!(whole.packet(), Some(&packet[..]));
        prop_assert_eq!(reassembler.pending(), 0);
    }

    #[test]
    fn forged_fragments_never_yield_what_was_not_sent(
        pieces in vec((0_u16..6, any::<bool>(), 1_usize..20, 0_u8..2), 1..20)
    ) {
        let mut reassembler = Reassembler::new();
        for (offset, more, length, fill) in pieces {
            let mut packet = vec![0x45, 0, 0, 20 + length as u8, 0, 1, 0, 0, 9, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            put(&mut packet, 6, offset | if more { 0x2000 } else { 0 });
            let sum = checksum(&packet);
            put(&mut packet, 10, sum);
            packet.extend(vec![fill; length]);
            if let Some(whole) = reassembler.push(&packet, Duration::ZERO).packet() {
                prop_assert!(validate(whole).is_ok());
                prop_assert!(whole.len() <= 20 + 5 * 8 + 20);
            }
        }
    }
}
