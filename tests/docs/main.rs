//! The documentation is true: every command block of every page is run, as a plain user on a machine apart, and its
//! output compared with what the page shows. How a page says what is to be done stands in CONTRIBUTING.md.
//!
//! `VPNLAB_DOCS=step-1 cargo test --test docs` runs the pages whose names contain that.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod links;
mod page;
mod pictures;
mod session;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use page::Item;
use session::Outcome;

/// How many pages are run at a time: most of them wait for a ping most of the time.
const AT_A_TIME: usize = 8;

/// No more blocks than these may go without being run.
const MOST_NOT_RUN: usize = 25;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All pages of the repository: their paths in it, and their text.
fn pages() -> BTreeMap<String, String> {
    fn add(directory: &Path, deep: bool, pages: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).expect("the repository can be read") {
            let path = entry.expect("the repository can be read").path();
            if path.is_dir() && deep {
                add(&path, deep, pages);
            } else if path.extension().is_some_and(|it| it == "md") {
                let name = path.strip_prefix(ROOT).expect("it is below").display().to_string();
                pages.insert(name, fs::read_to_string(&path).expect("a page is text"));
            }
        }
    }
    let mut pages = BTreeMap::new();
    for (directory, deep) in [("", false), ("docs", true), ("lab", false), ("fuzz", false)] {
        add(&Path::new(ROOT).join(directory), deep, &mut pages);
    }
    pages
}

#[test]
fn every_command_does_what_its_page_shows() {
    let only = std::env::var("VPNLAB_DOCS").unwrap_or_default();
    let mut pages = pages();
    pages.retain(|name, _| name.contains(&only));
    assert!(!pages.is_empty(), "no page is called {only}");
    let mut outcomes: BTreeMap<&str, Outcome> = BTreeMap::new();
    let mut parts = Vec::new();
    for (name, text) in &pages {
        let outcome = outcomes.entry(name).or_default();
        match page::parse(text) {
            Ok(items) => parts.extend(page::parts(items).into_iter().map(|part| (name.as_str(), part))),
            Err(failure) => outcome.failures.push(failure),
        }
    }
    // The longest first, so that none is left alone at the end.
    parts.sort_by_key(|(_, part)| Reverse(part.len()));
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(outcomes);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((name, part)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = session::run_part(part);
                    outcomes.lock().unwrap().get_mut(name).expect("it is there").add(outcome);
                }
            });
        }
    });
    let mut report = String::new();
    for (name, outcome) in outcomes.into_inner().unwrap() {
        eprintln!("{name}: {} run, {} not run, {:.1?}", outcome.run, outcome.not_run, outcome.took);
        for failure in &outcome.failures {
            report += &format!("\n{name}:{failure}\n");
        }
        if outcome.run + outcome.not_run != blocks_of(&pages[name]) {
            report += &format!("\n{name}: blocks with commands were passed over\n");
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// How many blocks with commands a page has, counted without regard to anything else.
fn blocks_of(text: &str) -> usize {
    let fence = |line: &&str| line.trim().strip_prefix("```").is_some_and(|it| page::WITH_COMMANDS.contains(&it));
    text.lines().filter(fence).count()
}

#[test]
fn few_blocks_are_not_run() {
    let mut not_run = Vec::new();
    for (name, text) in pages() {
        for item in page::parse(&text).unwrap_or_else(|error| panic!("{name}:{error}")) {
            match item {
                Item::Block(block) if block.not_run.is_some() => {
                    not_run.push(format!("{name}:{}: {}", block.line, block.not_run.unwrap()));
                }
                _ => {}
            }
        }
    }
    assert!(not_run.len() <= MOST_NOT_RUN, "{} blocks are not run:\n{}", not_run.len(), not_run.join("\n"));
}
