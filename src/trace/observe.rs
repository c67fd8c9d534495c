//! Sends the echo, and captures at every host until its reply is there or nobody need wait for it any more.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::diagnosis::{Scene, Sighting, Verdict};
use super::echo::{Answer, EchoSocket};
use super::evidence::{self, Questions, State};
use super::sighting::{self, Leg, Mark, What};
use crate::error::{Context, Error, Result};
use crate::lab::capture::{Capture, Frame};
use crate::lab::{Lab, namespace};
use crate::pcapng::Direction;

/// How long the echo has for its way there and back, with what is looked at before it is sent.
const PATIENCE: Duration = Duration::from_millis(3500);

/// How long the hosts may take to tell about themselves, each time. Then the machine is too busy to blame anyone.
pub const ANSWERS: Duration = Duration::from_secs(10);

/// How long it may stay unseen before it is given up. A slow program on a busy machine takes some milliseconds.
const UNSEEN: Duration = Duration::from_millis(1500);

/// How long frames may take from the wire to the capture, once the reply is there.
const LATE: Duration = Duration::from_millis(20);

/// How long frames that wait in the sockets at the end are looked at. Those of a flood are many.
const DRAIN: Duration = Duration::from_millis(300);

/// How many frames of one host are taken before the others have their turn.
const TURN: usize = 256;

/// How many frames are kept, and how many bytes of them: other traffic of the lab must not fill the memory.
const MOST_FRAMES: usize = 200_000;
const MOST_BYTES: usize = 256 << 20;

/// How many frames with the echo in them are kept. A packet that goes in circles ends before, by its TTL; but a tunnel that
/// swallows its own datagrams has more of them each time.
const MOST_TRACED: usize = 2000;

/// What is sent, and how long for.
pub struct Echo {
    /// The host that sends the request, by its place.
    pub from: usize,
    /// Where to.
    pub to: Ipv4Addr,
    /// Its length in bytes, with its IP header.
    pub length: usize,
    /// The host that it is enough to come to.
    pub enough: Option<usize>,
}

/// What came of the echo.
#[derive(Default)]
pub struct Seen {
    /// The hosts before the request was sent.
    pub before: Vec<State>,
    /// All that was captured, each frame with its host, in the order of their times.
    pub frames: Vec<(usize, Frame)>,
    /// Where the echo is in them.
    pub sightings: Vec<Sighting>,
    /// Until when they were captured: the time since 1970.
    pub until: Duration,
    /// How long the reply took.
    pub answered: Option<Duration>,
    /// How a reply differs that came, and is not the one to the request.
    pub wrong_reply: Option<Vec<String>>,
    /// The errno with which the kernel did not take the request.
    pub refused: Option<i32>,
    /// How many frames at least were not captured, for want of room or time.
    pub lost: u32,
}

/// The frames as they are captured, each with its host and with what was found in it.
#[derive(Default)]
struct Caught {
    frames: Vec<(usize, Frame, Option<Box<What>>)>,
    /// How many bytes they have in all, and how many of them have the echo in them.
    bytes: usize,
    traced: usize,
    /// How many there was no room for.
    lost: u32,
}

impl Caught {
    /// Keeps a frame of a host, if there is room or the echo is in it; returns whether it is.
    fn keep(&mut self, host: usize, frame: Frame, mark: Mark) -> bool {
        let found = frame.packet().and_then(|packet| sighting::find(packet, mark)).map(Box::new);
        let is_traced = found.is_some();
        let has_room = match is_traced {
            true => self.traced < MOST_TRACED,
            false => self.frames.len() < MOST_FRAMES && self.bytes < MOST_BYTES,
        };
        if has_room {
            self.traced += usize::from(is_traced);
            self.bytes += frame.bytes.len();
            self.frames.push((host, frame, found));
        } else {
            self.lost += 1;
        }
        is_traced
    }

    /// The frames in the order of their times, and where the echo is in them.
    fn in_order(mut self) -> (Vec<(usize, Frame)>, Vec<Sighting>) {
        self.frames.sort_by_key(|(_, frame, _)| frame.at);
        let mut latest = Leg::Request;
        let mut sightings = Vec::new();
        let frames = self.frames.into_iter().enumerate().map(|(place, (host, frame, found))| {
            if let Some(what) = found.filter(|_| !frame.is_foreign) {
                let leg = what.leg().unwrap_or(latest);
                latest = latest.max(leg);
                sightings.push(Sighting { frame: place, host, leg, what: *what });
            }
            (host, frame)
        });
        (frames.collect(), sightings)
    }
}

impl Seen {
    /// All that is known about the echo: from where, where to, how long; and the hosts after it.
    pub fn scene<'a>(&'a self, lab: &'a Lab, echo: &Echo, after: &'a [State]) -> Scene<'a> {
        Scene {
            topology: &lab.topology,
            from: echo.from,
            to: echo.to,
            length: echo.length,
            refused: self.refused,
            wrong_reply: self.wrong_reply.as_deref(),
            frames: &self.frames,
            until: self.until,
            sightings: &self.sightings,
            before: &self.before,
            after,
            ask: Questions::to(lab),
        }
    }

    /// Why there was no reply, or none that is the request's; `None` where there was one.
    pub fn verdict(&self, scene: &Scene<'_>) -> Result<Option<Verdict>> {
        match self.answered {
            Some(_) => Ok(None),
            None => Ok(Some(with_what_was_lost(scene.diagnose()?, self.lost))),
        }
    }
}

/// What was not seen may have been among the frames that were not captured.
fn with_what_was_lost(mut verdict: Verdict, lost: u32) -> Verdict {
    if lost > 0 {
        verdict
            .facts
            .push(format!("{lost} packets or more were not captured: what was not seen may have passed all the same"));
    }
    verdict
}

/// Sends the request, and captures at every host until the reply is there, or nobody need wait for it any more.
pub fn capture(lab: &Lab, echo: &Echo) -> Result<Seen> {
    let to = echo.to;
    let begun = Instant::now();
    let number = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
    let mark = Mark::new(number ^ u64::from(std::process::id()) << 48);
    let open = |network| namespace::inside(network, Capture::open);
    let mut captures = lab.networks.hosts.iter().map(open).collect::<Result<Vec<_>>>()?;
    // The captures come first, so that no packet passes unseen that the hosts' counters have. Nor does the kernel
    // begin at once to take the times that they want (net_enable_timestamp in net/core/dev.c), which the look leaves
    // it time for.
    let before = evidence::look(lab, ANSWERS)?;
    let socket = namespace::inside(&lab.networks.hosts[echo.from], || EchoSocket::open(mark, to, echo.length))?;
    let mut seen = Seen { before, ..Seen::default() };

    let started = Instant::now();
    let mut deadline = started + UNSEEN;
    match socket.send() {
        Ok(()) => {}
        Err(
            errno @ (Errno::EPERM
            | Errno::EACCES
            | Errno::EINVAL
            | Errno::EMSGSIZE
            | Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::ENOBUFS),
        ) => {
            seen.refused = Some(errno as i32);
            deadline = started + LATE;
        }
        Err(errno) => return Err(Error::failed(format!("cannot send an echo request to {to}")).because(errno)),
    }
    let mut caught = Caught::default();
    let mut arrived = false;
    loop {
        wait(&captures, &socket, deadline)?;
        for (host, capture) in captures.iter_mut().enumerate() {
            // While others flood the lab there is always one more frame: the other hosts and the deadline have their turn.
            for _ in 0..TURN {
                let Some(frame) = capture.take()? else { break };
                let is_enough = echo.enough == Some(host) && frame.direction == Direction::In && !frame.is_foreign;
                if caught.keep(host, frame, mark) && seen.answered.is_none() && !arrived {
                    arrived = is_enough;
                    deadline = match arrived {
                        true => Instant::now() + LATE,
                        false => (begun + PATIENCE).min(Instant::now() + UNSEEN).max(deadline),
                    };
                }
            }
        }
        if seen.answered.is_none() {
            match socket.answered().context(|| "cannot wait for the reply".into())? {
                Some(Answer::Right) => {
                    seen.answered = Some(started.elapsed());
                    deadline = Instant::now() + LATE;
                }
                // The right one may follow.
                Some(Answer::Wrong(differs)) => drop(seen.wrong_reply.get_or_insert(differs)),
                None => {}
            }
        }
        if Instant::now() >= deadline || caught.traced >= MOST_TRACED {
            break;
        }
    }
    // What has passed by now may still wait in the sockets.
    let drained = Instant::now() + DRAIN;
    seen.until = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    for (host, capture) in captures.iter_mut().enumerate() {
        while let Some(frame) = capture.take()?.filter(|frame| frame.at <= seen.until) {
            if Instant::now() >= drained {
                seen.lost += 1;
                break;
            }
            caught.keep(host, frame, mark);
        }
    }
    seen.lost += caught.lost + captures.iter().map(Capture::lost).sum::<u32>();
    // The kernel waits for every processor when one is closed (packet_release in net/packet/af_packet.c); for all at
    // once.
    thread::scope(|scope| captures.into_iter().for_each(|capture| drop(scope.spawn(|| drop(capture)))));
    (seen.frames, seen.sightings) = caught.in_order();
    Ok(seen)
}

/// Sleeps until a frame or an answer waits, or the deadline is there.
fn wait(captures: &[Capture], socket: &EchoSocket, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut awaited: Vec<_> = captures.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
    awaited.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
    let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    match poll(&mut awaited, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::failed("cannot wait for packets").because(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::cause::Cause;

    #[test]
    fn a_verdict_says_how_much_was_not_captured() {
        let facts = vec!["a fact".to_string()];
        let verdict = Verdict { cause: Cause::NotSent, host: "useru".into(), leg: Leg::Request, facts };
        assert_eq!(with_what_was_lost(verdict.clone(), 0), verdict);
        let facts = with_what_was_lost(verdict, 7).facts;
        assert_eq!(facts.len(), 2);
        assert!(facts[1].starts_with("7 packets or more were not captured"), "{facts:?}");
    }
}
