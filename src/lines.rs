//! The result lines of a step on stdout: one per packet, as long as a reader could follow.
//!
//! Up to [`LINES_A_SECOND`] packets a second are shown. What exceeds that is counted, and shown as one line a second
//! until the traffic is slow enough again: a fast tunnel neither floods a terminal nor waits for one. A line that is
//! not shown is not even put together. The log file, where there is one, gets the same lines.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use log::{info, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::now;
use crate::counts::Tally;
use crate::link::Batch;
use crate::logging;

/// How many packets a second are shown.
pub const LINES_A_SECOND: u64 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Shows packets on stdout, and knows when enough were handled.
#[derive(Debug)]
pub struct Lines {
    limit: Option<u64>,
    handled: u64,
    budget: Budget,
    broken: bool,
    closed: bool,
}

impl Lines {
    /// Lines for a step that ends after `limit` packets, or never.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, handled: 0, budget: Budget::new(now()), broken: false, closed: false }
    }

    /// Prints a line that belongs to no packet.
    pub fn line(&mut self, line: &str) {
        info!(target: logging::RESULTS, "{line}");
        self.print(line);
    }

    /// Handles one packet of this many bytes; `line` is asked for what to show only if it is shown.
    pub fn packet(&mut self, bytes: usize, line: impl FnOnce() -> String) {
        self.handled += 1;
        self.turn(now());
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
        packets.iter().for_each(|packet| self.packet(packet.len(), || line(packet)));
    }

    /// Shows the count of packets that were not shown, when their second is over; else says how long to wait for that.
    /// This is the timeout of `select`: `None` when there is nothing to be shown later.
    pub fn due(&mut self) -> Option<Duration> {
        if self.budget.held.packets == 0 {
            return None;
        }
        let now = now();
        self.turn(now);
        (self.budget.held.packets > 0).then(|| self.budget.remaining(now))
    }

    /// Whether as many packets were handled as the user asked for.
    pub fn done(&self) -> bool {
        self.limit.is_some_and(|limit| self.handled >= limit)
    }

    /// Whether nobody reads the lines any more, as after `| head`.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Begins a new second if it is time, and shows what the last one counted.
    fn turn(&mut self, now: Duration) {
        if let Some(held) = self.budget.turn(now) {
            self.report(held);
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
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
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

/// What the current second has shown and held back.
#[derive(Debug)]
struct Budget {
    since: Duration,
    shown: u64,
    held: Tally,
    flooded: bool,
}

impl Budget {
    fn new(now: Duration) -> Self {
        Self { since: now, shown: 0, held: Tally::default(), flooded: false }
    }

    fn allows(&self) -> bool {
        !self.flooded && self.shown < LINES_A_SECOND
    }

    /// Begins a new second if the current one is over; returns what that held back. After a second with more packets
    /// than lines the next one shows only its count.
    fn turn(&mut self, now: Duration) -> Option<Tally> {
        if now.saturating_sub(self.since) < SECOND {
            return None;
        }
        let held = self.held;
        let quiet = now.saturating_sub(self.since) >= 2 * SECOND;
        let flooded = self.shown + held.packets > LINES_A_SECOND && !quiet;
        *self = Self { flooded, ..Self::new(now) };
        Some(held)
    }

    fn remaining(&self, now: Duration) -> Duration {
        (self.since + SECOND).saturating_sub(now)
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

    /// Sends packets at these milliseconds, and collects how many were shown and each count that was reported.
    fn flow(times: impl IntoIterator<Item = u64>) -> (u64, Vec<u64>) {
        let mut budget = Budget::new(Duration::ZERO);
        let (mut shown, mut reports) = (0, Vec::new());
        for time in times {
            if let Some(held) = budget.turn(Duration::from_millis(time)) {
                reports.push(held.packets);
            }
            if budget.allows() {
                budget.shown += 1;
                shown += 1;
            } else {
                budget.held.add(1);
            }
        }
        (shown, reports)
    }

    #[test]
    fn a_slow_flow_is_shown_whole() {
        assert_eq!(flow((0..10).map(|packet| packet * 100)), (10, vec![]));
        assert_eq!(flow((0..3).map(|packet| packet * 1000)), (3, vec![0, 0]));
    }

    #[test]
    fn a_fast_flow_is_shown_by_its_first_lines_and_then_counted() {
        assert_eq!(flow(0..3001), (20, vec![980, 1000, 1000]));
    }

    #[test]
    fn a_flow_that_becomes_slow_is_shown_again() {
        let slow = [1500, 2500, 2600];
        assert_eq!(flow((0..1000).chain(slow)), (22, vec![980, 1]));
    }

    #[test]
    fn the_next_report_is_due_when_the_second_is_over() {
        let budget = Budget::new(Duration::from_millis(300));
        assert_eq!(budget.remaining(Duration::from_millis(1000)), Duration::from_millis(300));
        assert_eq!(budget.remaining(Duration::from_millis(9000)), Duration::ZERO);
    }
}
