//! Runs a submission's programs where they can do no harm: bubblewrap(1), with limits around it.
//!
//! Each program has process, mount, hostname and IPC namespaces of its own, on the network of one host. It sees a
//! read-only system, its own folder, and nothing private; it has CAP_NET_ADMIN and CAP_NET_RAW in that network, and no
//! other right. It is root of a user namespace whose root is a plain user.
//!
//! With `--no-sandbox` there is no bubblewrap: a program sees the machine as whoever grades does, has every right in its
//! lab, and could tamper with its grader. What is left is for programs that are trusted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use log::debug;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Context, Error, Result};
use crate::grade::apparmor;
use crate::grade::program::{FLOOD, Program, terminal};
use crate::grade::usage::{MEMORY, PROCESSES};
use crate::lab::{Lab, names, namespace};
use crate::programs;

/// The memory of one program, in virtual addresses, in bytes: Java reserves half of what there is, and needs much beside it.
const ADDRESSES: u64 = 64 << 30;

/// How many processes of one submission the kernel allows at all, threads among them.
const MOST_PROCESSES: u32 = 512;

/// The size of a folder that a program may write to, in bytes, of its /dev/shm, and of all else that is its own, like
/// /run and /var/log; how much processor time a process has, in seconds.
const DISK: u64 = 128 << 20;
const SHARED: u64 = 16 << 20;
const REST: u64 = 16 << 20;
const PROCESSOR: u32 = 60;

/// What bounds a submission's use of the machine, for the report.
pub fn limits(is_open: bool) -> Vec<String> {
    let walls = match is_open {
        false => {
            "bubblewrap: process, mount, hostname and IPC namespaces of its own; CAP_NET_ADMIN and CAP_NET_RAW alone"
        }
        true => "no sandbox (--no-sandbox): the programs saw the machine, and could have tampered with their grade",
    };
    vec![
        walls.into(),
        format!("memory: {} MB for all its programs, by a watcher; no memory cgroup is used", MEMORY >> 20),
        format!("processes: {PROCESSES}, by a watcher, and {MOST_PROCESSES} by RLIMIT_NPROC"),
        format!("disk: {} MB, by a tmpfs of that size; output: {} MB", DISK >> 20, FLOOD >> 20),
        format!("processor: {PROCESSOR} s for each process, by RLIMIT_CPU"),
    ]
}

/// The programs that the sandbox is made of, and what is in the place of it without: each with the package that has it.
const TOOLS: [(&str, &str); 2] = [("bwrap", "bubblewrap"), ("prlimit", "util-linux")];
const OPEN_TOOLS: [(&str, &str); 3] = [("unshare", "util-linux"), ("prlimit", "util-linux"), ("mount", "mount")];

/// Says what is missing for a sandbox, or without one where `is_open`.
///
/// # Errors
/// One of its programs is not there.
pub fn check(is_open: bool) -> Result<()> {
    let tools = if is_open { OPEN_TOOLS.as_slice() } else { &TOOLS };
    for (tool, package) in tools {
        if programs::on_path(tool).is_none() {
            return Err(Error::environment(format!("{tool} is missing, in which submissions are run")).hint(format!(
                "install the package {package}: sudo apt-get install {package}{}",
                match *tool {
                    "bwrap" => "; or, for programs that you trust, --no-sandbox",
                    _ => "",
                }
            )));
        }
    }
    Ok(())
}

/// How programs are run.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The copy of the submission's folder, and where the files of hosts are made.
    directory: PathBuf,
    /// This program, where it is itself what is graded: nobody else is to hand it in.
    own: Option<PathBuf>,
    /// What is shown read-only besides /usr: where Python lives, if not there.
    shown: Vec<PathBuf>,
    /// Whether there is none: only a host's names are the program's own.
    is_open: bool,
}

/// What programs find in the place of those that want the machine's own rights.
const STAND_INS: [(&str, &str); 2] = [("sudo", SUDO), ("modprobe", MODPROBE)];

/// The stand-in for sudo(8): programs have the rights that they need already.
const SUDO: &str = include_str!("sudo.sh");

/// The stand-in for modprobe(8): the kernel has its TUN devices already, and is given nothing else.
const MODPROBE: &str = r#"#!/bin/sh
for word; do
    case $word in
        -* | tun) ;;
        *) echo "modprobe: no module but tun is here: $word" >&2; exit 1 ;;
    esac
done
"#;

/// Gives a program the names of its host, where there is no sandbox: the host, the folder with its files, the command.
const FURNISH: &str = r#"
hostname "$1"
for name in hostname hosts resolv.conf; do
    [ ! -e /etc/$name ] || mount --bind "$2/$name" /etc/$name || exit 126
done
mount -t sysfs sysfs /sys 2>/dev/null
shift 2
exec "$@"
"#;

/// The folder of a submission, inside of its sandbox.
const WORK: &str = "/submission";

impl Sandbox {
    /// A sandbox whose folder is `directory`/work; what it needs besides is made in `directory`. `own` is this
    /// program, where it grades itself. Where `is_open`, there are no walls.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn new(directory: &Path, own: Option<PathBuf>, shown: Vec<PathBuf>, is_open: bool) -> Result<Self> {
        let making = || format!("cannot make the sandbox's files in {}", directory.display());
        for name in ["work", "programs"] {
            fs::create_dir_all(directory.join(name)).context(making)?;
        }
        for (name, text) in [
            ("passwd", "root:x:0:0:root:/submission:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
            ("group", "root:x:0:\nnogroup:x:65534:\n"),
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
        ] {
            fs::write(directory.join(name), text).context(making)?;
        }
        for (name, text) in STAND_INS {
            let program = directory.join("programs").join(name);
            fs::write(&program, text).context(making)?;
            fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).context(making)?;
        }
        if let Some(program) = own.as_ref().filter(|_| is_open) {
            symlink(program, directory.join("programs/vpnlab")).context(making)?;
        }
        Ok(Self { directory: directory.into(), own, shown, is_open })
    }

    /// The copy of the submission's folder, outside of the sandbox.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Starts a program on a host.
    ///
    /// # Errors
    /// The sandbox cannot be made. That the program itself cannot be started is told in its output.
    pub fn start(&self, lab: &Lab, host: &str, words: &[String]) -> Result<Program> {
        let failed = || format!("cannot start a sandbox on {host}");
        let described = lab.topology.host(host)?;
        let directory = self.directory.join(host);
        fs::create_dir_all(&directory).context(failed)?;
        for (name, text) in names::files(&lab.topology, described) {
            fs::write(directory.join(name), text).context(failed)?;
        }
        fs::write(directory.join("hostname"), format!("{host}\n")).context(failed)?;
        if !self.is_open {
            let seen = directory.join("sys");
            fs::create_dir_all(&seen).context(failed)?;
            namespace::inside(lab.network(host)?, || {
                show_interfaces(&seen);
                Ok(())
            })?;
        }
        fs::write(self.directory.join("topology.toml"), &lab.text).context(failed)?;
        let (screen, terminal) = terminal().context(failed)?;
        let mut command = Command::new("prlimit");
        // The sandbox's first process can be looked at from inside, its environment too.
        command.env_clear().env("PATH", SYSTEM);
        command.args([
            &format!("--nproc={MOST_PROCESSES}"),
            &format!("--as={ADDRESSES}"),
            &format!("--cpu={PROCESSOR}"),
            &format!("--fsize={DISK}"),
            "--nofile=1024:4096",
            "--core=0",
        ]);
        match self.is_open {
            false => command.args(apparmor::keeping_the_profile()).arg("bwrap").args(self.arguments(host)).arg("--"),
            true => self.furnish(&mut command, host),
        };
        command.args(words);
        // Nobody types anything; but a program that waits for Enter, or for its terminal among others, goes on waiting.
        let [input, output] = [terminal.try_clone(), terminal.try_clone()];
        command.stdin(input.context(failed)?).stdout(output.context(failed)?).stderr(terminal);
        // The child is in the network namespace of the thread that starts it.
        let child = namespace::inside(lab.network(host)?, || command.spawn().context(failed))?;
        drop(command);
        Ok(Program::new(host, words, child, screen))
    }

    /// Has a command run without walls: in the submission's folder, with the host's names.
    fn furnish<'c>(&self, command: &'c mut Command, host: &str) -> &'c mut Command {
        let own = |name: &str| self.directory.join(name).display().to_string();
        let programs = own("programs");
        command.current_dir(self.work()).envs(environment(&programs, &own("work"), &own("topology.toml"), host));
        // All that it starts goes with it, as far as it stays in the group.
        command.process_group(0);
        command.args(["unshare", "--mount", "--uts", "sh", "-c", FURNISH, "sh", host, &own(host)])
    }

    fn arguments(&self, host: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(ToString::to_string));
        add(&["--unshare-pid", "--unshare-uts", "--unshare-ipc", "--unshare-cgroup-try", "--hostname", host]);
        add(&["--die-with-parent", "--new-session"]);
        // Everything that is not mounted below is in this one; programs have their log or the number of their process there.
        add(&["--size", &REST.to_string(), "--tmpfs", "/"]);
        // Those that bubblewrap makes by itself, for what is in them, are for root alone.
        for directory in ["/run", "/run/programs", "/var", "/var/log", "/etc", "/etc/ssl"] {
            add(&["--dir", directory]);
        }
        add(&["--symlink", "/run", "/var/run", "--symlink", "/tmp", "/var/tmp", "--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = format!("/{name}");
            match fs::read_link(&path) {
                Ok(target) => add(&["--symlink", &target.to_string_lossy(), &path]),
                Err(_) => add(&["--ro-bind-try", &path, &path]),
            }
        }
        for path in settings() {
            add(&["--ro-bind-try", &path, &path]);
        }
        let own = |name: &str| self.directory.join(name).display().to_string();
        for name in ["passwd", "group", "nsswitch.conf"] {
            add(&["--ro-bind", &own(name), &format!("/etc/{name}")]);
        }
        for name in ["hostname", "hosts", "resolv.conf"] {
            add(&["--ro-bind", &own(&format!("{host}/{name}")), &format!("/etc/{name}")]);
        }
        for path in ["class/net", "devices/virtual/net"] {
            add(&["--ro-bind-try", &own(&format!("{host}/sys/{path}")), &format!("/sys/{path}")]);
        }
        for (name, _) in STAND_INS {
            add(&["--ro-bind", &own(&format!("programs/{name}")), &format!("/run/programs/{name}")]);
        }
        if let Some(program) = &self.own {
            add(&["--ro-bind", &program.display().to_string(), "/run/programs/vpnlab"]);
        }
        add(&["--ro-bind", &own("topology.toml"), "/run/topology.toml"]);
        add(&[
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--dev-bind",
            "/dev/net/tun",
            "/dev/net/tun",
            "--remount-ro",
            "/dev",
        ]);
        // POSIX semaphores and shared memory (shm_overview(7)): Python's multiprocessing wants them.
        add(&["--size", &SHARED.to_string(), "--tmpfs", "/dev/shm"]);
        add(&["--size", &DISK.to_string(), "--tmpfs", "/tmp", "--bind", &self.work().display().to_string(), WORK]);
        // A Python may live below /tmp, too.
        for path in &self.shown {
            let path = path.display().to_string();
            add(&["--ro-bind", &path, &path]);
        }
        add(&["--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN", "--cap-add", "CAP_NET_RAW", "--clearenv"]);
        for (name, value) in environment("/run/programs", WORK, "/run/topology.toml", host) {
            add(&["--setenv", name, &value]);
        }
        add(&["--chdir", WORK]);
        all
    }
}

/// Mounts a sysfs here, which shows the interfaces of the thread's network namespace, in place of another one's. A machine may
/// refuse it, as where its own is partly hidden; then programs see none.
fn show_interfaces(at: &Path) {
    let nothing: Option<&str> = None;
    let harmless = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = umount2(at, MntFlags::MNT_DETACH);
    if let Err(errno) = mount(Some("sysfs"), at, Some("sysfs"), harmless, nothing) {
        debug!("programs do not see their interfaces in /sys: {errno}");
    }
}

/// Where the machine's programs are.
pub const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What programs need of /etc, above all those that run a language: Debian's /usr has links into it. All of it comes with
/// packages and is public; where people keep their passwords, like /etc/pip.conf or php.ini, is not among it.
fn settings() -> Vec<String> {
    const FILES: [&str; 15] = [
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "alternatives",
        "localtime",
        "protocols",
        "services",
        "ethertypes",
        "mime.types",
        "ssl/certs",
        "ssl/openssl.cnf",
        "perl",
        "mono",
        "erlang",
        "fpc.cfg",
    ];
    // By their versions: java-17-openjdk, python3.11, lua5.4.
    const LANGUAGES: [&str; 3] = ["java-", "python3", "lua5"];
    let listed = fs::read_dir("/etc").into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let mut versions: Vec<_> = names.filter(|name| LANGUAGES.iter().any(|it| name.starts_with(it))).collect();
    versions.sort();
    FILES.into_iter().map(String::from).chain(versions).map(|name| format!("/etc/{name}")).collect()
}

/// The environment of a submission's program, where it sees these folders and this file.
fn environment(programs: &str, work: &str, topology: &str, host: &str) -> [(&'static str, String); 8] {
    [
        ("PATH", format!("{programs}:{SYSTEM}")),
        ("HOME", work.into()),
        ("LANG", "C.UTF-8".into()),
        ("TERM", "dumb".into()),
        ("PYTHONUNBUFFERED", "1".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("VPNLAB_HOST", host.into()),
        ("VPNLAB_TOPOLOGY", topology.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_languages_need_of_etc_is_shown_and_nothing_that_is_for_somebody_alone() {
        let shown = settings();
        assert!(shown.iter().any(|path| path == "/etc/alternatives"), "{shown:?}");
        for name in fs::read_dir("/etc").unwrap().flatten().filter_map(|it| it.file_name().into_string().ok()) {
            let is_shown = shown.contains(&format!("/etc/{name}"));
            assert!(is_shown || !name.starts_with("java-"), "{name}");
        }
        for path in &shown {
            let private = ["/etc", "/etc/ssl", "/etc/passwd", "/etc/shadow", "/etc/ssh", "/etc/npmrc", "/etc/pip.conf"];
            assert!(!private.contains(&path.as_str()), "{path}");
        }
    }

    /// What the stand-in prints and how it ends.
    fn sudo(words: &[&str]) -> (String, Option<i32>) {
        let done =
            Command::new("/bin/sh").args(["-c", SUDO, "sudo"]).args(words).env("SHELL", "/bin/sh").output().unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        (said.trim().to_string(), done.status.code())
    }

    #[test]
    fn sudo_runs_what_becomes_root() {
        for options in [
            &[][..],
            &["-S", "-p", ""],
            &["--user", "root"],
            &["--user=root", "-H"],
            &["-Eu", "root"],
            &["-Euroot"],
            &["-u", "#0", "-g", "root"],
            &["-n"],
            &["--"],
            &["-E", "--preserve-env=PATH", "--"],
            &["X=1", "-n"],
        ] {
            assert_eq!(sudo(&[options, &["echo", "-u", "a b"]].concat()), ("-u a b".into(), Some(0)), "{options:?}");
        }
        assert_eq!(sudo(&["-E", "X=a b", "sh", "-c", "echo $X"]), ("a b".into(), Some(0)));
        assert_eq!(sudo(&["-s", "echo shell"]), ("shell".into(), Some(0)));
        assert_eq!(sudo(&["-v"]), (String::new(), Some(0)));
        assert_eq!(sudo(&["false"]).1, Some(1));
    }

    #[test]
    fn sudo_refuses_what_it_cannot_do() {
        for words in [&["-u", "nobody", "true"][..], &["-Eunobody", "true"], &["--user=nobody", "true"]] {
            assert_eq!(sudo(words), ("sudo: programs run as root here, not as nobody".into(), Some(1)));
        }
        assert_eq!(sudo(&["-E", "-u"]), ("sudo: -u wants a value".into(), Some(1)));
        assert!(sudo(&["-E"]).0.contains("what shall be run?"));
    }
}
