//! Finds packets that one large packet can stand for, so that one write takes them all into the kernel.
//!
//! Pure. The rule: cut again, the large packet gives back exactly the packets that came, bit for bit. What could be told
//! apart is therefore never merged: other flags, options, windows, TTL, DSCP or ECN; identifications that do not count
//! up; gaps; a segment after a shorter one or after one with PSH; fragments, IPv4 options, IPv6 extension headers; a wrong
//! checksum, or one that UDP leaves out. Such packets pass one by one and unchanged.

use crate::fast::vnet::{Checksum, Header, LENGTH, Segments};
use crate::fast::{TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, put, tcp_flag};
use crate::packet::checksum::Sum;

/// The most UDP datagrams in one packet: what every kernel that has USO takes (`UDP_MAX_SEGMENTS` in linux/udp.h, 64
/// before Linux 6.9).
const MOST_DATAGRAMS: usize = 64;
/// The most TCP segments in one packet: writev(2) takes `IOV_MAX` 1024 pieces.
const MOST_SEGMENTS: usize = 512;
/// The length of the longest headers that are merged: IPv6, and TCP with all options.
const LONGEST_HEADERS: usize = 40 + 60;
/// How many flows are told apart. Two that fall together are merged less; nothing else happens to them.
const FLOWS: usize = 256;

/// No packet, no group.
const NONE: u16 = u16::MAX;

/// Groups the packets of a batch. Allocated once, and used again and again.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    groups: Vec<Group>,
    /// For each packet the next one of its group.
    next: Vec<u16>,
    /// For each flow the group that its next packet may join.
    flows: [u16; FLOWS],
}

/// Packets that are written together.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    first: u16,
    last: u16,
    count: u16,
    /// Whether another packet may join.
    open: bool,
    /// Whether the first packet's checksums were found right.
    verified: bool,
    shape: Shape,
    /// The first packet's payload in bytes, and that of all packets.
    size: usize,
    payload: usize,
}

/// Where the parts of a packet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    ipv6: bool,
    protocol: u8,
    transport: u8,
    payload: u8,
}

impl Coalescer {
    /// Merges TCP segments, and UDP datagrams if the kernel can take them.
    pub fn new(udp: bool) -> Self {
        Self { udp, groups: Vec::new(), next: Vec::new(), flows: [NONE; FLOWS] }
    }

    /// Merges UDP datagrams no longer.
    pub fn leave_udp(&mut self) {
        self.udp = false;
    }

    /// Groups these packets, 65,535 at most.
    pub fn group<'p>(&mut self, packets: impl Fn(usize) -> &'p [u8], count: usize) {
        self.groups.clear();
        self.next.clear();
        self.next.resize(count, NONE);
        self.flows.fill(NONE);
        for index in 0..count {
            let packet = packets(index);
            match Shape::of(packet) {
                Some(shape) => self.place(&packets, index, shape),
                None => {
                    // It may belong to any flow, as a fragment does: nothing behind it may go before it.
                    self.flows.fill(NONE);
                    self.groups.push(Group::alone(index, packet.len()));
                }
            }
        }
    }

    /// The groups, in an order that keeps that of each flow's packets.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// The indices of a group's packets.
    pub fn members(&self, group: &Group) -> impl Iterator<Item = usize> {
        let first = Some(usize::from(group.first));
        std::iter::successors(first, |at| Some(self.next[*at]).filter(|next| *next != NONE).map(usize::from))
    }

    /// Lets the packet join its flow's group, or begin the next one.
    fn place<'p>(&mut self, packets: &impl Fn(usize) -> &'p [u8], index: usize, shape: Shape) {
        let packet = packets(index);
        let slot = shape.slot(packet);
        if let Some(group) = self.groups.get_mut(usize::from(self.flows[slot]))
            && group.open
            && group.takes(packets(usize::from(group.first)), packet, shape)
        {
            self.next[usize::from(group.last)] = index as u16;
            group.last = index as u16;
            group.count += 1;
            let payload = packet.len() - usize::from(shape.payload);
            group.payload += payload;
            group.open = payload == group.size && !shape.pushes(packet) && usize::from(group.count) < shape.most();
            return;
        }
        self.flows[slot] = self.groups.len() as u16;
        let mut group = Group::beginning(index, packet, shape);
        group.open &= self.udp || shape.protocol == TCP;
        self.groups.push(group);
    }
}

impl Group {
    /// A packet that stays alone.
    fn alone(index: usize, length: usize) -> Self {
        let shape = Shape { ipv6: false, protocol: 0, transport: 0, payload: 0 };
        let at = index as u16;
        Self { first: at, last: at, count: 1, open: false, verified: false, shape, size: length, payload: length }
    }

    /// A packet that others may join.
    fn beginning(index: usize, packet: &[u8], shape: Shape) -> Self {
        let size = packet.len() - usize::from(shape.payload);
        let open = size > 0 && shape.can_begin(packet);
        Self { open, shape, size, payload: size, ..Self::alone(index, 0) }
    }

    /// The number of its packets.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The index of its first packet.
    pub fn first(&self) -> usize {
        usize::from(self.first)
    }

    /// The index of its last packet.
    pub fn last(&self) -> usize {
        usize::from(self.last)
    }

    /// Whether it stands for UDP datagrams.
    pub fn is_udp(&self) -> bool {
        self.shape.protocol == UDP
    }

    /// Where in each of its packets the payload begins.
    pub fn payload_at(&self) -> usize {
        usize::from(self.shape.payload)
    }

    /// Whether `packet` is what would come next if the group was cut again. `first` is its first packet.
    fn takes(&mut self, first: &[u8], packet: &[u8], shape: Shape) -> bool {
        let payload = packet.len() - usize::from(shape.payload);
        let length = usize::from(shape.payload) + self.payload + payload;
        shape == self.shape
            && (1..=self.size).contains(&payload)
            && length <= usize::from(u16::MAX)
            && shape.continues(first, packet, self.count, self.payload)
            && (self.verified || shape.is_intact(first))
            && {
                self.verified = true;
                shape.is_intact(packet)
            }
    }

    /// The headers of the large packet, and before them the one for the kernel; `first` and `last` are its packets.
    pub fn headers(&self, first: &[u8], last: &[u8]) -> Headers {
        let Shape { ipv6, protocol, transport, payload } = self.shape;
        let (at, end) = (usize::from(transport), usize::from(payload));
        let (segments, field) = match (protocol, ipv6) {
            (UDP, _) => (Segments::Udp, UDP_CHECKSUM),
            (_, true) => (Segments::TcpV6, TCP_CHECKSUM),
            (_, false) => (Segments::TcpV4, TCP_CHECKSUM),
        };
        let checksum = Some(Checksum { start: at as u16, offset: field as u16 });
        let header = Header { segments, header_length: end as u16, segment_size: self.size as u16, checksum };
        let mut bytes = [0; LENGTH + LONGEST_HEADERS];
        bytes[..LENGTH].copy_from_slice(&header.to_bytes());
        let headers = &mut bytes[LENGTH..LENGTH + end];
        headers.copy_from_slice(&first[..end]);
        let stated = (end - at + self.payload) as u16;
        let addresses = if ipv6 {
            put(headers, 4, stated);
            8..40
        } else {
            put(headers, 2, (end + self.payload) as u16);
            put(headers, 10, 0);
            let checksum = Sum::default().add(&headers[..at]).checksum();
            put(headers, 10, checksum);
            12..20
        };
        let pseudo = Sum::default().add(&headers[addresses]).add(&[0, protocol]).add(&stated.to_be_bytes()).folded();
        let transport = &mut headers[at..];
        put(transport, field, pseudo);
        match protocol {
            TCP => transport[13] |= last[at + 13] & tcp_flag::PSH,
            _ => put(transport, 4, stated),
        }
        Headers { bytes, length: LENGTH + end }
    }
}

/// What comes before the payloads when a group is written.
#[derive(Debug)]
pub struct Headers {
    bytes: [u8; LENGTH + LONGEST_HEADERS],
    length: usize,
}

impl AsRef<[u8]> for Headers {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Shape {
    /// The shape of a packet whose flow is known: a whole TCP segment or UDP datagram, no bytes behind it, without IPv4
    /// options or IPv6 extension headers.
    fn of(packet: &[u8]) -> Option<Self> {
        let (ipv6, transport, protocol) = match packet {
            // Neither fragmented nor to be continued.
            [0x45, _, high, low, _, _, flags, 0, _, protocol, ..] if flags & 0x3f == 0 => {
                (usize::from(u16::from_be_bytes([*high, *low])) == packet.len()).then_some((false, 20, *protocol))?
            }
            [first, _, _, _, high, low, protocol, ..] if first >> 4 == 6 => {
                let length = 40 + usize::from(u16::from_be_bytes([*high, *low]));
                (length == packet.len()).then_some((true, 40, *protocol))?
            }
            _ => return None,
        };
        let header = match protocol {
            TCP => usize::from(packet.get(transport + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let whole = header >= if protocol == TCP { 20 } else { 8 } && transport + header <= packet.len();
        whole.then_some(Self { ipv6, protocol, transport: transport as u8, payload: (transport + header) as u8 })
    }

    /// The addresses and ports.
    fn flow(self, packet: &[u8]) -> &[u8] {
        &packet[if self.ipv6 { 8..44 } else { 12..24 }]
    }

    /// Where the flow's group is remembered.
    fn slot(self, packet: &[u8]) -> usize {
        let (words, _) = self.flow(packet).as_chunks::<4>();
        let mix = |hash: u64, word: &[u8; 4]| {
            (hash.rotate_left(5) ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        (words.iter().fold(u64::from(self.protocol), mix) >> 32) as usize % FLOWS
    }

    fn most(self) -> usize {
        if self.protocol == UDP { MOST_DATAGRAMS } else { MOST_SEGMENTS }
    }

    /// Whether a TCP segment says that it should be delivered at once: it can only be the last of a group.
    fn pushes(self, packet: &[u8]) -> bool {
        self.protocol == TCP && packet[usize::from(self.transport) + 13] & tcp_flag::PSH != 0
    }

    /// Whether others may join the packet: a datagram, or a segment in the middle of a stream.
    fn can_begin(self, packet: &[u8]) -> bool {
        let flags = || packet[usize::from(self.transport) + 13] & !tcp_flag::ECE;
        self.protocol == UDP || flags() == tcp_flag::ACK
    }

    /// Whether the headers of `packet` are those of `first`, counted on by `count` packets and `payload` bytes.
    fn continues(self, first: &[u8], packet: &[u8], count: u16, payload: usize) -> bool {
        let same = |range: std::ops::Range<usize>| first[range.clone()] == packet[range];
        let number = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let network = match self.ipv6 {
            true => same(0..4) && same(7..44),
            false => {
                let identification = number(first, 4).wrapping_add(count);
                same(0..2) && number(packet, 4) == identification && same(6..9) && same(12..24)
            }
        };
        let at = usize::from(self.transport);
        let transport = || match self.protocol {
            UDP => number(packet, at + 4) as usize == packet.len() - at,
            _ => {
                let sequence = |bytes: &[u8]| u32::from_be_bytes([4, 5, 6, 7].map(|byte| bytes[at + byte]));
                sequence(packet) == sequence(first).wrapping_add(payload as u32)
                    && same(at + 8..at + 13)
                    && (first[at + 13] ^ packet[at + 13]) & !tcp_flag::PSH == 0
                    && same(at + 14..at + 16)
                    && same(at + 18..usize::from(self.payload))
            }
        };
        network && transport()
    }

    /// Whether all checksums are there and right. The kernel takes our word for that of a large packet.
    fn is_intact(self, packet: &[u8]) -> bool {
        let at = usize::from(self.transport);
        let transport = &packet[at..];
        let pseudo = Sum::default().add(&packet[if self.ipv6 { 8..40 } else { 12..20 }]).add(&[0, self.protocol]);
        let right = pseudo.add(&(transport.len() as u16).to_be_bytes()).add(transport).checksum() == 0;
        // Zero can be written in two ways, of which the kernel writes one: UDP's zero means that there is none (RFC 768).
        let written = match self.protocol {
            UDP => transport[4..6] == (transport.len() as u16).to_be_bytes() && transport[6..8] != [0, 0],
            _ => transport[TCP_CHECKSUM..TCP_CHECKSUM + 2] != [0xff, 0xff],
        };
        let network =
            self.ipv6 || (Sum::default().add(&packet[..at]).checksum() == 0 && packet[10..12] != [0xff, 0xff]);
        right && written && network
    }
}
