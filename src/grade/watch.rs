//! `--watch`: grades again whenever a file of a submission changes, or the rubric, until Ctrl-C.
//!
//! The files are looked at a few times a second: that works on every file system, also on one that tells nobody of its
//! changes, and a submission is a handful of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::logging;
use crate::output;
use crate::signals::Signals;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(300);

/// How long nothing may change before it is graded: an editor saves in several steps, and a compiler takes its time.
const QUIET: Duration = Duration::from_millis(200);

/// The most files that are looked at; a submission with more is refused anyway.
const MOST_FILES: usize = 5000;

/// Some files, each with the time of its last change and its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

impl Files {
    /// The files of these folders, and these files, as they are now. One that cannot be looked at is none: it may be back
    /// the next time.
    pub fn of(named: &[PathBuf]) -> Self {
        let mut files = Self::default();
        for path in named {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => drop(files.0.insert(path.clone(), stamp(&metadata))),
                _ => files.collect(path),
            }
        }
        files
    }

    fn collect(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            // Links are not followed, as they are not in a submission.
            let Ok(metadata) = entry.metadata() else { continue };
            if is_noise(&name.to_string_lossy()) || self.0.len() >= MOST_FILES {
                continue;
            }
            match metadata.is_dir() {
                true => self.collect(&path),
                false => drop(self.0.insert(path, stamp(&metadata))),
            }
        }
    }

    /// The files that are new, gone or another since `before`.
    pub fn changed_since<'f>(&'f self, before: &'f Self) -> Vec<&'f Path> {
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let other = self.0.iter().filter(|(path, file)| before.0.get(*path) != Some(file)).map(|(path, _)| path);
        let mut changed: Vec<&Path> = other.chain(gone).map(PathBuf::as_path).collect();
        changed.sort_unstable();
        changed
    }
}

/// What is another when a file has changed.
fn stamp(metadata: &fs::Metadata) -> (Option<SystemTime>, u64) {
    (metadata.modified().ok(), metadata.len())
}

/// What is no source: what editors keep beside a file while it is open, and what Python compiles.
fn is_noise(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with('~') || name == "__pycache__" || name.ends_with(".pyc")
}

/// Looks until something is different from `before`, and then until nothing changes any more; returns what is there then.
fn next_change(before: &Files, mut look: impl FnMut() -> Files, mut sleep: impl FnMut(Duration)) -> Files {
    loop {
        sleep(LOOK);
        let mut now = look();
        while now != *before {
            sleep(QUIET);
            let later = look();
            if later == now {
                return now;
            }
            now = later;
        }
    }
}

/// The line between two runs: which run, and what has changed.
fn separator(run: usize, changed: &[&Path]) -> String {
    const WIDTH: usize = 80;
    const NAMED: usize = 3;
    let names: Vec<_> = changed.iter().filter_map(|path| path.file_name()?.to_str()).take(NAMED).collect();
    let more = changed.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    // A name is whatever somebody has made it.
    let names: String = names.join(", ").chars().map(|it| if it.is_control() { '?' } else { it }).collect();
    let text = format!("== run {run}: {names}{more} changed ");
    let rest = WIDTH.saturating_sub(text.chars().count()).max(2);
    format!("\n{text}{}\n", "=".repeat(rest))
}

/// Calls `once`, and again whenever one of these files, or a file in one of these folders, has changed. Ctrl-C ends the program at once, with
/// success: whatever grades then is ended with it.
///
/// # Errors
/// Those of the first call. Later ones are said, and the next change may mend them.
pub fn watch(named: &[PathBuf], mut once: impl FnMut() -> Result<()>) -> Result<()> {
    // All threads that are started from here on have the signals blocked, and so has a worker, which undoes it.
    let signals = Signals::block()?;
    thread::spawn(move || {
        if signals.wait_for_end().is_ok() {
            std::process::exit(0);
        }
    });
    let mut before = Files::of(named);
    once()?;
    for run in 2.. {
        output::error_line("Watching the files; Ctrl-C ends it.");
        let now = next_change(&before, || Files::of(named), thread::sleep);
        output::line(separator(run, &now.changed_since(&before)))?;
        // What changes from now on is seen when this run is over.
        before = now;
        if let Err(error) = once() {
            logging::fatal(&error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, u64)]) -> Files {
        Files(list.iter().map(|(name, size)| (PathBuf::from(name), (None, *size))).collect())
    }

    #[test]
    fn what_is_new_gone_or_another_has_changed() {
        let before = files(&[("a/gone.py", 1), ("a/same.py", 2), ("a/longer.py", 3)]);
        let now = files(&[("a/same.py", 2), ("a/longer.py", 4), ("a/new.py", 5)]);
        let changed = ["a/gone.py", "a/longer.py", "a/new.py"].map(Path::new);
        assert_eq!(now.changed_since(&before), changed);
        assert!(now.changed_since(&now).is_empty());
        let mut touched = now.clone();
        touched.0.get_mut(Path::new("a/new.py")).unwrap().0 = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(touched.changed_since(&now), [Path::new("a/new.py")]);
    }

    #[test]
    fn a_change_is_taken_when_nothing_changes_any_more() {
        let before = files(&[("a", 1)]);
        let mut looks = [1, 1, 0, 5, 9, 9].map(|size| files(&[("a", size)])).into_iter();
        let mut slept = Vec::new();
        let now = next_change(&before, || looks.next().unwrap(), |time| slept.push(time));
        assert_eq!(now, files(&[("a", 9)]));
        assert_eq!(slept, [LOOK, LOOK, LOOK, QUIET, QUIET, QUIET]);
    }

    #[test]
    fn a_file_that_is_back_as_it_was_is_no_change() {
        let before = files(&[("a", 1)]);
        let mut looks = [2, 1, 1, 3, 3].map(|size| files(&[("a", size)])).into_iter();
        let now = next_change(&before, || looks.next().unwrap(), |_| {});
        assert_eq!(now, files(&[("a", 3)]));
        assert!(looks.next().is_none());
    }

    #[test]
    fn the_files_of_folders_are_found_but_for_what_is_no_source() {
        let folder = std::env::temp_dir().join(format!("vpnlab-watch-{}", std::process::id()));
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::create_dir_all(folder.join("__pycache__")).unwrap();
        for name in ["tun.py", "src/client.c", ".tun.py.swp", "tun.py~", "#tun.py#", "__pycache__/tun.pyc"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/", folder.join("root")).unwrap();
        let found = Files::of(std::slice::from_ref(&folder));
        fs::write(folder.join("tun.py"), "longer").unwrap();
        let later = Files::of(std::slice::from_ref(&folder));
        fs::remove_dir_all(&folder).unwrap();
        let paths: Vec<_> = found.0.keys().map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
        assert_eq!(paths, ["root", "src/client.c", "tun.py"]);
        assert_eq!(later.changed_since(&found), [folder.join("tun.py")]);
        assert_eq!(Files::of(std::slice::from_ref(&folder)), Files::default());
        let rubric = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(Files::of(std::slice::from_ref(&rubric)).0.keys().collect::<Vec<_>>(), [&rubric]);
    }

    #[test]
    fn the_line_between_runs_says_what_has_changed() {
        let line = separator(2, &[Path::new("x/tun.py")]);
        assert!(line.starts_with("\n== run 2: tun.py changed ====") && line.trim().len() == 80, "{line}");
        let many: Vec<_> = ["a", "b", "c", "d", "e\x1b"].map(Path::new).into();
        assert!(separator(9, &many).starts_with("\n== run 9: a, b, c and 2 more changed =="));
        assert!(!separator(9, &many[4..]).contains('\x1b'));
    }
}
