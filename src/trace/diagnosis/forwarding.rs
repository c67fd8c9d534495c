//! The hosts on the way, and the destination: whether they take the echo, and send it on.

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::{Scene, Sighting, Verdict, named_by};
use crate::error::Result;
use crate::pcapng::Direction;
use crate::trace::cause::Cause;
use crate::trace::sighting::{Datagram, Echo, Leg, What};

impl Scene<'_> {
    /// The datagram came out of the TUN device again that its content came out of.
    pub(super) fn looped(&self) -> Option<Verdict> {
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
        // A server that answers to the client's address inside of the tunnel.
        let misdirected = self.wrong_peer(sighting, datagram).or_else(|| self.sent_to_the_inside(sighting, datagram));
        if let Some(mut verdict) = misdirected {
            verdict.facts.push(fact);
            return Some(verdict);
        }
        Some(self.verdict(Cause::Loop, sighting.host, [fact]))
    }

    /// A router's ICMP error that is a cause by itself: the TTL, the MTU.
    pub(super) fn ended_by_a_router(&self) -> Option<Verdict> {
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

    /// The echo left a host through another interface than the TUN device that it belongs into; or the destination sent its
    /// reply to the default gateway.
    pub(super) fn took_the_wrong_way(&self, leg: Leg) -> Result<Option<Verdict>> {
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

    /// It has come to a host that it is not for.
    pub(super) fn to_be_forwarded(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
        if let Some(verdict) = self.changed_on_the_way(last, &echo.bytes, echo.fragment) {
            return Ok(verdict);
        }
        self.forwarding(last, echo.source, echo.destination, echo.ttl)
    }

    /// A packet between these two addresses has come to a host that should forward it.
    pub(super) fn forwarding(
        &self,
        last: &Sighting,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        ttl: u8,
    ) -> Result<Verdict> {
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
    pub(super) fn arrived(&self, last: &Sighting, echo: &Echo) -> Result<Verdict> {
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
}
