//! Tells the program what it was built from: the commit, the profile, the target (`VPNLAB_BUILD`, read by `src/version.rs`).
//!
//! The commit is that of `VPNLAB_COMMIT`, for whoever builds packages; or of the packaged crate; or of the clone of the
//! repository that this is. Where there is none of them, it is unknown. Nothing else of the machine comes into it, so that a
//! build can be repeated elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// How many digits of a commit are shown.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=VPNLAB_COMMIT");
    let variable = |name| env::var(name).unwrap_or_default();
    let directory = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let given = Some(variable("VPNLAB_COMMIT")).filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| packaged(&directory)).or_else(|| cloned(&directory));
    let commit: String = commit.unwrap_or_else(|| "unknown".into()).chars().take(DIGITS).collect();
    println!("cargo::rustc-env=VPNLAB_BUILD={commit}, {}, {}", variable("PROFILE"), variable("TARGET"));
}

/// The commit that a crate was packaged from: `{"git": {"sha1": "..."}}`, as cargo-package(1) writes it.
fn packaged(directory: &Path) -> Option<String> {
    let text = fs::read_to_string(directory.join(".cargo_vcs_info.json")).ok()?;
    let value = text.split_once("\"sha1\"")?.1.split('"').nth(1)?;
    Some(value.to_string())
}

/// The commit of a clone whose top this is; another repository that holds this one as a part says nothing of it.
fn cloned(directory: &Path) -> Option<String> {
    let top = git(directory, &["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(directory).ok()? {
        return None;
    }
    // What changes with the next commit, or when another branch is checked out. A file that is not there would make every
    // build a new one.
    let branch = git(directory, &["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(directory, &["rev-parse", "--git-path", name]).map(|path| directory.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(directory, &["rev-parse", "HEAD"])
}

/// What git(1) says, where there is git and a repository.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_string()).filter(|text| !text.is_empty())
}
