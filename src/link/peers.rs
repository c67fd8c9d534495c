//! Which client has which inner address: the server's table, pure. The time is handed in; nothing here knows a socket.
//!
//! [`crate::link::clients`] asks it for every packet, one look into a hash table in each direction. The hash is keyed with
//! random numbers (`std`'s), so that nobody can choose addresses that fall together.
//!
//! What it promises, whatever arrives: it never has more entries than it may; an inner address that a host used within
//! the timeout stays with that host; an entry goes only when it has expired and its place is needed. So a client that is
//! silent is still found. All that an entry costs in time is paid when entries expire: at most one walk through the table
//! for each second of the clock.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// As many inner addresses a host has at least, also when others have half of the table: one of IPv4, one of IPv6, a
/// link-local one, and some for programs that are started again.
const FEW: u32 = 8;

/// The clients, by inner address.
#[derive(Debug)]
pub struct Peers {
    clients: HashMap<IpAddr, Client>,
    /// How many inner addresses each outer host has.
    hosts: HashMap<IpAddr, u32>,
    most: usize,
    /// In seconds.
    timeout: u32,
    /// Before this second no entry expires.
    earliest: u32,
}

/// Where the client is that has an inner address.
#[derive(Debug, Clone, Copy)]
struct Client {
    at: SocketAddr,
    /// The second in which it was heard last.
    heard: u32,
}

/// What is new about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    Known,
    /// It was there before.
    Moved(SocketAddr),
    /// It has not been heard of before, or was forgotten.
    New,
}

/// Why a client does not get an inner address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Somebody there has used it within the timeout.
    Taken(SocketAddr),
    /// There is no room, and nothing that has expired.
    Full,
}

/// The clients that have said something of late.
#[derive(Debug)]
pub struct InUse {
    /// The outer hosts, each with one of its ports.
    pub hosts: HashMap<IpAddr, SocketAddr>,
    /// The client that all inner addresses in use belong to, if it is one alone.
    pub sole: Option<SocketAddr>,
}

impl Peers {
    /// A table for so many inner addresses. An address that was not used for longer than `timeout`, in whole seconds, may
    /// go to another host.
    pub fn new(most: usize, timeout: Duration) -> Self {
        let (clients, hosts) = (HashMap::new(), HashMap::new());
        Self { clients, hosts, most, timeout: seconds(timeout), earliest: u32::MAX }
    }

    /// A packet from this inner address has come from there.
    ///
    /// # Errors
    /// The client does not get the address. Of what had expired, some may be forgotten.
    pub fn hear(&mut self, inner: IpAddr, from: SocketAddr, now: Duration) -> Result<News, Refused> {
        let now = seconds(now);
        let before = self.clients.get(&inner).copied();
        if let Some(Client { at, heard }) = before {
            if at.ip() == from.ip() {
                self.clients.insert(inner, Client { at: from, heard: now });
                return Ok(if at == from { News::Known } else { News::Moved(at) });
            }
            if !has_expired(heard, self.timeout, now) {
                return Err(Refused::Taken(at));
            }
            self.remove(inner);
        }
        self.make_place(from.ip(), now)?;
        self.clients.insert(inner, Client { at: from, heard: now });
        *self.hosts.entry(from.ip()).or_default() += 1;
        self.earliest = self.earliest.min(expiry(now, self.timeout));
        Ok(before.map_or(News::New, |before| News::Moved(before.at)))
    }

    /// A packet from this inner address has come from there; says whether it was known to be there already, and else
    /// leaves everything as it is.
    pub fn renew(&mut self, inner: IpAddr, from: SocketAddr, now: Duration) -> bool {
        match self.clients.get_mut(&inner) {
            Some(client) if client.at == from => {
                client.heard = seconds(now);
                true
            }
            _ => false,
        }
    }

    /// Where the client with this inner address is.
    pub fn find(&self, inner: IpAddr) -> Option<SocketAddr> {
        self.clients.get(&inner).map(|client| client.at)
    }

    /// Whether a client is at this outer address.
    pub fn has_host(&self, outer: IpAddr) -> bool {
        self.hosts.contains_key(&outer)
    }

    /// The number of inner addresses.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Who has said something within the timeout.
    pub fn in_use(&self, now: Duration) -> InUse {
        let now = seconds(now);
        let in_use = self.clients.values().filter(|client| !has_expired(client.heard, self.timeout, now));
        let mut found = InUse { hosts: HashMap::new(), sole: None };
        let mut several = false;
        for Client { at, .. } in in_use {
            several |= *found.sole.get_or_insert(*at) != *at;
            found.hosts.insert(at.ip(), *at);
        }
        found.sole = found.sole.filter(|_| !several);
        found
    }

    /// Forgets the inner addresses that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) {
        self.retain_clients(|inner, _| keep(inner));
    }

    /// Makes sure that a host may have one more entry.
    fn make_place(&mut self, host: IpAddr, now: u32) -> Result<(), Refused> {
        if !self.has_place(host) && now >= self.earliest {
            let timeout = self.timeout;
            self.retain_clients(|_, client| !has_expired(client.heard, timeout, now));
            let oldest = self.clients.values().map(|client| client.heard).min();
            self.earliest = oldest.map_or(u32::MAX, |heard| expiry(heard, timeout));
        }
        if self.has_place(host) { Ok(()) } else { Err(Refused::Full) }
    }

    /// The second half of the table is for hosts that have little yet, so that one alone cannot shut out everybody.
    fn has_place(&self, host: IpAddr) -> bool {
        let has = self.hosts.get(&host).copied().unwrap_or(0);
        self.clients.len() < if has < FEW { self.most } else { self.most / 2 }
    }

    fn remove(&mut self, inner: IpAddr) {
        if let Some(client) = self.clients.remove(&inner) {
            leave(&mut self.hosts, client.at.ip());
        }
    }

    fn retain_clients(&mut self, keep: impl Fn(IpAddr, &Client) -> bool) {
        let Self { clients, hosts, .. } = self;
        clients.retain(|inner, client| {
            let kept = keep(*inner, client);
            if !kept {
                leave(hosts, client.at.ip());
            }
            kept
        });
    }
}

fn leave(hosts: &mut HashMap<IpAddr, u32>, host: IpAddr) {
    if let Some(count) = hosts.get_mut(&host) {
        *count -= 1;
        if *count == 0 {
            hosts.remove(&host);
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The first second in which an entry has expired. Seconds are counted from their beginning, so one more is waited for:
/// never less than the timeout.
fn expiry(heard: u32, timeout: u32) -> u32 {
    heard.saturating_add(timeout).saturating_add(1)
}

fn has_expired(heard: u32, timeout: u32, now: u32) -> bool {
    now >= expiry(heard, timeout)
}

#[cfg(test)]
mod tests;
