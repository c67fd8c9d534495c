//! JUnit's XML, for CI servers, as Jenkins' junit-10.xsd has it: a `testsuite` for each step, a `testcase` for each check.

use super::{account, one_line, points, reason_of, shown};
use crate::grade::model::{Check, Grade, Status, StepGrade};

/// The document. The grader's errors are `error`, what was not run is `skipped`. A grade that has an error has a suite
/// of its own, with that error.
pub fn document(grades: &[Grade]) -> String {
    let all = |status| grades.iter().map(|grade| grade.count(status)).sum::<usize>();
    let tests: usize = grades.iter().map(|grade| grade.checks().count()).sum();
    let ungraded = grades.iter().filter(|grade| grade.error.is_some()).count();
    let seconds: f64 = grades.iter().map(|grade| grade.seconds).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml += &format!(
        "<testsuites name=\"vpnlab grade\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">\n",
        tests + ungraded,
        all(Status::Fail),
        all(Status::Error) + ungraded,
        seconds + 0.0,
    );
    for grade in grades {
        if let Some(error) = &grade.error {
            ungraded_suite(&mut xml, grade, error);
        }
        for step in &grade.steps {
            suite(&mut xml, grade, step);
        }
    }
    xml + "</testsuites>\n"
}

fn ungraded_suite(xml: &mut String, grade: &Grade, error: &str) {
    let (name, seconds) = (attribute(&grade.submission), grade.seconds);
    open_suite(xml, &grade.submission, "the submission", [1, 0, 1, 0], seconds);
    *xml += &format!("    <testcase classname=\"{name}\" name=\"can be graded\" time=\"{seconds:.3}\">\n");
    *xml += &format!("      <error message=\"{}\">{}</error>\n", attribute(error), text(error));
    xml.push_str("    </testcase>\n  </testsuite>\n");
}

fn suite(xml: &mut String, grade: &Grade, step: &StepGrade) {
    let count = |status| step.checks.iter().filter(|check| check.status == status).count();
    let counts = [step.checks.len(), count(Status::Fail), count(Status::Error), count(Status::NotRun)];
    let name = format!("step {}: {}", step.step, step.title);
    let seconds: f64 = step.checks.iter().map(|check| check.seconds).sum();
    open_suite(xml, &grade.submission, &name, counts, seconds + 0.0);
    for check in &step.checks {
        let class = attribute(&format!("{}.step{}", grade.submission, step.step));
        case(xml, &class, check);
    }
    xml.push_str("  </testsuite>\n");
}

fn open_suite(xml: &mut String, submission: &str, name: &str, counts: [usize; 4], seconds: f64) {
    let [tests, failures, errors, skipped] = counts;
    let (name, package) = (attribute(name), attribute(submission));
    *xml += &format!(
        "  <testsuite name=\"{name}\" package=\"{package}\" tests=\"{tests}\" failures=\"{failures}\" \
             errors=\"{errors}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n"
    );
}

fn case(xml: &mut String, class: &str, check: &Check) {
    let name = attribute(&format!("{}: {}", check.id, check.title));
    let seconds = check.seconds;
    *xml += &format!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\"");
    if check.status == Status::Pass && check.transcripts.is_empty() {
        xml.push_str("/>\n");
        return;
    }
    xml.push_str(">\n");
    let told = text(&told(check));
    match check.status {
        Status::Pass => {}
        Status::Fail => {
            let message = attribute(&message(check));
            *xml += &format!("      <failure message=\"{message}\" type=\"failed\">{told}</failure>\n");
        }
        Status::Error => {
            let message = attribute(&reason_of(check));
            *xml += &format!("      <error message=\"{message}\" type=\"grader\">{told}</error>\n");
        }
        Status::NotRun => *xml += &format!("      <skipped message=\"{}\"/>\n", attribute(&reason_of(check))),
    }
    let mut printed = String::new();
    for it in &check.transcripts {
        let cut = if it.truncated { ", cut" } else { "" };
        printed += &format!("{}$ {} ({}{cut})\n{}\n", it.host, it.command, it.end, it.output);
    }
    if !printed.is_empty() {
        *xml += &format!("      <system-out>{}</system-out>\n", text(&printed));
    }
    xml.push_str("    </testcase>\n");
}

/// A failure in a line: many CI servers show nothing else.
fn message(check: &Check) -> String {
    match (&check.cause, &check.expected, &check.observed) {
        (Some(cause), ..) => format!("{}: {}", cause.host, cause.title),
        (None, Some(expected), Some(observed)) => format!("expected {expected}; observed {observed}"),
        (None, _, Some(observed)) => observed.clone(),
        _ => check.because.clone().unwrap_or_else(|| check.title.clone()),
    }
}

fn told(check: &Check) -> String {
    let mut told = format!("{} of {} points\n", points(check.points), points(check.max_points));
    for (heading, texts) in account(check) {
        for text in texts {
            told += &format!("{heading}: {text}\n");
        }
    }
    told
}

/// A text between tags: no markup, and no character that XML 1.0 forbids (`shown` leaves none).
fn text(text: &str) -> String {
    let text = shown(text);
    // The last because of "]]>", which must not stand in a text.
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text within double quotes. Line breaks would come out of an attribute as spaces anyway.
fn attribute(text: &str) -> String {
    self::text(&one_line(text)).replace('"', "&quot;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;

    #[test]
    fn each_status_has_its_element() {
        let xml = document(&[samples::broken()]);
        let start = "<testsuites name=\"vpnlab grade\" tests=\"11\" failures=\"3\" errors=\"1\" time=";
        assert!(xml.contains(start), "{xml}");
        assert!(xml.contains("<testsuite name=\"step 1: the TUN device\" package=\"group-7-late\" tests=\"3\""));
        assert!(
            xml.contains("<testcase classname=\"group-7-late.step3\" name=\"step3.forwards: The server&apos;s host")
        );
        assert!(xml.contains("<failure message=\"server: the host does not forward packets\""));
        assert!(xml.contains("<skipped message=\"step4.ping failed, and nothing"));
        assert!(xml.contains("<error message=\"cannot start ping on userv"));
        assert_eq!(xml.matches("<failure ").count(), 3);
    }

    #[test]
    fn a_grade_that_could_not_be_made_is_an_error() {
        let xml = document(&[samples::unbuildable()]);
        assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"1\""), "{xml}");
        assert!(xml.contains("<error message=\"cannot build the submission"), "{xml}");
    }

    #[test]
    fn any_text_is_well_formed() {
        for grades in [samples::all(), vec![], vec![samples::hostile()], vec![samples::empty()]] {
            well_formed(&document(&grades));
        }
    }

    #[test]
    fn the_judge_of_well_formed_is_one() {
        for wrong in ["<a>", "<a b=\"<\"/>", "<a></b>", "<a>&</a>", "<a>]]></a>", "<a>\x1b</a>", "<a b=c/>"] {
            assert!(std::panic::catch_unwind(|| well_formed(wrong)).is_err(), "{wrong}");
        }
        well_formed("<?xml version=\"1.0\"?>\n<a b=\"&lt;\"><c/>&amp;</a>\n");
    }

    /// Panics where the XML of this file's kind is not well-formed: tags that close each other, quoted attributes,
    /// no stray character.
    fn well_formed(xml: &str) {
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
        assert!(xml.chars().all(allowed), "a character that XML forbids");
        let mut open: Vec<&str> = Vec::new();
        let mut pieces = xml.split('<');
        assert_eq!(pieces.next().map(str::trim), Some(""));
        for piece in pieces {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "a bare >: {text}");
            entities(text);
            if tag.starts_with('?') {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            let (body, closed) = tag.strip_suffix('/').map_or((tag, false), |body| (body, true));
            let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
            let quoted: Vec<&str> = attributes.split('"').collect();
            assert_eq!(quoted.len() % 2, 1, "quotes: {attributes}");
            for pair in quoted.chunks(2).filter(|pair| pair.len() == 2) {
                let name = pair[0].trim().strip_suffix('=').expect("name=");
                assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name}");
                entities(pair[1]);
            }
            assert_eq!(quoted.last().copied(), Some(""), "after the last attribute");
            if !closed {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?} stays open");
    }

    fn entities(text: &str) {
        for after in text.split('&').skip(1) {
            let (name, _) = after.split_once(';').expect("an entity ends");
            assert!(["amp", "lt", "gt", "quot", "apos"].contains(&name), "{name}");
        }
    }
}
