//! Whether this machine forwards packets between its interfaces: the `ip_forward` of its network namespace.
//!
//! A VPN server must. It is the user's decision, so a step only warns where it is off; with `--forward` it is switched
//! on, and off again at the end, by [`crate::keeper`]. If that is killed with SIGKILL, it stays on.
//! Nobody counts the programs that want it: of two servers with `--forward` in one network namespace, the first found it
//! off, and switches it off again at its end, also under the second.
//! Kernel documentation: Documentation/networking/ip-sysctl.rst.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use log::{info, warn};

use crate::error::{Error, RUN_AS_ROOT, Result};

/// The sysctl of IPv4 and of IPv6.
const IPV4: &str = "net.ipv4.ip_forward";
const IPV6: &str = "net.ipv6.conf.all.forwarding";

/// Forwarding as this program wants it; dropped, it is as it was before.
#[derive(Debug)]
pub struct Forwarding {
    changed: Vec<&'static str>,
}

impl Forwarding {
    /// Looks whether packets from and to these addresses are forwarded; where not, switches that on or warns.
    ///
    /// # Errors
    /// `switch_on` is asked for and refused.
    pub fn prepare(addresses: impl Iterator<Item = IpAddr>, switch_on: bool) -> Result<Self> {
        let mut names: Vec<_> = addresses.map(|address| if address.is_ipv4() { IPV4 } else { IPV6 }).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| is_off(name));
        let mut forwarding = Self { changed: Vec::new() };
        for name in names {
            if switch_on {
                set(name, "1")?;
                forwarding.changed.push(name);
            } else {
                warn!(
                    "{name} is 0: what comes out of the tunnel goes no further than this host; sudo sysctl -w {name}=1"
                );
            }
        }
        Ok(forwarding)
    }

    /// Leaves it to another process, which was forked from this one, to put it back.
    pub fn leave(mut self) {
        self.changed.clear();
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        for name in &self.changed {
            if let Err(error) = set(name, "0") {
                warn!("{error}");
            }
        }
    }
}

fn is_off(name: &str) -> bool {
    fs::read_to_string(file(name)).is_ok_and(|value| value.trim() == "0")
}

fn set(name: &str, value: &str) -> Result<()> {
    let command = format!("sysctl -w {name}={value}");
    info!("{command}");
    fs::write(file(name), value)
        .map_err(|error| Error::environment(format!("{command} failed")).because(error).hint(RUN_AS_ROOT))
}

/// The file of a sysctl, in the network namespace of the program that opens it (proc(5)).
fn file(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_is_a_file_below_proc_sys() {
        assert_eq!(file(IPV4).to_str(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert!(file(IPV4).exists());
    }
}
