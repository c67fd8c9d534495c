//! What a stranger's flood and a full tunnel cost a client, side by side with what it has without them.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Lab, eventually};
use crate::fixtures::traffic::{Load, bytes_come, counter};
use crate::fixtures::{Running, program};
use crate::sampled::Row;

/// For how long is measured.
const WHILE: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;

/// How much a client may lose to a flood, and how much a full tunnel may add to a packet's time.
const LEAST_SHARE: f64 = 0.5;
const MOST_ADDED_MS: f64 = 20.0;

/// The times of many pings through the tunnel, in milliseconds, the shortest first.
#[track_caller]
fn times(lab: &Lab) -> Vec<f64> {
    let said = lab.exec("useru", &["ping", "-n", "-c400", "-i0.01", "-W5", "10.1.1.2"]).stdout;
    let mut times: Vec<f64> =
        said.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok()).collect();
    assert!(times.len() > 300, "pings are not answered: {said}");
    times.sort_by(f64::total_cmp);
    times
}

/// The time that so many of a hundred do not exceed.
fn of_a_hundred(times: &[f64], percent: usize) -> f64 {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn shown(times: &[f64]) -> String {
    let [half, most, longest] = [50, 95, 100].map(|percent| of_a_hundred(times, percent));
    format!("{half:.2} ms, 95 of 100 {most:.2}, longest {longest:.2}")
}

/// Bits a second that are written to the server's TUN device.
#[track_caller]
fn megabits(lab: &Lab) -> f64 {
    let (before, started) = (counter(lab, "server", "rx_bytes"), Instant::now());
    thread::sleep(WHILE);
    let (after, seconds) = (counter(lab, "server", "rx_bytes"), started.elapsed().as_secs_f64());
    (after - before) as f64 * 8.0 / 1e6 / seconds
}

/// With both ends of a tunnel running, ready.
#[track_caller]
pub fn measure(lab: &Lab) -> Vec<Row> {
    let mut rows = Vec::new();
    let row = |what: &str, was: &str| Row::new(what, was, "", true);
    let idle = times(lab);
    rows.push(row("a ping through the idle tunnel", &shown(&idle)));
    let mut added = |what: &str| {
        let busy = times(lab);
        let more = of_a_hundred(&busy, 50) - of_a_hundred(&idle, 50);
        let must_be = format!("half of them at most {MOST_ADDED_MS} ms more");
        rows.push(Row::new(what, &shown(&busy), &must_be, more <= MOST_ADDED_MS));
    };
    let up = Load::start(lab, "useru", "userv", "10.1.1.2");
    bytes_come(lab, "server", 10 << 20);
    added("a ping beside a full upload");
    up.end();
    let down = Load::start(lab, "userv", "useru", "10.1.3.1");
    bytes_come(lab, "useru", 10 << 20);
    added("a ping beside a full download");
    down.end();
    for kind in ["junk", "foreign", "invented"] {
        let (alone, beside, rate) = beside_a_flood(lab, kind);
        let share = beside / alone;
        let was =
            format!("{alone:.0} Mbit/s, then {beside:.0}: {:.0} % ({rate:.0} thousand datagrams/s)", share * 100.0);
        // An invented address that is free is a client's: what comes from there is carried like everything else.
        let (must_be, holds) = match kind {
            "invented" => ("not promised", true),
            _ => ("at least half", share >= LEAST_SHARE),
        };
        rows.push(Row::new(&format!("an upload beside a flood of {kind}"), &was, must_be, holds));
    }
    rows
}

/// What an upload has without and with a flood in turn, in Mbit/s, and how many thousand datagrams a second the flood has;
/// of several rounds the middle one.
#[track_caller]
fn beside_a_flood(lab: &Lab, kind: &str) -> (f64, f64, f64) {
    let (mut alone, mut beside, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Each round by itself: a flood that stopped the upload would leave nothing to compare the next with.
        let up = Load::start(lab, "useru", "userv", "10.1.1.2");
        bytes_come(lab, "server", 10 << 20);
        alone.push(megabits(lab));
        let before = arrived(lab);
        let seconds = (WHILE + Duration::from_secs(3)).as_secs().to_string();
        let flood = Running::start(lab, "mallory", &[&program("flood.c"), "10.1.2.3", "9090", &seconds, kind]);
        eventually("the flood arrives", || arrived(lab) > before + 50_000);
        let (before, started) = (arrived(lab), Instant::now());
        beside.push(megabits(lab));
        rates.push((arrived(lab) - before) as f64 / started.elapsed().as_secs_f64() / 1000.0);
        flood.wait().ok();
        up.end();
    }
    let middle = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[ROUNDS / 2]
    };
    (middle(alone), middle(beside), middle(rates))
}

/// How many datagrams the stranger has sent.
#[track_caller]
fn arrived(lab: &Lab) -> u64 {
    let said = lab.sh("mallory", "cat /sys/class/net/eth0/statistics/tx_packets").ok().stdout;
    said.trim().parse().expect("counters are numbers")
}
