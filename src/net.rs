//! Addresses, links and routes of one network namespace, over rtnetlink(7).
//!
//! The steps use it on the namespace they run in; the lab opens one for each host. Every change is logged as the `ip`
//! command that would do the same, so that the log can be typed. Nothing here knows a topology, and nothing forks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use log::{Level, log};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Nla};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use rtnetlink::{AddressMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::error::{Context, Error, Result};
use crate::sys;

mod socket;

use socket::Rtnetlink;

/// A netlink socket of one network namespace: the one that the calling thread was in at [`Net::open`].
pub struct Net {
    socket: Rtnetlink,
    said: Level,
}

/// A network interface as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What `ip link set alias` wrote on it.
    pub alias: Option<String>,
    /// Whether it is a TUN device, which has IP packets.
    pub is_tun: bool,
    /// Whether it is a TAP device: its packets are Ethernet frames.
    pub is_tap: bool,
    /// Whether four bytes stand in front of each packet of a TUN device (no IFF_NO_PI).
    pub has_packet_information: bool,
    /// Whether a TUN or TAP device outlives the programs that open it, as one of `ip tuntap add` does (TUNSETPERSIST).
    pub is_persistent: bool,
    /// Whether it could carry something: a wire's other end is up, a program holds a TUN device.
    pub has_carrier: bool,
    /// What has passed through it.
    pub passed: Passed,
}

/// How many packets have passed through an interface. A TUN device counts one as sent when a program has read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Those that came in.
    pub received: u64,
    /// Those that went out.
    pub sent: u64,
    /// Those that came in and were dropped there, or were none.
    pub received_lost: u64,
    /// Those that should have gone out and were dropped there.
    pub sent_lost: u64,
    /// The bytes of those that came in.
    pub received_bytes: u64,
    /// The bytes of those that went out.
    pub sent_bytes: u64,
}

/// A neighbour on a wire, as the kernel has found it or not (arp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's number.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Whether it has been asked for, and has not answered.
    pub is_missing: bool,
}

/// A route to add or to remove: `ip route add TO [via VIA] [dev LINK] [metric METRIC]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination network; a prefix length of 0 is the default route.
    pub to: IpNet,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The interface that it leads through.
    pub dev: Option<String>,
    /// Of two routes to one network the kernel takes that with the lower metric; without, it is 0.
    pub metric: Option<u32>,
}

/// Where the kernel would send a packet: the answer to `ip route get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface that the packet would leave through.
    pub link: Option<u32>,
    /// The source address that it would bear.
    pub source: Option<IpAddr>,
    /// The next hop, where the destination is not on the link itself.
    pub via: Option<IpAddr>,
}

/// An entry of a routing table: the answer to `ip route get fibmatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whether it stands in the main table, where `ip route add` puts its routes, and not in one that a rule prefers
    /// (ip-rule(8)).
    pub in_main_table: bool,
    /// The length of its prefix in bits.
    pub prefix_len: u8,
}

impl AsFd for Net {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Net {
    /// Opens a netlink socket in the calling thread's network namespace; changes are logged at `said`.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub fn open(said: Level) -> Result<Self> {
        Ok(Self { socket: Rtnetlink::open().context(|| "cannot open a netlink socket".into())?, said })
    }

    /// Has the kernel create something that is not there yet: a link, an address, a route, a rule.
    pub fn create(&self, what: RouteNetlinkMessage) -> io::Result<()> {
        self.socket.ask(what, NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Has the kernel change or delete something.
    pub fn request(&self, what: RouteNetlinkMessage) -> io::Result<()> {
        self.socket.ask(what, 0).map(|_| ())
    }

    /// Asks the kernel for a list; `of_kind` takes what is wanted out of each message.
    pub fn list<T>(
        &self,
        what: RouteNetlinkMessage,
        of_kind: fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        Ok(self.socket.ask(what, NLM_F_DUMP)?.into_iter().filter_map(of_kind).collect())
    }

    /// All interfaces of the namespace, `lo` included.
    pub fn links(&self) -> Result<Vec<Link>> {
        let links = self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()), of_link);
        Ok(links.context(|| "cannot list the interfaces".into())?.iter().map(Link::from_message).collect())
    }

    /// The interface of this name, if there is one.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::IfName(name.into()));
        match self.socket.ask(RouteNetlinkMessage::GetLink(wanted), 0) {
            Ok(found) => Ok(found.into_iter().find_map(of_link).as_ref().map(Link::from_message)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::failed(format!("cannot look up interface {name}")).because(error)),
        }
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// There is no interface of this name.
    pub fn index(&self, name: &str) -> Result<u32> {
        match sys::interface_index(self.socket.as_fd(), name) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                Err(Error::failed(format!("there is no interface named {name}")))
            }
            answer => answer.context(|| format!("cannot look up interface {name}")),
        }
    }

    /// Whether an interface is administratively up; not, if there is none of this name.
    pub fn is_up(&self, name: &str) -> Result<bool> {
        match sys::interface_flags(self.socket.as_fd(), name) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            answer => Ok(answer.context(|| format!("cannot look up interface {name}"))? & libc::IFF_UP != 0),
        }
    }

    /// The MTU of an interface in bytes.
    ///
    /// # Errors
    /// There is no interface of this name.
    pub fn mtu(&self, name: &str) -> Result<u32> {
        sys::interface_mtu(self.socket.as_fd(), name).context(|| format!("cannot look up the MTU of {name}"))
    }

    /// `ip addr add ADDRESS dev LINK`
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<()> {
        let index = self.index(link)?;
        let mut message = address_message(index, address);
        // The builder adds `brd`, which `ip addr add` does only when told to.
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        let request = self.create(RouteNetlinkMessage::NewAddress(message));
        self.told(format!("ip addr add {address} dev {link}"), request)
    }

    /// The addresses of an interface, in the kernel's order.
    ///
    /// # Errors
    /// There is no interface of this name.
    pub fn addresses(&self, link: &str) -> Result<Vec<IpNet>> {
        self.addresses_of(self.index(link)?)
    }

    /// The addresses of the interface of this number, in the kernel's order; none, if there is no such interface.
    pub fn addresses_of(&self, index: u32) -> Result<Vec<IpNet>> {
        let all = self.all_addresses().context(|| "cannot list the addresses".into())?;
        Ok(all.into_iter().filter(|(of, _)| *of == index).map(|(_, address)| address).collect())
    }

    /// All addresses, each with the number of its interface.
    pub fn addresses_by_index(&self) -> Result<Vec<(u32, IpNet)>> {
        self.all_addresses().context(|| "cannot list the addresses".into())
    }

    /// The interfaces, each with its addresses. One that goes meanwhile is no error.
    pub fn links_and_addresses(&self) -> Result<Vec<(Link, Vec<IpNet>)>> {
        let links = self.links()?;
        let all = self.all_addresses().context(|| "cannot list the addresses".into())?;
        let of = |index: u32| all.iter().filter(|(of, _)| *of == index).map(|(_, address)| *address).collect();
        Ok(links.into_iter().map(|link| (link.index, link)).map(|(index, link)| (link, of(index))).collect())
    }

    /// How many packets have been handed to each interface by its queueing discipline, by the interface's number
    /// (tc(8)). A kernel without traffic control does not tell.
    pub fn handed_on(&self) -> io::Result<Vec<(u32, u64)>> {
        let all = self.list(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), |told| match told {
            RouteNetlinkMessage::NewQueueDiscipline(message) => Some(message),
            _ => None,
        });
        // One below another has a part of its packets.
        let roots = all?.into_iter().filter(|message| message.header.parent == TcHandle::ROOT);
        let packets = |message: TcMessage| {
            let stats = message.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Stats2(stats) => Some(stats),
                _ => None,
            });
            let packets = stats?.iter().find_map(|part| match part {
                TcStats2::Basic(basic) => Some(u64::from(basic.packets)),
                _ => None,
            });
            Some((u32::try_from(message.header.index).ok()?, packets?))
        };
        Ok(roots.filter_map(packets).collect())
    }

    /// All addresses of the namespace, each with its interface's number.
    fn all_addresses(&self) -> io::Result<Vec<(u32, IpNet)>> {
        let all = self.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |told| match told {
            RouteNetlinkMessage::NewAddress(message) => Some(message),
            _ => None,
        });
        let address = |message: &AddressMessage| {
            // IFA_LOCAL is the address itself where IFA_ADDRESS is the peer's; IPv6 has only the latter (rtnetlink(7)).
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let plain = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            let address = IpNet::new(local.or(plain)?, message.header.prefix_len).ok()?;
            Some((message.header.index, address))
        };
        Ok(all?.iter().filter_map(address).collect())
    }

    /// `ip addr del ADDRESS dev LINK`
    pub fn delete_address(&self, link: &str, address: IpNet) -> Result<()> {
        let index = self.index(link)?;
        let request = self.request(RouteNetlinkMessage::DelAddress(address_message(index, address)));
        self.told(format!("ip addr del {address} dev {link}"), request)
    }

    /// `ip link set ...`
    pub fn set_link(&self, message: LinkMessage) -> io::Result<()> {
        self.request(RouteNetlinkMessage::SetLink(message))
    }

    /// `ip link set dev LINK up`
    pub fn set_up(&self, link: &str) -> Result<()> {
        let request = self.set_link(LinkUnspec::new_with_name(link).up().build());
        self.told(format!("ip link set dev {link} up"), request)
    }

    /// `ip link set dev LINK mtu MTU`
    pub fn set_mtu(&self, link: &str, mtu: u32) -> Result<()> {
        let request = self.set_link(LinkUnspec::new_with_name(link).mtu(mtu).build());
        self.told(format!("ip link set dev {link} mtu {mtu}"), request)
    }

    /// `ip link del LINK`
    pub fn delete_link(&self, link: &Link) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let request = self.request(RouteNetlinkMessage::DelLink(message));
        self.told(format!("ip link del {}", link.name), request)
    }

    /// `ip route add ...`
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let message = self.route_message(route)?;
        let request = self.create(RouteNetlinkMessage::NewRoute(message));
        self.told(format!("ip route add {route}"), request)
    }

    /// The routes that the kernel lists for this message.
    pub fn all_routes(&self, like: RouteMessage) -> Result<Vec<RouteMessage>> {
        self.list(RouteNetlinkMessage::GetRoute(like), of_route).context(|| "cannot list the routes".into())
    }

    /// The routes of the main table that somebody added: not those that the kernel made for an address.
    pub fn routes(&self) -> Result<Vec<RouteMessage>> {
        const MAIN: u8 = libc::RT_TABLE_MAIN;
        let all = self.all_routes(RouteMessageBuilder::<IpAddr>::new().build())?;
        let added = |route: &RouteMessage| {
            route.header.table == MAIN
                && route.header.kind == RouteType::Unicast
                && route.header.protocol != RouteProtocol::Kernel
        };
        Ok(all.into_iter().filter(added).collect())
    }

    /// The networks that routes of the main table lead into an interface, those of its addresses included.
    pub fn networks_through(&self, index: u32) -> Result<Vec<IpNet>> {
        let all = self.all_routes(RouteMessageBuilder::<IpAddr>::new().build())?;
        let through = |route: &&RouteMessage| {
            route.header.table == libc::RT_TABLE_MAIN && route.attributes.contains(&RouteAttribute::Oif(index))
        };
        Ok(all.iter().filter(through).filter_map(destination).collect())
    }

    /// Where the kernel would send a packet for `destination`; `None` where it has no route.
    pub fn route_to(&self, destination: IpAddr) -> Result<Option<Hop>> {
        Ok(self.lookup(destination, RouteFlags::empty())?.as_ref().map(Hop::from_message))
    }

    /// Where the kernel would send a packet from `source` that has arrived on the interface of this number: the answer to
    /// `ip route get DESTINATION from SOURCE iif LINK`.
    ///
    /// # Errors
    /// Why it would not, as an errno: EXDEV (reverse-path filter; EINVAL since Linux 6.14), EHOSTUNREACH (not forwarded, or no
    /// route), EINVAL (the source is one of the host's own addresses, or none at all).
    pub fn forward_to(&self, source: IpAddr, destination: IpAddr, arrives_on: u32) -> io::Result<Hop> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let prefix = if destination.is_ipv4() { 32 } else { 128 };
        let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, prefix);
        let message = message.and_then(|message| message.source_prefix(source, prefix)).map_err(invalid)?;
        let mut message = message.input_interface(arrives_on).build();
        message.header.table = 0;
        let found = self.socket.ask(RouteNetlinkMessage::GetRoute(message), 0)?.into_iter().find_map(of_route);
        found.as_ref().map(Hop::from_message).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The neighbours that the kernel knows or looks for.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let all = self.list(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |told| match told {
            RouteNetlinkMessage::NewNeighbour(message) => Some(message),
            _ => None,
        });
        let neighbour = |message: &NeighbourMessage| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
                _ => None,
            })?;
            let is_missing = matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed);
            Some(Neighbour { link: message.header.ifindex, address, is_missing })
        };
        Ok(all.context(|| "cannot list the neighbours".into())?.iter().filter_map(neighbour).collect())
    }

    /// The entry of a routing table that a packet for `destination` would follow; `None` where there is none.
    pub fn entry_for(&self, destination: IpAddr) -> Result<Option<Entry>> {
        let found = self.lookup(destination, RouteFlags::FibMatch | RouteFlags::LookupTable)?;
        Ok(found.map(|route| Entry {
            in_main_table: route.header.table == libc::RT_TABLE_MAIN,
            prefix_len: route.header.destination_prefix_length,
        }))
    }

    /// Asks for the kernel's choice: RTM_GETROUTE with a destination, and without NLM_F_DUMP. By default the answer is about the destination alone; with `RTM_F_FIB_MATCH` it is the route itself.
    fn lookup(&self, destination: IpAddr, flags: RouteFlags) -> Result<Option<RouteMessage>> {
        let asking = || format!("cannot ask for the route to {destination}");
        let prefix = if destination.is_ipv4() { 32 } else { 128 };
        let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, prefix);
        let mut message = message.context(asking)?.build();
        message.header.table = 0;
        message.header.flags = flags;
        match self.socket.ask(RouteNetlinkMessage::GetRoute(message), 0) {
            Ok(found) => Ok(found.into_iter().find_map(of_route)),
            Err(error) => match error.raw_os_error() {
                // No route; or one whose purpose is to lead nowhere: unreachable, prohibit, blackhole (ip-route(8)).
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(None),
                _ => Err(error).context(asking),
            },
        }
    }

    fn route_message(&self, route: &Route) -> Result<RouteMessage> {
        let bad = || format!("cannot add route {route}");
        let mut builder = RouteMessageBuilder::<IpAddr>::new();
        builder = builder.destination_prefix(route.to.network(), route.to.prefix_len()).context(bad)?;
        if let Some(via) = route.via {
            builder = builder.gateway(via).context(bad)?;
        }
        if let Some(dev) = &route.dev {
            builder = builder.output_interface(self.index(dev)?);
        }
        let mut message = builder.build();
        message.attributes.extend(route.metric.map(RouteAttribute::Priority));
        // As `ip route add` has it; so `ip route` shows no `proto`.
        message.header.protocol = RouteProtocol::Boot;
        if route.via.is_none() {
            message.header.scope = RouteScope::Link;
        }
        Ok(message)
    }

    /// Logs a change as the command that would have made it, or says that this failed.
    fn told(&self, command: String, change: io::Result<()>) -> Result<()> {
        change.map_err(|error| {
            let denied = error.raw_os_error() == Some(libc::EPERM);
            let failed = Error::failed(format!("{command} failed")).because(error);
            if denied { failed.hint(crate::error::RUN_AS_ROOT) } else { failed }
        })?;
        log!(self.said, "{command}");
        Ok(())
    }
}

fn of_link(told: RouteNetlinkMessage) -> Option<LinkMessage> {
    match told {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

fn of_route(told: RouteNetlinkMessage) -> Option<RouteMessage> {
    match told {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    }
}

/// An address of the interface of this number, with its broadcast address.
pub fn address_message(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(net.addr(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(net.addr(), net.prefix_len()).build()
        }
    }
}

impl Link {
    fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            alias: None,
            is_tun: false,
            is_tap: false,
            has_packet_information: false,
            is_persistent: false,
            has_carrier: false,
            passed: Passed::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::LinkInfo(parts) => link.learn(parts),
                LinkAttribute::Carrier(carrier) => link.has_carrier = *carrier != 0,
                LinkAttribute::Stats64(counts) => {
                    link.passed = Passed {
                        received: counts.rx_packets,
                        sent: counts.tx_packets,
                        received_lost: counts.rx_dropped + counts.rx_errors,
                        sent_lost: counts.tx_dropped + counts.tx_errors,
                        received_bytes: counts.rx_bytes,
                        sent_bytes: counts.tx_bytes,
                    }
                }
                _ => {}
            }
        }
        link
    }
}

impl Link {
    /// Learns what a TUN device is like (tun_fill_info in drivers/net/tun.c).
    fn learn(&mut self, parts: &[LinkInfo]) {
        const IFLA_TUN_TYPE: u16 = 3;
        const IFLA_TUN_PI: u16 = 4;
        const IFLA_TUN_PERSIST: u16 = 6;
        let details = parts.iter().find_map(|part| match part {
            LinkInfo::Data(InfoData::Tun(details)) => Some(details),
            _ => None,
        });
        for detail in details.into_iter().flatten() {
            let mut value = vec![0; detail.value_len()];
            detail.emit_value(&mut value);
            match (detail.kind(), value.as_slice()) {
                (IFLA_TUN_TYPE, [kind]) => self.is_tap = i32::from(*kind) == libc::IFF_TAP,
                (IFLA_TUN_PI, [is_there]) => self.has_packet_information = *is_there != 0,
                (IFLA_TUN_PERSIST, [is_persistent]) => self.is_persistent = *is_persistent != 0,
                _ => {}
            }
        }
        // The kernel calls both kinds "tun".
        self.is_tun = parts.contains(&LinkInfo::Kind(InfoKind::Tun)) && !self.is_tap;
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The network that a route leads to; the default route has no destination of its own.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let named = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let any = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(named.unwrap_or(any), route.header.destination_prefix_length).ok()
}

impl Hop {
    fn from_message(route: &RouteMessage) -> Self {
        let mut hop = Self { link: None, source: None, via: None };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => hop.link = Some(*index),
                RouteAttribute::PrefSource(address) => hop.source = ip(address),
                RouteAttribute::Gateway(address) => hop.via = ip(address),
                _ => {}
            }
        }
        hop
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to.prefix_len() {
            0 => f.write_str("default")?,
            _ => write!(f, "{}", self.to.trunc())?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}
