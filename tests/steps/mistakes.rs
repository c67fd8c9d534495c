//! What the user did wrong is an error: one line that names it and the way out, an exit code, and nothing changed.

use crate::common::{self, Done, Lab, Machine, User};
use crate::fixtures::Running;
use crate::{CLIENT, for_each_user, forwards, vpn};

/// A user's mistake: the host where it is made, the command line, the exit code, and what the error says.
type Mistake = (&'static str, &'static [&'static str], i32, &'static [&'static str]);

const USED_WRONGLY: i32 = 2;

/// Mistakes that are seen before anything is changed; tests/cli.rs has more of the command line's own.
const MISTAKES: [Mistake; 14] = [
    ("useru", &["vpn"], USED_WRONGLY, &["--role"]),
    ("useru", &["vpn", "--role", "nobody"], USED_WRONGLY, &["nobody", "client", "server"]),
    ("useru", &["vpn", "--role", "client", "--forward"], USED_WRONGLY, &["--forward", "--role server"]),
    ("server", &["vpn", "--role", "server", "--server", "10.1.2.3"], USED_WRONGLY, &["--server", "--role client"]),
    ("useru", &["tun-read", "--tun", "sixteen_bytes_xx"], USED_WRONGLY, &["sixteen_bytes_xx", "15 bytes"]),
    ("useru", &["tun-read", "--address", "10.1.3.1"], USED_WRONGLY, &["10.1.3.1/24"]),
    ("useru", &["tun-read", "--mtu", "67"], USED_WRONGLY, &["--mtu", "68..=65535"]),
    ("useru", &["client", "--server", "nobody-here:9090"], USED_WRONGLY, &["unknown host nobody-here"]),
    ("useru", &["client", "--server", "224.0.0.1"], USED_WRONGLY, &["224.0.0.1 is no host's address"]),
    ("useru", &["client", "--server", "255.255.255.255"], USED_WRONGLY, &["255.255.255.255 is no host's address"]),
    ("useru", &["client", "--route", "10.1.1.7/24"], USED_WRONGLY, &["10.1.1.0/24"]),
    ("useru", &["vpn", "--role", "client", "--route", "10.1.2.0/24"], USED_WRONGLY, &["10.1.2.0/24", "10.1.2.3"]),
    ("useru", &["client", "--route", "10.1.2.3/32"], USED_WRONGLY, &["10.1.2.3/32", "led into the tunnel"]),
    ("server", &["server", "--bind", "1.2.3.4"], USED_WRONGLY, &["1.2.3.4"]),
];

/// Panics unless the error is one line that says all this.
#[track_caller]
fn says(done: &Done, code: i32, parts: &[&str]) {
    assert_eq!(done.code, code, "{done:#?}");
    let error = done.stderr.lines().last().unwrap_or_default();
    assert!(error.starts_with("vpnlab: "), "{done:#?}");
    for part in parts {
        assert!(error.contains(part), "{part} is not in {done:#?}");
    }
    // What was logged before it, if anything, is the log; the error itself is the last line and one line.
    let before = done.stderr.lines().count() - 1;
    assert!(done.stderr.lines().take(before).all(|line| line.starts_with('[')), "{done:#?}");
}

/// Runs a step that ends at once.
#[track_caller]
fn fails(lab: &Lab, host: &str, step: &[&str]) -> Done {
    lab.exec(host, &[&["vpnlab"], step].concat())
}

/// What a network namespace holds that a step could have changed.
#[track_caller]
fn state(lab: &Lab, host: &str) -> String {
    lab.sh(host, "ip -o link | cut -d' ' -f2; ip route; cat /proc/sys/net/ipv4/ip_forward").ok().stdout
}

for_each_user! {
    fn a_mistake_on_the_command_line_is_named_in_one_line_and_nothing_is_changed(user: User) {
        let lab = Lab::up(user);
        let before = [state(&lab, "useru"), state(&lab, "server")];
        for (host, step, code, parts) in MISTAKES {
            says(&fails(&lab, host, step), code, parts);
        }
        assert_eq!([state(&lab, "useru"), state(&lab, "server")], before);
        // They are mistakes: without them it works.
        Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]).interrupt().ok();
    }

    fn a_route_that_covers_the_server_less_closely_than_another_is_no_mistake(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &["--route", "10.0.0.0/8"], &[]);
        assert!(lab.pings("useru", "server") && lab.pings("useru", "userv"));
    }

    fn a_name_that_is_in_use_is_an_error(user: User) {
        let lab = Lab::up(user);
        let mut first = Running::tunnel(&lab, "useru", &["tun-read", "--tun", "tun7"]);
        let done = fails(&lab, "useru", &["tun-ping", "--tun", "tun7", "--address", "10.9.3.1/24"]);
        says(&done, 1, &["cannot create TUN device tun7", "in use", "--tun"]);
        assert!(first.runs());
        let done = fails(&lab, "useru", &["tun-ping", "--tun", "eth0"]);
        says(&done, 1, &["cannot create TUN device eth0", "in use"]);
        let second = Running::tunnel(&lab, "useru", &["tun-ping", "--address", "10.9.3.1/24"]);
        assert_eq!(second.interface(), "tun0");
    }

    fn a_port_that_is_in_use_is_an_error(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server");
        for step in [&["udp-sink"][..], &["server", "--forward"], &["vpn", "--role", "server"]] {
            says(&fails(&lab, "server", step), 1, &["port 9090", "in use"]);
        }
        assert!(!forwards(&lab, "server"));
        let mut other = Running::step(&lab, "server", &["udp-sink", "--port", "9091"]);
        other.wait_for("Start UDP server on port 9091\n");
    }

    fn one_address_on_both_ends_is_warned_of(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, server) = vpn(&lab, &[], &["--address", "10.1.3.1/24"]);
        assert!(server.stderr().contains("[WARN] 10.1.3.1 "), "{}", server.stderr());
        assert!(!lab.pings("useru", "userv"));
        let log = server.interrupt().ok().stderr;
        assert_eq!(log.matches("comes from 10.1.3.1, the address of tun0 itself").count(), 1, "{log}");
        assert!(log.contains(" from our own address"), "{log}");
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
    }
}

#[test]
fn without_rights_a_step_says_how_to_get_them() {
    let machine = Machine::new(User::Plain);
    let way_out = "run with sudo, or inside the lab: vpnlab lab exec HOST -- ...";
    for step in [&["tun-read"][..], &["tun-ping"], &["client", "--server", "127.0.0.1"], &["server", "--port", "0"]] {
        let done = machine.vpnlab(step);
        says(&done, 3, &["cannot create a TUN device: Operation not permitted (os error 1)", way_out]);
        assert_eq!(done.stdout, "");
    }
    says(&machine.vpnlab(&["udp-sink", "--port", "53"]), 3, &["port 53", "ermission denied"]);
}

#[test]
fn without_the_tun_driver_a_step_says_how_to_get_it() {
    let lab = Lab::up(User::Root);
    let done = lab.sh("useru", "mount -t tmpfs tmpfs /dev/net && exec vpnlab tun-read");
    says(&done, 3, &["cannot create a TUN device: cannot open /dev/net/tun: No such file", "sudo modprobe tun"]);
    Running::tunnel(&lab, "useru", &["tun-read"]).interrupt().ok();
}
