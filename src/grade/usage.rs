//! What a submission's programs use of the machine, and the end of all of them. They are in one process namespace, of which the
//! grader's worker is the first process.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The memory of all programs together, in bytes.
pub const MEMORY: u64 = 512 << 20;

/// How many processes the programs may have together.
pub const PROCESSES: usize = 64;

/// The processes of all sandboxes: everything in this process namespace but the grader itself.
pub fn inhabitants() -> Vec<i32> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own).collect()
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
