//! `vpnlab init`: what it writes, what it says, and that it never overwrites anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of a test's own, which is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vpnlab-init-cli-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self, below: &str) -> Vec<String> {
        let listed = fs::read_dir(self.0.join(below)).unwrap();
        let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn init(within: &Path, directory: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
    command.args(["init", directory]).current_dir(within).output().expect("vpnlab starts")
}

#[test]
fn the_skeleton_is_written_and_its_programs_compile() {
    let folder = Folder::new("new");
    let output = init(&folder.0, "my-lab5");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let names = folder.names("my-lab5");
    assert_eq!(names.len(), 7, "{names:?}");
    for name in &names {
        assert!(said.contains(&format!("  {name}\n")), "{said}");
    }
    for next in ["cd my-lab5\n", "vpnlab lab up", "vpnlab lab shell useru", "vpnlab grade --watch ."] {
        assert!(said.contains(next), "{said}");
    }
    let programs = names.iter().filter(|name| name.ends_with(".py"));
    let mut compiled = Command::new("python3");
    compiled.args(["-m", "py_compile"]).args(programs).current_dir(folder.0.join("my-lab5"));
    let compiled = compiled.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

#[test]
fn a_file_that_is_there_is_named_and_nothing_is_written() {
    let folder = Folder::new("there");
    fs::create_dir(folder.0.join("mine")).unwrap();
    fs::write(folder.0.join("mine/tun_client.py"), "my own").unwrap();
    let output = init(&folder.0, "mine");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said,
        "vpnlab: mine/tun_client.py is there already; nothing was written; name another folder, or move the file away\n"
    );
    assert!(output.stdout.is_empty());
    assert_eq!(folder.names("mine"), ["tun_client.py"]);
    assert_eq!(fs::read_to_string(folder.0.join("mine/tun_client.py")).unwrap(), "my own");
}

#[test]
fn a_folder_that_is_a_file_is_refused() {
    let folder = Folder::new("file");
    fs::write(folder.0.join("mine"), "").unwrap();
    let output = init(&folder.0, "mine");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("vpnlab: cannot write mine: "));
}

#[test]
fn where_one_file_cannot_be_written_none_is_left() {
    let folder = Folder::new("cut");
    fs::create_dir(folder.0.join("there")).unwrap();
    for (name, left) in [("new", &["there"][..]), ("there", &["there"])] {
        // No file may be longer than 1536 bytes; the first two are not.
        let script = "trap '' XFSZ; ulimit -f 3; exec \"$1\" init \"$2\"";
        let mut limited = Command::new("sh");
        limited.args(["-c", script, "sh", env!("CARGO_BIN_EXE_vpnlab"), name]).current_dir(&folder.0);
        let output = limited.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("vpnlab: cannot write {name}/tun.py: File too large")), "{said}");
        assert_eq!(folder.names(""), left);
        assert_eq!(output.status.code(), Some(2));
    }
    assert_eq!(folder.names("there"), [""; 0]);
    assert_eq!(init(&folder.0, "there").status.code(), Some(0));
}

#[test]
fn the_next_command_can_be_typed_as_it_is_told() {
    let folder = Folder::new("typed");
    for name in ["Übung-5", "lab 5", "anna's $HOME"] {
        let said = String::from_utf8(init(&folder.0, name).stdout).unwrap();
        let line = said.lines().find(|line| line.starts_with("  cd ")).unwrap();
        let script = format!("{line} && ls README.md");
        let shell = Command::new("sh").args(["-c", &script]).current_dir(&folder.0).output().unwrap();
        assert_eq!(shell.stdout, b"README.md\n", "{line}");
    }
}

#[test]
fn a_folder_with_other_files_is_filled() {
    let folder = Folder::new("other");
    fs::write(folder.0.join("notes.txt"), "").unwrap();
    assert_eq!(init(&folder.0, ".").status.code(), Some(0));
    assert_eq!(folder.names("").len(), 8);
}

#[test]
fn the_help_has_examples() {
    let output = Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(["init", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("EXAMPLES:\n  vpnlab init my-lab5"));
}
