//! What the processes of the two ends use, looked at again and again: memory, descriptors, threads.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::Lab;

/// A line of the report.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    pub was: String,
    pub must_be: String,
    pub holds: bool,
}

impl Row {
    pub fn new(what: &str, was: &str, must_be: &str, holds: bool) -> Self {
        Self { what: what.into(), was: was.into(), must_be: must_be.into(), holds }
    }
}

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// What may be added to memory after the beginning: what is touched for the first time, like the end of a buffer.
const NOISE_KB: u64 = 512;

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    at: Duration,
    memory_kb: u64,
    descriptors: u64,
    threads: u64,
    processes: u64,
}

/// One run of one end.
#[derive(Debug)]
struct Run {
    host: &'static str,
    pid: String,
    began: Instant,
    uses: Vec<Use>,
}

#[derive(Debug, Default)]
pub struct Sampled {
    runs: Vec<Run>,
    last: Option<Instant>,
    queues: HashMap<&'static str, u64>,
}

impl Sampled {
    /// An end has been started.
    pub fn begin(&mut self, host: &'static str, pid: &str) {
        self.runs.push(Run { host, pid: pid.into(), began: Instant::now(), uses: Vec::new() });
    }

    /// Looks, if it is time to: at the last run of each host, and at the queues there.
    #[track_caller]
    pub fn take(&mut self, lab: &Lab) {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        for host in ["useru", "server"] {
            let run = self.runs.iter_mut().rfind(|run| run.host == host).expect("both ends were started");
            // The process and those that it has started, each as: memory of its own, threads, descriptors. Then the bytes that wait in
            // sockets, and the packets that wait in the TUN device.
            let script = format!(
                "for pid in {0} $(cat /proc/{0}/task/*/children 2>/dev/null); do \
                    awk '/^RssAnon|^Threads/ {{ printf \"%s \", $2 }}' /proc/$pid/status; ls /proc/$pid/fd | wc -l; done; \
                 awk 'NR > 1 {{ split($5, q, \":\"); print \"queue\", q[2] }}' /proc/net/udp; \
                 tc -s qdisc show dev tun0 | awk '/backlog/ {{ print \"backlog\", $3 }}'",
                run.pid
            );
            let said = lab.sh(host, &script).stdout;
            let mut now = Use { at: run.began.elapsed(), ..Use::default() };
            for line in said.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                match words[..] {
                    ["queue", hex] => self.note("bytes in a socket", u64::from_str_radix(hex, 16).unwrap_or(0)),
                    ["backlog", _] => {
                        let packets = words[1].trim_end_matches('p').parse().unwrap_or(0);
                        self.note("packets in a TUN device", packets);
                    }
                    [_, _, _] => {
                        let run = &mut now;
                        run.memory_kb += number(0);
                        run.threads += number(1);
                        run.descriptors += number(2);
                        run.processes += 1;
                    }
                    _ => panic!("the processes of {host} cannot be looked at: {said}"),
                }
            }
            assert!(now.processes > 0 && now.descriptors > 0, "the processes of {host} cannot be looked at: {said}");
            let run = self.runs.iter_mut().rfind(|run| run.host == host).expect("it was there before");
            run.uses.push(now);
        }
    }

    fn note(&mut self, queue: &'static str, length: u64) {
        let longest = self.queues.entry(queue).or_default();
        *longest = length.max(*longest);
    }

    /// Compares the last part of each host's longest run with its beginning: the first minute, or a third of a shorter run.
    pub fn judge(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for host in ["useru", "server"] {
            let length = |run: &&Run| run.uses.last().map_or(Duration::ZERO, |last| last.at);
            let longest = self.runs.iter().filter(|run| run.host == host).max_by_key(length).expect("it has run");
            let beginning = (length(&longest) / 3).min(Duration::from_secs(60));
            let most = |of: fn(&Use) -> u64, late: bool| {
                longest.uses.iter().filter(|it| (it.at > beginning) == late).map(of).max().unwrap_or(0)
            };
            let end = longest.uses.last().copied().unwrap_or_default();
            let seconds = length(&longest).as_secs();
            let (first, then) = (most(|it| it.memory_kb, false), most(|it| it.memory_kb, true));
            let bound = first + first / 10 + NOISE_KB;
            rows.push(Row::new(
                &format!(
                    "memory of {host} ({seconds} s, {} process{})",
                    end.processes,
                    if end.processes == 1 { "" } else { "es" }
                ),
                &format!("{first} kB, then at most {then} kB"),
                &format!("at most {bound} kB"),
                then > 0 && then <= bound,
            ));
            for (name, of) in [("descriptors", (|it| it.descriptors) as fn(&Use) -> u64), ("threads", |it| it.threads)]
            {
                let (first, then) = (most(of, false), most(of, true));
                let was = format!("{first}, then at most {then}");
                rows.push(Row::new(
                    &format!("{name} of {host}"),
                    &was,
                    "no more than at first",
                    then > 0 && then <= first,
                ));
            }
        }
        // A socket is given 8 MiB, which the kernel doubles for its own needs; a TUN device has the queue of fq_codel(8).
        for (queue, bound) in [("bytes in a socket", 17 << 20), ("packets in a TUN device", 10_240)] {
            let longest = self.queues.get(queue).copied().unwrap_or(0);
            let was = format!("{longest} at most");
            rows.push(Row::new(&format!("queues: {queue}"), &was, &format!("at most {bound}"), longest <= bound));
        }
        rows
    }
}
