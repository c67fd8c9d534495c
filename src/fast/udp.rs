//! A UDP socket whose datagrams are sent and received many at a time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;

use log::info;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use crate::fast::{Burst, Parts, on};
use crate::link::Batch;
use crate::sys::{self, Datagrams};

/// The most datagrams that every kernel with `UDP_SEGMENT` sends from one buffer (`UDP_MAX_SEGMENTS` in linux/udp.h, 64
/// before Linux 6.9), and the most bytes: those of one datagram over IPv4 (RFC 768, RFC 791).
const MOST_IN_RUN: (usize, usize) = (64, 65535 - 20 - 8);
/// Room for one message. Not a power of two, so that the messages' beginnings do not share the same lines of a cache.
const SLOT: usize = 65536 + 1536;
/// Messages received in a call: of joined datagrams, few enough that their memory stays in a cache; or of single ones.
const JOINED: usize = 4;
const SINGLE: usize = 32;
/// What the socket's buffers are to hold, in bytes: some milliseconds of traffic at full speed, and bursts of a hundred flows.
/// With less, these lose so much that they stand still; with more, whatever else goes through the tunnel waits longer.
const BUFFER: usize = 8 << 20;

/// Switches `UDP_GRO` on, and says whether the kernel has it.
pub fn joins_received(socket: &UdpSocket) -> bool {
    setsockopt(socket, sockopt::UdpGroSegment, &true).is_ok()
}

/// Whether the kernel has `UDP_SEGMENT`.
pub fn takes_runs(socket: &UdpSocket) -> bool {
    getsockopt(socket, sockopt::UdpGsoSegment).is_ok()
}

/// Receives and sends datagrams.
#[derive(Debug)]
pub struct Messages {
    gso: bool,
    slots: usize,
    received: Vec<(Datagrams, SocketAddr)>,
    burst: Burst,
}

impl Messages {
    /// Switches on what was asked for and the kernel has.
    pub fn prepare(socket: &UdpSocket, parts: Parts) -> Self {
        let gro = parts.gro && joins_received(socket);
        let gso = parts.gso && takes_runs(socket);
        info!("UDP socket: UDP_SEGMENT {}, UDP_GRO {}", on(gso), on(gro));
        // The kernel doubles what it is given (socket(7)). More than the machine's limit where the rights allow it, else that;
        // never less than there is.
        if getsockopt(socket, sockopt::RcvBuf).is_ok_and(|size| size < 2 * BUFFER) {
            let _ = setsockopt(socket, sockopt::RcvBufForce, &BUFFER)
                .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &BUFFER));
        }
        if getsockopt(socket, sockopt::SndBuf).is_ok_and(|size| size < 2 * BUFFER) {
            let _ = setsockopt(socket, sockopt::SndBufForce, &BUFFER)
                .or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER));
        }
        let slots = if gro { JOINED } else { SINGLE };
        Self { gso, slots, received: Vec::with_capacity(slots), burst: Burst::default() }
    }

    /// How many bytes a batch needs to receive into.
    pub fn room(&self) -> usize {
        self.slots * SLOT
    }

    /// Receives what is there into the buffer of an empty batch, where [`Messages::received`] tells it.
    ///
    /// # Errors
    /// `EAGAIN`: there is nothing. Others are those of the socket.
    pub fn recv(&mut self, socket: &UdpSocket, into: &mut Batch) -> io::Result<()> {
        debug_assert!(into.is_empty());
        let (room, received) = (&mut into.room_for(self.slots * SLOT)[..self.slots * SLOT], &mut self.received);
        let result = match self.slots {
            _ if !self.burst.asks_for_more() => sys::receive_datagrams::<1>(socket.as_fd(), room, SLOT, received),
            JOINED => sys::receive_datagrams::<JOINED>(socket.as_fd(), room, SLOT, received),
            _ => sys::receive_datagrams::<SINGLE>(socket.as_fd(), room, SLOT, received),
        };
        self.burst.brought(self.received.iter().map(|(message, _)| message.count()).sum());
        result
    }

    /// What was received by the last call, in its order, each message in pieces as they were sent.
    pub fn received(&self) -> impl Iterator<Item = (Range<usize>, SocketAddr)> {
        self.received.iter().flat_map(|(message, from)| message.each().map(|place| (place, *from)))
    }

    /// Whether datagrams of one size are sent in runs.
    pub fn joins(&self) -> bool {
        self.gso
    }

    /// Sends each datagram alone from now on: the network device refuses runs.
    pub fn leave_runs(&mut self) {
        // Of several runs sent together, each is refused.
        if std::mem::take(&mut self.gso) {
            info!("UDP socket: the network device does not take UDP_SEGMENT; from now on it is off");
        }
    }
}

/// Joins packets for one destination that lie back to back and are of one size, only the last of them shorter, into runs.
pub fn runs(
    places: impl Iterator<Item = (Range<usize>, SocketAddr)>,
    join: bool,
    into: &mut Vec<(Datagrams, SocketAddr)>,
) {
    let (most, most_bytes) = MOST_IN_RUN;
    into.clear();
    for (place, to) in places {
        match into.last_mut() {
            Some((run, whose))
                if join
                    && *whose == to
                    && !run.place.is_empty()
                    && run.place.end == place.start
                    && run.place.len().is_multiple_of(run.size)
                    && (1..=run.size).contains(&place.len())
                    && run.place.len() < most * run.size
                    && run.place.len() + place.len() <= most_bytes =>
            {
                run.place.end = place.end;
            }
            _ => into.push((Datagrams { size: place.len().max(1), place }, to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 9))
    }

    /// How many datagrams of which size each run has, for datagrams back to back.
    fn runs_of(lengths: &[usize]) -> Vec<(usize, usize)> {
        let mut end = 0;
        let places: Vec<_> = lengths
            .iter()
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect();
        runs_at(&places)
    }

    /// The same, wherever they are. Cut as the kernel cuts, each run gives back its datagrams.
    #[track_caller]
    fn runs_at(places: &[Range<usize>]) -> Vec<(usize, usize)> {
        let mut joined = Vec::new();
        runs(std::iter::once((0..1, to(1))), true, &mut joined);
        runs(places.iter().map(|place| (place.clone(), to(1))), true, &mut joined);
        let joined: Vec<_> = joined.into_iter().map(|(run, _)| run).collect();
        let pieces = |run: &Datagrams| {
            let (place, size) = (run.place.clone(), run.size);
            (0..run.count()).map(move |at| place.start + at * size..place.end.min(place.start + (at + 1) * size))
        };
        assert_eq!(joined.iter().flat_map(pieces).collect::<Vec<_>>(), places);
        joined.iter().map(|run| (run.count(), run.size)).collect()
    }

    #[test]
    fn datagrams_of_one_size_are_one_run() {
        assert_eq!(runs_of(&[100, 100, 100]), [(3, 100)]);
        assert_eq!(runs_of(&[1, 1]), [(2, 1)]);
        assert_eq!(runs_of(&[100]), [(1, 100)]);
        assert_eq!(runs_of(&[]), []);
    }

    #[test]
    fn a_shorter_datagram_ends_its_run() {
        assert_eq!(runs_of(&[100, 100, 1, 1, 1]), [(3, 100), (2, 1)]);
        assert_eq!(runs_of(&[100, 50, 50]), [(2, 100), (1, 50)]);
        assert_eq!(runs_of(&[100, 50, 100, 100]), [(2, 100), (2, 100)]);
    }

    #[test]
    fn a_longer_datagram_begins_a_run() {
        assert_eq!(runs_of(&[100, 101, 101]), [(1, 100), (2, 101)]);
    }

    #[test]
    fn an_empty_datagram_stays_alone() {
        assert_eq!(runs_of(&[0, 0, 1, 1, 0, 1]), [(1, 1), (1, 1), (2, 1), (1, 1), (1, 1)]);
        assert_eq!(runs_of(&[100, 0, 100]), [(1, 100), (1, 1), (1, 100)]);
    }

    #[test]
    fn datagrams_that_do_not_lie_back_to_back_stay_apart() {
        assert_eq!(runs_at(&[0..100, 101..201, 201..301]), [(1, 100), (2, 100)]);
        assert_eq!(runs_at(&[100..200, 0..100]), [(1, 100), (1, 100)]);
        assert_eq!(runs_at(&[0..100, 0..100]), [(1, 100), (1, 100)]);
    }

    #[test]
    fn a_run_is_no_longer_than_the_kernel_sends() {
        assert_eq!(runs_of(&[100; 130]), [(64, 100), (64, 100), (2, 100)]);
        assert_eq!(runs_of(&[1; 65]), [(64, 1), (1, 1)]);
        assert_eq!(runs_of(&[1420; 50]), [(46, 1420), (4, 1420)]);
        assert_eq!(runs_of(&[32754, 32753, 1]), [(2, 32754), (1, 1)]);
        assert_eq!(runs_of(&[32754, 32754]), [(1, 32754), (1, 32754)]);
        assert_eq!(runs_of(&[65507, 1]), [(1, 65507), (1, 1)]);
        assert_eq!(runs_of(&[65575, 65575]), [(1, 65575), (1, 65575)]);
    }

    #[test]
    fn a_run_has_one_destination() {
        let places = [(0..100, to(1)), (100..200, to(1)), (200..300, to(2)), (300..400, to(1)), (400..450, to(1))];
        let mut joined = Vec::new();
        runs(places.into_iter(), true, &mut joined);
        let runs: Vec<_> = joined.iter().map(|(run, whose)| (run.place.clone(), *whose)).collect();
        assert_eq!(runs, [(0..200, to(1)), (200..300, to(2)), (300..450, to(1))]);
    }

    #[test]
    fn without_the_kernels_help_each_datagram_is_alone() {
        let mut alone = Vec::new();
        runs([0..100, 100..200, 200..200].map(|place| (place, to(1))).into_iter(), false, &mut alone);
        assert_eq!(alone.iter().map(|(run, _)| run.place.clone()).collect::<Vec<_>>(), [0..100, 100..200, 200..200]);
        assert!(alone.iter().all(|(run, _)| run.count() == 1));
    }

    #[test]
    fn what_was_received_joined_is_taken_apart() {
        let from = SocketAddr::from(([192, 0, 2, 1], 9));
        let received = |place, size| {
            let received = vec![(Datagrams { place, size }, from)];
            let messages = Messages { gso: true, slots: 1, received, burst: Burst::default() };
            messages.received().map(|(place, _)| (place.start, place.end)).collect::<Vec<_>>()
        };
        assert_eq!(received(10..310, 100), [(10, 110), (110, 210), (210, 310)]);
        assert_eq!(received(10..211, 100), [(10, 110), (110, 210), (210, 211)]);
        assert_eq!(received(10..60, 100), [(10, 60)]);
        assert_eq!(received(10..10, 1), [(10, 10)]);
    }
}
