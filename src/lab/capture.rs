//! Packets as an interface sees them: an AF_PACKET socket of one network namespace (packet(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};

use crate::error::{Context, Error, RUN_AS_ROOT, Result};

/// Which way a packet went, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came from the wire.
    In,
    /// It went onto the wire.
    Out,
}

/// A packet that passed an interface.
pub struct Seen<'b> {
    /// The interface's name.
    pub interface: String,
    /// Which way it went.
    pub direction: Direction,
    /// The packet, from its IP header on.
    pub packet: &'b [u8],
}

/// A socket that sees every packet of all interfaces of a network namespace.
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The right to capture is missing.
    pub fn open() -> Result<Self> {
        // SOCK_DGRAM: the kernel takes the link-layer header off.
        let opened = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
        let opened = opened
            .map_err(|errno| Error::environment("cannot open a capture socket").because(errno).hint(RUN_AS_ROOT))?;
        Ok(Self { socket: opened })
    }

    /// Waits for the next IP packet, IPv4 or IPv6.
    pub fn next<'b>(&self, buffer: &'b mut [u8]) -> Result<Seen<'b>> {
        loop {
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
                Ok((length, Some(from))) => (length, from),
                Ok((_, None)) | Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(Error::failed("cannot capture").because(errno)),
            };
            let is_ip =
                [libc_protocol(nix::libc::ETH_P_IP), libc_protocol(nix::libc::ETH_P_IPV6)].contains(&from.protocol());
            if is_ip {
                let index = u32::try_from(from.ifindex()).context(|| "cannot name an interface".into())?;
                let interface =
                    if_indextoname(index).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let outgoing = from.pkttype() == nix::libc::PACKET_OUTGOING;
                let direction = if outgoing { Direction::Out } else { Direction::In };
                return Ok(Seen { interface, direction, packet: &buffer[..length] });
            }
        }
    }
}

/// An EtherType as `sll_protocol` has it, in network order.
fn libc_protocol(ethertype: i32) -> u16 {
    (ethertype as u16).to_be()
}
