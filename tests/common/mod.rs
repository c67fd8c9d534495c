//! What every end-to-end test stands on: a user to be, a lab of one's own, programs in its hosts, and waiting for a
//! state with a deadline.
//!
//! Each test runs as two users: as a plain user, and as root. Root is either the real one or that of a user namespace,
//! in both cases with a /run and an /etc of its own, so that the machine's own are never touched. A test that cannot
//! run panics and says why.
#![allow(dead_code)] // each test file uses its own part

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};

pub mod browser;
pub mod terminal;

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whom a test is run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Plain,
    Root,
}

/// Makes two tests of one: `NAME::as_a_plain_user` and `NAME::as_root`.
#[macro_export]
macro_rules! for_each_user {
    ($(fn $name:ident($user:ident: User) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn check($user: common::User) $body
            #[test]
            fn as_a_plain_user() {
                check(common::User::Plain);
            }
            #[test]
            fn as_root() {
                check(common::User::Root);
            }
        }
    )*};
}

/// A user on this machine, with a vpnlab that they can run.
pub struct Machine {
    pub user: User,
    /// For root, and for a plain user apart: the process whose namespaces hold a /run and an /etc of their own.
    holder: Option<Child>,
}

impl Machine {
    pub fn new(user: User) -> Self {
        let holder = (user == User::Root).then(|| private_machine(user));
        Self { user, holder }
    }

    /// A plain user on a machine apart, where no labs but this user's own are to be found, whatever their names.
    pub fn apart() -> Self {
        Self { user: User::Plain, holder: Some(private_machine(User::Plain)) }
    }

    /// A command run as this user, with the signals as a terminal's shell has them: whoever runs the tests in the
    /// background may have SIGINT ignored, and every program would inherit that.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match (&self.holder, getuid().is_root()) {
            (Some(holder), is_root) => {
                let mut command = Command::new("nsenter");
                if !is_root {
                    command.args(["--preserve-credentials", "--user"]);
                }
                command.args(["--mount", "--pid", "--net", "--wd=/", "--target"]);
                command.arg(namespace_pid(holder).to_string()).arg("--");
                if self.user == User::Plain && is_root {
                    command.args(NOBODY);
                }
                command.args(["env", "--default-signal"]);
                command
            }
            (None, true) => {
                let mut command = Command::new(NOBODY[0]);
                command.args(&NOBODY[1..]).args(["env", "--default-signal"]);
                command
            }
            (None, false) => {
                let mut command = Command::new("env");
                command.arg("--default-signal");
                command
            }
        };
        command.arg(program).current_dir("/").stdin(Stdio::null());
        command.env_remove("VPNLAB_HOST").env_remove("VPNLAB_TOPOLOGY").env("LC_ALL", "C");
        command
    }

    /// `vpnlab demo` with these arguments. The root of a user namespace runs it with vpnlab's own tcpdump: the machine's
    /// wants to become another user, and such a namespace has one user only.
    pub fn demo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("env");
        if self.user == User::Root && !getuid().is_root() {
            command.arg(format!("PATH={OWN_PROGRAMS}:{}", std::env::var("PATH").unwrap_or_default()));
        }
        command.arg(vpnlab()).arg("demo").args(arguments);
        command
    }

    /// Runs `vpnlab` with these arguments to its end.
    pub fn vpnlab(&self, arguments: &[&str]) -> Done {
        run(self.command(vpnlab()).args(arguments))
    }

    /// Starts `vpnlab` with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.command(vpnlab()).args(arguments))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// Runs a command as a user that owns nothing.
const NOBODY: [&str; 6] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"];

/// Where vpnlab is by the name of tcpdump, in root's own /run.
const OWN_PROGRAMS: &str = "/run/programs";

/// A shell that holds mount, process and network namespaces in which this user has a /run and an /etc of their own.
fn private_machine(user: User) -> Child {
    let mut unshare = Command::new("unshare");
    match (getuid().is_root(), user) {
        (true, _) => {}
        (false, User::Root) => _ = unshare.args(["--user", "--map-root-user"]),
        (false, User::Plain) => _ = unshare.args(["--user", "--map-current-user", "--keep-caps"]),
    }
    // /etc is a copy of what can be read of it, but for the machine's own /etc/netns.
    let script = "set -e; umount -R /run/netns 2>/dev/null || true; mount -t tmpfs tmpfs /run; \
        cp -a /etc /run/ 2>/dev/null || true; rm -rf /run/etc/netns; mount --bind /run/etc /etc; \
        mount -t tmpfs tmpfs /run; ip link set lo up 2>/dev/null || true; mkdir /run/programs; \
        ln -s \"$1\" /run/programs/tcpdump; echo ready; exec sleep infinity";
    unshare.args([
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    unshare.arg(vpnlab());
    let mut holder = unshare
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("unshare (util-linux) makes namespaces");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("its output is a pipe")).read_line(&mut line).expect("it can be read");
    assert_eq!(line, "ready\n", "root's own /run and /etc cannot be made here: see the message above");
    holder
}

/// The first process of the holder's process namespace: unshare's child.
fn namespace_pid(holder: &Child) -> u32 {
    let path = format!("/proc/{0}/task/{0}/children", holder.id());
    let children = std::fs::read_to_string(path).expect("the holder has a child");
    children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("the holder has a child")
}

/// The vpnlab under test, where every user can run it.
pub fn vpnlab() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_vpnlab"));
        if !getuid().is_root() {
            return built.to_path_buf();
        }
        // Root's home may be closed to others.
        // What root runs stands where nobody else can have prepared it: mkdtemp(3) makes a new directory, or fails.
        let directory = nix::unistd::mkdtemp("/tmp/vpnlab-test-XXXXXX").expect("/tmp can be written");
        let copy = directory.join("vpnlab");
        std::fs::copy(built, &copy).expect("vpnlab can be copied to /tmp");
        for path in [&directory, &copy] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("its mode can be set");
        }
        remove_at_exit(directory);
        copy
    })
}

/// Removes a directory when this test process has ended, however it ends.
pub fn remove_at_exit(directory: PathBuf) {
    let script = format!(
        "while kill -0 {} 2>/dev/null; do sleep 0.2; done; rm -rf '{}'",
        std::process::id(),
        directory.display()
    );
    let cleaner = Command::new("setsid")
        .args(["sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    assert!(cleaner.is_ok(), "a cleaner cannot be started: {cleaner:?}");
}

/// What a command that has ended did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Panics unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.stderr.contains("panicked at"), "{self:#?}");
        self
    }

    /// Panics unless it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }
}

/// Runs a command to its end, which has to come within [`PATIENCE`].
#[track_caller]
pub fn run(command: &mut Command) -> Done {
    let shown = format!("{command:?}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let pid = child.id();
    let ended = Arc::new(Mutex::new(false));
    let watch = Arc::clone(&ended);
    thread::spawn(move || {
        let started = Instant::now();
        while !*watch.lock().unwrap() {
            if started.elapsed() > 3 * PATIENCE {
                eprintln!("killed, since it takes too long: {shown}");
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut stderr = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        text
    });
    let mut stdout = Vec::new();
    let _ = child.stdout.take().unwrap().read_to_end(&mut stdout);
    let status = child.wait().unwrap();
    *ended.lock().unwrap() = true;
    Done::of(Output { status, stdout, stderr: errors.join().unwrap() })
}

/// A program that runs while the test goes on; killed when dropped.
pub struct Program {
    child: Child,
    shown: String,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Program {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, shown, stdout, stderr }
    }

    /// Starts a program that reads what is written to the second.
    #[track_caller]
    pub fn start_with_input(command: &mut Command) -> (Self, ChildStdin) {
        let mut program = Self::start(command.stdin(Stdio::piped()));
        let input = program.child.stdin.take().expect("its input is a pipe");
        (program, input)
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The program's process: what `nsenter` started, where that was needed to be root.
    pub fn pid(&self) -> Pid {
        let id = self.child.id();
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let inner = || read(&format!("task/{id}/children")).split_whitespace().next()?.parse().ok();
        let waits_for_another = read("comm").trim_end() == "nsenter";
        Pid::from_raw(waits_for_another.then(inner).flatten().unwrap_or(id as i32))
    }

    /// Waits until the program has printed this, to either stream.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let started = Instant::now();
        // What a program has printed is seen a moment later, also after its end.
        let mut last_alive = started;
        while !self.stdout().contains(text) && !self.stderr().contains(text) {
            let ended = self.child.try_wait().unwrap();
            if ended.is_none() {
                last_alive = Instant::now();
            }
            if started.elapsed() > PATIENCE || last_alive.elapsed() > Duration::from_secs(2) {
                panic!(
                    "{} did not print {text:?} (ended: {ended:?})\nstdout: {}\nstderr: {}",
                    self.shown,
                    self.stdout(),
                    self.stderr()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|errno| panic!("{}: {errno}", self.shown));
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} does not end\nstdout: {}\nstderr: {}",
                self.shown,
                self.stdout(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        };
        // The readers see the end of the streams a moment later.
        let settled = |text: &Arc<Mutex<String>>| {
            let started = Instant::now();
            while Arc::strong_count(text) > 1 && started.elapsed() < Duration::from_secs(2) {
                thread::sleep(Duration::from_millis(1));
            }
            text.lock().unwrap().clone().into_bytes()
        };
        Done::of(Output { status, stdout: settled(&self.stdout), stderr: settled(&self.stderr) })
    }

    /// Ends the program as Ctrl-C does, and waits for its end.
    #[track_caller]
    pub fn interrupt(self) -> Done {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Ends the program with SIGTERM, and waits for its end.
    #[track_caller]
    pub fn terminate(self) -> Done {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&text);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            writer.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// A lab of the test's own; ended when dropped, and when the test process is killed.
pub struct Lab {
    pub machine: Machine,
    pub name: String,
}

impl Lab {
    /// A fresh lab.
    #[track_caller]
    pub fn up(user: User) -> Self {
        Self::up_at(user, 0)
    }

    /// A lab as a student has it at the start of a step.
    #[track_caller]
    pub fn up_at(user: User, step: u8) -> Self {
        Self::up_with(user, &["--step", &step.to_string()])
    }

    /// A lab brought up with further options.
    #[track_caller]
    pub fn up_with(user: User, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let machine = Machine::new(user);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let owner = std::process::id().to_string();
        let mut arguments = vec!["lab", "--lab", &name, "up"];
        // In root's own process namespace this process cannot be seen; there the namespace itself ends with the test.
        if user == User::Plain {
            arguments.extend(["--owner", &owner]);
        }
        arguments.extend(options);
        machine.vpnlab(&arguments).ok();
        Self { machine, name }
    }

    fn arguments<'a>(&'a self, host: &'a str, command: &[&'a str]) -> Vec<&'a str> {
        [&["lab", "--lab", &self.name, "exec", host, "--"], command].concat()
    }

    /// Runs a command on a host to its end.
    #[track_caller]
    pub fn exec(&self, host: &str, command: &[&str]) -> Done {
        self.machine.vpnlab(&self.arguments(host, command))
    }

    /// Runs a shell script on a host to its end.
    #[track_caller]
    pub fn sh(&self, host: &str, script: &str) -> Done {
        self.exec(host, &["sh", "-c", script])
    }

    /// Starts a command on a host.
    #[track_caller]
    pub fn start(&self, host: &str, command: &[&str]) -> Program {
        self.machine.start(&self.arguments(host, command))
    }

    /// Runs another `vpnlab lab` command on this lab.
    #[track_caller]
    pub fn lab(&self, arguments: &[&str]) -> Done {
        self.machine.vpnlab(&[&["lab", "--lab", &self.name], arguments].concat())
    }

    /// Whether a ping from a host is answered; the ping itself has to work.
    #[track_caller]
    pub fn pings(&self, host: &str, to: &str) -> bool {
        let done = self.exec(host, &["ping", "-c1", "-W1", to]);
        assert!(
            done.code == 0 || (done.code == 1 && done.stdout.contains("0 received")),
            "ping does not work: {done:#?}"
        );
        done.code == 0
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let done = self.machine.vpnlab(&["lab", "--lab", &self.name, "down"]);
        if !thread::panicking() {
            done.ok();
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "this never came about: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
