//! Any packet: gets no echo reply and no "packet too big", or one that is sound and goes back where it came from.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::packet::{echo_reply, too_big, validate};

fuzz_target!(|bytes: &[u8]| {
    let mut out = [0; 70_000];
    if let Ok(reply) = echo_reply(bytes, &mut out) {
        let (from, to) = (validate(bytes).unwrap(), validate(reply).unwrap());
        assert_eq!((from.source, from.destination), (to.destination, to.source));
        let (protocol, answer) = wire::sound::check(reply);
        assert!(matches!((protocol, answer[0]), (1, 0) | (58, 129)));
        // Identifier, sequence number and data; bytes behind the packet are no part of it.
        assert!(bytes.windows(answer.len() - 4).any(|asked| asked == &answer[4..]));
        assert!(reply.len() <= bytes.len(), "an answer is no longer than its question");
        let needed = reply.len();
        assert!(echo_reply(bytes, &mut vec![0; needed - 1]).is_err());
    }
    for mtu in [0, 68, 1280, 65535] {
        if let Ok(error) = too_big(bytes, mtu, &mut out) {
            let (from, to) = (validate(bytes).unwrap(), validate(error).unwrap());
            assert_eq!((from.source, from.destination), (to.destination, to.source));
            let (_, message) = wire::sound::check(error);
            assert!(bytes.starts_with(&message[8..]), "it quotes the packet's beginning");
            assert!(too_big(error, mtu, &mut [0; 1280]).is_err(), "an error is not answered by another");
        }
    }
});
