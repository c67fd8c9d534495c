//! Stand-ins on a host's path, so that the handout's commands work as typed: `vpnlab` called by another name.
//!
//! `sudo` always: a host's programs have the lab's rights already, and the machine's own sudo cannot work in a user
//! namespace. `ping`, `traceroute`, `tcpdump` and `nc` only where the machine has none.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::error::{Context, Result};
use crate::sys;

mod nc;
mod ping;
mod sudo;
mod tcpdump;
mod traceroute;

/// The name of the stand-in that is first on the path.
pub const SUDO: &str = "sudo";

/// The names of those that are last on the path.
pub const WHERE_MISSING: [&str; 4] = ["ping", "traceroute", "tcpdump", "nc"];

/// Runs the stand-in that this process was called as; `None` where it was called as itself.
pub fn called_as() -> Option<Result<u8>> {
    let mut words = env::args_os();
    let name = words.next()?;
    let words: Vec<OsString> = words.collect();
    let run = |stand_in: fn(Vec<OsString>) -> Result<u8>| {
        // `ping ... | head -1` ends quietly, as the real ones do.
        sys::restore(Signal::SIGPIPE).context(|| "cannot restore SIGPIPE".into())?;
        stand_in(words)
    };
    match Path::new(&name).file_name()?.to_str()? {
        "sudo" => Some(run(sudo::run)),
        "ping" => Some(run(ping::run)),
        "traceroute" => Some(run(traceroute::run)),
        "tcpdump" => Some(run(tcpdump::run)),
        "nc" => Some(run(nc::run)),
        _ => None,
    }
}

/// Parses the words of a stand-in's command line; help and mistakes are printed, and end the process, as clap does.
fn parse<P: clap::Parser>(name: &str, words: Vec<OsString>) -> P {
    P::parse_from([OsString::from(name)].into_iter().chain(words))
}

/// The IPv4 address of a name or address.
fn resolve(name: &str) -> Result<std::net::Ipv4Addr> {
    use std::net::{SocketAddr, ToSocketAddrs};
    let found = (name, 0).to_socket_addrs().into_iter().flatten().find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    });
    found.ok_or_else(|| crate::error::Error::usage(format!("{name}: Name or service not known")))
}
