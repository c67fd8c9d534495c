//! Step 1, first half: `tun-read`.

use crate::common::{self, Lab, eventually};
use crate::fixtures::{Running, python};
use crate::{for_each_user, ipv4_lines};

/// What scapy calls a ping of 10.1.3.4.
const PING: &str = "IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw";

for_each_user! {
    fn it_creates_a_device_and_configures_it_by_the_commands_that_it_logs(user: User) {
        let lab = Lab::up(user);
        let reader = Running::tunnel(&lab, "useru", &["tun-read"]);
        assert_eq!(
            reader.stderr(),
            "[INFO] Interface name: tun0\n\
             [INFO] ip addr add 10.1.3.1/24 dev tun0\n\
             [INFO] ip link set dev tun0 up\n"
        );
        let device = lab.exec("useru", &["ip", "address", "show", "dev", "tun0"]).ok().stdout;
        for part in ["<POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP>", " mtu 1500 ", " inet 10.1.3.1/24 "] {
            assert!(device.contains(part), "{part} is not in {device}");
        }
    }

    fn without_configuration_the_device_has_no_address_and_is_down(user: User) {
        let lab = Lab::up(user);
        let mut reader = Running::step(&lab, "useru", &["tun-read", "--no-configure"]);
        reader.wait_for("Interface name: tun0\n");
        let device = lab.exec("useru", &["ip", "address", "show", "dev", "tun0"]).ok().stdout;
        assert!(device.contains("<POINTOPOINT,MULTICAST,NOARP> ") && device.contains(" state DOWN "), "{device}");
        assert!(!device.contains("inet"), "{device}");
        // The handout's own commands then do the rest.
        lab.sh("useru", "sudo ip addr add 10.1.3.1/24 dev tun0 && sudo ip link set dev tun0 up").ok();
        assert!(!lab.pings("useru", "10.1.3.4"));
        reader.wait_for(PING);
        assert_eq!(reader.stderr().matches("ip addr add").count(), 0);
    }

    fn it_shows_a_ping_of_its_subnet_as_scapy_does_and_no_ping_of_userv(user: User) {
        let lab = Lab::up(user);
        let mut reader = Running::tunnel(&lab, "useru", &["tun-read"]);
        assert!(!lab.pings("useru", "10.1.3.4"));
        reader.wait_for(&format!("{PING}\n"));
        assert!(!lab.pings("useru", "userv"));
        // The packets come out in the order in which they were sent, so this one is last.
        assert!(!lab.pings("useru", "10.1.3.4"));
        eventually("the second ping is shown", || reader.stdout().matches(PING).count() == 2);
        let done = reader.interrupt().ok();
        assert_eq!(ipv4_lines(&done.stdout), [PING, PING]);
    }

    fn its_name_address_and_mtu_can_be_chosen(user: User) {
        let lab = Lab::up(user);
        let options = ["--tun", "blue%d", "--address", "10.7.0.1/28", "--address", "fd00:7::1/64", "--mtu", "1300"];
        let reader = Running::tunnel(&lab, "useru", &[&["tun-read"], &options[..]].concat());
        assert_eq!(reader.interface(), "blue0");
        eventually("both addresses are there", || {
            let device = lab.exec("useru", &["ip", "address", "show", "dev", "blue0"]).ok().stdout;
            ["inet 10.7.0.1/28 ", "inet6 fd00:7::1/64 ", "mtu 1300 "].iter().all(|part| device.contains(part))
        });
    }

    fn the_dump_has_every_byte_of_the_packet(user: User) {
        let lab = Lab::up(user);
        let mut reader = Running::tunnel(&lab, "useru", &["tun-read", "--hex"]);
        let mut capture = Running::start(&lab, "useru", &python("capture.py", &["tun0"]));
        capture.wait_for("Start\n");
        assert!(!lab.pings("useru", "10.1.3.4"));
        reader.wait_for(PING);
        eventually("the whole packet is dumped", || {
            let on_the_wire = capture.stdout().lines().find(|line| line.starts_with("45")).map(String::from);
            on_the_wire.is_some() && dumped(&reader.stdout()) == on_the_wire
        });
    }

    fn a_reply_from_another_address_has_right_checksums(user: User) {
        let lab = Lab::up(user);
        let _reader = Running::tunnel(&lab, "useru", &["tun-read", "--reply-from", "1.2.3.4"]);
        let mut watch = Running::watch(&lab, "useru", &["tun0"]);
        assert!(!lab.pings("useru", "10.1.3.4"));
        watch.wait_for("tun0 out 10.1.3.1 > 10.1.3.4 ICMP echo request length 84 checksums right\n");
        watch.wait_for("tun0 in 1.2.3.4 > 10.1.3.1 ICMP echo request length 84 checksums right\n");
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["10.1.3.4", "7", "616263"]));
        sender.wait_for("Sent");
        watch.wait_for("tun0 in 1.2.3.4 > 10.1.3.1 UDP to 7 length 31 checksums right\n");
    }

    fn it_ends_after_as_many_packets_as_asked_for(user: User) {
        let lab = Lab::up(user);
        let reader = Running::tunnel(&lab, "useru", &["tun-read", "--count", "3"]);
        lab.exec("useru", &["ping", "-c", "3", "-i", "0.1", "-W", "1", "10.1.3.4"]);
        let done = reader.wait().ok();
        assert_eq!(done.stdout.lines().count(), 3, "{done:#?}");
        assert!(done.stderr.contains("tun0: 3 packets ("), "{done:#?}");
    }
}

/// The bytes that stand below the ping in the output of `--hex`, as one number.
fn dumped(stdout: &str) -> Option<String> {
    let below = stdout.split_once(&format!("{PING}\n"))?.1;
    let lines = below.lines().take_while(|line| line.starts_with("0x"));
    let bytes = lines.map(|line| line.get(9..48).unwrap_or_default().replace(' ', ""));
    Some(bytes.collect())
}
