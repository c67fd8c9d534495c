//! The screens, as text.

use std::path::Path;

use super::{masked, quiet, tunnel, watch};
use crate::common::{self, Lab, PATIENCE};
use crate::for_each_user;
use crate::tmux::Tmux;

/// Waits until the screen, masked, is that of the fixture. The lab's name is not the fixture's.
#[track_caller]
fn is(tmux: &Tmux<'_>, lab: &Lab, fixture: &str, mask: fn(&[String]) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/watch").join(fixture);
    let seen = || {
        let mut screen = tmux.screen();
        // As long as before, since the end of the line has something, too.
        let name = format!("lab {}", lab.name);
        screen[0] = screen[0].replace(&name, &format!("{:<1$}", "lab NAME", name.len()));
        let space = screen[0].find(" showing").map_or(0, |at| screen[0][..at].trim_end().len());
        let (left, right) = screen[0].split_at(space);
        let left = left.split_whitespace().collect::<Vec<_>>().join(" ");
        screen[0] = format!(" {left} ... {}", right.trim());
        mask(&screen)
    };
    if std::env::var_os("VPNLAB_WRITE_FIXTURES").is_some() {
        std::thread::sleep(std::time::Duration::from_secs(3));
        std::fs::write(&path, seen()).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let started = std::time::Instant::now();
    let mut last = String::new();
    while started.elapsed() < PATIENCE {
        last = seen();
        if last == expected {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("not the screen of {}, but (masked):\n{last}\nexpected:\n{expected}", path.display());
}

for_each_user! {
    fn the_screens_are_those_of_the_fixtures(user: User) {
        let lab = Lab::up_at(user, 4);
        quiet(&lab);
        {
            let idle = Tmux::open(&lab.machine, "", &watch(&lab, "--protocol icmp"));
            is(&idle, &lab, "idle.txt", masked::overview);
        }
        let _tunnel = tunnel(&lab);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, "--protocol icmp"));
        tmux.shows_text("tun0");
        lab.exec("useru", &["ping", "-c1", "userv"]).ok();
        is(&tmux, &lab, "ping.txt", masked::overview);

        tmux.types(&["Home"]);
        tmux.shows("what is picked", |screen| screen.iter().any(|line| line.starts_with('>')));
        tmux.types(&["Enter"]);
        tmux.shows_text("out of useru through eth0");
        tmux.types(&["Down"]);
        is(&tmux, &lab, "opened.txt", masked::opened);

        tmux.types(&["Escape", "Escape", "h", "h", "h", "t", "Up"]);
        is(&tmux, &lab, "paused.txt", masked::overview);

        tmux.types(&["?"]);
        is(&tmux, &lab, "help.txt", masked::nothing);
        tmux.types(&["q"]);
        tmux.is_restored(0);
    }

    fn without_unicode_and_colours_it_says_the_same(user: User) {
        let lab = Lab::up_at(user, 4);
        quiet(&lab);
        let _tunnel = tunnel(&lab);
        let coloured = Tmux::open(&lab.machine, "", &watch(&lab, "--protocol icmp"));
        let plain = Tmux::open(&lab.machine, "NO_COLOR=1 LC_ALL=C", &watch(&lab, "--protocol icmp"));
        let chosen = Tmux::open(&lab.machine, "NO_COLOR=1", &watch(&lab, "--protocol icmp --color always"));
        let refused = Tmux::open(&lab.machine, "", &watch(&lab, "--protocol icmp --color never"));
        for tmux in [&coloured, &plain, &chosen, &refused] {
            tmux.shows_text("unnel");
        }
        lab.exec("useru", &["ping", "-c1", "userv"]).ok();
        let screen = plain.shows("a whole ping", |screen| screen.iter().filter(|line| line.contains("echo re")).count() == 12);
        assert!(screen.concat().is_ascii(), "{screen:#?}");
        assert!(screen.iter().any(|line| line.contains("tun0  10.1.3.1        ==-=# tunnel") || line.contains("tun0  10.1.3.1        ====# tunnel")), "{screen:#?}");
        for tmux in [&coloured, &chosen, &refused] {
            tmux.shows("a whole ping", |screen| screen.iter().filter(|line| line.contains("echo re")).count() == 12);
        }
        // Whatever the terminal makes of it, no colour was asked for: 30 to 37 and 90 to 97, or 38 for others.
        let has_colours = |tmux: &Tmux<'_>| {
            let codes = tmux.run(&["capture-pane", "-p", "-e"]);
            let codes = codes.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).flat_map(|(codes, _)| codes.split(';'));
            codes.filter_map(|code| code.parse().ok()).any(|code: u8| matches!(code, 30..=38 | 40..=48 | 90..=107))
        };
        assert!(has_colours(&coloured) && !has_colours(&plain));
        assert!(has_colours(&chosen) && !has_colours(&refused));
    }

    fn another_size_is_minded_and_one_that_is_too_small_said(user: User) {
        let lab = Lab::up(user);
        quiet(&lab);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
        tmux.shows_text("q quit");
        tmux.run(&["resize-window", "-x", "60", "-y", "15"]);
        tmux.shows_text("60x15, 80x24 are needed.");
        tmux.run(&["resize-window", "-x", "120", "-y", "40"]);
        let screen = tmux.shows("the whole screen", |screen| screen.len() == 40 && screen[39].contains("q quit"));
        assert!(screen[0].ends_with("showing every packet"), "{screen:#?}");
        tmux.run(&["resize-window", "-x", "1", "-y", "1"]);
        tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
        tmux.shows("the screen again", |screen| screen.len() == 24 && screen[23].contains("q quit"));
        tmux.types(&["C-c"]);
        tmux.is_restored(0);
    }

    fn more_than_can_be_shown_is_sampled_which_is_said_and_every_packet_is_shown_again_later(user: User) {
        let lab = Lab::up_at(user, 4);
        quiet(&lab);
        let _tunnel = tunnel(&lab);
        let tmux = Tmux::open(&lab.machine, "", &watch(&lab, ""));
        tmux.shows_text("showing every packet");
        {
            let flood = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nn = 0\n\
                print('Flooding', flush=True)\n\
                while True:\n    n += 1\n    try: s.sendto(n.to_bytes(8, 'big') * 50, ('10.1.1.2', 9))\n    except OSError: pass";
            let mut flood = lab.start("useru", &["python3", "-c", flood]);
            flood.wait_for("Flooding");
            tmux.shows_text("showing 1 of ");
            // A full TUN device drops most of them.
            tmux.types(&["t"]);
            // What is shown is shown at every interface.
            tmux.shows("a whole ladder", |screen| {
                let places = [">eth0", ">tun0", "eth1>"].iter().all(|mark| screen.iter().any(|line| line.contains(mark)));
                places && screen.iter().any(|line| line.contains(":9090 [UDP 400 B]"))
            });
            flood.interrupt();
        }
        tmux.shows_text("showing every packet");
        // Without what ARP says meanwhile, for which there is no room.
        tmux.types(&["t", "p", "c"]);
        tmux.shows_text("only ICMP");
        lab.exec("useru", &["ping", "-c1", "userv"]).ok();
        tmux.shows("a ping", |screen| screen.iter().filter(|line| line.contains("echo re")).count() >= 12);
    }
}

#[test]
fn the_fixtures_are_screens_of_80_by_24() {
    for name in ["idle.txt", "ping.txt", "opened.txt", "paused.txt", "help.txt"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/watch").join(name);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 24, "{name}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{name}");
    }
    assert!(common::vpnlab().exists());
}
