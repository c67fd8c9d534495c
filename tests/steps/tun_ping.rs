//! Step 1, second half: `tun-ping`.

use crate::common::{self, Lab, eventually};
use crate::fixtures::{Running, python};
use crate::for_each_user;

/// Pings once with these options; that must be answered. Returns what ping has printed. (Of several requests ping waits
/// for the last reply only twice as long as for those before it, which is not long on a machine that is busy.)
#[track_caller]
fn answered(lab: &Lab, options: &[&str]) -> String {
    let done = lab.exec("useru", &[&["ping", "-n", "-c", "1", "-W", "5"], options].concat());
    assert_eq!(done.code, 0, "{options:?}: {done:#?}");
    assert!(done.stdout.contains("1 received, 0% packet loss"), "{options:?}: {done:#?}");
    // ping says so where the payload or a checksum is not what it was.
    for complaint in ["wrong data", "BAD", "DUP", "truncated"] {
        assert!(!done.stdout.contains(complaint), "{options:?}: {done:#?}");
    }
    done.stdout
}

for_each_user! {
    fn pings_of_every_size_are_answered(user: User) {
        let lab = Lab::up(user);
        let mut responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        for size in ["0", "1", "2", "3", "56", "57", "1000", "1472", "1473", "4000", "20000", "65507"] {
            answered(&lab, &["-s", size, "10.1.3.4"]);
        }
        assert!(responder.runs());
    }

    fn pings_of_every_address_behind_the_device_are_answered(user: User) {
        let lab = Lab::up(user);
        let _responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        lab.sh("useru", "sudo ip route add 192.0.2.0/24 dev tun0").ok();
        for address in ["10.1.3.2", "10.1.3.4", "10.1.3.254", "192.0.2.77"] {
            assert!(answered(&lab, &[address]).contains(&format!("bytes from {address}: icmp_seq=1 ttl=")));
        }
    }

    fn options_identifiers_and_payloads_come_back(user: User) {
        let lab = Lab::up(user);
        let _responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        let recorded = answered(&lab, &["-R", "10.1.3.4"]);
        assert!(recorded.contains("RR: "), "{recorded}");
        let stamped = answered(&lab, &["-T", "tsonly", "10.1.3.4"]);
        assert!(stamped.contains("TS: "), "{stamped}");
        answered(&lab, &["-T", "tsandaddr", "10.1.3.4"]);
        for identifier in ["1", "4660", "65535"] {
            answered(&lab, &["-e", identifier, "10.1.3.4"]);
        }
        for pattern in ["00", "ff", "0123456789abcdef"] {
            answered(&lab, &["-p", pattern, "-s", "999", "10.1.3.4"]);
        }
    }

    fn a_row_of_pings_is_answered_each_by_its_number(user: User) {
        let lab = Lab::up(user);
        let _responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        let ping = Running::start(&lab, "useru", &["ping", "-n", "-i", "0.02", "10.1.3.4"]);
        eventually("a hundred are answered", || ping.stdout().contains("icmp_seq=100 "));
        let shown = ping.interrupt().stdout;
        for number in 1..=100 {
            assert_eq!(shown.matches(&format!("icmp_seq={number} ")).count(), 1, "{number}: {shown}");
        }
    }

    fn pings_over_ipv6_are_answered(user: User) {
        let lab = Lab::up(user);
        let _responder = Running::tunnel(&lab, "useru", &["tun-ping", "--address", "fd00:3::1/64"]);
        for size in ["0", "1", "56", "1452", "4000"] {
            answered(&lab, &["-6", "-s", size, "fd00:3::4"]);
        }
        answered(&lab, &["-6", "fd00:3::ffff"]);
    }

    fn the_kernel_answers_pings_of_the_devices_own_address(user: User) {
        let lab = Lab::up(user);
        let responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        answered(&lab, &["10.1.3.4"]);
        answered(&lab, &["10.1.3.1"]);
        let done = responder.interrupt().ok();
        assert!(done.stderr.contains(" 1 packet (84 bytes) out"), "it answered more or less than one: {done:#?}");
    }

    fn nothing_but_echo_requests_is_answered(user: User) {
        let lab = Lab::up(user);
        let mut responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        let mut watch = Running::watch(&lab, "useru", &["tun0"]);
        for (protocol, payload) in NO_REQUESTS {
            let mut sender = Running::start(&lab, "useru", &python("raw_send.py", &["10.1.3.4", protocol, payload]));
            sender.wait_for("Sent");
        }
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["10.1.3.4", "9090", "616263"]));
        sender.wait_for("Sent");
        answered(&lab, &["10.1.3.77"]);
        let reply = "tun0 in 10.1.3.77 > 10.1.3.1 ICMP echo reply length 84 checksums right";
        watch.wait_for(reply);
        let seen = watch.stdout();
        let others: Vec<_> = seen.lines().filter(|line| line.starts_with("tun0 in ") && *line != reply).collect();
        assert!(others.is_empty(), "{others:#?}");
        assert_eq!(seen.matches("tun0 out 10.1.3.1 > 10.1.3.4").count(), NO_REQUESTS.len() + 1, "{seen}");
        assert!(responder.runs());
    }
}

/// IP payloads that ask for no echo: their protocol, and their bytes.
const NO_REQUESTS: [(&str, &str); 8] = [
    ("1", "0000fffe00000001"),                         // an echo reply
    ("1", "0d00f2fd00010001000000000000000000000000"), // a timestamp request
    ("1", "0a00f5ff00000000"),                         // a router solicitation
    ("1", "0800000000010001"),                         // an echo request whose checksum is wrong
    ("1", "0800"),                                     // an echo request that is cut off
    ("6", "00500050000000000000000050020000000000000000"),
    ("47", "0000080045"),
    ("253", ""),
];
