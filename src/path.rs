//! The path to the tunnel's other end: how large a packet may be that goes there in one piece.
//!
//! The kernel knows: the route, the interface that it leads to, and what a router on the way has said about a datagram
//! of ours that was too large ("fragmentation needed", RFC 1191). A UDP socket that is connected to the other end for a
//! moment reads it off, and sends nothing. The tunnel's own socket cannot be asked, since it is not connected.
//!
//! A server may have many other ends. Its TUN device has one MTU, so what counts is the smallest path to a client that is
//! in use: then no client's datagrams are cut. The kernel is asked about a few clients at a time, in turns, about a new one first.
//!
//! [`crate::link::UdpLink`] says where the other end is, and when an answer may have become old; whoever needs the MTU
//! asks here for every packet, which is a look at a number unless there is a doubt. While the answer is old nothing is
//! lost for that: by default the kernel cuts a datagram itself whose path it knows to be smaller (ip(7),
//! IP_PMTUDISC_WANT). Nothing here touches a packet or an interface.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use log::debug;
use nix::sys::socket::{getsockopt, sockopt};

use crate::sys;

/// The MTU of Ethernet in bytes: what is assumed of a path that nothing is known of.
pub const ETHERNET_MTU: u32 = 1500;

/// What the outer headers add to a packet in bytes: 20 of IPv4 (RFC 791) or 40 of IPv6 (RFC 8200), and 8 of UDP (RFC 768).
pub const HEADERS_V4: u32 = 20 + 8;
/// See [`HEADERS_V4`].
pub const HEADERS_V6: u32 = 40 + 8;

/// The longest outer packet in bytes: its length is a field of 16 bits (RFC 791, section 3.1).
const LONGEST: u32 = 65535;

/// How many hosts the kernel is asked about at a time; with more, they take turns.
const AT_A_TIME: usize = 16;

/// The path from a socket to the tunnel's other end, once that is known; of several ends, the path that takes least.
#[derive(Debug)]
pub struct Path {
    local: IpAddr,
    ends: RefCell<Ends>,
    /// The end whose path takes the least, and that path's own MTU, outer headers included.
    tightest: Cell<Option<SocketAddr>>,
    outer: Cell<u32>,
    doubted: Cell<bool>,
}

/// The other ends, by host.
#[derive(Debug, Default)]
struct Ends {
    known: HashMap<IpAddr, End>,
    /// In the order in which they are asked about.
    turns: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct End {
    at: SocketAddr,
    /// What the kernel said last.
    outer: Option<u32>,
}

impl Path {
    /// The path from a socket that is bound to `local`, to `peer` where that is known already.
    pub fn new(local: IpAddr, peer: Option<SocketAddr>) -> Self {
        let path = Self {
            local: local.to_canonical(),
            ends: RefCell::default(),
            tightest: Cell::new(None),
            outer: Cell::new(ETHERNET_MTU),
            doubted: Cell::new(false),
        };
        peer.into_iter().for_each(|peer| path.leads_to(peer));
        path
    }

    /// An end is found at `peer` from now on, beside others.
    pub fn leads_to(&self, peer: SocketAddr) {
        let peer = canonical(peer);
        if self.ends.borrow_mut().insert(peer) {
            // The next to be asked about; until then it takes what all do.
            self.doubt();
        }
        if self.tightest.get().is_none_or(|known| known.ip() == peer.ip()) {
            self.tightest.set(Some(peer));
        }
    }

    /// No end is found at this host any more.
    pub fn leads_no_longer_to(&self, host: IpAddr) {
        let (mut ends, host) = (self.ends.borrow_mut(), host.to_canonical());
        if ends.known.remove(&host).is_some() {
            ends.turns.retain(|known| *known != host);
            self.doubt();
        }
    }

    /// The other ends are these and no others.
    pub fn leads_only_to(&self, peers: &[SocketAddr]) {
        let hosts: HashSet<IpAddr> = peers.iter().map(|peer| canonical(*peer).ip()).collect();
        let mut ends = self.ends.borrow_mut();
        let before = ends.known.len();
        ends.known.retain(|host, _| hosts.contains(host));
        ends.turns.retain(|host| hosts.contains(host));
        let gone = ends.known.len() < before;
        let new = peers.iter().filter(|peer| ends.insert(canonical(**peer))).count() > 0;
        if gone || new {
            self.doubt();
        }
    }

    /// What was known may have changed: the kernel is asked before the next answer.
    pub fn doubt(&self) {
        self.doubted.set(true);
    }

    /// Where the other end is, if that is known: of several, the one whose path takes least.
    pub fn peer(&self) -> Option<IpAddr> {
        self.tightest.get().map(|peer| peer.ip())
    }

    /// The length in bytes of the longest packet that still goes to the other end in one piece, once the outer headers
    /// are around it. While nothing is known it is that of Ethernet.
    pub fn mtu(&self) -> u32 {
        let outer = self.outer();
        outer.saturating_sub(headers(self.peer().unwrap_or(self.local)))
    }

    /// The length in bytes of the longest outer packet that goes there in one piece.
    pub fn outer(&self) -> u32 {
        if self.doubted.get() {
            self.look();
        }
        self.outer.get()
    }

    /// Asks the kernel. Where it has no answer, as without a route, the last one stays.
    fn look(&self) {
        self.doubted.set(false);
        let mut ends = self.ends.borrow_mut();
        for _ in 0..ends.turns.len().min(AT_A_TIME) {
            ends.turns.rotate_left(1);
            let Ends { known, turns } = &mut *ends;
            let Some(end) = turns.back().and_then(|host| known.get_mut(host)) else { continue };
            match ask(self.local, end.at) {
                Ok(mtu) => end.outer = Some(mtu.min(LONGEST)),
                Err(error) => debug!("The MTU of the path to {} is not known: {error}", end.at.ip()),
            }
        }
        let known = ends.known.values().filter_map(|end| end.outer.map(|outer| (outer, end.at)));
        if let Some((outer, at)) = known.min_by_key(|(outer, at)| outer.saturating_sub(headers(at.ip()))) {
            self.outer.set(outer);
            self.tightest.set(Some(at));
        }
    }
}

impl Ends {
    /// Takes note of an end; says whether its host is a new one.
    fn insert(&mut self, at: SocketAddr) -> bool {
        match self.known.get_mut(&at.ip()) {
            Some(end) => {
                end.at = at;
                false
            }
            None => {
                self.known.insert(at.ip(), End { at, outer: None });
                self.turns.push_front(at.ip());
                true
            }
        }
    }
}

/// What the outer headers towards this address add to a packet, in bytes.
fn headers(towards: IpAddr) -> u32 {
    if towards.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer() {
            Some(peer) => write!(f, "The path to {peer} takes packets of {} bytes", self.outer.get()),
            None => write!(f, "A path of {} bytes is assumed", self.outer.get()),
        }
    }
}

/// The MTU of the path from `local` to `peer` in bytes, as the kernel has it now. A socket keeps what it found when it
/// was connected, hence a new one for each question.
fn ask(local: IpAddr, peer: SocketAddr) -> io::Result<u32> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = if local.is_ipv4() == peer.is_ipv4() { local } else { any };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(peer)?;
    match peer {
        SocketAddr::V4(_) => Ok(getsockopt(&socket, sockopt::IpMtu)?.unsigned_abs()),
        SocketAddr::V6(_) => sys::ipv6_path_mtu(socket.as_fd()),
    }
}

/// An IPv4 address that a socket for IPv6 shows as one of IPv6 (RFC 4291, section 2.5.5.2) as what it is; the scope of
/// a link-local one is kept.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The MTU of `lo` where nobody changed it.
    const LOOPBACK_MTU: u32 = 65536;

    fn path(local: &str, peer: Option<&str>) -> Path {
        Path::new(local.parse().unwrap(), peer.map(|peer| peer.parse().unwrap()))
    }

    #[test]
    fn until_the_other_end_is_known_the_path_is_ethernet() {
        assert_eq!(path("0.0.0.0", None).mtu(), 1472);
        assert_eq!(path("::", None).mtu(), 1452);
        assert_eq!(path("::", None).to_string(), "A path of 1500 bytes is assumed");
    }

    #[test]
    fn the_kernel_knows_the_path_and_the_outer_headers_go_off_it() {
        for (local, peer, headers) in
            [("0.0.0.0", "127.0.0.1:9", 28), ("127.0.0.2", "127.0.0.1:9", 28), ("::", "[::ffff:127.0.0.1]:9", 28)]
        {
            let path = path(local, Some(peer));
            assert_eq!(path.mtu(), LOOPBACK_MTU - 1 - headers, "no IP packet is longer than 65535 bytes");
            assert_eq!(path.to_string(), "The path to 127.0.0.1 takes packets of 65535 bytes");
        }
    }

    #[test]
    fn what_the_kernel_does_not_know_stays_as_it_was() {
        // Nobody may send to a broadcast address without having asked for that (ip(7)).
        let path = path("0.0.0.0", Some("255.255.255.255:9"));
        assert_eq!(path.mtu(), 1472);
        path.leads_to("127.0.0.1:9".parse().unwrap());
        assert_eq!(path.mtu(), 65507);
        path.leads_only_to(&["255.255.255.255:9".parse().unwrap()]);
        assert_eq!(path.mtu(), 65507);
    }

    #[test]
    fn the_kernel_is_asked_again_only_in_doubt() {
        let path = path("0.0.0.0", None);
        assert_eq!(path.mtu(), 1472);
        path.ends.borrow_mut().insert("127.0.0.1:9".parse().unwrap());
        assert_eq!(path.mtu(), 1472);
        path.doubt();
        assert_eq!(path.mtu(), 65507);
    }

    #[test]
    fn of_several_ends_the_one_with_the_smallest_path_counts() {
        let path = path("::", None);
        let peers: Vec<SocketAddr> = (1..=40).map(|host| SocketAddr::from(([127, 0, 0, host], 9))).collect();
        peers.iter().for_each(|peer| path.leads_to(*peer));
        assert_eq!(path.mtu(), 65507);
        // As if the kernel had heard of a smaller path to one of them.
        let small = peers[30];
        path.ends.borrow_mut().known.get_mut(&small.ip()).unwrap().outer = Some(1400);
        path.ends.borrow_mut().turns.retain(|host| *host != small.ip());
        path.doubt();
        assert_eq!((path.mtu(), path.peer()), (1372, Some(small.ip())));
        assert_eq!(path.to_string(), "The path to 127.0.0.31 takes packets of 1400 bytes");
        // Once it is no longer in use it does not count.
        path.leads_only_to(&peers[..20]);
        assert_eq!(path.mtu(), 65507);
        assert_eq!(path.ends.borrow().known.len(), 20);
    }

    #[test]
    fn with_many_ends_all_are_asked_about_in_turns_and_a_new_one_first() {
        let path = path("0.0.0.0", None);
        let peers: Vec<SocketAddr> = (1..=40).map(|host| SocketAddr::from(([127, 0, 1, host], 9))).collect();
        path.leads_only_to(&peers);
        let unknown = |path: &Path| path.ends.borrow().known.values().filter(|end| end.outer.is_none()).count();
        path.outer();
        assert_eq!(unknown(&path), 40 - AT_A_TIME);
        let new: SocketAddr = "127.0.2.1:9".parse().unwrap();
        path.leads_to(new);
        path.outer();
        assert!(path.ends.borrow().known[&new.ip()].outer.is_some());
        path.doubt();
        path.outer();
        assert_eq!(unknown(&path), 0);
    }
}
