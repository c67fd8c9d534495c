//! How a step ends, and what is left of it.

use crate::common::{self, Lab, eventually};
use crate::fixtures::Running;
use crate::{STEPS, for_each_user, summary};

/// Starts a step, and waits until it does its work.
#[track_caller]
fn ready<'l>(lab: &'l Lab, host: &str, arguments: &[&str]) -> Running<'l> {
    if arguments[0] != "udp-sink" {
        return Running::tunnel(lab, host, arguments);
    }
    let mut sink = Running::step(lab, host, arguments);
    sink.wait_for("Start UDP server");
    sink
}

/// Whether a host has a TUN device.
#[track_caller]
fn has_device(lab: &Lab, host: &str) -> bool {
    lab.exec(host, &["ip", "link", "show"]).ok().stdout.contains("tun0")
}

for_each_user! {
    fn ctrl_c_and_sigterm_end_every_step_with_a_summary_and_nothing_is_left(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, step) in STEPS {
            for signal in ["INT", "TERM"] {
                let done = ready(&lab, host, step).end_with(signal);
                assert_eq!(done.code, 0, "{step:?} after SIG{signal}: {done:#?}");
                let summary = summary(&done.stderr);
                for part in [" packet", " bytes) in", " out", "; dropped "] {
                    assert!(summary.contains(part), "{step:?} after SIG{signal}: {done:#?}");
                }
                assert!(!has_device(&lab, host), "{step:?} after SIG{signal}");
            }
        }
    }

    fn the_summary_has_packets_bytes_and_drops_with_their_reasons(user: User) {
        let lab = Lab::up(user);
        // A device without IPv6 carries only what the test sends.
        lab.sh("useru", "sysctl -qw net.ipv6.conf.default.disable_ipv6=1").ok();
        let responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        for _ in 0..3 {
            lab.exec("useru", &["ping", "-c", "1", "-W", "5", "-s", "100", "10.1.3.4"]).ok();
        }
        let done = responder.interrupt().ok();
        assert_eq!(
            summary(&done.stderr),
            "[INFO] tun0: 3 packets (384 bytes) in, 3 packets (384 bytes) out; dropped 0"
        );
        let mut client = Running::tunnel(&lab, "useru", &["client"]);
        // The answer to the first datagram is heard of when the second is sent.
        assert!(!lab.pings("useru", "10.1.3.5") && !lab.pings("useru", "10.1.3.5"));
        client.wait_for("refuses datagrams");
        let done = client.interrupt().ok();
        assert_eq!(
            summary(&done.stderr),
            "[INFO] tun0: 2 packets (168 bytes) in, 0 packets (0 bytes) out; \
             UDP: 0 packets (0 bytes) in, 2 packets (168 bytes) out; dropped 1: 1 connection refused"
        );
    }

    fn a_step_that_was_killed_leaves_no_device_and_can_be_started_again(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, step) in STEPS {
            ready(&lab, host, step).end_with("KILL");
            assert!(!has_device(&lab, host), "{step:?}");
            ready(&lab, host, step).interrupt().ok();
        }
    }

    fn a_signal_during_traffic_ends_the_step_at_once(user: User) {
        let lab = Lab::up(user);
        let responder = Running::tunnel(&lab, "useru", &["tun-ping"]);
        let ping = Running::start(&lab, "useru", &["ping", "-q", "-i", "0.002", "10.1.3.4"]);
        let device = "ip -s link show dev tun0 | sed -n 4p";
        eventually("packets flow", || {
            let counters = lab.sh("useru", device).ok().stdout;
            counters.split_whitespace().nth(1).and_then(|count| count.parse().ok()).is_some_and(|count: u64| count > 50)
        });
        responder.interrupt().ok();
        ping.interrupt();
    }

    fn sigusr1_asks_for_the_counts_and_ends_nothing(user: User) {
        let lab = Lab::up_at(user, 4);
        for (number, (host, step)) in STEPS.into_iter().enumerate() {
            // Where every user can write.
            let file = format!("/tmp/{}-{number}.json", lab.name);
            let mut running = ready(&lab, host, &[step, &["--stats-json", &file]].concat());
            running.signal("USR1");
            running.wait_for("; dropped ");
            let read = || lab.exec(host, &["cat", &file]).ok().stdout;
            let mut at_once = String::new();
            eventually("the file is written", || {
                at_once = read();
                at_once.ends_with("}\n")
            });
            let end = if step[0] == "udp-sink" { "\"udp\": {" } else { "\"tun\": {" };
            assert!(at_once.starts_with('{') && at_once.contains(end), "{step:?}: {at_once}");
            assert!(running.runs(), "{step:?}");
            let done = running.interrupt().ok();
            assert_eq!(done.stderr.matches("; dropped ").count(), 2, "{step:?}: {done:#?}");
            // At the end the file says the same as the log.
            let received = |text: &str, before, after| {
                let number = text.split(before).nth(1)?.split(after).next()?;
                number.trim().parse::<u64>().ok()
            };
            let name = if step[0] == "udp-sink" { "UDP: " } else { "tun0: " };
            let log = received(summary(&done.stderr), name, " packet");
            let part = read().split(end).nth(1).expect("the end is there").to_string();
            assert!(log.is_some(), "{done:#?}");
            assert_eq!(received(&part, "\"packets\":", "}"), log, "{step:?}: {done:#?}");
            lab.exec(host, &["rm", &file]).ok();
        }
    }
}
