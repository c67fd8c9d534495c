//! `results.json`, as Gradescope's autograder platform reads it: the score of each test, and Markdown for the student.

use serde_json::{Value, json};

use super::{one_line, points, reason_of, shown, tally};
use crate::grade::model::{Check, Grade, Status};

/// The document. The scores are those of the tests; only where there is no test there is a score of the whole.
pub fn results(grade: &Grade) -> Value {
    let tests: Vec<Value> = grade
        .steps
        .iter()
        .flat_map(|step| step.checks.iter().enumerate().map(|(index, check)| test(step.step, index, check)))
        .collect();
    let mut results = json!({
        "output": summary(grade),
        "output_format": "md",
        "visibility": "visible",
        // What the grader logs is for instructors.
        "stdout_visibility": "hidden",
        "execution_time": grade.seconds.ceil().max(0.0) as u64,
    });
    if tests.is_empty() {
        results["score"] = (grade.score + 0.0).into();
    }
    results["tests"] = tests.into();
    results
}

/// [`results`] as the text of the file.
pub fn document(grade: &Grade) -> String {
    format!("{:#}\n", results(grade))
}

fn test(step: u8, index: usize, check: &Check) -> Value {
    json!({
        "name": one_line(&check.title),
        "name_format": "text",
        "number": format!("{step}.{}", index + 1),
        // Gradescope knows these two.
        "status": if check.status == Status::Pass { "passed" } else { "failed" },
        "score": check.points + 0.0,
        "max_score": check.max_points + 0.0,
        "output": output(check),
        "output_format": "md",
        "visibility": "visible",
    })
}

fn summary(grade: &Grade) -> String {
    let mut text = match &grade.error {
        Some(error) => format!("**Nothing could be graded:**\n\n{}", fenced(error)),
        None => format!("{} of {} points: {}.\n", points(grade.score), points(grade.max_score), tally(grade)),
    };
    for warning in &grade.warnings {
        text += &format!("\n**Warning** ({}): {}\n", inline(&warning.id), inline(&warning.text));
    }
    text
}

fn output(check: &Check) -> String {
    let mut parts = Vec::new();
    match check.status {
        Status::Pass | Status::Fail => {}
        Status::NotRun => parts.push(format!("**This check was not run**, because {}\n", inline(&reason_of(check)))),
        Status::Error => {
            let text = "**The grader itself failed here, not your program.** Tell your instructor:\n\n";
            parts.push(format!("{text}{}", fenced(&reason_of(check))));
        }
    }
    for (heading, text) in [("Expected", &check.expected), ("Observed", &check.observed)] {
        parts.extend(text.as_ref().map(|text| format!("**{heading}**\n\n{}", fenced(text))));
    }
    if let Some(cause) = &check.cause {
        let step = if cause.step == 0 { String::new() } else { format!(" (step {})", cause.step) };
        let facts: String = cause.facts.iter().map(|fact| format!("- {}\n", inline(fact))).collect();
        parts.push(format!("**Cause**, on {}: {}{step}\n\n{facts}", inline(&cause.host), inline(&cause.title)));
    }
    parts.extend(check.hint.as_ref().map(|hint| format!("**Hint**: {}\n", inline(hint))));
    if !check.done.is_empty() {
        let done: String = check.done.iter().map(|step| format!("1. {}\n", inline(step))).collect();
        parts.push(format!("**What was done**\n\n{done}"));
    }
    parts.join("\n")
}

/// A text as a block of code that it cannot end: the fence is longer than any row of backticks in it.
fn fenced(text: &str) -> String {
    let text = shown(text);
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

/// A text in a line of Markdown, in which nothing is markup.
fn inline(text: &str) -> String {
    let mut escaped = String::new();
    for character in one_line(text).chars() {
        match character {
            // In HTML's way, for a renderer that would take a backslash before it for one.
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '!' | '#' | '|' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;

    #[test]
    fn each_check_is_a_test_with_number_and_score() {
        let results = results(&samples::broken());
        assert!(results.get("score").is_none(), "the tests' scores count");
        let tests = results["tests"].as_array().unwrap();
        assert_eq!(tests.len(), 11);
        assert_eq!(tests[0]["number"], "1.1");
        assert_eq!(tests[4]["number"], "2.2");
        assert_eq!(tests[4]["status"], "failed");
        assert_eq!(tests[6]["score"], 0.5);
        assert_eq!(tests[6]["max_score"], 2.0);
        let output = tests[6]["output"].as_str().unwrap();
        for text in ["**Expected**", "with ttl 63", "**Observed**", "does not forward", "**Hint**", "**What was done**"]
        {
            assert!(output.contains(text), "{text}: {output}");
        }
        let sum: f64 = tests.iter().map(|test| test["score"].as_f64().unwrap()).sum();
        assert_eq!(sum, samples::broken().score);
    }

    #[test]
    fn only_fields_and_values_that_gradescope_knows() {
        for grade in samples::all() {
            let results = results(&grade);
            let known = [
                "score",
                "output",
                "output_format",
                "visibility",
                "stdout_visibility",
                "execution_time",
                "tests",
                "extra_data",
            ];
            results.as_object().unwrap().keys().for_each(|key| assert!(known.contains(&key.as_str()), "{key}"));
            assert!(results["execution_time"].is_u64());
            for test in results["tests"].as_array().unwrap() {
                assert!(test["score"].is_f64() && test["max_score"].is_f64());
                assert!(["passed", "failed"].contains(&test["status"].as_str().unwrap()));
                assert!(test["name"].is_string() && test["output"].is_string());
                assert_eq!(test["visibility"], "visible");
                assert_eq!(test["output_format"], "md");
            }
        }
    }

    #[test]
    fn what_was_not_run_and_what_the_grader_failed_at_says_so() {
        let results = results(&samples::broken());
        let output = |index: usize| results["tests"][index]["output"].as_str().unwrap().to_string();
        assert!(output(8).contains("not run**, because step4.ping failed"), "{}", output(8));
        assert!(output(9).contains("The grader itself failed"), "{}", output(9));
        assert_eq!(results["tests"][8]["score"], 0.0);
    }

    #[test]
    fn a_grade_without_tests_has_a_score_and_says_why() {
        let results = results(&samples::unbuildable());
        assert_eq!(results["score"], 0.0);
        assert_eq!(results["tests"], json!([]));
        assert!(results["output"].as_str().unwrap().contains("no makefile found"));
        assert_eq!(super::results(&samples::empty())["score"].to_string(), "0.0");
    }

    #[test]
    fn nothing_that_a_student_wrote_is_markup() {
        let results = results(&samples::hostile());
        let output = results["tests"][0]["output"].as_str().unwrap();
        // What stands outside of the fences.
        let mut fence: Option<&str> = None;
        for line in output.lines() {
            match fence {
                Some(open) if line == open => fence = None,
                Some(_) => {}
                None if line.starts_with("```") => fence = Some(line.trim_end_matches("text")),
                None => {
                    assert!(!line.contains('<'), "{line}");
                    assert!(!line.contains("[no link]("), "{line}");
                }
            }
        }
        assert_eq!(fence, None);
        assert!(output.contains("`````text"), "longer than the four in the text: {output}");
    }
}
