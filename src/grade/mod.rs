//! `vpnlab grade`: is the step done, and if not, why? Judges anybody's programs by what they do on the wire.
//!
//! This process reads submissions and writes reports. Each submission is graded by a `worker` of its own, which holds its
//! lab and its sandbox and ends with them; `checks` are what it makes, on a `stage`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::{Args, ValueEnum};

use crate::error::{Context, Error, Result};
use crate::output;

pub mod checks;
pub mod model;
pub mod packets;
pub mod report;
pub mod sandbox;
pub mod stage;
pub mod submission;
pub mod worker;

use model::{Check, Grade, Status, VERSION};
use submission::Submission;
use worker::{Job, Told};

/// `vpnlab grade`
#[derive(Debug, Args)]
pub struct GradeArgs {
    /// Folders to grade, each a submission; without any, vpnlab grades itself
    submissions: Vec<PathBuf>,
    /// Judge this step only; may be given more than once
    #[arg(long = "step", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    steps: Vec<u8>,
    /// The Python that runs the handout's files
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// How long a program may take to start, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    start_timeout: f64,
    /// How many submissions are graded at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// How much of the remedy is told
    #[arg(long, value_enum, default_value_t = Hint::Short)]
    hint: Hint,
    /// Write the grades to FILE as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the process that grades one submission.
    #[arg(long, hide = true)]
    worker: bool,
}

/// How much of the remedy a student is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hint {
    /// What was expected and seen, and nothing else
    None,
    /// The cause, too
    Short,
    /// And what can be done about it
    Full,
}

/// The examples of `vpnlab grade --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab grade                            vpnlab itself, to see that the machine can do it
  vpnlab grade my-lab5/                   a folder with the handout's files
  vpnlab grade --step 1 my-lab5/          one step, whatever the others do
  vpnlab grade submissions/*/ --json grades.json

The exit code is 0 if all checks were passed, 1 if not, 3 if the machine lacks something.";

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 600".into()),
    }
}

/// Runs `vpnlab grade`; returns the exit code.
pub fn run(args: &GradeArgs) -> Result<u8> {
    if args.worker {
        return worker::run();
    }
    crate::lab::refuse_inside_a_host()?;
    sandbox::check()?;
    let submissions = match args.submissions.is_empty() {
        true => vec![Ok(Submission::own())],
        false => args.submissions.iter().map(|folder| read(folder, args)).collect::<Result<_>>()?,
    };
    let grades = grade_all(args, submissions)?;
    for grade in &grades {
        print(grade)?;
    }
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", serde_json::json!({ "version": VERSION, "grades": grades }));
        std::fs::write(path, text).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(u8::from(!grades.iter().all(|grade| grade.passed)))
}

/// Reads a submission. One that is not to be graded gets a grade that says why; a folder that is none ends the program.
fn read(folder: &Path, args: &GradeArgs) -> Result<Result<Submission, Grade>> {
    match Submission::read(folder, &args.python) {
        Ok(submission) => Ok(Ok(submission)),
        Err(error) if error.exit() == crate::error::Exit::Usage => Err(error),
        Err(error) => {
            let name = folder.file_name().map_or_else(|| folder.into(), PathBuf::from);
            Ok(Err(ungraded(&name.display().to_string(), &error.to_string())))
        }
    }
}

/// The grade of what cannot be graded.
fn ungraded(name: &str, why: &str) -> Grade {
    Grade {
        version: VERSION,
        submission: name.into(),
        passed: false,
        score: 0.0,
        max_score: 0.0,
        seconds: 0.0,
        sandbox: Vec::new(),
        steps: Vec::new(),
        warnings: Vec::new(),
        error: Some(why.into()),
    }
}

/// Grades submissions, some at a time, each in a process of its own; the grades are in the order of the submissions.
fn grade_all(args: &GradeArgs, submissions: Vec<Result<Submission, Grade>>) -> Result<Vec<Grade>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(processors, usize::from).min(submissions.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Grade>>>> = Mutex::new(submissions.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(submission) = submissions.get(place) else { return };
                    let grade = match submission {
                        Ok(submission) => grade_one(args, submission),
                        Err(grade) => Ok(grade.clone()),
                    };
                    if let Ok(mut done) = done.lock() {
                        done[place] = Some(grade);
                    }
                }
            });
        }
    });
    let done = done.into_inner().map_err(|_| Error::failed("the grader failed"))?;
    done.into_iter().flatten().collect()
}

/// Has a worker grade a submission.
fn grade_one(args: &GradeArgs, submission: &Submission) -> Result<Grade> {
    let failed = || format!("cannot grade {}", submission.name);
    let steps = if args.steps.is_empty() { vec![1, 2, 3, 4] } else { args.steps.clone() };
    let job = Job {
        submission: submission.clone(),
        steps,
        start_timeout: args.start_timeout,
        shown: Vec::new(),
        python: args.python.clone(),
    };
    let program = std::env::current_exe().context(failed)?;
    let mut worker = Command::new(program);
    worker.args(["grade", "--worker"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut worker = worker.spawn().context(failed)?;
    let input = serde_json::to_vec(&job).context(failed)?;
    // A worker that ends early does not read it; what it says then tells more.
    let _ = worker.stdin.take().map(|mut stdin| stdin.write_all(&input));
    let mut grade = None;
    let mut lacks = None;
    for line in BufReader::new(worker.stdout.take().ok_or_else(|| Error::failed(failed()))?).lines() {
        match serde_json::from_str(&line.context(failed)?).context(failed)? {
            Told::Check(check) => progress(&submission.name, &check),
            Told::Grade(it) => grade = Some(*it),
            Told::Lacks(what) => lacks = Some(what),
        }
    }
    worker.wait().context(failed)?;
    match (grade, lacks) {
        (Some(grade), _) => Ok(grade),
        (None, Some(lacks)) => Err(Error::environment(lacks)),
        (None, None) => Ok(ungraded(&submission.name, "the grader's own process ended early")),
    }
}

fn progress(name: &str, check: &Check) {
    let status = match check.status {
        Status::Pass => "ok",
        Status::Fail => "FAILED",
        Status::NotRun => "not run",
        Status::Error => "ERROR",
    };
    log::info!("{name}: {status}: {}", check.title);
}

fn print(grade: &Grade) -> Result<()> {
    output::line(format_args!("{}: {} of {}", grade.submission, grade.score, grade.max_score))?;
    for check in grade.checks() {
        output::line(format_args!("  {:?} {} {:.1}s", check.status, check.id, check.seconds))?;
        for (what, text) in [("expected", &check.expected), ("observed", &check.observed), ("because", &check.because)]
        {
            if let Some(text) = text {
                output::line(format_args!("      {what}: {text}"))?;
            }
        }
        if let Some(cause) = &check.cause {
            output::line(format_args!("      cause: {} at {}: {}", cause.id, cause.host, cause.facts.join("; ")))?;
        }
    }
    for warning in &grade.warnings {
        output::line(format_args!("  warning {}: {}", warning.id, warning.text))?;
    }
    if let Some(error) = &grade.error {
        output::line(format_args!("  error: {error}"))?;
    }
    Ok(())
}
