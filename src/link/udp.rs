//! The link to the network: a UDP socket, one datagram per packet. Here is who may send, what is counted and what is
//! survived; reading and writing is one system call per datagram, or that of [`crate::fast::udp`].

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::addresses::Addresses;
use crate::clock;
use crate::counts::{Cause, Counts};
use crate::error::{Context, Error, RUN_AS_ROOT, Result};
use crate::fast::Parts;
use crate::fast::udp::{Messages, runs};
use crate::link::clients::{Change, Clients, Rules, Told};
use crate::link::sieve::{Flood, Look, Sieve};
use crate::link::{Batch, Link, plain};
use crate::packet::{self, protocol};
use crate::path::Path;
use crate::pcapng::Direction;
use crate::recording::Recording;
use crate::sys::{self, Datagrams};

/// How long a datagram may wait for room in the socket's buffer before it is dropped, in milliseconds.
const PATIENCE: u8 = 100;

/// For how many packets a large batch has a place at once; more are no error.
const MOST_PACKETS: usize = 1024;

/// A UDP socket as an end of a tunnel.
#[derive(Debug)]
pub struct UdpLink {
    socket: UdpSocket,
    peer: Peer,
    path: Rc<Path>,
    counts: Counts,
    flood: Flood,
    /// What the kernel lets through, while there is a flood.
    sieve: Option<Sieve>,
    /// How many datagrams the kernel had dropped at the last look.
    dropped: u32,
    many: Option<Messages>,
    /// The packets of a batch, each with where it goes; and the runs that they make.
    routed: Vec<(Range<usize>, SocketAddr)>,
    runs: Vec<(Datagrams, SocketAddr)>,
    recording: Option<(Recording, SocketAddr)>,
}

/// Where the other end is.
#[derive(Debug)]
enum Peer {
    /// The server, as the client knows it: datagrams come from its address. Its port is where they go to, but may not be
    /// the one that they come from, for a server that answers through a second socket is one, too.
    Server(SocketAddr),
    /// The clients, as the server knows them: where packets with their inner addresses came from.
    Clients(Box<Clients>),
}

/// What the socket's queue of errors held; each is counted by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// Routers or hosts reported datagrams lost that had been sent before.
    Network,
    /// This machine refused the datagram that was being sent.
    OwnRefusal,
}

impl UdpLink {
    /// The client's end of a tunnel to `server`, on a port that the kernel chooses.
    ///
    /// # Errors
    /// The kernel has no socket of this address family.
    pub fn to_server(server: SocketAddr) -> Result<Self> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::new(bind(SocketAddr::new(any, 0))?, Peer::Server(server))
    }

    /// The server's end of tunnels, which waits at `local` for clients, and takes what these rules allow. Until
    /// [`UdpLink::judge_by`] it takes no packet but those of `--allow-source`.
    ///
    /// # Errors
    /// The port is in use or needs root; the address is none of this machine's.
    pub fn on(local: SocketAddr, rules: Rules) -> Result<Self> {
        Self::new(bind(local)?, Peer::Clients(Box::new(Clients::new(rules))))
    }

    fn new(socket: UdpSocket, peer: Peer) -> Result<Self> {
        // A socket that is not connected hears of ICMP errors only if it asks to (ip(7), IP_RECVERR).
        let _ = setsockopt(&socket, sockopt::Ipv4RecvErr, &true);
        if socket.local_addr().is_ok_and(|local| local.is_ipv6()) {
            let _ = setsockopt(&socket, sockopt::Ipv6RecvErr, &true);
        }
        // select(2) may call a socket readable whose datagram then turns out damaged (its BUGS section).
        socket.set_nonblocking(true).context(|| "cannot prepare the UDP socket".into())?;
        let known = if let Peer::Server(server) = peer { Some(server) } else { None };
        let local = socket.local_addr().context(|| "cannot ask for the socket's address".into())?;
        let path = Rc::new(Path::new(local.ip(), known));
        Ok(Self {
            socket,
            peer,
            path,
            counts: Counts::default(),
            flood: Flood::default(),
            sieve: None,
            dropped: 0,
            many: None,
            routed: Vec::new(),
            runs: Vec::new(),
            recording: None,
        })
    }

    /// Judges the inner sources of a server's clients by these addresses.
    pub fn judge_by(&mut self, addresses: Addresses) {
        if let Peer::Clients(clients) = &mut self.peer {
            clients.judge_by(addresses);
        }
    }

    /// The path to the other end. This link says where that is, and when something about the path may have changed.
    pub fn path(&self) -> Rc<Path> {
        Rc::clone(&self.path)
    }

    /// Receives and sends many datagrams at a time from now on.
    pub fn with_offload(mut self, parts: Parts) -> Self {
        self.many = Some(Messages::prepare(&self.socket, parts));
        self
    }

    /// Records what is received and sent from now on, what this link does not accept included.
    ///
    /// # Errors
    /// Those of [`UdpLink::local`].
    pub fn recorded(mut self, recording: Option<Recording>) -> Result<Self> {
        let local = self.local()?;
        self.recording = recording.map(|recording| (recording, local));
        Ok(self)
    }

    /// The recording that this link writes to, for the tunnel's other link.
    pub fn recording(&self) -> Option<Recording> {
        self.recording.as_ref().map(|(recording, _)| recording.clone())
    }

    /// A batch with the room that this link fills.
    pub fn batch(&self) -> Batch {
        match &self.many {
            Some(many) => Batch::with_room(many.room(), MOST_PACKETS),
            None => Batch::new(),
        }
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn local(&self) -> Result<SocketAddr> {
        self.socket.local_addr().context(|| "cannot ask for the socket's address".into())
    }

    /// The server; or the client that was heard last, if there is one yet.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.peer {
            Peer::Server(server) => Some(*server),
            Peer::Clients(clients) => clients.last(),
        }
    }

    /// Decides on a datagram that lies at `place` in the batch's buffer: only IP packets from the right place go on.
    fn accept(&mut self, place: Range<usize>, from: SocketAddr, now: Duration, into: &mut Batch) {
        let before = self.counts.received.packets;
        self.judge(place, from, now, into);
        if self.counts.received.packets == before {
            self.flood.refused();
        }
    }

    fn judge(&mut self, place: Range<usize>, from: SocketAddr, now: Duration, into: &mut Batch) {
        if let Some((recording, local)) = &self.recording {
            recording.datagram(Direction::In, *local, from, &into.bytes()[place.clone()]);
        }
        let drops = &mut self.counts.drops;
        if let Peer::Server(server) = self.peer
            && from.ip() != server.ip()
        {
            return drops.count(Cause::Stranger, || {
                format!("ignored a datagram from {from}, which is not the server {server}")
            });
        }
        if let Peer::Clients(clients) = &self.peer
            && !clients.may_speak(from)
        {
            return drops.warn(Cause::PeerNotAllowed, now, || {
                format!("ignored a datagram from {}, which no --allow-peer allows", plain(from))
            });
        }
        let ends = match packet::validate(&into.bytes()[place.clone()]) {
            Ok(ends) => ends,
            Err(reason) => {
                return drops.count(Cause::NotIp, || format!("ignored a datagram from {}: {reason}", plain(from)));
            }
        };
        if let Peer::Clients(clients) = &mut self.peer {
            match clients.take(ends, from, now) {
                Ok(Change::None) => {}
                Ok(change) => self.met(ends.source, from, change),
                Err(refusal) if refusal.is_usual(ends.source) => {
                    drops.note(refusal.cause());
                    return;
                }
                Err(refusal) => {
                    return drops.warn(refusal.cause(), now, || Told { refusal, ends, from, clients }.to_string());
                }
            }
        }
        self.counts.received.add(place.len());
        into.keep(place);
    }

    /// Follows a client that is new or somewhere else. The first is worth a line; afterwards anybody could make us write
    /// them.
    fn met(&mut self, inner: IpAddr, from: SocketAddr, change: Change) {
        let Peer::Clients(clients) = &self.peer else { return };
        match change {
            Change::None => {}
            Change::New { first: true } => info!("The client is at {}", plain(from)),
            Change::New { first: false } => debug!("A client with the address {inner} is at {}", plain(from)),
            Change::Moved(before) => {
                debug!("The client {inner} moved from {} to {}", plain(before), plain(from));
                if !clients.has_host(before.ip()) {
                    self.path.leads_no_longer_to(before.ip());
                }
            }
        }
        self.counts.clients = Some(clients.count());
        self.path.leads_to(from);
    }

    /// Looks now and then whether there is a flood, and which clients are in use.
    fn survey(&mut self, now: Duration) {
        self.stem(now);
        if let Peer::Clients(clients) = &mut self.peer
            && let Some(hosts) = clients.survey(now)
        {
            self.counts.clients = Some(clients.count());
            // A client that is silent has a path nevertheless, while there is no other.
            if !hosts.is_empty() {
                self.path.leads_only_to(&hosts);
            }
        }
    }

    /// Lets the kernel refuse what would be refused, while there is much of it; counts what it has dropped.
    fn stem(&mut self, now: Duration) {
        let (socket, before) = (self.socket.as_fd(), &mut self.dropped);
        let (look, dropped) = self.flood.look(now, || {
            let all = sys::datagrams_dropped(socket).unwrap_or(*before);
            u64::from(all.wrapping_sub(std::mem::replace(before, all)))
        });
        let cause = if self.sieve.is_some() { Cause::Flood } else { Cause::QueueFull };
        self.counts.drops.note_many(cause, dropped);
        let sieve = match look {
            Look::NotYet | Look::Calm => return,
            Look::Begins | Look::Lasts => Some(match &self.peer {
                Peer::Server(server) => Sieve { outer: vec![server.ip().to_canonical().into()], inner: Vec::new() },
                Peer::Clients(clients) => clients.sieve(),
            }),
            Look::Ends => None,
        };
        if sieve != self.sieve {
            self.set_sieve(sieve);
        }
    }

    fn set_sieve(&mut self, sieve: Option<Sieve>) {
        let program = sieve.as_ref().map(Sieve::program).unwrap_or_default();
        if let Err(error) = sys::filter(self.socket.as_fd(), &program) {
            return debug!("cannot filter a flood: {error}");
        }
        match (&self.sieve, &sieve) {
            (None, Some(_)) => info!("A flood of datagrams is refused: from now on by the kernel, all but a sample"),
            (Some(_), None) => info!("The flood is over: every datagram is looked at again"),
            _ => debug!("The filter against a flood follows the addresses"),
        }
        self.sieve = sieve;
    }

    /// Receives one datagram, or many.
    fn receive(&mut self, into: &mut Batch) -> io::Result<()> {
        let Some(mut many) = self.many.take() else {
            let (length, from) = self.socket.recv_from(into.room())?;
            let now = clock::now();
            self.accept(0..length, from, now, into);
            self.survey(now);
            return Ok(());
        };
        let result = many.recv(&self.socket, into);
        if result.is_ok() {
            let now = clock::now();
            many.received().for_each(|(place, from)| self.accept(place, from, now, into));
            self.survey(now);
        }
        self.many = Some(many);
        result
    }

    /// Decides where each packet of the batch goes; what goes nowhere is counted.
    fn route(&mut self, packets: &Batch) {
        let mut routed = std::mem::take(&mut self.routed);
        routed.clear();
        for place in packets.places() {
            let packet = &packets.bytes()[place.clone()];
            let to = match &mut self.peer {
                Peer::Server(server) => Ok(*server),
                Peer::Clients(clients) => clients.route(packet),
            };
            match to {
                Ok(to) if is_datagram_to(packet, to) => self.lose_way(packet, Cause::Loop),
                Ok(to) => routed.push((place.clone(), to)),
                Err(cause) => self.lose_way(packet, cause),
            }
        }
        self.routed = routed;
    }

    /// Counts a packet out of the TUN device that goes nowhere.
    fn lose_way(&mut self, packet: &[u8], cause: Cause) {
        let destination = || packet::validate(packet).map_or("nobody".into(), |ends| ends.destination.to_string());
        let drops = &mut self.counts.drops;
        match cause {
            Cause::Loop => drops.count(cause, || {
                let peer = match &self.peer {
                    Peer::Server(server) => server.to_string(),
                    Peer::Clients(_) => destination(),
                };
                format!(
                    "a datagram of the tunnel itself came out of the TUN device: a route leads {peer} into the tunnel"
                )
            }),
            Cause::NoPeer => {
                if drops.note(cause) {
                    info!("Waiting for a client: until it has sent something, there is nowhere to send packets to");
                }
            }
            // Each kernel says something to all now and then, or knows a shorter way.
            Cause::ToMany | Cause::Redirect => {
                drops.note(cause);
            }
            Cause::ClientToClient => drops.warn(cause, clock::now(), || {
                format!("a packet for {} comes from another client; see --client-to-client", destination())
            }),
            _ => drops.warn(cause, clock::now(), || {
                format!("a packet for {} goes nowhere: no client has sent anything from that address", destination())
            }),
        }
    }

    /// Sends the packets of this buffer, joined to runs of one size where the kernel cuts them again.
    fn send_runs(&mut self, bytes: &[u8], join: bool) -> Result<()> {
        let mut messages = std::mem::take(&mut self.runs);
        runs(self.routed.iter().cloned(), join, &mut messages);
        let (mut rest, mut patient) = (&messages[..], true);
        while let [(first, to), ..] = rest {
            let mut sent = sys::send_datagrams(self.socket.as_fd(), bytes, rest);
            if is(&sent, Errno::EAGAIN) && patient {
                // Once in a batch: what is stuck is not to keep the loop from everything else.
                patient = self.wait_for_room();
                sent = sys::send_datagrams(self.socket.as_fd(), bytes, rest);
            }
            let done = match sent {
                Ok(count) => {
                    rest[..count].iter().for_each(|(run, _)| self.counts.sent.add_many(run.count(), run.place.len()));
                    count
                }
                Err(error) => {
                    self.send_alone(first, bytes, *to, &error)?;
                    1
                }
            };
            rest = &rest[done..];
        }
        self.runs = messages;
        Ok(())
    }

    /// Sends the datagrams of a run that was refused one by one, which tells why, and works if the run was the reason. A
    /// full queue has dropped the run, and would drop them, too.
    fn send_alone(&mut self, run: &Datagrams, bytes: &[u8], peer: SocketAddr, error: &io::Error) -> Result<()> {
        match (error.raw_os_error().map(Errno::from_raw), &mut self.many) {
            (Some(full @ (Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM)), _) => {
                (0..run.count()).for_each(|_| self.count_loss(full, Some(peer)));
                return Ok(());
            }
            // udp(7) has no word on it: a device that cannot make checksums refuses runs (net/ipv4/udp.c).
            (Some(Errno::EIO), Some(many)) if run.count() > 1 => many.leave_runs(),
            // The kernel cuts single datagrams for a smaller path, but not runs; older ones say `EINVAL`.
            (Some(Errno::EMSGSIZE | Errno::EINVAL), _) => self.path.doubt(),
            _ => {}
        }
        run.each().try_for_each(|place| self.send_packet(&bytes[place], peer))
    }

    /// Sends one packet as one datagram.
    fn send_packet(&mut self, packet: &[u8], peer: SocketAddr) -> Result<()> {
        let mut result = self.socket.send_to(packet, peer);
        if is(&result, Errno::EAGAIN) {
            self.wait_for_room();
            result = self.socket.send_to(packet, peer);
        } else if result.is_err() {
            match self.hear_errors() {
                // This datagram has not been sent yet: the error was the network's answer to an earlier one.
                Heard::Network => result = self.socket.send_to(packet, peer),
                Heard::OwnRefusal => return Ok(()),
                Heard::Nothing => {}
            }
        }
        match result {
            Ok(_) => self.counts.sent.add(packet.len()),
            Err(error) => self.lose(&error, Some(peer))?,
        }
        Ok(())
    }

    /// Counts what the system refused to send or receive.
    fn lose(&mut self, error: &io::Error, peer: Option<SocketAddr>) -> Result<()> {
        let error = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        if matches!(error, Errno::EBADF | Errno::ENOTSOCK | Errno::EFAULT) {
            return Err(Error::failed("the UDP socket does not work any more").because(error));
        }
        self.count_loss(error, peer);
        Ok(())
    }

    fn count_loss(&mut self, error: Errno, peer: Option<SocketAddr>) {
        if error == Errno::EMSGSIZE {
            self.path.doubt();
        }
        self.counts.drops.count(Cause::System(error), || {
            lost(&peer.map_or("the network".into(), |peer| plain(peer).to_string()), error)
        });
    }

    /// A router has said how large a packet may be from there on (RFC 1191). The kernel has noted it, and cuts the next
    /// datagrams accordingly.
    fn learn(&mut self, mtu: u32, peer: Option<SocketAddr>) {
        self.path.doubt();
        let peer = peer.map_or("the other end".into(), |peer| plain(peer).to_string());
        self.counts.drops.count(Cause::System(Errno::EMSGSIZE), || {
            format!("a datagram is lost: a network on the way to {peer} takes packets of {mtu} bytes at most")
        });
    }

    /// Empties the socket's queue of errors (ip(7), MSG_ERRQUEUE) and counts them. While the queue holds one, select(2)
    /// calls the socket readable.
    fn hear_errors(&mut self) -> Heard {
        let mut heard = Heard::Nothing;
        while let Some((error, to)) = next_error(&self.socket) {
            let peer = to.or(self.peer());
            heard = match error.ee_origin {
                libc::SO_EE_ORIGIN_LOCAL => Heard::OwnRefusal,
                _ => Heard::Network,
            };
            match (heard, Errno::from_raw(error.ee_errno as i32)) {
                (Heard::Network, Errno::EMSGSIZE) => self.learn(error.ee_info, peer),
                (_, errno) => self.count_loss(errno, peer),
            }
        }
        heard
    }

    /// Waits as a blocking socket would, but not for ever: an interface that is stuck must not stop Ctrl-C. Returns
    /// whether there is room.
    fn wait_for_room(&self) -> bool {
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], PATIENCE).is_ok_and(|ready| ready > 0)
    }
}

impl Link for UdpLink {
    fn recv(&mut self, into: &mut Batch) -> Result<()> {
        into.clear();
        match self.receive(into) {
            Ok(()) => {}
            Err(error) if self.hear_errors() != Heard::Nothing || error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.lose(&error, self.peer())?,
        }
        Ok(())
    }

    fn send(&mut self, packets: &Batch) -> Result<()> {
        self.route(packets);
        let bytes = packets.bytes();
        if let Some((recording, local)) = &self.recording {
            self.routed.iter().for_each(|(place, to)| {
                recording.datagram(Direction::Out, *local, *to, &bytes[place.clone()]);
            });
        }
        match &self.many {
            Some(many) if self.routed.len() > 1 => self.send_runs(bytes, many.joins()),
            _ => {
                let routed = std::mem::take(&mut self.routed);
                routed.iter().try_for_each(|(place, to)| self.send_packet(&bytes[place.clone()], *to))?;
                self.routed = routed;
                Ok(())
            }
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl AsFd for UdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A UDP socket at this address.
///
/// # Errors
/// The port is in use or needs root; the address is none of this machine's.
pub fn bind(local: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(local).map_err(|error| {
        let what = format!("cannot listen on UDP port {} of {}", local.port(), local.ip());
        match error.kind() {
            ErrorKind::AddrInUse => Error::failed(format!("{what}: the port is in use"))
                .because(error)
                .hint(format!("see ss -lunp 'sport = {}', or choose another port", local.port())),
            ErrorKind::AddrNotAvailable => {
                Error::usage(what).because(error).hint("this machine does not have that address: see ip address")
            }
            ErrorKind::PermissionDenied => Error::environment(what).because(error).hint(RUN_AS_ROOT),
            _ => Error::failed(what).because(error),
        }
    })
}

/// The next error in the socket's queue, and where the datagram was to go that it is about.
fn next_error(socket: &UdpSocket) -> Option<(libc::sock_extended_err, Option<SocketAddr>)> {
    let mut control = nix::cmsg_space!([u8; 128]);
    let mut datagram = [0; 64];
    let mut into = [IoSliceMut::new(&mut datagram)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut control), flags).ok()?;
    let error = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
        _ => None,
    })?;
    let to = message.address.as_ref();
    let v4 = to.and_then(SockaddrStorage::as_sockaddr_in).map(|to| SocketAddr::V4((*to).into()));
    let v6 = to.and_then(SockaddrStorage::as_sockaddr_in6).map(|to| SocketAddr::V6((*to).into()));
    Some((error, v4.or(v6)))
}

/// Whether the packet is a UDP datagram to `peer`, as this tunnel itself sends them (RFC 791, RFC 8200, RFC 768).
fn is_datagram_to(packet: &[u8], peer: SocketAddr) -> bool {
    let (udp, destination, ports) = match (packet.first().map(|byte| byte >> 4), peer.ip().to_canonical()) {
        (Some(4), IpAddr::V4(address)) => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            (packet.get(9) == Some(&protocol::UDP), packet.get(16..20) == Some(&address.octets()), header)
        }
        (Some(6), IpAddr::V6(address)) => {
            (packet.get(6) == Some(&protocol::UDP), packet.get(24..40) == Some(&address.octets()), 40)
        }
        _ => return false,
    };
    destination && udp && packet.get(ports + 2..ports + 4) == Some(&peer.port().to_be_bytes())
}

fn is<T>(result: &io::Result<T>, error: Errno) -> bool {
    matches!(result, Err(cause) if cause.raw_os_error() == Some(error as i32))
}

/// What it means that a datagram for `peer` was lost this way.
fn lost(peer: &str, error: Errno) -> String {
    match error {
        Errno::ECONNREFUSED => format!("{peer} refuses datagrams: no program has that UDP port open"),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => format!("{peer} cannot be reached: {}; see ip route", error.desc()),
        Errno::EMSGSIZE => format!("a packet is too large for a datagram to {peer}; a smaller --mtu avoids that"),
        Errno::EPERM => format!("a firewall of this machine forbids datagrams to {peer}: see nft list ruleset"),
        // ip(7): the address of a whole subnet, and the socket did not ask for that.
        Errno::EACCES => format!("{peer} is a broadcast address, and no host's: see ip -4 address"),
        Errno::ENOBUFS | Errno::EAGAIN | Errno::ENOMEM => {
            format!(
                "a datagram to {peer} found no room in a queue of this machine, or was larger than the interface at the \
                 other end of the wire takes"
            )
        }
        _ => format!("a datagram to {peer} is lost: {}", error.desc()),
    }
}

#[cfg(test)]
mod tests;
