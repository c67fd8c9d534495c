//! Datagrams of any length, with or without a gap before them: joined, they are cut into the same datagrams.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut places, mut end) = (Vec::new(), 0);
    let mut length = 0;
    for step in bytes.as_chunks::<3>().0 {
        // A gap, the last length again, or a new one.
        match step[0] {
            0..8 => end += usize::from(step[1]),
            8..192 => {}
            _ => length = usize::from(u16::from_le_bytes([step[1], step[2]])),
        }
        places.push(end..end + length);
        end += length;
    }
    wire::judge::runs(&places, bytes.first().is_none_or(|first| first % 8 > 0));
});
