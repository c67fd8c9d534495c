//! `vpnlab doctor`: on this machine, and on this machine with each thing taken away: the line, the JSON, the exit code.
//!
//! What is taken away is hidden in a mount namespace, or refused by a seccomp filter, for the doctor alone.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::terminal::Terminal;
use common::{Done, Machine, User, run};
use nix::libc;
use serde_json::Value;

/// What a doctor found: its exit code, its JSON, and its table.
struct Seen {
    code: i32,
    json: Value,
    table: String,
}

impl Seen {
    /// Runs both forms of a command that ends with the arguments of vpnlab.
    #[track_caller]
    fn of(command: impl Fn(&[&str]) -> Command) -> Self {
        let [table, json] = [&["doctor"][..], &["doctor", "--json"]].map(|arguments| run(&mut command(arguments)));
        for done in [&table, &json] {
            assert_eq!(done.stderr, "", "{done:#?}");
        }
        assert_eq!(table.code, json.code, "{table:#?}");
        let value: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json:#?}"));
        assert_eq!(value["version"], 1);
        assert_eq!(value["passed"], json.code == 0, "{json:#?}");
        Self { code: json.code, json: value, table: table.stdout }
    }

    #[track_caller]
    fn finding(&self, id: &str) -> &Value {
        let all = self.json["findings"].as_array().expect("findings are a list");
        all.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id} in {}", self.table))
    }

    /// Panics unless the finding is in this state, with these words in what was seen and in the remedy; both in the table.
    #[track_caller]
    fn is(&self, id: &str, state: &str, seen: &str, remedy: &str) -> &Self {
        let finding = self.finding(id);
        assert_eq!(finding["state"], state, "{}", self.table);
        assert!(finding["seen"].as_str().unwrap().contains(seen), "{finding:#}");
        assert!(finding["remedy"].as_str().unwrap_or_default().contains(remedy), "{finding:#}");
        let word = if state == "untried" { "not tried" } else { state };
        let title = finding["title"].as_str().unwrap();
        let line = format!("  {word:<9} {title:<22} ");
        let found = self.table.lines().position(|line_of_table| line_of_table.starts_with(&line));
        let at = found.unwrap_or_else(|| panic!("{line:?} does not begin a line of:\n{}", self.table));
        let shown: Vec<&str> = self.table.lines().skip(at).take(2).collect();
        assert!(shown[0].ends_with(finding["seen"].as_str().unwrap()), "{shown:?}");
        if let Some(remedy) = finding["remedy"].as_str() {
            assert_eq!(shown[1], format!("  {:<9} to get it: {remedy}", ""));
        }
        self
    }

    /// Panics unless this is what the summary says of a purpose, in JSON and in the table.
    #[track_caller]
    fn sums_up(&self, purpose: &str, answer: &str, because: &[&str]) -> &Self {
        let all = self.json["summary"].as_array().expect("the summary is a list");
        let summary = all.iter().find(|summary| summary["purpose"] == purpose).expect("there is the purpose");
        assert_eq!(summary["answer"], answer, "{}", self.table);
        assert_eq!(summary["because"], serde_json::json!(because), "{}", self.table);
        let line = format!("  {:<22} {answer:<9}", summary["title"].as_str().unwrap());
        let is_there = self
            .table
            .lines()
            .any(|shown| shown.starts_with(line.trim_end()) && because.iter().all(|title| shown.contains(title)));
        assert!(is_there, "{line:?} is not in:\n{}", self.table);
        self
    }

    #[track_caller]
    fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}", self.table);
        self
    }
}

/// A command for a user in a mount namespace of its own, where a shell script has hidden something. A plain user is one in a
/// user namespace of its own, and has no right of it.
fn hiding(machine: &Machine, script: &str, program: &[&str], arguments: &[&str]) -> Command {
    let mut command = machine.command("unshare");
    if machine.user == User::Plain {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    let drop = if machine.user == User::Plain { "setpriv --ambient-caps=-all --inh-caps=-all " } else { "" };
    command.args(["--mount", "sh", "-ec", &format!("{script}\nexec {drop}\"$@\""), "sh"]);
    command.args(program).arg(common::vpnlab()).args(arguments);
    command
}

/// What the doctor sees where these programs cannot be run, whatever names they have.
#[track_caller]
fn without_programs(machine: &Machine, programs: &[&str]) -> Seen {
    let hide = |program: &&str| format!("mount --bind /dev/null \"$(readlink -f \"$(command -v {program})\")\"\n");
    // From the last on: what hides things is hidden last.
    let script = format!("PATH=/usr/bin:/usr/sbin\n{}", programs.iter().map(hide).collect::<String>());
    Seen::of(|arguments| hiding(machine, &script, &[], arguments))
}

#[track_caller]
fn with_hidden(machine: &Machine, script: &str) -> Seen {
    Seen::of(|arguments| hiding(machine, script, &[], arguments))
}

/// A system call that is refused: its number, which of its arguments have which bits, and what is done (seccomp(2)).
struct Refusal(i64, &'static [(u32, u32, u32)], u32);

/// SECCOMP_RET_KILL_PROCESS, and SECCOMP_RET_ERRNO with an error.
const KILL: u32 = 0x8000_0000;

fn fail(errno: i32) -> u32 {
    0x0005_0000 | errno as u32
}

/// Runs the rest of its arguments where the system calls named in the first are refused (seccomp(2)).
const FILTER: &str = "
import ctypes, json, os, struct, sys
code = [(0x20, 0, 0, 0)]                                    # the number
for number, arguments, action in json.loads(sys.argv[1]):
    test = []
    for index, mask, value in arguments:
        test += [(0x20, 0, 0, 16 + 8 * index), (0x54, 0, 0, mask), (0x15, 0, None, value)]
    test += [(0x06, 0, 0, action)]
    length = len(test)
    test = [(op, t, length - at - 1 if f is None else f, k) for at, (op, t, f, k) in enumerate(test)]
    code += [(0x15, 0, length, number)] + test + [(0x20, 0, 0, 0)]
code += [(0x06, 0, 0, 0x7fff0000)]
program = b''.join(struct.pack('HBBI', *line) for line in code)
buffer = ctypes.create_string_buffer(program)
header = struct.pack('HxxxxxxP', len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(header), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
";

/// What the doctor sees where the kernel refuses some system calls.
#[track_caller]
fn with_refused(machine: &Machine, refusals: &[Refusal]) -> Seen {
    let list: Vec<_> = refusals.iter().map(|Refusal(call, arguments, action)| (call, arguments, action)).collect();
    let list = serde_json::to_string(&list).unwrap();
    Seen::of(|arguments| {
        let mut command = machine.command("/usr/bin/python3");
        command.args(["-c", FILTER, &list]).arg(common::vpnlab()).args(arguments);
        command
    })
}

#[track_caller]
fn seen(machine: &Machine) -> Seen {
    Seen::of(|arguments| {
        let mut command = machine.command(common::vpnlab());
        command.args(arguments);
        command
    })
}

/// Prints what there is of all that an attempt may leave behind or change, where nobody else is at work: in network, mount and
/// process namespaces of its own. The doctor runs between the first time and the second, and something else before the third.
const TRACES: &str = "
mount -t tmpfs tmpfs /run; mkdir /run/temporary; export TMPDIR=/run/temporary
traces() {
    ip -o link; ip -o address; ip netns list; find /run /etc/netns 2>/dev/null | sort
    cut -d' ' -f4- /proc/self/mountinfo | sort; nft list tables
    sysctl -a 2>/dev/null | grep -e forward -e rp_filter -e user_namespaces
    cat /proc/net/unix | wc -l
    # First all, then sorted: sort itself would be among them, or not.
    processes=$(for process in /proc/[0-9]*; do cat $process/comm; done 2>/dev/null); echo \"$processes\" | sort -u
}
traces >/run/before
: >/run/after; : >/run/later
traces >/run/before
\"$@\" >/dev/null
traces >/run/after
touch /run/left; ip link add left0 type bridge
traces >/run/later
cmp /run/before /run/after || { diff /run/before /run/after; exit 9; }
diff /run/before /run/later | grep -c left
";

/// A folder of the test's own, which every user can read; removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = nix::unistd::mkdtemp("/tmp/vpnlab-doctor-XXXXXX").expect("/tmp can be written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the doctor sees with this in front of its path.
#[track_caller]
fn with_path(machine: &Machine, folder: &Path) -> Seen {
    Seen::of(|arguments| {
        let mut command = machine.command("env");
        command.arg(format!("PATH={}:/usr/bin:/usr/sbin", folder.display())).arg(common::vpnlab()).args(arguments);
        command
    })
}

/// A sudo that says where it looks for programs.
fn sudo_that_looks_in(folder: &Folder, path: &Path) {
    let line = format!("Value to override user's $PATH with: {}", path.display());
    folder.program("sudo", &format!("[ \"$1\" = -V ] || exit 9\nprintf '%s\\n' \"{}\"", line.replace('$', "\\$")));
}

for_each_user! {
    fn a_machine_that_is_set_up_has_all_that_is_needed(user: User) {
        let machine = Machine::new(user);
        let seen = seen(&machine);
        seen.ends(0);
        for finding in seen.json["findings"].as_array().unwrap() {
            let weighs = |purpose: &&str| finding["needed_for"].as_array().unwrap().iter().any(|it| it == purpose);
            if ["lab", "grading", "handout"].iter().any(weighs) {
                assert_eq!(finding["state"], "ok", "{}", seen.table);
            }
            assert_eq!(finding["remedy"].is_null(), ["ok", "untried"].contains(&finding["state"].as_str().unwrap()));
        }
        for purpose in ["lab", "grading", "handout"] {
            seen.sums_up(purpose, "yes", &[]);
        }
        let release = run(machine.command("uname").arg("-r")).ok().stdout;
        seen.is("linux", "ok", release.trim(), "").is("scapy", "ok", "scapy 2.", "");
    }

    fn it_leaves_nothing_and_changes_nothing(user: User) {
        let machine = Machine::new(user);
        let mut command = machine.command("unshare");
        if user == User::Plain {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-ec", TRACES, "sh"]);
        let done = run(command.arg(common::vpnlab()).arg("doctor")).ok();
        // Something that is left is seen: a file, a link, and its addresses or settings.
        assert!(done.stdout.trim().parse::<u32>().unwrap() >= 2, "{done:#?}");
    }

    fn without_the_tun_device_the_lab_and_grading_are_missing(user: User) {
        let machine = Machine::new(user);
        let seen = with_hidden(&machine, "mount -t tmpfs tmpfs /dev/net");
        seen.ends(3).is("tun-device", "missing", "it is not there", "sudo modprobe tun");
        seen.is("tun-interface", "missing", "cannot open /dev/net/tun", "modprobe tun");
        seen.is("tso", "untried", "for want of a TUN interface", "").is("veth", "ok", "", "");
        seen.sums_up("lab", "no", &["/dev/net/tun", "TUN interfaces"]);
        seen.is("sandbox", "untried", "for want of /dev/net/tun", "").is("scapy", "ok", "scapy 2.", "");
    }

    fn a_tun_device_that_is_none_is_told_from_one_that_is_missing(user: User) {
        let machine = Machine::new(user);
        let seen = with_hidden(&machine, "mount --bind /dev/null /dev/net/tun");
        seen.ends(3).is("tun-device", "ok", "can open it", "");
        seen.is("tun-interface", "missing", "is not the device of the TUN driver", "sudo mknod -m 0666 /dev/net/tun c 10 200");
    }

    fn without_bubblewrap_nothing_is_graded_but_the_rest_works(user: User) {
        let machine = Machine::new(user);
        let seen = without_programs(&machine, &["bwrap"]);
        seen.ends(3).is("bubblewrap", "missing", "there is no bwrap", "sudo apt-get install bubblewrap");
        seen.is("sandbox", "untried", "for want of bubblewrap", "").is("scapy", "ok", "scapy 2.", "");
        seen.sums_up("grading", "no", &["bubblewrap"]).sums_up("lab", "yes", &[]);
    }

    fn a_bubblewrap_that_does_not_work_is_no_bubblewrap(user: User) {
        let machine = Machine::new(user);
        let folder = Folder::new();
        let broken = folder.program("bwrap", "echo 'bwrap: it is forbidden' >&2; exit 1");
        let seen = with_hidden(&machine, &format!("mount --bind {} /usr/bin/bwrap", broken.display()));
        seen.ends(3).is("bubblewrap", "ok", "/usr/bin/bwrap", "");
        seen.is("sandbox", "missing", "bwrap: it is forbidden", "grade --no-sandbox").sums_up("grading", "no", &["the sandbox"]);
    }

    fn without_prlimit_there_is_no_sandbox(user: User) {
        let seen = without_programs(&Machine::new(user), &["prlimit"]);
        seen.ends(3).is("prlimit", "missing", "there is no prlimit", "sudo apt-get install util-linux");
        seen.sums_up("grading", "no", &["prlimit"]);
    }

    fn without_python_the_handouts_programs_cannot_be_graded(user: User) {
        let seen = without_programs(&Machine::new(user), &["python3"]);
        seen.ends(3).is("python3", "missing", "python3", "sudo apt-get install python3");
        seen.is("scapy", "untried", "for want of python3", "").is("sandbox", "ok", "a program ran in it", "");
        seen.sums_up("grading", "no", &["python3"]);
    }

    fn a_python_without_scapy_is_told_from_no_python(user: User) {
        let seen = with_hidden(&Machine::new(user), "mount -t tmpfs tmpfs /usr/lib/python3/dist-packages/scapy");
        seen.ends(3).is("python3", "ok", "Python 3.", "");
        seen.is("scapy", "missing", "No module named 'scapy.all'", "sudo apt-get install python3-scapy");
        seen.sums_up("grading", "no", &["scapy"]);
    }

    fn what_the_lab_has_stand_ins_for_or_what_is_only_pleasant_does_not_count(user: User) {
        let seen = without_programs(&Machine::new(user), &["tmux", "nft", "tcpdump", "traceroute", "ping"]);
        seen.ends(0);
        for (id, package) in [("ping", "iputils-ping"), ("traceroute", "traceroute"), ("tcpdump", "tcpdump")] {
            seen.is(id, "limited", "one of vpnlab's own is in its place", &format!("sudo apt-get install {package}"));
        }
        seen.is("tmux", "missing", "not there", "install tmux").is("nft", "missing", "not there", "install nftables");
        seen.sums_up("handout", "limited", &["ping", "traceroute", "tcpdump", "nft"]).sums_up("tmux", "no", &["tmux"]);
    }

    fn without_ip_or_sysctl_the_handout_cannot_be_followed(user: User) {
        let seen = without_programs(&Machine::new(user), &["ip", "sysctl"]);
        seen.ends(3).is("ip", "missing", "not there", "install iproute2").is("sysctl", "missing", "not there", "install procps");
        seen.sums_up("handout", "no", &["ip", "sysctl"]).sums_up("lab", "yes", &[]);
    }

    fn offloads_and_landlock_that_a_kernel_lacks_cost_speed_and_safety_only(user: User) {
        const TUNSETOFFLOAD: u32 = 0x4004_54d0;
        const SOL_UDP: (u32, u32, u32) = (1, u32::MAX, 17);
        let refused = [
            // TUN_F_USO4: what came with Linux 6.2.
            Refusal(libc::SYS_ioctl, &[(1, u32::MAX, TUNSETOFFLOAD), (2, 0x20, 0x20)], fail(libc::EINVAL)),
            Refusal(libc::SYS_getsockopt, &[SOL_UDP, (2, u32::MAX, 103)], fail(libc::ENOPROTOOPT)),
            Refusal(libc::SYS_setsockopt, &[SOL_UDP, (2, u32::MAX, 104)], fail(libc::ENOPROTOOPT)),
            Refusal(libc::SYS_landlock_create_ruleset, &[], fail(libc::EOPNOTSUPP)),
        ];
        let seen = with_refused(&Machine::new(user), &refused);
        seen.ends(0).is("tso", "ok", "", "").is("uso", "missing", "this kernel has none", "from 6.2 on");
        seen.is("udp-gso", "missing", "", "from 4.18 on").is("udp-gro", "missing", "", "from 5.0 on");
        seen.is("landlock", "missing", "not switched on", "lsm=");
        seen.sums_up("fast-path", "limited", &["USO", "UDP GSO", "UDP GRO"]).sums_up("lab", "yes", &[]);
    }

    fn an_attempt_that_a_filter_kills_is_told_and_not_taken_for_an_answer(user: User) {
        let killed = Refusal(libc::SYS_unshare, &[], KILL);
        let seen = with_refused(&Machine::new(user), &[killed]);
        seen.ends(3).sums_up("grading", "no", &["user namespaces", "network namespaces"]);
        assert!(seen.table.contains("its process was ended by SIGSYS"), "{}", seen.table);
    }

    fn sudos_path_is_that_of_sudo_and_holds_this_vpnlab_or_not(user: User) {
        let machine = Machine::new(user);
        let (programs, none, other, this) = (Folder::new(), Folder::new(), Folder::new(), Folder::new());
        other.program("vpnlab", "true");
        std::os::unix::fs::symlink(common::vpnlab(), this.0.join("vpnlab")).unwrap();
        sudo_that_looks_in(&programs, &this.0);
        with_path(&machine, &programs.0).ends(0).is("sudo-path", "ok", "sudo runs ", "").sums_up("steps", "yes", &[]);
        sudo_that_looks_in(&programs, &other.0);
        let seen = with_path(&machine, &programs.0);
        seen.ends(0).is("sudo-path", "limited", "sudo would run another vpnlab", "sudo ln -sf ");
        seen.sums_up("steps", "limited", &["sudo's path"]);
        sudo_that_looks_in(&programs, &none.0);
        let seen = with_path(&machine, &programs.0);
        match user {
            User::Plain => seen.is("sudo-path", "missing", "no vpnlab on it", "/usr/local/bin/vpnlab"),
            User::Root => seen.is("sudo-path", "ok", "no need of it", ""),
        };
        seen.ends(0);
    }
}

#[test]
fn a_tun_device_that_this_user_cannot_open_is_told_with_its_mode() {
    // Any file that is root's alone does.
    let seen = with_hidden(&Machine::new(User::Plain), "mount --bind /etc/shadow /dev/net/tun");
    seen.ends(3).is("tun-device", "missing", "this user cannot open it", "sudo chmod 0666 /dev/net/tun");
    seen.sums_up("lab", "no", &["/dev/net/tun", "TUN interfaces"]);
}

#[test]
fn forbidden_user_namespaces_are_told_by_what_forbids_them() {
    let machine = Machine::new(User::Plain);
    let seen = with_hidden(&machine, "echo 0 > /proc/sys/user/max_user_namespaces");
    seen.ends(3).is(
        "user-namespaces",
        "missing",
        "user.max_user_namespaces is 0",
        "sudo sysctl -w user.max_user_namespaces=",
    );
    seen.is("network-namespaces", "untried", "for want of a user namespace", "").is("bubblewrap", "ok", "", "");
    seen.sums_up("lab", "no", &["user namespaces"]);

    let refused = [Refusal(libc::SYS_unshare, &[(0, 0x1000_0000, 0x1000_0000)], fail(libc::EPERM))];
    let seen = with_refused(&machine, &refused);
    seen.ends(3).is(
        "user-namespaces",
        "missing",
        "a seccomp filter or a security module forbids it",
        "run outside the container",
    );
    seen.sums_up("lab", "no", &["user namespaces"]);
}

#[test]
fn root_whose_plain_user_may_make_no_user_namespace_has_a_lab_and_cannot_grade() {
    let machine = Machine::new(User::Root);
    let refused = [Refusal(libc::SYS_unshare, &[(0, 0x1000_0000, 0x1000_0000)], fail(libc::ENOSPC))];
    let seen = with_refused(&machine, &refused);
    seen.ends(3).is("user-namespaces", "missing", "a limit is reached", "user.max_user_namespaces=");
    seen.sums_up("lab", "yes", &[]);
}

#[test]
fn the_root_of_a_user_namespace_keeps_no_labs() {
    let machine = Machine::new(User::Plain);
    let seen = Seen::of(|arguments| {
        let mut command = machine.command("unshare");
        command.args(["--user", "--map-root-user"]).arg(common::vpnlab()).args(arguments);
        command
    });
    seen.is("root-labs", "missing", "/run/vpnlab cannot be written", "this root is none of the machine's").ends(3);
    assert!(
        seen.table.lines().any(|line| line.starts_with("  lab as root            no ") && line.contains("root's labs"))
    );
}

#[test]
fn a_root_without_capabilities_is_told_which_it_lacks() {
    let machine = Machine::new(User::Root);
    let without = |capability: &'static str| {
        let machine = &machine;
        Seen::of(move |arguments| {
            let mut command = machine.command("setpriv");
            command.args([&format!("--bounding-set=-{capability}"), &format!("--inh-caps=-{capability}"), "--"]);
            command.arg(common::vpnlab()).args(arguments);
            command
        })
    };
    let seen = without("net_admin");
    seen.ends(3).is("network-rights", "missing", "this root may not change the network", "CAP_NET_ADMIN");
    seen.is("network-namespaces", "missing", "this root may not change it", "CAP_NET_ADMIN");
    let seen = without("sys_admin");
    seen.ends(3).is("network-namespaces", "missing", "cannot make namespaces, though root", "CAP_SYS_ADMIN");
    seen.sums_up("lab", "no", &["network namespaces"]);
}

#[test]
fn a_plain_user_without_sudo_has_the_lab_but_no_rights_on_the_machine_itself() {
    let machine = Machine::new(User::Plain);
    let empty = Folder::new();
    // No sudo, whatever this machine has.
    let seen = Seen::of(|arguments| {
        let mut command = machine.command("env");
        command.arg(format!("PATH={}", empty.0.display())).arg(common::vpnlab()).args(arguments);
        command
    });
    seen.is("network-rights", "missing", "none, and no sudo", "setcap cap_net_admin+ep");
    seen.is("sudo-path", "untried", "for want of sudo", "");
    seen.sums_up("steps", "no", &["rights to the network"]).sums_up("lab", "yes", &[]);
    // With one, but where no program gets new rights.
    let programs = Folder::new();
    sudo_that_looks_in(&programs, &empty.0);
    let seen = Seen::of(|arguments| {
        let mut command = machine.command("setpriv");
        command.args(["--no-new-privs", "env", &format!("PATH={}:/usr/bin", programs.0.display())]);
        command.arg(common::vpnlab()).args(arguments);
        command
    });
    seen.ends(0).is("network-rights", "missing", "no_new_privs is set", "outside of this container");
}

#[test]
fn it_has_colours_on_a_terminal_alone_and_not_where_they_are_forbidden() {
    let machine = Machine::new(User::Plain);
    let vpnlab = common::vpnlab().display();
    let screen = |line: String| {
        let mut terminal = Terminal::open(&machine, &line);
        terminal.shows("lab tmux               ");
        terminal.shows("\n");
        terminal.screen()
    };
    assert!(screen(format!("TERM=xterm {vpnlab} doctor")).contains("\x1b[32mok       \x1b[0m veth pairs"));
    assert!(!screen(format!("TERM=xterm NO_COLOR=1 {vpnlab} doctor")).contains('\x1b'));
    assert!(!screen(format!("{vpnlab} doctor")).contains('\x1b'), "the terminal is a dumb one");
    assert!(!screen(format!("TERM=xterm {vpnlab} --color never doctor")).contains('\x1b'));
    let piped: Done = machine.vpnlab(&["doctor"]).ok();
    assert!(!piped.stdout.contains('\x1b'));
    assert!(machine.vpnlab(&["--color", "always", "doctor"]).ok().stdout.contains("\x1b[32mok"));
}

#[test]
fn an_error_of_the_machine_points_to_the_doctor() {
    let machine = Machine::new(User::Plain);
    let refused = machine.vpnlab(&["tun-read"]).expect(3);
    assert!(refused.stderr.trim_end().ends_with("; `vpnlab doctor` tells what this machine lacks"), "{refused:#?}");
    let other = machine.vpnlab(&["tun-read", "--mtu", "1"]).expect(2);
    assert!(!other.stderr.contains("vpnlab doctor"), "{other:#?}");
}

#[test]
fn on_a_host_of_a_lab_it_is_refused_as_other_commands_that_look_at_the_machine() {
    let lab = common::Lab::up(User::Plain);
    let refused = lab.exec("useru", &["vpnlab", "doctor"]).expect(2);
    assert!(refused.stderr.contains("this is host useru of a lab"), "{refused:#?}");
}
