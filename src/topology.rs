//! The lab's network as data: hosts, interfaces, names, and the addresses of the tunnel.
//!
//! Read from a topology file (`lab/topology.toml` is built in). The lab builds what it says; the steps take their
//! defaults from its `[tunnel]`. Reads the one variable and files, and touches no network. No other place knows an
//! address of the lab.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::output;

/// The handout's own network, as it stands in `lab/topology.toml`.
pub const HANDOUT: &str = include_str!("../lab/topology.toml");

/// Names the topology file of the lab that a program runs in; set for every program that `lab exec` starts.
pub const VARIABLE: &str = "VPNLAB_TOPOLOGY";

/// The name of the namespace in which a lab's bridges stand.
pub const WIRES: &str = "vpnlab-wires";

/// The most hosts of a lab: each is a descriptor, and all go in one message ([`crate::sys::MAX_FDS`]).
const MAX_HOSTS: usize = 100;

/// A lab: its hosts, how they are wired, what is checked, and what the steps' tunnel uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Topology {
    /// What the tunnel of the steps uses by default.
    pub tunnel: Tunnel,
    /// The hosts, in the order in which they are shown.
    #[serde(rename = "host")]
    pub hosts: Vec<Host>,
    /// What `lab check` verifies.
    #[serde(rename = "check", default)]
    pub checks: Vec<Check>,
    /// What a student has set by the start of a step.
    #[serde(default)]
    pub prepared: Vec<Prepared>,
}

/// The defaults of the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tunnel {
    /// The server's UDP port.
    pub port: u16,
    /// The host that the client runs on.
    pub client: String,
    /// The host that the server runs on; also the name that the client sends to.
    pub server: String,
    /// The address of the client's TUN device.
    pub client_address: IpNet,
    /// The address of the server's TUN device.
    pub server_address: IpNet,
    /// The networks that the client reaches through the tunnel.
    pub routes: Vec<IpNet>,
}

impl Tunnel {
    /// The address of this number in the tunnel's network, which nobody has if it is neither end's.
    pub fn other_address(&self, number: usize) -> IpAddr {
        self.client_address.trunc().hosts().nth(number - 1).unwrap_or(self.client_address.addr())
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Host {
    /// Its name, and its hostname.
    pub name: String,
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
    /// Its default gateway.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Its further routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Whether it forwards packets (`ip_forward`).
    #[serde(default)]
    pub forward: bool,
    /// Destinations that it answers with ICMP Destination Host Unreachable when asked to forward to them.
    #[serde(default)]
    pub unreachable: Vec<Ipv4Net>,
}

/// One network interface of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Interface {
    /// Its name, 15 bytes at most.
    pub name: String,
    /// The network that it is plugged into; interfaces of one network are on one wire.
    pub network: String,
    /// Its address and prefix length.
    pub address: Ipv4Net,
    /// The canonical name of this address, where it has one.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// A route: `ip route add TO via VIA`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    /// The destination network.
    pub to: Ipv4Net,
    /// The next hop, an address on one of the host's own networks.
    pub via: Ipv4Addr,
}

/// One promise of the freshly built lab: FROM reaches TO, or is told that it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// The host that sends the probe.
    pub from: String,
    /// The host whose name is probed.
    pub to: String,
    /// TO answers, and is this many hops away.
    #[serde(default)]
    pub hops: Option<u8>,
    /// TO does not answer; this router says Destination Host Unreachable.
    #[serde(default)]
    pub unreachable_from: Option<Ipv4Addr>,
}

/// What a host has been given by the start of a step of the handout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Prepared {
    /// The first step that finds it set.
    pub step: u8,
    /// The host that it is set on.
    pub host: String,
    /// Whether `ip_forward` is set to 1.
    #[serde(default)]
    pub forward: bool,
    /// The routes that are added.
    #[serde(default)]
    pub routes: Vec<Route>,
}

static BUILT_IN: LazyLock<Topology> =
    LazyLock::new(|| Topology::parse(HANDOUT, "lab/topology.toml").expect("the built-in topology is valid"));

/// The topology that steps take their defaults from: the file that [`VARIABLE`] names, else the handout's.
pub fn current() -> &'static Topology {
    static CURRENT: LazyLock<Topology> = LazyLock::new(|| match std::env::var_os(VARIABLE) {
        Some(path) => Topology::read(Path::new(&path)).unwrap_or_else(|error| {
            output::error_line(format_args!("vpnlab: {VARIABLE} is ignored: {error}"));
            handout().clone()
        }),
        None => handout().clone(),
    });
    &CURRENT
}

/// The handout's own topology.
pub fn handout() -> &'static Topology {
    &BUILT_IN
}

impl Topology {
    /// Reads and checks a topology file.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML of this form, or contradicts itself; the message names the place.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::usage(format!("cannot read topology {}", path.display())).because(error))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks a topology; `source` is what messages call it.
    pub fn parse(text: &str, source: &str) -> Result<Self> {
        let topology: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let message = error.message().trim().replace('\n', " ");
            Error::usage(format!("topology {source}, line {line}: {message}"))
        })?;
        topology.validate().map_err(|problem| Error::usage(format!("topology {source}: {problem}")))?;
        Ok(topology)
    }

    /// The host of this name.
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn host(&self, name: &str) -> Result<&Host> {
        Ok(&self.hosts[self.place(name)?])
    }

    /// The place of the host of this name in [`Topology::hosts`].
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn place(&self, name: &str) -> Result<usize> {
        self.hosts.iter().position(|host| host.name == name).ok_or_else(|| {
            let names: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            Error::usage(format!("no host named {name} in this lab"))
                .hint(format!("its hosts are {}", names.join(", ")))
        })
    }

    /// The first host of the networks behind the tunnel, other than its server.
    pub fn behind_the_tunnel(&self) -> Option<&Host> {
        self.all_behind_the_tunnel().next()
    }

    /// The hosts of the networks behind the tunnel, other than its server.
    pub fn all_behind_the_tunnel(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| {
            host.name != self.tunnel.server && host.interfaces.iter().any(|it| self.is_behind_the_tunnel(it))
        })
    }

    /// Whether the client reaches an interface through the tunnel.
    pub fn is_behind_the_tunnel(&self, interface: &Interface) -> bool {
        self.tunnel.routes.iter().any(|net| net.contains(&IpAddr::V4(interface.address.addr())))
    }

    /// The networks, in the order of their first mention, each with its interfaces as (host, interface).
    pub fn networks(&self) -> Vec<(&str, Vec<(&Host, &Interface)>)> {
        let mut networks: Vec<(&str, Vec<_>)> = Vec::new();
        for host in &self.hosts {
            for interface in &host.interfaces {
                match networks.iter_mut().find(|(name, _)| *name == interface.network) {
                    Some((_, members)) => members.push((host, interface)),
                    None => networks.push((&interface.network, vec![(host, interface)])),
                }
            }
        }
        networks
    }

    /// What `target` resolves to when `asker` asks: the address on a network that both share, else its first named one.
    pub fn resolve(&self, asker: &Host, target: &Host) -> Ipv4Addr {
        let shared = target.interfaces.iter().filter(|theirs| theirs.hostname.is_some()).find(|theirs| {
            asker.name != target.name && asker.interfaces.iter().any(|ours| ours.network == theirs.network)
        });
        let named = || target.interfaces.iter().find(|interface| interface.hostname.is_some());
        shared.or_else(named).unwrap_or(&target.interfaces[0]).address.addr()
    }

    /// `/etc/hosts` as `asker` has it: an address's canonical name first, as ping prints it.
    pub fn hosts_file(&self, asker: &Host) -> String {
        let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        for host in &self.hosts {
            let short = self.resolve(asker, host);
            for interface in &host.interfaces {
                let address = interface.address.addr();
                let alias = (address == short).then_some(host.name.as_str());
                let names: Vec<&str> = interface.hostname.as_deref().into_iter().chain(alias).collect();
                if !names.is_empty() {
                    text.push_str(&format!("{address}\t{}\n", names.join(" ")));
                }
            }
        }
        text
    }

    /// The name of an address as `ping` would show it: the canonical name, else the address itself.
    pub fn name_of(&self, address: IpAddr) -> String {
        let mut interfaces = self.hosts.iter().flat_map(|host| &host.interfaces);
        let known = interfaces.find(|interface| IpAddr::V4(interface.address.addr()) == address);
        known.and_then(|interface| interface.hostname.clone()).unwrap_or_else(|| address.to_string())
    }

    fn validate(&self) -> Result<(), String> {
        if self.hosts.len() > MAX_HOSTS {
            return Err(format!("there are {} hosts, and a lab can have {MAX_HOSTS}", self.hosts.len()));
        }
        let mut hosts = HashSet::new();
        let mut addresses = HashSet::new();
        for host in &self.hosts {
            check_name("host", &host.name)?;
            if host.name == WIRES {
                return Err(format!("no host can be named {WIRES}: the lab's own bridges stand there"));
            }
            if !hosts.insert(&host.name) {
                return Err(format!("two hosts are named {}", host.name));
            }
            if host.interfaces.is_empty() {
                return Err(format!("host {} has no interface", host.name));
            }
            let mut names = HashSet::new();
            for interface in &host.interfaces {
                check_name("interface", &interface.name)?;
                check_name("network", &interface.network)?;
                check_bridge(&interface.network)?;
                if interface.name == "lo" || !names.insert(&interface.name) {
                    return Err(format!("host {} has two interfaces named {}", host.name, interface.name));
                }
                if !addresses.insert(interface.address.addr()) {
                    return Err(format!("two interfaces have the address {}", interface.address.addr()));
                }
            }
            let next_hops = host.gateway.iter().chain(host.routes.iter().map(|route| &route.via));
            check_next_hops(host, next_hops)?;
        }
        for (network, members) in self.networks() {
            let subnet = members[0].1.address.trunc();
            if let Some((host, interface)) = members.iter().find(|(_, interface)| interface.address.trunc() != subnet) {
                return Err(format!(
                    "network {network} is {subnet}, but {} of {} is {}",
                    interface.name, host.name, interface.address
                ));
            }
        }
        let known = |name: &String, place: &str| match self.hosts.iter().find(|host| host.name == *name) {
            Some(host) => Ok(host),
            None => Err(format!("{place} names the host {name}, which is not there")),
        };
        known(&self.tunnel.client, "[tunnel]")?;
        known(&self.tunnel.server, "[tunnel]")?;
        if self.tunnel.client_address.addr() == self.tunnel.server_address.addr() {
            return Err(format!("[tunnel] gives both ends the address {}", self.tunnel.client_address.addr()));
        }
        for check in &self.checks {
            known(&check.from, "[[check]]")?;
            known(&check.to, "[[check]]")?;
            if check.hops == Some(0) {
                return Err(format!("[[check]] from {} to {}: hops is 1 at least", check.from, check.to));
            }
            if check.hops.is_some() == check.unreachable_from.is_some() {
                return Err(format!(
                    "[[check]] from {} to {}: give either hops or unreachable-from",
                    check.from, check.to
                ));
            }
        }
        for prepared in &self.prepared {
            let host = known(&prepared.host, "[[prepared]]")?;
            check_next_hops(host, prepared.routes.iter().map(|route| &route.via))?;
        }
        Ok(())
    }
}

/// A next hop that is on no network of the host's can never be used (the kernel says: Nexthop has invalid gateway).
fn check_next_hops<'a>(host: &Host, mut next_hops: impl Iterator<Item = &'a Ipv4Addr>) -> Result<(), String> {
    let on_link = |hop: &Ipv4Addr| host.interfaces.iter().any(|interface| interface.address.contains(hop));
    match next_hops.find(|hop| !on_link(hop)) {
        Some(hop) => Err(format!("host {} cannot use the next hop {hop}: it is on none of its networks", host.name)),
        None => Ok(()),
    }
}

/// Names become interface names, namespace names and files: letters, digits and hyphens, 15 bytes at most.
fn check_name(kind: &str, name: &str) -> Result<(), String> {
    let fits = (1..=15).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match fits && plain && !name.starts_with('-') {
        true => Ok(()),
        false => Err(format!("{name:?} cannot name a {kind}: up to 15 letters, digits and hyphens")),
    }
}

/// A network's bridge bears its name, beside `lo` and the bridges' ports.
fn check_bridge(network: &str) -> Result<(), String> {
    let number = network.strip_prefix("port").unwrap_or_default();
    let is_port = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match network == "lo" || is_port {
        true => Err(format!("no network can be named {network}: the lab's own wires have an interface of this name")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> String {
        assert!(HANDOUT.contains(from), "{from} is not in the built-in topology");
        Topology::parse(&HANDOUT.replacen(from, to, 1), "test.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_handouts_network_is_built_in() {
        let topology = handout();
        assert_eq!(topology.hosts.len(), 5);
        let networks: Vec<_> = topology.networks().into_iter().map(|(name, members)| (name, members.len())).collect();
        assert_eq!(networks, [("lan0", 2), ("ctl", 5), ("lab1", 3)]);
    }

    #[test]
    fn server_resolves_to_the_address_on_the_askers_side() {
        let topology = handout();
        let host = |name| topology.host(name).unwrap();
        assert_eq!(topology.resolve(host("useru"), host("server")).to_string(), "10.1.2.3");
        assert_eq!(topology.resolve(host("userv"), host("server")).to_string(), "10.1.1.4");
        assert_eq!(topology.resolve(host("useru"), host("userv")).to_string(), "10.1.1.2");
        assert_eq!(topology.resolve(host("userv"), host("useru")).to_string(), "10.1.2.2");
    }

    #[test]
    fn the_canonical_name_stands_first_in_the_hosts_file() {
        let topology = handout();
        let file = topology.hosts_file(topology.host("useru").unwrap());
        assert!(file.contains("10.1.2.3\tserver-lan0 server\n"), "{file}");
        assert!(file.contains("10.1.1.4\tserver-lab1\n"), "{file}");
        assert!(file.contains("192.168.1.254\trouter.isi.deterlab.net router\n"), "{file}");
        assert!(!file.contains("192.168.1.97"), "{file}");
    }

    #[test]
    fn a_contradiction_is_named() {
        assert!(changed("10.1.1.3/24", "10.1.1.2/24").contains("two interfaces have the address 10.1.1.2"));
        assert!(changed("10.1.1.3/24", "10.9.1.3/24").contains("network lab1 is 10.1.1.0/24, but eth0 of userw"));
        assert!(changed("10.1.3.2/24", "10.1.3.1/24").contains("both ends the address 10.1.3.1"));
        assert!(changed("gateway = \"192.168.1.254\"", "gateway = \"10.9.9.9\"").contains("next hop 10.9.9.9"));
        assert!(changed("from = \"userv\"", "from = \"nobody\"").contains("names the host nobody"));
        assert!(changed("name = \"userw\"", "name = \"a/b\"").contains("cannot name a host"));
        assert!(changed("network = \"lan0\"", "network = \"lo\"").contains("no network can be named lo"));
        assert!(changed("network = \"lan0\"", "network = \"port12\"").contains("no network can be named port12"));
        assert!(changed("hops = 1", "hops = 0").contains("hops is 1 at least"));
        assert!(changed("port = 9090", "port = 99999").contains("line 6"));
        assert!(changed("port = 9090", "prot = 9090").contains("unknown field"));
    }

    #[test]
    fn a_lab_has_room_for_a_hundred_hosts() {
        let with = |hosts: usize| {
            let more = (handout().hosts.len()..hosts).map(|number| {
                let address = format!("10.9.{number}.1/24");
                format!(
                    "\n[[host]]\nname = \"h{number}\"\n\
                    interfaces = [{{ name = \"eth0\", network = \"n{number}\", address = \"{address}\" }}]\n"
                )
            });
            Topology::parse(&(HANDOUT.to_string() + &more.collect::<String>()), "test.toml")
        };
        assert_eq!(with(100).unwrap().hosts.len(), 100);
        let error = with(101).unwrap_err().to_string();
        assert_eq!(error, "topology test.toml: there are 101 hosts, and a lab can have 100");
    }
}
