//! What a grade is: submissions, steps, checks, and what was seen. Pure data; the JSON report is these types.
//!
//! docs/grading.md describes the JSON. [`VERSION`] rises when a field changes its meaning or goes; fields may be added.

use serde::{Deserialize, Serialize};

pub use crate::page::ladder::{Ladder, Ladders, Rung};

/// The version of the JSON report.
pub const VERSION: u32 = 1;

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was as it should be.
    Pass,
    /// It was not.
    Fail,
    /// It could not be looked at, since an earlier check failed or the program is not there.
    NotRun,
    /// The grader or the machine failed, not the student.
    Error,
}

/// The grade of one submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// [`VERSION`].
    pub version: u32,
    /// What the submission is called: its folder's name.
    pub submission: String,
    /// All checks were passed that count.
    pub passed: bool,
    /// The points reached.
    pub score: f64,
    /// The points that can be reached.
    pub max_score: f64,
    /// How long grading took.
    pub seconds: f64,
    /// How the submission was kept in, and by what its use of the machine was bounded.
    pub sandbox: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<StepGrade>,
    /// What costs no points, and is worth knowing: busy polling, a program that dies of a junk datagram.
    pub warnings: Vec<Warning>,
    /// Why nothing could be graded: the submission cannot be read or built, or the grader failed.
    pub error: Option<String>,
}

/// One step of the handout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepGrade {
    /// 1 to 4.
    pub step: u8,
    /// What it is about.
    pub title: String,
    /// Its checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

/// One check, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name in rubrics and reports: `step1.replies`.
    pub id: String,
    /// What is checked, as a sentence: "Pings of several sizes are answered".
    pub title: String,
    /// What became of it.
    pub status: Status,
    /// The points reached.
    pub points: f64,
    /// The points that can be reached; 0 where the rubric does not count it.
    pub max_points: f64,
    /// How long it took.
    pub seconds: f64,
    /// What was done, step by step, up to where it failed.
    pub done: Vec<String>,
    /// What should have been seen. With `observed`, where it failed.
    pub expected: Option<String>,
    /// What was seen.
    pub observed: Option<String>,
    /// Why it was not run, or what the grader failed at.
    pub because: Option<String>,
    /// Why a packet did not arrive, as `vpnlab trace` finds it.
    pub cause: Option<CauseSeen>,
    /// What the student may be told about it: nothing with `--hint none`.
    pub hint: Option<String>,
    /// The packet's way as it was, and as it should have been; where a packet was followed.
    pub ladders: Option<Ladders>,
    /// What the programs printed, each whole up to a limit.
    pub transcripts: Vec<Transcript>,
}

/// A cause of docs/trace.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseSeen {
    /// Its name: `no-forwarding`.
    pub id: String,
    /// What has happened, in a few words.
    pub title: String,
    /// The host that it is about.
    pub host: String,
    /// The handout's step that has it right.
    pub step: u8,
    /// What was seen that proves it.
    pub facts: Vec<String>,
}

/// What a program printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The host that it ran on.
    pub host: String,
    /// Its command line.
    pub command: String,
    /// Standard output and standard error, as they came, as text; cut where `truncated`.
    pub output: String,
    /// Whether there was more.
    pub truncated: bool,
    /// How it ended: "still running", "exit code 1", "killed: it used more memory than 512 MB".
    pub end: String,
}

/// What costs no points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Its name: `busy-polling`.
    pub id: String,
    /// What was seen.
    pub text: String,
}

impl Grade {
    /// A grade in which nothing stands yet.
    pub fn of(submission: &str) -> Self {
        Self {
            version: VERSION,
            submission: submission.into(),
            passed: false,
            score: 0.0,
            max_score: 0.0,
            seconds: 0.0,
            sandbox: Vec::new(),
            steps: Vec::new(),
            warnings: Vec::new(),
            error: None,
        }
    }

    /// Adds the points up.
    pub fn sum_up(&mut self) {
        self.score = self.checks().map(|check| check.points).sum();
        self.max_score = self.checks().map(|check| check.max_points).sum();
        let counts = |check: &&Check| check.max_points > 0.0;
        self.passed = self.error.is_none() && self.checks().filter(counts).all(|check| check.status == Status::Pass);
    }

    /// Every check of every step.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.steps.iter().flat_map(|step| &step.checks)
    }

    /// How many checks ended so.
    pub fn count(&self, status: Status) -> usize {
        self.checks().filter(|check| check.status == status).count()
    }
}
