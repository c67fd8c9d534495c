//! Step 1, second half: answer the echo requests to all those addresses that nobody has.

use std::net::IpAddr;
use std::os::fd::AsFd;

use clap::Args;

use crate::clock::now;
use crate::counts::Cause;
use crate::error::Result;
use crate::lines::Lines;
use crate::link::{Batch, LARGEST_PACKET, Link, TunLink};
use crate::packet::{Reassembled, Reassembler, describe, echo_reply, fragment, validate};
use crate::select;
use crate::signals::Signals;
use crate::steps::options::{ETHERNET_MTU, TunOptions};
use crate::topology;
use crate::upkeep::Upkeep;

/// `vpnlab tun-ping`
#[derive(Debug, Args)]
pub struct TunPingArgs {
    #[command(flatten)]
    tun: TunOptions,
}

/// Answers every echo request that comes out of the TUN device, and ignores everything else.
pub fn run(args: &TunPingArgs) -> Result<()> {
    let recording = args.tun.pcap.begin()?;
    let report = args.tun.stats.begin()?;
    let signals = Signals::block()?;
    let settings = args.tun.settings(topology::current().tunnel.client_address, ETHERNET_MTU)?;
    let mtu = settings.mtu as usize;
    let (tun, interface) = args.tun.open(settings)?;
    let mut tun = TunLink::new(tun, interface.addresses()).recorded(recording);
    let mut responder = Responder::new(interface.addresses().collect(), mtu);

    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tun.privileges)?;
    let (mut packets, mut replies) = (Batch::new(), Batch::new());
    let mut lines = Lines::new(args.tun.count)?;
    while !lines.done() && !lines.closed() {
        let [from_tun] = select::readable([tun.as_fd()], upkeep.waiting())?;
        if from_tun {
            tun.recv(&mut packets)?;
            replies.clear();
            for packet in packets.iter() {
                if let Err(cause) = responder.answer(packet, &mut replies, &mut lines) {
                    tun.ignore(cause);
                }
            }
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

/// Stands in for every host behind the TUN device.
struct Responder {
    own: Vec<IpAddr>,
    mtu: usize,
    fragments: Reassembler,
    reply: Vec<u8>,
    identification: u32,
}

impl Responder {
    fn new(own: Vec<IpAddr>, mtu: usize) -> Self {
        Self { own, mtu, fragments: Reassembler::new(), reply: vec![0; LARGEST_PACKET], identification: 0 }
    }

    /// Appends the reply to `replies` if the packet is an echo request, or the last missing piece of one.
    fn answer(&mut self, packet: &[u8], replies: &mut Batch, lines: &mut Lines) -> Result<(), Cause> {
        // A request that is larger than the MTU comes in fragments (RFC 791, section 3.2).
        let whole = self.fragments.push(packet, now());
        let request = match &whole {
            Reassembled::Unfragmented(request) => request,
            Reassembled::Complete(request) => request.as_slice(),
            Reassembled::Incomplete => return Ok(()),
            Reassembled::Dropped(reason) => return Err(Cause::Fragment(*reason)),
        };
        // For our own addresses the kernel answers.
        if validate(request).is_ok_and(|ends| self.own.contains(&ends.destination)) {
            return Err(Cause::OwnDestination);
        }
        let reply = echo_reply(request, &mut self.reply).map_err(Cause::NoReply)?;
        lines.packet(request.len(), || format!("From tun ==>: {}\nTo tun <==: {}", describe(request), describe(reply)));

        // So does a reply go back in fragments. Only those of IPv6 need a number from us (RFC 8200, section 4.5).
        self.identification = self.identification.wrapping_add(1);
        fragment(reply, self.mtu, self.identification, |piece| replies.push(piece)).map_err(|_| Cause::Unfragmentable)
    }
}
