//! `sudo COMMAND`: runs the command as it is, since a host's programs have the lab's rights.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::unistd::execvp;

use crate::error::{Context, Error, Result};
use crate::sys;

/// The options of sudo(8) that take a value, which may be the next word.
const WITH_VALUE: &[u8] = b"aCcDghpRrTtUu";
const LONG_WITH_VALUE: [&[u8]; 13] = [
    b"--auth-type",
    b"--chdir",
    b"--chroot",
    b"--close-from",
    b"--command-timeout",
    b"--group",
    b"--host",
    b"--login-class",
    b"--other-user",
    b"--prompt",
    b"--role",
    b"--type",
    b"--user",
];

/// The options that do something without a command, which here is nothing to be done.
const ALONE: &[u8] = b"vkKlV";
const LONG_ALONE: [&[u8]; 5] = [b"--validate", b"--reset-timestamp", b"--remove-timestamp", b"--list", b"--version"];

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let Some(command) = command(words)? else { return Ok(0) };
    let words: Vec<CString> = command
        .into_iter()
        .map(|word| CString::new(word.into_vec()))
        .collect::<Result<_, _>>()
        .context(|| "a word of the command holds a NUL byte".into())?;
    let Err(errno) = execvp(&words[0], &words);
    Err(Error::failed(format!("sudo: cannot run {}", words[0].to_string_lossy())).because(std::io::Error::from(errno)))
}

/// What one option of sudo's means here.
#[derive(Default)]
struct Options {
    /// The command is a line for the shell, or the shell itself.
    shell: bool,
    /// There is nothing to run.
    alone: bool,
    /// The next word is the value of this option: its letter, or its long name.
    value_follows: Option<Vec<u8>>,
    /// Whom the command should run as.
    user: Option<Vec<u8>>,
}

impl Options {
    /// Takes an option, or several behind one hyphen.
    fn take(&mut self, word: &[u8]) {
        if word.starts_with(b"--") {
            let mut parts = word.splitn(2, |byte| *byte == b'=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next());
            self.shell |= [&b"--login"[..], b"--shell"].contains(&name);
            self.alone |= LONG_ALONE.contains(&name);
            match value {
                Some(value) => self.value(name, value),
                None => self.value_follows = LONG_WITH_VALUE.contains(&name).then(|| name.to_vec()),
            }
            return;
        }
        for (place, letter) in word.iter().enumerate().skip(1) {
            self.shell |= b"is".contains(letter);
            self.alone |= ALONE.contains(letter);
            if WITH_VALUE.contains(letter) {
                match &word[place + 1..] {
                    [] => self.value_follows = Some(vec![*letter]),
                    value => self.value(&[*letter], value),
                }
                return;
            }
        }
    }

    fn value(&mut self, option: &[u8], value: &[u8]) {
        if matches!(option, b"u" | b"--user") {
            self.user = Some(value.to_vec());
        }
    }
}

/// Leaves out sudo's options, and sets the variables that stand before the command; `None` where sudo runs none.
fn command(words: Vec<OsString>) -> Result<Option<Vec<OsString>>> {
    let mut words = words.into_iter().peekable();
    let mut options = Options::default();
    // Options and variables may stand in any order; what follows `--` is the command.
    while let Some(word) = words.next_if(|word| word.as_bytes().starts_with(b"-") || is_assignment(word.as_bytes())) {
        if word == "--" {
            break;
        }
        if is_assignment(word.as_bytes()) {
            assign(&word)?;
            continue;
        }
        options.take(word.as_bytes());
        if let Some(option) = options.value_follows.take() {
            let value = words.next().ok_or_else(|| {
                Error::usage(format!("sudo: {} wants a value", word.to_string_lossy()))
                    .hint("usage: sudo COMMAND [ARGUMENT]...")
            })?;
            options.value(&option, value.as_bytes());
        }
    }
    if let Some(user) = options.user.as_ref().filter(|user| ![&b"root"[..], b"#0"].contains(&user.as_slice())) {
        let user = String::from_utf8_lossy(user);
        return Err(Error::usage(format!("sudo: a host's programs run as root, not as {user}"))
            .hint("leave out -u, or say -u root"));
    }
    let mut command: Vec<OsString> = words.collect();
    if options.shell {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        command = match command.is_empty() {
            true => vec![shell],
            false => vec![shell, "-c".into(), command.join(" ".as_ref())],
        };
    }
    match command.is_empty() {
        true if options.alone => Ok(None),
        true => Err(Error::usage("sudo: what shall be run?").hint("usage: sudo COMMAND [ARGUMENT]...")),
        false => Ok(Some(command)),
    }
}

/// Sets a variable that stands before the command.
fn assign(word: &OsStr) -> Result<()> {
    let bytes = word.as_bytes();
    let (name, value) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len()));
    let name = String::from_utf8_lossy(name);
    let value = value.strip_prefix(b"=").unwrap_or_default();
    sys::set_variable(&name, OsStr::from_bytes(value)).context(|| format!("sudo: cannot set {name}"))
}

/// Whether a word is `NAME=VALUE`; without a name it is the command, and an option is none.
fn is_assignment(word: &[u8]) -> bool {
    !word.starts_with(b"-") && word.iter().position(|byte| *byte == b'=').is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        command(words).unwrap().unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn options_are_left_out_and_the_command_stays() {
        assert_eq!(of("sysctl -w net.ipv4.ip_forward=1"), ["sysctl", "-w", "net.ipv4.ip_forward=1"]);
        assert_eq!(of("-E -u root python3 tun.py -u"), ["python3", "tun.py", "-u"]);
        assert_eq!(of("-- -odd"), ["-odd"]);
        assert_eq!(of("=x ls"), ["=x", "ls"]);
        assert_eq!(of("-uroot ls"), ["ls"]);
        assert_eq!(of("-nu root -- ls -u"), ["ls", "-u"]);
        assert_eq!(of("--user root --chdir=/tmp ls"), ["ls"]);
        assert_eq!(of("-S -p  ls -l"), ["ls", "-l"]);
        assert_eq!(of("-Eu root ls"), ["ls"]);
        assert_eq!(of("-u #0 ls"), ["ls"]);
        assert_eq!(of("-n ls"), ["ls"]);
        assert_eq!(of("-- A=1 ls"), ["A=1", "ls"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let refused = |line: &str| command(line.split(' ').map(OsString::from).collect()).unwrap_err().to_string();
        for line in ["-u nobody ls", "-unobody ls", "-Eu nobody ls", "--user nobody ls", "--user=nobody ls"] {
            assert!(refused(line).contains("run as root, not as nobody"), "{line}");
        }
        assert!(refused("-E -u").contains("-u wants a value"));
        assert!(refused("--user").contains("--user wants a value"));
    }

    #[test]
    fn what_sudo_does_without_a_command_is_nothing_here() {
        assert!(command(vec!["-v".into()]).unwrap().is_none());
        assert!(command(vec!["-n".into(), "--list".into()]).unwrap().is_none());
    }

    #[test]
    fn sudo_alone_is_a_usage_error() {
        assert!(command(vec!["-E".into()]).unwrap_err().to_string().contains("usage"));
    }
}
