//! Addresses, links and routes of one network namespace, over rtnetlink(7).
//!
//! The steps use it on the namespace they run in; the lab opens one for each host. Every change is logged as the `ip`
//! command that would do the same, so that the log can be typed. Nothing here knows a topology, and nothing forks.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use log::{Level, log};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::libc;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};
use tokio::runtime::Runtime;

use crate::error::{Context, Error, Result};

/// A netlink socket of one network namespace: the one that the calling thread was in at [`Net::open`].
pub struct Net {
    runtime: Runtime,
    handle: Handle,
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
}

/// A route to add or to remove: `ip route add TO [via VIA] [dev LINK]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination network; a prefix length of 0 is the default route.
    pub to: IpNet,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The interface that it leads through.
    pub dev: Option<String>,
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

impl Net {
    /// Opens a netlink socket in the calling thread's network namespace; changes are logged at `said`.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket or an event loop.
    pub fn open(said: Level) -> Result<Self> {
        let opening = || "cannot open a netlink socket".to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context(opening)?;
        let handle = {
            let _inside = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().context(opening)?;
            runtime.spawn(connection);
            handle
        };
        Ok(Self { runtime, handle, said })
    }

    /// Runs netlink requests to their end. For requests that have no method of their own here.
    pub fn run<T>(&self, request: impl AsyncFnOnce(&Handle) -> T) -> T {
        self.runtime.block_on(request(&self.handle))
    }

    /// All interfaces of the namespace, `lo` included.
    pub fn links(&self) -> Result<Vec<Link>> {
        let links = self.finish(self.handle.link().get().execute().try_collect::<Vec<_>>());
        Ok(links.context(|| "cannot list the interfaces".into())?.iter().map(Link::from_message).collect())
    }

    /// The interface of this name, if there is one.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        match self.finish(self.handle.link().get().match_name(name).execute().try_next()) {
            Ok(message) => Ok(message.as_ref().map(Link::from_message)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::failed(format!("cannot look up interface {name}")).because(error)),
        }
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// There is no interface of this name.
    pub fn index(&self, name: &str) -> Result<u32> {
        match self.link(name)? {
            Some(link) => Ok(link.index),
            None => Err(Error::failed(format!("there is no interface named {name}"))),
        }
    }

    /// `ip addr add ADDRESS dev LINK`
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<()> {
        let index = self.index(link)?;
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        // rtnetlink adds `brd`, which `ip addr add` does only when told to.
        request.message_mut().attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        self.change(format!("ip addr add {address} dev {link}"), request.execute())
    }

    /// The addresses of an interface, in the kernel's order.
    pub fn addresses(&self, link: &str) -> Result<Vec<IpNet>> {
        let index = self.index(link)?;
        let all =
            self.finish(self.handle.address().get().set_link_index_filter(index).execute().try_collect::<Vec<_>>());
        let all = all.context(|| format!("cannot list the addresses of {link}"))?;
        let address = |message: &netlink_packet_route::address::AddressMessage| {
            // IFA_LOCAL is the address itself where IFA_ADDRESS is the peer's; IPv6 has only the latter (rtnetlink(7)).
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let plain = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            IpNet::new(local.or(plain)?, message.header.prefix_len).ok()
        };
        Ok(all.iter().filter(|message| message.header.index == index).filter_map(address).collect())
    }

    /// `ip addr del ADDRESS dev LINK`
    pub fn delete_address(&self, link: &str, address: IpNet) -> Result<()> {
        let index = self.index(link)?;
        let message = match address {
            IpNet::V4(net) => {
                AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(net.addr(), net.prefix_len()).build()
            }
            IpNet::V6(net) => {
                AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(net.addr(), net.prefix_len()).build()
            }
        };
        self.change(format!("ip addr del {address} dev {link}"), self.handle.address().del(message).execute())
    }

    /// `ip link set dev LINK up`
    pub fn set_up(&self, link: &str) -> Result<()> {
        let request = self.handle.link().set(LinkUnspec::new_with_name(link).up().build());
        self.change(format!("ip link set dev {link} up"), request.execute())
    }

    /// `ip link set dev LINK mtu MTU`
    pub fn set_mtu(&self, link: &str, mtu: u32) -> Result<()> {
        let request = self.handle.link().set(LinkUnspec::new_with_name(link).mtu(mtu).build());
        self.change(format!("ip link set dev {link} mtu {mtu}"), request.execute())
    }

    /// `ip link del LINK`
    pub fn delete_link(&self, link: &Link) -> Result<()> {
        let request = self.handle.link().del(link.index);
        self.change(format!("ip link del {}", link.name), request.execute())
    }

    /// `ip route add ...`
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let message = self.route_message(route)?;
        self.change(format!("ip route add {route}"), self.handle.route().add(message).execute())
    }

    /// The routes of the main table that somebody added: not those that the kernel made for an address.
    pub fn routes(&self) -> Result<Vec<RouteMessage>> {
        const MAIN: u8 = libc::RT_TABLE_MAIN;
        let request = self.handle.route().get(RouteMessageBuilder::<IpAddr>::new().build());
        let all = self.finish(request.execute().try_collect::<Vec<_>>()).context(|| "cannot list the routes".into())?;
        let added = |route: &RouteMessage| {
            route.header.table == MAIN
                && route.header.kind == RouteType::Unicast
                && route.header.protocol != RouteProtocol::Kernel
        };
        Ok(all.into_iter().filter(added).collect())
    }

    /// The networks that routes of the main table lead into an interface, those of its addresses included.
    pub fn networks_through(&self, index: u32) -> Result<Vec<IpNet>> {
        let request = self.handle.route().get(RouteMessageBuilder::<IpAddr>::new().build());
        let all = self.finish(request.execute().try_collect::<Vec<_>>()).context(|| "cannot list the routes".into())?;
        let through = |route: &&RouteMessage| {
            route.header.table == libc::RT_TABLE_MAIN && route.attributes.contains(&RouteAttribute::Oif(index))
        };
        Ok(all.iter().filter(through).filter_map(destination).collect())
    }

    /// Where the kernel would send a packet for `destination`; `None` where it has no route.
    pub fn route_to(&self, destination: IpAddr) -> Result<Option<Hop>> {
        Ok(self.lookup(destination, RouteFlags::empty())?.as_ref().map(Hop::from_message))
    }

    /// The entry of a routing table that a packet for `destination` would follow; `None` where there is none.
    pub fn entry_for(&self, destination: IpAddr) -> Result<Option<Entry>> {
        let found = self.lookup(destination, RouteFlags::FibMatch | RouteFlags::LookupTable)?;
        Ok(found.map(|route| Entry {
            in_main_table: route.header.table == libc::RT_TABLE_MAIN,
            prefix_len: route.header.destination_prefix_length,
        }))
    }

    /// Asks for the kernel's choice: RTM_GETROUTE with a destination, which rtnetlink therefore sends without
    /// NLM_F_DUMP. By default the answer is about the destination alone; with `RTM_F_FIB_MATCH` it is the route itself.
    fn lookup(&self, destination: IpAddr, flags: RouteFlags) -> Result<Option<RouteMessage>> {
        let asking = || format!("cannot ask for the route to {destination}");
        let prefix = if destination.is_ipv4() { 32 } else { 128 };
        let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, prefix);
        let mut request = self.handle.route().get(message.context(asking)?.build());
        request.message_mut().header.table = 0;
        request.message_mut().header.flags = flags;
        match self.finish(request.execute().try_next()) {
            Ok(found) => Ok(found),
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
        // As `ip route add` has it; so `ip route` shows no `proto`.
        message.header.protocol = RouteProtocol::Boot;
        if route.via.is_none() {
            message.header.scope = RouteScope::Link;
        }
        Ok(message)
    }

    /// Makes a change, and logs it as the command that would have done it.
    fn change(&self, command: String, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> Result<()> {
        self.finish(request).map_err(|error| {
            let denied = matches!(error.raw_os_error(), Some(libc::EPERM));
            let failed = Error::failed(format!("{command} failed")).because(error);
            if denied { failed.hint(crate::error::RUN_AS_ROOT) } else { failed }
        })?;
        log!(self.said, "{command}");
        Ok(())
    }

    /// Runs a request to its end, and turns netlink's errors into the system's.
    fn finish<T>(&self, request: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
        self.runtime.block_on(request).map_err(os_error)
    }
}

/// The errno in a netlink answer, as an [`io::Error`].
pub fn os_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
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
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                _ => {}
            }
        }
        link
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
        Ok(())
    }
}
