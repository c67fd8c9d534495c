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

    /// Turns the packet at the front of `bytes` into the packets, back to back.
    ///
    /// # Panics
    /// `bytes` is shorter than [`Cut::total`].
    pub fn cut(&self, bytes: &mut [u8]) {
        let mut headers = [0; LONGEST_HEADERS];
        let headers = &mut headers[..self.payload];
        headers.copy_from_slice(&bytes[..self.payload]);
        // From the back, so that each payload moves into room that is free by then.
        for index in (0..self.count()).rev() {
            let from = self.payload + index * self.size;
            let to = index * (self.payload + self.size);
            let length = self.payload + self.size.min(self.length - from);
            bytes.copy_within(from..from + length - self.payload, to + self.payload);
            let packet = &mut bytes[to..to + length];
            packet[..self.payload].copy_from_slice(headers);
            self.finish(packet, index);
        }
    }

    /// Writes what differs from packet to packet.
    fn finish(&self, packet: &mut [u8], index: usize) {
        let (length, last) = (packet.len(), index + 1 == self.count());
        let addresses = if self.ipv6 {
            put(packet, 4, (length - 40) as u16);
            8..40
        } else {
            put(packet, 2, length as u16);
            let identification = u16::from_be_bytes([packet[4], packet[5]]);
            put(packet, 4, identification.wrapping_add(index as u16));
            put(packet, 10, 0);
            let checksum = Sum::default().add(&packet[..usize::from(packet[0] & 0x0f) * 4]).checksum();
            put(packet, 10, checksum);
            12..20
        };
        let pseudo = Sum::default().add(&packet[addresses]).add(&[0, self.protocol]);
        let transport = &mut packet[self.transport..];
        let stated = (transport.len() as u16).to_be_bytes();
        let field = match self.protocol {
            TCP => {
                let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
                let sequence = sequence.wrapping_add((index * self.size) as u32);
                transport[4..8].copy_from_slice(&sequence.to_be_bytes());
                if !last {
                    transport[13] &= !(tcp_flag::FIN | tcp_flag::PSH);
                }
                if index > 0 {
                    transport[13] &= !tcp_flag::CWR;
                }
                TCP_CHECKSUM
            }
            _ => {
                transport[4..6].copy_from_slice(&stated);
                UDP_CHECKSUM
            }
        };
        put(transport, field, 0);
        let checksum = pseudo.add(&stated).add(transport).checksum();
        // To UDP, zero says that there is none (RFC 768).
        put(transport, field, if checksum == 0 && self.protocol == UDP { 0xffff } else { checksum });
    }
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
