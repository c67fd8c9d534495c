//! Which addresses this host has, and which subnets its TUN device is in: what a server needs to know of an inner source.
//!
//! The server's socket ([`crate::link`]) judges clients by it, and has it looked at again now and then while packets come:
//! an address may be given to the device at any time, and that takes no right to see. Nothing here changes anything.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;

use ipnet::IpNet;
use log::{Level, debug};

use crate::error::Result;
use crate::net::Net;

/// The addresses as they were when they were last looked at. By default none, and none to look at.
#[derive(Default)]
pub struct Addresses {
    known: RefCell<Known>,
    version: Cell<u32>,
    /// Where to ask, and the number of the TUN device there.
    source: Option<(Net, u32)>,
}

impl Addresses {
    /// The addresses of the TUN device of this name and number, and of this host.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket, or a list of its addresses.
    pub fn of(name: &str, index: u32) -> Result<Self> {
        let addresses = Self { source: Some((Net::open(Level::Debug)?, index)), ..Self::default() };
        addresses.known.borrow_mut().name = name.into();
        addresses.ask()?;
        Ok(addresses)
    }

    /// Looks at them again. Where the kernel does not tell, they stay as they were.
    pub fn look(&self) {
        if let Err(error) = self.ask() {
            debug!("{error}");
        }
    }

    fn ask(&self) -> Result<()> {
        let Some((net, index)) = &self.source else { return Ok(()) };
        let all = net.addresses_by_index()?;
        let of_tun = all.iter().filter(|(of, _)| of == index).map(|(_, address)| *address).collect();
        let own = all.iter().map(|(_, address)| address.addr()).collect();
        let name = self.known.borrow().name.clone();
        self.learn(Known { name, of_tun, own });
        Ok(())
    }

    /// Takes note of the addresses as they are now.
    pub fn learn(&self, known: Known) {
        if *self.known.borrow() != known {
            self.known.replace(known);
            self.version.set(self.version.get().wrapping_add(1));
        }
    }

    /// Another number whenever something has changed.
    pub fn version(&self) -> u32 {
        self.version.get()
    }

    /// What is known now.
    pub fn now(&self) -> Ref<'_, Known> {
        self.known.borrow()
    }
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.known.borrow().fmt(f)
    }
}

/// What is known at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The TUN device's name.
    pub name: String,
    /// The TUN device's addresses, each with its subnet; link-local ones, too.
    pub of_tun: Vec<IpNet>,
    /// All addresses of this host, those of the TUN device included.
    pub own: Vec<IpAddr>,
}

impl Known {
    /// Whether an address lies in a subnet of the TUN device.
    pub fn is_inside(&self, address: IpAddr) -> bool {
        self.of_tun.iter().any(|subnet| subnet.contains(&address))
    }

    /// Whether an address is that of a whole subnet of the TUN device, or the subnet's broadcast address (RFC 1122, section
    /// 3.2.1.3); a subnet of two addresses or one has neither (RFC 3021), nor has IPv6.
    pub fn is_whole_subnet(&self, address: IpAddr) -> bool {
        self.of_tun.iter().any(|subnet| {
            address.is_ipv4()
                && subnet.prefix_len() < 31
                && (address == subnet.network() || address == subnet.broadcast())
        })
    }
}
