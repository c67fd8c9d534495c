//! A report as a page for a browser: for a student to hand in or to take pictures from, and for whoever reads it.
//!
//! Pure. What programs print and what files are called is text in it, and nothing else.

use super::gather::prompt;
use super::model::{Cause, Lines, Network, Program, Promise, Report, Source, Stamp, Step, Trace, Typed, VERSION};
use crate::page::text::one_line;
use crate::page::{document, escaped, ladder};

/// The page.
pub fn page(report: &Report) -> String {
    let title = title(report);
    let mut html = format!("<article class='grade'>\n{}", header(report, &title));
    let of = |seen: Option<bool>| {
        let with =
            move |step: &Step| step.promises.iter().filter(move |it| it.seen == seen).cloned().collect::<Vec<_>>();
        let line = |(number, it): (u8, Promise)| {
            let because =
                it.because.map_or(String::new(), |it| format!(" <span class='why'>\u{2013} {}</span>", line(&it)));
            format!("<li><a href='#s{number}'>Step {number}: {}</a>{because}</li>\n", line(&it.text))
        };
        report
            .steps
            .iter()
            .flat_map(|step| with(step).into_iter().map(|it| (step.step, it)))
            .map(line)
            .collect::<String>()
    };
    html += &part("What was not seen", &list("brief", &of(Some(false))));
    html += &part("What is not shown, and why", &list("plain soft", &of(None)));
    html += &part("Programs", &programs(&report.programs));
    html += &report.steps.iter().map(step).collect::<String>();
    html += &part("Who made this, and with what", &stamp(&report.stamp));
    html += &format!(
        "<p class='foot soft'>vpnlab report, version {VERSION} of its form. <code>sha256sum -c SHA256SUMS</code> in this folder shows \
         whether its files are those that were written together; it does not show that nobody has edited them and the \
         list.</p>\n</article>\n"
    );
    document(&title, &html)
}

fn title(report: &Report) -> String {
    let numbers: Vec<String> = report.steps.iter().map(|step| step.step.to_string()).collect();
    match numbers.as_slice() {
        [one] => format!("Step {one}: {}", report.steps[0].title),
        several => format!("Steps {}", several.join(", ")),
    }
}

fn header(report: &Report, title: &str) -> String {
    let promises = || report.steps.iter().flat_map(|step| &step.promises);
    let seen = promises().filter(|it| it.seen == Some(true)).count();
    let all = promises().filter(|it| it.seen.is_some()).count();
    let stamp = &report.stamp;
    format!(
        "<header>\n<div class='head'>\n<div><h1>{}</h1>\n<p class='soft'>{} on {}, {}; lab {}, {}</p>\n<p class='soft'>{}</p></div>\n\
         <p class='score {}'><b>{seen}</b> of {all} seen</p>\n</div>\n</header>\n",
        line(title),
        line(&stamp.user),
        line(&stamp.machine),
        line(&stamp.made),
        line(&stamp.lab),
        line(&stamp.mode),
        line(&report.chosen),
        if report.passed { "pass" } else { "fail" },
    )
}

fn programs(programs: &[Program]) -> String {
    let row = |it: &Program| {
        let pid = it.pid.map_or(String::new(), |pid| format!("pid {pid}"));
        let holds = it.holds.join(", ");
        let from = match (it.started_by_report, &it.end) {
            (true, Some(end)) => format!("started by the report; {end}"),
            (true, None) => "started by the report".into(),
            (false, _) => "ran in another terminal".into(),
        };
        let facts: Vec<String> = [pid, holds, from].into_iter().filter(|it| !it.is_empty()).collect();
        let output =
            it.output_file.as_ref().map_or(String::new(), |file| format!("; {}", link(file, "all that it printed")));
        format!(
            "<tr><th scope='row'>{}</th><td><code>{}</code><p class='soft'>{}{output}</p>{}</td></tr>\n",
            line(&it.host),
            line(&it.command),
            line(&facts.join("; ")),
            list("plain sources", &it.sources.iter().map(source).collect::<String>())
        )
    };
    if programs.is_empty() {
        return "<p class='soft'>None held a TUN device or a UDP port.</p>\n".into();
    }
    let rows: String = programs.iter().map(row).collect();
    format!("<div class='quiet'><table>\n<tbody>\n{rows}</tbody></table></div>\n")
}

fn source(it: &Source) -> String {
    let name = it.copy.as_ref().map_or_else(|| line(&it.path), |copy| link(copy, &it.path));
    let hash = it.sha256.as_ref().map_or(String::new(), |hash| format!("<br><code class='hash'>{}</code>", line(hash)));
    let note = it.note.as_ref().map_or(String::new(), |note| format!("<br><span class='odd'>{}</span>", line(note)));
    format!("<li>{name}{hash}{note}</li>\n")
}

fn step(it: &Step) -> String {
    let (class, word) = if it.passed { ("pass", "seen") } else { ("fail", "not all seen") };
    let mut html = format!(
        "<section class='part' id='s{number}'>\n<h2>Step {number}: {}</h2>\n<div class='check step {class}'>\n\
         <header><span class='badge {class}'>{word}</span><p class='soft asked'>{}</p></header>\n{}",
        line(&it.title),
        line(&it.asked),
        list("promises", &it.promises.iter().map(promise).collect::<String>()),
        number = it.step,
    );
    html += &labelled("Commands", &it.commands.iter().map(typed).collect::<String>());
    html += &labelled("What the programs printed meanwhile", &it.lines.iter().map(lines).collect::<String>());
    html += &labelled("The packets\u{2019} ways", &traces(&it.traces));
    let capture = it.capture.as_ref().map(|it| {
        format!(
            "<p>{} <span class='soft'>{} bytes; {}</span></p>\n",
            link(&it.file, &it.file),
            it.bytes,
            line(&it.said)
        )
    });
    html += &labelled("All packets of all hosts, for Wireshark", &capture.unwrap_or_default());
    html += &labelled("The hosts at the end of the step", &it.networks.iter().map(network).collect::<String>());
    html + "</div>\n</section>\n"
}

fn promise(it: &Promise) -> String {
    let (class, symbol, word) = match it.seen {
        Some(true) => ("pass", "\u{2713}", "seen"),
        Some(false) => ("fail", "\u{2717}", "not seen"),
        None => ("not-run", "\u{2013}", "not shown"),
    };
    let because = it.because.as_ref().map_or(String::new(), |it| format!("<p class='soft'>{}</p>", line(it)));
    format!(
        "<li><span class='dot {class}'><span aria-hidden='true'>{symbol}</span><span class='unseen'>{word}</span></span>\
         <div>{}{because}</div></li>\n",
        line(&it.text)
    )
}

fn typed(it: &Typed) -> String {
    terminal(
        &it.host,
        &it.command,
        &it.output,
        it.truncated.then_some(&it.file),
        &format!("{}, {:.1} s", it.end, it.seconds),
    )
}

fn lines(it: &Lines) -> String {
    let said = if it.output.is_empty() { "it printed nothing during this step" } else { "" };
    terminal(&it.host, &it.command, &it.output, it.truncated.then_some(&it.file), said)
}

/// A command and what it printed, as on a terminal.
fn terminal(host: &str, command: &str, output: &str, more: Option<&String>, end: &str) -> String {
    let output = output.trim_end_matches('\n');
    let gap = if output.is_empty() { "" } else { "\n" };
    let end = if end.is_empty() { String::new() } else { format!("\n<span class='soft'>[{}]</span>", line(end)) };
    let more = more.map_or(String::new(), |file| format!("<p class='soft'>There was more: {}</p>\n", link(file, file)));
    format!(
        "<pre class='terminal'><b>{}$ {}</b>{gap}{}{end}</pre>\n{more}",
        line(&prompt(host)),
        line(command),
        escaped(output)
    )
}

fn traces(traces: &[Trace]) -> String {
    let figure = |it: &Trace| {
        let last = it.ladder.rows.last().map(|row| format!("it ends at {}", row.host));
        let says = match it.answered {
            true => "the reply came back".into(),
            false => last.unwrap_or_else(|| "it was seen nowhere".into()),
        };
        let drawing = ladder::figure(&it.command, &says, &it.ladder, it.answered);
        let text = escaped(it.text.trim_end_matches('\n'));
        let cause = it.cause.as_ref().map_or(String::new(), cause);
        format!(
            "<div>{drawing}{cause}<details><summary>As text</summary><pre class='terminal'><b>$ {}</b>\n{text}</pre>\
             </details></div>\n",
            line(&it.command)
        )
    };
    let all: String = traces.iter().map(figure).collect();
    if all.is_empty() { all } else { format!("<div class='ladders'>\n{all}</div>\n") }
}

fn cause(it: &Cause) -> String {
    format!(
        "<div class='cause'><p class='lead'>{}: {}</p>\n{}<p class='soft'><code>{}</code></p></div>\n",
        line(&it.host),
        line(&it.title),
        list("facts", &it.facts.iter().map(|fact| format!("<li>{}</li>\n", line(fact))).collect::<String>()),
        line(&it.id)
    )
}

fn network(it: &Network) -> String {
    format!(
        "<details><summary>{} <span class='soft'>{}</span></summary><pre>{}</pre></details>\n",
        line(&it.host),
        link(&it.file, &it.file),
        escaped(&it.text)
    )
}

fn stamp(it: &Stamp) -> String {
    let vpnlab = format!("{}, SHA-256 {}", it.vpnlab, it.vpnlab_sha256.as_deref().unwrap_or("not known"));
    let lab = format!("{}, {}; topology.toml, SHA-256 {}", it.lab, it.mode, it.topology_sha256);
    let made = format!("{}, in {:.1} s", it.made, it.seconds);
    let rows = [
        ("Made", made.as_str()),
        ("User", &it.user),
        ("Machine", &it.machine),
        ("Kernel", &it.kernel),
        ("Made with", &vpnlab),
        ("Lab", &lab),
    ];
    let row = |(name, value): (&str, &str)| format!("<tr><th scope='row'>{name}</th><td>{}</td></tr>\n", line(value));
    let rows: String = rows.into_iter().map(row).collect();
    format!("<div class='quiet'><table>\n<tbody>\n{rows}</tbody></table></div>\n")
}

fn part(title: &str, content: &str) -> String {
    if content.is_empty() {
        String::new()
    } else {
        format!("<section class='part'>\n<h2>{title}</h2>\n{content}</section>\n")
    }
}

fn labelled(title: &str, content: &str) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!("<div class='transcripts'><h3 class='label'>{title}</h3>\n{content}</div>\n"),
    }
}

fn list(class: &str, items: &str) -> String {
    if items.is_empty() { String::new() } else { format!("<ul class='{class}'>\n{items}</ul>\n") }
}

/// A text of one line.
fn line(text: &str) -> String {
    escaped(&one_line(text))
}

/// A link to a file of the report. Its name is one of ours: letters, digits and `-_./`.
fn link(file: &str, text: &str) -> String {
    format!("<a href='{}'>{}</a>", line(file), line(text))
}
