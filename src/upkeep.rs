//! What a step has to do now and then beside its packets: end when the user wants it to, keep the TUN device as it was
//! configured, its MTU right, report once a second what was not shown, and the counts when it is asked for them.
//!
//! Nothing here touches a packet, and nothing here is a descriptor: `select` waits for packets alone.

use std::ops::ControlFlow;

use nix::sys::signal::{SigSet, Signal};

use crate::counts::{Counts, Report};
use crate::error::Result;
use crate::interface::Interface;
use crate::lines::Lines;
use crate::memory;
use crate::signals::Signals;

/// What is due, by the signals that have arrived; [`Upkeep::attend`] does it.
pub struct Upkeep {
    signals: Signals,
    interface: Option<Interface>,
    report: Report,
}

impl Upkeep {
    /// Attends to `signals`, and to changes of the interface, where there is one; the counts go to `report`.
    ///
    /// # Errors
    /// Those of [`Interface::announce`].
    pub fn new(signals: Signals, mut interface: Option<Interface>, report: Report) -> Result<Self> {
        if let Some(interface) = &mut interface {
            interface.announce()?;
        }
        // From here on there is only the loop.
        memory::release();
        Ok(Self { signals, interface, report })
    }

    /// The signals that stay blocked while `select` sleeps; any other wakes it, and is due here.
    pub fn waiting(&self) -> &SigSet {
        self.signals.waiting()
    }

    /// Does what is due; breaks when the user wants the program to end. Nearly free while nothing is: for every round.
    /// `ends` are the step's counts so far.
    ///
    /// # Errors
    /// Those of [`Interface::restore`].
    pub fn attend(&mut self, lines: &mut Lines, ends: &[(&str, &Counts)]) -> Result<ControlFlow<()>> {
        let arrived = self.signals.arrived()?;
        if arrived.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        if arrived.ends() {
            return Ok(ControlFlow::Break(()));
        }
        if arrived.contains(Signal::SIGALRM) {
            lines.next_second();
        }
        if arrived.contains(Signal::SIGUSR1) {
            self.report.tell(ends);
        }
        if let Some(interface) = &mut self.interface {
            if arrived.contains(Signal::SIGIO) {
                interface.restore()?;
            }
            // Once a second while packets come, and after a change: it may be one of the interface that the tunnel's datagrams
            // leave through.
            interface.adjust();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells what the step has done: the last thing that it does.
    pub fn finish(mut self, ends: &[(&str, &Counts)]) {
        self.report.tell(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::readable;
    use nix::sys::signal::raise;
    use nix::unistd::{pipe, write};
    use std::os::fd::AsFd;

    /// One test, since signals are the whole process's.
    #[test]
    fn a_signal_breaks_the_loop_and_neither_a_second_nor_a_question_does() {
        let mut upkeep = Upkeep::new(Signals::block().unwrap(), None, Report::default()).unwrap();
        let mut lines = Lines::new(None).unwrap();
        let (silent, _writer) = pipe().unwrap();
        let mut wake = |lines: &mut Lines| {
            assert_eq!(readable([silent.as_fd()], upkeep.waiting()).unwrap(), [false]);
            upkeep.attend(lines, &[]).unwrap()
        };
        lines.packet(0, || "a packet".into());
        assert_eq!(wake(&mut lines), ControlFlow::Continue(()));
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(wake(&mut lines), ControlFlow::Continue(()));
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(wake(&mut lines), ControlFlow::Break(()));

        // A loop that never comes to sleep.
        let (flooded, writer) = pipe().unwrap();
        write(&writer, b"x").unwrap();
        raise(Signal::SIGINT).unwrap();
        let round = |_: &u32| {
            assert_eq!(readable([flooded.as_fd()], upkeep.waiting()).unwrap(), [true]);
            upkeep.attend(&mut lines, &[]).unwrap().is_break()
        };
        assert!((0..100).collect::<Vec<u32>>().iter().any(round));
    }
}
