//! A trace as text, as JSON, and as a file of packets with comments.

use std::fs::File;
use std::io::BufWriter;

use serde_json::{Value, json};

use super::TraceArgs;
use super::diagnosis::{self, Scene, Sighting, Verdict};
use super::evidence::{self, State};
use super::ladder;
use super::observe::Seen;
use super::sighting::{self, Leg, What};
use crate::lab::record::Record;
use crate::pcapng::LinkType;

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

/// As text.
pub fn as_text(args: &TraceArgs, scene: &Scene<'_>, seen: &Seen, verdict: Option<&Verdict>) -> String {
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

/// As JSON, which docs/trace.md tells of.
pub fn as_json(args: &TraceArgs, scene: &Scene<'_>, seen: &Seen, verdict: Option<&Verdict>) -> Value {
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
pub fn write(file: File, scene: &Scene<'_>) -> std::io::Result<()> {
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
