//! The signals that a step attends to: those that end it, the timer of its output, news about its interface, and the
//! question for its counts (SIGUSR1).
//!
//! They are blocked, and let through only while `select` sleeps and, when it does not come to sleep, every so many rounds
//! of the loop: pselect(2) delivers none while a descriptor is ready. So they cost a packet nothing, where a descriptor
//! of their own (signalfd(2)) would be one more that `select` has to look at each time. Their handler only notes them.

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Context, Result};
use crate::sys;

/// After how many rounds of a loop that never sleeps the signals are let through: some milliseconds.
const ROUNDS: u32 = 64;

/// The signals of a step, blocked from [`Signals::block`] on.
#[derive(Debug)]
pub struct Signals {
    blocked: SigSet,
    waiting: SigSet,
    round: u32,
}

impl Signals {
    /// From now on no signal kills the program, all wait until they are asked for. What takes its time before the loop,
    /// like asking a name server, comes before this: Ctrl-C could not end it.
    ///
    /// # Errors
    /// None on a Linux that has signals.
    pub fn block() -> Result<Self> {
        let preparing = || "cannot prepare for signals".to_string();
        let mut blocked = SigSet::from_iter([
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGALRM,
            Signal::SIGIO,
            Signal::SIGUSR1,
        ]);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !ignores(&status, Signal::SIGHUP) {
            blocked.add(Signal::SIGHUP);
        }
        let mut waiting = SigSet::thread_get_mask().context(preparing)?;
        blocked.thread_block().context(preparing)?;
        for signal in &blocked {
            waiting.remove(signal);
            sys::note(signal).context(preparing)?;
        }
        Ok(Self { blocked, waiting, round: 0 })
    }

    /// The signals that stay blocked while `select` sleeps: those that were blocked when the program began.
    pub fn waiting(&self) -> &SigSet {
        &self.waiting
    }

    /// The signals that have arrived since the last call.
    ///
    /// # Errors
    /// None on a Linux that has signals.
    pub fn arrived(&mut self) -> Result<Arrived> {
        self.round = (self.round + 1) % ROUNDS;
        if self.round == 0 {
            // The kernel delivers those that wait before it returns.
            self.waiting.thread_set_mask().context(|| "cannot let signals through".into())?;
            self.blocked.thread_block().context(|| "cannot block signals".into())?;
        }
        Ok(Arrived(sys::noted()))
    }

    /// Sleeps until the user wants the program to end.
    ///
    /// # Errors
    /// None on a Linux that has signals.
    pub fn wait_for_end(&self) -> Result<()> {
        let waiting = || "cannot wait for Ctrl-C".to_string();
        loop {
            if ENDS.contains(&self.blocked.wait().context(waiting)?) {
                return Ok(());
            }
        }
    }
}

/// The user wants the program to end: Ctrl-C, Ctrl-\, `kill`, or the terminal was closed.
const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP];

/// The signals that are for whoever carries packets: they end it, or ask it for its counts.
pub const FOR_CARRIER: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1];

/// Some signals that have arrived; bit N is signal N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived(u64);

impl Arrived {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this signal is among them.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u32) != 0
    }

    /// Whether one is among them with which the user wants the program to end.
    pub fn ends(self) -> bool {
        ENDS.iter().any(|signal| self.contains(*signal))
    }
}

/// Whether the program was started to ignore this signal, as `nohup` does with SIGHUP: from /proc/self/status, where bit
/// N of `SigIgn` is signal N + 1 (proc_pid_status(5)). With a handler it would arrive all the same.
fn ignores(status: &str, signal: Signal) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as u32 - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_read_from_the_status() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        assert!(ignores(status, Signal::SIGHUP));
        assert!(ignores(status, Signal::SIGPIPE));
        assert!(!ignores(status, Signal::SIGINT));
        assert!(!ignores("", Signal::SIGHUP));
    }

    #[test]
    fn what_has_arrived_is_told_by_its_bit() {
        let arrived = Arrived(1 << Signal::SIGALRM as u32);
        assert!(arrived.contains(Signal::SIGALRM));
        assert!(!arrived.contains(Signal::SIGIO));
        assert!(!arrived.ends() && !arrived.is_empty());
        assert!(Arrived(1 << Signal::SIGHUP as u32).ends());
    }
}
