//! A page for a browser: what is wrong, and why, without reading logs. One file, without scripts, fonts or images from
//! elsewhere; whatever a student wrote is text in it, and nothing else.

use super::compare::compared;
use super::{index, one_line, points, points_of, reason_of, tally};
use crate::grade::model::{CauseSeen, Check, Grade, Status, StepGrade, Transcript, VERSION};
use crate::page::{document, escaped, ladder};

/// The page about these submissions; more than one are led by a table of them.
pub fn page(grades: &[Grade]) -> String {
    let (title, level) = match grades {
        [grade] => (format!("{}: {}", one_line(&grade.submission), score(grade)), 1),
        _ => (format!("{} submissions graded", grades.len()), 2),
    };
    let mut html = String::new();
    if grades.len() != 1 {
        html += &index::table(grades);
    }
    for (place, grade) in grades.iter().enumerate() {
        html += &Article { grade, place, level }.html();
    }
    document(&title, &html)
}

/// A submission's part of the page.
struct Article<'a> {
    grade: &'a Grade,
    /// Its place among the submissions, for anchors.
    place: usize,
    /// The level of its heading.
    level: u8,
}

/// A check, where it stands.
struct Entry<'a> {
    step: &'a StepGrade,
    check: &'a Check,
    anchor: String,
    /// "2.1".
    number: String,
}

impl Article<'_> {
    fn html(&self) -> String {
        let Article { grade, place, level } = self;
        let state = match (&grade.error, grade.passed) {
            (Some(_), _) => "error",
            (None, true) => "pass",
            (None, false) => "fail",
        };
        let mut html = format!(
            "<article class='grade' id='g{place}' aria-labelledby='g{place}-name'>\n<header>\n<div class='head'>\n\
             <div><h{level} id='g{place}-name'>{}</h{level}>\n<p class='soft'>{}; graded in {:.1} s</p></div>\n\
             <p class='score {state}'><b>{}</b> of {} points</p>\n</div>\n",
            named(grade),
            tally(grade),
            grade.seconds,
            points(grade.score),
            points(grade.max_score),
        );
        html += &self.strip();
        html += &self.brief();
        html += "</header>\n";
        if let Some(error) = &grade.error {
            let text =
                format!("<div class='check error'><div class='reason'><pre>{}</pre></div></div>\n", escaped(error));
            html += &self.part("Nothing could be graded", &text);
        }
        html += &self.part("What failed", &self.cards(Status::Fail));
        html += &self.part("Where the grader itself failed", &self.cards(Status::Error));
        let warned = |warning: &crate::grade::model::Warning| {
            format!("<li>{} <code>{}</code></li>\n", escaped(&warning.text), escaped(&one_line(&warning.id)))
        };
        html += &self.part("Warnings, which cost no points", &list("plain warned", grade.warnings.iter().map(warned)));
        html += &self.part("Not run", &self.not_run());
        html += &self.part("What passed", &self.passed());
        let line = |line: &String| format!("<li>{}</li>\n", escaped(line));
        html += &self.part("How the submission was kept in", &list("plain soft", grade.sandbox.iter().map(line)));
        if *level > 1 {
            html += "<p class='foot soft up'><a href='#top'>Back to all submissions</a></p>\n";
        }
        html += &format!("<p class='foot soft'>vpnlab grade, report version {VERSION}</p>\n");
        html + "</article>\n"
    }

    /// A section with a heading, where it has a content.
    fn part(&self, title: &str, content: &str) -> String {
        let level = self.level + 1;
        match content.is_empty() {
            true => String::new(),
            false => format!("<section class='part'>\n<h{level}>{title}</h{level}>\n{content}</section>\n"),
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let place = self.place;
        self.grade.steps.iter().enumerate().flat_map(move |(row, step)| {
            step.checks.iter().enumerate().map(move |(column, check)| {
                let anchor = format!("g{place}-c{row}-{column}");
                Entry { step, check, anchor, number: format!("{}.{}", step.step, column + 1) }
            })
        })
    }

    fn with(&self, status: Status) -> impl Iterator<Item = Entry<'_>> {
        self.entries().filter(move |entry| entry.check.status == status)
    }

    /// The steps side by side, with a mark for each check that leads to it.
    fn strip(&self) -> String {
        let tile = |step: &StepGrade| {
            let (reached, possible) = points_of(step);
            let dots =
                self.entries().filter(|entry| std::ptr::eq(entry.step, step)).map(|Entry { check, anchor, .. }| {
                    let (class, symbol, word) = (class(check.status), symbol(check.status), word(check.status));
                    let title = escaped(&one_line(&check.title));
                    format!(
                        "<li><a class='dot {class}' href='#{anchor}' title='{title}: {word}'>\
                     <span aria-hidden='true'>{symbol}</span><span class='unseen'>{title}: {word}</span></a></li>"
                    )
                });
            format!(
                "<li class='{}'><p><b>Step {}</b><span class='number'>{}/{}</span></p>\
                 <p class='title'>{}</p>{}</li>\n",
                class(status_of(step)),
                step.step,
                points(reached),
                points(possible),
                escaped(&one_line(&step.title)),
                list("dots", dots)
            )
        };
        if self.grade.steps.is_empty() {
            return String::new();
        }
        format!("<ol class='steps'>\n{}</ol>\n", self.grade.steps.iter().map(tile).collect::<String>())
    }

    /// Each failure in a line: what can be seen in ten seconds.
    fn brief(&self) -> String {
        let line = |entry: Entry<'_>| {
            let Entry { check, anchor, number, .. } = entry;
            let why = match &check.cause {
                Some(cause) => format!("{}: {}", cause.host, cause.title),
                None => {
                    check.observed.as_deref().map_or(String::new(), |observed| format!("observed {}", short(observed)))
                }
            };
            let why = if why.is_empty() {
                why
            } else {
                format!(" <span class='why'>\u{2013} {}</span>", escaped(&one_line(&why)))
            };
            format!("<li><a href='#{anchor}'>{number} {}</a>{why}</li>\n", escaped(&one_line(&check.title)))
        };
        list("brief", self.with(Status::Fail).map(line))
    }

    fn cards(&self, status: Status) -> String {
        self.with(status).map(|entry| self.card(&entry)).collect()
    }

    /// All that is known about a check that did not pass.
    fn card(&self, entry: &Entry<'_>) -> String {
        let Entry { check, anchor, number, .. } = entry;
        let (level, label) = (self.level + 2, self.level + 3);
        let (class, word) = (class(check.status), word(check.status));
        let mut html = format!(
            "<section class='check {class}' id='{anchor}'>\n<header><span class='badge {class}'>{word}</span>\
             <h{level}>{number} {}</h{level}>\
             <span class='soft'><code>{}</code> &nbsp;{} &nbsp;{:.1} s</span></header>\n",
            escaped(&one_line(&check.title)),
            escaped(&one_line(&check.id)),
            points_said(check),
            check.seconds
        );
        if check.status == Status::Error {
            html += &format!(
                "<div class='reason'><h{label} class='label'>The grader\u{2019}s own error, not the student\u{2019}s\
                 </h{label}><pre>{}</pre></div>\n",
                escaped(&reason_of(check))
            );
        }
        html += &done(check, label);
        html += &pair(check, label);
        html += &check.cause.as_ref().map_or(String::new(), |cause| cause_html(cause, label));
        if let (Status::Fail, Some(because)) = (check.status, &check.because) {
            html += &format!("<p>{}</p>\n", escaped(because));
        }
        if let Some(hint) = &check.hint {
            html += &format!("<p class='hint'><b>Hint:</b> {}</p>\n", escaped(hint));
        }
        html += &check.ladders.as_ref().map_or(String::new(), ladder::figures);
        html += &transcripts(&check.transcripts, label);
        html + "</section>\n"
    }

    fn not_run(&self) -> String {
        let row = |Entry { check, anchor, number, .. }: Entry<'_>| {
            format!(
                "<tr id='{anchor}'><td class='mark not-run'>{number}</td><th scope='row'>{}</th><td>{}</td>\
                 <td class='number'>{}</td></tr>\n",
                escaped(&one_line(&check.title)),
                escaped(&reason_of(check)),
                points_said(check)
            )
        };
        let head = "<th scope='col' class='mark'><span class='unseen'>Number</span></th><th scope='col'>Check</th>\
                    <th scope='col'>Because</th><th scope='col' class='number'>Points</th>";
        table(head, self.with(Status::NotRun).map(row))
    }

    fn passed(&self) -> String {
        let label = self.level + 2;
        let row = |Entry { check, anchor, number, .. }: Entry<'_>| {
            let title = escaped(&one_line(&check.title));
            let more = done(check, label) + &transcripts(&check.transcripts, label);
            let title = match more.is_empty() {
                true => title,
                false => format!("<details><summary>{title}</summary>{more}</details>"),
            };
            format!(
                "<tr id='{anchor}'><td class='mark pass'>{number}</td><th scope='row'>{title}</th>\
                 <td class='number'>{}</td><td class='number time'>{:.1} s</td></tr>\n",
                points_said(check),
                check.seconds
            )
        };
        let head = "<th scope='col' class='mark'><span class='unseen'>Number</span></th><th scope='col'>Check</th>\
                    <th scope='col' class='number'>Points</th><th scope='col' class='number time'>Time</th>";
        table(head, self.with(Status::Pass).map(row))
    }
}

/// What was done; the last of it is where it failed.
fn done(check: &Check, label: u8) -> String {
    let failed = check.status == Status::Fail;
    let last = check.done.len().saturating_sub(1);
    let step = |(place, step): (usize, &String)| {
        let class = if failed && place == last { " class='last'" } else { "" };
        format!("<li{class}>{}</li>\n", escaped(&one_line(step)))
    };
    if check.done.is_empty() {
        return String::new();
    }
    let steps: String = check.done.iter().enumerate().map(step).collect();
    format!("<div class='done'><h{label} class='label'>What was done</h{label}><ol>\n{steps}</ol></div>\n")
}

/// Expected beside observed, with the words marked that differ.
fn pair(check: &Check, label: u8) -> String {
    let (expected, observed) = match (&check.expected, &check.observed) {
        (None, None) => return String::new(),
        (Some(expected), Some(observed)) => compared(expected, observed),
        (expected, observed) => {
            let one = |text: &Option<String>| text.as_deref().map_or("\u{2013}".into(), escaped);
            (one(expected), one(observed))
        }
    };
    format!(
        "<div class='pair'>\n\
         <div class='expected'><h{label} class='label'>Expected</h{label}><pre>{expected}</pre></div>\n\
         <div class='observed'><h{label} class='label'>Observed</h{label}><pre>{observed}</pre></div></div>\n"
    )
}

fn cause_html(cause: &CauseSeen, label: u8) -> String {
    let facts = cause.facts.iter().map(|fact| format!("<li>{}</li>\n", escaped(fact)));
    let step = match cause.step {
        0 => "it is about the network itself".into(),
        step => format!("step {step} of the handout has it right"),
    };
    format!(
        "<div class='cause'><h{label} class='label'>Cause</h{label}><p class='lead'>{}: {}</p>\n{}\
         <p class='soft'><code>{}</code>; {step}</p></div>\n",
        escaped(&one_line(&cause.host)),
        escaped(&one_line(&cause.title)),
        list("facts", facts),
        escaped(&one_line(&cause.id))
    )
}

fn transcripts(transcripts: &[Transcript], label: u8) -> String {
    let one = |it: &Transcript| {
        let cut = if it.truncated { "<p class='soft'>There was more, which is left out.</p>" } else { "" };
        let output = match it.output.is_empty() {
            true => "<p class='soft'>It printed nothing.</p>".into(),
            false => format!("<pre>{}</pre>", escaped(&it.output)),
        };
        format!(
            "<details><summary>{}: <code>{}</code> <span class='soft'>{}</span></summary>{output}{cut}</details>\n",
            escaped(&one_line(&it.host)),
            escaped(&one_line(&it.command)),
            escaped(&one_line(&it.end))
        )
    };
    if transcripts.is_empty() {
        return String::new();
    }
    let all: String = transcripts.iter().map(one).collect();
    format!("<div class='transcripts'><h{label} class='label'>What the programs printed</h{label}>\n{all}</div>\n")
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.collect();
    match rows.is_empty() {
        true => rows,
        false => format!(
            "<div class='quiet'><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
        ),
    }
}

fn list(class: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.collect();
    if items.is_empty() { items } else { format!("<ul class='{class}'>\n{items}</ul>\n") }
}

/// What became of a step: the worst of its checks.
pub(super) fn status_of(step: &StepGrade) -> Status {
    let has = |status| step.checks.iter().any(|check| check.status == status);
    [Status::Fail, Status::Error, Status::NotRun].into_iter().find(|status| has(*status)).unwrap_or(
        match step.checks.len() {
            0 => Status::NotRun,
            _ => Status::Pass,
        },
    )
}

pub(super) fn class(status: Status) -> &'static str {
    match status {
        Status::Pass => "pass",
        Status::Fail => "fail",
        Status::NotRun => "not-run",
        Status::Error => "error",
    }
}

pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "passed",
        Status::Fail => "failed",
        Status::NotRun => "not run",
        Status::Error => "grader\u{2019}s error",
    }
}

/// For those who do not tell the colours apart.
pub(super) fn symbol(status: Status) -> &'static str {
    match status {
        Status::Pass => "\u{2713}",
        Status::Fail => "\u{2717}",
        Status::NotRun => "\u{2013}",
        Status::Error => "!",
    }
}

/// A failure in a line.
pub(super) fn in_short(check: &Check) -> String {
    match &check.cause {
        Some(cause) => short(&format!("{}: {} ({})", check.title, cause.title, cause.host)),
        None => match check.observed.as_ref().or(check.because.as_ref()) {
            Some(observed) => short(&format!("{}: {observed}", check.title)),
            None => short(&check.title),
        },
    }
}

/// The start of a text, as far as it fits a line or two.
pub(super) fn short(text: &str) -> String {
    let text = one_line(text);
    match text.chars().count() > 120 {
        true => text.chars().take(119).chain(['\u{2026}']).collect(),
        false => text,
    }
}

/// What a submission is called.
pub(super) fn named(grade: &Grade) -> String {
    let name = escaped(&short(&grade.submission));
    if name.is_empty() { "(without a name)".into() } else { name }
}

pub(super) fn score(grade: &Grade) -> String {
    format!("{}/{}", points(grade.score), points(grade.max_score))
}

fn points_said(check: &Check) -> String {
    match check.max_points == 0.0 {
        true => "no points".into(),
        false => format!("{}/{}", points(check.points), points(check.max_points)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;

    #[test]
    fn a_page_has_what_a_browser_and_a_reader_need() {
        let html = page(&[samples::broken()]);
        assert!(html.starts_with("<!doctype html>\n<html lang='en'>"));
        for text in [
            "default-src 'none'; style-src 'unsafe-inline'",
            "<meta name='viewport'",
            "<title>group-7-late: 9.5/21</title>",
            "the host does not forward packets",
            "What was done",
            "<svg class='ladder'",
            "it ends here",
            "step 3 of the handout has it right",
            "exit code 1",
            "Cannot allocate memory",
            "step4.ping failed, and nothing",
            "97 % of a processor",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert_eq!(html.matches("<h1").count(), 1);
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        for grade in samples::all() {
            let html = page(&[grade]);
            let tags = html.split('<').skip(1).map(|piece| piece.split('>').next().unwrap());
            for tag in tags {
                let name = tag.split([' ', '\n']).next().unwrap();
                assert!(!["script", "img", "link", "iframe", "object", "base", "form"].contains(&name), "<{tag}>");
                let outside: String = tag.split('\'').step_by(2).collect();
                assert!(!outside.contains("onmouseover") && !outside.contains("onfocus"), "<{tag}>");
                assert!(!tag.contains("href='") || tag.contains("href='#"), "<{tag}>");
            }
        }
    }

    #[test]
    fn tags_close_each_other_whatever_is_in_the_texts() {
        let pages = samples::all().into_iter().map(|grade| page(&[grade])).chain([page(&samples::all()), page(&[])]);
        for html in pages {
            let mut open = Vec::new();
            for piece in html.split('<').skip(1) {
                let (tag, text) = piece.split_once('>').expect("a tag ends");
                let name = tag.trim_end_matches('/').split([' ', '\n']).next().unwrap();
                match name.strip_prefix('/') {
                    _ if ["!doctype", "meta"].contains(&name) || tag.ends_with('/') => {}
                    Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                    None => open.push(name),
                }
                assert!(name == "style" || !text.contains('>'), "a bare >: {text}");
            }
            assert!(open.is_empty(), "{open:?} stays open");
        }
    }

    #[test]
    fn anchors_lead_somewhere_and_differ() {
        let html = page(&samples::all());
        let ids: Vec<&str> = html.split(" id='").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        for target in html.split("href='#").skip(1).map(|rest| rest.split('\'').next().unwrap()) {
            assert!(ids.contains(&target), "#{target}");
        }
    }

    #[test]
    fn several_submissions_are_led_by_a_table() {
        let html = page(&[samples::healthy(), samples::broken()]);
        assert!(html.contains("2 submissions, 1 passed"), "{html}");
        assert!(html.contains("<a href='#g1'>group-7-late</a>"));
        assert!(!page(&[samples::broken()]).contains("class='index'"));
    }

    #[test]
    fn an_escaped_text_is_no_markup_and_no_attribute() {
        assert_eq!(escaped("<a b=\"c\" d='e'>&amp;\x1b"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;\u{241b}");
    }
}
