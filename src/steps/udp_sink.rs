//! Step 2, the server's half: show the IP packets that arrive inside UDP datagrams, and drop them.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;

use clap::Args;

use crate::counts::{Cause, Counts, UDP};
use crate::error::{Context, Result};
use crate::lines::Lines;
use crate::link::{LARGEST_PACKET, bind, plain};
use crate::packet::validate;
use crate::pcapng::Direction;
use crate::privileges::Privileges;
use crate::select;
use crate::signals::Signals;
use crate::steps::ends;
use crate::steps::options::{self, PcapOptions, StatsOptions};
use crate::upkeep::Upkeep;

/// `vpnlab udp-sink`
#[derive(Debug, Args)]
pub struct UdpSinkArgs {
    /// UDP port to listen on [default: the lab's]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on [default: 0.0.0.0, all of IPv4; :: is all of IPv6 and IPv4]
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    #[command(flatten)]
    pcap: PcapOptions,
    #[command(flatten)]
    privileges: Privileges,
    #[command(flatten)]
    stats: StatsOptions,
    /// End after N datagrams
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Shows from where each datagram came, and between whom the packet inside it is.
pub fn run(args: &UdpSinkArgs) -> Result<()> {
    let recording = args.pcap.begin()?;
    let report = args.stats.begin()?;
    let signals = Signals::block()?;

    // Any datagram that reaches our port is ours, whoever sent it: no root needed, no connection either.
    let socket = bind(options::listening_address(args.bind, args.port))?;
    socket.set_nonblocking(true).context(|| "cannot prepare the UDP socket".into())?;
    let local = socket.local_addr().context(|| "cannot ask for the socket's address".into())?;

    let mut upkeep = Upkeep::begin(signals, None, report, args.privileges)?;
    let mut lines = Lines::new(args.count)?;
    lines.line(&format!("Start UDP server on port {}", local.port()));

    let mut buffer = vec![0; LARGEST_PACKET];
    let mut counts = Counts::default();
    while !lines.done() && !lines.closed() {
        let [from_net] = select::readable([socket.as_fd()], upkeep.waiting())?;
        if from_net {
            let (datagram, from) = match socket.recv_from(&mut buffer) {
                Ok((length, from)) => (&buffer[..length], plain(from)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context(|| format!("cannot receive on {local}")),
            };
            if let Some(recording) = &recording {
                recording.datagram(Direction::In, local, from, datagram);
            }
            // The payload of the outer packet is a whole packet itself.
            lines.packet(datagram.len(), || format!("{from} --> {local}\n Inside: {}", ends(datagram, "--->")));
            match validate(datagram) {
                Ok(_) => counts.received.add(datagram.len()),
                Err(_) => drop(counts.drops.note(Cause::NotIp)),
            }
        }
        if upkeep.attend(&mut lines, &[(UDP, &counts)])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(UDP, &counts)]);
    Ok(())
}
