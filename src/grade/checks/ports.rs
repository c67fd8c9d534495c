//! UDP and TCP through the tunnel: what is sent to a port where nobody listens is answered by the kernel there, so that no
//! further program is needed at either end. It has to come there as it was sent, and once. Step 4 asks for it.

use std::net::Ipv4Addr;

use super::step1::seed;
use super::step3::{AGAIN, target};
use super::{Failure, Found};
use crate::error::Result;
use crate::grade::packets::{self, HEADER, Header, ICMP, TCP, UDP};
use crate::grade::stage::Stage;
use crate::pcapng::Direction;
use crate::trace::sighting::Difference;

/// The type and the code of an ICMP port unreachable (RFC 792).
const PORT_UNREACHABLE: [u8; 2] = [3, 3];

/// One end of the tunnel's traffic: a host, and where packets from the tunnel come into it.
struct End {
    host: usize,
    address: Ipv4Addr,
    interface: String,
}

/// Sends a UDP packet and a TCP segment from the client's host to the first one behind the tunnel, and as many back. Each has
/// to be refused by the kernel that it is for.
///
/// # Errors
/// The grader's own.
pub fn refused_both_ways(stage: &mut Stage<'_>, inside: Ipv4Addr) -> Result<Found> {
    let client = stage.topology().tunnel.client.clone();
    let Some((tun, _)) = stage.tun(&client)? else {
        return Ok(Err(Box::new(Failure::new("the client's TUN device", "it is gone"))));
    };
    let near = End { host: stage.host(&client)?, address: inside, interface: tun.name };
    let (host, address) = target(stage)?;
    let far = End { host, address, interface: stage.topology().hosts[host].interfaces[0].name.clone() };
    for (from, to) in [(&near, &far), (&far, &near)] {
        for protocol in [UDP, TCP] {
            if let Err(failure) = refused(stage, from, to, protocol)? {
                return Ok(Err(failure));
            }
        }
    }
    Ok(Ok(()))
}

/// Sends one such packet, and waits for the answer where it has to come out.
fn refused(stage: &mut Stage<'_>, from: &End, to: &End, protocol: u8) -> Result<Found> {
    let name = |end: &End| stage.topology().hosts[end.host].name.clone();
    let (sender, receiver) = (name(from), name(to));
    // Above the ports that the kernel gives to sockets.
    let (source, port) = (61_000 + (seed() % 2000) as u16, 63_000 + (seed() % 2000) as u16);
    let header = Header {
        source: from.address,
        destination: to.address,
        protocol,
        ttl: 64,
        identification: (seed() % 65_535) as u16 + 1,
    };
    let (content, what, answer) = match protocol {
        TCP => (packets::tcp_syn(&header, source, port, seed() as u32), "a TCP SYN", "a TCP RST"),
        _ => {
            // An odd number of bytes: whoever counts in words cuts the last one off.
            let payload = packets::payload(21 + 2 * (seed() % 50) as usize, seed());
            (packets::udp(source, port, &payload), "a UDP packet", "an ICMP port unreachable")
        }
    };
    let asked = packets::with_own_header(packets::ipv4(&header, &content), seed());
    let since = stage.frames.len();
    stage.done.push(format!("sent {what} from {sender} to port {port} of {receiver}, where nobody listens"));
    stage.send(&sender, &asked)?;
    let is_answered = |stage: &Stage<'_>| {
        stage.seen(since, from.host, &from.interface, Direction::In).any(|packet| is_refusal(&asked, packet))
    };
    if stage.wait_for_programs(|stage| Ok(is_answered(stage)))? {
        return unchanged(stage, since, &asked, to, what);
    }
    // All of the packet but what a hop changes in its header.
    let came = stage
        .seen(since, to.host, &to.interface, Direction::In)
        .any(|packet| packet.get(12..) == Some(&asked[12..]) && packet[9] == protocol);
    let observed = match came {
        true => format!("it came to {receiver}; its answer did not come into {} of {sender}", from.interface),
        false => format!("it did not come into {} of {receiver}", to.interface),
    };
    let expected =
        format!("{what} from {sender} to a port of {receiver} where nobody listens is answered with {answer}");
    Ok(Err(Box::new(Failure::new(expected, observed))))
}

/// Whether a packet that has been sent since a moment has come to an end once, and as the server's kernel has led it on.
fn unchanged(stage: &mut Stage<'_>, since: usize, sent: &[u8], to: &End, what: &str) -> Result<Found> {
    stage.pause(AGAIN)?;
    let expected = packets::one_hop_further(sent);
    // By its protocol, addresses and ports; the rest may have been changed.
    let is_it =
        |packet: &&[u8]| packet.get(9) == Some(&sent[9]) && packet.get(12..HEADER + 4) == Some(&sent[12..HEADER + 4]);
    let came: Vec<&[u8]> = stage.seen(since, to.host, &to.interface, Direction::In).filter(is_it).collect();
    let place = format!("{} of {}", to.interface, stage.topology().hosts[to.host].name);
    let changed = came.iter().find_map(|packet| Difference::between(&expected, packet));
    Ok(match (changed, came.len()) {
        (Some(difference), _) => Err(Box::new(Failure::new(
            format!("{what} comes into {place} unchanged but for a TTL of {}", expected[8]),
            difference.to_string(),
        ))),
        (None, 1) => Ok(()),
        (None, times) => {
            let observed = match times {
                0 => "it did not, and was answered".to_string(),
                _ => format!("it came {times} times"),
            };
            Err(Box::new(Failure::new(
                format!("{what} comes into {place} once, with its addresses and ports"),
                observed,
            )))
        }
    })
}

/// Whether a packet is what a kernel answers to another one, without options, that was for a port of its own where nobody
/// listens: an ICMP error that quotes a UDP packet, or a TCP segment with RST.
fn is_refusal(asked: &[u8], packet: &[u8]) -> bool {
    const RST: u8 = 0x04;
    let (ends, ports) = (asked.get(12..HEADER), asked.get(HEADER..HEADER + 4));
    let (Some(ends), Some(ports)) = (ends, ports) else { return false };
    let comes_back = packet.get(12..16) == Some(&ends[4..]) && packet.get(16..20) == Some(&ends[..4]);
    let is_of_it = match packet.get(9).copied() {
        Some(ICMP) if asked[9] == UDP => {
            let quoted = packet.get(HEADER + 8..).unwrap_or_default();
            packet.get(HEADER..HEADER + 2) == Some(&PORT_UNREACHABLE)
                && quoted.get(12..HEADER) == Some(ends)
                && quoted.get(HEADER..HEADER + 4) == Some(ports)
        }
        Some(TCP) if asked[9] == TCP => {
            packet.get(HEADER..HEADER + 2) == Some(&ports[2..])
                && packet.get(HEADER + 2..HEADER + 4) == Some(&ports[..2])
                && packet.get(HEADER + 13).is_some_and(|flags| flags & RST != 0)
        }
        _ => false,
    };
    comes_back && is_of_it
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(protocol: u8) -> Header {
        let (source, destination) = (Ipv4Addr::new(10, 1, 3, 1), Ipv4Addr::new(10, 1, 1, 2));
        Header { source, destination, protocol, ttl: 64, identification: 7 }
    }

    fn back(protocol: u8) -> Header {
        let there = header(protocol);
        Header { source: there.destination, destination: there.source, ..there }
    }

    #[test]
    fn a_port_unreachable_refuses_the_udp_packet_that_it_quotes() {
        let asked = packets::ipv4(&header(UDP), &packets::udp(61_000, 63_000, b"vpnlab"));
        let unreachable = |code: u8, quoted: &[u8]| {
            let mut message = packets::icmp(3, 0, 0, quoted);
            message[1] = code;
            packets::ipv4(&back(ICMP), &message)
        };
        assert!(is_refusal(&asked, &unreachable(3, &asked)));
        assert!(is_refusal(&asked, &unreachable(3, &asked[..28])));
        assert!(!is_refusal(&asked, &unreachable(1, &asked)));
        let other = packets::ipv4(&header(UDP), &packets::udp(61_001, 63_000, b"vpnlab"));
        assert!(!is_refusal(&asked, &unreachable(3, &other)));
        assert!(!is_refusal(&asked, &asked) && !is_refusal(&asked, &[]) && !is_refusal(&[], &asked));
    }

    #[test]
    fn a_reset_refuses_the_segment_from_whose_ports_it_comes_back() {
        let asked = packets::ipv4(&header(TCP), &packets::tcp_syn(&header(TCP), 61_000, 63_000, 5));
        let answer = |from, to, flags: u8| {
            let mut segment = packets::tcp_syn(&back(TCP), from, to, 0);
            segment[13] = flags;
            packets::ipv4(&back(TCP), &segment)
        };
        assert!(is_refusal(&asked, &answer(63_000, 61_000, 0x14)));
        assert!(!is_refusal(&asked, &answer(63_000, 61_000, 0x12)));
        assert!(!is_refusal(&asked, &answer(61_000, 63_000, 0x14)));
        assert!(!is_refusal(&asked, &asked));
    }
}
