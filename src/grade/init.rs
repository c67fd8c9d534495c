//! `vpnlab init`: writes the skeleton that a student fills in. It never overwrites anything.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::output;

/// `vpnlab init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to write to; it is created where it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The examples of `vpnlab init --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab init my-lab5                     the handout's files, with the parts to fill in
  vpnlab grade --watch my-lab5            is it done? Looks again whenever a file is saved

Nothing is overwritten: if one of the files is there already, nothing at all is written. The programs are in Python;
for another language, say in vpnlab.toml how yours are built and started, and delete the .py files.";

/// The files, each with its text.
const FILES: [(&str, &str); 7] = [
    ("README.md", include_str!("skeleton/README.md")),
    ("vpnlab.toml", include_str!("skeleton/vpnlab.toml")),
    ("tun.py", include_str!("skeleton/tun.py")),
    ("tun_ping.py", include_str!("skeleton/tun_ping.py")),
    ("tun_udp_server.py", include_str!("skeleton/tun_udp_server.py")),
    ("tun_client.py", include_str!("skeleton/tun_client.py")),
    ("tun_server.py", include_str!("skeleton/tun_server.py")),
];

/// Runs `vpnlab init`.
///
/// # Errors
/// One of the files is there already, or the folder cannot be written.
pub fn run(args: &InitArgs) -> Result<()> {
    write(&args.directory)?;
    let directory = args.directory.display();
    let typed = typed(&directory.to_string());
    let mut text = format!("{directory}:\n");
    FILES.iter().for_each(|(name, _)| text += &format!("  {name}\n"));
    text += &format!(
        "\nNext:\n  cd {typed}\n  vpnlab lab up               the hosts; once\n  \
         vpnlab lab shell useru      and there: sudo python3 tun.py\n  \
         vpnlab grade --watch .      what is done, and what is not yet\nREADME.md has the steps.\n"
    );
    output::text(text)
}

/// A path as it is typed into a shell.
fn typed(path: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || "-_./:,@+".contains(it);
    if path.chars().all(is_plain) { path.into() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// Writes the files: all of them or none.
fn write(directory: &Path) -> Result<()> {
    let failed = |path: &Path, error| Error::usage(format!("cannot write {}", path.display())).because(error);
    let paths: Vec<PathBuf> = FILES.iter().map(|(name, _)| directory.join(name)).collect();
    // A link that leads nowhere is something, too.
    if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Error::usage(format!("{} is there already", there.display()))
            .hint("nothing was written; name another folder, or move the file away"));
    }
    let is_new = !directory.exists();
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let mut made = Vec::new();
    let written = paths.iter().zip(FILES).try_for_each(|(path, (_, text))| {
        // Somebody may have made one meanwhile.
        let file = fs::File::options().write(true).create_new(true).open(path);
        let mut file = file.map_err(|error| failed(path, error))?;
        made.push(path);
        file.write_all(text.as_bytes()).map_err(|error| failed(path, error))
    });
    if written.is_err() {
        // On a full disk, say. What is left of them would be in the way of the next attempt.
        made.iter().for_each(|path| drop(fs::remove_file(path)));
        if is_new {
            let _ = fs::remove_dir(directory);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::submission::{Role, Submission};

    /// A path in a folder of this test's own, which is removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vpnlab-init-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_a_submission_with_a_program_for_every_role() {
        let folder = Folder::new("submission");
        let directory = folder.0.join("a/b");
        write(&directory).unwrap();
        let submission = Submission::read(&directory, "python3").unwrap();
        assert!(Role::ALL.iter().all(|role| submission.command(*role).is_some()), "{submission:?}");
        // Without the manifest the handout's names do the same.
        fs::remove_file(directory.join("vpnlab.toml")).unwrap();
        assert_eq!(Submission::read(&directory, "python3").unwrap().programs, submission.programs);
    }

    #[test]
    fn the_manifest_holds_every_role_also_those_that_are_comments() {
        let manifest = FILES.iter().find(|(name, _)| *name == "vpnlab.toml").unwrap().1;
        for role in Role::ALL {
            let line = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{} = ", role.key()));
            assert_eq!(manifest.lines().filter(line).count(), 1, "{role:?}");
        }
    }

    #[test]
    fn every_file_of_the_skeleton_is_written() {
        let skeleton = concat!(env!("CARGO_MANIFEST_DIR"), "/src/grade/skeleton");
        let names = |list: fs::ReadDir| list.map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> =
            names(fs::read_dir(skeleton).unwrap()).filter(|name| name != "__pycache__").collect();
        let mut written: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        there.sort_unstable();
        written.sort_unstable();
        assert_eq!(there, written);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_followed() {
        let folder = Folder::new("link");
        std::os::unix::fs::symlink(folder.0.join("elsewhere"), folder.0.join("tun_server.py")).unwrap();
        let said = write(&folder.0).unwrap_err().to_string();
        assert!(said.contains("tun_server.py is there already"), "{said}");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}
