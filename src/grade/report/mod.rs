//! A grade as text: for programs, for Gradescope, for CI servers, for a terminal, for a browser.
//!
//! Pure: grades in, text out. What students' programs print, and what their folders are called, is hostile until it has
//! been escaped; each format does that itself, at the one place where it writes a text.

use crate::grade::model::{Check, Grade, Status, StepGrade};
pub use crate::page::text::shown;
use crate::page::text::{one_line, wrap};

mod compare;
pub mod gradescope;
pub mod html;
mod index;
pub mod json;
pub mod junit;
#[cfg(test)]
pub(crate) mod samples;
pub mod table;

/// Points as people write them: 2, 0.5, 0.33.
pub fn points(points: f64) -> String {
    // The sum over nothing is -0.0; "-0" would be printed for it, and for what is rounded to it.
    let rounded = (points * 100.0).round() / 100.0 + 0.0;
    format!("{rounded}")
}

/// How many checks ended how: "9 passed, 3 failed, 1 not run"; nothing of what there is none of.
pub fn tally(grade: &Grade) -> String {
    let kinds = [
        (Status::Pass, "passed"),
        (Status::Fail, "failed"),
        (Status::NotRun, "not run"),
        (Status::Error, "not judged"),
    ];
    let said = kinds.map(|(status, word)| (grade.count(status), word)).into_iter().filter(|(count, _)| *count > 0);
    let said: Vec<String> = said.map(|(count, word)| format!("{count} {word}")).collect();
    if said.is_empty() { "no checks".into() } else { said.join(", ") }
}

/// The points of a step: those reached, and those that can be.
fn points_of(step: &StepGrade) -> (f64, f64) {
    let of = |what: fn(&Check) -> f64| step.checks.iter().map(what).sum();
    (of(|check| check.points), of(|check| check.max_points))
}

/// What there is to say about a check, under its headings: what was done, expected, observed, because, cause, hint.
fn account(check: &Check) -> Vec<(&'static str, Vec<String>)> {
    let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    let because = match check.status {
        Status::NotRun => vec![reason_of(check)],
        Status::Error => vec![format!("the grader's own error, not the student's: {}", reason_of(check))],
        Status::Pass | Status::Fail => one(&check.because),
    };
    let cause = check.cause.iter().flat_map(|cause| {
        let step = if cause.step == 0 { "the network itself".into() } else { format!("step {}", cause.step) };
        let title = format!("{}: {} ({}, of {step})", cause.host, cause.title, cause.id);
        [title].into_iter().chain(cause.facts.iter().map(|fact| format!("- {fact}")))
    });
    let all = [
        ("done", check.done.clone()),
        ("expected", one(&check.expected)),
        ("observed", one(&check.observed)),
        ("because", because),
        ("cause", cause.collect()),
        ("hint", one(&check.hint)),
    ];
    all.into_iter().filter(|(_, texts)| !texts.is_empty()).collect()
}

/// Why a check was not run, or what the grader failed at.
fn reason_of(check: &Check) -> String {
    check.because.clone().unwrap_or_else(|| "no reason was recorded".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_short_and_never_below_nothing() {
        assert_eq!([2.0, 0.5, 1.0 / 3.0, 0.0, -0.0, -0.001].map(points), ["2", "0.5", "0.33", "0", "0", "0"]);
    }

    #[test]
    fn a_tally_names_what_there_is() {
        assert_eq!(tally(&samples::broken()), "5 passed, 3 failed, 2 not run, 1 not judged");
        assert_eq!(tally(&samples::healthy()), "11 passed");
        assert_eq!(tally(&samples::empty()), "no checks");
    }

    #[test]
    fn an_account_has_only_what_is_known() {
        let check = samples::check(Status::Fail);
        assert_eq!(account(&check), []);
        let headings = |check: &Check| account(check).iter().map(|(heading, _)| *heading).collect::<Vec<_>>();
        assert_eq!(headings(&samples::check(Status::NotRun)), ["because"]);
        let full = &samples::broken().steps[2].checks[1];
        assert_eq!(headings(full), ["done", "expected", "observed", "cause", "hint"]);
    }
}
