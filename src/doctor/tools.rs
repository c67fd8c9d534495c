//! The programs that the handout has students type on the hosts, and what makes that pleasant.

use crate::doctor::model::{Finding, Purpose};
use crate::lab::standin;
use crate::programs;

/// The handout's commands: the program, and its Debian package.
const HANDOUT: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("ping", "iputils-ping"),
    ("traceroute", "traceroute"),
    ("tcpdump", "tcpdump"),
];

/// What is looked at.
pub fn look() -> Vec<Finding> {
    HANDOUT.into_iter().map(|(program, package)| command(program, package)).chain([nft(), tmux()]).collect()
}

fn command(program: &'static str, package: &str) -> Finding {
    let has_stand_in = standin::WHERE_MISSING.contains(&program);
    let finding = Finding::of(program, program);
    let finding = match has_stand_in {
        true => finding.helps(&[Purpose::Handout]),
        false => finding.needed_for(&[Purpose::Handout]),
    };
    match programs::on_host(program) {
        Some(file) => finding.ok(file.display().to_string()),
        None if has_stand_in => {
            let seen = "not there; on the lab's hosts a simple one of vpnlab's own is in its place";
            finding.limited(seen, super::install(package))
        }
        None => finding.missing("not there", super::install(package)),
    }
}

/// The lab sets its rule without it; it is for looking at that.
fn nft() -> Finding {
    optional("nft", "nftables", &[Purpose::Handout])
}

fn tmux() -> Finding {
    Finding { needed_for: &[Purpose::Tmux], ..optional("tmux", "tmux", &[]) }
}

fn optional(program: &'static str, package: &str, helps: &'static [Purpose]) -> Finding {
    let finding = Finding::of(program, program).helps(helps);
    match programs::on_host(program) {
        Some(file) => finding.ok(file.display().to_string()),
        None => finding.missing("not there", super::install(package)),
    }
}
