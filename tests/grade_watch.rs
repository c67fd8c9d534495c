//! `vpnlab grade --watch`: a submission is graded again when it changes, and Ctrl-C ends everything at once.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RIGHT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/submissions/right/sockets");

/// A copy of a right submission, removed with it.
struct Submission(PathBuf);

impl Submission {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vpnlab-watch-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        for entry in fs::read_dir(RIGHT).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() {
                fs::copy(&file, path.join(file.file_name().unwrap())).unwrap();
            }
        }
        Self(path)
    }

    fn change(&self, file: &str) {
        let text = fs::read_to_string(self.0.join(file)).unwrap();
        fs::write(self.0.join(file), text + "# changed\n").unwrap();
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `vpnlab grade --watch`, and what it says on either stream, line by line.
struct Watch {
    child: Child,
    said: Receiver<String>,
}

impl Watch {
    fn new(step: &str, folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
        command.args(["grade", "--step", step, "--watch"]).arg(folder).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vpnlab starts");
        let (teller, said) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let teller = teller.clone();
            thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(teller.send(line)));
            });
        }
        Self { child, said }
    }

    /// Waits for a line that begins so, and returns those before it.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.starts_with(wanted) => return before,
                Ok(line) => before.push(line),
                Err(error) => panic!("no line {wanted:?}: {error}; but {before:#?}"),
            }
        }
    }

    /// The processes that it has started.
    fn children(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    /// Sends the signal; it must end at once, and with success.
    fn end(mut self, signal: Signal) {
        let children = self.children();
        let started = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let is_there = |pid: &i32| Path::new(&format!("/proc/{pid}/exe")).exists();
        while children.iter().any(is_there) {
            assert!(started.elapsed() < Duration::from_secs(5), "they outlive it: {children:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_submission_is_graded_again_when_one_of_its_files_changes() {
    let submission = Submission::new("changes");
    let watch = Watch::new("1", &submission.0);
    let first = watch.until("Watching the files");
    assert!(!first.iter().any(|line| line.contains("FAILED")), "{first:#?}");
    submission.change("tun_ping.py");
    watch.until("== run 2: tun_ping.py changed ==");
    watch.until("Watching the files");
    // A file that cannot be there at once is back with the next change.
    fs::rename(submission.0.join("tun.py"), submission.0.join("other.py")).unwrap();
    watch.until("== run 3: other.py, tun.py changed ==");
    watch.until("Watching the files");
    watch.end(Signal::SIGINT);
}

#[test]
fn while_it_grades_it_ends_at_once_and_leaves_nothing() {
    let submission = Submission::new("ends");
    let watch = Watch::new("1", &submission.0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while watch.children().is_empty() {
        assert!(Instant::now() < deadline, "nothing is graded");
        thread::sleep(Duration::from_millis(10));
    }
    // Some way into it.
    thread::sleep(Duration::from_millis(600));
    watch.end(Signal::SIGTERM);
}

#[test]
fn a_program_has_no_signal_blocked_that_the_watch_has() {
    let watch = Watch::new("4", Path::new(RIGHT));
    let said = watch.until("Watching the files");
    assert!(!said.iter().any(|line| line.contains("ignores-sigterm") || line.contains("FAILED")), "{said:#?}");
    watch.end(Signal::SIGTERM);
}

#[test]
fn there_must_be_something_to_watch() {
    let output = Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(["grade", "--watch"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SUBMISSIONS"), "{said}");
}

#[test]
fn a_folder_that_is_not_there_ends_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_vpnlab")).args(["grade", "--watch", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
