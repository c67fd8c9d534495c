//! One line per packet, in scapy's words: what `IP(packet).summary()` prints, so that a student can lay the two side by
//! side.
//!
//! The dissection follows scapy 2.5 layer by layer, also where it is odd, since the quoted packet of an ICMP error is
//! usually cut short: scapy fills in defaults where the bytes end between two fields, and shows `Raw` where they end
//! inside one. Where we differ on purpose:
//! - ports are numbers, where scapy looks service names up in the machine's `/etc/services`;
//! - the names of unknown protocols are those of Debian's `/etc/protocols`, whatever the machine has;
//! - what TCP, UDP, SCTP and GRE carry is `Raw`, unless GRE carries IP; so are VRRP, the mobility header, ICMPv6 node
//!   information, and the neighbor discovery options other than link-layer address, prefix, redirected header, MTU and
//!   DNS server;
//! - a quoted or tunneled jumbogram ends where its header says, after nothing;
//! - the types of frames are numbers; what frames carry is `Raw`, unless it is IP, ARP for it, or a VLAN's tag;
//! - bytes that are no IP packet or no ARP are called what they are, where scapy guesses or raises an exception.

mod address;
mod fields;
mod frame;
mod icmpv6;
mod names;
mod v4;
mod v6;

use super::{NotFrame, validate};
use fields::{Cut, Fields};

/// What scapy's `summary()` says about a packet, such as `IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw`.
///
/// What is no IP packet yields what [`NotIp`](super::NotIp) says about it.
pub fn describe(packet: &[u8]) -> String {
    match validate(packet) {
        Ok(ends) => summary(if ends.source.is_ipv4() { Kind::Ip } else { Kind::Ipv6 }, packet),
        Err(not_ip) => not_ip.to_string(),
    }
}

/// What scapy's `summary()` says about an Ethernet frame, such as `Ether / ARP who has 10.1.3.4 says 10.1.3.1`.
///
/// ```
/// use vpnlab::packet;
/// assert_eq!(packet::describe_frame(b"hello"), "truncated: Ethernet header of 14 bytes, got 5 bytes");
/// ```
pub fn describe_frame(frame: &[u8]) -> String {
    match frame {
        // No bytes are no layer.
        [] => NotFrame::Truncated(0).to_string(),
        _ => summary(Kind::Ethernet, frame),
    }
}

/// Which dissector the next bytes go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Ethernet,
    Tag,
    Arp,
    NotIp,
    Ip,
    IpError,
    Icmp,
    IcmpError,
    Tcp,
    TcpError,
    Udp,
    UdpError,
    Sctp,
    SctpError,
    Gre,
    Esp,
    Ah,
    Ipv6,
    IpError6,
    HopByHop,
    DestinationOptions,
    Routing,
    SegmentRouting,
    Fragment,
    Icmpv6,
    Neighbor,
}

/// The addresses of the header directly below a layer, IP's or Ethernet's, as the layer's summary shows them.
struct Below {
    source: String,
    destination: String,
}

/// One layer, dissected.
struct Layer<'p> {
    /// The name of scapy's class.
    name: &'static str,
    /// What the layer says of itself; of all layers, the last one that says something is shown so, the others by name.
    summary: Option<String>,
    payload: &'p [u8],
    /// The payload's dissector.
    next: Kind,
    /// Whether bytes follow the payload: scapy shows them as a last layer, `Padding`.
    padded: bool,
    /// Set by Ethernet and IP headers.
    ends: Option<Below>,
}

impl<'p> Layer<'p> {
    fn new(name: &'static str, payload: &'p [u8], next: Kind) -> Self {
        Self { name, summary: None, payload, next, padded: false, ends: None }
    }

    /// Adds what the layer says of itself.
    fn saying(self, summary: String) -> Self {
        Self { summary: Some(summary), ..self }
    }

    /// Splits the payload as Python's `payload[:at], payload[at:]` does; what is behind is padding.
    fn padded_from(self, at: i64) -> Self {
        let (payload, padding) = python_split(self.payload, at);
        Self { payload, padded: !padding.is_empty(), ..self }
    }
}

/// `bytes[:at], bytes[at:]`: a negative `at` counts from the end, and nothing is out of range.
fn python_split(bytes: &[u8], at: i64) -> (&[u8], &[u8]) {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let at = if at < 0 { length.saturating_add(at).max(0) } else { at.min(length) };
    bytes.split_at(usize::try_from(at).unwrap_or(bytes.len()))
}

/// Dissects layer by layer, and joins the layers as scapy's `Packet._do_summary` does.
fn summary(mut kind: Kind, mut bytes: &[u8]) -> String {
    let mut layers: Vec<(&str, Option<String>)> = Vec::new();
    let mut paddings = 0;
    let mut below = None;
    while !bytes.is_empty() {
        let layer = dissect(kind, bytes, below.as_ref()).unwrap_or_else(|Cut| Layer::new("Raw", &[], Kind::Raw));
        layers.push((layer.name, layer.summary));
        paddings += usize::from(layer.padded);
        (kind, bytes, below) = (layer.next, layer.payload, layer.ends);
    }
    layers.extend(std::iter::repeat_n(("Padding", None), paddings));
    let speaker = layers.iter().rposition(|(_, summary)| summary.is_some());
    let shown = layers.into_iter().enumerate().map(|(at, (name, summary))| match summary {
        Some(summary) if Some(at) == speaker => summary,
        _ => name.to_string(),
    });
    shown.collect::<Vec<_>>().join(" / ")
}

fn dissect<'p>(kind: Kind, bytes: &'p [u8], below: Option<&Below>) -> Result<Layer<'p>, Cut> {
    let fields = Fields(bytes);
    match kind {
        Kind::Raw => Ok(Layer::new("Raw", &[], Kind::Raw)),
        Kind::Ethernet => Ok(frame::ethernet(bytes)),
        Kind::Tag => Ok(frame::tag(bytes, below)),
        Kind::Arp => Ok(frame::arp(bytes)),
        Kind::NotIp => Ok(frame::not_ip(bytes)),
        Kind::Ip => v4::ip(fields, false),
        Kind::IpError => v4::ip(fields, true),
        Kind::Icmp => v4::icmp(fields, below),
        Kind::IcmpError => v4::icmp_error(fields),
        Kind::Tcp => v4::tcp(fields, below),
        Kind::TcpError => v4::tcp_error(fields),
        Kind::Udp => v4::udp(fields, below),
        Kind::UdpError => v4::udp_error(fields),
        Kind::Sctp => v4::sctp(fields, "SCTP"),
        Kind::SctpError => v4::sctp(fields, "SCTPerror"),
        Kind::Gre => v4::gre(fields),
        Kind::Esp => v4::esp(fields),
        Kind::Ah => v4::ah(fields),
        Kind::Ipv6 => v6::ipv6(fields, false),
        Kind::IpError6 => v6::ipv6(fields, true),
        Kind::HopByHop => v6::options(fields, "IPv6ExtHdrHopByHop"),
        Kind::DestinationOptions => v6::options(fields, "IPv6ExtHdrDestOpt"),
        Kind::Routing => v6::routing(fields),
        Kind::SegmentRouting => v6::segment_routing(fields),
        Kind::Fragment => v6::fragment(fields),
        Kind::Icmpv6 => icmpv6::message(bytes),
        Kind::Neighbor => icmpv6::neighbor_option(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{data, echo, v4, v4_fragment, v6};
    use super::*;

    const UDP: [u8; 12] = [0, 53, 0, 99, 0, 12, 0, 0, 1, 2, 3, 4];
    const TCP: [u8; 20] = [0, 80, 1, 187, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0, 1, 0, 0, 0, 0];

    #[test]
    fn packets_are_described_in_the_words_of_scapy() {
        let unreachable = |quoted: &[u8]| v4(1, &[], &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat());
        let quoted = v4(17, &[], &UDP);
        let table = [
            (v4(1, &[], &echo(8, b"x")), "IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw"),
            (v4(17, &[], &UDP), "IP / UDP 10.1.3.1:53 > 10.1.3.4:99 / Raw"),
            (v4(6, &[1, 1, 1, 0], &TCP), "IP / TCP 10.1.3.1:80 > 10.1.3.4:443 SA"),
            (v4(2, &[], b"x"), "10.1.3.1 > 10.1.3.4 igmp / Raw"),
            (v4(253, &[], b""), "10.1.3.1 > 10.1.3.4 253"),
            (v4_fragment(1, &[], 185, b"x"), "10.1.3.1 > 10.1.3.4 icmp frag:185 / Raw"),
            (
                unreachable(&quoted),
                "IP / ICMP 10.1.3.1 > 10.1.3.4 dest-unreach port-unreachable / IPerror / UDPerror / Raw",
            ),
            (unreachable(&quoted[..27]), "IP / ICMP 10.1.3.1 > 10.1.3.4 dest-unreach port-unreachable / IPerror / Raw"),
            (v4(4, &[], &quoted), "IP / IP / UDP 10.1.3.1:53 > 10.1.3.4:99 / Raw"),
            ([&quoted[..], &[0; 4]].concat(), "IP / UDP 10.1.3.1:53 > 10.1.3.4:99 / Raw / Padding"),
            (v6(58, &echo(128, b"x")), "IPv6 / ICMPv6 Echo Request (id: 0xbeef seq: 0x7)"),
            (v6(17, &UDP), "IPv6 / UDP fd00::1:53 > fd00::4:99 / Raw"),
            (v6(0, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &UDP].concat()), "IPv6 / IPv6ExtHdrHopByHop / UDP 53 > 99 / Raw"),
            (v6(58, &[133, 0, 0, 0, 0, 0, 0, 0]), "fd00::1 > fd00::4 (58) / ICMPv6ND_RS"),
            (b"hello".to_vec(), "truncated: IPv6 header of 40 bytes, got 5 bytes"),
        ];
        for (packet, said) in table {
            assert_eq!(describe(&packet), said);
        }
    }

    #[test]
    fn packets_in_packets_in_packets_come_to_an_end() {
        let mut packet = data(8);
        while packet.len() < 65_000 {
            packet = v4(4, &[], &packet);
        }
        assert!(describe(&packet).starts_with("IP / IP / IP / "));
    }
}
