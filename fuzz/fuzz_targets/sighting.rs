//! A captured packet, and where in it the mark of the traced echo is: what the trace sees in it, and how it differs from the
//! echo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::trace::sighting::{Difference, Mark, What, any_datagram, find, is_another_packet};

fuzz_target!(|bytes: &[u8]| {
    let Some(([place, length], packet)) = bytes.split_first_chunk() else { return };
    let place = usize::from(*place).min(packet.len());
    let mark = packet[place..].first_chunk().map_or(Mark::new(7), |mark| Mark(*mark));
    let _ = any_datagram(packet);
    let echo = &packet[..usize::from(*length).min(packet.len())];
    let _ = is_another_packet(packet, echo);
    let found = find(packet, mark);
    let inside = match &found {
        Some(What::Echo(echo)) => &echo.bytes[..],
        Some(What::Inside(datagram, _)) => &datagram.payload[..],
        Some(What::Refused(_)) | None => packet,
    };
    assert!(inside.len() <= packet.len());
    for (was, is) in [(echo, inside), (inside, echo), (echo, packet)] {
        match Difference::between(was, is) {
            None => assert_eq!(was, is),
            Some(difference) => {
                assert_ne!(was, is);
                let said = difference.to_string();
                assert!(!said.contains(char::is_control), "{said:?}");
                difference.is_ip(is);
            }
        }
    }
});
