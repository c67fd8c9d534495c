//! src/packet against the kernel: it reads what the kernel makes, and the kernel finds nothing wrong with what it makes of it.
//!
//! A host of the lab has the kernel make packets for hosts behind a TUN device, which is the test: they are answered,
//! rewritten and refused, and what comes of it is written to the kernel.

mod common;
mod fixtures;
mod wire;

use std::collections::HashMap;
use std::time::Duration;

use common::eventually;
use fixtures::router::{ERRORS, Router};
use vpnlab::packet::{Reassembler, describe, echo_reply, fragment, reply_from, too_big};
use wire::sound;

/// Hosts behind the second device, of both versions, and what the router has for their neighbours.
const HOSTS: [(&str, &str); 2] = [("10.8.2.7", "10.8.2.9"), ("fd00::207", "fd00::209")];

const MTU: usize = 1500;

/// Reads what the kernel has made, one packet of this protocol, whole again where it came in pieces. Whatever else it says,
/// like that a port is closed, is passed over.
#[track_caller]
fn made(router: &mut Router, protocol: u8) -> Vec<u8> {
    let mut reassembler = Reassembler::new();
    loop {
        let piece = router.read(1).pop().expect("the kernel makes a packet");
        if let Some(packet) = reassembler.push(&piece, Duration::ZERO).packet() {
            if protocol == if packet[0] >> 4 == 4 { packet[9] } else { packet[6] } {
                return packet.to_vec();
            }
            continue;
        }
        assert_eq!(reassembler.pending(), 1, "the kernel's fragment was refused: {}", describe(&piece));
    }
}

/// Writes a packet in pieces that fit.
#[track_caller]
fn write(router: &mut Router, packet: &[u8]) {
    let mut pieces = Vec::new();
    fragment(packet, MTU, 0x7654_3210, |piece| pieces.push(piece.to_vec())).expect("it may be cut");
    pieces.iter().for_each(|piece| router.write_alone(piece));
}

#[track_caller]
fn rises(router: &mut Router, before: &HashMap<String, u64>, name: &str) {
    eventually(&format!("the kernel counts {name}"), || router.counters()[name] == before[name] + 1);
}

#[track_caller]
fn nothing_is_wrong(router: &mut Router, before: &HashMap<String, u64>) {
    let now = router.counters();
    for name in ERRORS {
        assert_eq!(now[name], before[name], "{name}");
    }
}

/// A bit of the payload is changed, and the kernel finds it.
#[track_caller]
fn a_wrong_bit_is_found(router: &mut Router, packet: &[u8], counts: &str) {
    let before = router.counters();
    let mut spoiled = packet.to_vec();
    *spoiled.last_mut().expect("it is a packet") ^= 1;
    router.write_alone(&spoiled);
    rises(router, &before, counts);
}

for_each_user! {
    fn the_kernels_ping_takes_our_replies(user: User) {
        let mut router = Router::start(user);
        let before = router.counters();
        let mut out = vec![0; 70_000];
        for (host, _) in HOSTS {
            for size in [0, 1, 56, 57, 1000, 1451, 1452, 1472, 1473, 3000, 20_001, 65_000] {
                router.ask(&format!("ping {host} {size}"));
                let request = made(&mut router, if host.contains(':') { 58 } else { 1 });
                sound::check(&request);
                let reply = echo_reply(&request, &mut out).unwrap_or_else(|why| panic!("{why}: {size} bytes for {host}"));
                sound::check(reply);
                write(&mut router, reply);
                assert_eq!(router.ask("pinged"), "0", "{size} bytes for {host}");
            }
        }
        nothing_is_wrong(&mut router, &before);

        for ((host, _), counts) in HOSTS.iter().zip(["IcmpInCsumErrors", "Icmp6InCsumErrors"]) {
            router.ask(&format!("ping {host} 56"));
            let request = made(&mut router, if host.contains(':') { 58 } else { 1 });
            let reply = echo_reply(&request, &mut out).unwrap();
            a_wrong_bit_is_found(&mut router, reply, counts);
            write(&mut router, reply);
            assert_eq!(router.ask("pinged"), "0");
        }
    }

    fn what_is_sent_back_from_another_address_is_right_for_the_kernel(user: User) {
        let mut router = Router::start(user);
        let mut out = vec![0; 70_000];
        for (host, other) in HOSTS {
            let is_v6 = host.contains(':');
            // No program has that port open: the kernel looks at the checksum first, and then says so.
            let (counted, wrong) =
                if is_v6 { ("Udp6NoPorts", "Udp6InCsumErrors") } else { ("UdpNoPorts", "UdpInCsumErrors") };
            for size in [1, 2, 3, 100, 1400, 5000] {
                let before = router.counters();
                router.ask(&format!("udp {host} {size}"));
                let packet = made(&mut router, 17);
                sound::check(&packet);
                let new = reply_from(&packet, other.parse().unwrap(), &mut out).unwrap();
                sound::check(new);
                write(&mut router, new);
                rises(&mut router, &before, counted);
                nothing_is_wrong(&mut router, &before);
                if size == 100 {
                    a_wrong_bit_is_found(&mut router, new, wrong);
                }
            }
            let before = router.counters();
            router.ask(&format!("tcp {host}"));
            let packet = made(&mut router, 6);
            sound::check(&packet);
            let new = reply_from(&packet, other.parse().unwrap(), &mut out).unwrap();
            sound::check(new);
            write(&mut router, new);
            rises(&mut router, &before, "TcpInSegs");
            nothing_is_wrong(&mut router, &before);
            a_wrong_bit_is_found(&mut router, new, "TcpInCsumErrors");
        }
    }

    fn the_kernel_believes_what_is_too_big(user: User) {
        let mut router = Router::start(user);
        let mut out = vec![0; 1280];
        for ((host, _), (told, wrong)) in HOSTS
            .iter()
            .zip([("IcmpInDestUnreachs", "IcmpInCsumErrors"), ("Icmp6InPktTooBigs", "Icmp6InCsumErrors")])
        {
            let before = router.counters();
            router.ask(&format!("udp {host} 1400"));
            let packet = made(&mut router, 17);
            let error = too_big(&packet, 1300, &mut out).unwrap();
            sound::check(error);
            router.write_alone(error);
            rises(&mut router, &before, told);
            nothing_is_wrong(&mut router, &before);
            // From now on it cuts what is longer.
            router.ask(&format!("udp {host} 1400"));
            let pieces = router.read(2);
            assert!(pieces.len() == 2 && pieces.iter().all(|piece| piece.len() <= 1300), "{pieces:?}");
            a_wrong_bit_is_found(&mut router, error, wrong);
        }
    }
}
