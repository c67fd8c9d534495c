//! The six steps, and `tap-arp`, on a real kernel, as a plain user and as root: what each promises, what it survives, and what it says
//! to each mistake. `interop` has the handout's programs in Python on the other end.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fixtures/mod.rs"]
mod fixtures;

mod clients;
mod ending;
mod log;
mod mistakes;
mod netns;
mod one_way;
mod privileges;
mod survival;
mod tap_arp;
mod tun_ping;
mod tun_read;
mod udp_sink;
mod vpn;

use common::Lab;
use fixtures::STEPS;
use fixtures::traffic::{CLIENT, has_route, vpn};

/// The lines of a step's result that are about IPv4: the kernel sends IPv6 packets of its own through a TUN device.
fn ipv4_lines(stdout: &str) -> Vec<String> {
    stdout.lines().filter(|line| line.contains("10.1.")).map(String::from).collect()
}

/// Whether a host forwards packets.
#[track_caller]
fn forwards(lab: &Lab, host: &str) -> bool {
    lab.sh(host, "cat /proc/sys/net/ipv4/ip_forward").ok().stdout == "1\n"
}

/// The last line of the log: what the step has done.
fn summary(stderr: &str) -> &str {
    stderr.lines().last().unwrap_or_default()
}
