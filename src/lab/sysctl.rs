//! The settings of a network namespace under /proc/sys/net (sysctl(8)): read all of them, put them back.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use crate::error::{Context, Error, Result};

const SETTINGS: &str = "/proc/sys/net";

/// A setting, and its value.
pub struct Setting {
    path: PathBuf,
    value: String,
}

/// All settings of the calling thread's network namespace that can be read and written.
pub fn all() -> Result<Vec<Setting>> {
    let mut found = Vec::new();
    collect(Path::new(SETTINGS), &mut found).context(|| format!("cannot read {SETTINGS}"))?;
    // `conf/all` before `conf/default` and `conf/lo`: a value that is written to it goes to the others, too.
    found.sort_by(|one: &Setting, other| one.path.cmp(&other.path));
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<Setting>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), found)?;
        } else if is_settable(&entry) {
            // Some can only be written, and some have no value yet.
            let value = fs::read_to_string(entry.path());
            found.extend(value.map(|value| Setting { path: entry.path(), value }));
        }
    }
    Ok(())
}

/// Whether it can be written at all: nf_conntrack_count, for example, is what the kernel counts.
fn is_settable(entry: &fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o222 != 0)
}

/// Gives the calling thread's network namespace these settings. One that cannot be set is told in the log:
/// `ping_group_range`, for example, begins with groups that a user namespace does not have.
pub fn restore(settings: &[Setting]) {
    for Setting { path, value } in settings {
        let is_changed = fs::read_to_string(path).is_ok_and(|now| now != *value);
        if let Err(error) = if is_changed { write(path, value) } else { Ok(()) } {
            warn!("{error}");
        }
    }
}

/// Sets one setting of the calling thread's network namespace, if it has another value.
pub fn set(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    // Reading is cheap; writing ip_forward walks all interfaces and flushes caches (ip-sysctl.rst).
    match fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        _ => write(&path, value),
    }
}

fn write(path: &Path, value: &str) -> Result<()> {
    let name = path.strip_prefix("/proc/sys").unwrap_or(path).display().to_string().replace('/', ".");
    debug!("sysctl -w {name}='{}'", value.trim());
    fs::write(path, value).map_err(|error| {
        let error = Error::environment(format!("cannot set {name}")).because(error);
        error.hint("is /proc/sys mounted read-only, as in a container?")
    })
}
