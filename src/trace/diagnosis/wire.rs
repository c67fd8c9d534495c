//! The wire: interfaces that are down or have lost their addresses, and neighbours that are not there.

use std::net::{IpAddr, Ipv4Addr};

use super::{Scene, Sighting, Verdict};
use crate::error::Result;
use crate::net::{Hop, Link};
use crate::pcapng::Direction;
use crate::topology;
use crate::trace::cause::Cause;
use crate::trace::sighting::What;

impl Scene<'_> {
    /// It left a host by another interface than the one on whose network its destination is, which is down there or has
    /// lost its address: without them there is no route to that network.
    pub(super) fn left_by_another_interface(&self) -> Option<Verdict> {
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
    pub(super) fn lost_interface(&self, host: usize, address: Ipv4Addr, other: &str) -> Option<(Cause, String)> {
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
    pub(super) fn lacks_its_address(&self, host: usize, interface: &str, address: Ipv4Addr) -> String {
        let name = self.name(host);
        format!("{name} has the address {address} on {interface} in the topology, and has it no more")
    }

    /// A route in words.
    pub(super) fn way(&self, host: usize, destination: Ipv4Addr, hop: &Hop) -> String {
        let link = hop.link.and_then(|link| self.after[host].link_at(link)).map_or("?", |link| link.name.as_str());
        let via = hop.via.map_or(String::new(), |via| format!(" to {}", self.topology.name_of(via)));
        format!("the route of {} for {destination} leads out of {link}{via}", self.name(host))
    }

    /// Something went onto a wire, and was not seen at the other end of it.
    pub(super) fn onto_the_wire(&self, last: &Sighting, destination: Ipv4Addr) -> Result<Verdict> {
        let said = self.quotes(last.leg);
        match self.ask.route(last.host, destination)? {
            Some(hop) => self.beyond(last.host, &hop, destination, self.length(last), said),
            None => Ok(self.unexplained(last)),
        }
    }

    /// What is beyond a hop, where nothing was seen to come.
    pub(super) fn beyond(
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
    fn next_host(&self, hop: &Hop, destination: Ipv4Addr) -> Option<(usize, &Link)> {
        let IpAddr::V4(next) = hop.via.unwrap_or(IpAddr::V4(destination)) else { return None };
        let host = self.owner(next)?;
        let state = &self.after[host];
        Some((host, state.link(state.owner(next)?)?))
    }

    /// An interface at one end of the wire is down, or nobody there has the next hop's address.
    pub(super) fn no_way_onto_the_wire(&self, host: usize, hop: &Hop, destination: Ipv4Addr) -> Option<Verdict> {
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
}
