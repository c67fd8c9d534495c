//! The TUN device as an interface of the system: its addresses, its MTU, up or down, and the routes through it.
//!
//! Configured once, and watched from then on. Setting a TUN device down costs it its IPv6 addresses and every route
//! through it; when it comes up again, what this program had configured is put back. Nothing needs to be undone at
//! the end: addresses and routes go with the device; only `ip_forward`, where it was switched on, is put back. It takes rights
//! to keep an interface, so this is the work of [`crate::keeper`]. Nothing here reads or writes a packet.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use ipnet::IpNet;
use log::{Level, info, warn};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::libc;

use crate::addresses::Addresses;
use crate::error::{Context, Error, Result};
use crate::forwarding::Forwarding;
use crate::memory;
use crate::mtu::FollowsPath;
use crate::net::{Net, Route};
use crate::path::Path;
use crate::sys;

/// What an interface is to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its addresses; the kernel makes the route to the subnet of each.
    pub addresses: Vec<IpNet>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The networks that are reached through it.
    pub routes: Vec<IpNet>,
}

impl Settings {
    /// The most specific network that these settings lead into the interface and that `address` is in.
    pub fn leads(&self, address: IpAddr) -> Option<IpNet> {
        let subnets =
            self.addresses.iter().map(IpNet::trunc).filter(|subnet| subnet.prefix_len() < subnet.max_prefix_len());
        let networks = subnets.chain(self.routes.iter().copied());
        networks.filter(|network| network.contains(&address)).max_by_key(IpNet::prefix_len)
    }
}

/// An interface that is kept as it was configured. SIGIO arrives when something about an interface changed; then
/// [`Interface::restore`] is due.
pub struct Interface {
    name: String,
    index: u32,
    up: bool,
    settings: Option<Settings>,
    /// Whether the kernel has refused an MTU.
    mtu_is_fixed: bool,
    forwarding: Option<Forwarding>,
    net: Net,
    changes: Socket,
}

impl Interface {
    /// Gives the interface what it is to have, and sets it up; without settings it is left as it is and only watched.
    ///
    /// # Errors
    /// The kernel refuses a change: no rights, an address or a route that exists, IPv6 switched off.
    pub fn configure(name: &str, settings: Option<Settings>) -> Result<Self> {
        memory::release();
        let net = Net::open(Level::Info)?;
        let index = net.index(name)?;
        let mut interface = Self {
            name: name.into(),
            index,
            up: false,
            settings,
            mtu_is_fixed: false,
            forwarding: None,
            net,
            changes: watch()?,
        };
        if let Some(settings) = &interface.settings {
            interface.apply(settings)?;
        }
        // The changes so far are our own.
        while receive(&interface.changes).is_ok() {}
        interface.up = interface.is_up()?;
        Ok(interface)
    }

    /// The addresses that were configured here.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.settings.iter().flat_map(|settings| &settings.addresses).map(IpNet::addr)
    }

    /// The addresses of this interface and of this host, for whoever judges packets by them.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket, or a list of its addresses.
    pub fn known_addresses(&self) -> Result<Addresses> {
        Addresses::of(&self.name, self.index)
    }

    /// Whether the kernel would send a packet for `destination` through this interface.
    pub fn carries(&self, destination: IpAddr) -> Result<bool> {
        Ok(self.net.route_to(destination)?.is_some_and(|hop| hop.link == Some(self.index)))
    }

    /// Has forwarding stay as it is while the interface is kept, and put back then.
    pub fn with(mut self, forwarding: Forwarding) -> Self {
        self.forwarding = Some(forwarding);
        self
    }

    /// The MTU as it is to follow this path to the tunnel's other end; only watched, and not followed, unless `follows`,
    /// and where the interface was left as it was.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub fn follow_path(&self, path: Rc<Path>, follows: bool) -> Result<FollowsPath> {
        let mtu = self.settings.as_ref().filter(|_| follows).map(|settings| settings.mtu);
        FollowsPath::new(path, self.index, &self.name, mtu)
    }

    /// What is open here, for a process that closes everything else.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.net.as_fd(), self.changes.as_fd()]
    }

    /// Leaves it to another process, which was forked from this one, to keep the interface.
    pub fn leave(mut self) {
        if let Some(forwarding) = self.forwarding.take() {
            forwarding.leave();
        }
    }

    /// Has changes announced by SIGIO from now on, and follows those so far.
    ///
    /// # Errors
    /// Those of [`Interface::restore`].
    pub fn announce(&mut self) -> Result<()> {
        sys::announce(self.changes.as_fd()).context(|| "cannot watch the interfaces".into())?;
        self.restore()
    }

    /// Gives the interface another MTU in bytes, unless it was left as it was. A refusal is said, and is the last word.
    pub fn set_mtu(&mut self, mtu: u32) {
        let Some(settings) = self.settings.as_mut().filter(|settings| settings.mtu != mtu) else { return };
        if self.mtu_is_fixed {
            return;
        }
        match self.net.set_mtu(&self.name, mtu) {
            Ok(()) => settings.mtu = mtu,
            Err(error) => {
                warn!("The MTU of {} stays as it is: {error}", self.name);
                self.mtu_is_fixed = true;
            }
        }
    }

    /// Reads what has changed, and puts back what is configured when the interface has come up again.
    ///
    /// # Errors
    /// None that a change can cause: what cannot be put back is a warning.
    pub fn restore(&mut self) -> Result<()> {
        loop {
            match receive(&self.changes) {
                Ok(change) => self.follow(change),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // More changes than the socket holds (netlink(7)): look at the result instead.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.learn_name();
                    let up = self.is_up()?;
                    self.came(false);
                    self.came(up);
                }
                Err(error) => return Err(error).context(|| "cannot watch the interfaces".into()),
            }
        }
    }

    fn apply(&self, settings: &Settings) -> Result<()> {
        for address in &settings.addresses {
            self.net.add_address(&self.name, *address).map_err(|error| explain_address(error, *address))?;
        }
        if self.net.mtu(&self.name)? != settings.mtu {
            self.net.set_mtu(&self.name, settings.mtu)?;
        }
        self.net.set_up(&self.name)?;
        for network in &settings.routes {
            self.add_route(*network)?;
        }
        Ok(())
    }

    fn add_route(&self, network: IpNet) -> Result<()> {
        let route = Route { to: network, via: None, dev: Some(self.name.clone()), metric: None };
        self.net.add_route(&route).map_err(|error| match error.raw_os_error() {
            Some(libc::EEXIST) => error.hint(format!(
                "another route to it stands there, perhaps that of a tunnel which runs already: ip route show {network}"
            )),
            _ => error,
        })
    }

    fn is_up(&self) -> Result<bool> {
        self.net.is_up(&self.name)
    }

    /// Follows one change: only whether our interface is up matters, and what it is called.
    fn follow(&mut self, change: Change) {
        match change {
            Change::Is { index, up } if index == self.index => {
                self.learn_name();
                self.came(up);
            }
            // Deleted, and then reading it fails; or moved to another namespace, and then it works on there.
            Change::Left { index } if index == self.index => {
                info!("{} has left this network namespace", self.name);
                self.settings = None;
            }
            _ => {}
        }
    }

    /// The user may rename the interface; its index stays.
    fn learn_name(&mut self) {
        if let Ok(name) = sys::interface_name(self.net.as_fd(), self.index)
            && name != self.name
        {
            info!("{} is called {name} now", self.name);
            self.name = name;
        }
    }

    fn came(&mut self, up: bool) {
        match (self.up, up) {
            (true, false) => warn!("{} was set down: until it is up again, nothing goes through it", self.name),
            (false, true) => {
                info!("{} is up", self.name);
                if let Err(error) = self.put_back() {
                    warn!("{} is not as it was before: {error}", self.name);
                }
            }
            _ => {}
        }
        self.up = up;
    }

    /// Adds those addresses and routes that are no longer there.
    fn put_back(&self) -> Result<()> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let present = self.net.addresses(&self.name)?;
        for address in settings.addresses.iter().filter(|address| !present.contains(address)) {
            self.net.add_address(&self.name, *address)?;
        }
        let routes = self.net.networks_through(self.index)?;
        for network in settings.routes.iter().filter(|network| !routes.contains(network)) {
            self.add_route(*network)?;
        }
        Ok(())
    }
}

/// A netlink socket that the kernel tells every change of an interface (rtnetlink(7), RTMGRP_LINK).
fn watch() -> Result<Socket> {
    let watching = || "cannot watch the interfaces".to_string();
    let mut socket = Socket::new(NETLINK_ROUTE).context(watching)?;
    socket.bind(&SocketAddr::new(0, libc::RTMGRP_LINK as u32)).context(watching)?;
    socket.set_non_blocking(true).context(watching)?;
    Ok(socket)
}

/// What the kernel says about an interface, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is there, new or changed; and whether it is up.
    Is { index: u32, up: bool },
    /// It is no longer in this network namespace.
    Left { index: u32 },
}

impl Change {
    /// Reads the two headers in front of everything else that the kernel tells, `struct nlmsghdr` and `struct ifinfomsg`
    /// (netlink(7), rtnetlink(7)); `None` where the message is about something else.
    fn parse(message: &[u8]) -> Option<Self> {
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let index = u32::from_ne_bytes(*message.get(20..)?.first_chunk()?);
        let flags = u32::from_ne_bytes(*message.get(24..)?.first_chunk()?);
        match kind {
            libc::RTM_NEWLINK => Some(Self::Is { index, up: flags & libc::IFF_UP as u32 != 0 }),
            libc::RTM_DELLINK => Some(Self::Left { index }),
            _ => None,
        }
    }
}

/// Reads one change; the kernel sends each as a datagram of its own.
fn receive(changes: &Socket) -> io::Result<Change> {
    loop {
        let (datagram, _) = changes.recv_from_full()?;
        if let Some(change) = Change::parse(&datagram) {
            return Ok(change);
        }
    }
}

fn explain_address(error: Error, address: IpNet) -> Error {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EOPNOTSUPP) if address.addr().is_ipv6() => error.hint(
            "IPv6 is switched off: sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(addresses: &[&str], routes: &[&str]) -> Settings {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Settings { addresses: parse(addresses), mtu: 1500, routes: parse(routes) }
    }

    #[test]
    fn a_change_is_read_from_its_headers() {
        let word = |number: u32| number.to_ne_bytes();
        let kind = |kind: u16| [&kind.to_ne_bytes()[..], &[0, 0]].concat();
        let message = |number| [&word(32)[..], &kind(number), &[0; 12], &word(7), &word(0x1_1043), &[0; 4]].concat();
        assert_eq!(Change::parse(&message(libc::RTM_NEWLINK)), Some(Change::Is { index: 7, up: true }));
        assert_eq!(Change::parse(&message(libc::RTM_DELLINK)), Some(Change::Left { index: 7 }));
        assert_eq!(Change::parse(&message(libc::RTM_NEWADDR)), None);
        assert_eq!(Change::parse(&message(libc::RTM_NEWLINK)[..27]), None);
        let down = [&message(libc::RTM_NEWLINK)[..24], &word(0x1042)].concat();
        assert_eq!(Change::parse(&down), Some(Change::Is { index: 7, up: false }));
    }

    #[test]
    fn an_address_leads_its_subnet_into_the_interface_and_a_route_its_network() {
        let settings = settings(&["10.9.3.1/24", "10.9.5.5/32"], &["10.9.0.0/16", "2001:db8::/32"]);
        let leads = |address: &str| settings.leads(address.parse().unwrap()).map(|network| network.to_string());
        assert_eq!(leads("10.9.3.77").as_deref(), Some("10.9.3.0/24"));
        assert_eq!(leads("10.9.5.5").as_deref(), Some("10.9.0.0/16"));
        assert_eq!(leads("2001:db8::1").as_deref(), Some("2001:db8::/32"));
        assert_eq!(leads("192.0.2.1"), None);
    }
}
