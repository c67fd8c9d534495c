//! `vpnlab trace`, `vpnlab lab capture` and `--pcap` on a real kernel, as a plain user and as root: that each cause is
//! named when exactly that is broken, that none is named when nothing is, and that Wireshark reads what they write.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fixtures/mod.rs"]
mod fixtures;

mod causes;
mod files;
mod healthy;

use common::{Done, Lab};
use fixtures::Running;
use serde_json::Value;

/// Runs `vpnlab trace` on a lab.
#[track_caller]
fn trace(lab: &Lab, arguments: &[&str]) -> Done {
    lab.machine.vpnlab(&[&["trace", "--lab", &lab.name], arguments].concat())
}

/// A trace's JSON; it must have found the way, or not.
#[track_caller]
fn json(lab: &Lab, arguments: &[&str], code: i32) -> Value {
    let done = trace(lab, &[&["--json"], arguments].concat()).expect(code);
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:#?}"))
}

/// The journey as `host/interface` in its order, each with its direction.
fn journey(value: &Value) -> Vec<String> {
    let steps = value["journey"].as_array().expect("there is a journey");
    let place = |step: &Value| {
        let word = |name: &str| step[name].as_str().expect("it is a word").to_string();
        format!("{}/{} {}", word("host"), word("interface"), word("direction"))
    };
    steps.iter().map(place).collect()
}

/// Both ends in Python, one of them with a mistake; a route leads into the tunnel.
#[track_caller]
fn with_mistake<'l>(lab: &'l Lab, client: &str, server: &str) -> (Running<'l>, Running<'l>) {
    let server = Running::python(lab, "server", "faulty.py", &["server", server], "Ready");
    let client = Running::python(lab, "useru", "faulty.py", &["client", client], "Ready");
    lab.sh("useru", "ip route add 10.1.1.0/24 dev tun0").ok();
    (client, server)
}
