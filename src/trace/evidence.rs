//! What a host's kernel says about itself: interfaces, routes, settings, counters, sockets, and who holds what.
//!
//! Looked at before and after the echo, so that what has changed meanwhile can be told. Reads netlink and /proc alone,
//! and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use log::Level;

use crate::error::{Context, Error, Result};
use crate::lab::{Lab, namespace, processes};
use crate::net::{Entry, Hop, Link, Neighbour, Net};

/// The counters of drops, each with what it counts (ip(7), Documentation/networking/snmp_counter.rst).
const COUNTERS: [(&str, &str); 14] = [
    ("IpInHdrErrors", "IP headers that were wrong, or whose TTL ran out"),
    ("IpInAddrErrors", "packets for an address that the host does not have, and does not forward to"),
    ("IpInDiscards", "packets dropped for want of room"),
    ("IpOutDiscards", "packets that it would not send: a firewall, or no room"),
    ("IpOutNoRoutes", "packets for which there was no route"),
    ("IpFragFails", "packets too big for the way, and not to be fragmented"),
    ("IpReasmFails", "fragments that could not be put together"),
    ("IcmpInCsumErrors", "ICMP messages with a wrong checksum"),
    ("UdpNoPorts", "datagrams for a port that nobody listens on"),
    ("UdpRcvbufErrors", "datagrams for which the socket had no room"),
    ("UdpInCsumErrors", "datagrams with a wrong checksum"),
    ("IpExtInNoRoutes", "packets that came in, and for which there was no route"),
    ("IpExtInTruncatedPkts", "packets shorter than their header says"),
    ("TcpExtIPReversePathFilter", "packets that the reverse-path filter dropped"),
];

/// What a counter counts, in words.
pub fn counts(name: &str) -> &'static str {
    COUNTERS.iter().find(|(known, _)| *known == name).map_or("", |(_, words)| words)
}

/// A UDP socket of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSocket {
    /// The address and port that it is bound to; an IPv6 socket for every address has 0.0.0.0, too.
    pub local: SocketAddrV4,
    /// The only sender that it hears, if it is connected to one.
    pub peer: Option<SocketAddrV4>,
    /// How many bytes wait in it for its program.
    pub waiting: u64,
    /// How many datagrams it had no room for.
    pub lost: u64,
    inode: u64,
}

impl UdpSocket {
    /// Whether it is bound to this address and port.
    pub fn is_at(&self, to: SocketAddrV4) -> bool {
        self.local.port() == to.port() && (self.local.ip().is_unspecified() || self.local.ip() == to.ip())
    }

    /// Whether a datagram between these addresses and ports is for this socket.
    pub fn takes(&self, from: SocketAddrV4, to: SocketAddrV4) -> bool {
        self.is_at(to) && self.peer.is_none_or(|peer| peer == from)
    }
}

/// A program of a host that holds a TUN device or a UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The names of the TUN devices that it holds.
    pub tuns: Vec<String>,
    sockets: Vec<u64>,
}

impl std::fmt::Display for Holder {
    /// The program's name and its first word that is no option, as a person would call it, and its process id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const WORDS: usize = 2;
        let name = |word: &str| word.rsplit('/').next().unwrap_or(word).to_string();
        let words = self.command.split_whitespace().filter(|word| !word.starts_with('-'));
        let words: Vec<String> = words.take(WORDS).map(name).collect();
        write!(f, "{} ({})", words.join(" "), self.pid)
    }
}

/// A host at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// Its interfaces, each with its addresses.
    pub links: Vec<(Link, Vec<IpNet>)>,
    /// Its UDP sockets.
    pub sockets: Vec<UdpSocket>,
    /// Its programs, as far as they hold one of these or a TUN device.
    pub holders: Vec<Holder>,
    /// Its neighbours.
    pub neighbours: Vec<Neighbour>,
    /// When the interfaces had counted this: the time since 1970. What passed later is not in their counters.
    pub at: Duration,
    /// How many packets each interface has been handed, by its number.
    handed_on: Vec<(u32, u64)>,
    counters: BTreeMap<String, u64>,
}

impl State {
    /// The interface of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().map(|(link, _)| link).find(|link| link.name == name)
    }

    /// The interface of this number.
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().map(|(link, _)| link).find(|link| link.index == index)
    }

    /// The TUN devices.
    pub fn tuns(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|(link, _)| link).filter(|link| link.is_tun)
    }

    /// The name of the interface that has this address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&str> {
        let has = |addresses: &[IpNet]| addresses.iter().any(|net| net.addr() == IpAddr::V4(address));
        self.links.iter().find(|(_, addresses)| has(addresses)).map(|(link, _)| link.name.as_str())
    }

    /// The addresses of an interface.
    pub fn addresses(&self, name: &str) -> &[IpNet] {
        self.links.iter().find(|(link, _)| link.name == name).map_or(&[], |(_, addresses)| addresses)
    }

    /// How many packets wait in a TUN device for its program, at most: those that it has been handed, without those
    /// that were read. One that was dropped there counts, too, and a large one that its program takes in one piece
    /// counts more than once. `None` where the kernel does not tell.
    pub fn waiting_in(&self, tun: &str) -> Option<u64> {
        let link = self.link(tun)?;
        let (_, handed_on) = self.handed_on.iter().find(|(index, _)| *index == link.index)?;
        Some(handed_on.saturating_sub(link.passed.sent))
    }

    /// The programs that hold this TUN device.
    pub fn tun_holders(&self, name: &str) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(move |holder| holder.tuns.iter().any(|tun| tun == name))
    }

    /// The sockets that a datagram between these addresses and ports could be for.
    pub fn sockets_for(&self, from: SocketAddrV4, to: SocketAddrV4) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.iter().filter(move |socket| socket.takes(from, to))
    }

    /// Whether a socket is bound to this address and port, or to every address.
    pub fn is_bound(&self, to: SocketAddrV4) -> bool {
        self.sockets.iter().any(|socket| socket.is_at(to))
    }

    /// The same socket as another state's.
    pub fn same(&self, socket: &UdpSocket) -> Option<&UdpSocket> {
        self.sockets.iter().find(|other| other.inode == socket.inode)
    }

    /// The programs that hold this socket.
    pub fn socket_holders(&self, socket: &UdpSocket) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(move |holder| holder.sockets.contains(&socket.inode))
    }

    /// By how much a counter has risen since an earlier state.
    pub fn risen(&self, before: &Self, counter: &str) -> u64 {
        let count = |state: &Self| state.counters.get(counter).copied().unwrap_or(0);
        count(self).saturating_sub(count(before))
    }

    /// All counters that have risen since an earlier state, by how much.
    pub fn all_risen(&self, before: &Self) -> Vec<(&'static str, u64)> {
        let risen = COUNTERS.iter().map(|(name, _)| (*name, self.risen(before, name)));
        risen.filter(|(_, by)| *by > 0).collect()
    }
}

/// Looks at every host of a lab that this process has joined, in the topology's order. That takes some milliseconds, and
/// tenths of a second where others make and end namespaces: `patience` is how long it may.
///
/// # Errors
/// A host cannot be entered, or its kernel does not answer, or not in time.
pub fn look(lab: &Lab, patience: Duration) -> Result<Vec<State>> {
    let programs = processes::running_in(&lab.networks.hosts)?;
    // The kernel has one lock for the interfaces of all namespaces (rtnl_lock in net/core/rtnetlink.c). Where others
    // make and end namespaces, each question waits for them; those of all hosts wait at once, and not for ever.
    let (tell, told) = mpsc::channel();
    for (place, network) in lab.networks.hosts.iter().enumerate() {
        let network = network.as_fd().try_clone_to_owned().context(|| "cannot hold a namespace".into())?;
        let tell = tell.clone();
        // Nobody may be listening any more: then it is too late.
        thread::spawn(move || drop(tell.send((place, namespace::inside(&network, look_at_this_host)))));
    }
    let deadline = Instant::now() + patience;
    let mut states: Vec<Option<State>> = programs.iter().map(|_| None).collect();
    while let Some(missing) = states.iter().position(Option::is_none) {
        let Ok((place, state)) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
            let host = &lab.topology.hosts[missing].name;
            let late = format!("the kernel has not told about the interfaces of {host} within {patience:?}");
            return Err(Error::environment(late).hint("the machine may be too busy: try again"));
        };
        states[place] = Some(state?);
    }
    let with_holders = |(state, programs): (State, Vec<processes::Process>)| State {
        holders: programs.iter().filter_map(holder).collect(),
        ..state
    };
    Ok(states.into_iter().flatten().zip(programs).map(with_holders).collect())
}

/// Looks at one host, by its place.
///
/// # Errors
/// As those of [`look`].
pub fn look_at(lab: &Lab, host: usize) -> Result<State> {
    let network = &lab.networks.hosts[host];
    let programs = processes::running_in(std::slice::from_ref(network))?;
    let mut state = namespace::inside(network, look_at_this_host)?;
    state.holders = programs.iter().flatten().filter_map(holder).collect();
    Ok(state)
}

fn look_at_this_host() -> Result<State> {
    let net = Net::open(Level::Debug)?;
    let links = net.links_and_addresses()?;
    let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    // After the time and the interfaces' own counters: what passes between is taken for waiting, not forgotten.
    let handed_on = net.handed_on().unwrap_or_default();
    let sockets = udp_sockets_of_both()?;
    let mut counters = counters("snmp")?;
    counters.extend(self::counters("netstat")?);
    Ok(State { links, sockets, holders: Vec::new(), neighbours: net.neighbours()?, at, handed_on, counters })
}

/// What the kernel of a host would do with a packet, and how it is set; asked when it matters.
#[derive(Clone, Copy)]
pub struct Questions<'l> {
    lab: &'l Lab,
}

impl<'l> Questions<'l> {
    /// Questions to the hosts of a lab that this process has joined.
    pub fn to(lab: &'l Lab) -> Self {
        Self { lab }
    }

    /// Where a host of this place sends its own packets for `destination`; `None` where it has no route.
    pub fn route(&self, host: usize, destination: Ipv4Addr) -> Result<Option<Hop>> {
        self.ask(host, |net| net.route_to(destination.into()))
    }

    /// The entry of its routing tables that these follow.
    pub fn entry(&self, host: usize, destination: Ipv4Addr) -> Result<Option<Entry>> {
        self.ask(host, |net| net.entry_for(destination.into()))
    }

    /// Where a host sends on a packet that arrives on an interface; or the errno with which it does not.
    pub fn forward(
        &self,
        host: usize,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        arrives_on: u32,
    ) -> Result<io::Result<Hop>> {
        self.ask(host, |net| Ok(net.forward_to(source.into(), destination.into(), arrives_on)))
    }

    /// A socket's bytes that wait in it now; `None` where it is closed.
    pub fn waiting(&self, host: usize, socket: &UdpSocket) -> Result<Option<u64>> {
        let sockets = namespace::inside(&self.lab.networks.hosts[host], udp_sockets_of_both)?;
        Ok(sockets.iter().find(|other| other.inode == socket.inode).map(|socket| socket.waiting))
    }

    /// A setting of a host, as in `sysctl`, if it has it.
    pub fn setting(&self, host: usize, name: &str) -> Result<Option<String>> {
        self.read(host, &setting_path(name))
    }

    /// An IPv4 setting of one of its interfaces, or of `all`.
    pub fn setting_of(&self, host: usize, interface: &str, name: &str) -> Result<Option<String>> {
        // The interface's name may have a dot in it.
        self.read(host, &Path::new("/proc/sys/net/ipv4/conf").join(interface).join(name))
    }

    fn read(&self, host: usize, path: &Path) -> Result<Option<String>> {
        let read = || Ok(fs::read_to_string(path).ok().map(|value| value.trim().to_string()));
        namespace::inside(&self.lab.networks.hosts[host], read)
    }

    fn ask<T>(&self, host: usize, question: impl FnOnce(&Net) -> Result<T>) -> Result<T> {
        namespace::inside(&self.lab.networks.hosts[host], || question(&Net::open(Level::Debug)?))
    }
}

/// The file of a setting, by its name in `sysctl`.
fn setting_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// What a process holds; `None` where it holds neither a TUN device nor a socket, or has ended.
fn holder(process: &processes::Process) -> Option<Holder> {
    let pid = process.pid.as_raw();
    let mut holder = Holder { pid, command: process.command.clone(), tuns: Vec::new(), sockets: Vec::new() };
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
            holder.sockets.push(inode);
        } else if target.ends_with("/net/tun") {
            // `iff:` is the device that the descriptor is attached to (tun_chr_show_fdinfo in drivers/net/tun.c).
            let path = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy());
            let info = fs::read_to_string(path).unwrap_or_default();
            let name = info.lines().find_map(|line| line.strip_prefix("iff:")).map(|name| name.trim().to_string());
            holder.tuns.extend(name.filter(|name| !name.is_empty()));
        }
    }
    (!holder.tuns.is_empty() || !holder.sockets.is_empty()).then_some(holder)
}

/// The UDP sockets over IPv4 and IPv6.
fn udp_sockets_of_both() -> Result<Vec<UdpSocket>> {
    let mut sockets = udp_sockets("udp")?;
    sockets.extend(udp_sockets("udp6").unwrap_or_default());
    Ok(sockets)
}

/// The UDP sockets of the calling thread's network namespace (proc_pid_net(5)).
fn udp_sockets(file: &str) -> Result<Vec<UdpSocket>> {
    let path = format!("/proc/thread-self/net/{file}");
    let text = fs::read_to_string(&path).context(|| format!("cannot read {path}"))?;
    Ok(text.lines().skip(1).filter_map(udp_socket).collect())
}

/// A line of /proc/net/udp or udp6: number, local address, remote address, state, queues, ..., inode is the tenth.
fn udp_socket(line: &str) -> Option<UdpSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, waiting) = fields.get(4)?.split_once(':')?;
    Some(UdpSocket {
        local: address(fields.get(1)?)?,
        waiting: u64::from_str_radix(waiting, 16).ok()?,
        lost: fields.get(12)?.parse().ok()?,
        // One that is not connected has port 0 here.
        peer: address(fields.get(2)?).filter(|peer| peer.port() != 0),
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// An address and its port as these files have them; `None` where it is none of IPv4.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = match address.len() {
        // Each 32 bits are in the machine's order.
        8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes()),
        32 if address.bytes().all(|digit| digit == b'0') => Ipv4Addr::UNSPECIFIED,
        // An IPv4 address on an IPv6 socket (RFC 4291, 2.5.5.2).
        32 if address[..16].bytes().all(|digit| digit == b'0') => {
            Ipv4Addr::from(u32::from_str_radix(&address[24..], 16).ok()?.to_ne_bytes())
        }
        _ => return None,
    };
    Some(SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The counters of /proc/net/snmp or netstat: a line of names and a line of numbers for each protocol.
fn counters(file: &str) -> Result<BTreeMap<String, u64>> {
    let path = format!("/proc/thread-self/net/{file}");
    let text = fs::read_to_string(&path).context(|| format!("cannot read {path}"))?;
    Ok(parse_counters(&text))
}

fn parse_counters(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((protocol, names)), Some((_, numbers))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
            continue;
        };
        for (name, number) in names.split_whitespace().zip(numbers.split_whitespace()) {
            if let Ok(number) = number.parse() {
                found.insert(format!("{protocol}{name}"), number);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_read_from_its_line() {
        let v4 =
            "  386: 0302010A:2382 00000000:0000 07 00000000:00000340 00:00000000 00000000  1000        0 9731 2 0 5";
        let socket = udp_socket(v4).unwrap();
        assert_eq!(socket.local, "10.1.2.3:9090".parse().unwrap());
        assert_eq!((socket.waiting, socket.lost, socket.inode), (0x340, 5, 9731));
        let at = |text: &str| text.parse::<SocketAddrV4>().unwrap();
        let client = at("10.1.2.2:40000");
        assert!(socket.takes(client, at("10.1.2.3:9090")));
        assert!(!socket.takes(client, at("10.1.1.4:9090")));
        assert!(!socket.takes(client, at("10.1.2.3:9091")));
        let connected = udp_socket(&v4.replace("00000000:0000 07", "0202010A:9C40 01")).unwrap();
        assert_eq!(connected.peer, Some(client));
        assert!(connected.takes(client, at("10.1.2.3:9090")));
        assert!(connected.is_at(at("10.1.2.3:9090")) && !connected.takes(at("10.1.2.2:40001"), at("10.1.2.3:9090")));
        let v6 = " 1: 00000000000000000000000000000000:2382 00000000000000000000000000000000:0000 07 00000000:00000000 \
            00:00000000 00000000 0 0 12 2 0 0";
        assert!(udp_socket(v6).unwrap().takes(client, at("10.1.1.4:9090")));
        assert_eq!(udp_socket("sl local_address"), None);
    }

    #[test]
    fn counters_are_read_by_their_names() {
        let text = "Ip: Forwarding InHdrErrors\nIp: 1 7\nUdp: NoPorts\nUdp: 3\n";
        let found = parse_counters(text);
        assert_eq!((found["IpInHdrErrors"], found["UdpNoPorts"]), (7, 3));
        let netstat = fs::read_to_string("/proc/net/netstat").unwrap() + &fs::read_to_string("/proc/net/snmp").unwrap();
        let known = parse_counters(&netstat);
        for (name, words) in COUNTERS {
            assert!(known.contains_key(name), "this kernel has no {name}");
            assert_eq!(counts(name), words);
        }
    }
}
