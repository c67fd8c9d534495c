//! What this program is: its version, the commit that it was built from, how and for what.

/// As `vpnlab --version` has it after the name: `0.1.0 (1a2b3c4d5e6f, release, x86_64-unknown-linux-gnu)`. There are no
/// features to choose when it is built; what the kernel adds is told by `vpnlab doctor`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("VPNLAB_BUILD"), ")");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_commit_profile_and_target() {
        let built = VERSION.strip_prefix(env!("CARGO_PKG_VERSION")).and_then(|rest| rest.strip_prefix(" ("));
        let parts: Vec<&str> = built.and_then(|rest| rest.strip_suffix(')')).unwrap().split(", ").collect();
        let [commit, profile, target] = parts[..] else { panic!("{VERSION}") };
        let is_commit = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_commit || commit == "unknown", "{VERSION}");
        assert!(["debug", "release"].contains(&profile) && target.contains("linux"), "{VERSION}");
    }
}
