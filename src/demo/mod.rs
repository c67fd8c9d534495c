//! `vpnlab demo`: the handout from step 0 to step 4 in a fresh lab, told as a story; and an experiment that comes after it.
//!
//! Nothing is played: the demo types the commands that a student would type, by way of `vpnlab lab exec`, prints what
//! they print, and judges each step by it. `stages` is the story and `breaking` the
//! experiment, `stage` runs commands and tells it.

use std::fmt;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::signals::Signals;
use crate::{logging, output, topology, tun};

mod breaking;
mod program;
mod stage;
mod stages;

use stage::Stage;
use stages::Story;

/// `vpnlab demo`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  vpnlab demo                  # the whole handout, in under ten seconds\n  \
    vpnlab demo --pause          # for the class room: wait for Enter before each command\n  \
    vpnlab demo --step 4         # one step\n  \
    vpnlab demo --step break     # after the handout: a TCP session, and a tunnel that breaks\n  \
    vpnlab demo --json | jq '.steps[] | select(.passed | not)'\n\n\
    The exit code is 0 only if every step showed what it must.")]
pub struct DemoArgs {
    /// Only this step (0 to 4), or `break`, which comes after them; may be given more than once
    #[arg(long, value_name = "STEP")]
    step: Vec<Which>,
    /// Wait for Enter before each command
    #[arg(long, conflicts_with = "json")]
    pause: bool,
    /// Print JSON instead of the story
    #[arg(long)]
    json: bool,
}

/// A part of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Which {
    /// A step of the handout.
    Step(u8),
    /// An experiment.
    Experiment(Experiment),
}

/// What can be tried after the handout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Experiment {
    /// A tunnel that breaks while it is used.
    Break,
}

/// The last step of the handout, whose lab the experiments have.
const LAST_STEP: u8 = stages::STAGES.len() as u8 - 1;

impl Which {
    /// The step whose lab it has.
    fn lab(self) -> u8 {
        match self {
            Self::Step(step) => step,
            Self::Experiment(_) => LAST_STEP,
        }
    }

    fn heading(self) -> String {
        match self {
            Self::Step(step) => format!("Step {step}"),
            Self::Experiment(_) => "After the handout".into(),
        }
    }

    /// Its title and story.
    fn tale(self) -> (&'static str, Story) {
        match self {
            Self::Step(step) => stages::STAGES[usize::from(step.min(LAST_STEP))],
            Self::Experiment(Experiment::Break) => (breaking::TITLE, breaking::story),
        }
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(step) if step <= LAST_STEP => Ok(Self::Step(step)),
            _ if text == "break" => Ok(Self::Experiment(Experiment::Break)),
            _ => Err(format!("a step from 0 to {LAST_STEP} is wanted, or break")),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "{step}"),
            Self::Experiment(Experiment::Break) => write!(f, "break"),
        }
    }
}

/// What a step showed.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The step's number in the handout, or the experiment's name.
    pub step: Which,
    /// Its title.
    pub title: &'static str,
    /// Whether it showed what it must.
    pub passed: bool,
    /// What it did not show.
    pub missing: Vec<String>,
    /// The commands, in order, with their output.
    pub commands: Vec<stage::Typed>,
}

/// Runs the demo; returns the exit code.
pub fn run(args: &DemoArgs) -> Result<u8> {
    let mut parts = match args.step.is_empty() {
        true => (0..=LAST_STEP).map(Which::Step).collect(),
        false => args.step.clone(),
    };
    parts.sort_unstable();
    parts.dedup();
    tun::check_device()?;
    let stop = Signals::block()?;
    let started = Instant::now();
    let lab = DemoLab::up(parts.first().map_or(0, |part| part.lab()))?;
    let interrupted = lab.end_on(stop);
    let style = stage::Style { told: !args.json, pause: args.pause, colour: output::has_colour(), interrupted };
    let told = tell(&lab, &style, &parts);
    if style.interrupted.load(Ordering::Relaxed) {
        // What has failed since then, failed because the lab is being ended: that ends this process, too.
        loop {
            thread::park();
        }
    }
    let told = told?;
    lab.down()?;
    let passed = told.iter().all(|step| step.passed);
    let seconds = started.elapsed().as_secs_f64();
    let end = match args.json {
        true => format!("{:#}\n", serde_json::json!({ "passed": passed, "seconds": seconds, "steps": told })),
        false => table(&told, seconds),
    };
    output::text(end)?;
    Ok(u8::from(!passed))
}

/// Tells these parts of the story.
fn tell(lab: &DemoLab, style: &stage::Style, parts: &[Which]) -> Result<Vec<Told>> {
    let topology = topology::handout();
    let mut prepared = None;
    let told = parts.iter().map(|part| {
        let (number, (title, story)) = (part.lab(), part.tale());
        // A step's programs leave nothing behind; only what the next step finds prepared has to be set.
        let is_prepared = |last| !topology.prepared.iter().any(|more| (last + 1..=number).contains(&more.step));
        if !prepared.replace(number).is_none_or(is_prepared) {
            lab.reset(number)?;
        }
        let mut stage = Stage::open(&lab.name, style, *part, title);
        story(&mut stage, topology)?;
        Ok(stage.close())
    });
    told.collect()
}

/// The steps and how they went.
fn table(told: &[Told], seconds: f64) -> String {
    let mut text = String::from("\nstep  result  what it shows\n");
    for step in told {
        let result = if step.passed { "ok" } else { "FAILED" };
        text.push_str(&format!("{:<5} {result:<6}  {}\n", step.step.to_string(), step.title));
        for missing in &step.missing {
            text.push_str(&format!("              missing: {missing}\n"));
        }
    }
    text.push_str(&format!("\n{seconds:.1} seconds; the lab is gone again, nothing is left\n"));
    text
}

/// The exit code of a program that Ctrl-C ended, as shells have it: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A lab of the demo's own, beside any other; it ends with the demo, also if that is killed.
struct DemoLab {
    name: String,
}

impl DemoLab {
    fn up(step: u8) -> Result<Self> {
        let owner = std::process::id().to_string();
        let lab = Self { name: format!("demo-{owner}") };
        lab.command(&["up", "--owner", &owner, "--step", &step.to_string()])?;
        Ok(lab)
    }

    /// From now on Ctrl-C ends the lab, and then this program. In a thread, since the story waits in many places; what it
    /// returns tells the story to be silent.
    fn end_on(&self, stop: Signals) -> Arc<AtomicBool> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let silence = Arc::clone(&interrupted);
        let lab = Self { name: self.name.clone() };
        thread::spawn(move || {
            // Without a signal, or when waiting for one fails, the story ends by itself.
            if stop.wait_for_end().is_ok() {
                silence.store(true, Ordering::Relaxed);
                let done = lab.down();
                if let Err(error) = &done {
                    logging::fatal(error);
                }
                std::process::exit(INTERRUPTED);
            }
        });
        interrupted
    }

    fn reset(&self, step: u8) -> Result<()> {
        self.command(&["reset", "--step", &step.to_string()])
    }

    fn down(&self) -> Result<()> {
        self.command(&["down"])
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        let running = || format!("cannot run vpnlab lab {}", arguments.join(" "));
        let program = std::env::current_exe().context(running)?;
        let mut command = Command::new(program);
        let output = command.args(["lab", "--lab", &self.name]).args(arguments).stdin(Stdio::null()).output();
        let output = output.context(running)?;
        let said = String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("vpnlab: ").to_string();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(3) => Err(Error::environment(said)),
            _ => Err(Error::failed(said)),
        }
    }
}

impl Drop for DemoLab {
    /// Where the story broke off. After its regular end there is nothing left, and this finds nothing.
    fn drop(&mut self) {
        let _ = self.down();
    }
}
