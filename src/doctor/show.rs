//! What is found, as a table for people and as JSON for programs: pure.

use std::fmt::Write;

use serde_json::json;

use crate::doctor::model::{Answer, Finding, State, Summary};
use crate::version::VERSION as VERSION_OF_VPNLAB;

/// The version of the JSON: it rises when a field goes or changes its meaning; fields may be added.
const VERSION: u32 = 1;

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// The document that docs/doctor.md describes, with a line break at its end.
pub fn json(findings: &[Finding], summaries: &[Summary], passed: bool) -> String {
    let document = json!({
        "version": VERSION,
        "vpnlab": VERSION_OF_VPNLAB,
        "uid": nix::unistd::getuid().as_raw(),
        "passed": passed,
        "findings": findings,
        "summary": summaries,
    });
    format!("{document:#}\n")
}

/// A line per finding, with what it is for, and how to get it beneath; then what follows.
pub fn table(groups: &[(&str, Vec<Finding>)], summaries: &[Summary], colour: bool) -> String {
    let mut text = String::new();
    for (title, findings) in groups {
        let _ = writeln!(text, "{title}");
        for finding in findings {
            let (word, paint) = state(finding.state);
            let purposes: Vec<&str> =
                finding.needed_for.iter().chain(finding.helps).map(|purpose| purpose.word()).collect();
            let state = painted(&format!("{word:<9}"), paint, colour);
            let _ = writeln!(text, "  {state} {:<22} {:<18} {}", finding.title, purposes.join(", "), finding.seen);
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "  {:<9} to get it: {remedy}", "");
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "What this machine can do");
    for summary in summaries {
        let (word, paint) = answer(summary.answer);
        let because = summary.because.join(", ");
        let line = match summary.answer {
            Answer::Yes => String::new(),
            Answer::Limited => format!("limited by: {because}"),
            Answer::No => format!("in the way: {because}"),
        };
        let row = format!("  {:<22} {} {line}", summary.title, painted(&format!("{word:<9}"), paint, colour));
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

fn state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Ok => ("ok", GREEN),
        State::Limited => ("limited", YELLOW),
        State::Untried => ("not tried", YELLOW),
        State::Missing => ("missing", RED),
    }
}

fn answer(answer: Answer) -> (&'static str, &'static str) {
    match answer {
        Answer::Yes => ("yes", GREEN),
        Answer::Limited => ("limited", YELLOW),
        Answer::No => ("no", RED),
    }
}

fn painted(text: &str, paint: &str, colour: bool) -> String {
    if colour { format!("\x1b[{paint}m{text}\x1b[0m") } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::model::Purpose;

    fn found() -> Vec<Finding> {
        vec![
            Finding::of("veth", "veth pairs").needed_for(&[Purpose::Lab, Purpose::Grading]).ok("one was made"),
            Finding::of("tmux", "tmux").needed_for(&[Purpose::Tmux]).missing("not there", "sudo apt-get install tmux"),
        ]
    }

    #[test]
    fn a_line_tells_state_purpose_and_what_was_seen_and_the_next_how_to_get_it() {
        let summaries = Summary::all(&found(), false);
        let text = table(&[("Things", found())], &summaries, false);
        let expected = "Things
  ok        veth pairs             lab, grade         one was made
  missing   tmux                   lab tmux           not there
            to get it: sudo apt-get install tmux

What this machine can do
  lab without root       yes
  steps with sudo        yes
  grading                yes
  fast path              yes
  handout's commands     yes
  lab tmux               no        in the way: tmux
";
        assert_eq!(text, expected);
        let coloured = table(&[("Things", found())], &summaries, true);
        assert!(coloured.contains("  \x1b[31mmissing  \x1b[0m tmux"), "{coloured}");
    }

    #[test]
    fn json_has_every_field_of_a_finding() {
        let document = json(&found(), &Summary::all(&found(), true), true);
        let value: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(
            value["findings"][1],
            json!({"id": "tmux", "title": "tmux", "state": "missing", "seen": "not there", "needed_for": ["tmux"],
                "helps": [], "remedy": "sudo apt-get install tmux"})
        );
        assert_eq!(
            value["summary"][5],
            json!({"purpose": "tmux", "title": "lab tmux", "answer": "no", "counts": false, "because": ["tmux"]})
        );
    }
}
