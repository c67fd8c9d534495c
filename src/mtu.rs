//! The MTU of the TUN device, where it follows the path to the tunnel's other end: which one the path has room for.
//!
//! [`crate::upkeep`] asks now and then; who sets the MTU is [`crate::keeper`], since that takes rights, and a look takes none.

use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use log::{Level, info, warn};

use crate::error::Result;
use crate::net::Net;
use crate::packet::{SMALLEST_MTU_V4, SMALLEST_MTU_V6};
use crate::path::{ETHERNET_MTU, Path};

/// The path to the tunnel's other end, and the MTU of the interface that follows it.
pub struct FollowsPath {
    path: Rc<Path>,
    /// The MTU in bytes that the interface has now; nothing, where it does not follow the path.
    mtu: Option<u32>,
    index: u32,
    net: Net,
}

impl FollowsPath {
    /// Watches this path; the interface with this number and this name has the MTU `mtu`, if that is to follow.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub fn new(path: Rc<Path>, index: u32, name: &str, mtu: Option<u32>) -> Result<Self> {
        if mtu.is_some() && path.outer() != ETHERNET_MTU {
            info!("{path}, and the MTU of {name} follows");
        }
        Ok(Self { path, mtu, index, net: Net::open(Level::Info)? })
    }

    /// Has the path looked at anew, and says which MTU in bytes the interface should have, if that is another one.
    pub fn look(&mut self) -> Option<u32> {
        self.path.doubt();
        let before = self.mtu?;
        self.wanted(before).unwrap_or_else(|error| {
            warn!("The MTU of the TUN device stays as it is: {error}");
            self.mtu = None;
            None
        })
    }

    /// The interface has this MTU from now on.
    pub fn has(&mut self, mtu: u32) {
        self.mtu = Some(mtu);
    }

    /// The MTU that the path has room for, if it is another one. With IPv6 addresses the interface keeps the 1280 bytes that
    /// IPv6 needs: with less the kernel would take them and their routes away.
    fn wanted(&self, before: u32) -> Result<Option<u32>> {
        let mut mtu = self.path.mtu().max(SMALLEST_MTU_V4 as u32);
        if mtu == before {
            return Ok(None);
        }
        if mtu < SMALLEST_MTU_V6 as u32 && self.net.addresses_of(self.index)?.iter().any(is_given_v6) {
            mtu = SMALLEST_MTU_V6 as u32;
        }
        // A path through the tunnel itself leads nowhere, and would shrink the MTU with every look.
        let through_itself =
            |peer| self.net.route_to(peer).map(|hop| hop.is_some_and(|hop| hop.link == Some(self.index)));
        if mtu == before || self.path.peer().map_or(Ok(false), through_itself)? {
            return Ok(None);
        }
        info!("{}", self.path);
        Ok(Some(mtu))
    }
}

/// Whether somebody gave the interface this address, and it is one of IPv6: the kernel makes link-local ones by itself.
fn is_given_v6(address: &IpNet) -> bool {
    matches!(address.addr(), IpAddr::V6(address) if !address.is_unicast_link_local())
}
