//! Datagrams that hold no packet, alone and in runs that the kernel joins (UDP_GRO), are counted and disturb nobody.

use crate::common::{self, Lab, eventually};
use crate::fixtures::traffic::{CLIENT, echo_requests, transfer, vpn};
use crate::fixtures::{Running, python};
use crate::for_each_user;

/// Sends datagrams to the server.
#[track_caller]
fn send(lab: &Lab, host: &str, server: &str, words: &[&str]) {
    let mut sender = Running::start(lab, host, &python("udp_send.py", &[&[server, "9090"], words].concat()));
    sender.wait_for("Sent");
    sender.wait().ok();
}

/// An echo request from the client to userv, in hexadecimal.
fn echo_request(number: u16) -> String {
    let checksum = |bytes: &[u8]| {
        let sum: u32 = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        !((sum & 0xffff) + (sum >> 16)) as u16
    };
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 1, 3, 1, 10, 1, 1, 2, 8, 0, 0, 0, 0x12, 0x34];
    packet.extend(number.to_be_bytes());
    for (range, at) in [(0..20, 10), (20..28, 22)] {
        let sum = checksum(&packet[range]);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet.iter().map(|byte| format!("{byte:02x}")).collect()
}

for_each_user! {
    fn what_is_no_packet_is_counted_alone_and_in_runs(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        let runs = [["ff".repeat(1400).as_str(); 40].join("+"), ["00"; 60].join("+"), ["45", "45", "45"].join("+")];
        let runs: Vec<_> = runs.iter().map(String::as_str).collect();
        send(&lab, "useru", "10.1.2.3", &runs);
        send(&lab, "userw", "10.1.1.4", &runs);
        send(&lab, "userw", "10.1.1.4", &["", "3x", "77"]);
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
        let done = server.interrupt().ok();
        assert!(done.stderr.contains(" 211 no IP packet"), "{done:#?}");
        assert_eq!(done.stderr.matches("ignored a datagram").count(), 1, "{done:#?}");
        client.interrupt().ok();
    }

    fn good_packets_between_junk_in_one_run_are_carried(user: User) {
        let lab = Lab::up_at(user, 4);
        let server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let before = echo_requests(&lab, "userv");
        let junk = "ff".repeat(28);
        let mut run = vec![junk.clone()];
        for number in 0..25 {
            run.extend([echo_request(number), junk.clone()]);
        }
        // A shorter datagram ends the run.
        run.push("ff".into());
        send(&lab, "useru", "10.1.2.3", &[&run.join("+")]);
        eventually("all good packets arrive", || echo_requests(&lab, "userv") == before + 25);
        let done = server.interrupt().ok();
        assert!(done.stderr.contains("27 no IP packet"), "{done:#?}");
        assert_eq!(echo_requests(&lab, "userv"), before + 25);
    }

    fn junk_between_good_datagrams_does_not_break_them(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        let run = ["ff".repeat(1448).as_str(); 44].join("+");
        let words = ["10.1.1.4", "9090", &format!("200000x{run}")];
        let mut junk = Running::start(&lab, "userw", &python("udp_send.py", &words));
        for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userv", "useru", CLIENT)] {
            transfer(&lab, from, to, address, 5_000_000);
        }
        assert!(junk.runs(), "there was junk all the while");
        junk.end_with("KILL");
        assert!(lab.pings("useru", "userv"));
        let done = server.interrupt().ok();
        assert!(done.stderr.contains(" no IP packet"), "{done:#?}");
        client.interrupt().ok();
    }
}
