//! What passed beside the tunnel: in step 4 nothing may.

use std::net::IpAddr;

use super::{Failure, Found};
use crate::error::Result;
use crate::grade::packets::{self, HEADER, UDP};
use crate::grade::stage::Stage;
use crate::pcapng::Direction;
use crate::trace::sighting;

/// No packet of the tunnel's may have passed another interface of the client than its TUN device, but in a datagram, and the
/// client may have sent that to the server's port alone.
///
/// # Errors
/// The grader's own.
pub fn only_in_the_tunnel(stage: &mut Stage<'_>, client: usize) -> Result<Found> {
    let tunnel = stage.topology().tunnel.clone();
    let is_tunnels = |packet: &[u8]| {
        let is_near = |address: &[u8]| {
            let Ok(octets) = <[u8; 4]>::try_from(address) else { return false };
            let address = IpAddr::V4(octets.into());
            tunnel.client_address.contains(&address) || tunnel.routes.iter().any(|net| net.contains(&address))
        };
        packet.len() >= HEADER && packet[0] >> 4 == 4 && (is_near(&packet[12..16]) || is_near(&packet[16..20]))
    };
    let wires: Vec<String> =
        stage.topology().hosts[client].interfaces.iter().map(|interface| interface.name.clone()).collect();
    for wire in &wires {
        for direction in [Direction::In, Direction::Out] {
            let outside = stage.seen(0, client, wire, direction).find(|packet| is_tunnels(packet));
            if let Some(packet) = outside {
                let observed = format!("{wire} of {} saw {}", tunnel.client, crate::packet::describe(packet));
                let expected = "packets of the tunnel are on the wire in datagrams only";
                return Ok(Err(Box::new(Failure::new(expected, observed))));
            }
            // And those that the client sends to the server's port alone. (From which one the server sends is its own affair.)
            let is_beside =
                |packet: &&[u8]| carried_elsewhere(packet, direction, tunnel.port).is_some_and(|it| is_tunnels(&it));
            let beside = stage.seen(0, client, wire, direction).find(is_beside);
            if let Some(packet) = beside {
                let observed = format!("{wire} of {} saw one in {}", tunnel.client, crate::packet::describe(packet));
                let expected = format!("packets of the tunnel are sent to port {} of the server alone", tunnel.port);
                return Ok(Err(Box::new(Failure::new(expected, observed))));
            }
        }
    }
    Ok(Ok(()))
}

/// The packet in another one: behind its header, or in a datagram that is not sent to this port.
fn carried_elsewhere(packet: &[u8], direction: Direction, port: u16) -> Option<Vec<u8>> {
    const IP_IN_IP: u8 = 4;
    let inner = match packet.get(9).copied() {
        _ if packet.first()? >> 4 != 4 => None,
        Some(IP_IN_IP) => packet.get(usize::from(packet[0] & 0x0f) * 4..).map(<[u8]>::to_vec),
        Some(UDP) if direction == Direction::Out => {
            sighting::any_datagram(packet).filter(|it| it.to.port() != port).map(|it| it.payload)
        }
        _ => None,
    };
    inner.filter(|inner| packets::is_packet(inner))
}
