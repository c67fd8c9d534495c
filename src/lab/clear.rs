//! Empties used namespaces, so that the lab can be wired anew in them: the first half of `lab reset`.
//!
//! What a student may have changed is many things. Settings and routing rules are made those of a namespace that was made
//! a moment ago; links with all that is on them, routes, nexthops, nftables rules (those of iptables-nft among them), IPsec
//! policies and states, and the queues of `lo` are deleted. Not undone are rules of the old iptables-legacy, IPVS, the
//! default IPsec policy (`ip xfrm policy setdefault`), traffic control actions that no filter uses, and files.

use std::os::fd::{AsFd, OwnedFd};

use log::{Level, debug};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sched::CloneFlags;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::error::{Context, Error, Result};
use crate::lab::build::{Networks, WIRES_GROUP};
use crate::lab::{flush, namespace, reject, sysctl};
use crate::net::Net;

/// Takes everything out of a lab's namespaces.
pub fn clear(networks: &Networks) -> Result<()> {
    delete_wires(&networks.wires)?;
    let fresh = Fresh::observe()?;
    for network in &networks.hosts {
        namespace::inside(network, || {
            flush::connections()?;
            let net = Net::open(Level::Debug)?;
            delete_links(&net)?;
            empty_loopback(&net)?;
            flush::queues_of_loopback()?;
            flush::nexthops()?;
            delete_routes(&net)?;
            restore_rules(&net, &fresh.rules)?;
            sysctl::restore(&fresh.settings);
            flush::ipsec()?;
            reject::flush()
        })?;
    }
    Ok(())
}

/// What a namespace has from its birth.
struct Fresh {
    settings: Vec<sysctl::Setting>,
    rules: Vec<RuleMessage>,
}

impl Fresh {
    /// Makes a namespace, looks at it, and lets it go.
    fn observe() -> Result<Self> {
        let home = namespace::own("net")?;
        let fresh = namespace::new_network().and_then(|_| {
            let rules = rules(&Net::open(Level::Debug)?)?;
            Ok(Self { settings: sysctl::all()?, rules })
        });
        namespace::enter(home.as_fd(), CloneFlags::CLONE_NEWNET)?;
        fresh
    }
}

/// Deletes the bridges and their ports.
fn delete_wires(wires: &OwnedFd) -> Result<()> {
    namespace::inside(wires, || {
        // They are a group, and with a port its other end goes: one request, one wait in the kernel, instead of one for
        // each link.
        let all = LinkMessageBuilder::<LinkUnspec>::default().link_group(WIRES_GROUP).build();
        match Net::open(Level::Debug)?.request(RouteNetlinkMessage::DelLink(all)) {
            Err(error) if error.raw_os_error() != Some(nix::libc::ENODEV) => {
                Err(Error::failed("cannot take the lab's wires down").because(error))
            }
            _ => Ok(()),
        }
    })
}

fn delete_links(net: &Net) -> Result<()> {
    for link in net.links()?.iter().filter(|link| link.name != "lo") {
        // The other end of a veth pair has gone with the first.
        match net.delete_link(link) {
            Err(error) if net.link(&link.name)?.is_some() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Takes from `lo` what was added to it, and leaves it down: once up again, it has its own addresses (RFC 1122,
/// section 3.2.1.3; `inetdev_event()`).
fn empty_loopback(net: &Net) -> Result<()> {
    for address in net.addresses("lo")?.into_iter().filter(|address| !address.addr().is_loopback()) {
        net.delete_address("lo", address)?;
    }
    debug!("ip link set dev lo down");
    net.set_link(LinkUnspec::new_with_name("lo").down().build()).context(|| "cannot bring lo down".into())
}

/// Deletes the routes that depend on no link (`blackhole`, `unreachable`, ...), in every table.
fn delete_routes(net: &Net) -> Result<()> {
    let lists = [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ];
    for list in lists {
        for route in net.all_routes(list)?.into_iter().filter(|route| route.header.protocol != RouteProtocol::Kernel) {
            debug!("ip route del {:?}", route.attributes);
            net.request(RouteNetlinkMessage::DelRoute(route)).context(|| "cannot delete a route".into())?;
        }
    }
    Ok(())
}

/// The routing rules of a namespace, as `ip rule` and `ip -6 rule` show them.
fn rules(net: &Net) -> Result<Vec<RuleMessage>> {
    let mut rules = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut like = RuleMessage::default();
        like.header.family = family;
        let list = net.list(RouteNetlinkMessage::GetRule(like), |told| match told {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        });
        rules.extend(list.context(|| "cannot list the routing rules".into())?);
    }
    Ok(rules)
}

/// Makes a namespace's routing rules these.
fn restore_rules(net: &Net, wanted: &[RuleMessage]) -> Result<()> {
    let changing = || "cannot restore the routing rules".to_string();
    let found = rules(net)?;
    for rule in found.iter().filter(|rule| !wanted.contains(rule)) {
        debug!("ip rule del {:?}", rule.attributes);
        net.request(RouteNetlinkMessage::DelRule(rule.clone())).context(changing)?;
    }
    for rule in wanted.iter().filter(|rule| !found.contains(rule)) {
        debug!("ip rule add {:?}", rule.attributes);
        net.create(RouteNetlinkMessage::NewRule(rule.clone())).context(changing)?;
    }
    Ok(())
}
