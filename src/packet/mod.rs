//! IP packets as bytes: validate, describe, answer, rewrite. Pure: no descriptor, no clock, no log.

/// What a packet is, in a line.
pub fn describe(packet: &[u8]) -> String {
    format!("{} bytes", packet.len())
}
