//! What `--help` of each step shows at its end: its defaults, and the commands that one would type in the lab.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::steps::options::{ETHERNET_MTU, TUNNEL_MTU};
use crate::topology::{self, Tunnel};

/// Of `tun-read`.
pub fn tun_read() -> String {
    let lab = lab();
    let spare = spare(lab.client_address);
    examples(
        &[
            ("sudo vpnlab tun-read", format!("then, in another terminal: ping -c1 {spare}")),
            ("sudo vpnlab tun-read --no-configure", "only create the device, as the first script does".into()),
            ("sudo vpnlab tun-read --hex", "each packet byte by byte, too".into()),
            ("sudo vpnlab tun-read --reply-from 1.2.3.4", "write a packet to the device for each one read".into()),
        ],
        &format!("The address is {} by default, the MTU {ETHERNET_MTU}.", lab.client_address),
    )
}

/// Of `tun-ping`.
pub fn tun_ping() -> String {
    let lab = lab();
    let spare = spare(lab.client_address);
    examples(
        &[
            ("sudo vpnlab tun-ping", format!("then, in another terminal: ping {spare}")),
            ("sudo vpnlab tun-ping --count 3", format!("end after 3 answers; try ping -s 4000 {spare}, too")),
            ("sudo vpnlab tun-ping --address fd00::1/64", "then: ping fd00::2".into()),
        ],
        &format!("The address is {} by default, the MTU {ETHERNET_MTU}.", lab.client_address),
    )
}

/// Of `udp-sink`.
pub fn udp_sink() -> String {
    let port = lab().port;
    examples(
        &[
            ("vpnlab udp-sink", format!("listen on port {port}; no root needed")),
            ("vpnlab udp-sink --port 9999 --count 1", "another port, and one datagram only".into()),
            ("vpnlab udp-sink --bind ::", "over IPv6, too".into()),
        ],
        &format!("The port is {port} by default."),
    )
}

/// Of `client`.
pub fn client() -> String {
    let lab = lab();
    let server = format!("{}:{}", lab.server, lab.port);
    let routes = routes(lab);
    examples(
        &[
            ("sudo vpnlab client", format!("then: ping {}, and look at the server", spare(lab.client_address))),
            (&format!("sudo vpnlab client --server {server} {routes}"), "with a route to the private network".into()),
            (&format!("sudo vpnlab client --server [fd00::3]:{}", lab.port), "over IPv6".into()),
        ],
        &format!("The server is {server} by default, the address {}, the MTU {ETHERNET_MTU}.", lab.client_address),
    )
}

/// Of `server`.
pub fn server() -> String {
    let lab = lab();
    examples(
        &[
            ("sudo vpnlab server", "says so where ip_forward is off".into()),
            ("sudo vpnlab server --forward", "switches it on as long as the server runs".into()),
            (&format!("sudo vpnlab server --allow-source {SITE}"), "clients may have addresses there, too".into()),
        ],
        &format!("The port is {} by default, the address {}, the MTU {ETHERNET_MTU}.", lab.port, lab.server_address),
    )
}

/// Of `vpn`.
pub fn vpn() -> String {
    let lab = lab();
    let Tunnel { port, server, client_address, server_address, .. } = lab;
    examples(
        &[
            ("sudo vpnlab vpn --role server", format!("on {server}")),
            ("sudo vpnlab vpn --role client", format!("on {}", lab.client)),
            (&format!("sudo vpnlab vpn --role client --server {server}:{port} {}", routes(lab)), "same".into()),
            ("sudo vpnlab vpn --role server --forward", "and switch ip_forward on".into()),
            ("sudo vpnlab vpn --role server --client-to-client", "its clients reach each other".into()),
            (
                &format!("sudo vpnlab vpn --role server --allow-source {SITE} --route {SITE}"),
                "a site behind a client".into(),
            ),
            ("sudo vpnlab vpn --role client --no-offload", "as slow as the handout's programs in C".into()),
            ("sudo vpnlab vpn --role client --offload=udp", "only this part of the fast path".into()),
        ],
        &format!(
            "By default the client goes to {server}:{port} with the address {client_address} and {}, and the server has \
             the address {server_address}. The MTU is what the path between them takes less the outer IP and UDP headers, \
             and follows it: {TUNNEL_MTU} over Ethernet. One that is given with --mtu stays.",
            routes(lab)
        ),
    )
}

/// Of `tap-arp`.
pub fn tap_arp() -> String {
    let lab = lab();
    let spare = spare(lab.client_address);
    examples(
        &[
            ("sudo vpnlab tap-arp", format!("then, in another terminal: ping -c1 {spare}; ip neigh")),
            ("sudo vpnlab tap-arp --ping", format!("ping {spare} is answered, too")),
            ("sudo vpnlab tap-arp --mac 02:00:00:00:00:42", "another MAC address in the answers".into()),
            ("sudo vpnlab tap-arp --any", "then: arping -I tap0 1.2.3.4".into()),
            ("sudo vpnlab tap-arp --pcap frames.pcapng", "record the frames, for Wireshark".into()),
        ],
        &format!("The address is {} by default, the MTU {ETHERNET_MTU}.", lab.client_address),
    )
}

/// A network that is in no lab: an example (RFC 5737).
const SITE: &str = "198.51.100.0/24";

fn lab() -> &'static Tunnel {
    &topology::current().tunnel
}

/// An address that nobody has: in the subnet of `address`, a few further on.
fn spare(address: IpNet) -> IpAddr {
    match address {
        IpNet::V4(subnet) => {
            subnet.hosts().find(|host| u32::from(*host) >= u32::from(subnet.addr()) + 3).unwrap_or(subnet.addr()).into()
        }
        IpNet::V6(subnet) => std::net::Ipv6Addr::from(u128::from(subnet.addr()).saturating_add(3)).into(),
    }
}

fn routes(lab: &Tunnel) -> String {
    lab.routes.iter().map(|route| format!("--route {route}")).collect::<Vec<_>>().join(" ")
}

fn examples(commands: &[(&str, String)], defaults: &str) -> String {
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let lines = commands.iter().map(|(command, what)| format!("  {command:width$}  {what}\n"));
    format!("{defaults}\n\nEXAMPLES:\n{}", lines.collect::<String>())
}
