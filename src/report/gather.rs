//! Does what a step's plan says in the running lab, and keeps what was seen: the commands' output, the programs' lines, the
//! traces, the packets.
//!
//! It types as a user would, by way of `vpnlab lab exec`, `vpnlab trace` and `vpnlab lab capture`, each a process of its own;
//! this one never enters the lab. It changes nothing there but for what the user's own `--run` does.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Progress;
use super::folder::Folder;
use super::model::{Capture, Lines, Network, Promise, Step, Typed};
use super::outcome::{cut, has_come, has_word, trace};
use super::state::{self, Holder, HostState};
use super::steps::{Act, Goal, Held, Plan};
use super::terminal::{Handle, Terminals};
use crate::error::{Context, Error, Result};
use crate::lab::Lab;
use crate::lab::record::BEGUN;
use crate::output;
use crate::page::text::{file_name, shown};

/// How long a command may run, and how long something may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a program's line may take, once the packet has passed.
const LINE: Duration = Duration::from_secs(2);

/// How long nothing has to happen before a step's end, and how long that is waited for.
const QUIET: Duration = Duration::from_millis(200);
const UNQUIET: Duration = Duration::from_secs(2);

/// How large a capture may become, in megabytes.
const MOST_CAPTURED: &str = "32";

/// A program of `--run`.
#[derive(Debug)]
pub struct Started {
    /// The host.
    pub host: String,
    /// The command line.
    pub line: String,
    /// What was started.
    pub handle: Handle,
    /// What it held first, and of what it was made.
    pub pids: Vec<i32>,
}

/// Does the steps' work.
pub struct Gatherer<'g> {
    /// The lab.
    pub lab: &'g Lab,
    /// All that runs for the report.
    pub terminals: Terminals,
    /// Where files go.
    pub folder: Folder,
    /// The programs of `--run`.
    pub started: Vec<Started>,
    /// What is told meanwhile.
    pub progress: Progress,
}

/// A step that is being done.
struct Doing {
    step: Step,
    number: usize,
    watches: Vec<(Handle, String, String)>,
    /// How much each program of `--run` had printed before, and which had ended.
    marks: Vec<usize>,
    over: Vec<Handle>,
}

impl Gatherer<'_> {
    /// Starts a program of `--run`, and waits until it is at work, or has ended, or takes too long.
    ///
    /// # Errors
    /// The user has interrupted it, or it cannot be started.
    pub fn run(&mut self, host: &str, line: &str, patience: Duration) -> Result<()> {
        // The state has to be the same for so long: a program opens its socket first and its device later, or the other way.
        const STEADY: Duration = Duration::from_millis(500);
        const PAUSE: Duration = Duration::from_millis(100);
        self.progress.say(format_args!("{host}:$ {line}"));
        let before: Vec<i32> = self.look()?.iter().flat_map(|it| &it.holders).map(|it| it.pid).collect();
        let handle = self.terminals.start(&self.on(host, line))?;
        self.started.push(Started { host: host.into(), line: line.into(), handle, pids: Vec::new() });
        let place = self.started.len() - 1;
        let deadline = Instant::now() + patience;
        let (mut last, mut since) = (None, Instant::now());
        let mut is_ready = false;
        while Instant::now() < deadline && !self.terminals.wait(PAUSE, |it| it.has_ended(handle))? {
            let state = self.look()?.into_iter().find(|it| it.host == host);
            let now = (state, self.terminals.kept(handle));
            is_ready = false;
            if let Some(state) = &now.0 {
                let own: Vec<_> = state.holders.iter().filter(|it| !before.contains(&it.pid)).collect();
                self.started[place].pids = own.iter().map(|it| it.pid).collect();
                let is_up = |name: &String| state.devices.iter().any(|it| it.name == *name && it.is_ready);
                is_ready = !own.is_empty() && own.iter().flat_map(|it| &it.devices).all(is_up);
            }
            if last.as_ref() != Some(&now) {
                (last, since) = (Some(now), Instant::now());
            }
            if is_ready && since.elapsed() >= STEADY {
                break;
            }
        }
        if !is_ready && !self.terminals.has_ended(handle) {
            output::error_line(format_args!(
                "vpnlab: on {host}, {line} is not at work after {} s (--start-timeout): it has no UDP port open, or its TUN \
                 device is not up or has no address; the report goes on",
                patience.as_secs_f64()
            ));
        }
        Ok(())
    }

    /// Looks at the hosts.
    ///
    /// # Errors
    /// One does not tell about itself.
    pub fn look(&self) -> Result<Vec<HostState>> {
        state::look(self.lab)
    }

    /// Does a step.
    ///
    /// # Errors
    /// A file cannot be written, the lab cannot be looked at, or the user has interrupted it.
    pub fn step(&mut self, plan: Plan) -> Result<Step> {
        let number = plan.step;
        let step = Step {
            step: number,
            title: plan.title.into(),
            asked: plan.asked,
            passed: false,
            promises: Vec::new(),
            commands: Vec::new(),
            lines: Vec::new(),
            traces: Vec::new(),
            capture: None,
            networks: Vec::new(),
        };
        let over = self.started.iter().map(|it| it.handle).filter(|it| self.terminals.has_ended(*it)).collect();
        let marks = self.started.iter().map(|it| self.terminals.kept(it.handle)).collect();
        let mut doing = Doing { step, number: 0, watches: Vec::new(), marks, over };
        let file = format!("step-{number}/packets.pcapng");
        let capture = self.begin_capture(&file)?;
        for act in plan.acts {
            self.act(&mut doing, act)?;
        }
        self.terminals.settle(QUIET, UNQUIET)?;
        for (handle, host, line) in std::mem::take(&mut doing.watches) {
            let remark = if self.terminals.has_ended(handle) { "" } else { "ended with Ctrl-C" };
            self.terminals.end(handle);
            self.typed(&mut doing, handle, &host, &line, remark)?;
        }
        doing.step.capture = Some(self.end_capture(capture, file)?);
        self.lines(&mut doing)?;
        self.networks(&mut doing)?;
        let mut step = doing.step;
        step.passed = !step.promises.iter().any(Promise::is_missing);
        Ok(step)
    }

    fn act(&mut self, doing: &mut Doing, act: Act) -> Result<()> {
        match act {
            Act::Type { host, line, promise } => {
                let words = self.on(&host, &line);
                let exit = self.command(doing, &words, &host, &line)?;
                if let Some((text, wanted)) = promise {
                    let seen = exit == Some(wanted);
                    let said = exit.map_or("it did not end".into(), |exit| format!("its exit code is {exit}"));
                    doing
                        .step
                        .promises
                        .push(promise_of(text, seen, || format!("{line} on {host}: {said}, not {wanted}")));
                }
            }
            Act::Check { promise } => {
                let words = self.words(&["lab", "--lab", &self.lab.name, "check"]);
                let exit = self.command(doing, &words, "", &format!("vpnlab lab check{}", self.option()))?;
                let because = || "`vpnlab lab check` says what is not so".to_string();
                doing.step.promises.push(promise_of(promise, exit == Some(0), because));
            }
            Act::Watch { host, line, ready } => {
                self.progress.say(format_args!("{host}:$ {line}"));
                let handle = self.terminals.start(&self.on(&host, &line))?;
                self.terminals.wait(PATIENCE, |it| it.has_ended(handle) || it.printed(handle, 0).contains(ready))?;
                doing.watches.push((handle, host, line));
            }
            Act::Follow { from, to, promises } => self.follow(doing, &from, &to, promises)?,
            Act::Look { promises } => {
                let states = self.look()?;
                let judged = promises.into_iter().map(|(text, held)| self.held(&states, text, &held));
                doing.step.promises.extend(judged);
            }
            Act::Lines { host, word, promise } => {
                let promise = self.printed(doing, &host, &word, promise)?;
                doing.step.promises.push(promise);
            }
        }
        Ok(())
    }

    /// Types a command and waits for its end; returns its exit code.
    fn command(&mut self, doing: &mut Doing, words: &[OsString], host: &str, line: &str) -> Result<Option<i32>> {
        self.progress.say(format_args!("{}$ {line}", prompt(host)));
        let handle = self.terminals.start(words)?;
        let in_time = self.terminals.wait(PATIENCE, |it| it.has_ended(handle))?;
        if !in_time {
            self.terminals.end(handle);
        }
        let late = format!("ended by the report, since it took longer than {} s", PATIENCE.as_secs());
        self.typed(doing, handle, host, line, if in_time { "" } else { &late })?;
        Ok(self.terminals.exit(handle).0.filter(|_| in_time))
    }

    /// Keeps what a command has printed, and how it ended.
    fn typed(&mut self, doing: &mut Doing, handle: Handle, host: &str, line: &str, remark: &str) -> Result<()> {
        let (exit, took) = self.terminals.exit(handle);
        let code = exit.map_or("no exit code".into(), |exit| format!("exit code {exit}"));
        let end = if remark.is_empty() { code } else { format!("{remark}, {code}") };
        let whole = shown(&self.terminals.printed(handle, 0));
        let (output, is_cut) = cut(&whole);
        let truncated = is_cut || self.terminals.is_truncated(handle);
        let what = line.split_whitespace().find(|word| *word != "sudo").unwrap_or_default();
        let file = doing.file(if host.is_empty() { "machine" } else { host }, what);
        let seconds = took.as_secs_f64();
        let text = format!("{}$ {line}\n{}\n[{end}, {seconds:.1} s]\n", prompt(host), whole.trim_end_matches('\n'));
        self.folder.write(&file, text.as_bytes())?;
        let (host, command) = (host.to_string(), line.to_string());
        doing.step.commands.push(Typed { host, command, output, truncated, exit, end, seconds, file });
        Ok(())
    }

    /// Follows an echo request, and judges how far it came.
    fn follow(&mut self, doing: &mut Doing, from: &str, to: &str, promises: Vec<(String, Goal)>) -> Result<()> {
        let command = format!("vpnlab trace{} {from} {to}", self.option());
        self.progress.say(format_args!("$ {command}"));
        let words = self.words(&["trace", "--lab", &self.lab.name, from, to, "--json", "--text"]);
        let handle = self.terminals.start(&words)?;
        self.terminals.wait(PATIENCE, |it| it.has_ended(handle))?;
        let told = self.terminals.printed(handle, 0);
        let Ok(json) = serde_json::from_str::<Value>(&told) else {
            self.terminals.end(handle);
            let said = shown(told.trim());
            let because = |text| Promise { text, seen: None, because: Some(format!("{command} failed: {said}")) };
            doing.step.promises.extend(promises.into_iter().map(|(text, _)| because(text)));
            return Ok(());
        };
        let trace = trace(&json, command, doing.file(from, "trace"));
        self.folder.write(&trace.file, format!("$ {}\n{}", trace.command, trace.text).as_bytes())?;
        for (text, goal) in promises {
            let seen = has_come(&json, &goal);
            let because = || match (&json["verdict"]["title"], &json["verdict"]["host"]) {
                (Value::String(title), Value::String(host)) => format!("the packet ended at {host}: {title}"),
                _ => "it took another way".into(),
            };
            doing.step.promises.push(promise_of(text, seen, because));
        }
        doing.step.traces.push(trace);
        Ok(())
    }

    fn held(&self, states: &[HostState], text: String, held: &Held) -> Promise {
        let of = |host: &String| states.iter().find(|it| it.host == *host);
        let port = self.lab.topology.tunnel.port;
        match held {
            Held::Port(host) => promise_of(text, of(host).is_some_and(|it| it.has_port(port)), || "none does".into()),
            Held::NoDevice => {
                let mut holders = states.iter().flat_map(|state| state.holders.iter().map(move |it| (&state.host, it)));
                let holder = holders.find(|(_, it)| !it.devices.is_empty());
                let because = |(host, it): (&String, &Holder)| {
                    format!("{} on {host} holds {}: end it", it.command, it.devices.join(", "))
                };
                Promise { text, seen: Some(holder.is_none()), because: holder.map(because) }
            }
            Held::Device(host) => {
                let devices = of(host).map_or(&[][..], |it| &it.devices);
                let because = || match devices.iter().find(|it| it.is_held).or(devices.first()) {
                    None => format!("{host} has no TUN device"),
                    Some(device) if !device.is_held => format!("no program holds {}", device.name),
                    Some(device) => format!("{} is down, or has no address", device.name),
                };
                promise_of(text, devices.iter().any(|it| it.is_held && it.is_ready), because)
            }
        }
    }

    /// Whether a program of a host has printed a line with a word during the step.
    fn printed(&mut self, doing: &Doing, host: &str, word: &str, text: String) -> Result<Promise> {
        let own: Vec<(Handle, usize)> = self
            .started
            .iter()
            .zip(&doing.marks)
            .filter(|(it, _)| it.host == host)
            .map(|(it, mark)| (it.handle, *mark))
            .collect();
        if own.is_empty() {
            let because = format!(
                "the lines of a program in another terminal are not the report's to read; \
                 start it by the report: --run {host} 'COMMAND'"
            );
            return Ok(Promise { text, seen: None, because: Some(because) });
        }
        let has = |it: &Terminals| own.iter().any(|(handle, mark)| has_word(&it.printed(*handle, *mark), word));
        let seen = self.terminals.wait(LINE, has)?;
        Ok(promise_of(text, seen, || format!("no line of it has {word}")))
    }

    /// Keeps what the programs of `--run` printed during the step.
    fn lines(&mut self, doing: &mut Doing) -> Result<()> {
        for (place, mark) in doing.marks.clone().into_iter().enumerate() {
            let Started { host, line, handle, .. } = &self.started[place];
            // A command that was over before the step has nothing to do with it.
            if doing.over.contains(handle) {
                continue;
            }
            let whole = shown(&self.terminals.printed(*handle, mark));
            let (output, is_cut) = cut(&whole);
            let truncated = is_cut || self.terminals.is_truncated(*handle);
            let (host, command) = (host.clone(), line.clone());
            let file = doing.file(&host, "program");
            let text = format!("{}$ {command}\n[what it printed during this step]\n{whole}", prompt(&host));
            self.folder.write(&file, text.as_bytes())?;
            doing.step.lines.push(Lines { host, command, output, truncated, file });
        }
        Ok(())
    }

    fn networks(&mut self, doing: &mut Doing) -> Result<()> {
        let told = state::networks(self.lab)?;
        for (host, text) in self.lab.topology.hosts.iter().zip(told) {
            let (host, text) = (host.name.clone(), shown(&text));
            let file = format!("step-{}/network-{}.txt", doing.step.step, file_name(&host));
            self.folder.write(&file, text.as_bytes())?;
            doing.step.networks.push(Network { host, file, text: cut(&text).0 });
        }
        Ok(())
    }

    fn begin_capture(&mut self, file: &str) -> Result<Handle> {
        let path = self.folder.path(file)?;
        let mut words = self.words(&["lab", "--lab", &self.lab.name, "capture", "--limit", MOST_CAPTURED]);
        words.push(path.into_os_string());
        let handle = self.terminals.start(&words)?;
        self.terminals.wait(PATIENCE, |it| it.has_ended(handle) || it.printed(handle, 0).contains(BEGUN))?;
        match self.terminals.has_ended(handle) {
            false => Ok(handle),
            true => Err(self.capture_failed(handle)),
        }
    }

    fn end_capture(&mut self, handle: Handle, file: String) -> Result<Capture> {
        let path = self.folder.path(&file)?;
        // It ends by itself where the lab does, or the disk is full.
        if self.terminals.has_ended(handle) {
            return Err(self.capture_failed(handle));
        }
        self.terminals.end(handle);
        if self.terminals.exit(handle).0 != Some(0) {
            return Err(self.capture_failed(handle));
        }
        let bytes = fs::metadata(&path).context(|| "cannot look at the capture".into())?.len();
        let told = self.terminals.printed(handle, 0);
        let said = told.trim().lines().last().unwrap_or_default();
        Ok(Capture { said: self.folder.relative(&shown(said)), file, bytes })
    }

    fn capture_failed(&self, handle: Handle) -> Error {
        if !self.lab.is_up() {
            return Error::failed(format!("lab {} has gone down", self.lab.name));
        }
        let told = self.terminals.printed(handle, 0);
        let last = told.trim().lines().last().unwrap_or_default();
        let said = last.strip_prefix("vpnlab: ").unwrap_or(last);
        Error::failed(self.folder.in_place(&format!("cannot record packets: {}", shown(said))))
    }

    /// The option that names the lab; empty for the default lab.
    fn option(&self) -> String {
        if self.lab.name == crate::lab::root::DEFAULT { String::new() } else { format!(" --lab {}", self.lab.name) }
    }

    /// The words that run a command line on a host.
    fn on(&self, host: &str, line: &str) -> Vec<OsString> {
        let mut words = self.words(&["lab", "--lab", &self.lab.name, "exec", host, "--"]);
        let is_plain = |it: char| it.is_alphanumeric() || " -_./:,@+".contains(it);
        match line.chars().all(is_plain) {
            true => words.extend(line.split_whitespace().map(OsString::from)),
            false => words.extend(["sh", "-c", line].map(OsString::from)),
        }
        words
    }

    fn words(&self, words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }
}

impl Doing {
    /// The name of the step's next file.
    fn file(&mut self, host: &str, what: &str) -> String {
        self.number += 1;
        format!("step-{}/{:02}-{}-{}.txt", self.step.step, self.number, file_name(host), file_name(what))
    }
}

/// What stands before the `$` of a command line.
pub fn prompt(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!("{host}:") }
}

fn promise_of(text: String, seen: bool, because: impl FnOnce() -> String) -> Promise {
    Promise { text, because: (!seen).then(because), seen: Some(seen) }
}
