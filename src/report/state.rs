//! What runs where in a lab, as far as a report asks: who holds TUN devices and UDP ports, and which step that is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::lab::{Lab, network};
use crate::trace::evidence::{self, Questions};

/// How long the hosts may take to tell about themselves.
const ANSWERS: Duration = Duration::from_secs(10);

/// A host, as far as the tunnel is concerned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostState {
    /// Its name.
    pub host: String,
    /// Its TUN devices.
    pub devices: Vec<Device>,
    /// The programs that hold a TUN device or a UDP socket.
    pub holders: Vec<Holder>,
    /// Whether it sends what is for the client's address in the tunnel by way of the server.
    pub leads_back: bool,
}

/// A TUN device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether it is up and has an address.
    pub is_ready: bool,
    /// Whether a program holds it.
    pub is_held: bool,
}

/// A program that holds something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The TUN devices that it holds.
    pub devices: Vec<String>,
    /// The UDP ports that it is bound to.
    pub ports: Vec<u16>,
}

impl HostState {
    /// The holder of a UDP port.
    pub fn has_port(&self, port: u16) -> bool {
        self.holders.iter().any(|holder| holder.ports.contains(&port))
    }

    /// Whether a program holds a TUN device.
    pub fn has_device(&self) -> bool {
        self.devices.iter().any(|device| device.is_held)
    }
}

/// Looks at the hosts of a lab, in the topology's order.
///
/// # Errors
/// A host does not tell about itself.
pub fn look(lab: &Lab) -> Result<Vec<HostState>> {
    lab.apart(|| {
        let states = evidence::look(lab, ANSWERS)?;
        states.iter().enumerate().map(|(place, state)| host_state(lab, place, state)).collect()
    })
}

/// What the kernel of each host tells about its network, in the topology's order.
///
/// # Errors
/// The lab cannot be entered.
pub fn networks(lab: &Lab) -> Result<Vec<String>> {
    lab.apart(|| Ok((0..lab.topology.hosts.len()).map(|place| network::told(lab, place)).collect()))
}

fn host_state(lab: &Lab, place: usize, state: &evidence::State) -> Result<HostState> {
    let devices = state.tuns().map(|tun| Device {
        name: tun.name.clone(),
        is_ready: tun.up && !state.addresses(&tun.name).is_empty(),
        is_held: state.tun_holders(&tun.name).next().is_some(),
    });
    let holders = state.holders.iter().filter_map(|holder| {
        let held = state.sockets.iter().filter(|socket| state.socket_holders(socket).any(|it| it.pid == holder.pid));
        let mut ports: Vec<u16> = held.map(|socket| socket.local.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        let (devices, command) = (holder.tuns.clone(), holder.command.trim_end().to_string());
        let holder = Holder { pid: holder.pid, command, devices, ports };
        (!holder.devices.is_empty() || !holder.ports.is_empty()).then_some(holder)
    });
    let host = lab.topology.hosts[place].name.clone();
    Ok(HostState { devices: devices.collect(), holders: holders.collect(), leads_back: leads_back(lab, place)?, host })
}

/// Whether a host behind the tunnel sends what is for the client's address in the tunnel to an address of the server's.
fn leads_back(lab: &Lab, place: usize) -> Result<bool> {
    let (topology, tunnel) = (&lab.topology, &lab.topology.tunnel);
    let host = &topology.hosts[place];
    let is_behind = host.name != tunnel.client && topology.all_behind_the_tunnel().any(|it| it.name == host.name);
    let std::net::IpAddr::V4(address) = tunnel.client_address.addr() else { return Ok(false) };
    if !is_behind {
        return Ok(false);
    }
    let via = Questions::to(lab).route(place, address)?.and_then(|hop| hop.via);
    let server = topology.host(&tunnel.server)?;
    Ok(server.interfaces.iter().any(|interface| Some(interface.address.addr().into()) == via))
}

/// The step that what runs is of, and why.
pub fn step(lab: &Lab, states: &[HostState]) -> (u8, String) {
    let tunnel = &lab.topology.tunnel;
    let (client, server, port) = (&tunnel.client, &tunnel.server, tunnel.port);
    let of = |name: &str, so: fn(&HostState) -> bool| states.iter().any(|state| state.host == name && so(state));
    let has_port = states.iter().any(|state| state.host == *server && state.has_port(port));
    let back = states.iter().find(|state| state.leads_back);
    match (of(client, HostState::has_device), of(server, HostState::has_device), has_port, back) {
        (false, false, false, _) => (0, format!("no program holds a TUN device, or UDP port {port} of {server}")),
        (true, false, false, _) => {
            (1, format!("a program on {client} holds a TUN device, and none on {server} does anything"))
        }
        (_, false, true, _) => (2, format!("a program on {server} listens on UDP port {port}, and has no TUN device")),
        (.., Some(back)) => {
            (4, format!("a program on {server} holds a TUN device, and {} has a route back into the tunnel", back.host))
        }
        (.., None) => {
            (3, format!("a program on {server} holds a TUN device, and no host has a route back into the tunnel"))
        }
    }
}
