//! What a host's kernel tells about its network, as text for people: the evidence of `grade` and of `report`.
//!
//! Programs of the host may have set any number of addresses and routes, and given names to interfaces: the text is of a
//! limited length, and as harmless as they are.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::error::{Context, Result};
use crate::lab::{Lab, namespace};

/// How much is told about one host, in bytes.
const MOST: usize = 256 << 10;

/// The settings that decide about packets on their way through a host, as in `sysctl`.
const SETTINGS: [&str; 3] = ["net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.all.forwarding"];

/// What the kernel of a host of this place tells: interfaces, routes, rules, neighbours, settings, counters. The process has
/// joined the lab.
pub fn told(lab: &Lab, place: usize) -> String {
    let mut text = String::new();
    for words in [&["-s", "address"][..], &["route", "show", "table", "all"], &["rule"], &["neighbour"]] {
        text += &format!("$ ip {}\n{}\n", words.join(" "), ip(lab, place, words).unwrap_or_else(|it| it.to_string()));
    }
    for name in SETTINGS {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let read = || fs::read_to_string(&path).context(|| "cannot read it".into());
        let value = namespace::inside(&lab.networks.hosts[place], read).unwrap_or_else(|error| error.to_string());
        text += &format!("{name} = {}\n", value.trim());
    }
    text.push('\n');
    for name in ["snmp", "netstat"] {
        let read = || fs::read_to_string(format!("/proc/thread-self/net/{name}")).context(|| "cannot read it".into());
        let told = namespace::inside(&lab.networks.hosts[place], read);
        let counters = told.map_or_else(|error| format!("{error}\n"), |told| counters(&told));
        text += &format!("/proc/net/{name}, what is not zero:\n{counters}\n");
    }
    text.chars().take(MOST).collect()
}

/// Runs ip(8) on a host, for as much of its output as is wanted: a submission may have set any number of routes.
fn ip(lab: &Lab, place: usize, words: &[&str]) -> Result<String> {
    let failed = || "cannot run ip".to_string();
    let mut command = Command::new("ip");
    command.args(words).env_clear().env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // The child is in the network namespace of the thread that starts it.
    let mut child = namespace::inside(&lab.networks.hosts[place], || command.spawn().context(failed))?;
    let mut told = Vec::new();
    let read = child.stdout.take().map(|stdout| stdout.take(MOST as u64).read_to_end(&mut told));
    let _ = child.kill();
    child.wait().context(failed)?;
    read.transpose().context(failed)?;
    Ok(String::from_utf8_lossy(&told).into_owned())
}

/// The counters of /proc/net/snmp that are not zero, a line each: there a line of names is followed by one of values.
fn counters(told: &str) -> String {
    let lines: Vec<&str> = told.lines().collect();
    let mut text = String::new();
    for pair in lines.chunks_exact(2) {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let group = pair[0].split(':').next().unwrap_or_default();
        for (name, value) in names.zip(values).skip(1).filter(|(_, value)| *value != "0") {
            text += &format!("  {group}{name} {value}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_not_zero_have_a_line_each() {
        let told = "Udp: InDatagrams NoPorts\nUdp: 5 0\nIcmp: InMsgs\nIcmp: 7\n";
        assert_eq!(counters(told), "  UdpInDatagrams 5\n  IcmpInMsgs 7\n");
        assert_eq!(counters(""), "");
    }
}
