//! A fresh lab with a submission's programs in it, and everything that passes in it captured: what a check stands on.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use log::Level;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, sendto, socket};

use crate::error::{Context, Error, Result};
use crate::grade::checks::PATIENCE;
use crate::grade::model::Transcript;
use crate::grade::program::Program;
use crate::grade::sandbox::Sandbox;
use crate::grade::submission::{Role, Submission};
use crate::grade::usage::{self, Watcher};
use crate::lab::build::{self, Marks, Networks};
use crate::lab::capture::{Capture, Frame};
use crate::lab::{Lab, Mode, namespace, sysctl};
use crate::net::{Link, Net, Route};
use crate::pcapng::Direction;
use crate::topology::{self, HANDOUT, Topology};
use crate::trace::evidence;

/// How often the limits of a submission are looked at while something is waited for.
const WATCH: Duration = Duration::from_millis(50);

/// How many bytes of frames are kept; a flood is not.
const MOST_BYTES: usize = 64 << 20;

/// How many times as long as it may a program has to start, at most, on a machine that is busy with others.
const LONGEST_START: u32 = 4;

/// A lab, programs in it, and what has passed since it stands.
pub struct Stage<'s> {
    /// The lab.
    pub lab: Lab,
    /// What has passed, each with the place of its host.
    pub frames: Vec<(usize, Frame)>,
    /// The steps taken, for the report.
    pub done: Vec<String>,
    sandbox: &'s Sandbox,
    submission: &'s Submission,
    start_timeout: Duration,
    /// When the last program was started.
    started: Instant,
    captures: Vec<Capture>,
    programs: Vec<Program>,
    sockets: HashMap<(usize, Option<u16>), OwnedFd>,
    kept: usize,
    watched: Instant,
    watcher: Watcher,
}

impl<'s> Stage<'s> {
    /// A lab as a student has it at the start of this step of the handout, for programs that may take so long to start.
    ///
    /// # Errors
    /// The kernel refuses the lab.
    pub fn set(sandbox: &'s Sandbox, submission: &'s Submission, step: u8, start_timeout: Duration) -> Result<Self> {
        let topology = topology::handout().clone();
        let home = namespace::own("net")?;
        let hosts = topology.hosts.iter().map(|_| namespace::new_network()).collect::<Result<Vec<_>>>()?;
        let networks = Networks { hosts, wires: namespace::new_network()? };
        namespace::enter(home.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)?;
        build::build(&topology, &networks, &Marks("grade"), step)?;
        for host in &networks.hosts {
            // As root of a machine may: a program may have any port.
            namespace::inside(host, || sysctl::set("net.ipv4.ip_unprivileged_port_start", "0"))?;
        }
        let lab = Lab { name: "grade".into(), topology, text: HANDOUT.into(), networks, mode: Mode::Root };
        let open = |network| namespace::inside(network, Capture::open);
        let captures = lab.networks.hosts.iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            lab,
            frames: Vec::new(),
            done: Vec::new(),
            sandbox,
            submission,
            start_timeout,
            started: Instant::now(),
            captures,
            programs: Vec::new(),
            sockets: HashMap::new(),
            kept: 0,
            watched: Instant::now(),
            watcher: Watcher::start(),
        })
    }

    /// The topology of the lab.
    pub fn topology(&self) -> &Topology {
        &self.lab.topology
    }

    /// How long a program may take to start.
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// The place of a host.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn host(&self, name: &str) -> Result<usize> {
        self.lab.topology.place(name)
    }

    /// Starts a program of the submission's on the host where the handout has it; returns its place.
    ///
    /// # Errors
    /// The sandbox cannot be made.
    pub fn start(&mut self, role: Role) -> Result<usize> {
        let tunnel = &self.lab.topology.tunnel;
        let host = match role {
            Role::Tun | Role::TunPing | Role::Client | Role::VpnClient => tunnel.client.clone(),
            Role::UdpServer | Role::Server | Role::VpnServer => tunnel.server.clone(),
        };
        let words = self.submission.command(role).unwrap_or_default().to_vec();
        self.done.push(format!("started {} on {host}", words.join(" ")));
        self.programs.push(self.sandbox.start(&self.lab, &host, &words)?);
        self.started = Instant::now();
        Ok(self.programs.len() - 1)
    }

    /// Starts any command in the sandbox, on a host; returns its place.
    ///
    /// # Errors
    /// The sandbox cannot be made.
    pub fn run(&mut self, host: &str, words: &[String]) -> Result<usize> {
        self.done.push(format!("ran {} on {host}", words.join(" ")));
        self.programs.push(self.sandbox.start(&self.lab, host, words)?);
        Ok(self.programs.len() - 1)
    }

    /// How many programs were started.
    pub fn count(&self) -> usize {
        self.programs.len()
    }

    /// A program that was started.
    pub fn program(&mut self, place: usize) -> &mut Program {
        &mut self.programs[place]
    }

    /// Ends a program as Ctrl-C does; what it has printed stays.
    pub fn end(&mut self, place: usize) {
        let program = &mut self.programs[place];
        self.done.push(format!("ended the program on {}", program.host()));
        program.end("it is started anew");
    }

    /// Opens a socket on a host's port that nobody reads.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen(&mut self, host: &str, port: u16) -> Result<()> {
        let place = self.host(host)?;
        self.datagram_socket(place, port)
    }

    /// Whether a host has this address.
    pub fn is_address_of(&self, host: usize, address: Ipv4Addr) -> bool {
        self.lab.topology.hosts[host].interfaces.iter().any(|interface| interface.address.addr() == address)
    }

    /// The address from which a host sends to another.
    ///
    /// # Errors
    /// It has no route.
    pub fn own_address(&self, host: &str, to: Ipv4Addr) -> Result<Ipv4Addr> {
        let source = self.on(host, |net| Ok(net.route_to(to.into())?.and_then(|hop| hop.source)))?;
        match source {
            Some(std::net::IpAddr::V4(address)) => Ok(address),
            _ => Err(Error::failed(format!("{host} has no route to {to}"))),
        }
    }

    /// What all programs have printed.
    pub fn transcripts(&mut self) -> Vec<Transcript> {
        self.programs.iter_mut().map(Program::transcript).collect()
    }

    /// Why the programs were ended, where they used more of the machine than they may.
    pub fn excess(&self) -> Option<String> {
        self.watcher.excess()
    }

    /// Waits until something is so, capturing meanwhile; says whether it came about in time. A submission that uses too much
    /// of the machine ends the waiting.
    ///
    /// # Errors
    /// The captures fail, or `so` does.
    pub fn wait(&mut self, patience: Duration, mut so: impl FnMut(&mut Self) -> Result<bool>) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            self.take()?;
            if so(self)? {
                return Ok(true);
            }
            self.watch();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.excess().is_some() {
                return Ok(false);
            }
            let mut awaited: Vec<_> =
                self.captures.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
            let pause = left.min(Duration::from_millis(10)).as_millis() as u16;
            match poll(&mut awaited, PollTimeout::from(pause.max(1))) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::failed("cannot wait for packets").because(errno)),
            }
        }
    }

    /// Waits for what a program does at its start: so long, and as long again as the programs have waited for a processor
    /// meanwhile, up to four times that. On a busy machine nobody fails for what others compute.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn wait_to_start(&mut self, patience: Duration, mut so: impl FnMut(&mut Self) -> Result<bool>) -> Result<bool> {
        const LEAST: Duration = Duration::from_millis(10);
        let (mut left, mut given) = (patience, Duration::ZERO);
        while left >= LEAST && self.excess().is_none() {
            let before = usage::starved();
            if self.wait(left, &mut so)? {
                return Ok(true);
            }
            given += left;
            let starved = Duration::from_secs_f64((usage::starved() - before).max(0.0));
            left = starved.min(left).min((patience * LONGEST_START).saturating_sub(given));
        }
        Ok(false)
    }

    /// Waits for what the programs do with a packet: [`PATIENCE`], and as long again as they have not come to read what is for
    /// them, while they may still be starting.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn wait_for_programs(&mut self, mut so: impl FnMut(&mut Self) -> Result<bool>) -> Result<bool> {
        let deadline = Instant::now() + self.start_timeout;
        loop {
            if self.wait(PATIENCE, &mut so)? {
                return Ok(true);
            }
            if Instant::now() > deadline || self.excess().is_some() || !self.is_unread()? {
                return Ok(false);
            }
        }
    }

    /// Waits until the programs have read all that is for them, at most as long as they may take to start: a program may have
    /// its device long before it reads it. The kernel itself sends something through every new device.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn settle(&mut self) -> Result<()> {
        // A look costs more than a program that starts can spare all the time.
        const PAUSE: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + self.start_timeout;
        while self.is_unread()? && Instant::now() < deadline && self.excess().is_none() {
            self.pause(PAUSE)?;
        }
        Ok(())
    }

    /// Whether something waits for a program that may still be starting.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn is_starting(&self) -> Result<bool> {
        Ok(self.started.elapsed() < self.start_timeout * LONGEST_START && self.is_unread()?)
    }

    /// Whether there is something that a program has still to read: in the client's TUN device, or in a socket of the server's.
    /// (What is in the other one of each, not every step reads.)
    fn is_unread(&self) -> Result<bool> {
        let tunnel = &self.lab.topology.tunnel;
        let client = evidence::look_at(&self.lab, self.host(&tunnel.client)?)?;
        let mut devices = client.tuns().filter(|tun| tun.has_carrier);
        if devices.any(|tun| client.waiting_in(&tun.name).is_some_and(|packets| packets > 0)) {
            return Ok(true);
        }
        let server = evidence::look_at(&self.lab, self.host(&tunnel.server)?)?;
        let mut held = server.sockets.iter().filter(|socket| server.socket_holders(socket).next().is_some());
        Ok(held.any(|socket| socket.waiting > 0))
    }

    /// Lets time pass, capturing meanwhile.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn pause(&mut self, time: Duration) -> Result<()> {
        self.wait(time, |_| Ok(false)).map(drop)
    }

    /// Takes what has been captured.
    fn take(&mut self) -> Result<()> {
        let before = self.frames.len();
        for (host, capture) in self.captures.iter_mut().enumerate() {
            while let Some(frame) = capture.take()? {
                if self.kept < MOST_BYTES {
                    self.kept += frame.bytes.len();
                    self.frames.push((host, frame));
                }
            }
        }
        self.frames[before..].sort_by_key(|(_, frame)| frame.at);
        Ok(())
    }

    /// Ends the programs where they use too much.
    fn watch(&mut self) {
        if self.watched.elapsed() < WATCH {
            return;
        }
        self.watched = Instant::now();
        self.programs.iter_mut().for_each(Program::watch);
        if let Some(excess) = self.watcher.excess() {
            self.programs.iter_mut().for_each(|program| program.kill(&excess));
            usage::end_all();
        }
    }

    /// The interfaces of a host, each with its addresses.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn links(&self, host: &str) -> Result<Vec<(Link, Vec<IpNet>)>> {
        self.on(host, Net::links_and_addresses)
    }

    /// The TUN or TAP device of a host, if there is one; of several one that a program has open, and has given an
    /// address, best one of the tunnel's.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn tun(&self, host: &str) -> Result<Option<(Link, Vec<IpNet>)>> {
        let mut all = self.links(host)?;
        all.retain(|(link, _)| link.is_tun || link.is_tap);
        let near = self.topology().tunnel.client_address;
        all.sort_by_key(|(link, addresses)| {
            let is_tunnels = addresses.iter().any(|address| near.contains(&address.addr()));
            let has_address = addresses.iter().any(|address| address.addr().is_ipv4());
            (!link.has_carrier, !is_tunnels, !has_address, !link.up)
        });
        Ok(all.into_iter().next())
    }

    /// Asks or changes a host's network.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn on<T>(&self, host: &str, work: impl FnOnce(&Net) -> Result<T>) -> Result<T> {
        namespace::inside(self.lab.network(host)?, || work(&Net::open(Level::Debug)?))
    }

    /// Has a host lead the networks behind the tunnel into its TUN device, as the handout does, unless it does so already. By
    /// its metric the route is another one than the program's own, which may come at any time and goes first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lead_into(&mut self, host: &str, tun: &Link) -> Result<()> {
        const LAST: u32 = 4096;
        for network in self.lab.topology.tunnel.routes.clone() {
            // A route of the program's own stays, wherever it leads.
            if self.has_route(host, network)? {
                continue;
            }
            let route = Route { to: network, via: None, dev: Some(tun.name.clone()), metric: Some(LAST) };
            self.done.push(format!("ip route add {route} on {host}"));
            if let Err(error) = self.on(host, |net| net.add_route(&route)) {
                // A program may have ended meanwhile, and its device with it, or have set the device down.
                if self.tun(host)?.is_some_and(|(now, _)| now.index == tun.index && now.up) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether a host has another route than the default one for each network behind the tunnel.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn has_routes(&self, host: &str) -> Result<bool> {
        let mut all = self.lab.topology.tunnel.routes.iter();
        all.try_fold(true, |so_far, network| Ok(so_far && self.has_route(host, *network)?))
    }

    /// Whether a host has another route than the default one for a network.
    fn has_route(&self, host: &str, network: IpNet) -> Result<bool> {
        self.on(host, |net| Ok(net.entry_for(network.addr())?.is_some_and(|entry| entry.prefix_len > 0)))
    }

    /// Sends an IPv4 packet from a host as it is, by way of its routes (raw(7), IPPROTO_RAW).
    ///
    /// # Errors
    /// The kernel refuses it; no route is not among these reasons, but is told by `false`.
    pub fn send(&mut self, host: &str, packet: &[u8]) -> Result<bool> {
        let place = self.host(host)?;
        if !self.sockets.contains_key(&(place, None)) {
            let open = || {
                let failed = || "cannot open a raw socket".to_string();
                // IPPROTO_RAW: the header is ours.
                socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).context(failed)
            };
            let opened = namespace::inside(&self.lab.networks.hosts[place], open)?;
            self.sockets.insert((place, None), opened);
        }
        let destination: [u8; 4] = packet.get(16..20).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        let to = SockaddrIn::from(SocketAddrV4::new(destination.into(), 0));
        sent(sendto(self.sockets[&(place, None)].as_raw_fd(), packet, &to, MsgFlags::empty()))
    }

    /// Waits until the kernel leads an address into the TUN device of the client: by the device's own address, at once; or by a
    /// route that the program sets later. Where it never does, what comes of that is for the check to say.
    ///
    /// # Errors
    /// As those of [`Stage::wait`].
    pub fn await_route(&mut self, to: Ipv4Addr) -> Result<()> {
        let host = self.topology().tunnel.client.clone();
        let leads = |stage: &mut Self| {
            let Some((tun, _)) = stage.tun(&host)? else { return Ok(true) };
            let hop = stage.on(&host, |net| net.route_to(to.into()))?;
            Ok(hop.is_some_and(|hop| hop.link == Some(tun.index)))
        };
        self.wait_to_start(self.start_timeout, leads).map(drop)
    }

    /// Closes the socket on a host's port.
    ///
    /// # Errors
    /// There is no such host.
    pub fn close(&mut self, host: &str, port: u16) -> Result<()> {
        let place = self.host(host)?;
        self.sockets.remove(&(place, Some(port)));
        Ok(())
    }

    /// Sends a datagram from a host and a port.
    ///
    /// # Errors
    /// As those of [`Stage::send`].
    pub fn send_datagram(&mut self, host: &str, from: u16, to: SocketAddrV4, payload: &[u8]) -> Result<bool> {
        let place = self.host(host)?;
        self.datagram_socket(place, from)?;
        let socket = &self.sockets[&(place, Some(from))];
        sent(sendto(socket.as_raw_fd(), payload, &SockaddrIn::from(to), MsgFlags::empty()))
    }

    /// Has a UDP socket on a host's port.
    fn datagram_socket(&mut self, place: usize, port: u16) -> Result<()> {
        if self.sockets.contains_key(&(place, Some(port))) {
            return Ok(());
        }
        let open = || {
            let failed = || format!("cannot open a UDP socket on port {port}");
            let udp = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context(failed)?;
            let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
            bind(udp.as_raw_fd(), &any).context(failed)?;
            Ok(udp)
        };
        let opened = namespace::inside(&self.lab.networks.hosts[place], open)?;
        self.sockets.insert((place, Some(port)), opened);
        Ok(())
    }

    /// The packets that an interface of a host has seen since a moment, in their order.
    pub fn seen(
        &self,
        since: usize,
        host: usize,
        interface: &str,
        direction: Direction,
    ) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.get(since..).unwrap_or_default().iter();
        frames
            .filter(move |(at, frame)| {
                *at == host && frame.interface == interface && frame.direction == direction && !frame.is_foreign
            })
            .filter_map(|(_, frame)| frame.packet())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.programs.clear();
        usage::end_all();
    }
}

/// Whether something was sent; a host without a route to the destination does not, or one whose program has forbidden it.
fn sent(result: Result<usize, Errno>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        // A datagram that nobody took before is told by the next one.
        Err(Errno::ECONNREFUSED | Errno::ENOBUFS) => Ok(true),
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN) => Ok(false),
        // The program has set a filter, or a route that forbids it; or the MTU just now.
        Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::EMSGSIZE) => Ok(false),
        Err(errno) => Err(Error::failed("cannot send a packet").because(errno)),
    }
}
