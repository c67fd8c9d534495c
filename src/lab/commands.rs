//! `vpnlab lab ...`: what the user types, and what is printed.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use log::warn;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid};

use crate::error::{Context, Error, Result};
use crate::lab::host::{self, Program};
use crate::lab::lock::{RootLock, UserLock};
use crate::lab::processes::Owner;
use crate::lab::{Lab, Mode, build, check, clear, processes, record, root, rootless, status, tmux};
use crate::topology::{HANDOUT, Topology};
use crate::{output, sys, tun};

const LAST_STEP: i64 = 4;

/// `vpnlab lab ...`
#[derive(Debug, Args)]
pub struct LabArgs {
    /// The lab's name; several labs live side by side. As root its hosts are the namespaces NAME-useru, ...
    /// [default: default]
    #[arg(long = "lab", value_name = "NAME", global = true, value_parser = lab_name)]
    name: Option<String>,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Bring the lab up: its hosts, wires, addresses and names
    #[command(after_help = "EXAMPLES:\n  vpnlab lab up                     # as a plain user: no root needed\n  \
        vpnlab lab up --step 4            # as a student has it at the start of step 4\n  \
        sudo vpnlab lab up                # hosts are then named namespaces: sudo ip netns exec useru ip address")]
    Up {
        /// Another network than the handout's: see docs/topology.md
        #[arg(long, value_name = "FILE")]
        topology: Option<PathBuf>,
        /// Set what the handout has the student set before this step (0 to 4): forwarding, routes
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=LAST_STEP))]
        step: Option<u8>,
        /// End the lab when this process ends
        #[arg(long, value_name = "PID", hide = true)]
        owner: Option<i32>,
    },
    /// End the lab and every program in it; nothing is left
    #[command(after_help = "EXAMPLES:\n  vpnlab lab down\n  vpnlab lab down --lab group7")]
    Down,
    /// Put a running lab back to what it was; shells of `lab shell` stay open
    #[command(after_help = "EXAMPLES:\n  vpnlab lab reset                  # as it was brought up\n  \
        vpnlab lab reset --step 4         # with what steps 0 to 3 have set")]
    Reset {
        /// As a student has it at the start of this step (0 to 4); default: as the lab was last prepared
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=LAST_STEP))]
        step: Option<u8>,
    },
    /// Show the labs that are up, or the one that --lab names: hosts, addresses, programs
    #[command(after_help = "EXAMPLES:\n  vpnlab lab status\n  \
        vpnlab lab status --lab group7    # one of several\n  \
        vpnlab lab status --json | jq -r '.[].hosts[].programs[].command'")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a host
    #[command(after_help = "EXAMPLES:\n  vpnlab lab exec useru -- ping -c1 server\n  \
        vpnlab lab exec server -- sudo vpnlab vpn --role server\n\n\
        The exit code is the command's; 128 + N if signal N ended it; 126 or 127 if it could not be run.")]
    Exec {
        /// The host to run it on
        host: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Open a shell on a host
    #[command(
        after_help = "EXAMPLES:\n  vpnlab lab shell useru            # then type the handout's commands, sudo included"
    )]
    Shell {
        /// The host to open it on
        host: String,
    },
    /// Open a window of tmux with a shell on each host, or show the one that is open
    #[command(
        after_help = "EXAMPLES:\n  vpnlab lab tmux                             # useru, server, userv, userw\n  \
        vpnlab lab tmux --host useru --host useru   # two panes, both on useru\n  \
        vpnlab lab tmux --no-attach && tmux -L vpnlab-default attach\n\n\
        It is a tmux server of the lab's own, with your configuration; it ends with the lab. Ctrl-B d leaves it open, Ctrl-B and an\n\
        arrow goes to another pane, Ctrl-B z shows one large. Without tmux it says what to type in so many terminals."
    )]
    Tmux {
        /// Only this host; may be given more than once. Where tmux is open already, panes that are missing are added
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Open it, but do not show it
        #[arg(long)]
        no_attach: bool,
    },
    /// Record what passes all interfaces of all hosts, until Ctrl-C, in a file for Wireshark
    #[command(after_help = "EXAMPLES:\n  vpnlab lab capture all.pcapng\n  \
        vpnlab lab capture - | wireshark -k -i - -d udp.port==9090,ip     # while it happens\n\n\
        Its interfaces are useru/tun0, server/eth0, ...; -d udp.port==9090,ip shows the packets inside the tunnel's datagrams.")]
    Capture {
        /// The file, which is written anew; - for stdout
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write no more than so many megabytes
        #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        limit: Option<u64>,
    },
    /// Check the topology, as step 0 of the handout does: who reaches whom, and who must not
    #[command(after_help = "EXAMPLES:\n  vpnlab lab check\n  vpnlab lab check --json | jq .passed\n\n\
        The exit code is 0 if all is as it must be, 1 if not.")]
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `vpnlab lab`; returns the exit code.
pub fn run(args: &LabArgs) -> Result<u8> {
    let name = args.name.as_deref().unwrap_or(root::DEFAULT);
    // Tmux is the machine's business as well: on a host it would be a server that other hosts' panes depend on.
    refuse_inside(changes(&args.command) || matches!(args.command, LabCommand::Tmux { .. }))?;
    // `vpnlab lab status | head -1` ends quietly, as other programs do.
    sys::restore(Signal::SIGPIPE).context(|| "cannot restore SIGPIPE".into())?;
    let _lock = lock(name, &args.command)?;
    match &args.command {
        LabCommand::Up { topology, step, owner } => up(name, topology.as_ref(), *step, *owner).map(|()| 0),
        LabCommand::Down => down(name).map(|()| 0),
        LabCommand::Reset { step } => reset(name, *step).map(|()| 0),
        LabCommand::Status { json } => status(args.name.as_deref(), *json).map(|()| 0),
        LabCommand::Exec { host, command } => run_on(name, host, Program::Command(command)),
        LabCommand::Shell { host } => run_on(name, host, Program::Shell),
        LabCommand::Tmux { hosts, no_attach } => tmux::run(&Lab::open(name)?, hosts, !no_attach),
        LabCommand::Capture { file, limit } => record::run(&Lab::open(name)?, file, *limit).map(|()| 0),
        LabCommand::Check { json } => check(name, *json),
    }
}

/// From inside a host of a rootless lab, the machine's labs cannot be seen; from inside one of root's, which has a mount
/// namespace of its own, a lab would be built that the machine cannot see.
fn refuse_inside(changes: bool) -> Result<()> {
    let is_root = nix::unistd::getuid().is_root();
    let host = match std::env::var(host::HOST_VARIABLE) {
        Ok(host) if !is_root || changes => format!("host {host}"),
        // `ip netns exec` sets no variable.
        _ if is_root && changes => match root::own_mark()? {
            Some(mark) => format!("a host ({mark})"),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    Err(Error::usage(format!("this is {host} of a lab")).hint("type lab commands in a shell of the machine itself"))
}

/// Says that a command which looks at a whole lab must be typed on the machine itself, where it is not.
///
/// # Errors
/// This is a host of a lab, from which the labs cannot be seen.
pub fn refuse_inside_a_host() -> Result<()> {
    refuse_inside(false)
}

/// Whether a command makes, changes or ends a lab.
fn changes(command: &LabCommand) -> bool {
    matches!(command, LabCommand::Up { .. } | LabCommand::Down | LabCommand::Reset { .. })
}

/// A lock that is held until the command ends.
enum Lock {
    /// For all of root's labs.
    Root(#[allow(dead_code)] RootLock),
    /// For one lab of a plain user's.
    User(#[allow(dead_code)] UserLock),
}

/// Commands that change a lab come one after another; as root, the first clears up after a killed one.
fn lock(name: &str, command: &LabCommand) -> Result<Option<Lock>> {
    match command {
        _ if !changes(command) => Ok(None),
        _ if nix::unistd::getuid().is_root() => {
            let lock = RootLock::take()?;
            root::clear_orphans()?;
            Ok(Some(Lock::Root(lock)))
        }
        // The keeper that it leaves behind would hold the lock; `up` reserves the lab's name instead.
        LabCommand::Up { .. } => Ok(None),
        _ => UserLock::take(name).map(Lock::User).map(Some),
    }
}

/// Lab names become names of namespaces, sockets and files.
pub fn lab_name(name: &str) -> Result<String, String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match plain && (1..=32).contains(&name.len()) && !name.starts_with('-') {
        true => Ok(name.to_string()),
        false => Err("up to 32 letters, digits and hyphens".into()),
    }
}

/// Brings a lab up, or says that it is; repairs one that is damaged.
fn up(name: &str, file: Option<&PathBuf>, step: Option<u8>, owner: Option<i32>) -> Result<()> {
    let owner = owner.map(|pid| {
        Owner::of(Pid::from_raw(pid)).ok_or_else(|| Error::usage(format!("there is no process {pid} to own the lab")))
    });
    let owner = owner.transpose()?;
    let (text, topology) = match file {
        Some(file) => {
            let topology = Topology::read(file)?;
            let text = std::fs::read_to_string(file);
            (text.map_err(|error| Error::usage(format!("cannot read {}", file.display())).because(error))?, topology)
        }
        None => (HANDOUT.to_string(), crate::topology::handout().clone()),
    };
    match Lab::find(name) {
        Ok(Some(lab)) => return already_up(&lab, file.map(|_| &topology), step),
        Ok(None) => {}
        Err(error) => {
            output::error_line(format_args!("vpnlab: {error}"));
            match nix::unistd::getuid().is_root() {
                true => drop(root::down(name)?),
                false => rootless::abandon(name)?,
            }
            output::error_line("vpnlab: cleared away");
        }
    }
    let at = step.unwrap_or(0);
    if nix::unistd::getuid().is_root() {
        root::up(name, &text, &topology, at, owner)?;
    } else if !rootless::up(name, &text, &topology, at, owner)? {
        // Somebody else was quicker; then this lab is up already, or about to be.
        return up(name, file, step, owner.map(|owner| owner.pid.as_raw()));
    }
    let hosts: Vec<_> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
    output::line(format_args!("lab {name} is up: {}", hosts.join(", ")))?;
    // The lab itself needs none, but whatever is done in it does.
    if let Err(error) = tun::check_device() {
        warn!("no step will work in it: {error}");
    }
    Ok(())
}

fn already_up(lab: &Lab, wanted: Option<&Topology>, step: Option<u8>) -> Result<()> {
    let name = &lab.name;
    if wanted.is_some_and(|wanted| *wanted != lab.topology) {
        return Err(Error::failed(format!("lab {name} is up with another topology"))
            .hint("end it with `vpnlab lab down`, or choose another name with --lab"));
    }
    let _lock = match lab.mode {
        Mode::Rootless { .. } => Some(UserLock::take(name)?),
        Mode::Root => None,
    };
    lab.join()?;
    let prepared = build::prepared_step(&lab.networks)?;
    let damage = build::damage(&lab.topology, &lab.networks)?;
    if !damage.is_empty() {
        put_back(lab, step.unwrap_or(prepared))?;
        return output::line(format_args!("lab {name} is up; it was damaged ({}), and is repaired", damage.join(", ")));
    }
    match step {
        Some(step) if step != prepared => Err(Error::failed(format!(
            "lab {name} is up already, prepared for step {prepared}"
        ))
        .hint(format!("to put it to the start of step {step}: vpnlab lab reset{} --step {step}", super::option(name)))),
        _ => output::line(format_args!("lab {name} is up already")),
    }
}

/// Ends a lab, whole or not.
fn down(name: &str) -> Result<()> {
    let found = if nix::unistd::getuid().is_root() {
        root::down(name)?
    } else {
        match Lab::find(name) {
            Ok(Some(lab)) => {
                if let Mode::Rootless { keeper, user, .. } = lab.mode {
                    rootless::down(keeper, user.as_fd(), lab.networks)?;
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                output::error_line(format_args!("vpnlab: {error}"));
                rootless::abandon(name)?;
                true
            }
        }
    };
    match found {
        true => output::line(format_args!("lab {name} is down")),
        false => output::line(format_args!("lab {name} was not up{}", elsewhere(name))),
    }
}

/// A remark on a lab of this name that another user's rights have made.
fn elsewhere(name: &str) -> &'static str {
    let is_named = |names: Vec<String>| names.iter().any(|other| other == name);
    let sudo_user = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    match nix::unistd::getuid().is_root() {
        false if is_named(root::names()) => "; but root has one of that name: use sudo",
        true if sudo_user.is_some_and(|uid| is_named(rootless::names_of(Uid::from_raw(uid)))) => {
            "; but one of that name was brought up without sudo: use no sudo"
        }
        _ => "",
    }
}

fn reset(name: &str, step: Option<u8>) -> Result<()> {
    let lab = Lab::open(name)?;
    lab.join()?;
    let step = step.map_or_else(|| build::prepared_step(&lab.networks), Ok)?;
    put_back(&lab, step)?;
    output::line(format_args!("lab {name} is as at the start of step {step}"))
}

/// Ends the programs in the hosts but for the lab's shells, and wires the hosts anew.
fn put_back(lab: &Lab, step: u8) -> Result<()> {
    processes::end_in(&lab.networks.hosts, true)?;
    clear::clear(&lab.networks)?;
    build::build(&lab.topology, &lab.networks, &build::Marks(&lab.name), step)
}

fn run_on(name: &str, host: &str, program: Program<'_>) -> Result<u8> {
    let code = host::run(&Lab::open(name)?, host, program)?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn check(name: &str, json: bool) -> Result<u8> {
    let outcomes = check::run(&Lab::open(name)?)?;
    let passed = outcomes.iter().all(|outcome| outcome.passed);
    match json {
        true => output::line(format_args!(
            "{:#}",
            serde_json::json!({ "lab": name, "passed": passed, "checks": outcomes })
        ))?,
        false => output::text(check::table(&outcomes))?,
    }
    Ok(u8::from(!passed))
}

/// Shows all labs, or the one that was named.
fn status(name: Option<&str>, json: bool) -> Result<()> {
    let (labs, of_root) = match name {
        Some(name) => (vec![status::look_at(&Lab::open(name)?)?], Vec::new()),
        None => (status::all()?, status::of_root()),
    };
    match json {
        true => output::line(format_args!("{:#}", serde_json::json!(labs))),
        false => output::text(status::text(&labs, &of_root)),
    }
}
