//! The testbed on a real kernel, as a plain user and as root: hosts, names, checks, status, topology files, mistakes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Lab, Machine, User};
use serde_json::Value;

/// What the handout shows, with every time that was measured left out.
const SERVER_ANSWERS_USERU: &str = "\
PING server-lan0 (10.1.2.3) 56(84) bytes of data.
64 bytes from server-lan0 (10.1.2.3): icmp_seq=1 ttl=64 time=_ ms

--- server-lan0 ping statistics ---
1 packets transmitted, 1 received, 0% packet loss, time 0ms
rtt min/avg/max/mdev = _ ms
";
const SERVER_IS_ONE_HOP_FROM_USERU: &str = "\
traceroute to server (10.1.2.3), 30 hops max, 60 byte packets
 1  server-lan0 (10.1.2.3)  _ ms  _ ms  _ ms
";
const USERV_IS_UNREACHABLE: &str = "\
PING userv-lab1 (10.1.1.2) 56(84) bytes of data.
From router.isi.deterlab.net (192.168.1.254) icmp_seq=1 Destination Host Unreachable

--- userv-lab1 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms

";

/// The same seen from userv: the other side's names and addresses.
fn mirrored(text: &str) -> String {
    let exchanged = [("server-lan0", "server-lab1"), ("10.1.2.3", "10.1.1.4"), ("userv-lab1", "useru-lan0")];
    let mirror = exchanged.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to));
    mirror.replace("10.1.1.2)", "10.1.2.2)")
}

/// An output with its measured times replaced by `_`.
fn without_times(output: &str) -> String {
    let is_time = |word: &str| word.split('.').count() == 2 && word.parse::<f64>().is_ok();
    let word = |word: &str| match word.strip_prefix("time=") {
        Some(_) => "time=_".to_string(),
        None if word.split('/').all(is_time) => "_".to_string(),
        None => word.to_string(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n";
    output.lines().map(line).collect()
}

/// A directory for this test alone that every user can read; removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("vpnlab-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

for_each_user! {    fn output_that_cannot_be_written_is_an_error(user: User) {
        let lab = Lab::up(user);
        for stand_in in ["ping -c1", "traceroute"] {
            let (name, options) = stand_in.split_once(' ').unwrap_or((stand_in, ""));
            let run = format!("exec -a {name} {} {options} 127.0.0.1 >/dev/full", common::vpnlab().display());
            let done = lab.exec("useru", &["bash", "-c", &run]).expect(1);
            assert_eq!(done.stderr, "vpnlab: cannot write to standard output: No space left on device (os error 28)\n");
        }
    }

    fn a_route_that_forbids_a_probe_is_a_failed_check(user: User) {
        let lab = Lab::up(user);
        for (kind, why) in [("blackhole", "Invalid argument"), ("prohibit", "Permission denied")] {
            lab.exec("useru", &["ip", "route", "replace", kind, "10.1.2.3/32"]).ok();
            let done = lab.lab(&["check", "--json"]).expect(1);
            let shown: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
            let rows = shown["checks"].as_array().unwrap();
            let row = rows.iter().find(|row| row["from"] == "useru" && row["to"] == "server").unwrap();
            assert_eq!(row["passed"], false);
            assert!(row["seen"].as_str().unwrap().starts_with(&format!("not sent: {why}")), "{row}");
        }
    }

    fn a_host_that_is_nearer_than_it_should_be_is_told(user: User) {
        let file = std::env::temp_dir().join(format!("vpnlab-nearer-{}-{user:?}.toml", std::process::id()));
        std::fs::write(&file, include_str!("../lab/topology.toml").replacen("hops = 1", "hops = 2", 1)).unwrap();
        let lab = Lab::up_with(user, &["--topology", &file.display().to_string()]);
        std::fs::remove_file(&file).unwrap();
        let shown = lab.lab(&["check"]).expect(1).stdout;
        let row = shown.lines().find(|line| line.starts_with("FAILED")).unwrap();
        assert!(row.contains("answers, 2 hops away"), "{row}");
        assert!(row.ends_with("but saw: answers nearer, 1 hop away at most"), "{row}");
    }

    fn names_resolve_to_the_address_on_the_askers_side(user: User) {
        let lab = Lab::up(user);
        for (asker, name, address, canonical) in [
            ("useru", "server", "10.1.2.3", "server-lan0"),
            ("userv", "server", "10.1.1.4", "server-lab1"),
            ("userw", "server", "10.1.1.4", "server-lab1"),
            ("useru", "userv", "10.1.1.2", "userv-lab1"),
            ("userv", "useru", "10.1.2.2", "useru-lan0"),
            ("useru", "userw-lab1", "10.1.1.3", "userw-lab1"),
            ("useru", "server-lab1", "10.1.1.4", "server-lab1"),
            ("userw", "router", "192.168.1.254", "router.isi.deterlab.net"),
        ] {
            let found = lab.exec(asker, &["getent", "hosts", name]).ok().stdout;
            let words: Vec<_> = found.split_whitespace().collect();
            assert_eq!(words[..2], [address, canonical], "{asker} asks for {name}: {found}");
        }
        // Nobody else is asked, and that nobody is asked takes no time.
        lab.exec("useru", &["getent", "hosts", "no-such-name.example.org"]).expect(2);
    }

    fn the_handouts_commands_of_step_0_show_what_the_handout_shows(user: User) {
        let lab = Lab::up(user);
        let shown = |host: &str, command: &str, code| without_times(&lab.sh(host, command).expect(code).stdout);
        assert_eq!(shown("useru", "ping -c1 server", 0), SERVER_ANSWERS_USERU);
        assert_eq!(shown("useru", "traceroute server", 0), SERVER_IS_ONE_HOP_FROM_USERU);
        assert_eq!(shown("useru", "ping -c1 userv", 1), USERV_IS_UNREACHABLE);
        assert_eq!(shown("userv", "ping -c1 server", 0), mirrored(SERVER_ANSWERS_USERU));
        assert_eq!(shown("userv", "traceroute server", 0), mirrored(SERVER_IS_ONE_HOP_FROM_USERU));
        assert_eq!(shown("userv", "ping -c1 useru", 1), mirrored(USERV_IS_UNREACHABLE));
        assert!(lab.pings("userw", "userv"), "userw and userv are on one network");
    }

    fn the_stand_ins_print_what_the_real_programs_print(user: User) {
        let lab = Lab::up(user);
        // The last directory of a host's path holds them, and nothing else is on this path.
        let shown = |host: &str, command: &str, code| {
            without_times(&lab.sh(host, &format!("PATH=${{PATH##*:}}; {command}")).expect(code).stdout)
        };
        assert_eq!(shown("useru", "ping -c1 server", 0), SERVER_ANSWERS_USERU);
        assert_eq!(shown("useru", "traceroute server", 0), SERVER_IS_ONE_HOP_FROM_USERU);
        assert_eq!(shown("useru", "ping -c1 userv", 1), USERV_IS_UNREACHABLE);
        assert_eq!(shown("userv", "ping -c1 useru", 1), mirrored(USERV_IS_UNREACHABLE));
        lab.sh("useru", "PATH=${PATH##*:}; ping -c1 nobody").expect(2);
    }

    fn the_check_has_a_row_for_each_promise_of_step_0(user: User) {
        let lab = Lab::up(user);
        let table = lab.lab(&["check"]).ok().stdout;
        assert_eq!(table.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{table}");
        let json: Value = serde_json::from_str(&lab.lab(&["check", "--json"]).ok().stdout).unwrap();
        assert_eq!(json["lab"], lab.name.as_str());
        assert_eq!(json["passed"], true);
        let row = |at: usize| ["from", "to", "address", "seen"].map(|key| json["checks"][at][key].as_str().unwrap());
        assert_eq!(row(0), ["useru", "server", "10.1.2.3", "answers, 1 hop away"]);
        assert_eq!(row(1), ["useru", "userv", "10.1.1.2", "Destination Host Unreachable from 192.168.1.254"]);
        assert_eq!(row(2), ["userv", "server", "10.1.1.4", "answers, 1 hop away"]);
        assert_eq!(row(3), ["userv", "useru", "10.1.2.2", "Destination Host Unreachable from 192.168.1.254"]);
    }

    fn the_check_fails_where_a_promise_is_broken(user: User) {
        let lab = Lab::up(user);
        lab.exec("server", &["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"]).ok();
        lab.exec("useru", &["ip", "route", "add", "10.1.1.0/24", "via", "10.1.2.3"]).ok();
        let json: Value = serde_json::from_str(&lab.lab(&["check", "--json"]).expect(1).stdout).unwrap();
        assert_eq!(json["passed"], false);
        let passed = |at: usize| json["checks"][at]["passed"].as_bool().unwrap();
        assert_eq!([0, 1, 2, 3].map(passed), [false, false, false, true], "{json:#}");
        assert_eq!(json["checks"][0]["seen"], "no answer");
        let table = lab.lab(&["check"]).expect(1).stdout;
        assert!(table.contains("but saw: no answer"), "{table}");
    }

    fn two_hundred_checks_in_a_row_agree(user: User) {
        let lab = Lab::up(user);
        for number in 1..=200 {
            let done = lab.lab(&["check"]);
            assert_eq!(done.code, 0, "check {number} of 200: {done:#?}");
        }
    }

    fn on_the_wires_is_only_what_the_hosts_have_sent(user: User) {
        // The senders of what comes in six seconds: a new interface tells of itself by IPv6, also that of a bridge.
        const SENDERS: &str = "
import socket, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
end = time.monotonic() + 6
while (left := end - time.monotonic()) > 0:
    wire.settimeout(left)
    try:
        print(wire.recv(2048)[6:12].hex(':'))
    except TimeoutError:
        pass
";
        let lab = Lab::up(user);
        let seen = lab.exec("userv", &["python3", "-c", SENDERS]).ok().stdout;
        let of = |host| lab.exec(host, &["ip", "-o", "link"]).ok().stdout;
        let own = ["useru", "server", "userv", "userw", "router"].map(of).concat();
        assert!(seen.lines().count() > 0, "the hosts tell of themselves");
        for sender in seen.lines() {
            assert!(own.contains(sender), "{sender} is no host's, and sent something\n{own}");
        }
    }

    fn two_labs_live_side_by_side(user: User) {
        let one = Lab::up(user);
        let name = format!("{}-b", one.name);
        let other = |arguments: &[&str]| one.machine.vpnlab(&[&["lab", "--lab", &name], arguments].concat());
        other(&["up", "--step", "4"]).ok();
        let forward = |text: String| text.trim().parse::<u8>().unwrap();
        assert_eq!(forward(one.exec("server", &["cat", "/proc/sys/net/ipv4/ip_forward"]).ok().stdout), 0);
        let exec = ["exec", "server", "--", "cat", "/proc/sys/net/ipv4/ip_forward"];
        assert_eq!(forward(other(&exec).ok().stdout), 1);
        other(&["exec", "useru", "--", "ip", "link", "del", "eth0"]).ok();
        one.lab(&["check"]).ok();
        other(&["check"]).expect(1);
        let status = one.machine.vpnlab(&["lab", "status"]).ok().stdout;
        assert!(status.contains(&format!("lab {} (", one.name)) && status.contains(&format!("lab {name} (")), "{status}");
        let named = other(&["status"]).ok().stdout;
        assert!(!named.contains(&format!("lab {} (", one.name)) && named.contains(&format!("lab {name} (")), "{named}");
        other(&["down"]).ok();
        one.lab(&["check"]).ok();
    }

    fn status_shows_hosts_addresses_and_programs(user: User) {
        let lab = Lab::up_at(user, 4);
        let _program = lab.start("userv", &["sleep", "1000"]);
        let status = || {
            let labs: Value = serde_json::from_str(&lab.lab(&["status", "--json"]).ok().stdout).unwrap();
            labs.as_array().unwrap().iter().find(|it| it["lab"] == lab.name.as_str()).expect("the lab is listed").clone()
        };
        common::eventually("status shows the program", || status()["hosts"][2]["programs"][0]["command"] == "sleep 1000");
        let status = status();
        assert_eq!(status["mode"], if user == User::Root { "as root" } else { "without root" });
        assert_eq!(status["keeper"].is_i64(), user == User::Plain, "{status:#}");
        assert_eq!(status["prepared_for_step"], 4);
        let names = |at: usize| status["hosts"][at]["name"].as_str().unwrap().to_string();
        assert_eq!([0, 1, 2, 3, 4].map(names), ["useru", "server", "userv", "userw", "router"]);
        assert_eq!(status["hosts"][0]["addresses"], serde_json::json!(["eth0 10.1.2.2/24", "eth3 192.168.1.96/22"]));
        assert_eq!(status["hosts"][0]["programs"], serde_json::json!([]));
        let text = lab.lab(&["status"]).ok().stdout;
        assert!(text.contains("eth1 10.1.1.4/24") && text.contains("sleep 1000"), "{text}");
    }

    fn status_of_no_lab_says_how_to_get_one(user: User) {
        let machine = Machine::new(user);
        let status = machine.vpnlab(&["lab", "status", "--json"]).ok().stdout;
        // A plain user may have others.
        assert!(serde_json::from_str::<Value>(&status).unwrap().is_array());
        if user == User::Root {
            let text = machine.vpnlab(&["lab", "status"]).ok().stdout;
            assert_eq!(text, "no lab is up; bring one up: vpnlab lab up\n");
        }
    }

    fn a_topology_of_ones_own_is_built_and_checked(user: User) {
        let directory = Directory::new(&format!("topology-{user:?}"));
        let file = directory.file("two.toml", TWO_HOSTS);
        let lab = Lab::up_with(user, &["--topology", &file]);
        assert!(lab.pings("left", "right"));
        assert_eq!(lab.exec("right", &["hostname"]).ok().stdout, "right\n");
        let table = lab.lab(&["check"]).ok().stdout;
        assert_eq!(table, "ok      left -> right  10.77.0.2        answers, 1 hop away\n");
        lab.exec("useru", &["true"]).expect(2);
        let other = lab.lab(&["up"]).ok().stdout;
        assert!(other.contains("is up already"), "{other}");
        let clash = lab.lab(&["up", "--topology", &directory.file("other.toml", &TWO_HOSTS.replace("77", "78"))]);
        assert!(clash.expect(1).stderr.contains("is up with another topology; end it with `vpnlab lab down`"));
    }

    fn mistakes_are_one_line_each_and_exit_code_2(user: User) {
        let machine = Machine::new(user);
        for (arguments, says) in [
            (vec!["up", "--step", "9"], "9 is not in 0..=4"),
            (vec!["up", "--lab", "a/b"], "up to 32 letters, digits and hyphens"),
            (vec!["up", "--lab", ""], "up to 32 letters, digits and hyphens"),
            (vec!["up", "--lab", &"x".repeat(33)], "up to 32 letters, digits and hyphens"),
            (vec!["exec", "useru"], "<COMMAND>"),
            (vec!["sideways"], "unrecognized subcommand 'sideways'"),
        ] {
            let done = machine.vpnlab(&[&["lab"], &arguments[..]].concat()).expect(2);
            assert!(done.stderr.contains(says), "{arguments:?}: {}", done.stderr);
        }
    }
}

const TWO_HOSTS: &str = r#"
[tunnel]
port = 7777
client = "left"
server = "right"
client-address = "10.99.0.1/24"
server-address = "10.99.0.2/24"
routes = []

[[host]]
name = "left"
interfaces = [{ name = "net0", network = "wire", address = "10.77.0.1/24", hostname = "left" }]

[[host]]
name = "right"
interfaces = [{ name = "net0", network = "wire", address = "10.77.0.2/24", hostname = "right" }]

[[check]]
from = "left"
to = "right"
hops = 1
"#;

#[test]
fn a_bad_topology_file_is_told_with_its_line_or_what_is_wrong() {
    let machine = Machine::new(User::Plain);
    let directory = Directory::new("bad-topology");
    let with = |from: &str, to: &str| TWO_HOSTS.replacen(from, to, 1);
    for (name, text, says) in [
        ("port", with("port = 7777", "port = 99999"), "line 3: invalid value"),
        ("word", with("port = 7777", "prot = 7777"), "line 3: unknown field `prot`"),
        ("half", with("hops = 1", "hops ="), "line 21"),
        ("none", String::new(), "missing field `tunnel`"),
        ("same", with("\"right\"\ninter", "\"left\"\ninter"), "two hosts are named left"),
        ("lost", with("server = \"right\"", "server = \"rigth\""), "[tunnel] names the host rigth, which is not there"),
        ("twin", with("10.77.0.2/24", "10.77.0.1/24"), "two interfaces have the address 10.77.0.1"),
        (
            "long",
            with("name = \"net0\"", "name = \"a-name-of-16-byt\""),
            "\"a-name-of-16-byt\" cannot name a interface",
        ),
        ("evil", with("name = \"left\"", "name = \"../left\""), "\"../left\" cannot name a host"),
        ("idle", with("hops = 1", ""), "give either hops or unreachable-from"),
    ] {
        let file = directory.file(name, &text);
        let done = machine.vpnlab(&["lab", "--lab", "bad-topology", "up", "--topology", &file]).expect(2);
        assert!(done.stderr.contains(&file) && done.stderr.contains(says), "{name}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    for missing in [directory.0.join("missing").as_path(), directory.0.as_path(), Path::new("/dev/mem")] {
        let file = missing.display().to_string();
        let done = machine.vpnlab(&["lab", "--lab", "bad-topology", "up", "--topology", &file]).expect(2);
        assert!(done.stderr.starts_with(&format!("vpnlab: cannot read topology {file}: ")), "{}", done.stderr);
    }
    let bytes = directory.0.join("bytes");
    fs::write(&bytes, [0xff, 0xfe, 0]).unwrap();
    let file = bytes.display().to_string();
    machine.vpnlab(&["lab", "--lab", "bad-topology", "up", "--topology", &file]).expect(2);
}

#[test]
fn a_lab_that_is_not_up_is_said_to_be_so() {
    let machine = Machine::new(User::Plain);
    for command in [&["check"][..], &["status"], &["exec", "useru", "--", "true"], &["shell", "useru"], &["reset"]] {
        let done = machine.vpnlab(&[&["lab", "--lab", "nothing-here"], command].concat()).expect(2);
        assert_eq!(done.stderr, "vpnlab: lab nothing-here is not up; bring it up: vpnlab lab up --lab nothing-here\n");
    }
    let done = machine.vpnlab(&["lab", "--lab", "nothing-here", "down"]).ok();
    assert_eq!(done.stdout, "lab nothing-here was not up\n");
}

#[test]
fn whoever_forgets_to_name_the_lab_is_told_which_are_up() {
    let machine = Machine::apart();
    machine.vpnlab(&["trace"]).expect(2);
    for name in ["one", "two"] {
        machine.vpnlab(&["lab", "--lab", name, "up"]).ok();
    }
    for command in [&["trace"][..], &["lab", "exec", "useru", "--", "true"], &["watch", "--once"]] {
        let done = machine.vpnlab(command).expect(2);
        assert_eq!(
            done.stderr,
            "vpnlab: lab default is not up; bring it up: vpnlab lab up; or choose one that is up: --lab one, --lab two\n"
        );
    }
    for name in ["one", "two"] {
        machine.vpnlab(&["lab", "--lab", name, "down"]).ok();
    }
    let done = machine.vpnlab(&["trace"]).expect(2);
    assert_eq!(done.stderr, "vpnlab: lab default is not up; bring it up: vpnlab lab up\n");
}

#[test]
fn a_client_outside_of_the_lab_is_told_where_its_server_is_known() {
    let machine = Machine::new(User::Plain);
    let mut command = machine.command("unshare");
    // Where no name server knows it, either.
    command.args(["--user", "--map-root-user", "--net"]).arg(common::vpnlab()).arg("client");
    let done = common::run(&mut command).expect(2);
    assert!(done.stderr.starts_with("vpnlab: unknown host server: "), "{done:#?}");
    let hint = "; run it inside the lab: vpnlab lab exec HOST -- ...; or give --server an address\n";
    assert!(done.stderr.ends_with(hint), "{done:#?}");
}
