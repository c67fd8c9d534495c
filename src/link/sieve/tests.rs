//! The filter on the kernel's own sockets: what it lets through, and when.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{packet, sys};

/// A sample that a random number hardly ever hits: all 32 bits of it must be zero.
const NONE: u32 = 0;

fn networks(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|network| network.parse().unwrap()).collect()
}

fn sieve(outer: &[&str], inner: &[&str]) -> Sieve {
    Sieve { outer: networks(outer), inner: networks(inner) }
}

/// Two sockets of this host; one filters.
struct Wire {
    from: UdpSocket,
    to: UdpSocket,
}

impl Wire {
    fn new(host: &str, sieve: &Sieve, sample: u32) -> Self {
        let [from, to] = [(); 2].map(|()| UdpSocket::bind((host, 0)).unwrap());
        from.connect(to.local_addr().unwrap()).unwrap();
        to.set_nonblocking(true).unwrap();
        sys::filter(to.as_fd(), &sieve.assemble(sample)).unwrap();
        Self { from, to }
    }

    /// Whether the filter lets this payload through. On the loopback interface it is in the queue when it has been sent.
    fn lets_through(&self, payload: &[u8]) -> bool {
        self.from.send(payload).unwrap();
        self.to.recv(&mut [0; 2048]).is_ok()
    }
}

/// A packet of so many bytes, from there.
fn packet_from(source: &str, length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    match source.parse().unwrap() {
        IpAddr::V4(source) => {
            (packet[0], packet[9]) = (0x45, 17);
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[12..16].copy_from_slice(&source.octets());
        }
        IpAddr::V6(source) => {
            (packet[0], packet[6]) = (0x60, 17);
            packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
            packet[8..24].copy_from_slice(&source.octets());
        }
    }
    packet
}

#[test]
fn sources_of_the_clients_networks_pass_and_no_others() {
    let inner = sieve(&[], &["10.1.3.0/24", "192.168.7.128/25", "2001:db8:1:2::/64", "fe80::/10"]);
    for host in ["127.0.0.1", "::1"] {
        let wire = Wire::new(host, &inner, NONE);
        for source in ["10.1.3.0", "10.1.3.77", "192.168.7.128", "2001:db8:1:2:ffff::1", "febf::1"] {
            assert!(wire.lets_through(&packet_from(source, 60)), "{source}");
        }
        for source in ["10.1.2.77", "10.0.3.77", "192.168.7.127", "11.1.3.77", "2001:db8:1:3::1", "fec0::1", "::"] {
            assert!(!wire.lets_through(&packet_from(source, 60)), "{source}");
        }
    }
}

#[test]
fn without_networks_only_what_is_no_packet_is_refused() {
    let wire = Wire::new("127.0.0.1", &Sieve::default(), NONE);
    assert!(wire.lets_through(&packet_from("8.8.8.8", 20)));
    assert!(wire.lets_through(&packet_from("2001:db8::1", 40)));
    for junk in
        [&b""[..], b"E", b"hello, is there anybody at the other end?", &[0x45; 19], &packet_from("8.8.8.8", 60)[..59]]
    {
        assert!(!wire.lets_through(junk), "{junk:?}");
    }
    assert!(!wire.lets_through(&packet_from("2001:db8::1", 60)[..59]));
}

#[test]
fn only_outer_sources_that_may_speak_pass() {
    for (host, may, may_not) in [("127.0.0.1", "127.0.0.0/8", "127.0.0.2/32"), ("::1", "::/64", "::2/128")] {
        let good = packet_from("10.1.3.1", 20);
        assert!(Wire::new(host, &sieve(&["192.0.2.0/24", may], &[]), NONE).lets_through(&good));
        assert!(!Wire::new(host, &sieve(&["192.0.2.0/24", may_not], &[]), NONE).lets_through(&good));
        assert!(!Wire::new(host, &sieve(&[may], &["10.1.4.0/24"]), NONE).lets_through(&good));
    }
}

#[test]
fn more_networks_than_it_looks_for_are_left_to_the_program() {
    let many: Vec<IpNet> = (0..=MOST_NETWORKS as u8).map(|n| IpNet::new([10, n, 0, 0].into(), 16).unwrap()).collect();
    let all = Sieve { outer: many.clone(), inner: many[1..].to_vec() };
    assert!(!Wire::new("127.0.0.1", &all, NONE).lets_through(&packet_from("10.0.0.1", 20)));
    let all = Sieve { outer: Vec::new(), inner: many };
    assert!(Wire::new("127.0.0.1", &all, NONE).lets_through(&packet_from("11.0.0.1", 20)));
}

#[test]
fn a_sample_of_what_is_refused_passes() {
    let wire = Wire::new("127.0.0.1", &sieve(&[], &["10.1.3.0/24"]), SAMPLE);
    let passed = (0..20_000).filter(|_| wire.lets_through(b"no packet")).count();
    // 78 are expected, with a standard deviation of 9.
    assert!((30..130).contains(&passed), "{passed}");
    assert_eq!(sys::datagrams_dropped(wire.to.as_fd()).unwrap(), 20_000 - passed as u32);
}

#[test]
fn a_filter_that_is_taken_away_lets_everything_through() {
    let wire = Wire::new("127.0.0.1", &sieve(&[], &["10.1.3.0/24"]), NONE);
    assert!(!wire.lets_through(b"junk"));
    sys::filter(wire.to.as_fd(), &[]).unwrap();
    assert!(wire.lets_through(b"junk"));
}

proptest! {
    #[test]
    fn what_the_program_would_take_passes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x60, 0x6f, 0x00]),
        source in any::<[u8; 4]>(),
        prefix in 0_u8..=32,
    ) {
        let network = IpNet::new(source.into(), prefix).unwrap().trunc();
        if let [first, ..] = &mut bytes[..] {
            *first = version;
        }
        if version >> 4 == 4 && bytes.len() >= 20 {
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[12..14].copy_from_slice(&source[..2]);
        }
        let inner = vec![network, "2000::/3".parse().unwrap()];
        let taken = packet::validate(&bytes).is_ok_and(|ends| inner.iter().any(|network| network.contains(&ends.source)));
        let wire = Wire::new("127.0.0.1", &Sieve { outer: Vec::new(), inner }, NONE);
        prop_assert!(!taken || wire.lets_through(&bytes));
    }
}

#[test]
fn a_flood_begins_with_many_and_ends_when_there_are_few_for_a_while() {
    let mut flood = Flood::default();
    let mut tenth = 0;
    let mut look = |refused: u64, dropped: u64| {
        tenth += 1;
        (0..refused).for_each(|_| flood.refused());
        flood.look(Duration::from_millis(100 * tenth), || dropped).0
    };
    // What the kernel drops without a filter, it has no room for.
    assert_eq!(look(FLOOD - 1, 1 << 20), Look::Calm);
    assert_eq!(look(FLOOD, 0), Look::Begins);
    assert_eq!(look(8, 2000), Look::Lasts);
    assert_eq!(look(8, 0), Look::Lasts);
    assert_eq!(look(0, CALM + 1), Look::Lasts);
    assert_eq!((0..CALM_LOOKS).map(|_| look(0, CALM)).filter(|look| *look == Look::Lasts).count(), 9);
    assert_eq!(look(0, 0), Look::Calm);
    assert_eq!(flood.look(Duration::from_millis(100 * tenth + 99), || 1), (Look::NotYet, 0));
}
