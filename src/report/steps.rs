//! The handout's questions per step, as data: what is typed where, what is followed, and what each step promises. Pure.
//!
//! Every host, address and name comes from the topology.

use crate::topology::{Host, Topology};

/// What is done for a step.
#[derive(Debug)]
pub struct Plan {
    /// 0 to 4.
    pub step: u8,
    /// What it is about.
    pub title: &'static str,
    /// What the handout asks to be shown.
    pub asked: String,
    /// What is done, in this order.
    pub acts: Vec<Act>,
}

/// Something that is done, with what it has to show.
#[derive(Debug)]
pub enum Act {
    /// A command is typed on a host, and waited for; its exit code has to be this.
    Type { host: String, line: String, promise: Option<(String, i32)> },
    /// The lab is checked as `vpnlab lab check` does.
    Check { promise: String },
    /// A command is typed on a host, and goes on until the step is over; first it prints this.
    Watch { host: String, line: String, ready: &'static str },
    /// An echo request is followed from a host, to a host or an address.
    Follow { from: String, to: String, promises: Vec<(String, Goal)> },
    /// The programs are looked at.
    Look { promises: Vec<(String, Held)> },
    /// A program of a host prints a line with this word in it.
    Lines { host: String, word: String, promise: String },
}

/// How far an echo request has to come.
#[derive(Debug, PartialEq)]
pub enum Goal {
    /// Out of a TUN device of this host, to its program.
    Program(String),
    /// To this host, in a datagram.
    Datagram(String),
    /// To this host, as it is.
    Host(String),
    /// Back, as a reply.
    Back,
}

/// What a program of a host has to hold.
#[derive(Debug, PartialEq)]
pub enum Held {
    /// A TUN device, which is up and has an address.
    Device(String),
    /// The tunnel's UDP port.
    Port(String),
    /// No program of any host a TUN device.
    NoDevice,
}

/// The last step.
pub const LAST: u8 = 4;

/// What is done for a step in a lab of this topology.
pub fn plan(step: u8, topology: &Topology) -> Plan {
    let (title, asked, acts) = match step {
        0 => ("The network", network_asks(), network(topology)),
        1 => ("A TUN device", device_asks(topology), device(topology)),
        2 => ("Into the tunnel", datagrams_asks(topology), datagrams(topology)),
        3 => ("Out of the tunnel", delivery_asks(topology), delivery(topology)),
        _ => ("Both directions", both_asks(topology), both(topology)),
    };
    Plan { step, title, asked, acts }
}

fn network_asks() -> String {
    "Pings and traceroutes that show who reaches whom, and that the private networks are apart.".into()
}

fn network(topology: &Topology) -> Vec<Act> {
    let alone = "no tunnel runs: this is the network by itself".to_string();
    let mut acts = vec![Act::Look { promises: vec![(alone, Held::NoDevice)] }];
    for check in &topology.checks {
        let (from, to) = (&check.from, &check.to);
        if check.hops.is_some() {
            acts.push(must(from, format!("ping -c1 -W3 {to}"), format!("{from} reaches {to}"), 0));
            acts.push(must(from, format!("traceroute {to}"), format!("{from} finds the way to {to}"), 0));
        } else {
            acts.push(must(from, format!("ping -c1 -W3 {to}"), format!("{from} does not reach {to}"), 1));
        }
    }
    acts.push(Act::Check { promise: "hops and refusals are those of the topology".into() });
    acts
}

fn device_asks(topology: &Topology) -> String {
    format!(
        "The TUN device of {} with its address, and a ping of {} that a program answers through it.",
        topology.tunnel.client,
        nobody(topology, 4)
    )
}

fn device(topology: &Topology) -> Vec<Act> {
    let client = &topology.tunnel.client;
    let other = nobody(topology, 4);
    let mut acts = vec![
        typed(client, "ip address"),
        Act::Look { promises: vec![has_device(client)] },
        must(client, format!("ping -c1 -W3 {other}"), format!("the ping of {other} is answered"), 0),
    ];
    if let Some(behind) = behind(topology) {
        acts.push(typed(client, format!("ping -c1 -W1 {}", behind.name)));
    }
    let comes = format!("a packet for {other} comes out of the TUN device, to the program");
    acts.push(Act::Follow { from: client.clone(), to: other, promises: vec![(comes, Goal::Program(client.clone()))] });
    acts
}

fn datagrams_asks(topology: &Topology) -> String {
    let tunnel = &topology.tunnel;
    let further =
        behind(topology).map_or(String::new(), |host| format!("; then a ping of {} that gets there", host.name));
    format!(
        "A ping of {} on {}, and what the program on {} prints of it{further}.",
        nobody(topology, 5),
        tunnel.client,
        tunnel.server
    )
}

fn datagrams(topology: &Topology) -> Vec<Act> {
    let (client, server) = (&topology.tunnel.client, &topology.tunnel.server);
    let other = nobody(topology, 5);
    let mut targets = vec![(other.clone(), other.clone())];
    targets.extend(behind(topology).map(|host| {
        let address = topology.resolve(topology.hosts.iter().find(|it| it.name == *client).unwrap_or(host), host);
        (host.name.clone(), address.to_string())
    }));
    let mut acts = vec![
        typed(client, "ip address"),
        typed(client, "ip route"),
        Act::Look { promises: vec![has_device(client), has_port(topology)] },
        typed(client, format!("ping -c5 -i 0.2 -W1 {other}")),
    ];
    acts.extend(targets.iter().skip(1).map(|(name, _)| typed(client, format!("ping -c1 -W1 {name}"))));
    for (name, address) in targets {
        let promise = format!("the program on {server} prints the packet for {address}");
        acts.push(Act::Lines { host: server.clone(), word: address, promise });
        let comes = format!("a ping of {name} comes to {server} inside of a datagram");
        let promises = vec![(comes, Goal::Datagram(server.clone()))];
        acts.push(Act::Follow { from: client.clone(), to: name, promises });
    }
    acts
}

fn delivery_asks(topology: &Topology) -> String {
    let behind = behind(topology).map_or("the private network", |host| &host.name);
    format!("A ping that is delivered to {behind}, as tcpdump sees it there. Its reply does not come back yet.")
}

fn delivery(topology: &Topology) -> Vec<Act> {
    let (client, server) = (&topology.tunnel.client, &topology.tunnel.server);
    let mut acts = vec![
        Act::Look { promises: vec![has_device(client), has_device(server), has_port(topology)] },
        typed(client, "ip route"),
        typed(server, "ip address"),
        typed(server, "sysctl net.ipv4.ip_forward"),
    ];
    let Some(host) = behind(topology) else { return acts };
    if let Some(interface) = host.interfaces.iter().find(|it| topology.is_behind_the_tunnel(it)) {
        let line = format!("sudo tcpdump -l -n -i {} ip", interface.name);
        acts.push(Act::Watch { host: host.name.clone(), line, ready: "listening on" });
    }
    acts.push(typed(client, format!("ping -c1 -W1 {}", host.name)));
    let promises = vec![(format!("a ping is delivered to {}", host.name), Goal::Host(host.name.clone()))];
    acts.push(Act::Follow { from: client.clone(), to: host.name.clone(), promises });
    acts
}

fn both_asks(topology: &Topology) -> String {
    let behind = behind(topology).map_or("the private network", |host| &host.name);
    let client = &topology.tunnel.client;
    format!("Both programs at work, and a successful ping from {client} to {behind} and one from {behind} to {client}.")
}

fn both(topology: &Topology) -> Vec<Act> {
    let (client, server) = (&topology.tunnel.client, &topology.tunnel.server);
    let mut acts = vec![
        Act::Look { promises: vec![has_device(client), has_device(server), has_port(topology)] },
        typed(client, "ip route"),
        typed(server, "sysctl net.ipv4.ip_forward"),
    ];
    let all: Vec<&Host> = topology.all_behind_the_tunnel().filter(|host| host.name != *client).take(3).collect();
    for host in &all {
        let (name, line) = (&host.name, format!("ping -c2 -i 0.2 -W3 {}", host.name));
        acts.push(must(client, line, format!("{client} reaches {name}"), 0));
    }
    let Some(first) = all.first() else { return acts };
    let own = topology.tunnel.client_address.addr();
    let line = format!("ping -c2 -i 0.2 -W3 {own}");
    acts.push(must(&first.name, line, format!("{} reaches {client}, by its address in the tunnel", first.name), 0));
    for (from, to) in [(client, &first.name), (&first.name, client)] {
        let promises = vec![(format!("the reply to {from} comes back through the tunnel"), Goal::Back)];
        acts.push(Act::Follow { from: from.clone(), to: to.clone(), promises });
    }
    acts
}

fn typed(host: &str, line: impl Into<String>) -> Act {
    Act::Type { host: host.into(), line: line.into(), promise: None }
}

fn must(host: &str, line: String, promise: String, exit: i32) -> Act {
    Act::Type { host: host.into(), line, promise: Some((promise, exit)) }
}

fn has_device(host: &str) -> (String, Held) {
    (format!("a program on {host} has a TUN device, which is up and has an address"), Held::Device(host.into()))
}

fn has_port(topology: &Topology) -> (String, Held) {
    let (server, port) = (&topology.tunnel.server, topology.tunnel.port);
    (format!("a program on {server} listens on UDP port {port}"), Held::Port(server.clone()))
}

/// An address of the tunnel's network that nobody has.
fn nobody(topology: &Topology, number: usize) -> String {
    topology.tunnel.other_address(number).to_string()
}

/// The host that the handout pings through the tunnel.
fn behind(topology: &Topology) -> Option<&Host> {
    topology.all_behind_the_tunnel().find(|host| host.name != topology.tunnel.client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::handout;

    fn lines(step: u8, topology: &Topology) -> Vec<String> {
        let acts = plan(step, topology).acts;
        let line = |act: &Act| match act {
            Act::Type { host, line, .. } | Act::Watch { host, line, .. } => Some(format!("{host}:$ {line}")),
            _ => None,
        };
        acts.iter().filter_map(line).collect()
    }

    #[test]
    fn the_commands_are_those_of_the_handout() {
        let lines: Vec<String> = (0..=LAST).flat_map(|step| lines(step, handout())).collect();
        for line in [
            "useru:$ ping -c1 -W3 server",
            "useru:$ traceroute server",
            "userv:$ ping -c1 -W3 useru",
            "useru:$ ping -c1 -W3 10.1.3.4",
            "useru:$ ping -c5 -i 0.2 -W1 10.1.3.5",
            "userv:$ sudo tcpdump -l -n -i eth0 ip",
            "useru:$ ping -c2 -i 0.2 -W3 userw",
            "userv:$ ping -c2 -i 0.2 -W3 10.1.3.1",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line}: {lines:#?}");
        }
    }

    #[test]
    fn another_topology_has_its_own_addresses() {
        let text = crate::topology::HANDOUT.replace("10.1.3.", "172.20.3.").replace("userv", "bob");
        let topology = Topology::parse(&text, "test").unwrap();
        let lines: String = (0..=LAST).map(|step| lines(step, &topology).join("\n")).collect();
        assert!(lines.contains("172.20.3.4") && lines.contains("bob:$ ping -c2 -i 0.2 -W3 172.20.3.1"), "{lines}");
        assert!(!lines.contains("10.1.3.") && !lines.contains("userv"), "{lines}");
    }

    #[test]
    fn every_step_promises_something() {
        for step in 0..=LAST {
            let plan = plan(step, handout());
            let promises = plan.acts.iter().filter(|act| match act {
                Act::Type { promise, .. } => promise.is_some(),
                Act::Watch { .. } => false,
                _ => true,
            });
            assert!(promises.count() >= 2, "step {step}");
        }
    }
}
