//! What the network does is survived and counted.

use crate::common::{self, Lab, eventually};
use crate::fixtures::{Running, python};
use crate::{CLIENT, for_each_user, has_route, summary, vpn};

for_each_user! {
    fn a_client_may_start_before_its_server(user: User) {
        let lab = Lab::up_at(user, 4);
        let client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        has_route(&lab);
        for _ in 0..3 {
            assert!(!lab.pings("useru", "userv"));
        }
        assert!(client.stderr().contains("refuses datagrams"), "{}", client.stderr());
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        assert!(lab.pings("useru", "userv"));
        let done = client.interrupt().ok();
        assert_eq!(done.stderr.matches("refuses datagrams").count(), 1, "it is said more than once: {done:#?}");
        assert!(summary(&done.stderr).contains(" connection refused"), "{done:#?}");
    }

    fn a_device_that_was_set_down_works_again_when_it_is_up(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        for host in ["useru", "server"] {
            lab.sh(host, "sudo ip link set dev tun0 down").ok();
            assert!(!lab.pings("useru", "userv"), "the device of {host} is down");
            lab.sh(host, "sudo ip link set dev tun0 up").ok();
            has_route(&lab);
            assert!(lab.pings("useru", "userv"), "the device of {host} is up again");
            assert!(lab.pings("userv", CLIENT), "the device of {host} is up again");
        }
        client.interrupt().ok();
        let done = server.interrupt().ok();
        assert!(summary(&done.stderr).contains(" interface down"), "{done:#?}");
    }

    fn ipv6_addresses_and_routes_come_back_with_the_device(user: User) {
        let lab = Lab::up(user);
        let options = ["--address", "fd00:3::1/64", "--route", "fd00:9::/64", "--route", "10.9.0.0/16"];
        let mut client = Running::tunnel(&lab, "useru", &[&["client"], &options[..]].concat());
        let complete = || {
            let device = lab.sh("useru", "ip address show dev tun0; ip route; ip -6 route").ok().stdout;
            ["inet6 fd00:3::1/64", "fd00:9::/64 dev tun0", "10.9.0.0/16 dev tun0"].iter().all(|p| device.contains(p))
        };
        eventually("the device has all", complete);
        lab.sh("useru", "ip link set dev tun0 down").ok();
        assert!(!complete(), "setting the device down takes nothing away here");
        lab.sh("useru", "ip link set dev tun0 up").ok();
        eventually("the device has all again", complete);
        assert!(client.runs());
    }

    fn datagrams_that_hold_no_packet_are_counted(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, server) = vpn(&lab, &[], &[]);
        let truncated = "450000540001000040010000 0a010301 0a010102 0800".replace(' ', "");
        let junk = ["", "45", "00", "3xffffffff", &truncated, &"77".repeat(9000)];
        let words = [&["server", "9090"], &junk[..]].concat();
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &words));
        sender.wait_for("Sent");
        assert!(lab.pings("useru", "userv"));
        let done = server.interrupt().ok();
        assert!(summary(&done.stderr).contains("8 no IP packet"), "{done:#?}");
    }

    fn the_one_way_server_counts_them_too(user: User) {
        let lab = Lab::up_at(user, 4);
        let server = Running::tunnel(&lab, "server", &["server"]);
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["server", "9090", "", "2x00", "45"]));
        sender.wait_for("Sent");
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        has_route(&lab);
        let mut watch = Running::watch(&lab, "userv", &["eth0"]);
        assert!(!lab.pings("useru", "userv"));
        watch.wait_for("eth0 in 10.1.3.1 > 10.1.1.2 ICMP echo request");
        let done = server.interrupt().ok();
        assert!(summary(&done.stderr).contains("4 no IP packet"), "{done:#?}");
    }

    fn a_packet_too_large_for_a_datagram_is_counted(user: User) {
        let lab = Lab::up_at(user, 4);
        let mut server = Running::tunnel(&lab, "server", &["server"]);
        let client = Running::tunnel(&lab, "useru", &["client", "--mtu", "65535"]);
        // 65500 bytes of payload make a packet of 65528; the largest UDP payload is 65507.
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", "65500", "10.1.3.2"]).expect(1);
        assert!(!server.stdout().contains("10.1.3.1 ---> 10.1.3.2"));
        // A packet of 65507 fills a datagram to the last byte.
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", "65479", "10.1.3.2"]).expect(1);
        server.wait_for("10.1.3.1 ---> 10.1.3.2");
        let done = client.interrupt().ok();
        assert!(summary(&done.stderr).contains("dropped 1: 1 message too long"), "{done:#?}");
    }

    fn a_full_queue_is_counted_and_waited_out(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        // A slow wire with room for two packets before it.
        lab.sh("useru", "tc qdisc add dev eth0 root tbf rate 64kbit burst 1600 limit 3000").ok();
        let flood = ["ping", "-f", "-q", "-i", "0.002", "-c", "100", "-W", "1", "-s", "1000", "userv"];
        assert!(lab.exec("useru", &flood).stdout.contains("100 packets transmitted"));
        lab.sh("useru", "tc qdisc del dev eth0 root").ok();
        assert!(lab.pings("useru", "userv"));
        let done = client.interrupt().ok();
        assert_eq!(done.stderr.matches("found no room in a queue").count(), 1, "{done:#?}");
        assert!(summary(&done.stderr).contains(" no buffer space available"), "{done:#?}");
    }

    fn a_server_that_is_a_whole_subnet_is_called_that(user: User) {
        let lab = Lab::up(user);
        let mut client = Running::tunnel(&lab, "useru", &["client", "--server", "10.1.2.255"]);
        assert!(!lab.pings("useru", "10.1.3.5"));
        client.wait_for("[WARN] 10.1.2.255:9090 is a broadcast address");
        assert!(client.runs());
    }

    fn a_network_that_is_gone_for_a_moment_is_counted(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        lab.sh("useru", "ip link set dev eth0 down").ok();
        assert!(!lab.pings("useru", "userv"));
        lab.sh("useru", "ip link set dev eth0 up").ok();
        eventually("the tunnel works again", || lab.pings("useru", "userv"));
        let done = client.interrupt().ok();
        assert!(summary(&done.stderr).contains(" no route to host"), "{done:#?}");
    }

    fn a_deleted_device_ends_the_step_with_a_reason(user: User) {
        let lab = Lab::up(user);
        let reader = Running::tunnel(&lab, "useru", &["tun-read"]);
        lab.sh("useru", "ip link delete dev tun0").ok();
        let done = reader.wait().expect(1);
        assert!(done.stderr.contains("vpnlab: TUN device tun0 is gone"), "{done:#?}");
    }

    fn the_routes_of_a_flapping_device_are_there_in_the_end(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let flap = "for i in 1 2 3 4 5 6 7 8 9 10; do ip link set dev tun0 down; ip link set dev tun0 up; done";
        lab.sh("useru", flap).ok();
        has_route(&lab);
        assert!(lab.pings("useru", "userv"));
    }
}
