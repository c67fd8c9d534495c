//! Tells the sender of a packet that is larger than the path allows: IPv4's "fragmentation needed" (RFC 792, RFC 1191)
//! and IPv6's "packet too big" (RFC 4443 section 3.2).

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::checksum::Sum;
use super::header::{HOP_LIMIT, Ip, V4, V4_HEADER, V6, V6_HEADER, protocol};
use super::{NotIp, rewrite};

/// The smallest MTU that IPv4 works with, in bytes (RFC 791 section 3.2); no less is announced.
pub const SMALLEST_MTU_V4: usize = 68;
/// The smallest MTU that IPv6 works with, in bytes (RFC 8200 section 5); no less is announced.
pub const SMALLEST_MTU_V6: usize = 1280;

/// The longest error in bytes: an IPv4 host need not take a longer packet (RFC 1812 section 4.3.2.3), and an IPv6 path
/// need not carry one (RFC 4443 section 2.4 c).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = SMALLEST_MTU_V6;

/// Type, code, checksum, and 4 bytes that hold the MTU (RFC 1191 section 4, RFC 4443 section 3.2).
const ICMP_HEADER: usize = 8;

const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG_V6: u8 = 2;

/// Type of service of an ICMP error: precedence 6, internetwork control (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// Why the sender of a packet is not told: an error in answer to these could go on for ever, reach many, or reach the
/// wrong one (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Untold {
    /// It is no IP packet at all.
    NotIp(NotIp),
    /// The IPv4 header checksum is wrong.
    BadHeaderChecksum,
    /// It is an ICMP error or a redirect itself, or nothing shows that it is not.
    IcmpError,
    /// A fragment other than the first.
    LaterFragment,
    /// The source is no single host that could be reached.
    Source(IpAddr),
    /// The destination is no single host.
    Destination(IpAddr),
    /// The error does not fit in the buffer; both in bytes.
    BufferTooSmall {
        /// The error's length.
        need: usize,
        /// The buffer's.
        got: usize,
    },
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIp(what) => what.fmt(f),
            Self::BadHeaderChecksum => write!(f, "the IPv4 header checksum is wrong"),
            Self::IcmpError => write!(f, "an ICMP error, which is not answered by another"),
            Self::LaterFragment => write!(f, "a fragment other than the first"),
            Self::Source(address) => write!(f, "the source {address} is no single host"),
            Self::Destination(address) => write!(f, "the destination {address} is no single host"),
            Self::BufferTooSmall { need, got } => write!(f, "the error takes {need} bytes, the buffer has {got}"),
        }
    }
}

impl Error for Untold {}

impl From<NotIp> for Untold {
    fn from(what: NotIp) -> Self {
        Self::NotIp(what)
    }
}

/// Writes the ICMP or ICMPv6 error into `out` that tells the packet's sender to send no more than `mtu` bytes at a time,
/// and returns it. Whether the packet is larger than that is for the caller to know.
///
/// The error comes from the packet's destination. A router would give an address of its own, but this one is written
/// to the TUN device of a kernel that has all of ours, and it discards as a martian what comes in from one of its own
/// addresses (RFC 1812 section 5.3.7). The destination is never one of them, and the way to it leads through the same
/// device, as a reverse path filter wants it (RFC 3704).
///
/// It quotes as much of the packet as an error may hold, and announces no MTU that the protocol does not allow
/// ([`SMALLEST_MTU_V4`], [`SMALLEST_MTU_V6`]). Bytes after the packet's total length are ignored.
///
/// # Errors
/// Why the sender must not be told; see [`Untold`].
pub fn too_big<'b>(packet: &[u8], mtu: usize, out: &'b mut [u8]) -> Result<&'b [u8], Untold> {
    let packet = Ip::parse(packet)?;
    let ends = packet.ends();
    if !can_be_told(ends.source) {
        return Err(Untold::Source(ends.source));
    }
    if !is_host(ends.destination) {
        return Err(Untold::Destination(ends.destination));
    }
    match packet {
        Ip::V4(packet) => too_big_v4(&packet, mtu, out),
        Ip::V6(packet) => too_big_v6(&packet, mtu, out),
    }
}

fn too_big_v4<'b>(packet: &V4<'_>, mtu: usize, out: &'b mut [u8]) -> Result<&'b [u8], Untold> {
    if !packet.header_checksum_is_right() {
        return Err(Untold::BadHeaderChecksum);
    }
    if packet.offset() != 0 {
        return Err(Untold::LaterFragment);
    }
    if packet.protocol() == protocol::ICMP && !packet.payload.first().is_some_and(|kind| is_no_error_v4(*kind)) {
        return Err(Untold::IcmpError);
    }
    let (out, quote) = room(out, V4_HEADER, packet.bytes, LONGEST_V4)?;
    let (header, message) = out.split_at_mut(V4_HEADER);
    let total = (V4_HEADER + message.len()) as u16;
    header.fill(0);
    header[..2].copy_from_slice(&[0x45, INTERNETWORK_CONTROL]);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // Never cut, it needs no identification of its own (RFC 6864 section 4.1).
    header[6] = 0x40;
    header[8..10].copy_from_slice(&[HOP_LIMIT, protocol::ICMP]);
    header[12..16].copy_from_slice(&packet.destination().octets());
    header[16..20].copy_from_slice(&packet.source().octets());
    rewrite::set_v4_checksum(header);

    let mtu = mtu.clamp(SMALLEST_MTU_V4, usize::from(u16::MAX)) as u32;
    write_message(message, [UNREACHABLE, FRAGMENTATION_NEEDED], mtu, quote, Sum::default());
    Ok(out)
}

fn too_big_v6<'b>(packet: &V6<'_>, mtu: usize, out: &'b mut [u8]) -> Result<&'b [u8], Untold> {
    let mut extensions = packet.extensions();
    if extensions.by_ref().filter_map(|extension| extension.fragment()).any(|fragment| fragment.offset != 0) {
        return Err(Untold::LaterFragment);
    }
    let kind = packet.bytes.get(extensions.at);
    let is_icmp = extensions.protocol == protocol::ICMPV6;
    if extensions.is_cut() || (is_icmp && !kind.is_some_and(|kind| is_no_error_v6(*kind))) {
        return Err(Untold::IcmpError);
    }
    let (out, quote) = room(out, V6_HEADER, packet.bytes, LONGEST_V6)?;
    let (header, message) = out.split_at_mut(V6_HEADER);
    rewrite::fresh_v6_header(header, message.len(), protocol::ICMPV6, packet.destination(), packet.source());
    // The pseudo-header (RFC 8200 section 8.1).
    let length = (message.len() as u32).to_be_bytes();
    let sum = Sum::default().add(&header[8..V6_HEADER]).add(&length).add(&[0, protocol::ICMPV6]);
    write_message(message, [PACKET_TOO_BIG_V6, 0], mtu.max(SMALLEST_MTU_V6) as u32, quote, sum);
    Ok(out)
}

/// As much of the buffer as the error takes, and as much of the packet as it quotes.
fn room<'b, 'p>(
    out: &'b mut [u8],
    header: usize,
    packet: &'p [u8],
    longest: usize,
) -> Result<(&'b mut [u8], &'p [u8]), Untold> {
    let quote = &packet[..packet.len().min(longest - header - ICMP_HEADER)];
    let (need, got) = (header + ICMP_HEADER + quote.len(), out.len());
    let out = out.get_mut(..need).ok_or(Untold::BufferTooSmall { need, got })?;
    Ok((out, quote))
}

/// Fills in the ICMP message; `sum` is that of what its checksum covers besides. IPv4 has the MTU in 16 bits after 16
/// that are unused, IPv6 in 32: the same bytes.
fn write_message(message: &mut [u8], kind: [u8; 2], mtu: u32, quote: &[u8], sum: Sum) {
    message[..2].copy_from_slice(&kind);
    message[2..4].fill(0);
    message[4..ICMP_HEADER].copy_from_slice(&mtu.to_be_bytes());
    message[ICMP_HEADER..].copy_from_slice(quote);
    let checksum = sum.add(message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether an ICMP message is no error: neither unreachable, source quench, redirect, time exceeded nor parameter
/// problem (RFC 1122 section 3.2.2).
fn is_no_error_v4(kind: u8) -> bool {
    !matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// Whether an ICMPv6 message is neither an error (RFC 4443 section 2.1) nor a redirect (section 2.4 e.2).
fn is_no_error_v6(kind: u8) -> bool {
    kind >= 128 && kind != 137
}

/// Whether packets to the address go to a single host.
fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether the address is that of a host elsewhere than on the sender's own loopback.
fn can_be_told(address: IpAddr) -> bool {
    let this_network = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    is_host(address) && !address.is_loopback() && !this_network
}

#[cfg(test)]
mod tests {
    use super::super::samples::{data, echo, v4, v4_fragment, v6};
    use super::*;
    use crate::packet::validate;

    fn error(packet: &[u8], mtu: usize) -> Result<Vec<u8>, Untold> {
        let mut out = [0xaa; 2048];
        too_big(packet, mtu, &mut out).map(<[u8]>::to_vec)
    }

    #[test]
    fn fragmentation_needed_has_the_mtu_and_the_packets_beginning_and_goes_to_the_sender() {
        let packet = v4_fragment(17, &[], 0x4000, &data(1480));
        let error = error(&packet, 1472).unwrap();
        assert_eq!(error.len(), 576, "as much as an IPv4 host has to take");
        assert_eq!(error[..12], [0x45, 0xc0, 0x02, 0x40, 0, 0, 0x40, 0, 64, 1, error[10], error[11]]);
        assert_eq!(error[12..20], [10, 1, 3, 4, 10, 1, 3, 1], "from its destination to its source");
        assert_eq!(error[20..22], [3, 4]);
        assert_eq!(error[24..28], [0, 0, 0x05, 0xc0], "1472");
        assert_eq!(error[28..], packet[..548]);
        assert_eq!(Sum::default().add(&error[..20]).checksum(), 0);
        assert_eq!(Sum::default().add(&error[20..]).checksum(), 0);
    }

    #[test]
    fn packet_too_big_has_the_mtu_and_the_packets_beginning_and_goes_to_the_sender() {
        let packet = v6(58, &echo(128, &data(1452)));
        let error = error(&packet, 1452).unwrap();
        assert_eq!(error.len(), 1280, "as much as every IPv6 path carries");
        assert_eq!(error[..8], [0x60, 0, 0, 0, 0x04, 0xd8, 58, 64]);
        assert_eq!((&error[8..24], &error[24..40]), (&packet[24..40], &packet[8..24]));
        assert_eq!(error[40..42], [2, 0]);
        assert_eq!(error[44..48], [0, 0, 0x05, 0xac], "1452");
        assert_eq!(error[48..], packet[..1232]);
        let pseudo = Sum::default().add(&error[8..40]).add(&[0x04, 0xd8, 0, 58]);
        assert_eq!(pseudo.add(&error[40..]).checksum(), 0);
    }

    #[test]
    fn a_short_packet_is_quoted_whole_and_without_padding() {
        let packet = v4_fragment(17, &[148, 4, 0, 0], 0x4000, &data(76));
        let padded = [&packet[..], &[0; 20]].concat();
        let error = error(&padded, 68).unwrap();
        assert_eq!(error.len(), 28 + 100);
        assert_eq!(error[28..], packet);
    }

    #[test]
    fn no_mtu_is_announced_that_the_protocol_does_not_allow() {
        let (packet, packet_v6) = (v4(17, &[], &data(1480)), v6(17, &data(1480)));
        assert_eq!(error(&packet, 67).unwrap()[26..28], 68_u16.to_be_bytes());
        assert_eq!(error(&packet, 70_000).unwrap()[26..28], 65535_u16.to_be_bytes());
        assert_eq!(error(&packet_v6, 1279).unwrap()[44..48], 1280_u32.to_be_bytes());
        assert_eq!(error(&packet_v6, 70_000).unwrap()[44..48], 70_000_u32.to_be_bytes());
    }

    #[test]
    fn what_an_error_must_not_answer_is_not_answered() {
        let between = |source: [u8; 4], destination: [u8; 4]| {
            let mut packet = v4(17, &[], &data(1480));
            packet[12..16].copy_from_slice(&source);
            packet[16..20].copy_from_slice(&destination);
            rewrite::set_v4_checksum(&mut packet[..20]);
            packet
        };
        let host = [10, 1, 3, 1];
        let mut damaged = v4(17, &[], &data(1480));
        damaged[8] ^= 1;
        let mut group = v6(17, &data(1480));
        group[24] = 0xff;
        let fragment_header = |offset| [17, 0, 0, offset, 0, 0, 0, 9];
        let mut table = vec![
            (vec![0x75; 2000], "not an IP packet: version 7"),
            (damaged, "the IPv4 header checksum is wrong"),
            (v4_fragment(17, &[], 0x2000 | 185, &data(1480)), "a fragment other than the first"),
            (v6(44, &[&fragment_header(8 | 1)[..], &data(1480)].concat()), "a fragment other than the first"),
            (between(host, [224, 0, 0, 5]), "the destination 224.0.0.5 is no single host"),
            (between(host, [255; 4]), "the destination 255.255.255.255 is no single host"),
            (between([0, 0, 0, 1], host), "the source 0.0.0.1 is no single host"),
            (between([127, 0, 0, 1], host), "the source 127.0.0.1 is no single host"),
            (between([224, 0, 0, 5], host), "the source 224.0.0.5 is no single host"),
            (group, "the destination ff00::4 is no single host"),
        ];
        let answers_an_error = "an ICMP error, which is not answered by another";
        for kind in [3, 4, 5, 11, 12] {
            table.push((v4(1, &[], &echo(kind, &data(1400))), answers_an_error));
        }
        for kind in [1, 2, 3, 4, 127, 137] {
            table.push((v6(58, &echo(kind, &data(1400))), answers_an_error));
        }
        table.push((v4(1, &[], &[]), answers_an_error));
        table.push((v6(60, &[58, 255, 0, 0]), answers_an_error));
        for (packet, why) in table {
            assert_eq!(error(&packet, 1280).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_first_fragment_and_an_echo_are_answered() {
        for packet in [
            v4_fragment(17, &[], 0x6000, &data(1480)),
            v4(1, &[], &echo(8, &data(1480))),
            v6(58, &echo(129, &data(1480))),
            v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &data(1480)].concat()),
        ] {
            assert!(validate(&error(&packet, 1280).unwrap()).is_ok());
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_is_not_written() {
        let mut out = [0xaa; 575];
        let why = too_big(&v4(17, &[], &data(1480)), 1280, &mut out).unwrap_err();
        assert_eq!(why, Untold::BufferTooSmall { need: 576, got: 575 });
        assert_eq!(out, [0xaa; 575]);
    }
}
