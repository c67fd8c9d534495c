//! Step 4: both directions. Each ping is followed through the whole lab, so that one that found another way fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::step1::seed;
use super::step2::server_address;
use super::step3::{AGAIN, PREPARED, both, target};
use super::{Failure, Found, Judge, PATIENCE, beside, device, gone, ports, warnings};
use crate::error::Result;
use crate::grade::model::{CauseSeen, Ladder, Ladders, Rung};
use crate::grade::packets::{self, ECHO_REPLY, ECHO_REQUEST, HEADER, Header, ICMP, UDP};
use crate::grade::stage::Stage;
use crate::grade::submission::Role;
use crate::pcapng::Direction;
use crate::trace::cause::Cause;
use crate::trace::sighting::{self, Datagram, Leg};
use crate::trace::{self, Traced};

/// How many pings must all be answered.
const MANY: u16 = 100;

/// Plays and judges the step.
///
/// # Errors
/// The grader's own.
pub fn judge(judge: &mut Judge<'_>) -> Result<()> {
    let has = |role| judge.submission.command(role).is_some();
    if !has(Role::VpnClient) || !has(Role::VpnServer) {
        return Ok(());
    }
    let mut stage = judge.stage(PREPARED)?;
    let timeout = judge.start_timeout();
    let tunnel = stage.topology().tunnel.clone();
    let client = stage.host(&tunnel.client)?;
    let IpAddr::V4(inside) = tunnel.client_address.addr() else { return Ok(()) };
    let (userv, address) = target(&stage)?;
    let mut went_round = false;
    let works = judge.check("step4.ping-userv", &mut stage, |stage| {
        let found = match both(stage, Role::VpnServer, Role::VpnClient, timeout)? {
            Ok(()) => followed(stage, client, address, 84, None)?,
            Err(failure) => Err(with_cause(stage, client, address, failure, timeout)?),
        };
        went_round = found.as_ref().is_err_and(|failure| failure.went_round);
        Ok(found)
    });
    if !works {
        if went_round {
            judge.check("step4.only-in-the-tunnel", &mut stage, |stage| beside::only_in_the_tunnel(stage, client));
        }
        return Ok(());
    }
    if let Some(other) = other_target(&stage, userv) {
        judge.check("step4.ping-userw", &mut stage, |stage| followed(stage, client, other, 84, None));
    }
    judge.check("step4.ping-back", &mut stage, |stage| followed(stage, userv, inside, 84, None));
    judge.check("step4.large", &mut stage, |stage| {
        for length in [1000, 1472, 1500, 4000] {
            let mut found = followed(stage, client, address, length, None)?;
            // Somebody on the way has told the sender what fits, and from now on it knows (RFC 1191).
            if is_too_big(&found) {
                found = followed(stage, client, address, length, None)?;
            }
            if found.is_err() {
                return Ok(found);
            }
        }
        Ok(Ok(()))
    });
    judge.check("step4.many", &mut stage, |stage| match many(stage, inside, address)? {
        Ok(()) => ports::refused_both_ways(stage, inside),
        failed => Ok(failed),
    });
    if let Some(text) = warnings::polls(&mut stage)? {
        judge.warn("busy-polling", text);
    }
    // Where the two programs are among those of the stage; a program that is started anew gets another place.
    let (server_at, mut client_at) = (0, 1);
    judge.check("step4.client-moves", &mut stage, |stage| {
        stage.end(client_at);
        // The new one's device is not to be taken for the old one's.
        if !stage.wait(PATIENCE, |stage| Ok(stage.tun(&tunnel.client)?.is_none()))? {
            stage.done.push("the TUN device outlives its program".into());
        }
        if !greets(stage, client)
            && let Err(failure) = from_another_port(stage, inside, address)?
        {
            return Ok(Err(failure));
        }
        client_at = stage.start(Role::VpnClient)?;
        let ready = [
            device::created(stage, timeout, client_at)?,
            device::is_up(stage, timeout, client_at, Some(tunnel.client_address))?,
        ];
        for found in ready {
            if found.is_err() {
                return Ok(found);
            }
        }
        super::step2::lead(stage)?;
        followed(stage, client, address, 84, None)
    });
    // Last, and only to a server that has been judged: it may die of it.
    if stage.program(server_at).runs()
        && let Some(text) = warnings::harmed_by_junk(&mut stage, server_at)?
    {
        judge.warn("dies-of-junk", text);
    }
    for place in [client_at, server_at] {
        if stage.program(place).runs() && !warnings::minds_sigterm(&mut stage, place)? {
            let host = stage.program(place).host().to_string();
            judge.warn("ignores-sigterm", format!("the program on {host} goes on when it is asked to end (SIGTERM)"));
        }
    }
    judge.check("step4.only-in-the-tunnel", &mut stage, |stage| beside::only_in_the_tunnel(stage, client));
    Ok(())
}

/// Whether a ping did not fit somewhere on its way.
fn is_too_big(found: &Found) -> bool {
    let cause = found.as_ref().err().and_then(|failure| failure.cause.as_ref());
    cause.is_some_and(|cause| cause.id == Cause::TooBig.id())
}

/// Where a program is not ready, a ping tells what comes of that.
fn with_cause(
    stage: &mut Stage<'_>,
    from: usize,
    to: Ipv4Addr,
    failure: Box<Failure>,
    timeout: Duration,
) -> Result<Box<Failure>> {
    // The client was not started if the server was not ready.
    if stage.count() == 1 {
        let place = stage.start(Role::VpnClient)?;
        device::created(stage, timeout, place)?.ok();
        // A route can only lead into a device that is up.
        let tunnel = stage.topology().tunnel.clone();
        device::is_up(stage, timeout, place, Some(tunnel.client_address))?.ok();
    }
    super::step2::lead(stage)?;
    Ok(match followed(stage, from, to, 84, None)? {
        Ok(()) => failure,
        Err(traced) => {
            let Failure { expected, observed, hint, .. } = *failure;
            Box::new(Failure { expected, observed, hint: hint.or(traced.hint.clone()), ..*traced })
        }
    })
}

/// A second host behind the tunnel.
fn other_target(stage: &Stage<'_>, first: usize) -> Option<Ipv4Addr> {
    let topology = stage.topology();
    let network = &topology.hosts[first].interfaces[0].network;
    let other = topology.hosts.iter().enumerate().find(|(place, host)| {
        *place != first && host.name != topology.tunnel.server && host.interfaces[0].network == *network
    });
    other.map(|(_, host)| host.interfaces[0].address.addr())
}

/// Follows an echo from a host to an address: it has to be answered, or only to arrive at a host, and to go through the
/// tunnel in any case.
///
/// # Errors
/// The grader's own.
pub fn followed(
    stage: &mut Stage<'_>,
    from: usize,
    to: Ipv4Addr,
    length: usize,
    arrives_at: Option<usize>,
) -> Result<Found> {
    let sender = stage.topology().hosts[from].name.clone();
    stage.done.push(format!("pinged {to} from {sender} with a packet of {length} bytes"));
    let mut traced = trace::follow(&stage.lab, from, to, length, arrives_at)?;
    // A program may have its device, or its socket, long before it reads it: the ping waits there, and another one follows.
    if traced.verdict.is_some() && stage.is_starting()? {
        stage.settle()?;
        traced = trace::follow(&stage.lab, from, to, length, arrives_at)?;
    }
    stage.pause(Duration::from_millis(1))?;
    let name = |place: usize| stage.topology().hosts[place].name.as_str();
    let arrived = match arrives_at {
        Some(host) => traced.steps.iter().any(|step| step.host == name(host) && step.leg == Leg::Request),
        None => traced.answered.is_some(),
    };
    let expected = match arrives_at {
        Some(host) => format!("the ping arrives at {}", name(host)),
        None => format!("the ping from {sender} to {to} is answered"),
    };
    if !arrived {
        let observed = match &traced.verdict {
            Some(verdict) => format!("it ended at {}: {}", verdict.host, verdict.cause.title()),
            None => "it did not".into(),
        };
        let cause = traced.verdict.as_ref().map(|verdict| CauseSeen {
            id: verdict.cause.id().into(),
            title: verdict.cause.title().into(),
            host: verdict.host.clone(),
            step: verdict.cause.step(),
            facts: verdict.facts.clone(),
        });
        let hint = traced.verdict.as_ref().map(|verdict| verdict.cause.hint(stage.topology()));
        let ladders = Some(Ladders { seen: seen(stage, &traced), expected: way(stage, from, to) });
        return Ok(Err(Box::new(Failure { cause, hint, ladders, ..Failure::new(expected, observed) })));
    }
    if let Some(detour) = detour(stage, &traced, arrives_at.is_none()) {
        let ladders = Some(Ladders { seen: seen(stage, &traced), expected: way(stage, from, to) });
        let expected = format!("{expected}, and goes through the tunnel");
        return Ok(Err(Box::new(Failure { ladders, went_round: true, ..Failure::new(expected, detour) })));
    }
    Ok(Ok(()))
}

/// Where an echo that arrived did not go through the tunnel, nor its reply if it was `answered`: both ends must have sent or
/// received it in a datagram, and written it to, or read it from, their TUN devices. And the first to reply must be the host
/// that was asked.
fn detour(stage: &Stage<'_>, traced: &Traced, answered: bool) -> Option<String> {
    let tunnel = &stage.topology().tunnel;
    let legs = [(Leg::Request, "ping"), (Leg::Reply, "reply")];
    let asked = traced.destination.as_deref();
    for (leg, what) in legs.into_iter().filter(|(leg, _)| *leg == Leg::Request || answered) {
        let of_leg = || traced.steps.iter().filter(|step| step.leg == leg);
        if let (Leg::Reply, Some(asked)) = (leg, asked) {
            // Whoever else answers, it is not the one that was asked.
            if !traced
                .steps
                .iter()
                .any(|step| step.leg == Leg::Request && step.host == asked && step.direction == Direction::In)
            {
                return Some(format!("it was answered, and never came to {asked}"));
            }
            let first = of_leg().min_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds))?;
            if first.host != asked {
                return Some(format!("a reply was made at {}, before {asked} had sent one", first.host));
            }
        }
        for end in [&tunnel.client, &tunnel.server] {
            let here = || of_leg().filter(|step| step.host == *end);
            if !here().any(|step| step.in_datagram) {
                return Some(format!("no datagram with the {what} in it was seen at {end}"));
            }
            if !here().any(|step| step.is_tun && !step.in_datagram) {
                return Some(format!("the {what} did not pass a TUN device of {end}"));
            }
        }
    }
    None
}

/// The way of an echo as it was seen.
fn seen(stage: &Stage<'_>, traced: &Traced) -> Ladder {
    let rung = |step: &trace::Step| Rung {
        host: step.host.clone(),
        interface: step.interface.clone(),
        incoming: step.direction == Direction::In,
        milliseconds: Some(step.milliseconds),
        text: step.news.clone(),
    };
    let rows: Vec<Rung> = traced.steps.iter().map(rung).collect();
    ladder(stage, rows)
}

fn ladder(stage: &Stage<'_>, rows: Vec<Rung>) -> Ladder {
    let names = stage.topology().hosts.iter().map(|host| host.name.clone());
    let hosts = names.filter(|name| rows.iter().any(|row| row.host == *name)).collect();
    Ladder { hosts, rows }
}

/// The way that an echo between the tunnel's client and a host behind it should go, and its reply back.
fn way(stage: &Stage<'_>, from: usize, to: Ipv4Addr) -> Ladder {
    let topology = stage.topology();
    let tunnel = &topology.tunnel;
    let Ok(client) = topology.place(&tunnel.client) else { return ladder(stage, Vec::new()) };
    let Ok(server) = topology.place(&tunnel.server) else { return ladder(stage, Vec::new()) };
    let far = match from == client {
        true => topology.hosts.iter().position(|host| host.interfaces.iter().any(|it| it.address.addr() == to)),
        false => Some(from),
    };
    let shared = |one: usize, other: usize| {
        let others = &topology.hosts[other].interfaces;
        let found =
            topology.hosts[one].interfaces.iter().find(|ours| others.iter().any(|it| it.network == ours.network));
        found.map_or("?", |interface| interface.name.as_str()).to_string()
    };
    let rung = |host: usize, interface: String, incoming: bool, text: &str| Rung {
        host: topology.hosts[host].name.clone(),
        interface,
        incoming,
        milliseconds: None,
        text: text.into(),
    };
    let Some(far) = far else { return ladder(stage, Vec::new()) };
    // By the names that the programs gave them; where there is none, by the handout's.
    let tun = |host: &str| stage.tun(host).ok().flatten().map_or("tun0".to_string(), |(link, _)| link.name);
    let (client_tun, server_tun) = (tun(&tunnel.client), tun(&tunnel.server));
    let out = |kind: &str| {
        vec![
            rung(client, client_tun.clone(), false, kind),
            rung(client, shared(client, server), false, "in UDP"),
            rung(server, shared(server, client), true, ""),
            rung(server, server_tun.clone(), true, "out of UDP"),
            rung(server, shared(server, far), false, "ttl 63"),
            rung(far, shared(far, server), true, ""),
        ]
    };
    let back = |kind: &str| {
        vec![
            rung(far, shared(far, server), false, kind),
            rung(server, shared(server, far), true, ""),
            rung(server, server_tun.clone(), false, "ttl 63"),
            rung(server, shared(server, client), false, "in UDP"),
            rung(client, shared(client, server), true, ""),
            rung(client, client_tun.clone(), true, "out of UDP"),
        ]
    };
    let rows = match from == client {
        true => [out("echo request"), back("echo reply")].concat(),
        false => [back("echo request"), out("echo reply")].concat(),
    };
    ladder(stage, rows)
}

/// Sends many pings, in bursts that a slow program can follow; each has to come back through the client's TUN device.
fn many(stage: &mut Stage<'_>, source: Ipv4Addr, destination: Ipv4Addr) -> Result<Found> {
    const BURST: u16 = 5;
    const LONGEST: Duration = Duration::from_secs(20);
    let host = stage.topology().tunnel.client.clone();
    let client = stage.host(&host)?;
    let Some((tun, _)) = stage.tun(&host)? else {
        return gone(stage, "the client's TUN device");
    };
    let (place, _) = target(stage)?;
    let near = stage.topology().hosts[place].interfaces[0].name.clone();
    let since = stage.frames.len();
    let identifier = seed() as u16;
    stage.done.push(format!("sent {MANY} pings to {destination}"));
    for sequence in 0..MANY {
        let header = Header { source, destination, protocol: ICMP, ttl: 64, identification: sequence + 1 };
        let message = packets::icmp(ECHO_REQUEST, identifier, sequence, &packets::payload(56, seed()));
        stage.send(&host, &packets::ipv4(&header, &message))?;
        if sequence % BURST == BURST - 1 {
            stage.pause(Duration::from_millis(10))?;
        }
    }
    // How many replies each ping has.
    let replies = |stage: &Stage<'_>| {
        let mut replies = [0; MANY as usize];
        for packet in stage.seen(since, client, &tun.name, Direction::In) {
            let word = |at: usize| packet.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
            let is_reply = packet.get(9) == Some(&ICMP) && packet.get(HEADER) == Some(&ECHO_REPLY);
            if let (true, Some(own), Some(sequence)) = (is_reply, word(HEADER + 4), word(HEADER + 6))
                && own == identifier
                && sequence < MANY
            {
                replies[usize::from(sequence)] += 1;
            }
        }
        replies
    };
    let answered = |stage: &Stage<'_>| replies(stage).iter().filter(|count| **count > 0).count();
    // A slow program is given its time, as long as something comes.
    let started = Instant::now();
    let mut before = 0;
    while !stage.wait(2 * PATIENCE, |stage| Ok(answered(stage) == usize::from(MANY)))? {
        if answered(stage) == before || started.elapsed() > LONGEST {
            break;
        }
        before = answered(stage);
    }
    if answered(stage) == usize::from(MANY) {
        stage.pause(AGAIN)?;
        let twice = replies(stage).iter().filter(|count| **count > 1).count();
        if twice > 0 {
            let observed = format!("{twice} were answered more than once");
            return Ok(Err(Box::new(Failure::new(format!("{MANY} pings are answered, each once"), observed))));
        }
        return Ok(Ok(()));
    }
    let mut arrived: Vec<u16> = Vec::new();
    for packet in stage.seen(since, place, &near, Direction::In) {
        let word = |at: usize| packet.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let is_request = packet.get(9) == Some(&ICMP) && packet.get(HEADER) == Some(&ECHO_REQUEST);
        arrived.extend(word(HEADER + 6).filter(|_| is_request && word(HEADER + 4) == Some(identifier)));
    }
    arrived.sort_unstable();
    arrived.dedup();
    let observed = format!("{} were; {} came to {destination}", answered(stage), arrived.len());
    Ok(Err(Box::new(Failure::new(format!("{MANY} pings are answered"), observed))))
}

/// The client has gone, and a packet for it is lost; then the grader is the client, on a port of its own. It has to be
/// answered there.
fn from_another_port(stage: &mut Stage<'_>, inside: Ipv4Addr, destination: Ipv4Addr) -> Result<Found> {
    let tunnel = stage.topology().tunnel.clone();
    let (client, (far, _)) = (stage.host(&tunnel.client)?, target(stage)?);
    let far = stage.topology().hosts[far].name.clone();
    let lost = Header { source: destination, destination: inside, protocol: UDP, ttl: 64, identification: 1 };
    stage.done.push(format!("sent a UDP packet from {far} to {inside}, where there is nobody"));
    stage.send(&far, &packets::ipv4(&lost, &packets::udp(40_000, 40_001, b"vpnlab")))?;
    stage.pause(AGAIN)?;
    let to = server_address(stage)?;
    let own = 20_000 + (seed() % 10_000) as u16;
    let message = packets::icmp(ECHO_REQUEST, seed() as u16, 1, &packets::payload(56, seed()));
    let header = Header { source: inside, destination, protocol: ICMP, ttl: 64, identification: seed() as u16 | 1 };
    let since = stage.frames.len();
    stage.done.push(format!("sent {to} a datagram from port {own} with a ping {inside} > {destination}"));
    stage.send_datagram(&tunnel.client, own, to, &packets::ipv4(&header, &message))?;
    // Where replies to it went: a server that keeps its clients may send to several.
    let replies = |stage: &Stage<'_>| -> Vec<SocketAddrV4> {
        let came = datagrams(stage, since, client, Direction::In);
        let is_reply = |payload: &[u8]| {
            payload.get(HEADER) == Some(&ECHO_REPLY) && payload.get(HEADER + 4..) == Some(&message[4..])
        };
        came.filter(|datagram| is_reply(&datagram.payload)).map(|datagram| datagram.to).collect()
    };
    let came = stage.wait_for_programs(|stage| Ok(replies(stage).iter().any(|to| to.port() == own)))?;
    stage.close(&tunnel.client, own)?;
    if came {
        return Ok(Ok(()));
    }
    let observed = match replies(stage).first() {
        Some(other) => format!("it went to {other}"),
        None => format!("no reply came to {}", tunnel.client),
    };
    Ok(Err(Box::new(Failure::new(format!("a client on port {own} is sent the reply to its ping there"), observed))))
}

/// Whether a client has sent datagrams without a packet in them: its server may know clients by a greeting, which the grader
/// has not.
fn greets(stage: &Stage<'_>, client: usize) -> bool {
    let port = stage.topology().tunnel.port;
    let mut sent = datagrams(stage, 0, client, Direction::Out).filter(|it| it.to.port() == port && !it.fragment);
    sent.any(|datagram| !packets::is_packet(&datagram.payload))
}

/// The datagrams that have passed a host in one direction since a moment.
fn datagrams<'s>(
    stage: &'s Stage<'_>,
    since: usize,
    host: usize,
    direction: Direction,
) -> impl Iterator<Item = Datagram> + 's {
    let frames = stage.frames.get(since..).unwrap_or_default().iter();
    let passed = frames.filter(move |(at, frame)| *at == host && frame.direction == direction && !frame.is_foreign);
    passed.filter_map(|(_, frame)| sighting::any_datagram(frame.packet()?))
}
