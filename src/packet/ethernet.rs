//! Ethernet frames as a TAP device gives them: two addresses, a type, a payload, and no check sequence behind it.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The header in bytes: destination, source, type (RFC 894).
pub(super) const HEADER: usize = 14;

/// What the type says about the payload (IANA ieee-802-numbers).
pub mod ethertype {
    /// An IPv4 packet (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// A VLAN's tag, and another type behind it (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An IPv6 packet (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
}

/// The largest value in the place of the type that is the payload's length instead (IEEE 802.3).
pub(super) const LARGEST_LENGTH: u16 = 1500;

/// The address of an Ethernet interface, or of a group of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every interface on the wire.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it can be the address of one interface: no group's, whose first bit on the wire is set, and not all zero.
    pub fn is_of_one(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// The address of one interface: six bytes in hexadecimal with colons between.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "six bytes in hexadecimal are wanted, as in aa:bb:cc:dd:ee:ff".to_string();
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().filter(|word| (1..=2).contains(&word.len())).ok_or_else(form)?;
            // from_str_radix takes a sign, too.
            let is_number = word.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(word, 16).ok().filter(|_| is_number).ok_or_else(form)?;
        }
        let mac = Self(bytes);
        match (words.next(), mac.is_of_one()) {
            (Some(_), _) => Err(form()),
            (None, false) => Err("it is no single interface's address: its first byte is odd, or all are zero".into()),
            (None, true) => Ok(mac),
        }
    }
}

/// Why some bytes are no Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotFrame {
    /// Fewer bytes than the header has.
    Truncated(usize),
}

impl fmt::Display for NotFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Truncated(got) = self;
        write!(f, "truncated: Ethernet header of {HEADER} bytes, got {got} bytes")
    }
}

impl Error for NotFrame {}

/// An Ethernet frame whose header is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'p> {
    /// Whom it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// What the payload is, see [`ethertype`]; up to 1500 its length.
    pub ethertype: u16,
    /// What is behind the header; a short payload is padded to 46 bytes on a real wire (RFC 894).
    pub payload: &'p [u8],
}

impl<'p> Frame<'p> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is not all there.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, NotFrame> {
        let truncated = NotFrame::Truncated(bytes.len());
        let (destination, rest) = bytes.split_first_chunk().ok_or(truncated)?;
        let (source, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (ethertype, payload) = rest.split_first_chunk().ok_or(truncated)?;
        let ethertype = u16::from_be_bytes(*ethertype);
        Ok(Self { destination: Mac(*destination), source: Mac(*source), ethertype, payload })
    }

    /// Writes the frame into `out` whose payload `make` writes and returns; `None` where the header has no room.
    pub(super) fn write(
        [destination, source]: [Mac; 2],
        ethertype: u16,
        out: &mut [u8],
        make: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<&[u8]> {
        let (header, payload) = out.split_at_mut_checked(HEADER)?;
        let length = make(payload)?;
        header[..6].copy_from_slice(&destination.0);
        header[6..12].copy_from_slice(&source.0);
        header[12..].copy_from_slice(&ethertype.to_be_bytes());
        out.get(..HEADER + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_addresses_its_type_and_the_rest() {
        let bytes = [1, 2, 3, 4, 5, 6, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 8, 6, 7];
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!((frame.destination, frame.source), (Mac([1, 2, 3, 4, 5, 6]), "aa:bb:cc:dd:ee:ff".parse().unwrap()));
        assert_eq!((frame.ethertype, frame.payload), (ethertype::ARP, &[7][..]));
        assert!(Frame::parse(&bytes[..14]).unwrap().payload.is_empty());
        let short = Frame::parse(&bytes[..13]).unwrap_err();
        assert_eq!(short.to_string(), "truncated: Ethernet header of 14 bytes, got 13 bytes");
    }

    #[test]
    fn an_address_is_written_as_it_was_read() {
        let read = |text: &str| text.parse::<Mac>();
        assert_eq!(read("AA:b:00:dd:ee:ff").unwrap().to_string(), "aa:0b:00:dd:ee:ff");
        for bad in ["", "aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee:ff:00", "aa-bb-cc-dd-ee-ff", "aaa:b:c:d:e:f", "+a:b:c:d:e:f"]
        {
            assert!(read(bad).unwrap_err().contains("as in aa:bb:cc:dd:ee:ff"), "{bad}");
        }
        for group in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "00:00:00:00:00:00"] {
            assert!(read(group).unwrap_err().contains("no single interface"), "{group}");
        }
    }
}
