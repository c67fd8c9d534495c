//! A grade as text: for programs, for Gradescope, for CI servers, for a terminal, for a browser.
//!
//! Pure: grades in, text out. What students' programs print, and what their folders are called, is hostile until it has
//! been escaped; each format does that itself, at the one place where it writes a text.

use crate::grade::model::{Check, Grade, Status, StepGrade};

mod compare;
pub mod gradescope;
pub mod html;
mod index;
pub mod json;
pub mod junit;
mod ladder;
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

/// A text whose lines stay, and that can do nothing but be read: control characters are shown by their pictures, and
/// what would turn the direction of writing or has no place in XML by a replacement character.
pub fn shown(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars().map(harmless).collect()
}

/// As [`shown`], in one line.
fn one_line(text: &str) -> String {
    shown(text.trim()).replace(['\n', '\t'], " ")
}

fn harmless(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        // Their pictures: ESC is shown as one small "ESC".
        '\0'..='\x1f' => char::from_u32(0x2400 + character as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

/// Breaks a text into lines of at most so many characters: between words where that can be, and within one that is
/// longer than a line. Its own line breaks stay.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.trim_end().split('\n') {
        let mut line = String::new();
        let mut length = 0;
        for (place, word) in paragraph.split(' ').enumerate() {
            let word: Vec<char> = word.chars().collect();
            let is_first = place == 0;
            if !is_first && length + 1 + word.len() <= width {
                line.push(' ');
                line.extend(&word);
                length += 1 + word.len();
                continue;
            }
            if !is_first {
                lines.push(std::mem::take(&mut line));
            }
            let mut rest = &word[..];
            while rest.len() > width {
                lines.push(rest[..width].iter().collect());
                rest = &rest[width..];
            }
            line.extend(rest);
            length = rest.len();
        }
        lines.push(line);
    }
    lines
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

    #[test]
    fn a_shown_text_has_no_control_characters() {
        assert_eq!(shown("a\x1b[31m\0\r\nb\tc\x7f\r"), "a\u{241b}[31m\u{2400}\nb\tc\u{2421}\u{240d}");
        assert_eq!(shown("\u{202e}x\u{2066}\u{fffe}\u{85}"), "\u{fffd}x\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(one_line(" a\nb\n"), "a b");
    }

    #[test]
    fn lines_break_between_words_and_within_long_ones() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a-word-that-is-longer", 8), ["a-word-t", "hat-is-l", "onger"]);
        assert_eq!(wrap("a b-word-that\nc", 8), ["a", "b-word-t", "hat", "c"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("  indented", 20), ["  indented"]);
    }
}
