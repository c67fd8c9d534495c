//! The result lines of a step on stdout: one per packet, as long as a reader could follow.
//!
//! Up to [`LINES_A_SECOND`] packets a second are shown. What exceeds that is counted, and shown as one line a second
//! until the traffic is slow enough again: a fast tunnel neither floods a terminal nor waits for one. A line that is
//! not shown is not even put together, and a packet costs no look at a clock: a timer ends the seconds. The log file,
//! where there is one, gets the same lines.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::AsFd;

use log::{info, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

use crate::counts::Tally;
use crate::error::{Context, Result};
use crate::link::Batch;
use crate::logging;

/// How many packets a second are shown.
pub const LINES_A_SECOND: u64 = 20;

/// Shows packets on stdout, and knows when enough were handled. SIGALRM arrives in the thread that made it when a second
/// is over; then [`Lines::next_second`] is due.
#[derive(Debug)]
pub struct Lines {
    limit: Option<u64>,
    handled: u64,
    budget: Budget,
    timer: Timer,
    running: bool,
    broken: bool,
    closed: bool,
}

impl Lines {
    /// Lines for a step that ends after `limit` packets, or never.
    ///
    /// # Errors
    /// The kernel has no timer left to give.
    pub fn new(limit: Option<u64>) -> Result<Self> {
        let signal = SigevNotify::SigevThreadId { signal: Signal::SIGALRM, thread_id: gettid().as_raw(), si_value: 0 };
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(signal));
        let timer = timer.context(|| "cannot create a timer".into())?;
        let budget = Budget::default();
        Ok(Self { limit, handled: 0, budget, timer, running: false, broken: false, closed: false })
    }

    /// Prints a line that belongs to no packet.
    pub fn line(&mut self, line: &str) {
        info!(target: logging::RESULTS, "{line}");
        self.print(line);
    }

    /// Handles one packet of this many bytes; `line` is asked for what to show only if it is shown.
    pub fn packet(&mut self, bytes: usize, line: impl FnOnce() -> String) {
        self.handled += 1;
        if !self.running {
            self.start();
        }
        // A reader that stalls, as `less` does, must not stall the tunnel: its lines are counted instead.
        if self.budget.allows() && can_take_a_line() {
            self.budget.shown += 1;
            self.line(&line());
        } else {
            self.budget.held.add(bytes);
        }
    }

    /// Handles all packets of a batch; `line` says what to show of one.
    pub fn packets(&mut self, packets: &Batch, line: impl Fn(&[u8]) -> String) {
        for (index, packet) in packets.iter().enumerate() {
            if !self.budget.allows() {
                // What cannot be shown is counted together.
                let rest = &packets.places()[index..];
                self.handled += rest.len() as u64;
                return self.budget.held.add_many(rest.len(), rest.iter().map(ExactSizeIterator::len).sum());
            }
            self.packet(packet.len(), || line(packet));
        }
    }

    /// Shows the count of the packets that were not shown in the second that is over, and begins the next one.
    pub fn next_second(&mut self) {
        let second = self.budget.next_second();
        self.report(second.held);
        // Nothing happens any more: the timer need not wake the program before something does.
        self.running = second.packets() > 0;
        if self.running {
            self.start();
        }
    }

    /// Whether as many packets were handled as the user asked for.
    pub fn done(&self) -> bool {
        self.limit.is_some_and(|limit| self.handled >= limit)
    }

    /// Whether nobody reads the lines any more, as after `| head`.
    pub fn closed(&self) -> bool {
        self.closed
    }

    fn start(&mut self) {
        self.running = true;
        let second = Expiration::OneShot(TimeSpec::new(1, 0));
        if let Err(error) = self.timer.set(second, TimerSetTimeFlags::empty()) {
            warn!("no more than {LINES_A_SECOND} packets can be shown: {}", error.desc());
        }
    }

    fn report(&mut self, held: Tally) {
        if held.packets > 0 {
            self.line(&format!("... and {held} more"));
        }
    }

    fn print(&mut self, line: &str) {
        if self.closed {
            return;
        }
        let mut text = String::with_capacity(line.len() + 1);
        let _ = writeln!(text, "{line}");
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                info!("Nobody reads stdout any more");
            }
            Err(error) if !self.broken => {
                self.broken = true;
                warn!("cannot write to stdout: {error}");
            }
            Err(_) => {}
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let held = self.budget.held;
        self.report(held);
    }
}

/// What a second has shown and held back.
#[derive(Debug, Default)]
struct Budget {
    shown: u64,
    held: Tally,
    flooded: bool,
}

impl Budget {
    fn allows(&self) -> bool {
        !self.flooded && self.shown < LINES_A_SECOND
    }

    fn packets(&self) -> u64 {
        self.shown + self.held.packets
    }

    /// Ends the second, and returns it. After one with more packets than lines, the next shows only its count.
    fn next_second(&mut self) -> Self {
        let flooded = self.packets() > LINES_A_SECOND;
        std::mem::replace(self, Self { flooded, ..Self::default() })
    }
}

/// Whether stdout can take a line at once: a pipe that poll(2) calls writable has room for PIPE_BUF bytes (pipe(7)).
fn can_take_a_line() -> bool {
    let stdout = io::stdout();
    let mut stdout = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
    !matches!(poll(&mut stdout, PollTimeout::ZERO), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::SigSet;

    /// Sends this many packets in each second; returns for each how many were shown and how many held back.
    fn flow<const N: usize>(seconds: [u64; N]) -> [(u64, u64); N] {
        let mut budget = Budget::default();
        seconds.map(|packets| {
            for _ in 0..packets {
                match budget.allows() {
                    true => budget.shown += 1,
                    false => budget.held.add(1),
                }
            }
            let second = budget.next_second();
            (second.shown, second.held.packets)
        })
    }

    #[test]
    fn a_slow_flow_is_shown_whole() {
        assert_eq!(flow([10, 0, 20, 1]), [(10, 0), (0, 0), (20, 0), (1, 0)]);
    }

    #[test]
    fn a_fast_flow_is_shown_by_its_first_lines_and_then_counted() {
        assert_eq!(flow([1000, 1000, 1000]), [(20, 980), (0, 1000), (0, 1000)]);
    }

    #[test]
    fn a_flow_that_becomes_slow_is_shown_again() {
        assert_eq!(flow([1000, 1, 2]), [(20, 980), (0, 1), (2, 0)]);
    }

    #[test]
    fn the_timer_runs_only_while_packets_come() {
        // Without a handler it would end the tests, should this one take a second.
        SigSet::from(Signal::SIGALRM).thread_block().unwrap();
        let mut lines = Lines::new(None).unwrap();
        assert!(!lines.running);
        lines.budget.flooded = true;
        lines.packet(1, || unreachable!("a flood is not shown"));
        assert!(lines.running);
        lines.next_second();
        assert!(lines.running);
        lines.next_second();
        assert!(!lines.running);
    }
}
