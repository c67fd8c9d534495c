//! `vpnlab trace`: one marked echo request, seen at every interface of the lab, and why it ended where it did.
//!
//! `observe` captures, sends (`echo`) and waits; `sighting` finds the echo in what was captured; `evidence` is what the hosts show;
//! `diagnosis` draws the conclusion, `cause` has the conclusions that there are; `show` tells all of it, with a `ladder`.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::error::{Context, Error, Result};
use crate::lab::{self, Lab};
use crate::output;
use crate::pcapng::Direction;

pub mod cause;
pub mod diagnosis;
mod echo;
pub mod evidence;
mod ladder;
mod observe;
mod show;
pub mod sighting;

use diagnosis::{Sighting, Verdict};
use evidence::State;
use observe::{ANSWERS, Echo, capture};
use sighting::{Leg, What};

/// `vpnlab trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The lab
    #[arg(long = "lab", value_name = "NAME", default_value = lab::root::DEFAULT, value_parser = lab::lab_name)]
    lab: String,
    /// The host that sends the echo request [default: the tunnel's client]
    from: Option<String>,
    /// The host or the IPv4 address that it is for [default: the first host behind the tunnel]
    to: Option<String>,
    /// The length of the IP packet in bytes
    #[arg(long, value_name = "N", default_value_t = 84, value_parser = length)]
    size: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// With the JSON also the text, in its field `text`
    #[arg(long, hide = true, requires = "json")]
    text: bool,
    /// Write all that was captured to FILE, for Wireshark, with a comment on each packet of the journey
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
    /// Say what can be done about it, too
    #[arg(long)]
    hint: bool,
}

/// The examples of `vpnlab trace --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab trace                          useru to userv, through whatever tunnel runs
  vpnlab trace --hint                   and what to do about it
  vpnlab trace useru server             another way
  vpnlab trace useru 10.1.3.5           to an address
  vpnlab trace --size 1500              a packet as large as the wire takes
  vpnlab trace --json | jq .verdict.cause
  vpnlab trace --pcapng t.pcapng; wireshark -d udp.port==9090,ip t.pcapng

The exit code is 0 if the reply came back, 1 if not, or if it is not the request's. docs/trace.md has all causes.";

fn length(text: &str) -> Result<usize, String> {
    let (least, most) = (echo::SHORTEST, echo::LONGEST);
    match text.parse() {
        Ok(length) if (least..=most).contains(&length) => Ok(length),
        _ => Err(format!("a number of bytes from {least} to {most}")),
    }
}

/// Runs `vpnlab trace`; returns the exit code.
pub fn run(args: &TraceArgs) -> Result<u8> {
    lab::refuse_inside_a_host()?;
    let lab = Lab::open(&args.lab)?;
    let (from, to) = ends(&lab, args)?;
    // Before the lab is joined, in which the user may have other rights.
    let file = args.pcapng.as_deref().map(create).transpose()?;
    lab.join()?;

    let echo = Echo { from, to, length: args.size, enough: None };
    let seen = capture(&lab, &echo)?;
    let after = evidence::look(&lab, ANSWERS)?;
    let scene = seen.scene(&lab, &echo, &after);
    let verdict = seen.verdict(&scene)?;
    // Whatever fails, the other is there.
    let written = match (file, &args.pcapng) {
        (Some(file), Some(path)) => show::write(file, &scene).context(|| format!("cannot write {}", path.display())),
        _ => Ok(()),
    };
    let text = || show::as_text(args, &scene, &seen, verdict.as_ref());
    let printed = if args.json {
        let mut json = show::as_json(args, &scene, &seen, verdict.as_ref());
        if args.text {
            json["text"] = text().into();
        }
        output::line(format_args!("{json:#}"))
    } else {
        output::text(text())
    };
    written.and(printed)?;
    Ok(u8::from(verdict.is_some()))
}

/// One place of a journey, for others than this module.
#[derive(Debug, Clone)]
pub struct Step {
    /// On the way there, or on the way back.
    pub leg: Leg,
    /// The host.
    pub host: String,
    /// Its interface.
    pub interface: String,
    /// Whether that is a TUN device.
    pub is_tun: bool,
    /// Into the host, or out of it.
    pub direction: Direction,
    /// Whether the echo was in a datagram there.
    pub in_datagram: bool,
    /// The time since the first place.
    pub milliseconds: f64,
    /// What is new there.
    pub news: String,
}

/// What came of an echo.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Where it was, in order.
    pub steps: Vec<Step>,
    /// The host that has the address that it was for.
    pub destination: Option<String>,
    /// How long the reply took.
    pub answered: Option<Duration>,
    /// Why there was none, or none that is the request's.
    pub verdict: Option<Verdict>,
}

/// Follows an echo of `length` bytes from a host of a lab that this process has joined. It is enough if it comes to the
/// host of the place `enough`, if one is given: whether that answers is not waited for then.
///
/// # Errors
/// It cannot be sent or captured, or a host does not tell about itself.
pub fn follow(lab: &Lab, from: usize, to: Ipv4Addr, length: usize, enough: Option<usize>) -> Result<Traced> {
    let echo = Echo { from, to, length, enough };
    let seen = capture(lab, &echo)?;
    let after = evidence::look(lab, ANSWERS)?;
    let scene = seen.scene(lab, &echo, &after);
    let verdict = seen.verdict(&scene)?;
    let step = |(place, sighting): (usize, &Sighting)| {
        let frame = &seen.frames[sighting.frame].1;
        let is_tun = |state: &State| state.link(&frame.interface).is_some_and(|link| link.is_tun);
        Step {
            leg: sighting.leg,
            host: lab.topology.hosts[sighting.host].name.clone(),
            interface: frame.interface.clone(),
            is_tun: is_tun(&after[sighting.host]) || is_tun(&seen.before[sighting.host]),
            direction: frame.direction,
            in_datagram: matches!(sighting.what, What::Inside(..)),
            milliseconds: ladder::since(&scene, sighting),
            news: ladder::news(&scene, place),
        }
    };
    let steps = seen.sightings.iter().enumerate().map(step).collect();
    let owner = (0..after.len()).find(|host| seen.before[*host].owner(to).is_some());
    let destination = owner.map(|host| lab.topology.hosts[host].name.clone());
    Ok(Traced { steps, destination, answered: seen.answered, verdict })
}

/// The host that sends, and the address that it sends to.
fn ends(lab: &Lab, args: &TraceArgs) -> Result<(usize, Ipv4Addr)> {
    let (topology, tunnel) = (&lab.topology, &lab.topology.tunnel);
    let from = topology.place(args.from.as_deref().unwrap_or(&tunnel.client))?;
    let sender = &topology.hosts[from];
    let to = match &args.to {
        Some(to) => to.clone(),
        None => {
            let behind = topology.behind_the_tunnel().filter(|host| host.name != sender.name);
            match behind {
                Some(host) => host.name.clone(),
                None if sender.name != tunnel.client => tunnel.client.clone(),
                // Nobody is behind the tunnel: its other end is as far as it leads.
                None => tunnel.server_address.addr().to_string(),
            }
        }
    };
    if let Ok(address) = to.parse::<Ipv4Addr>() {
        return match address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            true => Err(Error::usage(format!("{address} is no host's address")).hint("name a host, or its address")),
            false => Ok((from, address)),
        };
    }
    let target = topology.host(&to)?;
    if target.name == sender.name {
        return Err(Error::usage(format!("{to} cannot trace to itself")).hint("name two hosts: vpnlab trace FROM TO"));
    }
    let is_near = sender
        .interfaces
        .iter()
        .any(|ours| target.interfaces.iter().any(|theirs| theirs.network == ours.network && theirs.hostname.is_some()));
    // From behind the tunnel, its client is reached by the address of its TUN device.
    match tunnel.client_address.addr() {
        IpAddr::V4(address) if target.name == tunnel.client && !is_near => Ok((from, address)),
        _ => Ok((from, topology.resolve(sender, target))),
    }
}

fn create(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        let hint = "name a file; vpnlab lab capture - writes packets to stdout";
        return Err(Error::usage("stdout has the trace, and cannot have its packets as well").hint(hint));
    }
    File::create(path).map_err(|error| Error::usage(format!("cannot write {}", path.display())).because(error))
}
