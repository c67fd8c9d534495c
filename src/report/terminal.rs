//! Commands and programs on terminals of their own, all looked after by one thread: what they print is kept, and Ctrl-C of
//! the user's is seen while something is waited for.
//!
//! A terminal, since a program that writes to a pipe prints its lines late (setvbuf(3)), and since the program then goes with
//! the terminal: when this process ends, in whatever way, the kernel hangs it up.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::signals::Signals;
use crate::sys;

/// How much of what a program prints is kept.
const KEPT: usize = 1 << 20;

/// How long a program has to end on Ctrl-C, and then on SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How much of one program is read before the others have their turn.
const TURN: usize = 64 << 10;

/// The variable by which all that was started is known, wherever it goes.
pub const MARK: &str = "VPNLAB_REPORT";

const CTRL_C: &[u8] = b"\x03";

/// A program that was started.
struct Program {
    child: Child,
    screen: Option<File>,
    printed: Vec<u8>,
    total: usize,
    started: Instant,
    ended: Option<(ExitStatus, Duration)>,
}

/// The programs, and the user's signals.
pub struct Terminals {
    programs: Vec<Program>,
    signals: Signals,
    waiting: SigSet,
    interrupted: bool,
    vpnlab: PathBuf,
    mark: String,
}

/// One of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(usize);

impl Terminals {
    /// From now on Ctrl-C ends no process by itself, and is told by [`Terminals::is_interrupted`].
    ///
    /// # Errors
    /// The kernel does not tell where this program is.
    pub fn new() -> Result<Self> {
        let vpnlab = std::env::current_exe().context(|| "cannot find vpnlab itself".into())?;
        let signals = Signals::block()?;
        let (waiting, mark) = (*signals.waiting(), format!("{}", std::process::id()));
        Ok(Self { programs: Vec::new(), signals, waiting, interrupted: false, vpnlab, mark })
    }

    /// Whether the user wants this to end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The word in the environment of all that was started.
    pub fn mark(&self) -> String {
        format!("{MARK}={}", self.mark)
    }

    /// The program file of vpnlab itself.
    pub fn vpnlab(&self) -> &std::path::Path {
        &self.vpnlab
    }

    /// Starts `vpnlab` with these words.
    ///
    /// # Errors
    /// The machine has no terminal or no process to give.
    pub fn start(&mut self, words: &[OsString]) -> Result<Handle> {
        let failed = || "cannot start a program on a terminal".to_string();
        let (screen, terminal) = terminal().context(failed)?;
        let mut command = Command::new(&self.vpnlab);
        command.args(words).env("LC_ALL", "C.UTF-8").env("TERM", "dumb").env(MARK, &self.mark);
        let [input, output] = [terminal.try_clone(), terminal.try_clone()];
        command.stdin(input.context(failed)?).stdout(output.context(failed)?).stderr(terminal);
        sys::give_terminal(&mut command);
        let child = command.spawn().context(failed)?;
        let (screen, printed, started) = (Some(File::from(screen)), Vec::new(), Instant::now());
        self.programs.push(Program { child, screen, printed, total: 0, started, ended: None });
        Ok(Handle(self.programs.len() - 1))
    }

    /// Waits until something is so; says whether it came about in time.
    ///
    /// # Errors
    /// The user has interrupted it.
    pub fn wait(&mut self, patience: Duration, mut so: impl FnMut(&Self) -> bool) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            self.turn(deadline)?;
            if self.interrupted {
                return Err(Error::failed("interrupted"));
            }
            if so(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Waits until no program has printed anything for so long, but not for ever.
    ///
    /// # Errors
    /// The user has interrupted it.
    pub fn settle(&mut self, quiet: Duration, patience: Duration) -> Result<()> {
        let total = |it: &Self| it.programs.iter().map(|program| program.total).sum::<usize>();
        let (mut before, mut since) = (total(self), Instant::now());
        let settled = |it: &Self| {
            if total(it) != before {
                (before, since) = (total(it), Instant::now());
            }
            since.elapsed() >= quiet
        };
        self.wait(patience, settled).map(drop)
    }

    /// Whether a program has ended.
    pub fn has_ended(&self, handle: Handle) -> bool {
        self.programs[handle.0].ended.is_some()
    }

    /// Its exit code, if it has one; and how long it ran.
    pub fn exit(&self, handle: Handle) -> (Option<i32>, Duration) {
        let program = &self.programs[handle.0];
        match program.ended {
            Some((status, took)) => (status.code(), took),
            None => (None, program.started.elapsed()),
        }
    }

    /// How much of what it printed is kept so far.
    pub fn kept(&self, handle: Handle) -> usize {
        self.programs[handle.0].printed.len()
    }

    /// Whether it has printed more than is kept.
    pub fn is_truncated(&self, handle: Handle) -> bool {
        let program = &self.programs[handle.0];
        program.total > program.printed.len()
    }

    /// What it has printed from a place on.
    pub fn printed(&self, handle: Handle, from: usize) -> String {
        let printed = &self.programs[handle.0].printed;
        String::from_utf8_lossy(&printed[from.min(printed.len())..]).replace("\r\n", "\n")
    }

    /// Ends a program as Ctrl-C on its terminal does; one that does not mind it, by other means.
    pub fn end(&mut self, handle: Handle) {
        let program = &mut self.programs[handle.0];
        // A program that has closed its terminal goes on to SIGTERM.
        if let Some(screen) = &mut program.screen {
            let _ = screen.write_all(CTRL_C);
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if self.ends_within(handle, GRACE) {
                return;
            }
            let _ = kill(Pid::from_raw(self.programs[handle.0].child.id() as i32), signal);
        }
        self.ends_within(handle, GRACE);
    }

    /// Ends all of them.
    pub fn end_all(&mut self) {
        let running: Vec<Handle> = (0..self.programs.len()).map(Handle).filter(|it| !self.has_ended(*it)).collect();
        running.into_iter().for_each(|handle| self.end(handle));
        self.programs.iter_mut().for_each(|program| program.screen = None);
    }

    fn ends_within(&mut self, handle: Handle, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.has_ended(handle) && Instant::now() < deadline {
            if self.turn(deadline).is_err() {
                break;
            }
        }
        self.has_ended(handle)
    }

    /// Waits a moment, and takes what is printed, who has ended, and what the user wants.
    fn turn(&mut self, deadline: Instant) -> Result<()> {
        let pause = deadline.saturating_duration_since(Instant::now()).min(LOOK);
        let open = || self.programs.iter().filter_map(|program| program.screen.as_ref());
        let mut awaited: Vec<_> = open().map(|screen| PollFd::new(screen.as_fd(), PollFlags::POLLIN)).collect();
        match ppoll(&mut awaited, Some(TimeSpec::from(pause)), Some(self.waiting)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::failed("cannot wait for programs").because(errno)),
        }
        self.interrupted |= self.signals.arrived()?.ends();
        self.programs.iter_mut().for_each(Program::look);
        Ok(())
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        self.end_all();
    }
}

impl Program {
    fn look(&mut self) {
        if self.ended.is_none() {
            // Asked before the reading, so that nothing is printed after the last look.
            self.ended = self.child.try_wait().ok().flatten().map(|status| (status, self.started.elapsed()));
        }
        let mut left = TURN;
        let mut buffer = [0; 4096];
        while let Some(screen) = self.screen.as_mut().filter(|screen| left > 0 && is_readable(screen)) {
            match screen.read(&mut buffer) {
                Ok(length @ 1..) => {
                    let room = KEPT.saturating_sub(self.printed.len()).min(length);
                    self.printed.extend(&buffer[..room]);
                    self.total += length;
                    left = left.saturating_sub(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: nobody has the terminal any more (pty(7)).
                _ => self.screen = None,
            }
        }
    }
}

fn is_readable(screen: &File) -> bool {
    let mut awaited = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
    ppoll(&mut awaited, Some(TimeSpec::from(Duration::ZERO)), None).is_ok_and(|ready| ready > 0)
}

/// A pseudoterminal that passes on what is written to it as it is, and does not repeat what is typed; the side that is read,
/// and the program's.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    for side in [&pair.master, &pair.slave] {
        // Else a program would hold its own terminal open.
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    let mut settings = tcgetattr(&pair.slave)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    settings.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHOCTL);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
    Ok((pair.master, pair.slave))
}
