//! The TUN device of a program: there, of the right kind, with its address, up.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Failure, Found, Judge, last_line};
use crate::error::Result;
use crate::grade::stage::Stage;
use crate::net::Link;

/// How long a device that outlives programs must have been open: `ip tuntap add` has it, too, while it makes it.
const STEADY: Duration = Duration::from_millis(300);

/// Waits until the program at this place has created a device of the right kind on its host.
pub fn created(stage: &mut Stage<'_>, timeout: Duration, place: usize) -> Result<Found> {
    let host = stage.program(place).host().to_string();
    // One that was made to stay (TUNSETPERSIST) is there without a program, too; and is open for a moment while it is made.
    let held = |stage: &Stage<'_>| Ok(stage.tun(&host)?.map(|(link, _)| link).filter(|link| link.has_carrier));
    let mut link = None;
    let there = stage.wait(timeout, |stage| {
        let runs = stage.program(place).runs();
        link = held(stage)?;
        Ok(link.is_some() || !runs)
    })?;
    let expected = format!("a TUN device on {host}");
    let Some(link) = link else {
        let without =
            stage.tun(&host)?.map(|(link, _)| format!("{} is there, but no program has it open; ", link.name));
        let program = stage.program(place);
        let observed = match (there, program.exit_code()) {
            (true, Some(code)) => format!("the program ended (exit code {code}): {}", last_line(&program.output())),
            (true, None) => format!("the program ended: {}", last_line(&program.output())),
            (false, _) => format!("none after {} s; the program runs", timeout.as_secs_f64()),
        };
        let observed = without.unwrap_or_default() + &observed;
        return Ok(Err(Box::new(Failure::new(expected, observed))));
    };
    Ok(of_the_right_kind(&host, &link))
}

/// Whether a device is a TUN device without packet information.
fn of_the_right_kind(host: &str, link: &Link) -> Found {
    let expected = format!("a TUN device on {host}");
    if link.is_tap {
        let failure = Failure {
            hint: Some("open it with IFF_TUN, not IFF_TAP".into()),
            ..Failure::new(expected, format!("{} is a TAP device: its packets are Ethernet frames", link.name))
        };
        return Err(Box::new(failure));
    }
    if link.has_packet_information {
        let failure = Failure {
            hint: Some("open it with IFF_TUN | IFF_NO_PI".into()),
            ..Failure::new(
                format!("{expected} whose packets begin with their IP header (IFF_NO_PI)"),
                format!("{} has four bytes of packet information in front of each packet", link.name),
            )
        };
        return Err(Box::new(failure));
    }
    Ok(())
}

/// Waits until the device of a host is up, has this address, or any where there is none to be, and is in a program's hands.
pub fn is_up(stage: &mut Stage<'_>, timeout: Duration, host: &str, address: Option<IpNet>) -> Result<Found> {
    let has = |(link, addresses): &(Link, Vec<IpNet>)| {
        let is_it = |own: &IpNet| match address {
            Some(wanted) => *own == wanted,
            None => matches!(own.addr(), IpAddr::V4(_)),
        };
        link.up && link.has_carrier && addresses.iter().any(is_it)
    };
    let (mut ready, mut since) = (None, None);
    let is_up = stage.wait(timeout, |stage| {
        ready = stage.tun(host)?.filter(has).map(|(link, _)| link);
        since = ready.as_ref().map(|_| since.unwrap_or_else(Instant::now));
        let is_steady = |link: &Link| !link.is_persistent || since.is_some_and(|since| since.elapsed() >= STEADY);
        Ok(ready.as_ref().is_some_and(is_steady))
    })?;
    // Who opens a device that was made before may change its kind.
    if let Some(link) = ready.filter(|_| is_up) {
        return Ok(of_the_right_kind(host, &link));
    }
    let wanted = address.map_or("an address".to_string(), |address| address.to_string());
    let observed = match stage.tun(host)? {
        None => "the device is gone".to_string(),
        Some((link, addresses)) => {
            let state = if link.up { "up" } else { "down" };
            let own: Vec<_> = addresses.iter().filter(|it| it.addr().is_ipv4()).map(ToString::to_string).collect();
            let own = if own.is_empty() { "no IPv4 address".into() } else { own.join(", ") };
            let open = if link.has_carrier { "" } else { "; no program has it open" };
            format!("{} is {state}, and has {own}{open}", link.name)
        }
    };
    Ok(Err(Box::new(Failure::new(format!("a TUN device on {host} that is up and has {wanted}"), observed))))
}

/// Starts no program, but waits for the device of one: both of the above as one check.
pub fn ready(judge: &mut Judge<'_>, id: &str, stage: &mut Stage<'_>, place: usize, address: Option<IpNet>) -> bool {
    let timeout = judge.start_timeout();
    judge.check(id, stage, |stage| {
        let host = stage.program(place).host().to_string();
        match created(stage, timeout, place)? {
            Ok(()) => is_up(stage, timeout, &host, address),
            failed => Ok(failed),
        }
    })
}
