//! A manual page of one command, as man(7) wants it: pure.
//!
//! clap_mangen renders what clap knows. What clap has as one text after the options is taken apart here: defaults to the
//! description, examples, exit status, notes.

use std::io::{self, Write};

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::error::{Context, Result};

/// The exit codes of every command.
const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "Done; where something is checked or graded: all of it passed."),
    ("1", "A check failed, or the operation did."),
    ("2", "Used wrongly: a bad option, an unknown host, a file that does not parse."),
    (
        "3",
        "The machine lacks something: rights, a device, a feature of the kernel. The error says what, and the ways out.",
    ),
    ("141", "Whoever read its output has gone, as in a pipe to head(1): nothing is said."),
];

/// What vpnlab's own page says beside its help.
const ABOUT: [&str; 2] = [
    "vpnlab is a networking course's VPN lab on one machine: the network, as namespaces and without root (vpnlab lab); a \
     program for each step of the handout, from a TUN device that is read to a tunnel in both directions (tun-read, \
     tun-ping, udp-sink, client, server, vpn); a trace that says where a packet ended and why; and a grader that judges \
     anybody's programs by what they do on the wire.",
    "To begin with: vpnlab demo shows all of it, and leaves nothing behind.",
];

const ENVIRONMENT: [(&str, &str); 2] = [
    ("NO_COLOR", "No colours, if it is set and not empty."),
    ("VPNLAB_TOPOLOGY", "The topology file whose addresses are the steps' defaults; vpnlab lab exec sets it."),
];

/// Where the Debian package puts what is read.
const FILES: [(&str, &str); 2] = [
    ("/usr/share/doc/vpnlab/docs/", "A page per step, and on tracing, grading, other topologies."),
    ("/usr/share/doc/vpnlab/examples/", "Topologies to begin with: vpnlab lab up --topology FILE."),
];

/// The page's name: the command's words, with hyphens between them.
pub fn name(command: &Command) -> String {
    words(command).replace(' ', "-")
}

fn words(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

/// The page of a command that is built.
pub fn render(command: &Command) -> Result<String> {
    page(command).context(|| format!("cannot make the manual page {}", name(command)))
}

fn page(command: &Command) -> io::Result<String> {
    let after = After::of(command);
    let is_top = command.get_name() == words(command);
    let mut page = head(command)?;
    let mut body = Roff::new();
    paragraphs(&mut body, if is_top { &ABOUT[..] } else { &[] });
    paragraphs(&mut body, &after.description);
    page.push_str(&rendered(|to| body.to_writer(to))?);
    page.push_str(&options(command)?);

    let mut body = Roff::new();
    subcommands(&mut body, command);
    if is_top {
        list(&mut body, "ENVIRONMENT", &ENVIRONMENT);
        list(&mut body, "FILES", &FILES);
    }
    if !after.notes.is_empty() {
        body.control("SH", ["NOTES"]);
        paragraphs(&mut body, &after.notes);
    }
    list(&mut body, "EXAMPLES", &after.examples);
    body.control("SH", ["EXIT STATUS"]);
    paragraphs(&mut body, &after.exit_status);
    entries(&mut body, &EXIT_STATUS);
    see_also(&mut body, command, is_top);
    page.push_str(&rendered(|to| body.to_writer(to))?);
    Ok(page)
}

/// Title, name, and the usage in the words of the help.
fn head(command: &Command) -> io::Result<String> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_string();
    let man = Man::new(command.clone().override_usage(usage)).title(name(command).to_uppercase());
    let man = man.source(concat!("vpnlab ", env!("CARGO_PKG_VERSION"))).manual("vpnlab");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for section in [Man::render_name_section, Man::render_synopsis_section, Man::render_description_section] {
        page.push_str(&rendered(|to| section(&man, to))?);
    }
    Ok(page)
}

/// Without the preamble of each rendering, which a page needs once.
fn rendered(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<String> {
    let mut all = Vec::new();
    render(&mut all)?;
    let all = String::from_utf8_lossy(&all);
    Ok(all.strip_prefix(&Roff::new().render()).unwrap_or(&all).to_string())
}

/// The text after the options, by what it is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct After {
    description: Vec<String>,
    examples: Vec<(String, String)>,
    exit_status: Vec<String>,
    notes: Vec<String>,
}

impl After {
    fn of(command: &Command) -> Self {
        let text = command.get_after_long_help().or_else(|| command.get_after_help());
        text.map(|text| Self::parse(&text.to_string())).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut after = Self::default();
        for block in text.split("\n\n") {
            let mut lines = block.trim().lines().peekable();
            if lines.next_if_eq(&"EXAMPLES:").is_some() {
                lines.for_each(|line| after.example(line));
                continue;
            }
            let paragraph = lines.collect::<Vec<_>>().join(" ");
            // What every page says of the exit codes is said once.
            if paragraph.starts_with("Exit codes:") || paragraph.is_empty() {
            } else if paragraph.starts_with("The exit code is ") {
                after.exit_status.push(paragraph);
            } else if after.examples.is_empty() {
                after.description.push(paragraph);
            } else {
                after.notes.push(paragraph);
            }
        }
        after
    }

    /// `COMMAND  what it does`, or `COMMAND  # what it does`; a line that is indented further goes on about the one above.
    fn example(&mut self, line: &str) {
        match self.examples.last_mut() {
            Some((_, what)) if line.starts_with("    ") => *what = format!("{what} {}", line.trim()).trim().into(),
            _ => {
                let (command, what) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                let what = what.trim();
                self.examples.push((command.into(), what.strip_prefix("# ").unwrap_or(what).into()));
            }
        }
    }
}

fn paragraphs(roff: &mut Roff, paragraphs: &[impl AsRef<str>]) {
    for paragraph in paragraphs {
        roff.control("PP", []).text([roman(paragraph.as_ref())]);
    }
}

/// Nothing, where nothing is to be said.
fn list(roff: &mut Roff, heading: &str, list: &[(impl AsRef<str>, impl AsRef<str>)]) {
    if !list.is_empty() {
        roff.control("SH", [heading]);
        entries(roff, list);
    }
}

fn entries(roff: &mut Roff, list: &[(impl AsRef<str>, impl AsRef<str>)]) {
    for (what, meaning) in list {
        roff.control("TP", []).text([bold(what.as_ref())]).text([roman(meaning.as_ref())]);
    }
}

/// The options, those under a heading of their own as a subsection.
fn options(command: &Command) -> io::Result<String> {
    let mut headings: Vec<Option<String>> = vec![None];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let heading = heading(argument);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut page = String::new();
    for wanted in headings {
        let of_this = |argument: Arg| {
            let hidden = argument.is_hide_set() || heading(&argument) != wanted;
            argument.hide(hidden).help_heading(None::<&str>)
        };
        let man = Man::new(command.clone().mut_args(of_this));
        let section = rendered(|to| man.render_options_section(to))?;
        page.push_str(&match wanted {
            None => section,
            Some(heading) => section.replacen(".SH OPTIONS", &format!(".SS \"{}\"", heading.replace('-', "\\-")), 1),
        });
    }
    Ok(page)
}

/// The heading that an option has in the help; plain "Options" is none.
fn heading(argument: &Arg) -> Option<String> {
    argument.get_help_heading().filter(|heading| *heading != "Options").map(String::from)
}

fn subcommands(roff: &mut Roff, command: &Command) {
    let mut heading = Some("COMMANDS");
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if let Some(heading) = heading.take() {
            roff.control("SH", [heading]);
        }
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []).text(reference(&name(sub))).text([roman(about)]);
    }
}

/// The page above this one; of vpnlab's own, the programs that it works with.
fn see_also(roff: &mut Roff, command: &Command, is_top: bool) {
    roff.control("SH", ["SEE ALSO"]);
    let above = words(command).rsplit_once(' ').map(|(above, _)| above.replace(' ', "-"));
    match above.filter(|_| !is_top) {
        Some(above) => roff.text(reference(&above)),
        None => roff.text([roman("ip-netns(8), namespaces(7), tcpdump(8), traceroute(1), bwrap(1)")]),
    };
}

fn reference(page: &str) -> [Inline; 2] {
    [bold(page), roman("(1)")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn page(path: &[&str]) -> String {
        let mut vpnlab = crate::cli::Cli::command();
        vpnlab.build();
        let command = path.iter().try_fold(&vpnlab, |command, name| command.find_subcommand(name));
        render(command.unwrap()).unwrap()
    }

    #[test]
    fn the_text_after_the_options_is_taken_apart() {
        let after = After::parse(
            "The MTU is 1500.\n\nEXAMPLES:\n  vpnlab a   first\n  vpnlab b --c  # second\n  vpnlab d\n      third\n\nThe exit code is 1.\n\nFor\nmore.",
        );
        assert_eq!(after.description, ["The MTU is 1500."]);
        let examples = [("vpnlab a", "first"), ("vpnlab b --c", "second"), ("vpnlab d", "third")];
        assert_eq!(after.examples, examples.map(|(command, what)| (command.into(), what.into())));
        assert_eq!((after.exit_status, after.notes), (vec!["The exit code is 1.".into()], vec!["For more.".into()]));
    }

    #[test]
    fn a_page_has_the_sections_of_a_manual_in_their_order() {
        let page = page(&["vpn"]);
        let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        assert_eq!(
            sections,
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"EXIT STATUS\"", "\"SEE ALSO\""]
        );
        assert!(page.contains(".SS \"Options of \\-\\-role client\"\n"), "{page}");
    }

    #[test]
    fn a_page_points_to_the_one_above_it() {
        assert!(page(&["lab", "up"]).ends_with("\\fBvpnlab\\-lab\\fR(1)\n"));
        assert!(page(&["tun-read"]).ends_with("\\fBvpnlab\\fR(1)\n"));
        assert!(page(&[]).contains("\\fBvpnlab\\-tun\\-read\\fR(1)\n"));
    }
}
