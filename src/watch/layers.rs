//! A captured frame, opened layer by layer: each field with its value and the bytes that it is. A packet inside of a packet is
//! opened as far as it goes. Pure; whatever the bytes are, every range is inside of them, and every text can be shown.

use std::fmt::Display;
use std::ops::Range;

use super::headers::{
    self, ETHERNET, EXTENSIONS, FRAGMENT, ICMP, ICMPV6, IPV4, IPV6, Ip, TCP, UDP, UDP_HEADER, V4_HEADER, V6_HEADER,
    header_sum, icmp_name, icmpv6_name, number16, number32, protocol_name, tcp_flags, v4, v6,
};
use super::sight::hardware;
use crate::pcapng::LinkType;

/// How many layers are opened. A packet in a packet in a packet could go on for long.
const MOST: usize = 24;

/// A field of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name in the field's own words.
    pub name: &'static str,
    /// What it says.
    pub value: String,
    /// The bytes of the frame that it is in.
    pub range: Range<usize>,
}

/// What a layer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The wire's own header.
    Wire,
    /// The packet itself, where it is in no datagram.
    Packet,
    /// The packet around another one: the tunnel's.
    Outer,
    /// The packet inside of a datagram.
    Inner,
    /// The beginning of a packet that an error is about.
    Quoted,
}

/// One layer of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is of.
    pub part: Part,
    /// What it is: "IPv4 10.1.2.2 > 10.1.2.3".
    pub title: String,
    /// Its bytes: a header's, without what it carries.
    pub range: Range<usize>,
    /// Its fields; none where it is plain data.
    pub fields: Vec<Field>,
}

/// What comes next, and where it ends.
enum Next {
    Ip(Part),
    Arp,
    Transport(u8),
    Extension(u8),
    Data(&'static str),
}

/// Opens a frame of this form, of which all bytes or the first ones are given; `length` is its length on the wire, `port` the
/// tunnel's.
pub fn open(frame: &[u8], kind: LinkType, length: usize, port: u16) -> Vec<Layer> {
    let end = frame.len();
    let mut opening =
        Opening { frame, at: 0, end, length: length.max(end), port, part: Part::Packet, layers: Vec::new() };
    let mut next = match kind {
        LinkType::Ethernet => opening.ethernet().unwrap_or(Next::Data("cut off")),
        LinkType::Raw => Next::Ip(Part::Packet),
    };
    while opening.at < opening.end && opening.layers.len() < MOST {
        let opened = match next {
            Next::Ip(part) => {
                opening.part = part;
                opening.ip()
            }
            Next::Arp => opening.arp(),
            Next::Transport(ICMP) => opening.icmp(),
            Next::Transport(ICMPV6) => opening.icmpv6(),
            Next::Transport(UDP) => opening.udp(),
            Next::Transport(TCP) => opening.tcp(),
            Next::Transport(_) => None,
            Next::Extension(protocol) => opening.extension(protocol),
            Next::Data(what) => {
                opening.data(what);
                break;
            }
        };
        next = opened.unwrap_or(Next::Data("data"));
    }
    if opening.at < opening.end {
        opening.data("not opened any further");
    }
    if opening.end < end {
        // What a wire needs to be long enough, or further datagrams that the kernel carries along.
        (opening.at, opening.end, opening.part) = (opening.end, end, Part::Wire);
        opening.data("behind the packet");
    }
    opening.with_outer()
}

/// A frame, and how far it has been opened.
struct Opening<'f> {
    frame: &'f [u8],
    /// Where the next layer begins, and where what it is in ends.
    at: usize,
    end: usize,
    length: usize,
    port: u16,
    part: Part,
    layers: Vec<Layer>,
}

impl<'f> Opening<'f> {
    /// What is left to be opened.
    fn rest(&self) -> &'f [u8] {
        self.frame.get(self.at..self.end).unwrap_or_default()
    }

    /// Adds a layer of so many bytes and steps over it; `None` where they are not there.
    fn header(&mut self, length: usize, title: impl Into<String>, fields: Fields) -> Option<()> {
        let range = self.at..self.at.checked_add(length).filter(|end| *end <= self.end)?;
        let inside = |field: &Field| field.range.end <= range.len();
        let place =
            |field: Field| Field { range: field.range.start + range.start..field.range.end + range.start, ..field };
        let fields = fields.0.into_iter().filter(inside).map(place).collect();
        self.at = range.end;
        self.layers.push(Layer { part: self.part, title: title.into(), range, fields });
        Some(())
    }

    fn data(&mut self, what: &str) {
        let length = self.rest().len();
        let _ = self.header(length, format!("{what}, {length} bytes"), Fields::default());
    }

    fn ethernet(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let kind = number16(bytes, 12)?;
        let (name, next) = match kind {
            0x0800 => ("IPv4", Next::Ip(Part::Packet)),
            0x86dd => ("IPv6", Next::Ip(Part::Packet)),
            0x0806 => ("ARP", Next::Arp),
            _ => ("unknown", Next::Data("data")),
        };
        let fields = Fields::default()
            .with("destination", 0..6, hardware(&bytes[..6]))
            .with("source", 6..12, hardware(&bytes[6..12]))
            .with("type", 12..14, format!("{kind:#06x} {name}"));
        self.part = Part::Wire;
        self.header(ETHERNET, "Ethernet", fields)?;
        Some(next)
    }

    fn arp(&mut self) -> Option<Next> {
        const LENGTH: usize = 28;
        let bytes = self.rest();
        let (operation, sender, target) = (number16(bytes, 6)?, v4(bytes, 14)?, v4(bytes, 24)?);
        let name = match operation {
            1 => "request",
            2 => "reply",
            _ => "operation",
        };
        let fields = Fields::default()
            .with("hardware", 0..2, number16(bytes, 0)?)
            .with("protocol", 2..4, format!("{:#06x}", number16(bytes, 2)?))
            .with("lengths", 4..6, format!("{}, {}", bytes[4], bytes[5]))
            .with("operation", 6..8, format!("{operation} {name}"))
            .with("sender", 8..14, hardware(bytes.get(8..14)?))
            .with("sender address", 14..18, sender)
            .with("target", 18..24, hardware(bytes.get(18..24)?))
            .with("target address", 24..28, target);
        self.header(LENGTH, format!("ARP {name}"), fields)?;
        Some(Next::Data("padding"))
    }

    fn ip(&mut self) -> Option<Next> {
        match self.rest().first()? >> 4 {
            4 => self.v4(),
            6 => self.v6(),
            _ => None,
        }
    }

    fn v4(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let header = usize::from(bytes[0] & 15) * 4;
        let length = number16(bytes, 2)?;
        let (source, destination) = (v4(bytes, 12)?, v4(bytes, 16)?);
        if header < V4_HEADER {
            return None;
        }
        let place = number16(bytes, 6)?;
        let flags = match (place & 0x4000 != 0, place & 0x2000 != 0) {
            (true, true) => "DF MF",
            (true, false) => "do not fragment",
            (false, true) => "more fragments",
            (false, false) => "none",
        };
        let checksum = number16(bytes, 10)?;
        let is_right = match header_sum(bytes) {
            Some(0) => ", right",
            Some(_) => ", wrong",
            None => "",
        };
        let fields = Fields::default()
            .with("version", 0..1, 4)
            .with("header length", 0..1, format!("{header} bytes"))
            .with("type of service", 1..2, format!("{:#04x}", bytes[1]))
            .with("total length", 2..4, format!("{length} bytes"))
            .with("identification", 4..6, format!("{:#06x}", number16(bytes, 4)?))
            .with("flags", 6..7, flags)
            .with("fragment offset", 6..8, usize::from(place & 0x1fff) * 8)
            .with("TTL", 8..9, bytes[8])
            .with("protocol", 9..10, format!("{} {}", bytes[9], protocol_name(bytes[9])))
            .with("checksum", 10..12, format!("{checksum:#06x}{is_right}"))
            .with("source", 12..16, source)
            .with("destination", 16..20, destination)
            .with("options", V4_HEADER..header, format!("{} bytes", header - V4_HEADER));
        let protocol = bytes[9];
        // A frame may be padded, and a quotation or a capture is cut off.
        let end = (self.at + usize::from(length).max(header)).min(self.end);
        self.header(header, format!("IPv4 {source} > {destination}"), fields)?;
        self.end = end;
        match place & 0x1fff {
            0 => Some(self.carried(protocol)),
            _ => Some(Next::Data("a later fragment")),
        }
    }

    fn v6(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let length = number16(bytes, 4)?;
        let word = number32(bytes, 0)?;
        let (source, destination) = (v6(bytes, 8)?, v6(bytes, 24)?);
        let fields = Fields::default()
            .with("version", 0..1, 6)
            .with("traffic class", 0..2, format!("{:#04x}", word >> 20 & 0xff))
            .with("flow label", 1..4, format!("{:#07x}", word & 0x000f_ffff))
            .with("payload length", 4..6, format!("{length} bytes"))
            .with("next header", 6..7, format!("{} {}", bytes[6], protocol_name(bytes[6])))
            .with("hop limit", 7..8, bytes[7])
            .with("source", 8..24, source)
            .with("destination", 24..40, destination);
        let (protocol, end) = (bytes[6], (self.at + V6_HEADER + usize::from(length)).min(self.end));
        self.header(V6_HEADER, format!("IPv6 {source} > {destination}"), fields)?;
        self.end = end;
        Some(self.carried(protocol))
    }

    /// What an IP packet carries, by its protocol.
    fn carried(&self, protocol: u8) -> Next {
        match protocol {
            ICMP | ICMPV6 | UDP | TCP => Next::Transport(protocol),
            IPV4 | IPV6 => Next::Ip(Part::Inner),
            FRAGMENT => Next::Extension(protocol),
            _ if EXTENSIONS.contains(&protocol) => Next::Extension(protocol),
            _ => Next::Data("data"),
        }
    }

    fn extension(&mut self, protocol: u8) -> Option<Next> {
        let bytes = self.rest();
        let next = *bytes.first()?;
        let fields = Fields::default().with("next header", 0..1, format!("{next} {}", protocol_name(next)));
        if protocol == FRAGMENT {
            let place = number16(bytes, 2)?;
            let fields = fields
                .with("offset", 2..4, place & !7)
                .with("more", 3..4, if place & 1 == 0 { "no" } else { "yes" })
                .with("identification", 4..8, format!("{:#010x}", number32(bytes, 4)?));
            self.header(8, "IPv6 fragment header", fields)?;
            return Some(if place & !7 == 0 { self.carried(next) } else { Next::Data("a later fragment") });
        }
        let length = (usize::from(*bytes.get(1)?) + 1) * 8;
        let fields = fields.with("length", 1..2, format!("{length} bytes")).with("content", 2..length, "");
        self.header(length, format!("IPv6 {} header", protocol_name(protocol)), fields)?;
        Some(self.carried(next))
    }

    fn icmp(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
        self.message(ICMP, "ICMP", kind, code, icmp_name(kind, code), [0, 8].contains(&kind))
    }

    fn icmpv6(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
        self.message(ICMPV6, "ICMPv6", kind, code, icmpv6_name(kind, code), [128, 129].contains(&kind))
    }

    fn message(
        &mut self,
        protocol: u8,
        title: &str,
        kind: u8,
        code: u8,
        name: &'static str,
        is_echo: bool,
    ) -> Option<Next> {
        const LENGTH: usize = 8;
        let bytes = self.rest();
        let fields = Fields::default().with("type", 0..1, format!("{kind} {name}")).with("code", 1..2, code).with(
            "checksum",
            2..4,
            format!("{:#06x}", number16(bytes, 2)?),
        );
        let quotes = headers::quotes(protocol, kind);
        let fields = match (is_echo, quotes) {
            (true, _) => fields.with("identifier", 4..6, format!("{:#06x}", number16(bytes, 4)?)).with(
                "sequence number",
                6..8,
                number16(bytes, 6)?,
            ),
            (false, true) if protocol == ICMP && (kind, code) == (3, 4) => {
                fields.with("next MTU", 6..8, number16(bytes, 6)?)
            }
            _ => fields.with("rest of header", 4..8, format!("{:#010x}", number32(bytes, 4)?)),
        };
        self.header(LENGTH, format!("{title} {name}"), fields)?;
        Some(if quotes { Next::Ip(Part::Quoted) } else { Next::Data("data") })
    }

    fn udp(&mut self) -> Option<Next> {
        let bytes = self.rest();
        let (from, to, length) = (number16(bytes, 0)?, number16(bytes, 2)?, number16(bytes, 4)?);
        let inner = headers::inside(bytes, self.length.saturating_sub(self.at), self.port);
        let fields = Fields::default()
            .with("source port", 0..2, from)
            .with("destination port", 2..4, to)
            .with("length", 4..6, format!("{length} bytes"))
            .with("checksum", 6..8, format!("{:#06x}", number16(bytes, 6)?));
        self.header(UDP_HEADER, format!("UDP {from} > {to}"), fields)?;
        Some(match inner {
            Some(_) if self.part != Part::Quoted => Next::Ip(Part::Inner),
            _ => Next::Data("data"),
        })
    }

    fn tcp(&mut self) -> Option<Next> {
        const LENGTH: usize = 20;
        let bytes = self.rest();
        let (from, to) = (number16(bytes, 0)?, number16(bytes, 2)?);
        // What an error quotes of it may be eight bytes.
        let Some(flags) = bytes.get(13).copied() else {
            let fields = Fields::default().with("source port", 0..2, from).with("destination port", 2..4, to);
            self.header(4, format!("TCP {from} > {to}"), fields)?;
            return Some(Next::Data("cut off"));
        };
        let header = usize::from(bytes[12] >> 4) * 4;
        let fields = Fields::default()
            .with("source port", 0..2, from)
            .with("destination port", 2..4, to)
            .with("sequence number", 4..8, number32(bytes, 4)?)
            .with("acknowledgment", 8..12, number32(bytes, 8)?)
            .with("header length", 12..13, format!("{header} bytes"))
            .with("flags", 13..14, tcp_flags(flags))
            .with("window", 14..16, number16(bytes, 14)?)
            .with("checksum", 16..18, format!("{:#06x}", number16(bytes, 16)?))
            .with("urgent pointer", 18..20, number16(bytes, 18)?)
            .with("options", LENGTH..header.max(LENGTH), format!("{} bytes", header.saturating_sub(LENGTH)));
        self.header(header.max(LENGTH), format!("TCP {from} > {to}"), fields)?;
        Some(Next::Data("data"))
    }

    /// The layers; a packet with another one inside is the outer one.
    fn with_outer(mut self) -> Vec<Layer> {
        if self.layers.iter().any(|layer| layer.part == Part::Inner) {
            let packet = self.layers.iter_mut().filter(|layer| layer.part == Part::Packet);
            packet.for_each(|layer| layer.part = Part::Outer);
        }
        self.layers
    }
}

/// The fields of a header, their places counted from its first byte. Empty ones are left out.
#[derive(Default)]
struct Fields(Vec<Field>);

impl Fields {
    fn with(mut self, name: &'static str, range: Range<usize>, value: impl Display) -> Self {
        if !range.is_empty() {
            self.0.push(Field { name, value: value.to_string(), range });
        }
        self
    }
}

/// The IP packet of a frame, by what its first bytes say: for whoever has bytes alone.
pub fn packet_of(frame: &[u8], kind: LinkType) -> Option<&[u8]> {
    let packet = match kind {
        LinkType::Raw => frame,
        LinkType::Ethernet => {
            let is_ip = [Some(0x0800), Some(0x86dd)].contains(&number16(frame, 12));
            frame.get(ETHERNET..).filter(|_| is_ip)?
        }
    };
    Ip::parse(packet).map(|_| packet)
}

#[cfg(test)]
mod tests;
