//! `vpnlab lab tmux` in a real tmux: what its panes show, whose they are, and what is left when the lab is gone.
//!
//! The screen is looked at as a person sees it, through another tmux in which the command is typed.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, Lab, Machine, User, eventually, remove_at_exit, run, vpnlab};

/// What a user may have in their configuration, and what must not come in the way of ours.
const CONFIGURATION: &str = "set -g prefix C-a\nset -g base-index 1\nset -g pane-base-index 1\nset -g remain-on-exit on\n\
    set -g destroy-unattached on\nset -g exit-unattached on\nset -g exit-empty off\nset -g pane-border-status bottom\n";

/// A lab, and a home and a place for tmux's sockets of the test's own.
struct Desk {
    lab: Lab,
    directory: PathBuf,
}

impl Desk {
    #[track_caller]
    fn new(user: User) -> Self {
        Self::of(Lab::up(user))
    }

    #[track_caller]
    fn of(lab: Lab) -> Self {
        let directory = nix::unistd::mkdtemp("/tmp/vpnlab-tmux-XXXXXX").expect("/tmp can be written");
        std::fs::write(directory.join(".tmux.conf"), CONFIGURATION).expect("it can be written");
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
        open(&directory, 0o1777);
        open(&directory.join(".tmux.conf"), 0o644);
        remove_at_exit(directory.clone());
        Self { lab, directory }
    }

    fn machine(&self) -> &Machine {
        &self.lab.machine
    }

    fn in_home(&self, program: &str) -> Command {
        let mut command = self.machine().command("env");
        command.args(["-u", "TMUX"]).arg(format!("HOME={}", self.directory.display()));
        command.arg(format!("TMUX_TMPDIR={}", self.directory.display()));
        command.args(["LC_ALL=C.UTF-8", "TERM=xterm", "SHELL=/bin/sh", program]);
        command
    }

    /// `vpnlab lab tmux` with these options, where there is no terminal.
    #[track_caller]
    fn opens(&self, options: &[&str]) -> Done {
        let mut command = self.in_home(&vpnlab().display().to_string());
        run(command.args(["lab", "--lab", &self.lab.name, "tmux"]).args(options))
    }

    /// `tmux` on the server of the lab.
    #[track_caller]
    fn tmux(&self, words: &[&str]) -> Done {
        run(self.in_home("tmux").args(["-L", &self.socket()]).args(words))
    }

    fn socket(&self) -> String {
        format!("vpnlab-{}", self.lab.name)
    }

    /// The hosts of the panes, in their order.
    #[track_caller]
    fn hosts(&self) -> Vec<String> {
        let list = self.tmux(&["list-panes", "-s", "-F", "#{@host}=#{pane_title}"]).ok().stdout;
        let both = list.lines().map(|line| line.split_once('=').expect("the format has one"));
        both.map(|(host, title)| {
            assert_eq!(host, title);
            host.to_string()
        })
        .collect()
    }

    /// What the pane of a host shows.
    #[track_caller]
    fn shows(&self, host: &str) -> String {
        self.tmux(&["capture-pane", "-p", "-t", &self.pane(host)]).ok().stdout
    }

    #[track_caller]
    fn pane(&self, host: &str) -> String {
        let list = self.tmux(&["list-panes", "-s", "-F", "#{@host} #{pane_id}"]).ok().stdout;
        let of_host = list.lines().find_map(|line| line.strip_prefix(host)?.strip_prefix(' '));
        of_host.unwrap_or_else(|| panic!("{host} has no pane: {list}")).to_string()
    }

    /// Types a line into the pane of a host.
    #[track_caller]
    fn types(&self, host: &str, line: &str) {
        self.tmux(&["send-keys", "-t", &self.pane(host), line, "Enter"]).ok();
    }

    /// Waits until neither the server nor its socket is there, nor the process that waits for its end.
    #[track_caller]
    fn is_gone(&self) {
        let sockets = format!("find {} -name '{}*'", self.directory.display(), self.socket());
        eventually("the socket is gone", || {
            run(self.machine().command("sh").args(["-c", &sockets])).ok().stdout.is_empty()
        });
        // The brackets keep the line from finding itself.
        let name = &self.lab.name;
        let script = format!(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | \
             grep -E '[l]ab --lab {name} (shell|tmux)|[t]mux -L vpnlab-{name} '"
        );
        let running = || run(self.machine().command("sh").args(["-c", &script])).stdout;
        eventually("nothing of it runs any more", || running().is_empty());
    }
}

/// A terminal of 100 columns and 30 lines: a tmux that the user began with.
struct Screen<'d> {
    desk: &'d Desk,
}

impl<'d> Screen<'d> {
    #[track_caller]
    fn open(desk: &'d Desk) -> Self {
        let screen = Self { desk };
        screen
            .tmux(&[
                "-f",
                "/dev/null",
                "new-session",
                "-d",
                "-x",
                "100",
                "-y",
                "30",
                "-s",
                "mine",
                "env",
                "PS1=mine> ",
                "sh",
            ])
            .ok();
        screen
    }

    #[track_caller]
    fn tmux(&self, words: &[&str]) -> Done {
        run(self.desk.in_home("tmux").args(["-L", "outer"]).args(words))
    }

    #[track_caller]
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", line, "Enter"]).ok();
    }

    #[track_caller]
    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).ok().stdout
    }

    #[track_caller]
    fn comes_to_show(&self, texts: &[&str]) {
        let mut text = String::new();
        let started = std::time::Instant::now();
        while !texts.iter().all(|part| text.contains(part)) {
            assert!(started.elapsed() < common::PATIENCE, "{texts:?} is not all in\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(50));
            text = self.text();
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

for_each_user! {
    fn each_host_has_a_pane_with_its_title_its_prompt_and_its_network(user: User) {
        let desk = Desk::new(user);
        let said = desk.opens(&["--no-attach"]).ok().stdout;
        assert_eq!(said, format!("lab {0} is in tmux: tmux -L vpnlab-{0} attach\n", desk.lab.name));
        assert_eq!(desk.hosts(), ["useru", "server", "userv", "userw"]);
        for (host, address) in
            [("useru", "10.1.2.2/24"), ("server", "10.1.2.3/24"), ("userv", "10.1.1.2/24"), ("userw", "10.1.1.3/24")]
        {
            eventually("the prompt is there", || desk.shows(host).starts_with(&format!("{host}:$")));
            desk.types(host, "hostname; ip -4 -br address show dev eth0");
            eventually("the command has run on that host", || {
                let shown = desk.shows(host);
                shown.contains(&format!("\n{host}\n")) && shown.contains(address)
            });
        }
        // The handout's commands as typed, also those that want rights.
        desk.types("useru", "sudo vpnlab tun-ping --count 1");
        eventually("the program runs", || desk.shows("useru").contains("ip link set dev tun0 up"));
        desk.types("server", "ping -c1 10.1.3.4; echo over");
        desk.tmux(&["split-window", "-t", &desk.pane("useru"), "true"]);
        assert!(desk.lab.pings("useru", "10.1.3.4"));
        eventually("its line is there", || desk.shows("useru").contains("To tun <==: IP / ICMP 10.1.3.4 > 10.1.3.1 echo-reply 0"));
    }

    fn it_is_shown_in_a_terminal_with_titles_and_the_users_own_configuration(user: User) {
        let desk = Desk::new(user);
        let screen = Screen::open(&desk);
        let name = &desk.lab.name;
        screen.types(&format!("exec env -u TMUX {} lab --lab {name} tmux", vpnlab().display()));
        let prompts = ["useru:$", "server:$", "userv:$", "userw:$"];
        screen.comes_to_show(&[" useru ─", " server ─", " userv ─", " userw ─", "│", "hosts*"]);
        screen.comes_to_show(&prompts);
        assert!(screen.text().starts_with("── useru ─"), "the titles are on top:\n{}", screen.text());
        // The first pane is the one that is typed into.
        screen.types("echo I am on $(hostname)");
        eventually("it is useru's", || desk.shows("useru").contains("\nI am on useru\n"));
        let mine = desk.tmux(&["show-options", "-g", "-v", "prefix"]).ok().stdout;
        assert_eq!(mine, "C-a\n");
        // Left with the user's own key, it stays; and comes again as it was.
        let before = desk.tmux(&["list-panes", "-s", "-F", "#{pane_pid}"]).ok().stdout;
        screen.tmux(&["send-keys", "C-a", "d"]).ok();
        eventually("nobody is attached", || desk.tmux(&["list-clients"]).ok().stdout.is_empty());
        desk.opens(&["--no-attach"]).ok();
        assert_eq!(desk.tmux(&["list-panes", "-s", "-F", "#{pane_pid}"]).ok().stdout, before);
    }

    fn within_a_tmux_it_is_a_window_of_that_and_within_its_own_it_is_gone_to(user: User) {
        let desk = Desk::new(user);
        let screen = Screen::open(&desk);
        let command = format!("{} lab --lab {} tmux", vpnlab().display(), desk.lab.name);
        screen.types(&command);
        screen.comes_to_show(&[" useru ─", "useru:$"]);
        let windows = screen.tmux(&["list-windows", "-F", "#{window_name} #{window_active}"]).ok().stdout;
        assert_eq!(windows.lines().last(), Some(format!("{} 1", desk.socket()).as_str()), "{windows}");
        // A window of the lab's own tmux with a shell of the machine.
        desk.tmux(&["new-window", "-n", "machine", "env", "PS1=machine> ", "sh"]).ok();
        screen.comes_to_show(&["machine>"]);
        screen.types(&command);
        screen.comes_to_show(&[" useru ─", "useru:$"]);
        assert_eq!(desk.tmux(&["display-message", "-p", "#{window_name}"]).ok().stdout, "hosts\n");
        assert_eq!(desk.tmux(&["list-clients"]).ok().stdout.lines().count(), 1);
        // With the lab it ends, window and all, and the user's own stays.
        desk.tmux(&["kill-window", "-t", "machine"]).ok();
        desk.lab.lab(&["down"]).ok();
        desk.is_gone();
        eventually("the window is closed", || screen.tmux(&["list-windows"]).ok().stdout.lines().count() == 1);
        screen.comes_to_show(&["mine>"]);
    }

    fn hosts_can_be_chosen_more_than_once_and_added(user: User) {
        let desk = Desk::new(user);
        desk.opens(&["--no-attach", "--host", "useru", "--host", "router", "--host", "useru"]).ok();
        assert_eq!(desk.hosts(), ["useru", "router", "useru"]);
        desk.opens(&["--no-attach"]).ok();
        assert_eq!(desk.hosts().len(), 3, "it is shown as it is");
        desk.opens(&["--no-attach", "--host", "useru", "--host", "userv"]).ok();
        let mut hosts = desk.hosts();
        hosts.sort_unstable();
        assert_eq!(hosts, ["router", "useru", "useru", "userv"]);
        let done = desk.opens(&["--no-attach", "--host", "nobody"]).expect(2);
        assert!(done.stderr.contains("nobody"), "{done:#?}");
        // A shell that ends takes its pane along; without any the server ends.
        for host in ["router", "userv", "useru", "useru"] {
            eventually("the shell is there", || desk.shows(host).contains(":$"));
            let before = desk.hosts().len();
            desk.types(host, "exit");
            eventually("its pane is closed", || {
                desk.tmux(&["list-panes", "-s"]).stdout.lines().count() < before
            });
        }
        desk.is_gone();
    }

    fn it_ends_with_the_lab_and_a_new_lab_has_a_new_one(user: User) {
        let desk = Desk::new(user);
        desk.opens(&["--no-attach"]).ok();
        eventually("the shells are there", || desk.shows("userw").contains("userw:$"));
        desk.types("userw", "trap '' HUP TERM; sleep 1000");
        desk.lab.lab(&["down"]).ok();
        desk.is_gone();
        let done = desk.opens(&["--no-attach"]).expect(2);
        assert!(done.stderr.contains("is not up; bring it up: vpnlab lab up --lab "), "{done:#?}");
        desk.is_gone();
        desk.lab.lab(&["up"]).ok();
        desk.opens(&["--no-attach"]).ok();
        eventually("the shells are there", || desk.shows("useru").contains("useru:$"));
        desk.lab.lab(&["reset"]).ok();
        desk.types("useru", "echo still here");
        eventually("a reset leaves the shells", || desk.shows("useru").contains("\nstill here\n"));
        desk.lab.lab(&["down"]).ok();
        desk.is_gone();
    }

    fn a_session_of_a_lab_that_is_gone_is_not_taken_for_this_ones(user: User) {
        let desk = Desk::new(user);
        let name = desk.lab.name.clone();
        desk.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", &name, "sleep", "1000"]).ok();
        desk.opens(&["--no-attach"]).ok();
        assert_eq!(desk.hosts(), ["useru", "server", "userv", "userw"]);
    }

    fn without_tmux_it_says_what_to_type_in_so_many_terminals(user: User) {
        let desk = Desk::new(user);
        let mut command = desk.in_home("env");
        command.args(["-u", "SUDO_UID", "PATH=/nowhere"]).arg(vpnlab());
        let done = run(command.args(["lab", "--lab", &desk.lab.name, "tmux"])).expect(3);
        let lines = ["useru", "server", "userv", "userw"].map(|host| format!("vpnlab lab --lab {} shell {host}\n", desk.lab.name));
        assert_eq!(done.stdout, lines.concat());
        assert!(done.stderr.contains("there is no tmux here; open 4 terminals"), "{done:#?}");
    }

    fn without_a_terminal_and_on_a_host_it_says_so(user: User) {
        let desk = Desk::new(user);
        let done = desk.opens(&[]).expect(2);
        assert!(done.stderr.contains("this is no terminal") && done.stderr.contains("--no-attach"), "{done:#?}");
        let done = desk.lab.exec("useru", &["vpnlab", "lab", "tmux", "--no-attach"]).expect(2);
        assert!(done.stderr.contains("this is host useru of a lab"), "{done:#?}");
        desk.is_gone();
    }
}

#[test]
fn a_lab_that_is_killed_takes_its_tmux_with_it() {
    let desk = Desk::new(User::Plain);
    desk.opens(&["--no-attach"]).ok();
    eventually("the shells are there", || desk.shows("useru").contains("useru:$"));
    let keeper = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '[l]ab --lab {} up' && echo ${{p#/proc/}}; done",
        desk.lab.name
    );
    let pids = run(desk.machine().command("sh").args(["-c", &keeper])).stdout;
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(!pids.is_empty());
    run(desk.machine().command("kill").arg("-KILL").args(&pids)).ok();
    desk.is_gone();
}
