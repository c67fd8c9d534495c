//! `vpnlab demo`: what it tells, how it ends, and that it says so when a step does not show what it must. That it shows
//! every step, and within its time, is in `demo_time.rs`.

mod common;

use std::time::{Duration, Instant};

use common::terminal::{CTRL_C, Terminal};
use common::{Machine, User, eventually, run, vpnlab};
use serde_json::Value;

/// The labs of a user, by `lab status`.
fn labs(machine: &Machine) -> Vec<String> {
    let status = machine.vpnlab(&["lab", "status", "--json"]).ok();
    let labs: Value = serde_json::from_str(&status.stdout).expect("lab status prints JSON");
    let names = labs.as_array().expect("a list of labs").iter().map(|lab| lab["lab"].as_str().unwrap().to_string());
    names.filter(|name| name.starts_with("demo-")).collect()
}

/// The labs of this process's demos alone: other tests of the same user may have theirs.
fn labs_of(machine: &Machine, demo: u32) -> Vec<String> {
    labs(machine).into_iter().filter(|name| *name == format!("demo-{demo}")).collect()
}

for_each_user! {
    fn the_story_shows_commands_their_output_and_a_table(user: User) {
        let machine = Machine::new(user);
        let done = machine.vpnlab(&["demo", "--step", "0", "--step", "1"]).ok();
        for shown in [
            "useru:$ ping -c 1 -W 1 server\nPING server-lan0 (10.1.2.3)",
            "From router.isi.deterlab.net (192.168.1.254) icmp_seq=1 Destination Host Unreachable",
            "IP / ICMP 10.1.3.1 > 10.1.3.4 echo-request 0 / Raw",
            "3 packets transmitted, 3 received",
            "\n0     ok ",
            "\n1     ok ",
        ] {
            assert!(done.stdout.contains(shown), "{shown:?} is not in\n{}", done.stdout);
        }
        assert!(!done.stdout.contains("\nStep 2"), "{}", done.stdout);
        assert!(!done.stdout.contains('\x1b'), "colours, though this is no terminal");
    }

    fn a_step_that_does_not_show_what_it_must_fails_the_demo(user: User) {
        // A ping that claims that everybody answers.
        let directory = std::env::temp_dir().join(format!("vpnlab-demo-{}-{user:?}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let liar = directory.join("ping");
        std::fs::write(&liar, "#!/bin/sh\necho lies\n").unwrap();
        run(std::process::Command::new("chmod").arg("-R").arg("a+rx").arg(&directory)).ok();
        let machine = Machine::new(user);
        let path = format!("{}:/usr/bin:/bin", directory.display());
        let mut command = machine.command("env");
        let done = run(command.arg(format!("PATH={path}")).arg(vpnlab()).args(["demo", "--step", "0"])).expect(1);
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(done.stdout.contains("lies"), "{}", done.stdout);
        assert!(done.stdout.contains("\n0     FAILED "), "{}", done.stdout);
        assert!(done.stdout.contains("missing: useru does not reach userv"), "{}", done.stdout);
    }
}

for_each_user! {
    fn a_tcp_session_outlives_a_tunnel_that_breaks(user: User) {
        let machine = Machine::new(user);
        let done = run(&mut machine.demo(&["--step", "break"])).ok();
        for shown in [
            "\nAfter the handout: a TCP session outlives a tunnel that breaks\n",
            "typed into nc -v userv 2323: is anybody",
            "\nuseru:$ ss -tino dport = :2323\n",
            "\nis anybody\nstill\nthere?\n",
            "\nbreak ok ",
        ] {
            assert!(done.stdout.contains(shown), "{shown:?} is not in\n{}", done.stdout);
        }
        // What came, came after the tunnel was mended.
        let mended = done.stdout.rfind("server:$ sudo vpnlab vpn --role server").expect("the server is started again");
        let came = done.stdout.find("\nis anybody\n").expect("it came");
        assert!(mended > done.stdout.find("ss -tino").expect("it is typed") && came > mended, "{}", done.stdout);
    }

    fn the_experiment_is_a_part_of_the_story_only_where_it_is_asked_for(user: User) {
        let machine = Machine::new(user);
        let done = run(&mut machine.demo(&["--json", "--step", "break", "--step", "0", "--step", "break"])).ok();
        let told: Value = serde_json::from_str(&done.stdout).expect("the demo prints JSON");
        let steps: Vec<&Value> = told["steps"].as_array().expect("a list").iter().map(|step| &step["step"]).collect();
        assert_eq!(steps, [&Value::from(0), &Value::from("break")]);
        let commands = told["steps"][1]["commands"].as_array().expect("a list");
        let nc = commands.iter().find(|typed| typed["command"] == "nc -v -l -p 2323").expect("it is typed");
        // What nc says of itself is on another stream, and comes when it comes.
        let lines = nc["output"].as_array().unwrap().iter().filter_map(Value::as_str);
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("Connection received")).collect();
        assert!(lines.ends_with(&["hello", "is anybody", "still", "there?"]), "{lines:?}");
        let said = machine.vpnlab(&["demo", "--step", "5"]).expect(2).stderr;
        assert!(said.contains("a step from 0 to 4 is wanted, or break"), "{said}");
    }

    fn a_session_that_loses_something_fails_the_experiment(user: User) {
        // An nc that forgets what was typed while it had no answer.
        let directory = std::env::temp_dir().join(format!("vpnlab-nc-{}-{user:?}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let forgetful = "#!/bin/sh\ncase \"$*\" in *-l*) echo listening on; echo hello;; *) echo 2323;; esac\nexec sleep 60\n";
        std::fs::write(directory.join("nc"), forgetful).unwrap();
        run(std::process::Command::new("chmod").arg("-R").arg("a+rx").arg(&directory)).ok();
        let machine = Machine::new(user);
        let path = format!("{}:/usr/sbin:/usr/bin:/bin", directory.display());
        let mut command = machine.command("env");
        let done = run(command.arg(format!("PATH={path}")).arg(vpnlab()).args(["demo", "--step", "break"])).expect(1);
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(done.stdout.contains("\nbreak FAILED "), "{}", done.stdout);
        for missing in ["the timer runs, and segments were sent again", "everything that was typed appears, in its order"] {
            assert!(done.stdout.contains(&format!("missing: {missing}")), "{}", done.stdout);
        }
    }
}

#[test]
fn a_demo_that_is_killed_takes_its_lab_with_it() {
    let machine = Machine::new(User::Plain);
    let mut demo = machine.start(&["demo"]);
    demo.wait_for("Step 1");
    let id = demo.pid().as_raw() as u32;
    assert_eq!(labs_of(&machine, id).len(), 1);
    drop(demo); // SIGKILL
    eventually("the lab of the killed demo is gone", || labs_of(&machine, id).is_empty());
}

#[test]
fn as_root_the_next_command_clears_up_after_a_demo_that_was_killed() {
    let machine = Machine::new(User::Root);
    let mut demo = machine.start(&["demo"]);
    demo.wait_for("Step 1");
    assert_eq!(labs(&machine).len(), 1);
    // The process that this test started is nsenter's, or the demo's own: end what runs in root's namespaces.
    run(machine.command("pkill").args(["-KILL", "-x", "vpnlab"])).ok();
    machine.vpnlab(&["lab", "down"]).ok();
    assert!(labs(&machine).is_empty());
}

for_each_user! {
    fn ctrl_c_ends_the_demo_and_its_lab(user: User) {
        let machine = Machine::new(user);
        let mut demo = machine.start(&["demo", "--step", "1"]);
        demo.wait_for("Step 1");
        let id = match user {
            User::Plain => demo.pid().to_string(),
            // It runs in root's own process namespace, as a child of the process that this test has started.
            User::Root => run(machine.command("pgrep").args(["-f", "/vpnlab demo"])).ok().stdout.trim().to_string(),
        };
        assert_eq!(labs_of(&machine, id.parse().expect("one process")).len(), 1);
        run(machine.command("kill").args(["-INT", &id])).ok();
        let done = demo.wait().expect(130);
        assert!(!done.stdout.contains("NOT SEEN"), "{}", done.stdout);
        assert!(labs_of(&machine, id.parse().unwrap()).is_empty());
    }
}

#[test]
fn a_demo_that_nobody_reads_ends_and_leaves_nothing() {
    let machine = Machine::new(User::Plain);
    // The shell tells its process id, and then becomes the demo.
    let script = format!("{{ sh -c 'echo $$ >&2; exec {} demo'; }} | head -1", vpnlab().display());
    let started = Instant::now();
    let done = run(machine.command("sh").args(["-c", &script])).ok();
    assert!(started.elapsed() < Duration::from_secs(10));
    let (id, said) = done.stderr.split_once('\n').expect("the process id");
    assert_eq!(said, "", "it ends quietly, as other programs do");
    assert!(labs_of(&machine, id.parse().expect("a number")).is_empty());
}

#[test]
fn with_pause_nothing_goes_on_until_enter() {
    let machine = Machine::new(User::Plain);
    // The trap keeps the shell, which Ctrl-C reaches as well, until it has told the exit code.
    let line = format!("trap : INT; {} demo --step 0 --pause; echo end $?", vpnlab().display());
    let mut terminal = Terminal::open(&machine, &line);
    for shown in ["ping -c 1 -W 1 server", "traceroute server", "ping -c 1 -W 1 userv"] {
        terminal.shows("[Enter] ");
        let before = terminal.screen();
        assert!(before.ends_with("[Enter] "), "it goes on without Enter:\n{before}");
        terminal.types("\n");
        terminal.shows(shown);
    }
    terminal.shows("[Enter] ");
    terminal.types(CTRL_C);
    terminal.shows("end 130");
}
