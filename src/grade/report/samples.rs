//! Grades for the tests of the reports: those of tests/fixtures/grades, and small ones.

use crate::grade::model::{Check, Grade, Status, VERSION};

/// Everything is well; one warning.
pub fn healthy() -> Grade {
    parse(include_str!("../../../tests/fixtures/grades/healthy.json"))
}

/// Every status, causes, ladders and transcripts.
pub fn broken() -> Grade {
    parse(include_str!("../../../tests/fixtures/grades/broken.json"))
}

/// Markup, control characters and the like in every field that a student has a hand in, and in the others, too.
pub fn hostile() -> Grade {
    parse(include_str!("../../../tests/fixtures/grades/hostile.json"))
}

/// Nothing could be graded.
pub fn unbuildable() -> Grade {
    parse(include_str!("../../../tests/fixtures/grades/unbuildable.json"))
}

/// No steps, no error, nothing.
pub fn empty() -> Grade {
    Grade {
        version: VERSION,
        submission: String::new(),
        passed: false,
        // What a sum over nothing is.
        score: -0.0,
        max_score: -0.0,
        seconds: 0.0,
        sandbox: Vec::new(),
        steps: Vec::new(),
        warnings: Vec::new(),
        error: None,
    }
}

/// A check that ended so, and about which nothing more is known.
pub fn check(status: Status) -> Check {
    let title = "A TUN device is there".into();
    let (id, done, transcripts) = ("step1.device".into(), Vec::new(), Vec::new());
    let (expected, observed, because, cause, hint, ladders) = (None, None, None, None, None, None);
    let (points, max_points, seconds) = (0.0, 1.0, 0.25);
    Check {
        id,
        title,
        status,
        points,
        max_points,
        seconds,
        done,
        expected,
        observed,
        because,
        cause,
        hint,
        ladders,
        transcripts,
    }
}

/// All of them.
pub fn all() -> Vec<Grade> {
    vec![healthy(), broken(), hostile(), unbuildable(), empty()]
}

fn parse(text: &str) -> Grade {
    serde_json::from_str(text).expect("a fixture is a grade")
}
