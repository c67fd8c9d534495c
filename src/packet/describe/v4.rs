//! IPv4, ICMP and the transports, as scapy's `layers/inet.py`, `sctp.py`, `ipsec.py` and `l2.py` dissect them.

use std::net::Ipv4Addr;

use super::fields::{Cut, Fields};
use super::{Below, Kind, Layer, names};

/// The scapy default for a field whose bytes are missing, where the summary shows it.
const LOCALHOST: [u8; 4] = [127, 0, 0, 1];

/// `IP`, or `IPerror`, the packet that an ICMP error quotes.
pub(super) fn ip(mut fields: Fields<'_>, quoted: bool) -> Result<Layer<'_>, Cut> {
    let words = fields.byte()?.unwrap_or_default() & 0x0f;
    fields.skip(&[1])?;
    let total = fields.short()?.ok_or(Cut)?;
    fields.skip(&[2])?;
    let offset = fields.short()?.unwrap_or_default() & 0x1fff;
    fields.skip(&[1])?;
    let protocol = fields.byte()?.unwrap_or_default();
    fields.skip(&[2])?;
    let source = Ipv4Addr::from(fields.take()?.unwrap_or(LOCALHOST)).to_string();
    let destination = Ipv4Addr::from(fields.take()?.unwrap_or(LOCALHOST)).to_string();

    let header = i64::from(words) * 4;
    skip_options(&mut fields, header - 20);
    let mut layer = Layer::new(if quoted { "IPerror" } else { "IP" }, fields.0, above(protocol, offset, quoted));
    if i64::from(total) >= header {
        layer = layer.padded_from(i64::from(total) - header);
    }
    if !quoted {
        let fragment = if offset == 0 { String::new() } else { format!(" frag:{offset}") };
        layer = layer.saying(format!("{source} > {destination} {}{fragment}", names::protocol(protocol)));
        layer.ends = Some(Below { source, destination });
    }
    Ok(layer)
}

/// A header length below 20 makes the length of the options negative, which Python takes from the end.
fn skip_options(fields: &mut Fields<'_>, length: i64) {
    if !fields.0.is_empty() {
        fields.slice(length);
    }
}

/// Scapy binds only some protocols to the first fragment: what looks like ESP in a later one is shown as ESP.
fn above(protocol: u8, offset: u16, quoted: bool) -> Kind {
    match (protocol, offset, quoted) {
        (132, _, true) => Kind::SctpError,
        (4, 0, true) => Kind::IpError,
        (1, 0, true) => Kind::IcmpError,
        (6, 0, true) => Kind::TcpError,
        (17, 0, true) => Kind::UdpError,
        (4, 0, false) => Kind::Ip,
        (1, 0, false) => Kind::Icmp,
        (6, 0, false) => Kind::Tcp,
        (17, 0, false) => Kind::Udp,
        (47, 0, _) => Kind::Gre,
        (41, _, _) => Kind::Ipv6,
        (132, _, _) => Kind::Sctp,
        (50, _, _) => Kind::Esp,
        (51, _, _) => Kind::Ah,
        _ => Kind::Raw,
    }
}

pub(super) fn icmp<'p>(fields: Fields<'p>, below: Option<&Below>) -> Result<Layer<'p>, Cut> {
    let (kind, code, payload) = icmp_header(fields)?;
    let what = format!("{} {}", names::icmp_type(kind), names::icmp_code(kind, code));
    let next = if quotes(kind) { Kind::IpError } else { Kind::Raw };
    Ok(Layer::new("ICMP", payload.0, next).saying(match below {
        Some(below) => format!("ICMP {} > {} {what}", below.source, below.destination),
        None => format!("ICMP {what}"),
    }))
}

/// `ICMPerror`: an ICMP message inside a quoted packet.
pub(super) fn icmp_error(fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let (kind, _, payload) = icmp_header(fields)?;
    Ok(Layer::new("ICMPerror", payload.0, if quotes(kind) { Kind::IpError } else { Kind::Raw }))
}

/// Type, code, and what follows the header that belongs to the type.
fn icmp_header(mut fields: Fields<'_>) -> Result<(u8, u8, Fields<'_>), Cut> {
    let kind = fields.byte()?.unwrap_or_default();
    let code = fields.byte()?.unwrap_or_default();
    fields.skip(&[2])?;
    fields.skip(match kind {
        0 | 8 | 15 | 16 => &[2, 2],
        3 => &[1, 1, 2],
        5 => &[4],
        11 | 12 => &[1, 1, 2],
        13 | 14 => &[2, 2, 4, 4, 4],
        17 | 18 => &[2, 2, 4],
        // Scapy gives the domain name messages both an identifier and the word that other types leave unused.
        37 | 38 => &[2, 2, 4],
        _ => &[4],
    })?;
    Ok((kind, code, fields))
}

/// Whether an ICMP message quotes the packet that it is about.
fn quotes(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

pub(super) fn tcp<'p>(fields: Fields<'p>, below: Option<&Below>) -> Result<Layer<'p>, Cut> {
    let (ports, flags, payload) = tcp_header(fields)?;
    // Scapy's letters for the flags, the lowest bit first.
    let flags: String =
        "FSRPAUECN".chars().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, c)| c).collect();
    let conversation = conversation(below, ports);
    Ok(Layer::new("TCP", payload.0, Kind::Raw).saying(format!("TCP {conversation} {flags}")))
}

pub(super) fn tcp_error(fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let (_, _, payload) = tcp_header(fields)?;
    Ok(Layer::new("TCPerror", payload.0, Kind::Raw))
}

/// The ports, the nine flags, and what follows the options; the defaults are scapy's.
fn tcp_header(mut fields: Fields<'_>) -> Result<((u16, u16), u16, Fields<'_>), Cut> {
    let ports = (fields.short()?.unwrap_or(20), fields.short()?.unwrap_or(80));
    fields.skip(&[4, 4])?;
    let word = fields.short()?.unwrap_or(0x5002);
    fields.skip(&[2, 2, 2])?;
    fields.slice((i64::from(word >> 12) * 4 - 20).max(0));
    Ok((ports, word & 0x1ff, fields))
}

pub(super) fn udp<'p>(fields: Fields<'p>, below: Option<&Below>) -> Result<Layer<'p>, Cut> {
    let (ports, layer) = udp_header("UDP", fields)?;
    Ok(layer.saying(format!("UDP {}", conversation(below, ports))))
}

pub(super) fn udp_error(fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    udp_header("UDPerror", fields).map(|(_, layer)| layer)
}

/// A length below 8 makes the last bytes the padding.
fn udp_header<'p>(name: &'static str, mut fields: Fields<'p>) -> Result<((u16, u16), Layer<'p>), Cut> {
    let ports = (fields.short()?.unwrap_or_default(), fields.short()?.unwrap_or_default());
    let length = fields.short()?.ok_or(Cut)?;
    fields.skip(&[2])?;
    Ok((ports, Layer::new(name, fields.0, Kind::Raw).padded_from(i64::from(length) - 8)))
}

/// Who talks to whom; the addresses only where the IP header is directly below.
fn conversation(below: Option<&Below>, (from, to): (u16, u16)) -> String {
    match below {
        Some(Below { source, destination }) => format!("{source}:{from} > {destination}:{to}"),
        None => format!("{from} > {to}"),
    }
}

pub(super) fn sctp<'p>(mut fields: Fields<'p>, name: &'static str) -> Result<Layer<'p>, Cut> {
    fields.skip(&[2, 2, 4, 4])?;
    Ok(Layer::new(name, fields.0, Kind::Raw))
}

/// GRE (RFC 2784, RFC 2890), or PPTP's variant (RFC 2637).
pub(super) fn gre(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let flags: [u8; 2] = fields.take()?.ok_or(Cut)?;
    let carried = fields.short()?.ok_or(Cut)?;
    let present = |byte: usize, bits: u8, size: usize| if flags[byte] & bits != 0 { size } else { 0 };
    if carried == 0x880b {
        fields.skip(&[2, 2, present(0, 0x10, 4), present(1, 0x80, 4)])?;
        return Ok(Layer::new("GRE_PPTP", fields.0, Kind::Raw));
    }
    fields.skip(&[present(0, 0xc0, 2), present(0, 0xc0, 2), present(0, 0x20, 4), present(0, 0x10, 4)])?;
    let next = match carried {
        0x0800 => Kind::Ip,
        0x86dd => Kind::Ipv6,
        _ => Kind::Raw,
    };
    Ok(Layer::new("GRE", fields.0, next))
}

pub(super) fn esp(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    fields.skip(&[4, 4])?;
    Ok(Layer::new("ESP", &[], Kind::Raw))
}

pub(super) fn ah(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let next = fields.byte()?.unwrap_or_default();
    let words = fields.byte()?.unwrap_or_default();
    fields.skip(&[2, 4, 4])?;
    fields.slice(i64::from(words) * 4 - 4);
    let next = match next {
        0 => Kind::Ip,
        41 => Kind::Ipv6,
        _ => Kind::Raw,
    };
    Ok(Layer::new("AH", fields.0, next))
}
