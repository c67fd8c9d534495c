//! `traceroute` for machines that have none: probes with a growing TTL, one line per hop.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::Parser;

use super::{parse, resolve};
use crate::error::Result;
use crate::lab::probe::{Answer, Prober};
use crate::output;
use crate::topology;

/// Show the routers on the way to a host (vpnlab's own traceroute, for want of another)
#[derive(Debug, Parser)]
struct Traceroute {
    /// The most hops to try
    #[arg(short, value_name = "HOPS", default_value_t = 30)]
    most: u8,
    /// Seconds to wait for each answer
    #[arg(short, value_name = "SECONDS", default_value_t = 5)]
    wait: u64,
    /// No names
    #[arg(short)]
    numeric: bool,
    /// A host's name or address
    destination: String,
}

const PROBES_PER_HOP: u16 = 3;
const PAYLOAD: usize = 32; // with the headers, traceroute's 60 bytes

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let args: Traceroute = parse("traceroute", words);
    let to = resolve(&args.destination)?;
    let prober = Prober::open()?;
    output::line(format_args!("traceroute to {} ({to}), {} hops max, 60 byte packets", args.destination, args.most))?;
    let mut sequence = 0;
    for hop in 1..=args.most {
        let mut line = format!("{hop:2} ");
        let (mut shown, mut done) = (None, false);
        for _ in 0..PROBES_PER_HOP {
            sequence += 1;
            let (answer, took) = prober.probe(to, hop, sequence, PAYLOAD, Duration::from_secs(args.wait))?;
            let (from, mark) = match answer {
                Answer::Reply { from, .. } => (from, ""),
                Answer::Expired { from } => (from, ""),
                Answer::Unreachable { from, code } => (from, if code == 1 { " !H" } else { " !N" }),
                Answer::NotSent(_) | Answer::Silence => {
                    line.push_str(" *");
                    continue;
                }
            };
            done |= !matches!(answer, Answer::Expired { .. });
            if shown != Some(from) {
                line.push_str(&format!(" {}", who(from, args.numeric)));
                shown = Some(from);
            }
            line.push_str(&format!("  {:.3} ms{mark}", took.as_secs_f64() * 1000.0));
        }
        output::line(line)?;
        if done {
            break;
        }
    }
    Ok(0)
}

fn who(address: Ipv4Addr, numeric: bool) -> String {
    match numeric {
        true => address.to_string(),
        false => format!("{} ({address})", topology::current().name_of(IpAddr::V4(address))),
    }
}
