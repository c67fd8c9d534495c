//! Step 1, first half: create a TUN device, and show what the kernel sends through it.

use std::net::IpAddr;
use std::os::fd::AsFd;

use clap::Args;

use crate::counts::Cause;
use crate::error::Result;
use crate::lines::Lines;
use crate::link::{Batch, Link, TunLink};
use crate::packet::{describe, hex_dump, reply_from};
use crate::select;
use crate::signals::Signals;
use crate::steps::options::{ETHERNET_MTU, TunOptions};
use crate::topology;
use crate::upkeep::Upkeep;

/// `vpnlab tun-read`
#[derive(Debug, Args)]
pub struct TunReadArgs {
    #[command(flatten)]
    tun: TunOptions,
    /// Show the bytes of each packet, too
    #[arg(long)]
    hex: bool,
    /// Answer each packet with its own payload, as if ADDR had sent it
    #[arg(long, value_name = "ADDR")]
    reply_from: Option<IpAddr>,
}

/// Shows every packet that comes out of the TUN device, and writes one back where that is asked for.
pub fn run(args: &TunReadArgs) -> Result<()> {
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    // From here on Ctrl-C ends the loop, not the program.
    let signals = Signals::block()?;

    // A TUN device with an address, and up: from now on, packets for its subnet come to us.
    let settings = args.tun.settings(topology::current().tunnel.client_address, ETHERNET_MTU)?;
    let (tun, interface) = args.tun.open(settings)?;
    let mut tun = TunLink::new(tun, interface.addresses()).recorded(recording);

    // To read and write what is open takes no rights: they stay with another process, which keeps the interface.
    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tun.privileges)?;
    let (mut packets, mut replies) = (Batch::new(), Batch::new());
    let mut lines = Lines::new(args.tun.count)?;
    while !lines.done() && !lines.closed() {
        let [from_tun] = select::readable([tun.as_fd()], upkeep.waiting())?;
        if from_tun {
            // What is read is one IP packet: a bunch of bytes, the first of them its IP header.
            tun.recv(&mut packets)?;
            replies.clear();
            for packet in packets.iter() {
                lines.packet(packet.len(), || show(packet, args.hex));
                if let Some(source) = args.reply_from
                    && replies.push_with(|room| reply_from(packet, source, room)).is_err()
                {
                    tun.ignore(Cause::NotRewritable);
                }
            }
            // What is written arrives in the kernel as if it came from a wire.
            tun.send(&replies)?;
        }
        if upkeep.attend(&mut lines, &[(tun.name(), tun.counts())])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(tun.name(), tun.counts())]);
    Ok(())
}

fn show(packet: &[u8], hex: bool) -> String {
    match hex {
        true => format!("{}\n{}", describe(packet), hex_dump(packet).trim_end()),
        false => describe(packet),
    }
}
