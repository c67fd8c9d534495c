//! Runs a submission's programs where they can do no harm: bubblewrap(1), with limits around it.
//!
//! Each program has process, mount, hostname and IPC namespaces of its own, on the network of one host. It sees a
//! read-only system, its own folder, and nothing private; it has CAP_NET_ADMIN and CAP_NET_RAW in that network, and no
//! other right. It is root of a user namespace whose root is a plain user. What it prints goes through a pseudoterminal,
//! so that a program that buffers its lines for a pipe is heard as it is by its student.
//!
//! With `--no-sandbox` there is no bubblewrap: a program sees the machine as whoever grades does, has every right in its
//! lab, and could tamper with its grader. What is left is for programs that are trusted.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::grade::apparmor;
use crate::grade::model::Transcript;
use crate::lab::{Lab, names, namespace};
use crate::programs;

/// How much of what a program prints is kept, and after how much it is ended, in bytes.
const KEPT: usize = 256 << 10;
const FLOOD: usize = 16 << 20;

/// The memory of all programs together, in bytes; of one, in virtual addresses, which Python and scapy use many of.
const MEMORY: u64 = 512 << 20;
const ADDRESSES: u64 = 4 << 30;

/// How many processes the programs may have together, and how many of one submission the kernel allows at all.
const PROCESSES: usize = 64;
const MOST_PROCESSES: u32 = 128;

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
            "--nofile=1024",
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

/// A pseudoterminal that passes on what is written to it as it is; the side that is read, and the program's.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    let mut settings = tcgetattr(&pair.slave)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
    Ok((pair.master, pair.slave))
}

/// What a program has printed so far: the begin and the end of it.
#[derive(Debug, Default)]
struct Printed {
    begin: Vec<u8>,
    /// What came after the begin; all of it, or the last of it.
    end: VecDeque<u8>,
    total: usize,
    /// Whether nobody can print any more.
    is_over: bool,
}

impl Printed {
    fn take(&mut self, bytes: &[u8]) {
        const HALF: usize = KEPT / 2;
        let (begin, rest) = bytes.split_at((HALF - self.begin.len()).min(bytes.len()));
        self.begin.extend(begin);
        self.end.extend(rest);
        self.end.drain(..self.end.len().saturating_sub(HALF));
        self.total += bytes.len();
    }

    /// Whether what is between begin and end is not kept.
    fn has_gap(&self) -> bool {
        self.total > self.begin.len() + self.end.len()
    }

    /// What was printed after so many bytes, as far as it is kept.
    fn since(&self, mark: usize) -> String {
        let begin = self.begin.get(mark..).unwrap_or_default();
        let before_end = self.total - self.end.len();
        let mut end: Vec<u8> = self.end.iter().copied().skip(mark.saturating_sub(before_end)).collect();
        if self.has_gap() && mark < before_end {
            // A line of its own, and the first of the end is one of which there may be the last part alone.
            end.splice(..0, *b"\n[...]\n");
        }
        String::from_utf8_lossy(&[begin, &end].concat()).replace("\r\n", "\n")
    }
}

/// A program that runs in a sandbox; ended when dropped.
#[derive(Debug)]
pub struct Program {
    host: String,
    command: String,
    child: Child,
    printed: Arc<Mutex<Printed>>,
    ended: Option<ExitStatus>,
    killed: Option<String>,
}

impl Program {
    fn new(host: &str, words: &[String], child: Child, screen: OwnedFd) -> Self {
        let printed = Arc::new(Mutex::new(Printed::default()));
        let writer = Arc::clone(&printed);
        thread::spawn(move || {
            let mut screen = fs::File::from(screen);
            let mut buffer = [0; 4096];
            // The program's end is EIO here (pty(7)).
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                writer.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..length]);
            }
            writer.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        });
        Self { host: host.into(), command: words.join(" "), child, printed, ended: None, killed: None }
    }

    /// The host that it runs on.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// What it has printed, as text; of much the begin and the end.
    pub fn output(&self) -> String {
        self.output_since(0)
    }

    /// How many bytes it has printed.
    pub fn printed(&self) -> usize {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// What it has printed after so many bytes, as text.
    pub fn output_since(&self, mark: usize) -> String {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).since(mark)
    }

    /// Ends it if it has printed more than anybody can read.
    pub fn watch(&mut self) {
        if self.printed() > FLOOD && self.runs() {
            self.kill(&format!("it printed more than {} MB", FLOOD >> 20));
        }
    }

    /// Ends it as Ctrl-C does, so that it can put back what it has changed; and after a while, whatever it does.
    pub fn end(&mut self, why: &str) {
        const PATIENCE: Duration = Duration::from_millis(500);
        if self.killed.is_none() && self.runs() {
            self.killed = Some(why.into());
            for pid in descendants(self.child.id() as i32) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
            }
            self.wait(PATIENCE);
        }
        self.kill(why);
    }

    /// Says that it has ended, or is about to, for a reason of the grader's.
    pub fn was_ended(&mut self, why: &str) {
        self.killed.get_or_insert_with(|| why.into());
    }

    /// Ends it, and all that it has started.
    pub fn kill(&mut self, why: &str) {
        self.was_ended(why);
        // bubblewrap's own process; with it goes the first of the program's process namespace, and so all of that. Without
        // a sandbox it leads a group.
        let _ = kill(Pid::from_raw(-(self.child.id() as i32)), Signal::SIGKILL);
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// Waits a while for its end.
    pub fn wait(&mut self, patience: Duration) -> bool {
        let started = Instant::now();
        while self.runs() && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        !self.runs()
    }

    /// Waits a while until all that it printed, to its end, has been read.
    pub fn wait_for_output(&self, patience: Duration) {
        let started = Instant::now();
        let is_over = || self.printed.lock().unwrap_or_else(PoisonError::into_inner).is_over;
        while !is_over() && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The exit code of a program that has ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        self.ended.filter(|_| self.killed.is_none()).and_then(|status| status.code())
    }

    /// What it printed, and how it ended.
    pub fn transcript(&mut self) -> Transcript {
        let is_running = self.runs();
        let end = match (&self.killed, self.ended) {
            (Some(why), _) => format!("ended by the grader: {why}"),
            _ if is_running => "still running".into(),
            (None, Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            },
            (None, None) => "gone".into(),
        };
        let truncated = self.printed.lock().unwrap_or_else(PoisonError::into_inner).has_gap();
        Transcript { host: self.host.clone(), command: self.command.clone(), output: self.output(), truncated, end }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.runs() {
            self.end("the check was over");
        }
    }
}

/// The processes of all sandboxes: everything in this process namespace but the grader itself.
fn inhabitants() -> Vec<i32> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own).collect()
}

/// The processes that a process has started, and those that these have; without bubblewrap's own, which a signal would end.
fn descendants(of: i32) -> Vec<i32> {
    let told = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((pid, fields.split(' ').nth(1)?.parse::<i32>().ok()?, name == "bwrap"))
    };
    let all: Vec<(i32, i32, bool)> = inhabitants().into_iter().filter_map(told).collect();
    let mut found = vec![of];
    let mut place = 0;
    while let Some(parent) = found.get(place).copied() {
        found.extend(all.iter().filter(|(_, its, _)| *its == parent).map(|(pid, ..)| *pid));
        place += 1;
    }
    found.retain(|pid| all.iter().any(|(it, _, is_bubblewrap)| it == pid && !is_bubblewrap));
    found
}

/// The sum of some lines of a process's file in /proc, in bytes: each is a name, a number and `kB` (proc_pid_status(5)).
fn kilobytes(pid: i32, file: &str, names: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let numbers = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let number = rest.split_whitespace().next()?.parse::<u64>().ok()?;
        names.contains(&name).then_some(number)
    });
    numbers.sum::<u64>() << 10
}

/// How many seconds of processor time the programs that run have used (proc_pid_stat(5), utime and stime).
pub fn computed() -> f64 {
    let ticks = inhabitants().into_iter().map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    });
    // The kernel tells them in hundredths of a second on every Linux (sysconf(3), _SC_CLK_TCK).
    ticks.sum::<u64>() as f64 / 100.0
}

/// How many seconds of processor time the programs that run have wanted: what they used, and what they waited for while
/// others used it; where the kernel does not tell that, what they used.
pub fn wanted() -> f64 {
    scheduled().map_or_else(computed, |(used, waited)| used + waited)
}

/// How many seconds the programs that run have waited for a processor while others used it; none where that is not told.
pub fn starved() -> f64 {
    scheduled().map_or(0.0, |(_, waited)| waited)
}

/// The seconds that the threads of all programs have run, and have waited to run (/proc/PID/task/TID/schedstat,
/// Documentation/scheduler/sched-stats.rst).
fn scheduled() -> Option<(f64, f64)> {
    let tasks = inhabitants().into_iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task"))).flatten().flatten();
    let told = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut seconds = text.split(' ').map_while(|word| word.parse::<u64>().ok()).map(|it| it as f64 / 1e9);
        Some((seconds.next()?, seconds.next()?))
    });
    told.reduce(|sum, it| (sum.0 + it.0, sum.1 + it.1))
}

/// Says whether the programs use more of the machine than they may.
fn excess() -> Option<String> {
    let all = inhabitants();
    if all.len() > PROCESSES {
        return Some(format!("it had more than {PROCESSES} processes"));
    }
    let sum = |file: &str, names: &[&str]| all.iter().map(|pid| kilobytes(*pid, file, names)).sum::<u64>();
    // What several share counts several times here, so that the exact number, which costs more, is asked for seldom.
    let is_large = sum("status", &["RssAnon", "RssShmem"]) > MEMORY;
    (is_large && sum("smaps_rollup", &["Pss_Anon", "Pss_Shmem"]) > MEMORY)
        .then(|| format!("it used more than {} MB of memory", MEMORY >> 20))
}

/// Looks at the programs all the time, and ends them all if they use more of the machine than they may.
#[derive(Debug)]
pub struct Watcher {
    found: Arc<Mutex<Option<String>>>,
    over: Arc<AtomicBool>,
}

impl Watcher {
    /// Begins to look.
    pub fn start() -> Self {
        const PAUSE: Duration = Duration::from_millis(50);
        let (found, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let watcher = Self { found: Arc::clone(&found), over: Arc::clone(&over) };
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if let Some(excess) = excess() {
                    found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(excess);
                    kill_all(&inhabitants());
                }
                thread::sleep(PAUSE);
            }
        });
        watcher
    }

    /// What was too much, if anything was.
    pub fn excess(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Ends every process of the submission, whatever it is and wherever it went; returns when none is left.
pub fn end_all() {
    let started = Instant::now();
    loop {
        let left = inhabitants();
        if left.is_empty() || started.elapsed() > Duration::from_secs(5) {
            return;
        }
        kill_all(&left);
        // This is the first process here: what has lost its parent is its to bury.
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        thread::sleep(Duration::from_millis(2));
    }
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

    #[test]
    fn of_what_is_printed_the_begin_and_the_end_are_kept() {
        let mut printed = Printed::default();
        printed.take(b"begin\r\n");
        assert_eq!(
            (printed.since(0), printed.since(3), printed.since(7)),
            ("begin\n".into(), "in\n".into(), "".into())
        );
        for _ in 0..KEPT / 8 {
            printed.take(b"a line.\n");
        }
        assert!(printed.has_gap() && printed.begin.len() + printed.end.len() == KEPT);
        let mark = printed.total;
        assert_eq!(printed.since(mark), "");
        printed.take(b"the end\n");
        assert_eq!((printed.since(mark), printed.since(mark - 6)), ("the end\n".into(), "line.\nthe end\n".into()));
        let all = printed.since(0);
        assert!(all.starts_with("begin\na line.") && all.contains("\n[...]\n") && all.ends_with("line.\nthe end\n"));
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
