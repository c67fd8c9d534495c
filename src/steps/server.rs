//! Step 3: what arrives inside UDP datagrams goes into the TUN device, and the kernel forwards it to its destination.

use std::os::fd::AsFd;

use clap::Args;

use crate::counts::UDP;
use crate::error::Result;
use crate::lines::Lines;
use crate::link::{Batch, Link, TunLink, plain};
use crate::select;
use crate::signals::Signals;
use crate::steps::ends;
use crate::steps::options::{ETHERNET_MTU, ServerOptions, TunOptions};
use crate::upkeep::Upkeep;

/// `vpnlab server`
#[derive(Debug, Args)]
pub struct ServerArgs {
    #[command(flatten)]
    tun: TunOptions,
    #[command(flatten)]
    server: ServerOptions,
}

/// Writes every packet from the network to the TUN device. Nothing goes back yet.
pub fn run(args: &ServerArgs) -> Result<()> {
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    let signals = Signals::block()?;
    let mut net = args.server.listen()?.recorded(recording.clone())?;
    let local = net.local()?;

    // To the kernel, what we write comes in through the TUN device; it forwards what is not for this host.
    let (tun, interface) = args.server.open_tun(&args.tun, ETHERNET_MTU, &[], &mut net)?;
    let mut tun = TunLink::new(tun, interface.addresses()).recorded(recording);

    // Anybody may send to our port, so this process goes on without the rights that it needed so far.
    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tun.privileges)?;
    let mut packets = Batch::new();
    let mut lines = Lines::new(args.tun.count)?;
    while !lines.done() {
        let [from_net] = select::readable([net.as_fd()], upkeep.waiting())?;
        if from_net {
            // The payload of a datagram is a whole packet; the outer headers are gone already.
            net.recv(&mut packets)?;
            lines.packets(&packets, |packet| {
                let from = net.peer().map_or("somebody".into(), |peer| plain(peer).to_string());
                format!("{from} --> {local}\n Inside: {}", ends(packet, "--->"))
            });
            tun.send(&packets)?;
        }
        if upkeep.attend(&mut lines, &[(UDP, net.counts()), (tun.name(), tun.counts())])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(UDP, net.counts()), (tun.name(), tun.counts())]);
    Ok(())
}
