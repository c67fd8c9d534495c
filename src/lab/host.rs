//! Running a program on a host: its network, its hostname, its names, its `/proc` and `/sys`, its path.
//!
//! The program gets a mount and a hostname namespace of its own, as under `ip netns exec`; nothing that is mounted here
//! is seen outside, and all of it goes with the program.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use caps::CapSet;
use log::debug;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, getuid, sethostname};

use crate::error::{Context, Error, Result};
use crate::lab::{Lab, Mode, names, namespace, processes, standin};
use crate::logging;
use crate::sys;
use crate::topology;

/// Says which host a program runs on, in its environment.
pub const HOST_VARIABLE: &str = "VPNLAB_HOST";

/// Where a host's own directory may be mounted: the first of these that is empty, so that nothing is hidden; the last
/// one in any case, since no program on a host needs it.
const MOUNT_POINTS: [&str; 6] = ["/usr/local/sbin", "/srv", "/mnt", "/media", "/opt", "/boot"];

/// The exit codes of a command that could not be started, as env(1) has them.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// What to run on a host.
pub enum Program<'a> {
    /// A command and its arguments.
    Command(&'a [OsString]),
    /// The user's shell, with the host's name as its prompt.
    Shell,
}

/// Runs a program on a host to its end, and returns its exit code; 128 + N where signal N ended it.
///
/// The terminal, the standard streams and the signals of the terminal are the program's. The process must have one
/// thread, and is of the lab's namespaces afterwards.
///
/// # Errors
/// There is no such host, or the kernel refuses to enter it. A command that cannot be started is 126 or 127.
pub fn run(lab: &Lab, host: &str, program: Program<'_>) -> Result<i32> {
    lab.topology.host(host)?;
    if let Mode::Rootless { user, processes, .. } = &lab.mode {
        namespace::enter(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        namespace::enter(processes.as_fd(), CloneFlags::CLONE_NEWPID)?;
    }
    // Signals wait for the signalfd below; the child lets them through again.
    let handled =
        SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]);
    handled.thread_block().context(|| "cannot block signals".into())?;
    let name = if matches!(program, Program::Shell) { processes::SHELL_KEEPER } else { c"vpnlab-exec" };
    match sys::fork().context(|| format!("cannot start a program on {host}"))? {
        ForkResult::Child => {
            let error = become_program(lab, host, program, &handled);
            logging::fatal(&error.1);
            std::process::exit(error.0)
        }
        ForkResult::Parent { child } => {
            prctl::set_name(name).context(|| "cannot name this process".into())?;
            wait(child, &handled)
        }
    }
}

/// Waits for the program, and passes on what asks this process to end.
fn wait(child: Pid, handled: &SigSet) -> Result<i32> {
    let waiting = || "cannot wait for the program".to_string();
    let signals = SignalFd::with_flags(handled, SfdFlags::SFD_CLOEXEC).context(waiting)?;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context(waiting)? {
            WaitStatus::Exited(_, code) => return Ok(code),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            _ => {}
        }
        let signal = match signals.read_signal() {
            Ok(Some(signal)) => signal,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::failed(waiting()).because(errno)),
        };
        match Signal::try_from(signal.ssi_signo as i32) {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            // Ctrl-C: the terminal has sent it to the program, too (sigaction(2), si_code).
            Ok(Signal::SIGINT | Signal::SIGQUIT) if signal.ssi_code == nix::libc::SI_KERNEL => {}
            Ok(signal) => drop(kill(child, signal)),
        }
    }
}

/// Turns this process into the program. Returns only where that failed: the exit code, and why.
fn become_program(lab: &Lab, host: &str, program: Program<'_>, handled: &SigSet) -> (i32, Error) {
    let prepare = || -> Result<(Vec<CString>, PathBuf)> {
        // Whoever started it may be killed; then it ends too.
        prctl::set_pdeathsig(Signal::SIGKILL).context(|| "cannot tie the program to vpnlab".into())?;
        let directory = furnish(lab, host)?;
        grant_capabilities(lab)?;
        handled.thread_unblock().context(|| "cannot unblock signals".into())?;
        sys::restore(Signal::SIGPIPE).context(|| "cannot restore SIGPIPE".into())?;
        let words = match program {
            Program::Command(words) => words.to_vec(),
            Program::Shell => shell(&directory),
        };
        let words = words.iter().map(|word| CString::new(word.as_bytes()));
        Ok((words.collect::<Result<_, _>>().context(|| "a word of the command holds a NUL byte".into())?, directory))
    };
    let (words, directory) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return (error.exit() as i32, error),
    };
    if let Err(error) = environment(lab, host, &directory) {
        return (error.exit() as i32, error);
    }
    let Err(errno) = execvp(&words[0], &words);
    let name = words[0].to_string_lossy();
    if errno == Errno::ENOENT || !is_on_path(&name) {
        return (NOT_FOUND, Error::failed(format!("{name}: command not found on {host}")));
    }
    (CANNOT_RUN, Error::failed(format!("cannot run {name}")).because(io::Error::from(errno)))
}

/// Whether a command names a file, or a file is found for it on the path. execvp(3) says EACCES where a directory of
/// the path is closed to the user, wherever the file is.
fn is_on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    name.contains('/') || env::split_paths(&path).any(|directory| directory.join(name).exists())
}

/// Enters the host and mounts what is its own. Returns the directory of the host's own files.
fn furnish(lab: &Lab, host: &str) -> Result<PathBuf> {
    let nothing: Option<&str> = None;
    namespace::enter(lab.network(host)?.as_fd(), CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context(|| format!("cannot furnish host {host}"))?;
    sethostname(host).context(|| format!("cannot set the hostname {host}"))?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
        .context(|| "cannot keep the host's mounts to itself".into())?;
    if matches!(lab.mode, Mode::Rootless { .. }) {
        // A program that gets rights from its file, as ping does, loses the tie to whoever started it (PR_SET_PDEATHSIG
        // in prctl(2)). The lab's own rights are ambient, and suffice.
        if let Err(error) = sys::ignore_file_rights() {
            debug!("the rights of program files count on {host}: {error}");
        }
    }

    // Where the machine's own are partly hidden, as in a container, the kernel refuses these two: the host then sees
    // the machine's, and only `ps` and /sys/class/net are wrong.
    let own_view = |kind: &str, target: &str| {
        if let Err(errno) = mount(Some(kind), target, Some(kind), MsFlags::empty(), nothing) {
            debug!("{host} has the machine's {target}: {errno}");
        }
    };
    if matches!(lab.mode, Mode::Rootless { .. }) {
        own_view("proc", "/proc");
    }
    own_view("sysfs", "/sys");

    let directory = mount_point();
    let failed = || format!("cannot make the files of host {host} in {}", directory.display());
    mount(Some("vpnlab"), &directory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context(failed)?;
    names::readable_by_all(|| write_files(lab, host, &directory)).context(failed)?;
    let files = names::files(&lab.topology, lab.topology.host(host)?);
    for (name, _) in files {
        let target = Path::new("/etc").join(name);
        if target.exists() {
            mount(Some(&directory.join("etc").join(name)), &target, nothing, MsFlags::MS_BIND, nothing)
                .context(|| format!("cannot give host {host} its {}", target.display()))?;
        }
    }
    Ok(directory)
}

/// Where something of a process's own can be mounted: the first of these places that is empty.
pub fn mount_point() -> PathBuf {
    let empty = |path: &&str| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    PathBuf::from(MOUNT_POINTS.into_iter().find(empty).unwrap_or(MOUNT_POINTS[MOUNT_POINTS.len() - 1]))
}

/// The host's own directory: `etc/` is bound over `/etc`, `bin/` is first on the path, `last/` is last.
fn write_files(lab: &Lab, host: &str, directory: &Path) -> io::Result<()> {
    let executable = env::current_exe()?;
    for name in ["etc", "bin", "last"] {
        fs::create_dir(directory.join(name))?;
    }
    if let Ok(host) = lab.topology.host(host) {
        for (name, text) in names::files(&lab.topology, host) {
            fs::write(directory.join("etc").join(name), text)?;
        }
    }
    fs::write(directory.join("topology.toml"), &lab.text)?;
    fs::write(directory.join("bashrc"), bashrc(host, directory))?;
    for name in ["vpnlab", standin::SUDO] {
        symlink(&executable, directory.join("bin").join(name))?;
    }
    for name in standin::WHERE_MISSING {
        symlink(&executable, directory.join("last").join(name))?;
    }
    Ok(())
}

/// The user's own bash settings, then the host's path and prompt.
fn bashrc(host: &str, directory: &Path) -> String {
    format!(
        "[ -r ~/.bashrc ] && . ~/.bashrc\nunset PROMPT_COMMAND\nPATH={}/bin:$PATH\nPS1='{host}:$ '\n",
        directory.display()
    )
}

fn shell(directory: &Path) -> Vec<OsString> {
    match Path::new("/bin/bash").exists() {
        true => vec!["bash".into(), "--rcfile".into(), directory.join("bashrc").into(), "-i".into()],
        false => vec!["sh".into(), "-i".into()],
    }
}

/// Without root, a program of the user's own uid has no capabilities unless they are ambient (capabilities(7)).
fn grant_capabilities(lab: &Lab) -> Result<()> {
    if getuid().is_root() || !matches!(lab.mode, Mode::Rootless { .. }) {
        return Ok(());
    }
    let granting = || "cannot pass on the lab's capabilities".to_string();
    let all = caps::read(None, CapSet::Permitted).context(granting)?;
    caps::set(None, CapSet::Inheritable, &all).context(granting)?;
    caps::set(None, CapSet::Ambient, &all).context(granting)
}

/// The environment of a program on a host.
fn environment(lab: &Lab, host: &str, directory: &Path) -> Result<()> {
    let inherited = env::var_os("PATH").unwrap_or_else(|| OsStr::new("/usr/local/bin:/usr/bin:/bin").to_owned());
    // A plain user's path lacks the directories of ip, sysctl and tcpdump.
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let inherited: Vec<PathBuf> = env::split_paths(&inherited).collect();
    let missing = system.into_iter().filter(|path| !inherited.contains(path)).collect::<Vec<_>>();
    let path = [directory.join("bin")].into_iter().chain(inherited).chain(missing).chain([directory.join("last")]);
    let path = env::join_paths(path).context(|| "cannot make the host's PATH".into())?;
    let settings: [(&str, OsString); 5] = [
        ("PATH", path),
        (HOST_VARIABLE, host.into()),
        (processes::LAB_VARIABLE, (&lab.name).into()),
        (topology::VARIABLE, directory.join("topology.toml").into()),
        ("PS1", format!("{host}:$ ").into()),
    ];
    for (name, value) in settings {
        sys::set_variable(name, &value).context(|| format!("cannot set {name}"))?;
    }
    Ok(())
}
