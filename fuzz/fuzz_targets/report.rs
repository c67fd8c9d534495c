//! What a submission is called and what its programs print, in every text of a grade: no report has it as anything but text.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vpnlab::grade::model::Grade;
use vpnlab::grade::report::{gradescope, html, json, junit, table};

/// In front of every text: no page has an element of this name, nor any quotation mark behind it.
const MARK: &str = "\"'><zz ";

static SAMPLE: LazyLock<Grade> = LazyLock::new(|| {
    let file = include_str!("../../tests/fixtures/grades/broken.json");
    let mut report: serde_json::Value = serde_json::from_str(file).unwrap();
    let grade = if report["grades"].is_array() { report["grades"][0].take() } else { report };
    let mut grade: Grade = serde_json::from_value(grade).unwrap();
    // One check that has everything: more only take time.
    grade.steps.iter_mut().for_each(|step| step.checks.retain(|check| check.ladders.is_some()));
    grade.steps.retain(|step| !step.checks.is_empty());
    grade.steps.truncate(1);
    grade.steps[0].checks.truncate(1);
    grade
});

fuzz_target!(|text: &str| {
    let text = format!("{MARK}{text}");
    let mut grade = SAMPLE.clone();
    let put = |place: &mut String| place.clone_from(&text);
    put(&mut grade.submission);
    grade.error = Some(text.clone());
    grade.warnings.iter_mut().for_each(|warning| put(&mut warning.text));
    for check in grade.steps.iter_mut().flat_map(|step| &mut step.checks) {
        check.done.iter_mut().for_each(put);
        for place in [&mut check.expected, &mut check.observed, &mut check.because, &mut check.hint] {
            place.iter_mut().for_each(put);
        }
        check.cause.iter_mut().for_each(|cause| cause.facts.iter_mut().for_each(put));
        for transcript in &mut check.transcripts {
            [&mut transcript.command, &mut transcript.output, &mut transcript.end].into_iter().for_each(put);
        }
        for ladder in check.ladders.iter_mut().flat_map(|ladders| [&mut ladders.seen, &mut ladders.expected]) {
            ladder.rows.iter_mut().for_each(|row| put(&mut row.text));
        }
    }
    let grades = [grade];
    for page in [html::page(&grades), junit::document(&grades)] {
        assert!(!page.contains("<zz") && page.contains("&lt;zz"));
        let odd = page.chars().find(|it| it.is_control() && !matches!(it, '\n' | '\t'));
        assert!(odd.is_none(), "{odd:?}");
    }
    let back: serde_json::Value = serde_json::from_str(&json::document(&grades)).unwrap();
    assert!(back.to_string().contains("zz"));
    serde_json::from_str::<serde_json::Value>(&gradescope::document(&grades[0])).unwrap();
    for shown in [table::single(&grades[0], false), table::several(&grades, false)] {
        assert!(!shown.chars().any(|it| it.is_control() && !matches!(it, '\n' | '\t')), "a terminal gets no commands");
    }
    table::csv(&grades);
});
