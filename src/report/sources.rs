//! The files that a program was made of, as far as its command line tells: a script, what that imports from beside it, or the
//! program file itself. Each with its hash, and small texts as a copy.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::Pid;

use super::folder::Folder;
use super::hash;
use super::model::Source;
use crate::error::Result;
use crate::lab::processes::Owner;
use crate::page::text::file_name;

/// Where what the machine's packages bring is: no student's work.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", "/dev"];

/// The longest text of which a copy is kept, in bytes; how many files of a program are looked at.
const LONGEST: u64 = 256 << 10;
const MOST: usize = 20;

/// The files of a command line that is about to be run in this directory, or in the one that its `cd` names.
pub fn of_command(line: &str, directory: &Path) -> Vec<PathBuf> {
    let words = shlex::split(line).unwrap_or_else(|| line.split_whitespace().map(String::from).collect());
    let mut directory = directory.to_path_buf();
    let mut files = Vec::new();
    // Whether a command begins here, and whether it is `cd`.
    let (mut begins, mut changes) = (true, false);
    for word in &words {
        let plain = word.trim_end_matches(';');
        match changes {
            true => directory.push(at_home(plain)),
            false => files.extend(file(&at_home(plain), &directory)),
        }
        changes = begins && plain == "cd";
        begins = word.ends_with(';') || ["&&", "||", "|", "("].contains(&word.as_str());
    }
    with_imports(without_interpreters(files))
}

/// A word as the shell has it: `~` and `~/` are the user's home.
fn at_home(word: &str) -> String {
    let rest = word.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    std::env::var("HOME").ok().zip(rest).map_or(word.to_string(), |(home, rest)| home + rest)
}

/// The files of a program that runs.
pub fn of_process(pid: i32) -> Vec<PathBuf> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| "/".into());
    let mut files = without_interpreters(words.filter_map(|word| file(&word, &directory)).collect());
    if files.is_empty() {
        files.extend(fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|path| !is_system(path)));
    }
    with_imports(files)
}

/// Describes files, and keeps copies of those that are small texts. `host` is where they ran, `pid` what they became.
///
/// # Errors
/// A copy cannot be written.
pub fn describe(files: &[PathBuf], host: &str, pid: Option<i32>, folder: &mut Folder) -> Result<Vec<Source>> {
    let started = pid.and_then(started);
    files.iter().map(|path| describe_one(path, host, started, folder)).collect()
}

fn describe_one(path: &Path, host: &str, started: Option<SystemTime>, folder: &mut Folder) -> Result<Source> {
    let mut source = Source { path: path.display().to_string(), sha256: None, copy: None, note: None };
    let text = match text(path) {
        Ok(text) => text,
        Err(error) => {
            source.note = Some(format!("it cannot be read: {error}"));
            return Ok(source);
        }
    };
    let changed = fs::metadata(path).and_then(|data| data.modified()).ok();
    if changed.zip(started).is_some_and(|(changed, started)| changed > started) {
        source.note = Some("it was changed after the program was started: what ran is an earlier one".into());
    }
    match text {
        // The hash and the copy are of the same bytes.
        Some(text) => {
            source.sha256 = Some(hash::of_bytes(&text));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            source.copy = Some(folder.copy(&format!("{}-{}", file_name(host), file_name(&name)), &text)?);
        }
        None => source.sha256 = hash::of_file(path).ok(),
    }
    Ok(source)
}

/// The bytes of a small text; nothing where it is something else.
fn text(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    let is_text = bytes.len() as u64 <= LONGEST && !bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok();
    Ok(is_text.then_some(bytes))
}

/// The file that a word of a command line names, if it is none of the system's.
fn file(word: &str, directory: &Path) -> Option<PathBuf> {
    if word.is_empty() || word.starts_with('-') {
        return None;
    }
    let path = directory.join(word);
    let found = fs::canonicalize(&path).ok()?;
    (found.is_file() && !is_system(&found) && !is_system(&path)).then_some(path)
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// These files; where there is a text among them, without what is none: a Python of the user's own runs a script, and is none.
fn without_interpreters(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_text = |path: &PathBuf| text(path).is_ok_and(|it| it.is_some());
    if files.iter().any(is_text) {
        files.retain(is_text);
    }
    files
}

/// These files, and the modules that the Python files among them import from beside them.
fn with_imports(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut place = 0;
    while place < files.len() && files.len() < MOST {
        let path = files[place].clone();
        place += 1;
        let Ok(Some(text)) = (if path.extension().is_some_and(|it| it == "py") { text(&path) } else { Ok(None) })
        else {
            continue;
        };
        for module in imports(&String::from_utf8_lossy(&text)) {
            let module = path.with_file_name(format!("{module}.py"));
            if module.is_file() && !files.contains(&module) && files.len() < MOST {
                files.push(module);
            }
        }
    }
    files
}

/// The modules that a Python text imports: `import a, b as c`, `from d import e`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim_start) {
        let (names, is_list) = match (line.strip_prefix("import "), line.strip_prefix("from ")) {
            (Some(names), _) => (names, true),
            (_, Some(rest)) => (rest, false),
            _ => continue,
        };
        let named = names.split(',').take(if is_list { usize::MAX } else { 1 });
        let first = named.filter_map(|it| it.split_whitespace().next()).map(|it| it.trim_end_matches(';'));
        let is_name = |it: &&str| !it.is_empty() && it.chars().all(|it| it.is_alphanumeric() || it == '_');
        found.extend(first.filter(is_name).map(String::from));
    }
    found
}

/// When a process was started: proc_pid_stat(5), starttime, in hundredths of a second since boot.
fn started(pid: i32) -> Option<SystemTime> {
    let ticks = Owner::of(Pid::from_raw(pid))?.started;
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok())?;
    // Boot is told in whole seconds: a file that was written in the second before is not called changed.
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot + 1) + Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_stand() {
        let text = "import os, tun as t\nfrom scapy.all import *\nfrom helpers import x, y\n    import late;\n# import not\nimporting = 1\n";
        assert_eq!(imports(text), ["os", "tun", "helpers", "late"]);
        assert_eq!(imports("import\nfrom\nfrom . import x\nimport ../../etc\n"), [""; 0]);
    }

    #[test]
    fn the_files_of_a_command_are_its_scripts_and_their_modules() {
        let directory = std::env::temp_dir().join(format!("vpnlab-sources-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a b.py"), "import tun\n").unwrap();
        fs::write(directory.join("tun.py"), "import tun\nimport socket\n").unwrap();
        fs::write(directory.join("other.py"), "").unwrap();
        let files = of_command("sudo python3 -B 'a b.py' server /etc/missing /bin/sh", &directory);
        let names: Vec<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a b.py", "tun.py"]);
        fs::write(directory.join("python"), b"\x7fELF\0").unwrap();
        assert_eq!(of_command("./python other.py", &directory), [directory.join("other.py")]);
        assert_eq!(of_command("./python", &directory), [directory.join("./python")]);
        assert!(of_command("python3 'unbalanced", &directory).is_empty());
        let (parent, name) = (directory.parent().unwrap(), directory.file_name().unwrap().to_str().unwrap());
        for line in [
            format!("cd {name} && python3 other.py"),
            format!("cd {name}; sudo python3 other.py"),
            format!("echo cd nowhere; cd {name} && python3 other.py"),
        ] {
            assert_eq!(of_command(&line, parent), [directory.join("other.py")], "{line}");
        }
        assert_eq!(at_home("~/x.py"), format!("{}/x.py", std::env::var("HOME").unwrap()));
        fs::remove_dir_all(&directory).unwrap();
    }
}
