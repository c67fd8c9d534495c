//! Times the server's table of clients alone, without a socket: `cargo bench --bench clients`.
//!
//! For each number of clients: what a packet costs that renews its entry and finds the way back, both by a random choice
//! of client, beside the same for one client and beside `std`'s bare hash table with as many entries; what a packet costs
//! that is refused, by a full table; and how much memory a client takes.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use vpnlab::link::{Peers, Refused};

const PACKETS: u32 = 4_000_000;
const TIMEOUT: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::from_secs(1000);

fn main() {
    println!("clients   ns/packet   of one client's   bare table   ns/refused   bytes/client");
    let one = Measured::of(1);
    one.print(&one);
    for clients in [10, 100, 1_000, 10_000, 100_000] {
        Measured::of(clients).print(&one);
    }
}

struct Measured {
    clients: u32,
    known: f64,
    bare: f64,
    refused: f64,
    bytes: f64,
}

impl Measured {
    fn of(clients: u32) -> Self {
        let before = resident();
        let mut peers = Peers::new(clients as usize, TIMEOUT);
        for client in 0..clients {
            assert!(peers.hear(inner(client), outer(client), NOW).is_ok());
        }
        let bytes = (resident() - before) as f64 / f64::from(clients);
        assert_eq!(peers.len(), clients as usize);
        let known = time(clients, |client| {
            assert!(peers.renew(inner(client), outer(client), NOW));
            black_box(peers.find(inner(client)));
        });
        let refused = time(clients, |client| {
            let stranger = outer(client | (1 << 30));
            assert_eq!(peers.hear(inner(client | (1 << 23)), stranger, NOW), Err(Refused::Full));
        });
        let mut bare: HashMap<IpAddr, (SocketAddr, u32)> =
            (0..clients).map(|client| (inner(client), (outer(client), 0))).collect();
        let bare = time(clients, |client| {
            bare.get_mut(&inner(client)).expect("it is there").1 += 1;
            black_box(bare.get(&inner(client)));
        });
        Self { clients, known, bare, refused, bytes }
    }

    fn print(&self, one: &Self) {
        let Self { clients, known, bare, refused, bytes } = self;
        // With few clients it is less than a page, which is all that the kernel tells of.
        let bytes = if *clients >= 1_000 { format!("{bytes:.0}") } else { "-".into() };
        let times = known / one.known;
        println!("{clients:7}   {known:9.1}   {times:15.2}   {bare:10.1}   {refused:10.1}   {bytes:>12}");
    }
}

/// Nanoseconds for each call; which client is a pseudorandom number (xorshift, Marsaglia 2003), as cheap as a loop.
fn time(clients: u32, mut run: impl FnMut(u32)) -> f64 {
    let mut state = 2_463_534_242_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        ((u64::from(state) * u64::from(clients)) >> 32) as u32
    };
    (0..PACKETS / 10).for_each(|_| run(next()));
    let start = processor_time();
    (0..PACKETS).for_each(|_| run(next()));
    (processor_time() - start).as_secs_f64() * 1e9 / f64::from(PACKETS)
}

/// What this process has used of a processor, so that other work on the machine counts little (clock_gettime(2)).
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).expect("the kernel has this clock")
}

fn inner(client: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + client).into()
}

/// A host and a port of its own.
fn outer(client: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x6440_0000 ^ client).into(), 1024 + (client % 60_000) as u16)
}

/// The memory that this process has resident, in bytes (proc_pid_statm(5)).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has numbers");
    pages * 4096
}
