//! The headers of a captured packet, as far as it takes to tell packets apart and to say in a line what they are. Pure.
//!
//! A packet may be cut off, by whoever quotes it or by the capture; what is there is read, and nothing more. Nothing of
//! what a packet holds comes into a text but numbers and addresses: whatever is captured can be shown on a terminal. It is
//! written anew, without the steps' `packet`, so that `watch` does not make a mistake of theirs look right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The Internet's numbers of protocols (iana.org/assignments/protocol-numbers).
pub const ICMP: u8 = 1;
/// IPv4 in IP.
pub const IPV4: u8 = 4;
/// See RFC 9293.
pub const TCP: u8 = 6;
/// See RFC 768.
pub const UDP: u8 = 17;
/// IPv6 in IP.
pub const IPV6: u8 = 41;
/// See RFC 4443.
pub const ICMPV6: u8 = 58;
/// The extension headers of IPv6 that have a length of their own in units of eight bytes (RFC 8200): hop-by-hop options,
/// routing, destination options.
pub const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// The fragment header of IPv6.
pub const FRAGMENT: u8 = 44;

/// An IP header without options, and IPv6's.
pub const V4_HEADER: usize = 20;
/// See [`V4_HEADER`].
pub const V6_HEADER: usize = 40;
/// A datagram's header.
pub const UDP_HEADER: usize = 8;
/// An Ethernet header.
pub const ETHERNET: usize = 14;

/// Two bytes as a number; `None` where they are not there.
pub fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes as a number.
pub fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The IPv4 address here.
pub fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// The IPv6 address here.
pub fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?))
}

/// An IP packet whose headers are there and whose header's length can be.
#[derive(Debug, Clone, Copy)]
pub struct Ip<'p> {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What is in it, behind IPv6's extension headers.
    pub protocol: u8,
    /// What tells it from others of its sender: IPv4's identification, IPv6's flow label.
    pub identification: u32,
    /// Where its payload begins in the whole packet's, in bytes; not 0 in all fragments but the first.
    pub offset: usize,
    /// Whether another fragment follows.
    pub more: bool,
    /// Its length by its own header, and that of its headers.
    pub length: usize,
    /// See [`Ip::length`].
    pub header: usize,
    /// What is there behind its headers, as far as it was captured.
    pub payload: &'p [u8],
}

impl<'p> Ip<'p> {
    /// Reads the headers of either version.
    pub fn parse(bytes: &'p [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &'p [u8]) -> Option<Self> {
        let header = usize::from(bytes[0] & 15) * 4;
        let length = usize::from(number16(bytes, 2)?);
        if header < V4_HEADER || length < header {
            return None;
        }
        let fragment = number16(bytes, 6)?;
        Some(Self {
            source: v4(bytes, 12)?.into(),
            destination: v4(bytes, 16)?.into(),
            ttl: bytes[8],
            protocol: bytes[9],
            identification: number16(bytes, 4)?.into(),
            offset: usize::from(fragment & 0x1fff) * 8,
            more: fragment & 0x2000 != 0,
            length,
            header,
            payload: bytes.get(header..length.min(bytes.len()))?,
        })
    }

    fn v6(bytes: &'p [u8]) -> Option<Self> {
        let length = usize::from(number16(bytes, 4)?) + V6_HEADER;
        let mut ip = Self {
            source: v6(bytes, 8)?.into(),
            destination: v6(bytes, 24)?.into(),
            ttl: bytes[7],
            protocol: bytes[6],
            identification: number32(bytes, 0)? & 0x000f_ffff,
            offset: 0,
            more: false,
            length,
            header: V6_HEADER,
            payload: bytes.get(V6_HEADER..length.min(bytes.len()))?,
        };
        while let Some((next, behind)) = ip.extension() {
            ip.header += ip.payload.len() - behind.len();
            (ip.protocol, ip.payload) = (next, behind);
        }
        Some(ip)
    }

    /// The next header's number and what follows this extension header; `None` where it is none, or is not all there.
    fn extension(&mut self) -> Option<(u8, &'p [u8])> {
        let next = *self.payload.first()?;
        if EXTENSIONS.contains(&self.protocol) {
            let length = (usize::from(*self.payload.get(1)?) + 1) * 8;
            return Some((next, self.payload.get(length..)?));
        }
        if self.protocol == FRAGMENT && self.offset == 0 {
            let place = number16(self.payload, 2)?;
            (self.offset, self.more) = (usize::from(place & !7), place & 1 != 0);
            self.identification = number32(self.payload, 4)?;
            return Some((next, self.payload.get(8..)?));
        }
        None
    }

    /// Whether it is one of several fragments.
    pub fn is_fragment(&self) -> bool {
        self.more || self.offset > 0
    }

    /// The ports of TCP and UDP, where they are there.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has = [TCP, UDP].contains(&self.protocol) && self.offset == 0;
        has.then(|| Some((number16(self.payload, 0)?, number16(self.payload, 2)?)))?
    }
}

/// The IP packet that the payload of a UDP datagram is, in a tunnel of the handout's kind: all of the payload, or, where the
/// kernel carries several datagrams of one size as one, the first of several. The datagram begins with its header, and may be
/// cut off; `length` is its length on the wire, which counts where the header says 0, since the kernel carries more than that
/// could say. On the tunnel's `port` less is asked for.
pub fn inside(datagram: &[u8], length: usize, port: u16) -> Option<Ip<'_>> {
    let length = match number16(datagram, 4)? {
        0 => length,
        stated => stated.into(),
    };
    let payload = datagram.get(UDP_HEADER..)?;
    let ip = Ip::parse(payload)?;
    let is_sound = match ip.source {
        IpAddr::V4(_) => header_sum(payload) == Some(0),
        IpAddr::V6(_) => true,
    };
    let on_port = [number16(datagram, 0)?, number16(datagram, 2)?].contains(&port);
    let length = length.saturating_sub(UDP_HEADER);
    let fits = ip.length == length || on_port && ip.length < length;
    (fits && (is_sound || on_port)).then_some(ip)
}

/// The one's complement sum over an IPv4 header, 0 where its checksum is right (RFC 1071); `None` where it is not all there.
pub fn header_sum(bytes: &[u8]) -> Option<u16> {
    let header = bytes.get(..usize::from(bytes.first()? & 15) * 4)?;
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    Some(!((sum & 0xffff) + (sum >> 16)) as u16)
}

/// What an ICMP message says, in words.
pub fn icmp_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (0, _) => "echo reply",
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 13) => "prohibited by a filter",
        (3, _) => "unreachable",
        (5, _) => "redirect",
        (8, _) => "echo request",
        (9, _) => "router advertisement",
        (10, _) => "router solicitation",
        (11, 0) => "TTL exceeded",
        (11, _) => "fragments missing",
        (12, _) => "parameter problem",
        (13, _) => "timestamp request",
        (14, _) => "timestamp reply",
        _ => "ICMP message",
    }
}

/// What an ICMPv6 message says, in words.
pub fn icmpv6_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (1, 0) => "no route",
        (1, 1) => "prohibited by a filter",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, _) => "unreachable",
        (2, _) => "packet too big",
        (3, _) => "hop limit exceeded",
        (4, _) => "parameter problem",
        (128, _) => "echo request",
        (129, _) => "echo reply",
        (130, _) => "multicast query",
        (131 | 143, _) => "multicast report",
        (132, _) => "multicast done",
        (133, _) => "router solicitation",
        (134, _) => "router advertisement",
        (135, _) => "neighbour solicitation",
        (136, _) => "neighbour advertisement",
        (137, _) => "redirect",
        _ => "ICMPv6 message",
    }
}

/// Whether an ICMP message of this type quotes the packet that it is about.
pub fn quotes(protocol: u8, kind: u8) -> bool {
    match protocol {
        ICMP => [3, 4, 5, 11, 12].contains(&kind),
        _ => (1..=4).contains(&kind),
    }
}

/// The flags of TCP as people say them.
pub fn tcp_flags(flags: u8) -> String {
    const NAMES: [(u8, &str); 6] =
        [(0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"), (0x20, "URG")];
    let set: Vec<_> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "no flags".into() } else { set.join(" ") }
}

/// The name of a protocol, or its number.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        0 => "hop-by-hop".into(),
        ICMP => "ICMP".into(),
        2 => "IGMP".into(),
        IPV4 => "IPv4".into(),
        TCP => "TCP".into(),
        UDP => "UDP".into(),
        IPV6 => "IPv6".into(),
        43 => "routing".into(),
        FRAGMENT => "fragment".into(),
        47 => "GRE".into(),
        50 => "ESP".into(),
        ICMPV6 => "ICMPv6".into(),
        60 => "options".into(),
        132 => "SCTP".into(),
        other => format!("protocol {other}"),
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Packets as the handout's network has them.

    use super::header_sum;

    /// An IPv4 packet with this identification and TTL, its checksum right.
    pub fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, id: u16, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let length = (20 + payload.len()) as u16;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, protocol, 0, 0];
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet.extend(source);
        packet.extend(destination);
        let sum = header_sum(&packet).unwrap();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// An echo request or reply through the tunnel, 84 bytes.
    pub fn echo(kind: u8, number: u16, ttl: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0xab, 0xcd, 0, 7];
        message.extend(number.to_be_bytes());
        message.extend(0..56);
        let (near, far) = ([10, 1, 3, 1], [10, 1, 1, 2]);
        let (source, destination) = if kind == 8 { (near, far) } else { (far, near) };
        v4(source, destination, 1, 0x1200 + number, ttl, &message)
    }

    /// A datagram of the tunnel, from the client to the server.
    pub fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut udp = vec![0xad, 0x21, 0x23, 0x82];
        udp.extend(((8 + payload.len()) as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        v4([10, 1, 2, 2], [10, 1, 2, 3], 17, 0x77, 64, &udp)
    }

    /// A frame with this packet in it.
    pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2];
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A segment of TCP with these flags.
    pub fn tcp(flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x9c, 0x40, 0, 80];
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        v4([10, 1, 3, 1], [10, 1, 1, 2], 6, 5, 64, &segment)
    }

    /// Who has 10.1.2.3? 10.1.2.2 asks.
    pub fn arp() -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 2, 8, 6]);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 1, 2, 2, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3]);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_far_as_it_is_there() {
        let packet = samples::echo(8, 3, 64);
        let ip = Ip::parse(&packet).unwrap();
        assert_eq!((ip.source, ip.destination), ([10, 1, 3, 1].into(), [10, 1, 1, 2].into()));
        assert_eq!((ip.ttl, ip.protocol, ip.length, ip.payload.len()), (64, ICMP, 84, 64));
        assert_eq!(Ip::parse(&packet[..30]).unwrap().payload.len(), 10);
        for short in 0..20 {
            assert!(Ip::parse(&packet[..short]).is_none());
        }
    }

    #[test]
    fn extension_headers_are_stepped_over_and_end_where_the_bytes_do() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 1];
        packet.extend([0; 32]);
        packet.extend([FRAGMENT, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([ICMPV6, 0, 0, 0x11, 0, 0, 0, 9]);
        packet.extend([143, 0, 0, 0, 0, 0, 0, 0]);
        let ip = Ip::parse(&packet).unwrap();
        assert_eq!((ip.protocol, ip.offset, ip.more, ip.identification), (ICMPV6, 16, true, 9));
        assert_eq!(Ip::parse(&packet[..52]).unwrap().protocol, FRAGMENT);
    }

    #[test]
    fn a_packet_inside_of_a_datagram_is_one_and_other_payloads_are_not() {
        // Whether it is one on the tunnel's port, and on another.
        let is_inside = |payload: &[u8], stated: Option<u16>| {
            let mut datagram = samples::datagram(payload)[V4_HEADER..].to_vec();
            if let Some(stated) = stated {
                datagram[4..6].copy_from_slice(&stated.to_be_bytes());
            }
            [9090, 5000].map(|port| inside(&datagram, datagram.len(), port).is_some())
        };
        let packet = samples::echo(8, 3, 64);
        assert_eq!(is_inside(&packet, None), [true, true]);
        assert_eq!(is_inside(&packet, Some(0)), [true, true], "as long as it is on the wire");
        assert_eq!(is_inside(&packet, Some(91)), [false, false], "a byte too short");
        assert_eq!(is_inside(&packet.repeat(3), None), [true, false]);
        let mut wrong = packet.clone();
        wrong[11] ^= 1;
        assert_eq!(is_inside(&wrong, None), [true, false]);
        assert_eq!(is_inside(b"hello", None), [false, false]);
        assert!(inside(&[0; 7], 7, 0).is_none());
    }
}
