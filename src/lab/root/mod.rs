//! A lab as root: every host is an ordinary named namespace, as `ip netns add` makes it (ip-netns(8)).
//!
//! `lo` of each namespace bears the lab's mark before the namespace gets its name, so that vpnlab knows its own by
//! looking, whatever killed it meanwhile. Beside the namespaces there are `/etc/netns/NAME/*`, which `ip netns exec`
//! binds over `/etc`, and `/run/vpnlab/LAB.toml`, the topology.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use log::Level;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::unistd::{AccessFlags, Pid, access};

use crate::error::{Context, Error, Result};
use crate::lab::build::{self, Marks, Networks};
use crate::lab::ending::Watch;
use crate::lab::processes::Owner;
use crate::lab::{names, namespace, processes};
use crate::net::Net;
use crate::sys;
use crate::topology::{Topology, WIRES};

mod files;

use files::{ETC, LOCK, NAMESPACES, STATE, files_in, is_empty_file, remove, state_file};

/// The name of the lab whose hosts are named as they are in the topology.
pub const DEFAULT: &str = "default";

/// What is to be done by a root that may not do what root's labs need.
pub const NOT_THE_MACHINES: &str =
    "this root is none of the machine's, as under unshare -r: run it as yourself, without root, or with sudo";

/// How the first line of the state file begins where the lab depends on a process: its id and start time follow.
const OWNER: &str = "# owner ";

/// The namespace of a lab's host: `useru`, or `NAME-useru` in a lab with a name of its own.
pub fn namespace_name(lab: &str, host: &str) -> String {
    match lab {
        DEFAULT => host.to_string(),
        _ => format!("{lab}-{host}"),
    }
}

/// The names of the labs that are up as root, whole or not.
pub fn names() -> Vec<String> {
    let files = fs::read_dir(STATE).into_iter().flatten().flatten().map(|entry| entry.path());
    let toml = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let mut names: Vec<_> = toml.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect();
    names.sort();
    names
}

/// Takes away the labs whose owner has ended: without root they end with it, as root nobody is there to end them.
pub fn clear_orphans() -> Result<()> {
    for lab in names() {
        let text = fs::read_to_string(state_file(&lab)).unwrap_or_default();
        let owner = text.lines().next().and_then(|line| line.strip_prefix(OWNER)).and_then(|line| line.split_once(' '));
        let Some((pid, started)) = owner else { continue };
        let (Ok(pid), Ok(started)) = (pid.parse(), started.parse()) else { continue };
        if !(Owner { pid: Pid::from_raw(pid), started }).lives() {
            down(&lab)?;
        }
    }
    Ok(())
}

/// Where labs are kept while they are up, and whether this root may write there: that of a user namespace may not.
pub fn store() -> (&'static str, std::result::Result<(), Errno>) {
    let place = if Path::new(STATE).exists() { STATE } else { "/run" };
    (STATE, access(place, AccessFlags::W_OK))
}

/// The file that [`crate::lab::lock::RootLock`] locks.
pub fn lock_file() -> PathBuf {
    Path::new(STATE).join(LOCK)
}

/// Removes what all labs share, if none is left and nobody else uses it.
pub fn tidy() -> Result<()> {
    files::tidy_shared().context(|| format!("cannot tidy {STATE}"))
}

/// What there is of a lab.
pub enum Found {
    /// Nothing.
    Nothing,
    /// All of its namespaces, and its topology's text.
    Whole(Networks, String),
    /// Some of it: a build or an end that did not finish.
    Broken(String),
}

/// Whether there is a lab of this name, whole or not. It ends before the kernel takes its interfaces back.
pub fn is_up(lab: &str) -> bool {
    state_file(lab).exists()
}

/// Opens the file that is there as long as the lab is.
pub fn open_state(lab: &str) -> std::io::Result<File> {
    File::open(state_file(lab))
}

/// Looks for a lab.
pub fn find(lab: &str) -> Result<Found> {
    let Ok(text) = fs::read_to_string(state_file(lab)) else { return Ok(Found::Nothing) };
    let topology = match Topology::parse(&text, &state_file(lab).display().to_string()) {
        Ok(topology) => topology,
        Err(error) => return Ok(Found::Broken(error.to_string())),
    };
    let mut opened = Vec::new();
    for name in places(&topology) {
        let file = path(lab, name);
        match namespace::open(&file).ok().filter(|network| is_marked(network, lab)) {
            Some(network) => opened.push(network),
            None => return Ok(Found::Broken(format!("{} is missing", file.display()))),
        }
    }
    let Some(wires) = opened.pop() else { return Ok(Found::Broken("it has no hosts".into())) };
    Ok(Found::Whole(Networks { hosts: opened, wires }, text))
}

/// Brings a lab up in named namespaces.
///
/// # Errors
/// A namespace of one of the names is there already and is not this lab's; what the build met.
pub fn up(lab: &str, text: &str, topology: &Topology, step: u8, owner: Option<Owner>) -> Result<()> {
    for name in places(topology) {
        let file = path(lab, name);
        if is_ours(&file, lab) {
            // What is left of a lab whose state file somebody removed.
            down(lab)?;
        } else if file.exists() {
            return Err(clash(&file));
        }
    }
    let state = owner.map(|owner| format!("{OWNER}{} {}\n", owner.pid, owner.started)).unwrap_or_default() + text;
    let built = files::prepare_shared()
        .and_then(|()| files::write_state(lab, &state))
        .and_then(|()| create(lab, topology, step));
    if built.is_err() {
        down(lab)?;
    }
    built
}

fn create(lab: &str, topology: &Topology, step: u8) -> Result<()> {
    let home = namespace::own("net")?;
    let made: Result<Vec<OwnedFd>> = places(topology).map(|name| named(lab, name)).collect();
    namespace::enter(home.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let mut made = made?;
    let Some(wires) = made.pop() else { return Err(Error::failed("the topology has no hosts")) };
    for host in &topology.hosts {
        let directory = Path::new(ETC).join(namespace_name(lab, &host.name));
        files::write_names(&directory, lab, &names::files(topology, host))?;
    }
    build::build(topology, &Networks { hosts: made, wires }, &Marks(lab), step)
}

/// Makes a namespace, marks it, and gives it its name, in this order; the thread stays in it.
fn named(lab: &str, name: &str) -> Result<OwnedFd> {
    let network = namespace::new_network()?;
    build::mark(&Net::open(Level::Debug)?, &Marks(lab).of(name))?;
    let file = path(lab, name);
    let naming = || format!("cannot name a namespace {}", file.display());
    File::create_new(&file).context(naming)?;
    let nothing: Option<&str> = None;
    mount(Some("/proc/thread-self/ns/net"), &file, nothing, MsFlags::MS_BIND, nothing).context(naming)?;
    Ok(network)
}

/// Takes away what is left of a lab, whole or not, and only that. Returns whether there was anything.
pub fn down(lab: &str) -> Result<bool> {
    let state = state_file(lab);
    let text = fs::read_to_string(&state).ok();
    let topology = text.as_deref().and_then(|text| Topology::parse(text, "state").ok());
    let mut ours = Vec::new();
    let candidates: Vec<PathBuf> = match &topology {
        Some(topology) => places(topology).map(|name| path(lab, name)).collect(),
        None => files_in(NAMESPACES),
    };
    for file in candidates.into_iter().filter(|file| file.exists()) {
        match namespace::open(&file) {
            Ok(network) if is_marked(&network, lab) => ours.push((file, network)),
            // An empty file of one of our names, onto which no namespace was mounted before the builder was killed.
            _ if topology.is_some() && is_empty_file(&file) => remove(&file)?,
            _ => {}
        }
    }
    let networks: Vec<_> = ours.iter().map(|(_, network)| network.as_fd()).collect();
    processes::end_of_lab(lab, &networks)?;
    let watch = Watch::on(&networks)?;
    let found = text.is_some() || !ours.is_empty();
    for (file, _) in &ours {
        umount2(file, MntFlags::MNT_DETACH).context(|| format!("cannot unmount {}", file.display()))?;
        remove(file)?;
    }
    // All at once: the kernel takes those back together that it finds together, and each time takes tens of milliseconds.
    let ours = ours.into_iter().map(|(_, network)| network).collect();
    sys::close_together(ours).context(|| "cannot let the namespaces go".into())?;
    let directory = |host: &crate::topology::Host| Path::new(ETC).join(namespace_name(lab, &host.name));
    let directories: Vec<_> = topology.iter().flat_map(|topology| topology.hosts.iter().map(directory)).collect();
    for path in files_in(ETC) {
        files::remove_names(&path, lab, directories.contains(&path))?;
    }
    if text.is_some() {
        remove(&state)?;
    }
    watch.wait()?;
    Ok(found)
}

/// The places of a lab: its hosts, then the wires.
fn places(topology: &Topology) -> impl Iterator<Item = &str> {
    topology.hosts.iter().map(|host| host.name.as_str()).chain([WIRES])
}

fn path(lab: &str, name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace_name(lab, name))
}

/// Whether a file is the name of a namespace of this lab.
fn is_ours(file: &Path, lab: &str) -> bool {
    namespace::open(file).is_ok_and(|network| is_marked(&network, lab))
}

/// The mark of the calling thread's own network namespace, where that is a host of a lab.
pub fn own_mark() -> Result<Option<String>> {
    let alias = Net::open(Level::Debug)?.link("lo")?.and_then(|lo| lo.alias);
    Ok(alias.filter(|alias| alias.starts_with(Marks::BEGIN)))
}

/// The error for a name that is in use: whose it is, as far as can be seen.
fn clash(file: &Path) -> Error {
    let network = namespace::open(file).ok();
    let mark = network.and_then(|network| namespace::inside(&network, own_mark).ok().flatten());
    match mark {
        Some(mark) => {
            Error::failed(format!("{} is there already, and belongs to another lab ({mark})", file.display()))
                .hint("choose another name with --lab")
        }
        None => {
            let name = file.file_name().unwrap_or_default().display();
            Error::failed(format!("{} is there already, and vpnlab did not make it", file.display()))
                .hint(format!("choose another name with --lab, or remove it: ip netns del {name}"))
        }
    }
}

/// Whether a namespace bears this lab's mark.
fn is_marked(network: &impl AsFd, lab: &str) -> bool {
    let prefix = Marks(lab).of("");
    let alias = || namespace::inside(network, || Net::open(Level::Debug)?.link("lo"));
    matches!(alias(), Ok(Some(lo)) if lo.alias.as_deref().is_some_and(|alias| alias.starts_with(&prefix)))
}
