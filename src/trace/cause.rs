//! The causes that a packet can die of, each with what it is called, the handout's step that it belongs to, and the remedy.
//!
//! docs/trace.md has them as a table, which a test compares with this one.

use serde::Serialize;

/// Why a packet did not arrive. Each is named only when the host has shown the fact that proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// There is no TUN device where the tunnel should begin or end.
    NoTun,
    /// The TUN device is down.
    TunDown,
    /// No program holds the TUN device, or the one that does has not read the packet.
    TunUnread,
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
    /// The reply goes to the default gateway instead of to the tunnel's end.
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
    pub const ALL: [Self; 24] = [
        Self::NoTun,
        Self::TunDown,
        Self::TunUnread,
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

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, &'static str, u8, &'static str) {
        match self {
            Self::NoTun => (
                "no-tun",
                "there is no TUN device",
                1,
                "run the program that creates it, and leave it running: the device goes with its program",
            ),
            Self::TunDown => (
                "tun-down",
                "the TUN device is down",
                1,
                "ip link set dev tun0 up, after its address; routes through it are lost while it is down: add them again",
            ),
            Self::TunUnread => (
                "tun-unread",
                "nobody reads the TUN device",
                1,
                "is the program in its loop? It must come back to read (or select) after each packet",
            ),
            Self::NoRoute => (
                "no-route",
                "the route does not lead into the tunnel",
                2,
                "ip route add 10.1.1.0/24 dev tun0 on useru, while the TUN device is up",
            ),
            Self::NotSent => (
                "not-sent",
                "the packet was read from the TUN device, and nothing was sent",
                2,
                "after the read, does every way through the loop come to sendto? A filter or an exception may skip it",
            ),
            Self::WrongPeer => (
                "wrong-peer",
                "the datagram is for the wrong address or port",
                4,
                "the client sends to server:9090; the server answers to the address and port that recvfrom returned last",
            ),
            Self::Loop => (
                "loop",
                "the tunnel swallows its own datagrams",
                2,
                "the route through the tunnel must not cover the server's own address on lan0 (10.1.2.3)",
            ),
            Self::NobodyListens => (
                "nobody-listens",
                "nobody listens on the UDP port",
                2,
                "start the server's program, and bind it to 0.0.0.0 and port 9090",
            ),
            Self::DatagramUnread => (
                "datagram-unread",
                "the datagram waits in the socket, and nobody reads it",
                4,
                "wait for the socket and the TUN device at once, with select, and read whichever is ready",
            ),
            Self::NotIp => (
                "not-ip",
                "the datagram's payload is no IP packet",
                2,
                "send the bytes as they were read: sendto(packet, ...), not str(packet), and the device with IFF_NO_PI",
            ),
            Self::Changed => (
                "changed",
                "it is not the packet that was read",
                2,
                "pass the bytes on as they are; a tunnel changes none of them",
            ),
            Self::NotWritten => (
                "not-written",
                "the datagram was read, and nothing was written to the TUN device",
                3,
                "write its payload to the TUN device: os.write(tun, data)",
            ),
            Self::SameAddress => (
                "same-address",
                "both TUN devices bear one address",
                3,
                "give the server's TUN device another address of the same network: 10.1.3.2/24",
            ),
            Self::NoForwarding => (
                "no-forwarding",
                "the host does not forward packets",
                3,
                "sysctl -w net.ipv4.ip_forward=1 on that host",
            ),
            Self::ReversePath => (
                "reverse-path",
                "the reverse-path filter drops the packet",
                4,
                "add the route back to the packet's source through the interface it came in on; \
                 or sysctl -w net.ipv4.conf.all.rp_filter=0, and the same for the interface",
            ),
            Self::ReplyToGateway => (
                "reply-to-gateway",
                "the reply goes to the default gateway",
                4,
                "ip route add 10.1.3.0/24 via 10.1.1.4 on that host",
            ),
            Self::ReplyUnread => (
                "reply-unread",
                "the reply reaches the TUN device, and nobody reads it",
                4,
                "both ends must read both the TUN device and the socket: select",
            ),
            Self::TooBig => (
                "too-big",
                "the packet is larger than the MTU",
                4,
                "the TUN device's MTU must leave room for the outer headers: 1500 - 28 = 1472 bytes; \
                 and the read from it must take a whole packet",
            ),
            Self::TtlRanOut => (
                "ttl-ran-out",
                "the TTL has run out",
                4,
                "do the routes of two hosts point at each other? A packet starts with sysctl net.ipv4.ip_default_ttl, 64",
            ),
            Self::NoNeighbour => (
                "no-neighbour",
                "nobody on the wire has the next hop's address",
                0,
                "is the address right, and the host's interface up? vpnlab lab check; vpnlab lab reset puts all back",
            ),
            Self::LinkDown => (
                "link-down",
                "an interface on the way is down",
                0,
                "ip link set dev IF up on that host; vpnlab lab reset puts all back",
            ),
            Self::Refused => (
                "refused",
                "a host says that it cannot deliver the packet",
                0,
                "see the route of that host: ip route get ADDRESS",
            ),
            Self::NoAnswer => (
                "no-answer",
                "the destination has the request, and does not answer",
                4,
                "sysctl -w net.ipv4.icmp_echo_ignore_all=0, and a firewall that lets echoes pass",
            ),
            Self::Unexplained => (
                "unexplained",
                "the packet is gone, and no host shows why",
                0,
                "a firewall leaves no trace here: nft list ruleset on the host where it was seen last",
            ),
        }
    }
}

/// The causes as the table of docs/trace.md.
pub fn table() -> String {
    let row = |cause: &Cause| format!("| `{}` | {} | {} | {} |\n", cause.id(), cause.title(), cause.step(), cause.hint());
    let rows: String = Cause::ALL.iter().map(row).collect();
    format!("| cause | what has happened | step | hint |\n|:--|:--|:-:|:--|\n{rows}")
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
    fn the_documentation_has_the_table_as_it_is() {
        let page = include_str!("../../docs/trace.md");
        assert!(page.contains(&table()), "docs/trace.md should have this table:\n{}", table());
    }
}
