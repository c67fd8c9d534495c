//! Puts fragments together again: RFC 791 section 3.2 and RFC 815, RFC 8200 section 4.5, RFC 5722.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::header::{Ip, V4, V4_HEADER, V6, V6_HEADER};
use super::{NotIp, rewrite};

/// How long an IPv4 datagram may take: what Linux grants. RFC 791 proposes 15 s, RFC 1122 section 3.3.2 60 s to 120 s.
const V4_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an IPv6 packet may take (RFC 8200 section 4.5).
const V6_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest IPv4 datagram, and the longest IPv6 payload, in bytes.
const LONGEST: usize = 65535;
/// What a fragment costs in memory beside its bytes, rounded up.
const BOOKKEEPING: usize = 16;

/// What became of a packet that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reassembled<'p> {
    /// It is whole by itself; this is the packet that was pushed.
    Unfragmented(&'p [u8]),
    /// It was the last missing piece; this is the whole packet, with a fresh IPv4 header checksum.
    Complete(Vec<u8>),
    /// It is kept, and others are still missing.
    Incomplete,
    /// It is of no use, and why.
    Dropped(Dropped),
}

impl Reassembled<'_> {
    /// The whole packet, if there is one now.
    pub fn packet(&self) -> Option<&[u8]> {
        match self {
            Self::Unfragmented(packet) => Some(packet),
            Self::Complete(packet) => Some(packet),
            Self::Incomplete | Self::Dropped(_) => None,
        }
    }
}

/// Why a fragment was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// It is no IP packet at all.
    NotIp(NotIp),
    /// The IPv4 header checksum is wrong; the whole datagram would hide that.
    BadHeaderChecksum,
    /// No data, or a length that is no multiple of 8 bytes although more fragments follow.
    BadLength,
    /// It overlaps another fragment with other bytes, or disagrees about the end. The datagram is given up, with what
    /// is still to come of it (RFC 5722).
    Overlap,
    /// The datagram would be longer than 65535 bytes. It is given up.
    TooLong,
    /// It belongs to a datagram that was given up.
    GivenUp,
    /// It alone takes more memory than the limit allows.
    NoRoom,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIp(what) => what.fmt(f),
            Self::BadHeaderChecksum => write!(f, "the IPv4 header checksum is wrong"),
            Self::BadLength => write!(f, "a fragment without data, or not a multiple of 8 bytes long"),
            Self::Overlap => write!(f, "fragments overlap; the datagram is given up"),
            Self::TooLong => write!(f, "fragments beyond 65535 bytes; the datagram is given up"),
            Self::GivenUp => write!(f, "a fragment of a datagram that was given up"),
            Self::NoRoom => write!(f, "a fragment that takes more memory than there is for all"),
        }
    }
}

impl Error for Dropped {}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4(Ipv4Addr, Ipv4Addr, u8, u16),
    V6(Ipv6Addr, Ipv6Addr, u32),
}

/// A fragment's place in its datagram.
struct Piece<'p> {
    key: Key,
    /// Of the data, in bytes.
    offset: usize,
    more: bool,
    data: &'p [u8],
    /// What goes before the data of the whole packet, if this is the first fragment, as it is in the whole packet but
    /// for lengths and checksum.
    header: Vec<u8>,
}

impl Piece<'_> {
    fn end(&self) -> usize {
        self.offset + self.data.len()
    }
}

/// A datagram in the making.
struct Partial {
    started: Duration,
    /// The first fragment's headers; empty until it is here.
    header: Vec<u8>,
    /// The data as far as it is known, zeros where a piece is missing.
    data: Vec<u8>,
    /// Start and end of the pieces, in order; they do not overlap.
    pieces: Vec<(usize, usize)>,
    /// How many bytes of the data are there.
    received: usize,
    /// How long the data is, once the last fragment is here.
    total: Option<usize>,
    given_up: bool,
}

/// Collects fragments until their datagrams are whole, within bounds: of time (30 s for IPv4, 60 s for IPv6), of
/// datagrams, and of bytes. The oldest datagram goes when a new fragment needs the room.
pub struct Reassembler {
    partials: HashMap<Key, Partial>,
    datagrams: usize,
    bytes: usize,
}

impl Default for Reassembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Reassembler {
    /// For 64 datagrams and 1 MiB at a time.
    pub fn new() -> Self {
        Self::with_limits(64, 1 << 20)
    }

    /// For at most `datagrams` (at least 1) unfinished datagrams that take at most `bytes` of memory together.
    pub fn with_limits(datagrams: usize, bytes: usize) -> Self {
        Self { partials: HashMap::new(), datagrams: datagrams.max(1), bytes }
    }

    /// How many datagrams are unfinished, those included that were given up and wait for their time to pass.
    pub fn pending(&self) -> usize {
        self.partials.len()
    }

    /// Takes a packet: gives it back if it is whole, otherwise keeps it for the datagram that it is a part of.
    ///
    /// `now` is the time since any fixed moment; it should not run backwards.
    pub fn push<'p>(&mut self, packet: &'p [u8], now: Duration) -> Reassembled<'p> {
        let piece = match piece(packet) {
            Ok(Some(piece)) => piece,
            Ok(None) => return Reassembled::Unfragmented(packet),
            Err(why) => return Reassembled::Dropped(why),
        };
        self.expire(now);
        let kept = if piece.offset == 0 && !piece.more { alone(&piece).map(Some) } else { self.keep(&piece, now) };
        match kept {
            Ok(Some(whole)) => Reassembled::Complete(whole),
            Ok(None) => Reassembled::Incomplete,
            Err(why) => Reassembled::Dropped(why),
        }
    }

    /// Forgets the datagrams whose time is over. [`push`](Self::push) does so by itself.
    pub fn expire(&mut self, now: Duration) {
        self.partials.retain(|key, partial| {
            let timeout = if matches!(key, Key::V4(..)) { V4_TIMEOUT } else { V6_TIMEOUT };
            now.saturating_sub(partial.started) < timeout
        });
    }

    fn keep(&mut self, piece: &Piece<'_>, now: Duration) -> Result<Option<Vec<u8>>, Dropped> {
        self.make_room(piece)?;
        let partial = self.partials.entry(piece.key).or_insert_with(|| Partial::new(now));
        if !partial.add(piece)? {
            return Ok(None);
        }
        self.partials.remove(&piece.key).map(Partial::whole).transpose()
    }

    /// Forgets the oldest of the other datagrams until a piece fits.
    fn make_room(&mut self, piece: &Piece<'_>) -> Result<(), Dropped> {
        let own = self.partials.get(&piece.key);
        let is_new = own.is_none();
        let grows_by = piece.end().saturating_sub(own.map_or(0, |own| own.data.len()))
            + piece.header.len()
            + BOOKKEEPING
            + if is_new { size_of::<Partial>() } else { 0 };
        while self.used() + grows_by > self.bytes || (is_new && self.partials.len() >= self.datagrams) {
            let others = self.partials.iter().filter(|(key, _)| **key != piece.key);
            let oldest = others.min_by_key(|(_, partial)| partial.started).map(|(key, _)| *key);
            self.partials.remove(&oldest.ok_or(Dropped::NoRoom)?);
        }
        Ok(())
    }

    /// The memory taken, in bytes.
    fn used(&self) -> usize {
        self.partials.values().map(Partial::cost).sum()
    }
}

impl Partial {
    fn new(started: Duration) -> Self {
        let (header, data, pieces) = (Vec::new(), Vec::new(), Vec::new());
        Self { started, header, data, pieces, received: 0, total: None, given_up: false }
    }

    fn cost(&self) -> usize {
        size_of::<Self>() + self.header.len() + self.data.len() + self.pieces.len() * BOOKKEEPING
    }

    /// Takes a piece in; says whether the datagram is whole now.
    fn add(&mut self, piece: &Piece<'_>) -> Result<bool, Dropped> {
        if self.given_up {
            return Err(Dropped::GivenUp);
        }
        let at = self.pieces.partition_point(|(start, _)| *start < piece.offset);
        if self.repeats(piece, at) {
            return Ok(false);
        }
        self.check(piece, at).inspect_err(|_| self.give_up())?;
        self.pieces.insert(at, (piece.offset, piece.end()));
        self.data.resize(self.data.len().max(piece.end()), 0);
        self.data[piece.offset..piece.end()].copy_from_slice(piece.data);
        self.received += piece.data.len();
        if !piece.more {
            self.total = Some(piece.end());
        }
        if piece.offset == 0 {
            self.header.clone_from(&piece.header);
        }
        Ok(self.total == Some(self.received))
    }

    /// Whether the very same piece is here already: networks duplicate packets (RFC 8200 section 4.5).
    fn repeats(&self, piece: &Piece<'_>, at: usize) -> bool {
        self.pieces.get(at) == Some(&(piece.offset, piece.end()))
            && self.data[piece.offset..piece.end()] == *piece.data
            && piece.more != (self.total == Some(piece.end()))
    }

    /// Whether a piece that would come `at` this place leaves its neighbors and the end alone.
    fn check(&self, piece: &Piece<'_>, at: usize) -> Result<(), Dropped> {
        let after_previous = at.checked_sub(1).is_none_or(|at| self.pieces[at].1 <= piece.offset);
        let before_next = self.pieces.get(at).is_none_or(|(start, _)| piece.end() <= *start);
        let within = self.total.is_none_or(|total| piece.end() <= total && piece.more);
        let ends_all = piece.more || piece.end() >= self.data.len();
        if !(after_previous && before_next && within && ends_all) {
            return Err(Dropped::Overlap);
        }
        let fixed = if matches!(piece.key, Key::V4(..)) { V4_HEADER } else { 0 };
        if piece.end() + fixed > LONGEST { Err(Dropped::TooLong) } else { Ok(()) }
    }

    fn give_up(&mut self) {
        *self = Self { given_up: true, ..Self::new(self.started) };
    }

    /// The whole packet: the first fragment's headers and all the data.
    fn whole(self) -> Result<Vec<u8>, Dropped> {
        let Self { header, data, .. } = self;
        let mut packet = header;
        let header = packet.len();
        packet.extend_from_slice(&data);
        let (at, length) = if packet[0] >> 4 == 4 { (2, packet.len()) } else { (4, packet.len() - V6_HEADER) };
        let length = u16::try_from(length).map_err(|_| Dropped::TooLong)?;
        packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        if packet[0] >> 4 == 4 {
            rewrite::set_v4_checksum(&mut packet[..header]);
        }
        Ok(packet)
    }
}

/// The packet in an atomic fragment, an IPv6 fragment header around the whole. It has nothing to do with others of the
/// same identification (RFC 6946).
fn alone(piece: &Piece<'_>) -> Result<Vec<u8>, Dropped> {
    let mut partial = Partial::new(Duration::ZERO);
    partial.add(piece)?;
    partial.whole()
}

/// The piece that a packet is; `None` if it is whole.
fn piece(packet: &[u8]) -> Result<Option<Piece<'_>>, Dropped> {
    let piece = match Ip::parse(packet).map_err(Dropped::NotIp)? {
        Ip::V4(packet) => piece_v4(&packet)?,
        Ip::V6(packet) => piece_v6(&packet),
    };
    match piece {
        Some(piece) if piece.data.is_empty() || (piece.more && piece.data.len() % 8 != 0) => Err(Dropped::BadLength),
        piece => Ok(piece),
    }
}

fn piece_v4<'p>(packet: &V4<'p>) -> Result<Option<Piece<'p>>, Dropped> {
    if !packet.is_fragment() {
        return Ok(None);
    }
    if !packet.header_checksum_is_right() {
        return Err(Dropped::BadHeaderChecksum);
    }
    let key = Key::V4(packet.source(), packet.destination(), packet.protocol(), packet.fields.get_identification());
    let mut header = Vec::new();
    if packet.offset() == 0 {
        header.extend_from_slice(packet.header);
        // Neither a flag nor an offset, as it is no fragment any more.
        header[6..8].fill(0);
    }
    Ok(Some(Piece { key, offset: packet.offset(), more: packet.more_fragments(), data: packet.payload, header }))
}

fn piece_v6<'p>(packet: &V6<'p>) -> Option<Piece<'p>> {
    let (extension, fragment) =
        packet.extensions().find_map(|extension| extension.fragment().map(|fragment| (extension, fragment)))?;
    let mut header = Vec::new();
    if fragment.offset == 0 {
        header.extend_from_slice(&packet.bytes[..extension.at]);
        header[extension.named_at] = extension.bytes[0];
    }
    Some(Piece {
        key: Key::V6(packet.source(), packet.destination(), fragment.identification),
        offset: fragment.offset,
        more: fragment.more,
        data: &packet.bytes[extension.at + extension.bytes.len()..],
        header,
    })
}

#[cfg(test)]
mod tests;
