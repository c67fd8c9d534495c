//! Which packets are shown while more pass than anybody can read: some of them, but those at every interface. Pure.
//!
//! The kernel decides, with a filter on each capture socket (bpf(4), Documentation/networking/filter.rst), so that what is
//! not shown costs nearly nothing. The filter goes by what a packet keeps on its whole way, in a datagram or not. So what it
//! takes at the first interface it takes at the last, and ladders stay whole.

use nix::libc::{self, sock_filter};

use crate::bpf::{EVERYTHING, Program, RANDOM, instruction};

/// How many frames are wanted in one turn of reading, from all hosts together.
pub const WANTED: u64 = 100;

/// The most that one frame stands for.
const MOST: u32 = 1 << 24;

/// Finds out how many packets one that is shown must stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    one_of: u32,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { one_of: 1 }
    }
}

impl Sampler {
    /// One of how many packets is shown; 1 if each is.
    pub fn one_of(self) -> u32 {
        self.one_of
    }

    /// Learns how many frames there were in the last turn, with those that the kernel had no room for; returns whether it
    /// has changed its mind.
    pub fn learn(&mut self, seen: u64) -> bool {
        let before = self.one_of;
        if seen > 2 * WANTED {
            let factor = u32::try_from(seen.div_ceil(WANTED)).unwrap_or(MOST);
            self.one_of = self.one_of.saturating_mul(factor).min(MOST);
        } else if seen < WANTED / 4 {
            self.one_of = (self.one_of / 2).max(1);
        }
        self.one_of != before
    }
}

/// The program that takes every frame.
pub fn all() -> Vec<sock_filter> {
    vec![instruction(libc::BPF_RET, EVERYTHING)]
}

/// The program that takes no frame.
pub fn none() -> Vec<sock_filter> {
    vec![instruction(libc::BPF_RET, 0)]
}

/// The program that takes one of so many packets; those around the tunnel's UDP `port` by what is in them.
pub fn some(one_of: u32, port: u16) -> Vec<sock_filter> {
    let mut program = Program::default();
    program.find_ip();
    program.look_at_ip(Level::First { port });
    program.label(INNER);
    program.look_at_ip(Level::Inner);
    program.decide(u32::MAX / one_of.max(1));
    program.resolved()
}

/// linux/filter.h: where the kernel tells about a frame, instead of from it.
const TYPE_OF_DEVICE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_HATYPE) as u32;
const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

/// Memory of the program.
const TRANSPORT: u32 = 0;
const IDENTIFICATION: u32 = 1;
const HALF: u32 = 2;

/// Odd numbers whose products look like nothing (Knuth's multiplicative hashing).
const MIX: [u32; 2] = [0x9e37_79b1, 0x85eb_ca6b];

type Label = &'static str;
const INNER: Label = "inner";
const BY_LOT: Label = "by lot";
const HASH: Label = "hash";

/// Which IP header is looked at: that of the frame, or that of the packet in the datagram.
enum Level {
    First { port: u16 },
    Inner,
}

impl Program<Label> {
    /// X becomes X + A.
    fn step_on(&mut self) {
        self.add(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
        self.add(libc::BPF_MISC | libc::BPF_TAX, 0);
    }

    /// X becomes the place of the IP header: behind that of Ethernet, or, from a TUN device, the first byte.
    fn find_ip(&mut self) {
        self.load(libc::BPF_W, PROTOCOL);
        self.jump(libc::BPF_JEQ, libc::ETH_P_IP as u32, Some("ip"), None);
        self.jump(libc::BPF_JEQ, libc::ETH_P_IPV6 as u32, Some("ip"), Some(BY_LOT));
        self.label("ip");
        self.load(libc::BPF_W, TYPE_OF_DEVICE);
        self.add(libc::BPF_LDX | libc::BPF_IMM, 0);
        self.jump(libc::BPF_JEQ, libc::ARPHRD_NONE.into(), Some("version"), None);
        self.add(libc::BPF_LDX | libc::BPF_IMM, super::headers::ETHERNET as u32);
        self.label("version");
    }

    /// From X at an IP header to X at what it carries, whose protocol and the packet's identification are in memory.
    fn look_at_ip(&mut self, level: Level) {
        let (six, behind, datagram): (Label, Label, Label) = match level {
            Level::First { .. } => ("six", "behind", "datagram"),
            Level::Inner => ("inner six", "inner behind", HASH),
        };
        self.load_behind_x(libc::BPF_B, 0);
        self.compute(libc::BPF_AND, 0xf0);
        self.jump(libc::BPF_JEQ, 0x60, Some(six), None);
        self.jump(libc::BPF_JEQ, 0x40, None, Some(BY_LOT));
        self.load_behind_x(libc::BPF_B, 9);
        self.add(libc::BPF_ST, TRANSPORT);
        self.load_behind_x(libc::BPF_W, 4);
        self.add(libc::BPF_ST, IDENTIFICATION);
        self.load_behind_x(libc::BPF_B, 0);
        self.compute(libc::BPF_AND, 0x0f);
        self.compute(libc::BPF_LSH, 2);
        self.step_on();
        self.jump(libc::BPF_JGE, 0, Some(behind), Some(behind));
        self.label(six);
        self.load_behind_x(libc::BPF_B, 6);
        self.add(libc::BPF_ST, TRANSPORT);
        self.load_behind_x(libc::BPF_W, 20);
        self.add(libc::BPF_ST, IDENTIFICATION);
        self.add(libc::BPF_LD | libc::BPF_IMM, super::headers::V6_HEADER as u32);
        self.step_on();
        self.label(behind);
        let Level::First { port } = level else { return };
        self.add(libc::BPF_LD | libc::BPF_MEM, TRANSPORT);
        self.jump(libc::BPF_JEQ, super::headers::UDP.into(), Some(datagram), Some(HASH));
        self.label(datagram);
        self.load_behind_x(libc::BPF_H, 0);
        self.jump(libc::BPF_JEQ, port.into(), Some("tunnel"), None);
        self.load_behind_x(libc::BPF_H, 2);
        self.jump(libc::BPF_JEQ, port.into(), Some("tunnel"), Some(HASH));
        self.label("tunnel");
        self.add(libc::BPF_LD | libc::BPF_IMM, super::headers::UDP_HEADER as u32);
        self.step_on();
    }

    /// Takes the frame if a number made of what X points at is small. The second word of what IP carries tells segments of
    /// TCP and echoes apart; UDP has lengths and checksums there, which change on the way.
    fn decide(&mut self, least_not_taken: u32) {
        self.label(HASH);
        self.load_behind_x(libc::BPF_W, 8);
        self.compute(libc::BPF_MUL, MIX[0]);
        self.add(libc::BPF_ST, HALF);
        self.add(libc::BPF_LD | libc::BPF_MEM, TRANSPORT);
        self.jump(libc::BPF_JEQ, super::headers::UDP.into(), Some("by identification"), None);
        self.load_behind_x(libc::BPF_W, 4);
        self.jump(libc::BPF_JGE, 0, Some("mixed"), Some("mixed"));
        self.label("by identification");
        self.add(libc::BPF_LD | libc::BPF_MEM, IDENTIFICATION);
        self.label("mixed");
        self.add(libc::BPF_LDX | libc::BPF_MEM, HALF);
        self.add(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
        self.compute(libc::BPF_MUL, MIX[1]);
        // The low bits of a product know little of the high ones of its factors.
        self.add(libc::BPF_MISC | libc::BPF_TAX, 0);
        self.compute(libc::BPF_RSH, 15);
        self.add(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
        self.compute(libc::BPF_MUL, MIX[0]);
        self.jump(libc::BPF_JGE, least_not_taken, Some("leave"), Some("take"));
        self.label(BY_LOT);
        self.load(libc::BPF_W, RANDOM);
        self.jump(libc::BPF_JGE, least_not_taken, Some("leave"), Some("take"));
        self.label("leave");
        self.take(0);
        self.label("take");
        self.take(EVERYTHING);
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::samples::{arp, datagram, echo, ethernet, tcp, v4};
    use super::*;

    /// Runs a program as the kernel does (net/core/filter.c): a load from beyond the frame ends it with 0.
    fn takes(program: &[sock_filter], frame: &[u8], protocol: u16, device: u16) -> bool {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
        let mut at = 0;
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let load = |from: u32, size: usize| {
                let bytes = frame.get(from as usize..from as usize + size)?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            };
            let told = |k: u32| match k {
                PROTOCOL => Some(protocol.into()),
                TYPE_OF_DEVICE => Some(device.into()),
                RANDOM => Some(7),
                _ => load(k, 4),
            };
            match u32::from(code) {
                0x20 => match told(k) {
                    Some(number) => a = number,
                    None => return false,
                },
                0x40 | 0x48 | 0x50 => match load(x.wrapping_add(k), [4, 2, 1][usize::from(code - 0x40) / 8]) {
                    Some(number) => a = number,
                    None => return false,
                },
                0x00 => a = k,
                0x01 => x = k,
                0x60 => a = memory[k as usize],
                0x61 => x = memory[k as usize],
                0x02 => memory[k as usize] = a,
                0x0c => a = a.wrapping_add(x),
                0xac => a ^= x,
                0x24 => a = a.wrapping_mul(k),
                0x54 => a &= k,
                0x64 => a <<= k,
                0x74 => a >>= k,
                0x07 => x = a,
                0x15 => at += usize::from(if a == k { jt } else { jf }),
                0x35 => at += usize::from(if a >= k { jt } else { jf }),
                0x06 => return k > 0,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    const IP: u16 = libc::ETH_P_IP as u16;

    /// Whether the packet is taken at a TUN device, on a wire behind a router, and in a datagram on a wire.
    fn on_its_way(program: &[sock_filter], packet: &[u8]) -> [bool; 3] {
        let mut routed = packet.to_vec();
        routed[8] -= 1;
        [
            takes(program, packet, IP, libc::ARPHRD_NONE),
            takes(program, &ethernet(IP, &routed), IP, libc::ARPHRD_ETHER),
            takes(program, &ethernet(IP, &datagram(packet)), IP, libc::ARPHRD_ETHER),
        ]
    }

    #[test]
    fn a_packet_is_taken_at_every_place_or_at_none() {
        let program = some(8, 9090);
        let mut taken = [0; 3];
        for number in 0..2000_u32 {
            let udp = [&[1, 0, 2, 0, 0, 20, number as u8, 0, 0, 0][..], &number.to_be_bytes(), &[0; 6]].concat();
            let udp = v4([1; 4], [2; 4], 17, number as u16, 64, &udp);
            for (kind, packet) in [echo(8, number as u16, 64), tcp(0x10, number * 1448, b""), udp].iter().enumerate() {
                let [first, behind, inside] = on_its_way(&program, packet);
                assert!(first == behind && first == inside, "{kind} {number}");
                taken[kind] += u32::from(first);
            }
        }
        // One of eight; the numbers of such packets count up, which must make no pattern.
        assert!(taken.iter().all(|taken| (150..350).contains(taken)), "{taken:?}");
    }

    #[test]
    fn what_is_no_ip_packet_is_taken_by_lot() {
        let frame = arp();
        for (one_of, is_taken) in [(2, true), (u32::MAX, false)] {
            assert_eq!(takes(&some(one_of, 9090), &frame, 0x0806, libc::ARPHRD_ETHER), is_taken);
        }
    }

    #[test]
    fn short_frames_end_the_program() {
        for length in 0..60 {
            let frame = ethernet(IP, &datagram(&echo(8, 1, 64)));
            takes(&some(2, 9090), &frame[..length], IP, libc::ARPHRD_ETHER);
            takes(&some(2, 9090), &frame[14..14 + length], IP, libc::ARPHRD_NONE);
        }
        assert!(takes(&all(), b"", 0, 0) && !takes(&none(), b"abc", 0, 0));
    }

    #[test]
    fn every_jump_ends_inside_of_the_program() {
        let program = some(400, 9090);
        for (at, step) in program.iter().enumerate().filter(|(_, step)| step.code & 7 == 5) {
            assert!(at + 1 + usize::from(step.jt.max(step.jf)) < program.len());
        }
        assert_eq!(program.last().map(|last| last.code), Some(libc::BPF_RET as u16));
    }

    #[test]
    fn the_more_pass_the_more_one_stands_for_and_back_again() {
        let mut sampler = Sampler::default();
        assert!(!sampler.learn(WANTED) && sampler.one_of() == 1);
        assert!(sampler.learn(100 * WANTED) && sampler.one_of() == 100);
        assert!(!sampler.learn(WANTED));
        assert!(sampler.learn(u64::MAX) && sampler.one_of() == MOST);
        let turns = (0..).take_while(|_| sampler.learn(0)).count();
        assert_eq!((turns, sampler.one_of()), (24, 1));
    }
}
