//! IP packets as bytes: validate, describe, answer, refuse, rewrite, cut and put together again; and the Ethernet frames and ARP
//! messages of a TAP device.
//!
//! The steps call it between one read and one write. It is pure: bytes in, bytes or an error out; no descriptor, no
//! clock, no log. No input makes it panic, whatever a tunnel's far end sends.

mod arp;
pub(crate) mod checksum;
mod describe;
mod echo;
mod ethernet;
mod fragments;
mod header;
mod hex;
mod reassembly;
mod rewrite;
#[cfg(test)]
mod samples;
mod too_big;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

pub use arp::{Arp, NoArpReply, NotArp, arp_reply};
pub use describe::{describe, describe_frame};
pub use echo::{NoReply, echo_reply, echo_reply_in_frame};
pub use ethernet::{Frame, Mac, NotFrame, ethertype};
pub use fragments::{CannotFragment, fragment};
pub use hex::hex_dump;
pub use reassembly::{Dropped, Reassembled, Reassembler};
pub use rewrite::{CannotRewrite, reply_from};
pub use too_big::{SMALLEST_MTU_V4, SMALLEST_MTU_V6, Untold, too_big};

pub(crate) use header::protocol;

use header::Ip;

/// The two addresses of an IP packet, always of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
}

/// Why some bytes are no IP packet. Displayed, it says what they are instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotIp {
    /// No bytes at all: an empty UDP datagram.
    Empty,
    /// The first four bits are neither 4 nor 6.
    Version(u8),
    /// An IPv4 header length below 5 words of 4 bytes (RFC 791 section 3.1).
    HeaderLength(u8),
    /// The bytes end inside the fixed header or the IPv4 options.
    HeaderTruncated {
        /// 4 or 6.
        version: u8,
        /// The header's length in bytes.
        header: usize,
        /// How many bytes there are.
        got: usize,
    },
    /// An IPv4 total length that does not even cover the header; both in bytes.
    TotalLength {
        /// What the packet says.
        total: usize,
        /// The header's length.
        header: usize,
    },
    /// Fewer bytes than the packet says it has.
    Truncated {
        /// 4 or 6.
        version: u8,
        /// The length that the header states, in bytes: IPv4's total length, IPv6's payload length.
        stated: usize,
        /// How many bytes there are, counted as the header counts: for IPv6 without the fixed header.
        got: usize,
    },
    /// A payload length of zero before a hop-by-hop header: an IPv6 jumbogram (RFC 2675), which no TUN carries.
    Jumbogram,
}

impl fmt::Display for NotIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "empty datagram"),
            Self::Version(version) => write!(f, "not an IP packet: version {version}"),
            Self::HeaderLength(words) => write!(f, "IPv4 header length {words} words is impossible"),
            Self::HeaderTruncated { version, header, got } => {
                write!(f, "truncated: IPv{version} header of {header} bytes, got {got} bytes")
            }
            Self::TotalLength { total, header } => {
                write!(f, "IPv4 total length {total} is less than its header of {header} bytes")
            }
            Self::Truncated { version: 4, stated, got } => {
                write!(f, "truncated: IPv4 total length {stated}, got {got} bytes")
            }
            Self::Truncated { version, stated, got } => {
                write!(f, "truncated: IPv{version} payload length {stated}, got {got} bytes")
            }
            Self::Jumbogram => write!(f, "an IPv6 jumbogram: payload length 0 before a hop-by-hop header"),
        }
    }
}

impl Error for NotIp {}

/// Checks that the bytes are one IP packet, and says between whom.
///
/// Version, header length and total length have to fit the bytes. Bytes after the total length are allowed, as a link
/// with a minimum frame size appends them (RFC 894); everything in this module ignores them. Checksums, options,
/// extension headers and what is inside are not looked at: see [`echo_reply`] for a packet that is also answered.
///
/// # Errors
/// What the bytes are instead.
///
/// ```
/// use vpnlab::packet;
/// assert_eq!(packet::validate(b"hello").unwrap_err().to_string(), "truncated: IPv6 header of 40 bytes, got 5 bytes");
/// ```
pub fn validate(packet: &[u8]) -> Result<Ends, NotIp> {
    Ip::parse(packet).map(|ip| ip.ends())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet of 4 payload bytes, 1.2.3.4:53 to 5.6.7.8:99.
    const UDP: [u8; 32] = [
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0x6a, 0xb9, 1, 2, 3, 4, 5, 6, 7, 8, // IPv4
        0, 53, 0, 99, 0, 12, 0, 0, b'a', b'b', b'c', b'd',
    ];

    fn changed(at: usize, to: u8) -> Vec<u8> {
        let mut packet = UDP.to_vec();
        packet[at] = to;
        packet
    }

    #[test]
    fn a_packet_has_the_ends_that_its_header_states() {
        let ends = Ends { source: [1, 2, 3, 4].into(), destination: [5, 6, 7, 8].into() };
        assert_eq!(validate(&UDP), Ok(ends));
    }

    #[test]
    fn bytes_after_the_total_length_are_allowed() {
        let mut padded = UDP.to_vec();
        padded.extend([0; 14]);
        assert!(validate(&padded).is_ok());
    }

    #[test]
    fn what_is_no_packet_is_called_what_it_is() {
        let mut jumbogram = vec![0; 48];
        jumbogram[0] = 0x60;
        let table: [(&[u8], &str); 9] = [
            (&[], "empty datagram"),
            (&changed(0, 0x75), "not an IP packet: version 7"),
            (&changed(0, 0x43), "IPv4 header length 3 words is impossible"),
            (&UDP[..19], "truncated: IPv4 header of 20 bytes, got 19 bytes"),
            (&changed(0, 0x4f), "truncated: IPv4 header of 60 bytes, got 32 bytes"),
            (&changed(3, 19), "IPv4 total length 19 is less than its header of 20 bytes"),
            (&changed(3, 84), "truncated: IPv4 total length 84, got 32 bytes"),
            (&[0x60, 0, 0], "truncated: IPv6 header of 40 bytes, got 3 bytes"),
            (&jumbogram, "an IPv6 jumbogram: payload length 0 before a hop-by-hop header"),
        ];
        for (bytes, said) in table {
            assert_eq!(validate(bytes).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn an_ipv6_packet_is_measured_by_its_payload_length() {
        let mut packet = vec![0; 44];
        packet[0] = 0x60;
        packet[5] = 5;
        packet[6] = 17;
        assert_eq!(validate(&packet).unwrap_err().to_string(), "truncated: IPv6 payload length 5, got 4 bytes");
        packet.push(0);
        assert!(validate(&packet).is_ok());
    }
}
