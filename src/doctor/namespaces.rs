//! Namespaces, and what a lab makes in them: each was made, in a child process that has ended.

use nix::unistd::getuid;

use crate::doctor::attempts::{self, Pieces, Tried};
use crate::doctor::judged;
use crate::doctor::model::{Finding, Purpose};
use crate::lab::{namespace, root};

/// What a lab, and the grader's labs, are made of.
const LABS: &[Purpose] = &[Purpose::Lab, Purpose::Grading];

/// The settings that can forbid user namespaces: Debian's, the kernel's, Ubuntu's.
const SETTINGS: [&str; 3] =
    ["kernel.unprivileged_userns_clone", "user.max_user_namespaces", "kernel.apparmor_restrict_unprivileged_userns"];

/// What is looked at.
pub fn look(pieces: &Pieces) -> Vec<Finding> {
    let needed = |id, title| Finding::of(id, title).needed_for(LABS);
    let users = "a user namespace";
    let networks = if pieces.user.worked() || getuid().is_root() { "a network namespace" } else { users };
    let container = "run outside the container";
    let modules = "sudo modprobe -a veth bridge";
    let of_root = getuid().is_root().then(roots_labs);
    let findings = vec![
        users_namespaces(&pieces.user),
        judged(needed("network-namespaces", "network namespaces"), &pieces.network, "one was made", users, container),
        judged(needed("veth", "veth pairs"), &pieces.veth, "one was made", networks, modules),
        judged(needed("bridge", "bridges"), &pieces.bridge, "one was made", networks, modules),
        judged(
            needed("nftables", "nftables"),
            &pieces.nftables,
            "the router's rule was set",
            networks,
            "sudo modprobe nft_reject_ipv4",
        ),
        judged(
            needed("packet-sockets", "packet sockets"),
            &pieces.capture,
            "one was opened; trace stands on them",
            networks,
            "sudo modprobe af_packet",
        ),
        judged(
            Finding::of("host-mounts", "a host's own files").needed_for(&[Purpose::Lab]),
            &pieces.host,
            "mounts and a hostname were set",
            networks,
            "run outside the container, or give it the right to mount",
        ),
    ];
    findings.into_iter().chain(of_root).collect()
}

/// Whether this root is the machine's, which keeps its labs where all can see them.
fn roots_labs() -> Finding {
    let finding = Finding::of("root-labs", "root's labs").needed_for(&[Purpose::Lab]);
    match root::store() {
        (place, Ok(())) => finding.ok(format!("{place} can be written")),
        (place, Err(errno)) => {
            finding.missing(format!("{place} cannot be written: {}", errno.desc()), root::NOT_THE_MACHINES)
        }
    }
}

/// Whether this user can make user namespaces, and else what forbids it. Root's labs need none, but its grader does, which
/// becomes a plain user.
fn users_namespaces(of_a_lab: &Tried) -> Finding {
    let finding = Finding::of("user-namespaces", "user namespaces");
    let (finding, tried) = match getuid().is_root() {
        false => (finding.needed_for(LABS), of_a_lab.clone()),
        true => {
            let tried = attempts::graders_namespaces().unwrap_or_else(|error| Err::<(), _>(error).into());
            (finding.needed_for(&[Purpose::Grading]), tried)
        }
    };
    let settings: Vec<String> =
        SETTINGS.iter().filter_map(|name| Some(format!("{name} {}", namespace::setting(name)?))).collect();
    let seen = format!("one was made ({})", settings.join(", "));
    judged(finding, &tried, &seen, "a child process", "run outside the container")
}
