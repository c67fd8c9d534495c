//! Flushes what the netlink crates have no messages for: TCP connections, IPsec, nexthops, and the queues of `lo`.
//!
//! All in the calling thread's network namespace. A kernel that lacks one of them has nothing of it to flush.
//! Layouts: linux/netlink.h, linux/inet_diag.h, linux/xfrm.h, linux/nexthop.h, linux/rtnetlink.h.

use std::fs;
use std::io;

use log::debug;
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_XFRM},
};
use nix::libc;

use crate::error::{Context, Result};
use crate::lab::sysctl;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const XFRM_MSG_FLUSHSA: u16 = 0x1c;
const XFRM_MSG_FLUSHPOLICY: u16 = 0x1d;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;

const HEADER: usize = 16; // struct nlmsghdr
const NEXTHOP_HEADER: usize = 8; // struct nhmsg
const SOCKET_ID: usize = 48; // struct inet_diag_sockid

/// `ss --kill --tcp`: ends every TCP connection. One whose program has ended goes on while there is something to send:
/// without an answer for minutes, and as long the kernel keeps the namespace.
pub fn connections() -> Result<()> {
    if has_no_tcp() {
        return Ok(());
    }
    let ending = || "cannot end the TCP connections".to_string();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let every = tcp_sockets(family, &[0; SOCKET_ID]);
        let listed = match request(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, &every) {
            // Without the module tcp_diag it is ENOENT.
            Err(error) if is_missing(&error) || error.raw_os_error() == Some(libc::ENOENT) => return give_up_soon(),
            other => other.context(ending)?,
        };
        for id in listed.iter().filter_map(|(_, body)| body.get(4..4 + SOCKET_ID)) {
            match request(NETLINK_SOCK_DIAG, SOCK_DESTROY, libc::NLM_F_ACK, &tcp_sockets(family, id)) {
                Err(error) if is_missing(&error) => return give_up_soon(),
                // It has just ended by itself.
                other => done(other, &[libc::ENOENT]).context(ending)?,
            }
        }
    }
    Ok(())
}

/// Whether there is no TCP socket in this namespace, as nearly always when its programs have ended. A file tells, because a
/// netlink socket would keep the namespace for longer than it is open itself, and `lab down` would have to wait.
fn has_no_tcp() -> bool {
    let shows = |file: &str, line: &str| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        text.is_ok_and(|text| text.lines().any(|begin| begin.starts_with(line)))
    };
    shows("sockstat", "TCP: inuse 0 ") && shows("sockstat6", "TCP6: inuse 0")
}

/// For a kernel that cannot end a connection (CONFIG_INET_DIAG_DESTROY): it is to try once more, not eight times.
fn give_up_soon() -> Result<()> {
    sysctl::set("net.ipv4.tcp_orphan_retries", "1")
}

/// `struct inet_diag_req_v2` about TCP sockets: one, or all that are part of a connection.
fn tcp_sockets(family: i32, id: &[u8]) -> Vec<u8> {
    const TIME_WAIT: u32 = 6; // enum in net/tcp_states.h
    const LISTEN: u32 = 10;
    let states = !(1 << TIME_WAIT | 1 << LISTEN);
    [&[family as u8, libc::IPPROTO_TCP as u8, 0, 0][..], &u32::to_ne_bytes(states), id].concat()
}

/// `ip xfrm policy flush; ip xfrm state flush`.
pub fn ipsec() -> Result<()> {
    debug!("ip xfrm policy flush; ip xfrm state flush");
    let every_protocol = [0; 4]; // struct xfrm_usersa_flush, padded
    done(request(NETLINK_XFRM, XFRM_MSG_FLUSHPOLICY, libc::NLM_F_ACK, &[]), &[libc::ESRCH])
        .and_then(|()| done(request(NETLINK_XFRM, XFRM_MSG_FLUSHSA, libc::NLM_F_ACK, &every_protocol), &[libc::ESRCH]))
        .context(|| "cannot flush the IPsec policies and states".into())
}

/// `ip nexthop flush`; the routes that lead to a nexthop go with it.
pub fn nexthops() -> Result<()> {
    let flushing = || "cannot flush the nexthops".to_string();
    let listed = match request(NETLINK_ROUTE, RTM_GETNEXTHOP, libc::NLM_F_DUMP, &[0; NEXTHOP_HEADER]) {
        Err(error) if is_missing(&error) => Vec::new(),
        other => other.context(flushing)?,
    };
    for attribute in listed.iter().filter_map(|(kind, body)| nexthop_id(*kind, body)) {
        debug!("ip nexthop del {attribute:?}");
        let body = [&[0; NEXTHOP_HEADER][..], attribute].concat();
        // A group goes with its last member.
        done(request(NETLINK_ROUTE, RTM_DELNEXTHOP, libc::NLM_F_ACK, &body), &[libc::ENOENT]).context(flushing)?;
    }
    Ok(())
}

/// The attribute that holds a nexthop's number: with linux/nexthop.h, it is the first of them.
fn nexthop_id(kind: u16, body: &[u8]) -> Option<&[u8]> {
    let attribute = body.get(NEXTHOP_HEADER..NEXTHOP_HEADER + 8)?;
    let is_id = kind == RTM_NEWNEXTHOP && attribute[2..4] == NHA_ID.to_ne_bytes();
    is_id.then_some(attribute)
}

/// `tc qdisc del dev lo root; tc qdisc del dev lo ingress`: with a queue go its filters.
pub fn queues_of_loopback() -> Result<()> {
    const LOOPBACK: i32 = 1; // its index in every namespace
    const ROOT: u32 = 0xffff_ffff;
    const INGRESS: u32 = 0xffff_fff1;
    for parent in [ROOT, INGRESS] {
        debug!("tc qdisc del dev lo parent {parent:x}");
        // struct tcmsg: family, padding, index, handle, parent, info
        let words = [[0; 4], LOOPBACK.to_ne_bytes(), [0; 4], parent.to_ne_bytes(), [0; 4]];
        let deleted = request(NETLINK_ROUTE, libc::RTM_DELQDISC, libc::NLM_F_ACK, &words.concat());
        // There is none, as in every fresh namespace.
        done(deleted, &[libc::ENOENT, libc::EINVAL]).context(|| "cannot delete the queues of lo".into())?;
    }
    Ok(())
}

/// That a request succeeded, or failed in a way that says that there was nothing to do.
fn done<T>(answer: io::Result<T>, nothing: &[i32]) -> io::Result<()> {
    match answer {
        Err(error) if !is_missing(&error) && !error.raw_os_error().is_some_and(|errno| nothing.contains(&errno)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Whether the kernel was built without this.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP))
}

/// Sends one request, and returns what comes before its end: the kind and the body of each message.
fn request(protocol: isize, kind: u16, flags: i32, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    bytes.extend([0; 8]); // sequence number, port: there is one request on this socket
    bytes.extend(body);
    socket.send(&bytes, 0)?;
    let mut messages = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = &received[..];
        while let Some((kind, body, after)) = first_message(rest) {
            let status = body.first_chunk().map_or(0, |word| i32::from_ne_bytes(*word));
            match i32::from(kind) {
                libc::NLMSG_ERROR | libc::NLMSG_DONE if status < 0 => {
                    return Err(io::Error::from_raw_os_error(-status));
                }
                libc::NLMSG_ERROR | libc::NLMSG_DONE => return Ok(messages),
                _ => messages.push((kind, body.to_vec())),
            }
            rest = after;
        }
    }
}

/// The first message of these bytes: its kind, its body, and what follows it.
fn first_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart_and_a_short_one_is_none() {
        let word = |number: u32| number.to_ne_bytes();
        let kinds = [&104u16.to_ne_bytes()[..], &[0, 0]].concat();
        let message = [&word(18)[..], &kinds, &[0; 8], b"ab", &[0, 0], b"rest"].concat();
        assert_eq!(first_message(&message), Some((104, &b"ab"[..], &b"rest"[..])));
        assert_eq!(first_message(&message[..17]), None);
        assert_eq!(first_message(&word(3)), None);
        assert_eq!(first_message(&[]), None);
    }
}
