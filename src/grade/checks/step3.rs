//! Step 3: the server writes what is in the datagrams to its own TUN device, and its kernel routes it on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::step1::seed;
use super::step2::{lead, listens, server_address};
use super::step4::followed;
use super::{Failure, Found, Judge, device, gone};
use crate::error::Result;
use crate::grade::packets::{self, ECHO_REQUEST, HEADER, Header, ICMP, TCP, UDP};
use crate::grade::stage::Stage;
use crate::grade::submission::Role;
use crate::pcapng::Direction;
use crate::trace::sighting::Difference;

/// The step from which on a lab is prepared as the handout has it by now: the server forwards.
pub const PREPARED: u8 = 4;

/// How long after a packet the same one may come that a program sends twice.
pub const AGAIN: Duration = Duration::from_millis(50);

/// Plays and judges the step.
///
/// # Errors
/// The grader's own.
pub fn judge(judge: &mut Judge<'_>) -> Result<()> {
    let has = |role| judge.submission.command(role).is_some();
    let client = has(Role::Client);
    if !has(Role::Server) {
        return Ok(());
    }
    delivers(judge)?;
    if client && judge.passed("step3.server-delivers") {
        together(judge)?;
    }
    Ok(())
}

/// The server alone; the grader is the client.
fn delivers(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(PREPARED)?;
    let place = stage.start(Role::Server)?;
    let timeout = judge.start_timeout();
    let ready = judge.check("step3.server-device", &mut stage, |stage| {
        for found in [device::created(stage, timeout, place)?, device::is_up(stage, timeout, place, None)?] {
            if found.is_err() {
                return Ok(found);
            }
        }
        let to = server_address(stage)?;
        listens(stage, place, to, timeout)
    });
    if !ready {
        return Ok(());
    }
    // One client: that it may come from another port is looked at in step 4.
    let port = 20_000 + (seed() % 20_000) as u16;
    let delivered = judge.check("step3.server-delivers", &mut stage, |stage| {
        for (protocol, length) in [(UDP, 56), (ICMP, 32), (UDP, 1), (TCP, 0), (TCP, 301), (UDP, 1000), (UDP, 1400)] {
            if let Err(failure) = deliver(stage, port, protocol, length, false)? {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    });
    if delivered {
        judge.check("step3.through-tun", &mut stage, |stage| {
            for protocol in [UDP, ICMP, TCP] {
                let length = 50 + (seed() % 1000) as usize;
                if let Err(failure) = deliver(stage, port, protocol, length, true)? {
                    return Ok(Err(failure));
                }
            }
            Ok(Ok(()))
        });
    }
    Ok(())
}

/// Sends the server a datagram with a packet for userv in it. It has to arrive there with one hop less; and to have come
/// into the server's TUN device as it is, if that is looked at.
fn deliver(stage: &mut Stage<'_>, port: u16, protocol: u8, length: usize, through: bool) -> Result<Found> {
    let tunnel = stage.topology().tunnel.clone();
    let (client, server) = (tunnel.client.as_str(), stage.host(&tunnel.server)?);
    let Some((tun, addresses)) = stage.tun(&tunnel.server)? else {
        return gone(stage, "the server's TUN device");
    };
    let IpAddr::V4(source) = tunnel.client_address.addr() else { return Ok(Ok(())) };
    let (target, destination) = target(stage)?;
    let header = Header { source, destination, protocol, ttl: 64, identification: seed() as u16 | 1 };
    let payload = packets::payload(length, seed());
    let content = match protocol {
        ICMP => packets::icmp(ECHO_REQUEST, seed() as u16, 1, &payload),
        TCP if payload.is_empty() => packets::tcp_syn(&header, 40_000, 40_001, 1),
        TCP => packets::tcp_data(&header, 40_000, 40_001, 2, &payload),
        _ => packets::udp(40_000, 40_001, &payload),
    };
    let packet = packets::with_own_header(packets::ipv4(&header, &content), seed());
    let to = server_address(stage)?;
    let since = stage.frames.len();
    stage.done.push(format!("sent {to} a datagram with a packet {source} > {destination} of {} bytes", packet.len()));
    stage.send_datagram(client, port, to, &packet)?;
    let arrived = packets::one_hop_further(&packet);
    let userv = stage.topology().hosts[target].clone();
    let near = &userv.interfaces[0].name;
    let is_there = |stage: &Stage<'_>| stage.seen(since, target, near, Direction::In).any(|seen| seen == arrived);
    let came = stage.wait_for_programs(|stage| Ok(is_there(stage)))?;
    let is_from = |seen: &&[u8]| seen.get(12..16) == Some(&source.octets()[..]);
    // By its sender; or, where that has been changed, by its identification.
    let is_like =
        |seen: &[u8]| is_from(&seen) || (seen.get(4..6) == packet.get(4..6) && seen.get(16..20) == packet.get(16..20));
    let written = || stage.seen(since, server, &tun.name, Direction::In);
    let into = match (written().any(|seen| seen == packet), written().find(is_from)) {
        (true, _) => format!("it came into {} of {} as it is", tun.name, tunnel.server),
        (false, Some(other)) => match Difference::between(&packet, other) {
            Some(difference) => format!("what was written to {} is another packet: {difference}", tun.name),
            None => String::new(),
        },
        (false, None) => format!("nothing came into {} of {}", tun.name, tunnel.server),
    };
    let is_written = written().any(|seen| seen == packet);
    if came && is_written && through {
        // What a program writes a second time comes right after the first.
        stage.pause(AGAIN)?;
        let times = stage.seen(since, server, &tun.name, Direction::In).filter(|seen| *seen == packet).count();
        if times > 1 {
            let expected = format!("the packet comes into {} of {} once", tun.name, tunnel.server);
            return Ok(Err(Box::new(Failure::new(expected, format!("it came {times} times")))));
        }
        return Ok(Ok(()));
    }
    if came && !through {
        return Ok(Ok(()));
    }
    let mut failure = match came {
        true => Failure::new(format!("the packet comes into {} of {} first", tun.name, tunnel.server), into),
        false => {
            let other = stage.seen(since, target, near, Direction::In).find(|seen| is_like(seen));
            // The checksum follows what else has been changed, and tells less.
            let mut other = other.map(<[u8]>::to_vec);
            if let Some(other) =
                other.as_mut().filter(|other| other.len() >= HEADER && other[12..20] != arrived[12..20])
            {
                other[10..12].copy_from_slice(&arrived[10..12]);
            }
            let observed = match other.as_deref().and_then(|other| Difference::between(&arrived, other)) {
                Some(difference) => format!("another one arrives: {difference}; {into}"),
                None => format!("it does not; {into}"),
            };
            Failure::new(format!("the packet arrives at {} with a TTL of {}", userv.name, arrived[8]), observed)
        }
    };
    if !came && is_written && !stage.seen(since, target, near, Direction::In).any(is_like) {
        failure.hint = Some(format!(
            "the kernel of {} has the packet: sysctl net.ipv4.ip_forward there has to stay 1",
            tunnel.server
        ));
    }
    if addresses.iter().any(|own| own.addr() == IpAddr::V4(source)) {
        failure.hint = Some(format!("{} bears the client's address {source}: give it another", tun.name));
    }
    Ok(Err(Box::new(failure)))
}

/// The first host behind the tunnel, and its address.
pub fn target(stage: &Stage<'_>) -> Result<(usize, Ipv4Addr)> {
    let host = stage.topology().behind_the_tunnel().map_or("userv", |host| host.name.as_str());
    let place = stage.host(host)?;
    Ok((place, stage.topology().hosts[place].interfaces[0].address.addr()))
}

/// Both programs: a ping from useru arrives at userv, whatever becomes of the reply.
fn together(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(PREPARED)?;
    let timeout = judge.start_timeout();
    judge.check("step3.together", &mut stage, |stage| {
        if let Err(failure) = both(stage, Role::Server, Role::Client, timeout)? {
            return Ok(Err(failure));
        }
        let (place, address) = target(stage)?;
        let client = stage.host(&stage.topology().tunnel.client)?;
        followed(stage, client, address, 84, Some(place))
    });
    Ok(())
}

/// Starts both ends, and waits until they are ready.
pub fn both(stage: &mut Stage<'_>, server: Role, client: Role, timeout: Duration) -> Result<Found> {
    let place = stage.start(server)?;
    let to = server_address(stage)?;
    for found in [
        device::created(stage, timeout, place)?,
        device::is_up(stage, timeout, place, None)?,
        listens(stage, place, to, timeout)?,
    ] {
        if found.is_err() {
            return Ok(found);
        }
    }
    let place = stage.start(client)?;
    let address = stage.topology().tunnel.client_address;
    for found in [device::created(stage, timeout, place)?, device::is_up(stage, timeout, place, Some(address))?] {
        if found.is_err() {
            return Ok(found);
        }
    }
    lead(stage)?;
    Ok(Ok(()))
}
