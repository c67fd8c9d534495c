//! Frames, as scapy's `layers/l2.py` shows them: Ethernet, the tag of a VLAN, ARP.

use super::{Below, Kind, Layer};
use crate::packet::arp::Arp;
use crate::packet::ethernet::{Frame, LARGEST_LENGTH, ethertype};
use crate::packet::validate;

/// `Ether`, or `Dot3` where the payload's length stands in the place of its type.
pub(super) fn ethernet(bytes: &[u8]) -> Layer<'_> {
    let frame = match Frame::parse(bytes) {
        Ok(frame) => frame,
        Err(not_frame) => return instead(not_frame.to_string()),
    };
    let Frame { source, destination, ethertype, payload } = frame;
    if ethertype <= LARGEST_LENGTH {
        let said = format!("802.3 {source} > {destination}");
        return Layer::new("Dot3", payload, Kind::Raw).padded_from(ethertype.into()).saying(said);
    }
    let said = format!("{source} > {destination} ({ethertype:#x})");
    let mut layer = Layer::new("Ether", payload, of_type(ethertype, payload)).saying(said);
    layer.ends = Some(Below { source: source.to_string(), destination: destination.to_string() });
    layer
}

/// `Dot1Q`: priority and VLAN, and the payload's type (IEEE 802.1Q).
pub(super) fn tag<'p>(bytes: &'p [u8], below: Option<&Below>) -> Layer<'p> {
    let Some(([high, low, kind @ ..], payload)) = bytes.split_first_chunk::<4>() else {
        return Layer::new("Raw", &[], Kind::Raw);
    };
    let (vlan, kind) = (u16::from_be_bytes([high & 0x0f, *low]), u16::from_be_bytes(*kind));
    let between = below.map(|ends| format!("{} > {} ", ends.source, ends.destination)).unwrap_or_default();
    let layer = Layer::new("Dot1Q", payload, of_type(kind, payload));
    layer.saying(format!("802.1q {between}({kind:#x}) vlan {vlan}"))
}

/// `ARP`, for IPv4 over Ethernet.
pub(super) fn arp(bytes: &[u8]) -> Layer<'_> {
    match Arp::parse(bytes) {
        Ok(arp) => {
            let layer = Layer::new("ARP", &[], Kind::Raw).saying(arp.to_string());
            Layer { padded: bytes.len() > Arp::LENGTH, ..layer }
        }
        Err(not_arp) => instead(not_arp.to_string()),
    }
}

/// What says that it is an IP packet, and is none, or one of the other version.
pub(super) fn not_ip(bytes: &[u8]) -> Layer<'_> {
    instead(validate(bytes).map_or_else(|why| why.to_string(), |_| "an IP packet of another version".into()))
}

/// What is shown in the place of a layer that is not what it should be.
fn instead<'p>(said: String) -> Layer<'p> {
    Layer::new("Raw", &[], Kind::Raw).saying(said)
}

/// The dissector of a payload of this type.
fn of_type(kind: u16, payload: &[u8]) -> Kind {
    let is_v4 = || validate(payload).ok().map(|ends| ends.source.is_ipv4());
    match kind {
        ethertype::VLAN => Kind::Tag,
        ethertype::ARP => Kind::Arp,
        ethertype::IPV4 if is_v4() == Some(true) => Kind::Ip,
        ethertype::IPV6 if is_v4() == Some(false) => Kind::Ipv6,
        ethertype::IPV4 | ethertype::IPV6 => Kind::NotIp,
        _ => Kind::Raw,
    }
}

#[cfg(test)]
mod tests {
    use super::super::describe_frame;
    use crate::packet::samples::{arp_request, echo, v4, v6};

    /// A frame of this type.
    fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&arp_request()[..12], &kind.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_described_in_the_words_of_scapy() {
        let arp = &arp_request()[14..];
        let reply = [&arp[..6], &[0, 2], &arp[8..]].concat();
        let ping = v4(1, &[], &echo(8, b"x"));
        let ends = "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff";
        let table = [
            (arp_request(), "Ether / ARP who has 10.1.3.4 says 10.1.3.1".to_string()),
            (frame(0x806, &[arp, &[0; 18]].concat()), "Ether / ARP who has 10.1.3.4 says 10.1.3.1 / Padding".into()),
            (frame(0x806, &reply), "Ether / ARP is at 02:00:00:00:00:01 says 10.1.3.1".into()),
            (frame(0x806, &arp[..27]), "Ether / truncated: ARP message of 28 bytes, got 27 bytes".into()),
            (frame(0x806, &[]), format!("{ends} (0x806)")),
            (frame(0x800, &ping), "Ether / IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw".into()),
            (frame(0x800, &ping[..28]), "Ether / truncated: IPv4 total length 29, got 28 bytes".into()),
            (frame(0x86dd, &ping), "Ether / an IP packet of another version".into()),
            (
                frame(0x86dd, &v6(58, &[133, 0, 0, 0, 0, 0, 0, 0])),
                "Ether / fd00::1 > fd00::4 (58) / ICMPv6ND_RS".into(),
            ),
            (
                frame(0x8100, &[&[0xf0, 5, 8, 6], arp].concat()),
                "Ether / Dot1Q / ARP who has 10.1.3.4 says 10.1.3.1".into(),
            ),
            (frame(0x8100, &[0xff, 5, 0x88, 0xb5, 0]), format!("Ether / 802.1q {ends} (0x88b5) vlan 3845 / Raw")),
            (
                frame(0x8100, &[0, 5, 0x81, 0, 0, 6, 0x88, 0xb5, 0]),
                "Ether / Dot1Q / 802.1q (0x88b5) vlan 6 / Raw".into(),
            ),
            (frame(0x8100, &[0, 5]), format!("{ends} (0x8100) / Raw")),
            (frame(0x88b5, b"?"), format!("{ends} (0x88b5) / Raw")),
            (frame(3, b"abcde"), format!("802.3 {ends} / Raw / Padding")),
            (arp_request()[..9].to_vec(), "truncated: Ethernet header of 14 bytes, got 9 bytes".into()),
            (vec![], "truncated: Ethernet header of 14 bytes, got 0 bytes".into()),
        ];
        for (frame, said) in table {
            assert_eq!(describe_frame(&frame), said);
        }
    }
}
