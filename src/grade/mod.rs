//! `vpnlab grade`: is the step done, and if not, why? Judges anybody's programs by what they do on the wire.
//!
//! This process starts workers and writes reports. Each submission is read and graded by a `worker` of its own, which holds
//! its lab and its sandbox and ends with them; `checks` are what it makes, on a `stage`.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Context, Error, Result};
use crate::output;

mod apparmor;
pub mod checks;
pub mod evidence;
pub mod init;
pub mod model;
pub mod packets;
pub mod program;
pub mod report;
pub mod rubric;
pub mod sandbox;
pub mod stage;
pub mod submission;
pub mod trial;
pub mod usage;
pub mod watch;
pub mod worker;

use model::{Check, Grade, Status};
use rubric::Rubric;
use worker::{Job, Told};

/// `vpnlab grade`
#[derive(Debug, Args)]
pub struct GradeArgs {
    /// Folders to grade, each a submission or full of submissions; without any, vpnlab grades itself
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
    /// Grade again whenever a file of a submission or the rubric changes, until Ctrl-C
    #[arg(long, requires = "submissions")]
    watch: bool,
    /// Run the programs without a sandbox, with your own rights: only for programs that you trust
    #[arg(long)]
    no_sandbox: bool,
    /// How many points each check is worth, and which count: a TOML file
    #[arg(long, value_name = "FILE")]
    rubric: Option<PathBuf>,
    /// Print a rubric of all checks, with comments, and do nothing else
    #[arg(long)]
    print_rubric: bool,
    #[command(flatten, next_help_heading = "Reports")]
    reports: Reports,
    /// Be the process that grades one submission.
    #[arg(long, hide = true)]
    worker: bool,
}

/// Files that grades are written to.
#[derive(Debug, Default, Args)]
struct Reports {
    /// All grades as JSON, which docs/grading.md describes
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A page for a browser, with all that is to be known
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// A line of points per submission, for a spreadsheet
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// JUnit's XML, for CI systems
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Gradescope's results.json; for one submission
    #[arg(long, value_name = "FILE")]
    gradescope: Option<PathBuf>,
    /// A folder of what was seen: packets for Wireshark, what programs printed, the hosts' routes and counters, per check
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
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
  vpnlab grade submissions/*/ --csv marks.csv --html report.html
  vpnlab grade --watch my-lab5/           again whenever a file is saved
  vpnlab grade --print-rubric > rubric.toml
  vpnlab grade --rubric rubric.toml submissions/*/

The exit code is 0 if all checks were passed, 1 if not, 2 if used wrongly, 3 if the machine lacks something.";

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
    if args.print_rubric {
        return output::text(rubric::commented()).map(|()| 0);
    }
    if args.watch {
        let watched: Vec<PathBuf> = args.submissions.iter().chain(&args.rubric).cloned().collect();
        return watch::watch(&watched, || once(args).map(drop)).map(|()| 0);
    }
    once(args)
}

/// Grades all submissions; returns the exit code.
fn once(args: &GradeArgs) -> Result<u8> {
    crate::lab::refuse_inside_a_host()?;
    if args.reports.gradescope.is_some() && args.submissions.len() > 1 {
        return Err(Error::usage("--gradescope is for one submission").hint("use --json or --csv for several"));
    }
    let evidence = args.reports.evidence.as_deref().map(evidence::Store::new).transpose()?;
    let files = args.reports.open()?;
    let (grades, lacks) = match graded(args, evidence.as_ref()) {
        Ok(done) => done,
        Err(error) => {
            // Whoever waits for this file would else wait in vain.
            let name = name(args.submissions.first().map(PathBuf::as_path));
            files.gradescope(&Grade { error: Some(error.to_string()), ..Grade::of(&name) })?;
            return Err(error);
        }
    };
    // Whatever fails, the other is there.
    let written = files.write(&grades).and(evidence.map_or(Ok(()), |evidence| evidence.finish(&grades)));
    let colour = output::has_colour();
    let printed = match grades.as_slice() {
        [grade] => output::text(report::table::single(grade, colour)),
        several => output::text(report::table::several(several, colour)),
    };
    written.and(printed)?;
    // Those that could be graded are; that others could not is the machine's fault.
    lacks.map_or(Ok(()), Err)?;
    Ok(u8::from(!grades.iter().all(|grade| grade.passed)))
}

/// Grades the submissions; the worker of each reads it. Beside the grades: what the machine lacked for one of them.
///
/// # Errors
/// None could be graded.
fn graded(args: &GradeArgs, evidence: Option<&evidence::Store>) -> Result<(Vec<Grade>, Option<Error>)> {
    let rubric = args.rubric.as_deref().map(Rubric::read).transpose()?;
    sandbox::check(args.no_sandbox)?;
    let folders = match args.submissions.as_slice() {
        [] => vec![None],
        named => submission::folders(named)?.into_iter().map(Some).collect(),
    };
    let (mut grades, lacks) = grade_all(args, &folders, evidence)?;
    grades.iter_mut().for_each(|grade| args.hint.apply(grade));
    if let Some(rubric) = &rubric {
        grades.iter_mut().for_each(|grade| rubric.apply(grade));
    }
    Ok((grades, lacks))
}

impl Hint {
    /// Takes away what is not to be told.
    fn apply(self, grade: &mut Grade) {
        for check in grade.steps.iter_mut().flat_map(|step| &mut step.checks) {
            if self != Self::Full {
                check.hint = None;
            }
            if self == Self::None {
                check.cause = None;
            }
        }
    }
}

/// What makes a report of grades.
type Writer = fn(&[Grade]) -> String;

/// The files of the reports, open: that one cannot be written is told before anything is graded.
struct Files<'a> {
    all: Vec<(&'a Path, File, Writer)>,
    gradescope: Option<(&'a Path, File)>,
}

impl Reports {
    fn open(&self) -> Result<Files<'_>> {
        // What an earlier run has left there stays until there is something better: grading may be interrupted.
        let create = |path: &Path| {
            let file = File::options().write(true).create(true).truncate(false).open(path);
            file.map_err(|error| Error::usage(format!("cannot write {}", path.display())).because(error))
        };
        let kinds: [(&Option<PathBuf>, Writer); 4] = [
            (&self.json, report::json::document),
            (&self.html, report::html::page),
            (&self.csv, report::table::csv),
            (&self.junit, report::junit::document),
        ];
        let mut all = Vec::new();
        for (path, write) in kinds {
            if let Some(path) = path {
                all.push((path.as_path(), create(path)?, write));
            }
        }
        let gradescope = self.gradescope.as_deref().map(|path| create(path).map(|file| (path, file)));
        Ok(Files { all, gradescope: gradescope.transpose()? })
    }
}

impl Files<'_> {
    fn write(self, grades: &[Grade]) -> Result<()> {
        // One that cannot be written does not keep the others from it.
        let mut done = grades.first().map_or(Ok(()), |grade| self.gradescope(grade));
        for (path, file, write) in &self.all {
            done = done.and(replace(path, file, &write(grades)));
        }
        done
    }

    fn gradescope(&self, grade: &Grade) -> Result<()> {
        let Some((path, file)) = &self.gradescope else { return Ok(()) };
        replace(path, file, &report::gradescope::document(grade))
    }
}

/// Writes a text in place of what is in the file.
fn replace(path: &Path, mut file: &File, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    // A pipe or a terminal has no length.
    if file.metadata().context(failed)?.is_file() {
        file.set_len(0).context(failed)?;
    }
    file.write_all(text.as_bytes()).context(failed)
}

/// Grades submissions, some at a time, each in a process of its own; the grades are in the order of the submissions.
fn grade_all(
    args: &GradeArgs,
    submissions: &[Option<PathBuf>],
    evidence: Option<&evidence::Store>,
) -> Result<(Vec<Grade>, Option<Error>)> {
    let names: Vec<String> = submissions.iter().map(|it| name(it.as_deref())).collect();
    let folders = evidence.map_or(Vec::new(), |store| store.folders(names.iter().map(String::as_str)));
    let folders: Vec<_> = folders.into_iter().map(Mutex::new).collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(processors, usize::from).min(submissions.len());
    let shown = python_prefixes(&python(&args.python));
    let progress = Progress::new(args, submissions.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Grade>>>> = Mutex::new(submissions.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(submission) = submissions.get(place) else { return };
                    let grade = grade_one(args, submission.as_deref(), &shown, &progress, folders.get(place));
                    if let Ok(grade) = &grade {
                        progress.graded(grade);
                    }
                    if let Ok(mut done) = done.lock() {
                        done[place] = Some(grade);
                    }
                }
            });
        }
    });
    progress.end();
    let done = done.into_inner().map_err(|_| Error::failed("the grader failed"))?;
    let mut lacks = None;
    let mut graded = 0;
    let grades = done.into_iter().flatten().zip(&names).map(|(grade, name)| match grade {
        Ok(grade) => {
            graded += 1;
            grade
        }
        Err(error) => {
            let grade = Grade { error: Some(error.to_string()), ..Grade::of(name) };
            lacks.get_or_insert(error);
            grade
        }
    });
    let grades = grades.collect();
    match lacks {
        Some(error) if graded == 0 => Err(error),
        lacks => Ok((grades, lacks)),
    }
}

/// What a submission is called.
fn name(folder: Option<&Path>) -> String {
    folder.map_or_else(|| "vpnlab".into(), submission::name)
}

/// Has a worker grade a submission.
fn grade_one(
    args: &GradeArgs,
    folder: Option<&Path>,
    shown: &[PathBuf],
    progress: &Progress,
    evidence: Option<&Mutex<evidence::Folder>>,
) -> Result<Grade> {
    let name = name(folder);
    let failed = || format!("cannot grade {name}");
    let job = Job {
        folder: folder.map(Path::to_path_buf),
        steps: args.steps(),
        start_timeout: args.start_timeout,
        shown: shown.to_vec(),
        is_open: args.no_sandbox,
        evidence: evidence.is_some(),
        python: python(&args.python),
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
            Told::Check(check) => progress.checked(&name, &check),
            Told::Evidence { check, name, bytes } => {
                if let Some(mut folder) = evidence.and_then(|it| it.lock().ok()) {
                    folder.add(&check, &name, &bytes);
                }
            }
            Told::Grade(it) => grade = Some(*it),
            Told::Lacks(what) => lacks = Some(what),
        }
    }
    worker.wait().context(failed)?;
    match (grade, lacks) {
        (Some(grade), _) => Ok(grade),
        (None, Some(lacks)) => Err(Error::environment(lacks)),
        (None, None) => Ok(Grade { error: Some("the grader's own process ended early".into()), ..Grade::of(&name) }),
    }
}

impl GradeArgs {
    /// The steps to judge, in order.
    fn steps(&self) -> Vec<u8> {
        (1..=4).filter(|step| self.steps.is_empty() || self.steps.contains(step)).collect()
    }
}

/// A Python that was named by its path, by its whole path: programs start in another folder. A link stays, since the Python of
/// a virtual environment is one, and knows itself by its name.
fn python(named: &str) -> String {
    let full = std::path::absolute(named).ok().filter(|_| named.contains('/'));
    full.map_or_else(|| named.into(), |path| path.display().to_string())
}

/// Where a Python that was chosen lives, if not in /usr: the sandbox has to show that.
fn python_prefixes(python: &str) -> Vec<PathBuf> {
    if !python.contains('/') {
        return Vec::new();
    }
    let asked = Command::new(python).args(["-c", "import sys; print(sys.prefix); print(sys.base_prefix)"]).output();
    let told = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut prefixes: Vec<PathBuf> = told.lines().map(PathBuf::from).filter(|path| !path.starts_with("/usr")).collect();
    prefixes.dedup();
    prefixes
}

/// Says how far the grading has come: a bar on a terminal, a line per submission elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    many: bool,
}

impl Progress {
    fn new(args: &GradeArgs, submissions: usize) -> Self {
        let checks = checks::CHECKS.iter().filter(|(step, ..)| args.steps().contains(step)).count();
        let total = checks * submissions;
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}");
            ProgressBar::new(total as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, many: submissions > 1 }
    }

    fn checked(&self, name: &str, check: &Check) {
        let status = match check.status {
            Status::Pass => "ok",
            Status::Fail => "FAILED",
            Status::NotRun => "not run",
            Status::Error => "ERROR",
        };
        log::debug!("{name}: {status}: {}", check.title);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{name}: {}", check.title));
            bar.inc(1);
        }
    }

    fn graded(&self, grade: &Grade) {
        if self.bar.is_none() && self.many {
            let (score, most) = (report::points(grade.score), report::points(grade.max_score));
            output::error_line(format_args!("{}: {score} of {most}, {:.0} s", grade.submission, grade.seconds));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_the_place_of_a_longer_one() {
        let path = std::env::temp_dir().join(format!("vpnlab-grade-replace-{}", std::process::id()));
        let reports = |json: &Path| Reports { json: Some(json.to_path_buf()), ..Reports::default() };
        std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
        let opened = reports(&path);
        let files = opened.open().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        files.write(&[]).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(written, report::json::document(&[]));
        // What has no length is written to as it is.
        reports(Path::new("/dev/null")).open().unwrap().write(&[]).unwrap();
    }
}
