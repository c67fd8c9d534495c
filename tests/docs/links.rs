//! The handbook as a whole: every page is in it once, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::common::run;
use crate::{ROOT, pages};

const SUMMARY: &str = "docs/SUMMARY.md";

/// The lines of a page that are text, without code between backticks.
fn prose(text: &str) -> Vec<String> {
    let code = Regex::new("`[^`]*`").expect("a pattern");
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        if !is_fence && !in_block {
            lines.push(code.replace_all(line, "``").into_owned());
        }
        in_block ^= is_fence;
    }
    lines
}

/// The links and pictures of a page, but for those of the web.
fn links(text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let lines = prose(text).join("\n");
    let found = link.captures_iter(&lines).map(|found| found[1].to_string());
    found.filter(|target| !target.contains("://")).collect()
}

/// What can follow the # of a link to this page, as GitHub and mdBook make it from the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        let anchor = kept.collect::<String>().replace(' ', "-");
        let again = (1..).map(|number| format!("{anchor}-{number}")).find(|it| !found.contains(it));
        found.insert(if found.contains(&anchor) { again.expect("there is a next number") } else { anchor });
    }
    found
}

/// The path that a link leads to, from the repository on.
fn target(page: &str, path: &str) -> PathBuf {
    let mut found = PathBuf::new();
    for part in Path::new(page).parent().expect("a page is in a directory").join(path).components() {
        match part {
            Component::ParentDir => _ = found.pop(),
            part => found.push(part),
        }
    }
    found
}

fn broken(pages: &BTreeMap<String, String>) -> Vec<String> {
    let mut broken = Vec::new();
    for (page, text) in pages {
        for link in links(text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { PathBuf::from(page) } else { target(page, path) };
            let shown = target.display().to_string();
            let there = Path::new(ROOT).join(&target).exists() || pages.contains_key(&shown);
            let anchored = anchor.is_empty() || pages.get(&shown).is_some_and(|text| anchors(text).contains(anchor));
            if !there || !anchored {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    broken
}

#[test]
fn no_link_is_broken() {
    let broken = broken(&pages());
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page_of_docs_once() {
    let pages = pages();
    let listed: Vec<String> =
        links(&pages[SUMMARY]).iter().map(|link| target(SUMMARY, link).display().to_string()).collect();
    for page in pages.keys().filter(|page| page.starts_with("docs/") && *page != SUMMARY) {
        let times = listed.iter().filter(|it| *it == page).count();
        assert_eq!(times, 1, "{page} has to stand in {SUMMARY} once; then run docs/handbook --links");
    }
    for page in listed {
        assert!(pages.contains_key(&page), "{SUMMARY} names {page}, which is no page");
    }
}

#[test]
fn each_page_leads_to_those_before_and_after_it() {
    let copy = nix::unistd::mkdtemp("/tmp/vpnlab-docs-XXXXXX").expect("/tmp can be written");
    crate::common::remove_at_exit(copy.clone());
    run(Command::new("cp").arg("-r").arg(Path::new(ROOT).join("docs")).arg(&copy)).ok();
    let done = run(Command::new(copy.join("docs/handbook")).arg("--links")).ok();
    assert!(done.stdout.is_empty(), "run docs/handbook --links: it has changed the last lines of\n{}", done.stdout);
    let last = fs::read_to_string(copy.join("docs/step-1.md")).expect("a page is text");
    assert!(last.trim_end().ends_with("[Step 2: into the tunnel](step-2.md) →"), "{last}");
}

#[test]
fn the_book_can_be_put_together() {
    // All but mdBook itself: what the pages lead to is found and copied.
    let site = format!("/tmp/vpnlab-docs-no-site-{}", std::process::id());
    run(Command::new(Path::new(ROOT).join("docs/handbook")).arg(&site).env("MDBOOK", "true")).ok();
}

#[test]
fn a_broken_link_is_found() {
    let page = |text: &str| BTreeMap::from([("docs/a.md".to_string(), text.to_string())]);
    for text in ["[x](b.md)", "[x](#no)", "[x](a.md#no)", "![x](img/none.svg)", "[x](../docs/step-0.md#no)"] {
        assert_eq!(broken(&page(text)).len(), 1, "{text}");
    }
    let sound =
        "# A `b`, c\n## A b c\n[x](#a-b-c) [x](#a-b-c-1) [x](../README.md) `[x](no.md)` [x](https://example.org/)\n";
    assert_eq!(broken(&page(sound)), Vec::<String>::new());
}
