//! Runs a page: a plain user on a machine apart, with a copy of the repository, and the labs that the page asks for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::getuid;

use crate::common::terminal::Terminal;
use crate::common::{Machine, Program, User, run, vpnlab};
use crate::compare::Expected;
use crate::page::{self, Block, Command, Directive, Item};

/// How long what is expected may take to come: scapy alone needs a second to start, and many pages are run at a time.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a command may take that ends by itself.
const LONGEST: Duration = Duration::from_secs(150);

/// What became of a page.
#[derive(Default)]
pub struct Outcome {
    pub run: usize,
    pub not_run: usize,
    pub failures: Vec<String>,
    /// The longest of its parts.
    pub took: Duration,
}

impl Outcome {
    /// Another part of the page.
    pub fn add(&mut self, part: Self) {
        self.run += part.run;
        self.not_run += part.not_run;
        self.failures.extend(part.failures);
        self.took = self.took.max(part.took);
    }
}

/// What is said about the next block.
#[derive(Default)]
struct Next {
    background: Option<String>,
    meanwhile: Vec<String>,
    seen: Option<String>,
    varies: Vec<String>,
    apart: bool,
    exit: Option<i32>,
    file: Option<String>,
}

/// A program that keeps running.
struct Running {
    program: Program,
    /// How many of its lines were already compared.
    read: usize,
}

impl Running {
    fn lines(&self) -> Vec<String> {
        whole_lines(&self.program.stdout()).skip(self.read).map(String::from).collect()
    }
}

fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

pub struct Session {
    machine: Machine,
    root: Option<Machine>,
    directory: PathBuf,
    running: BTreeMap<String, Running>,
    next: Next,
}

/// Runs a part of a page.
pub fn run_part(items: &[Item]) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let runs = |item: &Item| matches!(item, Item::Block(block) if block.not_run.is_none() && block.has_commands());
    if !items.iter().any(runs) {
        outcome.not_run = items.iter().filter(|item| matches!(item, Item::Block(it) if it.not_run.is_some())).count();
        return outcome;
    }
    let mut session = Session::new();
    for item in items {
        let done = match item {
            Item::Directive(it) => session.directive(it).map_err(|error| format!("{}: {error}", it.line)),
            Item::Block(block) => session.block(block, &mut outcome),
        };
        outcome.failures.extend(done.err());
    }
    if !session.next.is_used_up() {
        outcome.failures.push("the last directives are about a block that does not come".into());
    }
    drop(session);
    outcome.took = started.elapsed();
    outcome
}

impl Next {
    fn is_used_up(&self) -> bool {
        self.background.is_none()
            && self.seen.is_none()
            && self.exit.is_none()
            && self.file.is_none()
            && self.meanwhile.is_empty()
            && self.varies.is_empty()
    }
}

impl Session {
    fn new() -> Self {
        let machine = Machine::apart();
        let directory = nix::unistd::mkdtemp("/tmp/vpnlab-docs-XXXXXX").expect("/tmp can be written");
        copy_repository(&directory);
        Self { machine, root: None, directory, running: BTreeMap::new(), next: Next::default() }
    }

    /// A command of sh(1), on the machine or a host. What it prints to either stream comes as one, a line at a time.
    fn command(&mut self, host: Option<&str>, text: &str) -> Process {
        let by_root = host.is_none() && text.starts_with("sudo ");
        let machine = match by_root {
            true => self.root.get_or_insert_with(|| Machine::new(User::Root)),
            false => &self.machine,
        };
        let mut command = machine.command("env");
        let place = |name: &str| self.directory.join(name).display().to_string();
        command.arg(format!("--chdir={}", place("repository")));
        command.arg(format!("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", place("bin")));
        command.arg(format!("HOME={}", place("home")));
        command.args(["NO_COLOR=1", "TERM=dumb", "PYTHONUNBUFFERED=1", "stdbuf", "-oL"]);
        command.args(["sh", "-c", "exec 2>&1; exec \"$@\"", "sh"]);
        if let Some(host) = host {
            command.args(["vpnlab", "lab", "exec", host, "--"]);
        }
        // A shell that has become the command hands on nothing, and needs not hand on Ctrl-C.
        let is_one =
            !text.contains([';', '|', '&', '(', '{', '\n', '>']) && !text.starts_with("cd ") && !text.starts_with('!');
        let line = if is_one { format!("exec {text}") } else { text.to_string() };
        command.args(["sh", "-c", &line]);
        command
    }

    /// Runs a command to its end: what it printed, and its exit code.
    fn finish(&mut self, host: Option<&str>, text: &str) -> Result<(String, i32), String> {
        let mut program = Program::start(&mut self.command(host, text));
        let started = Instant::now();
        while program.runs() {
            if started.elapsed() > LONGEST {
                return Err(format!("{text} does not end; so far:\n{}", program.stdout()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let done = program.wait();
        Ok((done.stdout, done.code))
    }

    fn directive(&mut self, directive: &Directive) -> Result<(), String> {
        let rest = directive.rest.as_str();
        match directive.verb.as_str() {
            "lab" => self.lab(rest)?,
            "run" => {
                let (host, text) = page::typed(rest).ok_or(format!("no prompt: {rest}"))?;
                let (output, code) = self.finish(host.as_deref(), &text)?;
                if code != 0 {
                    return Err(format!("{text}: exit code {code}\n{output}"));
                }
            }
            "start" => {
                let (name, line) = match page::typed(rest) {
                    Some(_) => ("", rest),
                    None => rest.split_once(' ').unwrap_or(("", rest)),
                };
                let (host, text) = page::typed(line).ok_or(format!("no prompt: {rest}"))?;
                let name = if name.is_empty() { host.as_deref().unwrap_or("machine") } else { name };
                self.start(name, host.as_deref(), &text);
            }
            "wait" => {
                let (name, text) = rest.split_once(' ').ok_or("wait NAME TEXT")?;
                self.wait(name, |lines| lines.iter().position(|line| line.contains(text)).map(|at| at + 1))
                    .map_err(|lines| format!("{name} does not print {text:?}, but\n{lines}"))?;
            }
            "end" => self.end(rest)?,
            "files" => self.files(rest)?,
            "background" => self.next.background = Some(rest.to_string()),
            "meanwhile" => self.next.meanwhile.push(rest.to_string()),
            "seen" => self.next.seen = Some(rest.to_string()),
            "varies" => self.next.varies.extend(rest.split_whitespace().map(String::from)),
            "apart" => self.next.apart = true,
            "exit" => self.next.exit = Some(rest.parse().map_err(|_| "exit NUMBER")?),
            "file" => self.next.file = Some(rest.to_string()),
            other => return Err(format!("no such directive: {other}")),
        }
        Ok(())
    }

    /// A fresh lab `default`.
    fn lab(&mut self, options: &str) -> Result<(), String> {
        self.end("")?;
        let options: String = options.split_whitespace().map(|option| format!(" --{option}")).collect();
        let line = format!("vpnlab lab down >/dev/null 2>&1; vpnlab lab up{options}");
        match self.finish(None, &line)? {
            (_, 0) => Ok(()),
            (output, code) => Err(format!("lab up: exit code {code}\n{output}")),
        }
    }

    /// Copies files of the repository to where the page's user is.
    fn files(&mut self, patterns: &str) -> Result<(), String> {
        let (output, code) = self.finish(None, &format!("cp -r {patterns} ."))?;
        if code == 0 { Ok(()) } else { Err(output) }
    }

    fn start(&mut self, name: &str, host: Option<&str>, text: &str) {
        if let Some(before) = self.running.remove(name) {
            end(before);
        }
        let program = Program::start(&mut self.command(host, text));
        self.running.insert(name.into(), Running { program, read: 0 });
    }

    /// Waits until a program's lines are as wanted, and counts those as read; or says what they are.
    fn wait(&mut self, name: &str, wanted: impl Fn(&[String]) -> Option<usize>) -> Result<(), String> {
        let running = self.running.get_mut(name).ok_or(format!("no program called {name} runs"))?;
        let started = Instant::now();
        loop {
            let over = started.elapsed() > PATIENCE || !running.program.runs();
            let lines = running.lines();
            if let Some(read) = wanted(&lines) {
                running.read += read;
                return Ok(());
            }
            if over {
                return Err(lines.join("\n"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the programs of these names, or all of them, as Ctrl-C does.
    fn end(&mut self, names: &str) -> Result<(), String> {
        let names: Vec<String> = match names {
            "" => self.running.keys().cloned().collect(),
            _ => names.split_whitespace().map(String::from).collect(),
        };
        for name in names {
            end(self.running.remove(&name).ok_or(format!("no program called {name} runs"))?);
        }
        Ok(())
    }

    fn block(&mut self, block: &Block, outcome: &mut Outcome) -> Result<(), String> {
        let next = std::mem::take(&mut self.next);
        if let Some(reason) = &block.not_run {
            outcome.not_run += 1;
            return if next.is_used_up() { Ok(()) } else { Err(format!("{}: directives, and {reason}", block.line)) };
        }
        outcome.run += usize::from(block.has_commands());
        match block.language.as_str() {
            "console" => self.transcript(block, &next),
            // One that is written to a file is run by the commands that follow.
            "sh" if next.file.is_none() => self.script(block, &next),
            _ => self.shown(block, &next),
        }
    }

    /// A block without commands: what a program prints, or a file for the commands that follow.
    fn shown(&mut self, block: &Block, next: &Next) -> Result<(), String> {
        if let Some(file) = &next.file {
            let path = self.directory.join("repository").join(file);
            fs::write(&path, block.text.join("\n") + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(name) = &next.seen {
            let varies: Vec<&str> = next.varies.iter().map(String::as_str).collect();
            let expected = Expected::new(&block.text, &varies);
            let expected = if next.apart { expected.apart() } else { expected }.somewhere();
            let shown = expected.clone();
            self.wait(name, move |lines| expected.begins(lines)).map_err(|lines| {
                let lines: Vec<&str> = lines.lines().collect();
                format!("{}: {name} does not print this:\n{}", block.line, shown.difference(&lines))
            })?;
        }
        Ok(())
    }

    fn script(&mut self, block: &Block, next: &Next) -> Result<(), String> {
        let (output, code) = self.finish(None, &format!("set -e\n{}", block.text.join("\n")))?;
        if code == next.exit.unwrap_or(0) {
            return Ok(());
        }
        Err(format!("{}: exit code {code}\n{}\n{output}", block.line, block.text.join("\n")))
    }

    fn transcript(&mut self, block: &Block, next: &Next) -> Result<(), String> {
        let commands = block.commands()?;
        let last = commands.len() - 1;
        let mut failures = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let told = if index == last { next } else { &Next { varies: next.varies.clone(), ..Next::default() } };
            if let Err(failure) = self.typed(command, told) {
                failures.push(format!("{}: {}\n{failure}", command.line, command.text));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    /// A command of a transcript.
    fn typed(&mut self, command: &Command, next: &Next) -> Result<(), String> {
        let varies: Vec<&str> = next.varies.iter().map(String::as_str).collect();
        let host = command.host.as_deref();
        if let Some(of) = command.text.split(" lab shell ").nth(1) {
            return self.shell(&command.text, of.split_whitespace().next().unwrap_or(""));
        }
        if let Some(at) = command.output.iter().position(|line| line == "^C") {
            return self.interrupted(command, at, &varies, &next.meanwhile);
        }
        let expected = Expected::new(&command.output, &varies);
        let Some(name) = &next.background else {
            let (output, code) = self.finish(host, &command.text)?;
            let lines: Vec<&str> = whole_lines(&output).collect();
            if !expected.is(&lines) {
                return Err(format!("  shown (-) and seen (+), exit code {code}:\n{}", expected.difference(&lines)));
            }
            return match next.exit {
                Some(wanted) if wanted != code => Err(format!("exit code {code}, not {wanted}")),
                _ => Ok(()),
            };
        };
        let name = if name.is_empty() { host.unwrap_or("machine") } else { name };
        self.start(name, host, &command.text);
        self.meanwhile(name, &next.meanwhile)?;
        self.prints(name, &expected)
    }

    /// A shell on a host: it has to prompt with the host's name, on a terminal. What is typed there follows on the page.
    fn shell(&mut self, text: &str, host: &str) -> Result<(), String> {
        let (directory, text) = (self.directory.display(), text.split('#').next().unwrap_or("").trim());
        let terminal =
            Terminal::open(&self.machine, &format!("cd {directory}/repository; PATH={directory}/bin:$PATH {text}"));
        let prompt = format!("{host}:$");
        let started = Instant::now();
        while !terminal.screen().contains(&prompt) {
            if started.elapsed() > PATIENCE {
                return Err(format!("  no prompt {prompt}:\n{}", terminal.screen()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// A command that is ended with Ctrl-C once it has printed what stands before that.
    fn interrupted(
        &mut self,
        command: &Command,
        at: usize,
        varies: &[&str],
        meanwhile: &[String],
    ) -> Result<(), String> {
        let name = "interrupted";
        self.start(name, command.host.as_deref(), &command.text);
        self.meanwhile(name, meanwhile)?;
        self.prints(name, &Expected::new(&command.output[..at], varies))?;
        let running = self.running.remove(name).expect("it was started");
        running.program.signal(Signal::SIGINT);
        let read = running.read;
        let done = running.program.wait();
        let lines: Vec<&str> = whole_lines(&done.stdout).skip(read).collect();
        let expected = Expected::new(&command.output[at + 1..], varies);
        if expected.is(&lines) { Ok(()) } else { Err(format!("  after Ctrl-C:\n{}", expected.difference(&lines))) }
    }

    /// Runs these once a program has begun to print.
    fn meanwhile(&mut self, name: &str, commands: &[String]) -> Result<(), String> {
        if commands.is_empty() {
            return Ok(());
        }
        self.wait(name, |lines| (!lines.is_empty()).then_some(0)).map_err(|_| "it prints nothing".to_string())?;
        for line in commands {
            let (host, text) = page::typed(line).ok_or(format!("no prompt: {line}"))?;
            self.finish(host.as_deref(), &text)?;
        }
        Ok(())
    }

    fn prints(&mut self, name: &str, expected: &Expected) -> Result<(), String> {
        self.wait(name, |lines| expected.begins(lines)).map_err(|lines| {
            let lines: Vec<&str> = lines.lines().collect();
            format!("  shown (-) and seen (+) of what keeps running:\n{}", expected.difference(&lines))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            end(running);
        }
        let _ = self.finish(None, "vpnlab lab down >/dev/null 2>&1");
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn end(running: Running) {
    let mut program = running.program;
    if program.runs() {
        program.signal(Signal::SIGINT);
    }
    let started = Instant::now();
    while program.runs() && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Makes `repository`, a copy of the repository; `home`, and `bin` with vpnlab and a sudo for whoever is root already.
fn copy_repository(directory: &Path) {
    // What is built and what the fuzz targets have learned is large, and no part of it.
    let script = "set -e; cd \"$2\"; mkdir -p \"$1/repository/tests\" \"$1/repository/fuzz\" \"$1/home\" \"$1/bin\"; \
        for it in * fuzz/*; do case $it in target|tests|fuzz|fuzz/target|fuzz/corpus|fuzz/artifacts) ;; \
        *) cp -rP \"$it\" \"$1/repository/$it\";; esac; done; cp -rP tests/fixtures tests/docs \"$1/repository/tests/\"; \
        rm -rf \"$1/repository/tests/fixtures/submissions/nasty\"; ln -s \"$3\" \"$1/bin/vpnlab\"; \
        printf '#!/bin/sh\\nexec \"$@\"\\n' >\"$1/bin/sudo\"; chmod 755 \"$1\" \"$1/bin/sudo\"; \
        [ \"$4\" = 0 ] && chown -hR 65534:65534 \"$1\" || true";
    let mut copy = Process::new("sh");
    copy.args(["-c", script, "sh"]).arg(directory).arg(env!("CARGO_MANIFEST_DIR")).arg(vpnlab());
    run(copy.arg(getuid().as_raw().to_string())).ok();
}
