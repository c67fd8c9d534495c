//! Programs of the classic packet filter, put together with labels: pure (the kernel's Documentation/networking/filter.rst).
//!
//! [`crate::link`] refuses a flood with them, `watch` chooses what it shows; [`crate::sys::filter`] gives one to a socket.

use nix::libc::{self, sock_filter};

/// More bytes than any frame has: what a program that takes a frame returns.
pub const EVERYTHING: u32 = 1 << 18;

/// Where the kernel tells about a frame, instead of from it (linux/filter.h): a random number.
pub const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;

/// Instructions whose jumps go to labels further down. `L` are the labels, each set once.
#[derive(Debug)]
pub struct Program<L> {
    instructions: Vec<(sock_filter, Jump<L>)>,
    labels: Vec<(L, usize)>,
}

/// Where an instruction goes on; nowhere is the next one.
#[derive(Debug, Clone, Copy)]
enum Jump<L> {
    None,
    /// If the comparison holds and if not, at most 255 instructions further.
    Either(Option<L>, Option<L>),
    Far(L),
}

impl<L> Default for Program<L> {
    fn default() -> Self {
        Self { instructions: Vec::new(), labels: Vec::new() }
    }
}

impl<L: Copy + PartialEq> Program<L> {
    /// Names the next instruction.
    pub fn label(&mut self, label: L) {
        self.labels.push((label, self.instructions.len()));
    }

    /// An instruction that does not jump.
    pub fn add(&mut self, code: u32, k: u32) {
        self.instructions.push((instruction(code, k), Jump::None));
    }

    /// Goes to `yes` or `no` as A is equal to `k` or not (or greater or equal, or has the bits); at most 255 instructions.
    pub fn jump(&mut self, how: u32, k: u32, yes: Option<L>, no: Option<L>) {
        self.instructions.push((instruction(libc::BPF_JMP | how, k), Jump::Either(yes, no)));
    }

    /// Goes to the label, however far it is.
    pub fn go(&mut self, to: L) {
        self.instructions.push((instruction(libc::BPF_JMP | libc::BPF_JA, 0), Jump::Far(to)));
    }

    /// Goes on here if the comparison holds, and to the label if not, however far that is.
    pub fn unless(&mut self, how: u32, k: u32, to: L) {
        let comparison = sock_filter { jt: 1, ..instruction(libc::BPF_JMP | how, k) };
        self.instructions.push((comparison, Jump::None));
        self.go(to);
    }

    /// A becomes the bytes at this place of the frame, or what the kernel tells there.
    pub fn load(&mut self, size: u32, at: u32) {
        self.add(libc::BPF_LD | size | libc::BPF_ABS, at);
    }

    /// A becomes the bytes at X and so many further.
    pub fn load_behind_x(&mut self, size: u32, at: u32) {
        self.add(libc::BPF_LD | size | libc::BPF_IND, at);
    }

    /// A becomes the result with this number.
    pub fn compute(&mut self, what: u32, k: u32) {
        self.add(libc::BPF_ALU | what | libc::BPF_K, k);
    }

    /// Ends, and takes so many bytes of the frame.
    pub fn take(&mut self, bytes: u32) {
        self.add(libc::BPF_RET | libc::BPF_K, bytes);
    }

    /// The instructions with the distances of their jumps. A label that was not set is the next instruction.
    pub fn resolved(self) -> Vec<sock_filter> {
        let distance = |from: usize, to: L| {
            let place = self.labels.iter().find(|(label, _)| *label == to).map_or(from + 1, |(_, place)| *place);
            (place - from - 1) as u32
        };
        let near = |from: usize, to: Option<L>| {
            let distance = to.map_or(0, |to| distance(from, to));
            // What is written here keeps to it; the tests are told where it does not.
            debug_assert!(distance <= u8::MAX.into(), "a near jump over {distance} instructions");
            distance as u8
        };
        let resolve = |(at, (instruction, jump)): (usize, &(sock_filter, Jump<L>))| match *jump {
            Jump::None => *instruction,
            Jump::Either(yes, no) => sock_filter { jt: near(at, yes), jf: near(at, no), ..*instruction },
            Jump::Far(to) => sock_filter { k: distance(at, to), ..*instruction },
        };
        self.instructions.iter().enumerate().map(resolve).collect()
    }
}

/// An instruction that does not jump.
pub fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
