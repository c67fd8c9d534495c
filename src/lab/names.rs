//! The files that make names resolve in a host: its view of `/etc/hosts`, and nobody else to ask. Pure but for reading
//! the machine's `nsswitch.conf`.

use std::fs;

use nix::sys::stat::{Mode, umask};

use crate::topology::{Host, Topology};

/// The files of `/etc` that a host has of its own, each with its text.
pub fn files(topology: &Topology, host: &Host) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("hosts", topology.hosts_file(host)),
        // No nameserver: the lab leads nowhere, and a question that nobody answers costs the asker seconds.
        ("resolv.conf", "# the lab has no name server; see /etc/hosts\n".to_string()),
    ];
    if let Ok(machine) = fs::read_to_string("/etc/nsswitch.conf") {
        files.push(("nsswitch.conf", only_files(&machine)));
    }
    files
}

/// Makes files that every user of a host can read, whatever the caller's umask(2) is; it is as before afterwards.
pub fn readable_by_all<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let made = make();
    umask(before);
    made
}

/// The machine's nsswitch.conf(5), but with names of hosts taken from `/etc/hosts` alone.
fn only_files(machine: &str) -> String {
    let line = |line: &str| match line.trim_start().starts_with("hosts:") {
        true => "hosts: files\n".to_string(),
        false => format!("{line}\n"),
    };
    machine.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_looked_up_in_files_alone_and_users_as_before() {
        let machine = "# comment\npasswd: files systemd\nhosts:  files mdns4_minimal [NOTFOUND=return] dns\n";
        assert_eq!(only_files(machine), "# comment\npasswd: files systemd\nhosts: files\n");
    }
}
