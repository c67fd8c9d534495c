//! Cuts what the TUN device handed over as one large packet into the packets that it stands for.
//!
//! The kernel leaves this to devices that can do it: TCP segmentation offload (TSO) and its like for UDP (USO). Pure; as
//! the kernel's own net/ipv4/tcp_offload.c and udp_offload.c do it for devices that cannot.

use crate::fast::vnet::{Checksum, Header, Segments};
use crate::fast::{TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, put, tcp_flag};
use crate::packet::checksum::Sum;

/// The longest headers of a packet that can be cut: IPv6 with room for extension headers, TCP with all options.
const LONGEST_HEADERS: usize = 40 + 256 + 60;

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where the TCP or UDP header begins, and where the payload.
    transport: usize,
    payload: usize,
    /// The packet's length.
    length: usize,
    /// The payload of each segment but the last.
    size: usize,
    protocol: u8,
    ipv6: bool,
}

/// The packet and its header contradict each other. The kernel sends no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

impl Cut {
    /// Looks at a packet and the header that came before it.
    ///
    /// # Errors
    /// It is nothing that could be cut.
    pub fn plan(header: &Header, packet: &[u8]) -> Result<Self, Contradiction> {
        let (&version, checksum) = packet.first().zip(header.checksum).ok_or(Contradiction)?;
        let ipv6 = version >> 4 == 6;
        let protocol = match (header.segments, version >> 4) {
            (Segments::TcpV4, 4) | (Segments::TcpV6, 6) => TCP,
            (Segments::Udp, 4 | 6) => UDP,
            _ => return Err(Contradiction),
        };
        // Behind options and extension headers, wherever the checksum begins; `header_length` would only be a hint.
        let transport = usize::from(checksum.start);
        let network = if ipv6 { 40 } else { usize::from(version & 0x0f) * 4 };
        if transport < network || network < 20 {
            return Err(Contradiction);
        }
        let payload = match protocol {
            TCP => transport + usize::from(packet.get(transport + 12).ok_or(Contradiction)? >> 4) * 4,
            _ => transport + 8,
        };
        let (length, size) = (packet.len(), usize::from(header.segment_size));
        let least = transport + if protocol == TCP { 20 } else { 8 };
        if payload < least || payload > length || payload > LONGEST_HEADERS || size == 0 {
            return Err(Contradiction);
        }
        Ok(Self { transport, payload, length, size, protocol, ipv6 })
    }

    /// The number of packets.
    pub fn count(&self) -> usize {
        (self.length - self.payload).div_ceil(self.size).max(1)
    }

    /// The length of all packets together, in bytes.
    pub fn total(&self) -> usize {
        self.length + (self.count() - 1) * self.payload
    }

    /// The length of each packet, in order.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + use<> {
        let (whole, total) = (self.payload + self.size, self.total());
        (0..self.count()).map(move |index| whole.min(total - index * whole))
    }

    /// Writes the packets that `packet` stands for to the front of `to`, back to back.
    ///
    /// # Panics
    /// `packet` is not the one that was planned for, or `to` is shorter than [`Cut::total`].
    pub fn cut(&self, packet: &[u8], to: &mut [u8]) {
        let (headers, payload) = packet.split_at(self.payload);
        let common = Common::of(self, headers);
        let mut to = &mut to[..self.total()];
        for (index, payload) in pieces(payload, self.size).enumerate() {
            let (segment, rest) = to.split_at_mut(self.payload + payload.len());
            segment[..self.payload].copy_from_slice(headers);
            let sum = Sum::default().add_copied(payload, &mut segment[self.payload..]);
            self.finish(segment, index, &common, sum);
            to = rest;
        }
    }

    /// Writes what differs from packet to packet; `sum` is that of the payload.
    fn finish(&self, packet: &mut [u8], index: usize, common: &Common, sum: Sum) {
        let length = packet.len();
        if self.ipv6 {
            put(packet, 4, (length - 40) as u16);
        } else {
            let identification = common.identification.wrapping_add(index as u16);
            put(packet, 2, length as u16);
            put(packet, 4, identification);
            put(packet, 10, common.network.add_word(length as u16).add_word(identification).checksum());
        }
        let stated = (length - self.transport) as u16;
        let header = &mut packet[self.transport..self.payload];
        let sum = sum.add_word(stated);
        if self.protocol == UDP {
            put(header, 4, stated);
            let checksum = common.transport.plus(sum).add_word(stated).checksum();
            // To UDP, zero says that there is none (RFC 768).
            return put(header, UDP_CHECKSUM, if checksum == 0 { 0xffff } else { checksum });
        }
        let sequence = common.sequence.wrapping_add((index * self.size) as u32);
        put(header, 4, (sequence >> 16) as u16);
        put(header, 6, sequence as u16);
        if index + 1 < self.count() {
            header[13] &= !(tcp_flag::FIN | tcp_flag::PSH);
        }
        if index > 0 {
            header[13] &= !tcp_flag::CWR;
        }
        let flags = u16::from_be_bytes([header[12], header[13]]);
        let sum = sum.add_word((sequence >> 16) as u16).add_word(sequence as u16).add_word(flags);
        put(header, TCP_CHECKSUM, common.transport.plus(sum).checksum());
    }
}

/// What the packets of one cut have in common.
struct Common {
    /// Sums over the IPv4 header and over the pseudo-header and the transport's, without what differs.
    network: Sum,
    transport: Sum,
    identification: u16,
    sequence: u32,
}

impl Common {
    fn of(cut: &Cut, headers: &[u8]) -> Self {
        let (network, transport) = headers.split_at(cut.transport);
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let addresses = if cut.ipv6 { &network[8..40] } else { &network[12..20] };
        let pseudo = Sum::default().add(addresses).add_word(u16::from(cut.protocol));
        let (sequence, transport) = match cut.protocol {
            TCP => {
                let sequence = u32::from(word(transport, 4)) << 16 | u32::from(word(transport, 6));
                (
                    sequence,
                    pseudo.add(&transport[..4]).add(&transport[8..12]).add(&transport[14..16]).add(&transport[18..]),
                )
            }
            _ => (0, pseudo.add(&transport[..4])),
        };
        let rest_of_network = Sum::default().add(&network[..2]).add(&network[6..10]).add(&network[12..]);
        Self { network: rest_of_network, transport, identification: word(network, 4), sequence }
    }
}

/// The payload of each packet; one that is empty, if there is none.
fn pieces(payload: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    payload.chunks(size).chain(payload.is_empty().then_some(payload))
}

/// Makes the checksum of a packet for which the kernel has summed up the pseudo-header only.
///
/// # Errors
/// There is no room for a checksum where the header says that it is.
pub fn complete_checksum(at: Checksum, packet: &mut [u8]) -> Result<(), Contradiction> {
    let (start, offset) = (usize::from(at.start), usize::from(at.offset));
    let summed = packet.get_mut(start..).filter(|summed| offset + 2 <= summed.len()).ok_or(Contradiction)?;
    let checksum = Sum::default().add(summed).checksum();
    // As the kernel's skb_checksum_help() does it.
    put(summed, offset, if checksum == 0 { 0xffff } else { checksum });
    Ok(())
}
