//! After the handout: a TAP device, whose packets are Ethernet frames, and an answer to every ARP request that comes out of it.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use clap::Args;

use crate::addresses::Addresses;
use crate::counts::Cause;
use crate::error::Result;
use crate::lines::Lines;
use crate::link::{Batch, Link, TunLink};
use crate::packet::{Frame, Mac, arp_reply, describe_frame, echo_reply_in_frame, ethertype, validate};
use crate::select;
use crate::signals::Signals;
use crate::steps::options::{ETHERNET_MTU, TapOptions};
use crate::topology;
use crate::upkeep::Upkeep;

/// `vpnlab tap-arp`
#[derive(Debug, Args)]
pub struct TapArpArgs {
    #[command(flatten)]
    tap: TapOptions,
    /// The MAC address in the answers, for all of the addresses that nobody has
    #[arg(long, value_name = "MAC", default_value = "aa:bb:cc:dd:ee:ff")]
    mac: Mac,
    /// Answer for addresses outside of the TAP device's subnets, too
    #[arg(long)]
    any: bool,
    /// Answer the pings as well that are then sent to that MAC address
    #[arg(long)]
    ping: bool,
}

/// Shows every frame that comes out of the TAP device, and answers those that ask for a MAC address.
pub fn run(args: &TapArpArgs) -> Result<()> {
    let recording = args.tap.pcap.begin()?;
    let report = args.tap.stats.begin()?;
    let signals = Signals::block()?;

    // A TAP device is an Ethernet interface: it has a MAC address of its own, and its host asks for those of the others.
    let settings = args.tap.settings(topology::current().tunnel.client_address, ETHERNET_MTU)?;
    let (tap, interface) = args.tap.open(settings)?;
    let mut tap = TunLink::new(tap, std::iter::empty()).recorded(recording);
    let neighbour =
        Neighbour { mac: args.mac, any: args.any, ping: args.ping, addresses: interface.known_addresses()? };

    let mut upkeep = Upkeep::begin(signals, Some(interface), report, args.tap.privileges)?;
    let (mut frames, mut replies) = (Batch::new(), Batch::new());
    let mut lines = Lines::new(args.tap.count)?;
    while !lines.done() && !lines.closed() {
        let [from_tap] = select::readable([tap.as_fd()], upkeep.waiting())?;
        if from_tap {
            // What is read is one frame: two MAC addresses, a type, and then a packet, or a question.
            tap.recv(&mut frames)?;
            replies.clear();
            for bytes in frames.iter() {
                let answered = replies.push_with(|room| neighbour.answer(bytes, room));
                lines.packet(bytes.len(), || show(bytes, answered.is_ok().then(|| replies.iter().last()).flatten()));
                if let Err(cause) = answered {
                    tap.ignore(cause);
                }
            }
            tap.send(&replies)?;
        }
        if upkeep.attend(&mut lines, &[(tap.name(), tap.counts())])?.is_break() {
            break;
        }
    }
    drop(lines);
    upkeep.finish(&[(tap.name(), tap.counts())]);
    Ok(())
}

/// Stands in for every host on the wire behind the TAP device.
struct Neighbour {
    mac: Mac,
    any: bool,
    ping: bool,
    addresses: Addresses,
}

impl Neighbour {
    /// Writes the answer to a frame, if it asks for one.
    fn answer<'b>(&self, bytes: &[u8], room: &'b mut [u8]) -> Result<&'b [u8], Cause> {
        let frame = Frame::parse(bytes).map_err(|why| Cause::NoArpReply(why.into()))?;
        match frame.ethertype {
            ethertype::IPV4 if self.ping && frame.destination == self.mac => {
                // For our own addresses the kernel answers.
                if validate(frame.payload).is_ok_and(|ends| self.addresses.now().own.contains(&ends.destination)) {
                    return Err(Cause::OwnDestination);
                }
                echo_reply_in_frame(&frame, room).map_err(Cause::NoReply)
            }
            _ => arp_reply(&frame, self.mac, |address| self.has(address), room).map_err(Cause::NoArpReply),
        }
    }

    /// Whether to answer for this address: never for one that the host itself has.
    fn has(&self, address: Ipv4Addr) -> bool {
        // It may have been given one just now.
        self.addresses.look();
        let known = self.addresses.now();
        let address = IpAddr::V4(address);
        let is_host = !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
        let is_host = is_host && address != IpAddr::V4(Ipv4Addr::BROADCAST) && !known.is_whole_subnet(address);
        is_host && (self.any || known.is_inside(address)) && !known.own.contains(&address)
    }
}

/// The line of a frame, and below it that of its answer.
fn show(frame: &[u8], reply: Option<&[u8]>) -> String {
    match reply {
        Some(reply) => format!("{}\nTo tap <==: {}", describe_frame(frame), describe_frame(reply)),
        None => describe_frame(frame),
    }
}
