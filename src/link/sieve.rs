//! A filter in the kernel for the time of a flood: what would be refused anyway is dropped where it arrives, before it takes
//! room in the socket's queue and this program's time.
//!
//! [`crate::link::UdpLink`] counts what it refuses, and asks ten times a second. While there is no flood there is no filter,
//! so each refused packet is counted by its cause. While there is one, of 256 refused datagrams one still passes, which keeps
//! the log and the counts of causes alive; the kernel counts the others. The filter is classic BPF (the kernel's
//! Documentation/networking/filter.rst), and never refuses what the rules would take: it looks at the outer source, at the
//! inner version and length, and at the inner source's network. Of datagrams that the kernel has joined it sees the first.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::libc::{self, sock_filter};

use crate::bpf::{self, Program};

/// How often there is a look.
const LOOKS: Duration = Duration::from_millis(100);
/// So many refused datagrams between two looks are a flood, and so few are none any more.
const FLOOD: u64 = 2000;
const CALM: u64 = 200;
/// After so many looks without a flood it is over.
const CALM_LOOKS: u32 = 10;
/// Of so many refused datagrams one passes; a power of two.
const SAMPLE: u32 = 256;
/// For how many networks the filter looks. With more it leaves the question to the program.
const MOST_NETWORKS: usize = 64;

/// What a socket takes, as far as the filter goes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sieve {
    /// The outer sources that may speak; all, if there is none.
    pub outer: Vec<IpNet>,
    /// The networks of inner sources; all, if there is none.
    pub inner: Vec<IpNet>,
}

/// When there is a flood.
#[derive(Debug, Default)]
pub struct Flood {
    looked: Duration,
    refused: u64,
    /// Whether there is one now, and for how many looks nothing has been seen of it.
    is_on: bool,
    calm: u32,
}

/// What a look at a flood has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is not time for a look yet.
    NotYet,
    /// There is none.
    Calm,
    /// It has begun.
    Begins,
    /// It goes on.
    Lasts,
    /// It is over.
    Ends,
}

impl Flood {
    /// Counts a datagram that the program has refused.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Looks again, if it is time. `dropped` tells what the kernel has dropped since the last look.
    pub fn look(&mut self, now: Duration, dropped: impl FnOnce() -> u64) -> (Look, u64) {
        if now.saturating_sub(self.looked) < LOOKS {
            return (Look::NotYet, 0);
        }
        self.looked = now;
        let dropped = dropped();
        let refused = std::mem::take(&mut self.refused) + if self.is_on { dropped } else { 0 };
        self.calm = if refused <= CALM { self.calm + 1 } else { 0 };
        let look = match self.is_on {
            false if refused >= FLOOD => Look::Begins,
            false => Look::Calm,
            true if self.calm >= CALM_LOOKS => Look::Ends,
            true => Look::Lasts,
        };
        self.is_on = matches!(look, Look::Begins | Look::Lasts);
        (look, dropped)
    }
}

impl Sieve {
    /// The filter's program, for a UDP socket: there a packet begins with its UDP header (`sk_filter` in net/ipv4/udp.c).
    pub fn program(&self) -> Vec<sock_filter> {
        self.assemble(SAMPLE)
    }

    /// The same, with this sample.
    fn assemble(&self, sample: u32) -> Vec<sock_filter> {
        let mut filter = Filter::default();
        if (1..=MOST_NETWORKS).contains(&self.outer.len()) {
            filter.outer_source(&self.outer);
        }
        filter.inner_packet(&self.inner);
        filter.finish(sample)
    }
}

/// Where the UDP payload begins, counted from the UDP header (RFC 768).
const PAYLOAD: u32 = 8;
/// Where the outer IP header begins.
const OUTER: u32 = libc::SKF_NET_OFF as u32;

/// Where a jump leads that is not to the next instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    OuterV6,
    Inner,
    InnerV6,
    /// Behind the look for the network of this number.
    Next(usize),
    Refuse,
    Accept,
}

/// The program, and for how many networks it looks already.
#[derive(Debug, Default)]
struct Filter {
    code: Program<To>,
    networks: usize,
}

impl Filter {
    /// Loads the version of the IP header there (RFC 791, RFC 8200).
    fn load_version(&mut self, at: u32) {
        self.code.load(libc::BPF_B, at);
        self.code.compute(libc::BPF_RSH, 4);
    }

    /// Goes there if the source of the IP header there is in one of these networks of one family, and on here if not.
    fn source_in(&mut self, networks: &[IpNet], header: u32, to: To) {
        for network in networks {
            let (address, mask): (Vec<u8>, Vec<u8>) = match (network.network(), network.netmask()) {
                (IpAddr::V4(address), IpAddr::V4(mask)) => (address.octets().into(), mask.octets().into()),
                (IpAddr::V6(address), IpAddr::V6(mask)) => (address.octets().into(), mask.octets().into()),
                _ => continue,
            };
            let begin = header.wrapping_add(if address.len() == 4 { 12 } else { 8 });
            let next = To::Next(self.networks);
            self.networks += 1;
            for (at, (address, mask)) in address.chunks(4).zip(mask.chunks(4)).enumerate() {
                let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
                let (address, mask) = (word(address), word(mask));
                if mask != 0 {
                    self.code.load(libc::BPF_W, begin.wrapping_add(4 * at as u32));
                    self.code.compute(libc::BPF_AND, mask);
                    self.code.unless(libc::BPF_JEQ, address, next);
                }
            }
            self.code.go(to);
            self.code.label(next);
        }
    }

    /// Goes on if the outer source is in one of these networks.
    fn outer_source(&mut self, networks: &[IpNet]) {
        let (of_v4, of_v6) = by_family(networks);
        self.load_version(OUTER);
        self.code.unless(libc::BPF_JEQ, 4, To::OuterV6);
        self.source_in(&of_v4, OUTER, To::Inner);
        self.code.go(To::Refuse);
        self.code.label(To::OuterV6);
        self.source_in(&of_v6, OUTER, To::Inner);
        self.code.go(To::Refuse);
    }

    /// Accepts an IP packet that is as long as it says and comes from one of these networks.
    fn inner_packet(&mut self, networks: &[IpNet]) {
        let any = networks.is_empty() || networks.len() > MOST_NETWORKS;
        let (of_v4, of_v6) = by_family(if any { &[] } else { networks });
        let otherwise = if any { To::Accept } else { To::Refuse };
        self.code.label(To::Inner);
        self.load_version(PAYLOAD);
        self.code.unless(libc::BPF_JEQ, 4, To::InnerV6);
        self.code.load(libc::BPF_H, PAYLOAD + 2);
        self.is_all_there(PAYLOAD);
        self.source_in(&of_v4, PAYLOAD, To::Accept);
        self.code.go(otherwise);
        self.code.label(To::InnerV6);
        self.code.unless(libc::BPF_JEQ, 6, To::Refuse);
        self.code.load(libc::BPF_H, PAYLOAD + 4);
        self.is_all_there(PAYLOAD + 40);
        self.source_in(&of_v6, PAYLOAD, To::Accept);
        self.code.go(otherwise);
    }

    /// Goes on if the datagram has the length that was loaded, behind so many bytes.
    fn is_all_there(&mut self, before: u32) {
        self.code.compute(libc::BPF_ADD, before);
        self.code.add(libc::BPF_MISC | libc::BPF_TAX, 0);
        self.code.add(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0);
        self.code.unless(libc::BPF_JGE | libc::BPF_X, 0, To::Refuse);
    }

    /// Ends with the two ways out.
    fn finish(mut self, sample: u32) -> Vec<sock_filter> {
        self.code.label(To::Refuse);
        self.code.load(libc::BPF_W, bpf::RANDOM);
        self.code.compute(libc::BPF_AND, sample.wrapping_sub(1));
        self.code.jump(libc::BPF_JEQ, 0, Some(To::Accept), None);
        self.code.take(0);
        self.code.label(To::Accept);
        self.code.take(bpf::EVERYTHING);
        self.code.resolved()
    }
}

fn by_family(networks: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    networks.iter().copied().partition(|network| network.addr().is_ipv4())
}

#[cfg(test)]
mod tests;
