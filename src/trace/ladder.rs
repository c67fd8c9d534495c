//! A journey for people: a lane per host, a line per place where the echo was seen. 80 columns, and no need of colours.

use std::time::Duration;

use super::diagnosis::{Scene, Sighting, error_name};
use super::sighting::{Difference, Echo, Leg, What};
use crate::pcapng::Direction;

/// The width of a line.
const WIDTH: usize = 80;

/// How many sightings are drawn. What goes in circles is seen often, and looks the same each time.
const MOST: usize = 60;

/// What a sighting shows that the one before it did not.
pub fn news(scene: &Scene<'_>, place: usize) -> String {
    let sighting = &scene.sightings[place];
    let earlier = || {
        let steps = scene.sightings[..place].iter().rev();
        steps.filter(|step| step.leg == sighting.leg).map(|step| &step.what)
    };
    let before = earlier().find(|what| !matches!(what, What::Refused(_)));
    let echo_before = earlier().find_map(|what| match what {
        What::Echo(echo) => Some(echo),
        _ => None,
    });
    match (&sighting.what, before) {
        (What::Echo(echo), None) => introduce(echo),
        (What::Echo(echo), Some(What::Inside(datagram, _))) => {
            match datagram.echo.as_ref().filter(|_| !datagram.fragment).or(echo_before) {
                Some(before) => with_changes("out of UDP", before, echo),
                None => format!("out of UDP: {}", introduce(echo)),
            }
        }
        (What::Echo(echo), Some(What::Echo(before))) => with_changes("", before, echo),
        (What::Inside(datagram, _), Some(What::Inside(before, _))) => {
            let ends = (datagram.from, datagram.to) != (before.from, before.to);
            let ends = ends.then(|| format!("now UDP {} > {}", datagram.from, datagram.to));
            let ttl = (datagram.ttl != before.ttl).then(|| format!("outer ttl {}", datagram.ttl));
            ends.into_iter().chain(ttl).collect::<Vec<_>>().join(", ")
        }
        (What::Inside(datagram, _), _) => {
            let difference = echo_before.filter(|echo| !datagram.fragment && !echo.fragment);
            let difference = difference.and_then(|echo| Difference::between(&echo.bytes, &datagram.payload));
            let difference = difference.map_or(String::new(), |it| format!(": {it}"));
            let fragments = if datagram.fragment { ", in fragments" } else { "" };
            format!("in UDP {} > {}{fragments}{difference}", datagram.from, datagram.to)
        }
        (What::Refused(refusal), _) => {
            let about = if refusal.datagram.is_some() { " (of the datagram)" } else { "" };
            let by = scene.topology.name_of(refusal.by.into());
            format!("{by} says: {}{about}", error_name(refusal.kind, refusal.code))
        }
        (What::Echo(echo), Some(What::Refused(_))) => introduce(echo),
    }
}

fn introduce(echo: &Echo) -> String {
    let kind = if echo.leg == Leg::Request { "request" } else { "reply" };
    let fragments = if echo.fragment { ", in fragments" } else { "" };
    format!("{} > {} echo {kind}, ttl {}{fragments}", echo.source, echo.destination, echo.ttl)
}

/// What has changed in an echo: its TTL and the checksum over it where it was forwarded; anything else where somebody meddled.
fn with_changes(first: &str, before: &Echo, echo: &Echo) -> String {
    let mut said: Vec<String> = Some(first.to_string()).filter(|first| !first.is_empty()).into_iter().collect();
    if (before.source, before.destination) != (echo.source, echo.destination) {
        said.push(format!("now {} > {}", echo.source, echo.destination));
    }
    if before.ttl != echo.ttl {
        said.push(format!("ttl {}", echo.ttl));
    }
    let plain = |echo: &Echo| {
        let mut bytes = echo.bytes.clone();
        // The TTL, the header checksum, and the addresses, which are told by themselves.
        [8..9, 10..20].into_iter().for_each(|place| bytes[place].fill(0));
        bytes
    };
    match Difference::between(&plain(before), &plain(echo)) {
        _ if before.fragment || echo.fragment => {}
        Some(difference) => said.push(difference.to_string()),
        None => {}
    }
    said.join(", ")
}

/// Milliseconds since the first sighting, to a microsecond.
pub fn since(scene: &Scene<'_>, sighting: &Sighting) -> f64 {
    let at = |sighting: &Sighting| scene.frames[sighting.frame].1.at;
    let first = scene.sightings.first().map_or(Duration::ZERO, at);
    at(sighting).saturating_sub(first).as_micros() as f64 / 1000.0
}

/// The whole ladder.
pub fn draw(scene: &Scene<'_>) -> String {
    let is_seen = |host: &usize| *host == scene.from || scene.sightings.iter().any(|it| it.host == *host);
    let hosts: Vec<usize> = (0..scene.topology.hosts.len()).filter(is_seen).collect();
    let name = |host: usize| scene.topology.hosts[host].name.as_str();
    let interface = |sighting: &Sighting| scene.frames[sighting.frame].1.interface.len() + 1;
    let lane = |host: usize| {
        let widest = scene.sightings.iter().filter(|it| it.host == host).map(interface).max().unwrap_or(0);
        widest.max(name(host).len()) + 1
    };
    let row = |time: &str, mark: &dyn Fn(usize) -> String, text: &str| {
        let lanes: String = hosts.iter().map(|host| format!("{:<1$}", mark(*host), lane(*host))).collect();
        format!("{time:>9}  {lanes} {text}").trim_end().to_string() + "\n"
    };
    let idle = |_: usize| "|".to_string();
    let indent = 12 + hosts.iter().map(|host| lane(*host)).sum::<usize>();

    let mut text = row("ms", &|host| name(host).to_string(), "");
    let mut leg = Leg::Request;
    for (place, sighting) in scene.sightings.iter().enumerate().take(MOST) {
        if sighting.leg != leg {
            leg = sighting.leg;
            text += &row("", &idle, "");
        }
        let frame = &scene.frames[sighting.frame].1;
        let mark = |host: usize| match frame.direction {
            _ if host != sighting.host => "|".into(),
            Direction::Out => format!("{}>", frame.interface),
            Direction::In => format!(">{}", frame.interface),
        };
        let time = format!("{:.3}", since(scene, sighting));
        let lines = wrap(&news(scene, place), WIDTH.saturating_sub(indent).max(24));
        text += &row(&time, &mark, lines.first().map_or("", String::as_str));
        for line in lines.iter().skip(1) {
            text += &row("", &idle, line);
        }
    }
    if scene.sightings.len() > MOST {
        text += &row("", &idle, &format!("and {} more", scene.sightings.len() - MOST));
    }
    text
}

/// Breaks a text into lines of at most so many characters, between words where that can be.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a-word-that-is-longer", 8), ["a-word-that-is-longer"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
