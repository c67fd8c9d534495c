//! Bytes as people read them.

use std::fmt::Write;

const PER_LINE: usize = 16;

/// The bytes as `tcpdump -X` prints them: offset, hexadecimal in pairs, and ASCII with a dot for what is not printable.
/// One line for 16 bytes, no newline at the end, nothing at all for no bytes.
///
/// ```
/// let dump = vpnlab::packet::hex_dump(b"E\x00 hello, world of IP");
/// assert_eq!(dump, "0x0000:  4500 2068 656c 6c6f 2c20 776f 726c 6420  E..hello,.world.\n\
///                   0x0010:  6f66 2049 50                             of.IP");
/// ```
pub fn hex_dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(PER_LINE).enumerate().map(|(number, chunk)| line(number * PER_LINE, chunk));
    lines.collect::<Vec<_>>().join("\n")
}

fn line(offset: usize, bytes: &[u8]) -> String {
    let mut pairs = String::new();
    for pair in bytes.chunks(2) {
        pairs.push(' ');
        for byte in pair {
            // Writing to a String cannot fail.
            let _ = write!(pairs, "{byte:02x}");
        }
    }
    let ascii: String =
        bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
    format!("{offset:#06x}: {pairs:<40}  {ascii}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_no_lines() {
        assert_eq!(hex_dump(&[]), "");
    }

    #[test]
    fn offsets_beyond_sixteen_bits_grow_and_stay_readable() {
        let dump = hex_dump(&vec![0; 65536 + 1]);
        assert!(dump.lines().last().unwrap().starts_with("0x10000:  00 "), "{dump}");
    }
}
