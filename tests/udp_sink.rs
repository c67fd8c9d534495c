//! `vpnlab udp-sink` from outside: the one step that needs neither a TUN device nor any right.

use std::io::{BufRead, BufReader, Lines};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running sink, and the lines that it prints. Killed when the test is over, however it ends.
struct Sink {
    process: Child,
    /// `None` once nobody reads them any more.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    port: u16,
}

impl Sink {
    /// Starts a sink on a port of the kernel's choice, and waits until it listens.
    fn start(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
        command.args(["udp-sink", "--port", "0"]).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let port = first.strip_prefix("Start UDP server on port ").unwrap().parse().unwrap();
        Self { process, lines: Some(lines), port }
    }

    fn line(&mut self) -> String {
        self.lines.as_mut().unwrap().next().unwrap().unwrap()
    }

    /// Waits for the end; returns the exit code and the log.
    fn end(mut self) -> (Option<i32>, String) {
        let log = std::io::read_to_string(self.process.stderr.take().unwrap()).unwrap();
        (self.process.wait().unwrap().code(), log)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A UDP packet without payload from 192.0.2.1 to 198.51.100.2.
const PACKET: [u8; 28] = [
    0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0x8d, 0x6e, 192, 0, 2, 1, 198, 51, 100, 2, // IPv4
    0, 53, 0, 99, 0, 8, 0, 0, // UDP
];

#[test]
fn the_two_lines_of_a_datagram_say_whence_it_came_and_what_is_inside() {
    let mut sink = Sink::start(&["--count", "1"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&PACKET, ("127.0.0.1", sink.port)).unwrap();
    let sender = socket.local_addr().unwrap();
    assert_eq!(sink.line(), format!("{sender} --> 0.0.0.0:{}", sink.port));
    assert_eq!(sink.line(), " Inside: 192.0.2.1 ---> 198.51.100.2");
    let (code, log) = sink.end();
    assert_eq!(
        (code, log.as_str()),
        (Some(0), "[INFO] UDP: 1 packet (28 bytes) in, 0 packets (0 bytes) out; dropped 0\n")
    );
}

#[test]
fn a_datagram_without_an_ip_packet_is_called_what_it_is_and_the_sink_goes_on() {
    let mut sink = Sink::start(&["--count", "4"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let largest = [0; 65507];
    for (datagram, said) in [(&b""[..], "0 bytes"), (b"hello", "5 bytes"), (&largest, "65507 bytes")] {
        socket.send_to(datagram, ("127.0.0.1", sink.port)).unwrap();
        sink.line();
        let inside = sink.line();
        assert!(inside.starts_with(&format!(" Inside: {said}, no IP packet: ")), "{inside}");
    }
    socket.send_to(&PACKET, ("127.0.0.1", sink.port)).unwrap();
    sink.line();
    assert_eq!(sink.line(), " Inside: 192.0.2.1 ---> 198.51.100.2");
    let (code, log) = sink.end();
    assert_eq!(code, Some(0));
    assert!(log.ends_with("dropped 3: 3 no IP packet\n"), "{log}");
}

#[test]
fn datagrams_over_ipv6_and_ipv4_arrive_at_one_sink() {
    let mut sink = Sink::start(&["--bind", "::", "--count", "2"]);
    for (local, remote) in [("[::1]:0", "::1"), ("127.0.0.1:0", "127.0.0.1")] {
        let socket = UdpSocket::bind(local).unwrap();
        socket.send_to(&PACKET, (remote, sink.port)).unwrap();
        assert_eq!(sink.line(), format!("{} --> [::]:{}", socket.local_addr().unwrap(), sink.port));
        sink.line();
    }
    assert_eq!(sink.end().0, Some(0));
}

#[test]
fn ctrl_c_and_a_kill_end_it_with_a_summary() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let sink = Sink::start(&[]);
        kill(Pid::from_raw(sink.process.id() as i32), signal).unwrap();
        let (code, log) = sink.end();
        assert_eq!(code, Some(0), "{signal}");
        assert!(log.ends_with("; dropped 0\n"), "{signal}: {log}");
    }
}

#[test]
fn it_ends_and_says_why_when_nobody_reads_its_lines_any_more() {
    let mut sink = Sink::start(&[]);
    sink.lines = None;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The first line may still find a reader: a process that another test just forked has our end of the pipe, too,
    // until it becomes another program.
    let deadline = Instant::now() + Duration::from_secs(10);
    while sink.process.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the sink goes on");
        socket.send_to(&PACKET, ("127.0.0.1", sink.port)).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, log) = sink.end();
    assert_eq!(code, Some(0));
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.starts_with("[INFO] Nobody reads stdout any more"), "{log}");
}

#[test]
fn a_flood_is_counted_and_not_shown_line_by_line() {
    // Few enough for the smallest receive buffer, so that none is lost.
    let mut sink = Sink::start(&["--count", "100"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        socket.send_to(&PACKET, ("127.0.0.1", sink.port)).unwrap();
    }
    let lines: Vec<_> = sink.lines.take().unwrap().map_while(Result::ok).collect();
    assert!(lines.len() < 100, "{} lines", lines.len());
    assert!(lines.last().unwrap().starts_with("... and "), "{lines:?}");
    assert_eq!(sink.end().0, Some(0));
}

#[test]
fn the_log_file_gets_the_lines_and_the_log() {
    let path = std::env::temp_dir().join(format!("vpnlab-log-{}", std::process::id()));
    let sink = Sink::start(&["-q", "--count", "1", "--log-file", path.to_str().unwrap()]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&PACKET, ("127.0.0.1", sink.port)).unwrap();
    assert_eq!(sink.end(), (Some(0), String::new()));
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for line in ["[INFO] Start UDP server on port ", " Inside: 192.0.2.1 ---> 198.51.100.2\n", "[INFO] UDP: 1 packet "]
    {
        assert!(log.contains(line), "{log}");
    }
}
