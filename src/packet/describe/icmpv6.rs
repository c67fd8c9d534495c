//! ICMPv6 and the options of neighbor discovery, as scapy's `layers/inet6.py` dissects them.

use std::net::Ipv6Addr;

use super::fields::{Cut, Fields};
use super::{Kind, Layer, address, v6};

/// An ICMPv6 message; one that is too short for its type, or of a type that scapy does not know, is `Raw`.
pub(super) fn message(bytes: &[u8]) -> Result<Layer<'_>, Cut> {
    let kind = *bytes.first().ok_or(Cut)?;
    let (name, header, next) = match kind {
        1 => ("ICMPv6DestUnreach", 8, Kind::IpError6),
        2 => ("ICMPv6PacketTooBig", 8, Kind::IpError6),
        3 => ("ICMPv6TimeExceeded", 8, Kind::IpError6),
        4 => ("ICMPv6ParamProblem", 8, Kind::IpError6),
        128 => ("ICMPv6EchoRequest", 8, Kind::Raw),
        129 => ("ICMPv6EchoReply", 8, Kind::Raw),
        130 if bytes.len() >= 28 => ("ICMPv6MLQuery2", 28, Kind::Raw),
        130 => ("ICMPv6MLQuery", 24, Kind::Raw),
        131 => ("ICMPv6MLReport", 24, Kind::Raw),
        132 => ("ICMPv6MLDone", 24, Kind::Raw),
        133 => ("ICMPv6ND_RS", 8, Kind::Neighbor),
        134 => ("ICMPv6ND_RA", 16, Kind::Neighbor),
        135 => ("ICMPv6ND_NS", 24, Kind::Neighbor),
        136 => ("ICMPv6ND_NA", 24, Kind::Neighbor),
        137 => ("ICMPv6ND_Redirect", 40, Kind::Neighbor),
        141 => ("ICMPv6ND_INDSol", 8, Kind::Neighbor),
        142 => ("ICMPv6ND_INDAdv", 8, Kind::Neighbor),
        143 => ("ICMPv6MLReport2", 8, Kind::Raw),
        144 => ("ICMPv6HAADRequest", 8, Kind::Raw),
        145 => ("ICMPv6HAADReply", 8, Kind::Raw),
        146 => ("ICMPv6MPSol", 8, Kind::Raw),
        147 => ("ICMPv6MPAdv", 8, Kind::Neighbor),
        151 => ("ICMPv6MRD_Advertisement", 8, Kind::Raw),
        152 => ("ICMPv6MRD_Solicitation", 4, Kind::Raw),
        153 => ("ICMPv6MRD_Termination", 4, Kind::Raw),
        155 => ("ICMPv6RPL", 4, Kind::Raw),
        _ => return Err(Cut),
    };
    let (header, body) = bytes.split_at_checked(header).ok_or(Cut)?;
    body_of(kind, header, Layer::new(name, body, next))
}

/// What the types make of the bytes behind their header, and what they say of themselves.
fn body_of<'p>(kind: u8, header: &[u8], layer: Layer<'p>) -> Result<Layer<'p>, Cut> {
    let nothing_above = |layer| Layer { payload: &[], ..layer };
    Ok(match kind {
        128 => nothing_above(layer).saying(echo("ICMPv6 Echo Request", header)),
        129 => nothing_above(layer).saying(echo("ICMPv6 Echo Reply", header)),
        130 if header.len() == 28 => {
            let mut fields = Fields(layer.payload);
            v6::addresses(fields.slice(i64::from(word(header, 26)) * 16))?;
            Layer { payload: fields.0, ..layer }
        }
        134 => layer.saying(router_advertisement(header)),
        135 => layer.saying(neighbor("Neighbor Solicitation", header)),
        136 => layer.saying(neighbor("Neighbor Advertisement", header)),
        // One record swallows all that follow.
        143 if word(header, 6) != 0 => nothing_above(layer),
        145 => {
            v6::addresses(layer.payload)?;
            nothing_above(layer)
        }
        // These take as much payload as they have header, and leave the rest.
        151 => layer.padded_from(8),
        152 | 153 => layer.padded_from(4),
        _ => layer,
    })
}

/// The bytes at a place in the header; zeros, should there be fewer.
fn at<const N: usize>(header: &[u8], place: usize) -> [u8; N] {
    header.get(place..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn word(header: &[u8], place: usize) -> u16 {
    u16::from_be_bytes(at(header, place))
}

fn echo(name: &str, header: &[u8]) -> String {
    format!("{name} (id: {:#x} seq: {:#x})", word(header, 4), word(header, 6))
}

fn neighbor(name: &str, header: &[u8]) -> String {
    let target = Ipv6Addr::from(at::<16>(header, 8));
    format!("ICMPv6 Neighbor Discovery - {name} (tgt: {})", address::annotated(target))
}

fn router_advertisement(header: &[u8]) -> String {
    let [hop_limit, bits] = at(header, 4);
    let preference = match bits >> 3 & 3 {
        0 => "Medium (default)",
        1 => "High",
        2 => "Reserved",
        _ => "Low",
    };
    format!(
        "ICMPv6 Neighbor Discovery - Router Advertisement Lifetime {} Hop Limit {hop_limit} \
         Preference {preference} Managed {} Other {} Home {}",
        word(header, 6),
        bits >> 7,
        bits >> 6 & 1,
        bits >> 5 & 1
    )
}

/// An option of neighbor discovery (RFC 4861 section 4.6, RFC 8106), and after it the next one.
pub(super) fn neighbor_option(bytes: &[u8]) -> Result<Layer<'_>, Cut> {
    let &[kind, length, ..] = bytes else { return Err(Cut) };
    let mut fields = Fields(bytes);
    fields.skip(&[1, 1])?;
    match kind {
        1 | 2 => link_layer_address(kind, fields),
        3 => prefix_information(fields),
        4 => {
            fields.slice(6);
            if !fields.0.is_empty() {
                fields.slice(i64::from(length) * 8 - 8);
            }
            Ok(Layer::new("ICMPv6NDOptRedirectedHdr", fields.0, Kind::Neighbor))
        }
        5 => {
            fields.skip(&[2])?;
            let mtu = fields.int()?.unwrap_or(1280);
            let said = format!("ICMPv6 Neighbor Discovery Option - MTU {mtu}");
            Ok(Layer::new("ICMPv6NDOptMTU", fields.0, Kind::Neighbor).saying(said))
        }
        25 => dns_servers(length, fields),
        _ => Err(Cut),
    }
}

fn link_layer_address(kind: u8, mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let address: [u8; 6] = fields.take()?.unwrap_or_default();
    let address = address.map(|byte| format!("{byte:02x}")).join(":");
    let (name, whose) = match kind {
        1 => ("ICMPv6NDOptSrcLLAddr", "Source"),
        _ => ("ICMPv6NDOptDstLLAddr", "Destination"),
    };
    let said = format!("ICMPv6 Neighbor Discovery Option - {whose} Link-Layer Address {address}");
    Ok(Layer::new(name, fields.0, Kind::Neighbor).saying(said))
}

fn prefix_information(mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    let length = fields.byte()?.unwrap_or(64);
    let bits = fields.byte()?.unwrap_or(0xc0);
    fields.skip(&[4, 4, 4])?;
    let prefix = fields.take::<16>()?.unwrap_or_default();
    let said = format!(
        "ICMPv6 Neighbor Discovery Option - Prefix Information {}/{length} On-link {} Autonomous Address {} \
         Router Address {}",
        address::annotated(Ipv6Addr::from(prefix)),
        bits >> 7,
        bits >> 6 & 1,
        bits >> 5 & 1
    );
    Ok(Layer::new("ICMPv6NDOptPrefixInfo", fields.0, Kind::Neighbor).saying(said))
}

fn dns_servers(length: u8, mut fields: Fields<'_>) -> Result<Layer<'_>, Cut> {
    fields.skip(&[2, 4])?;
    let servers = if fields.0.is_empty() { &[] } else { fields.slice(i64::from(length) * 8 - 8) };
    let servers: Vec<_> = v6::addresses(servers)?.into_iter().map(address::plain).collect();
    let said = format!("ICMPv6 Neighbor Discovery Option - Recursive DNS Server Option {}", servers.join(", "));
    Ok(Layer::new("ICMPv6NDOptRDNSS", fields.0, Kind::Neighbor).saying(said))
}
