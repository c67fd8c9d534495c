//! `tcpdump` for machines that have none: a line per IP packet that an interface sees.

use std::ffi::OsString;
use std::os::fd::AsFd;

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::parse;
use crate::error::{Context, Result};
use crate::lab::capture::Capture;
use crate::output;
use crate::packet;
use crate::pcapng::Direction;

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
    let mut capture = Capture::open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    output::error_line(format_args!("listening on {}", args.interface.as_deref().unwrap_or("any")));
    while left > 0 {
        let Some(frame) = capture.take()? else {
            let mut awaited = [PollFd::new(capture.as_fd(), PollFlags::POLLIN)];
            poll(&mut awaited, PollTimeout::NONE).context(|| "cannot wait for packets".into())?;
            continue;
        };
        let Some(packet) = frame.packet() else { continue };
        let wanted = args.interface.as_ref().is_none_or(|name| *name == frame.interface);
        let line = packet::describe(packet);
        let fits = match args.filter.as_deref() {
            Some("icmp") => line.contains("/ ICMP "),
            Some("udp") => line.contains("/ UDP "),
            _ => true,
        };
        if wanted && fits {
            let direction = if frame.direction == Direction::Out { "Out" } else { "In " };
            output::line(format_args!("{} {direction} {line}", frame.interface))?;
            left -= 1;
        }
    }
    Ok(0)
}
