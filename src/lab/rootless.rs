//! A lab without root: everything in a user namespace and a process namespace that die with one process, the keeper.
//!
//! The keeper is the first process of the lab's process namespace. It holds the namespaces, and hands descriptors of
//! them to the same user's `vpnlab` commands over an abstract Unix socket. Nothing is on disk: when the keeper ends,
//! however it ends, the kernel ends every program in the lab and takes back namespaces, links and routes.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, sendmsg,
    socket, sockopt::PeerCredentials,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, Uid, getuid, pipe2, setsid};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Exit, Result};
use crate::lab::build::{self, Marks, Networks};
use crate::lab::ending::Watch;
use crate::lab::namespace;
use crate::lab::processes::{self, Owner};
use crate::sys;
use crate::topology::Topology;

/// How long to wait for another `vpnlab` that is bringing the same lab up.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a keeper may take to answer; on a busy machine, too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the keeper tells about its lab.
#[derive(Debug, Serialize, Deserialize)]
struct Described {
    /// The topology file's text.
    topology: String,
}

/// A lab that is up, as its keeper describes it.
pub struct Kept {
    /// The keeper, in the caller's process namespace.
    pub keeper: Pid,
    /// The lab's user namespace.
    pub user: OwnedFd,
    /// The lab's process namespace.
    pub processes: OwnedFd,
    /// The lab's network namespaces.
    pub networks: Networks,
    /// The topology file's text.
    pub topology: String,
}

/// The name of the abstract socket of a user's lab (unix(7)); it is gone with the keeper.
fn socket_name(lab: &str) -> Vec<u8> {
    format!("vpnlab/{}/{lab}", getuid()).into_bytes()
}

/// The name of the abstract socket that [`crate::lab::lock::UserLock`] binds. No lab's name has a dot in it.
pub fn lock_name(lab: &str) -> Vec<u8> {
    socket_name(&format!(".lock-{lab}"))
}

/// The names of this user's labs that have a keeper.
pub fn names() -> Vec<String> {
    names_of(getuid())
}

/// The names of a user's labs that have a keeper.
pub fn names_of(user: Uid) -> Vec<String> {
    let prefix = format!("@vpnlab/{user}/");
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = sockets.lines().filter_map(|line| Some(line.split_once(&prefix)?.1.to_string()));
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names.dedup();
    names
}

/// Asks a lab's keeper for the lab; `None` where there is no such lab.
///
/// # Errors
/// The socket's name is held by another user, or the keeper does not answer.
pub fn find(lab: &str) -> Result<Option<Kept>> {
    let asking = || format!("cannot ask the keeper of lab {lab}");
    let unanswered = |error| {
        Error::failed(asking())
            .because(error)
            .hint(format!("`vpnlab lab down{}` ends it in any case", super::option(lab)))
    };
    let Some((mut stream, keeper)) = call(lab)? else { return Ok(None) };
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).context(asking)?;
    let (_, fds) = sys::receive_fds(stream.as_fd(), &mut [0]).map_err(unanswered)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(unanswered)?;
    let described: Described = serde_json::from_str(&text).context(asking)?;
    let mut fds = fds.into_iter();
    let (Some(user), Some(processes), Some(wires)) = (fds.next(), fds.next(), fds.next()) else {
        return Err(Error::failed(asking()).because("it sent no namespaces"));
    };
    let networks = Networks { hosts: fds.collect(), wires };
    Ok(Some(Kept { keeper, user, processes, networks, topology: described.topology }))
}

/// Connects to a lab's keeper; `None` where there is none.
fn call(lab: &str) -> Result<Option<(UnixStream, Pid)>> {
    let calling = || format!("cannot reach the keeper of lab {lab}");
    let started = Instant::now();
    let stream = loop {
        let address = SocketAddr::from_abstract_name(socket_name(lab)).context(calling)?;
        match UnixStream::connect_addr(&address) {
            Ok(stream) => break stream,
            Err(_) if !names().iter().any(|name| name == lab) => return Ok(None),
            // The name is bound and nobody listens yet: somebody is bringing the lab up just now.
            Err(_) if started.elapsed() < BUILD_TIMEOUT => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(Error::failed(calling()).because(error)),
        }
    };
    let peer = getsockopt(&stream, PeerCredentials).context(calling)?;
    if peer.uid() != getuid().as_raw() {
        return Err(Error::failed(format!("the lab name {lab} is held by another user (uid {})", peer.uid()))
            .hint("choose another name with --lab"));
    }
    Ok(Some((stream, Pid::from_raw(peer.pid()))))
}

/// Ends a lab whose keeper does not answer.
pub fn abandon(lab: &str) -> Result<()> {
    match call(lab)? {
        Some((_, keeper)) => end(keeper),
        None => Ok(()),
    }
}

/// Kills a keeper, and returns when every process of its lab has ended.
fn end(keeper: Pid) -> Result<()> {
    let ending = || "cannot end the lab's keeper".to_string();
    let watched = match sys::pidfd(keeper) {
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => return Ok(()),
        watched => watched.context(ending)?,
    };
    match kill(keeper, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Error::failed(ending()).because(errno)),
    }
    // A process namespace's first process has ended when all others have (pid_namespaces(7)).
    let mut ended = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::NONE).context(ending)?;
    Ok(())
}

/// Brings a lab up, and leaves its keeper running.
///
/// Returns false, and does nothing, where somebody else is bringing this lab up just now.
///
/// # Errors
/// What the build met; nothing is left of a build that failed.
pub fn up(lab: &str, text: &str, topology: &Topology, step: u8, owner: Option<Owner>) -> Result<bool> {
    let Some(door) = reserve(lab)? else { return Ok(false) };
    let watching = || "cannot watch the lab's owner".to_string();
    let owner = owner.map(|owner| sys::pidfd(owner.pid)).transpose().context(watching)?;
    let (result, report) = pipe2(OFlag::O_CLOEXEC).context(|| "cannot make a pipe".into())?;
    namespace::new_user_and_processes()?;
    match sys::fork().context(|| "cannot start the lab's keeper".into())? {
        ForkResult::Child => {
            drop(result);
            let kept: Vec<_> = [&door, &report].into_iter().chain(&owner).map(AsFd::as_fd).collect();
            let closed = sys::close_all_but(&kept).context(|| "cannot close the caller's descriptors".into());
            let built = closed.and_then(|()| keeper(lab, text, topology, step, &door));
            let (done, networks) = match built {
                Ok(networks) => (Ok(()), Some(networks)),
                Err(error) => (Err(error), None),
            };
            let told = tell(report, done);
            if let (Ok(()), Some(networks)) = (told, networks) {
                let _ = serve(door, text, &networks, owner.as_ref());
            }
            std::process::exit(1)
        }
        ForkResult::Parent { child } => {
            drop((report, door));
            let heard = hear(result);
            if heard.is_err() {
                let _ = waitpid(child, None);
            }
            heard.map(|()| true)
        }
    }
}

/// Ends a lab: its programs are told to end first; returns when every one of them is gone, and every interface.
pub fn down(keeper: Pid, user: BorrowedFd<'_>, networks: Networks) -> Result<()> {
    namespace::enter(user, CloneFlags::CLONE_NEWUSER)?;
    processes::end_in(&networks.hosts, false)?;
    let watch = Watch::on(&networks.all())?;
    drop(networks);
    end(keeper)?;
    watch.wait()
}

/// Binds the lab's name, so that two `lab up` at a time cannot both build it.
fn reserve(lab: &str) -> Result<Option<OwnedFd>> {
    let reserving = || format!("cannot reserve the lab name {lab}");
    let door = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context(reserving)?;
    let address = UnixAddr::new_abstract(&socket_name(lab)).context(reserving)?;
    match bind(door.as_raw_fd(), &address) {
        Ok(()) => Ok(Some(door)),
        Err(Errno::EADDRINUSE) => Ok(None),
        Err(errno) => Err(Error::failed(reserving()).because(errno)),
    }
}

/// The life of the keeper up to a finished lab.
fn keeper(lab: &str, text: &str, topology: &Topology, step: u8, door: &OwnedFd) -> Result<Networks> {
    // Until the lab stands, the keeper dies with the command that builds it.
    let detaching = || "cannot detach the lab's keeper".to_string();
    prctl::set_pdeathsig(Signal::SIGKILL).context(detaching)?;
    prctl::set_name(c"vpnlab-lab").context(detaching)?;
    setsid().context(detaching)?;
    std::env::set_current_dir("/").context(detaching)?;

    let hosts = topology.hosts.iter().map(|_| namespace::new_network()).collect::<Result<Vec<_>>>()?;
    let networks = Networks { hosts, wires: namespace::new_network()? };
    build::build(topology, &networks, &Marks(lab), step)?;

    listen(door, Backlog::new(64).context(detaching)?)
        .context(|| format!("cannot serve lab {lab} ({} bytes)", text.len()))?;
    close_standard_streams().context(detaching)?;
    prctl::set_pdeathsig(None).context(detaching)?;
    Ok(networks)
}

/// Tells the waiting command how the build ended: an exit code and a message, or nothing where all went well.
fn tell(report: OwnedFd, done: Result<()>) -> std::io::Result<()> {
    let mut report = std::fs::File::from(report);
    match done {
        Ok(()) => report.write_all(&[0]),
        Err(error) => report.write_all(&[&[error.exit() as u8], error.to_string().as_bytes()].concat()),
    }
}

fn hear(result: OwnedFd) -> Result<()> {
    let mut heard = Vec::new();
    std::fs::File::from(result).read_to_end(&mut heard).context(|| "cannot hear from the lab's keeper".into())?;
    let message = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match heard.split_first() {
        Some((0, _)) => Ok(()),
        Some((&code, text)) if code == Exit::Environment as u8 => Err(Error::environment(message(text))),
        Some((&code, text)) if code == Exit::Usage as u8 => Err(Error::usage(message(text))),
        Some((_, text)) => Err(Error::failed(message(text))),
        None => Err(Error::failed("the lab's keeper was killed while it built the lab")),
    }
}

/// Hands the lab to whoever of the same user asks, until the keeper is killed or the lab's owner has ended.
fn serve(door: OwnedFd, text: &str, networks: &Networks, owner: Option<&OwnedFd>) -> Result<()> {
    let serving = || "cannot serve the lab".to_string();
    // As the first process of its namespace it inherits orphans; ignored, they leave no zombies (wait(2)).
    sys::ignore(Signal::SIGCHLD).context(serving)?;
    let answer = serde_json::to_vec(&Described { topology: text.to_string() }).context(serving)?;
    let (user, processes) = (namespace::own("user")?, namespace::own("pid")?);
    let mut fds = vec![user.as_raw_fd(), processes.as_raw_fd(), networks.wires.as_raw_fd()];
    fds.extend(networks.hosts.iter().map(AsRawFd::as_raw_fd));
    let listener = UnixListener::from(door);
    loop {
        let mut awaited = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        awaited.extend(owner.map(|owner| PollFd::new(owner.as_fd(), PollFlags::POLLIN)));
        match poll(&mut awaited, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context(serving)?,
        };
        if awaited.get(1).is_some_and(|owner| owner.any() == Some(true)) {
            return Ok(());
        }
        // A client that went away is no reason to end the lab.
        let _ = listener.accept().and_then(|(stream, _)| hand_over(&stream, &fds, &answer));
    }
}

fn hand_over(mut stream: &UnixStream, fds: &[i32], answer: &[u8]) -> std::io::Result<()> {
    if getsockopt(&stream, PeerCredentials)?.uid() != getuid().as_raw() {
        return Ok(());
    }
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let rights = [ControlMessage::ScmRights(fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.write_all(answer)
}

fn close_standard_streams() -> std::io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open(Path::new("/dev/null"))?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
