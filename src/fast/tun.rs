//! A TUN device whose packets may be large, in both directions: read once and cut, merged and written once.

use std::io::IoSlice;
use std::os::fd::AsFd;

use log::info;
use nix::errno::Errno;
use nix::sys::uio::writev;

use crate::error::{Context, Result};
use crate::fast::coalesce::Coalescer;
use crate::fast::segment::{Contradiction, Cut, complete_checksum};
use crate::fast::vnet::{self, Header, Segments};
use crate::fast::{Burst, Parts, on};
use crate::link::{Batch, LARGEST_PACKET};
use crate::sys;
use crate::tun::Tun;

/// How many packets are read before the batch is sent on.
const MOST_READS: usize = 256;
/// How many bytes are enough for a batch. Little enough to stay in a processor's cache until they are sent; three large
/// packets, because one is cut into slightly more than one datagram on the way has room for: alone it takes two, the second
/// nearly empty, while three take four.
const ENOUGH: usize = 3 * 65536;

/// `TUN_F_*` of linux/if_tun.h.
mod feature {
    pub const CHECKSUM: u32 = 0x01;
    pub const TSO: u32 = 0x02 | 0x04 | 0x08; // IPv4, IPv6, with ECN
    pub const USO: u32 = 0x20 | 0x40; // IPv4, IPv6
}

/// Which offloads the kernel has for this device: asks for them, and switches them off again.
pub fn offers(tun: &Tun) -> (bool, bool) {
    let takes = |features| sys::set_tun_offload(tun.as_fd(), features).is_ok();
    let tso = takes(feature::CHECKSUM | feature::TSO);
    let uso = takes(feature::CHECKSUM | feature::TSO | feature::USO);
    takes(0);
    (tso, uso)
}

/// Reads and writes a TUN device that was opened with headers of [`vnet::LENGTH`] bytes.
#[derive(Debug)]
pub struct Packets {
    merge: bool,
    coalescer: Coalescer,
    burst: Burst,
    /// What one read brings: a header and a packet.
    read: Vec<u8>,
}

impl Packets {
    /// Switches on what was asked for and the kernel has.
    ///
    /// # Errors
    /// The kernel refuses even to be asked.
    pub fn prepare(tun: &Tun, parts: Parts) -> Result<Self> {
        let (tso, uso) = (if parts.tso { feature::TSO } else { 0 }, if parts.uso { feature::USO } else { 0 });
        let wanted = [tso | uso, tso, 0];
        let offload = |features| match features {
            0 => sys::set_tun_offload(tun.as_fd(), 0),
            some => sys::set_tun_offload(tun.as_fd(), some | feature::CHECKSUM),
        };
        let mut refused = None;
        for features in wanted {
            match offload(features) {
                Ok(()) => {
                    let has = |feature| features & feature != 0;
                    let name = tun.name();
                    if let Some(error) = refused {
                        info!("{name}: this kernel has less than was asked for: {error}");
                    }
                    info!("{name}: TSO {}, USO {}", on(has(feature::TSO)), on(has(feature::USO)));
                    let read = vec![0; vnet::LENGTH + LARGEST_PACKET];
                    let mut coalescer = Coalescer::new(has(feature::USO));
                    if !has(feature::TSO) {
                        coalescer.leave_tcp();
                    }
                    return Ok(Self { merge: features != 0, coalescer, burst: Burst::default(), read });
                }
                Err(error) => refused = Some(error),
            }
        }
        let error = refused.unwrap_or_else(|| Errno::EINVAL.into());
        Err(error).context(|| format!("cannot set the offloads of {}", tun.name()))
    }

    /// Reads the packets that are there, or as many as are enough, and cuts the large ones. Returns how many could not
    /// be cut.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `EBADFD`: the interface was deleted.
    pub fn recv(&mut self, tun: &Tun, into: &mut Batch) -> Result<usize, Errno> {
        let mut lost = 0;
        let reads = if self.burst.asks_for_more() { MOST_READS } else { 1 };
        for _ in 0..reads {
            match tun.recv(&mut self.read) {
                Ok(read) => {
                    let Some((header, packet)) = read.split_first_chunk_mut() else { continue };
                    lost += usize::from(finish(&Header::parse(header), packet, into).is_err());
                }
                Err(error) if into.is_empty() && lost == 0 => return Err(error),
                Err(_) => break,
            }
            if into.used() >= ENOUGH {
                break;
            }
        }
        self.burst.brought(into.len());
        Ok(lost)
    }

    /// Writes the packets, and tells of each what the kernel's answer was.
    ///
    /// # Errors
    /// Those of `written`; then the rest is not written.
    pub fn send(
        &mut self,
        tun: &Tun,
        packets: &Batch,
        mut written: impl FnMut(&[u8], Result<(), Errno>) -> Result<()>,
    ) -> Result<()> {
        if packets.len() == 1 || !self.merge {
            return packets.iter().try_for_each(|packet| written(packet, write_alone(tun, packet)));
        }
        let mut refused = None;
        self.coalescer.merge(packets.places(), packets.bytes(), |large, members| {
            let result = large.map(|large| tun.send(large));
            if result == Some(Err(Errno::EINVAL)) {
                refused = large.and_then(<[u8]>::first_chunk).map(|header| Header::parse(header).segments);
            }
            members.iter().map(|index| packets.packet(usize::from(*index))).try_for_each(|packet| match result {
                Some(result) if result != Err(Errno::EINVAL) => written(packet, result),
                _ => written(packet, write_alone(tun, packet)),
            })
        })?;
        if let Some(kind) = refused {
            let protocol = if kind == Segments::Udp { "UDP" } else { "TCP" };
            info!(
                "{}: the kernel refuses a large {protocol} packet; from now on they are written one by one",
                tun.name()
            );
            match kind {
                Segments::Udp => self.coalescer.leave_udp(),
                _ => self.coalescer.leave_tcp(),
            }
        }
        Ok(())
    }
}

/// Appends what the kernel handed over to the batch, cut and with its checksum.
fn finish(header: &Header, packet: &mut [u8], into: &mut Batch) -> Result<(), Contradiction> {
    match (header.segments, header.checksum) {
        (Segments::None, None) => into.push(packet),
        (Segments::None, Some(checksum)) => {
            complete_checksum(checksum, packet)?;
            into.push(packet);
        }
        _ => {
            let cut = Cut::plan(header, packet)?;
            cut.cut(packet, into.room_for(cut.total()));
            cut.lengths().for_each(|length| into.commit(length));
        }
    }
    Ok(())
}

fn write_alone(tun: &Tun, packet: &[u8]) -> Result<(), Errno> {
    writev(tun, &[IoSlice::new(&[0; vnet::LENGTH]), IoSlice::new(packet)]).map(|_| ())
}
