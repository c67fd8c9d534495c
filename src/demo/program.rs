//! A program on a host of the demo's lab: its lines as they come, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Result};

/// How long a line may take to come, or a program to end.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A running program. Dropped, it is ended.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    keyboard: Option<ChildStdin>,
}

impl Program {
    /// Starts a command line on a host of a lab.
    pub fn start(lab: &str, host: &str, line: &str) -> Result<Self> {
        Self::start_with(lab, host, line, Stdio::null())
    }

    /// The same for one that reads what [`Program::types`] types.
    pub fn start_to_type(lab: &str, host: &str, line: &str) -> Result<Self> {
        Self::start_with(lab, host, line, Stdio::piped())
    }

    fn start_with(lab: &str, host: &str, line: &str, keyboard: Stdio) -> Result<Self> {
        let starting = || format!("cannot start {line} on {host}");
        let mut command = Command::new(std::env::current_exe().context(starting)?);
        command.args(["lab", "--lab", lab, "exec", host, "--"]).args(line.split_whitespace());
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(keyboard)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(starting)?;
        let (sender, lines) = channel();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            forward(stdout, sender.clone());
            forward(stderr, sender);
        }
        let keyboard = child.stdin.take();
        Ok(Self { child, lines, keyboard })
    }

    /// Types a line. A program that has ended does not read it.
    pub fn types(&mut self, line: &str) {
        if let Some(keyboard) = &mut self.keyboard {
            let _ = keyboard.write_all(format!("{line}\n").as_bytes()).and_then(|()| keyboard.flush());
        }
    }

    /// The next line, if one comes before the deadline and before the program ends.
    pub fn next_line(&self, deadline: Instant) -> Option<String> {
        self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    /// Ends the program as Ctrl-C does.
    pub fn interrupt(&self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
    }

    /// Waits for its end; returns its exit code, and what it printed since it was last asked.
    pub fn finish(mut self) -> Result<(i32, Vec<String>)> {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = Vec::new();
        while let Some(line) = self.next_line(deadline) {
            rest.push(line);
        }
        if self.child.try_wait().ok().flatten().is_none() && Instant::now() >= deadline {
            let _ = self.child.kill();
        }
        let status = self.child.wait().context(|| "cannot wait for a program of the demo".into())?;
        Ok((status.code().unwrap_or(-1), rest))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a stream's lines to the channel, until it ends.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
