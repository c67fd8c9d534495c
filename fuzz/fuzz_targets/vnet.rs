//! A header of ten bytes and a packet: what is read from the header is what is written, and a checksum that is completed is
//! right, or refused.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::fast::segment::complete_checksum;
use vpnlab::fast::vnet::Header;

fuzz_target!(|bytes: &[u8]| {
    let Some((header, packet)) = bytes.split_first_chunk() else { return };
    let header = Header::parse(header);
    assert_eq!(Header::parse(&header.to_bytes()), header);
    let Some(checksum) = header.checksum else { return };
    let (start, field) = (usize::from(checksum.start), usize::from(checksum.start) + usize::from(checksum.offset));
    let mut completed = packet.to_vec();
    if complete_checksum(checksum, &mut completed).is_err() {
        assert_eq!(completed, packet, "what is refused is left alone");
        return;
    }
    assert_eq!((&completed[..field], &completed[field + 2..]), (&packet[..field], &packet[field + 2..]));
    // The sum over all of it, but for what stood in the field, which was the sum over the pseudo-header.
    let before = wire::checksum(&packet[start..]);
    let made = completed[field..field + 2] == before.to_be_bytes();
    assert!(made || before == 0 && completed[field..field + 2] == [0xff, 0xff], "{before:04x}");
});
