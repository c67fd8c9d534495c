//! What a step has to do now and then beside its packets: end when the user wants it to, see that the TUN device is kept as
//! it was configured, its MTU right, report once a second what was not shown, and the counts when it is asked for them.
//!
//! It begins where the step is ready for its first packet, and there the step's rights end. Nothing here touches a packet,
//! and nothing here is a descriptor: `select` waits for packets alone.

use std::ops::ControlFlow;

use nix::sys::signal::{SigSet, Signal};

use crate::counts::{Counts, Report};
use crate::error::Result;
use crate::interface::Interface;
use crate::keeper::Keeper;
use crate::lines::Lines;
use crate::memory;
use crate::mtu::FollowsPath;
use crate::privileges::{self, Privileges};
use crate::signals::Signals;

/// What is due, by the signals that have arrived; [`Upkeep::attend`] does it. Made after the TUN device, it is dropped before
/// it, and so the keeper learns that the device does not go by accident.
pub struct Upkeep {
    signals: Signals,
    keeper: Option<Keeper>,
    mtu: Option<FollowsPath>,
    report: Report,
}

impl Upkeep {
    /// Attends to `signals`, and has the interface kept, where there is one; the counts go to `report`. With this call the
    /// process gives up its rights, and may become another one ([`crate::keeper`]): all that takes rights, or names a file,
    /// comes before it, and what belongs to a process, like a timer, after it.
    ///
    /// # Errors
    /// Those of [`Keeper::of`] and [`privileges::bar`].
    pub fn begin(
        mut signals: Signals,
        interface: Option<Interface>,
        report: Report,
        privileges: Privileges,
    ) -> Result<Self> {
        let keeper = match interface {
            Some(interface) => Some(Keeper::of(interface, &mut signals, privileges)?),
            None if privileges.keep => None,
            None => {
                privileges::bar()?;
                privileges::give_up()?;
                None
            }
        };
        // From here on there is only the loop.
        memory::release();
        Ok(Self { signals, keeper, mtu: None, report })
    }

    /// Has the MTU of the interface follow the path to the tunnel's other end, too.
    pub fn following(self, mtu: FollowsPath) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// The signals that stay blocked while `select` sleeps; any other wakes it, and is due here.
    pub fn waiting(&self) -> &SigSet {
        self.signals.waiting()
    }

    /// Does what is due; breaks when the user wants the program to end. Nearly free while nothing is: for every round.
    /// `ends` are the step's counts so far.
    ///
    /// # Errors
    /// Those of [`Keeper::restore`].
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
        if let Some(keeper) = &mut self.keeper {
            if arrived.contains(Signal::SIGIO) {
                keeper.restore()?;
            }
            // Once a second while packets come, and after a change: it may be one of the interface that the tunnel's datagrams
            // leave through.
            if let Some(follows) = &mut self.mtu
                && let Some(mtu) = follows.look()
                && keeper.set_mtu(mtu)
            {
                follows.has(mtu);
            }
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
        let (signals, report) = (Signals::block().unwrap(), Report::default());
        let mut upkeep = Upkeep::begin(signals, None, report, Privileges { keep: true }).unwrap();
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
