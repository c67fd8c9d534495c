//! Where nothing is broken nothing is named, whoever's programs run; and what is shown is what has happened.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{self, Lab};
use crate::fixtures::traffic::vpn;
use crate::fixtures::{Running, program};
use crate::{for_each_user, journey, json, trace, with_mistake};

/// The way of a request and its reply through the tunnel, and each place once.
const WAY: [&str; 12] = [
    "useru/tun0 out",
    "useru/eth0 out",
    "server/eth0 in",
    "server/tun0 in",
    "server/eth1 out",
    "userv/eth0 in",
    "userv/eth0 out",
    "server/eth1 in",
    "server/tun0 out",
    "server/eth0 out",
    "useru/eth0 in",
    "useru/tun0 in",
];

/// How many traces in a row must find nothing wrong, while both processors are busy and while they are not; tests/full has
/// more.
fn in_a_row() -> usize {
    if std::env::var_os("VPNLAB_LONG").is_some() { 200 } else { 50 }
}

for_each_user! {
    fn the_journey_is_told_in_its_order_whoevers_programs_run(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert_eq!(journey(&json(&lab, &[], 0)), WAY);
        client.end_with("KILL");
        server.end_with("KILL");
        // The handout's programs in Python, and one in C.
        let (client, server) = with_mistake(&lab, "none", "none");
        assert_eq!(journey(&json(&lab, &[], 0)), WAY);
        client.end_with("KILL");
        server.end_with("KILL");
        let tunnel = program("../../lab/peers/cmin.c");
        let up = |host: &str, address: &str| {
            lab.sh(host, &format!("ip address add {address} dev tun0 && ip link set dev tun0 up")).ok();
        };
        let mut server = Running::start(&lab, "server", &[&tunnel, "tun0", "0.0.0.0", "9090"]);
        let mut client = Running::start(&lab, "useru", &[&tunnel, "tun0", "0.0.0.0", "0", "10.1.2.3", "9090"]);
        common::eventually("both have made their devices", || {
            ["server", "useru"].iter().all(|host| lab.sh(host, "ip link show dev tun0").code == 0)
        });
        up("server", "10.1.3.2/24");
        up("useru", "10.1.3.1/24");
        lab.sh("useru", "ip route add 10.1.1.0/24 dev tun0").ok();
        assert_eq!(journey(&json(&lab, &[], 0)), WAY);
        assert!(server.runs() && client.runs());
    }

    fn each_step_says_its_headers_and_what_has_changed(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let value = json(&lab, &["useru", "userv", "--size", "100"], 0);
        let step = |place: usize| &value["journey"][place];
        assert_eq!(step(0)["echo"]["source"], "10.1.3.1");
        assert_eq!(step(0)["echo"]["destination"], "10.1.1.2");
        assert_eq!(step(0)["echo"]["length"], 100);
        assert_eq!(step(1)["datagram"]["to"], "10.1.2.3:9090");
        assert_eq!(step(1)["datagram"]["length"], 100);
        assert_eq!(step(1)["echo"], step(0)["echo"]);
        assert_eq!(step(4)["news"], "ttl 63");
        assert_eq!([&step(6)["leg"], &step(6)["echo"]["source"]], ["reply", "10.1.1.2"]);
        let times: Vec<_> = (0..WAY.len()).filter_map(|place| step(place)["milliseconds"].as_f64()).collect();
        assert!(times.is_sorted() && times[0] == 0.0 && times.len() == WAY.len(), "{times:?}");
        assert_eq!(value["programs"]["server"].as_str().map(|it| it.starts_with("vpnlab vpn (")), Some(true));
    }

    fn the_ladder_fits_80_columns_and_needs_no_colours(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        let done = trace(&lab, &[]).ok();
        assert!(done.stdout.contains("       ms  useru server userv\n"), "{}", done.stdout);
        assert!(done.stdout.contains("in UDP 10.1.2.2:"), "{}", done.stdout);
        assert!(done.stdout.contains("\nThe reply is back after "), "{}", done.stdout);
        client.end_with("KILL");
        let died = trace(&lab, &["--hint"]).expect(1);
        assert!(died.stdout.contains("\nThe request ended at useru: there is no TUN device.\n"), "{}", died.stdout);
        assert!(died.stdout.contains("\nCause: no-tun, of the handout's step 1.\nHint: run the program"), "{}", died.stdout);
        for text in [&done.stdout, &died.stdout] {
            assert!(text.lines().all(|line| line.chars().count() <= 80) && text.is_ascii(), "{text}");
        }
        assert!(!trace(&lab, &[]).expect(1).stdout.contains("Hint: "));
    }

    fn other_ends_and_the_way_back_work_too(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        // The server knows its client once the client has sent something.
        assert_eq!(json(&lab, &["useru", "server"], 0)["verdict"], Value::Null);
        for (from, to) in [("userv", "useru"), ("userw", "useru"), ("server", "userw")] {
            assert_eq!(json(&lab, &[from, to], 0)["verdict"], Value::Null);
        }
        for size in ["44", "1472", "1500", "4000", "65535"] {
            assert_eq!(json(&lab, &["--size", size], 0)["verdict"], Value::Null);
        }
        // Step 1's answer to every ping.
        let value = json(&lab, &["useru", "10.1.3.2"], 0);
        assert_eq!(value["to"], "10.1.3.2");
    }

    fn a_trace_may_not_be_wrong_once_while_others_use_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let _pings = lab.start("useru", &["ping", "-q", "-i", "0.002", "userw"]);
        for _ in 0..10 {
            assert_eq!(json(&lab, &[], 0)["verdict"], Value::Null);
        }
        lab.sh("server", "sysctl -w net.ipv4.ip_forward=0").ok();
        assert_eq!(json(&lab, &[], 1)["verdict"]["cause"], "no-forwarding");
    }

    fn on_a_healthy_lab_none_is_named_also_while_both_processors_are_busy(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        for _ in 0..in_a_row() {
            assert_eq!(json(&lab, &[], 0)["verdict"], Value::Null);
        }
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "none", "none");
        let _busy = [0, 1, 2, 3].map(|_| lab.start("userw", &["sh", "-c", "while :; do :; done"]));
        for _ in 0..in_a_row() {
            assert_eq!(json(&lab, &[], 0)["verdict"], Value::Null);
        }
    }

    fn a_trace_takes_two_seconds_at_most_and_five_where_the_packet_dies(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        // The median, since other tests have the processors, too.
        let median = |code: i32| {
            let mut times = [0; 5].map(|_| {
                let started = Instant::now();
                json(&lab, &[], code);
                started.elapsed()
            });
            times.sort();
            times[2]
        };
        let arrives = median(0);
        client.end_with("KILL");
        let dies = median(1);
        assert!(arrives < Duration::from_secs(2) && dies < Duration::from_secs(5), "{arrives:?}, {dies:?}");
    }

    fn mistakes_are_told(user: User) {
        let lab = Lab::up(user);
        let says = |arguments: &[&str], words: &str| {
            let done = trace(&lab, arguments).expect(2);
            assert!(done.stderr.contains(words) && done.stdout.is_empty(), "{done:#?}");
        };
        says(&["nobody"], "no host named nobody in this lab; its hosts are useru, server, userv, userw, router");
        says(&["useru", "useru"], "useru cannot trace to itself");
        says(&["--size", "43"], "a number of bytes from 44 to 65535");
        says(&["--pcapng", "/nowhere/t.pcapng"], "cannot write /nowhere/t.pcapng: No such file or directory");
        let down = lab.machine.vpnlab(&["trace", "--lab", "none"]).expect(2);
        assert!(down.stderr.contains("lab none is not up; bring it up: vpnlab lab up --lab none"), "{down:#?}");
        // Inside a host, a plain user's labs cannot be seen; root's can.
        let inside = lab.exec("useru", &["vpnlab", "trace", "--lab", &lab.name, "useru", "server"]);
        match lab.machine.user {
            common::User::Plain => assert!(inside.expect(2).stderr.contains("this is host useru of a lab")),
            common::User::Root => drop(inside.ok()),
        }
    }
}
