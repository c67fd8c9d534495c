//! What comes out of a TUN device, made to fit the path to the other end.
//!
//! The TUN device's MTU follows the path, so there is nothing to do here but to look at each length. A packet is too
//! large only where the user chose a larger MTU, and for the moment before the device's MTU is adjusted. Such a packet
//! could be carried all the same, in outer fragments, but two for each one cost a multiple. So this end of the tunnel
//! does what any router does: an IPv4 packet is cut, where it may be, and else the sender is told, who then sends
//! smaller ones. The TUN device itself is the caller's; nothing here asks for a route.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use crate::clock;
use crate::counts::{Cause, Counts};
use crate::error::Result;
use crate::link::{Batch, Link, TunLink};
use crate::packet::{self, SMALLEST_MTU_V4, SMALLEST_MTU_V6};
use crate::path::Path;

/// How many senders are told in a second (RFC 4443 section 2.4 f wants a limit). Each has to be told once for each
/// destination; who goes on nevertheless is not worth more.
const ERRORS_A_SECOND: u32 = 100;

/// The longest error in bytes.
const LONGEST_ERROR: usize = SMALLEST_MTU_V6;

/// A TUN device as an end of a tunnel, from which no packet comes that is too large for the path.
#[derive(Debug)]
pub struct Fit {
    tun: TunLink,
    path: Rc<Path>,
    press: Press,
}

impl Fit {
    /// Makes the packets of this TUN device fit this path.
    pub fn new(tun: TunLink, path: Rc<Path>) -> Self {
        Self { tun, path, press: Press::default() }
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        self.tun.name()
    }
}

impl Link for Fit {
    fn recv(&mut self, into: &mut Batch) -> Result<()> {
        self.tun.recv(into)?;
        let mtu = self.path.mtu() as usize;
        if into.places().iter().all(|place| place.len() <= mtu) {
            return Ok(());
        }
        for _ in 0..self.press.press(into, mtu, clock::now()) {
            self.tun.ignore(Cause::TooBig);
        }
        // What is written to the device arrives in the kernel, which hands it to the sender or forwards it there.
        self.tun.send(&self.press.errors)
    }

    fn send(&mut self, packets: &Batch) -> Result<()> {
        self.tun.send(packets)
    }

    fn counts(&self) -> &Counts {
        self.tun.counts()
    }
}

impl AsFd for Fit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

/// Makes batches of packets fit; all decisions are made here, without a descriptor or a clock.
#[derive(Debug)]
struct Press {
    fitting: Batch,
    errors: Batch,
    limit: Limit,
}

impl Default for Press {
    /// Without room: few tunnels ever need it.
    fn default() -> Self {
        Self { fitting: Batch::with_room(0, 0), errors: Batch::with_room(0, 0), limit: Limit::default() }
    }
}

impl Press {
    /// Leaves in the batch what goes to the other end: each packet as it is, if `mtu` bytes have room for it, or as its
    /// fragments. Returns how many packets went no further; `self.errors` is what their senders are told.
    fn press(&mut self, packets: &mut Batch, mtu: usize, now: Duration) -> usize {
        self.fitting.clear();
        self.errors.clear();
        let mut dropped = 0;
        for packet in packets.iter() {
            if !self.fits(packet, mtu) {
                dropped += 1;
                self.tell(packet, mtu, now);
            }
        }
        // Back into the caller's batch, which may be a large one that another link is to fill next.
        packets.clear();
        self.fitting.iter().for_each(|packet| packets.push(packet));
        dropped
    }

    /// Passes the packet on, whole or in fragments; says whether that could be done. What every path has to carry is
    /// carried whole, in outer fragments if need be. IPv6 packets are cut by their sender alone (RFC 8200 section 5).
    fn fits(&mut self, packet: &[u8], mtu: usize) -> bool {
        let (smallest, is_ipv4) = match packet.first().map(|byte| byte >> 4) {
            Some(6) => (SMALLEST_MTU_V6, false),
            _ => (SMALLEST_MTU_V4, true),
        };
        if packet.len() <= mtu.max(smallest) {
            self.fitting.push(packet);
            return true;
        }
        is_ipv4 && packet::fragment(packet, mtu.max(smallest), 0, |piece| self.fitting.push(piece)).is_ok()
    }

    fn tell(&mut self, packet: &[u8], mtu: usize, now: Duration) {
        let mut error = [0; LONGEST_ERROR];
        if let Ok(error) = packet::too_big(packet, mtu, &mut error)
            && self.limit.allows(now)
        {
            self.errors.push(error);
        }
    }
}

/// Counts what is done in a second, up to [`ERRORS_A_SECOND`].
#[derive(Debug, Default)]
struct Limit {
    since: Duration,
    used: u32,
}

impl Limit {
    fn allows(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, used: 0 };
        }
        self.used += 1;
        self.used <= ERRORS_A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const DONT_FRAGMENT: u8 = 0x40;

    /// A UDP packet between two hosts, of this length in bytes, with these flags.
    fn v4(length: usize, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[6] = flags;
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        let words = packet[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        packet
    }

    fn v6(length: usize) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        packet[6] = 17;
        (packet[8], packet[23], packet[24], packet[39]) = (0xfd, 1, 0xfd, 2);
        packet
    }

    /// What becomes of these packets: the lengths of what goes on, those of the errors, and how many went no further.
    fn pressed(press: &mut Press, packets: &[Vec<u8>], mtu: usize, now: Duration) -> (Vec<usize>, Vec<usize>, usize) {
        let mut batch = Batch::new();
        packets.iter().for_each(|packet| batch.push(packet));
        let dropped = press.press(&mut batch, mtu, now);
        let lengths = |batch: &Batch| batch.iter().map(<[u8]>::len).collect();
        (lengths(&batch), lengths(&press.errors), dropped)
    }

    #[test]
    fn what_fits_goes_on_as_it_is_and_in_order() {
        let (mut press, mut batch) = (Press::default(), Batch::new());
        let packets = [v4(100, DONT_FRAGMENT), v4(1400, DONT_FRAGMENT), v6(1400), v4(28, 0)];
        packets.iter().for_each(|packet| batch.push(packet));
        assert_eq!(press.press(&mut batch, 1400, NOW), 0);
        assert!(batch.iter().eq(&packets));
        assert!(press.errors.is_empty());
    }

    #[test]
    fn what_may_be_cut_is_cut_where_it_stands() {
        let packets = [v4(100, 0), v4(1500, 0), v4(1472, DONT_FRAGMENT)];
        let done = pressed(&mut Press::default(), &packets, 1472, NOW);
        assert_eq!(done, (vec![100, 1468, 52, 1472], vec![], 0));
    }

    #[test]
    fn the_sender_is_told_where_nothing_may_be_cut() {
        let mut press = Press::default();
        let packets = [v4(1473, DONT_FRAGMENT), v4(1472, DONT_FRAGMENT), v6(1473)];
        assert_eq!(pressed(&mut press, &packets, 1472, NOW), (vec![1472], vec![576, 1280], 2));
        let mtus =
            |error: &[u8]| (u16::from_be_bytes([error[26], error[27]]), u16::from_be_bytes([error[46], error[47]]));
        let errors: Vec<_> = press.errors.iter().map(mtus).collect();
        assert_eq!((errors[0].0, errors[1].1), (1472, 1472));
    }

    #[test]
    fn what_every_path_has_to_carry_goes_on_whole() {
        let packets = [v6(1280), v6(1281), v4(68, DONT_FRAGMENT), v4(69, DONT_FRAGMENT)];
        assert_eq!(pressed(&mut Press::default(), &packets, 40, NOW), (vec![1280, 68], vec![1280, 97], 2));
    }

    #[test]
    fn what_nobody_can_be_told_about_is_dropped_without_a_word() {
        let mut later = v6(1500);
        later[6] = 44;
        later[43] = 8;
        assert_eq!(pressed(&mut Press::default(), &[later, vec![0x45; 2000]], 1280, NOW), (vec![], vec![], 2));
    }

    #[test]
    fn no_more_senders_are_told_in_a_second_than_the_limit_says() {
        let mut press = Press::default();
        let many = vec![v4(1500, DONT_FRAGMENT); ERRORS_A_SECOND as usize + 20];
        let told = |press: &mut Press, now| pressed(press, &many, 1472, now).1.len();
        assert_eq!(told(&mut press, NOW), ERRORS_A_SECOND as usize);
        assert_eq!(told(&mut press, NOW + Duration::from_millis(999)), 0);
        assert_eq!(told(&mut press, NOW + Duration::from_secs(1)), ERRORS_A_SECOND as usize);
    }
}
