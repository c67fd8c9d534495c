//! What the kernel lacks or refuses is found out, said, and done without. A library stands between vpnlab and the C
//! library (no_offload.c), and lets the calls fail as older kernels and other network devices do.

use crate::common::{self, Lab};
use crate::fixtures::traffic::{CLIENT, Flows, Summary, has_route, transfer};
use crate::fixtures::{Running, library};
use crate::for_each_user;

const TUN_ON: &str = "tun0: TSO on, USO on";
const UDP_ON: &str = "UDP socket: UDP_SEGMENT on, UDP_GRO on";
const LESS: &str = "tun0: this kernel has less than was asked for: Invalid argument";
const NO_RUNS: &str = "the network device does not take UDP_SEGMENT; from now on it is off";
const NO_LARGE_UDP: &str = "the kernel refuses a large UDP packet; from now on they are written one by one";
const NO_LARGE_TCP: &str = "the kernel refuses a large TCP packet; from now on they are written one by one";

/// An end of the tunnel for whose kernel these things fail.
#[track_caller]
fn tunnel<'l>(lab: &'l Lab, host: &str, role: &str, without: &str) -> Running<'l> {
    let (preload, list) = (format!("LD_PRELOAD={}", library("no_offload.c")), format!("NO_OFFLOAD={without}"));
    let mut end = Running::start(lab, host, &["env", &preload, &list, "vpnlab", "vpn", "--role", role]);
    end.wait_until_up();
    end
}

/// Both ends do without this: the log says all of `says`, once, and everything is carried all the same.
#[track_caller]
fn everything_is_carried_without(lab: &Lab, without: &str, says: &[&str]) {
    let (server, client) = (tunnel(lab, "server", "server", without), tunnel(lab, "useru", "client", without));
    has_route(lab);
    // Each end reads and writes large packets of both kinds.
    for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userv", "useru", CLIENT)] {
        Flows { flows: 3, count: 200, sizes: "runs", window: 150 }.arrive(lab, from, to, address);
        transfer(lab, from, to, address, 1_000_000);
    }
    for (end, name) in [(client, "client"), (server, "server")] {
        let done = end.interrupt().ok();
        for said in says {
            assert_eq!(done.stderr.matches(said).count(), 1, "without {without:?} the {name} says {said:?}: {done:#?}");
        }
        for on in [TUN_ON, UDP_ON, LESS, NO_RUNS, NO_LARGE_UDP, NO_LARGE_TCP] {
            assert_eq!(done.stderr.contains(on), says.contains(&on), "without {without:?}, the {name}: {done:#?}");
        }
        // The server's kernel may have something to say of its own (IPv6) before there is a client, and when it has ended.
        let own = [" 1 no client yet", " 1 connection refused"].iter().filter(|it| done.stderr.contains(**it)).count();
        assert_eq!(Summary::of(&done).dropped, own as u64, "without {without:?}, the {name}: {done:#?}");
    }
}

for_each_user! {
    fn what_the_kernel_lacks_from_the_start_is_said_and_done_without(user: User) {
        let lab = Lab::up_at(user, 4);
        // The control: a kernel that has everything is used for everything.
        everything_is_carried_without(&lab, "", &[TUN_ON, UDP_ON]);
        everything_is_carried_without(&lab, "uso", &[LESS, "tun0: TSO on, USO off", UDP_ON]);
        everything_is_carried_without(&lab, "tso", &[LESS, "tun0: TSO off, USO off", UDP_ON]);
        everything_is_carried_without(&lab, "gro", &[TUN_ON, "UDP socket: UDP_SEGMENT on, UDP_GRO off"]);
        everything_is_carried_without(&lab, "gso", &[TUN_ON, "UDP socket: UDP_SEGMENT off, UDP_GRO on"]);
        let says = [LESS, "tun0: TSO off, USO off", "UDP socket: UDP_SEGMENT off, UDP_GRO off"];
        everything_is_carried_without(&lab, "tso,gro,gso", &says);
    }

    fn a_network_device_that_refuses_runs_gets_single_datagrams(user: User) {
        let lab = Lab::up_at(user, 4);
        everything_is_carried_without(&lab, "run-eio", &[TUN_ON, UDP_ON, NO_RUNS]);
    }

    fn runs_that_do_not_fit_the_path_are_sent_as_single_datagrams(user: User) {
        let lab = Lab::up_at(user, 4);
        everything_is_carried_without(&lab, "run-einval", &[TUN_ON, UDP_ON]);
    }

    fn a_full_queue_loses_a_run_which_is_not_sent_again_piece_by_piece(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        // 103 is UDP_SEGMENT of linux/udp.h.
        let burst = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                     s.setsockopt(17, 103, 1000); s.sendto(bytes(20000), ('10.1.1.2', 9999))";
        for (without, cause) in [("run-enobufs", "20 no buffer space available"), ("run-eagain", "20 try again")] {
            let mut client = tunnel(&lab, "useru", "client", without);
            has_route(&lab);
            lab.exec("useru", &["python3", "-c", burst]).ok();
            client.wait_for("found no room in a queue");
            lab.exec("useru", &["ping", "-n", "-c1", "-W5", "10.1.1.2"]).ok();
            let done = client.interrupt().ok();
            assert_eq!(Summary::of(&done).dropped, 20, "{done:#?}");
            assert!(done.stderr.contains(cause), "{done:#?}");
        }
    }

    fn a_device_that_refuses_large_packets_gets_single_ones(user: User) {
        let lab = Lab::up_at(user, 4);
        everything_is_carried_without(&lab, "udp-write", &[TUN_ON, UDP_ON, NO_LARGE_UDP]);
        everything_is_carried_without(&lab, "udp-write,tcp-write", &[TUN_ON, UDP_ON, NO_LARGE_UDP, NO_LARGE_TCP]);
    }
}
