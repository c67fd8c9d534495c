//! `vpnlab report DIR`: a student's evidence for the written report, made from a running lab, as one page and a folder.
//!
//! [`run`] chooses the steps, has `gather` do what `steps` asks for, and writes what `page` makes of it. Stands on the lab and on
//! `vpnlab trace`, whoever's programs run; knows nothing of the steps' own code, and changes nothing in the lab.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::{Context, Result};
use crate::lab::{self, Lab, processes};
use crate::output;

mod folder;
mod gather;
mod hash;
pub mod model;
mod outcome;
pub mod page;
mod sources;
mod stamp;
mod state;
mod steps;
mod terminal;

use folder::Folder;
use gather::Gatherer;
use model::{FORMAT, Program, Report, Step, VERSION};
use state::HostState;
use terminal::Terminals;

/// The exit code of a program that Ctrl-C ended, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// How much is told of the last line of a program that failed, in characters.
const LONGEST_LINE: usize = 200;

/// `vpnlab report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The folder that the report becomes: a new one, or an empty one
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The lab
    #[arg(long = "lab", value_name = "NAME", default_value = lab::root::DEFAULT, value_parser = lab::lab_name)]
    lab: String,
    /// Show this step (0 to 4); may be given more than once [default: the one that what runs is of]
    #[arg(long = "step", value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(steps::LAST)))]
    steps: Vec<u8>,
    /// Start this program on this host first, record its lines, and end it afterwards; may be given more than once
    #[arg(long, num_args = 2, value_names = ["HOST", "COMMAND"])]
    run: Vec<String>,
    /// How long each program of --run may take to start, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    start_timeout: f64,
    /// Replace an older report in DIR, if nothing else is there
    #[arg(long)]
    force: bool,
    /// Print the report's JSON
    #[arg(long)]
    json: bool,
}

/// The examples of `vpnlab report --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab report lab5                      of what runs in the lab now, in other terminals
  vpnlab report lab5 --step 4             of this step, whatever runs
  vpnlab report lab5 --run server 'sudo python3 tun_server.py' --run useru 'sudo python3 tun_client.py'
                                          starts the programs, and has their lines, too
  vpnlab report lab5 --force              again, in place of the older one
  cd lab5 && sha256sum -c SHA256SUMS      nothing is missing or changed

It writes DIR/index.html for a browser, report.json, and a folder per step. The exit code is 0 if all was seen that the
steps promise, 1 if not: the report is written all the same.";

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 600".into()),
    }
}

/// Says on a terminal what is being done; elsewhere nothing.
#[derive(Debug, Clone, Copy)]
pub struct Progress(bool);

impl Progress {
    fn say(self, what: std::fmt::Arguments<'_>) {
        if self.0 {
            output::error_line(what);
        }
    }
}

/// Runs `vpnlab report`; returns the exit code.
pub fn run(args: &ReportArgs) -> Result<u8> {
    lab::refuse_inside_a_host()?;
    let lab = Lab::open(&args.lab)?;
    for host in args.run.chunks(2).filter_map(|it| it.first()) {
        lab.topology.host(host)?;
    }
    let folder = Folder::begin(&args.directory, args.force)?;
    let terminals = Terminals::new()?;
    let progress = Progress(std::io::stderr().is_terminal());
    let mut gatherer = Gatherer { lab: &lab, terminals, folder, started: Vec::new(), progress };
    let made = make(args, &mut gatherer);
    let Gatherer { mut terminals, folder, .. } = gatherer;
    terminals.end_all();
    // Whatever they have started, and wherever it went.
    let cleared = processes::end_started_with(&lab.networks.hosts, &terminals.mark());
    if terminals.is_interrupted() {
        output::error_line("vpnlab: interrupted: no report was written");
        return Ok(INTERRUPTED);
    }
    let report = made?;
    cleared?;
    let target = folder.target().to_path_buf();
    let text = serde_json::to_string_pretty(&report).context(|| "cannot make the report's JSON".into())? + "\n";
    folder.write(folder::JSON, text.as_bytes())?;
    folder.write("index.html", page::page(&report).as_bytes())?;
    folder.finish()?;
    match args.json {
        true => output::text(text)?,
        false => output::text(summary(&report, &target))?,
    }
    Ok(u8::from(!report.passed))
}

/// Does all that the report asks for.
fn make(args: &ReportArgs, gatherer: &mut Gatherer<'_>) -> Result<Report> {
    let begun = Instant::now();
    let lab = gatherer.lab;
    let stamp = stamp::stamp(lab, gatherer.terminals.vpnlab());
    gatherer.folder.write("topology.toml", lab.text.as_bytes())?;
    let mut wanted = args.steps.clone();
    wanted.sort_unstable();
    wanted.dedup();

    // What programs were made of, before they can change it.
    let directory = std::env::current_dir().context(|| "cannot tell which directory this is".into())?;
    let mut own = Vec::new();
    for pair in args.run.chunks_exact(2) {
        let files = sources::of_command(&pair[1], &directory);
        own.push(sources::describe(&files, &pair[0], None, &mut gatherer.folder)?);
    }
    let mut done = Vec::new();
    // The network by itself, before the programs change what is reached.
    if wanted.first() == Some(&0) && !args.run.is_empty() {
        done.push(gatherer.step(steps::plan(wanted.remove(0), &lab.topology))?);
    }
    for pair in args.run.chunks_exact(2) {
        gatherer.run(&pair[0], &pair[1], Duration::from_secs_f64(args.start_timeout))?;
    }
    let states = gatherer.look()?;
    let chosen = match args.steps.is_empty() {
        true => {
            let (step, why) = state::step(lab, &states);
            wanted.push(step);
            format!("step {step}, since {why}; --step chooses another")
        }
        false => "the steps that --step names".into(),
    };
    let mut programs = others(gatherer, &states)?;
    for step in wanted {
        done.push(gatherer.step(steps::plan(step, &lab.topology))?);
    }
    let over: Vec<bool> = gatherer.started.iter().map(|it| gatherer.terminals.has_ended(it.handle)).collect();
    gatherer.terminals.end_all();
    programs.extend(started(gatherer, &states, own, &over)?);
    let stamp = model::Stamp { seconds: begun.elapsed().as_secs_f64(), ..stamp };
    let passed = done.iter().all(|step| step.passed);
    Ok(Report { format: FORMAT.into(), version: VERSION, passed, chosen, stamp, programs, steps: done })
}

/// The programs that run in other terminals.
fn others(gatherer: &mut Gatherer<'_>, states: &[HostState]) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for state in states {
        for holder in &state.holders {
            if processes::has_in_environment(holder.pid, &gatherer.terminals.mark()) {
                continue;
            }
            let files = sources::of_process(holder.pid);
            let sources = sources::describe(&files, &state.host, Some(holder.pid), &mut gatherer.folder)?;
            programs.push(Program {
                host: state.host.clone(),
                command: holder.command.clone(),
                pid: Some(holder.pid),
                holds: holds(holder),
                started_by_report: false,
                failed: false,
                end: None,
                output_file: None,
                sources,
            });
        }
    }
    Ok(programs)
}

/// The programs of `--run`, which have ended; some before the report ended them.
fn started(
    gatherer: &Gatherer<'_>,
    states: &[HostState],
    own: Vec<Vec<model::Source>>,
    over: &[bool],
) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for (place, (it, sources)) in gatherer.started.iter().zip(own).enumerate() {
        let holders = states.iter().filter(|state| state.host == it.host).flat_map(|state| &state.holders);
        let holders: Vec<_> = holders.filter(|holder| it.pids.contains(&holder.pid)).collect();
        let (exit, took) = gatherer.terminals.exit(it.handle);
        let code = exit.map_or("no exit code".into(), |exit| format!("exit code {exit}"));
        let by = if over[place] { "ended by itself" } else { "ended by the report with Ctrl-C" };
        let mut end = format!("{by} after {:.1} s, {code}", took.as_secs_f64());
        let failed = over[place] && exit != Some(0);
        let file = format!("programs/{}-{}.txt", place + 1, crate::page::text::file_name(&it.host));
        let printed = crate::page::text::shown(&gatherer.terminals.printed(it.handle, 0));
        let more = if gatherer.terminals.is_truncated(it.handle) { "\n[and more, which is not kept]" } else { "" };
        let text = format!("{}$ {}\n{}{more}\n[{end}]\n", gather::prompt(&it.host), it.line, printed.trim_end());
        gatherer.folder.write(&file, text.as_bytes())?;
        if let Some(last) = printed.trim_end().lines().last().filter(|_| failed) {
            end += &format!(": {}", last.trim().chars().take(LONGEST_LINE).collect::<String>());
        }
        programs.push(Program {
            host: it.host.clone(),
            command: it.line.clone(),
            pid: holders.first().map(|holder| holder.pid),
            holds: holders.iter().flat_map(|holder| holds(holder)).collect(),
            started_by_report: true,
            failed,
            end: Some(end),
            output_file: Some(file),
            sources,
        });
    }
    Ok(programs)
}

/// What a program holds, in words.
fn holds(holder: &state::Holder) -> Vec<String> {
    let ports = holder.ports.iter().map(|port| format!("UDP {port}"));
    holder.devices.iter().cloned().chain(ports).collect()
}

/// What is told at the end.
fn summary(report: &Report, target: &Path) -> String {
    let mut text = format!("lab {}: {}\n", report.stamp.lab, report.chosen);
    for Step { step, title, promises, .. } in &report.steps {
        text += &format!("\nstep {step}: {title}\n");
        for promise in promises {
            let word = match promise.seen {
                Some(true) => "seen",
                Some(false) => "NOT SEEN",
                None => "not shown",
            };
            text += &format!("  {word:<9}  {}\n", promise.text);
            if let Some(because) = &promise.because {
                text += &format!("             {because}\n");
            }
        }
    }
    let failed: Vec<&Program> = report.programs.iter().filter(|it| it.failed).collect();
    if !failed.is_empty() {
        text += "\nprograms that failed\n";
    }
    for it in failed {
        text += &format!("  {}$ {}\n", gather::prompt(&it.host), it.command);
        text += &format!("             {}\n", it.end.as_deref().unwrap_or_default());
    }
    text + &format!("\n{}\n", target.join("index.html").display())
}
