//! Writes packets to a file that Wireshark and tcpdump open: pcapng (draft-ietf-opsawg-pcapng).
//!
//! Called by `trace`, `lab capture` and the steps' `--pcap`. Knows no interface and no clock: the caller says what was
//! seen where, and when.

use std::io::{self, Write};
use std::time::Duration;

/// The form of an interface's packets (LINKTYPE_..., draft-ietf-opsawg-pcaplinktype).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum LinkType {
    /// Frames with an Ethernet header.
    Ethernet = 1,
    /// IP packets of either version, without anything in front.
    Raw = 101,
}

/// Which way a packet went, seen from its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It came to the host: from the wire, or out of a program that wrote it to a TUN device.
    In,
    /// It left the host: onto the wire, or to a program that reads a TUN device.
    Out,
}

/// A packet as it was captured.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'p> {
    /// The number that [`Pcapng::interface`] gave.
    pub interface: u32,
    /// The time since 1970.
    pub at: Duration,
    /// Which way it went.
    pub direction: Direction,
    /// Its bytes, from the link-layer header on.
    pub bytes: &'p [u8],
    /// Its length on the wire in bytes, which is more than there are where it was cut off.
    pub length: usize,
    /// What Wireshark shows as the packet's comment.
    pub comment: Option<&'p str>,
}

/// A file that is being written: one section, any number of interfaces.
#[derive(Debug)]
pub struct Pcapng<W> {
    file: W,
    interfaces: u32,
}

// Block types and options, section 4 and section 3.5 of the draft.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const SHB_USERAPPL: u16 = 4;
const EPB_FLAGS: u16 = 2;
/// The longest value of an option that stays a multiple of four with its padding.
const LONGEST_OPTION: usize = 0xfffc;

impl<W: Write> Pcapng<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// Those of `file`.
    pub fn new(file: W) -> io::Result<Self> {
        let mut pcapng = Self { file, interfaces: 0 };
        let mut body = BYTE_ORDER_MAGIC.to_le_bytes().to_vec();
        // Version 1.0, and a section of unknown length.
        body.extend([1, 0, 0, 0]);
        body.extend((-1_i64).to_le_bytes());
        option(&mut body, SHB_USERAPPL, concat!("vpnlab ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, OPT_END, &[]);
        pcapng.block(SECTION_HEADER, &body)?;
        Ok(pcapng)
    }

    /// Describes an interface, and returns its number for [`Packet::interface`].
    ///
    /// # Errors
    /// Those of the file.
    pub fn interface(&mut self, name: &str, kind: LinkType) -> io::Result<u32> {
        let mut body = (kind as u16).to_le_bytes().to_vec();
        // Reserved; then the longest packet: no limit.
        body.extend([0; 6]);
        option(&mut body, IF_NAME, name.as_bytes());
        // Times are in nanoseconds: 10 to the power of -9.
        option(&mut body, IF_TSRESOL, &[9]);
        option(&mut body, OPT_END, &[]);
        self.block(INTERFACE_DESCRIPTION, &body)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// Those of the file.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let time = packet.at.as_nanos() as u64;
        let mut body = Vec::with_capacity(packet.bytes.len() + 64);
        let words =
            [packet.interface, (time >> 32) as u32, time as u32, packet.bytes.len() as u32, packet.length as u32];
        body.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        padded(&mut body, packet.bytes);
        let direction: u32 = match packet.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        option(&mut body, EPB_FLAGS, &direction.to_le_bytes());
        if let Some(comment) = packet.comment {
            option(&mut body, OPT_COMMENT, comment.as_bytes());
        }
        option(&mut body, OPT_END, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Hands everything so far to the file, so that whoever reads it meanwhile sees whole blocks.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// A block is its type, its length, its body, and its length again (section 3.1).
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 12).to_le_bytes();
        self.file.write_all(&kind.to_le_bytes())?;
        self.file.write_all(&length)?;
        self.file.write_all(body)?;
        self.file.write_all(&length)
    }
}

/// Appends an option: its code, its length, its value.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST_OPTION)];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

/// Appends bytes, and zeros up to a multiple of four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file as (type, body), each with both its lengths checked.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let word = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = word(&bytes[4..]) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&bytes[length - 4..]) as usize, length);
            found.push((word(bytes), &bytes[8..length - 4]));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_file_is_a_section_its_interfaces_and_their_packets() {
        let mut pcapng = Pcapng::new(Vec::new()).unwrap();
        let number = pcapng.interface("useru/tun0", LinkType::Raw).unwrap();
        let at = Duration::new(1_700_000_000, 123_456_789);
        let packet = Packet {
            interface: number,
            at,
            direction: Direction::Out,
            bytes: b"five!",
            length: 99,
            comment: Some("why"),
        };
        pcapng.packet(&packet).unwrap();
        let found = blocks(&pcapng.file);
        assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [SECTION_HEADER, 1, 6]);
        assert_eq!(&found[1].1[..8], [101, 0, 0, 0, 0, 0, 0, 0]);
        assert!(found[1].1.windows(10).any(|window| window == b"useru/tun0"));
        let body = found[2].1;
        let time = 1_700_000_000_123_456_789_u64;
        let head: Vec<u8> =
            [0, (time >> 32) as u32, time as u32, 5, 99].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(&body[..20], head);
        assert_eq!(&body[20..28], b"five!\0\0\0");
        assert_eq!(&body[28..], [2, 0, 4, 0, 2, 0, 0, 0, 1, 0, 3, 0, b'w', b'h', b'y', 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_comment_of_any_length_fits() {
        let mut pcapng = Pcapng::new(Vec::new()).unwrap();
        let comment = "x".repeat(100_000);
        let packet = Packet {
            interface: 0,
            at: Duration::ZERO,
            direction: Direction::In,
            bytes: &[],
            length: 0,
            comment: Some(&comment),
        };
        pcapng.packet(&packet).unwrap();
        assert_eq!(blocks(&pcapng.file).len(), 2);
    }
}
