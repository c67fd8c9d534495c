//! Rights over the network of the machine itself: this process's own, or by way of sudo; and whether sudo finds vpnlab.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use caps::{CapSet, Capability};
use nix::sys::prctl;
use nix::unistd::getuid;

use crate::doctor::attempts;
use crate::doctor::model::{Finding, Purpose};
use crate::programs;

/// Where sudo looks for programs by default, as Debian builds it.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is looked at.
pub fn look() -> Vec<Finding> {
    let own = attempts::may_change_network();
    vec![network(own), sudos_path(own)]
}

/// Whether a step may make a TUN device, addresses and routes on the machine itself.
fn network(own: bool) -> Finding {
    let finding = Finding::of("network-rights", "rights to the network").needed_for(&[Purpose::Steps]);
    let has = |set| caps::has_cap(None, set, Capability::CAP_NET_ADMIN).unwrap_or(false);
    let is_root = getuid().is_root();
    if own {
        return finding.ok(match () {
            _ if is_root => "this is root",
            _ if has(CapSet::Ambient) => "CAP_NET_ADMIN is handed down to every program",
            _ => "CAP_NET_ADMIN, from the file of vpnlab",
        });
    }
    let by_file = "sudo setcap cap_net_admin+ep on the file of vpnlab";
    let no_new_privileges = prctl::get_no_new_privs().unwrap_or(false);
    match programs::on_path("sudo") {
        _ if is_root => finding.missing(
            "this root may not change the network: its namespace is another's, or CAP_NET_ADMIN is missing",
            "use the machine's own root; in a container, give it CAP_NET_ADMIN",
        ),
        Some(_) if no_new_privileges => finding.missing(
            "none, and no_new_privs is set here, so that sudo cannot help",
            "use a shell outside of this container or service",
        ),
        Some(sudo) => finding.ok(format!("by {}, if it lets this user", sudo.display())),
        None => finding.missing(
            "none, and no sudo",
            format!("sudo apt-get install sudo, as root; or {by_file}; the lab's hosts need neither"),
        ),
    }
}

/// Whether `sudo vpnlab` finds this vpnlab.
fn sudos_path(own: bool) -> Finding {
    let finding = Finding::of("sudo-path", "sudo's path").helps(&[Purpose::Steps]);
    let Some(sudo) = programs::on_path("sudo") else {
        return if own { finding.ok("no sudo, and no need of it") } else { finding.untried("sudo") };
    };
    let Ok(this) = env::current_exe() else { return finding.untried("vpnlab's own path") };
    let path = path_of(&sudo);
    let link = format!("sudo ln -s {} /usr/local/bin/vpnlab", this.display());
    match programs::find("vpnlab", OsStr::new(&path)) {
        Some(found) if is_same(&found, &this) => finding.ok(format!("sudo runs {}", found.display())),
        Some(other) => finding.limited(
            format!("sudo would run another vpnlab, {}", other.display()),
            format!("sudo ln -sf {} {}", this.display(), other.display()),
        ),
        None if own => finding.ok(format!("no vpnlab on it ({path}), and no need of it")),
        None => finding.missing(format!("no vpnlab on it: {path}"), link),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> Option<PathBuf> { fs::canonicalize(path).ok() };
    real(one).is_some_and(|one| Some(one) == real(other))
}

/// The path that sudo gives to programs: as itself tells root, as its file says where that can be read, or the usual one.
fn path_of(sudo: &Path) -> String {
    let told = Command::new(sudo).arg("-V").env("LC_ALL", "C").stdin(Stdio::null()).output().ok();
    let told = told.and_then(|output| told_path(&String::from_utf8_lossy(&output.stdout)));
    let read = || fs::read_to_string("/etc/sudoers").ok().and_then(|text| set_path(&text));
    told.or_else(read).unwrap_or_else(|| USUAL.into())
}

/// The path in what `sudo -V` tells root.
fn told_path(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("Value to override user's $PATH with:"))?;
    Some(line.split_once(": ")?.1.trim().to_string())
}

/// The path that sudoers(5) sets for everybody, in the last line that does.
fn set_path(sudoers: &str) -> Option<String> {
    let lines = sudoers.lines().filter_map(|line| line.trim().strip_prefix("Defaults"));
    let mut set = lines.filter_map(|line| {
        let value = line.strip_prefix([' ', '\t'])?.trim_start().strip_prefix("secure_path")?.trim_start();
        Some(value.strip_prefix('=')?.trim().trim_matches('"').to_string())
    });
    set.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudos_path_is_read_from_what_it_says_and_from_its_file() {
        let told = "Sudo version 1.9.16p2\nConfigure options: ...\n\
            Value to override user's $PATH with: /usr/local/sbin:/usr/bin\nOther: x\n";
        assert_eq!(told_path(told).as_deref(), Some("/usr/local/sbin:/usr/bin"));
        assert_eq!(told_path("Sudo version 1.9.16p2\n"), None);
        let file = "# Defaults secure_path=\"/no\"\nDefaults\tenv_reset\nDefaults:anna secure_path=/no\n\
            Defaults\tsecure_path=\"/sbin:/bin\"\n";
        assert_eq!(set_path(file).as_deref(), Some("/sbin:/bin"));
        assert_eq!(set_path("Defaults secure_path = /bin\n").as_deref(), Some("/bin"));
        assert_eq!(set_path("Defaults env_reset\n"), None);
    }
}
