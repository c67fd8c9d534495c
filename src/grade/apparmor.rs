//! Ubuntu from 25.04 on has an AppArmor profile of its own for bubblewrap, which takes every capability from what runs in
//! it: no student's program could make a TUN device. The package's profile (lab/package/apparmor) has no such rule, and a
//! program with that profile may say that the next one shall keep it.
//!
//! Called by the sandbox alone; does nothing on every other system.

use std::fs;

/// The profile's name, and its mode: it restricts nothing.
const OURS: &str = "vpnlab (unconfined)";

/// Asks the kernel (`aa_change_onexec`(2)), and runs the rest of its words in any case.
const KEEP: [&str; 4] =
    ["sh", "-c", "{ printf 'exec vpnlab' >/proc/self/attr/apparmor/exec; } 2>/dev/null; exec \"$@\"", "sh"];

/// The words before those of a program that is to keep the profile of this one: mostly none.
pub fn keeping_the_profile() -> &'static [&'static str] {
    let profile = fs::read_to_string("/proc/self/attr/apparmor/current");
    before(profile.as_deref().unwrap_or_default())
}

fn before(profile: &str) -> &'static [&'static str] {
    if profile.trim_end() == OURS { &KEEP } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_the_package_s_own_profile_is_kept() {
        assert_eq!(before("vpnlab (unconfined)\n"), KEEP);
        for other in ["", "unconfined\n", "vpnlab (enforce)\n", "bwrap (enforce)\n"] {
            assert!(before(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_kernel_that_says_no_is_no_obstacle() {
        let done = Command::new(KEEP[0]).args(&KEEP[1..]).args(["echo", "a b"]).output().unwrap();
        assert_eq!((done.stdout, done.stderr), (b"a b\n".to_vec(), Vec::new()));
    }
}
