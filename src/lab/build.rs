//! Turns a topology into links, addresses, routes and settings of namespaces that are already there.
//!
//! Used by `lab up` on fresh namespaces and by `lab reset` on used ones, with and without root alike. All of it over
//! netlink and /proc/sys; every change is logged at debug level as the command that would do it (`lab up -v`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ipnet::IpNet;
use log::{Level, debug};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::error::{Context, Error, Result};
use crate::lab::{namespace, reject, sysctl};
use crate::net::{self, Net, Route};
use crate::topology::{Host, Interface, Topology};

/// The network namespaces of a lab.
pub struct Networks {
    /// Those of the hosts, in the topology's order.
    pub hosts: Vec<OwnedFd>,
    /// Where the bridges stand that make wires of more than two ends.
    pub wires: OwnedFd,
}

impl Networks {
    /// All of them.
    pub fn all(&self) -> Vec<BorrowedFd<'_>> {
        self.hosts.iter().chain([&self.wires]).map(AsFd::as_fd).collect()
    }
}

/// The settings that a host starts with; a new namespace inherits some of them from the machine.
const PINNED: &[(&str, &str)] = &[
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.icmp_echo_ignore_all", "0"),
    ("net.ipv4.icmp_ratelimit", "0"), // the router answers every probe
];

/// The group of the bridges and their ports (`ip link ... group`).
pub const WIRES_GROUP: u32 = 1;

/// How the names of the bridges' ports begin.
const PORT: &str = "port";

const FORWARD: &str = "net.ipv4.ip_forward";

/// Wires fresh namespaces up as the topology says, as a student has them at the start of `step`.
pub fn build(topology: &Topology, networks: &Networks, marks: &Marks<'_>, step: u8) -> Result<()> {
    let opened = topology.hosts.iter().zip(&networks.hosts).map(|(host, network)| {
        namespace::inside(network, || {
            settings(host, topology, step)?;
            if !host.unreachable.is_empty() {
                let list: Vec<_> = host.unreachable.iter().map(ToString::to_string).collect();
                debug!("{}: nft: ip daddr {{ {} }} reject with icmp host-unreachable", host.name, list.join(", "));
                reject::host_unreachable(&host.unreachable)?;
            }
            Net::open(Level::Debug)
        })
    });
    let nets = opened.collect::<Result<Vec<Net>>>()?;
    let wires = namespace::inside(&networks.wires, || {
        // A wire says nothing of its own; a kernel without IPv6 has nothing to say, and no such setting.
        if Path::new("/proc/sys/net/ipv6").exists() {
            sysctl::set("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        Net::open(Level::Debug)
    })?;

    for (host, net) in topology.hosts.iter().zip(&nets) {
        mark(net, &marks.of(&host.name))?;
    }
    mark(&wires, &marks.wires(step))?;
    let first = nets.iter().map(first_number).collect::<Result<Vec<_>>>()?;
    for (number, (network, members)) in topology.networks().into_iter().enumerate() {
        let ends = members.iter().map(|(host, interface)| End::new(topology, networks, &first, host, interface));
        let ends = ends.collect::<Vec<End<'_>>>();
        wire(network, number, &ends, &nets, &wires)?;
    }
    for ((host, net), first) in topology.hosts.iter().zip(&nets).zip(first) {
        configure(host, net, first)?;
        for prepared in topology.prepared.iter().filter(|prepared| prepared.step <= step && prepared.host == host.name)
        {
            for route in &prepared.routes {
                net.add_route(&route_of(route))?;
            }
        }
    }
    Ok(())
}

/// What a namespace's `lo` bears as its alias, so that nobody takes another's namespace for a lab's.
pub struct Marks<'a>(pub &'a str);

impl Marks<'_> {
    /// How every mark begins.
    pub const BEGIN: &'static str = "vpnlab ";

    /// The mark of a host.
    pub fn of(&self, host: &str) -> String {
        format!("{}{} {host}", Self::BEGIN, self.0)
    }

    /// The mark of the namespace of the wires, which also tells the step that the lab was prepared for.
    pub fn wires(&self, step: u8) -> String {
        self.of(&format!("wires, prepared for step {step}"))
    }
}

/// The step in the mark of the wires.
pub fn prepared_step(networks: &Networks) -> Result<u8> {
    let net = namespace::inside(&networks.wires, || Net::open(Level::Debug))?;
    let alias = net.link("lo")?.and_then(|lo| lo.alias).unwrap_or_default();
    Ok(alias.rsplit(' ').next().and_then(|step| step.parse().ok()).unwrap_or(0))
}

/// What differs between a running lab and its topology; empty where all is as it was built.
///
/// Only what a student does not set: links, their state, their addresses.
pub fn damage(topology: &Topology, networks: &Networks) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (host, network) in topology.hosts.iter().zip(&networks.hosts) {
        let net = namespace::inside(network, || Net::open(Level::Debug))?;
        for interface in &host.interfaces {
            let name = format!("{} of {}", interface.name, host.name);
            match net.link(&interface.name)? {
                None => found.push(format!("{name} is missing")),
                Some(link) if !link.up => found.push(format!("{name} is down")),
                Some(_) if !net.addresses(&interface.name)?.contains(&IpNet::V4(interface.address)) => {
                    found.push(format!("{name} lacks its address {}", interface.address));
                }
                Some(_) => {}
            }
        }
    }
    Ok(found)
}

/// Sets the pinned settings of the calling thread's network namespace.
fn settings(host: &Host, topology: &Topology, step: u8) -> Result<()> {
    let prepared = |prepared: &&crate::topology::Prepared| prepared.step <= step && prepared.host == host.name;
    let forward = host.forward || topology.prepared.iter().filter(prepared).any(|prepared| prepared.forward);
    for (name, value) in PINNED.iter().copied().chain([(FORWARD, if forward { "1" } else { "0" })]) {
        sysctl::set(name, value)?;
    }
    Ok(())
}

/// Brings `lo` up and writes the mark on it.
pub fn mark(net: &Net, mark: &str) -> Result<()> {
    let lo = LinkUnspec::new_with_name("lo").up().alias(mark).build();
    net.set_link(lo).context(|| "cannot bring lo up".into())
}

/// The number of a host's first interface: 2, as on a machine, but where the kernel has put interfaces of its own into
/// the new namespace (`net.core.fb_tunnels_only_for_init_net`).
fn first_number(net: &Net) -> Result<u32> {
    Ok(net.links()?.iter().map(|link| link.index + 1).max().unwrap_or(2))
}

/// One end of a wire: an interface of a host.
struct End<'a> {
    host: usize,
    name: &'a str,
    /// The interface's number.
    index: u32,
    namespace: &'a OwnedFd,
}

impl<'a> End<'a> {
    fn new(topology: &Topology, networks: &'a Networks, first: &[u32], host: &Host, interface: &'a Interface) -> Self {
        let place = topology.hosts.iter().position(|other| other.name == host.name).unwrap_or(0);
        let slot = host.interfaces.iter().position(|other| other.name == interface.name).unwrap_or(0);
        Self {
            host: place,
            name: &interface.name,
            index: first[place] + slot as u32,
            namespace: &networks.hosts[place],
        }
    }

    fn peer(&self) -> LinkMessage {
        let builder = LinkMessageBuilder::<LinkUnspec>::default().name(self.name).index(self.index);
        builder.setns_by_fd(self.namespace.as_raw_fd()).build()
    }
}

/// Connects the ends: a veth pair between two of them, a bridge where there are more.
fn wire(network: &str, number: usize, ends: &[End<'_>], nets: &[Net], wires: &Net) -> Result<()> {
    let done = match ends {
        [one, other] => {
            debug!("ip link add {} type veth peer name {} ({network})", one.name, other.name);
            nets[one.host].create(RouteNetlinkMessage::NewLink(veth(one.name, one.index, other.peer())))
        }
        _ => bridge(network, number, ends, wires),
    };
    done.map_err(|error| {
        let failed = Error::environment(format!("cannot wire network {network}")).because(error);
        failed.hint("the kernel needs the modules veth and bridge: sudo modprobe -a veth bridge")
    })
}

fn bridge(network: &str, number: usize, ends: &[End<'_>], wires: &Net) -> io::Result<()> {
    // Ports are numbered from 1,000 for each bridge, so that a port's name and number are known beforehand.
    let bridge = 1000 * (number as u32 + 1);
    debug!("ip link add {network} type bridge");
    let message = LinkBridge::new(network)
        .link_group(WIRES_GROUP)
        .forward_delay(0)
        .mcast_snooping(false)
        .index(bridge)
        .up()
        .build();
    wires.create(RouteNetlinkMessage::NewLink(message))?;
    for (port, end) in (bridge + 1..).zip(ends) {
        debug!("ip link add {PORT}{port} master {network} type veth peer name {}", end.name);
        let mut pair = veth(&format!("{PORT}{port}"), port, end.peer());
        pair.attributes.push(LinkAttribute::Controller(bridge));
        pair.attributes.push(LinkAttribute::Group(WIRES_GROUP));
        wires.create(RouteNetlinkMessage::NewLink(pair))?;
    }
    Ok(())
}

/// A veth pair: this end, of this name and number, and its peer.
pub fn veth(name: &str, index: u32, peer: LinkMessage) -> LinkMessage {
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .index(index)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

/// Gives a host's interfaces their addresses, brings them up (a veth end cannot be born up before its pair is whole),
/// and gives the host its routes.
fn configure(host: &Host, net: &Net, first: u32) -> Result<()> {
    for (index, interface) in (first..).zip(&host.interfaces) {
        let address = interface.address;
        debug!("{}: ip addr add {address} dev {}", host.name, interface.name);
        let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).up().build();
        net.create(RouteNetlinkMessage::NewAddress(net::address_message(index, address.into())))
            .and_then(|()| net.set_link(up))
            .context(|| format!("cannot configure {} of {} with {address}", interface.name, host.name))?;
    }
    let default = host.gateway.map(|gateway| Route {
        to: ipnet::Ipv4Net::default().into(),
        via: Some(gateway.into()),
        dev: None,
        metric: None,
    });
    for route in default.into_iter().chain(host.routes.iter().map(route_of)) {
        net.add_route(&route)?;
    }
    Ok(())
}

fn route_of(route: &crate::topology::Route) -> Route {
    Route { to: route.to.into(), via: Some(route.via.into()), dev: None, metric: None }
}
