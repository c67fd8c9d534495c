//! Step 4: both directions at once. The same loop at both ends; only how they find each other differs.

use std::os::fd::AsFd;

use clap::{Args, ValueEnum};

use crate::counts::{Report, UDP};
use crate::error::Result;
use crate::interface::Interface;
use crate::lines::Lines;
use crate::link::{Fit, Link, TunLink, UdpLink};
use crate::select;
use crate::signals::Signals;
use crate::steps::ends;
use crate::steps::options::{ClientOptions, OffloadOptions, ServerOptions, TunOptions};
use crate::topology;
use crate::tun::Tun;
use crate::upkeep::Upkeep;

/// `vpnlab vpn`
#[derive(Debug, Args)]
pub struct VpnArgs {
    /// Which end of the tunnel this is
    #[arg(long)]
    role: Role,
    #[command(flatten)]
    tun: TunOptions,
    #[command(flatten)]
    offload: OffloadOptions,
    #[command(flatten, next_help_heading = "Options of --role client")]
    client: ClientOptions,
    #[command(flatten, next_help_heading = "Options of --role server")]
    server: ServerOptions,
}

/// The two ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends to a server, and reaches its networks through the tunnel
    Client,
    /// Waits for clients, and sends to where each was heard last
    Server,
}

/// Runs one end of the tunnel.
pub fn run(args: &VpnArgs) -> Result<()> {
    let options = TunOptions { headers: args.offload.parts().is_some(), ..args.tun.clone() };
    match args.role {
        Role::Client => run_client(args, &options),
        Role::Server => run_server(args, &options),
    }
}

fn run_client(args: &VpnArgs, options: &TunOptions) -> Result<()> {
    args.server.refuse("--role server")?;
    let server = args.client.find_server()?;
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    let signals = Signals::block()?;
    let net = UdpLink::to_server(server)?.recorded(recording)?;
    let routes = &topology::current().tunnel.routes;
    let (tun, interface) = args.client.open_tun(options, net.path().mtu(), server, routes)?;
    carry(args, tun, interface, net, signals, report)
}

fn run_server(args: &VpnArgs, options: &TunOptions) -> Result<()> {
    args.client.refuse("--role client")?;
    args.client.check_routes(&args.tun)?;
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    let signals = Signals::block()?;
    let mut net = args.server.listen()?.recorded(recording)?;
    let mtu = net.path().mtu();
    let (tun, interface) = args.server.open_tun(options, mtu, &args.client.routes, &mut net)?;
    carry(args, tun, interface, net, signals, report)
}

/// Carries packets between the TUN device and the network, until the user ends it.
fn carry(args: &VpnArgs, tun: Tun, interface: Interface, net: UdpLink, signals: Signals, report: Report) -> Result<()> {
    let tun = TunLink::new(tun, interface.addresses()).recorded(net.recording());
    // The same loop, whether the links carry packets one by one or many at a time.
    let (tun, mut net) = match args.offload.parts() {
        Some(parts) => (tun.with_offload(parts)?, net.with_offload(parts)),
        None => (tun, net),
    };
    // The outer headers need room, so a packet must be smaller than what the path to the other end takes.
    let mut tun = Fit::new(tun, net.path());
    let mtu = interface.follow_path(net.path(), args.tun.mtu.is_none())?;
    // Whoever sends to us meets a process without rights: they stay with another one, which keeps the interface.
    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tun.privileges)?.following(mtu);
    let mut packets = net.batch();
    let mut lines = Lines::new(args.tun.count)?;
    while !lines.done() {
        // Sleep until one side has something; asking them in turns would burn a processor.
        let [from_tun, from_net] = select::readable([tun.as_fd(), net.as_fd()], upkeep.waiting())?;
        if from_tun {
            tun.recv(&mut packets)?;
            lines.packets(&packets, |packet| format!("From tun ==>: {}", ends(packet, "-->")));
            net.send(&packets)?;
        }
        if from_net {
            net.recv(&mut packets)?;
            lines.packets(&packets, |packet| format!("From socket <==: {}", ends(packet, "-->")));
            tun.send(&packets)?;
        }
        if upkeep.attend(&mut lines, &[(tun.name(), tun.counts()), (UDP, net.counts())])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(tun.name(), tun.counts()), (UDP, net.counts())]);
    Ok(())
}
