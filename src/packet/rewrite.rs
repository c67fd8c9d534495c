//! Sends a packet's payload back under another source: the handout's "write to the interface".

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;

use super::checksum::{Sum, update};
use super::header::{HOP_LIMIT, Ip, V4, V4_HEADER, V6, V6_HEADER, protocol};
use super::{Ends, NotIp};

/// Why a packet cannot be sent back under another source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CannotRewrite {
    /// It is no IP packet at all.
    NotIp(NotIp),
    /// An IPv4 packet was to get an IPv6 source, or the other way round.
    Family {
        /// Whom the new packet would be for.
        destination: IpAddr,
        /// The source that was asked for.
        source: IpAddr,
    },
    /// The sender chose the route: the destination in the header is not the one in the transport checksum, and the
    /// options or the routing header would lead the new packet astray.
    SourceRouted,
    /// The new packet does not fit in the buffer; both in bytes.
    BufferTooSmall {
        /// The new packet's length.
        need: usize,
        /// The buffer's.
        got: usize,
    },
}

impl fmt::Display for CannotRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIp(what) => what.fmt(f),
            Self::Family { destination, source } => {
                write!(f, "a packet for {destination} cannot have the source {source}")
            }
            Self::SourceRouted => write!(f, "source-routed; its payload belongs to another destination"),
            Self::BufferTooSmall { need, got } => write!(f, "the packet takes {need} bytes, the buffer has {got}"),
        }
    }
}

impl Error for CannotRewrite {}

impl From<NotIp> for CannotRewrite {
    fn from(what: NotIp) -> Self {
        Self::NotIp(what)
    }
}

/// Writes the packet's payload into `out` under a new header, from `new_source` to whom the packet came from, and
/// returns it. In the handout's words: `newip = IP(src=new_source, dst=ip.src); newip/ip.payload`.
///
/// The header is new: TTL or hop limit 64, type of service 0, no IPv4 options; the protocol is kept, and so are IPv4
/// identification, flags and fragment offset. IPv6 extension headers count as payload.
///
/// TCP, UDP and ICMPv6 checksums cover the addresses, so they are corrected, which the handout's line does not do:
/// incrementally (RFC 1624), hence a wrong checksum stays wrong, and a fragment is right as well: its checksum is
/// corrected if it has the field, and the other fragments need nothing. A UDP checksum of 0 means none, and stays.
/// Other protocols over IP with addresses in their checksum (DCCP, UDP-Lite) are not corrected.
///
/// # Errors
/// Why there is no new packet; see [`CannotRewrite`].
pub fn reply_from<'b>(packet: &[u8], new_source: IpAddr, out: &'b mut [u8]) -> Result<&'b [u8], CannotRewrite> {
    match (Ip::parse(packet)?, new_source) {
        (Ip::V4(packet), IpAddr::V4(source)) => reply_v4(&packet, source, out),
        (Ip::V6(packet), IpAddr::V6(source)) => reply_v6(&packet, source, out),
        (packet, source) => {
            let Ends { source: destination, .. } = packet.ends();
            Err(CannotRewrite::Family { destination, source })
        }
    }
}

fn reply_v4<'b>(packet: &V4<'_>, source: Ipv4Addr, out: &'b mut [u8]) -> Result<&'b [u8], CannotRewrite> {
    if packet.options().source_routed() {
        return Err(CannotRewrite::SourceRouted);
    }
    let out = room(out, V4_HEADER + packet.payload.len())?;
    let (header, payload) = out.split_at_mut(V4_HEADER);
    fresh_v4_header(header, packet, source, packet.source());
    set_v4_checksum(header);
    payload.copy_from_slice(packet.payload);
    if let Some(field) = checksum_field(packet.protocol(), packet.offset(), payload) {
        // The sender's address was in the sum before, and still is.
        correct(packet.protocol(), field, &packet.destination().octets(), &source.octets());
    }
    Ok(out)
}

fn reply_v6<'b>(packet: &V6<'_>, source: Ipv6Addr, out: &'b mut [u8]) -> Result<&'b [u8], CannotRewrite> {
    let mut offset = 0;
    let mut extensions = packet.extensions();
    for extension in extensions.by_ref() {
        if extension.routes_onward() {
            return Err(CannotRewrite::SourceRouted);
        }
        offset = extension.fragment().map_or(offset, |fragment| fragment.offset);
    }
    let out = room(out, packet.bytes.len())?;
    let (header, payload) = out.split_at_mut(V6_HEADER);
    fresh_v6_header(header, payload.len(), packet.fields.get_next_header().0, source, packet.source());
    payload.copy_from_slice(&packet.bytes[V6_HEADER..]);
    if let Some(field) = checksum_field(extensions.protocol, offset, &mut payload[extensions.at - V6_HEADER..]) {
        correct(extensions.protocol, field, &packet.destination().octets(), &source.octets());
    }
    Ok(out)
}

/// The first `need` bytes of the buffer.
fn room(out: &mut [u8], need: usize) -> Result<&mut [u8], CannotRewrite> {
    let got = out.len();
    out.get_mut(..need).ok_or(CannotRewrite::BufferTooSmall { need, got })
}

/// The checksum field of a transport whose checksum covers the addresses, in a payload that starts `offset` bytes into
/// the transport's segment. `None` where the field is not in this payload.
fn checksum_field(protocol: u8, offset: usize, payload: &mut [u8]) -> Option<&mut [u8; 2]> {
    let at: usize = match protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMPV6 => 2,
        _ => return None,
    };
    payload.get_mut(at.checked_sub(offset)?..)?.first_chunk_mut()
}

fn correct(protocol: u8, field: &mut [u8; 2], old: &[u8], new: &[u8]) {
    let is_udp = protocol == protocol::UDP;
    if is_udp && *field == [0, 0] {
        return;
    }
    *field = match update(u16::from_be_bytes(*field), old, new) {
        // RFC 768: a checksum that comes out as zero is sent as all ones.
        0 if is_udp => [0xff, 0xff],
        checksum => checksum.to_be_bytes(),
    };
}

/// Fills in an IPv4 header for a payload as long as `packet`'s. Options have to be in place behind the first 20 bytes,
/// and the checksum has to be set last.
pub(super) fn fresh_v4_header(header: &mut [u8], packet: &V4<'_>, source: Ipv4Addr, destination: Ipv4Addr) {
    let (words, total) = (header.len() / 4, header.len() + packet.payload.len());
    header[..V4_HEADER].fill(0);
    let Some(mut fields) = MutableIpv4Packet::new(header) else { return };
    fields.set_version(4);
    fields.set_header_length(words as u8);
    fields.set_total_length(total as u16);
    fields.set_identification(packet.fields.get_identification());
    fields.set_flags(packet.fields.get_flags() & (Ipv4Flags::DontFragment | Ipv4Flags::MoreFragments));
    fields.set_fragment_offset(packet.fields.get_fragment_offset());
    fields.set_ttl(HOP_LIMIT);
    fields.set_next_level_protocol(IpNextHeaderProtocol(packet.protocol()));
    fields.set_source(source);
    fields.set_destination(destination);
}

/// Makes the checksum of an IPv4 header right, options included.
pub(super) fn set_v4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = Sum::default().add(header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Fills in an IPv6 header for `length` bytes of payload, traffic class and flow label zero.
pub(super) fn fresh_v6_header(header: &mut [u8], length: usize, next: u8, source: Ipv6Addr, destination: Ipv6Addr) {
    header.fill(0);
    let Some(mut fields) = MutableIpv6Packet::new(header) else { return };
    fields.set_version(6);
    fields.set_payload_length(length as u16);
    fields.set_next_header(IpNextHeaderProtocol(next));
    fields.set_hop_limit(HOP_LIMIT);
    fields.set_source(source);
    fields.set_destination(destination);
}

#[cfg(test)]
mod tests {
    use super::super::samples::{data, echo, v4, v4_fragment, v6};
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4));

    fn rewritten(packet: &[u8], source: IpAddr) -> Result<Vec<u8>, CannotRewrite> {
        let mut out = [0xaa; 2048];
        reply_from(packet, source, &mut out).map(<[u8]>::to_vec)
    }

    /// A segment whose checksum field is right between the ends of an IPv4 packet, or off by as much as is said.
    fn segment(protocol: u8, packet: &[u8], length: usize, off_by: u16) -> Vec<u8> {
        let mut segment = data(length);
        let field = checksum_field(protocol, 0, &mut segment).unwrap();
        *field = [0, 0];
        let checksum = pseudo(protocol, packet, length).add(&segment).checksum().wrapping_add(off_by);
        *checksum_field(protocol, 0, &mut segment).unwrap() = checksum.to_be_bytes();
        segment
    }

    fn pseudo(protocol: u8, packet: &[u8], length: usize) -> Sum {
        Sum::default().add(&packet[12..20]).add(&[0, protocol]).add(&(length as u16).to_be_bytes())
    }

    #[test]
    fn the_payload_goes_back_under_the_new_source() {
        let request = v4(1, &[1, 1, 1, 0], &echo(8, b"payload"));
        let new = rewritten(&request, SOURCE).unwrap();
        assert_eq!(new[..10], [0x45, 0, 0, 35, 0x12, 0x34, 0, 0, 64, 1], "no options, TTL 64");
        assert_eq!(new[12..20], [1, 2, 3, 4, 10, 1, 3, 1]);
        assert_eq!(new[20..], request[24..], "an ICMP checksum does not cover addresses");
        assert_eq!(Sum::default().add(&new[..20]).checksum(), 0);
    }

    #[test]
    fn transport_checksums_are_corrected_and_stay_wrong_by_as_much_as_they_were() {
        let ends = v4(6, &[], &[]);
        for protocol in [protocol::TCP, protocol::UDP] {
            for (length, off_by) in [(20, 0), (33, 0), (20, 1), (33, 0x1234)] {
                let segment = segment(protocol, &ends, length, off_by);
                let new = rewritten(&v4(protocol, &[], &segment), SOURCE).unwrap();
                let rest = pseudo(protocol, &new, length).add(&new[20..]).checksum();
                assert_eq!(rest == 0, off_by == 0, "protocol {protocol}, {length} bytes, off by {off_by}");
            }
        }
    }

    #[test]
    fn no_udp_checksum_stays_none_and_one_that_becomes_zero_is_all_ones() {
        let mut segment = data(20);
        segment[6..8].fill(0);
        assert_eq!(rewritten(&v4(17, &[], &segment), SOURCE).unwrap()[26..28], [0, 0]);
        // With the old destination in the sum this one is right; with the new source it has to come out as zero.
        let old = u32::from(Ipv4Addr::new(10, 1, 3, 4));
        let delta = Sum::default().add(&(!old).to_be_bytes()).add(&[1, 2, 3, 4]).checksum();
        segment[6..8].copy_from_slice(&(!delta).to_be_bytes());
        assert_eq!(rewritten(&v4(17, &[], &segment), SOURCE).unwrap()[26..28], [0xff, 0xff]);
    }

    #[test]
    fn a_fragment_stays_one_and_is_corrected_where_the_checksum_is() {
        let ends = v4(6, &[], &[]);
        let whole = segment(protocol::TCP, &ends, 48, 0);
        let new = rewritten(&v4(6, &[], &whole), SOURCE).unwrap();
        for (start, flags_and_offset) in [(0, 0x2000), (16, 0x2002), (32, 0x0004)] {
            let piece = v4_fragment(6, &[], flags_and_offset, &whole[start..start + 16]);
            let piece = rewritten(&piece, SOURCE).unwrap();
            assert_eq!(piece[4..8], [&[0x12, 0x34], &flags_and_offset.to_be_bytes()[..]].concat());
            assert_eq!(piece[20..], new[20 + start..20 + start + 16], "at {start}");
        }
    }

    #[test]
    fn an_ipv6_packet_keeps_its_extension_headers() {
        let hop_by_hop = [58, 0, 5, 2, 0, 0, 1, 0];
        let packet = v6(0, &[&hop_by_hop[..], &echo(128, b"abc")].concat());
        let new = rewritten(&packet, "fd00::9".parse().unwrap()).unwrap();
        assert_eq!(new[..8], [0x60, 0, 0, 0, 0, 19, 0, 64]);
        assert_eq!(new[23], 9);
        assert_eq!(new[39], 1);
        assert_eq!(new[40..48], hop_by_hop);
        let sum = Sum::default().add(&new[8..40]).add(&[0, 11, 0, 58]).add(&new[48..]);
        assert_eq!(sum.checksum(), 0, "the ICMPv6 checksum covers the addresses");
    }

    #[test]
    fn what_cannot_be_sent_back_says_why() {
        let packet = v4(1, &[], &echo(8, b""));
        let source_routed = v4(1, &[137, 7, 4, 10, 1, 3, 9, 0], &echo(8, b""));
        let routed_v6 = v6(43, &[59, 0, 0, 1, 0, 0, 0, 0]);
        let v6_source: IpAddr = "fd00::9".parse().unwrap();
        let table = [
            (&packet, v6_source, "a packet for 10.1.3.1 cannot have the source fd00::9"),
            (&source_routed, SOURCE, "source-routed; its payload belongs to another destination"),
            (&routed_v6, v6_source, "source-routed; its payload belongs to another destination"),
            (&Vec::new(), SOURCE, "empty datagram"),
        ];
        for (packet, source, why) in table {
            assert_eq!(rewritten(packet, source).unwrap_err().to_string(), why);
        }
        let mut small = [0; 27];
        assert_eq!(reply_from(&packet, SOURCE, &mut small), Err(CannotRewrite::BufferTooSmall { need: 28, got: 27 }));
    }
}
