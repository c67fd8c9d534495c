//! `vpnlab trace`: one marked echo request, seen at every interface of the lab, and why it ended where it did.
//!
//! [`run`] captures, sends and waits; `sighting` finds the echo in what was captured; `evidence` is what the hosts show;
//! `diagnosis` draws the conclusion, `cause` has the conclusions that there are, and `ladder` the drawing.

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::lab::capture::{Capture, Frame};
use crate::lab::record::Record;
use crate::lab::{self, Lab, namespace};
use crate::output;
use crate::pcapng::{Direction, LinkType};

pub mod cause;
pub mod diagnosis;
mod echo;
pub mod evidence;
mod ladder;
pub mod sighting;

use diagnosis::{Scene, Sighting, Verdict};
use echo::{Answer, EchoSocket};
use evidence::{Questions, State};
use sighting::{Leg, Mark, What};

/// How long the echo has for its way there and back, with what is looked at before it is sent.
const PATIENCE: Duration = Duration::from_millis(3500);

/// How long the hosts may take to tell about themselves, each time. Then the machine is too busy to blame anyone.
const ANSWERS: Duration = Duration::from_secs(10);

/// How long it may stay unseen before it is given up. A slow program on a busy machine takes some milliseconds.
const UNSEEN: Duration = Duration::from_millis(1500);

/// How long frames may take from the wire to the capture, once the reply is there.
const LATE: Duration = Duration::from_millis(20);

/// How long frames that wait in the sockets at the end are looked at. Those of a flood are many.
const DRAIN: Duration = Duration::from_millis(300);

/// How many frames of one host are taken before the others have their turn.
const TURN: usize = 256;

/// How many frames are kept, and how many bytes of them: other traffic of the lab must not fill the memory.
const MOST_FRAMES: usize = 200_000;
const MOST_BYTES: usize = 256 << 20;

/// How many frames with the echo in them are kept. A packet that goes in circles ends before, by its TTL; but a tunnel that
/// swallows its own datagrams has more of them each time.
const MOST_TRACED: usize = 2000;

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

The exit code is 0 if the reply came back, 1 if not. docs/trace.md has all causes.";

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
    if let (Some(file), Some(path)) = (file, &args.pcapng) {
        write(file, &scene).context(|| format!("cannot write {}", path.display()))?;
    }
    let text = || as_text(args, &scene, &seen, verdict.as_ref());
    if args.json {
        let mut json = as_json(args, &scene, &seen, verdict.as_ref());
        if args.text {
            json["text"] = text().into();
        }
        output::line(format_args!("{json:#}"))?;
    } else {
        output::text(text())?;
    }
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
    /// Why there was none.
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

/// What is sent, and how long for.
struct Echo {
    /// The host that sends the request, by its place; where to; its length in bytes, with its IP header.
    from: usize,
    to: Ipv4Addr,
    length: usize,
    /// The host that it is enough to come to.
    enough: Option<usize>,
}

/// What came of the echo.
#[derive(Default)]
struct Seen {
    /// The hosts before the request was sent.
    before: Vec<State>,
    frames: Vec<(usize, Frame)>,
    /// Where the echo is in them.
    sightings: Vec<Sighting>,
    /// Until when they were captured: the time since 1970.
    until: Duration,
    /// How long the reply took.
    answered: Option<Duration>,
    /// How a reply differs that came, and is not the one to the request.
    wrong_reply: Option<Vec<String>>,
    /// The errno with which the kernel did not take the request.
    refused: Option<i32>,
    /// How many frames at least were not captured, for want of room or time.
    lost: u32,
}

/// The frames as they are captured, each with its host and with what was found in it.
#[derive(Default)]
struct Caught {
    frames: Vec<(usize, Frame, Option<Box<What>>)>,
    /// How many bytes they have in all, and how many of them have the echo in them.
    bytes: usize,
    traced: usize,
    /// How many there was no room for.
    lost: u32,
}

impl Caught {
    /// Keeps a frame of a host, if there is room or the echo is in it; returns whether it is.
    fn keep(&mut self, host: usize, frame: Frame, mark: Mark) -> bool {
        let found = frame.packet().and_then(|packet| sighting::find(packet, mark)).map(Box::new);
        let is_traced = found.is_some();
        let has_room = match is_traced {
            true => self.traced < MOST_TRACED,
            false => self.frames.len() < MOST_FRAMES && self.bytes < MOST_BYTES,
        };
        if has_room {
            self.traced += usize::from(is_traced);
            self.bytes += frame.bytes.len();
            self.frames.push((host, frame, found));
        } else {
            self.lost += 1;
        }
        is_traced
    }

    /// The frames in the order of their times, and where the echo is in them.
    fn in_order(mut self) -> (Vec<(usize, Frame)>, Vec<Sighting>) {
        self.frames.sort_by_key(|(_, frame, _)| frame.at);
        let mut latest = Leg::Request;
        let mut sightings = Vec::new();
        let frames = self.frames.into_iter().enumerate().map(|(place, (host, frame, found))| {
            if let Some(what) = found.filter(|_| !frame.is_foreign) {
                let leg = what.leg().unwrap_or(latest);
                latest = latest.max(leg);
                sightings.push(Sighting { frame: place, host, leg, what: *what });
            }
            (host, frame)
        });
        (frames.collect(), sightings)
    }
}

impl Seen {
    /// All that is known about the echo: from where, where to, how long; and the hosts after it.
    fn scene<'a>(&'a self, lab: &'a Lab, echo: &Echo, after: &'a [State]) -> Scene<'a> {
        Scene {
            topology: &lab.topology,
            from: echo.from,
            to: echo.to,
            length: echo.length,
            refused: self.refused,
            wrong_reply: self.wrong_reply.as_deref(),
            frames: &self.frames,
            until: self.until,
            sightings: &self.sightings,
            before: &self.before,
            after,
            ask: Questions::to(lab),
        }
    }

    /// Why there was no reply; `None` where there was one.
    fn verdict(&self, scene: &Scene<'_>) -> Result<Option<Verdict>> {
        match self.answered {
            Some(_) => Ok(None),
            None => Ok(Some(with_what_was_lost(scene.diagnose()?, self.lost))),
        }
    }
}

/// What was not seen may have been among the frames that were not captured.
fn with_what_was_lost(mut verdict: Verdict, lost: u32) -> Verdict {
    if lost > 0 {
        verdict
            .facts
            .push(format!("{lost} packets or more were not captured: what was not seen may have passed all the same"));
    }
    verdict
}

/// Sends the request, and captures at every host until the reply is there, or nobody need wait for it any more.
fn capture(lab: &Lab, echo: &Echo) -> Result<Seen> {
    let to = echo.to;
    let begun = Instant::now();
    let number = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
    let mark = Mark::new(number ^ u64::from(std::process::id()) << 48);
    let open = |network| namespace::inside(network, Capture::open);
    let mut captures = lab.networks.hosts.iter().map(open).collect::<Result<Vec<_>>>()?;
    // The captures come first, so that no packet passes unseen that the hosts' counters have. Nor does the kernel
    // begin at once to take the times that they want (net_enable_timestamp in net/core/dev.c), which the look leaves
    // it time for.
    let before = evidence::look(lab, ANSWERS)?;
    let socket = namespace::inside(&lab.networks.hosts[echo.from], || EchoSocket::open(mark, to, echo.length))?;
    let mut seen = Seen { before, ..Seen::default() };

    let started = Instant::now();
    let mut deadline = started + UNSEEN;
    match socket.send() {
        Ok(()) => {}
        Err(
            errno @ (Errno::EPERM
            | Errno::EACCES
            | Errno::EINVAL
            | Errno::EMSGSIZE
            | Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::ENOBUFS),
        ) => {
            seen.refused = Some(errno as i32);
            deadline = started + LATE;
        }
        Err(errno) => return Err(Error::failed(format!("cannot send an echo request to {to}")).because(errno)),
    }
    let mut caught = Caught::default();
    let mut arrived = false;
    loop {
        wait(&captures, &socket, deadline)?;
        for (host, capture) in captures.iter_mut().enumerate() {
            // While others flood the lab there is always one more frame: the other hosts and the deadline have their turn.
            for _ in 0..TURN {
                let Some(frame) = capture.take()? else { break };
                let is_enough = echo.enough == Some(host) && frame.direction == Direction::In && !frame.is_foreign;
                if caught.keep(host, frame, mark) && seen.answered.is_none() && !arrived {
                    arrived = is_enough;
                    deadline = match arrived {
                        true => Instant::now() + LATE,
                        false => (begun + PATIENCE).min(Instant::now() + UNSEEN).max(deadline),
                    };
                }
            }
        }
        if seen.answered.is_none() {
            match socket.answered().context(|| "cannot wait for the reply".into())? {
                Some(Answer::Right) => {
                    seen.answered = Some(started.elapsed());
                    deadline = Instant::now() + LATE;
                }
                // The right one may follow.
                Some(Answer::Wrong(differs)) => seen.wrong_reply = Some(differs),
                None => {}
            }
        }
        if Instant::now() >= deadline || caught.traced >= MOST_TRACED {
            break;
        }
    }
    // What has passed by now may still wait in the sockets.
    let drained = Instant::now() + DRAIN;
    seen.until = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    for (host, capture) in captures.iter_mut().enumerate() {
        while let Some(frame) = capture.take()?.filter(|frame| frame.at <= seen.until) {
            if Instant::now() >= drained {
                seen.lost += 1;
                break;
            }
            caught.keep(host, frame, mark);
        }
    }
    seen.lost += caught.lost + captures.iter().map(Capture::lost).sum::<u32>();
    // The kernel waits for every processor when one is closed (packet_release in net/packet/af_packet.c); for all at
    // once.
    thread::scope(|scope| captures.into_iter().for_each(|capture| drop(scope.spawn(|| drop(capture)))));
    (seen.frames, seen.sightings) = caught.in_order();
    Ok(seen)
}

/// Sleeps until a frame or an answer waits, or the deadline is there.
fn wait(captures: &[Capture], socket: &EchoSocket, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut awaited: Vec<_> = captures.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
    awaited.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
    let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    match poll(&mut awaited, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::failed("cannot wait for packets").because(errno)),
    }
}

/// The programs that hold the tunnel's ends, a line for each host.
fn programs(scene: &Scene<'_>) -> Vec<(String, String)> {
    let line = |(host, state): (&crate::topology::Host, &State)| {
        let holds = |holder: &evidence::Holder| {
            let sockets =
                state.sockets.iter().filter(|socket| state.socket_holders(socket).any(|it| it.pid == holder.pid));
            let ports = sockets.map(|socket| format!("UDP {}", socket.local.port()));
            let what: Vec<_> = holder.tuns.iter().cloned().chain(ports).collect();
            (!what.is_empty()).then(|| format!("{holder}: {}", what.join(", ")))
        };
        let held: Vec<_> = state.holders.iter().filter_map(holds).collect();
        (!held.is_empty()).then(|| (host.name.clone(), held.join("; ")))
    };
    scene.topology.hosts.iter().zip(scene.after).filter_map(line).collect()
}

fn as_text(args: &TraceArgs, scene: &Scene<'_>, seen: &Seen, verdict: Option<&Verdict>) -> String {
    let from = &scene.topology.hosts[scene.from].name;
    let mut text =
        format!("{from} > {}: echo request of {} bytes\n", scene.topology.name_of(scene.to.into()), args.size);
    for (host, held) in programs(scene) {
        text += &format!("  {host}: {held}\n");
    }
    text += "\n";
    if !scene.sightings.is_empty() {
        text += &ladder::draw(scene);
        text += "\n";
    }
    if seen.lost > 0 {
        text += &format!("{} packets or more were not captured: there was more traffic than room.\n", seen.lost);
    }
    match (verdict, seen.answered) {
        (Some(verdict), _) => {
            let leg = if verdict.leg == Leg::Request { "request" } else { "reply" };
            let cause = verdict.cause;
            text += &paragraph("", &format!("The {leg} ended at {}: {}.", verdict.host, cause.title()));
            verdict.facts.iter().for_each(|fact| text += &paragraph("  - ", fact));
            text += &paragraph("", &format!("Cause: {}, of the handout's step {}.", cause.id(), cause.step()));
            text += &match args.hint {
                true => paragraph("Hint: ", &cause.hint(scene.topology)),
                false => "--hint says what can be done.\n".to_string(),
            };
        }
        (None, Some(took)) => {
            let milliseconds = took.as_secs_f64() * 1000.0;
            text += &format!("The reply is back after {milliseconds:.3} ms.\n");
        }
        (None, None) => {}
    }
    text
}

/// Text in lines of 80 columns, the first behind `first`, the others indented like it.
fn paragraph(first: &str, text: &str) -> String {
    let indent = " ".repeat(first.len());
    let lines = ladder::wrap(text, 80 - first.len());
    let line = |(place, line): (usize, &String)| format!("{}{line}\n", if place == 0 { first } else { &indent });
    lines.iter().enumerate().map(line).collect()
}

fn as_json(args: &TraceArgs, scene: &Scene<'_>, seen: &Seen, verdict: Option<&Verdict>) -> Value {
    let sighting = |(place, sighting): (usize, &Sighting)| {
        let frame = &scene.frames[sighting.frame].1;
        let (outer, inner, error) = match &sighting.what {
            What::Echo(echo) => (None, Some(echo_json(echo)), None),
            What::Inside(datagram, _) => {
                let outer = json!({
                    "from": datagram.from, "to": datagram.to, "ttl": datagram.ttl, "length": datagram.payload.len(),
                    "fragment": datagram.fragment,
                });
                (Some(outer), datagram.echo.as_ref().map(echo_json), None)
            }
            What::Refused(refusal) => {
                let error = json!({
                    "by": refusal.by, "to": refusal.to, "type": refusal.kind, "code": refusal.code,
                    "name": diagnosis::error_name(refusal.kind, refusal.code), "mtu": refusal.mtu,
                });
                (None, None, Some(error))
            }
        };
        json!({
            "leg": sighting.leg,
            "host": scene.topology.hosts[sighting.host].name,
            "interface": frame.interface,
            "direction": frame.direction,
            "milliseconds": ladder::since(scene, sighting),
            "datagram": outer,
            "echo": inner,
            "error": error,
            "news": ladder::news(scene, place),
        })
    };
    let verdict = verdict.map(|verdict| {
        let mut value = json!({
            "cause": verdict.cause, "title": verdict.cause.title(), "step": verdict.cause.step(),
            "host": verdict.host, "leg": verdict.leg, "facts": verdict.facts,
        });
        if args.hint {
            value["hint"] = verdict.cause.hint(scene.topology).into();
        }
        value
    });
    let programs: serde_json::Map<_, _> = programs(scene).into_iter().map(|(host, held)| (host, held.into())).collect();
    json!({
        "lab": args.lab,
        "from": scene.topology.hosts[scene.from].name,
        "to": scene.to,
        "length": args.size,
        "answered": seen.answered.is_some(),
        "milliseconds": seen.answered.map(|took| took.as_micros() as f64 / 1000.0),
        "programs": programs,
        "journey": scene.sightings.iter().enumerate().map(sighting).collect::<Vec<_>>(),
        "not_captured": seen.lost,
        "verdict": verdict,
    })
}

fn echo_json(echo: &sighting::Echo) -> Value {
    json!({ "source": echo.source, "destination": echo.destination, "ttl": echo.ttl, "length": echo.bytes.len() })
}

/// Writes what was captured, with an interface for each place where something could be, and comments on the journey.
fn write(file: File, scene: &Scene<'_>) -> std::io::Result<()> {
    let mut record = Record::new(scene.topology, BufWriter::new(file))?;
    for (host, state) in scene.after.iter().enumerate() {
        for (link, _) in state.links.iter().filter(|(link, _)| link.name != "lo") {
            record.point(host, &link.name, if link.is_tun { LinkType::Raw } else { LinkType::Ethernet })?;
        }
    }
    for (place, (host, frame)) in scene.frames.iter().enumerate() {
        let comment = scene.sightings.iter().position(|sighting| sighting.frame == place).map(|step| {
            let leg = if scene.sightings[step].leg == Leg::Request { "request" } else { "reply" };
            format!("vpnlab trace: {leg}, {} of {}. {}", step + 1, scene.sightings.len(), ladder::news(scene, step))
                .trim_end()
                .to_string()
        });
        record.commented(*host, frame, comment.as_deref())?;
    }
    record.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_how_much_was_not_captured() {
        let facts = vec!["a fact".to_string()];
        let verdict = Verdict { cause: cause::Cause::NotSent, host: "useru".into(), leg: Leg::Request, facts };
        assert_eq!(with_what_was_lost(verdict.clone(), 0), verdict);
        let facts = with_what_was_lost(verdict, 7).facts;
        assert_eq!(facts.len(), 2);
        assert!(facts[1].starts_with("7 packets or more were not captured"), "{facts:?}");
    }
}
