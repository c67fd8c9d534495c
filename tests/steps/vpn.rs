//! Step 4: `vpn`, both directions at once.

use crate::common::{self, Lab};
use crate::fixtures::{Running, python};
use crate::{CLIENT, for_each_user, has_route, ipv4_lines, vpn};

for_each_user! {
    fn the_handouts_commands_need_no_option(user: User) {
        let lab = Lab::up_at(user, 4);
        let mut server = Running::start(&lab, "server", &["sudo", "vpnlab", "vpn", "--role", "server"]);
        server.wait_for("ip link set dev tun0 up");
        let mut client = Running::start(&lab, "useru", &["sudo", "vpnlab", "vpn", "--role", "client"]);
        client.wait_for("ip route add 10.1.1.0/24 dev tun0");
        has_route(&lab);
        assert!(lab.pings("useru", "userv") && lab.pings("useru", "userw"));
        assert!(lab.pings("userv", CLIENT) && lab.pings("userw", CLIENT));
        assert!(!server.stderr().contains("[WARN]"), "{}", server.stderr());
        assert!(!client.stderr().contains("[WARN]"), "{}", client.stderr());
    }

    fn each_end_shows_each_packet_once_and_in_order(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        assert!(lab.pings("userv", CLIENT));
        let (client, server) = (client.interrupt().ok(), server.interrupt().ok());
        assert_eq!(
            ipv4_lines(&client.stdout),
            [
                "From tun ==>: 10.1.3.1 --> 10.1.1.2",
                "From socket <==: 10.1.1.2 --> 10.1.3.1",
                "From socket <==: 10.1.1.2 --> 10.1.3.1",
                "From tun ==>: 10.1.3.1 --> 10.1.1.2",
            ]
        );
        assert_eq!(
            ipv4_lines(&server.stdout),
            [
                "From socket <==: 10.1.3.1 --> 10.1.1.2",
                "From tun ==>: 10.1.1.2 --> 10.1.3.1",
                "From tun ==>: 10.1.1.2 --> 10.1.3.1",
                "From socket <==: 10.1.3.1 --> 10.1.1.2",
            ]
        );
    }

    fn the_outer_packets_of_the_largest_inner_ones_are_not_fragmented(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        let mut watch = Running::watch(&lab, "useru", &["eth0"]);
        for host in ["useru", "server"] {
            let device = lab.exec(host, &["ip", "link", "show", "dev", "tun0"]).ok().stdout;
            assert!(device.contains(" mtu 1472 "), "{device}");
        }
        // 1444 and 28 bytes of headers are 1472; with 28 of outer headers that is an Ethernet frame's 1500.
        lab.exec("useru", &["ping", "-c1", "-W5", "-M", "do", "-s", "1444", "userv"]).ok();
        watch.wait_for("eth0 out 10.1.2.2 > 10.1.2.3 UDP to 9090 length 1500 ");
        let done = lab.exec("useru", &["ping", "-c1", "-W5", "-M", "do", "-s", "1445", "userv"]).expect(1);
        assert!(done.stderr.contains("mtu=1472") || done.stdout.contains("mtu=1472"), "{done:#?}");
        // With room for 1500 inside, the outer packet is cut: so it is with the steps before, which have nothing else.
        client.interrupt().ok();
        server.interrupt().ok();
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        has_route(&lab);
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", "1472", "userv"]).expect(1);
        watch.wait_for("eth0 out 10.1.2.2 > 10.1.2.3 fragment length 1500 ");
        let seen = watch.stdout();
        let (before, _) = seen.split_once("fragment").expect("there was one");
        assert!(before.contains("UDP to 9090 length 1500 "), "{seen}");
    }

    fn the_server_answers_to_where_the_client_last_sent_from(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &["-v"]);
        assert!(lab.pings("userv", CLIENT));
        // What is no packet comes from no client, so nobody can lead the tunnel astray by it.
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["server", "9090", "00", "", "45"]));
        sender.wait_for("Sent");
        assert!(lab.pings("userv", CLIENT));
        client.end_with("KILL");
        assert!(!lab.pings("userv", CLIENT));
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        has_route(&lab);
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
        // Where the client is now is said with -v only: anybody could make the server say it.
        assert_eq!(server.stderr().matches("The client is at 10.1.2.2:").count(), 1, "{}", server.stderr());
        let moved = || server.stderr().matches("The client 10.1.3.1 moved from 10.1.2.2:").count();
        common::eventually("the server has said that it moved", || moved() == 1);
    }

    fn the_client_takes_nothing_from_strangers(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        let port = lab.sh("useru", "ss -Hlun | grep -o '0.0.0.0:[0-9]* ' | head -1 | tr -d ' ' | cut -d: -f2").ok();
        // An empty packet that claims to come from userw, sent by useru itself.
        let packet = "4500001400010000 40fd 0000 0a010103 0a010301".replace(' ', "");
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["10.1.2.2", port.stdout.trim(), &packet]));
        sender.wait_for("Sent");
        assert!(lab.pings("useru", "userv"));
        let done = client.interrupt().ok();
        assert!(done.stderr.contains("dropped 1: 1 not from the server"), "{done:#?}");
        assert!(!done.stdout.contains("10.1.1.3 --> 10.1.3.1"), "{done:#?}");
    }

    fn ipv6_goes_through_the_tunnel_too(user: User) {
        let lab = Lab::up_at(user, 4);
        let address = |number: u8| format!("fd00:3::{number}/64");
        let both = |v4: &str, v6: String| ["--address".to_string(), v4.into(), "--address".into(), v6];
        let client = both("10.1.3.1/24", address(1));
        let server = both("10.1.3.2/24", address(2));
        let (_client, _server) = vpn(&lab, &client.each_ref().map(String::as_str), &server.each_ref().map(String::as_str));
        lab.exec("useru", &["ping", "-6", "-c1", "-W5", "fd00:3::2"]).ok();
        lab.exec("server", &["ping", "-6", "-c1", "-W5", "-s", "4000", "fd00:3::1"]).ok();
        assert!(lab.pings("useru", "userv"));
    }

    fn an_end_stops_after_as_many_packets_as_asked_for(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &["--count", "5"], &[]);
        lab.exec("useru", &["ping", "-c", "5", "-i", "0.05", "-W", "1", "userv"]);
        let done = client.wait().ok();
        assert_eq!(done.stdout.lines().count(), 5, "{done:#?}");
    }
}
