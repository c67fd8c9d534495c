//! IPv6 and its extension headers, as scapy's `layers/inet6.py` dissects them.

use std::net::Ipv6Addr;

use super::fields::{Cut, Fields};
use super::{Below, Kind, Layer, address};

/// The scapy default for a next header that is missing: none.
const NO_NEXT_HEADER: u8 = 59;

/// `IPv6`, or `IPerror6`, the packet that an ICMPv6 error quotes.
pub(super) fn ipv6(mut fields: Fields<'_>, quoted: bool) -> Result<Layer<'_>, Cut> {
    fields.skip(&[4])?;
    let length = fields.short()?.unwrap_or(u16::MAX);
    let next = fields.byte()?.unwrap_or(NO_NEXT_HEADER);
    fields.skip(&[1])?;
    let source = fields.take()?.map_or(Ipv6Addr::LOCALHOST, <Ipv6Addr as From<[u8; 16]>>::from);
    let destination = fields.take()?.map_or(Ipv6Addr::LOCALHOST, <Ipv6Addr as From<[u8; 16]>>::from);

    let mut layer =
        Layer::new(if quoted { "IPerror6" } else { "IPv6" }, fields.0, Kind::Raw).padded_from(length.into());
    layer.next = match (next, quoted) {
        (6, true) => Kind::TcpError,
        (17, true) => Kind::UdpError,
        _ => above(next, layer.payload)?,
    };
    if !quoted {
        layer = layer.saying(format!("{} > {} ({next})", address::plain(source), address::plain(destination)));
        let (source, destination) = (address::annotated(source), address::annotated(destination));
        layer.ends = Some(Below { source, destination });
    }
    Ok(layer)
}

/// The dissector for a next header. Scapy raises an exception for a routing header of fewer than three bytes, before it
/// has begun with it; so the layer that names it becomes `Raw`.
fn above(next: u8, payload: &[u8]) -> Result<Kind, Cut> {
    Ok(match next {
        0 => Kind::HopByHop,
        4 => Kind::Ip,
        6 => Kind::Tcp,
        17 => Kind::Udp,
        41 => Kind::Ipv6,
        43 => match payload.get(2) {
            Some(4) => Kind::SegmentRouting,
            Some(_) => Kind::Routing,
            None if payload.is_empty() => Kind::Raw,
            None => return Err(Cut),
        },
        44 => Kind::Fragment,
        47 => Kind::Gre,
        50 => Kind::Esp,
        51 => Kind::Ah,
        58 => Kind::Icmpv6,
        60 => Kind::DestinationOptions,
        132 => Kind::Sctp,
        _ => Kind::Raw,
    })
}

fn extension<'p>(name: &'static str, next: Option<u8>, payload: &'p [u8]) -> Result<Layer<'p>, Cut> {
    Ok(Layer::new(name, payload, above(next.unwrap_or(NO_NEXT_HEADER), payload)?))
}

/// Hop-by-hop and destination options.
pub(super) fn options<'p>(mut fields: Fields<'p>, name: &'static str) -> Result<Layer<'p>, Cut> {
    let next = fields.byte()?;
    let length = fields.byte()?.unwrap_or_default();
    fields.slice(i64::from(length) * 8 + 6);
    extension(name, next, fields.0)
}

pub(super) fn routing(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let next = fields.byte()?;
    let length = fields.byte()?.unwrap_or_default();
    fields.skip(&[1, 1, 4])?;
    addresses(fields.slice(i64::from(length) * 8))?;
    extension("IPv6ExtHdrRouting", next, fields.0)
}

/// The segment routing header of RFC 8754.
pub(super) fn segment_routing(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let next = fields.byte()?;
    let length = fields.byte()?.unwrap_or_default();
    fields.skip(&[1, 1])?;
    let last = fields.byte()?.unwrap_or_default();
    fields.skip(&[1, 2])?;
    let segments = 16 * (i64::from(last) + 1);
    addresses(fields.slice(segments))?;
    if !fields.0.is_empty() {
        fields.slice(i64::from(length) * 8 - segments);
    }
    extension("IPv6ExtHdrSegmentRouting", next, fields.0)
}

/// A list of addresses has to be whole.
pub(super) fn addresses(list: &[u8]) -> Result<Vec<Ipv6Addr>, Cut> {
    let (addresses, []) = list.as_chunks::<16>() else { return Err(Cut) };
    Ok(addresses.iter().map(|octets| Ipv6Addr::from(*octets)).collect())
}

pub(super) fn fragment(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let next = fields.byte()?;
    fields.skip(&[1])?;
    let offset = fields.short()?.unwrap_or_default() >> 3;
    fields.skip(&[4])?;
    match offset {
        0 => extension("IPv6ExtHdrFragment", next, fields.0),
        _ => Ok(Layer::new("IPv6ExtHdrFragment", fields.0, Kind::Raw)),
    }
}
