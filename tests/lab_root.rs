//! What is particular to a lab of root's: named namespaces, files under /run and /etc, and whatever else is there.

mod common;

use common::{Done, Machine, User, run};

fn sh(machine: &Machine, script: &str) -> Done {
    run(machine.command("sh").args(["-c", script]))
}

/// The files, mounts and namespaces that a lab of root's may leave.
fn traces(machine: &Machine) -> String {
    let mounts = "cut -d' ' -f4- /proc/self/mountinfo | grep -e ' /run' -e ' /etc' | sort";
    sh(machine, &format!("find /run /etc/netns 2>/dev/null | sort; {mounts}; ip netns list")).ok().stdout
}

#[test]
fn hosts_are_ordinary_named_namespaces() {
    let machine = Machine::new(User::Root);
    machine.vpnlab(&["lab", "up"]).ok();
    let listed = sh(&machine, "ip netns list").ok().stdout;
    for host in ["useru", "server", "userv", "userw", "router"] {
        assert!(listed.lines().any(|line| line.split(' ').next() == Some(host)), "{listed}");
    }
    let ping = sh(&machine, "ip netns exec useru ping -c1 server").ok().stdout;
    assert!(ping.starts_with("PING server-lan0 (10.1.2.3) 56(84) bytes of data."), "{ping}");
    let ping = sh(&machine, "ip netns exec userv ping -c1 useru").expect(1).stdout;
    assert!(
        ping.contains("From router.isi.deterlab.net (192.168.1.254) icmp_seq=1 Destination Host Unreachable"),
        "{ping}"
    );
    let found = sh(&machine, "ip netns exec userv getent hosts server").ok().stdout;
    assert!(found.contains("10.1.1.4") && found.contains("server-lab1"), "{found}");
    // The machine itself is as it was: no link, no route, no forwarding, no name of the lab's.
    let own = sh(&machine, "ip -o link; ip route; cat /proc/sys/net/ipv4/ip_forward /etc/hosts").ok().stdout;
    assert!(!own.contains("eth0") && !own.contains("vpnlab") && !own.contains("server-lan0"), "{own}");
    // What `ip netns exec` starts is a host's program as any other, and ends with the lab.
    let mut program = machine.command("ip");
    program.args(["netns", "exec", "server", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut program = common::Program::start(&mut program);
    program.wait_for("ready");
    assert!(machine.vpnlab(&["lab", "status"]).ok().stdout.contains("sleep 1000"));
    machine.vpnlab(&["lab", "down"]).ok();
    program.wait().expect(143);
    assert_eq!(sh(&machine, "ip netns list").ok().stdout, "");
}

#[test]
fn a_hosts_files_can_be_read_whatever_the_umask_is() {
    let machine = Machine::new(User::Root);
    let vpnlab = common::vpnlab().display();
    sh(&machine, &format!("umask 077; {vpnlab} lab up")).ok();
    let modes = sh(&machine, "stat -c %a /etc/netns /etc/netns/useru /etc/netns/useru/hosts").ok().stdout;
    assert_eq!(modes, "755\n755\n644\n");
    let inside = sh(&machine, &format!("umask 077; {vpnlab} lab exec useru -- sh -c 'stat -c %a /etc/hosts; umask'"));
    assert_eq!(inside.ok().stdout, "644\n0077\n");
    machine.vpnlab(&["lab", "down"]).ok();
}

/// Ways in which a lab of root's can be half there.
const HALVES: [(&str, &str); 9] = [
    (
        "only its state file",
        "for n in useru server userv userw router vpnlab-wires; do ip netns del $n; done; rm -r /etc/netns",
    ),
    ("one namespace missing", "ip netns del server"),
    ("the wires missing", "ip netns del vpnlab-wires"),
    ("an empty file for a namespace", "ip netns del userv; touch /run/netns/userv"),
    ("a corrupt topology", "echo nonsense > /run/vpnlab/default.toml"),
    ("an empty topology", ": > /run/vpnlab/default.toml"),
    ("no state file", "rm /run/vpnlab/default.toml"),
    ("no state directory", "rm -r /run/vpnlab"),
    (
        "names that are not finished",
        "mv /etc/netns/useru/hosts /etc/netns/useru/hosts.vpnlab-new; : > /etc/netns/useru/hosts.vpnlab-new; rm /etc/netns/userv/*",
    ),
];

#[test]
fn a_half_lab_is_repaired_by_up_and_cleared_away_by_down() {
    let machine = Machine::new(User::Root);
    let before = traces(&machine);
    for (what, script) in HALVES {
        for command in ["up", "down"] {
            machine.vpnlab(&["lab", "up"]).ok();
            sh(&machine, script).ok();
            let done = machine.vpnlab(&["lab", command]);
            assert_eq!(done.code, 0, "{what}: {done:#?}");
            if command == "up" {
                let check = machine.vpnlab(&["lab", "check"]);
                assert_eq!(check.code, 0, "{what}: {check:#?}");
            }
            machine.vpnlab(&["lab", "down"]).ok();
            // Who made the shared directories is known from the state directory alone.
            let left = traces(&machine);
            if what == "no state directory" {
                sh(&machine, "umount /run/netns; rm -r /run/netns /etc/netns /run/mount").ok();
            }
            let left = if what == "no state directory" { traces(&machine) } else { left };
            assert_eq!(left, before, "{what}, {command}");
        }
    }
}

#[test]
fn status_and_check_of_a_half_lab_say_what_to_do() {
    let machine = Machine::new(User::Root);
    machine.vpnlab(&["lab", "up"]).ok();
    sh(&machine, "ip netns del server").ok();
    for command in [&["check"][..], &["exec", "useru", "--", "true"], &["reset"]] {
        let done = machine.vpnlab(&[&["lab"], command].concat()).expect(1);
        let says = "lab default is not whole: /run/netns/server is missing; `vpnlab lab up` builds it anew";
        assert!(done.stderr.contains(says), "{done:#?}");
    }
    let status = machine.vpnlab(&["lab", "status"]).ok();
    assert!(status.stderr.contains("is not whole"), "{status:#?}");
    machine.vpnlab(&["lab", "up"]).ok();
    machine.vpnlab(&["lab", "check"]).ok();
}

#[test]
fn a_namespace_of_somebody_else_is_named_and_not_touched() {
    let machine = Machine::new(User::Root);
    sh(&machine, "ip netns add userv; ip -n userv link set lo alias precious").ok();
    let before = traces(&machine);
    let inode = || sh(&machine, "stat -c %i /run/netns/userv; ip -n userv link show lo").ok().stdout;
    let theirs = inode();
    let clash = machine.vpnlab(&["lab", "up"]).expect(1);
    let says = "vpnlab: /run/netns/userv is there already, and vpnlab did not make it; \
        choose another name with --lab, or remove it: ip netns del userv\n";
    assert_eq!(clash.stderr, says);
    assert_eq!(traces(&machine), before);
    machine.vpnlab(&["lab", "down"]).ok();
    // Beside it there is room for a lab of another name, which goes without it.
    machine.vpnlab(&["lab", "--lab", "mine", "up"]).ok();
    machine.vpnlab(&["lab", "--lab", "mine", "check"]).ok();
    machine.vpnlab(&["lab", "--lab", "mine", "down"]).ok();
    assert_eq!(traces(&machine), before);
    assert_eq!(inode(), theirs);
}

#[test]
fn a_namespace_that_took_the_place_of_a_host_is_not_touched() {
    let machine = Machine::new(User::Root);
    machine.vpnlab(&["lab", "up"]).ok();
    sh(&machine, "ip netns del userv; ip netns add userv; ip -n userv link set lo alias precious").ok();
    let clash = machine.vpnlab(&["lab", "up"]).expect(1);
    assert!(clash.stderr.contains("/run/netns/userv is there already"), "{clash:#?}");
    machine.vpnlab(&["lab", "down"]).ok();
    let left = sh(&machine, "ip netns list; ip -n userv link show lo").ok().stdout;
    assert!(left.starts_with("userv\n") && left.contains("precious"), "{left}");
}

#[test]
fn another_labs_namespaces_are_not_touched() {
    let machine = Machine::new(User::Root);
    machine.vpnlab(&["lab", "--lab", "a", "up"]).ok();
    machine.vpnlab(&["lab", "--lab", "a-b", "up"]).ok();
    sh(&machine, ": > /run/vpnlab/a.toml").ok();
    machine.vpnlab(&["lab", "--lab", "a", "down"]).ok();
    machine.vpnlab(&["lab", "--lab", "a-b", "check"]).ok();
    assert!(!sh(&machine, "ip netns list").ok().stdout.contains("a-useru"));
}

#[test]
fn files_of_somebody_else_under_etc_netns_are_named_and_not_touched() {
    let machine = Machine::new(User::Root);
    sh(&machine, "mkdir -p /etc/netns/userv /etc/netns/useru; echo precious > /etc/netns/userv/hosts; echo 1 > /etc/netns/useru/own").ok();
    let before = traces(&machine);
    let clash = machine.vpnlab(&["lab", "up"]).expect(1);
    assert!(clash.stderr.contains("/etc/netns/userv/hosts is there already, and vpnlab did not make it"), "{clash:#?}");
    assert_eq!(traces(&machine), before);
    sh(&machine, "mv /etc/netns/userv/hosts /etc/netns/userv/other").ok();
    let before = traces(&machine);
    machine.vpnlab(&["lab", "up"]).ok();
    machine.vpnlab(&["lab", "down"]).ok();
    assert_eq!(traces(&machine), before);
    assert_eq!(sh(&machine, "cat /etc/netns/userv/other /etc/netns/useru/own").ok().stdout, "precious\n1\n");
}

#[test]
fn shared_directories_that_were_there_stay_as_they_were() {
    let machine = Machine::new(User::Root);
    for preparation in [
        "mkdir -p /run/netns /etc/netns",
        "mount --bind /run/netns /run/netns; mount --make-shared /run/netns",
        "umount /run/netns; ip netns add theirs",
    ] {
        sh(&machine, preparation).ok();
        let before = traces(&machine);
        machine.vpnlab(&["lab", "up"]).ok();
        machine.vpnlab(&["lab", "check"]).ok();
        machine.vpnlab(&["lab", "down"]).ok();
        assert_eq!(traces(&machine), before, "after: {preparation}");
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let machine = Machine::new(User::Root);
    // mount(8) leaves a directory of its own in /run.
    sh(&machine, "mount -t tmpfs tmpfs /mnt; umount /mnt").ok();
    let before = traces(&machine);
    let (mut failed, mut built) = (0, 0);
    for (directory, size) in [("/run", "size=4k"), ("/run", "size=0"), ("/etc/netns", "size=4k")] {
        for files in 1..32 {
            let full = format!(
                "mkdir -p {directory}; mount -t tmpfs -o {size},nr_inodes={files} tmpfs {directory} && {} lab up; \
                code=$?; find {directory} /run/netns /run/vpnlab 2>/dev/null; {0} lab down >&2; umount -R {directory}; \
                [ {directory} = /run ] || rmdir {directory}; exit $code",
                common::vpnlab().display()
            );
            let done = sh(&machine, &full);
            match done.code {
                0 => built += 1,
                1 => {
                    failed += 1;
                    assert!(done.stderr.contains("No space left on device"), "{directory} {size} {files}: {done:#?}");
                    let left: Vec<_> = done.stdout.lines().filter(|line| *line != directory).collect();
                    assert!(left.is_empty(), "{directory} {size} {files}: {done:#?}");
                }
                _ => panic!("{directory} {size} {files}: {done:#?}"),
            }
            assert_eq!(traces(&machine), before, "{directory} {size} {files}");
        }
    }
    assert!(failed > 10 && built > 10, "{failed} failed, {built} built");
}
