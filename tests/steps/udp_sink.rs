//! Step 2, the server's half: `udp-sink`, for a user without rights, and in the lab. tests/udp_sink.rs has the rest.

use std::net::UdpSocket;

use crate::common::{self, Lab, Machine, Program, User};
use crate::fixtures::{Running, python};
use crate::for_each_user;

/// An IPv4 packet from 10.1.3.1 to 10.1.3.5 of 20 bytes: a header and nothing else.
const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 1, 0, 0, 64, 253, 0x5f, 0xe1, 10, 1, 3, 1, 10, 1, 3, 5];

/// The port that a sink on port 0 was given.
#[track_caller]
fn port(sink: &mut Program) -> u16 {
    sink.wait_for("Start UDP server on port ");
    let line = sink.stdout();
    line.trim_end().rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port is a number")
}

/// A socket on this machine that sends to a sink on it, and its own port.
fn sender(sink: u16) -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", sink)).unwrap();
    let own = socket.local_addr().unwrap().port();
    (socket, own)
}

#[test]
fn a_user_without_rights_sees_whence_each_datagram_came_and_what_is_inside() {
    let mut sink = Machine::new(User::Plain).start(&["udp-sink", "--port", "0", "--count", "2"]);
    let port = port(&mut sink);
    let (socket, own) = sender(port);
    socket.send(&PACKET).unwrap();
    sink.wait_for(" Inside: 10.1.3.1 ---> 10.1.3.5\n");
    socket.send(&[0x60; 40]).unwrap_or_default();
    socket.send(&PACKET).unwrap_or_default();
    let done = sink.wait().ok();
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!(lines[0], format!("Start UDP server on port {port}"));
    assert_eq!(lines[1], format!("127.0.0.1:{own} --> 0.0.0.0:{port}"));
    assert_eq!(lines[2], " Inside: 10.1.3.1 ---> 10.1.3.5");
    assert_eq!(lines.len(), 5, "{done:#?}");
    assert!(done.stderr.contains("dropped 1: 1 no IP packet"), "{done:#?}");
}

for_each_user! {
    fn in_the_lab_its_lines_are_the_handouts(user: User) {
        let lab = Lab::up(user);
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server on port 9090\n");
        let packet: String = PACKET.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sender = Running::start(&lab, "useru", &python("udp_send.py", &["server", "9090", &packet]));
        sender.wait_for("Sent from port ");
        let done = sender.wait().ok();
        let port = done.stdout.trim_end().rsplit(' ').next().expect("it names its port");
        sink.wait_for(" ---> ");
        assert_eq!(
            sink.stdout(),
            format!(
                "Start UDP server on port 9090\n10.1.2.2:{port} --> 0.0.0.0:9090\n Inside: 10.1.3.1 ---> 10.1.3.5\n"
            )
        );
    }
}
