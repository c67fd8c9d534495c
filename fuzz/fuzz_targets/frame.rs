//! Any frame of a TAP device: described in one line, and answered by nothing, or by a whole ARP reply or echo reply that goes
//! back to its sender.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::packet::{Frame, Mac, arp_reply, describe_frame, echo_reply_in_frame, validate};

const OURS: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);

fuzz_target!(|bytes: &[u8]| {
    let line = describe_frame(bytes);
    assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
    let Ok(frame) = Frame::parse(bytes) else { return };
    let mut out = [0; 70_000];
    let mut asked = None;
    let has = |address: std::net::Ipv4Addr| {
        asked = Some(address);
        address.octets()[0] == 10
    };
    if let Ok(reply) = arp_reply(&frame, OURS, has, &mut out) {
        assert!(frame.destination == OURS || frame.destination == Mac::BROADCAST);
        assert_eq!(&bytes[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1], "only a request is answered");
        let expected =
            [&bytes[22..28], &OURS.0, &bytes[12..20], &[0, 2], &OURS.0, &bytes[38..42], &bytes[22..32]].concat();
        assert_eq!(reply, expected);
        assert!(reply[0] & 1 == 0, "it goes to one host");
        assert_ne!(bytes[28..32], [0; 4], "a probe is not answered");
        assert_ne!(bytes[28..32], bytes[38..42], "an announcement is not answered");
        assert_eq!(asked.map(|address| address.octets()[0]), Some(10));
        assert!(arp_reply(&Frame::parse(&expected).unwrap(), OURS, |_| true, &mut out).is_err());
    }
    if let Ok(reply) = echo_reply_in_frame(&frame, &mut out) {
        let reply = Frame::parse(reply).unwrap();
        assert_eq!((reply.destination, reply.source, reply.ethertype), (frame.source, frame.destination, 0x0800));
        let (from, to) = (validate(frame.payload).unwrap(), validate(reply.payload).unwrap());
        assert_eq!((from.source, from.destination), (to.destination, to.source));
        assert_eq!(wire::sound::check(reply.payload).0, 1);
        assert!(reply.payload.len() <= frame.payload.len(), "an answer is no longer than its question");
    }
});
