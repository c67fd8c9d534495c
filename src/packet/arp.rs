//! ARP (RFC 826): who on this wire has that IPv4 address, and what is its MAC?

use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;

use super::ethernet::{Frame, Mac, NotFrame, ethertype};

/// A message for IPv4 over Ethernet, in bytes.
const MESSAGE: usize = 28;

/// Hardware type, protocol type, and the lengths of their addresses in a message for IPv4 over Ethernet.
const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The operations that matter here (RFC 826; IANA arp-parameters has more).
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An ARP message for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 for a request, 2 for a reply.
    pub operation: u16,
    /// Who sends it: the hardware address.
    pub sender_mac: Mac,
    /// Who sends it: the protocol address.
    pub sender: Ipv4Addr,
    /// Whom it is about; in a request that is what is asked for, and anything may stand here.
    pub target_mac: Mac,
    /// Whom it is about.
    pub target: Ipv4Addr,
}

/// Why some bytes are no ARP message for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotArp {
    /// Fewer bytes than such a message has.
    Truncated(usize),
    /// For other hardware.
    Hardware(u16),
    /// For another protocol.
    Protocol(u16),
    /// Lengths in bytes that are not those of a MAC and an IPv4 address.
    Lengths(u8, u8),
}

impl fmt::Display for NotArp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(got) => write!(f, "truncated: ARP message of {MESSAGE} bytes, got {got} bytes"),
            Self::Hardware(kind) => write!(f, "ARP for hardware of type {kind}, not for Ethernet"),
            Self::Protocol(kind) => write!(f, "ARP for protocol {kind:#06x}, not for IPv4"),
            Self::Lengths(mac, ip) => write!(f, "ARP with addresses of {mac} and {ip} bytes, not of 6 and 4"),
        }
    }
}

impl Error for NotArp {}

impl Arp {
    /// The length of a message in bytes.
    pub const LENGTH: usize = MESSAGE;

    /// Reads a message; bytes behind it are the frame's padding.
    ///
    /// # Errors
    /// What the bytes are instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotArp> {
        let message: &[u8; MESSAGE] = bytes.first_chunk().ok_or(NotArp::Truncated(bytes.len()))?;
        let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let mac = |at: usize| Mac([0, 1, 2, 3, 4, 5].map(|byte| message[at + byte]));
        let ip = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|byte| message[at + byte]));
        if word(0) != 1 {
            return Err(NotArp::Hardware(word(0)));
        }
        if word(2) != ethertype::IPV4 {
            return Err(NotArp::Protocol(word(2)));
        }
        if message[4..6] != IPV4_OVER_ETHERNET[4..] {
            return Err(NotArp::Lengths(message[4], message[5]));
        }
        Ok(Self { operation: word(6), sender_mac: mac(8), sender: ip(14), target_mac: mac(18), target: ip(24) })
    }

    fn bytes(&self) -> [u8; MESSAGE] {
        let mut message = [0; MESSAGE];
        message[..6].copy_from_slice(&IPV4_OVER_ETHERNET);
        message[6..8].copy_from_slice(&self.operation.to_be_bytes());
        message[8..14].copy_from_slice(&self.sender_mac.0);
        message[14..18].copy_from_slice(&self.sender.octets());
        message[18..24].copy_from_slice(&self.target_mac.0);
        message[24..].copy_from_slice(&self.target.octets());
        message
    }
}

impl fmt::Display for Arp {
    /// In the words of scapy's summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, sender_mac, sender, target, .. } = self;
        match *operation {
            REQUEST => write!(f, "ARP who has {target} says {sender}"),
            REPLY => write!(f, "ARP is at {sender_mac} says {sender}"),
            3 => write!(f, "ARP RARP-req {sender} > {target}"),
            4 => write!(f, "ARP RARP-rep {sender} > {target}"),
            5 => write!(f, "ARP Dyn-RARP-req {sender} > {target}"),
            6 => write!(f, "ARP Dyn-RAR-rep {sender} > {target}"),
            7 => write!(f, "ARP Dyn-RARP-err {sender} > {target}"),
            8 => write!(f, "ARP InARP-req {sender} > {target}"),
            9 => write!(f, "ARP InARP-rep {sender} > {target}"),
            other => write!(f, "ARP {other} {sender} > {target}"),
        }
    }
}

/// Why a frame gets no ARP reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoArpReply {
    /// It is no frame at all.
    NotFrame(NotFrame),
    /// It carries something else, of this type.
    OtherType(u16),
    /// It is for another interface.
    OtherMac(Mac),
    /// It says that it is ARP, and is not.
    NotArp(NotArp),
    /// Another operation than a request.
    NotRequest(u16),
    /// A probe: the sender, which has no address yet, wants to know whether this one is free (RFC 5227, section 2.1.1).
    Probe,
    /// An announcement: the sender asks for its own address, to make it known (RFC 5227, section 2.3).
    Announcement,
    /// The sender's address is no host's.
    Sender(Ipv4Addr),
    /// The sender's hardware address is no single interface's.
    SenderMac(Mac),
    /// Nobody here answers for that address.
    NotOurs(Ipv4Addr),
    /// The reply does not fit in the buffer.
    BufferTooSmall,
}

impl fmt::Display for NoArpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFrame(what) => what.fmt(f),
            Self::OtherType(_) => write!(f, "not an ARP request"),
            Self::OtherMac(_) => write!(f, "for another MAC address"),
            Self::NotArp(what) => what.fmt(f),
            Self::NotRequest(_) => write!(f, "ARP, but not a request"),
            Self::Probe => write!(f, "an ARP probe"),
            Self::Announcement => write!(f, "an ARP announcement"),
            Self::Sender(_) => write!(f, "ARP from no host's address"),
            Self::SenderMac(_) => write!(f, "ARP from no interface's address"),
            Self::NotOurs(_) => write!(f, "ARP for an address that is not answered for"),
            Self::BufferTooSmall => write!(f, "no room for the ARP reply"),
        }
    }
}

impl Error for NoArpReply {}

impl From<NotFrame> for NoArpReply {
    fn from(what: NotFrame) -> Self {
        Self::NotFrame(what)
    }
}

impl From<NotArp> for NoArpReply {
    fn from(what: NotArp) -> Self {
        Self::NotArp(what)
    }
}

/// Writes into `out` the frame that answers an ARP request, as the interface `mac` that has every address for which `has` is
/// true; and returns it.
///
/// A request is answered that was sent to all, or to this interface, as a host does that wants to know whether it is still
/// there. It is answered to the hardware address inside the message (RFC 826, "Packet Reception").
///
/// # Errors
/// Why there is no reply; see [`NoArpReply`].
pub fn arp_reply<'b>(
    frame: &Frame<'_>,
    mac: Mac,
    has: impl FnOnce(Ipv4Addr) -> bool,
    out: &'b mut [u8],
) -> Result<&'b [u8], NoArpReply> {
    if frame.ethertype != ethertype::ARP {
        return Err(NoArpReply::OtherType(frame.ethertype));
    }
    if ![mac, Mac::BROADCAST].contains(&frame.destination) {
        return Err(NoArpReply::OtherMac(frame.destination));
    }
    let asked = Arp::parse(frame.payload)?;
    check_request(&asked)?;
    if !has(asked.target) {
        return Err(NoArpReply::NotOurs(asked.target));
    }
    let reply = Arp {
        operation: REPLY,
        sender_mac: mac,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    Frame::write([asked.sender_mac, mac], ethertype::ARP, out, |payload| {
        *payload.first_chunk_mut()? = reply.bytes();
        Some(MESSAGE)
    })
    .ok_or(NoArpReply::BufferTooSmall)
}

/// Whether it is a request of a host that has an address, and wants to reach another.
fn check_request(asked: &Arp) -> Result<(), NoArpReply> {
    let Arp { operation, sender, sender_mac, target, .. } = *asked;
    if operation != REQUEST {
        Err(NoArpReply::NotRequest(operation))
    } else if sender.is_unspecified() {
        Err(NoArpReply::Probe)
    } else if sender == target {
        Err(NoArpReply::Announcement)
    } else if sender.is_multicast() || sender.is_broadcast() {
        Err(NoArpReply::Sender(sender))
    } else if !sender_mac.is_of_one() {
        Err(NoArpReply::SenderMac(sender_mac))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::arp_request;
    use super::*;

    const OURS: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);

    fn reply(request: &[u8]) -> Result<Vec<u8>, NoArpReply> {
        let mut out = [0; 42];
        let has = |address: Ipv4Addr| address.octets()[..3] == [10, 1, 3];
        arp_reply(&Frame::parse(request)?, OURS, has, &mut out).map(<[u8]>::to_vec)
    }

    fn changed(at: usize, to: &[u8]) -> Vec<u8> {
        let mut request = arp_request();
        request[at..at + to.len()].copy_from_slice(to);
        request
    }

    #[test]
    fn a_request_is_answered_by_whoever_has_the_address() {
        let hers = [2, 0, 0, 0, 0, 1];
        let expected =
            [&hers[..], &OURS.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &OURS.0, &[10, 1, 3, 4], &hers, &[10, 1, 3, 1]]
                .concat();
        assert_eq!(reply(&arp_request()), Ok(expected.clone()));
        assert_eq!(reply(&changed(0, &OURS.0)), Ok(expected.clone()), "to this interface alone");
        assert_eq!(reply(&[&arp_request()[..], &[0; 18]].concat()), Ok(expected), "padded");
    }

    #[test]
    fn what_is_no_request_for_an_address_of_ours_is_not_answered() {
        let table: [(Vec<u8>, &str); 18] = [
            (vec![], "truncated: Ethernet header of 14 bytes, got 0 bytes"),
            (changed(12, &[0x86, 0xdd]), "not an ARP request"),
            (changed(12, &[0x81, 0]), "not an ARP request"),
            (changed(0, &[2, 0, 0, 0, 0, 9]), "for another MAC address"),
            (changed(0, &[1, 0, 0x5e, 0, 0, 1]), "for another MAC address"),
            (arp_request()[..41].to_vec(), "truncated: ARP message of 28 bytes, got 27 bytes"),
            (changed(14, &[0, 6]), "ARP for hardware of type 6, not for Ethernet"),
            (changed(16, &[0x86, 0xdd]), "ARP for protocol 0x86dd, not for IPv4"),
            (changed(18, &[6, 16]), "ARP with addresses of 6 and 16 bytes, not of 6 and 4"),
            (changed(18, &[8, 4]), "ARP with addresses of 8 and 4 bytes, not of 6 and 4"),
            (changed(20, &[0, 2]), "ARP, but not a request"),
            (changed(20, &[1, 1]), "ARP, but not a request"),
            (changed(28, &[0; 4]), "an ARP probe"),
            (changed(28, &[10, 1, 3, 4]), "an ARP announcement"),
            (changed(28, &[224, 0, 0, 1]), "ARP from no host's address"),
            (changed(22, &[0xff; 6]), "ARP from no interface's address"),
            (changed(22, &[0; 6]), "ARP from no interface's address"),
            (changed(38, &[10, 1, 4, 4]), "ARP for an address that is not answered for"),
        ];
        for (frame, why) in table {
            assert_eq!(reply(&frame).unwrap_err().to_string(), why, "to {frame:02x?}");
        }
    }

    #[test]
    fn a_reply_is_whole_or_not_there() {
        let request = arp_request();
        let frame = Frame::parse(&request).unwrap();
        for room in 0..42 {
            let mut out = vec![0; room];
            assert_eq!(arp_reply(&frame, OURS, |_| true, &mut out), Err(NoArpReply::BufferTooSmall), "{room}");
        }
    }
}
