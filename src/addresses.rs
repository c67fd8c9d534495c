//! Which addresses this host has, and which subnets its TUN device is in: what a server needs to know of an inner source.
//!
//! [`crate::interface`] fills it, at the start and when the kernel says that an address has changed; the server's socket
//! ([`crate::link`]) looks at it. Nothing here asks the kernel.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses as they are now. Empty until they are known.
#[derive(Debug, Default)]
pub struct Addresses {
    known: RefCell<Known>,
    version: Cell<u32>,
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

impl Addresses {
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
