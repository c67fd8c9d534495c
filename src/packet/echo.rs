//! Answers echo requests: what `ping` wants to see.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::checksum::Sum;
use super::ethernet::{self, Frame, ethertype};
use super::header::{Ip, Options, V4, V4_HEADER, V6, V6_HEADER, option, protocol};
use super::{NotIp, rewrite};

/// Type, code, checksum, identifier and sequence number (RFC 792, RFC 4443 section 4.1).
const ECHO_HEADER: usize = 8;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Why a packet gets no echo reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoReply {
    /// It is no IP packet at all.
    NotIp(NotIp),
    /// It is something else: another protocol, or another ICMP message.
    NotEchoRequest,
    /// The IPv4 header checksum is wrong.
    BadHeaderChecksum,
    /// The ICMP or ICMPv6 checksum is wrong.
    BadChecksum,
    /// A piece of a datagram; see [`Reassembler`](super::Reassembler).
    Fragment,
    /// An ICMP message of fewer than 8 bytes, or an extension header that is cut off.
    Truncated,
    /// The source is no single host: unspecified, multicast or broadcast (RFC 1122 section 3.2.1.3, RFC 4291 sections
    /// 2.5.2 and 2.7).
    Source(IpAddr),
    /// The destination is no single host, so the reply would have no source (RFC 1122 section 3.2.2.6 leaves it to us).
    Destination(IpAddr),
    /// The sender chose the route. RFC 1122 section 3.2.2.6 would send the reply back along it, which lets anybody
    /// aim it (RFC 5095 took the same out of IPv6), so there is none.
    SourceRouted,
    /// An IPv4 option whose length does not fit the header.
    BadOptions,
    /// The reply does not fit in the buffer; both in bytes.
    BufferTooSmall {
        /// The reply's length.
        need: usize,
        /// The buffer's.
        got: usize,
    },
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIp(what) => what.fmt(f),
            Self::NotEchoRequest => write!(f, "not an echo request"),
            Self::BadHeaderChecksum => write!(f, "the IPv4 header checksum is wrong"),
            Self::BadChecksum => write!(f, "the ICMP checksum is wrong"),
            Self::Fragment => write!(f, "a fragment; only a whole echo request has an answer"),
            Self::Truncated => write!(f, "truncated: the ICMP header is not all there"),
            Self::Source(address) => write!(f, "the source {address} is no single host"),
            Self::Destination(address) => write!(f, "the destination {address} is no single host"),
            Self::SourceRouted => write!(f, "source-routed; a reply could be aimed at anybody"),
            Self::BadOptions => write!(f, "an IPv4 option does not fit the header"),
            Self::BufferTooSmall { need, got } => write!(f, "the reply takes {need} bytes, the buffer has {got}"),
        }
    }
}

impl Error for NoReply {}

impl From<NotIp> for NoReply {
    fn from(what: NotIp) -> Self {
        Self::NotIp(what)
    }
}

/// Writes the reply to an ICMP or ICMPv6 echo request into `out`, and returns it.
///
/// Addresses are swapped, the TTL or hop limit is 64; identifier, sequence number, code and payload are the request's,
/// and so are its type of service (RFC 1349 section 5.1), IPv4 identification and don't-fragment flag. Record route
/// options are copied with the answering address filled in where there is room; timestamp options are copied as they
/// are, since there is no clock here; all others are left out (RFC 1122 section 3.2.2.6). Extension headers are left
/// out. Bytes after the packet's total length are ignored.
///
/// # Errors
/// Why there is no reply; see [`NoReply`].
pub fn echo_reply<'b>(request: &[u8], out: &'b mut [u8]) -> Result<&'b [u8], NoReply> {
    match Ip::parse(request)? {
        Ip::V4(request) => reply_v4(&request, out),
        Ip::V6(request) => reply_v6(&request, out),
    }
}

/// The same for a frame with an echo request inside: writes a frame into `out` that goes back to its sender, from the
/// interface that it was sent to. No frame with anything but IPv4 inside is answered.
///
/// # Errors
/// Why there is no reply; see [`NoReply`].
pub fn echo_reply_in_frame<'b>(request: &Frame<'_>, out: &'b mut [u8]) -> Result<&'b [u8], NoReply> {
    let is_ipv6 = request.payload.first().is_some_and(|byte| byte >> 4 == 6);
    if request.ethertype != ethertype::IPV4 || is_ipv6 {
        return Err(NoReply::NotEchoRequest);
    }
    let got = out.len();
    let mut refused = NoReply::BufferTooSmall { need: ethernet::HEADER, got };
    let ends = [request.source, request.destination];
    let written = Frame::write(ends, ethertype::IPV4, out, |payload| match echo_reply(request.payload, payload) {
        Ok(reply) => Some(reply.len()),
        Err(why) => {
            refused = why;
            None
        }
    });
    written.ok_or(refused)
}

fn reply_v4<'b>(request: &V4<'_>, out: &'b mut [u8]) -> Result<&'b [u8], NoReply> {
    if request.protocol() != protocol::ICMP {
        return Err(NoReply::NotEchoRequest);
    }
    if !request.header_checksum_is_right() {
        return Err(NoReply::BadHeaderChecksum);
    }
    if request.is_fragment() {
        return Err(NoReply::Fragment);
    }
    check_echo(request.payload, ECHO_REQUEST, Sum::default())?;
    check_hosts(request.source().into(), request.destination().into())?;
    let mut options = [0; 40];
    let options = reply_options(request.options(), request.destination(), &mut options)?;

    let header = V4_HEADER + options.len();
    let out = room(out, header + request.payload.len())?;
    let (head, message) = out.split_at_mut(header);
    head[V4_HEADER..].copy_from_slice(options);
    rewrite::fresh_v4_header(head, request, request.destination(), request.source());
    head[1] = request.header[1];
    rewrite::set_v4_checksum(head);
    write_echo(message, request.payload, ECHO_REPLY, Sum::default());
    Ok(out)
}

fn reply_v6<'b>(request: &V6<'_>, out: &'b mut [u8]) -> Result<&'b [u8], NoReply> {
    let mut extensions = request.extensions();
    for extension in extensions.by_ref() {
        // An atomic fragment, which is the whole datagram, is no fragment (RFC 6946).
        if extension.fragment().is_some_and(|fragment| fragment.offset != 0 || fragment.more) {
            return Err(NoReply::Fragment);
        }
        if extension.routes_onward() {
            return Err(NoReply::SourceRouted);
        }
    }
    if extensions.is_cut() {
        return Err(NoReply::Truncated);
    }
    if extensions.protocol != protocol::ICMPV6 {
        return Err(NoReply::NotEchoRequest);
    }
    let message = &request.bytes[extensions.at..];
    check_echo(message, ECHO_REQUEST_V6, pseudo_header(request, message.len()))?;
    check_hosts(request.source().into(), request.destination().into())?;

    let out = room(out, V6_HEADER + message.len())?;
    let (head, reply) = out.split_at_mut(V6_HEADER);
    rewrite::fresh_v6_header(head, reply.len(), protocol::ICMPV6, request.destination(), request.source());
    // The traffic class straddles the first two bytes.
    head[..2].copy_from_slice(&[request.bytes[0], request.bytes[1] & 0xf0]);
    write_echo(reply, message, ECHO_REPLY_V6, pseudo_header(request, message.len()));
    Ok(out)
}

/// The sum of the ICMPv6 pseudo-header (RFC 8200 section 8.1), which swapped addresses do not change.
fn pseudo_header(request: &V6<'_>, length: usize) -> Sum {
    let addresses = &request.bytes[8..V6_HEADER];
    Sum::default().add(addresses).add(&(length as u32).to_be_bytes()).add(&[0, protocol::ICMPV6])
}

fn check_echo(message: &[u8], kind: u8, pseudo_header: Sum) -> Result<(), NoReply> {
    match message.first() {
        Some(found) if *found != kind => Err(NoReply::NotEchoRequest),
        _ if message.len() < ECHO_HEADER => Err(NoReply::Truncated),
        _ if pseudo_header.add(message).checksum() != 0 => Err(NoReply::BadChecksum),
        _ => Ok(()),
    }
}

fn check_hosts(source: IpAddr, destination: IpAddr) -> Result<(), NoReply> {
    let is_host = |address: IpAddr| {
        !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
    };
    match (is_host(source), is_host(destination)) {
        (false, _) => Err(NoReply::Source(source)),
        (_, false) => Err(NoReply::Destination(destination)),
        _ => Ok(()),
    }
}

/// The first `need` bytes of the buffer.
fn room(out: &mut [u8], need: usize) -> Result<&mut [u8], NoReply> {
    let got = out.len();
    out.get_mut(..need).ok_or(NoReply::BufferTooSmall { need, got })
}

/// The message with another type and its checksum made anew; both are as long.
fn write_echo(out: &mut [u8], message: &[u8], kind: u8, pseudo_header: Sum) {
    out.copy_from_slice(message);
    out[0] = kind;
    out[2..4].fill(0);
    let checksum = pseudo_header.add(out).checksum();
    out[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// The request's options that go into the reply, padded to whole words.
fn reply_options<'b>(options: Options<'_>, here: Ipv4Addr, out: &'b mut [u8; 40]) -> Result<&'b [u8], NoReply> {
    if options.clone().source_routed() {
        return Err(NoReply::SourceRouted);
    }
    let mut length = 0;
    for bytes in options {
        let bytes = bytes.map_err(|_| NoReply::BadOptions)?;
        if matches!(bytes[0], option::RECORD_ROUTE | option::TIMESTAMP) {
            let copy = &mut out[length..length + bytes.len()];
            copy.copy_from_slice(bytes);
            record(copy, here);
            length += bytes.len();
        }
    }
    // Zero is the end-of-list option.
    Ok(&out[..length.next_multiple_of(4)])
}

/// Enters an address where a record route option has room (RFC 791 section 3.1). The pointer counts from 1.
fn record(route: &mut [u8], here: Ipv4Addr) {
    let [option::RECORD_ROUTE, _, pointer, slots @ ..] = route else { return };
    let end = usize::from(*pointer);
    if let Some(slot) = end.checked_sub(4).and_then(|start| slots.get_mut(start..end)) {
        slot.copy_from_slice(&here.octets());
        *pointer += 4;
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{data, echo, v4, v4_fragment, v6};
    use super::*;
    use crate::packet::validate;

    fn reply(request: &[u8]) -> Result<Vec<u8>, NoReply> {
        let mut out = [0xaa; 2048];
        echo_reply(request, &mut out).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_reply_swaps_the_addresses_and_keeps_identifier_sequence_and_payload() {
        for length in 0..10 {
            let request = v4(1, &[], &echo(8, &data(length)));
            let reply = reply(&request).unwrap();
            assert_eq!(validate(&reply).unwrap().source, IpAddr::from([10, 1, 3, 4]));
            assert_eq!(validate(&reply).unwrap().destination, IpAddr::from([10, 1, 3, 1]));
            assert_eq!(reply[8], 64, "the TTL");
            assert_eq!(reply[20..], echo(0, &data(length)), "with {length} bytes of payload");
            assert_eq!(Sum::default().add(&reply[..20]).checksum(), 0);
        }
    }

    #[test]
    fn an_ipv6_reply_has_the_checksum_of_its_pseudo_header() {
        for length in 0..10 {
            let reply = reply(&v6(58, &echo(128, &data(length)))).unwrap();
            assert_eq!(reply[..8], [0x61, 0x20, 0, 0, 0, 8 + length as u8, 58, 64], "flow label 0, class kept");
            // The sum over swapped addresses is the same.
            assert_eq!(reply[40..], echo(129, &data(length)));
        }
    }

    #[test]
    fn what_is_no_sound_echo_request_gets_no_reply_and_a_reason() {
        let good = v4(1, &[], &echo(8, b"payload"));
        let good_v6 = v6(58, &echo(128, b"payload"));
        let changed = |packet: &[u8], at: usize, to: u8| {
            let mut packet = packet.to_vec();
            packet[at] ^= to;
            packet
        };
        let fragment_header = [58, 0, 0, 1, 0, 0, 0, 9];
        let fragment_v6 = v6(44, &[&fragment_header[..], &echo(128, b"payload")].concat());
        let routed_v6 = v6(43, &[&[58, 0, 0, 1, 0, 0, 0, 0][..], &echo(128, b"payload")].concat());
        let table = [
            (b"nonsense".to_vec(), "truncated: IPv6 header of 40 bytes, got 8 bytes"),
            (v4(17, &[], &echo(8, b"")), "not an echo request"),
            (v4(1, &[], &echo(0, b"")), "not an echo request"),
            (v4(58, &[], &echo(128, b"")), "not an echo request"),
            (v6(1, &echo(8, b"")), "not an echo request"),
            (changed(&good, 8, 1), "the IPv4 header checksum is wrong"),
            (changed(&good, 27, 1), "the ICMP checksum is wrong"),
            (changed(&good_v6, 47, 1), "the ICMP checksum is wrong"),
            (v4_fragment(1, &[], 0x2000, &echo(8, b"")), "a fragment; only a whole echo request has an answer"),
            (v4_fragment(1, &[], 0x0001, &echo(8, b"")), "a fragment; only a whole echo request has an answer"),
            (fragment_v6, "a fragment; only a whole echo request has an answer"),
            (v4(1, &[], &echo(8, b"")[..7]), "truncated: the ICMP header is not all there"),
            (v4(1, &[], b""), "truncated: the ICMP header is not all there"),
            (v6(0, &[58, 1, 0, 0]), "truncated: the ICMP header is not all there"),
            (v4(1, &[131, 7, 4, 10, 1, 3, 9, 0], &echo(8, b"")), "source-routed; a reply could be aimed at anybody"),
            (routed_v6, "source-routed; a reply could be aimed at anybody"),
            (v4(1, &[7, 40, 4, 0], &echo(8, b"")), "an IPv4 option does not fit the header"),
        ];
        for (request, why) in table {
            assert_eq!(reply(&request).unwrap_err().to_string(), why, "to {request:02x?}");
        }
        let mut small = [0; 34];
        let why = echo_reply(&good, &mut small).unwrap_err();
        assert_eq!(why, NoReply::BufferTooSmall { need: 35, got: 34 });
    }

    #[test]
    fn only_a_single_host_is_answered_and_only_as_one() {
        let between = |source: [u8; 4], destination: [u8; 4]| {
            let mut request = v4(1, &[], &echo(8, b""));
            request[12..16].copy_from_slice(&source);
            request[16..20].copy_from_slice(&destination);
            rewrite::set_v4_checksum(&mut request[..20]);
            reply(&request)
        };
        let (host, nobody, group, all) = ([10, 1, 3, 1], [0; 4], [224, 0, 0, 1], [255; 4]);
        assert!(between(host, [10, 1, 3, 4]).is_ok());
        for address in [nobody, group, all] {
            assert_eq!(between(address, host), Err(NoReply::Source(address.into())));
            assert_eq!(between(host, address), Err(NoReply::Destination(address.into())));
        }
    }

    #[test]
    fn record_route_and_timestamp_are_answered_and_other_options_are_not() {
        let route = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        let router_alert = [148, 4, 0, 0];
        let timestamp = [68, 8, 5, 0, 0, 0, 0, 0];
        let request = v4(1, &[&[1][..], &route, &router_alert, &timestamp].concat(), &echo(8, b"x"));
        let reply = reply(&request).unwrap();
        let recorded = [7, 11, 8, 10, 1, 3, 4, 0, 0, 0, 0];
        assert_eq!(reply[0], 0x4a);
        assert_eq!(reply[20..40], [&recorded[..], &timestamp, &[0]].concat());
        assert_eq!(reply[40..], echo(0, b"x"));
    }

    #[test]
    fn a_full_record_route_is_copied_as_it_is() {
        let route = [7, 7, 8, 10, 9, 9, 9, 0];
        assert_eq!(reply(&v4(1, &route, &echo(8, b""))).unwrap()[20..28], route);
    }

    #[test]
    fn padding_behind_the_request_is_not_answered() {
        let mut request = v4(1, &[], &echo(8, b"x"));
        request.extend([0; 20]);
        assert_eq!(reply(&request).unwrap().len(), 29);
    }

    #[test]
    fn an_atomic_ipv6_fragment_is_answered_without_its_fragment_header() {
        let request = v6(44, &[&[58, 0, 0, 0, 0, 0, 0, 9][..], &echo(128, b"x")].concat());
        assert_eq!(reply(&request).unwrap()[40..], echo(129, b"x"));
    }

    #[test]
    fn a_frame_is_answered_by_whom_it_was_sent_to() {
        let (hers, ours) = ([2, 0, 0, 0, 0, 1], [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        let request = v4(1, &[], &echo(8, b"x"));
        let framed = |kind: [u8; 2], packet: &[u8]| [&ours[..], &hers, &kind, packet].concat();
        let answer = |frame: &[u8], room: usize| {
            let mut out = vec![0; room];
            echo_reply_in_frame(&Frame::parse(frame).unwrap(), &mut out).map(<[u8]>::to_vec)
        };
        let expected = [&hers[..], &ours, &[8, 0], &reply(&request).unwrap()].concat();
        assert_eq!(answer(&framed([8, 0], &request), 100), Ok(expected));
        assert_eq!(answer(&framed([0x86, 0xdd], &v6(58, &echo(128, b"x"))), 100), Err(NoReply::NotEchoRequest));
        assert_eq!(answer(&framed([8, 0], &request[..27]), 100).unwrap_err().to_string().get(..9), Some("truncated"));
        for room in [0, 13, 14, 42] {
            assert!(matches!(answer(&framed([8, 0], &request), room), Err(NoReply::BufferTooSmall { .. })), "{room}");
        }
    }
}
