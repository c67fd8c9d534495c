use super::*;
use crate::watch::headers::samples::{arp, datagram, echo, ethernet, tcp, v4};
use proptest::collection::vec;
use proptest::prelude::*;

fn titles(layers: &[Layer]) -> Vec<(Part, &str)> {
    layers.iter().map(|layer| (layer.part, layer.title.as_str())).collect()
}

/// A layer's field by its name.
fn field<'l>(layer: &'l Layer, name: &str) -> &'l Field {
    layer.fields.iter().find(|field| field.name == name).unwrap()
}

#[test]
fn a_packet_in_a_datagram_is_opened_to_its_last_byte() {
    let frame = ethernet(0x0800, &datagram(&echo(8, 3, 64)));
    let layers = open(&frame, LinkType::Ethernet, frame.len(), 9090);
    let expected = [
        (Part::Wire, "Ethernet"),
        (Part::Outer, "IPv4 10.1.2.2 > 10.1.2.3"),
        (Part::Outer, "UDP 44321 > 9090"),
        (Part::Inner, "IPv4 10.1.3.1 > 10.1.1.2"),
        (Part::Inner, "ICMP echo request"),
        (Part::Inner, "data, 56 bytes"),
    ];
    assert_eq!(titles(&layers), expected);
    assert!(layers.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
    assert_eq!(layers[5].range.end, frame.len());
    let ttl = field(&layers[3], "TTL");
    assert_eq!((ttl.value.as_str(), &frame[ttl.range.clone()]), ("64", &[64][..]));
    assert_eq!(field(&layers[3], "checksum").value, format!("{:#06x}, right", number16(&frame, 52).unwrap()));
    assert_eq!(field(&layers[4], "sequence number").value, "3");
}

#[test]
fn other_packets_are_opened_too() {
    let opened = |frame: &[u8], kind| {
        let layers = open(frame, kind, frame.len(), 9090);
        layers.into_iter().map(|layer| layer.title).collect::<Vec<_>>().join("; ")
    };
    let quoting =
        v4([10, 1, 2, 3], [10, 1, 2, 2], 1, 1, 64, &[&[3, 3, 0, 0, 0, 0, 0, 0], &datagram(b"hi")[..]].concat());
    let mut six = vec![0x60, 0, 0, 0, 0, 16, 0, 1];
    six.extend([0; 32]);
    six.extend([ICMPV6, 0, 5, 2, 0, 0, 0, 0, 143, 0, 0, 0, 0, 0, 0, 0]);
    let table = [
        (opened(&arp(), LinkType::Ethernet), "Ethernet; ARP request"),
        (opened(&tcp(2, 1, b""), LinkType::Raw), "IPv4 10.1.3.1 > 10.1.1.2; TCP 40000 > 80"),
        (
            opened(&quoting, LinkType::Raw),
            "IPv4 10.1.2.3 > 10.1.2.2; ICMP port unreachable; IPv4 10.1.2.2 > 10.1.2.3; UDP 44321 > 9090; data, 2 bytes",
        ),
        (opened(&six, LinkType::Raw), "IPv6 :: > ::; IPv6 hop-by-hop header; ICMPv6 multicast report"),
        (opened(b"text", LinkType::Raw), "data, 4 bytes"),
        (
            opened(&[&echo(8, 1, 1)[..], &[0; 6]].concat(), LinkType::Raw),
            "IPv4 10.1.3.1 > 10.1.1.2; ICMP echo request; data, 56 bytes; behind the packet, 6 bytes",
        ),
        (opened(b"", LinkType::Ethernet), ""),
    ];
    for (is, expected) in table {
        assert_eq!(is, expected);
    }
}

#[test]
fn packets_in_packets_in_packets_come_to_an_end() {
    let mut packet = echo(8, 1, 64);
    while packet.len() < 60_000 {
        packet = v4([1; 4], [2; 4], IPV4, 1, 64, &packet);
    }
    packet.extend(b"padding");
    let layers = open(&packet, LinkType::Raw, packet.len(), 9090);
    let rest = packet.len() - MOST * V4_HEADER - b"padding".len();
    assert_eq!(layers.len(), MOST + 2);
    assert_eq!(layers[MOST].title, format!("not opened any further, {rest} bytes"));
    assert_eq!(layers[MOST + 1].title, "behind the packet, 7 bytes");
    assert!(layers.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
}

proptest! {
    #[test]
    fn whatever_the_bytes_every_range_is_inside_and_every_text_can_be_shown(
        start in prop::sample::select(vec![
            Vec::new(), arp(), tcp(0x12, 7, b"data"), ethernet(0x0800, &datagram(&echo(8, 3, 64))),
            ethernet(0x0800, &v4([1; 4], [2; 4], ICMP, 1, 64, &[&[3, 3, 0, 0, 0, 0, 0, 0], &datagram(&echo(8, 1, 1))[..]].concat())),
        ]),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        tail in vec(any::<u8>(), 0..80),
        cut in any::<prop::sample::Index>(),
        is_raw: bool,
    ) {
        let mut frame = [start, tail].concat();
        for (place, byte) in changes {
            if !frame.is_empty() {
                let place = place.index(frame.len());
                frame[place] = byte;
            }
        }
        frame.truncate(cut.index(frame.len() + 1));
        let kind = if is_raw { LinkType::Raw } else { LinkType::Ethernet };
        let mut end = 0;
        for layer in open(&frame, kind, frame.len() + 7, 9090) {
            prop_assert_eq!(layer.range.start, end);
            prop_assert!(layer.range.end <= frame.len() && !layer.range.is_empty());
            end = layer.range.end;
            let texts = layer.fields.iter().map(|field| field.value.as_str()).chain([layer.title.as_str()]);
            prop_assert!(texts.into_iter().all(|text| !text.contains(char::is_control)));
            for field in &layer.fields {
                prop_assert!(layer.range.start <= field.range.start && field.range.end <= layer.range.end);
            }
        }
    }
}
