//! The kernel: its version, the TUN driver, the offloads that make a tunnel fast, landlock.

use std::fs::File;
use std::io::ErrorKind;

use nix::sys::utsname::uname;

use crate::doctor::attempts::{self, Landlock, Pieces, Tried};
use crate::doctor::model::{Finding, Purpose};

/// The oldest kernel that has every system call that vpnlab cannot do without (close_range(2)).
const OLDEST: (u32, u32) = (5, 9);

/// What is looked at.
pub fn look(pieces: &Pieces) -> Vec<Finding> {
    let mut all = vec![version(), device(), interface(&pieces.tun)];
    all.extend(offloads(pieces));
    all.push(landlock());
    all
}

fn version() -> Finding {
    let finding = Finding::of("linux", "Linux").needed_for(&[Purpose::Lab, Purpose::Steps]);
    let Ok(system) = uname() else { return finding };
    let release = system.release().to_string_lossy().into_owned();
    match numbers(&release) {
        Some(version) if version < OLDEST => {
            let (major, minor) = OLDEST;
            finding.missing(release, format!("a kernel from {major}.{minor} on"))
        }
        _ => finding.ok(release),
    }
}

/// The first two numbers of a kernel's release.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The device file. It is opened, which changes nothing.
fn device() -> Finding {
    const DEVICE: &str = "/dev/net/tun";
    let finding = Finding::of("tun-device", DEVICE).needed_for(&[Purpose::Lab, Purpose::Steps, Purpose::Grading]);
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => finding.ok("this user can open it"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            finding.missing("it is not there", "sudo modprobe tun; in a container, hand the device in")
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            finding.missing("this user cannot open it", format!("sudo chmod 0666 {DEVICE}, the mode it has by default"))
        }
        Err(error) => finding.missing(format!("it cannot be opened: {error}"), "sudo modprobe tun"),
    }
}

fn interface(tried: &Tried) -> Finding {
    let finding = Finding::of("tun-interface", "TUN interfaces");
    let finding = finding.needed_for(&[Purpose::Lab, Purpose::Steps, Purpose::Grading]);
    super::judged(finding, tried, "one was made", "a network namespace", "sudo modprobe tun")
}

/// What the fast path asks the kernel for, and since when there is such a thing.
fn offloads(pieces: &Pieces) -> Vec<Finding> {
    let asked = [
        ("vnet-headers", "vnet headers", &pieces.headers, "the kernel takes and gives large packets", "2.6.27"),
        ("tso", "TSO", &pieces.tso, "large TCP packets on the TUN device", "2.6.27"),
        ("uso", "USO", &pieces.uso, "large UDP packets on the TUN device", "6.2"),
        ("udp-gso", "UDP GSO", &pieces.gso, "runs of datagrams sent in one call", "4.18"),
        ("udp-gro", "UDP GRO", &pieces.gro, "runs of datagrams received in one call", "5.0"),
    ];
    let found = asked.into_iter().map(|(id, title, tried, seen, since)| {
        let finding = Finding::of(id, title).helps(&[Purpose::FastPath]);
        match tried {
            Tried::Worked => finding.ok(seen),
            Tried::Not => finding.untried("a TUN interface"),
            Tried::Refused(..) if !pieces.tun.worked() => finding.untried("a TUN interface"),
            Tried::Refused(..) => finding.missing("this kernel has none", format!("a kernel from {since} on")),
        }
    });
    found.collect()
}

fn landlock() -> Finding {
    let finding = Finding::of("landlock", "landlock").helps(&[Purpose::Steps]);
    match attempts::landlock() {
        Ok(Landlock::Full) => finding.ok("a step gives the file system up"),
        Ok(Landlock::Part) => finding.limited("an older one: a step gives up what it can", "a kernel from 6.12 on"),
        Ok(Landlock::None) => finding.missing(
            "not switched on: a step keeps what its user can open",
            "a kernel from 5.13 on, started with landlock in lsm=...",
        ),
        Err(error) => finding.missing(error.to_string(), "a kernel that lets landlock be used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(numbers("6.18.44-amd64"), Some((6, 18)));
        assert_eq!(numbers("5.9-rc1"), Some((5, 9)));
        assert_eq!(numbers("next"), None);
        assert!(numbers("5.10.0") > Some(OLDEST) && numbers("4.19.0") < Some(OLDEST));
    }
}
