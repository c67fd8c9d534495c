//! Questions to rtnetlink(7), and the kernel's answers.
//!
//! The kernel answers a request before sending it returns, so there is nothing to wait for, and no need of a runtime: one
//! would be a good part of what a step needs of memory ([`crate::memory`]). Only [`super::Net`] uses it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A socket of the network namespace that the calling thread was in when it was opened.
pub struct Rtnetlink {
    socket: Socket,
    /// The number of the last request.
    sequence: Cell<u32>,
}

impl Rtnetlink {
    /// Opens a socket.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Sends a request with these flags (`NLM_F_*`, netlink(7)), and returns what the kernel tells: with `NLM_F_DUMP` a
    /// list, else one message or none.
    ///
    /// # Errors
    /// The kernel's own; an answer that is none (`InvalidData`).
    pub fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let number = self.sequence.get().wrapping_add(1);
        self.sequence.set(number);
        let mut message = NetlinkMessage::from(request);
        // One of the two, so that every answer has an end.
        let end = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        message.header.flags = NLM_F_REQUEST | end | flags;
        message.header.sequence_number = number;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut told = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Each begins at a multiple of four bytes (netlink(3), NLMSG_ALIGN).
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match message.payload {
                    _ if message.header.sequence_number != number => {}
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(told),
                    NetlinkPayload::InnerMessage(inner) => told.push(inner),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for Rtnetlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
