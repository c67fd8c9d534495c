//! The TUN device of a program: there, of the right kind, with its address, up.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Failure, Found, Judge, await_an_end, ending};
use crate::error::Result;
use crate::grade::stage::Stage;
use crate::net::Link;

/// How long a device that is up must have been there: a program may make one only to see whether it can.
const STEADY: Duration = Duration::from_millis(50);

/// How long one of the wrong kind, and how long one that outlives programs must have been open: `ip tuntap add` has it, too, while
/// it makes it.
const STEADY_IF_ODD: Duration = Duration::from_millis(300);

/// A device, and its addresses.
type Device = (Link, Vec<IpNet>);

/// Waits until the program at this place has created a device of the right kind on its host.
pub fn created(stage: &mut Stage<'_>, timeout: Duration, place: usize) -> Result<Found> {
    let host = stage.program(place).host().to_string();
    let expected = format!("a TUN device on {host}");
    if let Some((link, _)) = held(stage, timeout, place, Duration::ZERO, |_| true)? {
        return Ok(of_the_right_kind(&expected, &link));
    }
    // One that was made to stay (TUNSETPERSIST) is there without a program, too.
    let without = stage.tun(&host)?.map(|(link, _)| format!("{} is there, but no program has it open; ", link.name));
    let program = stage.program(place);
    let observed = match program.runs() {
        true => format!("none after {} s; the program runs", timeout.as_secs_f64()),
        false => ending(program),
    };
    Ok(Err(Box::new(Failure::new(expected, without.unwrap_or_default() + &observed))))
}

/// Waits until the device of the program at this place is up, has this address, or any where there is none to be, and is open.
pub fn is_up(stage: &mut Stage<'_>, timeout: Duration, place: usize, address: Option<IpNet>) -> Result<Found> {
    let host = stage.program(place).host().to_string();
    let is_it = |own: &IpNet| match address {
        Some(wanted) => *own == wanted,
        None => matches!(own.addr(), IpAddr::V4(_)),
    };
    let wanted = address.map_or("an address".to_string(), |address| address.to_string());
    let expected = format!("a TUN device on {host} that is up and has {wanted}");
    // Who opens one that was made before may change its kind.
    if let Some((link, _)) = held(stage, timeout, place, STEADY, |(link, all)| link.up && all.iter().any(is_it))? {
        return Ok(of_the_right_kind(&format!("a TUN device on {host}"), &link));
    }
    let observed = match stage.tun(&host)? {
        None => {
            await_an_end(stage)?;
            "the device is gone".to_string()
        }
        Some((link, addresses)) => {
            let state = if link.up { "up" } else { "down" };
            let own: Vec<_> = addresses.iter().filter(|it| it.addr().is_ipv4()).map(ToString::to_string).collect();
            let own = if own.is_empty() { "no IPv4 address".into() } else { own.join(", ") };
            let open = if link.has_carrier { "" } else { "; no program has it open" };
            format!("{} is {state}, and has {own}{open}", link.name)
        }
    };
    Ok(Err(Box::new(Failure::new(expected, observed))))
}

/// Waits until a device like this is open on the host of the program at this place, and has been for a while; in vain where the
/// program has ended.
fn held(
    stage: &mut Stage<'_>,
    timeout: Duration,
    place: usize,
    steady: Duration,
    so: impl Fn(&Device) -> bool,
) -> Result<Option<Device>> {
    let host = stage.program(place).host().to_string();
    let (mut found, mut since): (Option<Device>, Option<(u32, Instant)>) = (None, None);
    stage.wait_to_start(timeout, |stage| {
        let runs = stage.program(place).runs();
        let open = stage.tun(&host)?.filter(|device| device.0.has_carrier && so(device));
        since = open.as_ref().map(|(link, _)| match since {
            Some((index, since)) if index == link.index => (index, since),
            _ => (link.index, Instant::now()),
        });
        let age = since.map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let is_odd = |link: &Link| link.is_persistent || of_the_right_kind("", link).is_err();
        found = open.filter(|(link, _)| age >= if is_odd(link) { STEADY_IF_ODD } else { steady });
        Ok(found.is_some() || !runs)
    })?;
    Ok(found)
}

/// Whether a device is a TUN device without packet information.
fn of_the_right_kind(expected: &str, link: &Link) -> Found {
    if link.is_tap {
        let failure = Failure {
            hint: Some("open it with IFF_TUN, not IFF_TAP".into()),
            ..Failure::new(
                expected.to_string(),
                format!("{} is a TAP device: its packets are Ethernet frames", link.name),
            )
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

/// Starts no program, but waits for the device of one: both of the above as one check.
pub fn ready(judge: &mut Judge<'_>, id: &str, stage: &mut Stage<'_>, place: usize, address: Option<IpNet>) -> bool {
    let timeout = judge.start_timeout();
    judge.check(id, stage, |stage| match created(stage, timeout, place)? {
        Ok(()) => is_up(stage, timeout, place, address),
        failed => Ok(failed),
    })
}
