//! Names, comments and frames of any kind, written to a capture file: it can be read, and holds what was written.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vpnlab::pcapng::{Direction, LinkType, Packet, Pcapng};

/// The next bytes, as many as their first one says.
fn some<'b>(rest: &mut &'b [u8]) -> &'b [u8] {
    let length = rest.split_off_first().copied().unwrap_or(0);
    rest.split_off(..usize::from(length).min(rest.len())).unwrap_or_default()
}

/// A block's type and body (draft-ietf-opsawg-pcapng, section 3.1).
fn block<'f>(file: &mut &'f [u8]) -> (u32, &'f [u8]) {
    let word = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
    let (kind, length) = (word(file), word(&file[4..]) as usize);
    assert!(length >= 12 && length.is_multiple_of(4));
    let block = file.split_off(..length).expect("a block is no longer than the file");
    assert_eq!(word(&block[length - 4..]) as usize, length, "the length stands at the end once more");
    (kind, &block[8..length - 4])
}

/// The options' codes and values (section 3.5).
fn options(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    loop {
        let [code, length] = [0, 2].map(|at| u16::from_le_bytes([rest[at], rest[at + 1]]));
        if code == 0 {
            assert_eq!((length, rest.len()), (0, 4), "nothing follows the last option");
            return found;
        }
        let end = 4 + usize::from(length);
        found.push((code, &rest[4..end]));
        rest = &rest[end.next_multiple_of(4)..];
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut made = Vec::new();
    let mut file = Pcapng::new(&mut made).unwrap();
    let name = String::from_utf8_lossy(some(&mut rest));
    let number = file.interface(&name, LinkType::Raw).unwrap();
    let mut packets = Vec::new();
    while !rest.is_empty() && packets.len() < 20 {
        packets.push((String::from_utf8_lossy(some(&mut rest)), some(&mut rest)));
    }
    for (at, (comment, bytes)) in packets.iter().enumerate() {
        let at = Duration::from_millis(at as u64);
        let length = bytes.len() + comment.len();
        let packet = Packet { interface: number, at, direction: Direction::In, bytes, length, comment: Some(comment) };
        file.packet(&packet).unwrap();
    }
    drop(file);
    let mut unread = &made[..];
    assert_eq!(block(&mut unread).0, 0x0a0d_0d0a);
    let (kind, interface) = block(&mut unread);
    assert_eq!(kind, 1);
    assert!(options(&interface[8..]).contains(&(2, name.as_bytes())));
    for (comment, bytes) in packets {
        let (kind, body) = block(&mut unread);
        let length = u32::from_le_bytes(*body[12..].first_chunk().unwrap()) as usize;
        assert_eq!((kind, &body[20..20 + length]), (6, bytes));
        assert!(options(&body[20 + length.next_multiple_of(4)..]).contains(&(1, comment.as_bytes())));
    }
    assert!(unread.is_empty());
});
