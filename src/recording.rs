//! `--pcap FILE`: what a step reads and writes, as it does so, in a file for Wireshark.
//!
//! The links hand each packet over; the file has an interface for the TUN device and one for the socket. A socket tells
//! a datagram's payload and where it came from, not its headers: those are made up here, from the addresses and ports. A
//! file that cannot be written any more, as on a full disk, is told once, and the step goes on without it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use log::warn;

use crate::error::{Error, Result};
use crate::packet::{checksum::Sum, protocol};
use crate::pcapng::{Direction, LinkType, Packet, Pcapng};

/// The headers of IPv4, IPv6 and UDP in bytes (RFC 791, RFC 8200, RFC 768).
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;

/// The TTL of a header that is made up: where the real one is not known.
const TTL: u8 = 64;

/// The name that the socket's datagrams have in the file.
const SOCKET: &str = "udp";

/// A file that several links write to.
#[derive(Debug, Clone)]
pub struct Recording(Rc<RefCell<Open>>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    /// Nothing once it could not be written.
    file: Option<Pcapng<BufWriter<File>>>,
    interfaces: Vec<(String, u32)>,
    /// The address that this host has towards the last other end.
    towards: Option<(IpAddr, IpAddr)>,
}

impl Recording {
    /// Begins the file, which is written anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let begin = || Pcapng::new(BufWriter::new(File::create(path)?));
        let file = begin().map_err(|error| Error::usage(format!("cannot write {}", path.display())).because(error))?;
        let open = Open { path: path.into(), file: Some(file), interfaces: Vec::new(), towards: None };
        Ok(Self(Rc::new(RefCell::new(open))))
    }

    /// Records packets, or frames, that came out of a TUN or TAP device, or went into it.
    pub fn packets<'p>(
        &self,
        device: &str,
        kind: LinkType,
        direction: Direction,
        packets: impl Iterator<Item = &'p [u8]>,
    ) {
        let mut open = self.0.borrow_mut();
        packets.for_each(|packet| open.write(device, kind, direction, packet));
        open.flush();
    }

    /// Records a datagram that the socket at `local` has received from `peer`, or has sent there.
    pub fn datagram(&self, direction: Direction, local: SocketAddr, peer: SocketAddr, payload: &[u8]) {
        let mut open = self.0.borrow_mut();
        let local = open.own_address(local, peer);
        let packet = match direction {
            Direction::In => with_headers(peer, local, payload),
            Direction::Out => with_headers(local, peer, payload),
        };
        open.write(SOCKET, LinkType::Raw, direction, &packet);
        open.flush();
    }
}

impl Open {
    fn write(&mut self, interface: &str, kind: LinkType, direction: Direction, bytes: &[u8]) {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.attempt(|file, interfaces| {
            let known = interfaces.iter().find(|(name, _)| name == interface);
            let interface = match known {
                Some((_, number)) => *number,
                None => {
                    let number = file.interface(interface, kind)?;
                    interfaces.push((interface.into(), number));
                    number
                }
            };
            file.packet(&Packet { interface, at, direction, bytes, length: bytes.len(), comment: None })
        });
    }

    /// Whoever reads the file meanwhile, or after a `kill -9`, has everything so far.
    fn flush(&mut self) {
        self.attempt(|file, _| file.flush());
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Pcapng<BufWriter<File>>, &mut Vec<(String, u32)>) -> io::Result<()>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = work(file, &mut self.interfaces) {
            warn!("{} ends here, since it cannot be written: {error}", self.path.display());
            self.file = None;
        }
    }

    /// A socket that is bound to every address sends from the one that the route to the other end has.
    fn own_address(&mut self, local: SocketAddr, peer: SocketAddr) -> SocketAddr {
        if !local.ip().is_unspecified() {
            return local;
        }
        let known = self.towards.filter(|(other, _)| *other == peer.ip()).map(|(_, own)| own);
        let ask = || {
            let socket = UdpSocket::bind((local.ip(), 0))?;
            socket.connect(peer)?;
            io::Result::Ok(socket.local_addr()?.ip())
        };
        let own = known.unwrap_or_else(|| ask().unwrap_or(local.ip()));
        self.towards = Some((peer.ip(), own));
        SocketAddr::new(own, local.port())
    }
}

/// A datagram as a packet, with headers that say what is known.
fn with_headers(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    // Larger than a datagram can be is what the kernel cuts into several (UDP_SEGMENT): then the fields say the most
    // that they can, and the bytes are all there.
    let length = UDP_HEADER + payload.len();
    let stated = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let mut udp = Vec::with_capacity(length);
    for word in [from.port(), to.port(), stated(length), 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(payload);
    let (mut packet, addresses) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let mut header = vec![0x45, 0];
            header.extend(stated(IPV4_HEADER + length).to_be_bytes());
            header.extend([0, 0, 0, 0, TTL, protocol::UDP, 0, 0]);
            header.extend(&addresses);
            let sum = Sum::default().add(&header).checksum();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            (header, addresses)
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let addresses = [octets(from), octets(to)].concat();
            let mut header = Vec::with_capacity(IPV6_HEADER);
            header.extend([0x60, 0, 0, 0]);
            header.extend(stated(length).to_be_bytes());
            header.extend([protocol::UDP, TTL]);
            header.extend(&addresses);
            (header, addresses)
        }
    };
    // The checksum covers a pseudo-header, too (RFC 768, RFC 8200 section 8.1); a sum of zero is sent as its complement.
    let pseudo = [&addresses[..], &[0, protocol::UDP], &stated(length).to_be_bytes()].concat();
    let sum = match Sum::default().add(&pseudo).add(&udp).checksum() {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::udp::{UdpPacket, ipv4_checksum, ipv6_checksum};

    #[test]
    fn a_datagram_gets_headers_that_another_library_finds_right() {
        let packet = with_headers("10.1.2.2:40000".parse().unwrap(), "10.1.2.3:9090".parse().unwrap(), b"hello");
        let ip = Ipv4Packet::new(&packet).unwrap();
        let (source, destination) = (ip.get_source(), ip.get_destination());
        assert_eq!((source, destination), ([10, 1, 2, 2].into(), [10, 1, 2, 3].into()));
        assert_eq!((usize::from(ip.get_total_length()), ip.get_checksum()), (packet.len(), ipv4::checksum(&ip)));
        let udp = UdpPacket::new(&packet[20..]).unwrap();
        assert_eq!((udp.get_source(), udp.get_destination(), udp.get_length()), (40_000, 9090, 13));
        assert_eq!(udp.get_checksum(), ipv4_checksum(&udp, &source, &destination));
        assert_eq!(&packet[28..], b"hello");
    }

    #[test]
    fn what_is_too_long_for_its_headers_says_the_most_that_they_can() {
        let payload = vec![7; 65_520];
        for (from, to, header) in [("10.1.2.2:1", "10.1.2.3:2", 20), ("[fd00::1]:1", "[fd00::2]:2", 40)] {
            let packet = with_headers(from.parse().unwrap(), to.parse().unwrap(), &payload);
            assert_eq!(packet.len(), header + 8 + payload.len());
            let stated = |place: usize| u16::from_be_bytes([packet[place], packet[place + 1]]);
            let udp = stated(header + 4);
            assert_eq!(udp, 65_528);
            assert_eq!(stated(if header == 20 { 2 } else { 4 }), if header == 20 { u16::MAX } else { udp });
        }
    }

    #[test]
    fn so_does_one_over_ipv6() {
        let packet = with_headers("[fd00::1]:40000".parse().unwrap(), "[fd00::2]:9090".parse().unwrap(), b"odd");
        let ip = Ipv6Packet::new(&packet).unwrap();
        assert_eq!(usize::from(ip.get_payload_length()) + 40, packet.len());
        let udp = UdpPacket::new(&packet[40..]).unwrap();
        assert_eq!(udp.get_checksum(), ipv6_checksum(&udp, &ip.get_source(), &ip.get_destination()));
    }

    #[test]
    fn an_ipv4_address_on_a_socket_for_both_is_one() {
        let packet = with_headers("[::ffff:10.1.2.2]:1".parse().unwrap(), "[::ffff:10.1.2.3]:2".parse().unwrap(), b"");
        assert_eq!((packet[0], packet.len()), (0x45, 28));
    }

    #[test]
    fn a_socket_for_every_address_has_the_one_of_its_route() {
        let directory = std::env::temp_dir().join(format!("vpnlab-recording-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("t.pcapng");
        let recording = Recording::create(&path).unwrap();
        let own = recording.0.borrow_mut().own_address("0.0.0.0:7".parse().unwrap(), "127.0.0.9:9".parse().unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(own, "127.0.0.1:7".parse().unwrap());
    }
}
