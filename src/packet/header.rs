//! Views of a packet whose lengths have been checked, so that what is read from them needs no further check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;

use super::checksum::Sum;
use super::{Ends, NotIp};

/// The least IPv4 header, in bytes (RFC 791 section 3.1).
pub(super) const V4_HEADER: usize = 20;
/// The IPv6 header, in bytes (RFC 8200 section 3).
pub(super) const V6_HEADER: usize = 40;
/// The hop limit and TTL of what is made here, as RFC 1700 recommends and Linux uses.
pub(super) const HOP_LIMIT: u8 = 64;

/// Protocol numbers, which IPv6 calls next headers (IANA protocol-numbers).
pub(crate) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// An IP packet of either version.
pub(super) enum Ip<'p> {
    V4(V4<'p>),
    V6(V6<'p>),
}

impl<'p> Ip<'p> {
    /// Checks the lengths; bytes after the packet's end are cut off.
    pub(super) fn parse(bytes: &'p [u8]) -> Result<Self, NotIp> {
        match bytes.first().ok_or(NotIp::Empty)? >> 4 {
            4 => V4::parse(bytes).map(Self::V4),
            6 => V6::parse(bytes).map(Self::V6),
            version => Err(NotIp::Version(version)),
        }
    }

    pub(super) fn ends(&self) -> Ends {
        match self {
            Self::V4(ip) => Ends { source: IpAddr::V4(ip.source()), destination: IpAddr::V4(ip.destination()) },
            Self::V6(ip) => Ends { source: IpAddr::V6(ip.source()), destination: IpAddr::V6(ip.destination()) },
        }
    }

    /// The packet's bytes, up to its total length.
    pub(super) fn bytes(&self) -> &'p [u8] {
        match self {
            Self::V4(ip) => ip.bytes,
            Self::V6(ip) => ip.bytes,
        }
    }
}

/// An IPv4 packet, cut to its total length.
pub(super) struct V4<'p> {
    pub(super) bytes: &'p [u8],
    pub(super) header: &'p [u8],
    pub(super) payload: &'p [u8],
    pub(super) fields: Ipv4Packet<'p>,
}

impl<'p> V4<'p> {
    fn parse(bytes: &'p [u8]) -> Result<Self, NotIp> {
        let truncated = |header| NotIp::HeaderTruncated { version: 4, header, got: bytes.len() };
        let fields = Ipv4Packet::new(bytes).ok_or_else(|| truncated(V4_HEADER))?;
        let words = fields.get_header_length();
        let (header, total) = (usize::from(words) * 4, usize::from(fields.get_total_length()));
        if header < V4_HEADER {
            return Err(NotIp::HeaderLength(words));
        }
        if header > bytes.len() {
            return Err(truncated(header));
        }
        if total < header {
            return Err(NotIp::TotalLength { total, header });
        }
        if total > bytes.len() {
            return Err(NotIp::Truncated { version: 4, stated: total, got: bytes.len() });
        }
        let bytes = &bytes[..total];
        Ok(Self { bytes, header: &bytes[..header], payload: &bytes[header..], fields })
    }

    pub(super) fn source(&self) -> Ipv4Addr {
        self.fields.get_source()
    }

    pub(super) fn destination(&self) -> Ipv4Addr {
        self.fields.get_destination()
    }

    pub(super) fn protocol(&self) -> u8 {
        self.fields.get_next_level_protocol().0
    }

    pub(super) fn options(&self) -> Options<'p> {
        Options(&self.header[V4_HEADER..])
    }

    pub(super) fn dont_fragment(&self) -> bool {
        self.fields.get_flags() & Ipv4Flags::DontFragment != 0
    }

    pub(super) fn more_fragments(&self) -> bool {
        self.fields.get_flags() & Ipv4Flags::MoreFragments != 0
    }

    /// Where the payload belongs in the whole datagram's payload, in bytes.
    pub(super) fn offset(&self) -> usize {
        usize::from(self.fields.get_fragment_offset()) * 8
    }

    pub(super) fn is_fragment(&self) -> bool {
        self.more_fragments() || self.offset() != 0
    }

    pub(super) fn header_checksum_is_right(&self) -> bool {
        Sum::default().add(self.header).checksum() == 0
    }
}

/// The kinds of IPv4 options that matter here: the type byte with its copied flag and class (RFC 791 section 3.1).
pub(super) mod option {
    pub const END: u8 = 0;
    pub const NO_OPERATION: u8 = 1;
    pub const RECORD_ROUTE: u8 = 7;
    pub const TIMESTAMP: u8 = 68;
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
}

/// An option's length does not fit the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadOption;

/// The IPv4 options one by one, type byte first; ends before an end-of-list option, or after the first bad one.
#[derive(Clone)]
pub(super) struct Options<'p>(&'p [u8]);

impl<'p> Iterator for Options<'p> {
    type Item = Result<&'p [u8], BadOption>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = match *self.0 {
            [] | [option::END, ..] => return None,
            [option::NO_OPERATION, ..] => 1,
            [_, length, ..] if length >= 2 => usize::from(length),
            [_, ..] => usize::MAX,
        };
        let Some((option, rest)) = self.0.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(BadOption));
        };
        self.0 = rest;
        Some(Ok(option))
    }
}

impl Options<'_> {
    /// Whether the sender chose the route (RFC 791): then the destination is a hop, and the reply's route is theirs too.
    pub(super) fn source_routed(self) -> bool {
        self.flatten().any(|bytes| matches!(bytes[0], option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE))
    }
}

/// An IPv6 packet, cut to its payload length.
pub(super) struct V6<'p> {
    pub(super) bytes: &'p [u8],
    pub(super) fields: Ipv6Packet<'p>,
}

impl<'p> V6<'p> {
    fn parse(bytes: &'p [u8]) -> Result<Self, NotIp> {
        let got = bytes.len();
        let fields = Ipv6Packet::new(bytes).ok_or(NotIp::HeaderTruncated { version: 6, header: V6_HEADER, got })?;
        let stated = usize::from(fields.get_payload_length());
        if stated == 0 && fields.get_next_header().0 == protocol::HOP_BY_HOP {
            return Err(NotIp::Jumbogram);
        }
        match bytes.get(..V6_HEADER + stated) {
            Some(bytes) => Ok(Self { bytes, fields }),
            None => Err(NotIp::Truncated { version: 6, stated, got: got - V6_HEADER }),
        }
    }

    pub(super) fn source(&self) -> Ipv6Addr {
        self.fields.get_source()
    }

    pub(super) fn destination(&self) -> Ipv6Addr {
        self.fields.get_destination()
    }

    pub(super) fn extensions(&self) -> Extensions<'p> {
        let next = self.fields.get_next_header().0;
        Extensions { packet: self.bytes, protocol: next, named_at: 6, at: V6_HEADER, ended: false }
    }
}

/// The extension headers of an IPv6 packet, in order (RFC 8200 section 4).
///
/// Between two steps, and after the last one, it says what comes next: `protocol` is found at `at`, and the byte at
/// `named_at` named it. It stops before what is no extension header, before a truncated one, and after the fragment
/// header of a fragment that is not the first, since the bytes there are no header.
#[derive(Clone)]
pub(super) struct Extensions<'p> {
    packet: &'p [u8],
    pub(super) protocol: u8,
    pub(super) named_at: usize,
    pub(super) at: usize,
    ended: bool,
}

/// One extension header.
pub(super) struct Extension<'p> {
    pub(super) protocol: u8,
    /// Where it starts, in bytes from the packet's first.
    pub(super) at: usize,
    /// Where the byte is that names it.
    pub(super) named_at: usize,
    /// At least 8 bytes.
    pub(super) bytes: &'p [u8],
}

impl<'p> Iterator for Extensions<'p> {
    type Item = Extension<'p>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let rest = self.packet.get(self.at..)?;
        let stated = usize::from(*rest.get(1)?);
        let length = match self.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => (stated + 1) * 8,
            protocol::FRAGMENT => 8,
            // The authentication header counts in words of 4 bytes, minus 2 (RFC 4302 section 2.2).
            protocol::AUTHENTICATION => (stated + 2) * 4,
            _ => return None,
        };
        let bytes = rest.get(..length)?;
        let found = Extension { protocol: self.protocol, at: self.at, named_at: self.named_at, bytes };
        self.ended = found.fragment().is_some_and(|fragment| fragment.offset != 0);
        (self.protocol, self.named_at, self.at) = (bytes[0], self.at, self.at + length);
        Some(found)
    }
}

impl Extensions<'_> {
    /// Whether it stopped before an extension header of which some bytes are missing.
    pub(super) fn is_cut(&self) -> bool {
        let extension = matches!(
            self.protocol,
            protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::FRAGMENT
                | protocol::AUTHENTICATION
                | protocol::DESTINATION_OPTIONS
        );
        extension && !self.ended
    }
}

/// What a fragment header says (RFC 8200 section 4.5).
pub(super) struct Fragment {
    /// Where the data belongs, in bytes.
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) identification: u32,
}

impl Extension<'_> {
    /// The fragment header, if this is one.
    pub(super) fn fragment(&self) -> Option<Fragment> {
        let bytes: &[u8; 8] = self.bytes.first_chunk()?;
        let [_, _, high, low, id @ ..] = *bytes;
        let word = u16::from_be_bytes([high, low]);
        let fragment =
            Fragment { offset: usize::from(word & !7), more: word & 1 != 0, identification: u32::from_be_bytes(id) };
        (self.protocol == protocol::FRAGMENT).then_some(fragment)
    }

    /// Whether it is a routing header with hops still to visit (RFC 8200 section 4.4): the destination is a hop.
    pub(super) fn routes_onward(&self) -> bool {
        self.protocol == protocol::ROUTING && self.bytes[3] != 0
    }
}
