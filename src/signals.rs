//! SIGINT, SIGTERM and SIGHUP as a descriptor, so that the loop of a step waits for them as for a packet.
//!
//! A step that ends this way puts back what it changed and prints its summary. Nothing runs inside a signal handler.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Context, Result};

/// Readable once the user wants the program to end: Ctrl-C, `kill`, or the terminal was closed.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// From now on the signals no longer kill the program, they wait in the descriptor (signalfd(2)). What takes its
    /// time before the loop, like asking a name server, comes before this: Ctrl-C could not end it.
    ///
    /// # Errors
    /// The kernel has no descriptor left to give.
    pub fn block() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        if !ignores(&status, Signal::SIGHUP) {
            signals.add(Signal::SIGHUP);
        }
        signals.thread_block().context(|| "cannot block SIGINT and SIGTERM".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor =
            SignalFd::with_flags(&signals, flags).context(|| "cannot wait for SIGINT and SIGTERM".into())?;
        Ok(Self(descriptor))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the program was started to ignore this signal, as `nohup` does with SIGHUP: from /proc/self/status, where bit
/// N of `SigIgn` is signal N + 1 (proc_pid_status(5)). A signal that is blocked would reach the descriptor all the same.
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
}
