//! The folder that a report becomes: made beside its place, and put there when it is whole.
//!
//! Nothing that is not a report's is ever removed: of an older one exactly the files that its SHA256SUMS lists, and only
//! if they are unchanged and nothing else is there; and what one that was killed had made beside its place.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use super::hash;
use super::model::FORMAT;
use crate::error::{Context, Error, Result};

/// The list of the files and their hashes, as sha256sum(1) writes and checks it.
pub const SUMS: &str = "SHA256SUMS";

/// The report as JSON.
pub const JSON: &str = "report.json";

/// Where copies of programs, and what these printed, are.
const PROGRAMS: &str = "programs";

/// A report that is being made. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub struct Folder {
    target: PathBuf,
    /// Where it is made, and that it still is: locked.
    making: PathBuf,
    _lock: Flock<fs::File>,
    /// The files of the older report that is in its place.
    older: Option<BTreeMap<String, String>>,
    /// The names of copies that are taken, each with its bytes' hash.
    copies: BTreeMap<String, String>,
}

impl Folder {
    /// Begins a report that will be `directory`. An older one there gives way, with `force`.
    ///
    /// # Errors
    /// There is something else, or an older report that must stay; or it cannot be written there.
    pub fn begin(directory: &Path, force: bool) -> Result<Self> {
        let failed = || format!("cannot write {}", directory.display());
        let usage = |error: std::io::Error| Error::usage(failed()).because(error);
        let target = match fs::canonicalize(directory) {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::path::absolute(directory).map_err(usage)?
            }
            Err(error) => return Err(usage(error)),
        };
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::usage(failed()).hint("name a folder that is new"));
        };
        // Another one in its place would not be where whoever works in this one is.
        if std::env::current_dir().is_ok_and(|current| current.starts_with(&target)) {
            let hint = "name a folder inside of it";
            return Err(Error::usage(format!("{} is the folder that this is run in", directory.display())).hint(hint));
        }
        let older = if target.exists() { older(directory, &target, parent, force)? } else { None };
        let beside = format!(".{}.vpnlab-", name.to_string_lossy());
        clear_what_the_dead_left(parent, &beside);
        let making = parent.join(format!("{beside}{}", std::process::id()));
        fs::create_dir(&making).map_err(usage)?;
        let lock = lock(&making).context(failed)?;
        Ok(Self { target, making, _lock: lock, older, copies: BTreeMap::new() })
    }

    /// Where a file of the report is while it is made. Its folder is there then.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.making.join(name);
        let parent = path.parent().unwrap_or(&self.making);
        fs::create_dir_all(parent).context(|| self.failed(name))?;
        Ok(path)
    }

    /// A text in which files of the report are named as they will be when it is in its place.
    pub fn in_place(&self, text: &str) -> String {
        text.replace(&self.making.display().to_string(), &self.target.display().to_string())
    }

    /// A text in which files of the report are named as they are called in it.
    pub fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.making.display()), "")
    }

    /// Where the report will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes a file of the report.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        let written = fs::File::create(path).and_then(|mut file| {
            file.write_all(bytes)?;
            // On some file systems this is where a full disk is told.
            file.sync_all()
        });
        written.context(|| self.failed(name))
    }

    /// Keeps a file of a program by this name, or by one with a number where that is taken by another; returns it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn copy(&mut self, name: &str, bytes: &[u8]) -> Result<String> {
        let hash = hash::of_bytes(bytes);
        let numbered = (2..).map(|number| format!("{number}-{name}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered).map(|name| format!("{PROGRAMS}/{name}"));
        let is_free = |name: &String| self.copies.get(name).is_none_or(|other| *other == hash);
        let name = names.find(is_free).unwrap_or_else(|| format!("{PROGRAMS}/{hash}"));
        if self.copies.insert(name.clone(), hash).is_none() {
            self.write(&name, bytes)?;
        }
        Ok(name)
    }

    /// Writes the hashes, and puts the report in its place.
    ///
    /// # Errors
    /// It cannot be written or put there; then it is gone, and what was there before still is.
    pub fn finish(mut self) -> Result<()> {
        let failed = || format!("cannot write {}", self.target.display());
        let mut sums = String::new();
        for name in files(&self.making).context(failed)? {
            let hash = hash::of_file(&self.making.join(&name)).context(failed)?;
            sums += &format!("{hash}  {name}\n");
        }
        self.write(SUMS, sums.as_bytes())?;
        let Some(older) = self.older.take() else {
            // An empty folder there is replaced.
            return fs::rename(&self.making, &self.target).context(failed);
        };
        let mut aside = self.making.clone().into_os_string();
        aside.push("-older");
        let aside = PathBuf::from(aside);
        fs::rename(&self.target, &aside).context(failed)?;
        if let Err(error) = fs::rename(&self.making, &self.target) {
            let _ = fs::rename(&aside, &self.target);
            return Err(error).context(failed);
        }
        remove(&aside, &older).context(|| format!("cannot remove the older report, which is now {}", aside.display()))
    }

    fn failed(&self, name: &str) -> String {
        format!("cannot write {}", self.target.join(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Gone already where it was put in its place.
        let _ = fs::remove_dir_all(&self.making);
    }
}

/// Removes what reports for the same place had made when they were killed: folders called so, with a number, that nobody has
/// locked. Where that cannot be, it does no harm.
fn clear_what_the_dead_left(parent: &Path, beside: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(beside)?.parse::<u32>().ok());
        if number.is_some()
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(_lock) = lock(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Locks a folder for as long as the lock is kept, and this process lives (flock(2)).
fn lock(folder: &Path) -> std::io::Result<Flock<fs::File>> {
    let lock = Flock::lock(fs::File::open(folder)?, FlockArg::LockExclusiveNonblock);
    lock.map_err(|(_, errno)| errno.into())
}

/// The files of the older report in a folder; nothing where the folder is empty.
fn older(named: &Path, target: &Path, parent: &Path, force: bool) -> Result<Option<BTreeMap<String, String>>> {
    let named = named.display();
    let failed = || format!("cannot read {named}");
    let (of_target, of_parent) = (fs::metadata(target).context(failed)?, fs::metadata(parent).context(failed)?);
    if !of_target.is_dir() {
        return Err(Error::usage(format!("{named} is there, and no folder")).hint("name a folder that is new"));
    }
    if of_target.dev() != of_parent.dev() {
        let hint = "name a folder inside of it";
        return Err(
            Error::usage(format!("{named} is where a file system is mounted, and cannot be replaced")).hint(hint)
        );
    }
    if fs::read_dir(target).context(failed)?.next().is_none() {
        return Ok(None);
    }
    let report = fs::read_to_string(target.join(JSON)).unwrap_or_default();
    let is_report = serde_json::from_str::<Value>(&report).is_ok_and(|it| it["format"] == FORMAT);
    if !is_report {
        let hint = "name a folder that is new or empty";
        return Err(Error::usage(format!("{named} holds something else than a report")).hint(hint));
    }
    if !force {
        let hint = "name another folder, or replace it with --force";
        return Err(Error::usage(format!("{named} holds a report already")).hint(hint));
    }
    let sums = fs::read_to_string(target.join(SUMS)).unwrap_or_default();
    let listed: BTreeMap<String, String> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name.into(), hash.into())).collect();
    let refuse = |name: &str, what: &str| {
        let hint = "move it elsewhere, or name another folder";
        Err(Error::usage(format!("{named} is not replaced: {name} in it {what}")).hint(hint))
    };
    // What is listed and not there is nothing to remove, wherever its name leads.
    let mut found = BTreeMap::new();
    for name in files(target).context(failed)? {
        match listed.get(&name) {
            None if name == SUMS => {}
            None => return refuse(&name, "is none of the report's files"),
            Some(hash) if hash::of_file(&target.join(&name)).ok().as_ref() != Some(hash) => {
                return refuse(&name, "has been changed since the report was made");
            }
            Some(hash) => drop(found.insert(name, hash.clone())),
        }
    }
    Ok(Some(found))
}

/// The names of all that is in a folder and those below it and is no folder itself, in order. Links are not followed.
fn files(directory: &Path) -> std::io::Result<Vec<String>> {
    let (mut found, mut below) = (Vec::new(), vec![String::new()]);
    while let Some(prefix) = below.pop() {
        for entry in fs::read_dir(directory.join(&prefix))? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => below.push(name + "/"),
                false => found.push(name),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes these files of a folder, and the folders that are empty then. One that was changed while the new report was made
/// stays, and so its folder, which is the error.
fn remove(directory: &Path, listed: &BTreeMap<String, String>) -> std::io::Result<()> {
    let mut folders = std::collections::BTreeSet::new();
    for (name, hash) in listed.iter().map(|(name, hash)| (name.as_str(), Some(hash))).chain([(SUMS, None)]) {
        let path = directory.join(name);
        if hash.is_some_and(|hash| hash::of_file(&path).is_ok_and(|now| now != *hash)) {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        folders.extend(path.ancestors().skip(1).take_while(|it| it.starts_with(directory)).map(Path::to_path_buf));
    }
    // The longest first: a folder is removed before the one that holds it.
    folders.iter().rev().try_for_each(fs::remove_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("vpnlab-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn made(target: &Path, force: bool, text: &str) -> Result<()> {
        let mut folder = Folder::begin(target, force)?;
        folder.write(JSON, format!("{{\"format\":\"{FORMAT}\"}}").as_bytes())?;
        folder.write("step-1/a.txt", text.as_bytes())?;
        assert_eq!(folder.copy("x.py", b"one")?, "programs/x.py");
        assert_eq!(folder.copy("x.py", b"one")?, "programs/x.py");
        assert_eq!(folder.copy("x.py", b"two")?, "programs/2-x.py");
        folder.finish()
    }

    #[test]
    fn a_report_is_there_whole_or_not_at_all() {
        let base = place("whole");
        let target = base.join("report");
        let folder = Folder::begin(&target, false).unwrap();
        folder.write("a.txt", b"").unwrap();
        assert!(!target.exists());
        drop(folder);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        made(&target, false, "one").unwrap();
        assert_eq!(files(&target).unwrap(), [SUMS, "programs/2-x.py", "programs/x.py", JSON, "step-1/a.txt"]);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1);
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn what_a_killed_one_left_is_cleared_and_nothing_else() {
        let base = place("killed");
        let stay = [".other.vpnlab-1", ".report.vpnlab-1", ".report.vpnlab-2-older", "report.vpnlab-2"];
        stay.iter().for_each(|name| fs::create_dir(base.join(name)).unwrap());
        let _another = lock(&base.join(".report.vpnlab-1")).unwrap();
        for number in [2, std::process::id()] {
            fs::create_dir_all(base.join(format!(".report.vpnlab-{number}/step-1"))).unwrap();
        }
        drop(Folder::begin(&base.join("report"), false).unwrap());
        let mut left: Vec<_> = fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, stay);
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn an_older_report_gives_way_to_force_alone_and_a_strangers_file_to_nothing() {
        let base = place("older");
        let target = base.join("report");
        fs::create_dir(&target).unwrap();
        made(&target, false, "one").unwrap();
        assert!(made(&target, false, "two").unwrap_err().to_string().contains("--force"));
        made(&target, true, "two").unwrap();
        assert_eq!(fs::read_to_string(target.join("step-1/a.txt")).unwrap(), "two");
        fs::write(target.join("step-1/notes.md"), "mine").unwrap();
        let error = made(&target, true, "three").unwrap_err().to_string();
        assert!(error.contains("step-1/notes.md in it is none of the report's files"), "{error}");
        fs::remove_file(target.join("step-1/notes.md")).unwrap();
        fs::write(target.join("step-1/a.txt"), "with my answer").unwrap();
        let error = made(&target, true, "three").unwrap_err().to_string();
        assert!(error.contains("a.txt in it has been changed"), "{error}");
        assert_eq!(fs::read_to_string(target.join("step-1/a.txt")).unwrap(), "with my answer");
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1);
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn what_was_changed_while_the_new_report_was_made_stays_too() {
        let base = place("meanwhile");
        let target = base.join("report");
        made(&target, false, "one").unwrap();
        let folder = Folder::begin(&target, true).unwrap();
        fs::write(target.join("step-1/a.txt"), "with my answer").unwrap();
        let error = folder.finish().unwrap_err().to_string();
        let aside = error.split("which is now ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        assert_eq!(fs::read_to_string(Path::new(aside).join("step-1/a.txt")).unwrap(), "with my answer");
        assert!(target.is_dir());
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_folder_that_one_works_in_is_not_replaced() {
        let current = std::env::current_dir().unwrap();
        for directory in [current.as_path(), Path::new("."), current.parent().unwrap()] {
            let error = Folder::begin(directory, true).unwrap_err();
            assert!(error.to_string().contains("is the folder that this is run in"), "{error}");
        }
    }

    #[test]
    fn what_is_no_report_stays() {
        let base = place("other");
        fs::write(base.join("precious"), "").unwrap();
        for force in [false, true] {
            let error = Folder::begin(&base, force).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Usage);
            assert!(error.to_string().contains("something else than a report"), "{error}");
            assert!(Folder::begin(&base.join("precious"), force).unwrap_err().to_string().contains("no folder"));
            assert!(Folder::begin(&base.join("no/such"), force).is_err());
        }
        assert_eq!(fs::read_dir(&base).unwrap().count(), 1);
        fs::remove_dir_all(&base).unwrap();
    }
}
