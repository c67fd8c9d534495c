//! `vpnlab watch` in a real terminal, as a plain user and as root: what it shows, how it ends, what it gives programs.
//!
//! The screens are compared with tests/fixtures/watch; VPNLAB_WRITE_FIXTURES=1 writes them anew.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fixtures/mod.rs"]
mod fixtures;

mod ends;
mod masked;
mod once;
mod screens;
mod tmux;

use common::Lab;
use fixtures::Running;

/// Keeps the hosts from talking IPv6 by themselves, so that an idle lab is idle.
fn quiet(lab: &Lab) {
    for host in ["useru", "server", "userv", "userw", "router"] {
        lab.sh(host, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1").ok();
    }
}

/// Both ends of a tunnel, through which a ping has gone.
fn tunnel(lab: &Lab) -> (Running<'_>, Running<'_>) {
    let server = Running::tunnel(lab, "server", &["vpn", "--role", "server"]);
    let client = Running::tunnel(lab, "useru", &["vpn", "--role", "client"]);
    common::eventually("the tunnel carries a ping", || lab.pings("useru", "userv"));
    (server, client)
}

/// The command line.
fn watch(lab: &Lab, options: &str) -> String {
    format!("{} watch --lab {} {options}", common::vpnlab().display(), lab.name)
}
