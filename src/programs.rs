//! Where programs are: on the path of whoever calls, and in the system's directories.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{env, fs};

/// The directories of system programs, which a plain user's path may lack; a host of a lab has them in any case.
pub const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The file that is run for this name, with this path.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    env::split_paths(path).map(|directory| directory.join(name)).find(is_program)
}

/// The file that is run for this name, with this process's path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    find(name, &env::var_os("PATH").unwrap_or_default())
}

/// The file that is run for this name on a host of a lab: on this process's path, or in a directory of the system's.
pub fn on_host(name: &str) -> Option<PathBuf> {
    on_path(name).or_else(|| find(name, OsStr::new(&SYSTEM.join(":"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_file_that_can_be_run_and_the_first_one_counts() {
        let directory = env::temp_dir().join(format!("vpnlab-programs-{}", std::process::id()));
        let [one, other] = ["one", "other"].map(|name| directory.join(name));
        for (folder, mode) in [(&one, 0o644), (&other, 0o755)] {
            fs::create_dir_all(folder.join("folder")).unwrap();
            fs::write(folder.join("program"), "").unwrap();
            fs::set_permissions(folder.join("program"), PermissionsExt::from_mode(mode)).unwrap();
        }
        let path = env::join_paths([&one, &other]).unwrap();
        let found = [find("program", &path), find("folder", &path), find("none", &path)];
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, [Some(other.join("program")), None, None]);
    }
}
