//! What costs no points, and is worth a word: programs that poll, that die of a datagram that is no packet, that do not end when
//! they are asked to. Step 4 looks for it, last, when all else has been judged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::last_line;
use super::step1::seed;
use super::step2::server_address;
use super::step3::target;
use crate::error::Result;
use crate::grade::packets::{self, Header, UDP};
use crate::grade::stage::Stage;
use crate::grade::usage;
use crate::pcapng::Direction;
use crate::trace::evidence;

/// How long programs that have nothing to do are looked at, and how much of that time they may compute.
const IDLE: Duration = Duration::from_millis(500);
const BUSY: f64 = 0.5;

/// Whether the programs compute, or would, though they have nothing to do.
///
/// # Errors
/// The grader's own.
pub fn polls(stage: &mut Stage<'_>) -> Result<Option<String>> {
    let (before, since) = (usage::wanted(), Instant::now());
    stage.pause(IDLE)?;
    let busy = (usage::wanted() - before) / since.elapsed().as_secs_f64();
    let text = || {
        format!(
            "the programs want {busy:.1} s of a processor in a second without traffic: they poll instead of waiting"
        )
    };
    Ok((busy > BUSY).then(text))
}

/// Sends the server datagrams that are no packets, and then one that is: what comes of it tells whether the program has
/// outlived them, whenever it comes to read them.
///
/// # Errors
/// The grader's own.
pub fn harmed_by_junk(stage: &mut Stage<'_>, server: usize) -> Result<Option<String>> {
    const PORT: u16 = 19_999;
    let tunnel = stage.topology().tunnel.clone();
    let (place, destination) = target(stage)?;
    let IpAddr::V4(source) = tunnel.client_address.addr() else { return Ok(None) };
    let to = server_address(stage)?;
    let header = Header { source, destination, protocol: UDP, ttl: 64, identification: seed() as u16 | 1 };
    let content = packets::udp(40_000, 40_001, &packets::payload(64, seed()));
    let packet = packets::ipv4(&header, &content);
    let near = stage.topology().hosts[place].interfaces[0].name.clone();
    let since = stage.frames.len();
    for datagram in [&b"junk"[..], b"", &[0x45; 19], &packet] {
        stage.send_datagram(&tunnel.client, PORT, to, datagram)?;
    }
    let is_there =
        |stage: &Stage<'_>| stage.seen(since, place, &near, Direction::In).any(|seen| seen.ends_with(&content[8..]));
    let outlived = |stage: &mut Stage<'_>| Ok(is_there(stage) || !stage.program(server).runs());
    stage.wait_for_programs(outlived)?;
    let program = stage.program(server);
    let said = last_line(&program.output()).to_string();
    Ok(match (program.runs(), is_there(stage)) {
        (false, _) => Some(format!("the server's program ended when a datagram was no packet: {said}")),
        (true, false) => {
            Some(format!("the server hands on nothing any more after a datagram that was no packet: {said}"))
        }
        (true, true) => None,
    })
}

/// Whether the program that holds the TUN device of a host ends when it is asked to.
///
/// # Errors
/// The grader's own.
pub fn minds_sigterm(stage: &mut Stage<'_>, place: usize) -> Result<bool> {
    let host = stage.program(place).host().to_string();
    let state = evidence::look_at(&stage.lab, stage.host(&host)?)?;
    for holder in state.holders.iter().filter(|holder| !holder.tuns.is_empty()) {
        let _ = kill(Pid::from_raw(holder.pid), Signal::SIGTERM);
    }
    let minds = stage.program(place).wait(Duration::from_secs(1));
    if minds {
        stage.program(place).was_ended("it was asked to end (SIGTERM)");
    }
    Ok(minds)
}
