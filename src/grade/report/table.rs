//! Grades for people at a terminal: 80 columns, and colours only where they are asked for. CSV for spreadsheets.

use std::collections::BTreeMap;

use super::{account, one_line, points, points_of, shown, tally, wrap};
use crate::grade::model::{Check, Grade, Status};

/// The width of a line.
const WIDTH: usize = 80;

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// One submission: its steps with a line for each check, and below a failure all that is known about it.
pub fn single(grade: &Grade, colour: bool) -> String {
    let mut text = ends(&one_line(&grade.submission), &of(grade.score, grade.max_score)) + "\n";
    if let Some(error) = &grade.error {
        text += &paint(colour, RED, "ERROR");
        text += &hang("ERROR  ".len(), "ERROR  ".len() - 2, error);
    }
    // Where nothing was graded, the reason is said once.
    for step in grade.steps.iter().filter(|_| grade.error.is_none()) {
        let (reached, possible) = points_of(step);
        let title = format!("step {}: {}", step.step, one_line(&step.title));
        text += &format!("\n{}\n", ends(&title, &of(reached, possible)));
        for check in &step.checks {
            text += &line(check, colour);
            if check.status != Status::Pass {
                for (heading, texts) in account(check) {
                    text += &section(heading, &texts);
                }
            }
        }
    }
    if !grade.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &grade.warnings {
        text += &paint(colour, YELLOW, "warning");
        text += &hang("warning  ".len(), 2, &format!("{}: {}", one_line(&warning.id), warning.text));
    }
    let verdict = verdict(grade, colour);
    let score = format!("{} points", of(grade.score, grade.max_score));
    let (tally, seconds) = (tally(grade), grade.seconds);
    text + &format!("\n{verdict}: {score} in {seconds:.1} seconds\n{tally}\n")
}

/// Several submissions side by side: a row for each, a column for each step, and the total.
pub fn several(grades: &[Grade], colour: bool) -> String {
    let steps: BTreeMap<u8, ()> = grades.iter().flat_map(|grade| &grade.steps).map(|step| (step.step, ())).collect();
    let mut rows = vec![vec!["submission".to_string()]];
    rows[0].extend(steps.keys().map(|step| format!("step {step}")));
    rows[0].push("total".into());
    for grade in grades {
        let mut row = vec![one_line(&grade.submission)];
        for number in steps.keys() {
            let step = grade.steps.iter().find(|step| step.step == *number);
            row.push(step.map_or("-".into(), |step| {
                let (reached, possible) = points_of(step);
                of(reached, possible)
            }));
        }
        row.push(of(grade.score, grade.max_score));
        rows.push(row);
    }
    let columns = rows[0].len();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    // What the numbers and the last word leave.
    let taken: usize = widths[1..].iter().map(|width| width + 2).sum::<usize>() + "  FAILED".len();
    let name_width = widths[0].min(WIDTH.saturating_sub(taken).max(12));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = format!("{:<name_width$}", cut(&row[0], name_width));
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        match index.checked_sub(1).map(|index| &grades[index]) {
            Some(grade) => line += &format!("  {}", verdict(grade, colour)),
            None => line = line.trim_end().into(),
        }
        text += &format!("{line}\n");
    }
    for grade in grades {
        if let Some(error) = &grade.error {
            let said = wrap(&format!("{}: {}", one_line(&grade.submission), shown(error)), WIDTH - 2);
            text += &format!("\n{}\n", said.join("\n  "));
        }
    }
    text
}

/// CSV, as RFC 4180 has it: a row for each submission; its name, the points of each check, the total, and the points
/// that can be reached. A check that a submission does not have is left empty.
pub fn csv(grades: &[Grade]) -> String {
    let mut ids: Vec<(u8, &str)> = Vec::new();
    for step in grades.iter().flat_map(|grade| &grade.steps) {
        for check in &step.checks {
            if !ids.iter().any(|(_, id)| *id == check.id) {
                ids.push((step.step, &check.id));
            }
        }
    }
    // By step, and within a step in the order of the checks: the sort is stable.
    ids.sort_by_key(|(step, _)| *step);
    let mut rows = vec![vec!["submission".to_string()]];
    rows[0].extend(ids.iter().map(|(_, id)| id.to_string()));
    rows[0].extend(["total".into(), "max".into()]);
    for grade in grades {
        let mut row = vec![grade.submission.clone()];
        for (_, id) in &ids {
            let check = grade.checks().find(|check| check.id == *id);
            row.push(check.map_or(String::new(), |check| points(check.points)));
        }
        row.extend([points(grade.score), points(grade.max_score)]);
        rows.push(row);
    }
    let row = |row: Vec<String>| row.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",") + "\r\n";
    rows.into_iter().map(row).collect()
}

/// A field of CSV. A spreadsheet would compute what begins like a formula; a folder may be called so, and an
/// apostrophe keeps it a text.
fn quoted(field: &str) -> String {
    let field = shown(field);
    let formula = field.starts_with(['=', '+', '-', '@', '\t']);
    let field = if formula { format!("'{field}") } else { field };
    if field.contains(['"', ',', '\n', '\r', '\t', ' ']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

/// A check in a line, or more where its title is long.
fn line(check: &Check, colour: bool) -> String {
    let (word, code) = match check.status {
        Status::Pass => ("ok", GREEN),
        Status::Fail => ("FAILED", RED),
        Status::NotRun => ("not run", YELLOW),
        Status::Error => ("ERROR", RED),
    };
    let points = of(check.points, check.max_points);
    let points = if check.max_points == 0.0 { String::new() } else { points };
    let room = WIDTH.saturating_sub(11 + points.len());
    let titles = wrap(&one_line(&check.title), room.saturating_sub(2).max(20));
    let mut text = String::new();
    for (index, title) in titles.iter().enumerate() {
        let (word, points) = if index == 0 { (word, points.as_str()) } else { ("", "") };
        let room = if index == 0 { room } else { 0 };
        let padded = paint(colour, code, word) + &" ".repeat(9 - word.len());
        text += format!("  {padded}{title:<room$}{points}").trim_end();
        text.push('\n');
    }
    text
}

/// A heading of a check, and its texts beside it.
fn section(heading: &str, texts: &[String]) -> String {
    let indent = 11 + "expected  ".len();
    let mut text = String::new();
    for (index, said) in texts.iter().enumerate() {
        let heading = if index == 0 { heading } else { "" };
        // What goes on below a fact's dash is indented as the fact is.
        let dash = if said.starts_with("- ") { 2 } else { 0 };
        let mut lines = wrap(&shown(said), WIDTH - indent - dash).into_iter();
        text += format!("{:11}{heading:<10}{}", "", lines.next().unwrap_or_default()).trim_end();
        text.push('\n');
        lines.for_each(|line| text += &(format!("{:1$}{line}", "", indent + dash).trim_end().to_string() + "\n"));
    }
    text
}

/// A text after a word of a known width, wrapped; its later lines are indented as far.
fn hang(indent: usize, gap: usize, said: &str) -> String {
    let gap = " ".repeat(gap.min(2));
    let lines = wrap(&shown(said), WIDTH - indent);
    gap + &lines.join(&format!("\n{}", " ".repeat(indent))) + "\n"
}

/// A line with something at either end.
fn ends(left: &str, right: &str) -> String {
    let room = WIDTH.saturating_sub(right.len() + 1);
    format!("{:<room$} {right}", cut(left, room))
}

/// At most so many characters, with dots for the rest.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}

fn of(reached: f64, possible: f64) -> String {
    format!("{}/{}", points(reached), points(possible))
}

fn verdict(grade: &Grade, colour: bool) -> String {
    match grade.passed && grade.error.is_none() {
        true => paint(colour, GREEN, "passed"),
        false if grade.error.is_some() => paint(colour, RED, "ERROR"),
        false => paint(colour, RED, "FAILED"),
    }
}

fn paint(colour: bool, code: u8, text: &str) -> String {
    if colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;

    #[test]
    fn a_failure_tells_all_that_is_known() {
        let text = single(&samples::broken(), false);
        let lines = "\
  FAILED   The server's host passes packets on to userv                    0.5/2
           done      tun_server.py was started on server, tun_client.py on useru
                     the route 10.1.1.0/24 dev tun0 was set on useru
                     ping userv, one packet of 84 bytes: userv's eth0 was
                     watched for 2 s
           expected  the echo request on userv's eth0, with ttl 63
           observed  nothing on userv's eth0 within 2 s
           cause     server: the host does not forward packets (no-forwarding,
                     of step 3)
                     - net.ipv4.ip_forward is 0 on server, and the packet is
                       not for server
                     - the packet was seen last as it came into server's
                       kernel at tun0
           hint      sysctl -w net.ipv4.ip_forward=1 on that host
";
        assert!(text.contains(lines), "{text}");
        assert!(text.contains("\n  ok       A TUN device is created"), "{text}");
        assert!(text.contains("\n  not run  Packets of 1500 bytes"), "{text}");
        assert!(text.contains("\n  ERROR    A thousand packets"), "{text}");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        for grade in samples::all() {
            for line in single(&grade, false).lines().chain(several(&samples::all(), false).lines()) {
                assert!(line.chars().count() <= WIDTH, "{} characters: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn absurd_points_are_printed_too() {
        let mut grade = samples::broken();
        grade.steps[0].checks[0].max_points = 1e300;
        grade.max_score = f64::NAN;
        assert!(single(&grade, false).contains("/1000000"));
        several(&[grade], false);
    }

    #[test]
    fn colours_are_the_only_escapes_and_only_where_asked_for() {
        for grade in samples::all() {
            let plain = single(&grade, false);
            assert!(plain.chars().all(|c| c == '\n' || !c.is_control()), "{plain:?}");
            let mut coloured = single(&grade, true) + &several(std::slice::from_ref(&grade), true);
            for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
                coloured = coloured.replace(code, "");
            }
            assert_eq!(coloured, plain + &several(&[grade], false));
        }
    }

    #[test]
    fn several_submissions_stand_side_by_side() {
        let text = several(&[samples::healthy(), samples::broken(), samples::unbuildable()], false);
        let expected = "\
submission    step 1  step 2  step 3   step 4    total
asha-verma       5/5     4/4     4/4      8/8    21/21  passed
group-7-late     5/5     2/4   2.5/4      0/8   9.5/21  FAILED
no-makefile        -       -       -        -      0/0  ERROR

no-makefile: cannot build the submission: make: *** No targets specified and no
  makefile found.  Stop.; see lab/grade.toml, key build
";
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(plain(&text), plain(expected), "{text}");
        assert!(several(&[], false).starts_with("submission"));
    }

    #[test]
    fn csv_has_a_column_for_each_check_and_quotes_what_it_must() {
        let text = csv(&[samples::healthy(), samples::broken(), samples::unbuildable()]);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("submission,step1.device,step1.prints,step1.replies,step2.sends"), "{text}");
        assert!(lines[0].ends_with("step4.junk,total,max"), "{text}");
        assert_eq!(lines[2], "group-7-late,1,2,2,2,0,2,0.5,0,0,0,0,9.5,21");
        assert_eq!(lines[3], "no-makefile,,,,,,,,,,,,0,0");
        assert_eq!(quoted("a \"b\",\nc"), "\"a \"\"b\"\",\nc\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(csv(&[]), "submission,total,max\r\n");
    }
}
