//! A lab put back to what it was: up again, reset, prepared for a step, repaired where it is damaged.

mod common;

use common::terminal::Terminal;
use common::{Done, Lab, User, eventually, run};

/// What a host has: links, addresses, routes, rules, neighbours that somebody set, settings, firewall.
const SEEN: &str = "
    ip -o link | grep -o '^[0-9]*: [^:@]*.*mtu [0-9]*'
    ip -o address | sed 's/ *valid_lft.*//' | grep -v inet6.*fe80
    ip route show table all | grep -v fe80 | sort
    ip -6 route show table all | grep -v -e fe80 -e ff00 | sort
    ip rule; ip -6 rule
    ip neigh show nud permanent
    ip nexthop; ip xfrm policy; ip xfrm state; tc qdisc show dev lo
    nft list ruleset 2>/dev/null || sudo nft list ruleset
    find /proc/sys/net -type f -readable | sort | grep -v -e '/eth[0-9]' | while read f; do
        value=$(cat $f 2>/dev/null) && echo $f $value
    done
    true";

fn seen(lab: &Lab, host: &str) -> String {
    // IPv6 takes a second or two to find that nobody else has its addresses (RFC 4862, section 5.4).
    eventually("the addresses have settled", || {
        let addresses = lab.exec(host, &["ip", "-6", "-o", "address"]).ok().stdout;
        !addresses.contains("tentative")
    });
    lab.sh(host, SEEN).ok().stdout
}

#[track_caller]
fn assert_same(before: &str, after: &str) {
    let differing = |one: &str, other: &str| {
        one.lines()
            .filter(|line| !other.lines().any(|it| it == *line))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    assert!(before == after, "gone:\n{}new:\n{}", differing(before, after), differing(after, before));
}

/// What the handout has a student set before step 4.
const PREPARED: [(&str, &str, &str); 3] = [
    ("server", "cat /proc/sys/net/ipv4/ip_forward", "1"),
    ("userv", "ip route show 10.1.3.0/24", "10.1.3.0/24 via 10.1.1.4 dev eth0"),
    ("userw", "ip route show 10.1.3.0/24", "10.1.3.0/24 via 10.1.1.4 dev eth0"),
];

#[track_caller]
fn assert_prepared_for_step_4(lab: &Lab, prepared: bool) {
    for (host, command, shows) in PREPARED {
        let shown = lab.sh(host, command).ok().stdout;
        assert_eq!(shown.trim().starts_with(shows), prepared, "{host}: {command}: {shown}");
    }
}

fn reset(lab: &Lab, options: &[&str]) -> Done {
    lab.lab(&[&["reset"], options].concat()).ok()
}

for_each_user! {
    fn up_twice_is_harmless(user: User) {
        let lab = Lab::up(user);
        let before = seen(&lab, "useru");
        let again = lab.lab(&["up"]).ok();
        assert_eq!(again.stdout, format!("lab {} is up already\n", lab.name));
        assert_same(&before, &seen(&lab, "useru"));
        let other_step = lab.lab(&["up", "--step", "4"]).expect(1);
        assert!(other_step.stderr.contains("prepared for step 0; to put it to the start of step 4: vpnlab lab reset"));
        assert_prepared_for_step_4(&lab, false);
    }

    fn a_step_finds_what_the_steps_before_it_have_set(user: User) {
        let lab = Lab::up_at(user, 4);
        assert_prepared_for_step_4(&lab, true);
        lab.lab(&["check"]).ok();
        for step in ["0", "1", "2", "3"] {
            reset(&lab, &["--step", step]);
            assert_prepared_for_step_4(&lab, false);
        }
        reset(&lab, &["--step", "4"]);
        assert_prepared_for_step_4(&lab, true);
        // Without a step, a reset is to what the lab was last prepared for.
        for host in ["userv", "userw"] {
            lab.exec(host, &["ip", "route", "del", "10.1.3.0/24"]).ok();
        }
        lab.exec("server", &["sysctl", "-qw", "net.ipv4.ip_forward=0"]).ok();
        assert_prepared_for_step_4(&lab, false);
        assert_eq!(reset(&lab, &[]).stdout, format!("lab {} is as at the start of step 4\n", lab.name));
        assert_prepared_for_step_4(&lab, true);
    }

    fn a_reset_undoes_whatever_was_done_on_a_host(user: User) {
        let lab = Lab::up(user);
        let before = ["useru", "server", "router"].map(|host| seen(&lab, host));
        let spoil = "set -e
            ip tuntap add dev tun0 mode tun; ip addr add 10.1.3.1/24 dev tun0; ip link set tun0 up
            ip link add veth7 type veth peer name veth8; ip link add bridge7 type bridge
            ip addr add 10.5.5.5/32 dev lo; ip addr add fd00::5/64 dev eth0; ip addr del 127.0.0.1/8 dev lo
            ip route add 10.1.77.0/24 dev eth0; ip route add blackhole 10.66.0.0/16
            ip route add 10.67.0.0/16 dev lo; ip route add unreachable 10.68.0.0/16 table 77
            ip -6 route add blackhole fd66::/64
            ip rule add from 10.1.3.0/24 table 77; ip -6 rule add from fd00::/64 table 77; ip rule del pref 32767
            ip neigh add 10.1.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
            nft add table ip mine; nft add chain ip mine input '{ type filter hook input priority 0; policy drop; }'
            ip nexthop add id 7 blackhole; ip nexthop add id 8 via 10.1.2.3 dev eth0; ip nexthop add id 9 group 8
            ip route add 10.69.0.0/16 nhid 7; ip route add 10.70.0.0/16 nhid 9
            ip xfrm policy add dir out src 10.1.2.2 dst 10.1.2.3 action block
            ip xfrm policy add dir in src 10.1.2.3 dst 10.1.2.2 action block
            tc qdisc add dev lo root pfifo; tc qdisc add dev lo clsact
            for set in ipv4.ip_forward=1 ipv4.ip_default_ttl=3 ipv4.conf.all.rp_filter=2 ipv4.conf.default.arp_ignore=1 \
                ipv4.icmp_echo_ignore_all=1 ipv6.conf.all.disable_ipv6=1; do
                sysctl -qw \"net.$set\"
            done
            ip link del eth3; ip link set eth0 mtu 700; ip link set lo down";
        let spoiled = lab.sh("useru", spoil);
        assert_eq!((spoiled.code, spoiled.stderr.as_str()), (0, ""), "{spoiled:#?}");
        lab.sh("server", "ip addr flush dev eth0; ip link set eth1 down; ip link set eth1 name other; ip rule flush").ok();
        lab.sh("router", "nft flush ruleset; ip link del eth0").ok();
        lab.lab(&["check"]).expect(1);
        reset(&lab, &[]);
        for (host, before) in ["useru", "server", "router"].into_iter().zip(before) {
            assert_same(&before, &seen(&lab, host));
        }
        lab.lab(&["check"]).ok();
        assert!(lab.pings("userw", "server"));
    }

    fn a_reset_leaves_alone_what_the_kernel_counts(user: User) {
        let lab = Lab::up(user);
        lab.sh("useru", "nft add table ip mine
            nft add chain ip mine input '{ type filter hook input priority 0; }'
            nft add rule ip mine input ct state established accept
            ping -c1 server").ok();
        let count = lab.exec("useru", &["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).ok().stdout;
        assert_ne!(count, "0\n", "a connection is tracked");
        assert_eq!(reset(&lab, &[]).stderr, "");
    }

    fn a_reset_ends_the_programs_but_for_the_labs_shells(user: User) {
        let lab = Lab::up(user);
        let vpnlab = common::vpnlab().display();
        let mut shell = Terminal::open(&lab.machine, &format!("exec {vpnlab} lab --lab {} shell useru", lab.name));
        shell.shows("useru:$ ");
        shell.types("sleep 1111 &\n");
        shell.shows("useru:$ ");
        let mut program = lab.start("server", &["sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1; done"]);
        program.wait_for("ready");
        reset(&lab, &[]);
        program.wait().expect(137);
        // The shell goes on, in the new network; what ran in it has ended.
        shell.types("\njobs; ping -c1 server | head -n2\n");
        shell.shows("64 bytes from server-lan0");
        assert!(!shell.screen().contains("Running"), "{}", shell.screen());
        shell.types("exit 6\n");
        assert_eq!(shell.end(), 6);
    }

    fn up_repairs_a_damaged_lab_and_says_what_was_damaged(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, damage, says) in [
            ("userv", "ip link del eth0", "eth0 of userv is missing"),
            ("server", "ip addr del 10.1.1.4/24 dev eth1", "eth1 of server lacks its address 10.1.1.4/24"),
            ("useru", "ip link set eth0 down", "eth0 of useru is down"),
        ] {
            lab.sh(host, damage).ok();
            lab.lab(&["check"]).expect(1);
            let repaired = lab.lab(&["up"]).ok().stdout;
            assert!(repaired.contains("was damaged") && repaired.contains(says), "{repaired}");
            lab.lab(&["check"]).ok();
        }
        // Repaired to the step that it was prepared for.
        assert_prepared_for_step_4(&lab, true);
    }

    fn a_reset_keeps_the_labs_namespaces(user: User) {
        let lab = Lab::up(user);
        let namespace = || lab.exec("useru", &["readlink", "/proc/self/ns/net"]).ok().stdout;
        let before = namespace();
        reset(&lab, &["--step", "2"]);
        assert_eq!(namespace(), before);
        let status = lab.lab(&["status"]).ok().stdout;
        assert!(status.contains("prepared for step 2"), "{status}");
    }
}

#[test]
fn labs_are_changed_from_outside_only() {
    let lab = Lab::up(User::Root);
    for command in ["up", "down", "reset"] {
        let done = lab.exec("useru", &["vpnlab", "lab", "--lab", &lab.name, command]).expect(2);
        assert!(
            done.stderr.contains("this is host useru of a lab; type lab commands in a shell of the machine itself")
        );
        let vpnlab = common::vpnlab().display().to_string();
        let namespace = format!("{}-useru", lab.name);
        let mut netns = lab.machine.command("ip");
        let done =
            run(netns.args(["netns", "exec", &namespace, &vpnlab, "lab", "--lab", &lab.name, command])).expect(2);
        assert!(done.stderr.contains("of a lab; type lab commands in a shell of the machine itself"), "{done:#?}");
    }
    lab.lab(&["check"]).ok();
}
