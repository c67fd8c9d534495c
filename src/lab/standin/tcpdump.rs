//! `tcpdump` for machines that have none: a line per IP packet that an interface sees.

use std::ffi::OsString;

use clap::Parser;

use super::parse;
use crate::error::Result;
use crate::lab::capture::{Capture, Direction};
use crate::output;
use crate::packet;

/// Show the packets that pass an interface (vpnlab's own tcpdump, for want of another)
#[derive(Debug, Parser)]
struct Tcpdump {
    /// The interface; default: all of them
    #[arg(short, value_name = "INTERFACE")]
    interface: Option<String>,
    /// Stop after this many packets
    #[arg(short, value_name = "COUNT")]
    count: Option<u64>,
    /// No names (there are none in any case)
    #[arg(short, action = clap::ArgAction::Count)]
    numeric: u8,
    /// A line at a time (it always is)
    #[arg(short)]
    line: bool,
    /// What to show: ip, icmp or udp
    #[arg(value_parser = ["ip", "icmp", "udp"])]
    filter: Option<String>,
}

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let args: Tcpdump = parse("tcpdump", words);
    let capture = Capture::open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    output::error_line(format_args!("listening on {}", args.interface.as_deref().unwrap_or("any")));
    let mut buffer = vec![0; 65_536];
    while left > 0 {
        let seen = capture.next(&mut buffer)?;
        let wanted = args.interface.as_ref().is_none_or(|name| *name == seen.interface);
        let line = packet::describe(seen.packet);
        let fits = match args.filter.as_deref() {
            Some("icmp") => line.contains("/ ICMP "),
            Some("udp") => line.contains("/ UDP "),
            _ => true,
        };
        if wanted && fits {
            let direction = if seen.direction == Direction::Out { "Out" } else { "In " };
            output::line(format_args!("{} {direction} {line}", seen.interface))?;
            left -= 1;
        }
    }
    Ok(0)
}
