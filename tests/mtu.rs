//! The MTU of `vpn` is right by itself: it follows the path to the other end, and what is larger all the same is cut or
//! refused as a router does, so that no outer packet is ever sent in fragments.

mod common;
mod fixtures;

use common::{Done, Lab, eventually};
use fixtures::{Running, python};

/// The addresses of the two ends in the tunnel.
const CLIENT: &str = "10.1.3.1";
const SERVER: &str = "10.1.3.2";

fn client<'l>(lab: &'l Lab, options: &[&str]) -> Running<'l> {
    let client = Running::tunnel(lab, "useru", &[&["vpn", "--role", "client"], options].concat());
    eventually("the private network is reached through tun0", || {
        lab.sh("useru", "ip route get 10.1.1.2").ok().stdout.contains("dev tun0")
    });
    client
}

fn server<'l>(lab: &'l Lab, options: &[&str]) -> Running<'l> {
    Running::tunnel(lab, "server", &[&["vpn", "--role", "server"], options].concat())
}

/// The MTU that an interface of a host has now.
#[track_caller]
fn mtu(lab: &Lab, host: &str, interface: &str) -> u32 {
    let shown = lab.exec(host, &["ip", "-o", "link", "show", "dev", interface]).ok().stdout;
    let mtu = shown.split(" mtu ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    mtu.unwrap_or_else(|| panic!("ip shows no MTU: {shown}"))
}

#[track_caller]
fn set_mtu(lab: &Lab, host: &str, interface: &str, mtu: u32) {
    lab.sh(host, &format!("ip link set dev {interface} mtu {mtu}")).ok();
}

/// Gives the network between the two ends another MTU.
#[track_caller]
fn set_lan0(lab: &Lab, mtu: u32) {
    set_mtu(lab, "useru", "eth0", mtu);
    set_mtu(lab, "server", "eth0", mtu);
}

/// Waits until the TUN devices of both ends have this MTU.
#[track_caller]
fn both_have(lab: &Lab, wanted: u32) {
    for host in ["useru", "server"] {
        eventually(&format!("the MTU of {host} is {wanted}"), || mtu(lab, host, "tun0") == wanted);
    }
}

/// One ping, with this many bytes of payload; `mode` is `do` where nothing may be cut, and `dont` where it may.
#[track_caller]
fn ping(lab: &Lab, host: &str, to: &str, mode: &str, size: u32) -> Done {
    lab.exec(host, &["ping", "-n", "-c1", "-W5", "-M", mode, "-s", &size.to_string(), to])
}

/// A ping that goes on, so that packets flow.
fn pinging<'l>(lab: &'l Lab, host: &str, to: &str) -> Running<'l> {
    Running::start(lab, host, &["ping", "-n", "-i", "0.05", to])
}

/// How many fragments a host has made so far, of IPv4 and IPv6 packets of its own or that it forwards.
#[track_caller]
fn fragments(lab: &Lab, host: &str) -> u64 {
    let v4 = lab.sh(host, "cat /proc/self/net/snmp").ok().stdout;
    let lines: Vec<_> = v4.lines().filter(|line| line.starts_with("Ip: ")).collect();
    let column = lines[0].split(' ').position(|name| name == "FragCreates").expect("the kernel counts fragments");
    let v4: u64 = lines[1].split(' ').nth(column).and_then(|count| count.parse().ok()).expect("counters are numbers");
    let v6 = lab.sh(host, "cat /proc/self/net/snmp6").ok().stdout;
    let v6 = v6.lines().find(|line| line.starts_with("Ip6FragCreates")).expect("the kernel counts fragments");
    let v6: u64 = v6.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect("counters are numbers");
    v4 + v6
}

/// No host has made a fragment; they would be counted, as a packet shows that has to be cut.
#[track_caller]
fn nobody_has_made_fragments(lab: &Lab) {
    assert_eq!(["useru", "server"].map(|host| fragments(lab, host)), [0, 0]);
    ping(lab, "useru", "10.1.2.3", "dont", 1600).ok();
    // The request, and its reply.
    assert_eq!(["useru", "server"].map(|host| fragments(lab, host)), [2, 2]);
}

/// Both ends get IPv6 addresses on the network between them.
#[track_caller]
fn ipv6_outside(lab: &Lab) {
    lab.sh("useru", "ip addr add fd00:2::2/64 dev eth0 nodad").ok();
    lab.sh("server", "ip addr add fd00:2::3/64 dev eth0 nodad").ok();
}

const CLIENT_BOTH: [&str; 4] = ["--address", "10.1.3.1/24", "--address", "fd00:3::1/64"];
const SERVER_BOTH: [&str; 4] = ["--address", "10.1.3.2/24", "--address", "fd00:3::2/64"];

for_each_user! {
    fn it_leaves_room_for_the_outer_headers(user: User) {
        let lab = Lab::up_at(user, 4);
        let server = server(&lab, &[]);
        assert_eq!(mtu(&lab, "server", "tun0"), 1472, "without a client yet");
        let client = client(&lab, &[]);
        assert_eq!(mtu(&lab, "useru", "tun0"), 1472);
        ping(&lab, "useru", "userv", "do", 1444).ok();
        assert!(ping(&lab, "useru", "userv", "do", 1445).expect(1).stderr.contains("mtu=1472"));
        ping(&lab, "useru", "userw", "dont", 1445).ok();
        assert_eq!(["useru", "server"].map(|host| mtu(&lab, host, "tun0")), [1472, 1472]);
        for end in [client, server] {
            assert_eq!(end.interrupt().ok().stderr.matches(" mtu ").count(), 1, "it was set once");
        }
    }

    fn it_leaves_room_for_the_longer_headers_of_ipv6(user: User) {
        let lab = Lab::up_at(user, 4);
        ipv6_outside(&lab);
        let _server = server(&lab, &["--bind", "::", "--peer-timeout", "1"]);
        assert_eq!(mtu(&lab, "server", "tun0"), 1452, "without a client yet");
        let first = client(&lab, &["--server", "[fd00:2::3]"]);
        assert_eq!(mtu(&lab, "useru", "tun0"), 1452);
        ping(&lab, "useru", "userv", "do", 1424).ok();
        ping(&lab, "userv", CLIENT, "do", 1424).ok();
        nobody_has_made_fragments(&lab);
        // A client over IPv4 has more room, also at a server that hears both. For the server it is another host, which gets
        // the inner address once that was not used for a while.
        first.interrupt().ok();
        let _second = client(&lab, &["--server", "10.1.2.3"]);
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        both_have(&lab, 1472);
    }

    fn a_smaller_network_outside_makes_it_smaller(user: User) {
        let lab = Lab::up_at(user, 4);
        set_lan0(&lab, 1400);
        let mut server = server(&lab, &[]);
        let mut client = client(&lab, &[]);
        assert_eq!(mtu(&lab, "useru", "tun0"), 1372);
        client.wait_for("The path to 10.1.2.3 takes packets of 1400 bytes");
        // The server learns where the client is from its first packet, and says why it changes its MTU and how.
        ping(&lab, "useru", "userv", "do", 1344).ok();
        both_have(&lab, 1372);
        server.wait_for("The path to 10.1.2.2 takes packets of 1400 bytes");
        server.wait_for("ip link set dev tun0 mtu 1372");
        ping(&lab, "userv", CLIENT, "do", 1344).ok();
        let refused = ping(&lab, "userv", CLIENT, "do", 1345).expect(1);
        assert!(refused.stdout.contains("mtu = 1372"), "{refused:#?}");
    }

    fn a_network_that_changes_is_followed_down_and_up(user: User) {
        let lab = Lab::up_at(user, 4);
        let (server, client) = (server(&lab, &[]), client(&lab, &[]));
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        for (outside, inside) in [(1500, 1472), (1400, 1372), (900, 872), (1500, 1472)] {
            set_lan0(&lab, outside);
            both_have(&lab, inside);
            ping(&lab, "userv", CLIENT, "do", inside - 28).ok();
        }
        for end in [client, server] {
            let log = end.interrupt().ok().stderr;
            assert_eq!(log.matches("takes packets of").count(), 3, "each change is explained: {log}");
        }
    }

    fn an_interface_under_another_name_is_followed_on(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_server, _client) = (server(&lab, &[]), client(&lab, &[]));
        lab.sh("useru", "ip link set dev tun0 down && ip link set dev tun0 name other && ip link set dev other up").ok();
        let private = || lab.sh("useru", "ip route get 10.1.1.2").ok().stdout;
        eventually("the route is put back", || private().contains("dev other"));
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        set_lan0(&lab, 1400);
        eventually("the client's MTU follows", || mtu(&lab, "useru", "other") == 1372);
        ping(&lab, "useru", "userv", "do", 1344).ok();
    }

    fn a_route_with_an_mtu_of_its_own_is_followed(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_server, _client) = (server(&lab, &[]), client(&lab, &[]));
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        both_have(&lab, 1472);
        lab.sh("useru", "ip route add 10.1.2.3 dev eth0 mtu 1450").ok();
        eventually("the client's MTU follows", || mtu(&lab, "useru", "tun0") == 1422);
        lab.sh("useru", "ip route del 10.1.2.3 dev eth0 mtu 1450").ok();
        eventually("the client's MTU follows", || mtu(&lab, "useru", "tun0") == 1472);
        assert_eq!(mtu(&lab, "server", "tun0"), 1472, "the other direction is not concerned");
    }

    fn what_a_router_far_away_says_is_learned(user: User) {
        let topology = fixtures::path("far.toml");
        let lab = Lab::up_with(user, &["--topology", &topology]);
        set_mtu(&lab, "left", "eth1", 1300);
        set_mtu(&lab, "right", "eth0", 1300);
        let (mut server, mut client) = (server(&lab, &[]), client(&lab, &[]));
        eventually("the tunnel works", || lab.pings("useru", SERVER));
        assert_eq!(["useru", "server"].map(|host| mtu(&lab, host, "tun0")), [1472, 1472], "nobody knows yet");
        // The first large datagram of each end is lost, and brings the answer of the router before the small network.
        let large = ["ping", "-n", "-c1", "-W1", "-M", "dont", "-s", "1400", SERVER];
        eventually("large packets go there and back", || lab.exec("useru", &large).code == 0);
        both_have(&lab, 1272);
        client.wait_for("a network on the way to 10.2.3.2:9090 takes packets of 1300 bytes at most");
        server.wait_for("takes packets of 1300 bytes at most");
        for host in ["useru", "server"] {
            let to = if host == "useru" { SERVER } else { CLIENT };
            ping(&lab, host, to, "do", 1244).ok();
            assert!(ping(&lab, host, to, "do", 1245).expect(1).stderr.contains("mtu=1272"));
        }
    }

    fn what_is_too_large_is_refused_or_cut_inside_and_never_outside(user: User) {
        let lab = Lab::up_at(user, 4);
        let (server, client) = (server(&lab, &["--mtu", "1500"]), client(&lab, &["--mtu", "1500"]));
        assert_eq!(["useru", "server"].map(|host| mtu(&lab, host, "tun0")), [1500, 1500]);
        let mut watch = Running::watch(&lab, "server", &["tun0"]);
        // Cut by this end of the tunnel, there and back.
        ping(&lab, "useru", "userw", "dont", 1472).ok();
        watch.wait_for("tun0 in 10.1.3.1 > 10.1.1.3 fragment length 1468 ");
        watch.wait_for("tun0 in 10.1.3.1 > 10.1.1.3 fragment length 52 ");
        watch.wait_for("tun0 out 10.1.1.3 > 10.1.3.1 ICMP echo reply length 1500 ");
        for (host, to, answerer) in [("useru", "userv", "10.1.1.2"), ("userv", CLIENT, CLIENT)] {
            let refused = ping(&lab, host, to, "do", 1472).expect(1);
            let said = format!("From {answerer} icmp_seq=1 Frag needed and DF set (mtu = 1472)");
            assert!(refused.stdout.contains(&said), "{host}: {refused:#?}");
            ping(&lab, host, to, "do", 1444).ok();
            // By now the sender knows, and says so itself, or cuts.
            assert!(ping(&lab, host, to, "do", 1472).expect(1).stderr.contains("mtu=1472"));
        }
        assert_eq!(fragments(&lab, "server"), 0);
        nobody_has_made_fragments(&lab);
        for (end, host) in [(client, "useru"), (server, "server")] {
            let done = end.interrupt().ok();
            assert!(done.stderr.contains(" 1 too big for the path"), "{host}: {done:#?}");
        }
    }

    fn tcp_is_told_in_time(user: User) {
        let lab = Lab::up_at(user, 4);
        let (server, client) = (server(&lab, &["--mtu", "1500"]), client(&lab, &["--mtu", "1500"]));
        // The other way with another host, of which useru has not learned anything yet.
        for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userw", "useru", CLIENT)] {
            let mut receiver = Running::python(&lab, to, "tcp_receive.py", &["5001"], "Listening");
            let mut sender = Running::start(&lab, from, &python("tcp_send.py", &[address, "5001", "10000000"]));
            sender.wait_for("10000000");
            receiver.wait_for(&sender.wait().ok().stdout);
        }
        nobody_has_made_fragments(&lab);
        for end in [client, server] {
            let done = end.interrupt().ok();
            assert!(done.stderr.contains(" too big for the path"), "{done:#?}");
        }
    }

    fn ipv6_packets_that_are_too_big_are_refused(user: User) {
        let lab = Lab::up_at(user, 4);
        ipv6_outside(&lab);
        let server = server(&lab, &[&["--bind", "::", "--mtu", "1500"][..], &SERVER_BOTH].concat());
        let client = client(&lab, &[&["--server", "[fd00:2::3]", "--mtu", "1500"][..], &CLIENT_BOTH].concat());
        for (host, to) in [("useru", "fd00:3::2"), ("server", "fd00:3::1")] {
            let refused = ping(&lab, host, to, "do", 1452).expect(1);
            let said = format!("From {to} icmp_seq=1 Packet too big: mtu=1452");
            assert!(refused.stdout.contains(&said), "{refused:#?}");
            ping(&lab, host, to, "do", 1404).ok();
        }
        nobody_has_made_fragments(&lab);
        for end in [client, server] {
            let done = end.interrupt().ok();
            assert!(done.stderr.contains(" 1 too big for the path"), "{done:#?}");
        }
    }

    fn a_device_with_ipv6_addresses_keeps_what_ipv6_needs(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_server, _client) = (server(&lab, &[]), client(&lab, &CLIENT_BOTH));
        lab.sh("server", "ip addr add fd00:3::2/64 dev tun0 nodad").ok();
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        set_lan0(&lab, 1200);
        both_have(&lab, 1280);
        // What IPv6 wants every path to carry is carried, in outer fragments; of IPv4 only what fits.
        ping(&lab, "useru", "fd00:3::2", "do", 1232).ok();
        let refused = ping(&lab, "useru", SERVER, "do", 1145).expect(1);
        assert!(refused.stdout.contains("mtu = 1172"), "{refused:#?}");
        ping(&lab, "useru", SERVER, "do", 1144).ok();
        // Without IPv6 the device takes no more than the path does.
        lab.sh("server", "ip addr del fd00:3::2/64 dev tun0").ok();
        eventually("the server's MTU follows", || mtu(&lab, "server", "tun0") == 1172);
    }

    fn a_python_end_may_send_what_needs_outer_fragments(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = server(&lab, &[]);
        let _client = Running::python(&lab, "useru", "vpn_client.py", &[], "Ready");
        lab.sh("useru", "ip route add 10.1.1.0/24 dev tun0").ok();
        assert_eq!(mtu(&lab, "useru", "tun0"), 1500);
        let before = fragments(&lab, "useru");
        ping(&lab, "useru", "userv", "do", 1472).ok();
        assert!(fragments(&lab, "useru") > before, "the outer packets are cut");
        ping(&lab, "userv", CLIENT, "dont", 1472).ok();
        assert_eq!(mtu(&lab, "server", "tun0"), 1472);
    }

    fn an_mtu_that_the_user_chose_stays(user: User) {
        let lab = Lab::up_at(user, 4);
        let (server, _client) = (server(&lab, &[]), client(&lab, &["--mtu", "1300"]));
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        // The server's end shows that the change could have been followed by then.
        for outside in [1200, 1500] {
            set_lan0(&lab, outside);
            eventually("the server's MTU follows", || mtu(&lab, "server", "tun0") == outside - 28);
            assert_eq!(mtu(&lab, "useru", "tun0"), 1300);
        }
        server.interrupt().ok();
    }

    fn a_device_that_the_user_configures_keeps_its_mtu(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = server(&lab, &[]);
        let mut client = Running::step(&lab, "useru", &["vpn", "--role", "client", "--no-configure"]);
        client.wait_for("Interface name: tun0");
        let configure = "ip addr add 10.1.3.1/24 dev tun0; ip link set dev tun0 up; ip route add 10.1.1.0/24 dev tun0";
        lab.sh("useru", configure).ok();
        eventually("the tunnel works", || lab.pings("useru", "userv"));
        let _ping = pinging(&lab, "useru", "10.1.1.2");
        set_lan0(&lab, 1400);
        eventually("the server's MTU follows", || mtu(&lab, "server", "tun0") == 1372);
        assert_eq!(mtu(&lab, "useru", "tun0"), 1500);
        // What its device lets through and the path does not is still made to fit.
        let refused = ping(&lab, "useru", "userv", "do", 1345).expect(1);
        assert!(refused.stdout.contains("mtu = 1372"), "{refused:#?}");
        ping(&lab, "useru", "userw", "dont", 1472).ok();
    }
}
