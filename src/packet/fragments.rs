//! Cuts a packet that is longer than an MTU into fragments: RFC 791 section 3.2, RFC 8200 section 4.5.

use std::error::Error;
use std::fmt;

use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};

use super::header::{Ip, V4, V4_HEADER, V6, V6_HEADER, option, protocol};
use super::{NotIp, rewrite};

/// The copied flag of an IPv4 option's type (RFC 791 section 3.1): it belongs into every fragment.
const COPIED: u8 = 0x80;
/// The length of IPv6's fragment header in bytes.
const FRAGMENT_HEADER: usize = 8;

/// Why a packet cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CannotFragment {
    /// It is no IP packet at all.
    NotIp(NotIp),
    /// It is too long, and its don't-fragment flag is set; a router would answer "fragmentation needed" (RFC 1191).
    DontFragment {
        /// The packet's length in bytes.
        length: usize,
        /// The MTU that it exceeds.
        mtu: usize,
    },
    /// An IPv6 fragment; only its source could have cut it smaller.
    AlreadyFragmented,
    /// Not even the headers and 8 bytes fit.
    MtuTooSmall {
        /// The least MTU that would do for this packet, in bytes.
        need: usize,
        /// The MTU that was given.
        mtu: usize,
    },
    /// An IPv4 fragment whose pieces would lie beyond the 65535 bytes of a datagram.
    TooFar,
    /// An IPv4 option whose length does not fit the header, so that nothing says what is to be copied.
    BadOptions,
}

impl fmt::Display for CannotFragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIp(what) => what.fmt(f),
            Self::DontFragment { length, mtu } => {
                write!(f, "{length} bytes exceed the MTU of {mtu}, and the don't-fragment flag is set")
            }
            Self::AlreadyFragmented => write!(f, "an IPv6 fragment, which only its source could cut smaller"),
            Self::MtuTooSmall { need, mtu } => write!(f, "an MTU of {mtu} is too small, this packet needs {need}"),
            Self::TooFar => write!(f, "a fragment beyond the 65535 bytes of a datagram"),
            Self::BadOptions => write!(f, "an IPv4 option does not fit the header"),
        }
    }
}

impl Error for CannotFragment {}

impl From<NotIp> for CannotFragment {
    fn from(what: NotIp) -> Self {
        Self::NotIp(what)
    }
}

/// Hands the packet to `emit` in pieces of at most `mtu` bytes, in order; whole, if it fits.
///
/// `identification` ties the pieces of an IPv6 packet together; it has to differ between packets of one source and
/// destination that are under way at a time (RFC 7739 says how). An IPv4 packet brings its own.
///
/// All options of an IPv4 packet are in the first fragment, and those whose copied flag is set in the others. An IPv6
/// fragment header goes behind the hop-by-hop options and the routing header. Bytes after the packet's total length are
/// ignored.
///
/// # Errors
/// Why the packet cannot be cut; then nothing was emitted.
pub fn fragment(
    packet: &[u8],
    mtu: usize,
    identification: u32,
    mut emit: impl FnMut(&[u8]),
) -> Result<(), CannotFragment> {
    let packet = Ip::parse(packet)?;
    if packet.bytes().len() <= mtu {
        emit(packet.bytes());
        return Ok(());
    }
    match packet {
        Ip::V4(packet) => fragment_v4(&packet, mtu, emit),
        Ip::V6(packet) => fragment_v6(&packet, mtu, identification, emit),
    }
}

fn fragment_v4(packet: &V4<'_>, mtu: usize, mut emit: impl FnMut(&[u8])) -> Result<(), CannotFragment> {
    if packet.dont_fragment() {
        return Err(CannotFragment::DontFragment { length: packet.bytes.len(), mtu });
    }
    let need = packet.header.len() + 8;
    if mtu < need {
        return Err(CannotFragment::MtuTooSmall { need, mtu });
    }
    if packet.offset() + packet.payload.len() > usize::from(u16::MAX) {
        // Only a fragment can get here. Its pieces would need an offset beyond 13 bits.
        return Err(CannotFragment::TooFar);
    }
    let later_header = header_of_later_fragments(packet)?;
    let (mut header, mut rest, mut offset) = (packet.header, packet.payload, packet.offset());
    let mut piece = Vec::with_capacity(mtu);
    while !rest.is_empty() {
        let (data, after) = rest.split_at(piece_length(rest.len(), mtu - header.len()));
        piece.clear();
        piece.extend_from_slice(header);
        piece.extend_from_slice(data);
        mark_v4(&mut piece, header.len(), offset, packet.more_fragments() || !after.is_empty());
        emit(&piece);
        (header, rest, offset) = (&later_header, after, offset + data.len());
    }
    Ok(())
}

/// How much of the rest goes into a piece: all that fits, in units of 8 bytes but for the last.
fn piece_length(rest: usize, room: usize) -> usize {
    if rest <= room { rest } else { room & !7 }
}

/// Makes the header at the front of `piece` one of a fragment.
fn mark_v4(piece: &mut [u8], header: usize, offset: usize, more: bool) {
    let total = piece.len();
    if let Some(mut fields) = MutableIpv4Packet::new(piece) {
        fields.set_header_length((header / 4) as u8);
        fields.set_total_length(total as u16);
        fields.set_flags(if more { Ipv4Flags::MoreFragments } else { 0 });
        fields.set_fragment_offset((offset / 8) as u16);
    }
    rewrite::set_v4_checksum(&mut piece[..header]);
}

/// The fixed header and the options whose copied flag is set, padded to whole words with end-of-list options.
fn header_of_later_fragments(packet: &V4<'_>) -> Result<Vec<u8>, CannotFragment> {
    let mut header = packet.header[..V4_HEADER].to_vec();
    for bytes in packet.options() {
        let bytes = bytes.map_err(|_| CannotFragment::BadOptions)?;
        if bytes[0] & COPIED != 0 {
            header.extend_from_slice(bytes);
        }
    }
    header.resize(header.len().next_multiple_of(4), option::END);
    Ok(header)
}

fn fragment_v6(packet: &V6<'_>, mtu: usize, id: u32, mut emit: impl FnMut(&[u8])) -> Result<(), CannotFragment> {
    let place = place_for_fragment_header(packet)?;
    let (before, mut rest) = packet.bytes.split_at(place.at);
    let header = before.len() + FRAGMENT_HEADER;
    if mtu < header + 8 {
        return Err(CannotFragment::MtuTooSmall { need: header + 8, mtu });
    }
    let mut offset = 0;
    let mut piece = Vec::with_capacity(mtu);
    while !rest.is_empty() {
        let (data, after) = rest.split_at(piece_length(rest.len(), mtu - header));
        let position = offset as u16 | u16::from(!after.is_empty());
        piece.clear();
        piece.extend_from_slice(before);
        piece[place.named_at] = protocol::FRAGMENT;
        piece.extend_from_slice(&[place.protocol, 0]);
        piece.extend_from_slice(&position.to_be_bytes());
        piece.extend_from_slice(&id.to_be_bytes());
        piece.extend_from_slice(data);
        let length = (piece.len() - V6_HEADER) as u16;
        piece[4..6].copy_from_slice(&length.to_be_bytes());
        emit(&piece);
        (rest, offset) = (after, offset + data.len());
    }
    Ok(())
}

/// Where the fragmentable part of an IPv6 packet starts.
struct Place {
    at: usize,
    /// The protocol found there.
    protocol: u8,
    /// Where the byte is that names it.
    named_at: usize,
}

/// Behind the headers that nodes on the way have to see: hop-by-hop options, and a routing header with what precedes it
/// (RFC 8200 section 4.5).
fn place_for_fragment_header(packet: &V6<'_>) -> Result<Place, CannotFragment> {
    let mut extensions = packet.extensions();
    let mut place = Place { at: extensions.at, protocol: extensions.protocol, named_at: extensions.named_at };
    while let Some(extension) = extensions.next() {
        match extension.protocol {
            protocol::FRAGMENT => return Err(CannotFragment::AlreadyFragmented),
            protocol::HOP_BY_HOP | protocol::ROUTING => {
                place = Place { at: extensions.at, protocol: extensions.protocol, named_at: extensions.named_at };
            }
            _ => {}
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::super::checksum::Sum;
    use super::super::samples::{data, v4, v4_fragment, v6};
    use super::*;

    fn pieces(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CannotFragment> {
        let mut pieces = Vec::new();
        fragment(packet, mtu, 0xcafe_f00d, |piece| pieces.push(piece.to_vec())).map(|()| pieces)
    }

    /// Total length, and the word of flags and offset.
    fn lengths_and_places(pieces: &[Vec<u8>]) -> Vec<(usize, u16)> {
        pieces.iter().map(|piece| (piece.len(), u16::from_be_bytes([piece[6], piece[7]]))).collect()
    }

    #[test]
    fn what_fits_is_not_cut() {
        let mut packet = v4_fragment(1, &[], 0x4000, &data(80));
        packet.extend([0; 9]);
        assert_eq!(pieces(&packet, 100).unwrap(), [&packet[..100]], "don't-fragment or not, and without the padding");
    }

    #[test]
    fn a_ping_of_4000_bytes_becomes_three_packets() {
        let payload = data(4008);
        let pieces = pieces(&v4(1, &[], &payload), 1500).unwrap();
        assert_eq!(lengths_and_places(&pieces), [(1500, 0x2000), (1500, 0x2000 | 185), (1068, 370)]);
        assert_eq!(pieces.iter().flat_map(|piece| &piece[20..]).copied().collect::<Vec<_>>(), payload);
        for piece in &pieces {
            assert_eq!(Sum::default().add(&piece[..20]).checksum(), 0);
            assert_eq!(piece[4..6], [0x12, 0x34], "the identification is the packet's");
        }
    }

    #[test]
    fn only_options_that_ask_for_it_are_in_every_fragment() {
        let (record_route, router_alert) = ([7, 7, 4, 0, 0, 0, 0], [148, 4, 0, 0]);
        let options = [&record_route[..], &router_alert, &[0]].concat();
        let pieces = pieces(&v4(17, &options, &data(60)), 64).unwrap();
        assert_eq!(pieces[0][..1], [0x48]);
        assert_eq!(pieces[0][20..32], options);
        assert_eq!(pieces[1][..1], [0x46]);
        assert_eq!(pieces[1][20..24], router_alert);
        assert_eq!(pieces[1][24..], data(60)[32..]);
    }

    #[test]
    fn a_fragment_is_cut_further_where_it_lies() {
        let middle = pieces(&v4_fragment(17, &[], 0x2000 | 10, &data(48)), 44).unwrap();
        assert_eq!(lengths_and_places(&middle), [(44, 0x2000 | 10), (44, 0x2000 | 13)]);
        let last = pieces(&v4_fragment(17, &[], 10, &data(47)), 44).unwrap();
        assert_eq!(lengths_and_places(&last), [(44, 0x2000 | 10), (43, 13)]);
    }

    #[test]
    fn an_ipv6_fragment_header_goes_behind_the_hop_by_hop_options() {
        let (hop_by_hop, destination) = ([60, 0, 5, 2, 0, 0, 1, 0], [17, 0, 1, 4, 0, 0, 0, 0]);
        let packet = v6(0, &[&hop_by_hop[..], &destination, &data(30)].concat());
        let pieces = pieces(&packet, 80).unwrap();
        assert_eq!(pieces.len(), 2);
        for (piece, position, next) in [(&pieces[0], [0, 1], &packet[48..72]), (&pieces[1], [0, 24], &packet[72..])] {
            assert_eq!(usize::from(piece[5]), piece.len() - 40);
            assert_eq!(piece[6], 0);
            assert_eq!(piece[40..48], [44, 0, 5, 2, 0, 0, 1, 0]);
            assert_eq!(piece[48..56], [60, 0, position[0], position[1], 0xca, 0xfe, 0xf0, 0x0d]);
            assert_eq!(piece[56..], *next);
        }
    }

    #[test]
    fn what_cannot_be_cut_says_why() {
        let fragment_v6 = v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &data(64)].concat());
        let table = [
            (
                v4_fragment(1, &[], 0x4000, &data(80)),
                99,
                "100 bytes exceed the MTU of 99, and the don't-fragment flag is set",
            ),
            (v4(1, &[], &data(80)), 27, "an MTU of 27 is too small, this packet needs 28"),
            (v6(17, &data(80)), 55, "an MTU of 55 is too small, this packet needs 56"),
            (fragment_v6, 100, "an IPv6 fragment, which only its source could cut smaller"),
            (v4_fragment(1, &[], 0x1fff, &data(80)), 60, "a fragment beyond the 65535 bytes of a datagram"),
            (v4(1, &[7, 40, 4, 0], &data(80)), 60, "an IPv4 option does not fit the header"),
            (vec![0x45], 60, "truncated: IPv4 header of 20 bytes, got 1 bytes"),
        ];
        for (packet, mtu, why) in table {
            assert_eq!(pieces(&packet, mtu).unwrap_err().to_string(), why);
        }
    }
}
