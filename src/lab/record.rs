//! `lab capture`: everything that passes the interfaces of a lab's hosts, into a file for Wireshark, until Ctrl-C.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;

use crate::error::{Context, Error, Result};
use crate::lab::capture::{Capture, Frame};
use crate::lab::{Lab, namespace};
use crate::output;
use crate::pcapng::{LinkType, Packet, Pcapng};
use crate::signals::Signals;
use crate::topology::Topology;

/// How many frames of one host are written before the others have their turn.
const TURN: usize = 256;

/// How long frames wait at most before whoever reads the file sees them, while nothing else happens.
const FLUSH: TimeSpec = TimeSpec::new(0, 100_000_000);

/// How often it is looked whether the lab is still up. `lab down` waits for whoever holds its namespaces, for some seconds.
const LOOK: Duration = Duration::from_millis(500);

/// What a frame needs in the file besides its bytes, at most.
const AROUND_A_FRAME: u64 = 64;

/// What is said, on stderr, once everything that passes is recorded.
pub const BEGUN: &str = "recording what passes the hosts of lab";

/// How much a pipe takes that has room at all, without letting the writer wait (pipe(7), PIPE_BUF).
const PIPE_BUF: usize = 4096;

/// Captures on every host of a lab into a file, or into stdout for `-`, until the user ends it, or the lab; of at most so many
/// megabytes, if there is a limit.
///
/// # Errors
/// The file cannot be written.
pub fn run(lab: &Lab, path: &Path, limit: Option<u64>) -> Result<()> {
    let name = if path == Path::new("-") { "stdout".to_string() } else { path.display().to_string() };
    let failed = || format!("cannot write {name}");
    let file = open(path)?;
    let end = Rc::new(End::new()?);
    lab.join()?;
    let open = |network| namespace::inside(network, Capture::open);
    let mut captures = lab.networks.hosts.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut record =
        Record::new(&lab.topology, BufWriter::new(Patient { file, lab, end: Rc::clone(&end) })).context(failed)?;
    output::error_line(format_args!("{BEGUN} {} into {name}; Ctrl-C ends it", lab.name));

    let (mut packets, mut lost) = (0_u64, 0_u64);
    let (mut room, mut left_out) = (limit.map_or(u64::MAX, |megabytes| megabytes << 20), 0_u64);
    let mut is_flushed = false;
    let mut looked = Instant::now();
    // What waits for a stalled reader at the end is lost.
    let unless_stalled = |written: io::Result<()>| match written {
        Err(_) if end.is_stalled.get() => Ok(()),
        written => written.context(failed),
    };
    while !end.has_come()? {
        if looked.elapsed() >= LOOK {
            if !lab.is_up() {
                output::error_line(format_args!("lab {} is down", lab.name));
                break;
            }
            looked = Instant::now();
        }
        let mut awaited: Vec<_> = captures.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = if is_flushed { TimeSpec::from(LOOK) } else { FLUSH };
        match ppoll(&mut awaited, Some(timeout), Some(end.waiting)) {
            // Nothing came for a while.
            Ok(0) => {
                unless_stalled(record.flush())?;
                is_flushed = true;
                continue;
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::failed("cannot wait for packets").because(errno)),
        }
        is_flushed = false;
        let mut turn = Vec::new();
        for (host, capture) in captures.iter_mut().enumerate() {
            for _ in 0..TURN {
                let Some(frame) = capture.take()? else { break };
                turn.push((host, frame));
            }
            lost += u64::from(capture.lost());
        }
        turn.sort_by_key(|(_, frame)| frame.at);
        for (host, frame) in turn {
            let needed = frame.bytes.len() as u64 + AROUND_A_FRAME;
            room = room.saturating_sub(needed);
            if room == 0 {
                left_out += 1;
                continue;
            }
            unless_stalled(record.frame(host, &frame))?;
            packets += u64::from(!end.is_stalled.get());
        }
    }
    unless_stalled(record.flush())?;
    let left_out = match (limit, left_out) {
        (Some(limit), 1..) => format!("; {left_out} more came after it had reached {limit} MB"),
        _ => String::new(),
    };
    let lost = if lost > 0 { format!("; {lost} more came faster than they could be written") } else { String::new() };
    output::error_line(format_args!("{packets} packets in {name}{left_out}{lost}"));
    Ok(())
}

/// The end of a capture, by the user or with its lab.
struct End {
    signals: RefCell<Signals>,
    /// The signals that are let through while it sleeps.
    waiting: SigSet,
    came: Cell<bool>,
    /// Whether nobody had read what was left then.
    is_stalled: Cell<bool>,
}

impl End {
    fn new() -> Result<Self> {
        let signals = Signals::block()?;
        let waiting = *signals.waiting();
        Ok(Self { signals: RefCell::new(signals), waiting, came: Cell::new(false), is_stalled: Cell::new(false) })
    }

    fn has_come(&self) -> Result<bool> {
        let came = self.came.get() || self.signals.borrow_mut().arrived()?.ends();
        self.came.set(came);
        Ok(came)
    }
}

/// A file, or a pipe whose reader may stall: the capture can be ended meanwhile, and so can its lab.
struct Patient<'l> {
    file: File,
    lab: &'l Lab,
    end: Rc<End>,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.end.is_stalled.get() {
                return Err(io::Error::other("nobody reads it"));
            }
            let mut room = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            match ppoll(&mut room, Some(TimeSpec::from(LOOK)), Some(self.end.waiting)) {
                Ok(0) if self.end.came.get() => self.end.is_stalled.set(true),
                Ok(0) | Err(Errno::EINTR) => {
                    let came = self.end.has_come().map_err(|error| io::Error::other(error.to_string()))?;
                    self.end.came.set(came || !self.lab.is_up());
                }
                Ok(_) => return self.file.write(&bytes[..bytes.len().min(PIPE_BUF)]),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        return match io::stdout().is_terminal() {
            true => Err(Error::usage("a terminal cannot show what is captured")
                .hint("name a file, or pipe it: vpnlab lab capture - | wireshark -k -i -")),
            false => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                Ok(stdout.context(|| "cannot write to stdout".into())?.into())
            }
        };
    }
    let file = File::create(path);
    file.map_err(|error| Error::usage(format!("cannot write {}", path.display())).because(error))
}

/// A file of what passes the interfaces of a lab, each named `HOST/INTERFACE`, in the order of their first packets.
pub struct Record<'t, W> {
    topology: &'t Topology,
    pcapng: Pcapng<W>,
    points: Vec<((usize, String), u32)>,
}

impl<'t, W: Write> Record<'t, W> {
    /// Begins the file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn new(topology: &'t Topology, file: W) -> io::Result<Self> {
        Ok(Self { topology, pcapng: Pcapng::new(file)?, points: Vec::new() })
    }

    /// Adds a frame that one of a host's interfaces has seen.
    ///
    /// # Errors
    /// Those of the file.
    pub fn frame(&mut self, host: usize, frame: &Frame) -> io::Result<()> {
        self.commented(host, frame, None)
    }

    /// Adds a frame with a comment.
    ///
    /// # Errors
    /// Those of the file.
    pub fn commented(&mut self, host: usize, frame: &Frame, comment: Option<&str>) -> io::Result<()> {
        let interface = self.point(host, &frame.interface, frame.kind)?;
        self.pcapng.packet(&Packet {
            interface,
            at: frame.at,
            direction: frame.direction,
            bytes: &frame.bytes,
            length: frame.length,
            comment,
        })
    }

    /// The number of an interface in the file, which is described when it is met first.
    ///
    /// # Errors
    /// Those of the file.
    pub fn point(&mut self, host: usize, interface: &str, kind: LinkType) -> io::Result<u32> {
        let known = self.points.iter().find(|((at, name), _)| *at == host && name == interface);
        if let Some((_, number)) = known {
            return Ok(*number);
        }
        let name = format!("{}/{interface}", self.topology.hosts[host].name);
        let number = self.pcapng.interface(&name, kind)?;
        self.points.push(((host, interface.to_string()), number));
        Ok(number)
    }

    /// Hands everything so far to the file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.pcapng.flush()
    }
}
