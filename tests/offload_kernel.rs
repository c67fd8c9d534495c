//! The fast path's arithmetic against the kernel's own: what it cuts is what the kernel cuts, what it merges the kernel
//! cuts into what came, and the kernel finds nothing wrong with either.
//!
//! A host of the lab routes from one TUN device to another that takes no large packets (`fixtures/tun_router.py`).

mod common;
mod fixtures;
mod wire;

use common::eventually;
use fixtures::router::{ERRORS, Router};
use vpnlab::fast::coalesce::Coalescer;
use wire::judge::{Merged, cut, merge};
use wire::{ACK, CWR, ECE, FIN, PSH, Parts, noise, put, seal_ipv4};

/// The four kinds of packets, from a host behind the first device to one behind the second.
fn kinds() -> impl Iterator<Item = Parts> {
    [(true, false), (true, true), (false, false), (false, true)].into_iter().enumerate().map(|(number, (tcp, ipv6))| {
        Parts {
            ipv6,
            tcp,
            hosts: [5, 7],
            ports: [40000 + number as u16, 9],
            class: 0x2a,
            label: 0x12345,
            hops: 64,
            identification: 0xfffd,
            dont_fragment: number == 0,
            between: Vec::new(),
            sequence: 0xffff_f000,
            acknowledgment: 0x0102_0304,
            flags: ACK,
            window: 502,
            urgent: 0,
            options: Vec::new(),
            payload: noise(10 + number as u64, 65535),
        }
    })
}

/// Large packets of every kind, and the size of their segments.
fn large_packets() -> Vec<(Parts, u16)> {
    let mut all = Vec::new();
    for kind in kinds() {
        let mut add = |change: &dyn Fn(&mut Parts), length: usize, size: u16| {
            let mut parts = kind.clone();
            change(&mut parts);
            let most = (65535 - parts.headers()).min(if parts.tcp { 65535 } else { 64 * usize::from(size) });
            parts.payload.truncate(length.min(most));
            all.push((parts, size));
        };
        for (length, size) in [(3000, 1000), (3001, 1000), (2999, 1000), (1001, 1000), (300, 7), (2, 1), (65535, 1380)]
        {
            add(&|_| {}, length, size);
        }
        add(&|parts| parts.payload.fill(0), 1000, 300);
        add(&|parts| parts.payload.fill(0xff), 1001, 301);
        add(&|parts| (parts.class, parts.hops, parts.dont_fragment) = (0xff, 2, true), 1000, 300);
        add(&|parts| first_sums_to_zero(parts, 300), 1000, 300);
        let between = if kind.ipv6 { vec![0, 1, 4, 0, 0, 0, 0] } else { vec![1; 4] };
        add(&|parts| parts.between = between.clone(), 3001, 1000);
        if kind.tcp {
            for flags in [ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE, ACK | ECE | CWR | PSH | FIN, ACK | PSH | 0x20, 0]
            {
                add(&|parts| (parts.flags, parts.urgent) = (flags, 3), 3001, 1000);
            }
            for words in [1, 3, 10] {
                let options = noise(99, words * 4);
                add(&|parts| parts.options = options.clone(), 4000, 1380);
            }
        }
    }
    all
}

/// Changes the payload's first two bytes, so that the checksum of the first packet is zero.
fn first_sums_to_zero(parts: &mut Parts, size: usize) {
    parts.payload[..2].fill(0);
    let (first, field) = (&parts.pieces(size)[0], parts.checksum());
    parts.payload[..2].copy_from_slice(&first[field..field + 2]);
}

/// The packet behind a router (RFC 1812, section 5.3.1; RFC 8200, section 3).
fn routed(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        seal_ipv4(&mut packet);
    }
    packet
}

for_each_user! {
    fn the_kernel_cuts_a_large_packet_into_the_same_packets(user: User) {
        let mut router = Router::start(user);
        for (parts, size) in large_packets() {
            let large = parts.large(size);
            let expected: Vec<_> = cut(&large).unwrap().iter().map(|packet| routed(packet)).collect();
            router.write(&large);
            let packets = router.read(expected.len());
            let what = || format!("{} bytes in {size}: {:?}", parts.payload.len(), Parts { payload: vec![], ..parts.clone() });
            assert_eq!(packets.len(), expected.len(), "{}", what());
            for (index, (packet, expected)) in packets.iter().zip(&expected).enumerate() {
                assert_eq!(packet, expected, "packet {index} of {}", what());
            }
        }
    }

    fn the_kernel_cuts_what_was_merged_into_the_packets_that_came(user: User) {
        let mut router = Router::start(user);
        for (size, flags) in [(1000, ACK), (1380, ACK | PSH), (100, ACK | ECE), (9, ACK)] {
            let mut flows = Vec::new();
            for mut kind in kinds() {
                kind.payload.truncate((40 * size + size / 2).min(65535 - kind.headers()));
                kind.flags = flags;
                if kind.tcp && size == 1380 {
                    kind.options = noise(3, 32);
                }
                let mut pieces = kind.pieces(size);
                // Some that a router passes on, wrong as they are.
                *pieces[11].last_mut().unwrap() ^= 1;
                if !kind.tcp {
                    put(&mut pieces[20], kind.checksum(), 0);
                }
                flows.push(pieces);
            }
            let packets: Vec<_> = (0..41).flat_map(|turn| flows.iter().map(move |flow| flow[turn].clone())).collect();
            let Merged { writes, order } = merge(&mut Coalescer::new(true), &packets);
            assert!(writes.len() < 20, "{} packets in {} writes", packets.len(), writes.len());
            writes.iter().for_each(|bytes| router.write(bytes));
            let arrived = router.read(packets.len());
            assert_eq!(arrived.len(), packets.len());
            for (packet, index) in arrived.iter().zip(order) {
                assert_eq!(packet, &routed(&packets[index]), "packet {index}, size {size}");
            }
        }
    }

    fn the_kernel_finds_nothing_wrong(user: User) {
        let mut router = Router::start(user);
        let before = router.counters();
        let (mut segments, mut datagrams) = (0, 0);
        for (mut parts, size) in large_packets() {
            // The router itself.
            parts.hosts[1] = 254;
            let packets = cut(&parts.large(size)).unwrap();
            // Small ones of very many would only take time.
            for packet in packets.iter().take(100) {
                router.write_alone(packet);
                *if parts.tcp { &mut segments } else { &mut datagrams } += 1;
            }
        }
        let grown = |router: &mut Router, name: &str| router.counters()[name] - before[name];
        // It has looked at all of them.
        eventually("the kernel has counted every packet", || {
            grown(&mut router, "TcpInSegs") == segments
                && grown(&mut router, "UdpNoPorts") + grown(&mut router, "Udp6NoPorts") == datagrams
        });
        for name in ERRORS {
            assert_eq!(grown(&mut router, name), 0, "{name}");
        }

        // And it would have found a wrong bit.
        for (mut parts, (in_payload, in_header)) in kinds().zip([
            (&["TcpInErrs", "TcpInCsumErrors"], Some(["IpInHdrErrors", "IpExtInCsumErrors"])),
            (&["TcpInErrs", "TcpInCsumErrors"], None),
            (&["UdpInErrors", "UdpInCsumErrors"], Some(["IpInHdrErrors", "IpExtInCsumErrors"])),
            (&["Udp6InErrors", "Udp6InCsumErrors"], None),
        ]) {
            parts.hosts[1] = 254;
            parts.payload.truncate(1000);
            let spoiled = [(Some(*in_payload), parts.headers() + 300), (in_header, 11)];
            for (raised, at) in spoiled.into_iter().filter_map(|(raised, at)| raised.zip(Some(at))) {
                let counted = router.counters();
                let mut packet = cut(&parts.large(400)).unwrap().remove(0);
                packet[at] ^= 1;
                router.write_alone(&packet);
                eventually(&format!("the kernel counts {raised:?}"), || {
                    let now = router.counters();
                    raised.iter().all(|name| now[*name] == counted[*name] + 1)
                });
            }
        }
    }
}
