//! Why an echo did not arrive: from where it was seen last, and from what the hosts show.
//!
//! A cause is named only for a fact that proves it; where there is none, the answer is that nobody knows. Each module
//! here stands for one place where a packet can end, and each of its functions for one way how.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Serialize;

use super::cause::Cause;
use super::evidence::{self, Questions, State};
use super::sighting::{Datagram, Difference, Leg, Refusal, What};
use crate::error::Result;
use crate::lab::capture::Frame;
use crate::pcapng::Direction;
use crate::topology::Topology;

mod datagram;
mod device;
mod forwarding;
mod fragments;
mod wire;

/// One place that the echo was seen at.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The frame's place in [`Scene::frames`].
    pub frame: usize,
    /// The host's place in the topology.
    pub host: usize,
    /// Request or reply; that of an ICMP error is the leg that it is about.
    pub leg: Leg,
    /// What was seen.
    pub what: What,
}

/// Everything that is known about an echo: what was captured, and what the hosts showed before and after.
pub struct Scene<'a> {
    /// The lab's hosts, and its tunnel.
    pub topology: &'a Topology,
    /// The host that sent the request.
    pub from: usize,
    /// The address that it was sent to.
    pub to: Ipv4Addr,
    /// The request's length in bytes, its IP header included.
    pub length: usize,
    /// The errno with which the kernel did not take it.
    pub refused: Option<i32>,
    /// How a reply differs that came back, and is not the one to the request.
    pub wrong_reply: Option<&'a [String]>,
    /// All frames that were captured, each with its host, in the order of their times.
    pub frames: &'a [(usize, Frame)],
    /// Until when they were: the time since 1970.
    pub until: Duration,
    /// Where the echo was in them.
    pub sightings: &'a [Sighting],
    /// The hosts before it was sent.
    pub before: &'a [State],
    /// The hosts after it was waited for.
    pub after: &'a [State],
    /// The hosts now.
    pub ask: Questions<'a>,
}

/// Where the echo ended, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Why.
    pub cause: Cause,
    /// The name of the host that it is about.
    pub host: String,
    /// On the way there, or on the way back.
    pub leg: Leg,
    /// What was seen that proves it.
    pub facts: Vec<String>,
}

impl Scene<'_> {
    /// Says where and why the echo ended.
    ///
    /// # Errors
    /// A host does not answer any more.
    pub fn diagnose(&self) -> Result<Verdict> {
        let Some(last) = self.last() else { return self.never_left() };
        if let Some(differs) = self.wrong_reply {
            return Ok(self.came_back_wrong(last, differs));
        }
        if let Some(verdict) = self.looped().or_else(|| self.ended_by_a_router()) {
            return Ok(verdict);
        }
        let verdict = self.ended(last)?;
        // All that is known of the first fragment may be that it is there, and waits for the others.
        if matches!(verdict.cause, Cause::NoAnswer | Cause::Unexplained)
            && let Some(lost) = self.lost_fragment(last)?
        {
            return Ok(lost);
        }
        Ok(verdict)
    }

    /// Says why it was not seen any more after `last`.
    fn ended(&self, last: &Sighting) -> Result<Verdict> {
        // A request that went around the tunnel may arrive, and its reply cannot.
        for leg in [Leg::Request, Leg::Reply] {
            if let Some(verdict) = self.took_the_wrong_way(leg)? {
                // A fault of the request may be seen by its reply.
                return Ok(Verdict { leg: leg.min(verdict.leg), ..verdict });
            }
        }
        if let Some(verdict) = self.left_by_another_interface() {
            return Ok(verdict);
        }
        let frame = self.frame(last);
        match (&last.what, frame.direction) {
            (What::Echo(echo), Direction::Out) if self.is_tun(last) => self.for_a_program(last, echo),
            (What::Echo(echo), Direction::Out) => self.onto_the_wire(last, echo.destination),
            (What::Echo(echo), Direction::In) if self.owns(last.host, echo.destination) => self.arrived(last, echo),
            (What::Echo(echo), Direction::In) => self.to_be_forwarded(last, echo),
            (What::Inside(datagram, _), Direction::Out) => self.sent(last, datagram),
            (What::Inside(datagram, _), Direction::In) if self.owns(last.host, *datagram.to.ip()) => {
                self.delivered(last, datagram)
            }
            (What::Inside(datagram, _), Direction::In) => {
                self.forwarding(last, *datagram.from.ip(), *datagram.to.ip(), datagram.ttl)
            }
            (What::Refused(_), _) => Ok(self.unexplained(last)),
        }
    }

    /// The same with other sightings.
    fn with<'s>(&'s self, sightings: &'s [Sighting]) -> Scene<'s> {
        Scene {
            topology: self.topology,
            from: self.from,
            to: self.to,
            length: self.length,
            refused: self.refused,
            wrong_reply: self.wrong_reply,
            frames: self.frames,
            until: self.until,
            sightings,
            before: self.before,
            after: self.after,
            ask: self.ask,
        }
    }

    /// The leg that it ended on.
    pub fn leg(&self) -> Leg {
        self.steps().map(|sighting| sighting.leg).max().unwrap_or(Leg::Request)
    }

    /// The sightings of the echo itself, in a datagram or not: no errors.
    fn steps(&self) -> impl DoubleEndedIterator<Item = &Sighting> {
        self.sightings.iter().filter(|sighting| !matches!(sighting.what, What::Refused(_)))
    }

    fn last(&self) -> Option<&Sighting> {
        let leg = self.leg();
        self.steps().rfind(|sighting| sighting.leg == leg)
    }

    fn frame(&self, sighting: &Sighting) -> &Frame {
        &self.frames[sighting.frame].1
    }

    /// The length of the IP packet at a sighting, without a link-layer header.
    fn length(&self, sighting: &Sighting) -> usize {
        self.frame(sighting).packet().map_or(0, <[u8]>::len)
    }

    fn name(&self, host: usize) -> &str {
        &self.topology.hosts[host].name
    }

    fn owns(&self, host: usize, address: Ipv4Addr) -> bool {
        self.after[host].owner(address).is_some()
    }

    /// The host that has this address; the sender of an echo may be one of two.
    fn owner(&self, address: Ipv4Addr) -> Option<usize> {
        (0..self.after.len()).find(|host| self.owns(*host, address))
    }

    fn is_tun(&self, sighting: &Sighting) -> bool {
        let name = &self.frame(sighting).interface;
        let states = [&self.after[sighting.host], &self.before[sighting.host]];
        states.iter().any(|state| state.link(name).is_some_and(|link| link.is_tun))
    }

    fn verdict(&self, cause: Cause, host: usize, facts: impl IntoIterator<Item = String>) -> Verdict {
        Verdict { cause, host: self.name(host).into(), leg: self.leg(), facts: facts.into_iter().collect() }
    }

    /// Whether a host should send a packet for this address through the tunnel that begins or ends there.
    fn belongs_into_the_tunnel(&self, host: usize, address: Ipv4Addr) -> bool {
        let tunnel = &self.topology.tunnel;
        let destination = IpAddr::V4(address);
        let inside = tunnel.client_address.contains(&destination);
        match self.name(host) {
            // Its own addresses are reached without leaving the host.
            _ if self.owns(host, address) => false,
            name if name == tunnel.client => inside || tunnel.routes.iter().any(|net| net.contains(&destination)),
            name if name == tunnel.server => inside,
            _ => false,
        }
    }

    /// An ICMP error in words.
    fn quote(&self, refusal: &Refusal) -> String {
        let mtu = if (refusal.kind, refusal.code) == (3, 4) { format!(", MTU {}", refusal.mtu) } else { String::new() };
        let by = self.topology.name_of(refusal.by.into());
        format!("{by} says: {}{mtu}", error_name(refusal.kind, refusal.code))
    }

    /// The errors that were seen on this leg, in words.
    fn quotes(&self, leg: Leg) -> Vec<String> {
        let mut said = Vec::new();
        for sighting in self.sightings.iter().filter(|sighting| sighting.leg == leg) {
            if let What::Refused(refusal) = &sighting.what
                && let quote = self.quote(refusal)
                && !said.contains(&quote)
            {
                said.push(quote);
            }
        }
        said
    }

    /// The address of the tunnel's other end, as this end should know it.
    fn other_end(&self, leg: Leg, host: usize) -> Option<Ipv4Addr> {
        if leg == Leg::Reply
            && let Some(datagram) = self.request_datagram()
        {
            return Some(*datagram.from.ip());
        }
        let tunnel = &self.topology.tunnel;
        let other = if self.name(host) == tunnel.client { &tunnel.server } else { &tunnel.client };
        let other = self.topology.host(other).ok()?;
        Some(self.topology.resolve(&self.topology.hosts[host], other))
    }

    /// The datagram that carried the request.
    fn request_datagram(&self) -> Option<&Datagram> {
        self.steps().filter(|step| step.leg == Leg::Request).find_map(|step| match &step.what {
            What::Inside(datagram, _) => Some(datagram),
            _ => None,
        })
    }

    /// How long what should follow a sighting was waited for. A program that takes longer is only late.
    fn waited(&self, last: &Sighting) -> String {
        format!("{:.1} s", self.until.saturating_sub(self.frame(last).at).as_secs_f64())
    }

    /// The frames of all hosts from the first look at this one's counters until a sighting.
    fn since_the_look(&self, last: &Sighting) -> impl Iterator<Item = &(usize, Frame)> {
        let looked = self.before[last.host].at;
        self.frames[..last.frame].iter().filter(move |(_, frame)| frame.at > looked)
    }

    /// Whether the bytes at this place are not those that were read from the TUN device before.
    fn changed_on_the_way(&self, last: &Sighting, bytes: &[u8], fragment: bool) -> Option<Verdict> {
        let earlier = || self.steps().filter(|step| step.leg == last.leg && step.frame < last.frame);
        let (read, echo) = earlier().rev().find_map(|step| match &step.what {
            What::Echo(echo) if self.is_tun(step) && self.frame(step).direction == Direction::Out => Some((step, echo)),
            _ => None,
        })?;
        if fragment || echo.fragment {
            return None;
        }
        // A router changes the TTL and the checksum over it; one that translates addresses (NAT) changes those.
        let masked = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes
                .iter_mut()
                .enumerate()
                .filter(|(place, _)| *place == 8 || (10..20).contains(place))
                .for_each(|(_, byte)| *byte = 0);
            bytes
        };
        let is_forwarded = matches!(last.what, What::Echo(_)) && !self.is_tun(last);
        let difference = match is_forwarded {
            true => Difference::between(&masked(&echo.bytes), &masked(bytes))?,
            false => Difference::between(&echo.bytes, bytes)?,
        };
        // Which of the two ends has changed it: the one that sent the datagram, or the one that wrote to its TUN device.
        let sent = earlier().find_map(|step| match &step.what {
            What::Inside(datagram, _) if !datagram.fragment => Some(&datagram.payload),
            _ => None,
        });
        let is_sender = sent.is_none_or(|sent| *sent != echo.bytes);
        let writer = earlier().rfind(|step| matches!(step.what, What::Inside(..))).map_or(last.host, |step| step.host);
        let host = if is_sender { read.host } else { writer };
        let cause = if !is_sender || difference.is_ip(bytes) { Cause::Changed } else { Cause::NotIp };
        let facts = [difference.to_string(), bytes_of("read", &echo.bytes), bytes_of("then", bytes)];
        Some(self.verdict(cause, host, facts))
    }

    /// The reply is back, and is not the one to the request: something was changed on its way, or it was wrong from the beginning.
    fn came_back_wrong(&self, last: &Sighting, differs: &[String]) -> Verdict {
        let changed = self.steps().find_map(|step| {
            let verdict = match &step.what {
                What::Echo(echo) => self.changed_on_the_way(step, &echo.bytes, echo.fragment),
                What::Inside(datagram, _) => self.changed_on_the_way(step, &datagram.payload, datagram.fragment),
                What::Refused(_) => None,
            };
            Some(Verdict { leg: step.leg, ..verdict? })
        });
        let first = self.steps().find(|step| step.leg == Leg::Reply).unwrap_or(last);
        let wrong = || self.verdict(Cause::WrongReply, first.host, differs.iter().cloned());
        changed.unwrap_or_else(|| Verdict { leg: Leg::Reply, ..wrong() })
    }

    fn unexplained(&self, last: &Sighting) -> Verdict {
        let (host, interface) = (last.host, &self.frame(last).interface);
        let seen = format!("it was seen last at {interface} of {}", self.name(host));
        self.verdict(Cause::Unexplained, host, [seen].into_iter().chain(self.quotes(last.leg)).chain(self.risen(host)))
    }

    /// The counters of a host that have risen, in words.
    fn risen(&self, host: usize) -> Vec<String> {
        let risen = self.after[host].all_risen(&self.before[host]);
        let line =
            |(name, by): (&str, u64)| format!("{name} of {} rose by {by}: {}", self.name(host), evidence::counts(name));
        risen.into_iter().map(line).collect()
    }
}

/// The first bytes of something, as hex.
fn bytes_of(what: &str, bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let shown: Vec<_> = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    format!("{what}: {} bytes, {}{more}", bytes.len(), shown.join(" "))
}

/// The cause that an ICMP error is by itself. Type 11 is about the TTL with code 0 alone: with 1, a host has waited for
/// fragments (RFC 792).
fn named_by(kind: u8, code: u8) -> Option<Cause> {
    match (kind, code) {
        (11, 0) => Some(Cause::TtlRanOut),
        (3, 4) => Some(Cause::TooBig),
        _ => None,
    }
}

/// The name of an ICMP error (RFC 792, RFC 1122 section 3.2.2.1).
pub fn error_name(kind: u8, code: u8) -> String {
    match (kind, code) {
        (3, 0) => "network unreachable".into(),
        (3, 1) => "host unreachable".into(),
        (3, 2) => "protocol unreachable".into(),
        (3, 3) => "port unreachable".into(),
        (3, 4) => "fragmentation needed".into(),
        (3, 9 | 10 | 13) => "prohibited by a filter".into(),
        (5, _) => "redirect".into(),
        (11, 0) => "TTL exceeded".into(),
        (11, 1) => "reassembly took too long".into(),
        (12, _) => "parameter problem".into(),
        _ => format!("ICMP type {kind}, code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_waited_for_fragments_says_nothing_about_the_ttl() {
        assert_eq!(named_by(11, 0), Some(Cause::TtlRanOut));
        assert_eq!(named_by(11, 1), None);
        assert_eq!(named_by(3, 4), Some(Cause::TooBig));
        assert_eq!(error_name(11, 1), "reassembly took too long");
    }
}
