//! Times the arithmetic of the fast path alone, without a kernel: `cargo bench`.
//!
//! Each line is one packet as TCP hands it to the TUN device, 64 KiB, or a batch of small UDP packets.

use std::hint::black_box;
use std::time::Instant;

use vpnlab::fast::coalesce::Coalescer;
use vpnlab::fast::segment::Cut;
use vpnlab::fast::vnet::{Checksum, Header, Segments};

const RUNS: u32 = 20_000;

fn main() {
    let (header, large) = large_packet();
    let cut = Cut::plan(&header, &large).expect("it can be cut");
    let mut segments = vec![0; cut.total()];
    time("cut 64 KiB into segments", || cut.cut(&large, &mut segments));
    time("  of which a plain copy", || black_box(&mut segments)[..large.len()].copy_from_slice(&large));
    cut.cut(&large, &mut segments);
    let mut ends = cut.lengths().scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    });
    let places: Vec<_> = ends.by_ref().collect();
    let mut coalescer = Coalescer::new(true);
    time("merge the segments again", || {
        let merged =
            coalescer.merge(&places, &segments, |large, members| match (large, members.len() == places.len()) {
                (Some(large), true) => Ok(black_box(large).len()).map(|_| ()),
                _ => Err(()),
            });
        assert_eq!(merged, Ok(()));
    });
}

fn time(what: &str, mut run: impl FnMut()) {
    run();
    let start = Instant::now();
    (0..RUNS).for_each(|_| run());
    println!("{what:30} {:8.2} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS));
}

/// 46 segments of 1420 bytes, IPv4, TCP with timestamps.
fn large_packet() -> (Header, Vec<u8>) {
    let mut packet = vec![0x5a; 52 + 46 * 1420];
    let length = (packet.len() as u16).to_be_bytes();
    packet[..20]
        .copy_from_slice(&[0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 3, 1, 10, 1, 1, 2]);
    packet[32] = 0x80;
    packet[33] = 0x10;
    let checksum = Some(Checksum { start: 20, offset: 16 });
    (Header { segments: Segments::TcpV4, header_length: 52, segment_size: 1420, checksum }, packet)
}
