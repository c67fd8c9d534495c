//! `lab status`: the labs that are up, and what there is in them just now.

use std::fmt::Write;

use log::Level;
use nix::unistd::getuid;
use serde::Serialize;

use crate::error::Result;
use crate::lab::{Lab, Mode, build, namespace, processes, root, rootless};
use crate::net::Net;
use crate::output;

/// A lab that is up.
#[derive(Debug, Serialize)]
pub struct LabStatus {
    lab: String,
    mode: &'static str,
    keeper: Option<i32>,
    prepared_for_step: u8,
    hosts: Vec<HostStatus>,
}

/// A host, its IPv4 addresses as `INTERFACE ADDRESS`, and the programs that run on it.
#[derive(Debug, Serialize)]
struct HostStatus {
    name: String,
    addresses: Vec<String>,
    programs: Vec<ProgramStatus>,
}

#[derive(Debug, Serialize)]
struct ProgramStatus {
    pid: i32,
    command: String,
}

/// Looks at the labs of the calling user. One that is not whole is told of on stderr.
pub fn all() -> Result<Vec<LabStatus>> {
    let names = if getuid().is_root() { root::names() } else { rootless::names() };
    let mut labs = Vec::new();
    for name in names {
        match Lab::find(&name) {
            Ok(Some(lab)) => labs.push(look_at(&lab)?),
            Ok(None) => {}
            Err(error) => output::error_line(format_args!("vpnlab: {error}")),
        }
    }
    Ok(labs)
}

/// Looks at one lab.
///
/// # Errors
/// It cannot be looked into.
pub fn look_at(lab: &Lab) -> Result<LabStatus> {
    let (mode, keeper) = match lab.mode {
        Mode::Rootless { keeper, .. } => ("without root", Some(keeper.as_raw())),
        Mode::Root => ("as root", None),
    };
    let (prepared_for_step, addresses) = lab.apart(|| Ok((build::prepared_step(&lab.networks)?, addresses(lab)?)))?;
    let running = processes::running_in(&lab.networks.hosts)?;
    let program = |it: processes::Process| ProgramStatus { pid: it.pid.as_raw(), command: it.command };
    let hosts = lab.topology.hosts.iter().zip(addresses).zip(running).map(|((host, addresses), programs)| HostStatus {
        name: host.name.clone(),
        addresses,
        programs: programs.into_iter().map(program).collect(),
    });
    Ok(LabStatus { lab: lab.name.clone(), mode, keeper, prepared_for_step, hosts: hosts.collect() })
}

/// The IPv4 addresses that each host has just now, but for those of `lo`.
fn addresses(lab: &Lab) -> Result<Vec<Vec<String>>> {
    let of = |network| {
        let net = namespace::inside(network, || Net::open(Level::Debug))?;
        let mut addresses = Vec::new();
        for link in net.links()?.iter().filter(|link| link.name != "lo") {
            // A TUN may have gone since, and its addresses with it.
            let all = net.addresses(&link.name).unwrap_or_default();
            let ipv4 = all.into_iter().filter(|address| address.addr().is_ipv4());
            addresses.extend(ipv4.map(|address| format!("{} {address}", link.name)));
        }
        Ok(addresses)
    };
    lab.networks.hosts.iter().map(of).collect()
}

/// The labs of root's, for a user who is not: the state files are there for all to see, and the labs are closed.
pub fn of_root() -> Vec<String> {
    if getuid().is_root() { Vec::new() } else { root::names() }
}

/// The labs as text for people, and the names of those that are root's.
pub fn text(labs: &[LabStatus], of_root: &[String]) -> String {
    let of_root = match of_root {
        [] => String::new(),
        names => format!("root has labs of its own ({}): sudo vpnlab lab status\n", names.join(", ")),
    };
    if labs.is_empty() {
        return format!("no lab is up; bring one up: vpnlab lab up\n{of_root}");
    }
    let mut text = String::new();
    for lab in labs {
        let _ = writeln!(text, "lab {} ({}, prepared for step {})", lab.lab, lab.mode, lab.prepared_for_step);
        for host in &lab.hosts {
            let _ = writeln!(text, "  {:<8} {}", host.name, host.addresses.join(", "));
            for program in &host.programs {
                let _ = writeln!(text, "  {:<8}   {:>7}  {}", "", program.pid, program.command);
            }
        }
    }
    text + &of_root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_user_is_told_of_roots_labs() {
        assert_eq!(text(&[], &[]), "no lab is up; bring one up: vpnlab lab up\n");
        let of_root = ["default", "group7"].map(String::from);
        let last = text(&[], &of_root).lines().last().unwrap_or_default().to_string();
        assert_eq!(last, "root has labs of its own (default, group7): sudo vpnlab lab status");
    }
}
