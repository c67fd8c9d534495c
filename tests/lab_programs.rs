//! Programs on the lab's hosts: exit codes, streams, signals, terminals, shells, and the handout's tools as typed.

mod common;

use std::path::Path;

use common::terminal::{CTRL_C, CTRL_D, CTRL_Z, Terminal};
use common::{Lab, Machine, Program, User, eventually, run};
use nix::sys::signal::Signal;

/// The words of `vpnlab lab ...` on this lab, for a shell.
fn words(lab: &Lab, rest: &str) -> String {
    format!("{} lab --lab {} {rest}", common::vpnlab().display(), lab.name)
}

/// A terminal on which `vpnlab lab ...` runs.
fn terminal_of(lab: &Lab, rest: &str) -> Terminal {
    Terminal::open(&lab.machine, &format!("exec {}", words(lab, rest)))
}

/// Runs a line of sh(1) on the machine itself.
fn on_machine(lab: &Lab, script: &str) -> common::Done {
    run(lab.machine.command("sh").args(["-c", script]))
}

/// The processes in the hosts whose command line contains this.
fn programs(lab: &Lab, containing: &str) -> Vec<String> {
    let status: serde_json::Value = serde_json::from_str(&lab.lab(&["status", "--json"]).ok().stdout).unwrap();
    let labs = status.as_array().unwrap();
    let lab = labs.iter().find(|it| it["lab"] == lab.name.as_str()).expect("the lab is up");
    let hosts = lab["hosts"].as_array().unwrap().iter();
    let programs = hosts.flat_map(|host| host["programs"].as_array().unwrap().clone());
    programs.map(|it| it["command"].as_str().unwrap().to_string()).filter(|it| it.contains(containing)).collect()
}

/// The states (proc_pid_stat(5)) of the processes whose command line contains this.
fn states_of(containing: &str) -> Vec<String> {
    let state = |entry: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let matches = String::from_utf8_lossy(&read("cmdline")).contains(containing);
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        matches.then(|| stat.rsplit_once(") ").map(|(_, rest)| rest[..1].to_string())).flatten()
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(state).collect()
}

for_each_user! {
    fn the_exit_code_is_the_commands_own(user: User) {
        let lab = Lab::up(user);
        lab.sh("useru", "exit 7").expect(7);
        lab.sh("useru", "exit 255").expect(255);
        lab.sh("useru", "kill -9 $$").expect(137);
        lab.exec("useru", &["/etc/hosts"]).expect(126);
        let missing = lab.exec("useru", &["no-such-command"]).expect(127);
        assert_eq!(missing.stderr, "vpnlab: no-such-command: command not found on useru\n");
        let nowhere = lab.exec("nowhere", &["true"]).expect(2);
        assert_eq!(
            nowhere.stderr,
            "vpnlab: no host named nowhere in this lab; its hosts are useru, server, userv, userw, router\n"
        );
    }

    fn the_commands_words_and_streams_are_passed_on_as_they_are(user: User) {
        let lab = Lab::up(user);
        let done = lab.exec("useru", &["printf", "<%s>", "two words", "", "-x", "--", "ü"]).ok();
        assert_eq!(done.stdout, "<two words><><-x><--><ü>");
        let done = lab.sh("useru", "echo to-stdout; echo to-stderr >&2").ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("to-stdout\n", "to-stderr\n"));
        let pipe = format!("head -c 3000000 /dev/zero | {} | wc -c", words(&lab, "exec useru -- cat"));
        assert_eq!(on_machine(&lab, &pipe).ok().stdout.trim(), "3000000");
        // A reader that goes away ends the program as it would without vpnlab.
        let pipe = format!("{{ {}; echo \"code $?\" >&2; }} | head -n1", words(&lab, "exec useru -- yes"));
        let done = on_machine(&lab, &pipe).ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("y\n", "code 141\n"));
    }

    fn a_program_has_its_hosts_name_network_and_processes(user: User) {
        let lab = Lab::up(user);
        assert_eq!(lab.exec("userv", &["hostname"]).ok().stdout, "userv\n");
        let links = lab.exec("server", &["ip", "-o", "-4", "address"]).ok().stdout;
        for part in ["eth0    inet 10.1.2.3/24", "eth1    inet 10.1.1.4/24", "eth3    inet 192.168.1.97/22"] {
            assert!(links.contains(part), "{links}");
        }
        assert_eq!(lab.sh("useru", "cd /sys/class/net && echo *").ok().stdout, "eth0 eth3 lo\n");
        lab.exec("useru", &["test", "-d", "/proc/self"]).ok();
        let machine = lab.machine.command("hostname").output().unwrap().stdout;
        assert_ne!(String::from_utf8_lossy(&machine), "useru\n", "the machine keeps its own name");
    }

    fn a_program_needs_no_environment(user: User) {
        let lab = Lab::up(user);
        let bare = format!("env -i {}", words(&lab, "exec useru -- sh -c 'ping -c1 server && sudo ip link show eth0'"));
        on_machine(&lab, &bare).ok();
        on_machine(&lab, &format!("env -i {}", words(&lab, "check"))).ok();
    }

    fn a_program_is_told_to_end_when_lab_exec_is(user: User) {
        let lab = Lab::up(user);
        let script = "trap 'echo was told; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let mut program = lab.start("useru", &["sh", "-c", script]);
        program.wait_for("ready");
        let done = program.terminate().expect(5);
        assert_eq!(done.stdout, "ready\nwas told\n");
    }

    fn a_program_ends_when_lab_exec_is_killed(user: User) {
        let lab = Lab::up(user);
        let mut program = lab.start("useru", &["sh", "-c", "echo ready; exec sleep 4321"]);
        program.wait_for("ready");
        eventually("the program is seen", || programs(&lab, "sleep 4321").len() == 1);
        program.signal(Signal::SIGKILL);
        eventually("the program has ended", || programs(&lab, "sleep 4321").is_empty());
    }

    fn a_program_whose_file_grants_rights_ends_when_lab_exec_is_killed(user: User) {
        let lab = Lab::up(user);
        // Debian's ping has file capabilities.
        let program = lab.start("useru", &["ping", "-q", "server"]);
        eventually("the ping is seen", || programs(&lab, "ping -q server").len() == 1);
        program.signal(Signal::SIGKILL);
        eventually("the ping has ended", || programs(&lab, "ping -q server").is_empty());
        assert!(lab.pings("useru", "server"));
        lab.exec("useru", &["sudo", "ping", "-c1", "server"]).ok();
    }

    fn orphans_leave_no_zombies(user: User) {
        let lab = Lab::up(user);
        lab.sh("useru", "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.05 &) ; done").ok();
        eventually("the orphans have ended", || programs(&lab, "sleep").is_empty());
        if user == User::Plain {
            // The lab's own processes: the keeper, and ps itself.
            let states = || lab.exec("useru", &["ps", "-eo", "stat="]).ok().stdout;
            eventually("no zombie is left", || !states().contains('Z') && states().lines().count() == 2);
        }
    }

    fn the_handouts_tools_work_with_sudo_as_typed(user: User) {
        let lab = Lab::up(user);
        let shown = lab.exec("server", &["sudo", "sysctl", "-w", "net.ipv4.ip_forward=1"]).ok();
        assert_eq!(shown.stdout, "net.ipv4.ip_forward = 1\n");
        lab.sh("useru", "sudo ip tuntap add dev tun0 mode tun && sudo ip addr add 10.1.3.1/24 dev tun0").ok();
        lab.sh("useru", "sudo ip link set dev tun0 up && sudo ip route add 10.1.1.0/24 dev tun0 via 10.1.3.1").ok();
        let address = lab.exec("useru", &["ip", "-c=never", "address", "show", "tun0"]).ok().stdout;
        assert!(address.contains("POINTOPOINT") && address.contains("inet 10.1.3.1/24"), "{address}");
        assert!(lab.exec("useru", &["ip", "route", "get", "10.1.1.2"]).ok().stdout.contains("dev tun0"));
    }

    fn tcpdump_shows_the_packets_of_an_interface(user: User) {
        let lab = Lab::up(user);
        // As root, tcpdump becomes another user, which the root of a user namespace may not: a plain user who runs these
        // tests as root, in effect, has the stand-in alone. It is tested below.
        if user == User::Root && !nix::unistd::getuid().is_root() {
            let refused = lab.exec("userv", &["sudo", "tcpdump", "-c", "1", "-i", "eth0"]).expect(1);
            assert!(refused.stderr.contains("Couldn't change to"), "{refused:#?}");
            return;
        }
        let command = ["sudo", "tcpdump", "-l", "-c", "2", "-i", "eth0", "ip"];
        let mut tcpdump = lab.start("userv", &command);
        tcpdump.wait_for("listening on eth0");
        lab.exec("server", &["ping", "-c1", "userv"]).ok();
        let done = tcpdump.wait().ok();
        assert!(done.stdout.contains("IP server-lab1 > userv-lab1: ICMP echo request"), "{done:#?}");
        assert!(done.stdout.contains("IP userv-lab1 > server-lab1: ICMP echo reply"), "{done:#?}");
    }

    fn the_stand_in_for_tcpdump_shows_them_too(user: User) {
        let lab = Lab::up(user);
        let script = "PATH=${PATH##*:} exec tcpdump -c 2 -i eth0 ip";
        let mut tcpdump = lab.start("userv", &["sh", "-c", script]);
        tcpdump.wait_for("listening on eth0");
        lab.exec("server", &["ping", "-c1", "userv"]).ok();
        assert_eq!(tcpdump.wait().ok().stdout.lines().count(), 2);
    }

    fn the_stand_in_for_nc_carries_both_ways_and_ends_with_the_other_end(user: User) {
        let lab = Lab::up(user);
        let start = |host: &str, input: &str, options: &str| {
            lab.start(host, &["sh", "-c", &format!("{input} | {{ PATH=${{PATH##*:}} exec nc {options}; }}")])
        };
        for (waits, size) in [("-l -p 2323", 3), ("-l 2323", 300_000)] {
            let mut listener = start("server", "echo welcome", &format!("-v {waits}"));
            listener.wait_for("Listening on 0.0.0.0 2323");
            let typed = format!("head -c {size} /dev/zero | tr '\\0' x; echo; echo over");
            let done = start("useru", &format!("{{ {typed}; }}"), "-v -N server 2323").wait();
            // Who listens still waits for more from its own side, as the other end has only said that it will send no more.
            let heard = listener.wait().ok();
            assert!(done.stderr.contains("Connection to server 2323 port [tcp/*] succeeded!"), "{done:#?}");
            assert_eq!((done.code, done.stdout.as_str()), (0, "welcome\n"));
            assert!(heard.stderr.contains("Connection received on 10.1.2.2 "), "{}", heard.stderr);
            assert_eq!(heard.stdout, format!("{}\nover\n", "x".repeat(size)));
        }
        let nc = |options: &str| lab.sh("useru", &format!("PATH=${{PATH##*:}} exec nc {options}"));
        let refused = nc("server 2323").expect(1);
        assert!(refused.stderr.contains("nc: cannot connect to server port 2323: Connection refused"), "{refused:#?}");
        for wrong in ["", "server", "-l", "-l server 2323", "server http"] {
            assert!(nc(wrong).expect(2).stderr.contains("nc: "), "{wrong}");
        }
    }

    fn the_stand_in_for_ping_ends_on_ctrl_c_with_its_statistics(user: User) {
        let lab = Lab::up(user);
        for (interval, shows) in [("0.1", "packets transmitted"), ("100", "1 packets transmitted, 1 received")] {
            let script = format!("PATH=${{PATH##*:}} exec ping -i {interval} server");
            let mut ping = lab.start("useru", &["sh", "-c", &script]);
            ping.wait_for("icmp_seq=1");
            let done = ping.interrupt().ok();
            assert!(done.stdout.contains(shows) && done.stdout.contains("rtt min/avg/max/mdev"), "{done:#?}");
        }
        // Nobody answers: as with iputils' ping, the exit code is 1.
        lab.exec("server", &["nft", "add table ip mine; add chain ip mine input { type filter hook input priority 0; policy drop; }"]).ok();
        let mut ping = lab.start("useru", &["sh", "-c", "PATH=${PATH##*:} exec ping -c1 -W 100 server"]);
        ping.wait_for("bytes of data");
        let done = ping.interrupt().expect(1);
        assert!(done.stdout.contains("1 packets transmitted, 0 received, 100% packet loss"), "{done:#?}");
    }

    fn sudo_understands_its_options_and_finds_vpnlab(user: User) {
        let lab = Lab::up(user);
        for (words, prints) in [
            ("sudo vpnlab --version | cut -d' ' -f1-2", concat!("vpnlab ", env!("CARGO_PKG_VERSION"))),
            ("sudo -E echo kept", "kept"),
            ("sudo -u root echo as root", "as root"),
            ("sudo -uroot echo as root", "as root"),
            ("sudo -nu root echo quietly", "quietly"),
            ("sudo --user=root echo long", "long"),
            ("sudo --user root -- echo longer", "longer"),
            ("sudo -n -- echo dashes", "dashes"),
            ("echo secret | sudo -S -p '' echo asked", "asked"),
            ("sudo -Eu root echo both", "both"),
            ("sudo MOOD=mixed -E sh -c 'echo $MOOD'", "mixed"),
            ("sudo COLOUR=red sh -c 'echo $COLOUR'", "red"),
            ("sudo sudo -E echo twice", "twice"),
            ("sudo -v && echo valid", "valid"),
            ("sudo -s 'echo shell'", "shell"),
        ] {
            let done = lab.sh("useru", words);
            assert_eq!((done.code, done.stdout.trim()), (0, prints), "{words}: {done:#?}");
        }
        assert!(lab.exec("useru", &["sudo", "-u", "nobody", "id"]).expect(2).stderr.contains("not as nobody"));
        assert!(lab.exec("useru", &["sudo"]).expect(2).stderr.contains("usage: sudo COMMAND"));
        let missing = lab.exec("useru", &["sudo", "no-such-command"]);
        assert!(missing.code != 0 && missing.stderr.contains("no-such-command"), "{missing:#?}");
    }

    fn ctrl_c_ends_the_program_and_lab_exec(user: User) {
        let lab = Lab::up(user);
        let mut terminal = terminal_of(&lab, "exec useru -- ping server");
        terminal.shows("icmp_seq=1");
        terminal.types(CTRL_C);
        // ping prints its statistics, so it was the one that was interrupted; its exit code is handed on.
        terminal.shows("ping statistics");
        assert_eq!(terminal.end(), 0);
        let script = "exec useru -- sh -c 'trap \"echo caught\" INT; echo ready; read x; read y; exit 9'";
        let mut terminal = terminal_of(&lab, script);
        terminal.shows("ready");
        terminal.types(CTRL_C);
        terminal.shows("caught");
        terminal.types("one\ntwo\n");
        assert_eq!(terminal.end(), 9);
    }

    fn the_program_has_the_terminal(user: User) {
        let lab = Lab::up(user);
        let mut terminal = terminal_of(&lab, "exec useru -- sh -c 'tty; stty size; read x; echo got $x'");
        terminal.shows("/dev/pts/");
        terminal.types("a line\n");
        terminal.shows("got a line");
        assert_eq!(terminal.end(), 0);
    }

    fn a_program_can_be_stopped_and_brought_back_from_the_callers_shell(user: User) {
        let lab = Lab::up(user);
        let mut terminal = Terminal::open(&lab.machine, "bash --norc -i");
        let script = format!("exec useru -- sh -c 'echo ready; read x; echo got $x; : {}'", lab.name);
        terminal.types(&format!("PS1='outside> '\n{}\n", words(&lab, &script)));
        terminal.shows("\nready");
        terminal.types(CTRL_Z);
        terminal.shows("Stopped");
        terminal.shows("outside> ");
        // The shell goes on when vpnlab has stopped; its program stops at its own time, and until then takes what is typed.
        eventually("both have stopped", || states_of(&format!(": {}", lab.name)) == ["T", "T"]);
        terminal.types("fg\n");
        terminal.shows("exec useru");
        terminal.types("more\n");
        terminal.shows("got more");
        terminal.shows("outside> ");
        terminal.types("exit 3\n");
        assert_eq!(terminal.end(), 3);
    }

    fn a_shell_has_the_hosts_prompt_name_and_tools(user: User) {
        let lab = Lab::up(user);
        let mut terminal = terminal_of(&lab, "shell useru");
        terminal.shows("useru:$ ");
        terminal.types("hostname; echo code $?\n");
        terminal.shows("\nuseru\ncode 0\nuseru:$ ");
        terminal.types("ping -c1 server | head -n1\n");
        terminal.shows("\nPING server-lan0 (10.1.2.3) 56(84) bytes of data.\nuseru:$ ");
        terminal.types("sudo vpnlab --version\n");
        terminal.shows("\nvpnlab ");
        terminal.shows("useru:$ ");
        terminal.types("exit 4\n");
        assert_eq!(terminal.end(), 4);
    }

    fn a_shell_has_job_control_and_survives_ctrl_c(user: User) {
        let lab = Lab::up(user);
        let mut terminal = terminal_of(&lab, "shell server");
        terminal.shows("server:$ ");
        terminal.types("ping userv\n");
        terminal.shows("icmp_seq=1");
        terminal.types(CTRL_C);
        terminal.shows("ping statistics");
        terminal.shows("server:$ ");
        terminal.types("sleep 1000\n");
        eventually("sleep runs", || programs(&lab, "sleep 1000").len() == 1);
        terminal.types(CTRL_Z);
        terminal.shows("Stopped");
        terminal.shows("server:$ ");
        terminal.types("jobs\n");
        terminal.shows("Stopped");
        terminal.shows("server:$ ");
        terminal.types("fg\n");
        terminal.shows("\nsleep 1000");
        terminal.types(CTRL_C);
        terminal.shows("server:$ ");
        terminal.types("sleep 1000 & kill %1; wait; echo done\n");
        terminal.shows("\ndone");
        terminal.shows("server:$ ");
        terminal.types(CTRL_D);
        terminal.end();
        eventually("nothing is left in the lab", || programs(&lab, "").is_empty());
    }

    fn a_shell_sees_the_window_change(user: User) {
        let lab = Lab::up(user);
        let mut terminal = terminal_of(&lab, "shell useru");
        terminal.shows("useru:$ ");
        // In a shell of its own without job control, the one that changes the size is of the same process group.
        terminal.types("sh -c 'trap \"stty size\" WINCH; stty rows 33 cols 99; wait'\n");
        terminal.shows("\n33 99");
        terminal.shows("useru:$ ");
        terminal.types("exit\n");
        assert_eq!(terminal.end(), 0);
    }

    fn a_hosts_files_are_seen_by_its_programs_alone(user: User) {
        let lab = Lab::up(user);
        let machine = on_machine(&lab, "cat /etc/hosts; mount").ok().stdout;
        assert!(!machine.contains("server-lan0") && !machine.contains("tmpfs on /usr/local/sbin"), "{machine}");
        assert!(lab.exec("useru", &["cat", "/etc/hosts"]).ok().stdout.contains("server-lan0"));
        assert!(lab.exec("useru", &["mount"]).ok().stdout.contains("vpnlab on "));
    }
}

/// Gives a private root a machine that differs from this one, and runs a script on it.
fn on_odd_machine(change: &str, script: &str) -> common::Done {
    let machine = Machine::new(User::Root);
    let vpnlab = common::vpnlab().display();
    let script = format!(
        "set -e; {change}\n{vpnlab} lab up >&2\nvpnlab() {{ {vpnlab} \"$@\"; }}\n{script}\nvpnlab lab down >&2"
    );
    run(machine.command("sh").args(["-c", &script]))
}

#[test]
fn a_machine_without_ping_traceroute_and_tcpdump_has_the_stand_ins() {
    // /dev/null in their place is no program, as if they were not there.
    let hide = "for name in ping traceroute tcpdump; do for at in $(which -a $name); do \
                mount --bind /dev/null $(realpath $at); done; done";
    let done =
        on_odd_machine(hide, "vpnlab lab exec useru -- ping -c1 server; vpnlab lab exec userv -- traceroute server")
            .ok();
    assert!(done.stdout.contains("64 bytes from server-lan0 (10.1.2.3): icmp_seq=1 ttl=64 time="), "{done:#?}");
    assert!(done.stdout.contains("\n 1  server-lab1 (10.1.1.4)  "), "{done:#?}");
    let done = on_odd_machine("", "vpnlab lab exec useru -- sh -c 'readlink -f $(command -v ping)'").ok();
    assert!(Path::new(done.stdout.trim()) != common::vpnlab(), "where there is a ping, it is used: {done:#?}");
}

#[test]
fn a_machine_whose_spare_directories_are_all_in_use_runs_programs_too() {
    let fill = "for at in /usr/local/sbin /srv /mnt /media /opt /boot; do \
                if [ -d $at ]; then mount -t tmpfs tmpfs $at; touch $at/file; fi; done";
    on_odd_machine(fill, "vpnlab lab exec useru -- sudo ping -c1 server; vpnlab lab check").ok();
}

#[test]
fn a_machine_without_tun_has_a_lab_all_the_same() {
    let hide = "mount -t tmpfs tmpfs /dev/net";
    let done = on_odd_machine(hide, "vpnlab lab check; vpnlab lab exec useru -- ls /dev/net").ok();
    assert_eq!(done.stdout.lines().count(), 4, "{done:#?}");
}

#[test]
fn a_caller_that_waits_for_the_pipes_end_is_not_kept_waiting_by_the_lab() {
    let machine = Machine::new(User::Plain);
    let vpnlab = common::vpnlab().display();
    let owner = std::process::id();
    for (number, redirection) in ["", "3>&1 ", "9>&2 8>&1 "].iter().enumerate() {
        let name = format!("pipe-{owner}-{number}");
        let script = format!("{{ {vpnlab} lab --lab {name} up --owner {owner} {redirection}2>&1; }} | cat");
        let piped = Program::start(machine.command("sh").args(["-c", &script])).wait().ok();
        assert!(piped.stdout.starts_with(&format!("lab {name} is up")), "{piped:#?}");
        machine.vpnlab(&["lab", "--lab", &name, "check"]).ok();
        machine.vpnlab(&["lab", "--lab", &name, "down"]).ok();
    }
}
