//! Any datagram: described in one line that a terminal shows as it is, dumped, and judged a packet or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::packet::{describe, hex_dump, validate};

fuzz_target!(|bytes: &[u8]| {
    let line = describe(bytes);
    assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
    if let Err(reason) = validate(bytes) {
        assert_eq!(line, reason.to_string());
    }
    assert_eq!(hex_dump(bytes).lines().count(), bytes.len().div_ceil(16));
});
