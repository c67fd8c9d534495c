//! Steps 2 and 3: `client` and `server`, which carry packets in one direction.

use crate::common::{self, Lab, eventually};
use crate::fixtures::{Running, python};
use crate::{for_each_user, forwards, has_route, ipv4_lines};

const TO_USERV: [&str; 3] = ["client", "--route", "10.1.1.0/24"];

/// The lines in hexadecimal that hold IPv4 packets.
fn packets(stdout: &str) -> Vec<String> {
    stdout.lines().filter(|line| line.starts_with('4')).map(String::from).collect()
}

for_each_user! {
    fn a_datagram_holds_the_packet_byte_for_byte(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::python(&lab, "server", "udp_print.py", &[], "Start");
        let client = Running::tunnel(&lab, "useru", &["client"]);
        let mut capture = Running::start(&lab, "useru", &python("capture.py", &["tun0"]));
        capture.wait_for("Start");
        for size in ["0", "1", "56", "1472", "4000"] {
            lab.exec("useru", &["ping", "-c", "1", "-W", "0.1", "-s", size, "10.1.3.5"]).expect(1);
        }
        lab.exec("useru", &["ping", "-c", "1", "-W", "0.1", "-R", "10.1.3.5"]).expect(1);
        // Four pings of one packet, one of three fragments, and one with options.
        let all_there = |program: &Running<'_>| packets(&program.stdout()).len() >= 8;
        eventually("all packets have come through", || all_there(&sink) && all_there(&capture));
        assert_eq!(packets(&sink.stdout()), packets(&capture.stdout()));
        assert!(sink.runs());
        assert_eq!(ipv4_lines(&client.stdout()), ["From tun ==>: 10.1.3.1 --> 10.1.3.5"; 8]);
    }

    fn a_route_leads_userv_into_the_tunnel_and_a_ping_hangs_instead_of_being_refused(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server");
        let without = Running::tunnel(&lab, "useru", &["client", "--server", "server:9090"]);
        let done = lab.exec("useru", &["ping", "-c1", "-W1", "userv"]).expect(1);
        assert!(done.stdout.contains("Destination Host Unreachable"), "{done:#?}");
        without.interrupt().ok();
        assert!(!sink.stdout().contains("10.1.1.2"), "{}", sink.stdout());

        let with = Running::tunnel(&lab, "useru", &TO_USERV);
        has_route(&lab);
        assert!(with.stderr().contains("[INFO] ip route add 10.1.1.0/24 dev tun0\n"), "{}", with.stderr());
        let done = lab.exec("useru", &["ping", "-c1", "-W1", "userv"]).expect(1);
        assert!(!done.stdout.contains("Unreachable") && done.stdout.contains("100% packet loss"), "{done:#?}");
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
    }

    fn the_server_may_be_given_as_an_address_with_another_port(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::step(&lab, "server", &["udp-sink", "--port", "9999"]);
        sink.wait_for("Start UDP server on port 9999\n");
        let _client = Running::tunnel(&lab, "useru", &["client", "--server", "10.1.2.3:9999"]);
        assert!(!lab.pings("useru", "10.1.3.5"));
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.3.5\n");
    }

    fn a_server_that_does_not_forward_says_so_with_the_command_and_then_delivers(user: User) {
        let lab = Lab::up(user);
        let mut server = Running::tunnel(&lab, "server", &["server"]);
        let _client = Running::tunnel(&lab, "useru", &TO_USERV);
        has_route(&lab);
        assert!(server.stderr().contains("[WARN] net.ipv4.ip_forward is 0"), "{}", server.stderr());
        assert!(server.stderr().contains("sudo sysctl -w net.ipv4.ip_forward=1\n"), "{}", server.stderr());

        let mut watch = Running::watch(&lab, "userv", &["eth0"]);
        assert!(!lab.pings("useru", "userv"));
        server.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
        lab.sh("server", "sudo sysctl -w net.ipv4.ip_forward=1").ok();
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", "1000", "userv"]).expect(1);
        watch.wait_for("echo request");
        // The ping of before, which would be shorter, did not get through.
        let seen = watch.stdout();
        let requests: Vec<_> = seen.lines().filter(|line| line.contains("echo request")).collect();
        assert_eq!(requests, ["eth0 in 10.1.3.1 > 10.1.1.2 ICMP echo request length 1028 checksums right"]);
    }

    fn a_server_that_may_forwards_as_long_as_it_runs(user: User) {
        let lab = Lab::up(user);
        for step in [&["server", "--forward"][..], &["vpn", "--role", "server", "--forward"]] {
            for signal in ["INT", "TERM", "HUP"] {
                let server = Running::tunnel(&lab, "server", step);
                assert!(forwards(&lab, "server"), "with {step:?}");
                let done = server.end_with(signal).ok();
                assert!(!forwards(&lab, "server"), "{step:?} after SIG{signal}");
                assert!(!done.stderr.contains("[WARN]"), "{done:#?}");
            }
        }
        let counted = Running::tunnel(&lab, "server", &["server", "--forward", "--count", "1"]);
        assert!(forwards(&lab, "server"), "with --count");
        let _client = Running::tunnel(&lab, "useru", &TO_USERV);
        lab.pings("useru", "10.1.3.5");
        counted.wait().ok();
        assert!(!forwards(&lab, "server"), "after --count");
    }

    fn forwarding_that_was_on_before_stays_on(user: User) {
        let lab = Lab::up_at(user, 4);
        assert!(forwards(&lab, "server"));
        let server = Running::tunnel(&lab, "server", &["server", "--forward"]);
        let done = server.interrupt().ok();
        assert!(forwards(&lab, "server"));
        assert!(!done.stderr.contains("ip_forward"), "{done:#?}");
    }

    fn pings_arrive_at_userv_and_their_replies_find_no_way_back(user: User) {
        let lab = Lab::up(user);
        let server = Running::tunnel(&lab, "server", &["server", "--forward"]);
        let _client = Running::tunnel(&lab, "useru", &TO_USERV);
        has_route(&lab);
        let mut watch = Running::watch(&lab, "userv", &["eth0", "eth3"]);
        assert!(!lab.pings("useru", "userv"));
        watch.wait_for("eth0 in 10.1.3.1 > 10.1.1.2 ICMP echo request length 84 checksums right\n");
        watch.wait_for("eth3 out 10.1.1.2 > 10.1.3.1 ICMP echo reply length 84 checksums right\n");
        let lines = server.stdout();
        let outer = lines.lines().find(|line| line.contains(" --> ")).unwrap_or_default();
        assert!(outer.starts_with("10.1.2.2:") && outer.ends_with(" --> 0.0.0.0:9090"), "{lines}");
    }
}
