//! What goes to stdout, what to stderr, what to a log file, and what happens when one of them takes nothing.

use crate::common::{self, Lab, User, eventually};
use crate::fixtures::Running;
use crate::{CLIENT, for_each_user, has_route, ipv4_lines, summary, vpn};

for_each_user! {
    fn stdout_has_the_packets_and_stderr_the_log(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        for done in [client.interrupt().ok(), server.interrupt().ok()] {
            assert!(done.stdout.lines().all(|line| line.starts_with("From ")), "{done:#?}");
            assert!(done.stderr.lines().all(|line| line.starts_with('[')), "{done:#?}");
        }
    }

    fn each_packet_is_printed_at_once_into_a_pipe_too(user: User) {
        let lab = Lab::up(user);
        let script = "vpnlab tun-read | while read -r line; do echo \"got $line\"; done";
        let mut reader = Running::start(&lab, "useru", &["sh", "-c", script]);
        reader.wait_for("ip link set dev tun0 up");
        eventually("the device answers for its address", || lab.pings("useru", CLIENT));
        assert!(!lab.pings("useru", "10.1.3.4"));
        reader.wait_for("got IP / ICMP 10.1.3.1 > 10.1.3.4");
    }

    fn q_logs_less_and_still_shows_the_packets(user: User) {
        let lab = Lab::up(user);
        let logged = |options: &[&str]| {
            let mut reader = Running::step(&lab, "useru", &[&["tun-read"], options].concat());
            eventually("the device is up", || lab.pings("useru", CLIENT));
            assert!(!lab.pings("useru", "10.1.3.4"));
            reader.wait_for("IP / ICMP 10.1.3.1 > 10.1.3.4");
            reader.interrupt().ok().stderr
        };
        assert_eq!(logged(&["-q"]), "");
        assert_eq!(logged(&[]).lines().count(), 4);
    }

    fn a_log_file_has_the_log_and_the_packets_with_their_times_and_grows(user: User) {
        let lab = Lab::up(user);
        let file = format!("/tmp/{}-{user:?}.log", lab.name);
        for run in 1..=2 {
            let mut reader = Running::tunnel(&lab, "useru", &["tun-read", "--log-file", &file]);
            assert!(!lab.pings("useru", "10.1.3.4"));
            reader.wait_for("IP / ICMP 10.1.3.1 > 10.1.3.4");
            reader.interrupt().ok();
            let logged = lab.exec("useru", &["cat", &file]).ok().stdout;
            for part in ["Interface name: tun0", "IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw", "; dropped 0"] {
                assert_eq!(logged.matches(part).count(), run, "{part}: {logged}");
            }
            assert!(logged.lines().all(|line| line.starts_with("20") && line.contains('T')), "{logged}");
        }
        lab.exec("useru", &["rm", &file]).ok();
    }

    fn a_full_disk_under_the_log_file_does_not_end_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &["--log-file", "/dev/full"], &["--log-file", "/dev/full"]);
        assert!(lab.pings("useru", "userv"));
        for end in [client, server] {
            let done = end.interrupt().ok();
            assert_eq!(ipv4_lines(&done.stdout).len(), 2);
            assert_eq!(done.stderr.matches("[WARN] cannot write to the log file: No space left").count(), 1, "{done:#?}");
        }
    }

    fn a_full_disk_under_stdout_does_not_end_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let script = "exec vpnlab vpn --role client >/dev/full";
        let mut client = Running::start(&lab, "useru", &["sh", "-c", script]);
        client.wait_for("ip route add");
        has_route(&lab);
        assert!(lab.pings("useru", "userv") && lab.pings("useru", "userv"));
        let done = client.interrupt().ok();
        assert_eq!(done.stderr.matches("cannot write to stdout").count(), 1, "{done:#?}");
    }

    fn a_reader_that_has_enough_ends_a_step_that_only_shows_packets(user: User) {
        let lab = Lab::up(user);
        let reader = Running::start(&lab, "useru", &["sh", "-c", "vpnlab tun-read | head -1; echo over"]);
        eventually("the device is up", || lab.pings("useru", CLIENT));
        for _ in 0..3 {
            lab.pings("useru", "10.1.3.4");
        }
        let done = reader.wait().ok();
        assert!(done.stdout.ends_with("over\n"), "{done:#?}");
        assert!(!done.stderr.contains("Broken pipe"), "{done:#?}");
    }

    fn a_reader_that_has_enough_does_not_end_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let mut server = Running::start(&lab, "server", &["sh", "-c", "vpnlab vpn --role server | head -1"]);
        server.wait_for("ip link set dev tun0 up");
        let mut client = Running::start(&lab, "useru", &["sh", "-c", "vpnlab vpn --role client 2>&1 | head -3"]);
        client.wait_for("Interface name");
        has_route(&lab);
        for _ in 0..5 {
            assert!(lab.pings("useru", "userv"));
        }
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
        let said = server.stderr().matches("[INFO] Nobody reads stdout any more").count();
        assert_eq!(said, 1, "{}", server.stderr());
        assert!(server.stdout().lines().count() == 1, "{}", server.stdout());
    }

    fn a_flood_is_shown_by_few_lines_that_count_all(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        // Two milliseconds are what ping allows a plain user; in a flood it sends more as answers come.
        let flood = ["ping", "-f", "-q", "-i", "0.002", "-c", "2000", "userv"];
        assert!(lab.exec("useru", &flood).ok().stdout.contains("2000 packets transmitted"));
        let done = client.interrupt().ok();
        let lines: Vec<_> = done.stdout.lines().collect();
        assert!(lines.len() < 150, "{} lines", lines.len());
        let packets: u64 = lines.iter().map(|line| packets_of(line)).sum();
        assert!(packets >= 2000, "{packets} packets in {lines:#?}");
        let counted: Vec<u64> = summary(&done.stderr).split(" packet").filter_map(last_number).collect();
        assert_eq!(packets, counted[0] + counted[2], "{done:#?}");
        assert!(summary(&done.stderr).ends_with("; dropped 0"), "{done:#?}");
    }
}

/// Only root can mount, so only root has a disk of its own to fill.
#[test]
fn a_disk_that_fills_up_under_the_log_file_does_not_end_the_tunnel() {
    let lab = Lab::up_at(User::Root, 4);
    let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
    // One page in all, of which the log may have the last 96 bytes: the second line does not fit.
    let disk = "mkdir /run/disk && mount -t tmpfs -o size=4k tmpfs /run/disk && head -c 4000 /dev/zero >/run/disk/log";
    let script = format!("{disk} && exec vpnlab vpn --role client --log-file /run/disk/log");
    let mut client = Running::start(&lab, "useru", &["sh", "-c", &script]);
    client.wait_for("ip route add");
    has_route(&lab);
    assert!(lab.pings("useru", "userv"));
    let size = lab.sh("useru", &format!("stat -c %s /proc/{}/root/run/disk/log", client.pid())).ok();
    assert_eq!(size.stdout, "4096\n", "the disk is not full");
    assert!(lab.pings("userv", CLIENT));
    let done = client.interrupt().ok();
    assert_eq!(ipv4_lines(&done.stdout).len(), 4);
    assert_eq!(done.stderr.matches("cannot write to the log file: No space left").count(), 1, "{done:#?}");
}

/// How many packets a line of the step's result stands for.
fn packets_of(line: &str) -> u64 {
    match line.strip_prefix("... and ") {
        Some(rest) => rest.split(' ').next().and_then(|count| count.parse().ok()).expect("it is a count"),
        None => 1,
    }
}

fn last_number(text: &str) -> Option<u64> {
    text.rsplit(' ').next().and_then(|word| word.parse().ok())
}
