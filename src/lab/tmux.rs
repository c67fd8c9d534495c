//! `vpnlab lab tmux`: one window, a pane with a shell for each host.
//!
//! The session is on a tmux server of its own (`tmux -L vpnlab-NAME`), which reads the user's configuration: so their keys and
//! colours are there, the settings made here are nobody else's, the server's environment is that of this command and not of
//! whatever it was that the user began with, and all of it ends with the lab: a pane is `lab shell`, which ends when its shell
//! does, and a server without panes ends as well. It would leave its socket; a process that waits for its end removes that.
//! Nothing here enters a namespace.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, getuid, setsid};

use crate::error::{Context, Error, Result};
use crate::lab::{Lab, namespace, option};
use crate::output;
use crate::sys;
use crate::topology::Topology;

/// The pane's own option that names its host. The pane's title does as well, but programs may change that.
const HOST: &str = "@host";

/// The session's own option that tells one lab from the next of the same name.
const LAB: &str = "@lab";

/// The size of the window in columns and lines until a terminal shows it.
const SIZE: (&str, &str) = ("160", "48");

/// Opens the session, or what is missing of it, and shows it, if `attach`.
///
/// # Errors
/// There is no such host, no tmux, no terminal; or tmux refuses.
pub fn run(lab: &Lab, hosts: &[String], attach: bool) -> Result<u8> {
    let asked = !hosts.is_empty();
    let hosts = wanted(&lab.topology, hosts)?;
    let session = Session::of(lab)?;
    if !session.has_tmux()? {
        return Err(without_tmux(lab, &hosts));
    }
    if attach && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Error::usage("this is no terminal to show tmux on").hint("with --no-attach tmux is not shown yet"));
    }
    match session.is_there() {
        true if asked => session.add_missing(&hosts)?,
        true => {}
        // Another command may have been faster.
        false => session.make(&hosts).or_else(|error| if session.is_there() { Ok(()) } else { Err(error) })?,
    }
    match attach {
        true => Err(session.show()),
        false => {
            output::line(format_args!("lab {0} is in tmux: tmux -L {1} attach", lab.name, session.socket))?;
            Ok(0)
        }
    }
}

/// The hosts that get a pane: those asked for, each as often as it was; else all at which a student works. A router that only
/// says that there is no way is scenery.
fn wanted(topology: &Topology, asked: &[String]) -> Result<Vec<String>> {
    for host in asked {
        topology.host(host)?;
    }
    let all = topology.hosts.iter().filter(|host| host.unreachable.is_empty()).map(|host| host.name.clone());
    Ok(if asked.is_empty() { all.collect() } else { asked.to_vec() })
}

/// Prints what is to be typed in so many terminals.
fn without_tmux(lab: &Lab, hosts: &[String]) -> Error {
    let sudo = if getuid().is_root() && env::var_os("SUDO_UID").is_some() { "sudo " } else { "" };
    let lines = hosts.iter().map(|host| format!("{sudo}vpnlab lab{} shell {host}\n", option(&lab.name)));
    match output::text(lines.collect::<String>()) {
        Ok(()) => Error::environment("there is no tmux here").hint(format!(
            "open {} terminals and type one of these lines in each; or install it: sudo apt-get install tmux",
            hosts.len()
        )),
        Err(error) => error,
    }
}

/// The session of a lab.
struct Session<'l> {
    lab: &'l str,
    /// The name of the server's socket, as `tmux -L` takes it.
    socket: String,
    /// The network namespace of the lab's first host.
    identity: String,
}

impl<'l> Session<'l> {
    fn of(lab: &'l Lab) -> Result<Self> {
        let first = lab.networks.hosts.first().ok_or_else(|| Error::failed("the lab has no hosts"))?;
        let (device, inode) = namespace::identity(first)?;
        Ok(Self { lab: &lab.name, socket: format!("vpnlab-{}", lab.name), identity: format!("{device}:{inode}") })
    }

    /// Its window, and the active pane in it.
    fn window(&self) -> String {
        format!("={}:", self.lab)
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).env_remove("TMUX").env_remove("TMUX_PANE");
        tmux
    }

    fn has_tmux(&self) -> Result<bool> {
        match self.tmux().arg("-V").output() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context(|| "cannot run tmux".into()),
        }
    }

    /// Runs commands of tmux's; returns what they print.
    fn run(&self, commands: &[Vec<OsString>]) -> Result<String> {
        let words = commands.join(&OsString::from(";"));
        let output = self.tmux().args(words).output().context(|| "cannot run tmux".into())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string()),
            false => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
                Err(Error::failed(format!("tmux refuses the session of lab {}", self.lab)).because(why))
            }
        }
    }

    /// Whether the session is there, and of this lab. One of a lab that has gone is ended; its panes are about to.
    fn is_there(&self) -> bool {
        let format = format!("#{{session_name}}:#{{{LAB}}}");
        let all = self.run(&[words(&["list-sessions", "-F", &format])]).unwrap_or_default();
        match all.lines().find_map(|line| line.strip_prefix(self.lab)?.strip_prefix(':')) {
            Some(identity) if identity == self.identity => true,
            Some(_) => {
                // It may just have ended by itself.
                let _ = self.run(&[words(&["kill-session", "-t", &self.window()])]);
                false
            }
            None => false,
        }
    }

    /// Makes the session with its panes, all in one call: whatever the configuration says of servers that nobody is attached to.
    fn make(&self, hosts: &[String]) -> Result<()> {
        let window = self.window();
        let tells = "#{pid} #{socket_path}";
        let new = ["new-session", "-d", "-P", "-F", tells, "-x", SIZE.0, "-y", SIZE.1, "-n", "hosts", "-s", self.lab];
        let mut commands = Vec::new();
        for (place, host) in hosts.iter().enumerate() {
            let opens = if place == 0 { words(&new) } else { words(&["split-window", "-t", &window]) };
            commands.extend(self.pane(opens, host)?);
        }
        for (name, value) in [("exit-empty", "on"), ("exit-unattached", "off")] {
            commands.push(words(&["set-option", "-s", name, value]));
        }
        for (name, value) in [("destroy-unattached", "off"), (LAB, &self.identity)] {
            commands.push(words(&["set-option", "-t", &window, name, value]));
        }
        let border = format!(" #{{{HOST}}} ");
        let of_window =
            [("remain-on-exit", "off"), ("pane-border-status", "top"), ("pane-border-format", border.as_str())];
        for (name, value) in of_window {
            commands.push(words(&["set-option", "-w", "-t", &window, name, value]));
        }
        commands.push(words(&["select-pane", "-t", &format!("{window}.{{top-left}}")]));
        let told = self.run(&commands)?;
        let server = told.split_once(' ').and_then(|(pid, path)| Some((pid.parse().ok()?, PathBuf::from(path))));
        let (pid, path) =
            server.ok_or_else(|| Error::failed(format!("tmux does not say where it is, but {told:?}")))?;
        tidy_up_after(Pid::from_raw(pid), &path)
    }

    /// Adds the panes of those hosts that have fewer than asked for.
    fn add_missing(&self, hosts: &[String]) -> Result<()> {
        let format = format!("#{{{HOST}}}");
        let there = self.run(&[words(&["list-panes", "-s", "-t", &self.window(), "-F", &format])])?;
        let mut there: Vec<&str> = there.lines().collect();
        for host in hosts {
            match there.iter().position(|other| other == host) {
                Some(place) => drop(there.swap_remove(place)),
                None => {
                    let opens = words(&["split-window", "-t", &self.window()]);
                    self.run(&self.pane(opens, host)?)?;
                }
            }
        }
        Ok(())
    }

    /// The commands that open a pane for a host, and give it its title.
    fn pane(&self, mut opens: Vec<OsString>, host: &str) -> Result<[Vec<OsString>; 4]> {
        let window = self.window();
        let program = env::current_exe().context(|| "cannot find vpnlab's own file".into())?;
        // As words of their own they are run without a shell of tmux's.
        opens.push(program.into());
        opens.extend(words(&["lab", "--lab", self.lab, "shell", host]));
        Ok([
            opens,
            words(&["set-option", "-p", "-t", &window, HOST, host]),
            words(&["select-pane", "-t", &window, "-T", host]),
            words(&["select-layout", "-t", &window, "tiled"]),
        ])
    }

    /// Becomes the tmux that shows the session; returns only where that fails. Within a tmux the session is shown by the client
    /// that is there: on the lab's own server at once, on another one in a window.
    fn show(&self) -> Error {
        let around = env::var("TMUX").unwrap_or_default();
        let around = around.split(',').next().map(Path::new).and_then(Path::file_name);
        let window = self.window();
        let mut tmux = match around {
            None => {
                let mut tmux = self.tmux();
                tmux.args(["attach-session", "-t", &window]);
                tmux
            }
            Some(own) if own == self.socket.as_str() => {
                let mut tmux = Command::new("tmux");
                tmux.args([
                    "switch-client",
                    "-t",
                    &window,
                    ";",
                    "select-window",
                    "-t",
                    &format!("={}:hosts", self.lab),
                ]);
                tmux
            }
            Some(_) => {
                output::error_line("a tmux within a tmux: press the prefix key twice for the inner one");
                let mut tmux = Command::new("tmux");
                tmux.args(["new-window", "-n", &self.socket, "env", "-u", "TMUX", "tmux", "-L", &self.socket]);
                tmux.args(["attach-session", "-t", &window]);
                tmux
            }
        };
        Error::failed("cannot run tmux").because(tmux.exec())
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Has a process of its own wait for the server's end, and remove its socket then, as tmux does not.
fn tidy_up_after(server: Pid, socket: &Path) -> Result<()> {
    let failed = || "cannot wait for the end of tmux".to_string();
    let server = sys::pidfd(server).context(failed)?;
    let null = fs::File::options().read(true).write(true).open("/dev/null").context(failed)?;
    match sys::fork().context(failed)? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            // Nobody hears of it if this fails: then a socket stays that tmux would use again.
            let _ = wait_and_remove(&server, &null, socket);
            std::process::exit(0)
        }
    }
}

fn wait_and_remove(server: &OwnedFd, null: &fs::File, socket: &Path) -> io::Result<()> {
    prctl::set_name(c"vpnlab-tmux")?;
    setsid()?;
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)?;
    env::set_current_dir("/")?;
    // Above all the lab's namespaces, which would stay with it.
    sys::close_all_but(&[server.as_fd()])?;
    let mut ended = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    while poll(&mut ended, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
    // Another one may listen there already.
    if UnixStream::connect(socket).is_err() {
        fs::remove_file(socket)?;
        // Its directory goes if no other tmux has a socket in it.
        if let Some(directory) = socket.parent() {
            fs::remove_dir(directory)?;
        }
    }
    Ok(())
}
