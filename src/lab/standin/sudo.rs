//! `sudo COMMAND`: runs the command as it is, since a host's programs have the lab's rights.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::unistd::execvp;

use crate::error::{Context, Error, Result};
use crate::sys;

/// Options of sudo(8) that take a value of their own.
const WITH_VALUE: [&str; 9] = ["-u", "-g", "-p", "-C", "-D", "-h", "-r", "-t", "-T"];

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let command = command(words)?;
    let words: Vec<CString> = command
        .into_iter()
        .map(|word| CString::new(word.into_vec()))
        .collect::<Result<_, _>>()
        .context(|| "a word of the command holds a NUL byte".into())?;
    let Err(errno) = execvp(&words[0], &words);
    Err(Error::failed(format!("sudo: cannot run {}", words[0].to_string_lossy())).because(errno))
}

/// Leaves out sudo's options, and sets the variables that stand before the command.
fn command(words: Vec<OsString>) -> Result<Vec<OsString>> {
    let mut words = words.into_iter().peekable();
    let mut shell = false;
    while let Some(word) = words.next_if(|word| word.as_bytes().starts_with(b"-")) {
        match word.to_str() {
            Some("--") => break,
            Some("-i" | "-s" | "--login" | "--shell") => shell = true,
            Some(option) if WITH_VALUE.contains(&option) => drop(words.next()),
            _ => {}
        }
    }
    while let Some(assignment) = words.next_if(|word| word.as_bytes().contains(&b'=')) {
        let bytes = assignment.as_bytes();
        let (name, value) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=').unwrap_or(0));
        let name = String::from_utf8_lossy(name);
        sys::set_variable(&name, std::ffi::OsStr::from_bytes(&value[1..]))
            .context(|| format!("sudo: cannot set {name}"))?;
    }
    let mut command: Vec<OsString> = words.collect();
    if shell {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        command = match command.is_empty() {
            true => vec![shell],
            false => vec![shell, "-c".into(), command.join(" ".as_ref())],
        };
    }
    match command.is_empty() {
        true => Err(Error::usage("sudo: what shall be run?").hint("usage: sudo COMMAND [ARGUMENT]...")),
        false => Ok(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        command(words).unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn options_are_left_out_and_the_command_stays() {
        assert_eq!(of("sysctl -w net.ipv4.ip_forward=1"), ["sysctl", "-w", "net.ipv4.ip_forward=1"]);
        assert_eq!(of("-E -u root python3 tun.py -u"), ["python3", "tun.py", "-u"]);
        assert_eq!(of("-- -odd"), ["-odd"]);
    }

    #[test]
    fn sudo_alone_is_a_usage_error() {
        assert!(command(vec!["-E".into()]).unwrap_err().to_string().contains("usage"));
    }
}
