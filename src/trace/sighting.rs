//! What the bytes of a captured packet say about the echo that is traced. Pure.
//!
//! The echo bears a mark in its first payload bytes, and is found by it: bare, in a UDP datagram, or quoted by an ICMP
//! error. Nothing here shares code with the steps, so that a mistake of theirs is not made here again.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use pnet_packet::Packet;
use pnet_packet::icmp::{IcmpPacket, IcmpType, IcmpTypes};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet};
use pnet_packet::udp::UdpPacket;

/// The bytes in front of an echo's payload: an IPv4 header without options, and an ICMP header (RFC 791, RFC 792).
pub const IP_HEADER: usize = 20;
/// The ICMP header of an echo.
pub const ICMP_HEADER: usize = 8;
/// A datagram's header (RFC 768).
const UDP_HEADER: usize = 8;

/// What tells the traced echo from everything else in the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub [u8; Mark::LENGTH]);

impl Mark {
    /// Its length in bytes.
    pub const LENGTH: usize = 16;

    /// A mark with this number in it.
    pub fn new(number: u64) -> Self {
        let mut bytes = *b"vpnlab->........";
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }

    fn place(self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(Self::LENGTH).position(|window| *window == self.0)
    }
}

/// Whether an echo asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// The echo request, and its way to the destination.
    Request,
    /// The echo reply, and its way back.
    Reply,
}

/// The echo, as it was at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// Request or reply.
    pub leg: Leg,
    /// Who sent it, by its header.
    pub source: Ipv4Addr,
    /// Whom it is for, by its header.
    pub destination: Ipv4Addr,
    /// Its TTL.
    pub ttl: u8,
    /// Whether it must not be fragmented (DF).
    pub whole: bool,
    /// Whether it goes on in another fragment.
    pub fragment: bool,
    /// All of it, or its first fragment.
    pub bytes: Vec<u8>,
}

/// A UDP datagram with the echo in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The sender's address and port.
    pub from: SocketAddrV4,
    /// The receiver's address and port.
    pub to: SocketAddrV4,
    /// The TTL of the outer packet.
    pub ttl: u8,
    /// The payload; where `fragment`, the beginning of it.
    pub payload: Vec<u8>,
    /// How many bytes stand in front of the echo in the payload; less than none where its beginning is missing.
    pub ahead: isize,
    /// Whether the payload goes on in another fragment.
    pub fragment: bool,
    /// The echo in it, where its headers can be read.
    pub echo: Option<Echo>,
}

/// An ICMP error that quotes the echo (RFC 792).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who says so.
    pub by: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// With type 3, code 4: the MTU of the next hop (RFC 1191).
    pub mtu: u16,
    /// Where the datagram was going that is quoted; `None` where the echo itself is.
    pub datagram: Option<SocketAddrV4>,
    /// What of the echo is quoted, by its ICMP type, where that can be read.
    pub leg: Option<Leg>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The echo itself.
    Echo(Echo),
    /// The echo inside a UDP datagram; the leg, where its ICMP type can be read.
    Inside(Datagram, Option<Leg>),
    /// An ICMP error about it.
    Refused(Refusal),
}

impl What {
    /// The leg, where what was seen tells it.
    pub fn leg(&self) -> Option<Leg> {
        match self {
            Self::Echo(echo) => Some(echo.leg),
            Self::Inside(_, leg) => *leg,
            Self::Refused(refusal) => refusal.leg,
        }
    }
}

/// Finds the echo with this mark in an IP packet.
pub fn find(packet: &[u8], mark: Mark) -> Option<What> {
    let ip = V4::parse(packet)?;
    let protocol = ip.fields.get_next_level_protocol();
    // Looking for the mark takes its time, and most of what others send is TCP.
    if ![IpNextHeaderProtocols::Icmp, IpNextHeaderProtocols::Udp].contains(&protocol) {
        return None;
    }
    let place = mark.place(ip.payload)?;
    match protocol {
        IpNextHeaderProtocols::Icmp => {
            let icmp = IcmpPacket::new(ip.payload)?;
            match leg(icmp.get_icmp_type()) {
                Some(leg) => Some(What::Echo(ip.echo(leg))),
                None => refusal(&ip, &icmp, mark).map(What::Refused),
            }
        }
        IpNextHeaderProtocols::Udp => {
            let datagram = datagram(&ip)?;
            let place = place.checked_sub(UDP_HEADER)?;
            let ahead = place as isize - (IP_HEADER + ICMP_HEADER) as isize;
            // An error goes through the tunnel like any other packet.
            if let Some(inner) = V4::parse(&datagram.payload)
                && inner.fields.get_next_level_protocol() == IpNextHeaderProtocols::Icmp
                && let Some(icmp) = IcmpPacket::new(inner.payload)
                && leg(icmp.get_icmp_type()).is_none()
                && let Some(refusal) = refusal(&inner, &icmp, mark)
            {
                return Some(What::Refused(refusal));
            }
            // The type stands in the first of the eight bytes in front of the mark.
            let kind = place.checked_sub(ICMP_HEADER).map(|at| IcmpType(datagram.payload[at]));
            let leg = kind.and_then(leg);
            let inner = usize::try_from(ahead).ok().and_then(|ahead| V4::parse(&datagram.payload[ahead..]));
            let echo = inner.zip(leg).map(|(inner, leg)| inner.echo(leg));
            Some(What::Inside(Datagram { ahead, echo, ..datagram }, leg))
        }
        _ => None,
    }
}

/// A fragment of the echo, but not its first: what it is, and which bytes of the payload it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// As what it was seen: bare, or in a datagram.
    pub what: What,
    /// The bytes of the whole packet's payload that it has.
    pub bytes: Range<usize>,
    /// Whether none follows.
    pub is_last: bool,
}

/// Finds a later fragment of the packet whose first is this (RFC 791 section 3.2).
pub fn later_fragment(packet: &[u8], first: &Echo) -> Option<Fragment> {
    const UNIT: usize = 8;
    let ip = V4::parse(packet)?;
    let inside = any_datagram(packet);
    let content = match &inside {
        Some(datagram) => V4::parse(&datagram.payload)?,
        None => ip,
    };
    let start = usize::from(content.fields.get_fragment_offset()) * UNIT;
    if start == 0 || !is_same_packet(content.bytes, &first.bytes) {
        return None;
    }
    let bytes = start..start + stated_payload(content.bytes);
    let echo = content.echo(first.leg);
    let is_last = !echo.fragment;
    let what = match inside.clone() {
        Some(datagram) => What::Inside(Datagram { echo: Some(echo), ..datagram }, Some(first.leg)),
        None => What::Echo(echo),
    };
    Some(Fragment { what, bytes, is_last })
}

/// Whether these are fragments of one packet, by what tells it: identification, protocol and addresses.
pub fn is_same_packet(one: &[u8], other: &[u8]) -> bool {
    [4..6, 9..10, 12..20].into_iter().all(|place| one.get(place.clone()) == other.get(place))
}

/// How long a packet's payload is by its header; there may be less of it.
pub fn stated_payload(packet: &[u8]) -> usize {
    V4::parse(packet).map_or(0, |ip| {
        usize::from(ip.fields.get_total_length()).saturating_sub(usize::from(ip.fields.get_header_length()) * 4)
    })
}

/// Any UDP datagram, whatever is in it.
pub fn any_datagram(packet: &[u8]) -> Option<Datagram> {
    let ip = V4::parse(packet)?;
    let is_udp = ip.fields.get_next_level_protocol() == IpNextHeaderProtocols::Udp;
    if is_udp && ip.fields.get_fragment_offset() == 0 { datagram(&ip) } else { None }
}

/// Whether bytes that are not the echo are another packet: whole, and not the echo with something in it changed.
pub fn is_another_packet(bytes: &[u8], echo: &[u8]) -> bool {
    const IPV6_HEADER: usize = 40;
    let number = |from: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(from)?, *bytes.get(from + 1)?])));
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => {
            let Some(ip) = V4::parse(bytes).filter(|_| number(2) == Some(bytes.len())) else { return false };
            // The identification, the protocol, the addresses, the identifier and the number of the echo.
            let tells = [4..6, 9..10, 12..20, 24..28];
            let differs = tells.into_iter().any(|place| bytes.get(place.clone()) != echo.get(place));
            ipv4::checksum(&ip.fields) == ip.fields.get_checksum() && differs
        }
        Some(6) => number(4).is_some_and(|payload| payload + IPV6_HEADER == bytes.len()),
        _ => false,
    }
}

/// Request or reply, by the ICMP type.
fn leg(kind: IcmpType) -> Option<Leg> {
    match kind {
        IcmpTypes::EchoRequest => Some(Leg::Request),
        IcmpTypes::EchoReply => Some(Leg::Reply),
        _ => None,
    }
}

/// An IPv4 packet whose header's length has been checked.
struct V4<'p> {
    bytes: &'p [u8],
    fields: Ipv4Packet<'p>,
    payload: &'p [u8],
}

impl<'p> V4<'p> {
    fn parse(bytes: &'p [u8]) -> Option<Self> {
        let fields = Ipv4Packet::new(bytes).filter(|fields| fields.get_version() == 4)?;
        let header = Some(usize::from(fields.get_header_length()) * 4).filter(|length| *length >= IP_HEADER)?;
        // A frame may be padded, and a quotation is cut off.
        let end = usize::from(fields.get_total_length()).min(bytes.len());
        let payload = bytes.get(header..end)?;
        Some(Self { bytes: &bytes[..end], fields, payload })
    }

    fn echo(&self, leg: Leg) -> Echo {
        Echo {
            leg,
            source: self.fields.get_source(),
            destination: self.fields.get_destination(),
            ttl: self.fields.get_ttl(),
            whole: self.fields.get_flags() & Ipv4Flags::DontFragment != 0,
            fragment: self.fields.get_flags() & Ipv4Flags::MoreFragments != 0,
            bytes: self.bytes.to_vec(),
        }
    }
}

fn datagram(ip: &V4<'_>) -> Option<Datagram> {
    let udp = UdpPacket::new(ip.payload)?;
    Some(Datagram {
        from: SocketAddrV4::new(ip.fields.get_source(), udp.get_source()),
        to: SocketAddrV4::new(ip.fields.get_destination(), udp.get_destination()),
        ttl: ip.fields.get_ttl(),
        payload: ip.payload[UDP_HEADER..].to_vec(),
        ahead: 0,
        fragment: ip.fields.get_flags() & Ipv4Flags::MoreFragments != 0,
        echo: None,
    })
}

fn refusal(ip: &V4<'_>, icmp: &IcmpPacket<'_>, mark: Mark) -> Option<Refusal> {
    let quoted = V4::parse(ip.payload.get(ICMP_HEADER..)?)?;
    // The type stands in the first of the eight bytes in front of the mark, in a datagram or not.
    let kind = mark.place(quoted.payload).and_then(|place| place.checked_sub(ICMP_HEADER));
    let leg = kind.and_then(|at| leg(IcmpType(quoted.payload[at])));
    let datagram = match quoted.fields.get_next_level_protocol() {
        IpNextHeaderProtocols::Udp => datagram(&quoted).map(|datagram| datagram.to),
        _ => None,
    };
    let mtu = icmp.packet().get(6..8).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Some(Refusal {
        by: ip.fields.get_source(),
        to: ip.fields.get_destination(),
        kind: icmp.get_icmp_type().0,
        code: icmp.get_icmp_code().0,
        mtu,
        datagram,
        leg,
    })
}

/// How bytes differ from the packet that they should be. Displayed, it says so in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// There are none.
    Empty,
    /// The packet is there, behind these bytes.
    Behind(Vec<u8>),
    /// Only the packet's end is there: so many of its first bytes are missing.
    Beheaded(usize),
    /// These are its first bytes, so many of so many.
    Cut(usize, usize),
    /// It is whole, and this many bytes follow.
    Longer(usize),
    /// It is written out as text.
    Text(String),
    /// The first byte that differs: where, in which field, what it is, what it was.
    Byte(usize, &'static str, u8, u8),
}

impl Difference {
    /// Whether these bytes still begin with an IP packet: something else than that was sent, or it was changed.
    pub fn is_ip(&self, bytes: &[u8]) -> bool {
        let version = bytes.first().map(|byte| byte >> 4);
        let stated = bytes.get(2..4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        match self {
            Self::Empty | Self::Text(_) | Self::Behind(_) | Self::Beheaded(_) => false,
            Self::Cut(..) | Self::Longer(_) | Self::Byte(..) => {
                version == Some(4) && bytes.len() >= IP_HEADER && stated.is_some_and(|stated| stated <= bytes.len())
            }
        }
    }

    /// Compares what was sent on with what was taken; `None` where both are the same.
    pub fn between(was: &[u8], is: &[u8]) -> Option<Self> {
        if was == is {
            return None;
        }
        if is.is_empty() {
            return Some(Self::Empty);
        }
        if is.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            let start = String::from_utf8_lossy(&is[..is.len().min(24)]).into_owned();
            return Some(Self::Text(start));
        }
        if was.starts_with(is) {
            return Some(Self::Cut(is.len(), was.len()));
        }
        if is.starts_with(was) {
            return Some(Self::Longer(is.len() - was.len()));
        }
        let behind = is.len().saturating_sub(was.len());
        if behind > 0 && is.ends_with(was) {
            return Some(Self::Behind(is[..behind].to_vec()));
        }
        if was.ends_with(is) {
            return Some(Self::Beheaded(was.len() - is.len()));
        }
        let place = was.iter().zip(is).position(|(was, is)| was != is)?;
        Some(Self::Byte(place, field(place, was.get(9).copied()), is[place], was[place]))
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Behind(bytes) => {
                let shown: Vec<_> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                write!(f, "{} bytes stand in front of the packet: {}", bytes.len(), shown.join(" "))
            }
            Self::Beheaded(missing) => write!(f, "the first {missing} bytes of the packet are missing"),
            Self::Cut(is, was) => write!(f, "it ends after {is} of the packet's {was} bytes"),
            Self::Longer(more) => write!(f, "{more} bytes follow the packet"),
            Self::Text(start) => write!(f, "it is text: {start:?}..."),
            Self::Byte(place, field, is, was) => write!(f, "byte {place} ({field}) is 0x{is:02x} and was 0x{was:02x}"),
        }
    }
}

/// The field that a byte of a packet of this protocol belongs to, where it is an echo if it is ICMP (RFC 791 section 3.1, RFC
/// 792, RFC 768, RFC 9293 section 3.1).
fn field(place: usize, protocol: Option<u8>) -> &'static str {
    const ICMP: Option<u8> = Some(IpNextHeaderProtocols::Icmp.0);
    const UDP: Option<u8> = Some(IpNextHeaderProtocols::Udp.0);
    const TCP: Option<u8> = Some(IpNextHeaderProtocols::Tcp.0);
    match place {
        0 => "version and header length",
        1 => "type of service",
        2..=3 => "total length",
        4..=5 => "identification",
        6..=7 => "flags and fragment offset",
        8 => "TTL",
        9 => "protocol",
        10..=11 => "header checksum",
        12..=15 => "source address",
        16..=19 => "destination address",
        _ if protocol == ICMP => match place {
            20 => "ICMP type",
            21 => "ICMP code",
            22..=23 => "ICMP checksum",
            24..=25 => "echo identifier",
            26..=27 => "echo sequence number",
            _ => "echo payload",
        },
        20..=21 if protocol == UDP || protocol == TCP => "source port",
        22..=23 if protocol == UDP || protocol == TCP => "destination port",
        24..=25 if protocol == UDP => "UDP length",
        26..=27 if protocol == UDP => "UDP checksum",
        24..=27 if protocol == TCP => "sequence number",
        28..=31 if protocol == TCP => "acknowledgment number",
        32..=33 if protocol == TCP => "data offset and flags",
        34..=35 if protocol == TCP => "window",
        36..=37 if protocol == TCP => "TCP checksum",
        _ => "payload",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark(*b"0123456789abcdef");

    fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 63, protocol, 0, 0, 10, 1, 3, 1, 10, 1, 1, 2];
        packet.extend(payload);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet
    }

    fn echo(kind: u8) -> Vec<u8> {
        ip(1, &[&[kind, 0, 0, 0, 0, 7, 0, 1][..], &MARK.0].concat())
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16 + 8).to_be_bytes();
        ip(17, &[&[0x9c, 0x40, 0x23, 0x82, length[0], length[1], 0, 0], payload].concat())
    }

    #[test]
    fn an_echo_is_found_bare() {
        let packet = echo(8);
        let Some(What::Echo(found)) = find(&packet, MARK) else { panic!() };
        assert_eq!((found.leg, found.ttl, found.whole), (Leg::Request, 63, true));
        assert_eq!((found.source, found.destination), ([10, 1, 3, 1].into(), [10, 1, 1, 2].into()));
        // A short frame is padded (RFC 894).
        let padded = [&packet[..], &[0; 9]].concat();
        assert_eq!(find(&padded, MARK), Some(What::Echo(Echo { bytes: packet, ..found })));
        assert_eq!(find(&echo(8), Mark(*b"another mark....")), None);
    }

    #[test]
    fn an_echo_is_found_in_a_datagram_wherever_it_stands() {
        for (front, ahead) in [(&[][..], 0), (&[0, 0, 8, 0], 4)] {
            let packet = udp(&[front, &echo(0)].concat());
            let Some(What::Inside(datagram, leg)) = find(&packet, MARK) else { panic!() };
            assert_eq!((datagram.ahead, leg), (ahead, Some(Leg::Reply)));
            assert_eq!((datagram.from.port(), datagram.to.port()), (40_000, 9090));
        }
        let Some(What::Inside(datagram, leg)) = find(&udp(&echo(8)[20..]), MARK) else { panic!() };
        assert_eq!((datagram.ahead, leg), (-20, Some(Leg::Request)));
        let Some(What::Inside(datagram, leg)) = find(&udp(&MARK.0), MARK) else { panic!() };
        assert_eq!((datagram.ahead, leg), (-28, None));
    }

    #[test]
    fn a_later_fragment_is_found_bare_and_in_a_datagram() {
        let mut first = echo(8);
        first[6] = 0x20;
        let Some(What::Echo(of)) = find(&first, MARK) else { panic!() };
        let mut last = ip(1, &[7; 12]);
        last[6..8].copy_from_slice(&[0, 3]);
        let bare = later_fragment(&last, &of).unwrap();
        assert_eq!((bare.bytes, bare.is_last), (24..36, true));
        assert!(matches!(bare.what, What::Echo(_)));
        let inside = later_fragment(&udp(&last), &of).unwrap();
        let What::Inside(datagram, Some(Leg::Request)) = inside.what else { panic!() };
        assert_eq!((inside.bytes, datagram.payload), (24..36, last.clone()));
        assert_eq!(later_fragment(&first, &of), None);
        last[5] ^= 1;
        assert_eq!(later_fragment(&last, &of), None);
    }

    #[test]
    fn an_error_says_whether_it_is_about_the_echo_or_its_datagram() {
        let error = |quoted: &[u8]| ip(1, &[&[3, 4, 0, 0, 0, 0, 5, 120][..], quoted].concat());
        let Some(What::Refused(about_echo)) = find(&error(&echo(8)), MARK) else { panic!() };
        assert_eq!((about_echo.kind, about_echo.code, about_echo.mtu, about_echo.datagram), (3, 4, 1400, None));
        assert_eq!(about_echo.leg, Some(Leg::Request));
        let Some(What::Refused(about_datagram)) = find(&error(&udp(&echo(8))), MARK) else { panic!() };
        assert_eq!(about_datagram.datagram, Some("10.1.1.2:9090".parse().unwrap()));
        let Some(What::Refused(about_reply)) = find(&error(&udp(&echo(0))), MARK) else { panic!() };
        assert_eq!((about_datagram.leg, about_reply.leg), (Some(Leg::Request), Some(Leg::Reply)));
    }

    #[test]
    fn an_error_goes_through_the_tunnel_and_stays_one() {
        let error = ip(1, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &echo(8)].concat());
        assert_eq!(find(&udp(&error), MARK), find(&error, MARK));
        assert!(matches!(find(&error, MARK), Some(What::Refused(Refusal { kind: 11, datagram: None, .. }))));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for packet in [echo(8), udp(&echo(0)), ip(1, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &udp(&echo(8))].concat())] {
            for place in 0..packet.len() {
                let _ = find(&packet[..place], MARK);
                for value in [0, 0x0f, 0x4f, 0xff] {
                    let mut changed = packet.clone();
                    changed[place] = value;
                    let _ = (find(&changed, MARK), any_datagram(&changed));
                }
            }
        }
    }

    #[test]
    fn another_packet_is_whole_and_not_the_echo_changed() {
        let with_checksum = |mut packet: Vec<u8>| {
            let sum = ipv4::checksum(&Ipv4Packet::new(&packet).unwrap());
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        };
        let was = with_checksum(echo(8));
        let mut other = was.clone();
        other[27] ^= 1;
        assert!(is_another_packet(&other, &was));
        assert!(is_another_packet(&with_checksum(ip(17, b"anything")), &was));
        let v6 = [&[0x60, 0, 0, 0, 0, 8, 58, 255][..], &[0; 40]].concat();
        assert!(is_another_packet(&v6, &was));
        let mut changed = was.clone();
        changed[40] ^= 1;
        let mut wrong = other.clone();
        wrong[11] ^= 1;
        let cut = &other[..40];
        for is in [&was[..], &changed, &wrong, cut, &v6[..47], b"text", b""] {
            assert!(!is_another_packet(is, &was), "{is:02x?}");
        }
    }

    #[test]
    fn a_difference_is_told_by_its_kind() {
        let was = echo(8);
        let said = |is: &[u8]| Difference::between(&was, is).map(|it| it.to_string());
        let changed = |place: usize| {
            let mut is = was.clone();
            is[place] ^= 0xff;
            is
        };
        assert_eq!(said(&was), None);
        assert_eq!(said(&[]).unwrap(), "it is empty");
        assert_eq!(said(&was[..10]).unwrap(), "it ends after 10 of the packet's 44 bytes");
        assert_eq!(said(&was[4..]).unwrap(), "the first 4 bytes of the packet are missing");
        assert_eq!(said(&[&was[..], b"\0"].concat()).unwrap(), "1 bytes follow the packet");
        assert_eq!(
            said(&[&[0, 0, 8, 0], &was[..]].concat()).unwrap(),
            "4 bytes stand in front of the packet: 00 00 08 00"
        );
        assert_eq!(said(&changed(12)).unwrap(), "byte 12 (source address) is 0xf5 and was 0x0a");
        assert_eq!(said(b"<IP  version=4 ihl=5 tos=0x0>").unwrap(), "it is text: \"<IP  version=4 ihl=5 tos\"...");
    }

    #[test]
    fn a_packet_that_was_changed_is_still_one_and_its_text_is_none() {
        let was = echo(8);
        let mut changed = was.clone();
        changed[40] ^= 1;
        for (is, is_ip) in [(&changed[..], true), (&was[..30], false), (b"text", false), (&[0x60; 44], false)] {
            assert_eq!(Difference::between(&was, is).unwrap().is_ip(is), is_ip, "{is:02x?}");
        }
    }
}
