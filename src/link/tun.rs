//! The link to a TUN or TAP device: one read or write per packet, or those of [`crate::fast::tun`].

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use crate::counts::{Cause, Counts};
use crate::error::{Error, Result};
use crate::fast::Parts;
use crate::fast::tun::Packets;
use crate::link::{Batch, Link};
use crate::packet;
use crate::pcapng::{Direction, LinkType};
use crate::recording::Recording;
use crate::tun::{Kind, Tun};

/// A TUN device as an end of a tunnel.
#[derive(Debug)]
pub struct TunLink {
    tun: Tun,
    own: Vec<IpAddr>,
    counts: Counts,
    many: Option<Packets>,
    recording: Option<Recording>,
}

impl TunLink {
    /// The end of the tunnel at this device, which bears the addresses `own`.
    pub fn new(tun: Tun, own: impl Iterator<Item = IpAddr>) -> Self {
        Self { tun, own: own.collect(), counts: Counts::default(), many: None, recording: None }
    }

    /// Records what is read and written from now on.
    pub fn recorded(mut self, recording: Option<Recording>) -> Self {
        self.recording = recording;
        self
    }

    /// Reads and writes many packets at a time from now on. The device was opened with headers.
    ///
    /// # Errors
    /// The kernel refuses to be asked for offloads.
    pub fn with_offload(mut self, parts: Parts) -> Result<Self> {
        self.many = Some(Packets::prepare(&self.tun, parts)?);
        Ok(self)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        self.tun.name()
    }

    /// Counts a packet that was received and is of no use to this step.
    pub fn ignore(&mut self, cause: Cause) {
        self.counts.drops.note(cause);
    }

    /// Reads one packet, or many.
    fn read(&mut self, into: &mut Batch) -> Result<(), Errno> {
        match &mut self.many {
            Some(many) => {
                for _ in 0..many.recv(&self.tun, into)? {
                    let what =
                        || format!("a packet from {} is lost: it cannot be cut as its header says", self.tun.name());
                    self.counts.drops.count(Cause::Uncut, what);
                }
            }
            None => {
                let length = self.tun.recv(into.room())?.len();
                into.commit(length);
            }
        }
        self.counts.received.add_many(into.len(), into.places().iter().map(ExactSizeIterator::len).sum());
        Ok(())
    }
}

impl Link for TunLink {
    fn recv(&mut self, into: &mut Batch) -> Result<()> {
        into.clear();
        match self.read(into) {
            Ok(()) => {
                if let Some(recording) = &self.recording {
                    recording.packets(self.tun.name(), link_type(&self.tun), Direction::Out, into.iter());
                }
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(Errno::EBADFD) => Err(gone(&self.tun)),
            Err(error) => Err(Error::failed(format!("cannot read from {}", self.tun.name())).because(error)),
        }
    }

    fn send(&mut self, packets: &Batch) -> Result<()> {
        let Self { tun, own, counts, many, recording } = self;
        if let Some(recording) = recording {
            recording.packets(tun.name(), link_type(tun), Direction::In, packets.iter());
        }
        let mut count = |packet: &[u8], written| count(tun, own, counts, packet, written);
        match many {
            Some(many) => many.send(tun, packets, count),
            None => packets.iter().try_for_each(|packet| count(packet, tun.send(packet))),
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl AsFd for TunLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

/// Counts a packet that was written, or was not. From our own address the kernel accepts nothing that comes in from
/// outside (RFC 1812, section 5.3.7 calls it a martian): the sign that both ends of the tunnel were given one address.
/// That is the user's mistake, but anybody can send such a packet, and one datagram from a stranger must not end the
/// tunnel: hence a warning and not an error.
fn count(tun: &Tun, own: &[IpAddr], counts: &mut Counts, packet: &[u8], written: Result<(), Errno>) -> Result<()> {
    let name = tun.name();
    match written {
        Ok(()) if is_from(packet, own) => counts.drops.count(Cause::OwnSource, || {
            let source = packet::validate(packet).map(|ends| ends.source.to_string()).unwrap_or_default();
            format!(
                "a packet for {name} comes from {source}, the address of {name} itself, and the kernel discards it: \
                 give the two ends of the tunnel two addresses, see --address"
            )
        }),
        Ok(()) => counts.sent.add(packet.len()),
        Err(Errno::EBADFD) => return Err(gone(tun)),
        Err(error) => counts.drops.count(Cause::System(error), || refused(tun, error)),
    }
    Ok(())
}

/// Whether the packet's source is one of these addresses.
fn is_from(packet: &[u8], own: &[IpAddr]) -> bool {
    own.iter().any(|address| match (address, packet.first().map(|byte| byte >> 4)) {
        (IpAddr::V4(address), Some(4)) => packet.get(12..16) == Some(&address.octets()),
        (IpAddr::V6(address), Some(6)) => packet.get(8..24) == Some(&address.octets()),
        _ => false,
    })
}

/// The form of what goes through it, in a recording.
fn link_type(tun: &Tun) -> LinkType {
    match tun.kind() {
        Kind::Tun => LinkType::Raw,
        Kind::Tap => LinkType::Ethernet,
    }
}

fn gone(tun: &Tun) -> Error {
    let while_in_use = match tun.kind() {
        Kind::Tun => "while the tunnel ran",
        Kind::Tap => "while it was in use",
    };
    Error::failed(format!("{} device {} is gone: it was deleted {while_in_use}", tun.kind(), tun.name()))
}

fn refused(tun: &Tun, error: Errno) -> String {
    let name = tun.name();
    match error {
        Errno::EIO => format!("a packet for {name} is lost: the interface is down; ip link set dev {name} up"),
        Errno::EINVAL if tun.kind() == Kind::Tun => {
            format!("a packet for {name} is lost: the kernel says that it is no IP packet")
        }
        _ => format!("a packet for {name} is lost: {}", error.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_from_one_of_our_own_addresses_is_recognised() {
        let own = ["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let mut ipv4 = [0; 20];
        ipv4[0] = 0x45;
        assert!(!is_from(&ipv4, &own));
        ipv4[12..16].copy_from_slice(&[192, 0, 2, 9]);
        assert!(is_from(&ipv4, &own));
        let mut ipv6 = [0; 40];
        ipv6[0] = 0x60;
        ipv6[8..24].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert!(is_from(&ipv6, &own));
        assert!(!is_from(&[], &own));
    }
}
