//! A program on a terminal of its own: what a person types, and what they then see.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Machine, PATIENCE};

pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const CTRL_Z: &str = "\x1a";

/// A terminal on which a shell command runs; killed when dropped.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    /// Opens a terminal and runs a line of sh(1) on it.
    #[track_caller]
    pub fn open(machine: &Machine, line: &str) -> Self {
        // script(1) makes the terminal; -e hands the exit code on.
        let mut command = machine.command("script");
        command.args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"]);
        command.env("SHELL", "/bin/sh").env("TERM", "dumb").env_remove("PROMPT_COMMAND");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("script (bsdutils) makes a terminal");
        let keyboard = child.stdin.take().expect("its input is a pipe");
        let mut output = child.stdout.take().expect("its output is a pipe");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                writer.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, keyboard, screen, seen: 0 }
    }

    /// Types this, as it is: a line ends in `\n`.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).and_then(|()| self.keyboard.flush()).expect("the terminal is there");
    }

    /// Everything on the screen so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace('\r', "")
    }

    /// Waits until this appears after what was last waited for.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if let Some(at) = screen.get(self.seen..).and_then(|new| new.find(text)) {
                self.seen += at + text.len();
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the terminal does not show {text:?}, but:\n{screen}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end; returns the exit code.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < PATIENCE, "the terminal's program does not end; it shows:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
