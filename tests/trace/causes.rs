//! One test per cause: exactly that is broken, and exactly that is named.

use serde_json::Value;

use crate::common::{self, Lab};
use crate::fixtures::traffic::{has_route, vpn};
use crate::fixtures::{self, Running};
use crate::{for_each_user, json, with_mistake};

/// Traces, which must fail for this cause, at this host, on this leg. Returns the facts.
#[track_caller]
fn names(lab: &Lab, arguments: &[&str], cause: &str, host: &str, leg: &str) -> String {
    let value = json(lab, arguments, 1);
    let verdict = &value["verdict"];
    let named = [&verdict["cause"], &verdict["host"], &verdict["leg"]].map(|it| it.as_str().unwrap_or("none"));
    assert_eq!(named, [cause, host, leg], "{value:#}");
    let facts = verdict["facts"].as_array().expect("there are facts");
    assert!(!facts.is_empty(), "{value:#}");
    facts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// The way is whole before something is broken.
#[track_caller]
fn arrives(lab: &Lab) {
    assert_eq!(json(lab, &[], 0)["verdict"], Value::Null);
}

#[track_caller]
fn has(facts: &str, words: &str) {
    assert!(facts.contains(words), "{words:?} is not among these:\n{facts}");
}

for_each_user! {
    fn no_tun(user: User) {
        let lab = Lab::up_at(user, 4);
        has(&names(&lab, &[], "no-tun", "useru", "request"), "useru has no TUN device");
        // At the other end: step 2's server prints what it gets.
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server");
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        has_route(&lab);
        has(&names(&lab, &[], "no-tun", "server", "request"), "server has no TUN device");
    }

    fn tun_down(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip link set dev tun0 down").ok();
        has(&names(&lab, &[], "tun-down", "useru", "request"), "tun0 of useru is down");
        lab.sh("useru", "ip link set dev tun0 up; ip route add 10.1.1.0/24 dev tun0 2>/dev/null; true").ok();
        lab.sh("server", "ip link set dev tun0 down").ok();
        has(&names(&lab, &[], "tun-down", "server", "request"), "tun0 of server is down");
    }

    fn tun_unread(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        client.stop();
        let facts = names(&lab, &[], "tun-unread", "useru", "request");
        has(&facts, "nobody has read from tun0");
        has(&facts, "held by vpnlab vpn");
    }

    fn tun_unread_since_no_program_holds_it(user: User) {
        let lab = Lab::up_at(user, 4);
        lab.sh("useru", "ip tuntap add dev tun0 mode tun && ip address add 10.1.3.1/24 dev tun0 && \
            ip link set dev tun0 up && ip route add 10.1.1.0/24 dev tun0").ok();
        has(&names(&lab, &[], "tun-unread", "useru", "request"), "no program holds tun0 of useru");
    }

    fn wrong_reply(user: User) {
        for (program, arguments, fact) in [
            ("ping-other-identifier", &["useru", "10.1.3.4"][..], "the reply's identifier is "),
            ("ping-fixed-source", &["useru", "10.1.3.9"], "the reply comes from 10.1.3.4, and the request was for 10.1.3.9"),
            ("ping-56-bytes", &["useru", "10.1.3.4", "--size", "500"], "the reply has 56 bytes of payload, the request 472"),
            ("ping-old-checksum", &["useru", "10.1.3.4"], "the reply's ICMP checksum is 0x"),
        ] {
            let lab = Lab::up_at(user, 1);
            let file = format!("{}/tests/fixtures/submissions/wrong/{program}/tun_ping.py", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(file).expect("the submission is there");
            let _program = Running::start(&lab, "useru", &[fixtures::PYTHON, "-c", &text]);
            common::eventually("the TUN device is up", || lab.sh("useru", "ip -o address show up | grep -q 10.1.3").code == 0);
            has(&names(&lab, arguments, "wrong-reply", "useru", "reply"), fact);
        }
    }

    fn no_route(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip route del 10.1.1.0/24 dev tun0").ok();
        let facts = names(&lab, &[], "no-route", "useru", "request");
        has(&facts, "the route of useru for 10.1.1.2 leads out of eth3 to router");
        has(&facts, "says: host unreachable");
        lab.sh("useru", "ip route del default").ok();
        has(&names(&lab, &[], "no-route", "useru", "request"), "useru has no route to 10.1.1.2");
    }

    fn not_sent(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "forgets", "none");
        let facts = names(&lab, &[], "not-sent", "useru", "request");
        has(&facts, "it was read: tun0 of useru is held by python3");
        has(&facts, "no datagram left useru within 1.");
        has(&facts, "s after it with this packet in it");
    }

    fn a_later_fragment_that_was_not_sent(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "fragments", "none");
        arrives(&lab);
        let facts = names(&lab, &["--size", "4000"], "not-sent", "useru", "request");
        has(&facts, "the first came to eth0 of userv, and the one with the bytes from 1480 on to tun0 of useru");
        has(&facts, "it was read: tun0 of useru is held by python3");
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "none", "fragments");
        let facts = names(&lab, &["--size", "4000"], "not-sent", "server", "reply");
        has(&facts, "the first came to tun0 of useru, and the one with the bytes from 1480 on to tun0 of server");
    }

    fn a_later_fragment_that_a_firewall_drops_is_told_where_it_was_last(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "none", "none");
        json(&lab, &["--size", "4000"], 0);
        // Before conntrack could put them together.
        lab.sh("server", "nft add table ip t && \
            nft 'add chain ip t c { type filter hook prerouting priority -450; }' && \
            nft 'add rule ip t c iifname tun0 ip frag-off & 0x1fff != 0 drop'").ok();
        let facts = names(&lab, &["--size", "4000"], "unexplained", "server", "request");
        has(&facts, "the first came to eth0 of userv, and the one with the bytes from 1480 on to tun0 of server");
    }

    fn a_sign_of_life_is_not_taken_for_the_packet(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "hello", "none");
        has(&names(&lab, &[], "not-sent", "useru", "request"), "with this packet in it");
    }

    fn wrong_peer(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "none", "port");
        let facts = names(&lab, &[], "wrong-peer", "server", "reply");
        has(&facts, "the request came from 10.1.2.2:");
        has(&facts, "the reply goes to 10.1.2.2:9999");
        client.end_with("KILL");
        server.end_with("KILL");
        let (client, server) = with_mistake(&lab, "none", "elsewhere");
        has(&names(&lab, &[], "wrong-peer", "server", "reply"), "the reply goes to 192.168.1.99:");
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "elsewhere", "none");
        has(&names(&lab, &[], "wrong-peer", "useru", "request"), "192.168.1.254 is router, where no end of the tunnel is");
    }

    fn wrong_peer_where_the_server_answers_into_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "none", "inner");
        let facts = names(&lab, &[], "wrong-peer", "server", "reply");
        has(&facts, "the request came from 10.1.2.2:");
        has(&facts, "the reply goes to 10.1.3.1:");
        has(&facts, "comes out of tun0 of server, like its content before");
    }

    fn wrong_peer_where_the_server_asks_into_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "none", "inner");
        // The server comes to know its client, and has no answer to send, which would go in circles.
        lab.sh("server", "sysctl -w net.ipv4.icmp_echo_ignore_all=1").ok();
        lab.sh("useru", "ping -c1 -W0.5 10.1.3.2").expect(1);
        let facts = names(&lab, &["userv", "useru"], "wrong-peer", "server", "request");
        has(&facts, "10.1.3.1 is the address of useru inside of the tunnel");
    }

    fn wrong_peer_where_the_reply_comes_from_another_port(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, server) = with_mistake(&lab, "connected", "two");
        let facts = names(&lab, &[], "wrong-peer", "server", "reply");
        has(&facts, "of useru is connected, and takes datagrams from 10.1.2.3:9090 alone");
        has(&facts, "this one comes from 10.1.2.3:");
        server.end_with("KILL");
        let _server = Running::python(&lab, "server", "faulty.py", &["server", "none"], "Ready");
        arrives(&lab);
    }

    fn a_client_may_answer_to_the_port_that_the_server_is_known_by(user: User) {
        let lab = Lab::up_at(user, 4);
        // The server sends from a second socket; the client answers to the first, and drops nothing of its own.
        let (_client, _server) = with_mistake(&lab, "none", "two");
        arrives(&lab);
        json(&lab, &["userv", "useru"], 0);
        lab.sh("server", "nft add table ip t && \
            nft 'add chain ip t c { type filter hook input priority 0; policy drop; }'").ok();
        has(&names(&lab, &["userv", "useru"], "unexplained", "server", "reply"), "it never came to the socket for port 9090");
    }

    fn swallows_its_own_datagrams(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip route add 10.1.2.3/32 dev tun0").ok();
        has(&names(&lab, &[], "loop", "useru", "request"), "the datagram for 10.1.2.3:9090 comes out of tun0 of useru");
    }

    fn nobody_listens(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = with_mistake(&lab, "port", "none");
        let facts = names(&lab, &[], "nobody-listens", "server", "request");
        has(&facts, "no socket of server is bound to port 9091");
        has(&facts, "server listens on 0.0.0.0:9090 alone");
        has(&facts, "server-lan0 says: port unreachable");
        client.end_with("KILL");
        _server.end_with("KILL");
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        has(&names(&lab, &[], "nobody-listens", "server", "request"), "no socket of server is bound to port 9090");
    }

    fn datagram_unread(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        server.stop();
        has(&names(&lab, &[], "datagram-unread", "server", "request"), "wait in the socket for port 9090, which vpnlab vpn");
        client.end_with("KILL");
        server.end_with("KILL");
        // The client of step 2 has the reply, and does not look at its socket.
        let (_client, _server) = with_mistake(&lab, "one-way", "none");
        has(&names(&lab, &[], "datagram-unread", "useru", "reply"), "which python3 faulty.py");
    }

    fn a_socket_that_is_read_slowly_is_not_unread(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "none", "late");
        lab.sh("useru", "ping -q -c 60 -i 0.01 -W 0.1 userv; true").ok();
        has(&names(&lab, &[], "unexplained", "server", "request"), "and is reading");
    }

    fn not_ip(user: User) {
        for (mistake, fact) in [
            ("text", "it is text: \"b'E"),
            ("header", "4 bytes stand in front of the packet: 00 00 08 00"),
            ("cut", "it ends after 50 of the packet's 84 bytes"),
            ("zeros", "has something else in it: byte 0 (version and header length) is 0x00 and was 0x45"),
        ] {
            let lab = Lab::up_at(user, 4);
            let (_client, _server) = with_mistake(&lab, mistake, "none");
            has(&names(&lab, &[], "not-ip", "useru", "request"), fact);
        }
    }

    fn changed(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "changes", "none");
        has(&names(&lab, &[], "changed", "useru", "request"), "byte 83 (echo payload) is 0x");
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "none", "changes");
        has(&names(&lab, &[], "changed", "server", "request"), "byte 83 (echo payload) is 0x");
    }

    fn changed_though_the_checksums_are_right(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "swaps", "none");
        has(&names(&lab, &[], "changed", "useru", "request"), "byte 80 (echo payload) is 0x");
        client.end_with("KILL");
        server.end_with("KILL");
        // The reply comes back, and is not what userv had sent.
        let (_client, _server) = with_mistake(&lab, "none", "swaps");
        has(&names(&lab, &[], "changed", "server", "reply"), "byte 80 (echo payload) is 0x");
    }

    fn not_written(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "none", "forgets");
        let facts = names(&lab, &[], "not-written", "server", "request");
        has(&facts, "it was read: the socket for port 9090 is empty");
        has(&facts, "nothing came into tun0 of server within 1.");
        client.end_with("KILL");
        server.end_with("KILL");
        // What is no packet is refused by the device.
        let (_client, _server) = with_mistake(&lab, "none", "zeros");
        has(&names(&lab, &[], "not-written", "server", "request"), "tun0 refused 1 of what was written to it");
    }

    fn same_address(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "none", "address");
        let fact = "10.1.3.1 is the address of tun0 of useru and of tun0 of server";
        has(&names(&lab, &[], "same-address", "server", "request"), fact);
    }

    fn no_forwarding(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "sysctl -w net.ipv4.ip_forward=0").ok();
        has(&names(&lab, &[], "no-forwarding", "server", "request"), "net.ipv4.ip_forward is 0 on server");
    }

    fn an_interface_may_have_a_dot_in_its_name(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "ip link set dev tun0 down; ip link set dev tun0 name tun.0; ip link set dev tun.0 up; \
            sysctl -w net.ipv4.ip_forward=0").ok();
        has(&names(&lab, &[], "no-forwarding", "server", "request"), "net.ipv4.ip_forward is 0 on server");
    }

    fn reverse_path(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        // The way back over the control network is a detour, and works.
        lab.sh("userv", "ip route replace 10.1.3.0/24 via 192.168.1.97").ok();
        arrives(&lab);
        lab.sh("userv", "sysctl -w net.ipv4.conf.eth0.rp_filter=1").ok();
        let facts = names(&lab, &[], "reverse-path", "userv", "request");
        has(&facts, "net.ipv4.conf.eth0.rp_filter is 1 on userv");
        has(&facts, "the route of userv for 10.1.3.1 leads out of eth3");
        has(&facts, "TcpExtIPReversePathFilter of userv rose by 1");
    }

    fn reply_to_gateway(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("userv", "ip route del 10.1.3.0/24").ok();
        let facts = names(&lab, &[], "reply-to-gateway", "userv", "reply");
        has(&facts, "userv has no route to 10.1.3.0/24: only the default route leads there");
        has(&facts, "leads out of eth3 to router");
        lab.sh("userv", "ip route del default").ok();
        has(&names(&lab, &[], "reply-to-gateway", "userv", "request"), "userv has no route to 10.1.3.1");
    }

    fn reply_unread(user: User) {
        let lab = Lab::up_at(user, 4);
        let _server = Running::tunnel(&lab, "server", &["server"]);
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        let facts = names(&lab, &[], "reply-unread", "server", "reply");
        has(&facts, "tun0 of server is held by vpnlab server");
        has(&facts, "nobody has read from tun0 since");
    }

    fn too_big(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        json(&lab, &["--size", "1400"], 0);
        lab.sh("server", "ip link set dev eth1 mtu 1000").ok();
        has(&names(&lab, &["--size", "1400"], "too-big", "server", "request"), "says: fragmentation needed, MTU 1000");
        arrives(&lab);
    }

    fn too_big_for_the_next_host(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        json(&lab, &["--size", "1400"], 0);
        // Linux takes what is a little too large (vlan headers), but not this.
        lab.sh("userv", "ip link set dev eth0 mtu 1000").ok();
        has(&names(&lab, &["--size", "1400"], "too-big", "userv", "request"), "eth0 of userv has an MTU of 1000");
    }

    fn ttl_ran_out(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "sysctl -w net.ipv4.ip_default_ttl=1").ok();
        has(&names(&lab, &[], "ttl-ran-out", "server", "request"), "it came to server with a TTL of 1");
    }

    fn no_neighbour(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        let facts = names(&lab, &["useru", "10.1.1.77"], "no-neighbour", "server", "request");
        has(&facts, "server has asked its wire who has 10.1.1.77");
    }

    fn link_down(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("userv", "ip link set dev eth0 down").ok();
        has(&names(&lab, &[], "link-down", "userv", "request"), "eth0 of userv is down");
    }

    fn link_down_below_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "ip link set dev eth0 down").ok();
        has(&names(&lab, &[], "link-down", "server", "request"), "eth0 of server is down");
    }

    fn an_interface_that_is_down_or_has_no_address_is_told_though_another_takes_its_packets(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip link set dev eth0 down").ok();
        let facts = names(&lab, &[], "link-down", "useru", "request");
        has(&facts, "eth0 of useru is down");
        has(&facts, "it left useru by eth3");
        lab.sh("useru", "ip address flush dev eth0; ip link set dev eth0 up").ok();
        let lost = "useru has the address 10.1.2.2 on eth0 in the topology, and has it no more";
        has(&names(&lab, &[], "unexplained", "useru", "request"), lost);
        lab.sh("useru", "ip address add 10.1.2.2/24 dev eth0").ok();
        arrives(&lab);
        lab.sh("server", "ip link set dev eth1 down").ok();
        has(&names(&lab, &[], "link-down", "server", "request"), "eth1 of server is down");
        lab.sh("server", "ip address flush dev eth1; ip link set dev eth1 up").ok();
        let lost = "server has the address 10.1.1.4 on eth1 in the topology, and has it no more";
        has(&names(&lab, &[], "unexplained", "server", "request"), lost);
        lab.sh("server", "ip address add 10.1.1.4/24 dev eth1").ok();
        arrives(&lab);
        lab.sh("server", "ip address flush dev eth0").ok();
        let value = json(&lab, &[], 1);
        let lost = "server has the address 10.1.2.3 on eth0 in the topology, and has it no more";
        has(&value["verdict"]["facts"].to_string(), lost);
    }

    fn a_trace_ends_in_time_while_others_make_and_end_networks(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let script = "while :; do unshare --user --map-root-user --net sh -c 'for i in 1 2 3 4 5 6; do \
            ip link add a$i type veth peer name b$i; ip link set a$i up; ip link set b$i up; done'; done";
        let _networks = [0, 1, 2].map(|_| lab.start("userw", &["sh", "-c", script]));
        let _busy = [0, 1].map(|_| lab.start("userw", &["sh", "-c", "while :; do :; done"]));
        arrives(&lab);
        lab.sh("server", "sysctl -w net.ipv4.ip_forward=0").ok();
        has(&names(&lab, &[], "no-forwarding", "server", "request"), "net.ipv4.ip_forward is 0 on server");
    }

    fn refused(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "ip route add unreachable 10.1.1.2").ok();
        has(&names(&lab, &[], "refused", "server", "request"), "says: host unreachable");
    }

    fn no_answer(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("userv", "sysctl -w net.ipv4.icmp_echo_ignore_all=1").ok();
        has(&names(&lab, &[], "no-answer", "userv", "request"), "net.ipv4.icmp_echo_ignore_all is 1 on userv");
    }

    fn unexplained(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "nft add table ip t && nft 'add chain ip t c { type filter hook forward priority 0; policy drop; }'").ok();
        has(&names(&lab, &[], "unexplained", "server", "request"), "eth1");
    }

    fn a_tap_device_is_no_tun(user: User) {
        let lab = Lab::up_at(user, 4);
        lab.sh("useru", "ip tuntap add dev tun0 mode tap && ip address add 10.1.3.1/24 dev tun0 && \
            ip link set dev tun0 up && ip route add 10.1.1.0/24 dev tun0").ok();
        has(&names(&lab, &[], "no-tun", "useru", "request"), "tun0 of useru is a TAP device");
    }

    fn wrong_source(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip address flush dev tun0; ip route replace 10.1.1.0/24 dev tun0").ok();
        let facts = names(&lab, &[], "wrong-source", "useru", "request");
        has(&facts, "which is not in 10.1.3.0/24");
        has(&facts, "tun0 of useru has no IPv4 address");
        lab.sh("useru", "ip address add 10.1.4.1/24 dev tun0").ok();
        let facts = names(&lab, &[], "wrong-source", "useru", "request");
        has(&facts, "tun0 of useru has the address 10.1.4.1/24");
        has(&facts, "nothing came into tun0 of server");
        // A server that takes it all the same.
        server.end_with("KILL");
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server", "--allow-source", "10.1.4.0/24"]);
        has(&names(&lab, &[], "wrong-source", "useru", "request"), "tun0 of useru has the address 10.1.4.1/24");
    }

    fn no_route_though_the_request_arrives_by_another_way(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        lab.sh("useru", "ip route replace 10.1.1.0/24 via 10.1.2.3").ok();
        has(&names(&lab, &[], "no-route", "useru", "request"), "the route of useru for 10.1.1.2 leads out of eth0");
    }

    fn no_route_for_the_reply(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "ip address flush dev tun0; ip address add 10.1.3.2/32 dev tun0").ok();
        has(&names(&lab, &[], "no-route", "server", "reply"), "tun0 of server has the address 10.1.3.2/32");
    }

    fn nobody_listens_on_that_address(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = with_mistake(&lab, "none", "inside");
        has(&names(&lab, &[], "nobody-listens", "server", "request"), "no socket of server is bound to 10.1.2.3:9090");
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "none", "crashes");
        has(&names(&lab, &[], "nobody-listens", "server", "request"), "listened there before, and does not any more");
    }

    fn a_datagram_that_a_firewall_drops_was_not_read(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("server", "nft add table ip t && nft 'add chain ip t c { type filter hook input priority 0; policy drop; }'").ok();
        has(&names(&lab, &[], "unexplained", "server", "request"), "it never came to the socket for port 9090");
        lab.sh("server", "nft delete table ip t && nft add table ip t && \
            nft 'add chain ip t c { type filter hook output priority 0; policy drop; }'").ok();
        has(&names(&lab, &[], "unexplained", "server", "reply"), "IpOutDiscards of server rose by ");
    }

    fn refused_below_the_tunnel(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        lab.sh("useru", "ip route add blackhole 10.1.2.3").ok();
        has(&names(&lab, &[], "refused", "useru", "request"), "useru has no route to 10.1.2.3");
    }

    fn what_comes_back_is_no_same_address(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        arrives(&lab);
        // The server's kernel sends it back into the tunnel: it is for the tunnel's network. Our server sends nothing back.
        names(&lab, &["useru", "10.1.3.99"], "not-sent", "server", "request");
        server.end_with("KILL");
        let server = Running::python(&lab, "server", "vpn_server.py", &[], "Ready");
        arrives(&lab);
        let facts = names(&lab, &["useru", "10.1.3.99"], "unexplained", "useru", "request");
        has(&facts, "no host of the lab has the address 10.1.3.99");
        client.end_with("KILL");
        server.end_with("KILL");
        let (_client, _server) = with_mistake(&lab, "none", "returns");
        has(&names(&lab, &[], "not-written", "server", "request"), "server sent the datagram on to 10.1.2.2:");
    }

    fn a_slow_program_with_others_to_send_is_not_blamed_for_what_it_has_not_come_to(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = with_mistake(&lab, "slow", "none");
        lab.sh("useru", "ping -q -c 9 -i 0.01 -W 0.1 userv").expect(1);
        let facts = names(&lab, &[], "unexplained", "useru", "request");
        has(&facts, " had waited there before it");
    }

    fn a_datagram_in_a_datagram_in_a_datagram(user: User) {
        let lab = Lab::up_at(user, 4);
        // Each is larger than the one before; from the MTU on, each makes two.
        let (_client, _server) = with_mistake(&lab, "inside", "none");
        has(&names(&lab, &[], "loop", "useru", "request"), "the datagram for 10.1.1.4:9090 comes out of tun0 of useru");
    }
}
