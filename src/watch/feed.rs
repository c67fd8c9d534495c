//! What a running lab gives to see: the frames that pass its hosts, and the counters of its interfaces.
//!
//! Sockets of each host are opened once, and go on working when all rights are given up. At a full-speed tunnel they pass on
//! one of so many packets (`sampling`), and hold little: a frame that waits keeps the kernel's memory for it in use.

use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use log::Level;

use super::sampling::{self, Sampler};
use crate::error::Result;
use crate::lab::capture::{Capture, Frame};
use crate::lab::{Lab, namespace};
use crate::net::{Link, Net};

/// How much may wait in the kernel, for each host.
const WAITING: usize = 1 << 20;

/// How much of a frame is read: all of one as it goes over a wire.
const READ: usize = 2048;

/// How many frames of one host are read in one turn.
const TURN: u64 = 2 * sampling::WANTED;

/// The interfaces of a host, each with its addresses.
pub type Links = Vec<(Link, Vec<IpNet>)>;

/// What one turn of reading has brought.
#[derive(Debug, Default)]
pub struct Turn {
    /// The frames, each with its host, in the order of their times.
    pub frames: Vec<(usize, Frame)>,
    /// How many there was no room for.
    pub lost: u64,
}

/// The sockets of a lab's hosts.
pub struct Feed {
    captures: Vec<Capture>,
    nets: Vec<Net>,
    sampler: Sampler,
    port: u16,
    is_held: bool,
}

impl Feed {
    /// Opens them on every host of a lab that this process has joined.
    ///
    /// # Errors
    /// A right is missing.
    pub fn open(lab: &Lab) -> Result<Self> {
        let opened = lab.networks.hosts.iter().map(|network| {
            namespace::inside(network, || Ok((Capture::with_room(WAITING, READ)?, Net::open(Level::Debug)?)))
        });
        let (captures, nets) = opened.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Self { captures, nets, sampler: Sampler::default(), port: lab.topology.tunnel.port, is_held: false })
    }

    /// What becomes readable when a packet has passed.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.captures.iter().map(AsFd::as_fd)
    }

    /// One of how many packets it shows; 1 if each.
    pub fn one_of(&self) -> u32 {
        self.sampler.one_of()
    }

    /// The interfaces of each host, with their counters.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&self) -> Result<Vec<Links>> {
        self.nets.iter().map(Net::links_and_addresses).collect()
    }

    /// Reads what waits, so much of it as one can look at, and sees to it that there is not much more the next time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> Result<Turn> {
        let mut turn = Turn::default();
        for (host, capture) in self.captures.iter_mut().enumerate() {
            for _ in 0..TURN {
                let Some(frame) = capture.take()? else { break };
                turn.frames.push((host, frame));
            }
            turn.lost += u64::from(capture.lost());
        }
        turn.frames.sort_by_key(|(_, frame)| frame.at);
        // While it holds still, that nothing comes says nothing of how much passes.
        if !self.is_held && self.sampler.learn(turn.frames.len() as u64 + turn.lost) {
            self.filter()?;
        }
        Ok(turn)
    }

    /// Stops, or goes on with what passes from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hold(&mut self, hold: bool) -> Result<()> {
        self.is_held = hold;
        self.filter()?;
        for capture in &mut self.captures {
            // What passed before.
            for _ in 0..TURN {
                if capture.take()?.is_none() {
                    break;
                }
            }
            capture.lost();
        }
        Ok(())
    }

    fn filter(&self) -> Result<()> {
        let program = match self.sampler.one_of() {
            _ if self.is_held => sampling::none(),
            1 => sampling::all(),
            many => sampling::some(many, self.port),
        };
        self.captures.iter().try_for_each(|capture| capture.filter(&program))
    }
}
