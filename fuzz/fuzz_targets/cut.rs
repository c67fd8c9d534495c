//! A header and a packet, as a TUN device may hand them over: refused, or cut into packets that are sound.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::fast::segment::complete_checksum;
use vpnlab::fast::vnet::Header;

fuzz_target!(|bytes: &[u8]| {
    wire::judge::cut(bytes);
    if let Some((header, packet)) = bytes.split_first_chunk()
        && let Some(checksum) = Header::parse(header).checksum
    {
        let _ = complete_checksum(checksum, &mut packet.to_vec());
    }
});
