//! What a step gives up before its first packet, and who keeps its interface then.

use std::process::Command;

use nix::unistd::getuid;

use crate::common::{self, Lab, Machine, Program, User, eventually, run, vpnlab};
use crate::fixtures::Running;
use crate::{STEPS, for_each_user, forwards, summary};

/// A user that no test needs otherwise; a process need not be known to anybody to have its number.
const SUDO_USER: [&str; 2] = ["SUDO_UID=4321", "SUDO_GID=5432"];
const NOBODY: &str = "65534";
const NO_CAPABILITIES: &str = "0000000000000000";
/// CAP_NET_ADMIN is number 12, CAP_KILL number 5 (linux/capability.h).
const NET_ADMIN: u64 = 1 << 12;
const KILL: u64 = 1 << 5;

/// What the kernel says of a process.
struct Status(String);

impl Status {
    #[track_caller]
    fn of(lab: &Lab, host: &str, pid: &str) -> Self {
        Self(lab.exec(host, &["cat", &format!("/proc/{pid}/status")]).ok().stdout)
    }

    /// What stands behind a word, the numbers apart by single spaces.
    #[track_caller]
    fn field(&self, word: &str) -> String {
        let line = self.0.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(':'));
        let line = line.unwrap_or_else(|| panic!("no {word} in {}", self.0));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn capabilities(&self) -> u64 {
        u64::from_str_radix(&self.field("CapEff"), 16).expect("it is a number")
    }

    /// Panics unless this process has no capability, and no way to get one.
    #[track_caller]
    fn has_nothing(&self) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(self.field(set), NO_CAPABILITIES, "{set} in {}", self.0);
        }
        assert_eq!(self.field("NoNewPrivs"), "1", "{}", self.0);
    }
}

/// Starts a step with these variables of sudo's, and waits until it does its work.
#[track_caller]
fn ready<'l>(lab: &'l Lab, host: &str, variables: &[&str], step: &[&str]) -> Running<'l> {
    let without = ["env", "-u", "SUDO_UID", "-u", "SUDO_GID"];
    let mut step_runs = Running::start(lab, host, &[&without, variables, &["vpnlab"], step].concat());
    match step[0] {
        "udp-sink" => step_runs.wait_for("Start UDP server"),
        // The line is the parent's or the child's; both are there soon.
        _ => step_runs.wait_until_up(),
    }
    if step[0] != "udp-sink" && !step.contains(&"--keep-privileges") {
        eventually("the step has two processes", || step_runs.carrier() != step_runs.pid());
    }
    step_runs
}

/// The processes of a host that hold a TUN device: one line of /proc/PID/fdinfo names it.
#[track_caller]
fn holders(lab: &Lab, host: &str) -> String {
    let script = "grep -l '^iff:' /proc/[0-9]*/fdinfo/* 2>/dev/null | cut -d/ -f3 | sort -u | xargs";
    lab.sh(host, script).stdout.trim().to_string()
}

fn has_device(lab: &Lab, host: &str) -> bool {
    lab.exec(host, &["ip", "link", "show"]).ok().stdout.contains("tun0")
}

for_each_user! {
    fn whoever_reads_packets_has_no_rights(user: User) {
        let lab = Lab::up_at(user, 4);
        let is_real_root = user == User::Root && getuid().is_root();
        for (host, step) in STEPS {
            for (variables, uid, gid) in [(&[][..], NOBODY, NOBODY), (&SUDO_USER, "4321", "5432")] {
                let step_runs = ready(&lab, host, variables, step);
                let carrier = step_runs.carrier();
                eventually("the rights are given up", || Status::of(&lab, host, &carrier).field("NoNewPrivs") == "1");
                let status = Status::of(&lab, host, &carrier);
                status.has_nothing();
                if is_real_root {
                    assert_eq!(status.field("Uid"), [uid; 4].join(" "), "{step:?}");
                    assert_eq!(status.field("Gid"), [gid; 4].join(" "), "{step:?}");
                    assert_eq!(status.field("Groups"), "", "{step:?}");
                }
                if step[0] != "udp-sink" {
                    let keeper = Status::of(&lab, host, step_runs.pid());
                    assert_eq!(keeper.field("Name"), "vpnlab-keeper");
                    assert_eq!(keeper.capabilities() & !KILL, NET_ADMIN, "{step:?}");
                    assert_eq!(holders(&lab, host), carrier, "{step:?}");
                }
                step_runs.interrupt().ok();
            }
        }
    }

    fn with_keep_privileges_a_step_is_one_process_with_all_rights(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, step) in STEPS {
            let step_runs = ready(&lab, host, &[], &[step, &["--keep-privileges"]].concat());
            assert_eq!(step_runs.carrier(), step_runs.pid(), "{step:?}");
            let status = Status::of(&lab, host, step_runs.pid());
            assert_ne!(status.capabilities() & NET_ADMIN, 0, "{step:?}");
            assert_eq!((status.field("NoNewPrivs"), status.field("Name")), ("0".into(), "vpnlab".into()));
            step_runs.interrupt().ok();
        }
    }

    fn however_the_user_ends_a_step_it_ends_as_one_program_and_forwarding_is_put_back(user: User) {
        let lab = Lab::up_at(user, 3);
        lab.sh("server", "sysctl -qw net.ipv4.ip_forward=0").ok();
        let step = ["setsid", "vpnlab", "server", "--forward"];
        for to in ["the parent", "the child", "both"] {
            for signal in ["INT", "TERM", "HUP", "QUIT"] {
                let server = Running::start(&lab, "server", &step);
                eventually("packets are forwarded", || forwards(&lab, "server"));
                eventually("the step has two processes", || server.carrier() != server.pid());
                let carrier = server.carrier();
                eventually("the child is ready", || Status::of(&lab, "server", &carrier).field("NoNewPrivs") == "1");
                match to {
                    "the parent" => server.signal(signal),
                    "the child" => drop(lab.sh("server", &format!("kill -{signal} {carrier}")).ok()),
                    // It was made the leader of a group of its own.
                    _ => drop(lab.sh("server", &format!("kill -{signal} -{}", server.pid())).ok()),
                }
                let done = server.wait().ok();
                assert_eq!(done.stderr.matches("; dropped ").count(), 1, "SIG{signal} to {to}: {done:#?}");
                assert_eq!(summary(&done.stderr), "[INFO] sysctl -w net.ipv4.ip_forward=0", "SIG{signal} to {to}");
                // That the device goes with the program is no news.
                assert!(!done.stderr.contains("[WARN]") && !done.stderr.contains("left"), "SIG{signal} to {to}: {done:#?}");
                assert!(!forwards(&lab, "server") && !has_device(&lab, "server"), "SIG{signal} to {to}");
            }
        }
    }

    fn when_the_child_is_killed_the_parent_puts_all_back_and_says_so(user: User) {
        let lab = Lab::up_at(user, 3);
        lab.sh("server", "sysctl -qw net.ipv4.ip_forward=0").ok();
        let server = ready(&lab, "server", &[], &["server", "--forward"]);
        assert!(forwards(&lab, "server"));
        lab.sh("server", &format!("kill -KILL {}", server.carrier())).ok();
        let done = server.wait().expect(1);
        assert!(done.stderr.contains("vpnlab: the process that carried packets was ended by SIGKILL; "), "{done:#?}");
        assert!(!forwards(&lab, "server") && !has_device(&lab, "server"));
        ready(&lab, "server", &[], &["server", "--forward"]).interrupt().ok();
    }

    fn when_the_parent_is_killed_the_child_ends_too(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, step) in STEPS.into_iter().filter(|(_, step)| step[0] != "udp-sink") {
            let step_runs = ready(&lab, host, &[], step);
            let carrier = step_runs.carrier();
            eventually("the child is ready", || Status::of(&lab, host, &carrier).field("NoNewPrivs") == "1");
            step_runs.end_with("KILL");
            eventually("the device is gone", || !has_device(&lab, host));
        }
    }

    fn a_stopped_parent_stops_no_packet_and_ends_when_it_goes_on(user: User) {
        let lab = Lab::up(user);
        let responder = ready(&lab, "useru", &[], &["tun-ping"]);
        assert!(lab.pings("useru", "10.1.3.4"));
        responder.signal("STOP");
        assert!(lab.pings("useru", "10.1.3.4"));
        responder.stop();
        assert!(!lab.pings("useru", "10.1.3.4"), "the child reads the packets");
        responder.signal("INT");
        lab.sh("useru", &format!("kill -CONT {} {}", responder.carrier(), responder.pid())).ok();
        responder.wait().ok();
    }
}

/// As in a sandbox: root of a user namespace that has no other user.
#[test]
fn where_no_other_user_is_the_rest_is_given_up() {
    let machine = Machine::new(User::Plain);
    let mut namespace = machine.command("unshare");
    namespace.args(["--user", "--map-root-user", "--net", "--"]).arg(vpnlab()).args(["tun-read", "-v"]);
    let mut reader = Program::start(&mut namespace);
    reader.wait_for("The user stays: this user namespace has none with number ");
    reader.wait_for("ile system ");
    let pid = reader.pid();
    let carrier = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{}/status", carrier.trim())).expect("it has a child");
    Status(status).has_nothing();
    reader.interrupt().ok();
}

/// Root that may become nobody else. Where a plain user runs the tests there is no other user to become, and that is no error.
#[test]
fn what_could_be_given_up_and_is_not_ends_the_step() {
    let lab = Lab::up_at(User::Root, 3);
    lab.sh("server", "sysctl -qw net.ipv4.ip_forward=0").ok();
    let without = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid", "vpnlab", "server", "--forward"];
    if getuid().is_root() {
        let done = lab.exec("server", &without).expect(3);
        assert!(done.stderr.contains("vpnlab: cannot give up root before the first packet: EPERM"), "{done:#?}");
        assert!(done.stderr.contains("--keep-privileges"), "{done:#?}");
        assert!(!forwards(&lab, "server") && !has_device(&lab, "server"));
    }
    let options = if getuid().is_root() { &["--keep-privileges"][..] } else { &[] };
    let mut server = Running::start(&lab, "server", &[&without, options].concat());
    server.wait_until_up();
    server.interrupt().ok();
    assert!(!forwards(&lab, "server"));
}

/// A command of a user without any rights on a host of root's lab. Where a plain user runs the tests, that is the root of a
/// namespace without what makes root special, for there is no other user.
fn without_rights(lab: &Lab, host: &str, program: &[&str]) -> Command {
    let mut command = lab.machine.command("ip");
    command.args(["netns", "exec", &format!("{}-{host}", lab.name), "setpriv", "--inh-caps=-all"]);
    match getuid().is_root() {
        true => command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]),
        false => command.args(["--securebits=+noroot,+noroot_locked", "--"]),
    };
    command.args(program);
    command
}

#[test]
fn file_capabilities_work_instead_of_sudo() {
    let lab = Lab::up_at(User::Root, 3);
    let machine = |script: &str| run(lab.machine.command("sh").args(["-ec", script, "sh"]).arg(vpnlab())).ok();
    // On a mount of this test's own, which heeds them whatever /tmp does.
    machine("mkdir -m 755 /run/tools && cp \"$1\" /run/tools/vpnlab");
    let step = ["/run/tools/vpnlab", "server", "--forward", "--address", "fd00:3::2/64"];
    let refused = run(&mut without_rights(&lab, "server", &step)).expect(3);
    assert!(
        refused.stderr.contains("Operation not permitted") || refused.stderr.contains("Permission denied"),
        "{refused:#?}"
    );

    machine("setcap cap_net_admin+ep /run/tools/vpnlab");
    lab.sh("server", "sysctl -qw net.ipv4.ip_forward=0").ok();
    let mut server =
        Program::start(&mut without_rights(&lab, "server", &[&step[..], &["--address", "10.1.3.2/24"]].concat()));
    server.wait_for("ip link set dev tun0 up");
    let pids = || machine("pgrep -x vpnlab-keeper; pgrep -x -f '/run/tools/vpnlab server.*' | tail -1").stdout;
    eventually("the step has two processes", || pids().lines().count() == 2 && !holders(&lab, "server").is_empty());
    let keeper = pids().lines().next().expect("there are two").to_string();
    let carrier = holders(&lab, "server");
    assert_eq!(Status::of(&lab, "server", &keeper).capabilities(), NET_ADMIN);
    let status = Status::of(&lab, "server", &carrier);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status.field(set), NO_CAPABILITIES, "{set}");
    }
    assert_eq!(status.field("NoNewPrivs"), "1");

    let has_address = || lab.sh("server", "ip address show dev tun0").ok().stdout.contains("inet6 fd00:3::2/64");
    assert!(forwards(&lab, "server") && has_address());
    lab.sh("server", "ip link set dev tun0 down").ok();
    assert!(!has_address());
    lab.sh("server", "ip link set dev tun0 up").ok();
    eventually("the address is there again", has_address);
    server.interrupt().ok();
    assert!(!forwards(&lab, "server"));
}
