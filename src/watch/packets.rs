//! The packets that have passed, each with the places where it was seen: at most so many, and so many bytes. Pure.
//!
//! A packet is one thing on its whole way, in a datagram or not: `sight` knows it again. So a ping through the tunnel is two
//! packets, request and reply, of six places each, and not twelve frames.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::sight::{Protocol, Sight};
use crate::pcapng::{Direction, LinkType};

/// How many packets are kept, and how many bytes of all their frames.
const MOST: usize = 1000;
const MOST_BYTES: usize = 8 << 20;

/// How many places of one packet are kept. One that goes in circles is seen often.
const MOST_PLACES: usize = 24;

/// How long a packet is looked for at further places. What looks like it later is sent again.
const TOGETHER: Duration = Duration::from_secs(2);

/// One place where a packet was seen.
#[derive(Debug, Clone)]
pub struct Place {
    /// The host, by its place in the topology.
    pub host: usize,
    /// Its interface.
    pub interface: String,
    /// Into the host, or out of it.
    pub direction: Direction,
    /// When: the time since 1970.
    pub at: Duration,
    /// The form of the frame, its bytes as far as they were kept, and its length on the wire.
    pub kind: LinkType,
    /// See [`Place::kind`].
    pub bytes: Vec<u8>,
    /// See [`Place::kind`].
    pub length: usize,
    /// What was seen in it.
    pub sight: Sight,
}

/// One packet on its way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// Its number, counted from 1.
    pub number: u64,
    /// Where it was seen, in the order of time; there is one at least.
    pub places: Vec<Place>,
}

impl Journey {
    /// The packet as it was seen first.
    pub fn sight(&self) -> Option<&Sight> {
        self.places.first().map(|place| &place.sight)
    }

    /// What it is.
    pub fn protocol(&self) -> Protocol {
        self.sight().map_or(Protocol::Other, |sight| sight.protocol)
    }

    /// Whether it was in the tunnel at some place.
    pub fn is_tunnelled(&self) -> bool {
        self.places.iter().any(|place| place.sight.outer.is_some())
    }

    /// The time from the first place to this one, in milliseconds.
    pub fn since(&self, place: &Place) -> f64 {
        let first = self.places.first().map_or(place.at, |first| first.at);
        place.at.saturating_sub(first).as_nanos() as f64 / 1e6
    }

    /// Whether it can have been at this place, too, and has not been there yet.
    fn takes(&self, place: &Place) -> bool {
        let first = self.places.first().map_or(place.at, |first| first.at);
        let is_new = |other: &Place| {
            (other.host, other.direction) != (place.host, place.direction)
                || other.interface != place.interface
                // In a datagram and not, on one wire: a tunnel that swallows its own datagrams.
                || other.sight.outer.is_some() != place.sight.outer.is_some()
        };
        self.places.len() < MOST_PLACES && place.at.abs_diff(first) < TOGETHER && self.places.iter().all(is_new)
    }
}

/// The last packets.
#[derive(Debug, Default)]
pub struct Packets {
    kept: VecDeque<Journey>,
    /// The number of the newest packet with a key.
    newest: HashMap<u64, u64>,
    bytes: usize,
    numbered: u64,
}

impl Packets {
    /// Adds what was seen, as a place of a packet that is there or as a new one.
    pub fn add(&mut self, place: Place) {
        self.bytes += place.bytes.len();
        let key = place.sight.key;
        let known = self.newest.get(&key).copied();
        if let Some(journey) = known.and_then(|number| self.get_mut(number)).filter(|journey| journey.takes(&place)) {
            let at = journey.places.partition_point(|other| other.at <= place.at);
            journey.places.insert(at, place);
        } else {
            self.numbered += 1;
            self.newest.insert(key, self.numbered);
            self.kept.push_back(Journey { number: self.numbered, places: vec![place] });
        }
        while self.kept.len() > MOST || self.bytes > MOST_BYTES {
            self.forget();
        }
    }

    /// Forgets the oldest packet.
    fn forget(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        for place in oldest.places {
            self.bytes = self.bytes.saturating_sub(place.bytes.len());
            if self.newest.get(&place.sight.key) == Some(&oldest.number) {
                self.newest.remove(&place.sight.key);
            }
        }
    }

    /// The packet of this number, if it is still there.
    pub fn get(&self, number: u64) -> Option<&Journey> {
        self.kept.get(self.place_of(number)?)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Journey> {
        let place = self.place_of(number)?;
        self.kept.get_mut(place)
    }

    /// They are numbered without a gap.
    fn place_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.kept.front()?.number)?).ok()
    }

    /// Forgets all of them; their numbers are not used again.
    pub fn clear(&mut self) {
        *self = Self { numbered: self.numbered, ..Self::default() };
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Journey> {
        self.kept.iter()
    }

    /// How many there have been.
    pub fn numbered(&self) -> u64 {
        self.numbered
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::samples::{datagram, echo};
    use super::super::sight::Eye;
    use super::*;

    fn place(eye: &Eye, host: usize, interface: &str, direction: Direction, at: u64, packet: Vec<u8>) -> Place {
        let sight = eye.see(&packet, Some(&packet), packet.len());
        let (length, at) = (packet.len(), Duration::from_micros(at));
        Place { host, interface: interface.into(), direction, at, kind: LinkType::Raw, bytes: packet, length, sight }
    }

    #[test]
    fn a_packet_is_one_at_all_its_places_whatever_the_order_they_come_in() {
        let (eye, mut packets) = (Eye::new(9090), Packets::default());
        let all = [
            place(&eye, 0, "tun0", Direction::Out, 0, echo(8, 1, 64)),
            place(&eye, 0, "eth0", Direction::Out, 10, datagram(&echo(8, 1, 64))),
            place(&eye, 1, "eth0", Direction::In, 11, datagram(&echo(8, 1, 64))),
            place(&eye, 1, "tun0", Direction::In, 20, echo(8, 1, 64)),
            place(&eye, 1, "eth1", Direction::Out, 21, echo(8, 1, 63)),
            place(&eye, 2, "eth0", Direction::In, 22, echo(8, 1, 63)),
        ];
        for number in [3, 0, 5, 1, 4, 2] {
            packets.add(all[number].clone());
        }
        packets.add(place(&eye, 2, "eth0", Direction::Out, 30, echo(0, 1, 64)));
        let seen: Vec<_> = packets.iter().map(|journey| journey.places.len()).collect();
        assert_eq!(seen, [6, 1]);
        let first = packets.get(1).unwrap();
        assert!(first.places.is_sorted_by_key(|place| place.at));
        assert!(first.is_tunnelled() && !packets.get(2).unwrap().is_tunnelled());
        assert_eq!(first.since(&first.places[5]), 0.022);
    }

    #[test]
    fn what_comes_to_a_place_again_is_another_packet() {
        let (eye, mut packets) = (Eye::new(9090), Packets::default());
        for at in [0, 10] {
            packets.add(place(&eye, 0, "tun0", Direction::Out, at, echo(8, 1, 64)));
        }
        packets.add(place(&eye, 1, "tun0", Direction::In, 20, echo(8, 1, 64)));
        packets.add(place(&eye, 1, "eth0", Direction::In, 9_000_000, echo(8, 1, 64)));
        let seen: Vec<_> = packets.iter().map(|journey| journey.places.len()).collect();
        assert_eq!(seen, [1, 2, 1]);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let (eye, mut packets) = (Eye::new(9090), Packets::default());
        let mut large = echo(8, 1, 64);
        large.resize(60_000, 0);
        for number in 0..3000_u64 {
            let mut packet = if number < 500 { large.clone() } else { echo(8, 1, 64) };
            packet[24..28].copy_from_slice(&(number as u32).to_be_bytes());
            packets.add(place(&eye, 0, "tun0", Direction::Out, number, packet));
            assert!(packets.kept.len() <= MOST && packets.bytes <= MOST_BYTES);
        }
        assert_eq!(packets.kept.len(), MOST);
        assert!(packets.newest.len() <= MOST);
        assert_eq!(packets.bytes, MOST * 84);
        assert_eq!(packets.numbered(), 3000);
        assert!(packets.get(2000).is_none() && packets.get(2001).is_some());
    }

    #[test]
    fn what_goes_in_circles_is_seen_so_often_and_no_more() {
        let (eye, mut packets) = (Eye::new(9090), Packets::default());
        for host in 0..100 {
            packets.add(place(&eye, host, "eth0", Direction::In, 0, echo(8, 1, 64)));
        }
        assert!(packets.iter().all(|journey| journey.places.len() <= MOST_PLACES));
    }
}
