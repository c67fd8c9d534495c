//! The clients of a server: who may speak, who has which inner address, and where a packet goes.
//!
//! [`crate::link::UdpLink`] asks for each packet that has arrived whether it is taken, and for each packet out of the TUN
//! device where it goes. No descriptor and no log here: what is refused is told as a [`Refusal`], which the link counts and
//! says. The order of the questions is that of the options: may this outer host speak (`--allow-peer`), can this inner
//! source be a client's (the TUN device's subnets, `--allow-source`), is it free or this host's own ([`Peers`]), and is the
//! destination not another client (`--client-to-client`).
//!
//! A run of packets between the same two ends asks once; what follows compares addresses alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::addresses::{Addresses, Known};
use crate::counts::Cause;
use crate::link::peers::{News, Peers, Refused};
use crate::link::plain;
use crate::link::sieve::Sieve;
use crate::packet::{Ends, protocol};

/// How long at least between two looks at the addresses for the sake of sources that are none of a client's.
const LOOKS: Duration = Duration::from_millis(20);

/// What a server takes, and from whom.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The outer addresses that may speak; all, if there is none.
    pub allow_peer: Vec<IpNet>,
    /// Where inner sources may lie beside the TUN device's subnets.
    pub allow_source: Vec<IpNet>,
    /// Whether clients reach each other.
    pub client_to_client: bool,
    /// How many inner addresses are remembered.
    pub max_peers: usize,
    /// How long an inner address must not have been used before another host may have it; whole seconds count.
    pub peer_timeout: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            allow_peer: Vec::new(),
            allow_source: Vec::new(),
            client_to_client: false,
            max_peers: 4096,
            peer_timeout: Duration::from_secs(60),
        }
    }
}

/// The clients of a server.
#[derive(Debug)]
pub struct Clients {
    rules: Rules,
    addresses: Addresses,
    /// The version of the addresses that all entries were judged by.
    version: u32,
    peers: Peers,
    /// For each network of `rules.allow_source`: the client whose packets from there were the last, and when.
    sites: Vec<Option<(SocketAddr, Duration)>>,
    /// The client that was heard last.
    last: Option<SocketAddr>,
    /// The client to which goes what has no better place, if there is one alone.
    sole: Option<SocketAddr>,
    /// When the addresses were looked at for a stranger's sake.
    looked: Duration,
    /// The second in which `sole` was determined last.
    surveyed: u64,
    /// The last packet that was taken: its ends, where it came from, and the second.
    taken: Option<(Ends, SocketAddr, u64)>,
    /// The last destination that was looked for, and where it is.
    found: Option<(IpAddr, SocketAddr)>,
}

/// What has changed because of a packet that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A client with a new inner address. `first`: there was no other client before.
    New { first: bool },
    /// The inner address was found there before.
    Moved(SocketAddr),
}

/// Why a packet from a client was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The outer address lies in the tunnel.
    OuterInside,
    /// The inner source is one of this host's own addresses.
    Own,
    /// The inner source can be no host's address.
    NoHost,
    /// The inner source lies in no network of the clients'.
    Foreign,
    /// Another host uses the inner source; it is there.
    Taken(SocketAddr),
    /// The table is full.
    Full,
    /// The destination is another client.
    Client,
}

impl Clients {
    /// No client yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            addresses: Addresses::default(),
            version: 0,
            peers: Peers::new(rules.max_peers, rules.peer_timeout),
            sites: vec![None; rules.allow_source.len()],
            last: None,
            sole: None,
            looked: Duration::ZERO,
            surveyed: 0,
            taken: None,
            found: None,
            rules,
        }
    }

    /// Judges inner sources by these addresses from now on.
    pub fn judge_by(&mut self, addresses: Addresses) {
        self.version = addresses.version().wrapping_sub(1);
        self.addresses = addresses;
    }

    /// The client that was heard last.
    pub fn last(&self) -> Option<SocketAddr> {
        self.last
    }

    /// How many inner addresses are known, and how many there may be.
    pub fn count(&self) -> (usize, usize) {
        (self.peers.len(), self.rules.max_peers)
    }

    /// Whether this outer address may speak at all.
    pub fn may_speak(&self, from: SocketAddr) -> bool {
        let allowed = &self.rules.allow_peer;
        allowed.is_empty() || {
            let host = from.ip().to_canonical();
            allowed.iter().any(|network| network.contains(&host))
        }
    }

    /// What may speak, and where inner sources lie, for the time of a flood.
    pub fn sieve(&self) -> Sieve {
        let known = self.addresses.now();
        let inner = known.of_tun.iter().chain(&self.rules.allow_source).map(IpNet::trunc).collect();
        Sieve { outer: self.rules.allow_peer.clone(), inner }
    }

    /// Takes a packet between these ends that has come from there, or says why not.
    pub fn take(&mut self, ends: Ends, from: SocketAddr, now: Duration) -> Result<Change, Refusal> {
        let packet = (ends, from, now.as_secs());
        if self.taken == Some(packet) && self.version == self.addresses.version() {
            return Ok(Change::None);
        }
        self.follow_addresses();
        let change = match self.peers.renew(ends.source, from, now) {
            true => Change::None,
            false => match self.meet(ends.source, from, now) {
                // The device may have got an address just now.
                Err(Refusal::Foreign) if self.looks_again(now) => self.meet(ends.source, from, now)?,
                met => met?,
            },
        };
        self.hear_site(ends.source, from, now);
        self.last = Some(from);
        if !self.rules.client_to_client && self.peers.find(ends.destination).is_some() {
            return Err(Refusal::Client);
        }
        self.taken = Some(packet);
        Ok(change)
    }

    /// Looks at the addresses again, though not for each packet that a stranger sends; says whether they have changed.
    fn looks_again(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.looked) >= LOOKS {
            self.looked = now;
            self.addresses.look();
        }
        let changed = self.version != self.addresses.version();
        self.follow_addresses();
        changed
    }

    /// An inner source that was not there before.
    fn meet(&mut self, source: IpAddr, from: SocketAddr, now: Duration) -> Result<Change, Refusal> {
        self.judge(source, from)?;
        // Whatever comes of it, some entries may change.
        (self.taken, self.found) = (None, None);
        let news = self.peers.hear(source, from, now).map_err(|refused| match refused {
            Refused::Taken(by) => Refusal::Taken(by),
            Refused::Full => Refusal::Full,
        })?;
        let first = self.last.is_none();
        let before = if let News::Moved(before) = news { before } else { from };
        self.sole = (first || self.sole == Some(from) || self.sole == Some(before)).then_some(from);
        Ok(match news {
            News::Known => Change::None,
            News::New => Change::New { first },
            News::Moved(before) => Change::Moved(before),
        })
    }

    /// Where a packet out of the TUN device goes: to the client that has its destination. What no client has goes to the
    /// one whose site it is, or to a client that is alone and may not have said anything from this address yet; but not
    /// back to where the packet came from.
    ///
    /// # Errors
    /// Nowhere, for this cause.
    pub fn route(&mut self, packet: &[u8]) -> Result<SocketAddr, Cause> {
        let Some(Ends { source, destination }) = ends(packet) else { return Err(Cause::NotIp) };
        if is_redirect(packet) {
            return Err(Cause::Redirect);
        }
        if let Some((known, at)) = self.found
            && known == destination
        {
            return Ok(at);
        }
        if let Some(at) = self.peers.find(destination) {
            self.found = Some((destination, at));
            return Ok(at);
        }
        if self.peers.has_host(destination) && is_udp(packet) {
            return Err(Cause::Loop);
        }
        let sender = self.peers.find(source);
        match self.site_of(destination).or(self.sole) {
            Some(at) if sender.is_none() => Ok(at),
            Some(at) if sender != Some(at) && self.rules.client_to_client => Ok(at),
            Some(at) if sender != Some(at) => Err(Cause::ClientToClient),
            _ if self.peers.is_empty() => Err(Cause::NoPeer),
            _ if self.is_for_many(destination) => Err(Cause::ToMany),
            _ => Err(Cause::UnknownClient),
        }
    }

    /// Whether a client is at this outer address.
    pub fn has_host(&self, outer: IpAddr) -> bool {
        self.peers.has_host(outer)
    }

    /// Whether a packet for this address is for many hosts at once.
    fn is_for_many(&self, destination: IpAddr) -> bool {
        let known = self.addresses.now();
        destination.is_multicast() || destination == Ipv4Addr::BROADCAST || known.is_whole_subnet(destination)
    }

    /// Once a second: looks whether addresses have changed, and tells the hosts that are in use, each with the address where
    /// one of its clients is. Nothing, if this second has been asked for already.
    pub fn survey(&mut self, now: Duration) -> Option<Vec<SocketAddr>> {
        if self.surveyed == now.as_secs() {
            return None;
        }
        self.surveyed = now.as_secs();
        self.addresses.look();
        let in_use = self.peers.in_use(now);
        self.sole = if in_use.hosts.is_empty() { self.last } else { in_use.sole };
        Some(in_use.hosts.into_values().collect())
    }

    /// The client that speaks for the network which this inner address is in.
    fn site_of(&self, inner: IpAddr) -> Option<SocketAddr> {
        let networks = self.rules.allow_source.iter().zip(&self.sites).filter(|(network, _)| network.contains(&inner));
        networks.max_by_key(|(network, _)| network.prefix_len())?.1.map(|(at, _)| at)
    }

    /// The network of a site belongs to the client that speaks for it, by the same rule as an address.
    fn hear_site(&mut self, source: IpAddr, from: SocketAddr, now: Duration) {
        let timeout = self.rules.peer_timeout;
        for (network, site) in self.rules.allow_source.iter().zip(&mut self.sites) {
            let is_free = site.is_none_or(|(at, heard)| at.ip() == from.ip() || now.saturating_sub(heard) > timeout);
            if is_free && network.contains(&source) {
                *site = Some((from, now));
            }
        }
    }

    /// Whether this inner source can be that of a client there. What is in the table was judged when it came there.
    fn judge(&self, source: IpAddr, from: SocketAddr) -> Result<(), Refusal> {
        let known = self.addresses.now();
        let outer = from.ip().to_canonical();
        // The tunnel's own datagrams would go through the tunnel. Every link has the same link-local subnet.
        let link_local = matches!(outer, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if known.is_inside(outer) && !link_local {
            return Err(Refusal::OuterInside);
        }
        judge(source, &known, &self.rules.allow_source)
    }

    /// Judges all anew when the addresses have changed.
    fn follow_addresses(&mut self) {
        if self.version == self.addresses.version() {
            return;
        }
        let known = self.addresses.now();
        self.version = self.addresses.version();
        self.peers.retain(|inner| judge(inner, &known, &self.rules.allow_source).is_ok());
        (self.taken, self.found) = (None, None);
    }
}

/// Whether a source can be a client's, on a server with these addresses.
fn judge(source: IpAddr, known: &Known, allowed: &[IpNet]) -> Result<(), Refusal> {
    if known.own.contains(&source) {
        return Err(Refusal::Own);
    }
    let mapped = matches!(source, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let no_host = source.is_unspecified() || source.is_loopback() || source.is_multicast() || mapped;
    if no_host || source == Ipv4Addr::BROADCAST || known.is_whole_subnet(source) {
        return Err(Refusal::NoHost);
    }
    match known.is_inside(source) || allowed.iter().any(|network| network.contains(&source)) {
        true => Ok(()),
        false => Err(Refusal::Foreign),
    }
}

/// The ends of a packet that the kernel has made, so that nothing needs to be checked.
fn ends(packet: &[u8]) -> Option<Ends> {
    match packet.first()? >> 4 {
        4 => {
            let ends: &[u8; 8] = packet.get(12..)?.first_chunk()?;
            let [a, b, c, d, e, f, g, h] = *ends;
            Some(Ends { source: [a, b, c, d].into(), destination: [e, f, g, h].into() })
        }
        6 => {
            let (source, destination) = packet.get(8..40)?.split_at(16);
            let address = |bytes: &[u8]| bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
            Some(Ends { source: address(source)?, destination: address(destination)? })
        }
        _ => None,
    }
}

/// Whether the packet is an ICMP redirect (RFC 792; RFC 4861, section 4.5). To the kernel the clients are on one wire, so it
/// tells each that it may reach the others directly; but there is only the tunnel.
fn is_redirect(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => packet.get(9) == Some(&protocol::ICMP) && packet.get(usize::from(packet[0] & 0x0f) * 4) == Some(&5),
        _ => packet.get(6) == Some(&protocol::ICMPV6) && packet.get(40) == Some(&137),
    }
}

/// Whether the packet is a UDP datagram, as the tunnel's own are.
fn is_udp(packet: &[u8]) -> bool {
    let at = if packet[0] >> 4 == 4 { 9 } else { 6 };
    packet.get(at) == Some(&protocol::UDP)
}

impl Refusal {
    /// Whether it happens by itself, and is no trouble: a kernel speaks from its link-local address, and from none at all
    /// while it looks for one (RFC 4861, RFC 3810).
    pub fn is_usual(self, source: IpAddr) -> bool {
        let link_local = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unspecified());
        link_local && matches!(self, Self::Foreign | Self::NoHost)
    }

    /// What it is counted as.
    pub fn cause(self) -> Cause {
        match self {
            Self::OuterInside => Cause::Loop,
            Self::Own => Cause::OwnSource,
            Self::NoHost => Cause::ImpossibleSource,
            Self::Foreign => Cause::ForeignSource,
            Self::Taken(_) => Cause::TakenSource,
            Self::Full => Cause::TableFull,
            Self::Client => Cause::ClientToClient,
        }
    }
}

/// A refused packet in words, for the log.
pub struct Told<'c> {
    /// Why it was refused.
    pub refusal: Refusal,
    /// Its ends.
    pub ends: Ends,
    /// Where it came from.
    pub from: SocketAddr,
    /// Who refused it.
    pub clients: &'c Clients,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, Ends { source, destination }) = (plain(self.from), self.ends);
        let known = self.clients.addresses.now();
        let (name, rules) = (&known.name, &self.clients.rules);
        match self.refusal {
            Refusal::OuterInside => {
                write!(f, "ignored a datagram from {from}: this address lies in the tunnel, and cannot be at its end")
            }
            Refusal::Own if known.of_tun.iter().any(|address| address.addr() == source) => write!(
                f,
                "a packet for {name} comes from {source}, the address of {name} itself, and the kernel discards it: give \
                 the two ends of the tunnel two addresses, see --address"
            ),
            Refusal::Own => write!(f, "ignored a packet from {from}: its source is {source}, an address of this host"),
            Refusal::NoHost => {
                write!(f, "ignored a packet from {from}: its source is {source}, which is no host's address")
            }
            Refusal::Foreign => {
                write!(f, "ignored a packet from {from}: its source is {source}, which is ")?;
                let shown = known.of_tun.iter().filter(|subnet| subnet.addr().is_ipv4() == source.is_ipv4());
                let subnets: Vec<_> = shown.map(|subnet| subnet.trunc().to_string()).collect();
                match subnets.is_empty() {
                    true => write!(f, "in no subnet of {name}, which has none")?,
                    false => write!(f, "not in {}, where {name} is", subnets.join(" or "))?,
                }
                write!(f, "; if that client may have this address, start the server with --allow-source ")?;
                write!(f, "{source}/{}", if source.is_ipv4() { 32 } else { 128 })
            }
            Refusal::Taken(by) => write!(
                f,
                "ignored a packet from {from}: its source is {source}, which the client at {} has used in the last {} s",
                plain(by),
                rules.peer_timeout.as_secs()
            ),
            Refusal::Full => write!(
                f,
                "ignored a packet from {from}: there is no room for its source {source}; --max-peers is {}",
                rules.max_peers
            ),
            Refusal::Client => write!(
                f,
                "ignored a packet from {source} for {destination}, another client: they do not reach each other without \
                 --client-to-client"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
