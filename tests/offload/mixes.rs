//! Every part of the fast path, on and off at each end, and the handout's programs in Python as the other end.

use crate::common::{self, Lab};
use crate::fixtures::Running;
use crate::fixtures::traffic::{CLIENT, Flows, has_route, transfer, vpn};
use crate::for_each_user;

/// What an end is started with, and what it then logs of its TUN device and its socket.
type End = (&'static [&'static str], &'static str, &'static str);

const ALL: End = (&[], "TSO on, USO on", "UDP_SEGMENT on, UDP_GRO on");
const NONE: End = (&["--no-offload"], "", "");
const BATCH: End = (&["--offload=batch"], "TSO off, USO off", "UDP_SEGMENT off, UDP_GRO off");
const TUN: End = (&["--offload=tun"], "TSO on, USO on", "UDP_SEGMENT off, UDP_GRO off");
const UDP: End = (&["--offload=udp"], "TSO off, USO off", "UDP_SEGMENT on, UDP_GRO on");
const TSO_GRO: End = (&["--offload=tso,gro"], "TSO on, USO off", "UDP_SEGMENT off, UDP_GRO on");
const USO_GSO: End = (&["--offload=uso", "--offload=gso"], "TSO off, USO on", "UDP_SEGMENT on, UDP_GRO off");

/// A client and a server: each part is on at both ends, at one, at the other, and at none. Both with all of them are in
/// `interop` and `integrity`; with all but one, in `downgrade`.
const MIXES: [(End, End); 8] = [
    (ALL, NONE),
    (NONE, ALL),
    (NONE, NONE),
    (BATCH, ALL),
    (TUN, UDP),
    (UDP, TUN),
    (TSO_GRO, USO_GSO),
    (USO_GSO, TSO_GRO),
];

/// Ours where the other end is a Python program; that with all parts is in `interop`.
const ENDS: [End; 3] = [NONE, TUN, UDP];

/// Pings, TCP and UDP, of all sizes and in both directions.
#[track_caller]
fn carries_everything(lab: &Lab) {
    for (host, to) in [("useru", "10.1.1.2"), ("userv", CLIENT), ("userw", CLIENT)] {
        let ping = format!("ping -n -c1 -W5 -M dont -s $size {to}");
        lab.sh(host, &format!("for size in 0 1445 20000; do {ping} || exit; done")).ok();
    }
    for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userw", "useru", CLIENT)] {
        transfer(lab, from, to, address, 2_000_000);
        Flows { flows: 3, count: 150, sizes: "all", window: 48 }.arrive(lab, from, to, address);
    }
}

/// What an end has logged is what it was started with.
#[track_caller]
fn says(end: &Running<'_>, (options, tun, udp): End) {
    let log = end.stderr();
    for (what, parts) in [("tun0: ", tun), ("UDP socket: ", udp)] {
        let said = if parts.is_empty() { String::new() } else { format!("{what}{parts}") };
        assert_eq!(log.contains("UDP_GRO"), !parts.is_empty(), "{options:?}: {log}");
        assert!(log.contains(&said), "{options:?}: {log}");
    }
}

for_each_user! {
    fn any_two_of_our_ends_carry_everything(user: User) {
        let lab = Lab::up_at(user, 4);
        for (client, server) in MIXES {
            println!("a client with {:?}, a server with {:?}", client.0, server.0);
            let ends = vpn(&lab, client.0, server.0);
            carries_everything(&lab);
            says(&ends.0, client);
            says(&ends.1, server);
            ends.0.interrupt().ok();
            ends.1.interrupt().ok();
        }
    }

    fn any_of_our_servers_and_a_python_client_carry_everything(user: User) {
        let lab = Lab::up_at(user, 4);
        for (options, ..) in ENDS {
            println!("a server with {options:?}");
            let server = Running::tunnel(&lab, "server", &[&["vpn", "--role", "server"], options].concat());
            let client = Running::python(&lab, "useru", "vpn_client.py", &[], "Ready");
            lab.sh("useru", "sudo ip route add 10.1.1.0/24 dev tun0").ok();
            carries_everything(&lab);
            client.end_with("KILL");
            server.interrupt().ok();
        }
    }

    fn any_of_our_clients_and_a_python_server_carry_everything(user: User) {
        let lab = Lab::up_at(user, 4);
        for (options, ..) in ENDS {
            println!("a client with {options:?}");
            let server = Running::python(&lab, "server", "vpn_server.py", &[], "Ready");
            let client = Running::tunnel(&lab, "useru", &[&["vpn", "--role", "client"], options].concat());
            has_route(&lab);
            carries_everything(&lab);
            client.interrupt().ok();
            server.end_with("KILL");
        }
    }
}
