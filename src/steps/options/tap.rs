//! The options of a step with a TAP device.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::{PcapOptions, SMALLEST_MTU, StatsOptions, TunOptions, address};
use crate::error::{Error, Result};
use crate::interface::{Interface, Settings};
use crate::privileges::Privileges;
use crate::tun::Tun;

/// The TAP device of a step.
#[derive(Debug, Clone, Args)]
pub struct TapOptions {
    /// Name of the TAP device; %d becomes the first free number
    #[arg(long = "tap", value_name = "NAME", default_value = "tap%d")]
    name: String,
    /// IPv4 address of the TAP device, and the length of its subnet's prefix; may be given more than once
    #[arg(long = "address", value_name = "CIDR", value_parser = ipv4_address)]
    addresses: Vec<IpNet>,
    /// MTU of the TAP device in bytes, the Ethernet header not counted [default: see below]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(SMALLEST_MTU.0)..=65521))]
    mtu: Option<u32>,
    /// Leave the TAP device as it is created: no address, and down
    #[arg(long, conflicts_with_all = ["addresses", "mtu"])]
    no_configure: bool,
    /// End after N frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    /// Where frames are recorded.
    pub pcap: PcapOptions,
    #[command(flatten)]
    /// Which rights are kept.
    pub privileges: Privileges,
    #[command(flatten)]
    /// Where counts are written.
    pub stats: StatsOptions,
}

impl TapOptions {
    /// What the TAP device is to be given, where the user does not ask for something else.
    ///
    /// # Errors
    /// An address is given twice, or the default one is none of IPv4.
    pub fn settings(&self, default: IpNet, mtu: u32) -> Result<Settings> {
        if self.addresses.is_empty() && default.addr().is_ipv6() {
            let what = format!("the lab's address {default} is of IPv6, which has no ARP");
            return Err(Error::usage(what).hint("give the TAP device an IPv4 address with --address"));
        }
        self.as_of_tun().settings(default, mtu)
    }

    /// Creates the TAP device, and gives it these settings, or none with `--no-configure`.
    ///
    /// # Errors
    /// The system refuses the device or its configuration.
    pub fn open(&self, settings: Settings) -> Result<(Tun, Interface)> {
        let tap = Tun::open_tap(&self.name)?;
        let interface = Interface::configure(tap.name(), (!self.no_configure).then_some(settings))?;
        Ok((tap, interface))
    }

    /// The same for a TUN device, by which the two are given the same settings.
    fn as_of_tun(&self) -> TunOptions {
        let Self { name, addresses, mtu, no_configure, count, pcap, privileges, stats } = self.clone();
        TunOptions { name, addresses, mtu, no_configure, count, pcap, privileges, stats, headers: false }
    }
}

/// An address as [`address`] takes it, of IPv4: IPv6 has neighbour discovery in the place of ARP (RFC 4861).
fn ipv4_address(text: &str) -> Result<IpNet, String> {
    match address(text)? {
        IpNet::V6(_) => Err("ARP is for IPv4, and this is an IPv6 address".into()),
        address @ IpNet::V4(_) => match address.addr() {
            IpAddr::V4(host) if host.is_loopback() => Err(format!("{host} is of the host itself, and on no wire")),
            _ => Ok(address),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_arp_knows_is_taken() {
        assert!(ipv4_address("192.0.2.1/24").is_ok());
        assert!(ipv4_address("fd00::1/64").unwrap_err().contains("ARP is for IPv4"));
        assert!(ipv4_address("127.0.0.2/8").unwrap_err().contains("on no wire"));
        assert!(ipv4_address("192.0.2.255/24").unwrap_err().contains("whole subnet"));
    }
}
