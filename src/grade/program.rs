//! A program of a submission's that was started: what it prints, and how it ends.
//!
//! What it prints goes through a pseudoterminal, so that a program that buffers its lines for a pipe is heard as it is by its
//! student.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use crate::grade::model::Transcript;
use crate::grade::usage::inhabitants;

/// How much of what a program prints is kept, in bytes.
const KEPT: usize = 256 << 10;

/// After how many printed bytes a program is ended.
pub const FLOOD: usize = 16 << 20;

/// A pseudoterminal that passes on what is written to it as it is; the side that is read, and the program's.
///
/// # Errors
/// The kernel gives none.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    let mut settings = tcgetattr(&pair.slave)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
    Ok((pair.master, pair.slave))
}

/// What a program has printed so far: the beginning and the end of it.
#[derive(Debug, Default)]
struct Printed {
    begin: Vec<u8>,
    /// What came after the beginning; all of it, or the last of it.
    end: VecDeque<u8>,
    total: usize,
    /// Whether nobody can print any more.
    is_over: bool,
}

impl Printed {
    fn take(&mut self, bytes: &[u8]) {
        const HALF: usize = KEPT / 2;
        let (begin, rest) = bytes.split_at((HALF - self.begin.len()).min(bytes.len()));
        self.begin.extend(begin);
        self.end.extend(rest);
        self.end.drain(..self.end.len().saturating_sub(HALF));
        self.total += bytes.len();
    }

    /// Whether what is between beginning and end is not kept.
    fn has_gap(&self) -> bool {
        self.total > self.begin.len() + self.end.len()
    }

    /// What was printed after so many bytes, as far as it is kept.
    fn since(&self, mark: usize) -> String {
        let begin = self.begin.get(mark..).unwrap_or_default();
        let before_end = self.total - self.end.len();
        let mut end: Vec<u8> = self.end.iter().copied().skip(mark.saturating_sub(before_end)).collect();
        if self.has_gap() && mark < before_end {
            // A line of its own, and the first of the end is one of which there may be the last part alone.
            end.splice(..0, *b"\n[...]\n");
        }
        String::from_utf8_lossy(&[begin, &end].concat()).replace("\r\n", "\n")
    }
}

/// A program that runs in a sandbox; ended when dropped.
#[derive(Debug)]
pub struct Program {
    host: String,
    command: String,
    child: Child,
    printed: Arc<Mutex<Printed>>,
    ended: Option<ExitStatus>,
    killed: Option<String>,
}

impl Program {
    /// A program that was started on a host by this command, and the side of its terminal that is read.
    pub fn new(host: &str, words: &[String], child: Child, screen: OwnedFd) -> Self {
        let printed = Arc::new(Mutex::new(Printed::default()));
        let writer = Arc::clone(&printed);
        thread::spawn(move || {
            let mut screen = fs::File::from(screen);
            let mut buffer = [0; 4096];
            // The program's end is EIO here (pty(7)).
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                writer.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..length]);
            }
            writer.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        });
        Self { host: host.into(), command: words.join(" "), child, printed, ended: None, killed: None }
    }

    /// The host that it runs on.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// What it has printed, as text; of much the beginning and the end.
    pub fn output(&self) -> String {
        self.output_since(0)
    }

    /// How many bytes it has printed.
    pub fn printed(&self) -> usize {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// What it has printed after so many bytes, as text.
    pub fn output_since(&self, mark: usize) -> String {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).since(mark)
    }

    /// Ends it if it has printed more than anybody can read.
    pub fn watch(&mut self) {
        if self.printed() > FLOOD && self.runs() {
            self.kill(&format!("it printed more than {} MB", FLOOD >> 20));
        }
    }

    /// Ends it as Ctrl-C does, so that it can put back what it has changed; and after a while, whatever it does.
    pub fn end(&mut self, why: &str) {
        const PATIENCE: Duration = Duration::from_millis(500);
        if self.killed.is_none() && self.runs() {
            self.killed = Some(why.into());
            for pid in descendants(self.child.id() as i32) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
            }
            self.wait(PATIENCE);
        }
        self.kill(why);
    }

    /// Says that it has ended, or is about to, for a reason of the grader's.
    pub fn was_ended(&mut self, why: &str) {
        self.killed.get_or_insert_with(|| why.into());
    }

    /// Ends it, and all that it has started.
    pub fn kill(&mut self, why: &str) {
        self.was_ended(why);
        // bubblewrap's own process; with it goes the first of the program's process namespace, and so all of that. Without
        // a sandbox it leads a group.
        let _ = kill(Pid::from_raw(-(self.child.id() as i32)), Signal::SIGKILL);
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// Waits a while for its end.
    pub fn wait(&mut self, patience: Duration) -> bool {
        let started = Instant::now();
        while self.runs() && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        !self.runs()
    }

    /// Waits a while until all that it printed, to its end, has been read.
    pub fn wait_for_output(&self, patience: Duration) {
        let started = Instant::now();
        let is_over = || self.printed.lock().unwrap_or_else(PoisonError::into_inner).is_over;
        while !is_over() && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The exit code of a program that has ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        self.ended.filter(|_| self.killed.is_none()).and_then(|status| status.code())
    }

    /// What it printed, and how it ended.
    pub fn transcript(&mut self) -> Transcript {
        let is_running = self.runs();
        let end = match (&self.killed, self.ended) {
            (Some(why), _) => format!("ended by the grader: {why}"),
            _ if is_running => "still running".into(),
            (None, Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            },
            (None, None) => "gone".into(),
        };
        let truncated = self.printed.lock().unwrap_or_else(PoisonError::into_inner).has_gap();
        Transcript { host: self.host.clone(), command: self.command.clone(), output: self.output(), truncated, end }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.runs() {
            self.end("the check was over");
        }
    }
}

/// The processes that a process has started, and those that these have; without bubblewrap's own, which a signal would end.
fn descendants(of: i32) -> Vec<i32> {
    let told = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((pid, fields.split(' ').nth(1)?.parse::<i32>().ok()?, name == "bwrap"))
    };
    let all: Vec<(i32, i32, bool)> = inhabitants().into_iter().filter_map(told).collect();
    let mut found = vec![of];
    let mut place = 0;
    while let Some(parent) = found.get(place).copied() {
        found.extend(all.iter().filter(|(_, its, _)| *its == parent).map(|(pid, ..)| *pid));
        place += 1;
    }
    found.retain(|pid| all.iter().any(|(it, _, is_bubblewrap)| it == pid && !is_bubblewrap));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_printed_the_begin_and_the_end_are_kept() {
        let mut printed = Printed::default();
        printed.take(b"begin\r\n");
        assert_eq!(
            (printed.since(0), printed.since(3), printed.since(7)),
            ("begin\n".into(), "in\n".into(), "".into())
        );
        for _ in 0..KEPT / 8 {
            printed.take(b"a line.\n");
        }
        assert!(printed.has_gap() && printed.begin.len() + printed.end.len() == KEPT);
        let mark = printed.total;
        assert_eq!(printed.since(mark), "");
        printed.take(b"the end\n");
        assert_eq!((printed.since(mark), printed.since(mark - 6)), ("the end\n".into(), "line.\nthe end\n".into()));
        let all = printed.since(0);
        assert!(all.starts_with("begin\na line.") && all.contains("\n[...]\n") && all.ends_with("line.\nthe end\n"));
    }
}
