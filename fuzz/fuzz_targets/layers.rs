//! A captured frame: opened layer by layer, each field with bytes of the frame and a text that a terminal shows as it is; and
//! what `watch` says of it in a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::pcapng::LinkType;
use vpnlab::watch::layers::{open, packet_of};
use vpnlab::watch::sight::Eye;

fuzz_target!(|bytes: &[u8]| {
    let Some(([how, more], frame)) = bytes.split_first_chunk() else { return };
    let kind = if how & 1 == 0 { LinkType::Ethernet } else { LinkType::Raw };
    let length = frame.len() + usize::from(*more) * 256;
    let mut end = 0;
    for layer in open(frame, kind, length, 9090) {
        assert_eq!(layer.range.start, end, "{layer:?}");
        assert!(layer.range.end <= frame.len() && !layer.range.is_empty(), "{layer:?}");
        end = layer.range.end;
        assert!(!layer.title.contains(char::is_control), "{layer:?}");
        for field in &layer.fields {
            let range = &field.range;
            assert!(
                layer.range.start <= range.start && range.start < range.end && range.end <= layer.range.end,
                "{layer:?}"
            );
            assert!(!field.value.contains(char::is_control), "{field:?}");
        }
    }
    assert_eq!(end, frame.len(), "no byte is left out");
    let eye = Eye::new(9090);
    let sight = eye.see(frame, packet_of(frame, kind), length);
    for text in [&sight.ends, &sight.says, &sight.detail] {
        assert!(!text.contains(char::is_control), "{sight:?}");
    }
    assert_eq!(eye.see(frame, packet_of(frame, kind), length), sight);
});
