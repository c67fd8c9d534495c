//! What the program says to those who use it wrongly: one line on stderr, nothing on stdout, and the exit code.
//!
//! Nothing here needs a namespace or a right: every error comes before the system is asked to change anything.

use std::fs::File;
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use vpnlab::cli::Cli;

fn vpnlab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(arguments).output().expect("vpnlab starts")
}

/// Runs vpnlab, and returns the one line of its error.
fn error(arguments: &[&str], exit_code: i32) -> String {
    let output = vpnlab(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let said: Vec<_> = stderr.lines().filter(|line| !line.starts_with("[INFO] ")).collect();
    assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}: {stderr}");
    assert_eq!(said.len(), 1, "{arguments:?}: {stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
    said[0].strip_prefix("vpnlab: ").unwrap_or_else(|| panic!("{arguments:?}: {stderr}")).to_string()
}

fn usage_error(arguments: &[&str]) -> String {
    error(arguments, 2)
}

#[test]
fn help_goes_to_stdout_and_is_a_success() {
    for arguments in [&["--help"][..], &["vpn", "--help"], &["udp-sink", "-h"], &["--version"]] {
        let output = vpnlab(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

/// Commands that print something, with no lab and no rights.
const PRINT: [&[&str]; 6] =
    [&["--help"], &["vpn", "--help"], &["--version"], &["completions", "zsh"], &["man"], &["grade", "--print-rubric"]];

#[test]
fn what_cannot_be_written_is_an_error_and_no_panic() {
    for arguments in PRINT {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
        let done = command.args(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("vpnlab: cannot write to standard output: ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn where_nobody_reads_it_ends_quietly_with_the_code_that_shells_have_for_that() {
    for arguments in PRINT {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((done.status.code(), &done.stderr[..]), (Some(141), &b""[..]), "{arguments:?}: {done:?}");
    }
}

#[test]
fn without_a_subcommand_the_help_is_shown_as_an_error() {
    let output = vpnlab(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: vpnlab"));
}

#[test]
fn what_is_no_option_or_subcommand_is_named() {
    assert!(usage_error(&["tun-raed"]).contains("tun-raed"));
    assert!(usage_error(&["tun-read", "--adress", "x"]).contains("--adress"));
    assert!(usage_error(&["vpn"]).contains("--role <ROLE>"));
    assert!(usage_error(&["vpn", "--role", "both"]).contains("client, server"));
}

#[test]
fn a_bad_cidr_is_told_what_is_wrong_with_it() {
    assert!(usage_error(&["tun-read", "--address", "192.0.2.1"]).contains("192.0.2.1/24"));
    assert!(usage_error(&["tun-read", "--address", "192.0.2.0/24"]).contains("the whole subnet"));
    assert!(usage_error(&["tun-ping", "--address", "192.0.2.1/33"]).contains("prefix length"));
    assert!(usage_error(&["client", "--route", "192.0.2.1/24"]).contains("192.0.2.0/24"));
    assert!(usage_error(&["tun-read", "--address", "192.0.2.1/24", "--address", "192.0.2.1/24"]).contains("twice"));
}

#[test]
fn a_number_out_of_its_range_is_refused() {
    let no_number = "invalid value 'many' for '--mtu <BYTES>': a whole number is wanted; see --help";
    assert_eq!(usage_error(&["tun-read", "--mtu", "many"]), no_number);
    for mtu in ["67", "65536", "-1", "many"] {
        assert!(usage_error(&["tun-read", &format!("--mtu={mtu}")]).contains("--mtu"), "{mtu}");
    }
    let small = usage_error(&["tun-read", "--address", "2001:db8::1/64", "--mtu", "1279"]);
    assert!(small.contains("1280"), "{small}");
    assert!(usage_error(&["udp-sink", "--port", "65536"]).contains("--port"));
    assert!(usage_error(&["udp-sink", "--count", "0"]).contains("--count"));
}

#[test]
fn a_name_that_no_interface_can_have_is_refused() {
    for name in ["", "a/b", "a b", "sixteen_bytes_xx", "tun%d%d", "tun%s"] {
        assert!(usage_error(&["tun-read", "--tun", name]).contains("cannot name a TUN device"), "{name}");
    }
}

#[test]
fn an_option_of_the_other_role_is_refused() {
    for option in [
        &["--port", "9"][..],
        &["--bind", "127.0.0.1"],
        &["--forward"],
        &["--allow-peer", "192.0.2.0/24"],
        &["--allow-source", "192.0.2.0/24"],
        &["--client-to-client"],
        &["--max-peers", "9"],
        &["--peer-timeout", "9"],
    ] {
        let said = usage_error(&[&["vpn", "--role", "client"], option].concat());
        assert_eq!(said, format!("{} can only be used with --role server", option[0]));
    }
    let said = usage_error(&["vpn", "--role", "server", "--server", "127.0.0.1"]);
    assert_eq!(said, "--server can only be used with --role client");
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    assert!(usage_error(&["tun-read", "--no-configure", "--mtu", "1400"]).contains("--no-configure"));
    assert!(usage_error(&["tun-read", "-v", "-q"]).contains("--quiet"));
    let both = usage_error(&["vpn", "--role", "client", "--no-offload", "--offload=tun"]);
    assert!(both.contains("--no-offload") && both.contains("--offload <LIST>"), "{both}");
    let routed = ["client", "--server", "127.0.0.1", "--no-configure", "--route", "192.0.2.0/24"];
    assert!(usage_error(&routed).contains("--no-configure"));
    let routed = ["vpn", "--role", "server", "--no-configure", "--route", "192.0.2.0/24"];
    assert!(usage_error(&routed).contains("--no-configure"));
}

#[test]
fn a_part_of_the_fast_path_that_there_is_not_is_named_and_all_that_there_are() {
    let fast = |option| usage_error(&["vpn", "--role", "client", "--server", "127.0.0.1", option]);
    let parts = "[possible values: tun, udp, tso, uso, gso, gro, batch]";
    for (option, named) in [("--offload=tcp", "'tcp'"), ("--offload=tun,rx", "'rx'"), ("--offload=TUN", "'TUN'")] {
        let said = fast(option);
        assert!(said.contains(named) && said.contains("--offload") && said.contains(parts), "{said}");
    }
    for option in ["--offload", "--offload=", "--offload=tun,", "--offload=,"] {
        let said = fast(option);
        assert!(said.contains("a value is required for '--offload <LIST>'") && said.contains(parts), "{said}");
    }
}

#[test]
fn only_vpn_has_a_fast_path_to_switch_off() {
    for step in ["tun-read", "tun-ping", "udp-sink", "client", "server"] {
        for option in ["--no-offload", "--offload=tun"] {
            let said = usage_error(&[step, option]);
            assert!(said.contains("unexpected argument") && said.contains("offload"), "{said}");
        }
    }
}

#[test]
fn an_unknown_host_is_named() {
    for step in [&["client"][..], &["vpn", "--role", "client"]] {
        // RFC 6761, section 6.4: no host is ever called that.
        let said = usage_error(&[step, &["--server", "nobody.invalid"]].concat());
        assert!(said.starts_with("unknown host nobody.invalid: "), "{said}");
    }
}

#[test]
fn what_is_no_server_is_refused() {
    for server in ["server:0", "server:http", "[::1", ":9090"] {
        assert!(usage_error(&["client", "--server", server]).contains("--server"), "{server}");
    }
    assert!(usage_error(&["client", "--server", "0.0.0.0"]).contains("no host's address"));
}

#[test]
fn a_route_that_would_lead_the_tunnel_into_itself_is_refused_before_anything_is_made() {
    // An address of a network for documentation (RFC 5737): at most a default route leads there.
    let route = ["--server", "192.0.2.3", "--route", "192.0.2.0/24"];
    for step in [&["client"][..], &["vpn", "--role", "client"]] {
        let said = usage_error(&[step, &route].concat());
        assert!(said.starts_with("--route 192.0.2.0/24 covers 192.0.2.3, the address of the server itself"), "{said}");
    }
    let subnet = usage_error(&["client", "--server", "192.0.2.3", "--address", "192.0.2.1/24"]);
    assert!(subnet.contains("--address 192.0.2.0/24 covers 192.0.2.3"), "{subnet}");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for step in [&["udp-sink"][..], &["server"], &["vpn", "--role", "server"]] {
        let said = error(&[step, &["--bind", "127.0.0.1", "--port", &port]].concat(), 1);
        assert!(
            said.starts_with(&format!("cannot listen on UDP port {port} of 127.0.0.1: the port is in use")),
            "{said}"
        );
    }
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    assert!(usage_error(&["udp-sink", "--bind", "192.0.2.1"]).contains("does not have that address"));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error() {
    let said = usage_error(&["udp-sink", "--log-file", "/proc/none/log"]);
    assert!(said.starts_with("cannot open log file /proc/none/log: "), "{said}");
}

#[test]
fn a_rubric_is_printed_and_a_wrong_one_is_told_by_its_line() {
    let printed = vpnlab(&["grade", "--print-rubric"]);
    assert_eq!(printed.status.code(), Some(0));
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("\n\"step4.ping-userv\" = 1 ") && text.contains("\ndefault = 1\n"), "{text}");

    let path = std::env::temp_dir().join(format!("vpnlab-rubric-{}.toml", std::process::id()));
    std::fs::write(&path, "[points]\n\"step4.ping-user\" = 1\n").unwrap();
    let said = usage_error(&["grade", "--rubric", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert!(said.contains("line 2: there is no check \"step4.ping-user\"; `vpnlab grade --print-rubric`"), "{said}");
    assert!(usage_error(&["grade", "--rubric", "/nowhere"]).starts_with("cannot read the rubric /nowhere: "));
}

#[test]
fn marks_of_an_earlier_run_outlive_one_that_fails() {
    let path = |kind: &str| std::env::temp_dir().join(format!("vpnlab-marks-{}.{kind}", std::process::id()));
    let kinds = ["csv", "html", "json", "junit"];
    let options = kinds.map(|kind| format!("--{kind}={}", path(kind).display()));
    kinds.iter().for_each(|kind| std::fs::write(path(kind), "marks").unwrap());
    let mut arguments = vec!["grade", "--rubric", "/nowhere"];
    arguments.extend(options.iter().map(String::as_str));
    let said = usage_error(&arguments);
    let left = kinds.map(|kind| std::fs::read_to_string(path(kind)).unwrap());
    kinds.iter().for_each(|kind| std::fs::remove_file(path(kind)).unwrap());
    assert!(said.starts_with("cannot read the rubric"), "{said}");
    assert_eq!(left, ["marks"; 4]);
}

/// Hands every command of the tree to `look`, with the words that lead to it.
fn walk(command: &clap::Command, words: &[&str], look: &mut dyn FnMut(&clap::Command, &[&str])) {
    look(command, words);
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        walk(below, &[words, &[below.get_name()]].concat(), look);
    }
}

#[test]
fn every_command_says_what_it_does_and_shows_examples_and_every_option_says_what_it_is() {
    let mut command = Cli::command();
    command.build();
    let mut seen = Vec::new();
    walk(&command, &[], &mut |command, words| {
        let name = ["vpnlab"].into_iter().chain(words.iter().copied()).collect::<Vec<_>>().join(" ");
        assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{name} has no description");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{name}: {argument} has no help");
            assert!(!help.ends_with('.'), "{name}: {argument}: help is no sentence with a full stop: {help}");
        }
        let shown = vpnlab(&[words, &["--help"]].concat());
        let help = String::from_utf8(shown.stdout).unwrap();
        let examples =
            help.split_once("\nEXAMPLES:\n  ").unwrap_or_else(|| panic!("{name} has no examples:\n{help}")).1;
        assert!(examples.lines().next().unwrap().contains("vpnlab"), "{name}: {examples}");
        // An example is a command of this tree.
        let all = examples.lines().take_while(|line| line.starts_with("  ") || examples.starts_with(line));
        assert!(all.into_iter().any(|line| line.contains(&name)), "{name} is in none of its examples: {examples}");
        seen.push(name);
    });
    for known in ["vpnlab", "vpnlab doctor", "vpnlab lab", "vpnlab lab status", "vpnlab vpn"] {
        assert!(seen.iter().any(|name| name == known), "{known} was not looked at: {seen:?}");
    }
}

#[test]
fn what_a_program_may_read_is_to_be_had_as_json() {
    let command = Cli::command();
    let of_lab = [&["lab", "status"][..], &["lab", "check"]];
    for words in [&["doctor"][..], &["demo"], &["trace"], &["watch"], &["report"], &["grade"]].into_iter().chain(of_lab)
    {
        let mut found = false;
        walk(&command, &[], &mut |command, at| {
            let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            found |= at == words && has_json;
        });
        assert!(found, "{words:?} has no --json");
    }
}

#[test]
fn the_version_names_commit_profile_and_target() {
    for arguments in [["--version"], ["-V"]] {
        let shown = String::from_utf8(vpnlab(&arguments).stdout).unwrap();
        assert_eq!(shown, format!("vpnlab {}\n", vpnlab::version::VERSION));
        let expected = format!("vpnlab {} (", env!("CARGO_PKG_VERSION"));
        assert!(shown.starts_with(&expected) && shown.contains("-linux-"), "{shown}");
    }
}

#[test]
fn there_are_colours_where_they_are_wanted_and_only_there() {
    let help = |arguments: &[&str], no_color: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
        command.env_remove("NO_COLOR").envs(no_color.map(|value| ("NO_COLOR", value)));
        let output = command.args(arguments).output().unwrap();
        [output.stdout, output.stderr].concat().contains(&0x1b)
    };
    assert!(!help(&["--help"], None), "a pipe is no terminal");
    assert!(help(&["--color=always", "--help"], None));
    assert!(help(&["lab", "--color", "always", "up", "--help"], None));
    assert!(help(&["--color=always", "--help"], Some("1")), "who asks for colours gets them");
    assert!(!help(&["--color=never", "--help"], None));
    // And the log, which a client writes before its mistake.
    let logs = ["client", "--server", "192.0.2.3", "--route", "192.0.2.0/24"];
    assert!(!help(&logs, None));
    assert!(help(&[&["--color=always"], &logs[..]].concat(), None));
    let said = usage_error(&["--color", "blue", "demo"]);
    assert!(said.contains("--color <WHEN>") && said.contains("[possible values: auto, always, never]"), "{said}");
}
