//! The options that several steps share, and what they make of them: a TUN device, a server's address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use log::{Level, info, warn};

use crate::counts::Report;
use crate::error::{Error, Result};
use crate::forwarding::Forwarding;
use crate::interface::{Interface, Settings};
use crate::link::{self, Parts, Rules, UdpLink};
use crate::memory;
use crate::net::{Entry, Net};
use crate::packet::{SMALLEST_MTU_V4, SMALLEST_MTU_V6};
use crate::path;
use crate::privileges::Privileges;
use crate::recording::Recording;
use crate::topology;
use crate::tun::Tun;

mod tap;

pub use tap::TapOptions;

/// The MTU of the steps 1 to 3 in bytes: that of Ethernet.
pub const ETHERNET_MTU: u32 = path::ETHERNET_MTU;

/// The MTU of a TUN device in bytes whose packets fit into one Ethernet frame once the outer headers are around them.
pub const TUNNEL_MTU: u32 = ETHERNET_MTU - path::HEADERS_V4;

/// The smallest MTU that IPv4 works with and IPv6, in bytes.
const SMALLEST_MTU: (u32, u32) = (SMALLEST_MTU_V4 as u32, SMALLEST_MTU_V6 as u32);

/// The TUN device of a step.
#[derive(Debug, Clone, Args)]
pub struct TunOptions {
    /// Name of the TUN device; %d becomes the first free number
    #[arg(long = "tun", value_name = "NAME", default_value = "tun%d")]
    pub name: String,
    /// Address of the TUN device, and the length of its subnet's prefix; may be given more than once
    #[arg(long = "address", value_name = "CIDR", value_parser = address)]
    pub addresses: Vec<IpNet>,
    /// MTU of the TUN device in bytes [default: see below]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(SMALLEST_MTU.0)..=65535))]
    pub mtu: Option<u32>,
    /// Leave the TUN device as it is created: no address, and down
    #[arg(long, conflicts_with_all = ["addresses", "mtu"])]
    pub no_configure: bool,
    /// End after N packets; what vpn received together with the last of them is carried, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    /// Where packets are recorded.
    pub pcap: PcapOptions,
    #[command(flatten)]
    /// Which rights are kept.
    pub privileges: Privileges,
    #[command(flatten)]
    /// Where counts are written.
    pub stats: StatsOptions,
    /// Whether packets come with headers, as the fast path reads and writes them.
    #[arg(skip)]
    pub headers: bool,
}

impl TunOptions {
    /// What the TUN device is to be given; without `--mtu` the given one, or more where its addresses need it.
    ///
    /// # Errors
    /// An address is given twice, or the MTU is too small for IPv6.
    pub fn settings(&self, address: IpNet, mtu: u32) -> Result<Settings> {
        let mut addresses = self.addresses.clone();
        if addresses.is_empty() {
            addresses.push(address);
        }
        let is_ipv6 = |address: &&IpNet| address.addr().is_ipv6();
        let smallest = if addresses.iter().any(|address| is_ipv6(&address)) { SMALLEST_MTU.1 } else { SMALLEST_MTU.0 };
        let mtu = self.mtu.unwrap_or(mtu.max(smallest));
        let twice = addresses.iter().enumerate().find(|(at, address)| addresses[..*at].contains(address));
        if let Some((_, address)) = twice {
            return Err(Error::usage(format!("--address {address} is given twice")));
        }
        if mtu < SMALLEST_MTU.1
            && let Some(address) = addresses.iter().find(is_ipv6)
        {
            let what = format!("--mtu {mtu} is too small for --address {address}");
            return Err(Error::usage(what).hint(format!("IPv6 needs {} at least", SMALLEST_MTU.1)));
        }
        Ok(Settings { addresses, mtu, routes: Vec::new() })
    }

    /// Creates the TUN device, and gives it these settings, or none with `--no-configure`.
    ///
    /// # Errors
    /// The system refuses the device or its configuration.
    pub fn open(&self, settings: Settings) -> Result<(Tun, Interface)> {
        let tun = match self.headers {
            true => Tun::open_with_headers(&self.name, link::TUN_HEADER)?,
            false => Tun::open(&self.name)?,
        };
        let interface = Interface::configure(tun.name(), (!self.no_configure).then_some(settings))?;
        Ok((tun, interface))
    }
}

/// Where a step records what it reads and writes.
#[derive(Debug, Clone, Default, Args)]
pub struct PcapOptions {
    /// Record what is read and written in FILE, for Wireshark; the socket's datagrams with headers made from its addresses
    #[arg(long = "pcap", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl PcapOptions {
    /// Begins the recording, where there is to be one. A named pipe waits for its reader here, so this comes before
    /// [`crate::signals::Signals::block`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&self) -> Result<Option<Recording>> {
        self.file.as_deref().map(Recording::create).transpose()
    }
}

/// Where a step writes its counts.
#[derive(Debug, Clone, Default, Args)]
pub struct StatsOptions {
    /// Write what was carried and dropped to FILE as JSON, at the end and on SIGUSR1
    #[arg(long, value_name = "FILE")]
    stats_json: Option<PathBuf>,
}

impl StatsOptions {
    /// Opens the file, where there is to be one; before [`crate::signals::Signals::block`], as the recording.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&self) -> Result<Report> {
        Report::to(self.stats_json.as_deref())
    }
}

/// How fast packets are carried.
#[derive(Debug, Clone, Args)]
pub struct OffloadOptions {
    /// Carry packets one by one, as the handout's programs do
    #[arg(long, conflicts_with = "offload")]
    no_offload: bool,
    /// Use these parts of the fast path only [default: all that the kernel has]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    offload: Option<Vec<Part>>,
}

/// A part of the fast path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Large packets on the TUN device: tso and uso
    Tun,
    /// Runs of datagrams on the socket: gso and gro
    Udp,
    /// Large TCP packets on the TUN device
    Tso,
    /// Large UDP packets on the TUN device
    Uso,
    /// Runs of datagrams sent (UDP_SEGMENT)
    Gso,
    /// Runs of datagrams received (UDP_GRO)
    Gro,
    /// None of these: only many packets in a batch
    Batch,
}

impl OffloadOptions {
    /// The parts that are wanted; nothing, if packets are to be carried one by one.
    pub fn parts(&self) -> Option<Parts> {
        let all = [Part::Tun, Part::Udp];
        let wanted = self.offload.as_deref().unwrap_or(&all);
        let wants = |group, part| wanted.contains(&group) || wanted.contains(&part);
        let parts = Parts {
            tso: wants(Part::Tun, Part::Tso),
            uso: wants(Part::Tun, Part::Uso),
            gso: wants(Part::Udp, Part::Gso),
            gro: wants(Part::Udp, Part::Gro),
        };
        (!self.no_offload).then_some(parts)
    }
}

/// What the client's end of a tunnel needs to know.
#[derive(Debug, Clone, Args)]
pub struct ClientOptions {
    /// The VPN server, by name or address [default: the lab's server, on its port]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub server: Option<ServerName>,
    /// Network that is reached through the tunnel; may be given more than once
    #[arg(long = "route", value_name = "CIDR", value_parser = network, help_heading = "Options")]
    pub routes: Vec<IpNet>,
}

impl ClientOptions {
    /// An error if any of these options is given that belong to another role: a server may have routes, too.
    pub fn refuse(&self, role: &str) -> Result<()> {
        refuse(&[("--server", self.server.is_some())], role)
    }

    /// An error if routes are given that cannot be set.
    pub fn check_routes(&self, tun: &TunOptions) -> Result<()> {
        match self.routes.first() {
            Some(route) if tun.no_configure => {
                Err(Error::usage(format!("--route {route} cannot be used with --no-configure")))
            }
            _ => Ok(()),
        }
    }

    /// Looks up the server's address.
    ///
    /// # Errors
    /// There is no host of this name.
    pub fn find_server(&self) -> Result<SocketAddr> {
        let tunnel = &topology::current().tunnel;
        let lab = ServerName { host: tunnel.server.clone(), port: None };
        let server = self.server.as_ref().unwrap_or(&lab);
        let port = server.port.unwrap_or(tunnel.port);
        let unknown = || Error::usage(format!("unknown host {}", server.host));
        let mut addresses = (server.host.as_str(), port).to_socket_addrs().map_err(|error| {
            // Whoever has named none has forgotten where they are.
            let hint = match self.server {
                Some(_) => "give --server an address, or a name that /etc/hosts or a name server knows",
                None => "run it inside the lab: vpnlab lab exec HOST -- ...; or give --server an address",
            };
            unknown().because(error).hint(hint)
        })?;
        // The C library's resolver is large.
        memory::release();
        let address = addresses.next().ok_or_else(unknown)?;
        let ip = address.ip();
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(Error::usage(format!("--server {} is no host's address", address.ip())));
        }
        info!("The server is at {address}");
        Ok(address)
    }

    /// Creates and configures the TUN device of a client of `server`; without `--route` it gets the routes `default`.
    ///
    /// # Errors
    /// As [`TunOptions::open`]; and packets for the server itself would be led into the tunnel.
    pub fn open_tun(
        &self,
        tun: &TunOptions,
        mtu: u32,
        server: SocketAddr,
        default: &[IpNet],
    ) -> Result<(Tun, Interface)> {
        self.check_routes(tun)?;
        let lab = &topology::current().tunnel;
        let mut settings = tun.settings(lab.client_address, mtu)?;
        settings.routes = if self.routes.is_empty() { default.to_vec() } else { self.routes.clone() };
        warn_of_one_address(&settings, lab.server_address, "server");
        if !tun.no_configure {
            memory::release();
            check_no_loop(&settings, server.ip(), Net::open(Level::Debug)?.entry_for(server.ip())?)?;
        }
        let (device, interface) = tun.open(settings)?;
        // Only prefixes were compared so far. The kernel knows better.
        match !tun.no_configure && interface.carries(server.ip())? {
            true => Err(loops(&format!("a route through {}", device.name()), server.ip())),
            false => Ok((device, interface)),
        }
    }
}

/// What the server's end of a tunnel needs to know.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// UDP port that the server listens on [default: the lab's]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address that the server listens on [default: 0.0.0.0, all of IPv4; :: is all of IPv6 and IPv4]
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<IpAddr>,
    /// Switch ip_forward on, and off again at the end
    #[arg(long)]
    pub forward: bool,
    /// Clients may come from this network only; may be given more than once [default: from anywhere]
    #[arg(long = "allow-peer", value_name = "CIDR", value_parser = network)]
    pub allow_peers: Vec<IpNet>,
    /// Clients may have inner addresses in this network too, beside the TUN device's subnets: a site behind a client; may be
    /// given more than once
    #[arg(long = "allow-source", value_name = "CIDR", value_parser = network)]
    pub allow_sources: Vec<IpNet>,
    /// Clients may send to each other
    #[arg(long)]
    pub client_to_client: bool,
    /// Remember N inner addresses of clients at most; half of them, if all but a few are one host's [default: 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub max_peers: Option<u32>,
    /// Give an inner address to another host once it was not used for more than SECONDS [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub peer_timeout: Option<u32>,
}

impl ServerOptions {
    /// An error if any of these options is given: they belong to another role.
    pub fn refuse(&self, role: &str) -> Result<()> {
        let given = [
            ("--port", self.port.is_some()),
            ("--bind", self.bind.is_some()),
            ("--forward", self.forward),
            ("--allow-peer", !self.allow_peers.is_empty()),
            ("--allow-source", !self.allow_sources.is_empty()),
            ("--client-to-client", self.client_to_client),
            ("--max-peers", self.max_peers.is_some()),
            ("--peer-timeout", self.peer_timeout.is_some()),
        ];
        refuse(&given, role)
    }

    /// What the server takes from its clients.
    fn rules(&self) -> Rules {
        let default = Rules::default();
        Rules {
            allow_peer: self.allow_peers.clone(),
            allow_source: self.allow_sources.clone(),
            client_to_client: self.client_to_client,
            max_peers: self.max_peers.map_or(default.max_peers, |most| most as usize),
            peer_timeout: self.peer_timeout.map_or(default.peer_timeout, |time| Duration::from_secs(time.into())),
        }
    }

    /// Opens the UDP socket that the server listens on.
    ///
    /// # Errors
    /// The port is in use or needs root; the address is none of this machine's.
    pub fn listen(&self) -> Result<UdpLink> {
        let link = UdpLink::on(listening_address(self.bind, self.port), self.rules())?;
        info!("Start UDP server on port {}", link.local()?.port());
        Ok(link)
    }

    /// Creates and configures the TUN device of a server, with these routes through it, by whose addresses `net` judges clients; and looks after
    /// forwarding.
    ///
    /// # Errors
    /// As [`TunOptions::open`]; and `--forward` is refused.
    pub fn open_tun(
        &self,
        tun: &TunOptions,
        mtu: u32,
        routes: &[IpNet],
        net: &mut UdpLink,
    ) -> Result<(Tun, Interface)> {
        let lab = &topology::current().tunnel;
        let settings = Settings { routes: routes.to_vec(), ..tun.settings(lab.server_address, mtu)? };
        warn_of_one_address(&settings, lab.client_address, "client");
        let forwarding = Forwarding::prepare(settings.addresses.iter().map(IpNet::addr), self.forward)?;
        let (device, interface) = tun.open(settings)?;
        net.judge_by(interface.known_addresses()?);
        Ok((device, interface.with(forwarding)))
    }
}

fn refuse(options: &[(&str, bool)], role: &str) -> Result<()> {
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Error::usage(format!("{option} can only be used with {role}"))),
        None => Ok(()),
    }
}

/// The address that a server listens on: what was asked for, else every IPv4 address and the lab's port.
pub fn listening_address(bind: Option<IpAddr>, port: Option<u16>) -> SocketAddr {
    let address = bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    SocketAddr::new(address, port.unwrap_or(topology::current().tunnel.port))
}

/// A server as the command line names it: `server`, `server:9090`, `[::1]:9090`, `::1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName {
    /// A host's name, or its address.
    pub host: String,
    /// The UDP port, where it is not the lab's.
    pub port: Option<u16>,
}

impl FromStr for ServerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // More than one colon is an IPv6 address, which has brackets where a port follows (RFC 3986, section 3.2.2).
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) if port.is_empty() || port.starts_with(':') => (host, port.strip_prefix(':')),
            Some(_) => return Err("an IPv6 address with a port is written [::1]:9090".into()),
            None if text.matches(':').count() == 1 => text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p))),
            None => (text, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err("a port is a number from 1 to 65535".into()),
        };
        match host.is_empty() {
            true => Err("the host is missing".into()),
            false => Ok(Self { host: host.into(), port }),
        }
    }
}

/// An error if the kernel would take `settings` as the best way to the server: the datagrams that carry the tunnel
/// would be led into the tunnel, for ever. `present` is what leads to the server now. The longest prefix decides, and
/// among equal ones the new one may; a table that is asked before the main one decides alone.
fn check_no_loop(settings: &Settings, server: IpAddr, present: Option<Entry>) -> Result<()> {
    let Some(network) = settings.leads(server) else { return Ok(()) };
    if present.is_some_and(|entry| !entry.in_main_table || entry.prefix_len > network.prefix_len()) {
        return Ok(());
    }
    let option = if settings.routes.contains(&network) { "--route" } else { "the subnet of --address" };
    Err(loops(&format!("{option} {network}"), server))
}

fn loops(what: &str, server: IpAddr) -> Error {
    Error::usage(format!(
        "{what} covers {server}, the address of the server itself: the datagrams that carry the tunnel would be led into \
         the tunnel again"
    ))
    .hint("choose a network that the server's address is not in")
}

/// Nobody can know the other end's address, but the lab's is likely.
fn warn_of_one_address(settings: &Settings, theirs: IpNet, whose: &str) {
    if settings.addresses.iter().any(|address| address.addr() == theirs.addr()) {
        warn!(
            "{} is what the lab gives the {whose}'s TUN device: two ends with one address cannot talk",
            theirs.addr()
        );
    }
}

/// An address of an interface, with the prefix length of its subnet.
fn address(text: &str) -> Result<IpNet, String> {
    let address = cidr(text)?;
    let host = address.addr();
    let single = address.prefix_len() + 1 >= address.max_prefix_len();
    if host.is_unspecified() || host.is_multicast() || host == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err(format!("{host} cannot be the address of an interface"))
    } else if host.is_ipv4() && !single && (host == address.network() || host == address.broadcast()) {
        // The first and the last address of a subnet are no host's (RFC 1122, section 3.2.1.3; RFC 3021 for /31).
        Err(format!("{host} means the whole subnet, and cannot be the address of an interface in it"))
    } else {
        Ok(address)
    }
}

/// A network, as routes have them: no bit is set behind the prefix.
fn network(text: &str) -> Result<IpNet, String> {
    let network = cidr(text)?;
    match network.trunc() == network {
        true => Ok(network),
        false => Err(format!("it is an address in the network {}", network.trunc())),
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => {
            format!("the prefix length is missing, as in {address}/{}", if address.is_ipv4() { 24 } else { 64 })
        }
        Err(_) => "an address, a slash and a prefix length are wanted, as in 192.0.2.1/24 or 2001:db8::1/64".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(addresses: &[&str], routes: &[&str]) -> Settings {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Settings { addresses: parse(addresses), mtu: 1500, routes: parse(routes) }
    }

    fn entry(prefix_len: u8) -> Option<Entry> {
        Some(Entry { in_main_table: true, prefix_len })
    }

    fn name(text: &str) -> Result<(String, Option<u16>), String> {
        text.parse::<ServerName>().map(|name| (name.host, name.port))
    }

    #[test]
    fn a_server_is_a_name_or_an_address_with_or_without_a_port() {
        assert_eq!(name("server"), Ok(("server".into(), None)));
        assert_eq!(name("server:9091"), Ok(("server".into(), Some(9091))));
        assert_eq!(name("192.0.2.1:9091"), Ok(("192.0.2.1".into(), Some(9091))));
        assert_eq!(name("::1"), Ok(("::1".into(), None)));
        assert_eq!(name("[::1]"), Ok(("::1".into(), None)));
        assert_eq!(name("[::1]:9091"), Ok(("::1".into(), Some(9091))));
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in ["", ":9090", "server:", "server:0", "server:65536", "server:http", "[::1]9090", "[::1", "[]:1"] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bad_cidr_is_told_what_is_wrong_with_it() {
        assert!(cidr("192.0.2.1").unwrap_err().contains("192.0.2.1/24"));
        assert!(cidr("192.0.2.1/33").unwrap_err().contains("prefix length"));
        assert!(cidr("server/24").is_err());
        assert!(network("192.0.2.1/24").unwrap_err().contains("192.0.2.0/24"));
        assert!(network("0.0.0.0/0").is_ok());
        for bad in ["0.0.0.0/0", "255.255.255.255/32", "192.0.2.0/24", "192.0.2.255/24"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address("192.0.2.0/31").is_ok());
        assert!(address("ff02::1/64").is_err());
        assert!(address("2001:db8::1/64").is_ok());
    }

    #[test]
    fn a_route_that_would_lead_the_server_into_the_tunnel_is_refused() {
        let check = |settings: &Settings, present| check_no_loop(settings, "10.9.2.3".parse().unwrap(), present);
        let same = settings(&["10.9.3.1/24"], &["10.9.2.0/24"]);
        let error = check(&same, entry(24)).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        assert!(error.to_string().starts_with("--route 10.9.2.0/24 covers 10.9.2.3"), "{error}");
        assert!(check(&same, None).is_err());
        assert!(check(&same, entry(0)).is_err());
        assert!(check(&settings(&["10.9.2.1/24"], &[]), entry(24)).unwrap_err().to_string().contains("--address"));
    }

    #[test]
    fn a_route_that_something_more_specific_to_the_server_is_preferred_to_is_fine() {
        let check = |settings: &Settings, present| check_no_loop(settings, "10.9.2.3".parse().unwrap(), present);
        let wide = settings(&["10.9.3.1/24"], &["10.0.0.0/8", "0.0.0.0/0"]);
        assert!(check(&wide, entry(24)).is_ok());
        assert!(check(&wide, Some(Entry { in_main_table: false, prefix_len: 0 })).is_ok());
        assert!(check(&settings(&["10.9.3.1/24"], &["10.9.1.0/24"]), None).is_ok());
    }

    #[test]
    fn the_default_address_gives_way_to_those_asked_for() {
        let options = |addresses: &[&str], mtu| TunOptions {
            name: "tun%d".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            mtu,
            no_configure: false,
            count: None,
            headers: false,
            pcap: PcapOptions::default(),
            privileges: Privileges::default(),
            stats: StatsOptions::default(),
        };
        let default: IpNet = "192.0.2.1/24".parse().unwrap();
        assert_eq!(options(&[], None).settings(default, 1500).unwrap(), settings(&["192.0.2.1/24"], &[]));
        let both = ["10.9.3.1/24", "2001:db8::1/64"];
        assert_eq!(options(&both, None).settings(default, 1500).unwrap(), settings(&both, &[]));
        assert!(options(&both, Some(1279)).settings(default, 1500).is_err());
        assert_eq!(options(&both, None).settings(default, 1279).unwrap().mtu, 1280);
        assert_eq!(options(&[], None).settings(default, 67).unwrap().mtu, 68);
        assert!(options(&["10.9.3.1/24"; 2], None).settings(default, 1500).is_err());
    }
}
