//! A persistent TUN device keeps what its last user has set. Who attaches to it next must not get large packets that it
//! does not expect.

use crate::common::{self, Lab, eventually};
use crate::fixtures::traffic::{Flows, Summary, has_route, transfer};
use crate::fixtures::{Running, python};
use crate::for_each_user;

const MTU: u32 = 1472;

/// A persistent device on useru that leads to the private network, and has what the client's end wants.
#[track_caller]
fn make_device(lab: &Lab) {
    let commands = "sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip tuntap add dev tun0 mode tun; \
        ip addr add 10.1.3.1/24 dev tun0; ip link set dev tun0 mtu 1472 up; ip route add 10.1.1.0/24 dev tun0";
    lab.sh("useru", commands).ok();
}

/// A fast client on the device, which has carried something.
#[track_caller]
fn fast_client(lab: &Lab) -> Running<'_> {
    let mut client = Running::step(lab, "useru", &["vpn", "--role", "client", "--tun", "tun0", "--no-configure"]);
    client.wait_for("tun0: TSO on, USO on");
    has_route(lab);
    transfer(lab, "useru", "userv", "10.1.1.2", 1_000_000);
    client
}

/// Sends 60 datagrams into the tunnel, most of them in runs; nobody needs to answer.
#[track_caller]
fn send_runs(lab: &Lab) {
    let words = ["send", "10.1.1.2", "6000", "3", "20", "runs", "1000"];
    Running::start(lab, "useru", &python("udp_flows.py", &words)).wait().ok();
}

/// The longest packet that a program gets that attaches to the device and asks for nothing.
#[track_caller]
fn longest(lab: &Lab) -> u32 {
    let reader = Running::python(lab, "useru", "tun_longest.py", &["tun0"], "Ready");
    let read = |reader: &Running<'_>| -> Option<u32> { reader.stdout().rsplit("longest ").next()?.trim().parse().ok() };
    send_runs(lab);
    eventually("packets are read", || read(&reader).is_some_and(|longest| longest > 1000));
    // What was sent is read by now: a packet behind it is.
    lab.exec("useru", &["ping", "-c1", "-W1", "10.1.1.2"]).expect(1);
    let longest = read(&reader).expect("a number");
    reader.end_with("KILL");
    longest
}

/// A Python client on the device.
#[track_caller]
fn python_client_works(lab: &Lab) {
    let client = Running::python(lab, "useru", "vpn_client.py", &["server", "9090", "0", "tun0"], "Ready");
    has_route(lab);
    transfer(lab, "useru", "userv", "10.1.1.2", 1_000_000);
    Flows { flows: 2, count: 100, sizes: "runs", window: 40 }.arrive(lab, "useru", "userv", "10.1.1.2");
    client.end_with("KILL");
}

for_each_user! {
    fn a_fast_end_leaves_a_persistent_device_as_it_was(user: User) {
        let lab = Lab::up_at(user, 4);
        make_device(&lab);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        fast_client(&lab).interrupt().ok();
        assert!(longest(&lab) <= MTU);
        python_client_works(&lab);
    }

    fn after_a_fast_end_was_killed_a_plain_step_is_not_confused_and_puts_the_device_right(user: User) {
        let lab = Lab::up_at(user, 4);
        make_device(&lab);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        fast_client(&lab).end_with("KILL");
        assert!(longest(&lab) > MTU, "the kernel keeps what was set: else this test shows nothing");
        let mut reader = Running::step(&lab, "useru", &["tun-read", "--tun", "tun0", "--no-configure"]);
        reader.wait_for("Interface name: tun0");
        send_runs(&lab);
        reader.wait_for(" more");
        let done = reader.interrupt().ok();
        assert!(done.stderr.contains("tun0: 60 packets ("), "{done:#?}");
        assert!(longest(&lab) <= MTU);
        python_client_works(&lab);
    }

    fn a_plain_end_can_follow_a_fast_one_that_was_killed(user: User) {
        let lab = Lab::up_at(user, 4);
        make_device(&lab);
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        fast_client(&lab).end_with("KILL");
        let options = ["vpn", "--role", "client", "--tun", "tun0", "--no-configure", "--no-offload"];
        let mut client = Running::step(&lab, "useru", &options);
        client.wait_for("Interface name: tun0");
        has_route(&lab);
        transfer(&lab, "useru", "userv", "10.1.1.2", 1_000_000);
        assert_eq!(Summary::of(&client.interrupt().ok()).dropped, 0);
    }
}
