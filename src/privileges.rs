//! What a step gives up before it reads the first packet: whoever takes it over then has little to steal.
//!
//! A TUN device and a socket that are open go on working without any right. So once they are set up, the process that reads
//! them gives up root, every capability, the file system ([`give_up`]), and the way to get any of it back ([`bar`]). What
//! still has to be done with rights is done by another process, [`crate::keeper`], which calls [`keep_for_network`].
//!
//! What cannot be given up where it runs is logged at debug level: in a user namespace there may be no other user to become,
//! an old kernel has no landlock. What can be given up and is not is an error. Kernel documentation:
//! Documentation/userspace-api/{no_new_privs,landlock}.rst; capabilities(7), credentials(7).

use std::env;
use std::fs;

use caps::{CapSet, Capability};
use clap::Args;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use log::debug;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use crate::error::{Context, Error, Result};

/// The user and the group that own nothing: the kernel's own number for a user that a namespace does not know
/// (`DEFAULT_OVERFLOWUID`, linux/highuid.h), called nobody by distributions.
const NOBODY: u32 = 65534;

/// Every user's and every group's number lies below it; it means "unchanged" (setresuid(2)).
const NO_ID: u32 = u32::MAX;

/// What the process that keeps the interface works with: addresses, routes and sysctls of the network; signals for the
/// process that has become another user.
const FOR_NETWORK: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_KILL];

/// The newest landlock that this was tested with. What an older kernel lacks of it is left out.
const LANDLOCK: ABI = ABI::V6;

/// Which rights a step has while it carries packets.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Privileges {
    /// Carry packets with all rights, and in a single process: for debugging
    #[arg(long = "keep-privileges")]
    pub keep: bool,
}

/// Bars the way to rights that this process does not have, for itself and for all that it starts: whatever the file of a
/// program grants, it gets nothing. Comes first, since it takes rights itself.
///
/// # Errors
/// Something that could be given up is not.
pub fn bar() -> Result<()> {
    prctl::set_no_new_privs().map_err(|error| refused("the way to new privileges", error))?;
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).context(looking)? {
        true => caps::clear(None, CapSet::Bounding).map_err(|error| refused("the bounding set of capabilities", error)),
        false => {
            debug!("The bounding set of capabilities stays: it takes CAP_SETPCAP to give it up");
            Ok(())
        }
    }
}

/// Gives up every right that this process does not need to read and write what it has open; after [`bar`].
///
/// # Errors
/// As of [`bar`].
pub fn give_up() -> Result<()> {
    leave_root()?;
    keep_capabilities(&[])?;
    match leave_file_system()? {
        RulesetStatus::FullyEnforced => debug!("The file system is given up"),
        RulesetStatus::PartiallyEnforced => {
            debug!("The file system is given up, as far as this kernel's landlock goes")
        }
        RulesetStatus::NotEnforced => debug!("The file system stays: this kernel has no landlock"),
    }
    Ok(())
}

/// Gives up the capabilities that do not concern the network; after [`bar`].
///
/// # Errors
/// As of [`bar`].
pub fn keep_for_network() -> Result<()> {
    keep_capabilities(&FOR_NETWORK)
}

/// Root becomes the user that sudo was called by, or nobody.
fn leave_root() -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let variable = |name| env::var(name).ok();
    let (user, group) = successor(variable("SUDO_UID").as_deref(), variable("SUDO_GID").as_deref());
    let map = |which| fs::read_to_string(format!("/proc/self/{which}_map"));
    if !is_mapped(map("uid").as_deref().ok(), user) || !is_mapped(map("gid").as_deref().ok(), group) {
        debug!("The user stays: this user namespace has none with number {user}, or no group {group}");
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    setgroups(&[]).map_err(|error| refused("root's groups", error))?;
    setresgid(gid, gid, gid).map_err(|error| refused("root's group", error))?;
    setresuid(uid, uid, uid).map_err(|error| refused("root", error))?;
    debug!("This process is user {user}, group {group} from now on");
    Ok(())
}

/// Whom root becomes: the user and the group that sudo names (sudo(8)), unless that is root again.
fn successor(sudo_uid: Option<&str>, sudo_gid: Option<&str>) -> (u32, u32) {
    let number = |text: Option<&str>| text?.parse().ok().filter(|number| !matches!(*number, 0 | NO_ID));
    number(sudo_uid).zip(number(sudo_gid)).unwrap_or((NOBODY, NOBODY))
}

/// Whether a user namespace has this user or group: from its map, where each line has the first number inside, the first
/// outside, and how many there are (user_namespaces(7)). Without a map to read, it has to be tried.
fn is_mapped(map: Option<&str>, id: u32) -> bool {
    let within = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first + count).contains(&id.into()))
    };
    map.is_none_or(|map| map.lines().any(within))
}

/// Gives up all capabilities but these, where it has them, and passes on none.
fn keep_capabilities(kept: &[Capability]) -> Result<()> {
    let refused = |error| refused("capabilities", error);
    let permitted = caps::read(None, CapSet::Permitted).context(looking)?;
    let kept = kept.iter().copied().filter(|capability| permitted.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)?;
    caps::clear(None, CapSet::Inheritable).map_err(refused)
}

/// How much of the file system this process and its children could give up: tries it, for good.
///
/// # Errors
/// The kernel has landlock, and refuses.
pub fn try_landlock() -> Result<RulesetStatus> {
    prctl::set_no_new_privs().map_err(|error| refused("the way to new privileges", error))?;
    leave_file_system()
}

/// No file can be opened, made or removed any more, no TCP connection made, and no signal sent to another process, as far
/// as the kernel's landlock goes. What is open stays usable.
fn leave_file_system() -> Result<RulesetStatus> {
    let rules = || -> std::result::Result<_, RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    Ok(rules().map_err(|error| refused("the file system", error))?.ruleset)
}

fn looking() -> String {
    "cannot look up this process's capabilities".into()
}

fn refused(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::environment(format!("cannot give up {what} before the first packet"))
        .because(error)
        .hint("--keep-privileges goes on with all rights, which is for debugging only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn root_becomes_the_user_that_sudo_names_and_never_root() {
        assert_eq!(successor(Some("1000"), Some("100")), (1000, 100));
        let nobody = (NOBODY, NOBODY);
        for (uid, gid) in [(None, None), (Some("1000"), None), (None, Some("100")), (Some("0"), Some("100"))] {
            assert_eq!(successor(uid, gid), nobody, "{uid:?} {gid:?}");
        }
        for bad in ["", "-1", "4294967295", "4294967296", "root", " 1000"] {
            assert_eq!(successor(Some(bad), Some("100")), nobody, "{bad:?}");
            assert_eq!(successor(Some("1000"), Some(bad)), nobody, "{bad:?}");
        }
        assert_eq!(successor(Some("1000"), Some("0")), nobody);
    }

    /// In a thread of its own, which alone is restricted.
    #[test]
    fn without_the_file_system_no_file_is_opened_and_an_open_one_still_written() {
        let path = env::temp_dir().join(format!("vpnlab-landlock-{}", std::process::id()));
        let mut open = fs::File::create(&path).unwrap();
        let restricted = std::thread::spawn({
            let path = path.clone();
            move || {
                prctl::set_no_new_privs().unwrap();
                let status = leave_file_system().unwrap();
                open.write_all(b"open").unwrap();
                open.set_len(2).unwrap();
                (status, fs::read(&path).is_err(), TcpListener::bind("127.0.0.1:0").is_err())
            }
        });
        let (status, no_file, no_tcp) = restricted.join().unwrap();
        let read = fs::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), b"op");
        assert_eq!(no_file, status != RulesetStatus::NotEnforced, "{status:?}");
        if status == RulesetStatus::FullyEnforced {
            assert!(no_tcp);
        }
    }

    #[test]
    fn a_user_is_there_if_a_line_of_the_map_covers_it() {
        let machine = "         0          0 4294967295\n";
        let one = "         0       1000          1\n";
        let container = "0 100000 1000\n5000 200000 10\n";
        assert!(is_mapped(Some(machine), 1000) && is_mapped(Some(machine), NOBODY));
        assert!(is_mapped(Some(one), 0) && !is_mapped(Some(one), 1) && !is_mapped(Some(one), NOBODY));
        assert!(is_mapped(Some(container), 999) && is_mapped(Some(container), 5009));
        assert!(!is_mapped(Some(container), 1000) && !is_mapped(Some(container), 5010));
        assert!(!is_mapped(Some(""), 0));
        assert!(is_mapped(None, NOBODY));
    }
}
