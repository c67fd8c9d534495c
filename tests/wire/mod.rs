//! Packets of TCP and UDP for the tests of the fast path, and the kernel's side of it: what becomes of a large packet.
//!
//! But for [`judge`], written from the RFCs and from what the kernel's net/ipv4/tcp_offload.c and udp_offload.c do, and not from src/fast.
#![allow(dead_code)] // each test uses its own part

pub mod judge;
pub mod sound;

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// The header of a TUN device's packets, in bytes.
pub const HEADER: usize = 10;

/// What a packet is made of; lengths and checksums follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub ipv6: bool,
    pub tcp: bool,
    /// The last bytes of the addresses, source and destination.
    pub hosts: [u8; 2],
    pub ports: [u16; 2],
    /// DSCP and ECN.
    pub class: u8,
    pub label: u32,
    pub hops: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    /// IPv4 options, or IPv6 extension headers but for their first byte, which says what follows.
    pub between: Vec<u8>,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Parts {
    pub fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    /// Where the header of TCP or UDP begins.
    pub fn transport(&self) -> usize {
        let between = if self.ipv6 && !self.between.is_empty() { self.between.len() + 1 } else { self.between.len() };
        between + if self.ipv6 { 40 } else { 20 }
    }

    /// Where the checksum of TCP or UDP is.
    pub fn checksum(&self) -> usize {
        self.transport() + if self.tcp { 16 } else { 6 }
    }

    /// The length of all headers.
    pub fn headers(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    /// The packet, its lengths and checksums right.
    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.headers()];
        if self.ipv6 {
            put32(&mut bytes, 0, 6 << 28 | u32::from(self.class) << 20 | self.label & 0xfffff);
            bytes[7] = self.hops;
            bytes[8..24].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, self.hosts[0]]);
            bytes[24..40].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, self.hosts[1]]);
            if self.between.is_empty() {
                bytes[6] = self.protocol();
            } else {
                bytes[6] = 60;
                bytes[40] = self.protocol();
                bytes[41..self.transport()].copy_from_slice(&self.between);
            }
        } else {
            bytes[0] = 0x40 | (self.transport() / 4) as u8;
            bytes[1] = self.class;
            put(&mut bytes, 4, self.identification);
            bytes[6] = if self.dont_fragment { 0x40 } else { 0 };
            bytes[8] = self.hops;
            bytes[9] = self.protocol();
            bytes[12..16].copy_from_slice(&[10, 8, 1, self.hosts[0]]);
            bytes[16..20].copy_from_slice(&[10, 8, 2, self.hosts[1]]);
            bytes[20..self.transport()].copy_from_slice(&self.between);
        }
        let transport = &mut bytes[self.transport()..];
        put(transport, 0, self.ports[0]);
        put(transport, 2, self.ports[1]);
        if self.tcp {
            put32(transport, 4, self.sequence);
            put32(transport, 8, self.acknowledgment);
            transport[12] = (transport.len() * 4) as u8;
            transport[13] = self.flags;
            put(transport, 14, self.window);
            put(transport, 18, self.urgent);
            transport[20..].copy_from_slice(&self.options);
        }
        bytes.extend(&self.payload);
        seal(&mut bytes, self.transport(), self.tcp);
        bytes
    }

    /// The packet as it is handed over to be cut into segments of `size` bytes, behind its header.
    pub fn large(&self, size: u16) -> Vec<u8> {
        let mut packet = self.packet();
        let (at, field) = (self.transport(), self.checksum());
        let pseudo = pseudo_header(&packet, at, self.tcp);
        put(&mut packet, field, pseudo);
        let kind = match (self.tcp, self.ipv6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        };
        // A first segment with CWR is told the device beforehand.
        let ecn = if self.tcp && self.flags & CWR != 0 { 0x80 } else { 0 };
        let mut header = vec![1, kind | ecn];
        for number in [self.headers() as u16, size, at as u16, (field - at) as u16] {
            header.extend(number.to_ne_bytes());
        }
        [header, packet].concat()
    }

    /// The packets that carry the payload in pieces of `size` bytes, each sent for itself.
    pub fn pieces(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.payload.len().div_ceil(size).max(1);
        let piece = |index: usize| {
            let (from, to) = (index * size, self.payload.len().min((index + 1) * size));
            let mut flags = self.flags;
            if index > 0 {
                flags &= !CWR;
            }
            if index + 1 < count {
                flags &= !(PSH | FIN);
            }
            Self {
                payload: self.payload[from..to].to_vec(),
                identification: self.identification.wrapping_add(index as u16),
                sequence: self.sequence.wrapping_add(from as u32),
                flags,
                ..self.clone()
            }
            .packet()
        };
        (0..count).map(piece).collect()
    }
}

/// What comes of a large packet that was written to a TUN device, by the kernel's rules; nothing it takes on trust may be
/// wrong.
#[track_caller]
pub fn expand(written: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = written.split_at(HEADER);
    let number = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let (headers, size, at, field) = (number(2), number(4), number(6), number(8));
    let ipv6 = packet[0] >> 4 == 6;
    let protocol = if ipv6 { packet[6] } else { packet[9] };
    let tcp = protocol == 6;
    assert_eq!(header[0], 1, "the checksum is to be made");
    let kind = if !tcp {
        5
    } else if ipv6 {
        4
    } else {
        1
    };
    assert_eq!(header[1], kind);
    assert!(tcp || protocol == 17);
    assert!(packet.len() <= 65535);
    assert_eq!(field, if tcp { 16 } else { 6 });
    if ipv6 {
        assert_eq!((packet[0] >> 4, at), (6, 40));
        assert_eq!(word(packet, 4), packet.len() - 40, "the payload length");
    } else {
        assert_eq!((packet[0], at), (0x45, 20));
        assert_eq!(word(packet, 2), packet.len(), "the total length");
        assert_eq!(word(packet, 6) & 0x3fff, 0, "no fragment");
        assert_eq!(checksum(&packet[..20]), 0, "the header checksum");
    }
    assert_eq!(word(packet, at + field), usize::from(pseudo_header(packet, at, tcp)), "the sum over the pseudo-header");
    assert_eq!(headers, at + if tcp { usize::from(packet[at + 12] >> 4) * 4 } else { 8 });
    let payload = &packet[headers..];
    assert!(size > 0 && size < payload.len(), "{size} of {}", payload.len());
    let count = payload.len().div_ceil(size);
    if !tcp {
        assert!(count <= 64, "{count} datagrams");
        assert_eq!(word(packet, at + 4), packet.len() - at, "the length of UDP");
    }
    let segment = |(index, piece): (usize, &[u8])| {
        let mut segment = [&packet[..headers], piece].concat();
        if !ipv6 {
            put(&mut segment, 4, (word(packet, 4) + index) as u16);
        }
        if tcp {
            let sequence = u32::from_be_bytes(packet[at + 4..at + 8].try_into().unwrap());
            put32(&mut segment, at + 4, sequence.wrapping_add((index * size) as u32));
            segment[at + 13] &= match index {
                _ if index + 1 == count => !CWR,
                0 => !(FIN | PSH),
                _ => !(FIN | PSH | CWR),
            };
        }
        seal(&mut segment, at, tcp);
        segment
    };
    payload.chunks(size).enumerate().map(segment).collect()
}

/// Makes lengths and checksums of a packet whose header of TCP or UDP begins at `at`.
pub fn seal(packet: &mut [u8], at: usize, tcp: bool) {
    let length = packet.len();
    if packet[0] >> 4 == 6 {
        put(packet, 4, (length - 40) as u16);
    } else {
        put(packet, 2, length as u16);
        seal_ipv4(packet);
    }
    if !tcp {
        put(packet, at + 4, (length - at) as u16);
    }
    let field = at + if tcp { 16 } else { 6 };
    put(packet, field, pseudo_header(packet, at, tcp));
    let sum = match checksum(&packet[at..]) {
        0 if !tcp => 0xffff,
        sum => sum,
    };
    put(packet, field, sum);
}

/// Makes the checksum of an IPv4 header.
pub fn seal_ipv4(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    put(packet, 10, 0);
    let sum = checksum(&packet[..header]);
    put(packet, 10, sum);
}

/// The sum over the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn pseudo_header(packet: &[u8], at: usize, tcp: bool) -> u16 {
    let addresses = if packet[0] >> 4 == 6 { &packet[8..40] } else { &packet[12..20] };
    let length = (packet.len() - at) as u32;
    let rest = [length.to_be_bytes(), [0, 0, 0, if tcp { 6 } else { 17 }]].concat();
    !checksum(&[addresses, &rest].concat())
}

/// The sum of RFC 1071: an even byte counts 256-fold.
pub fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let pairs: u64 = pairs.iter().map(|[high, low]| 256 * u64::from(*high) + u64::from(*low)).sum();
    match pairs + odd.iter().map(|odd| 256 * u64::from(*odd)).sum::<u64>() {
        0 => 0xffff,
        sum => 0xffff - ((sum - 1) % 0xffff + 1) as u16,
    }
}

pub fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

pub fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// So many bytes without a pattern, the same ones for a seed; for the seeds below 4 only one byte again and again.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    if let Some(same) = [0, 1, 0xff, 0x80].get(seed as usize) {
        return vec![*same; length];
    }
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((mixed ^ mixed >> 31).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
