//! The six steps on a real kernel, as a plain user and as root: what each promises, what it survives, and what it says
//! to each mistake. `interop` has the handout's programs in Python on the other end.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fixtures/mod.rs"]
mod fixtures;

mod ending;
mod log;
mod mistakes;
mod netns;
mod one_way;
mod survival;
mod tun_ping;
mod tun_read;
mod udp_sink;
mod vpn;

use common::{Lab, eventually};
use fixtures::Running;

/// The client's address in the tunnel.
const CLIENT: &str = "10.1.3.1";

/// Where the six steps run, with the arguments that each needs.
const STEPS: [(&str, &[&str]); 7] = [
    ("useru", &["tun-read"]),
    ("useru", &["tun-ping"]),
    ("server", &["udp-sink"]),
    ("useru", &["client"]),
    ("server", &["server"]),
    ("useru", &["vpn", "--role", "client"]),
    ("server", &["vpn", "--role", "server"]),
];

/// The lines of a step's result that are about IPv4: the kernel sends IPv6 packets of its own through a TUN device.
fn ipv4_lines(stdout: &str) -> Vec<String> {
    stdout.lines().filter(|line| line.contains("10.1.")).map(String::from).collect()
}

/// Waits until the kernel leads packets for the private network into the tunnel.
#[track_caller]
fn has_route(lab: &Lab) {
    eventually("the private network is reached through tun0", || {
        lab.sh("useru", "ip route get 10.1.1.2").ok().stdout.contains("dev tun0")
    });
}

/// Whether a host forwards packets.
#[track_caller]
fn forwards(lab: &Lab, host: &str) -> bool {
    lab.sh(host, "cat /proc/sys/net/ipv4/ip_forward").ok().stdout == "1\n"
}

/// Both ends of the last step, ready, on a lab that is prepared for it.
fn vpn<'l>(lab: &'l Lab, client: &[&str], server: &[&str]) -> (Running<'l>, Running<'l>) {
    let server = Running::tunnel(lab, "server", &[&["vpn", "--role", "server"], server].concat());
    let client = Running::tunnel(lab, "useru", &[&["vpn", "--role", "client"], client].concat());
    has_route(lab);
    (client, server)
}

/// The last line of the log: what the step has done.
fn summary(stderr: &str) -> &str {
    stderr.lines().last().unwrap_or_default()
}
