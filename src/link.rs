//! Batches of IP packets, and the two ends of a tunnel that receive and send them: the TUN device and the UDP socket.
//!
//! Every step's loop hands batches from one [`Link`] to another. A link carries one packet at a time, one system call
//! each, as the handout's programs do; or, if it is asked to, many at a time by way of [`crate::fast`]. What a network does
//! to packets is counted here and survived; an `Err` of a link is the end of the tunnel.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::counts::Counts;
use crate::error::Result;

mod clients;
mod fit;
mod peers;
mod sieve;
mod tun;
mod udp;

pub use crate::fast::vnet::LENGTH as TUN_HEADER;
pub use crate::fast::{Parts, offered};
pub use clients::Rules;
pub use fit::Fit;
pub use peers::{News, Peers, Refused};
pub use tun::TunLink;
pub use udp::{UdpLink, bind};

/// The largest IP packet in bytes. The length of an IPv4 packet is a field of 16 bits (RFC 791, section 3.1); that of an
/// IPv6 packet, too, but its header of 40 bytes comes on top (RFC 8200, section 3).
pub const LARGEST_PACKET: usize = 65535 + 40;

/// What receives and sends batches of packets. Its descriptor is for `select`, to learn when there is something to
/// receive.
pub trait Link: AsFd {
    /// Replaces the content of `into` by the packets that have arrived; none, if there are none or all were dropped.
    fn recv(&mut self, into: &mut Batch) -> Result<()>;

    /// Sends every packet of the batch, or counts why it could not.
    fn send(&mut self, packets: &Batch) -> Result<()>;

    /// What has been received, sent and dropped so far.
    fn counts(&self) -> &Counts;
}

/// Packets in one buffer, and where each lies. Allocated once, and filled again and again.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Range<usize>>,
}

impl Batch {
    /// An empty batch, with room for one packet of any size.
    pub fn new() -> Self {
        Self::with_room(LARGEST_PACKET, 1)
    }

    /// An empty batch, with room for `bytes` bytes in `packets` packets. Memory that no packet touches costs none.
    pub fn with_room(bytes: usize, packets: usize) -> Self {
        Self { bytes: vec![0; bytes], packets: Vec::with_capacity(packets) }
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// The number of packets.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|place| &self.bytes[place.clone()])
    }

    /// The bytes of a packet.
    pub fn packet(&self, index: usize) -> &[u8] {
        &self.bytes[self.packets[index].clone()]
    }

    /// The buffer, in which the packets lie at [`Batch::places`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the packets lie in the buffer, in the order of their arrival.
    pub fn places(&self) -> &[Range<usize>] {
        &self.packets
    }

    /// How many bytes of the buffer are in use, up to the last packet's end.
    pub fn used(&self) -> usize {
        self.packets.last().map_or(0, |place| place.end)
    }

    /// Appends a copy of a packet.
    pub fn push(&mut self, packet: &[u8]) {
        self.room()[..packet.len()].copy_from_slice(packet);
        self.commit(packet.len());
    }

    /// Appends the packet that `make` writes into the room it is given.
    ///
    /// # Errors
    /// That of `make`; then nothing is appended.
    pub fn push_with<E>(&mut self, make: impl FnOnce(&mut [u8]) -> Result<&[u8], E>) -> Result<(), E> {
        let length = make(self.room())?.len();
        self.commit(length);
        Ok(())
    }

    /// Room for one more packet of any size, behind those that are there.
    pub fn room(&mut self) -> &mut [u8] {
        self.room_for(LARGEST_PACKET)
    }

    /// Room for at least so many bytes, behind the packets that are there.
    pub fn room_for(&mut self, length: usize) -> &mut [u8] {
        let used = self.used();
        if self.bytes.len() < used + length {
            self.bytes.resize(used + length, 0);
        }
        &mut self.bytes[used..]
    }

    /// Makes the first `length` bytes of the room a packet of the batch.
    pub fn commit(&mut self, length: usize) {
        let used = self.used();
        self.packets.push(used..used + length);
    }

    /// Makes these bytes of the buffer, behind all packets that are there, a packet of the batch.
    pub fn keep(&mut self, place: Range<usize>) {
        debug_assert!(self.used() <= place.start && place.end <= self.bytes.len());
        self.packets.push(place);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// An address as people write it: an IPv4 address stays one on a socket that serves IPv6 too (RFC 4291, 2.5.5.2).
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_its_packets_in_order_and_whole() {
        let mut batch = Batch::new();
        let packets: [&[u8]; 3] = [b"one", b"", &[7; LARGEST_PACKET]];
        packets.iter().for_each(|packet| batch.push(packet));
        assert_eq!(batch.iter().collect::<Vec<_>>(), packets);
        assert_eq!(batch.len(), 3);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.iter().count(), 0);
    }

    #[test]
    fn what_is_written_into_the_room_is_a_packet_once_committed() {
        let mut batch = Batch::new();
        batch.push(b"one");
        batch.room()[..3].copy_from_slice(b"two");
        assert_eq!(batch.len(), 1);
        batch.commit(3);
        assert_eq!(batch.iter().last(), Some(&b"two"[..]));
    }

    #[test]
    fn a_packet_that_could_not_be_made_is_not_in_the_batch() {
        let mut batch = Batch::new();
        assert_eq!(batch.push_with(|room| Ok::<_, ()>(&room[..2])), Ok(()));
        assert_eq!(batch.push_with(|_| Err("no")), Err("no"));
        assert_eq!(batch.iter().collect::<Vec<_>>(), [[0, 0]]);
    }

    #[test]
    fn an_ipv4_address_is_shown_as_one() {
        let mapped = plain("[::ffff:192.0.2.1]:9".parse().unwrap());
        assert_eq!(mapped.to_string(), "192.0.2.1:9");
    }
}
