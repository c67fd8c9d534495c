//! The handout, a file for each of its programs: `tun_read` and `tun_ping` (step 1), `udp_sink` and `client` (step 2),
//! `server` (step 3), `vpn` (step 4); and `tap_arp`, which comes after it.
//!
//! Each file is read from the top: open what the step needs, then one loop that waits and hands packets on. How a TUN
//! device is configured, what is printed how often, and what is survived stands in the modules that they use. The steps
//! never import each other.

pub mod client;
pub mod examples;
pub mod options;
pub mod server;
pub mod tap_arp;
pub mod tun_ping;
pub mod tun_read;
pub mod udp_sink;
pub mod vpn;

use crate::packet;

/// The two addresses of a packet, `a ARROW b`: all that the handout shows of a packet inside the tunnel.
fn ends(packet: &[u8], arrow: &str) -> String {
    match packet::validate(packet) {
        Ok(ends) => format!("{} {arrow} {}", ends.source, ends.destination),
        Err(reason) => format!("{} bytes, no IP packet: {reason}", packet.len()),
    }
}
