//! `ping` for machines that have none: the options that the handout's reader types, the output of iputils' ping.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{parse, resolve};
use crate::error::{Context, Result};
use crate::lab::check::unreachable;
use crate::lab::probe::{Answer, Prober};
use crate::output;
use crate::topology;

/// Send ICMP echo requests (vpnlab's own ping, for want of another)
#[derive(Debug, Parser)]
struct Ping {
    /// Stop after this many requests
    #[arg(short, value_name = "COUNT")]
    count: Option<u16>,
    /// Seconds between requests
    #[arg(short, value_name = "INTERVAL", default_value_t = 1.0)]
    interval: f64,
    /// Seconds to wait for the last answer
    #[arg(short = 'W', value_name = "TIMEOUT", default_value_t = 10.0)]
    timeout: f64,
    /// Payload in bytes
    #[arg(short, value_name = "SIZE", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=65507))]
    size: u16,
    /// TTL of the requests
    #[arg(short, value_name = "TTL", default_value_t = 64)]
    ttl: u8,
    /// No names
    #[arg(short)]
    numeric: bool,
    /// IPv4 (there is nothing else)
    #[arg(short = '4')]
    ipv4: bool,
    /// A host's name or address
    destination: String,
}

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let args: Ping = parse("ping", words);
    let to = resolve(&args.destination)?;
    let prober = Prober::open()?.until(interrupt()?);
    let size = usize::from(args.size);
    let shown = name(to, args.numeric);
    output::line(format_args!(
        "PING {} ({to}) {size}({}) bytes of data.",
        shown.as_deref().unwrap_or(&args.destination),
        size + 28
    ))?;
    let started = Instant::now();
    let (mut sent, mut received, mut errors) = (0_u16, 0, 0);
    let mut times: Vec<f64> = Vec::new();
    let between = seconds(args.interval);
    loop {
        sent = sent.wrapping_add(1);
        let last = args.count == Some(sent);
        let wait = if last { seconds(args.timeout) } else { between };
        let (answer, took) = prober.probe(to, args.ttl, sent, size, wait)?;
        match answer {
            Answer::Reply { from, ttl, length } => {
                received += 1;
                times.push(took.as_secs_f64() * 1000.0);
                output::line(format_args!(
                    "{length} bytes from {}: icmp_seq={sent} ttl={ttl} time={:.3} ms",
                    who(from, args.numeric),
                    took.as_secs_f64() * 1000.0
                ))?;
            }
            Answer::Unreachable { from, code } => {
                errors += 1;
                output::line(format_args!("From {} icmp_seq={sent} {}", who(from, args.numeric), unreachable(code)))?;
            }
            Answer::Expired { from } => {
                errors += 1;
                output::line(format_args!("From {} icmp_seq={sent} Time to live exceeded", who(from, args.numeric)))?;
            }
            Answer::NotSent(errno) => {
                output::line(format_args!("ping: sendmsg: {}", std::io::Error::from_raw_os_error(errno)))?;
            }
            Answer::Silence => {}
        }
        // Ctrl-C: nothing further is sent, and the statistics follow.
        let pause = if last { Duration::ZERO } else { between.saturating_sub(took) };
        if prober.pause(pause).context(|| "cannot wait".into())? || last {
            break;
        }
    }
    summary(&args, sent, received, errors, started.elapsed(), &times, shown.as_deref().unwrap_or(&args.destination))?;
    Ok(u8::from(received == 0))
}

/// A time as typed; none where it is negative, and a day at most, so that no sum of times overflows.
fn seconds(typed: f64) -> Duration {
    Duration::try_from_secs_f64(typed.min(86_400.0)).unwrap_or_default()
}

/// From now on, Ctrl-C does not kill this process, but can be read from the descriptor.
fn interrupt() -> Result<SignalFd> {
    let waiting = || "cannot wait for SIGINT".to_string();
    let signals = SigSet::from_iter([Signal::SIGINT]);
    signals.thread_block().context(waiting)?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context(waiting)
}

fn summary(
    args: &Ping,
    sent: u16,
    received: u16,
    errors: u16,
    took: Duration,
    times: &[f64],
    name: &str,
) -> Result<()> {
    let lost = if sent == 0 { 0 } else { (u32::from(sent - received)) * 100 / u32::from(sent) };
    let errors = if errors > 0 { format!(" +{errors} errors,") } else { String::new() };
    output::line(format_args!("\n--- {name} ping statistics ---"))?;
    output::line(format_args!(
        "{sent} packets transmitted, {received} received,{errors} {lost}% packet loss, time {}ms",
        if args.count == Some(1) { 0 } else { took.as_millis() }
    ))?;
    if times.is_empty() {
        output::line("")
    } else {
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        output::line(format_args!("rtt min/avg/max/mdev = {least:.3}/{mean:.3}/{most:.3}/{deviation:.3} ms"))
    }
}

/// The canonical name of an address, if it has one and names are wanted.
fn name(address: Ipv4Addr, numeric: bool) -> Option<String> {
    let name = topology::current().name_of(IpAddr::V4(address));
    (!numeric && name != address.to_string()).then_some(name)
}

fn who(address: Ipv4Addr, numeric: bool) -> String {
    match name(address, numeric) {
        Some(name) => format!("{name} ({address})"),
        None => address.to_string(),
    }
}
