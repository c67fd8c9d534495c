//! What a step has to do now and then beside its packets: end when the user wants it to, keep the TUN device as it was
//! configured, its MTU right, and report once a second what was not shown.
//!
//! All of that arrives at one descriptor (epoll(7)), because every further one that `select` waits for costs each packet
//! some time. Nothing here touches a packet.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Context, Result};
use crate::interface::Interface;
use crate::lines::Lines;
use crate::memory;
use crate::signals::Signals;

/// Readable (select(2)) when there is something to do; then [`Upkeep::attend`] does it.
pub struct Upkeep {
    events: Epoll,
    _stop: Signals,
    interface: Option<Interface>,
}

/// Which of the descriptors has something to read.
const STOP: u64 = 0;
const LINES: u64 = 1;
const INTERFACE: u64 = 2;

impl Upkeep {
    /// Waits for `stop`, for the seconds of `lines`, and for changes of the interface, where there is one.
    ///
    /// # Errors
    /// The kernel has no descriptor left to give.
    pub fn new(stop: Signals, lines: &Lines, interface: Option<Interface>) -> Result<Self> {
        let preparing = || "cannot wait for several things at once".to_string();
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context(preparing)?;
        let add = |fd: BorrowedFd<'_>, which| events.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, which));
        add(stop.as_fd(), STOP).context(preparing)?;
        add(lines.as_fd(), LINES).context(preparing)?;
        if let Some(interface) = &interface {
            add(interface.as_fd(), INTERFACE).context(preparing)?;
        }
        // From here on there is only the loop.
        memory::release();
        Ok(Self { events, _stop: stop, interface })
    }

    /// Does what is due; breaks when the user wants the program to end.
    ///
    /// # Errors
    /// Those of [`Interface::restore`].
    pub fn attend(&mut self, lines: &mut Lines) -> Result<ControlFlow<()>> {
        let mut due = [EpollEvent::empty(); 3];
        let count = self.events.wait(&mut due, EpollTimeout::ZERO).context(|| "epoll failed".into())?;
        for event in &due[..count] {
            match (event.data(), &mut self.interface) {
                (STOP, _) => return Ok(ControlFlow::Break(())),
                (LINES, interface) => {
                    lines.next_second();
                    interface.iter_mut().for_each(Interface::adjust);
                }
                // The change may be one of the interface that the tunnel's datagrams leave through.
                (_, Some(interface)) => {
                    interface.restore()?;
                    interface.adjust();
                }
                (_, None) => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl AsFd for Upkeep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::readable;
    use nix::sys::signal::{Signal, raise};

    #[test]
    fn a_signal_breaks_the_loop_and_a_second_does_not() {
        let mut lines = Lines::new(None).unwrap();
        let mut upkeep = Upkeep::new(Signals::block().unwrap(), &lines, None).unwrap();
        lines.packet(0, || "a packet".into());
        assert_eq!(readable([upkeep.as_fd()]).unwrap(), [true]);
        assert_eq!(upkeep.attend(&mut lines).unwrap(), ControlFlow::Continue(()));
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(readable([upkeep.as_fd()]).unwrap(), [true]);
        assert_eq!(upkeep.attend(&mut lines).unwrap(), ControlFlow::Break(()));
    }
}
