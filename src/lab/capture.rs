//! Packets as the interfaces of a host see them: an AF_PACKET socket of one network namespace (packet(7)).
//!
//! Used by `trace`, `watch` and `lab capture` on every host at once, and by the stand-in for tcpdump. A frame is seen on its way
//! out when the kernel hands it to the interface, on its way in before anything else looks at it.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::error::{Context, Error, RUN_AS_ROOT, Result};
use crate::pcapng::{Direction, LinkType};
use crate::sys;

/// How much may wait in the kernel, in bytes, while nobody reads.
const BUFFER: usize = 16 << 20;

/// The longest frame that is captured whole: an IP packet of any size behind an Ethernet header.
pub const LONGEST: usize = 65_536 + ETHERNET_HEADER;

const ETHERNET_HEADER: usize = 14;

/// A frame that passed an interface.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The interface's name.
    pub interface: String,
    /// The form of its frames.
    pub kind: LinkType,
    /// Which way it went.
    pub direction: Direction,
    /// When it passed, as the kernel has it: the time since 1970.
    pub at: Duration,
    /// Its bytes, from the link-layer header on, as far as they were read.
    pub bytes: Vec<u8>,
    /// Its length on the wire, in bytes.
    pub length: usize,
    /// Whether it is for another host: a bridge that does not know yet where that is sends it to all.
    pub is_foreign: bool,
    protocol: u16,
}

impl Frame {
    /// A frame for tests: bytes that came out of a TUN device.
    #[cfg(test)]
    pub(crate) fn made(interface: &str, bytes: &[u8]) -> Self {
        let (interface, length, bytes) = (interface.into(), bytes.len(), bytes.to_vec());
        let (kind, direction, at) = (LinkType::Raw, Direction::Out, Duration::ZERO);
        Self { interface, kind, direction, at, bytes, length, is_foreign: false, protocol: libc::ETH_P_IP as u16 }
    }

    /// The IP packet in it, from its IP header on; `None` where it holds something else, like ARP.
    pub fn packet(&self) -> Option<&[u8]> {
        let is_ip = [libc::ETH_P_IP, libc::ETH_P_IPV6].contains(&self.protocol.into());
        let header = match self.kind {
            LinkType::Ethernet => ETHERNET_HEADER,
            LinkType::Raw => 0,
        };
        self.bytes.get(header..).filter(|_| is_ip)
    }
}

/// A socket that sees every frame of all interfaces of a network namespace.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    names: HashMap<u32, String>,
    buffer: Vec<u8>,
}

impl Capture {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The right to capture is missing.
    pub fn open() -> Result<Self> {
        Self::with_room(BUFFER, LONGEST)
    }

    /// Opens it with other room: how much may wait in the kernel, and how much of a frame is read, in bytes.
    ///
    /// # Errors
    /// As of [`Capture::open`].
    pub fn with_room(waiting: usize, read: usize) -> Result<Self> {
        let preparing = || "cannot prepare a capture socket".to_string();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let opened = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
        let socket = opened
            .map_err(|errno| Error::environment("cannot open a capture socket").because(errno).hint(RUN_AS_ROOT))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context(preparing)?;
        // Without the right to have more, it has what the machine allows everybody.
        if setsockopt(&socket, sockopt::RcvBufForce, &waiting).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &waiting).context(preparing)?;
        }
        Ok(Self { socket, names: HashMap::new(), buffer: vec![0; read] })
    }

    /// The next frame that waits; `None` where none does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> Result<Option<Frame>> {
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        // With MSG_TRUNC the length is that of the frame, not of what fits.
        let message = loop {
            match recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_TRUNC) {
                Ok(message) => break message,
                Err(Errno::EAGAIN) => return Ok(None),
                // An interface went down; the others go on.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(Error::failed("cannot capture").because(errno)),
            }
        };
        let from = message.address.ok_or_else(|| Error::failed("cannot tell where a captured frame passed"))?;
        let time = message.cmsgs().context(|| "cannot capture".into())?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        let length = message.bytes;
        let index = u32::try_from(from.ifindex()).context(|| "cannot name an interface".into())?;
        let kind = match from.hatype() {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LinkType::Ethernet,
            _ => LinkType::Raw,
        };
        let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
        Ok(Some(Frame {
            interface: self.name(index),
            kind,
            direction: if outgoing { Direction::Out } else { Direction::In },
            at: time.unwrap_or_default(),
            bytes: self.buffer[..length.min(self.buffer.len())].to_vec(),
            length,
            is_foreign: from.pkttype() == libc::PACKET_OTHERHOST,
            protocol: u16::from_be(from.protocol()),
        }))
    }

    /// Has the kernel pass on only the frames that a program of its packet filter takes (socket(7), SO_ATTACH_FILTER).
    ///
    /// # Errors
    /// The kernel finds the program wrong.
    pub fn filter(&self, program: &[libc::sock_filter]) -> Result<()> {
        sys::filter(self.socket.as_fd(), program).context(|| "cannot filter what is captured".into())
    }

    /// How many frames the kernel had no room for since the last call.
    pub fn lost(&self) -> u32 {
        sys::packets_lost(self.socket.as_fd()).unwrap_or(0)
    }

    /// The name of an interface in the socket's network namespace. A TUN device's number is not used again while the
    /// namespace lives, and a new name is seldom given.
    fn name(&mut self, index: u32) -> String {
        let socket = self.socket.as_fd();
        let ask = || sys::interface_name(socket, index).unwrap_or_else(|_| format!("interface {index}"));
        self.names.entry(index).or_insert_with(ask).clone()
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
