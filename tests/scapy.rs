//! Our words against scapy's, for thousands of packets and frames: `describe`, `echo_reply`, `reply_from`, `describe_frame` and
//! `arp_reply`.
//!
//! The packets come from `fixtures/scapy_summaries.py`, always the same ones for a seed. `SCAPY_SEED` and `SCAPY_CASES`
//! give other and more of them: tests/full.

use std::process::{Command, Output};
use std::sync::LazyLock;

use vpnlab::packet::{Frame, arp_reply, describe, describe_frame, echo_reply, reply_from};

const SEED: (&str, &str) = ("SCAPY_SEED", "490");
const CASES: (&str, &str) = ("SCAPY_CASES", "6000");

/// What the script prints; it runs once for all tests.
static TEXT: LazyLock<String> = LazyLock::new(scapy);

#[test]
fn a_description_is_what_scapy_says() {
    let cases = cases("summary");
    for fields in &cases {
        let [packet, summary] = fields[..] else { panic!("a summary case has two fields: {fields:?}") };
        assert_eq!(describe(&bytes(packet)), summary, "of {packet}");
    }
    assert!(cases.len() > 4000, "only {} summaries", cases.len());
}

#[test]
fn an_echo_reply_is_byte_for_byte_what_scapy_builds() {
    let cases = cases("echo");
    for fields in &cases {
        let [request, expected] = fields[..] else { panic!("an echo case has two fields: {fields:?}") };
        let mut out = [0; 2048];
        let reply = echo_reply(&bytes(request), &mut out).unwrap_or_else(|why| panic!("{why}: {request}"));
        assert_eq!(hex(reply), expected, "to {request}");
    }
    assert!(cases.len() > 400, "only {} echo requests", cases.len());
}

#[test]
fn a_packet_under_another_source_is_byte_for_byte_what_scapy_builds() {
    let cases = cases("reply_from");
    for fields in &cases {
        let [packet, source, expected] = fields[..] else { panic!("a reply_from case has three fields: {fields:?}") };
        let mut out = [0; 2048];
        let source = source.parse().expect("the script prints addresses");
        let new = reply_from(&bytes(packet), source, &mut out).unwrap_or_else(|why| panic!("{why}: {packet}"));
        assert_eq!(hex(new), expected, "from {packet}");
    }
    assert!(cases.len() > 400, "only {} packets", cases.len());
}

#[test]
fn a_description_of_a_frame_is_what_scapy_says() {
    let cases = cases("frame");
    for fields in &cases {
        let [frame, summary] = fields[..] else { panic!("a frame case has two fields: {fields:?}") };
        assert_eq!(describe_frame(&bytes(frame)), summary, "of {frame}");
    }
    assert!(cases.len() > 1400, "only {} frames", cases.len());
}

#[test]
fn an_arp_reply_is_byte_for_byte_what_scapy_builds() {
    let cases = cases("arp");
    for fields in &cases {
        let [request, mac, expected] = fields[..] else { panic!("an arp case has three fields: {fields:?}") };
        let request = bytes(request);
        let (frame, mac) = (Frame::parse(&request).expect("scapy builds frames"), mac.parse().expect("a MAC address"));
        let mut out = [0; 64];
        let reply = arp_reply(&frame, mac, |_| true, &mut out).unwrap_or_else(|why| panic!("{why}: {request:02x?}"));
        assert_eq!(hex(reply), expected, "to {request:02x?}");
    }
    assert!(cases.len() > 300, "only {} ARP requests", cases.len());
}

/// Runs the script with the first Python that has scapy.
fn scapy() -> String {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let (script, protocols) = (format!("{fixtures}/scapy_summaries.py"), format!("{fixtures}/protocols"));
    let python = ["/usr/bin/python3", "python3"].into_iter().find(|python| succeeds(python, &["-c", "import scapy"]));
    let python = python.expect("no Python here can import scapy: run `lab/setup.sh`");
    let chosen = |(variable, usual): (&str, &str)| std::env::var(variable).unwrap_or_else(|_| usual.to_string());
    let output = run(python, &[&script, &chosen(SEED), &chosen(CASES), &protocols]).expect("it ran a moment ago");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the script prints text")
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    run(program, arguments).is_ok_and(|output| output.status.success())
}

fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output()
}

/// The fields of every case of a kind.
fn cases(kind: &str) -> Vec<Vec<&'static str>> {
    let of_kind = TEXT.lines().filter_map(|line| line.split_once('\t').filter(|(found, _)| *found == kind));
    of_kind.map(|(_, fields)| fields.split('\t').collect()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { panic!("an odd number of digits: {hex}") };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(|pair| byte(pair).expect("hexadecimal digits")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
