//! Step 2, the client's half: what comes out of the TUN device goes to the server, each packet inside a UDP datagram.

use std::os::fd::AsFd;

use clap::Args;

use crate::counts::UDP;
use crate::error::Result;
use crate::lines::Lines;
use crate::link::{Batch, Link, TunLink, UdpLink};
use crate::select;
use crate::signals::Signals;
use crate::steps::ends;
use crate::steps::options::{ClientOptions, ETHERNET_MTU, TunOptions};
use crate::upkeep::Upkeep;

/// `vpnlab client`
#[derive(Debug, Args)]
pub struct ClientArgs {
    #[command(flatten)]
    tun: TunOptions,
    #[command(flatten)]
    client: ClientOptions,
}

/// Sends every packet from the TUN device to the server. Nothing comes back yet.
pub fn run(args: &ClientArgs) -> Result<()> {
    let server = args.client.find_server()?;
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    let signals = Signals::block()?;

    // The routes decide which packets the kernel sends through the TUN device.
    let (tun, interface) = args.client.open_tun(&args.tun, ETHERNET_MTU, server, &[])?;
    let mut tun = TunLink::new(tun, interface.addresses()).recorded(recording.clone());
    let mut net = UdpLink::to_server(server)?.recorded(recording)?;

    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tun.privileges)?;
    let mut packets = Batch::new();
    let mut lines = Lines::new(args.tun.count)?;
    while !lines.done() {
        let [from_tun] = select::readable([tun.as_fd()], upkeep.waiting())?;
        if from_tun {
            // The whole packet, header included, becomes the payload of a datagram.
            tun.recv(&mut packets)?;
            lines.packets(&packets, |packet| format!("From tun ==>: {}", ends(packet, "-->")));
            net.send(&packets)?;
        }
        if upkeep.attend(&mut lines, &[(tun.name(), tun.counts()), (UDP, net.counts())])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(tun.name(), tun.counts()), (UDP, net.counts())]);
    Ok(())
}
