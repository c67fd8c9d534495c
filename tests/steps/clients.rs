//! Many clients of one server: each has what is its own, and nothing of another's.

use crate::common::{self, Lab, User, eventually};
use crate::fixtures::traffic::transfer;
use crate::fixtures::{Running, lab_file, python};
use crate::{CLIENT, for_each_user, summary};

/// The second client's address in the tunnel.
const SECOND: &str = "10.1.3.3";

/// The handout's network with userx as a second client.
#[track_caller]
fn two_clients(user: User) -> Lab {
    Lab::up_with(user, &["--topology", &lab_file("two-clients.toml"), "--step", "4"])
}

/// A server and two clients, all ready.
#[track_caller]
fn all<'l>(lab: &'l Lab, server: &[&str]) -> [Running<'l>; 3] {
    let server = Running::tunnel(lab, "server", &[&["vpn", "--role", "server"], server].concat());
    let first = Running::tunnel(lab, "useru", &["vpn", "--role", "client"]);
    let second = Running::tunnel(lab, "userx", &["vpn", "--role", "client", "--address", "10.1.3.3/24"]);
    routed(lab);
    [server, first, second]
}

/// Waits until both clients' kernels lead packets for the private network into the tunnel.
#[track_caller]
fn routed(lab: &Lab) {
    for host in ["useru", "userx"] {
        eventually("the private network is reached through tun0", || {
            lab.sh(host, "ip route get 10.1.1.2").ok().stdout.contains("dev tun0")
        });
    }
}

/// An empty IPv4 packet of a protocol that nobody answers, in hexadecimal.
fn packet(source: [u8; 4], destination: [u8; 4]) -> String {
    let hex = |bytes: [u8; 4]| bytes.map(|byte| format!("{byte:02x}")).concat();
    let mut header = format!("450000140001000040fd0000{}{}", hex(source), hex(destination));
    let words = (0..10).map(|at| u32::from_str_radix(&header[at * 4..at * 4 + 4], 16).expect("it is hexadecimal"));
    let sum: u32 = words.sum();
    header.replace_range(20..24, &format!("{:04x}", !((sum & 0xffff) + (sum >> 16)) as u16));
    header
}

/// Sends these datagrams to the server from a host.
#[track_caller]
fn send(lab: &Lab, host: &str, datagrams: &[&str]) {
    let mut sender = Running::start(lab, host, &python("udp_send.py", &[&["server", "9090"], datagrams].concat()));
    sender.wait_for("Sent");
}

/// How often a cause is counted in a file of `--stats-json`.
fn dropped(file: &str, cause: &str) -> u64 {
    let found = file.split(&format!("\"{cause}\": ")).nth(1);
    let number = found.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    number.map_or(0, |number| number.parse().expect("counts are numbers"))
}

for_each_user! {
    fn two_clients_are_served_at_once_and_do_not_reach_each_other(user: User) {
        let lab = two_clients(user);
        let [server, first, _second] = all(&lab, &[]);
        for host in ["useru", "userx"] {
            assert!(lab.pings(host, "userv") && lab.pings(host, "userw"), "{host}");
        }
        for address in [CLIENT, SECOND] {
            assert!(lab.pings("userv", address) && lab.pings("server", address), "{address}");
        }
        std::thread::scope(|both| {
            both.spawn(|| transfer(&lab, "useru", "userv", "10.1.1.2", 3_000_000));
            transfer(&lab, "userx", "userw", "10.1.1.3", 3_000_000);
        });
        assert!(!lab.pings("useru", SECOND) && !lab.pings("userx", CLIENT));
        let done = server.interrupt().ok();
        assert!(done.stderr.contains("another client: they do not reach each other without --client-to-client"), "{done:#?}");
        assert!(summary(&done.stderr).contains(" from client to client"), "{done:#?}");
        let done = first.interrupt().ok();
        assert!(!done.stdout.contains(SECOND) || !done.stdout.contains("From socket <==: 10.1.3.3"), "{done:#?}");
    }

    fn clients_reach_each_other_where_they_may(user: User) {
        let lab = two_clients(user);
        let [_server, _first, _second] = all(&lab, &["--client-to-client"]);
        assert!(lab.pings("useru", "userv") && lab.pings("userx", "userv"));
        assert!(lab.pings("useru", SECOND) && lab.pings("userx", CLIENT));
        let done = lab.exec("useru", &["ping", "-c3", "-i0.2", "-W2", SECOND]).ok();
        assert!(!done.stdout.contains("Redirect"), "{done:#?}");
        transfer(&lab, "useru", "userx", SECOND, 1_000_000);
    }

    fn the_handouts_programs_are_two_clients_too(user: User) {
        let lab = two_clients(user);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let device = "ip tuntap add dev tun0 mode tun && ip addr add 10.1.3.3/24 dev tun0 && ip link set dev tun0 up";
        lab.sh("userx", device).ok();
        let _first = Running::python(&lab, "useru", "vpn_client.py", &[], "Ready");
        let _second = Running::python(&lab, "userx", "vpn_client.py", &["server", "9090", "0", "tun0"], "Ready");
        for host in ["useru", "userx"] {
            lab.sh(host, "sudo ip route add 10.1.1.0/24 dev tun0").ok();
            assert!(lab.pings(host, "userv"), "{host}");
        }
        assert!(lab.pings("userv", CLIENT) && lab.pings("userv", SECOND));
        for size in ["1400", "4000"] {
            lab.exec("userv", &["ping", "-c1", "-W5", "-s", size, CLIENT]).ok();
            lab.exec("userv", &["ping", "-c1", "-W5", "-s", size, SECOND]).ok();
        }
    }

    fn the_server_of_one_way_takes_from_two_clients_what_is_their_own(user: User) {
        let lab = two_clients(user);
        let mut server = Running::tunnel(&lab, "server", &["server"]);
        let _first = Running::python(&lab, "useru", "tun_client.py", &[], "Ready");
        let _second = Running::tunnel(&lab, "userx", &["client", "--address", "10.1.3.3/24", "--route", "10.1.1.0/24"]);
        lab.sh("useru", "sudo ip route add 10.1.1.0/24 dev tun0").ok();
        routed(&lab);
        let mut watch = Running::watch(&lab, "userv", &["eth0"]);
        for host in ["useru", "userx"] {
            lab.exec(host, &["ping", "-c1", "-W0.2", "userv"]).expect(1);
        }
        watch.wait_for("eth0 in 10.1.3.1 > 10.1.1.2 ICMP echo request");
        watch.wait_for("eth0 in 10.1.3.3 > 10.1.1.2 ICMP echo request");
        send(&lab, "userx", &[&packet([10, 1, 3, 1], [10, 1, 1, 2]), &packet([8, 8, 8, 8], [10, 1, 1, 2])]);
        server.wait_for("its source is 8.8.8.8");
        let done = server.interrupt().ok();
        assert!(summary(&done.stderr).contains("1 from another client's address"), "{done:#?}");
        assert!(summary(&done.stderr).contains("1 from a foreign source"), "{done:#?}");
    }

    fn an_inner_address_goes_to_another_host_only_after_the_timeout(user: User) {
        let lab = two_clients(user);
        let [mut server, first, _second] = all(&lab, &["--peer-timeout", "2", "-v"]);
        assert!(lab.pings("useru", "userv") && lab.pings("userx", "userv"));
        let stolen = packet([10, 1, 3, 1], [10, 1, 1, 2]);
        send(&lab, "userx", &[&stolen]);
        server.wait_for("its source is 10.1.3.1, which the client at 10.1.2.2:");
        assert!(lab.pings("userv", CLIENT), "it is still useru's");
        first.interrupt().ok();
        eventually("userx gets the address", || {
            send(&lab, "userx", &[&stolen]);
            server.stderr().contains("The client 10.1.3.1 moved from 10.1.2.2:")
        });
        assert!(server.runs());
    }

    fn a_client_with_an_odd_address_is_named_and_served_where_that_is_allowed(user: User) {
        let lab = Lab::up_at(user, 4);
        let odd = ["vpn", "--role", "client", "--address", "10.9.9.9/24"];
        let mut server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let client = Running::tunnel(&lab, "useru", &odd);
        crate::has_route(&lab);
        assert!(!lab.pings("useru", "userv"));
        server.wait_for("[WARN] ignored a packet from 10.1.2.2:");
        server.wait_for(
            "its source is 10.9.9.9, which is not in 10.1.3.0/24, where tun0 is; if that client may have this address, \
             start the server with --allow-source 10.9.9.9/32",
        );
        server.interrupt().ok();
        client.interrupt().ok();
        let allowed = ["vpn", "--role", "server", "--allow-source", "10.9.9.0/24", "--route", "10.9.9.0/24"];
        let server = Running::tunnel(&lab, "server", &allowed);
        let _client = Running::tunnel(&lab, "useru", &odd);
        crate::has_route(&lab);
        lab.sh("userv", "sudo ip route add 10.9.9.0/24 via 10.1.1.4").ok();
        eventually("the route is there", || lab.sh("server", "ip route get 10.9.9.9").stdout.contains("dev tun0"));
        assert!(lab.pings("useru", "userv") && lab.pings("userv", "10.9.9.9"));
        assert!(!server.stderr().contains("[WARN] ignored"), "{}", server.stderr());
    }

    fn what_is_dropped_is_told_by_cause_to_people_and_programs(user: User) {
        let lab = two_clients(user);
        let file = format!("/tmp/{}-stats.json", lab.name);
        let [mut server, _first, _second] = all(&lab, &["--stats-json", &file]);
        assert!(lab.pings("useru", "userv") && lab.pings("userx", "userv"));
        let userv = [10, 1, 1, 2];
        let many = format!("40x{}", packet([8, 8, 8, 8], userv));
        let datagrams = [
            many, packet([10, 1, 3, 1], userv), packet([10, 1, 3, 2], userv), packet([10, 1, 2, 3], userv),
            packet([10, 1, 3, 255], userv), packet([127, 0, 0, 2], userv), packet([224, 0, 0, 1], userv),
        ];
        send(&lab, "userx", &datagrams.each_ref().map(String::as_str));
        // The socket is read in order.
        assert!(lab.pings("useru", "userv"));
        server.signal("USR1");
        server.wait_for("40 from a foreign source");
        let mut told = String::new();
        eventually("the file is written", || {
            told = lab.exec("server", &["cat", &file]).ok().stdout;
            told.ends_with("}\n")
        });
        let causes = ["foreign-source", "taken-source", "own-source", "impossible-source"];
        assert_eq!(causes.map(|cause| dropped(&told, cause)), [40, 1, 2, 3], "{told}");
        assert!(told.contains("\"known\": "), "{told}");
        assert!(lab.pings("useru", "userv"));
        let log = server.stderr();
        assert!(log.matches("its source is 8.8.8.8").count() <= 2, "{log}");
        server.interrupt().ok();
        lab.exec("server", &["rm", &file]).ok();
    }

    fn only_those_outer_addresses_speak_that_may(user: User) {
        let lab = two_clients(user);
        let [server, _first, _second] = all(&lab, &["--allow-peer", "10.1.2.2/32"]);
        assert!(lab.pings("useru", "userv"));
        assert!(!lab.pings("userx", "userv"));
        let done = server.interrupt().ok();
        assert!(done.stderr.contains("which no --allow-peer allows"), "{done:#?}");
        assert!(summary(&done.stderr).contains(" from an address that is not allowed"), "{done:#?}");
    }

    fn a_flood_of_invented_addresses_pushes_nobody_out(user: User) {
        let lab = two_clients(user);
        let [mut server, _first, second] = all(&lab, &["--max-peers", "20"]);
        assert!(lab.pings("useru", "userv"));
        second.interrupt().ok();
        let invented: Vec<_> = (0..250).map(|last| packet([10, 1, 3, last], [10, 1, 1, 2])).collect();
        send(&lab, "userx", &invented.iter().map(String::as_str).collect::<Vec<_>>());
        server.wait_for("--max-peers is 20");
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
        let done = server.interrupt().ok();
        assert!(summary(&done.stderr).contains(" no room for another client"), "{done:#?}");
    }

    fn a_device_that_the_user_configures_has_the_subnet_that_it_is_given(user: User) {
        let lab = Lab::up_at(user, 4);
        let mut server = Running::step(&lab, "server", &["vpn", "--role", "server", "--no-configure"]);
        server.wait_for("UDP socket: ");
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        crate::has_route(&lab);
        lab.sh("server", "ip link set dev tun0 up && ip addr add 10.1.3.2/24 dev tun0").ok();
        eventually("the client is served", || lab.pings("useru", "userv"));
        lab.sh("server", "ip addr del 10.1.3.2/24 dev tun0 && ip addr add 10.8.0.1/24 dev tun0").ok();
        eventually("the client is told that it is somewhere else", || {
            lab.exec("useru", &["ping", "-c1", "-W0.2", "userv"]);
            server.stderr().contains("10.1.3.1, which is not in 10.8.0.0/24")
        });
    }

    fn a_thousand_clients_get_their_own_replies(user: User) {
        let lab = Lab::up(user);
        let address = ["--address", "10.20.0.1/16"];
        for options in [&["--max-peers", "4000"][..], &["--no-offload"]] {
            let server =
                Running::tunnel(&lab, "server", &[&["vpn", "--role", "server"], &address[..], options].concat());
            let program = lab_file("many_clients.py");
            let script = format!("ulimit -n 4096; python3 -B {program} server 9090 1000 3 10.20.0.1");
            let done = lab.sh("useru", &script).ok();
            assert!(done.stdout.starts_with("1000 clients: 3000 of 3000 answered, 0 foreign, 0 lost"), "{done:#?}");
            server.interrupt().ok();
        }
    }

    fn all_hosts_of_two_sites_reach_each_other(user: User) {
        let lab = Lab::up_with(user, &["--topology", &lab_file("site-to-site.toml")]);
        lab.lab(&["check"]).ok();
        let (west, east) = ([("usery", "10.1.4.2"), ("userz", "10.1.4.3")], [("userv", "10.1.1.2"), ("userw", "10.1.1.3")]);
        assert!(!lab.pings("usery", "userv") && !lab.pings("userv", "usery"));
        let options = ["--allow-source", "10.1.4.0/24", "--route", "10.1.4.0/24"];
        let _east = Running::tunnel(&lab, "east", &[&["vpn", "--role", "server"], &options[..]].concat());
        let _west = Running::tunnel(&lab, "west", &["vpn", "--role", "client"]);
        eventually("the tunnel is there", || lab.pings("west", "10.1.3.2"));
        // First from the server's side: no host of the western site has said anything yet.
        for (from, _) in east {
            for (_, to) in west {
                assert!(lab.pings(from, to), "{from} to {to}");
            }
        }
        for (from, _) in west {
            for (_, to) in east {
                assert!(lab.pings(from, to), "{from} to {to}");
            }
        }
        transfer(&lab, "usery", "userw", "10.1.1.3", 3_000_000);
        transfer(&lab, "userv", "userz", "10.1.4.3", 3_000_000);
    }
}
