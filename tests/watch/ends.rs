//! How it ends: whatever happens, the terminal is as it was.

use std::path::Path;

use super::{quiet, watch};
use crate::common::{self, Lab, Machine, User, run};
use crate::for_each_user;
use crate::tmux::Tmux;

for_each_user! {
    fn every_key_and_signal_that_ends_it_restores_the_terminal(user: User) {
        let lab = Lab::up(user);
        type End = fn(&Tmux<'_>);
        let ends: [(&str, End); 7] = [
            ("q", |tmux| tmux.types(&["q"])),
            ("Ctrl-C", |tmux| tmux.types(&["C-c"])),
            ("an open packet", |tmux| tmux.types(&["?", "q"])),
            ("SIGTERM", |tmux| tmux.signal("TERM")),
            ("SIGHUP", |tmux| tmux.signal("HUP")),
            ("SIGINT", |tmux| tmux.signal("INT")),
            ("SIGQUIT", |tmux| tmux.signal("QUIT")),
        ];
        for (name, end) in ends {
            eprintln!("{name}");
            let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
            tmux.shows_text("q quit");
            let modes = tmux.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
            assert_eq!(modes.trim(), "1 0", "it has the terminal");
            end(&tmux);
            tmux.is_restored(0);
        }
    }

    fn a_lab_that_goes_down_ends_it(user: User) {
        let lab = Lab::up(user);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
        tmux.shows_text("q quit");
        lab.lab(&["down"]).ok();
        let screen = tmux.is_restored(0);
        assert!(screen.iter().any(|line| *line == format!("lab {} is down", lab.name)), "{screen:#?}");
    }

    fn a_terminal_that_goes_away_ends_it(user: User) {
        let lab = Lab::up(user);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
        tmux.shows_text("q quit");
        let runs = || run(lab.machine.command("pgrep").args(["-f", &format!("watch --lab {}", lab.name)])).code == 0;
        assert!(runs(), "it runs before");
        drop(tmux);
        common::eventually("it has ended with its terminal", || !runs());
    }

    fn without_a_lab_or_a_terminal_it_says_so(user: User) {
        let lab = Lab::up(user);
        let done = lab.machine.vpnlab(&["watch", "--lab", &lab.name]).expect(2);
        assert_eq!(done.stdout, "");
        assert_eq!(
            done.stderr,
            "vpnlab: standard input and output are not a terminal; vpnlab watch --once shows it once, with --json for programs\n"
        );
        let command = format!("{} watch --lab none-here", common::vpnlab().display());
        let tmux = Tmux::open(&lab.machine, "", &command);
        let screen = tmux.is_restored(2);
        assert!(screen.iter().any(|line| line.starts_with("vpnlab: lab none-here is not up; bring it up")), "{screen:#?}");
        let done = lab.machine.vpnlab(&["watch", "--once", "--lab", "none-here"]).expect(2);
        assert!(done.stderr.starts_with("vpnlab: lab none-here is not up"), "{done:#?}");
        let done = lab.machine.vpnlab(&["watch", "--once", "--lab", &lab.name, "--host", "nobody"]).expect(2);
        assert!(done.stderr.contains("no host named nobody in this lab; its hosts are useru, "), "{done:#?}");
        lab.machine.vpnlab(&["watch", "--json"]).expect(2);
        let dumb = Tmux::open(&lab.machine, "TERM=dumb", &watch(&lab, ""));
        let screen = dumb.is_restored(3);
        assert!(screen.concat().contains("cannot place its cursor"), "{screen:#?}");
    }

    fn it_stops_on_ctrl_z_and_goes_on(user: User) {
        let lab = Lab::up(user);
        quiet(&lab);
        // An interactive shell, which stops and continues jobs.
        let tmux = Tmux::open(&lab.machine, "PS1='shell: '", "sh -i");
        tmux.shows_text("shell:");
        tmux.types(&[&watch(&lab, ""), "Enter"]);
        tmux.shows_text("q quit");
        tmux.types(&["C-z"]);
        tmux.shows("the shell", |screen| screen.iter().any(|line| line.contains("Stopped")) && screen[0] == "here it begins");
        tmux.types(&["fg", "Enter"]);
        tmux.shows_text("q quit");
        tmux.types(&["q"]);
        tmux.shows("the shell", |screen| screen[0] == "here it begins");
        tmux.types(&["exit", "Enter"]);
        tmux.is_restored(0);
    }

    fn while_it_is_stopped_the_lab_goes_down_and_says_what_is_left(user: User) {
        let lab = Lab::up(user);
        quiet(&lab);
        let tmux = Tmux::open(&lab.machine, "PS1='shell: '", "sh -i");
        tmux.shows_text("shell:");
        tmux.types(&[&watch(&lab, ""), "Enter"]);
        tmux.shows_text("q quit");
        tmux.types(&["C-z"]);
        tmux.shows("the shell", |screen| screen.iter().any(|line| line.contains("Stopped")));
        let done = lab.lab(&["down"]).expect(1);
        assert!(done.stderr.starts_with("vpnlab: the lab is down, but the kernel has not taken its links back"), "{done:#?}");
        assert!(done.stderr.contains("`fg`"), "{done:#?}");
        tmux.types(&["fg", "Enter"]);
        tmux.shows_text(&format!("lab {} is down", lab.name));
        tmux.types(&["exit", "Enter"]);
        tmux.is_restored(0);
        assert!(!lab.machine.vpnlab(&["lab", "status"]).ok().stdout.contains(&lab.name));
    }

    fn it_gives_up_its_rights(user: User) {
        let lab = Lab::up(user);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
        tmux.shows_text("q quit");
        let find = ["-o", "-f", &format!("^{} watch --lab {}", common::vpnlab().display(), lab.name)];
        let pid = run(lab.machine.command("pgrep").args(find)).ok().stdout;
        let status = run(lab.machine.command("cat").arg(format!("/proc/{}/status", pid.trim()))).ok().stdout;
        let has = |name: &str, value: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            assert_eq!(line, Some(value), "{name} {status}");
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            has(set, "0000000000000000");
        }
        has("NoNewPrivs:", "1");
        if user == User::Root && nix::unistd::getuid().is_root() {
            has("Uid:", "65534\t65534\t65534\t65534");
        }
    }
}

/// Run on a terminal by the test below.
#[test]
#[ignore = "it panics, as the test below wants it to"]
fn panics_on_a_terminal() {
    let _screen = vpnlab::watch::terminal::Screen::open(false).unwrap();
    panic!("something is wrong");
}

#[test]
fn a_panic_restores_the_terminal_and_can_be_read() {
    // With the user's own rights: the test itself need not be open to others.
    let machine = Machine::new(User::Root);
    let test = std::env::current_exe().unwrap();
    assert!(Path::new(&test).exists());
    let command =
        format!("RUST_BACKTRACE=0 {} --ignored --exact ends::panics_on_a_terminal --nocapture", test.display());
    let tmux = Tmux::open(&machine, "", &command);
    let screen = tmux.is_restored(101);
    assert!(screen.iter().any(|line| line.contains("something is wrong")), "{screen:#?}");
}
