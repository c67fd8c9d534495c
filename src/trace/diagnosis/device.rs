//! The TUN device: whether the echo came into it, was read from it, and was sent on.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::{Scene, Sighting, Verdict, bytes_of};
use crate::error::Result;
use crate::lab::capture::Frame;
use crate::pcapng::Direction;
use crate::trace::cause::Cause;
use crate::trace::evidence::State;
use crate::trace::sighting::{self, Datagram, Difference, Echo, Leg, What};

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
    /// Nothing was captured: the kernel did not take the request, or held it back.
    pub(super) fn never_left(&self) -> Result<Verdict> {
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

    /// Whether the reply has nowhere to go because of the source that the request bore: it came out of the client's TUN
    /// device with an address from outside of the tunnel's network, or was given one after.
    pub(super) fn bore_a_wrong_source(&self, replied_to: Ipv4Addr) -> Option<Verdict> {
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
    pub(super) fn lacks_a_tun(&self, host: usize) -> String {
        let name = self.name(host);
        match self.after[host].links.iter().find(|(link, _)| link.is_tap) {
            Some((tap, _)) => format!("{} of {name} is a TAP device, for Ethernet frames: IFF_TUN is wanted", tap.name),
            None => format!("{name} has no TUN device among its interfaces"),
        }
    }

    /// Why a packet that belongs into the tunnel does not go into the TUN device.
    pub(super) fn why_not_into_the_tunnel(&self, host: usize, destination: Ipv4Addr) -> Result<Verdict> {
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

    /// Who holds a TUN device, in words.
    fn held(&self, host: usize, tun: &str) -> String {
        let holders: Vec<_> = self.after[host].tun_holders(tun).map(ToString::to_string).collect();
        match holders.is_empty() {
            true => format!("no program holds {tun} of {}", self.name(host)),
            false => format!("{tun} of {} is held by {}", self.name(host), holders.join(", ")),
        }
    }

    /// It came out of a TUN device, where a program should read it, and send it on.
    pub(super) fn for_a_program(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
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
        // Of a datagram that is in fragments itself, only the first has the ports.
        let is_known = |datagram: &Datagram| match datagram.fragment {
            true => known.iter().any(|known| known.starts_with(&datagram.payload)),
            false => known.contains(datagram.payload.as_slice()),
        };
        let out = of_host().filter(|(_, (_, frame))| frame.direction == Direction::Out && frame.interface != tun);
        let sent: Vec<(usize, Datagram)> = out
            .filter_map(|(place, (_, frame))| Some((place, sighting::any_datagram(frame.packet()?)?)))
            .filter(|(_, datagram)| {
                let to_its_port = datagram.to.port() == self.topology.tunnel.port;
                (to_its_port || ports.contains(&datagram.from.port())) && !is_known(datagram)
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
}
