//! A submission's `vpnlab.toml`: refused in one line, or a command that has a word for each program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::grade::submission::read_manifest;

fuzz_target!(|bytes: &[u8]| {
    match read_manifest(bytes) {
        Ok((build, programs)) => {
            assert!(build.is_none_or(|words| !words.is_empty()));
            assert!(programs.values().all(|words| !words.is_empty()));
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("vpnlab.toml ") && !line.contains('\n'), "{line:?}");
        }
    }
});
