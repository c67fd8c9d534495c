//! The submissions that the grader is tested with: they are what their script makes, and each has its expected result.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use vpnlab::trace::cause::Cause;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/submissions");

fn expected() -> toml::Table {
    fs::read_to_string(format!("{FOLDER}/expected.toml")).unwrap().parse().unwrap()
}

/// The words of a value that is one word or a list of some.
fn words(value: Option<&toml::Value>) -> Vec<&str> {
    match value {
        Some(toml::Value::Array(list)) => list.iter().map(|word| word.as_str().unwrap()).collect(),
        Some(word) => vec![word.as_str().unwrap()],
        None => Vec::new(),
    }
}

#[test]
fn the_submissions_are_what_their_script_makes() {
    let output = Command::new("python3").args(["-B", &format!("{FOLDER}/make.py"), "--check"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_submission_has_an_expected_result() {
    let groups = ["right", "right-with-warnings", "wrong", "nasty"];
    let folders = groups.iter().flat_map(|group| {
        let listed = fs::read_dir(format!("{FOLDER}/{group}")).unwrap();
        listed.map(move |entry| format!("{group}/{}", entry.unwrap().file_name().to_str().unwrap()))
    });
    let named: BTreeSet<_> = expected().keys().cloned().collect();
    assert_eq!(folders.collect::<BTreeSet<_>>(), named);
}

#[test]
fn an_expected_failure_is_of_its_step_and_has_a_known_cause() {
    let causes: Vec<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
    for (name, submission) in expected() {
        let is_wrong = name.starts_with("wrong/");
        let (checks, step) = (words(submission.get("check")), submission.get("step").and_then(toml::Value::as_integer));
        assert!(!is_wrong || (!checks.is_empty() && submission.get("fault").is_some()), "{name}");
        for check in checks {
            assert!(check.starts_with(&format!("step{}.", step.unwrap())), "{name}: {check}");
        }
        for check in words(submission.get("also")) {
            assert!(check.starts_with("step"), "{name}: {check}");
        }
        let passes = submission.get("passes").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        assert!(!passes.iter().any(|passed| passed.as_integer() == step), "{name}");
        for cause in words(submission.get("cause")) {
            assert!(causes.contains(&cause), "{name}: {cause}");
        }
    }
}
