//! The router's answer: an nftables rule that rejects packets for a network with ICMP Destination Host Unreachable.
//!
//! An `unreachable` route would do the same, but the kernel limits how often it answers (`ip_error()` in
//! net/ipv4/route.c), and the lab's router has to answer every probe. Speaks nfnetlink itself: one table, one chain,
//! a rule per network, in one transaction (linux/netfilter/nfnetlink.h, nf_tables.h).

use ipnet::Ipv4Net;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;

use crate::error::{Context, Error, Result};

/// Attribute kinds of linux/netfilter/nf_tables.h (and nfnetlink.h), by the message or expression that they belong to.
mod kind {
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const LIST_ELEMENT: u16 = 1;
    pub const EXPRESSION_NAME: u16 = 1;
    pub const EXPRESSION_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
    pub const PAYLOAD_REGISTER: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LENGTH: u16 = 4;
    pub const BITWISE_SOURCE: u16 = 1;
    pub const BITWISE_TARGET: u16 = 2;
    pub const BITWISE_LENGTH: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const COMPARE_REGISTER: u16 = 1;
    pub const COMPARE_OPERATOR: u16 = 2;
    pub const COMPARE_DATA: u16 = 3;
    pub const REJECT_TYPE: u16 = 1;
    pub const REJECT_CODE: u16 = 2;
}

const NETWORK_HEADER: u32 = 1; // NFT_PAYLOAD_NETWORK_HEADER
const EQUAL: u32 = 0; // NFT_CMP_EQ
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;

const TABLE: &[u8] = b"vpnlab\0";
const CHAIN: &[u8] = b"unreachable\0";

/// `nft add rule ip vpnlab unreachable ip daddr NETWORK reject with icmp host-unreachable`, for each network, in the
/// calling thread's network namespace.
///
/// # Errors
/// The kernel has no nftables, or refuses the rules.
pub fn host_unreachable(networks: &[Ipv4Net]) -> Result<()> {
    let mut batch = Batch::default();
    batch.boundary(BATCH_BEGIN);
    batch.request(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, libc::NFPROTO_IPV4, &attribute(kind::TABLE_NAME, TABLE));
    batch.request(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, libc::NFPROTO_IPV4, &chain());
    for network in networks {
        batch.request(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE, libc::NFPROTO_IPV4, &rule(*network));
    }
    batch.boundary(BATCH_END);
    let failed = || "cannot set the router's nftables rule".to_string();
    let refused = |error| {
        Error::environment(failed())
            .because(error)
            .hint("the kernel needs nf_tables and nft_reject: sudo modprobe nft_reject_ipv4")
    };
    batch.send().map_err(refused)
}

/// `nft flush ruleset`: takes away what a student may have added, and our own rules.
pub fn flush() -> Result<()> {
    let mut batch = Batch::default();
    batch.boundary(BATCH_BEGIN);
    // Without a name and of no family, it deletes every table.
    batch.request(libc::NFT_MSG_DELTABLE, 0, libc::NFPROTO_UNSPEC, &[]);
    batch.boundary(BATCH_END);
    batch.send().context(|| "cannot flush the nftables rules".into())
}

/// A chain on the prerouting hook: before routing, so that the router needs no route and sends no redirect.
fn chain() -> Vec<u8> {
    let hook = [
        attribute(kind::HOOK_NUMBER, &(libc::NF_INET_PRE_ROUTING as u32).to_be_bytes()),
        attribute(kind::HOOK_PRIORITY, &0u32.to_be_bytes()),
    ];
    [
        attribute(kind::CHAIN_TABLE, TABLE),
        attribute(kind::CHAIN_NAME, CHAIN),
        nested(kind::CHAIN_HOOK, &hook.concat()),
        attribute(kind::CHAIN_TYPE, b"filter\0"),
    ]
    .concat()
}

/// `ip daddr NETWORK reject with icmp host-unreachable`, as the expressions that nft(8) compiles it to.
fn rule(network: Ipv4Net) -> Vec<u8> {
    const REGISTER: u32 = libc::NFT_REG_1 as u32;
    const DESTINATION_OFFSET: u32 = 16; // in the IPv4 header, RFC 791 section 3.1
    let load = [
        number(kind::PAYLOAD_REGISTER, REGISTER),
        number(kind::PAYLOAD_BASE, NETWORK_HEADER),
        number(kind::PAYLOAD_OFFSET, DESTINATION_OFFSET),
        number(kind::PAYLOAD_LENGTH, 4),
    ];
    let mask = [
        number(kind::BITWISE_SOURCE, REGISTER),
        number(kind::BITWISE_TARGET, REGISTER),
        number(kind::BITWISE_LENGTH, 4),
        nested(kind::BITWISE_MASK, &attribute(kind::DATA_VALUE, &network.netmask().octets())),
        nested(kind::BITWISE_XOR, &attribute(kind::DATA_VALUE, &[0; 4])),
    ];
    let compare = [
        number(kind::COMPARE_REGISTER, REGISTER),
        number(kind::COMPARE_OPERATOR, EQUAL),
        nested(kind::COMPARE_DATA, &attribute(kind::DATA_VALUE, &network.network().octets())),
    ];
    const ICMP_HOST_UNREACHABLE: u8 = 1; // the code of type 3, RFC 792
    let reject = [
        number(kind::REJECT_TYPE, libc::NFT_REJECT_ICMP_UNREACH as u32),
        attribute(kind::REJECT_CODE, &[ICMP_HOST_UNREACHABLE]),
    ];
    let expressions = [
        expression(b"payload\0", &load.concat()),
        expression(b"bitwise\0", &mask.concat()),
        expression(b"cmp\0", &compare.concat()),
        expression(b"reject\0", &reject.concat()),
    ];
    [
        attribute(kind::RULE_TABLE, TABLE),
        attribute(kind::RULE_CHAIN, CHAIN),
        nested(kind::RULE_EXPRESSIONS, &expressions.concat()),
    ]
    .concat()
}

fn expression(name: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [attribute(kind::EXPRESSION_NAME, name), nested(kind::EXPRESSION_DATA, data)].concat();
    nested(kind::LIST_ELEMENT, &body)
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, body: &[u8]) -> Vec<u8> {
    attribute(kind | libc::NLA_F_NESTED as u16, body)
}

/// A netlink attribute: length, kind, value, padded to four bytes (netlink(7), linux/netlink.h `struct nlattr`).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// Netlink messages that the kernel takes as one transaction.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    requests: u32,
}

impl Batch {
    /// The first or the last message of a transaction.
    fn boundary(&mut self, kind: u16) {
        self.message(kind, 0, libc::AF_UNSPEC as u8, SUBSYSTEM, &[]);
    }

    /// One request to nftables; it is acknowledged.
    fn request(&mut self, kind: i32, flags: i32, family: i32, body: &[u8]) {
        let flags = (flags | libc::NLM_F_ACK) as u16;
        self.message(SUBSYSTEM << 8 | kind as u16, flags, family as u8, 0, body);
        self.requests += 1;
    }

    /// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        let length = 16 + 4 + body.len() as u32;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.requests.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
    }

    /// Sends all, and waits until the kernel has answered each request.
    fn send(self) -> std::io::Result<()> {
        let socket = Socket::new(NETLINK_NETFILTER)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&self.bytes, 0)?;
        let mut answers = self.requests;
        while answers > 0 {
            let (mut received, _) = socket.recv_from_full()?;
            while received.len() >= 20 {
                let word = |at: usize| [received[at], received[at + 1], received[at + 2], received[at + 3]];
                let length = u32::from_ne_bytes(word(0)) as usize;
                // NLMSG_ERROR: the errno, negative; 0 says that the message was taken.
                match i32::from_ne_bytes(word(16)) {
                    0 => answers -= 1,
                    errno => return Err(std::io::Error::from_raw_os_error(-errno)),
                }
                received.drain(..length.next_multiple_of(4).clamp(20, received.len()));
            }
        }
        Ok(())
    }
}
