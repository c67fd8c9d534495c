//! After the handout: `tap-arp`, asked by the kernel's own ARP, and by frames that no kernel sends.

use crate::common::{self, Lab};
use crate::fixtures::{Running, python};
use crate::{for_each_user, summary};

/// The MAC address in the answers, unless another one is asked for.
const MAC: &str = "aa:bb:cc:dd:ee:ff";

/// Addresses that no host has: of a subnet, of everybody, of a group, of nobody, of the host itself.
const NO_HOSTS: [[u8; 4]; 6] = [[10, 1, 3, 0], [10, 1, 3, 255], [255; 4], [224, 0, 0, 1], [0; 4], [127, 0, 0, 1]];

/// What useru's neighbour table says of an address.
#[track_caller]
fn neighbour(lab: &Lab, address: &str) -> String {
    lab.exec("useru", &["ip", "neigh", "show", address, "dev", "tap0"]).ok().stdout
}

/// Asks for the MAC address of an address, `arping`'s options before it; the answer in capital letters, if there was one.
#[track_caller]
fn arping(lab: &Lab, options: &[&str]) -> Option<String> {
    let done = lab.exec("useru", &[&["arping", "-f", "-c", "2", "-w", "2", "-I", "tap0"], options].concat());
    assert!(done.stdout.contains("Sent "), "arping does not work: {done:#?}");
    done.stdout.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mac, _)| mac.to_lowercase())
}

/// Asks in the kernel's place for addresses that neither it nor `arping` asks for, as they are no hosts'.
#[track_caller]
fn ask(lab: &Lab, addresses: &[[u8; 4]]) {
    let request = |[a, b, c, d]: &[u8; 4]| {
        format!("ffffffffffffOWN08060001080006040001OWN0a010301000000000000{a:02x}{b:02x}{c:02x}{d:02x}")
    };
    let frames: Vec<String> = addresses.iter().map(request).collect();
    send(lab, &frames.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Sends frames out of the TAP device.
#[track_caller]
fn send(lab: &Lab, frames: &[&str]) {
    let mut sender = Running::start(lab, "useru", &python("frame_send.py", &[&["tap0"], frames].concat()));
    sender.wait_for("Sent");
    sender.wait().ok();
}

for_each_user! {
    fn the_kernel_asks_and_is_answered_and_its_ping_comes_as_a_frame(user: User) {
        let lab = Lab::up(user);
        let mut neighbours = Running::tunnel(&lab, "useru", &["tap-arp"]);
        let device = lab.exec("useru", &["ip", "address", "show", "dev", "tap0"]).ok().stdout;
        for part in ["<BROADCAST,MULTICAST,UP,LOWER_UP>", " mtu 1500 ", "link/ether ", " inet 10.1.3.1/24 "] {
            assert!(device.contains(part), "{part} is not in {device}");
        }
        assert!(!lab.pings("useru", "10.1.3.4"), "nobody answers pings");
        let shown = "\nEther / ARP who has 10.1.3.4 says 10.1.3.1\nTo tap <==: Ether / ARP is at aa:bb:cc:dd:ee:ff says 10.1.3.4\n";
        neighbours.wait_for("Ether / IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw\n");
        assert!(format!("\n{}", neighbours.stdout()).contains(shown), "{}", neighbours.stdout());
        let known = neighbour(&lab, "10.1.3.4");
        assert!(known.contains(&format!("lladdr {MAC} ")) && !known.contains("FAILED"), "{known}");
    }

    fn with_ping_the_addresses_that_nobody_has_answer_and_are_reachable(user: User) {
        let lab = Lab::up(user);
        let neighbours = Running::tunnel(&lab, "useru", &["tap-arp", "--ping", "--mac", "02:00:00:00:00:42"]);
        for address in ["10.1.3.2", "10.1.3.4", "10.1.3.254"] {
            for size in ["0", "1", "56", "1472"] {
                let done = lab.exec("useru", &["ping", "-n", "-c1", "-W5", "-s", size, address]).ok();
                for complaint in ["wrong data", "BAD", "DUP", "truncated"] {
                    assert!(!done.stdout.contains(complaint), "{done:#?}");
                }
            }
            let known = neighbour(&lab, address);
            assert!(known.contains("lladdr 02:00:00:00:00:42 REACHABLE"), "{known}");
        }
        // A host behind one of them: its frames go to the same MAC address.
        lab.sh("useru", "ip route add 192.0.2.0/24 via 10.1.3.4").ok();
        assert!(lab.pings("useru", "192.0.2.77"));
        assert!(!neighbours.stdout().contains("who has 192.0.2.77"), "{}", neighbours.stdout());
        // For its own address the kernel answers, and asks nobody.
        assert!(lab.pings("useru", "10.1.3.1"));
        assert!(!neighbours.stdout().contains("who has 10.1.3.1 "), "{}", neighbours.stdout());
        // The fragments of a large one are not put together here.
        lab.exec("useru", &["ping", "-c1", "-W1", "-s", "1473", "10.1.3.4"]).expect(1);
        let done = neighbours.interrupt().ok();
        assert!(summary(&done.stderr).contains("2 a fragment; only a whole echo request has an answer"), "{done:#?}");
    }

    fn arping_is_answered_for_the_subnet_and_with_any_for_every_host(user: User) {
        let lab = Lab::up(user);
        let neighbours = Running::tunnel(&lab, "useru", &["tap-arp"]);
        for address in ["10.1.3.2", "10.1.3.99", "10.1.3.254"] {
            assert_eq!(arping(&lab, &[address]).as_deref(), Some(MAC), "{address}");
        }
        for address in ["1.2.3.4", "10.1.2.2", "192.168.1.254"] {
            assert_eq!(arping(&lab, &[address]), None, "{address}");
        }
        ask(&lab, &NO_HOSTS);
        // Whether an address is free: here it is. And an announcement asks for nothing.
        assert_eq!(arping(&lab, &["-D", "10.1.3.99"]), None);
        assert_eq!(arping(&lab, &["-U", "10.1.3.1"]), None);
        assert!(neighbours.stdout().contains("\nEther / ARP who has 10.1.3.255 says 10.1.3.1\n"));
        assert_eq!(neighbours.stdout().matches("To tap").count(), 3, "{}", neighbours.stdout());
        // It is given an address while it runs, and knows it.
        lab.sh("useru", "ip address add 10.9.9.1/24 dev tap0").ok();
        assert_eq!(arping(&lab, &["10.9.9.2"]).as_deref(), Some(MAC));
        let done = neighbours.interrupt().ok();
        for reason in ["an address that is not answered for", "an ARP probe", "an ARP announcement"] {
            assert!(summary(&done.stderr).contains(reason), "{done:#?}");
        }

        let neighbours = Running::tunnel(&lab, "useru", &["tap-arp", "--any"]);
        for address in ["1.2.3.4", "10.1.3.4", "8.8.8.8"] {
            assert_eq!(arping(&lab, &[address]).as_deref(), Some(MAC), "{address}");
        }
        // Not for those that the host itself has, on whatever interface, and not for what is no host's.
        ask(&lab, &[&NO_HOSTS[..], &[[10, 1, 2, 2], [192, 168, 1, 96], [10, 1, 3, 1]]].concat());
        assert_eq!(arping(&lab, &["10.1.3.5"]).as_deref(), Some(MAC));
        assert!(neighbours.stdout().contains("\nEther / ARP who has 192.168.1.96 says 10.1.3.1\n"));
        assert_eq!(neighbours.stdout().matches("To tap").count(), 4, "{}", neighbours.stdout());
    }

    fn frames_that_no_kernel_sends_are_shown_as_what_they_are_and_disturb_nothing(user: User) {
        let lab = Lab::up(user);
        let mut neighbours = Running::tunnel(&lab, "useru", &["tap-arp", "--ping"]);
        let wrong = [
            ("ffffffffffffOWN0806", " > ff:ff:ff:ff:ff:ff (0x806)\n"),
            ("ffffffffffffOWN080600010800060400", "Ether / truncated: ARP message of 28 bytes, got 7 bytes\n"),
            (
                "ffffffffffffOWN08060006080006040001OWN0a0103010000000000000a010304",
                "Ether / ARP for hardware of type 6, not for Ethernet\n",
            ),
            (
                "ffffffffffffOWN080600010800061000010000000000000a0103010000000000000a010304",
                "Ether / ARP with addresses of 6 and 16 bytes, not of 6 and 4\n",
            ),
            (
                "ffffffffffffOWN8100000508060001080006040001OWN0a0103010000000000000a010304",
                "Ether / Dot1Q / ARP who has 10.1.3.4 says 10.1.3.1\n",
            ),
            (
                "ffffffffffffOWN08060001080006040002OWN0a0103010000000000000a010304",
                " says 10.1.3.1\n",
            ),
            (
                "020000000077OWN08060001080006040001OWN0a0103010000000000000a010305",
                "Ether / ARP who has 10.1.3.5 says 10.1.3.1\n",
            ),
            (
                "ffffffffffffOWN08060001080006040001ffffffffffff0a0103010000000000000a010306",
                "Ether / ARP who has 10.1.3.6 says 10.1.3.1\n",
            ),
            ("333300000001OWN86dd6000000000083aff", "Ether / truncated: IPv6 header of 40 bytes, got 8 bytes\n"),
            ("aabbccddeeffOWN080045", "Ether / truncated: IPv4 header of 20 bytes, got 1 bytes\n"),
            ("aabbccddeeffOWN88b57f00", " > aa:bb:cc:dd:ee:ff (0x88b5) / Raw\n"),
            ("aabbccddeeffOWN0002ffff00", "802.3 "),
        ];
        // No more than twenty lines a second are shown, and the kernel has some of its own to send.
        for pair in wrong.chunks(4) {
            send(&lab, &pair.iter().map(|(frame, _)| *frame).collect::<Vec<_>>());
            for (_, shown) in pair {
                neighbours.wait_for(shown);
            }
        }
        assert!(!neighbours.stdout().contains("To tap"), "one of them is answered: {}", neighbours.stdout());
        assert!(lab.pings("useru", "10.1.3.4"), "and then it works");
        assert!(neighbours.runs());
    }

    fn it_works_on_after_the_device_was_down(user: User) {
        let lab = Lab::up(user);
        let neighbours = Running::tunnel(&lab, "useru", &["tap-arp", "--ping"]);
        assert!(lab.pings("useru", "10.1.3.4"));
        for _ in 0..3 {
            lab.sh("useru", "ip link set dev tap0 down").ok();
            assert!(!lab.pings("useru", "10.1.3.4"));
            lab.sh("useru", "ip link set dev tap0 up").ok();
            assert!(lab.pings("useru", "10.1.3.4"));
        }
        // Also with another MAC address of its own.
        lab.sh("useru", "ip link set dev tap0 address 02:00:00:00:00:07").ok();
        assert_eq!(arping(&lab, &["10.1.3.4"]).as_deref(), Some(MAC));
        lab.sh("useru", "ip link delete dev tap0").ok();
        let done = neighbours.wait().expect(1);
        assert!(done.stderr.contains("vpnlab: TAP device tap0 is gone: it was deleted while it was in use"), "{done:#?}");
    }

    fn without_configuration_the_commands_of_the_parent_lab_do_the_rest(user: User) {
        let lab = Lab::up(user);
        let mut neighbours = Running::step(&lab, "useru", &["tap-arp", "--no-configure", "--tap", "blue%d"]);
        neighbours.wait_for("Interface name: blue0\n");
        let device = lab.exec("useru", &["ip", "address", "show", "dev", "blue0"]).ok().stdout;
        assert!(device.contains(" state DOWN ") && !device.contains("inet "), "{device}");
        lab.sh("useru", "sudo ip addr add 192.168.53.99/24 dev blue0 && sudo ip link set dev blue0 up").ok();
        assert!(!lab.pings("useru", "192.168.53.33"));
        neighbours.wait_for("To tap <==: Ether / ARP is at aa:bb:cc:dd:ee:ff says 192.168.53.33\n");
    }

    fn count_ends_it_and_the_recording_and_the_counts_are_of_frames(user: User) {
        let lab = Lab::up(user);
        // A device without IPv6 carries only what the test sends.
        lab.sh("useru", "sysctl -qw net.ipv6.conf.default.disable_ipv6=1").ok();
        let (pcap, stats) = (format!("/tmp/{}.pcapng", lab.name), format!("/tmp/{}.json", lab.name));
        let options = ["tap-arp", "--ping", "--count", "2", "--pcap", &pcap, "--stats-json", &stats];
        let neighbours = Running::tunnel(&lab, "useru", &options);
        assert!(lab.pings("useru", "10.1.3.4"));
        let done = neighbours.wait().ok();
        assert_eq!(
            summary(&done.stderr),
            "[INFO] tap0: 2 packets (140 bytes) in, 2 packets (140 bytes) out; dropped 0"
        );
        let counts: serde_json::Value =
            serde_json::from_str(&lab.exec("useru", &["cat", &stats]).ok().stdout).expect("it is JSON");
        assert_eq!((&counts["tun"]["name"], &counts["tun"]["sent"]["packets"]), (&"tap0".into(), &2.into()));
        let fields = ["-T", "fields", "-e", "eth.src", "-e", "arp.opcode", "-e", "icmp.type", "-e", "frame.protocols"];
        let read = lab.exec("useru", &[&["env", "HOME=/nowhere", "tshark", "-n", "-r", &pcap], &fields[..]].concat()).ok().stdout;
        let lines: Vec<Vec<&str>> = read.lines().map(|line| line.split('\t').collect()).collect();
        let own = lines[0][0];
        let expected = [
            [own, "1", "", "eth:ethertype:arp"],
            [MAC, "2", "", "eth:ethertype:arp"],
            [own, "", "8", "eth:ethertype:ip:icmp:data"],
            [MAC, "", "0", "eth:ethertype:ip:icmp:data"],
        ];
        assert_eq!(lines, expected, "{read}");
        lab.exec("useru", &["rm", &pcap, &stats]).ok();
        assert!(!lab.exec("useru", &["ip", "link", "show"]).ok().stdout.contains("tap0"));
    }

    fn a_name_of_the_other_kind_and_an_address_without_arp_are_mistakes(user: User) {
        let lab = Lab::up(user);
        let _reader = Running::tunnel(&lab, "useru", &["tun-read"]);
        let fails = |options: &[&str], code| {
            let done = lab.exec("useru", &[&["vpnlab", "tap-arp"], options].concat()).expect(code);
            done.stderr.lines().last().unwrap_or_default().to_string()
        };
        let taken = fails(&["--tap", "tun0"], 1);
        assert!(taken.contains("cannot create TAP device tun0: the name is in use") && taken.contains("--tap"), "{taken}");
        assert!(fails(&["--tap", "a/b"], 2).contains("cannot name a TAP device"));
        assert!(fails(&["--address", "fd00::1/64"], 2).contains("ARP is for IPv4"));
        assert!(fails(&["--mac", "01:00:5e:00:00:01"], 2).contains("no single interface's address"));
        assert!(fails(&["--mac", "42"], 2).contains("as in aa:bb:cc:dd:ee:ff"));
        assert!(fails(&["--mtu", "65522"], 2).contains("68..=65521"));
    }
}
