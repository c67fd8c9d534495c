//! The causes that a packet can die of, each with what it is called, the handout's step that it belongs to, and the remedy.
//!
//! docs/trace.md has them as a table, which a test compares with this one.

use serde::Serialize;

use crate::topology::{self, Topology};

/// Why a packet did not arrive. Each is named only when the host has shown the fact that proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// There is no TUN device where the tunnel should begin or end.
    NoTun,
    /// The TUN device is down.
    TunDown,
    /// The client's packets do not bear an address of the tunnel's network, so that no reply comes back through it.
    WrongSource,
    /// No program holds the TUN device, or the one that does has not read the packet.
    TunUnread,
    /// A reply is back, and is not the one to the request.
    WrongReply,
    /// The route to the destination does not lead into the TUN device.
    NoRoute,
    /// A program has read the packet from the TUN device, and has sent nothing.
    NotSent,
    /// The datagram goes to another address or port than the tunnel's other end.
    WrongPeer,
    /// The datagram goes into the tunnel that it comes from.
    Loop,
    /// Nobody listens on the port that the datagram is for.
    NobodyListens,
    /// The program whose port it is has not read the datagram.
    DatagramUnread,
    /// What is in the datagram is no IP packet.
    NotIp,
    /// What is in the datagram, or was written to the TUN device, is not the packet that was read.
    Changed,
    /// A program has read the datagram, and has written nothing to its TUN device.
    NotWritten,
    /// Both TUN devices bear one address: the kernel drops a packet from outside that claims to be its own.
    SameAddress,
    /// The host does not forward packets.
    NoForwarding,
    /// The reverse-path filter dropped the packet.
    ReversePath,
    /// The reply goes to the default gateway instead of to the tunnel's end, or nowhere: there is no route back.
    ReplyToGateway,
    /// The reply reaches the server's TUN device, and nobody reads it there.
    ReplyUnread,
    /// The packet is larger than the next link's MTU.
    TooBig,
    /// The TTL has run out.
    TtlRanOut,
    /// Nobody on the wire has the next hop's address.
    NoNeighbour,
    /// An interface on the way is down.
    LinkDown,
    /// A router says that it cannot deliver the packet.
    Refused,
    /// The destination has the packet, and does not answer.
    NoAnswer,
    /// The packet is gone, and no host shows why.
    Unexplained,
}

impl Cause {
    /// All causes, in the order of the handout's steps.
    pub const ALL: [Self; 26] = [
        Self::NoTun,
        Self::TunDown,
        Self::WrongSource,
        Self::TunUnread,
        Self::WrongReply,
        Self::NoRoute,
        Self::NotSent,
        Self::WrongPeer,
        Self::Loop,
        Self::NobodyListens,
        Self::DatagramUnread,
        Self::NotIp,
        Self::Changed,
        Self::NotWritten,
        Self::SameAddress,
        Self::NoForwarding,
        Self::ReversePath,
        Self::ReplyToGateway,
        Self::ReplyUnread,
        Self::TooBig,
        Self::TtlRanOut,
        Self::NoNeighbour,
        Self::LinkDown,
        Self::Refused,
        Self::NoAnswer,
        Self::Unexplained,
    ];

    /// Its name in `--json` and in docs/trace.md.
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// What has happened, in a few words.
    pub fn title(self) -> &'static str {
        self.row().1
    }

    /// The handout's step that has it right.
    pub fn step(self) -> u8 {
        self.row().2
    }

    /// The fact for which it is named.
    pub fn proof(self) -> &'static str {
        self.row().3
    }

    /// What to do about it, with the names and addresses of this network.
    pub fn hint(self, topology: &Topology) -> String {
        let tunnel = &topology.tunnel;
        let list = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let address_for = |asker: &str| {
            let hosts = topology.host(asker).ok().zip(topology.host(&tunnel.server).ok());
            hosts.map_or(String::new(), |(asker, server)| topology.resolve(asker, server).to_string())
        };
        let words = [
            ("{client}", tunnel.client.clone()),
            ("{server}", tunnel.server.clone()),
            ("{port}", tunnel.port.to_string()),
            ("{networks}", list(&tunnel.routes)),
            ("{client-tun}", tunnel.client_address.to_string()),
            ("{subnet}", tunnel.client_address.trunc().to_string()),
            ("{server-tun}", tunnel.server_address.to_string()),
            ("{outside}", address_for(&tunnel.client)),
            ("{inside}", topology.behind_the_tunnel().map_or(String::new(), |host| address_for(&host.name))),
        ];
        words.iter().fold(self.row().4.to_string(), |hint, (word, is)| hint.replace(word, is))
    }

    fn row(self) -> (&'static str, &'static str, u8, &'static str, &'static str) {
        match self {
            Self::NoTun => (
                "no-tun",
                "there is no TUN device",
                1,
                "the host has no TUN device among its interfaces; a TAP device is none",
                "run the program that creates it, and leave it running: the device goes with its program",
            ),
            Self::TunDown => (
                "tun-down",
                "the TUN device is down",
                1,
                "its TUN device is not up",
                "ip link set dev tun0 up, after its address; routes through it are lost while it is down: add them again",
            ),
            Self::WrongSource => (
                "wrong-source",
                "the packet's source is no address of the tunnel's network",
                1,
                "the source with which it came out of the TUN device; the server did not take it, or the reply went to the default gateway, or nowhere",
                "on {client}: ip address add {client-tun} dev tun0, and no other address on that device",
            ),
            Self::TunUnread => (
                "tun-unread",
                "nobody reads the TUN device",
                1,
                "the echo came out of the device, which has not counted it as read; or no program holds the device",
                "is the program there, and in its loop? It must come back to read (or select) after each packet",
            ),
            Self::WrongReply => (
                "wrong-reply",
                "it is not the reply to this request",
                1,
                "the reply's source, identifier, sequence number, payload and checksum, compared with the request's",
                "a reply has all of the request but the type: its identifier, sequence number and payload, \
                 its addresses in each other's places, and a checksum over the new bytes",
            ),
            Self::NoRoute => (
                "no-route",
                "the route does not lead into the tunnel",
                2,
                "the kernel, asked for the route, names another interface, or none",
                "on {client}: ip route add {networks} dev tun0, while the TUN device is up; \
                 on {server} the address {server-tun} of its TUN device makes the route",
            ),
            Self::NotSent => (
                "not-sent",
                "the packet was read from the TUN device, and nothing was sent",
                2,
                "the device has counted it as read, and no datagram of that program left the host",
                "after the read, does every way through the loop come to sendto? A filter or an exception may skip it; \
                 and {server} knows its client only when it has heard from it",
            ),
            Self::WrongPeer => (
                "wrong-peer",
                "the datagram goes to, or comes from, the wrong address or port",
                4,
                "the datagram's destination: no end of the tunnel, or an address inside of it; for a reply, not where the request came from; or the source, which the client's connected socket does not take",
                "the client sends to {server}:{port}; the server answers with the socket that heard, to the address and port that recvfrom returned last",
            ),
            Self::Loop => (
                "loop",
                "the tunnel swallows its own datagrams",
                2,
                "the datagram is seen where its content came from: on its way out of the TUN device",
                "the client sends to {outside}, {server}'s address outside of the tunnel; no route through it may cover that",
            ),
            Self::NobodyListens => (
                "nobody-listens",
                "nobody listens on the UDP port",
                2,
                "the datagram came to the host, which has no socket for its address and port",
                "start the program again: that of {server} is bound to 0.0.0.0 and port {port}, and each must outlive its packets",
            ),
            Self::DatagramUnread => (
                "datagram-unread",
                "the datagram waits in the socket, and nobody reads it",
                4,
                "bytes wait in the socket that it is for",
                "wait for the socket and the TUN device at once, with select, and read whichever is ready",
            ),
            Self::NotIp => (
                "not-ip",
                "the datagram's payload is no IP packet",
                2,
                "the bytes of the datagram, compared with those that came out of the TUN device",
                "send the bytes as they were read: sendto(packet, ...), not str(packet); \
                 the device with IFF_NO_PI, and reads of more bytes than its MTU",
            ),
            Self::Changed => (
                "changed",
                "it is not the packet that was read",
                2,
                "the bytes, compared with those that came out of the TUN device",
                "pass the bytes on as they are, and all of them: reads of more bytes than the MTU, and the device with IFF_NO_PI",
            ),
            Self::NotWritten => (
                "not-written",
                "the datagram was read, and nothing was written to the TUN device",
                3,
                "the kernel counts the datagram as taken from the socket, and nothing came into the TUN device",
                "write its payload to the TUN device: os.write(tun, data)",
            ),
            Self::SameAddress => (
                "same-address",
                "both TUN devices bear one address",
                3,
                "the packet came into another host than its own that has its source as an address, too",
                "give the server's TUN device another address of the same network: {server-tun}",
            ),
            Self::NoForwarding => (
                "no-forwarding",
                "the host does not forward packets",
                3,
                "the packet came into a host that it is not for, and the setting is 0",
                "sysctl -w net.ipv4.ip_forward=1 on that host",
            ),
            Self::ReversePath => (
                "reverse-path",
                "the reverse-path filter drops the packet",
                4,
                "the setting, the route back, and the kernel's answer or its counter",
                "add the route back to the packet's source through the interface it came in on; \
                 or sysctl -w net.ipv4.conf.all.rp_filter=0, and the same for the interface",
            ),
            Self::ReplyToGateway => (
                "reply-to-gateway",
                "there is no route back: packets for the tunnel do not go to its end",
                4,
                "the packet left by the default route, or the host has no route for it",
                "on that host: ip route add {subnet} via {inside}",
            ),
            Self::ReplyUnread => (
                "reply-unread",
                "the reply reaches the TUN device, and nobody reads it",
                4,
                "the reply came out of the device, which has not counted it as read",
                "both ends must read both the TUN device and the socket: select",
            ),
            Self::TooBig => (
                "too-big",
                "the packet is larger than the MTU",
                4,
                "an ICMP error that says so, the kernel's refusal to send it, or the next interface's MTU",
                "the TUN device's MTU must leave room for the outer headers: 1500 - 28 = 1472 bytes; \
                 and the read from it must take a whole packet",
            ),
            Self::TtlRanOut => (
                "ttl-ran-out",
                "the TTL has run out",
                4,
                "an ICMP error that says so, or the TTL with which it came to a host that it is not for",
                "do the routes of two hosts point at each other? A packet starts with sysctl net.ipv4.ip_default_ttl, 64",
            ),
            Self::NoNeighbour => (
                "no-neighbour",
                "nobody on the wire has the next hop's address",
                0,
                "the host has asked, and has no answer (its neighbour table)",
                "is the address right, and the host's interface up? vpnlab lab check; vpnlab lab reset puts all back",
            ),
            Self::LinkDown => (
                "link-down",
                "an interface on the way is down",
                0,
                "the interface is not up",
                "ip link set dev IF up on that host; vpnlab lab reset puts all back",
            ),
            Self::Refused => (
                "refused",
                "a host says that it cannot deliver the packet",
                0,
                "the kernel, asked whether it would forward it, says no; or has no route to the tunnel's other end",
                "see the route of that host: ip route get ADDRESS",
            ),
            Self::NoAnswer => (
                "no-answer",
                "the destination has the request, and does not answer",
                4,
                "the request came to the host that it is for, and no reply left it",
                "sysctl -w net.ipv4.icmp_echo_ignore_all=0, and a firewall that lets echoes pass",
            ),
            Self::Unexplained => (
                "unexplained",
                "the packet is gone, and no host shows why",
                0,
                "where it was seen last, and the counters that have risen there",
                "a firewall leaves no trace here: nft list ruleset on the host where it was seen last, and on the next",
            ),
        }
    }
}

/// The causes as the table of docs/trace.md, with the hints for the handout's network.
pub fn table() -> String {
    let row = |cause: &Cause| {
        let (id, title, proof) = (cause.id(), cause.title(), cause.proof());
        format!("| `{id}` | {title} | {} | {proof} | {} |\n", cause.step(), cause.hint(topology::handout()))
    };
    let rows: String = Cause::ALL.iter().map(row).collect();
    format!("| cause | what has happened | step | named for | hint |\n|:--|:--|:-:|:--|:--|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_those_of_json_and_differ() {
        let mut ids: Vec<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.id());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Cause::ALL.len());
    }

    #[test]
    fn a_hint_has_the_names_of_its_network_and_no_place_left_open() {
        let other = topology::HANDOUT.replace("10.1.", "10.77.").replace("useru", "alice");
        let other = Topology::parse(&other, "test").unwrap();
        assert_eq!(
            Cause::NoRoute.hint(&other),
            "on alice: ip route add 10.77.1.0/24 dev tun0, while the TUN device is up; \
             on server the address 10.77.3.2/24 of its TUN device makes the route"
        );
        assert_eq!(Cause::ReplyToGateway.hint(&other), "on that host: ip route add 10.77.3.0/24 via 10.77.1.4");
        for cause in Cause::ALL {
            let hint = cause.hint(&other);
            assert!(!hint.contains(['{', '}']) && !hint.contains("10.1."), "{hint}");
        }
    }

    #[test]
    fn the_documentation_has_the_table_as_it_is() {
        let page = include_str!("../../docs/trace.md");
        assert!(page.contains(&table()), "docs/trace.md should have this table:\n{}", table());
    }
}
