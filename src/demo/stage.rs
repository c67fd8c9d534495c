//! One step of the story: types commands on hosts, prints them with their output, and remembers what was not shown.

use std::cell::RefCell;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::program::{PATIENCE, Program};
use super::{Told, Which};
use crate::error::{Context, Error, Result};
use crate::output;

/// How long a program's line may take that is there, if it is there at all: the command that would have caused it has
/// ended.
const SETTLED: Duration = Duration::from_millis(50);

/// How the story is told.
pub struct Style {
    /// Whether it is told at all; else only remembered.
    pub told: bool,
    /// Whether to wait for Enter before each command.
    pub pause: bool,
    /// Whether the terminal shows colours.
    pub colour: bool,
    /// Set by Ctrl-C: nothing more is told.
    pub interrupted: Arc<AtomicBool>,
}

/// A command that was typed on a host.
#[derive(Debug, Serialize)]
pub struct Typed {
    /// The host.
    pub host: &'static str,
    /// The command line.
    pub command: String,
    /// What it printed while the demo looked.
    pub output: Vec<String>,
    /// Its exit code, once it has ended.
    pub exit: Option<i32>,
}

/// A step that is being told.
pub struct Stage<'a> {
    lab: &'a str,
    style: &'a Style,
    told: Told,
    /// Why the story cannot be told any more.
    unheard: RefCell<Option<Error>>,
}

/// A program of this stage that goes on while others run.
pub struct Running {
    program: Program,
    /// Its place among the commands.
    place: usize,
}

impl<'a> Stage<'a> {
    /// Begins a step.
    pub fn open(lab: &'a str, style: &'a Style, step: Which, title: &'static str) -> Self {
        let told = Told { step, title, passed: true, missing: Vec::new(), commands: Vec::new() };
        let stage = Self { lab, style, told, unheard: RefCell::default() };
        stage.print(&stage.bold(&format!("\n{}: {title}", step.heading())));
        stage
    }

    /// Ends the step.
    pub fn close(mut self) -> Told {
        self.told.passed = self.told.missing.is_empty();
        self.told
    }

    /// Tells what is about to happen, or what was seen, and why.
    pub fn say(&self, text: &str) {
        self.print("");
        for line in text.lines() {
            self.print(&format!("  {line}"));
        }
    }

    /// Notes that something had to be seen; says so if it was not.
    pub fn must(&mut self, seen: bool, what: &str) {
        if !seen {
            self.print(&format!("  NOT SEEN: {what}"));
            self.told.missing.push(what.to_string());
        }
    }

    /// Types a command on a host and waits for its end. Returns its exit code.
    pub fn run(&mut self, host: &'static str, line: &str) -> Result<i32> {
        let Running { program, place } = self.start(host, line)?;
        let (code, mut lines) = program.finish()?;
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        self.show(place, lines);
        self.told.commands[place].exit = Some(code);
        Ok(code)
    }

    /// What the last command has printed.
    pub fn output(&self) -> &[String] {
        self.told.commands.last().map_or(&[], |typed| &typed.output)
    }

    /// Types a command on a host and leaves it running.
    pub fn start(&mut self, host: &'static str, line: &str) -> Result<Running> {
        self.start_as(host, line, Program::start)
    }

    /// The same for a program that reads what [`Stage::types`] types.
    pub fn start_to_type(&mut self, host: &'static str, line: &str) -> Result<Running> {
        self.start_as(host, line, Program::start_to_type)
    }

    /// Types a line into a running program.
    pub fn types(&mut self, running: &mut Running, line: &str) -> Result<()> {
        self.pause()?;
        let typed = &self.told.commands[running.place];
        self.print(&self.bold(&format!("\n{}, typed into {}: {line}", typed.host, typed.command)));
        running.program.types(line);
        Ok(())
    }

    fn start_as(
        &mut self,
        host: &'static str,
        line: &str,
        start: fn(&str, &str, &str) -> Result<Program>,
    ) -> Result<Running> {
        self.pause()?;
        self.print(&self.bold(&format!("\n{host}:$ {line}")));
        if let Some(error) = self.unheard.take() {
            return Err(error);
        }
        let program = start(self.lab, host, line)?;
        let typed = Typed { host, command: line.to_string(), output: Vec::new(), exit: None };
        self.told.commands.push(typed);
        Ok(Running { program, place: self.told.commands.len() - 1 })
    }

    /// Waits until a running program has printed a line with all of these words; shows what it prints meanwhile.
    pub fn sees(&mut self, running: &Running, words: &[&str]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = running.program.next_line(deadline) {
            let found = words.iter().all(|word| line.contains(word));
            self.show(running.place, vec![line]);
            if found {
                return true;
            }
        }
        false
    }

    /// Whether a running program has printed a line with this word since it was last looked at. What it printed is shown.
    pub fn has_seen(&mut self, running: &Running, word: &str) -> bool {
        let mut seen = false;
        while let Some(line) = running.program.next_line(Instant::now() + SETTLED) {
            seen |= line.contains(word);
            self.show(running.place, vec![line]);
        }
        seen
    }

    /// Says that the lines that follow are those of a running program.
    pub fn look_at(&mut self, running: &Running) {
        let typed = &self.told.commands[running.place];
        self.print(&self.bold(&format!("\n{}, where {} runs:", typed.host, typed.command.trim_start_matches("sudo "))));
    }

    /// Ends a running program that says nothing by its exit code, as nc.
    pub fn end(&mut self, running: Running) -> Result<()> {
        running.program.interrupt();
        let (code, lines) = running.program.finish()?;
        self.show(running.place, lines);
        self.told.commands[running.place].exit = Some(code);
        Ok(())
    }

    /// Ends a running program as Ctrl-C does; it must end well. Returns its last lines.
    pub fn stop(&mut self, running: Running) -> Result<Vec<String>> {
        running.program.interrupt();
        let (code, lines) = running.program.finish()?;
        let typed = &mut self.told.commands[running.place];
        typed.output.extend(lines.clone());
        typed.exit = Some(code);
        let what = format!("{} ends well when it is interrupted", typed.command);
        self.must(code == 0, &what);
        Ok(lines)
    }

    fn show(&mut self, place: usize, lines: Vec<String>) {
        for line in &lines {
            self.print(line);
        }
        self.told.commands[place].output.extend(lines);
    }

    fn pause(&self) -> Result<()> {
        if self.style.pause {
            output::text("\n  [Enter] ")?;
            std::io::stdin().lock().read_line(&mut String::new()).context(|| "cannot wait for Enter".into())?;
        }
        Ok(())
    }

    fn print(&self, line: &str) {
        let told = self.style.told && !self.style.interrupted.load(Ordering::Relaxed);
        if let Err(error) = if told { output::line(line) } else { Ok(()) } {
            self.unheard.replace(Some(error));
        }
    }

    fn bold(&self, line: &str) -> String {
        if self.style.colour { format!("\x1b[1m{line}\x1b[0m") } else { line.to_string() }
    }
}
