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
        let follows_ip = match ipv6 {
            true => transport >= 40,
            false => {
                let network = usize::from(version & 0x0f) * 4;
                transport == network && network >= 20 && packet.get(9) == Some(&protocol)
            }
        };
        let (shortest, field) = if protocol == TCP { (20, TCP_CHECKSUM) } else { (8, UDP_CHECKSUM) };
        if !follows_ip || usize::from(checksum.offset) != field {
            return Err(Contradiction);
        }
        let payload = match protocol {
            TCP => transport + usize::from(packet.get(transport + 12).ok_or(Contradiction)? >> 4) * 4,
            _ => transport + shortest,
        };
        let (length, size) = (packet.len(), usize::from(header.segment_size));
        if payload < transport + shortest || payload > length || payload > LONGEST_HEADERS || size == 0 {
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
        let last = self.count() - 1;
        for (index, payload) in pieces(payload, self.size).enumerate() {
            let (segment, rest) = to.split_at_mut(self.payload + payload.len());
            segment[..self.payload].copy_from_slice(headers);
            let sum = Sum::default().add_copied(payload, &mut segment[self.payload..]);
            self.finish(segment, index, last, &common, sum);
            to = rest;
        }
    }

    /// Writes what differs from packet to packet; `sum` is that of the payload. It reads nothing of the packet, which a
    /// processor that has only just written it would have to wait for.
    fn finish(&self, packet: &mut [u8], index: usize, last: usize, common: &Common, sum: Sum) {
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
        let mut flags = common.flags;
        if index < last {
            flags &= !u16::from(tcp_flag::FIN | tcp_flag::PSH);
        }
        if index > 0 {
            flags &= !u16::from(tcp_flag::CWR);
        }
        put(header, 12, flags);
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
    /// TCP's data offset and flags.
    flags: u16,
}

impl Common {
    fn of(cut: &Cut, headers: &[u8]) -> Self {
        let (network, transport) = headers.split_at(cut.transport);
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let addresses = if cut.ipv6 { &network[8..40] } else { &network[12..20] };
        let pseudo = Sum::default().add(addresses).add_word(u16::from(cut.protocol));
        let network_sum = Sum::default().add(&network[..2]).add(&network[6..10]).add(&network[12..]);
        let identification = word(network, 4);
        if cut.protocol == UDP {
            let transport = pseudo.add(&transport[..4]);
            return Self { network: network_sum, transport, identification, sequence: 0, flags: 0 };
        }
        let sequence = u32::from(word(transport, 4)) << 16 | u32::from(word(transport, 6));
        let flags = word(transport, 12);
        let rest = pseudo.add(&transport[..4]).add(&transport[8..12]).add(&transport[14..16]).add(&transport[18..]);
        Self { network: network_sum, transport: rest, identification, sequence, flags }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::samples::Kind::{self, TcpV4, TcpV6, UdpV4, UdpV6};
    use crate::fast::samples::{ALL, pseudo_header, seal, sum_to_zero};

    const FIN: u8 = 0x01;
    const PSH: u8 = 0x08;
    const ACK: u8 = 0x10;
    const ECE: u8 = 0x40;
    const CWR: u8 = 0x80;

    /// What the kernel puts before a large packet of the kind. The header's length is as wrong as it may be.
    fn header(kind: Kind, size: u16) -> Header {
        let segments = match kind {
            TcpV4 => Segments::TcpV4,
            TcpV6 => Segments::TcpV6,
            UdpV4 | UdpV6 => Segments::Udp,
        };
        let start = kind.transport() as u16;
        let checksum = Some(Checksum { start, offset: kind.checksum() as u16 - start });
        Header { segments, header_length: 9999, segment_size: size, checksum }
    }

    /// A packet with so many bytes of payload, as the kernel hands it over: summed up over the pseudo-header only.
    fn large(kind: Kind, payload: usize) -> Vec<u8> {
        let [mut packet] = kind.stream(&[payload]).try_into().unwrap();
        let pseudo = pseudo_header(&packet, kind.transport(), if kind.tcp() { 6 } else { 17 });
        put(&mut packet, kind.checksum(), pseudo);
        packet
    }

    #[track_caller]
    fn cut(header: &Header, packet: &[u8]) -> Vec<Vec<u8>> {
        let cut = Cut::plan(header, packet).unwrap();
        let mut room = vec![0xa5; cut.total() + 1];
        cut.cut(packet, &mut room);
        assert_eq!(room.pop(), Some(0xa5), "it writes no further than it says");
        let mut rest = &room[..];
        let packets: Vec<_> = cut.lengths().map(|length| rest.split_off(..length).unwrap().to_vec()).collect();
        assert!(rest.is_empty());
        assert_eq!(packets.len(), cut.count());
        packets
    }

    fn flags(kind: Kind, large_packet: u8) -> Vec<u8> {
        let mut packet = large(kind, 250);
        packet[kind.transport() + 13] = large_packet;
        cut(&header(kind, 100), &packet).iter().map(|packet| packet[kind.transport() + 13]).collect()
    }

    #[test]
    fn each_packet_is_as_if_it_had_been_sent_alone() {
        for kind in ALL {
            for (payload, size, sizes) in [
                (300, 100, &[100, 100, 100][..]),
                (301, 100, &[100, 100, 100, 1]),
                (299, 101, &[101, 101, 97]),
                (3, 1, &[1, 1, 1]),
                (65535 - 80, 65535 - 81, &[65535 - 81, 1]),
            ] {
                assert_eq!(cut(&header(kind, size), &large(kind, payload)), kind.stream(sizes), "{kind:?}, {sizes:?}");
            }
        }
    }

    #[test]
    fn what_fits_into_one_packet_only_gets_its_checksum() {
        for kind in ALL {
            for (payload, size) in [(100, 100), (100, 101), (100, 65535), (1, 1), (0, 100)] {
                assert_eq!(cut(&header(kind, size), &large(kind, payload)), kind.stream(&[payload]), "{kind:?}");
            }
        }
    }

    #[test]
    fn the_last_packet_alone_pushes_and_finishes() {
        for kind in [TcpV4, TcpV6] {
            assert_eq!(flags(kind, ACK | PSH), [ACK, ACK, ACK | PSH]);
            assert_eq!(flags(kind, ACK | PSH | FIN), [ACK, ACK, ACK | PSH | FIN]);
        }
    }

    #[test]
    fn the_first_packet_alone_says_that_the_window_was_reduced() {
        for kind in [TcpV4, TcpV6] {
            assert_eq!(flags(kind, ACK | CWR), [ACK | CWR, ACK, ACK]);
            assert_eq!(flags(kind, ACK | CWR | FIN), [ACK | CWR, ACK, ACK | FIN]);
        }
    }

    #[test]
    fn every_packet_has_the_other_flags() {
        for kind in [TcpV4, TcpV6] {
            assert_eq!(flags(kind, ACK | ECE), [ACK | ECE; 3]);
            assert_eq!(flags(kind, 0x36), [0x36; 3]);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_the_protocol_wants_it() {
        for (kind, written) in [(TcpV4, [0; 2]), (TcpV6, [0; 2]), (UdpV4, [0xff; 2]), (UdpV6, [0xff; 2])] {
            let mut packets = kind.stream(&[100, 100]);
            sum_to_zero(&mut packets[0], kind);
            let mut packet = large(kind, 200);
            packet[kind.payload()..][..100].copy_from_slice(&packets[0][kind.payload()..]);
            let segments = cut(&header(kind, 100), &packet);
            assert_eq!(segments[0][kind.checksum()..][..2], written, "{kind:?}");
            assert_eq!(segments, packets, "{kind:?}");
        }
    }

    #[test]
    fn the_headers_end_where_the_packet_says_and_not_the_hint() {
        for kind in ALL {
            for hint in [0, kind.payload() as u16 - 1, 65535] {
                let header = Header { header_length: hint, ..header(kind, 100) };
                assert_eq!(cut(&header, &large(kind, 200)), kind.stream(&[100, 100]), "{kind:?}, {hint}");
            }
        }
    }

    #[test]
    fn ipv4_options_are_in_each_packet() {
        for kind in [TcpV4, UdpV4] {
            let with_options = |mut packet: Vec<u8>| {
                packet[0] = 0x47;
                packet.splice(20..20, [7, 7, 4, 192, 0, 2, 1, 0]);
                seal(&mut packet);
                packet
            };
            let mut header = header(kind, 100);
            header.checksum.as_mut().unwrap().start += 8;
            let expected = kind.stream(&[100, 30]).into_iter().map(with_options).collect::<Vec<_>>();
            assert_eq!(cut(&header, &with_options(large(kind, 130))), expected, "{kind:?}");
        }
    }

    #[test]
    fn ipv6_extension_headers_are_in_each_packet() {
        for kind in [TcpV6, UdpV6] {
            let with_extension = |mut packet: Vec<u8>| {
                let next = std::mem::replace(&mut packet[6], 60);
                packet.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
                let length = packet.len() - 40;
                put(&mut packet, 4, length as u16);
                packet
            };
            let mut header = header(kind, 100);
            header.checksum.as_mut().unwrap().start += 8;
            let expected = kind.stream(&[100, 30]).into_iter().map(with_extension).collect::<Vec<_>>();
            assert_eq!(cut(&header, &with_extension(large(kind, 130))), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_header_that_contradicts_its_packet_is_refused() {
        type Spoil = fn(&mut Header, &mut Vec<u8>, Kind);
        let spoils: [(&str, &[Kind], Spoil); 20] = [
            ("no checksum", &ALL, |header, _, _| header.checksum = None),
            ("nothing to cut", &ALL, |header, _, _| header.segments = Segments::None),
            ("unknown", &ALL, |header, _, _| header.segments = Segments::Unknown(3)),
            ("segments of no bytes", &ALL, |header, _, _| header.segment_size = 0),
            ("IPv6", &[TcpV4], |header, _, _| header.segments = Segments::TcpV6),
            ("IPv4", &[TcpV6], |header, _, _| header.segments = Segments::TcpV4),
            ("UDP", &[TcpV4], |header, _, _| header.segments = Segments::Udp),
            ("TCP", &[UdpV4], |header, _, _| header.segments = Segments::TcpV4),
            ("another version", &ALL, |_, packet, _| packet[0] ^= 0x30),
            ("empty", &ALL, |_, packet, _| packet.clear()),
            ("within the headers", &ALL, |_, packet, kind| packet.truncate(kind.payload() - 1)),
            ("within TCP", &[TcpV4], |_, packet, _| packet.truncate(20 + 12)),
            ("within IP", &ALL, |_, packet, kind| packet.truncate(kind.transport() - 1)),
            ("IP's header is too short", &[TcpV4, UdpV4], |_, packet, _| packet[0] = 0x44),
            ("TCP's header is too short", &[TcpV4, TcpV6], |_, packet, kind| packet[kind.transport() + 12] = 0x40),
            ("TCP within IP", &ALL, |header, _, _| header.checksum.as_mut().unwrap().start -= 1),
            ("TCP behind what IPv4 has", &[TcpV4, UdpV4], |header, packet, kind| {
                header.checksum.as_mut().unwrap().start += 4;
                packet.splice(20..20, [0; 4]);
                assert!(packet.len() > kind.payload());
            }),
            ("TCP far behind IPv6", &[TcpV6], |header, packet, _| {
                header.checksum.as_mut().unwrap().start += 400;
                packet.splice(40..40, [0; 400]);
            }),
            ("TCP behind the end", &ALL, |header, _, _| header.checksum.as_mut().unwrap().start = 65535),
            ("the checksum elsewhere", &ALL, |header, _, _| header.checksum.as_mut().unwrap().offset += 2),
        ];
        for (what, kinds, spoil) in spoils {
            for kind in kinds {
                let (mut header, mut packet) = (header(*kind, 100), large(*kind, 200));
                assert!(Cut::plan(&header, &packet).is_ok());
                spoil(&mut header, &mut packet, *kind);
                assert_eq!(Cut::plan(&header, &packet), Err(Contradiction), "{what}, {kind:?}");
            }
        }
    }

    #[test]
    fn a_packet_of_its_own_gets_its_checksum() {
        for kind in ALL {
            let mut packet = large(kind, 99);
            assert_eq!(complete_checksum(header(kind, 0).checksum.unwrap(), &mut packet), Ok(()));
            assert_eq!([packet], kind.stream(&[99]).as_slice(), "{kind:?}");
        }
    }

    #[test]
    fn a_checksum_of_zero_is_completed_as_the_kernel_does_it() {
        let mut sum = [0x12, 0x34, 0, 0, 0xed, 0xcb];
        assert_eq!(complete_checksum(Checksum { start: 0, offset: 2 }, &mut sum), Ok(()));
        assert_eq!(sum, [0x12, 0x34, 0xff, 0xff, 0xed, 0xcb]);
    }

    #[test]
    fn a_checksum_needs_room() {
        for (start, offset, room) in
            [(0, 0, 1), (0, 8, 9), (9, 0, 10), (10, 0, 10), (11, 0, 10), (65535, 65535, 10), (0, 65535, 65536)]
        {
            let mut packet = vec![1; room];
            let completed = complete_checksum(Checksum { start, offset }, &mut packet);
            assert_eq!(completed, Err(Contradiction), "{start} + {offset} of {room}");
            assert_eq!(packet, vec![1; room]);
        }
        for (start, offset, room) in [(0, 0, 2), (0, 8, 10), (8, 0, 10), (65535, 65535, 131072)] {
            assert_eq!(complete_checksum(Checksum { start, offset }, &mut vec![0; room]), Ok(()));
        }
    }
}
