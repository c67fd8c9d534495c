//! What a frame is, in a line: the packet, and the datagram around it where it is in the tunnel; and what tells the packet
//! from all others, so that it is known again at the next interface. Pure.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::SocketAddr;

use serde::Serialize;

use super::headers::{
    self, ICMP, ICMPV6, Ip, TCP, UDP, UDP_HEADER, icmp_name, icmpv6_name, number16, number32, protocol_name, tcp_flags,
};

/// How much of a payload tells packets apart.
const TELLING: usize = 32;

/// What packets can be picked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ICMP, and what of ICMPv6 is like it: echoes and errors.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP, but for the tunnel's own datagrams.
    Udp,
    /// Who has this address? ARP, and IPv6's neighbour discovery and multicast reports.
    Arp,
    /// Anything else.
    Other,
}

/// The datagram around a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outer {
    /// Its sender.
    pub from: SocketAddr,
    /// Its receiver.
    pub to: SocketAddr,
    /// The outer TTL.
    pub ttl: u8,
}

/// What was seen in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// What tells the packet from others.
    pub key: u64,
    /// What it is; of the inner packet, where it is in a datagram.
    pub protocol: Protocol,
    /// What is around it.
    pub outer: Option<Outer>,
    /// Its TTL.
    pub ttl: Option<u8>,
    /// Who to whom, with ports; empty where it has no addresses.
    pub ends: String,
    /// What it says: "echo request".
    pub says: String,
    /// What of it changes from one packet to the next: "seq 3".
    pub detail: String,
    /// Whether it is an error message about another packet.
    pub is_error: bool,
}

/// Looks at frames; its keys are its own, so that nobody can make two packets look like one.
#[derive(Debug, Default)]
pub struct Eye {
    keys: RandomState,
    port: u16,
}

impl Eye {
    /// One that knows the tunnel's port.
    pub fn new(port: u16) -> Self {
        Self { keys: RandomState::new(), port }
    }

    /// What a frame is: `packet` is the IP packet in it, if there is one, `length` the frame's length on the wire.
    pub fn see(&self, frame: &[u8], packet: Option<&[u8]>, length: usize) -> Sight {
        let Some(packet) = packet else { return self.no_packet(frame) };
        let Some(ip) = Ip::parse(packet) else {
            return self.bare(frame, Protocol::Other, "a broken IP header".into());
        };
        let before = frame.len().saturating_sub(packet.len()) + ip.header;
        if ip.protocol == UDP
            && !ip.is_fragment()
            && let Some((from, to)) = ip.ports()
            && let Some(inner) = headers::inside(ip.payload, length.saturating_sub(before), self.port)
        {
            let (from, to) = (SocketAddr::new(ip.source, from), SocketAddr::new(ip.destination, to));
            return Sight { outer: Some(Outer { from, to, ttl: ip.ttl }), ..self.packet(&inner) };
        }
        self.packet(&ip)
    }

    fn packet(&self, ip: &Ip<'_>) -> Sight {
        let (protocol, says, detail, is_error) = words(ip);
        let ends = match ip.ports() {
            Some((from, to)) => {
                format!("{} > {}", SocketAddr::new(ip.source, from), SocketAddr::new(ip.destination, to))
            }
            None => format!("{} > {}", ip.source, ip.destination),
        };
        Sight { key: self.key(ip), protocol, outer: None, ttl: Some(ip.ttl), ends, says, detail, is_error }
    }

    /// What stays as it is on a packet's way: not the TTL, nor what is computed from it; not what the kernel changes when it
    /// carries several segments as one, like lengths and flags; not the checksum, which may not be there yet.
    fn key(&self, ip: &Ip<'_>) -> u64 {
        let mut key = self.keys.build_hasher();
        (ip.source, ip.destination, ip.protocol, ip.identification, ip.offset).hash(&mut key);
        let part = |range: std::ops::Range<usize>| {
            ip.payload.get(range.start.min(ip.payload.len())..range.end.min(ip.payload.len())).unwrap_or_default()
        };
        match ip.protocol {
            _ if ip.offset > 0 => part(0..TELLING).hash(&mut key),
            TCP => part(0..12).hash(&mut key),
            UDP => (part(0..4), part(UDP_HEADER..UDP_HEADER + TELLING)).hash(&mut key),
            ICMP | ICMPV6 => (part(0..2), part(4..8 + TELLING)).hash(&mut key),
            _ => part(0..TELLING).hash(&mut key),
        }
        key.finish()
    }

    /// A frame that holds no IP packet.
    fn no_packet(&self, frame: &[u8]) -> Sight {
        const ARP: u16 = 0x0806;
        let arp = (number16(frame, 12) == Some(ARP)).then(|| arp(frame)).flatten();
        let (protocol, says) = match (arp, number16(frame, 12)) {
            (Some(says), _) => (Protocol::Arp, says),
            (None, Some(kind)) => (Protocol::Other, format!("no IP packet, type {kind:#06x}")),
            (None, None) => (Protocol::Other, "no packet".into()),
        };
        self.bare(frame, protocol, says)
    }

    /// A frame of which nothing more can be said.
    fn bare(&self, frame: &[u8], protocol: Protocol, says: String) -> Sight {
        let key = self.keys.hash_one(&frame[..frame.len().min(2 * TELLING)]);
        let (ends, detail) = (String::new(), String::new());
        Sight { key, protocol, outer: None, ttl: None, ends, says, detail, is_error: false }
    }
}

/// What an ARP frame says (RFC 826).
fn arp(frame: &[u8]) -> Option<String> {
    let body = frame.get(headers::ETHERNET..)?;
    let (sender, target) = (headers::v4(body, 14)?, headers::v4(body, 24)?);
    match number16(body, 6)? {
        1 => Some(format!("who has {target}? {sender} asks")),
        2 => Some(format!("{sender} is at {}", hardware(body.get(8..14)?))),
        other => Some(format!("ARP operation {other}")),
    }
}

/// An Ethernet address.
pub fn hardware(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// What an IP packet is, says, and says in detail; and whether that is an error.
fn words(ip: &Ip<'_>) -> (Protocol, String, String, bool) {
    let protocol = match ip.protocol {
        ICMPV6 if ip.payload.first().is_some_and(|kind| *kind >= 130) => Protocol::Arp,
        ICMP | ICMPV6 => Protocol::Icmp,
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => Protocol::Other,
    };
    if ip.offset > 0 {
        let says = format!("{} fragment", protocol_name(ip.protocol));
        return (protocol, says, format!("at {}", ip.offset), false);
    }
    let payload = ip.payload;
    let known = match ip.protocol {
        ICMP | ICMPV6 => payload.first().zip(payload.get(1)).map(|(kind, code)| {
            let name = if ip.protocol == ICMP { icmp_name(*kind, *code) } else { icmpv6_name(*kind, *code) };
            let is_echo = if ip.protocol == ICMP { [0, 8].contains(kind) } else { [128, 129].contains(kind) };
            let number = number16(payload, 6).filter(|_| is_echo).map(|number| format!("seq {number}"));
            (name.to_string(), number.unwrap_or_default(), headers::quotes(ip.protocol, *kind))
        }),
        TCP => payload.get(12).zip(payload.get(13)).map(|(offset, flags)| {
            let data = ip.length.saturating_sub(ip.header + usize::from(offset >> 4) * 4);
            let data = if data > 0 { format!(" {data} B") } else { String::new() };
            let number = number32(payload, 4).map_or(String::new(), |number| format!("seq {number}"));
            (format!("TCP {}{data}", tcp_flags(*flags)), number, flags & 4 != 0)
        }),
        UDP => number16(payload, 4)
            .map(|length| (format!("UDP {} B", usize::from(length).saturating_sub(UDP_HEADER)), String::new(), false)),
        _ => None,
    };
    let (mut says, detail, is_error) = known.unwrap_or_else(|| (protocol_name(ip.protocol), String::new(), false));
    if ip.more {
        says += ", in fragments";
    }
    (protocol, says, detail, is_error)
}

#[cfg(test)]
mod tests {
    use super::super::headers::samples::{arp as asks, datagram, echo, ethernet, tcp, v4};
    use super::*;

    fn look(eye: &Eye, packet: &[u8]) -> Sight {
        eye.see(packet, Some(packet), packet.len())
    }

    #[test]
    fn a_packet_is_known_again_in_a_datagram_and_after_a_router() {
        let eye = Eye::new(9090);
        let bare = look(&eye, &echo(8, 3, 64));
        assert_eq!(
            (bare.ends.as_str(), bare.says.as_str(), bare.detail.as_str()),
            ("10.1.3.1 > 10.1.1.2", "echo request", "seq 3")
        );
        let inside = look(&eye, &datagram(&echo(8, 3, 64)));
        assert_eq!(inside.key, bare.key);
        let outer = inside.outer.unwrap();
        assert_eq!((outer.from.to_string(), outer.to.to_string()), ("10.1.2.2:44321".into(), "10.1.2.3:9090".into()));
        let routed = look(&eye, &echo(8, 3, 63));
        assert_eq!((routed.key, routed.ttl), (bare.key, Some(63)));
        for other in [echo(8, 4, 64), echo(0, 3, 64)] {
            assert_ne!(look(&eye, &other).key, bare.key);
        }
    }

    #[test]
    fn a_tunnel_on_another_port_is_seen_on_a_wire_too() {
        let eye = Eye::new(5000);
        let key = look(&eye, &echo(8, 3, 64)).key;
        // A short frame is padded (RFC 894).
        for padding in [0, 9] {
            let frame = [ethernet(0x0800, &datagram(&echo(8, 3, 64))), vec![0; padding]].concat();
            let sight = eye.see(&frame, Some(&frame[14..]), frame.len());
            assert_eq!((sight.key, sight.says.as_str()), (key, "echo request"));
            assert!(sight.outer.is_some());
        }
    }

    #[test]
    fn a_segment_is_known_again_when_the_kernel_carries_several_as_one() {
        let eye = Eye::new(9090);
        let one = look(&eye, &tcp(0x10, 1000, &[7; 1000]));
        let many = look(&eye, &tcp(0x18, 1000, &[7; 30_000]));
        let next = look(&eye, &tcp(0x10, 2000, &[7; 1000]));
        assert_eq!(one.key, many.key);
        assert_ne!(one.key, next.key);
        assert_eq!((one.says.as_str(), many.says.as_str()), ("TCP ACK 1000 B", "TCP PSH ACK 30000 B"));
    }

    #[test]
    fn packets_are_named_in_words() {
        let eye = Eye::new(9090);
        let quoting =
            v4([10, 1, 2, 3], [10, 1, 2, 2], 1, 1, 64, &[&[3, 3, 0, 0, 0, 0, 0, 0], &datagram(b"x")[..]].concat());
        let table = [
            (look(&eye, &tcp(2, 1, b"")), Protocol::Tcp, "10.1.3.1:40000 > 10.1.1.2:80", "TCP SYN"),
            (look(&eye, &datagram(b"hello")), Protocol::Udp, "10.1.2.2:44321 > 10.1.2.3:9090", "UDP 5 B"),
            (look(&eye, &quoting), Protocol::Icmp, "10.1.2.3 > 10.1.2.2", "port unreachable"),
            (look(&eye, &v4([1; 4], [2; 4], 89, 1, 1, b"")), Protocol::Other, "1.1.1.1 > 2.2.2.2", "protocol 89"),
            (eye.see(&asks(), None, 42), Protocol::Arp, "", "who has 10.1.2.3? 10.1.2.2 asks"),
            (eye.see(&ethernet(0x88cc, b"lldp"), None, 18), Protocol::Other, "", "no IP packet, type 0x88cc"),
            (look(&eye, &[0x45; 12]), Protocol::Other, "", "a broken IP header"),
            (eye.see(b"", None, 0), Protocol::Other, "", "no packet"),
        ];
        for (sight, protocol, ends, says) in table {
            assert_eq!((sight.protocol, sight.ends.as_str(), sight.says.as_str()), (protocol, ends, says));
        }
        assert!(look(&eye, &quoting).is_error);
    }
}
