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
/// Messages received in a call: of joined datagrams, or of single ones.
const JOINED: usize = 8;
const SINGLE: usize = 32;
/// What the socket's buffers are to hold, in bytes: some milliseconds of traffic at full speed.
const BUFFER: usize = 4 << 20;

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
        let gro = parts.gro && setsockopt(socket, sockopt::UdpGroSegment, &true).is_ok();
        let gso = parts.gso && getsockopt(socket, sockopt::UdpGsoSegment).is_ok();
        info!("UDP socket: UDP_SEGMENT {}, UDP_GRO {}", on(gso), on(gro));
        // More than the machine's limits where the rights allow it, else what they allow.
        let _ =
            setsockopt(socket, sockopt::RcvBufForce, &BUFFER).or_else(|_| setsockopt(socket, sockopt::RcvBuf, &BUFFER));
        let _ =
            setsockopt(socket, sockopt::SndBufForce, &BUFFER).or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER));
        let slots = if gro { JOINED } else { SINGLE };
        Self { gso, slots, received: Vec::with_capacity(slots), burst: Burst::default() }
    }

    /// How many bytes a batch needs to receive into.
    pub fn room(&self) -> usize {
        self.slots * SLOT
    }

    /// Receives what is there into the batch's buffer, where [`Messages::received`] tells it.
    ///
    /// # Errors
    /// `EAGAIN`: there is nothing. Others are those of the socket.
    pub fn recv(&mut self, socket: &UdpSocket, into: &mut Batch) -> io::Result<()> {
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
        self.received.iter().flat_map(|(message, from)| {
            let Range { start, end } = message.place;
            let size = message.size.max(1);
            // An empty datagram is one, too.
            (start..end.max(start + 1)).step_by(size).map(move |at| (at..end.min(at + size), *from))
        })
    }

    /// Whether datagrams of one size are sent in runs.
    pub fn joins(&self) -> bool {
        self.gso
    }

    /// Sends each datagram alone from now on: the network device refuses runs.
    pub fn leave_runs(&mut self) {
        info!("UDP socket: the network device does not take UDP_SEGMENT; from now on it is off");
        self.gso = false;
    }
}

/// Joins packets that lie back to back and are of one size, only the last of them shorter, into runs.
pub fn runs(places: impl Iterator<Item = Range<usize>>, join: bool, into: &mut Vec<Datagrams>) {
    let (most, most_bytes) = MOST_IN_RUN;
    into.clear();
    for place in places {
        match into.last_mut() {
            Some(run)
                if join
                    && run.place.end == place.start
                    && run.place.len().is_multiple_of(run.size)
                    && (1..=run.size).contains(&place.len())
                    && run.place.len() < most * run.size
                    && run.place.len() + place.len() <= most_bytes =>
            {
                run.place.end = place.end;
            }
            _ => into.push(Datagrams { size: place.len().max(1), place }),
        }
    }
}
