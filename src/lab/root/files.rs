//! What a lab of root's has on disk: its topology under `/run/vpnlab`, its hosts' names under `/etc/netns`, and the
//! directories that it shares with `ip netns`. Whoever is killed here leaves nothing that cannot be told from others'.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Context, Error, Result};
use crate::lab::{names, root};

pub const NAMESPACES: &str = "/run/netns";
pub const ETC: &str = "/etc/netns";
/// The name of the lock, a file in [`STATE`].
pub const LOCK: &str = ".lock";

pub const STATE: &str = "/run/vpnlab";

/// The directories that `ip netns` shares with us; removed with the last lab if we made them and nobody else uses them.
const SHARED: [&str; 2] = [NAMESPACES, ETC];

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".vpnlab-new";

/// The file that holds a lab's topology as long as there is anything of it.
pub fn state_file(lab: &str) -> PathBuf {
    Path::new(STATE).join(lab).with_extension("toml")
}

pub fn write_state(lab: &str, text: &str) -> Result<()> {
    let file = state_file(lab);
    fs::write(&file, text).context(|| format!("cannot write {}", file.display()))
}

/// The line that says whose a file under `/etc/netns` is.
fn signature(lab: &str) -> String {
    format!("# made by vpnlab for lab {lab}; `vpnlab lab down` removes it\n")
}

/// Writes a host's files into its directory under `/etc/netns`, for every user to read.
pub fn write_names(directory: &Path, lab: &str, files: &[(&str, String)]) -> Result<()> {
    names::readable_by_all(|| write_each(directory, lab, files))
}

fn write_each(directory: &Path, lab: &str, files: &[(&str, String)]) -> Result<()> {
    let failed = || format!("cannot write {}", directory.display());
    fs::create_dir_all(directory).context(failed)?;
    for (name, text) in files {
        let file = directory.join(name);
        if file.exists() && !is_signed(&file, lab) {
            return Err(Error::failed(format!("{} is there already, and vpnlab did not make it", file.display()))
                .hint("choose another name with --lab, or remove it"));
        }
        // Under its own name only once it is whole, and so signed: a killed builder's files are known as its own.
        let unfinished = directory.join(format!("{name}{UNFINISHED}"));
        fs::write(&unfinished, signature(lab) + text).context(failed)?;
        fs::rename(&unfinished, &file).context(failed)?;
    }
    Ok(())
}

/// Removes from a directory under `/etc/netns` what this lab wrote there, and the directory if that was all. With
/// `named`, the directory bears the name of one of the lab's hosts.
pub fn remove_names(directory: &Path, lab: &str, named: bool) -> Result<()> {
    let is_unfinished = |file: &Path| named && file.to_string_lossy().ends_with(UNFINISHED);
    let mut ours = files_in(directory);
    ours.retain(|file| is_signed(file, lab) || is_unfinished(file));
    for file in &ours {
        remove(file)?;
    }
    if named || !ours.is_empty() {
        remove_if_empty(directory).context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn is_signed(file: &Path, lab: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.starts_with(&signature(lab)))
}

/// Whether this is a file with nothing in it, and with nothing mounted on it: a namespace is a file of length 0, too.
pub fn is_empty_file(file: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_empty = fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
    is_empty && file.parent().is_some_and(|parent| device(parent) == device(file))
}

pub fn remove(file: &Path) -> Result<()> {
    fs::remove_file(file).context(|| format!("cannot remove {}", file.display()))
}

pub fn files_in(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Makes the directories that `ip netns` would make, and notes what was not there.
pub fn prepare_shared() -> Result<()> {
    names::readable_by_all(make_shared)
}

fn make_shared() -> Result<()> {
    let failed = || format!("cannot prepare {NAMESPACES}");
    fs::create_dir_all(STATE).context(|| format!("cannot make {STATE}"))?;
    for directory in SHARED {
        if !Path::new(directory).exists() {
            fs::write(made(directory), "").context(|| format!("cannot write into {STATE}"))?;
            fs::create_dir(directory).context(|| format!("cannot make {directory}"))?;
        }
    }
    // As ip(8): namespaces named here are seen in every mount namespace that shares /run.
    let nothing: Option<&str> = None;
    let share = || mount(nothing, NAMESPACES, nothing, MsFlags::MS_SHARED | MsFlags::MS_REC, nothing);
    if share().is_err() {
        fs::write(mounted(), "").context(|| format!("cannot write into {STATE}"))?;
        mount(Some(NAMESPACES), NAMESPACES, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing).map_err(|errno| {
            match errno {
                Errno::EPERM => Error::environment(failed()).because(errno).hint(root::NOT_THE_MACHINES),
                _ => Error::failed(failed()).because(errno),
            }
        })?;
        share().context(failed)?;
    }
    Ok(())
}

/// Undoes [`prepare_shared`] when no lab is left.
pub fn tidy_shared() -> io::Result<()> {
    if !root::names().is_empty() || !Path::new(STATE).exists() {
        return Ok(());
    }
    if mounted().exists() {
        if files_in(NAMESPACES).is_empty() {
            // Whoever was killed before it mounted left a note of nothing; then this fails, and nothing is lost.
            let _ = umount2(NAMESPACES, MntFlags::MNT_DETACH);
        }
        fs::remove_file(mounted())?;
    }
    for directory in SHARED.into_iter().filter(|directory| made(directory).exists()) {
        if Path::new(directory).exists() && files_in(directory).is_empty() {
            fs::remove_dir(directory)?;
        }
        fs::remove_file(made(directory))?;
    }
    match fs::remove_file(Path::new(STATE).join(LOCK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    remove_if_empty(Path::new(STATE))
}

/// The file that says that we made a shared directory.
fn made(directory: &str) -> PathBuf {
    Path::new(STATE).join(format!("made{}", directory.replace('/', "-")))
}

/// The file that says that we made [`NAMESPACES`] a mount point.
fn mounted() -> PathBuf {
    Path::new(STATE).join("mounted")
}

fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if ![io::ErrorKind::DirectoryNotEmpty, io::ErrorKind::NotFound].contains(&error.kind()) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
