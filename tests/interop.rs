//! Every step against the handout's programs in Python on the other end of the tunnel, and our two ends together.

mod common;
mod fixtures;

use common::{Lab, User, eventually};
use fixtures::Running;
use fixtures::traffic::{CLIENT, echo_requests, has_route, transfer};

/// The bytes of a TCP transfer.
const TRANSFER: u64 = 10_000_000;

/// Who made an end of the tunnel.
#[derive(Debug, Clone, Copy)]
enum Maker {
    Ours,
    Python,
}
use Maker::{Ours, Python};

fn vpn_client(lab: &Lab, maker: Maker) -> Running<'_> {
    match maker {
        Ours => {
            let client = Running::tunnel(lab, "useru", &["vpn", "--role", "client"]);
            has_route(lab);
            client
        }
        Python => {
            let client = Running::python(lab, "useru", "vpn_client.py", &[], "Ready");
            add_route(lab);
            client
        }
    }
}

fn vpn_server(lab: &Lab, maker: Maker) -> Running<'_> {
    match maker {
        Ours => Running::tunnel(lab, "server", &["vpn", "--role", "server"]),
        Python => Running::python(lab, "server", "vpn_server.py", &[], "Ready"),
    }
}

/// The route to the private network, as the student of step 2 adds it.
#[track_caller]
fn add_route(lab: &Lab) {
    lab.sh("useru", "sudo ip route add 10.1.1.0/24 dev tun0").ok();
}

/// A ping with this many bytes of payload is answered.
#[track_caller]
fn ping(lab: &Lab, host: &str, to: &str, size: u32) {
    let size = size.to_string();
    let done = lab.exec(host, &["ping", "-c", "1", "-W", "5", "-s", &size, to]);
    assert_eq!(done.code, 0, "ping -s {size} {to} from {host}: {done:#?}");
}

/// Pings of all sizes and TCP, both ways.
fn carries_everything(lab: &Lab) {
    for size in [56, 1400, 4000] {
        ping(lab, "useru", "userv", size);
        ping(lab, "useru", "userw", size);
        ping(lab, "userv", CLIENT, size);
        ping(lab, "userw", CLIENT, size);
    }
    transfer(lab, "useru", "userv", "userv", TRANSFER);
    transfer(lab, "userv", "useru", CLIENT, TRANSFER);
}

fn a_tunnel_carries_everything(user: User, client: Maker, server: Maker) {
    let lab = Lab::up_at(user, 4);
    let mut server = vpn_server(&lab, server);
    let mut client = vpn_client(&lab, client);
    carries_everything(&lab);
    assert!(server.runs() && client.runs());
}

/// How many of a running ping's requests were answered so far.
fn answers(ping: &Running<'_>) -> usize {
    ping.stdout().matches("bytes from").count()
}

#[track_caller]
fn pings_are_answered_again(ping: &Running<'_>, after: &str) {
    let before = answers(ping);
    eventually(&format!("pings are answered after {after}"), || answers(ping) > before + 3);
}

/// A ping runs all the while; `ping` sends twenty requests a second.
fn either_end_can_be_restarted(user: User, client: Maker, server: Maker) {
    let lab = Lab::up_at(user, 4);
    let first_server = vpn_server(&lab, server);
    let first_client = vpn_client(&lab, client);
    let ping = Running::start(&lab, "useru", &["ping", "-n", "-i", "0.05", "10.1.1.2"]);
    pings_are_answered_again(&ping, "the start");

    first_server.end_with("KILL");
    assert!(!lab.pings("useru", "userv"), "a ping is answered without a server");
    let _second_server = vpn_server(&lab, server);
    pings_are_answered_again(&ping, "the server was started again");

    first_client.end_with("KILL");
    assert!(!lab.pings("useru", "userv"), "a ping is answered without a client");
    let _second_client = vpn_client(&lab, client);
    pings_are_answered_again(&ping, "the client was started again");
    assert!(lab.pings("userv", CLIENT), "the server does not know the new client");
}

/// Pings of userv arrive there from the client's address, whatever their size, and no reply finds its way back.
fn one_way_to_userv(lab: &Lab) {
    lab.sh("server", "sudo sysctl -w net.ipv4.ip_forward=1").ok();
    let mut watch = Running::watch(lab, "userv", &["eth0"]);
    assert!(!lab.pings("useru", "userv"), "a reply came back through a tunnel that has one direction");
    watch.wait_for("eth0 in 10.1.3.1 > 10.1.1.2 ICMP echo request length 84 checksums right\n");
    for size in ["1400", "4000"] {
        let before = echo_requests(lab, "userv");
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", size, "userv"]).expect(1);
        eventually("the ping arrives whole", || echo_requests(lab, "userv") == before + 1);
    }
}

for_each_user! {
    fn python_shows_and_answers_what_comes_out_of_a_tun_device(user: User) {
        let lab = Lab::up(user);
        let mut reader = Running::python(&lab, "useru", "tun.py", &[], "Ready");
        assert!(!lab.pings("useru", "10.1.3.4"));
        reader.wait_for("10.1.3.1 --> 10.1.3.4\n");
        drop(reader.end_with("KILL"));
        let _answerer = Running::python(&lab, "useru", "tun_ping.py", &[], "Ready");
        ping(&lab, "useru", "10.1.3.4", 57);
        ping(&lab, "useru", "10.1.3.4", 1472);
    }

    fn our_sink_shows_what_a_python_client_sends(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server on port 9090\n");
        let _client = Running::python(&lab, "useru", "tun_client.py", &[], "Ready");
        lab.exec("useru", &["ping", "-c1", "-W1", "10.1.3.5"]).expect(1);
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.3.5\n");
        add_route(&lab);
        lab.exec("useru", &["ping", "-c1", "-W1", "userv"]).expect(1);
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
        assert!(outer_lines(&sink).iter().all(|line| is_from_useru(line)), "{}", sink.stdout());
    }

    fn a_python_sink_shows_what_our_client_sends(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::python(&lab, "server", "tun_udp_server.py", &[], "Start UDP server on port 9090\n");
        let _client = Running::tunnel(&lab, "useru", &["client", "--server", "server:9090", "--route", "10.1.1.0/24"]);
        has_route(&lab);
        lab.exec("useru", &["ping", "-c1", "-W1", "10.1.3.5"]).expect(1);
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.3.5\n");
        lab.exec("useru", &["ping", "-c1", "-W1", "userv"]).expect(1);
        sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
        assert!(outer_lines(&sink).iter().all(|line| is_from_useru(line)), "{}", sink.stdout());
    }

    fn our_server_delivers_what_a_python_client_sends(user: User) {
        let lab = Lab::up(user);
        let mut server = Running::tunnel(&lab, "server", &["server"]);
        let _client = Running::python(&lab, "useru", "tun_client.py", &[], "Ready");
        add_route(&lab);
        one_way_to_userv(&lab);
        server.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
    }

    fn a_python_server_delivers_what_our_client_sends(user: User) {
        let lab = Lab::up(user);
        let mut server = Running::python(&lab, "server", "tun_server.py", &[], "Ready");
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        has_route(&lab);
        one_way_to_userv(&lab);
        server.wait_for(" Inside: 10.1.3.1 ---> 10.1.1.2\n");
    }

    fn our_server_delivers_what_our_client_sends(user: User) {
        let lab = Lab::up(user);
        let _server = Running::tunnel(&lab, "server", &["server"]);
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        has_route(&lab);
        one_way_to_userv(&lab);
    }

    fn a_python_client_and_our_server_carry_everything(user: User) {
        a_tunnel_carries_everything(user, Python, Ours);
    }

    fn our_client_and_a_python_server_carry_everything(user: User) {
        a_tunnel_carries_everything(user, Ours, Python);
    }

    fn our_client_and_our_server_carry_everything(user: User) {
        a_tunnel_carries_everything(user, Ours, Ours);
    }

    fn a_python_client_or_our_server_can_be_restarted(user: User) {
        either_end_can_be_restarted(user, Python, Ours);
    }

    fn our_client_or_a_python_server_can_be_restarted(user: User) {
        either_end_can_be_restarted(user, Ours, Python);
    }

    fn our_client_or_our_server_can_be_restarted(user: User) {
        either_end_can_be_restarted(user, Ours, Ours);
    }

    fn a_client_that_comes_from_another_port_is_followed(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = vpn_server(&lab, Ours);
        let client_on = |port| {
            let client = Running::python(&lab, "useru", "vpn_client.py", &["server", "9090", port], "Ready");
            add_route(&lab);
            client
        };
        let first = client_on("40001");
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
        first.end_with("KILL");
        assert!(!lab.pings("userv", CLIENT));
        let _second = client_on("40002");
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
    }
}

/// The lines of a sink about the outer packets.
fn outer_lines(sink: &Running<'_>) -> Vec<String> {
    sink.stdout().lines().filter(|line| line.contains(" --> ")).map(String::from).collect()
}

/// Whether a sink's line about an outer packet has useru's address, any port, and its own port.
fn is_from_useru(line: &str) -> bool {
    let port = line.strip_prefix("10.1.2.2:").and_then(|rest| rest.strip_suffix(" --> 0.0.0.0:9090"));
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}
