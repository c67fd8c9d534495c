//! Step 1: a TUN device is created and read, and pings are answered through it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pnet_packet::util::checksum;

use super::{Failure, Found, Judge, SILENCE, await_an_end, device, ending, gone, last_line};
use crate::error::Result;
use crate::grade::packets::{
    self, ECHO_REPLY, ECHO_REQUEST, HEADER, Header, ICMP, MASK_REQUEST, TIMESTAMP_REQUEST, UDP,
};
use crate::grade::stage::Stage;
use crate::grade::submission::Role;
use crate::pcapng::Direction;
use crate::trace::sighting::Difference;

/// Plays and judges the step.
///
/// # Errors
/// The grader's own.
pub fn judge(judge: &mut Judge<'_>) -> Result<()> {
    if judge.submission.command(Role::Tun).is_some() {
        reads(judge)?;
    }
    if judge.submission.command(Role::TunPing).is_some() {
        answers(judge)?;
    }
    Ok(())
}

/// `tun.py`: a device, and what comes out of it is shown.
fn reads(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(0)?;
    let place = stage.start(Role::Tun)?;
    let timeout = judge.start_timeout();
    let address = stage.topology().tunnel.client_address;
    let host = stage.topology().tunnel.client.clone();
    let made = judge.check("step1.tun-device", &mut stage, |stage| device::created(stage, timeout, place));
    if !made
        || !judge.check("step1.tun-address", &mut stage, |stage| device::is_up(stage, timeout, place, Some(address)))
    {
        return Ok(());
    }
    judge.check("step1.tun-prints", &mut stage, |stage| {
        // Which addresses is not to be known beforehand; of three digits each, so that none is the beginning of another. To the
        // last one nothing is sent: who prints that prints all there are.
        let first = packets::payload(1, seed())[0];
        let mut targets: Vec<Ipv4Addr> = (0..4).map(|place| behind(stage, 100 + (first % 38) + 38 * place)).collect();
        let other = targets.pop().unwrap_or(Ipv4Addr::UNSPECIFIED);
        stage.await_route(targets[0])?;
        // What was printed before is not about them.
        let mark = stage.program(place).printed();
        for target in &targets {
            let header = header(stage, *target, UDP);
            stage.done.push(format!("sent a UDP packet from {} to {target} through the device", header.source));
            stage.send(&host, &packets::ipv4(&header, &packets::udp(4000, 5000, b"vpnlab")))?;
        }
        let shown = |output: &str| targets.iter().all(|target| output.contains(&target.to_string()));
        if stage.wait_for_programs(|stage| Ok(shown(&stage.program(place).output_since(mark))))? {
            if stage.program(place).output_since(mark).contains(&other.to_string()) {
                let expected = "lines with the packets' addresses alone";
                let observed = format!("it printed {other}, too, to which nothing was sent");
                return Ok(Err(Box::new(Failure::new(expected, observed))));
            }
            return Ok(Ok(()));
        }
        let list: Vec<_> = targets.iter().map(ToString::to_string).collect();
        let output = stage.program(place).output_since(mark);
        let failure = Failure::new(
            format!("lines with the packets' addresses: {}", list.join(", ")),
            format!("they are not among what it printed from then on; last: {}", last_line(&output)),
        );
        Ok(Err(Box::new(failure)))
    });
    Ok(())
}

/// `tun_ping.py`: echo requests are answered, and nothing else is.
fn answers(judge: &mut Judge<'_>) -> Result<()> {
    let mut stage = judge.stage(0)?;
    let mut place = stage.start(Role::TunPing)?;
    let address = stage.topology().tunnel.client_address;
    if !device::ready(judge, "step1.ping-device", &mut stage, place, Some(address)) {
        return Ok(());
    }
    let first = judge.check("step1.ping-replies", &mut stage, |stage| {
        let target = behind(stage, 4);
        ping(stage, &Ping { target, identifier: seed() as u16, sequence: seed() as u16 | 0x100, length: 56 })
    });
    let mut has_died = false;
    if first {
        let checks: [(&str, Work); 3] = [
            ("step1.ping-sizes", all_sizes),
            ("step1.ping-addresses", all_addresses),
            ("step1.ping-nothing-else", nothing_else),
        ];
        for (id, work) in checks {
            // Each is judged by itself: one fault, one death, and a fresh start for the next.
            let is_anew = !stage.program(place).runs() && stage.excess().is_none();
            if is_anew {
                if !has_died {
                    lives(judge, &mut stage, place);
                }
                has_died = true;
                drop(stage);
                stage = judge.stage(0)?;
                place = stage.start(Role::TunPing)?;
            }
            let timeout = judge.start_timeout();
            judge.check(id, &mut stage, |stage| {
                if is_anew && let Err(failure) = device::is_up(stage, timeout, place, Some(address))? {
                    return Ok(Err(failure));
                }
                work(stage)
            });
        }
    }
    if !has_died {
        lives(judge, &mut stage, place);
    }
    Ok(())
}

/// What a check does.
type Work = fn(&mut Stage<'_>) -> Result<Found>;

/// Whether `tun_ping.py` has not ended, and has its device.
fn lives(judge: &mut Judge<'_>, stage: &mut Stage<'_>, place: usize) {
    judge.check("step1.ping-alive", stage, |stage| {
        if stage.program(place).runs() && stage.tun(&stage.topology().tunnel.client)?.is_some() {
            return Ok(Ok(()));
        }
        await_an_end(stage)?;
        let program = stage.program(place);
        let observed = if program.runs() { "its TUN device is gone".into() } else { ending(program) };
        Ok(Err(Box::new(Failure::new("the program goes on", observed))))
    });
}

/// Pings of all sizes, identifiers and sequence numbers.
fn all_sizes(stage: &mut Stage<'_>) -> Result<Found> {
    let target = behind(stage, 4);
    // Not all of them zero at once: the reply would be, too, and its checksum is then where RFC 1141 is wrong.
    let table = [(0, 0, 7), (1, 1, 0xffff), (8, 0xffff, 2), (57, 0x8000, 300), (500, 7, 4), (1472, 0x4321, 5)];
    for (length, identifier, sequence) in table {
        let length = length.min(largest_payload(stage)?);
        if let Err(failure) = ping(stage, &Ping { target, identifier, sequence, length })? {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(()))
}

/// Pings to several addresses behind the device.
fn all_addresses(stage: &mut Stage<'_>) -> Result<Found> {
    let random = packets::payload(1, seed())[0] % 200 + 20;
    for (sequence, last) in [2, 5, 77, 254, random].into_iter().enumerate() {
        let target = behind(stage, last);
        let ping_it = Ping { target, identifier: 99, sequence: sequence as u16, length: 56 };
        if let Err(failure) = ping(stage, &ping_it)? {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(()))
}

/// What is no echo request goes into the device, and nothing may come back; then an echo request, to which something must.
fn nothing_else(stage: &mut Stage<'_>) -> Result<Found> {
    let host = stage.topology().tunnel.client.clone();
    let Some((tun, _)) = stage.tun(&host)? else {
        return gone(stage, "the TUN device");
    };
    let place = stage.host(&host)?;
    // A reply has come for each ping so far; what comes after it comes late.
    stage.pause(SILENCE)?;
    if let Some(twice) = packets::replied_twice(stage.seen(0, place, &tun.name, Direction::In)) {
        let observed = format!("a second one was written: {}", crate::packet::describe(twice));
        return Ok(Err(Box::new(Failure::new("one reply to a ping", observed))));
    }
    let target = behind(stage, 66);
    let others = [
        ("a UDP packet", UDP, packets::udp(4000, 5000, &packets::payload(20, seed()))),
        ("an echo reply", ICMP, packets::icmp(ECHO_REPLY, 1, 1, b"vpnlab")),
        ("a timestamp request", ICMP, packets::icmp(TIMESTAMP_REQUEST, 1, 1, &[0; 12])),
        ("an address mask request", ICMP, packets::icmp(MASK_REQUEST, 1, 1, &[0; 4])),
        ("a TCP packet", packets::TCP, packets::tcp_syn(&header(stage, target, packets::TCP), 4000, 80, 7)),
    ];
    for (what, protocol, payload) in others {
        let since = stage.frames.len();
        let header = header(stage, target, protocol);
        stage.done.push(format!("sent {what} to {target}"));
        stage.send(&host, &packets::ipv4(&header, &payload))?;
        stage.pause(SILENCE / 3)?;
        let back = stage.seen(since, place, &tun.name, Direction::In).next().map(crate::packet::describe);
        if let Some(back) = back {
            return Ok(Err(Box::new(Failure::new(format!("no answer to {what}"), format!("it wrote {back}")))));
        }
    }
    // An answer may also come late.
    let since = stage.frames.len();
    stage.pause(SILENCE)?;
    if let Some(back) = stage.seen(since, place, &tun.name, Direction::In).next().map(crate::packet::describe) {
        return Ok(Err(Box::new(Failure::new("no answer to any of these", format!("it wrote {back}")))));
    }
    // The same that has been answered before.
    let target = behind(stage, 4);
    ping(stage, &Ping { target, identifier: 77, sequence: 77, length: 56 })
}

/// An echo request to be answered.
struct Ping {
    target: Ipv4Addr,
    identifier: u16,
    sequence: u16,
    length: usize,
}

/// Sends an echo request through the device, and compares the reply with the one that it must be.
fn ping(stage: &mut Stage<'_>, ping: &Ping) -> Result<Found> {
    let host = stage.topology().tunnel.client.clone();
    let place = stage.host(&host)?;
    let Some((tun, _)) = stage.tun(&host)? else {
        return gone(stage, "the TUN device");
    };
    let Ping { target, identifier, sequence, length } = *ping;
    let header = header(stage, target, ICMP);
    let payload = packets::payload(length, seed());
    let request = packets::ipv4(&header, &packets::icmp(ECHO_REQUEST, identifier, sequence, &payload));
    let since = stage.frames.len();
    stage.done.push(format!(
        "sent an echo request to {target}: {length} bytes, identifier {identifier}, sequence number {sequence}"
    ));
    stage.await_route(target)?;
    stage.send(&host, &request)?;
    let is_reply = |packet: &[u8]| packet.get(9) == Some(&ICMP) && packet.get(HEADER) == Some(&ECHO_REPLY);
    let replied = |stage: &mut Stage<'_>| Ok(stage.seen(since, place, &tun.name, Direction::In).any(is_reply));
    let came = stage.wait_for_programs(replied)?;
    let asked = stage.seen(since, place, &tun.name, Direction::Out).any(|packet| packet == request);
    let reply = stage.seen(since, place, &tun.name, Direction::In).find(|packet| is_reply(packet)).map(<[u8]>::to_vec);
    let wanted = format!("an echo reply from {target} through {}", tun.name);
    if !asked {
        let observed = format!("the request did not come out of {}: the kernel does not lead {target} there", tun.name);
        return Ok(Err(Box::new(Failure::new(wanted, observed))));
    }
    let (true, Some(reply)) = (came, reply) else {
        let wrote = stage.seen(since, place, &tun.name, Direction::In).next().map(crate::packet::describe);
        let observed = match wrote {
            Some(packet) => format!("it wrote {packet}"),
            None => format!("nothing was written to {}", tun.name),
        };
        return Ok(Err(Box::new(Failure::new(wanted, observed))));
    };
    let mut expected = packets::echo_reply(&header, identifier, sequence, &payload);
    packets::take_what_is_free(&mut expected, &reply);
    // A sum of zero has two forms (RFC 1071); both are right.
    if reply.len() == expected.len() && checksum(&reply[HEADER..], usize::MAX) == 0 {
        expected[22..24].copy_from_slice(&reply[22..24]);
    }
    if let Some(difference) = Difference::between(&expected, &reply) {
        return Ok(Err(Box::new(Failure::new(
            format!("{wanted}, with the request's payload"),
            difference.to_string(),
        ))));
    }
    if checksum(&reply[..HEADER], usize::MAX) != 0 {
        let observed = "byte 10 (header checksum) does not fit the header";
        return Ok(Err(Box::new(Failure::new(wanted, observed))));
    }
    // The kernel takes it for an answer only if the whole of it is right.
    stage.pause(Duration::from_millis(1))?;
    Ok(Ok(()))
}

/// The header of a packet from useru through its TUN device.
fn header(stage: &Stage<'_>, destination: Ipv4Addr, protocol: u8) -> Header {
    let IpAddr::V4(source) = stage.topology().tunnel.client_address.addr() else {
        return Header { source: Ipv4Addr::UNSPECIFIED, destination, protocol, ttl: 64, identification: 1 };
    };
    Header { source, destination, protocol, ttl: 64, identification: (seed() % 65_535) as u16 + 1 }
}

/// An address behind the TUN device, by its last number.
fn behind(stage: &Stage<'_>, last: u8) -> Ipv4Addr {
    match stage.topology().tunnel.client_address.network() {
        IpAddr::V4(network) => {
            let [a, b, c, _] = network.octets();
            Ipv4Addr::new(a, b, c, last)
        }
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// How much an echo or a UDP packet can carry through the device of useru, in bytes: its MTU, up to Ethernet's.
pub fn largest_payload(stage: &Stage<'_>) -> Result<usize> {
    // RFC 791 section 3.2: every link takes 68 bytes.
    let mtu = stage.tun(&stage.topology().tunnel.client)?.map_or(1500, |(tun, _)| tun.mtu as usize);
    Ok(mtu.clamp(68, 1500) - HEADER - 8)
}

/// A number that no program can know beforehand.
pub fn seed() -> u64 {
    let time = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    time.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
}
