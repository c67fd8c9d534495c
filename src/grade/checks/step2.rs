//! Step 2: the client puts packets into datagrams, and a server shows what is inside.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::step1::{self, seed};
use super::{Failure, Found, Judge, SILENCE, device, gone, last_line};
use crate::error::{Error, Result};
use crate::grade::packets::{self, ECHO_REQUEST, HEADER, Header, ICMP, TCP, UDP};
use crate::grade::stage::Stage;
use crate::grade::submission::Role;
use crate::pcapng::Direction;
use crate::topology::Host;
use crate::trace::evidence;
use crate::trace::sighting::{self, Datagram, Difference};

/// Plays and judges the step.
///
/// # Errors
/// The grader's own.
pub fn judge(judge: &mut Judge<'_>) -> Result<()> {
    let has = |role| judge.submission.command(role).is_some();
    let (client, sink) = (has(Role::Client), has(Role::UdpServer));
    if client {
        sends(judge)?;
    }
    if sink {
        shows(judge)?;
    }
    if client && sink && judge.passed("step2.client-destination") && judge.passed("step2.sink-prints") {
        together(judge)?;
    }
    Ok(())
}

/// The client alone: what it sends is looked at where it arrives.
fn sends(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(0)?;
    // Somebody listens, so that nobody is told that nobody does.
    let server = stage.topology().tunnel.server.clone();
    stage.listen(&server, stage.topology().tunnel.port)?;
    let place = stage.start(Role::Client)?;
    let address = stage.topology().tunnel.client_address;
    if !device::ready(judge, "step2.client-device", &mut stage, place, Some(address)) {
        return Ok(());
    }
    lead(&mut stage)?;
    let mut datagrams = Vec::new();
    let sent = judge.check("step2.client-payload", &mut stage, |stage| {
        let since = stage.frames.len();
        let mut samples = samples(stage)?;
        for at in 0..samples.len() {
            // A program may still be setting the MTU of its device.
            if samples[at].0.len() > step1::largest_payload(stage)? + HEADER + 8 {
                let fresh = self::samples(stage)?.into_iter().skip(at);
                samples.splice(at.., fresh);
            }
            match carried(stage, &samples[..=at])? {
                Ok(datagram) => datagrams.push(datagram),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        // What was sent twice has come twice by now; but for the last one, perhaps.
        stage.pause(SILENCE)?;
        Ok(each_once(stage, since, &samples))
    });
    if sent {
        judge.check("step2.client-destination", &mut stage, |stage| {
            Ok(datagrams.iter().try_for_each(|datagram| goes_to_the_server(stage, datagram)))
        });
    }
    Ok(())
}

/// Sets the route that the handout has the student set, unless the program has done so itself, and waits until the programs are
/// ready for packets.
///
/// # Errors
/// The grader's own.
pub fn lead(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.topology().tunnel.client.clone();
    let is_up = |stage: &Stage<'_>| Ok::<_, Error>(stage.tun(&client)?.map(|(tun, _)| tun).filter(|tun| tun.up));
    let mut up = is_up(stage)?;
    // A program may set its device down once more, or make it anew: the route goes with it.
    let deadline = Instant::now() + stage.start_timeout();
    while Instant::now() < deadline {
        // The kernel refuses a route through a device that is down.
        let Some(tun) = up else { break };
        stage.lead_into(&client, &tun)?;
        stage.settle()?;
        up = is_up(stage)?;
        if up.as_ref().is_some_and(|now| now.index == tun.index) && stage.has_routes(&client)? {
            break;
        }
        stage.wait_to_start(stage.start_timeout(), |stage| {
            up = is_up(stage)?;
            Ok(up.is_some() || (0..stage.count()).any(|place| !stage.program(place).runs()))
        })?;
    }
    Ok(())
}

/// A packet, and what it is called.
type Sample = (Vec<u8>, String);

/// Packets of several protocols and sizes for the tunnel, each with a name.
fn samples(stage: &Stage<'_>) -> Result<Vec<Sample>> {
    let IpAddr::V4(source) = stage.topology().tunnel.client_address.addr() else { return Ok(Vec::new()) };
    // As large as the device takes.
    let most = step1::largest_payload(stage)?;
    let near = Ipv4Addr::from(u32::from(source) + 4);
    let beyond = stage.topology().behind_the_tunnel().map_or(near, |host| host.interfaces[0].address.addr());
    let header = |destination, protocol| Header {
        source,
        destination,
        protocol,
        ttl: 64,
        identification: (seed() % 65_535) as u16 + 1,
    };
    let echo = |destination, length| {
        let message = packets::icmp(ECHO_REQUEST, seed() as u16, 1, &packets::payload(length, seed()));
        packets::ipv4(&header(destination, ICMP), &message)
    };
    let udp = |length| {
        let datagram = packets::udp(40_000, 7, &packets::payload(length, seed()));
        packets::ipv4(&header(beyond, UDP), &datagram)
    };
    let segment = header(beyond, TCP);
    // Its header has twelve bytes more than UDP's.
    let data = packets::payload(301.min(most.saturating_sub(12)), seed());
    let samples = vec![
        (echo(near, 56), format!("a ping of {near}")),
        (echo(beyond, 56), format!("a ping of {beyond}")),
        (udp(0), "an empty UDP packet".into()),
        (udp(1), "a UDP packet of one byte".into()),
        (udp(1200.min(most)), format!("a UDP packet of {} bytes", 1200.min(most))),
        (packets::ipv4(&segment, &packets::tcp_syn(&segment, 40_000, 80, 1)), "a TCP SYN".into()),
        (packets::ipv4(&segment, &packets::tcp_data(&segment, 40_000, 80, 2, &data)), "a TCP packet with data".into()),
        (echo(beyond, 1400.min(most)), format!("a ping of {} bytes", 1400.min(most))),
    ];
    Ok(samples.into_iter().map(|(packet, what)| (packets::with_own_header(packet, seed()), what)).collect())
}

/// Sends the last of these samples through the client's TUN device, those before it having been sent, and waits for the
/// datagram whose payload it is.
fn carried(stage: &mut Stage<'_>, sent: &[Sample]) -> Result<Result<Datagram, Box<Failure>>> {
    let Some(((packet, what), earlier)) = sent.split_last() else {
        return Err(Error::failed("there is no packet to send"));
    };
    let tunnel = stage.topology().tunnel.clone();
    let client = stage.host(&tunnel.client)?;
    let since = stage.frames.len();
    let Some((tun, _)) = stage.tun(&tunnel.client)? else {
        return gone(stage, "the client's TUN device");
    };
    if let Some(Ok(to)) = packet.get(16..20).map(<[u8; 4]>::try_from) {
        stage.await_route(to.into())?;
    }
    stage.done.push(format!("sent {what} through {}", tun.name));
    stage.send(&tunnel.client, packet)?;
    // A program may bind its socket to any address of its host, that of its TUN device included.
    let own: Vec<IpAddr> =
        stage.links(&tunnel.client)?.iter().flat_map(|(_, all)| all.iter().map(ipnet::IpNet::addr)).collect();
    let is_clients = |datagram: &Datagram| own.contains(&IpAddr::V4(*datagram.from.ip()));
    let find = |stage: &Stage<'_>| {
        arrived(stage, client, since).map(|(_, datagram)| datagram).find(|it| is_clients(it) && it.payload == *packet)
    };
    let found = stage.wait_for_programs(|stage| Ok(find(stage).is_some()))?;
    if let (true, Some(datagram)) = (found, find(stage)) {
        return Ok(Ok(datagram));
    }
    let before: Vec<Vec<u8>> = earlier
        .iter()
        .map(|(packet, _)| packet.clone())
        .chain(arrived(stage, client, 0).take_while(|(at, _)| *at < since).map(|(_, datagram)| datagram.payload))
        .collect();
    let payloads = arrived(stage, client, since).map(|(_, it)| it).filter(is_clients).map(|it| it.payload);
    if let Some(payload) = made_of(packet, payloads, &before)
        && let Some(difference) = Difference::between(packet, &payload)
    {
        let expected = format!("the datagram's payload is the packet: {what}, {} bytes", packet.len());
        return Ok(Err(Box::new(Failure::new(expected, format!("{} bytes: {difference}", payload.len())))));
    }
    let came_out = stage.seen(since, client, &tun.name, Direction::Out).any(|seen| seen == packet);
    let forged = arrived(stage, client, since).map(|(_, datagram)| datagram).find(|it| it.payload == *packet);
    let left =
        stage.frames[since..].iter().filter(|(host, frame)| *host == client && frame.direction == Direction::Out);
    let mut left = left.filter_map(|(_, frame)| sighting::any_datagram(frame.packet()?));
    let astray = left.find(|datagram| datagram.payload == *packet);
    let observed = match (came_out, forged, astray) {
        (_, Some(datagram), _) => format!("one came from {}, which is no address of {}", datagram.from, tunnel.client),
        (true, None, Some(datagram)) => format!("one was sent to {}, and arrived at no host", datagram.to),
        (true, None, None) => format!("no datagram arrived at any host, though the packet came out of {}", tun.name),
        (false, None, _) => format!("the packet did not come out of {}: the kernel does not lead it there", tun.name),
    };
    Ok(Err(Box::new(Failure::new(format!("a datagram with {what} in it"), observed))))
}

/// The datagrams that have arrived at other hosts than the client since a moment, each with the place of its frame: the
/// client rules its own host, so what counts is what arrives elsewhere.
fn arrived<'s>(stage: &'s Stage<'_>, client: usize, since: usize) -> impl Iterator<Item = (usize, Datagram)> + 's {
    let others = stage
        .frames
        .iter()
        .enumerate()
        .skip(since)
        .filter(move |(_, (host, frame))| *host != client && frame.direction == Direction::In && !frame.is_foreign);
    others.filter_map(|(at, (_, frame))| Some((at, sighting::any_datagram(frame.packet()?)?)))
}

/// Among payloads that are not this packet, the one that was made of it, as far as can be told: one that contains it or is a
/// piece of it, or else the longest; but none that was there before, and no keepalive.
fn made_of(packet: &[u8], payloads: impl Iterator<Item = Vec<u8>>, before: &[Vec<u8>]) -> Option<Vec<u8>> {
    let is_in = |part: &[u8], whole: &[u8]| !part.is_empty() && whole.windows(part.len()).any(|it| it == part);
    let is_near = |payload: &[u8]| is_in(packet, payload) || is_in(payload, packet);
    let candidates = payloads.filter(|payload| {
        let is_new = !before.contains(payload);
        is_new && !is_kernels_own(payload) && (is_near(payload) || payload.len() >= HEADER)
    });
    // The first of those that are alike.
    candidates.min_by_key(|payload| (!is_near(payload), std::cmp::Reverse(payload.len())))
}

/// Whether a payload is a packet that the kernel sends through a new device by itself: over IPv6, or to many.
fn is_kernels_own(payload: &[u8]) -> bool {
    packets::is_packet(payload) && (payload[0] >> 4 == 6 || payload[16] >= 224)
}

/// Whether each of these samples has come in one datagram only.
fn each_once(stage: &Stage<'_>, since: usize, samples: &[Sample]) -> Found {
    let client = stage.host(&stage.topology().tunnel.client).ok();
    for (packet, what) in samples {
        // A datagram that is led on arrives at one interface after another, but once at each.
        let mut interfaces = HashSet::new();
        for (at, datagram) in client.into_iter().flat_map(|client| arrived(stage, client, since)) {
            let (host, frame) = &stage.frames[at];
            if datagram.payload == *packet && !interfaces.insert((*host, frame.interface.clone())) {
                let expected = format!("one datagram with {what} in it");
                return Err(Box::new(Failure::new(expected, format!("it was sent twice, to {}", datagram.to))));
            }
        }
    }
    Ok(())
}

/// Whether a datagram is for the server's port.
fn goes_to_the_server(stage: &Stage<'_>, datagram: &Datagram) -> Found {
    let tunnel = &stage.topology().tunnel;
    let is_servers = stage.host(&tunnel.server).is_ok_and(|host| stage.is_address_of(host, *datagram.to.ip()));
    match is_servers && datagram.to.port() == tunnel.port {
        true => Ok(()),
        false => Err(Box::new(Failure::new(
            format!("a datagram for {}, port {}", tunnel.server, tunnel.port),
            format!("one for {}", datagram.to),
        ))),
    }
}

/// The UDP server alone: packets that it cannot know beforehand, from a port that it cannot know.
fn shows(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(0)?;
    let place = stage.start(Role::UdpServer)?;
    let timeout = judge.start_timeout();
    judge.check("step2.sink-prints", &mut stage, |stage| {
        let to = server_address(stage)?;
        if let Err(failure) = listens(stage, place, to, timeout)? {
            return Ok(Err(failure));
        }
        let client = stage.topology().tunnel.client.clone();
        let other = other_sender(stage)?;
        for (protocol, sender) in [(ICMP, &client), (UDP, &other), (TCP, &client), (UDP, &client)] {
            let topology = stage.topology();
            let server = topology.host(&topology.tunnel.server)?;
            let to = SocketAddrV4::new(topology.resolve(topology.host(sender)?, server), to.port());
            let numbers = packets::payload(6, seed());
            let (source, destination) =
                (Ipv4Addr::new(10, 77, numbers[0], numbers[1]), Ipv4Addr::new(10, 88, numbers[2], numbers[3]));
            let header = Header { source, destination, protocol, ttl: 64, identification: 9 };
            let content = match protocol {
                ICMP => packets::icmp(ECHO_REQUEST, 1, 1, &packets::payload(56, seed())),
                UDP => packets::udp(40_000, 40_001, &packets::payload(56, seed())),
                _ => packets::tcp_syn(&header, 40_000, 80, 1),
            };
            let packet = packets::ipv4(&header, &content);
            let outer = stage.own_address(sender, *to.ip())?;
            let port = 20_000 + u16::from_be_bytes([numbers[4], numbers[5]]) % 20_000;
            stage.done.push(format!(
                "sent {to} a datagram from port {port} of {sender} with a packet {source} > {destination}"
            ));
            // What was printed before is not about it.
            let mark = stage.program(place).printed();
            stage.send_datagram(sender, port, to, &packet)?;
            let words = [outer.to_string(), source.to_string(), destination.to_string()];
            let shown = |output: &str| words.iter().all(|word| output.contains(word.as_str()));
            if !stage.wait_for_programs(|stage| Ok(shown(&stage.program(place).output_since(mark))))? {
                let output = stage.program(place).output_since(mark);
                let missing: Vec<_> = words.iter().filter(|word| !output.contains(word.as_str())).cloned().collect();
                // A program may hear the client's side alone: then it has shown nothing of this one.
                if *sender != client && missing.len() == words.len() && stage.program(place).runs() {
                    continue;
                }
                let failure = Failure::new(
                    format!("lines with the outer sender {} and the inner {} and {}", words[0], words[1], words[2]),
                    format!("{} is not among what it printed; last: {}", missing.join(", "), last_line(&output)),
                );
                return Ok(Err(Box::new(failure)));
            }
        }
        Ok(Ok(()))
    });
    Ok(())
}

/// A host on the other side of the server than the client, by its name; which one, no program can know.
fn other_sender(stage: &Stage<'_>) -> Result<String> {
    let topology = stage.topology();
    let (client, server) = (&topology.tunnel.client, topology.host(&topology.tunnel.server)?);
    let others = topology.hosts.iter().filter(|host| host.name != *client && shares_a_network(host, server));
    let names: Vec<&String> = others.map(|host| &host.name).collect();
    Ok(names.get(seed() as usize % names.len().max(1)).map_or(client, |name| name).clone())
}

/// Whether two hosts, not one, are on a network that has names for them.
fn shares_a_network(one: &Host, other: &Host) -> bool {
    let named =
        |host: &Host| host.interfaces.iter().filter(|it| it.hostname.is_some()).map(|it| it.network.clone()).collect();
    let (one_has, other_has): (HashSet<String>, HashSet<String>) = (named(one), named(other));
    one.name != other.name && !one_has.is_disjoint(&other_has)
}

/// The address and port of the server, as the client has them.
pub fn server_address(stage: &Stage<'_>) -> Result<SocketAddrV4> {
    let tunnel = &stage.topology().tunnel;
    let (client, server) = (stage.topology().host(&tunnel.client)?, stage.topology().host(&tunnel.server)?);
    Ok(SocketAddrV4::new(stage.topology().resolve(client, server), tunnel.port))
}

/// Waits until a program of the server's host has a socket for this address.
pub fn listens(stage: &mut Stage<'_>, place: usize, to: SocketAddrV4, timeout: Duration) -> Result<Found> {
    let name = stage.program(place).host().to_string();
    let host = stage.host(&name)?;
    let listening = |stage: &Stage<'_>| Ok::<_, Error>(evidence::look_at(&stage.lab, host)?.is_bound(to));
    let there = stage.wait_to_start(timeout, |stage| Ok(listening(stage)? || !stage.program(place).runs()))?;
    if listening(stage)? {
        return Ok(Ok(()));
    }
    let sockets = evidence::look_at(&stage.lab, host)?.sockets;
    let others: Vec<String> = sockets.iter().map(|socket| socket.local.to_string()).collect();
    let program = stage.program(place);
    let observed = match (there, others.as_slice()) {
        (true, _) => format!("the program ended: {}", last_line(&program.output())),
        (false, []) => format!("none after {} s; the program runs", timeout.as_secs_f64()),
        (false, others) => format!("none after {} s, but one for {}", timeout.as_secs_f64(), others.join(", ")),
    };
    Ok(Err(Box::new(Failure::new(format!("a UDP socket for {to}"), observed))))
}

/// Client and UDP server: a packet from useru is shown at the server.
fn together(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(0)?;
    let timeout = judge.start_timeout();
    judge.check("step2.together", &mut stage, |stage| {
        let sink = stage.start(Role::UdpServer)?;
        let to = server_address(stage)?;
        if let Err(failure) = listens(stage, sink, to, timeout)? {
            return Ok(Err(failure));
        }
        let client = stage.start(Role::Client)?;
        let address = stage.topology().tunnel.client_address;
        let host = stage.topology().tunnel.client.clone();
        for found in [device::created(stage, timeout, client)?, device::is_up(stage, timeout, client, Some(address))?] {
            if found.is_err() {
                return Ok(found);
            }
        }
        lead(stage)?;
        let IpAddr::V4(source) = address.addr() else { return Ok(Ok(())) };
        let target = Ipv4Addr::from(u32::from(source) + 20 + (seed() % 200) as u32);
        let header = Header { source, destination: target, protocol: ICMP, ttl: 64, identification: 3 };
        let packet = packets::ipv4(&header, &packets::icmp(ECHO_REQUEST, 5, 1, &packets::payload(56, seed())));
        stage.done.push(format!("sent a ping to {target} through the tunnel"));
        stage.await_route(target)?;
        // What was printed before is not about it.
        let mark = stage.program(sink).printed();
        stage.send(&host, &packet)?;
        let words = [source.to_string(), target.to_string()];
        let shown = |output: &str| words.iter().all(|word| output.contains(word.as_str()));
        if stage.wait_for_programs(|stage| Ok(shown(&stage.program(sink).output_since(mark))))? {
            return Ok(Ok(()));
        }
        let output = stage.program(sink).output_since(mark);
        let expected = format!("the UDP server prints {source} and {target}");
        Ok(Err(Box::new(Failure::new(expected, format!("last: {}", last_line(&output))))))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_made_of_a_packet_is_told_from_all_else() {
        let header = Header {
            source: Ipv4Addr::new(10, 1, 3, 1),
            destination: Ipv4Addr::new(10, 1, 1, 2),
            protocol: UDP,
            ttl: 64,
            identification: 7,
        };
        let of = |seed| packets::ipv4(&header, &packets::udp(1, 2, &packets::payload(40, seed)));
        let (packet, earlier) = (of(1), of(2));
        let keepalive = b"\0keepalive".to_vec();
        let made = |payloads: &[&[u8]]| {
            let before = [earlier.clone(), b"a keepalive of more bytes than a header has".to_vec()];
            made_of(&packet, payloads.iter().map(|it| it.to_vec()), &before)
        };
        assert_eq!(made(&[&keepalive, &earlier, b"", b"a keepalive of more bytes than a header has"]), None);
        let in_front = [&[0, 68], &packet[..]].concat();
        assert_eq!(made(&[&keepalive, &[7; 900], &in_front]), Some(in_front.clone()));
        let text = format!("{packet:?}").into_bytes();
        assert_eq!(made(&[&earlier, &keepalive, &text]), Some(text.clone()));
        assert_eq!(made(&[&packet[..8], &packet[20..]]), Some(packet[20..].to_vec()));
        // A router solicitation of the kernel's.
        let mut solicitation = vec![0; 48];
        (solicitation[0], solicitation[5]) = (0x60, 8);
        assert_eq!(made(&[&solicitation]), None);
    }
}
