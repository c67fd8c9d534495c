//! A terminal that a test can look at: tmux, with a socket of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Machine, PATIENCE, run};

/// A terminal of 80 x 24 with `vpnlab watch` on it; gone when dropped.
pub struct Tmux<'m> {
    machine: &'m Machine,
    socket: String,
}

/// What the shell says when `watch` has ended and the terminal is as it was.
pub const RESTORED: &str = "the terminal is as it was";

impl<'m> Tmux<'m> {
    /// Runs a command on it, with these words before it that env(1) takes. Then says how it ended, and what became of the
    /// terminal.
    #[track_caller]
    pub fn open(machine: &'m Machine, environment: &str, command: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let socket = format!("vpnlab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tmux = Self { machine, socket };
        let script = format!(
            "was=$(stty -g); echo 'here it begins'; env {environment} {command}; echo \"ended with $?\"; \
             [ \"$was\" = \"$(stty -g)\" ] && echo '{RESTORED}'; exec sleep 1000"
        );
        let shell = ["-x", "80", "-y", "24", "sh", "-c", &script];
        tmux.run(&[&["-u", "-f", "/dev/null", "new-session", "-d"], &shell[..]].concat());
        tmux
    }

    /// A tmux command.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.machine.command("tmux");
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR").env("TERM", "xterm-256color");
        run(command.args(["-L", &self.socket]).args(arguments)).ok().stdout
    }

    /// Types keys, by tmux's names for them.
    #[track_caller]
    pub fn types(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// What the terminal shows, a line each.
    #[track_caller]
    pub fn screen(&self) -> Vec<String> {
        self.run(&["capture-pane", "-p"]).lines().map(str::to_string).collect()
    }

    /// Waits until it shows something.
    #[track_caller]
    pub fn shows(&self, what: &str, so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if so(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "the terminal does not show {what}, but:\n{}", screen.join("\n"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it shows this text.
    #[track_caller]
    pub fn shows_text(&self, text: &str) -> Vec<String> {
        self.shows(&format!("{text:?}"), |screen| screen.iter().any(|line| line.contains(text)))
    }

    /// Waits until `watch` has ended with this exit code, and checks that the terminal is as it was: its settings, its screen,
    /// its cursor.
    #[track_caller]
    pub fn is_restored(&self, code: i32) -> Vec<String> {
        let screen = self.shows_text(&format!("ended with {code}"));
        let screen = if screen.iter().any(|line| line == RESTORED) { screen } else { self.shows_text(RESTORED) };
        assert_eq!(screen[0], "here it begins", "{screen:#?}");
        let modes = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{keypad_cursor_flag}"]);
        assert_eq!(modes.trim(), "0 1 0");
        screen
    }

    /// Sends a signal to `watch`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let find = |parent: &str| run(self.machine.command("pgrep").args(["-P", parent.trim()])).ok().stdout;
        run(self.machine.command("kill").args([&format!("-{signal}"), find(&shell).trim()])).ok();
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let mut command = self.machine.command("tmux");
        run(command.args(["-L", &self.socket, "kill-server"]));
    }
}
