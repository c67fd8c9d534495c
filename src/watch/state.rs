//! All that is known of the lab, and how it is looked at: what is picked, opened, left out, held. Pure: whoever has frames,
//! counters or a key tells it, and `screen` draws it.

use std::time::Duration;

use super::feed::Links;
use super::layers::{self, Layer};
use super::packets::{Journey, Packets, Place};
use super::sight::{Eye, Protocol};
use crate::lab::capture::Frame;
use crate::net::Passed;
use crate::pcapng::Direction;
use crate::topology::Topology;

/// How many packets a page is.
const PAGE: usize = 10;

/// What passes an interface in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Packets.
    pub packets: u64,
    /// Bits.
    pub bits: u64,
}

/// An interface of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as it can be shown.
    pub name: String,
    /// The network that it is plugged into, by its place; `None` for a TUN device, and for what the student has made.
    pub network: Option<usize>,
    /// Its IPv4 address, or the first that it has.
    pub address: Option<String>,
    /// Whether it is a TUN device.
    pub is_tun: bool,
    /// Whether it is up; whether its wire has another end, or a program holds it.
    pub is_up: bool,
    /// See [`Interface::is_up`].
    pub has_carrier: bool,
    /// What has passed it.
    pub passed: Passed,
    /// What goes out in a second, and what comes in.
    pub sent: Rate,
    /// See [`Interface::sent`].
    pub received: Rate,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its interfaces, `lo` left out.
    pub interfaces: Vec<Interface>,
}

/// A wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Whether its interfaces have no names: it is there for whoever runs the hosts, and is shown when something passes it.
    pub is_background: bool,
}

/// Which packets are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that were at this host.
    pub host: Option<usize>,
    /// Those of this protocol.
    pub protocol: Option<Protocol>,
    /// Those that were in the tunnel.
    pub tunnelled: bool,
}

impl Filter {
    fn takes(self, journey: &Journey) -> bool {
        self.host.is_none_or(|host| journey.places.iter().any(|place| place.host == host))
            && self.protocol.is_none_or(|protocol| journey.protocol() == protocol)
            && (!self.tunnelled || journey.is_tunnelled())
    }
}

/// A packet that is opened, where, and which of its layers and fields is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The packet's number.
    pub number: u64,
    /// The place of its journey.
    pub place: usize,
    /// The layer.
    pub layer: usize,
    /// The field; `None` for the layer itself.
    pub field: Option<usize>,
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// End.
    Quit,
    /// Stop for a while, as Ctrl-Z does.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// Hold still, or go on.
    Pause,
    /// Pick an earlier or a later packet; look at an earlier or a later field.
    Up,
    /// See [`Action::Up`].
    Down,
    /// So much at a time.
    PageUp,
    /// See [`Action::PageUp`].
    PageDown,
    /// The first, and the last.
    First,
    /// See [`Action::First`].
    Last,
    /// The place before or after this one on the packet's way.
    Left,
    /// See [`Action::Left`].
    Right,
    /// The next layer, the one before.
    NextLayer,
    /// See [`Action::NextLayer`].
    PreviousLayer,
    /// Open the packet.
    Open,
    /// Close what is open.
    Back,
    /// The next host, the next protocol, the tunnel alone, or all again.
    Host,
    /// See [`Action::Host`].
    Protocol,
    /// See [`Action::Host`].
    Tunnel,
    /// A line for each packet, or a line for each place.
    Lines,
    /// All interfaces.
    Interfaces,
    /// Forget the packets so far.
    Clear,
    /// Show the keys.
    Help,
}

/// See the module.
pub struct State {
    /// The lab's name.
    pub lab: String,
    /// Its hosts, in the topology's order.
    pub hosts: Vec<Host>,
    /// Its wires.
    pub networks: Vec<Network>,
    /// The last packets.
    pub packets: Packets,
    /// Which of them are shown.
    pub filter: Filter,
    /// Whether nothing new is shown.
    pub is_paused: bool,
    /// The packet that is picked.
    pub picked: Option<u64>,
    /// The packet that is opened.
    pub opened: Option<Opened>,
    /// Whether the keys are shown.
    pub help: bool,
    /// Whether each packet is one line.
    pub lines: bool,
    /// Whether all interfaces are shown.
    pub all: bool,
    /// One of how many packets is shown.
    pub one_of: u32,
    /// How many frames there was no room for.
    pub lost: u64,
    topology: Topology,
    eye: Eye,
    counted_at: Option<Duration>,
    /// Which of the background networks have been used.
    used: Vec<bool>,
}

impl State {
    /// A lab of which nothing is known but its topology.
    pub fn new(lab: &str, topology: &Topology, filter: Filter) -> Self {
        let network = |(name, members): (&str, Vec<(_, &crate::topology::Interface)>)| {
            let named = members.iter().filter(|(_, interface)| interface.hostname.is_some()).count();
            Network { name: name.to_string(), is_background: named < 2 }
        };
        let networks: Vec<_> = topology.networks().into_iter().map(network).collect();
        let host = |host: &crate::topology::Host| Host { name: host.name.clone(), interfaces: Vec::new() };
        Self {
            lab: lab.to_string(),
            hosts: topology.hosts.iter().map(host).collect(),
            used: vec![false; networks.len()],
            networks,
            packets: Packets::default(),
            filter,
            is_paused: false,
            picked: None,
            opened: None,
            help: false,
            lines: false,
            all: false,
            one_of: 1,
            lost: 0,
            eye: Eye::new(topology.tunnel.port),
            topology: topology.clone(),
            counted_at: None,
        }
    }

    /// The tunnel's port.
    pub fn port(&self) -> u16 {
        self.topology.tunnel.port
    }

    /// Learns the hosts' interfaces and what they have counted at this time; returns whether anything is new.
    pub fn count(&mut self, links: &[Links], at: Duration) -> bool {
        let passed = self.counted_at.map(|before| at.saturating_sub(before));
        let hosts: Vec<_> = links.iter().enumerate().map(|(host, links)| self.host(host, links, passed)).collect();
        self.counted_at = Some(at);
        let is_new = hosts != self.hosts;
        self.hosts = hosts;
        is_new
    }

    fn host(&self, host: usize, links: &Links, passed: Option<Duration>) -> Host {
        let before = &self.hosts[host];
        let planned = &self.topology.hosts[host].interfaces;
        let interface = |(link, addresses): &(crate::net::Link, Vec<ipnet::IpNet>)| {
            let name = shown(&link.name);
            let earlier = before.interfaces.iter().find(|earlier| earlier.name == name);
            let rate = |count: u64, bytes: u64, before: Option<(u64, u64)>| {
                let (Some((packets, octets)), Some(passed)) = (before, passed.filter(|passed| !passed.is_zero()))
                else {
                    return Rate::default();
                };
                let each =
                    |now: u64, before: u64| (now.saturating_sub(before) as f64 / passed.as_secs_f64()).round() as u64;
                Rate { packets: each(count, packets), bits: each(bytes.saturating_mul(8), octets.saturating_mul(8)) }
            };
            let network = planned
                .iter()
                .find(|it| it.name == link.name)
                .and_then(|it| self.networks.iter().position(|network| network.name == it.network));
            let address = addresses.iter().find(|net| net.addr().is_ipv4()).or(addresses.first());
            let counts = link.passed;
            Interface {
                network,
                address: address.map(|net| net.addr().to_string()),
                is_tun: link.is_tun,
                is_up: link.up,
                has_carrier: link.has_carrier,
                sent: rate(counts.sent, counts.sent_bytes, earlier.map(|it| (it.passed.sent, it.passed.sent_bytes))),
                received: rate(
                    counts.received,
                    counts.received_bytes,
                    earlier.map(|it| (it.passed.received, it.passed.received_bytes)),
                ),
                passed: counts,
                name,
            }
        };
        let interfaces = links.iter().filter(|(link, _)| link.name != "lo").map(interface);
        Host { name: before.name.clone(), interfaces: interfaces.collect() }
    }

    /// Learns that a frame has passed a host. Not that of `lo`, nor one that a bridge has sent to everybody.
    pub fn see(&mut self, host: usize, frame: Frame) {
        if self.is_paused || frame.is_foreign || frame.interface == "lo" {
            return;
        }
        let sight = self.eye.see(&frame.bytes, frame.packet(), frame.length);
        let interface = shown(&frame.interface);
        let is_ipv4 = frame.packet().is_some_and(|packet| packet.first().is_some_and(|byte| byte >> 4 == 4));
        let network = self.hosts[host].interfaces.iter().find(|it| it.name == interface).and_then(|it| it.network);
        if let Some(network) = network.filter(|_| is_ipv4) {
            self.used[network] = true;
        }
        let Frame { direction, at, kind, bytes, length, .. } = frame;
        self.packets.add(Place { host, interface, direction, at, kind, bytes, length, sight });
    }

    /// Whether this interface is shown.
    pub fn shows(&self, interface: &Interface) -> bool {
        let is_shown = |network: usize| !self.networks[network].is_background || self.used[network];
        self.all || interface.network.is_none_or(is_shown)
    }

    /// The packets that are shown, oldest first.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Journey> {
        self.packets.iter().filter(|journey| self.filter.takes(journey))
    }

    /// The opened packet, the place where it is looked at, and its layers there.
    pub fn layers(&self) -> Option<(&Journey, &Place, Vec<Layer>)> {
        let journey = self.packets.get(self.opened?.number)?;
        let place = journey.places.get(self.opened?.place)?;
        Some((journey, place, layers::open(&place.bytes, place.kind, place.length, self.port())))
    }

    /// Does what the user wants; ending, stopping and drawing are the caller's.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Quit | Action::Suspend | Action::Redraw => {}
            Action::Help => self.help = !self.help,
            Action::Back if self.help => self.help = false,
            // The keys are read, not used.
            _ if self.help => self.help = false,
            Action::Pause => self.pause(!self.is_paused),
            Action::Back if self.opened.is_some() => self.opened = None,
            Action::Back => self.picked = None,
            Action::Host => self.filter.host = next(self.filter.host, self.hosts.len()),
            Action::Protocol => {
                const ALL: [Protocol; 5] =
                    [Protocol::Icmp, Protocol::Tcp, Protocol::Udp, Protocol::Arp, Protocol::Other];
                let now = ALL.iter().position(|protocol| Some(*protocol) == self.filter.protocol);
                self.filter.protocol = next(now, ALL.len()).map(|at| ALL[at]);
            }
            Action::Tunnel => self.filter.tunnelled = !self.filter.tunnelled,
            Action::Lines => self.lines = !self.lines,
            Action::Interfaces => self.all = !self.all,
            Action::Clear => {
                (self.picked, self.opened) = (None, None);
                self.packets.clear();
            }
            _ if self.opened.is_some() => self.move_inside(action),
            Action::Open => self.open(),
            _ => self.pick(action),
        }
        self.mend();
    }

    fn pause(&mut self, pause: bool) {
        self.is_paused = pause;
        if !pause {
            (self.picked, self.opened) = (None, None);
        }
    }

    /// Picks another packet. Those that come would push it away, so it is held still.
    fn pick(&mut self, action: Action) {
        let numbers: Vec<u64> = self.shown().map(|journey| journey.number).collect();
        let Some(last) = numbers.len().checked_sub(1) else { return };
        let now = self.picked.and_then(|picked| numbers.iter().position(|number| *number == picked));
        let to = match (action, now) {
            (Action::First, _) => 0,
            (Action::Last, _) | (_, None) => last,
            (Action::Up, Some(now)) => now.saturating_sub(1),
            (Action::Down, Some(now)) => (now + 1).min(last),
            (Action::PageUp, Some(now)) => now.saturating_sub(PAGE),
            (Action::PageDown, Some(now)) => (now + PAGE).min(last),
            _ => return,
        };
        self.picked = Some(numbers[to]);
        self.is_paused = true;
    }

    /// Opens the packet that is picked, or the newest: in the tunnel, at the packet inside, where it was there.
    fn open(&mut self) {
        let Some(number) = self.picked.or_else(|| self.shown().next_back().map(|journey| journey.number)) else {
            return;
        };
        let Some(journey) = self.packets.get(number) else { return };
        let place = journey.places.iter().position(|place| place.sight.outer.is_some()).unwrap_or(0);
        self.is_paused = true;
        self.picked = Some(number);
        self.opened = Some(Opened { number, place, layer: 0, field: None });
        let inner =
            self.layers().and_then(|(_, _, layers)| layers.iter().position(|it| it.part == layers::Part::Inner));
        if let Some(opened) = &mut self.opened {
            opened.layer = inner.unwrap_or(0);
        }
    }

    /// Moves within the opened packet.
    fn move_inside(&mut self, action: Action) {
        let Some((journey, _, layers)) = self.layers() else { return };
        let places = journey.places.len();
        let Some(mut at) = self.opened else { return };
        let fields = |layer: usize| layers.get(layer).map_or(0, |layer| layer.fields.len());
        let last = layers.len().saturating_sub(1);
        match action {
            Action::Left | Action::Right => {
                let title = layers.get(at.layer).map(|layer| layer.title.clone());
                at.place = match action {
                    Action::Left => at.place.saturating_sub(1),
                    _ => (at.place + 1).min(places.saturating_sub(1)),
                };
                self.opened = Some(at);
                // The same header, wherever it is now.
                let there = self.layers().map_or_else(Vec::new, |(_, _, layers)| layers);
                let same = there.iter().position(|layer| Some(&layer.title) == title.as_ref());
                at = Opened { layer: same.unwrap_or(0), field: at.field.filter(|_| same.is_some()), ..at };
            }
            Action::NextLayer => (at.layer, at.field) = ((at.layer + 1).min(last), None),
            Action::PreviousLayer => (at.layer, at.field) = (at.layer.saturating_sub(1), None),
            Action::Down => match at.field.map_or(0, |field| field + 1) {
                next if next < fields(at.layer) => at.field = Some(next),
                _ if at.layer < last => (at.layer, at.field) = (at.layer + 1, None),
                _ => {}
            },
            Action::Up => match at.field {
                Some(field) => at.field = field.checked_sub(1),
                None if at.layer > 0 => {
                    at.layer -= 1;
                    at.field = fields(at.layer).checked_sub(1);
                }
                None => {}
            },
            Action::First => (at.layer, at.field) = (0, None),
            Action::Last => (at.layer, at.field) = (last, fields(last).checked_sub(1)),
            _ => {}
        }
        self.opened = Some(at);
    }

    /// What is not there any more is not picked nor open.
    fn mend(&mut self) {
        self.picked = self.picked.filter(|picked| self.shown().any(|journey| journey.number == *picked));
        self.opened = self.opened.filter(|opened| self.packets.get(opened.number).is_some());
    }
}

/// The place after this one, `None` after the last and before the first.
fn next(now: Option<usize>, count: usize) -> Option<usize> {
    Some(now.map_or(0, |now| now + 1)).filter(|next| *next < count)
}

/// A name as it can be shown. The kernel lets interfaces have nearly any.
pub fn shown(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' }).collect()
}

/// The arrow of a place: out of its host or into it.
pub fn is_out(place: &Place) -> bool {
    place.direction == Direction::Out
}

#[cfg(test)]
mod tests;
