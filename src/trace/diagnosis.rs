//! Why an echo did not arrive: from where it was seen last, and from what the hosts show.
//!
//! A cause is named only for a fact that proves it; where there is none, the answer is that nobody knows. Each function
//! here stands for one place where a packet can end.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use nix::errno::Errno;
use serde::Serialize;

use super::cause::Cause;
use super::evidence::{self, Questions, State, UdpSocket};
use super::sighting::{self, Datagram, Difference, Echo, Leg, Refusal, What};
use crate::error::Result;
use crate::lab::capture::Frame;
use crate::net::Hop;
use crate::pcapng::Direction;
use crate::topology::{self, Topology};

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

/// After what time a socket is looked at again, whether something still waits in it.
const AGAIN: Duration = Duration::from_millis(50);

/// What a program sent after the echo was read.
#[derive(Default)]
struct Instead {
    /// A datagram with neither the echo nor another packet in it, and how it differs from the echo.
    instead: Option<(Datagram, Difference)>,
    /// How many have another packet in them, which the program must have read before anybody looked.
    others: usize,
    /// How many are like one that it sent before the echo.
    repeated: usize,
}

impl Scene<'_> {
    /// Says where and why the echo ended.
    ///
    /// # Errors
    /// A host does not answer any more.
    pub fn diagnose(&self) -> Result<Verdict> {
        let Some(last) = self.last() else { return self.never_left() };
        if let Some(verdict) = self.looped().or_else(|| self.ended_by_a_router()) {
            return Ok(verdict);
        }
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

    /// Nothing was captured: the kernel did not take the request, or held it back.
    fn never_left(&self) -> Result<Verdict> {
        let (host, to) = (self.from, self.to);
        let errno = self.refused.map(Errno::from_raw);
        let said = errno.map(|errno| format!("the kernel of {} does not send it: {}", self.name(host), errno.desc()));
        if errno == Some(Errno::EMSGSIZE) {
            let route = self.ask.route(host, to)?;
            let link = route.and_then(|hop| hop.link).and_then(|link| self.after[host].link_at(link));
            let mtu =
                link.map(|link| format!("{} has an MTU of {}, the packet {} bytes", link.name, link.mtu, self.length));
            return Ok(self.verdict(Cause::TooBig, host, said.into_iter().chain(mtu)));
        }
        if self.belongs_into_the_tunnel(host, to) {
            let mut verdict = self.why_not_into_the_tunnel(host, to)?;
            verdict.facts.extend(said);
            return Ok(verdict);
        }
        match self.ask.route(host, to)? {
            Some(hop) => self.beyond(host, &hop, to, self.length, said),
            None => {
                let fact = format!("{} has no route to {to}", self.name(host));
                Ok(self.verdict(Cause::NoRoute, host, [fact].into_iter().chain(said)))
            }
        }
    }

    /// The datagram came out of the TUN device again that its content came out of.
    fn looped(&self) -> Option<Verdict> {
        let is_looping = |sighting: &&Sighting| {
            matches!(sighting.what, What::Inside(..))
                && self.is_tun(sighting)
                && self.frame(sighting).direction == Direction::Out
        };
        let sighting = self.steps().find(is_looping)?;
        let What::Inside(datagram, _) = &sighting.what else { return None };
        let (host, interface) = (self.name(sighting.host), &self.frame(sighting).interface);
        let fact =
            format!("the datagram for {} comes out of {interface} of {host}, like its content before", datagram.to);
        Some(self.verdict(Cause::Loop, sighting.host, [fact]))
    }

    /// A router's ICMP error that is a cause by itself: the TTL, the MTU.
    fn ended_by_a_router(&self) -> Option<Verdict> {
        let leg = self.leg();
        let refusals =
            self.sightings.iter().filter(|sighting| sighting.leg == leg).filter_map(|sighting| match &sighting.what {
                What::Refused(refusal) => Some((sighting, refusal)),
                _ => None,
            });
        for (sighting, refusal) in refusals {
            let host = self.owner(refusal.by).unwrap_or(sighting.host);
            let said = self.quote(refusal);
            match named_by(refusal.kind, refusal.code) {
                Some(Cause::TtlRanOut) => {
                    let ttl = self.steps().rfind(|step| step.host == host).map(|step| match &step.what {
                        What::Echo(Echo { ttl, .. }) | What::Inside(Datagram { ttl, .. }, _) => *ttl,
                        What::Refused(_) => 0,
                    });
                    let fact = ttl.map(|ttl| format!("it came to {} with a TTL of {ttl}", self.name(host)));
                    return Some(self.verdict(Cause::TtlRanOut, host, fact.into_iter().chain([said])));
                }
                Some(cause) => return Some(self.verdict(cause, host, [said])),
                None => {}
            }
        }
        None
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

    /// The echo left a host through another interface than the TUN device that it belongs into; or the destination sent its
    /// reply to the default gateway.
    fn took_the_wrong_way(&self, leg: Leg) -> Result<Option<Verdict>> {
        let out = |sighting: &&Sighting| sighting.leg == leg && self.frame(sighting).direction == Direction::Out;
        for sighting in self.steps().filter(out) {
            let What::Echo(echo) = &sighting.what else { continue };
            let host = sighting.host;
            if self.is_tun(sighting) {
                continue;
            }
            if self.belongs_into_the_tunnel(host, echo.destination) {
                let mut verdict = self.why_not_into_the_tunnel(host, echo.destination)?;
                verdict.facts.extend(self.quotes(leg));
                return Ok(Some(verdict));
            }
            let began_here = self.owns(host, echo.source);
            let is_tunnels = self.topology.tunnel.client_address.contains(&IpAddr::V4(echo.destination));
            let by_default = began_here && self.ask.entry(host, echo.destination)?.is_some_and(|it| it.prefix_len == 0);
            if by_default
                && leg == Leg::Reply
                && let Some(verdict) = self.bore_a_wrong_source(echo.destination)
            {
                return Ok(Some(verdict));
            }
            if by_default && is_tunnels {
                let lacks = format!(
                    "{} has no route to {}: only the default route leads there",
                    self.name(host),
                    self.topology.tunnel.client_address.trunc()
                );
                let hop = self.ask.route(host, echo.destination)?;
                let way = hop.map(|hop| self.way(host, echo.destination, &hop));
                let facts = [lacks].into_iter().chain(way).chain(self.quotes(leg));
                return Ok(Some(self.verdict(Cause::ReplyToGateway, host, facts)));
            }
        }
        Ok(None)
    }

    /// It left a host by another interface than the one on whose network its destination is, which is down there or has
    /// lost its address: without them there is no route to that network.
    fn left_by_another_interface(&self) -> Option<Verdict> {
        let leg = self.leg();
        self.steps().filter(|step| step.leg == leg && !self.is_tun(step)).find_map(|step| {
            let frame = self.frame(step);
            let destination = match &step.what {
                What::Echo(echo) => echo.destination,
                What::Inside(datagram, _) => *datagram.to.ip(),
                What::Refused(_) => return None,
            };
            // There may be another way.
            let arrives = |later: &Sighting| later.frame > step.frame && self.owns(later.host, destination);
            if self.steps().any(|later| later.leg == leg && arrives(later)) {
                return None;
            }
            let (cause, fact) = self.lost_interface(step.host, destination, &frame.interface)?;
            let left = format!("it left {} by {}", self.name(step.host), frame.interface);
            (frame.direction == Direction::Out)
                .then(|| self.verdict(cause, step.host, [fact, left].into_iter().chain(self.quotes(leg))))
        })
    }

    /// What has become of the interface of a host on whose network an address is, where that is not this interface.
    fn lost_interface(&self, host: usize, address: Ipv4Addr, other: &str) -> Option<(Cause, String)> {
        let (state, name) = (&self.after[host], self.name(host));
        let on_its_network = |it: &&topology::Interface| it.name != other && it.address.contains(&address);
        let interface = self.topology.hosts[host].interfaces.iter().find(on_its_network)?;
        match state.link(&interface.name) {
            Some(link) if !link.up => Some((Cause::LinkDown, format!("{} of {name} is down", link.name))),
            Some(link) if state.owner(interface.address.addr()).is_none() => {
                Some((Cause::Unexplained, self.lacks_its_address(host, &link.name, interface.address.addr())))
            }
            _ => None,
        }
    }

    /// The fact that an interface has not the address that the topology gives it.
    fn lacks_its_address(&self, host: usize, interface: &str, address: Ipv4Addr) -> String {
        let name = self.name(host);
        format!("{name} has the address {address} on {interface} in the topology, and has it no more")
    }

    /// Whether the reply has nowhere to go because of the source that the request bore: it came out of the client's TUN
    /// device with an address from outside of the tunnel's network, or was given one after.
    fn bore_a_wrong_source(&self, replied_to: Ipv4Addr) -> Option<Verdict> {
        let tunnel = &self.topology.tunnel;
        let requests = || self.steps().filter(|step| step.leg == Leg::Request);
        let (read, echo) = requests().find_map(|step| match &step.what {
            What::Echo(echo) if self.is_tun(step) && self.name(step.host) == tunnel.client => Some((step, echo)),
            _ => None,
        })?;
        if echo.source != replied_to {
            let changed = requests().find(|step| {
                let now = match &step.what {
                    What::Echo(echo) => Some(echo),
                    What::Inside(datagram, _) => datagram.echo.as_ref(),
                    What::Refused(_) => None,
                };
                now.is_some_and(|now| now.source == replied_to)
            })?;
            let facts = [
                format!("its source was {} at {} of {}", echo.source, self.frame(read).interface, self.name(read.host)),
                format!("it was {replied_to} at {} of {}", self.frame(changed).interface, self.name(changed.host)),
            ];
            return Some(Verdict { leg: Leg::Request, ..self.verdict(Cause::Changed, changed.host, facts) });
        }
        let network = tunnel.client_address.trunc();
        (!network.contains(&IpAddr::V4(replied_to))).then(|| {
            let source = format!("the request's source is {replied_to}, which is not in {network}");
            let facts = [source, self.addresses(read.host, &self.frame(read).interface)];
            Verdict { leg: Leg::Request, ..self.verdict(Cause::WrongSource, read.host, facts) }
        })
    }

    /// The IPv4 addresses of an interface, in words.
    fn addresses(&self, host: usize, interface: &str) -> String {
        let all = self.after[host].addresses(interface).iter().filter(|net| net.addr().is_ipv4());
        let all: Vec<_> = all.map(ToString::to_string).collect();
        let name = self.name(host);
        match all.is_empty() {
            true => format!("{interface} of {name} has no IPv4 address"),
            false => format!("{interface} of {name} has the address {}", all.join(", ")),
        }
    }

    /// The fact that a host has no TUN device.
    fn lacks_a_tun(&self, host: usize) -> String {
        let name = self.name(host);
        match self.after[host].links.iter().find(|(link, _)| link.is_tap) {
            Some((tap, _)) => format!("{} of {name} is a TAP device, for Ethernet frames: IFF_TUN is wanted", tap.name),
            None => format!("{name} has no TUN device among its interfaces"),
        }
    }

    /// Why a packet that belongs into the tunnel does not go into the TUN device.
    fn why_not_into_the_tunnel(&self, host: usize, destination: Ipv4Addr) -> Result<Verdict> {
        let (state, name) = (&self.after[host], self.name(host));
        let Some(tun) = state.tuns().next() else {
            return Ok(self.verdict(Cause::NoTun, host, [self.lacks_a_tun(host)]));
        };
        let held = self.held(host, &tun.name);
        if !state.tuns().any(|tun| tun.up) {
            return Ok(self.verdict(Cause::TunDown, host, [format!("{} of {name} is down", tun.name), held]));
        }
        let route = self.ask.route(host, destination)?;
        let leads_there = route.as_ref().and_then(|hop| hop.link).and_then(|link| state.link_at(link));
        match (route, leads_there) {
            (Some(_), Some(link)) if link.is_tun && !link.has_carrier => {
                Ok(self.verdict(Cause::TunUnread, host, [self.held(host, &link.name)]))
            }
            (Some(_), Some(link)) if link.is_tun => {
                let fact = format!("the route of {name} leads into {}, and nothing came out of it", link.name);
                Ok(self.verdict(Cause::Unexplained, host, [fact].into_iter().chain(self.risen(host))))
            }
            (Some(hop), _) => {
                let facts = [self.way(host, destination, &hop), self.addresses(host, &tun.name)];
                Ok(self.verdict(Cause::NoRoute, host, facts))
            }
            (None, _) => {
                let facts = [format!("{name} has no route to {destination}"), self.addresses(host, &tun.name)];
                Ok(self.verdict(Cause::NoRoute, host, facts))
            }
        }
    }

    /// A route in words.
    fn way(&self, host: usize, destination: Ipv4Addr, hop: &Hop) -> String {
        let link = hop.link.and_then(|link| self.after[host].link_at(link)).map_or("?", |link| link.name.as_str());
        let via = hop.via.map_or(String::new(), |via| format!(" to {}", self.topology.name_of(via)));
        format!("the route of {} for {destination} leads out of {link}{via}", self.name(host))
    }

    /// Who holds a TUN device, in words.
    fn held(&self, host: usize, tun: &str) -> String {
        let holders: Vec<_> = self.after[host].tun_holders(tun).map(ToString::to_string).collect();
        match holders.is_empty() {
            true => format!("no program holds {tun} of {}", self.name(host)),
            false => format!("{tun} of {} is held by {}", self.name(host), holders.join(", ")),
        }
    }

    /// It came out of a TUN device, where a program should read it, and send it on.
    fn for_a_program(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
        let (host, tun) = (last.host, self.frame(last).interface.as_str());
        let unread = if last.leg == Leg::Reply { Cause::ReplyUnread } else { Cause::TunUnread };
        let is_gone = self.after[host].link(tun).is_none();
        if is_gone {
            let fact = format!("{tun} of {} is gone: the program that held it has ended", self.name(host));
            return Ok(self.verdict(unread, host, [fact]));
        }
        // A TUN device hands packets out in their order, and counts each that is read as sent.
        let is_out = |frame: &&(usize, Frame)| {
            frame.0 == host && frame.1.interface == tun && frame.1.direction == Direction::Out
        };
        let before = &self.before[host];
        let position = self.since_the_look(last).filter(is_out).count() as u64;
        let count = |state: &State| state.link(tun).map_or(0, |link| link.passed.sent);
        let taken = count(&self.after[host]).saturating_sub(count(before));
        if taken <= position {
            let fact = match taken {
                0 => format!("nobody has read from {tun} since"),
                _ => format!("{taken} packets were read from {tun} since, and this is not among them"),
            };
            return Ok(self.verdict(unread, host, [self.held(host, tun), fact]));
        }
        // Those that waited there before may be all that was read.
        let waited = before.waiting_in(tun).unwrap_or(0);
        if taken <= position + waited {
            let fact =
                format!("{taken} packets were read from {tun} since, and up to {waited} had waited there before it");
            return Ok(self.verdict(
                Cause::Unexplained,
                host,
                [self.held(host, tun), fact].into_iter().chain(self.risen(host)),
            ));
        }
        let read = format!("it was read: {}", self.held(host, tun));
        let Instead { instead, others, repeated } = self.sent_instead(last, echo);
        if let Some((datagram, difference)) = instead {
            let is_ip = difference.is_ip(&datagram.payload);
            let cause = if is_ip { Cause::Changed } else { Cause::NotIp };
            let fact = format!("the datagram for {} that followed has something else in it: {difference}", datagram.to);
            return Ok(self.verdict(
                cause,
                host,
                [read, fact, bytes_of("read", &echo.bytes), bytes_of("sent", &datagram.payload)],
            ));
        }
        if self.after[host].risen(&self.before[host], "IpFragFails") > 0 {
            let facts = [read, format!("{} bytes, and 28 more in a datagram", echo.bytes.len())];
            return Ok(self.verdict(Cause::TooBig, host, facts.into_iter().chain(self.risen(host))));
        }
        // The kernel holds a datagram back whose next hop it cannot find.
        let peer = self.other_end(last.leg, host);
        if let Some(peer) = peer {
            if let Some((cause, fact)) = self.lost_interface(host, peer, "") {
                return Ok(self.verdict(cause, host, [read, fact]));
            }
            let hop = self.ask.route(host, peer)?;
            let Some(hop) = hop else {
                let fact = format!("{} has no route to {peer}, where the tunnel's other end is", self.name(host));
                return Ok(self.verdict(Cause::Refused, host, [read, fact]));
            };
            if let Some(verdict) = self.no_way_onto_the_wire(host, &hop, peer) {
                return Ok(verdict);
            }
        }
        if self.after[host].risen(&self.before[host], "IpOutDiscards") > 0 {
            return Ok(self.verdict(Cause::Unexplained, host, [read].into_iter().chain(self.risen(host))));
        }
        if let Some(protocol) = self.sent_otherwise(last, echo) {
            let fact = format!("it left {} in {protocol}; the trace can follow it in UDP alone", self.name(host));
            return Ok(self.verdict(Cause::Unexplained, host, [read, fact]));
        }
        // A program that still has others to send may come to this one, too.
        if others > 0 {
            let fact =
                format!("{others} of the datagrams that followed have another packet in them, from before the trace");
            return Ok(self.verdict(Cause::Unexplained, host, [read, fact]));
        }
        // Nor is it known what a program sends that sends the same again and again.
        if repeated > 0 {
            let fact = format!("{repeated} of the datagrams that followed are like one that left before it");
            return Ok(self.verdict(Cause::Unexplained, host, [read, fact]));
        }
        let waited = self.waited(last);
        let fact = format!("no datagram left {} within {waited} after it with this packet in it", self.name(host));
        Ok(self.verdict(Cause::NotSent, host, [read, fact]))
    }

    /// The protocol in which the echo left the host, where that is not UDP.
    fn sent_otherwise(&self, last: &Sighting, echo: &Echo) -> Option<String> {
        const PROTOCOL: usize = 9;
        let content = echo.bytes.get(sighting::IP_HEADER..)?;
        let left = self.frames[last.frame..].iter().filter(|(at, _)| *at == last.host).map(|(_, frame)| frame);
        let mut packets = left
            .filter(|frame| frame.direction == Direction::Out && frame.interface != self.frame(last).interface)
            .filter_map(Frame::packet);
        let packet = packets.find(|packet| packet.windows(content.len()).any(|window| window == content))?;
        Some(match packet.get(PROTOCOL)? {
            6 => "a TCP connection".into(),
            number => format!("packets of IP protocol {number}"),
        })
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

    /// A datagram that left the host after the echo was read there, from a program that reads the TUN device or to the
    /// tunnel's port, and in which is none of the packets that came out of the TUN device.
    fn sent_instead(&self, last: &Sighting, echo: &Echo) -> Instead {
        let (host, tun) = (last.host, self.frame(last).interface.as_str());
        let state = &self.after[host];
        let ports: Vec<u16> = state
            .sockets
            .iter()
            .filter(|socket| state.socket_holders(socket).any(|holder| holder.tuns.iter().any(|name| name == tun)))
            .map(|socket| socket.local.port())
            .collect();
        let of_host = || self.frames.iter().enumerate().filter(|(_, (at, _))| *at == host);
        let of_tun = || of_host().map(|(_, (_, frame))| frame).filter(|frame| frame.interface == tun);
        let known: HashSet<&[u8]> = of_tun().filter_map(Frame::packet).collect();
        let out = of_host().filter(|(_, (_, frame))| frame.direction == Direction::Out && frame.interface != tun);
        let sent: Vec<(usize, Datagram)> = out
            .filter_map(|(place, (_, frame))| Some((place, sighting::any_datagram(frame.packet()?)?)))
            .filter(|(_, datagram)| {
                let to_its_port = datagram.to.port() == self.topology.tunnel.port;
                (to_its_port || ports.contains(&datagram.from.port())) && !known.contains(datagram.payload.as_slice())
            })
            .collect();
        // What is sent more often than there were packets to send is sent without one: a sign of life.
        let read = of_tun().filter(|frame| frame.direction == Direction::Out).count() as u64
            + self.before[host].waiting_in(tun).unwrap_or(0);
        // How often each payload was sent, and where first.
        let mut alike: HashMap<&[u8], (u64, usize)> = HashMap::new();
        for (place, datagram) in &sent {
            alike.entry(&datagram.payload).or_insert((0, *place)).0 += 1;
        }
        let mut found = Instead::default();
        for (_, datagram) in sent.iter().filter(|(place, _)| *place > last.frame) {
            let payload = datagram.payload.as_slice();
            let (times, first) = alike[payload];
            match Difference::between(&echo.bytes, payload) {
                _ if sighting::is_another_packet(payload, &echo.bytes) => found.others += 1,
                _ if times > read => {}
                _ if first < last.frame => found.repeated += 1,
                Some(difference) if found.instead.is_none() => found.instead = Some((datagram.clone(), difference)),
                _ => {}
            }
        }
        found
    }

    /// A datagram went onto a wire, and was not seen at the other end of it.
    fn sent(&self, last: &Sighting, datagram: &Datagram) -> Result<Verdict> {
        match self.wrong_peer(last, datagram) {
            Some(verdict) => Ok(verdict),
            None => self.onto_the_wire(last, *datagram.to.ip()),
        }
    }

    /// The request must go to the tunnel's other end, and the reply back to where the request came from.
    fn wrong_peer(&self, last: &Sighting, datagram: &Datagram) -> Option<Verdict> {
        let sender = self.steps().find(|step| {
            step.leg == last.leg
                && matches!(step.what, What::Inside(..))
                && self.frame(step).direction == Direction::Out
        });
        let host = sender.map_or(last.host, |sender| sender.host);
        let tunnel = &self.topology.tunnel;
        // Its own addresses come first: every host has 127.0.0.1.
        let is_own = self.owns(host, *datagram.to.ip());
        let goes_to = if is_own { Some(host) } else { self.owner(*datagram.to.ip()) };
        let is_an_end = |host: usize| [&tunnel.client, &tunnel.server].iter().any(|end| **end == self.name(host));
        if last.leg == Leg::Request {
            let fact = match goes_to {
                Some(_) if is_own => {
                    format!("{} sends it to {}, which is {0} itself", self.name(host), datagram.to.ip())
                }
                Some(host) if is_an_end(host) => return None,
                Some(other) => format!("{} is {}, where no end of the tunnel is", datagram.to.ip(), self.name(other)),
                None => format!("no host of the lab has the address {}", datagram.to.ip()),
            };
            return Some(self.verdict(Cause::WrongPeer, host, [fact]));
        }
        let asked = self.request_datagram()?;
        // A server may send from another socket than the one that hears, as to the port that the topology names.
        let to =
            self.topology.host(&tunnel.server).ok().map(|server| {
                SocketAddrV4::new(self.topology.resolve(&self.topology.hosts[host], server), tunnel.port)
            });
        let is_configured = self.name(host) == tunnel.client && to == Some(datagram.to);
        (asked.from != datagram.to && !is_configured).then(|| {
            let facts = [format!("the request came from {}", asked.from), format!("the reply goes to {}", datagram.to)];
            self.verdict(Cause::WrongPeer, host, facts)
        })
    }

    /// Something went onto a wire, and was not seen at the other end of it.
    fn onto_the_wire(&self, last: &Sighting, destination: Ipv4Addr) -> Result<Verdict> {
        let said = self.quotes(last.leg);
        match self.ask.route(last.host, destination)? {
            Some(hop) => self.beyond(last.host, &hop, destination, self.length(last), said),
            None => Ok(self.unexplained(last)),
        }
    }

    /// What is beyond a hop, where nothing was seen to come.
    fn beyond(
        &self,
        host: usize,
        hop: &Hop,
        destination: Ipv4Addr,
        length: usize,
        said: impl IntoIterator<Item = String>,
    ) -> Result<Verdict> {
        if let Some(verdict) = self.no_way_onto_the_wire(host, hop, destination) {
            return Ok(verdict);
        }
        if let Some((next, link)) = self.next_host(hop, destination)
            && (link.mtu as usize) < length
        {
            let name = self.name(next);
            let fact = format!("{} of {name} has an MTU of {}, and the packet has {length} bytes", link.name, link.mtu);
            return Ok(self.verdict(Cause::TooBig, next, [fact]));
        }
        let way = self.way(host, destination, hop);
        Ok(self.verdict(Cause::Unexplained, host, [way].into_iter().chain(said).chain(self.risen(host))))
    }

    /// The host at the next hop, and its interface there.
    fn next_host(&self, hop: &Hop, destination: Ipv4Addr) -> Option<(usize, &crate::net::Link)> {
        let IpAddr::V4(next) = hop.via.unwrap_or(IpAddr::V4(destination)) else { return None };
        let host = self.owner(next)?;
        let state = &self.after[host];
        Some((host, state.link(state.owner(next)?)?))
    }

    /// An interface at one end of the wire is down, or nobody there has the next hop's address.
    fn no_way_onto_the_wire(&self, host: usize, hop: &Hop, destination: Ipv4Addr) -> Option<Verdict> {
        if let Some(link) = hop.link.and_then(|link| self.after[host].link_at(link))
            && !link.up
        {
            return Some(self.verdict(
                Cause::LinkDown,
                host,
                [format!("{} of {} is down", link.name, self.name(host))],
            ));
        }
        if let Some((next, link)) = self.next_host(hop, destination)
            && !link.up
        {
            return Some(self.verdict(
                Cause::LinkDown,
                next,
                [format!("{} of {} is down", link.name, self.name(next))],
            ));
        }
        let next = hop.via.unwrap_or(IpAddr::V4(destination));
        let is_on_its_wire = |link| hop.link.is_none_or(|ours| ours == link);
        let mut neighbours = self.after[host].neighbours.iter().filter(|it| is_on_its_wire(it.link));
        let is_missing = neighbours.any(|it| it.address == next && it.is_missing);
        is_missing.then(|| {
            let asked = format!("{} has asked its wire who has {next}, and nobody answers", self.name(host));
            let lost = (0..self.after.len()).find_map(|other| {
                let interfaces = &self.topology.hosts[other].interfaces;
                let it = interfaces.iter().find(|it| next == it.address.addr())?;
                let address = it.address.addr();
                (!self.owns(other, address)).then(|| self.lacks_its_address(other, &it.name, address))
            });
            self.verdict(Cause::NoNeighbour, host, [asked].into_iter().chain(lost))
        })
    }

    /// A datagram has come to the host that it is for, where a program should read it and write it to a TUN device.
    fn delivered(&self, last: &Sighting, datagram: &Datagram) -> Result<Verdict> {
        if let Some(verdict) = self.wrong_peer(last, datagram).or_else(|| self.connected_elsewhere(last, datagram)) {
            return Ok(verdict);
        }
        let (host, name) = (last.host, self.name(last.host));
        let (before, after) = (&self.before[host], &self.after[host]);
        let sockets: Vec<&UdpSocket> = after.sockets_for(datagram.from, datagram.to).collect();
        let Some(socket) = sockets.iter().max_by_key(|socket| socket.waiting) else {
            let others: Vec<_> = after.sockets.iter().map(|socket| socket.local.to_string()).collect();
            let others = (!others.is_empty()).then(|| format!("{name} listens on {} alone", others.join(", ")));
            let with_port = || after.sockets.iter().filter(|socket| socket.local.port() == datagram.to.port());
            let fact = match (with_port().next(), with_port().find_map(|socket| socket.peer)) {
                (_, Some(peer)) => {
                    format!("the socket of {name} is connected, and hears {peer} alone, not {}", datagram.from)
                }
                (Some(_), None) => {
                    format!("no socket of {name} is bound to {}, or to 0.0.0.0 with that port", datagram.to)
                }
                (None, None) => format!("no socket of {name} is bound to port {}", datagram.to.port()),
            };
            // The program has ended since, perhaps because of this very packet.
            let earlier = before.sockets_for(datagram.from, datagram.to).next();
            let ended = earlier.and_then(|socket| before.socket_holders(socket).next());
            let ended = ended.map(|holder| format!("{holder} listened there before, and does not any more"));
            let facts = [fact].into_iter().chain(ended).chain(others).chain(self.quotes(last.leg));
            return Ok(self.verdict(Cause::NobodyListens, host, facts));
        };
        let holders: Vec<_> = after.socket_holders(socket).collect();
        let who = match holders.as_slice() {
            [] => "the program whose socket it is".to_string(),
            some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        // The kernel counts a datagram when a program takes it, not when it comes (udp_recvmsg in net/ipv4/udp.c).
        let port = datagram.to.port();
        let is_before = |frame: &&(usize, Frame)| {
            frame.0 == host
                && frame.1.direction == Direction::In
                && frame.1.packet().and_then(sighting::any_datagram).is_some_and(|it| it.to.port() == port)
        };
        let position = self.since_the_look(last).filter(is_before).count() as u64;
        let taken = after.risen(before, "UdpInDatagrams");
        if socket.waiting > 0 {
            // A program that reads may come to this one, too; or it has, and others wait.
            std::thread::sleep(AGAIN);
            let still = self.ask.waiting(host, socket)?.unwrap_or(0);
            if taken > position || still < socket.waiting {
                let now =
                    format!("{still} bytes wait in the socket for port {port}, which {who} holds, and is reading");
                let read = format!("{taken} datagrams were read on {name} since the trace began");
                return Ok(self.verdict(Cause::Unexplained, host, [now, read].into_iter().chain(self.risen(host))));
            }
            let lost = socket.lost.saturating_sub(before.same(socket).map_or(0, |socket| socket.lost));
            let full = (lost > 0).then(|| format!("the socket was full, and lost {lost}"));
            let fact = format!("{} bytes wait in the socket for port {port}, which {who} holds", socket.waiting);
            return Ok(self.verdict(Cause::DatagramUnread, host, [fact].into_iter().chain(full)));
        }
        if let Some(verdict) = self.changed_on_the_way(last, &datagram.payload, datagram.fragment) {
            return Ok(verdict);
        }
        // A firewall may have dropped it before it came to the socket.
        if taken <= position {
            let never = format!("it never came to the socket for port {port}, which {who} holds");
            let seen = format!("it was seen last at {} of {name}", self.frame(last).interface);
            return Ok(self.verdict(Cause::Unexplained, host, [seen, never].into_iter().chain(self.risen(host))));
        }
        let read = format!("it was read: the socket for port {port} is empty, and {who} holds it");
        let tuns: Vec<_> = after.tuns().collect();
        let Some(tun) = tuns.iter().find(|tun| holders.iter().any(|it| it.tuns.contains(&tun.name))).or(tuns.first())
        else {
            return Ok(self.verdict(Cause::NoTun, host, [self.lacks_a_tun(host), read]));
        };
        if !tun.up {
            return Ok(self.verdict(Cause::TunDown, host, [format!("{} of {name} is down", tun.name), read]));
        }
        let (instead, others) = self.written_instead(last, datagram, &tun.name);
        if let Some((bytes, difference)) = instead {
            let fact = format!("what was written to {} is something else: {difference}", tun.name);
            let facts = [read, fact, bytes_of("received", &datagram.payload), bytes_of("written", &bytes)];
            return Ok(self.verdict(Cause::Changed, host, facts));
        }
        let count = |state: &State| state.link(&tun.name).map_or(0, |link| link.passed.received_lost);
        let refused = count(after).saturating_sub(count(before));
        let refused = (refused > 0).then(|| format!("{} refused {refused} of what was written to it", tun.name));
        // A program that still has others to write may come to this one, too.
        if others > 0 {
            let fact = format!(
                "{others} packets that came into {} of {name} since are others, from before the trace",
                tun.name
            );
            return Ok(self.verdict(Cause::Unexplained, host, [read, fact]));
        }
        let nothing = format!("nothing came into {} of {name} within {}", tun.name, self.waited(last));
        Ok(self.verdict(Cause::NotWritten, host, [read, nothing].into_iter().chain(refused)))
    }

    /// The sockets at the datagram's destination take datagrams from other ends alone, since they are connected.
    fn connected_elsewhere(&self, last: &Sighting, datagram: &Datagram) -> Option<Verdict> {
        let (state, name) = (&self.after[last.host], self.name(last.host));
        let peers: Vec<_> =
            state.sockets.iter().filter(|socket| socket.is_at(datagram.to)).map(|socket| socket.peer).collect();
        if peers.is_empty() || peers.iter().any(|peer| peer.is_none_or(|peer| peer == datagram.from)) {
            return None;
        }
        let peers: Vec<_> = peers.iter().flatten().map(ToString::to_string).collect();
        let port = datagram.to.port();
        let facts = [
            format!(
                "the socket for port {port} of {name} is connected, and takes datagrams from {} alone",
                peers.join(", ")
            ),
            format!("this one comes from {}", datagram.from),
        ];
        Some(self.verdict(Cause::NobodyListens, last.host, facts.into_iter().chain(self.quotes(last.leg))))
    }

    /// A packet that was written to a TUN device after the datagram was read, and was in no datagram; and how many others
    /// were written, which must have come before anybody looked.
    fn written_instead(
        &self,
        last: &Sighting,
        datagram: &Datagram,
        tun: &str,
    ) -> (Option<(Vec<u8>, Difference)>, usize) {
        let of_host =
            |from: usize| self.frames[from..].iter().filter(|(at, _)| *at == last.host).map(|(_, frame)| frame);
        let carried: HashSet<Vec<u8>> =
            of_host(0).filter_map(|frame| sighting::any_datagram(frame.packet()?)).map(|it| it.payload).collect();
        let written = of_host(last.frame)
            .filter(|frame| frame.interface == tun && frame.direction == Direction::In)
            .filter(|frame| !carried.contains(&frame.bytes));
        let (mut instead, mut others) = (None, 0);
        for frame in written {
            match sighting::is_another_packet(&frame.bytes, &datagram.payload) {
                true => others += 1,
                false if instead.is_none() => {
                    let difference = Difference::between(&datagram.payload, &frame.bytes);
                    instead = difference.map(|difference| (frame.bytes.clone(), difference));
                }
                false => {}
            }
        }
        (instead, others)
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

    /// It has come to a host that it is not for.
    fn to_be_forwarded(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
        if let Some(verdict) = self.changed_on_the_way(last, &echo.bytes, echo.fragment) {
            return Ok(verdict);
        }
        self.forwarding(last, echo.source, echo.destination, echo.ttl)
    }

    /// A packet between these two addresses has come to a host that should forward it.
    fn forwarding(&self, last: &Sighting, source: Ipv4Addr, destination: Ipv4Addr, ttl: u8) -> Result<Verdict> {
        let (host, name) = (last.host, self.name(last.host));
        let state = &self.after[host];
        let interface = self.frame(last).interface.as_str();
        if self.steps().find(|step| step.leg == last.leg).is_some_and(|first| first.host == host)
            && state.owner(source).is_some()
        {
            return Ok(self.came_back(last, destination));
        }
        if let Some(verdict) = self.same_address(last, source) {
            return Ok(verdict);
        }
        if let Some(it) = self.topology.hosts[host].interfaces.iter().find(|it| it.address.addr() == destination) {
            return Ok(self.verdict(Cause::Unexplained, host, [self.lacks_its_address(host, &it.name, destination)]));
        }
        if self.ask.setting_of(host, interface, "forwarding")?.as_deref() == Some("0") {
            let ip_forward = self.ask.setting(host, "net.ipv4.ip_forward")?.unwrap_or_default();
            let fact = format!("net.ipv4.ip_forward is {ip_forward} on {name}, and the packet is not for {name}");
            return Ok(self.verdict(Cause::NoForwarding, host, [fact]));
        }
        if ttl <= 1 {
            return Ok(self.verdict(Cause::TtlRanOut, host, [format!("it came to {name} with a TTL of {ttl}")]));
        }
        if let Some(verdict) = self.filtered(last, source, destination)? {
            return Ok(verdict);
        }
        let Some(link) = state.link(interface) else { return Ok(self.unexplained(last)) };
        match self.ask.forward(host, source, destination, link.index)? {
            Ok(hop) => {
                if self.belongs_into_the_tunnel(host, destination) {
                    let leads_there = hop.link.and_then(|link| state.link_at(link)).is_some_and(|link| link.is_tun);
                    if !leads_there || !state.tuns().any(|tun| tun.has_carrier) {
                        return self.why_not_into_the_tunnel(host, destination);
                    }
                }
                self.beyond(host, &hop, destination, self.length(last), self.quotes(last.leg))
            }
            Err(error) => {
                let fact = format!("the kernel of {name} does not forward it: {error}");
                let facts = [fact].into_iter().chain(self.quotes(last.leg));
                Ok(self.verdict(Cause::Refused, host, facts))
            }
        }
    }

    /// The kernel drops what comes from outside with one of its own addresses as its source (ip-sysctl.rst, accept_local).
    fn same_address(&self, last: &Sighting, source: Ipv4Addr) -> Option<Verdict> {
        let (host, name) = (last.host, self.name(last.host));
        let own = self.after[host].owner(source).filter(|_| self.frame(last).interface != "lo")?;
        let others = (0..self.after.len())
            .filter(|other| *other != host)
            .find_map(|other| self.after[other].owner(source).map(|link| format!("{link} of {}", self.name(other))));
        let both = match others {
            Some(other) => format!("{source} is the address of {other} and of {own} of {name}"),
            None => format!("the packet's source {source} is the address of {own} of {name} itself"),
        };
        Some(self.verdict(Cause::SameAddress, host, [both]))
    }

    /// It has come back to the host that it began at, which takes no packet from outside that claims to be its own.
    fn came_back(&self, last: &Sighting, destination: Ipv4Addr) -> Verdict {
        let back = format!("the packet has come back to {}, which had sent it", self.name(last.host));
        let places: Vec<_> = self.steps().filter(|step| step.leg == last.leg).collect();
        let is_datagram = |step: &Sighting, direction| {
            matches!(step.what, What::Inside(..)) && self.frame(step).direction == direction
        };
        // A program that sends the datagram on has not given it to its TUN device.
        let returned = places.windows(2).find(|pair| {
            let [came, left] = [pair[0], pair[1]];
            let is_here = came.host == left.host && came.host != last.host;
            is_here && is_datagram(came, Direction::In) && is_datagram(left, Direction::Out)
        });
        if let Some(&[came, left]) = returned
            && let What::Inside(datagram, _) = &left.what
            && self.owns(came.host, *datagram.from.ip())
        {
            let fact = format!("{} sent the datagram on to {} instead", self.name(came.host), datagram.to);
            return self.verdict(Cause::NotWritten, came.host, [fact, back]);
        }
        // A host whose route for it leads back to where it came from.
        let turned = places.windows(2).find(|pair| {
            let [came, left] = [self.frame(pair[0]), self.frame(pair[1])];
            let is_echo = pair.iter().all(|step| matches!(step.what, What::Echo(_)));
            let is_there = pair[0].host == pair[1].host && came.interface == left.interface;
            is_echo && is_there && came.direction == Direction::In && left.direction == Direction::Out
        });
        let turned = turned.map(|pair| {
            let (host, interface) = (self.name(pair[0].host), &self.frame(pair[0]).interface);
            format!("{host} sent it back by {interface}, where it had come from: see its route for {destination}")
        });
        let nobody =
            self.owner(destination).is_none().then(|| format!("no host of the lab has the address {destination}"));
        self.verdict(
            Cause::Unexplained,
            last.host,
            nobody.into_iter().chain(turned).chain([back]).chain(self.quotes(last.leg)),
        )
    }

    /// Whether the reverse-path filter of a host drops a packet that comes in there (ip-sysctl.rst, rp_filter): strict, it
    /// wants the way back to lead out of the same interface; loose, it wants one at all.
    fn filtered(&self, last: &Sighting, source: Ipv4Addr, destination: Ipv4Addr) -> Result<Option<Verdict>> {
        const STRICT: u8 = 1;
        const LOOSE: u8 = 2;
        let (host, name) = (last.host, self.name(last.host));
        let interface = self.frame(last).interface.as_str();
        let Some(link) = self.after[host].link(interface) else { return Ok(None) };
        let mut mode = 0;
        let mut facts = Vec::new();
        for which in ["all", interface] {
            let setting = format!("net.ipv4.conf.{which}.rp_filter");
            if let Some(value) =
                self.ask.setting_of(host, which, "rp_filter")?.and_then(|value| value.parse::<u8>().ok())
            {
                mode = value.max(mode);
                facts.push(format!("{setting} is {value} on {name}"));
            }
        }
        let back = self.ask.route(host, source)?;
        let is_suspect = match mode {
            STRICT => back.as_ref().is_none_or(|hop| hop.link != Some(link.index)),
            LOOSE => back.is_none(),
            _ => false,
        };
        if !is_suspect {
            return Ok(None);
        }
        // The kernel's own answer: EXDEV, since Linux 6.14 EINVAL; and its counter.
        let answer = self.ask.forward(host, source, destination, link.index)?;
        let errno = answer.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
        let counted = self.after[host].risen(&self.before[host], "TcpExtIPReversePathFilter");
        if counted == 0 && !matches!(errno, Some(Errno::EXDEV | Errno::EINVAL)) {
            return Ok(None);
        }
        facts.push(match back {
            Some(hop) => format!("it came in on {interface}, but {}", self.way(host, source, &hop)),
            None => format!("it came in on {interface}, but {name} has no route to {source}"),
        });
        facts.extend(self.risen(host));
        Ok(Some(self.verdict(Cause::ReversePath, host, facts)))
    }

    /// It has come to the host that it is for.
    fn arrived(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
        let (host, name) = (last.host, self.name(last.host));
        if let Some(verdict) = self.same_address(last, echo.source) {
            return Ok(verdict);
        }
        if let Some(verdict) = self.filtered(last, echo.source, echo.destination)? {
            return Ok(verdict);
        }
        if let Some(verdict) = self.changed_on_the_way(last, &echo.bytes, echo.fragment) {
            return Ok(verdict);
        }
        if last.leg == Leg::Reply {
            return Ok(self.unexplained(last));
        }
        const IGNORE: &str = "net.ipv4.icmp_echo_ignore_all";
        if self.ask.setting(host, IGNORE)?.as_deref() == Some("1") {
            return Ok(self.verdict(Cause::NoAnswer, host, [format!("{IGNORE} is 1 on {name}")]));
        }
        match self.ask.route(host, echo.source)? {
            None => {
                if let Some(verdict) = self.bore_a_wrong_source(echo.source) {
                    return Ok(verdict);
                }
                let fact = format!("{name} has no route to {}", echo.source);
                Ok(self.verdict(Cause::ReplyToGateway, host, [fact]))
            }
            Some(hop) => match self.no_way_onto_the_wire(host, &hop, echo.source) {
                Some(verdict) => Ok(verdict),
                None => {
                    let fact = format!("no reply left {name}");
                    Ok(self.verdict(Cause::NoAnswer, host, [fact].into_iter().chain(self.risen(host))))
                }
            },
        }
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
