//! A lab with a ping in its tunnel, for the unit tests of this module.

use std::time::Duration;

use super::feed::Links;
use super::headers::samples::{datagram, echo, ethernet};
use super::state::{Filter, State};
use crate::lab::capture::Frame;
use crate::net::{Link, Passed};
use crate::pcapng::{Direction, LinkType};
use crate::topology;

/// A frame at an interface, so many microseconds after the first.
pub fn frame(interface: &str, direction: Direction, at: u64, packet: &[u8]) -> Frame {
    let is_tun = interface.starts_with("tun");
    let (bytes, kind) =
        if is_tun { (packet.to_vec(), LinkType::Raw) } else { (ethernet(0x0800, packet), LinkType::Ethernet) };
    let at = Duration::from_micros(1_000_000 + at);
    let mut frame = Frame::made(interface, &bytes);
    (frame.kind, frame.direction, frame.at) = (kind, direction, at);
    frame
}

/// An interface that has counted so many packets of 100 bytes, each way.
pub fn link(name: &str, index: u32, packets: u64) -> Link {
    let is_tun = name.starts_with("tun");
    Link {
        index,
        name: name.into(),
        up: true,
        mtu: 1500,
        alias: None,
        is_tun,
        is_tap: false,
        has_packet_information: false,
        is_persistent: false,
        has_carrier: true,
        passed: Passed {
            received: packets,
            sent: packets,
            received_bytes: packets * 100,
            sent_bytes: packets * 100,
            ..Passed::default()
        },
    }
}

/// The interfaces of the handout's hosts, with TUN devices at the tunnel's ends, and so many packets at each.
pub fn links(packets: u64) -> Vec<Links> {
    let topology = topology::handout();
    let host = |host: &topology::Host| {
        let planned = host
            .interfaces
            .iter()
            .zip(2..)
            .map(|(it, index)| (link(&it.name, index, packets), vec![it.address.into()]));
        let tun = match host.name.as_str() {
            "useru" => Some(topology.tunnel.client_address),
            "server" => Some(topology.tunnel.server_address),
            _ => None,
        };
        let tun = tun.map(|address| (link("tun0", 9, packets), vec![address]));
        [(link("lo", 1, 0), Vec::new())].into_iter().chain(planned).chain(tun).collect()
    };
    topology.hosts.iter().map(host).collect()
}

/// A ping, one request and its reply, at all their places.
pub fn ping(state: &mut State, number: u16) {
    use Direction::{In, Out};
    let (there, routed) = (echo(8, number, 64), echo(8, number, 63));
    let (back, returned) = (echo(0, number, 64), echo(0, number, 63));
    let frames = [
        (0, frame("tun0", Out, 0, &there)),
        (0, frame("eth0", Out, 110, &datagram(&there))),
        (1, frame("eth0", In, 112, &datagram(&there))),
        (1, frame("tun0", In, 200, &there)),
        (1, frame("eth1", Out, 210, &routed)),
        (2, frame("eth0", In, 212, &routed)),
        (2, frame("eth0", Out, 230, &back)),
        (1, frame("eth1", In, 232, &back)),
        (1, frame("tun0", Out, 240, &returned)),
        (1, frame("eth0", Out, 300, &datagram(&returned))),
        (0, frame("eth0", In, 302, &datagram(&returned))),
        (0, frame("tun0", In, 390, &returned)),
    ];
    for (host, frame) in frames {
        state.see(host, frame);
    }
}

/// The handout's lab after a second in which a ping went through the tunnel.
pub fn state() -> State {
    let mut state = State::new("default", topology::handout(), Filter::default());
    state.count(&links(10), Duration::from_secs(10));
    ping(&mut state, 1);
    state.count(&links(12), Duration::from_secs(11));
    state
}
