//! Finds packets that one large packet can stand for, so that one write takes them all into the kernel.
//!
//! Pure. The rule: cut again, the large packet gives back exactly the packets that came, bit for bit. What could be told
//! apart is therefore never merged: other flags, options, windows, TTL, DSCP or ECN; identifications that do not count
//! up; gaps; a segment after a shorter one or after one with PSH; fragments, IPv4 options, IPv6 extension headers; a wrong
//! checksum, or one that UDP leaves out. Such packets pass one by one and unchanged.

use std::ops::Range;

use crate::fast::vnet::{self, Checksum, Header, Segments};
use crate::fast::{TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, put, tcp_flag};
use crate::packet::checksum::Sum;

/// The most UDP datagrams in one packet: what every kernel that has USO takes (`UDP_MAX_SEGMENTS` in linux/udp.h, 64
/// before Linux 6.9).
const MOST_DATAGRAMS: u16 = 64;
/// The most TCP segments in one packet: no kernel counts further (`gso_segs` in linux/skbuff.h).
const MOST_SEGMENTS: u16 = u16::MAX;
/// The largest packet, in bytes: what IPv4's total length can state.
const LARGEST: usize = 65535;
/// Where the payload of a large packet begins in the buffer, behind room for all headers: the kernel's, IPv6, TCP with all
/// options. A multiple of a cache line's 64 bytes.
const FRONT: usize = 128;
/// How many flows are told apart. Two that fall together are merged less; nothing else happens to them.
const FLOWS: usize = 256;

/// What the packets of a group have in common: every bit but those of the total length, the identification and the
/// checksum (RFC 791, section 3.1) or of the payload length (RFC 8200, section 3), of TCP's sequence number, PSH and checksum
/// (RFC 9293, section 3.1), of UDP's length and checksum (RFC 768).
static FIXED_TCP_V4: [u8; LONGEST_HEADERS] = all_but(&[2, 3, 4, 5, 10, 11], 20, &[4, 5, 6, 7, 16, 17], !tcp_flag::PSH);
static FIXED_TCP_V6: [u8; LONGEST_HEADERS] = all_but(&[4, 5], 40, &[4, 5, 6, 7, 16, 17], !tcp_flag::PSH);
static FIXED_UDP_V4: [u8; LONGEST_HEADERS] = all_but(&[2, 3, 4, 5, 10, 11], 20, &[4, 5, 6, 7], 0xff);
static FIXED_UDP_V6: [u8; LONGEST_HEADERS] = all_but(&[4, 5], 40, &[4, 5, 6, 7], 0xff);

/// The longest headers that are merged: IPv6, and TCP with all options.
const LONGEST_HEADERS: usize = 40 + 60;

const fn all_but(network: &[usize], at: usize, transport: &[usize], flags: u8) -> [u8; LONGEST_HEADERS] {
    let mut bits = [0xff; LONGEST_HEADERS];
    let mut index = 0;
    while index < network.len() {
        bits[network[index]] = 0;
        index += 1;
    }
    index = 0;
    while index < transport.len() {
        bits[at + transport[index]] = 0;
        index += 1;
    }
    bits[at + 13] = flags;
    bits
}

/// Whether headers of one length, a multiple of 4 bytes, are the same where `fixed` has bits.
fn alike(one: &[u8], other: &[u8], fixed: &[u8; LONGEST_HEADERS]) -> bool {
    let ((one, _), (other, _), (fixed, _)) = (one.as_chunks::<4>(), other.as_chunks::<4>(), fixed.as_chunks::<4>());
    let word = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes);
    let words = one.iter().zip(other).zip(fixed);
    words.fold(0, |found, ((one, other), fixed)| found | (word(one) ^ word(other)) & word(fixed)) == 0
}

/// No packet, no group.
const NONE: u16 = u16::MAX;

/// Groups the packets of a batch. Allocated once, and used again and again.
#[derive(Debug)]
pub struct Coalescer {
    tcp: bool,
    udp: bool,
    groups: Vec<Group>,
    /// For each packet the next one of its group.
    next: Vec<u16>,
    /// The packets of the group that is being merged, and the packet that is being made of them.
    members: Vec<u16>,
    large: Vec<u8>,
    /// For each flow the group that its next packet may join.
    flows: [u16; FLOWS],
    /// The group that the packet before is in.
    latest: u16,
}

/// Packets that are written together.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: u16,
    last: u16,
    count: u16,
    /// Whether another packet may join.
    open: bool,
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
        let (groups, next, members) = (Vec::new(), Vec::new(), Vec::new());
        let large = vec![0; FRONT + LARGEST];
        Self { tcp: true, udp, groups, next, members, large, flows: [NONE; FLOWS], latest: NONE }
    }

    /// Merges TCP segments no longer.
    pub fn leave_tcp(&mut self) {
        self.tcp = false;
    }

    /// Merges UDP datagrams no longer.
    pub fn leave_udp(&mut self) {
        self.udp = false;
    }

    /// Merges these packets, which lie in `bytes` and are 65,535 at most. `write` gets what is to be written, in an order
    /// that keeps that of each flow's packets: a large packet behind its header, if there is one, and the indices of the
    /// packets that it stands for; else the index of one packet.
    ///
    /// # Errors
    /// The first of `write`; then the rest is not written.
    pub fn merge<E>(
        &mut self,
        packets: &[Range<usize>],
        bytes: &[u8],
        mut write: impl FnMut(Option<&[u8]>, &[u16]) -> Result<(), E>,
    ) -> Result<(), E> {
        let packet = |index: u16| &bytes[packets[usize::from(index)].clone()];
        self.group(packet, packets.len() as u16);
        for group in &self.groups {
            self.members.clear();
            let next = |at: &u16| Some(self.next[usize::from(*at)]).filter(|next| *next != NONE);
            self.members.extend(std::iter::successors(Some(group.first), next));
            // One with a wrong checksum ends what has been merged so far, and goes alone.
            let mut rest = &self.members[..];
            while !rest.is_empty() {
                let (intact, payload) = group.copy_payloads(rest.iter().map(|at| packet(*at)), &mut self.large);
                let (merged, after) = rest.split_at(intact.max(1));
                match merged {
                    [first, .., last] => {
                        let front = group.write_headers(packet(*first), packet(*last), payload, &mut self.large);
                        write(Some(&self.large[front..FRONT + payload]), merged)?;
                    }
                    alone => write(None, alone)?,
                }
                rest = after;
            }
        }
        Ok(())
    }

    /// Finds the packets that belong together by their headers.
    fn group<'p>(&mut self, packet: impl Fn(u16) -> &'p [u8], count: u16) {
        self.groups.clear();
        self.next.clear();
        self.next.resize(usize::from(count), NONE);
        self.flows.fill(NONE);
        self.latest = NONE;
        for index in 0..count {
            match Shape::of(packet(index)) {
                Some(shape) => self.place(&packet, index, shape),
                None => {
                    // It may belong to any flow, as a fragment does: nothing behind it may go before it.
                    self.flows.fill(NONE);
                    self.latest = NONE;
                    self.groups.push(Group::alone(index));
                }
            }
        }
    }

    /// Lets the packet join its flow's group, or begin the next one.
    fn place<'p>(&mut self, packet: &impl Fn(u16) -> &'p [u8], index: u16, shape: Shape) {
        let bytes = packet(index);
        // Most packets come right behind the one before them; then the flow need not be looked up.
        if self.join(self.latest, packet, index, shape) {
            return;
        }
        let slot = shape.slot(bytes);
        if self.join(self.flows[slot], packet, index, shape) {
            self.latest = self.flows[slot];
            return;
        }
        self.latest = self.groups.len() as u16;
        self.flows[slot] = self.latest;
        let open = shape.can_begin(bytes) && if shape.protocol == TCP { self.tcp } else { self.udp };
        let payload = bytes.len() - usize::from(shape.payload);
        self.groups.push(Group { open, shape, size: payload, payload, ..Group::alone(index) });
    }

    /// Lets the packet join the group, if there is one and it is what comes next in it.
    fn join<'p>(&mut self, group: u16, packet: &impl Fn(u16) -> &'p [u8], index: u16, shape: Shape) -> bool {
        let Some(group) = self.groups.get_mut(usize::from(group)) else { return false };
        let joins = group.open && group.takes(packet(group.first), packet(index), shape);
        if joins {
            self.next[usize::from(group.last)] = index;
            group.add(index, packet(index));
        }
        joins
    }
}

impl Group {
    /// A packet that stays alone.
    fn alone(index: u16) -> Self {
        let shape = Shape { ipv6: false, protocol: 0, transport: 0, payload: 0 };
        Self { first: index, last: index, count: 1, open: false, shape, size: 0, payload: 0 }
    }

    /// Whether `packet` is what would come next if the group was cut again. `first` is its first packet.
    fn takes(&self, first: &[u8], packet: &[u8], shape: Shape) -> bool {
        let payload = packet.len() - usize::from(shape.payload);
        shape == self.shape
            && (1..=self.size).contains(&payload)
            && usize::from(shape.payload) + self.payload + payload <= LARGEST
            && shape.continues(first, packet, self.count, self.payload)
    }

    fn add(&mut self, index: u16, packet: &[u8]) {
        let payload = packet.len() - usize::from(self.shape.payload);
        self.last = index;
        self.count += 1;
        self.payload += payload;
        self.open = payload == self.size && !self.shape.pushes(packet) && self.count < self.shape.most();
    }

    /// Copies the payloads into the large packet, up to the first packet whose checksums are not right. Returns how many
    /// were right, and the length of their payloads together. A packet without company is not looked at.
    fn copy_payloads<'p>(&self, packets: impl ExactSizeIterator<Item = &'p [u8]>, large: &mut [u8]) -> (usize, usize) {
        let (mut intact, mut payload) = (0, 0);
        if packets.len() > 1 {
            for packet in packets {
                if !self.shape.copy_intact(packet, &mut large[FRONT + payload..]) {
                    break;
                }
                intact += 1;
                payload += packet.len() - usize::from(self.shape.payload);
            }
        }
        (intact, payload)
    }

    /// Writes the headers of the large packet before its payload, and the one for the kernel before them; `first` and
    /// `last` are its packets. Returns where they begin.
    fn write_headers(&self, first: &[u8], last: &[u8], payload: usize, large: &mut [u8]) -> usize {
        let Shape { ipv6, protocol, transport: at, payload: end } = self.shape;
        let (at, end) = (usize::from(at), usize::from(end));
        let (segments, field) = match (protocol, ipv6) {
            (UDP, _) => (Segments::Udp, UDP_CHECKSUM),
            (_, true) => (Segments::TcpV6, TCP_CHECKSUM),
            (_, false) => (Segments::TcpV4, TCP_CHECKSUM),
        };
        let checksum = Some(Checksum { start: at as u16, offset: field as u16 });
        let header = Header { segments, header_length: end as u16, segment_size: self.size as u16, checksum };
        let front = FRONT - end - vnet::LENGTH;
        let (for_kernel, headers) = large[front..FRONT].split_at_mut(vnet::LENGTH);
        for_kernel.copy_from_slice(&header.to_bytes());
        headers.copy_from_slice(&first[..end]);
        let stated = (end - at + payload) as u16;
        let addresses = if ipv6 {
            put(headers, 4, stated);
            8..40
        } else {
            put(headers, 2, (end + payload) as u16);
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
        front
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

    fn most(self) -> u16 {
        if self.protocol == UDP { MOST_DATAGRAMS } else { MOST_SEGMENTS }
    }

    /// Whether a TCP segment says that it should be delivered at once: it can only be the last of a group.
    fn pushes(self, packet: &[u8]) -> bool {
        self.protocol == TCP && packet[usize::from(self.transport) + 13] & tcp_flag::PSH != 0
    }

    /// Whether others may join the packet: a datagram, or a segment in the middle of a stream.
    fn can_begin(self, packet: &[u8]) -> bool {
        let flags = || packet[usize::from(self.transport) + 13] & !tcp_flag::ECE;
        packet.len() > usize::from(self.payload) && (self.protocol == UDP || flags() == tcp_flag::ACK)
    }

    /// Whether the headers of `packet` are those of `first`, counted on by `count` packets and `payload` bytes.
    fn continues(self, first: &[u8], packet: &[u8], count: u16, payload: usize) -> bool {
        let counts_up = || {
            let identification = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
            self.ipv6 || identification(packet) == identification(first).wrapping_add(count)
        };
        let follows = || {
            let at = usize::from(self.transport);
            let sequence = |bytes: &[u8]| u32::from_be_bytes([4, 5, 6, 7].map(|byte| bytes[at + byte]));
            self.protocol == UDP || sequence(packet) == sequence(first).wrapping_add(payload as u32)
        };
        let end = usize::from(self.payload);
        follows() && counts_up() && alike(&first[..end], &packet[..end], self.fixed())
    }

    /// Which bits of the headers have to be the same in all packets of a group.
    fn fixed(self) -> &'static [u8; LONGEST_HEADERS] {
        match (self.ipv6, self.protocol) {
            (false, UDP) => &FIXED_UDP_V4,
            (false, _) => &FIXED_TCP_V4,
            (true, UDP) => &FIXED_UDP_V6,
            (true, _) => &FIXED_TCP_V6,
        }
    }

    /// Copies the payload, and says whether all checksums are there and right: the kernel takes our word for those of a
    /// large packet.
    fn copy_intact(self, packet: &[u8], to: &mut [u8]) -> bool {
        let (headers, payload) = packet.split_at(usize::from(self.payload));
        let (network, transport) = headers.split_at(usize::from(self.transport));
        let length = (transport.len() + payload.len()) as u16;
        // The addresses end where the transport begins.
        let ends = &headers[if self.ipv6 { 8 } else { 12 }..];
        let sum = Sum::default().add_copied(payload, to).add(ends).add_word(u16::from(self.protocol)).add_word(length);
        let right = sum.checksum() == 0;
        // Zero can be written in two ways, of which the kernel writes one: UDP's zero means that there is none (RFC 768).
        let written = match self.protocol {
            UDP => transport[4..6] == length.to_be_bytes() && transport[UDP_CHECKSUM..] != [0, 0],
            _ => transport[TCP_CHECKSUM..TCP_CHECKSUM + 2] != [0xff, 0xff],
        };
        let network = self.ipv6 || (Sum::default().add(network).checksum() == 0 && network[10..12] != [0xff, 0xff]);
        right && written && network
    }
}

#[cfg(test)]
mod tests;
