//! What vpnlab says of its own command line to others: manual pages for man(1), scripts for shells. That they work where the
//! package puts them is tests/package's to see.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn vpnlab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(arguments).output().expect("vpnlab starts")
}

fn stdout(arguments: &[&str]) -> String {
    let output = vpnlab(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that the help of these words names.
fn subcommands(words: &[&str]) -> Vec<String> {
    let help = stdout(&[words, &["--help"]].concat());
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(String::from).collect()
}

#[test]
fn every_command_has_a_page_and_no_page_is_about_anything_else() {
    let folder = std::env::temp_dir().join(format!("vpnlab-manual-{}", std::process::id()));
    stdout(&["man", "--dir", &folder.join("man1").display().to_string()]);
    let mut expected = vec!["vpnlab.1".to_string()];
    for command in subcommands(&[]) {
        expected.extend(subcommands(&[&command]).iter().map(|below| format!("vpnlab-{command}-{below}.1")));
        expected.push(format!("vpnlab-{command}.1"));
    }
    let entries = fs::read_dir(folder.join("man1")).unwrap();
    let mut written: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    written.sort();
    expected.sort();
    assert!(expected.len() > 15, "the help names too few: {expected:?}");
    assert_eq!(written, expected);
    for name in &written {
        is_formatted_without_a_warning(&folder.join("man1").join(name));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[track_caller]
fn is_formatted_without_a_warning(page: &Path) {
    let mut man = Command::new("man");
    man.args(["--warnings", "--local-file"]).arg(page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
    let done = man.output().unwrap_or_else(|error| panic!("man is needed (lab/setup.sh --tests): {error}"));
    assert!(done.status.success() && done.stderr.is_empty(), "{}: {done:?}", page.display());
    let shown = String::from_utf8_lossy(&done.stdout);
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"] {
        assert!(shown.lines().any(|line| line == section), "{} has no {section}:\n{shown}", page.display());
    }
}

#[test]
fn a_page_goes_to_a_pipe_as_it_is() {
    let page = stdout(&["man", "lab", "up"]);
    assert!(page.contains("\n.TH VPNLAB-LAB-UP 1 "), "{page}");
    let exec = vpnlab(&["man", "lab", "nothing"]);
    assert_eq!(exec.status.code(), Some(2), "{exec:?}");
}

#[test]
fn bash_completes_commands_options_and_values() {
    for (words, offered) in [
        (&["tun-"][..], "tun-ping tun-read"),
        (&["lab", "sh"], "shell"),
        (&["vpn", "--role", ""], "client server"),
        (&["trace", "--js"], "--json"),
    ] {
        let script = "eval \"$(\"$1\" completions bash)\"; shift; COMP_WORDS=(vpnlab \"$@\"); COMP_CWORD=$#; \
                      _vpnlab vpnlab \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                      printf '%s\\n' \"${COMPREPLY[@]}\" | sort | xargs";
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash", env!("CARGO_BIN_EXE_vpnlab")]).args(words);
        let done = bash.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), offered, "{words:?}: {done:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let done = vpnlab(&["man", "--dir", "/dev/null/x"]);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{done:?}");
}
