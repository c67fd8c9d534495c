//! The datagram: whether it is for the other end, was read from its socket, and was written to the TUN device.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use super::{Scene, Sighting, Verdict, bytes_of};
use crate::error::Result;
use crate::lab::capture::Frame;
use crate::pcapng::Direction;
use crate::trace::cause::Cause;
use crate::trace::evidence::{State, UdpSocket};
use crate::trace::sighting::{self, Datagram, Difference, Leg, What};

/// After what time a socket is looked at again, whether something still waits in it.
const AGAIN: Duration = Duration::from_millis(50);

impl Scene<'_> {
    /// A datagram went onto a wire, and was not seen at the other end of it.
    pub(super) fn sent(&self, last: &Sighting, datagram: &Datagram) -> Result<Verdict> {
        match self.wrong_peer(last, datagram) {
            Some(verdict) => Ok(verdict),
            None => self.onto_the_wire(last, *datagram.to.ip()),
        }
    }

    /// The request must go to the tunnel's other end, and the reply back to where the request came from.
    pub(super) fn wrong_peer(&self, last: &Sighting, datagram: &Datagram) -> Option<Verdict> {
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
        let is_configured = self.name(host) == tunnel.client && self.known_server(host) == Some(datagram.to);
        (asked.from != datagram.to && !is_configured).then(|| {
            let facts = [format!("the request came from {}", asked.from), format!("the reply goes to {}", datagram.to)];
            self.verdict(Cause::WrongPeer, host, facts)
        })
    }

    /// The address and the port that a host knows the tunnel's server by.
    fn known_server(&self, host: usize) -> Option<SocketAddrV4> {
        let server = self.topology.host(&self.topology.tunnel.server).ok()?;
        let address = self.topology.resolve(&self.topology.hosts[host], server);
        Some(SocketAddrV4::new(address, self.topology.tunnel.port))
    }

    /// The server sends to the client's address inside of the tunnel, though nobody has asked it before.
    pub(super) fn sent_to_the_inside(&self, at: &Sighting, datagram: &Datagram) -> Option<Verdict> {
        let (tunnel, to) = (&self.topology.tunnel, *datagram.to.ip());
        let is_inside = tunnel.client_address.addr() == IpAddr::V4(to);
        (is_inside && self.name(at.host) == tunnel.server).then(|| {
            let fact = format!("{to} is the address of {} inside of the tunnel", tunnel.client);
            self.verdict(Cause::WrongPeer, at.host, [fact])
        })
    }

    /// A datagram has come to the host that it is for, where a program should read it and write it to a TUN device.
    pub(super) fn delivered(&self, last: &Sighting, datagram: &Datagram) -> Result<Verdict> {
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
        // A server need not take a packet whose source lies outside of the tunnel's network.
        if last.leg == Leg::Request
            && let Some(echo) = &datagram.echo
            && let Some(mut verdict) = self.bore_a_wrong_source(echo.source)
            && verdict.cause == Cause::WrongSource
        {
            verdict.facts.extend([read, nothing]);
            return Ok(verdict);
        }
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
        let peers: Vec<SocketAddrV4> = peers.into_iter().flatten().collect();
        let named: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let port = datagram.to.port();
        let facts = [
            format!(
                "the socket for port {port} of {name} is connected, and takes datagrams from {} alone",
                named.join(", ")
            ),
            format!("this one comes from {}", datagram.from),
        ];
        let facts = facts.into_iter().chain(self.quotes(last.leg));
        // The client waits for the one that it sends to, which answers from another port.
        let is_the_servers = |peer: &SocketAddrV4| Some(*peer) == self.known_server(last.host);
        let sender = self.owner(*datagram.from.ip()).filter(|sender| self.name(*sender) == self.topology.tunnel.server);
        Some(match sender {
            Some(server) if name == self.topology.tunnel.client && peers.iter().all(is_the_servers) => {
                self.verdict(Cause::WrongPeer, server, facts)
            }
            _ => self.verdict(Cause::NobodyListens, last.host, facts),
        })
    }

    /// A packet that was written to a TUN device after the datagram was read, and was in no datagram; and how many
    /// others were written, which must have come before anybody looked.
    fn written_instead(
        &self,
        last: &Sighting,
        datagram: &Datagram,
        tun: &str,
    ) -> (Option<(Vec<u8>, Difference)>, usize) {
        let of_host =
            |from: usize| self.frames[from..].iter().filter(|(at, _)| *at == last.host).map(|(_, frame)| frame);
        let datagrams = of_host(0).filter_map(|frame| sighting::any_datagram(frame.packet()?));
        // Of a datagram that is in fragments itself, only the beginning is known.
        let (begun, whole): (Vec<_>, Vec<_>) = datagrams.partition(|datagram| datagram.fragment);
        let whole: HashSet<Vec<u8>> = whole.into_iter().map(|it| it.payload).collect();
        let is_carried = |bytes: &[u8]| whole.contains(bytes) || begun.iter().any(|it| bytes.starts_with(&it.payload));
        let written = of_host(last.frame)
            .filter(|frame| frame.interface == tun && frame.direction == Direction::In)
            .filter(|frame| !is_carried(&frame.bytes));
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
}
