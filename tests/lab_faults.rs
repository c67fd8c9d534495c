//! What is left when something is killed, missing, full, forbidden or somebody else's: nothing, or what the next command
//! clears, and a line that says why.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use common::{Done, Lab, Machine, Program, User, eventually, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A name, used nowhere else, for a lab that a test brings up itself.
fn name(purpose: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("f{}-{purpose}{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn sh(machine: &Machine, script: &str) -> Done {
    run(machine.command("sh").args(["-c", script]))
}

/// What a machine has that a lab may leave behind: files, mounts, sockets, namespaces by name.
fn traces(machine: &Machine) -> String {
    let script = "find /run /etc/netns 2>/dev/null | sort; \
        cut -d' ' -f4- /proc/self/mountinfo | grep -e ' /run' -e ' /etc' -e vpnlab | sort; \
        grep -o '@vpnlab.*' /proc/net/unix | sort; ip netns list";
    sh(machine, script).ok().stdout
}

/// The processes of the machine that have to do with a lab: its name is in their command line, as in the keeper's, or in
/// their environment, as in that of every program on a host.
fn processes_of(lab: &str) -> Vec<String> {
    let shown = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let read = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let ended = read("stat").rsplit_once(')').is_none_or(|(_, state)| state.starts_with(" Z"));
        let about = format!("{} {}", read("cmdline"), read("environ"));
        (!ended && about.contains(&format!("{lab} "))).then(|| format!("{:?} {}", entry.file_name(), read("cmdline")))
    });
    shown.collect()
}

/// The flags of a socket in /proc/net/unix that takes connections (proc_net(5), __SO_ACCEPTCON).
const LISTENING: &str = " 00010000 ";

/// The sockets at which the keepers of a lab can be asked: one for each user who has it.
fn sockets_of(machine: &Machine, lab: &str) -> Vec<String> {
    let sockets = sh(machine, "cat /proc/net/unix").ok().stdout;
    let of_lab = |line: &&str| line.contains("@vpnlab/") && line.ends_with(&format!("/{lab}"));
    sockets.lines().filter(of_lab).map(String::from).collect()
}

fn keeper_of(lab: &Lab) -> Pid {
    let labs: serde_json::Value = serde_json::from_str(&lab.lab(&["status", "--json"]).ok().stdout).unwrap();
    let lab = labs.as_array().unwrap().iter().find(|it| it["lab"] == lab.name.as_str()).expect("the lab is up").clone();
    Pid::from_raw(lab["keeper"].as_i64().expect("a lab without root has a keeper") as i32)
}

/// The TCP connections of a host, with and without a program.
fn connections(lab: &Lab, host: &str) -> String {
    lab.exec(host, &["ss", "-Htn"]).ok().stdout
}

/// Two programs with a TCP connection, which has more to send, and no way to send it any more.
#[track_caller]
fn stuck_connection(lab: &Lab) -> [Program; 2] {
    let start = |host: &str, script: &str| {
        let mut program = lab.start(host, &["python3", "-c", script]);
        program.wait_for("ready");
        program
    };
    let receive =
        "import socket, time; s = socket.create_server(('', 5001)); print('ready', flush=True); time.sleep(1000)";
    let receiver = start("server", receive);
    let send = "import socket
s = socket.create_connection(('server', 5001))
s.sendall(bytes(1000))
print('ready', flush=True)
while True: s.sendall(bytes(1000000))";
    let sender = start("useru", send);
    eventually("there is more to send", || {
        let queue = connections(lab, "useru").split_whitespace().nth(2).and_then(|length| length.parse::<u32>().ok());
        queue.is_some_and(|length| length > 100_000)
    });
    lab.exec("useru", &["ip", "link", "set", "eth0", "down"]).ok();
    [receiver, sender]
}

for_each_user! {
    fn up_and_down_leave_the_machine_as_it_was(user: User) {
        let machine = Machine::new(user);
        let before = traces(&machine);
        let name = name("traces");
        machine.vpnlab(&["lab", "--lab", &name, "up"]).ok();
        let during = traces(&machine);
        assert!(during.contains(&name) && during != before, "the traces of a lab are seen: {during}");
        machine.vpnlab(&["lab", "--lab", &name, "exec", "useru", "--", "true"]).ok();
        assert_eq!(machine.vpnlab(&["lab", "--lab", &name, "down"]).ok().stdout, format!("lab {name} is down\n"));
        let of_others = |text: &str| text.lines().filter(|line| !line.contains("@vpnlab")).collect::<Vec<_>>().join("\n");
        assert_eq!(of_others(&traces(&machine)), of_others(&before));
        assert!(!traces(&machine).contains(&name));
        assert_eq!(processes_of(&name), Vec::<String>::new());
        assert_eq!(machine.vpnlab(&["lab", "--lab", &name, "down"]).ok().stdout, format!("lab {name} was not up\n"));
    }

    fn down_ends_every_program(user: User) {
        let lab = Lab::up(user);
        let word = &lab.name;
        let script = format!(
            "trap '' TERM HUP INT QUIT
            (setsid sh -c 'trap \"\" TERM HUP; : {word}-daemon; while :; do sleep 100; done' &) </dev/null >/dev/null 2>&1
            sh -c 'kill -STOP $$; : {word}-stopped' &
            unshare --mount --net sleep 1000 &
            ip tuntap add dev tun0 mode tun && ip link set tun0 up
            python3 -c '
import fcntl, os, struct, time
tun = os.open(\"/dev/net/tun\", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack(\"16sH\", b\"tun7\", 0x1001))
print(\"ready\", flush=True)
while True: time.sleep(10)' &
            wait; while :; do sleep 100; done"
        );
        let mut program = lab.start("useru", &["sh", "-c", &script]);
        program.wait_for("ready");
        let links = lab.exec("useru", &["ip", "-o", "link"]).ok().stdout;
        assert!(links.contains("tun7") && links.contains("tun0"), "{links}");
        let mut polite = lab.start("server", &["sh", "-c", "trap 'echo goodbye; exit 3' TERM; echo here; while :; do sleep 0.05; done"]);
        polite.wait_for("here");
        lab.lab(&["down"]).ok();
        assert_eq!(polite.wait().expect(3).stdout, "here\ngoodbye\n");
        program.wait().expect(137);
        assert_eq!(processes_of(word), Vec::<String>::new());
        lab.lab(&["up"]).ok();
        assert!(!lab.exec("useru", &["ip", "-o", "link"]).ok().stdout.contains("tun"));
    }

    fn a_connection_that_outlives_its_program_holds_nothing_up(user: User) {
        let lab = Lab::up(user);
        let _programs = stuck_connection(&lab);
        let started = Instant::now();
        lab.lab(&["down"]).ok();
        assert!(started.elapsed() < Duration::from_secs(5), "it takes {:?}", started.elapsed());
        let _programs = (lab.lab(&["up"]).ok(), stuck_connection(&lab));
        lab.lab(&["reset"]).ok();
        assert_eq!(connections(&lab, "useru"), "");
        lab.lab(&["check"]).ok();
    }

    fn a_builder_that_is_killed_at_any_moment_leaves_nothing_that_stays(user: User) {
        let machine = Machine::new(user);
        let name = name("killed");
        let lab = |arguments: &[&str]| machine.vpnlab(&[&["lab", "--lab", &name], arguments].concat());
        let before = traces(&machine);
        // How long a build takes here, so that the kills fall into it and a little after it.
        let started = Instant::now();
        lab(&["up"]).ok();
        let build = started.elapsed();
        lab(&["down"]).ok();
        let mut interrupted = 0;
        for moment in 0..60 {
            let mut builder = machine.start(&["lab", "--lab", &name, "up"]);
            let wait = build * moment / 50;
            let started = Instant::now();
            while started.elapsed() < wait {
                thread::sleep(Duration::from_micros(200));
            }
            if builder.runs() {
                let _ = kill(builder.pid(), Signal::SIGKILL);
            }
            let ended = builder.wait();
            interrupted += u32::from(ended.code == 137);
            // Without root, what there is of a lab that was not finished ends with its builder, with no command to clear
            // it. A finished one listens.
            if user == User::Plain && !ended.stdout.contains("is up") {
                eventually("there is nothing, or a lab", || match sockets_of(&machine, &name).as_slice() {
                    [] => processes_of(&name).is_empty(),
                    sockets => sockets.iter().all(|socket| socket.contains(LISTENING)),
                });
            }
            // What clears: the next up, the next down, by turns.
            if moment % 2 == 0 {
                lab(&["up"]).ok();
                lab(&["check"]).ok();
            }
            lab(&["down"]).ok();
            assert_eq!(lab(&["down"]).ok().stdout, format!("lab {name} was not up\n"));
            eventually("no process is left", || processes_of(&name).is_empty());
            if user == User::Root {
                assert_eq!(traces(&machine), before, "after a kill at {wait:?}");
            }
        }
        assert!(interrupted >= 10, "only {interrupted} of 60 kills fell into the build of {build:?}");
    }

    fn a_down_that_is_killed_is_finished_by_the_next(user: User) {
        let machine = Machine::new(user);
        let name = name("halfdown");
        let lab = |arguments: &[&str]| machine.vpnlab(&[&["lab", "--lab", &name], arguments].concat());
        let before = traces(&machine);
        for moment in 0..15 {
            lab(&["up"]).ok();
            let ender = machine.start(&["lab", "--lab", &name, "down"]);
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(4) * moment {
                thread::sleep(Duration::from_micros(200));
            }
            let _ = kill(ender.pid(), Signal::SIGKILL);
            ender.wait();
            lab(if moment % 2 == 0 { &["down"] } else { &["up"] }).ok();
            if moment % 2 == 1 {
                lab(&["check"]).ok();
            }
            lab(&["down"]).ok();
            if user == User::Root {
                assert_eq!(traces(&machine), before);
            }
        }
    }

    fn two_builders_at_once_make_one_lab(user: User) {
        let machine = Machine::new(user);
        let name = name("twice");
        for _ in 0..5 {
            let builders: Vec<_> = (0..3).map(|_| machine.start(&["lab", "--lab", &name, "up"])).collect();
            let mut said: Vec<_> = builders.into_iter().map(|builder| builder.wait().ok().stdout).collect();
            said.sort();
            let (up, already) = (format!("lab {name} is up: useru, server, userv, userw, router\n"), format!("lab {name} is up already\n"));
            assert_eq!(said, [already.clone(), already, up]);
            machine.vpnlab(&["lab", "--lab", &name, "check"]).ok();
            machine.vpnlab(&["lab", "--lab", &name, "down"]).ok();
        }
    }

    fn a_build_that_fails_leaves_nothing(user: User) {
        let machine = Machine::new(user);
        let before = traces(&machine);
        // Two networks of one address range: the kernel takes the addresses, but not one route twice.
        let broken = include_str!("../lab/topology.toml").replacen("gateway = ", "routes = [{ to = \"10.1.2.0/24\", via = \"10.1.2.9\" }, { to = \"10.1.2.0/24\", via = \"10.1.2.9\" }]\ngateway = ", 1);
        let name = name("fails");
        let file = std::env::temp_dir().join(format!("{name}.toml"));
        fs::write(&file, broken).unwrap();
        let done = machine.vpnlab(&["lab", "--lab", &name, "up", "--topology", &file.display().to_string()]);
        fs::remove_file(&file).unwrap();
        let done = done.expect(1);
        assert!(done.stderr.contains("ip route add 10.1.2.0/24 via 10.1.2.9") && done.stderr.contains("File exists"), "{done:#?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
        assert_eq!(processes_of(&name), Vec::<String>::new());
        if user == User::Root {
            assert_eq!(traces(&machine), before);
        }
    }
}

#[test]
fn a_lab_without_root_dies_with_its_keeper() {
    let lab = Lab::up(User::Plain);
    let mut program = lab.start("useru", &["sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 1; done"]);
    program.wait_for("ready");
    kill(keeper_of(&lab), Signal::SIGKILL).unwrap();
    program.wait().expect(137);
    let gone = lab.lab(&["check"]).expect(2);
    assert!(gone.stderr.contains("is not up"), "{gone:#?}");
    assert_eq!(lab.lab(&["down"]).ok().stdout, format!("lab {} was not up\n", lab.name));
    eventually("no process is left", || processes_of(&lab.name).is_empty());
    lab.lab(&["up"]).ok();
    lab.lab(&["check"]).ok();
}

#[test]
fn a_keeper_survives_what_ends_other_programs() {
    let lab = Lab::up(User::Plain);
    let keeper = keeper_of(&lab);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
        kill(keeper, signal).unwrap();
    }
    lab.lab(&["check"]).ok();
}

#[test]
fn a_keeper_that_does_not_answer_is_ended_by_down() {
    let lab = Lab::up(User::Plain);
    kill(keeper_of(&lab), Signal::SIGSTOP).unwrap();
    let stuck = lab.lab(&["check"]).expect(1);
    let remedy = format!("`vpnlab lab down --lab {}` ends it", lab.name);
    assert!(stuck.stderr.contains("cannot ask the keeper") && stuck.stderr.contains(&remedy), "{stuck:#?}");
    lab.lab(&["down"]).ok();
    eventually("no process is left", || processes_of(&lab.name).is_empty());
    lab.lab(&["up"]).ok();
    lab.lab(&["check"]).ok();
}

#[test]
fn a_lab_with_an_owner_ends_when_the_owner_is_killed() {
    let machine = Machine::new(User::Plain);
    let name = name("owned");
    // As the same user, so that vpnlab may watch it.
    let owner = machine.command("sleep").arg("1000").spawn();
    let mut owner = owner.unwrap();
    machine.vpnlab(&["lab", "--lab", &name, "up", "--owner", &owner.id().to_string()]).ok();
    let program = machine.start(&["lab", "--lab", &name, "exec", "useru", "--", "sleep", "1000"]);
    eventually("the program runs", || machine.vpnlab(&["lab", "status"]).ok().stdout.contains("sleep 1000"));
    machine.vpnlab(&["lab", "--lab", &name, "check"]).ok();
    owner.kill().unwrap();
    owner.wait().unwrap();
    program.wait().expect(137);
    eventually("the lab is gone", || machine.vpnlab(&["lab", "--lab", &name, "check"]).code == 2);
    eventually("no process is left", || processes_of(&name).is_empty());
    let nobody = machine.vpnlab(&["lab", "--lab", &name, "up", "--owner", "999999999"]).expect(2);
    assert!(nobody.stderr.contains("there is no process 999999999"), "{nobody:#?}");
}

#[test]
fn roots_lab_of_a_dead_owner_is_cleared_by_the_next_command() {
    let machine = Machine::new(User::Root);
    let before = traces(&machine);
    let vpnlab = common::vpnlab().display();
    sh(&machine, &format!("sleep 1000 & {vpnlab} lab --lab owned up --owner $!; kill -9 $!; wait")).ok();
    assert!(traces(&machine).contains("owned-useru"));
    machine.vpnlab(&["lab", "--lab", "other", "down"]).ok();
    assert_eq!(traces(&machine), before);
}

#[test]
fn forbidden_user_namespaces_are_told_with_both_ways_out() {
    let machine = Machine::new(User::Plain);
    let up = format!("exec {} lab --lab {} up", common::vpnlab().display(), name("forbidden"));
    let forbid = format!("echo 0 > /proc/sys/user/max_user_namespaces; {up}");
    let mut command = machine.command("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c"]);
    let done = run(command.arg(&forbid)).expect(3);
    assert!(done.stderr.contains("cannot make a user namespace: user.max_user_namespaces is 0"), "{done:#?}");
    assert!(done.stderr.contains("either run with sudo, or allow it: sudo sysctl -w user.max_user_namespaces="));
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
    // The same with it allowed is a lab: it was the setting that made the difference.
    let name = name("allowed");
    let vpnlab = common::vpnlab().display();
    let allowed = format!("exec {vpnlab} lab --lab {name} up --owner {}", std::process::id());
    let mut command = machine.command("unshare");
    run(command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", &allowed])).ok();
    machine.vpnlab(&["lab", "--lab", &name, "down"]).ok();
}

#[test]
fn a_limit_of_network_namespaces_is_told_and_leaves_nothing() {
    let machine = Machine::new(User::Plain);
    let name = name("limit");
    let script =
        format!("echo 3 > /proc/sys/user/max_net_namespaces; exec {} lab --lab {name} up", common::vpnlab().display());
    let mut command = machine.command("unshare");
    let done = run(command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", &script])).expect(3);
    assert!(done.stderr.contains("a limit is reached"), "{done:#?}");
    eventually("no process is left", || processes_of(&name).is_empty());
}

#[test]
fn a_root_that_is_none_of_the_machines_is_told_to_be_itself() {
    let machine = Machine::new(User::Plain);
    let mut command = machine.command("unshare");
    command.args(["--user", "--map-root-user"]).arg(common::vpnlab()).args(["lab", "up"]);
    let done = run(&mut command).expect(3);
    assert!(done.stderr.contains("cannot lock /run/vpnlab/.lock: "), "{done:#?}");
    assert!(done.stderr.contains("as under unshare -r: run it as yourself, without root, or with sudo"), "{done:#?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
}

#[test]
fn a_lab_without_the_tun_device_is_up_and_warns_that_no_step_will_work() {
    let machine = Machine::new(User::Root);
    let script = format!(
        "mount -t tmpfs tmpfs /dev/net; {0} lab up && {0} lab check && {0} lab down",
        common::vpnlab().display()
    );
    let done = run(machine.command("unshare").args(["--mount", "sh", "-c", &script])).ok();
    assert_eq!(
        done.stderr.matches("[WARN] no step will work in it: cannot open /dev/net/tun: ").count(),
        1,
        "{done:#?}"
    );
    assert!(done.stderr.contains("sudo modprobe tun"), "{done:#?}");
    let with = run(machine.command("sh").args(["-c", &script.replace("mount -t tmpfs tmpfs /dev/net; ", "")])).ok();
    assert!(!with.stderr.contains("WARN"), "{with:#?}");
}
