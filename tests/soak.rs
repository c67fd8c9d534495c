//! A tunnel under load on a network that fails in every way for as long as one likes: `tests/soak MINUTES`.
//!
//! The client's datagrams go through a relay (lossy_relay.c) that loses, doubles, reorders, cuts and corrupts them. All the
//! while TCP transfers, a TCP session, datagrams and pings go through the tunnel, and at random either end is killed and
//! started again, a TUN device or a link goes down and up, the client comes from another port, and a stranger floods the
//! server's port. What must hold is checked on the way and at the end; a table says what was seen.

mod common;
#[path = "soaking/cost.rs"]
mod cost;
mod fixtures;
#[path = "soaking/load.rs"]
mod load;
#[path = "soaking/sampled.rs"]
mod sampled;

use std::io::Write;
use std::process::ChildStdin;
use std::thread;
use std::time::{Duration, Instant};

use common::{Lab, Program, User, eventually, vpnlab};
use fixtures::traffic::{has_route, vpn};
use fixtures::{Running, program};
use load::Load;
use sampled::{Row, Sampled};

/// The most that is done to datagrams, of a thousand.
const WORST: u64 = 200;

/// For how long the network is as it should be at the end: transfers that were held up have to end.
const CALM: Duration = Duration::from_secs(180);

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn user() -> User {
    match std::env::var("VPNLAB_SOAK_USER").as_deref() {
        Ok("root") => User::Root,
        Ok("plain") | Err(_) => User::Plain,
        Ok(other) => panic!("VPNLAB_SOAK_USER is plain or root, not {other}"),
    }
}

/// What decides: the same numbers for a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// The relay between the ends, and what it is told.
struct Relay {
    program: Program,
    commands: ChildStdin,
    told: usize,
}

impl Relay {
    #[track_caller]
    fn start(lab: &Lab, seed: u64) -> Self {
        let mut command = lab.machine.command(vpnlab());
        command.args(["lab", "--lab", &lab.name, "exec", "server", "--"]);
        command.arg(program("lossy_relay.c")).args(["9091", "9090", "0", "0", &seed.to_string()]);
        let (mut program, commands) = Program::start_with_input(&mut command);
        program.wait_for("Ready\n");
        Self { program, commands, told: 0 }
    }

    #[track_caller]
    fn tell(&mut self, line: &str) {
        self.commands.write_all(line.as_bytes()).expect("the relay listens");
        self.told += 1;
        let (program, told) = (&self.program, self.told);
        eventually("the relay does what it is told", || program.stdout().matches("Done\n").count() == told);
    }
}

/// What is done to the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Network,
    Port,
    Kill(End),
    Device(End),
    Link(End),
    Flood(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

impl End {
    const BOTH: [Self; 2] = [Self::Client, Self::Server];

    fn host(self) -> &'static str {
        match self {
            Self::Client => "useru",
            Self::Server => "server",
        }
    }

    #[track_caller]
    fn start(self, lab: &Lab) -> Running<'_> {
        let role: &[&str] = match self {
            Self::Client => &["vpn", "--role", "client", "--server", "server:9091"],
            Self::Server => &["vpn", "--role", "server"],
        };
        Running::tunnel(lab, self.host(), role)
    }
}

const BLOWS: [(u64, Blow); 11] = [
    (8, Blow::Network),
    (3, Blow::Port),
    (1, Blow::Kill(End::Client)),
    (1, Blow::Kill(End::Server)),
    (2, Blow::Device(End::Client)),
    (2, Blow::Device(End::Server)),
    (1, Blow::Link(End::Client)),
    (1, Blow::Link(End::Server)),
    (1, Blow::Flood("junk")),
    (1, Blow::Flood("foreign")),
    (1, Blow::Flood("invented")),
];

struct Soak<'l> {
    lab: &'l Lab,
    chance: Chance,
    relay: Relay,
    ends: [Option<Running<'l>>; 2],
    sampled: Sampled,
    counts: Vec<(String, u32)>,
    flooded: u64,
    longest_recovery: Duration,
}

impl<'l> Soak<'l> {
    fn new(lab: &'l Lab, seed: u64) -> Self {
        let relay = Relay::start(lab, seed);
        let server = End::Server.start(lab);
        let client = End::Client.start(lab);
        has_route(lab);
        let mut sampled = Sampled::default();
        sampled.begin(End::Client.host(), client.pid());
        sampled.begin(End::Server.host(), server.pid());
        Self {
            lab,
            chance: Chance(seed),
            relay,
            ends: [Some(client), Some(server)],
            sampled,
            counts: Vec::new(),
            flooded: 0,
            longest_recovery: Duration::ZERO,
        }
    }

    fn pick(&mut self, may_kill: bool) -> Blow {
        let possible = || BLOWS.iter().filter(|(_, blow)| may_kill || !matches!(blow, Blow::Kill(_)));
        let mut at = self.chance.below(possible().map(|(weight, _)| weight).sum());
        for (weight, blow) in possible() {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *blow,
            }
        }
        unreachable!("the weights are summed up above")
    }

    /// Strikes, and waits until the tunnel carries packets again.
    fn strike(&mut self, blow: Blow) {
        let name = format!("{blow:?}");
        match self.counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((name, 1)),
        }
        match blow {
            Blow::Network => {
                let line = self.rates();
                self.relay.tell(&line);
                return;
            }
            Blow::Port => self.relay.tell("move\n"),
            Blow::Kill(end) => self.kill(end),
            Blow::Device(end) => {
                let pause = self.chance.milliseconds(100, 1500).as_secs_f64();
                let script = format!("sudo ip link set tun0 down; sleep {pause}; sudo ip link set tun0 up");
                self.lab.sh(end.host(), &script).ok();
            }
            Blow::Link(end) => {
                let pause = self.chance.milliseconds(100, 1500).as_secs_f64();
                let script = format!("sudo ip link set eth0 down; sleep {pause}; sudo ip link set eth0 up");
                self.lab.sh(end.host(), &script).ok();
            }
            Blow::Flood(kind) => {
                let seconds = self.chance.milliseconds(500, 3000).as_secs_f64().to_string();
                let said = self.lab.exec("mallory", &[&program("flood.c"), "10.1.2.3", "9090", &seconds, kind]).ok();
                let sent = said.stdout.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                self.flooded += sent.expect("a flood says how many datagrams it sent");
            }
        }
        self.carries_packets_again(blow);
    }

    /// One or two kinds of harm, from one to twenty of a hundred datagrams; or none.
    fn rates(&mut self) -> String {
        let mut rates = [0; 5];
        for _ in 0..self.chance.below(3) {
            let kind = self.chance.below(5) as usize;
            rates[kind] = 10 + self.chance.below(WORST - 9);
        }
        // The second says which are held back: every fifth to every hundredth, or none.
        rates[1] = 1000_u64.checked_div(rates[1]).unwrap_or(0);
        format!("rates {}\n", rates.map(|rate| rate.to_string()).join(" "))
    }

    fn kill(&mut self, end: End) {
        let running = self.ends[end as usize].take().expect("both ends run between two blows");
        let done = match self.chance.below(3) {
            0 => running.end_with("TERM").ok(),
            1 => running.end_with("KILL").expect(137),
            _ => {
                // The one that reads the network; the other notices.
                let script = format!("kill -KILL $(cat /proc/{0}/task/{0}/children)", running.pid());
                self.lab.sh(end.host(), &script).ok();
                let done = running.wait();
                assert_ne!(done.code, 0, "{end:?} says that its child was killed: {done:#?}");
                done
            }
        };
        assert!(!done.stderr.contains("panicked"), "{end:?}: {done:#?}");
        thread::sleep(self.chance.milliseconds(0, 1500));
        let running = end.start(self.lab);
        self.sampled.begin(end.host(), running.pid());
        self.ends[end as usize] = Some(running);
    }

    /// Routes and addresses are there, and a ping comes back: soon, also where the network loses every fifth datagram.
    fn carries_packets_again(&mut self, blow: Blow) {
        let started = Instant::now();
        let is_there = |host, address: &str| {
            self.lab.sh(host, "ip -4 -o address show dev tun0 up").stdout.contains(&format!(" {address}/24 "))
        };
        eventually(&format!("addresses and routes are as they were after {blow:?}"), || {
            let route = self.lab.sh("useru", "ip route get 10.1.1.2").stdout;
            let back = self.lab.sh("server", "ip route get 10.1.3.1").stdout;
            is_there("useru", "10.1.3.1")
                && is_there("server", "10.1.3.2")
                && [route, back].iter().all(|it| it.contains("dev tun0"))
        });
        eventually(&format!("a ping is answered after {blow:?}"), || {
            self.lab.exec("useru", &["ping", "-c1", "-W1", "10.1.1.2"]).code == 0
        });
        self.longest_recovery = self.longest_recovery.max(started.elapsed());
    }

    #[track_caller]
    fn both_run(&mut self) {
        for end in End::BOTH {
            let running = self.ends[end as usize].as_mut().expect("both ends run between two blows");
            assert!(running.runs(), "{end:?} has ended by itself: {}", running.stderr());
        }
    }
}

fn lab(user: User) -> Lab {
    Lab::up_with(user, &["--step", "4", "--topology", &fixtures::path("attacker.toml")])
}

#[test]
#[ignore = "tests/soak runs it: it takes minutes"]
fn a_tunnel_survives_a_failing_network() {
    let minutes = variable("VPNLAB_SOAK_MINUTES").unwrap_or(2);
    let seed = variable("VPNLAB_SOAK_SEED").unwrap_or(u64::from(std::process::id()));
    let (user, length) = (user(), Duration::from_secs(60 * minutes));
    println!("soak: {minutes} minutes as {user:?}; VPNLAB_SOAK_SEED={seed} strikes the same blows again");
    let lab = lab(user);
    let mut soak = Soak::new(&lab, seed);
    let mut load = Load::start(&lab, seed);
    let started = Instant::now();
    let mut blows = 0;
    while started.elapsed() < length {
        // In the second half both ends live on, so that a leak can be seen.
        let blow = soak.pick(started.elapsed() < length / 2);
        soak.strike(blow);
        blows += 1;
        let until = Instant::now() + soak.chance.milliseconds(500, 4000);
        while Instant::now() < until {
            soak.both_run();
            load.goes_on();
            soak.sampled.take(&lab);
            thread::sleep(Duration::from_millis(250));
        }
    }
    soak.relay.tell("rates 0 0 0 0 0\n");
    soak.carries_packets_again(Blow::Network);
    let mut report = load.end(CALM);
    soak.both_run();
    soak.sampled.take(&lab);
    report.extend(soak.sampled.judge());
    let Soak { ends: [client, server], mut relay, counts, flooded, longest_recovery, .. } = soak;
    let summaries = [client, server].map(|end| end.expect("both ends run").interrupt().ok().stderr);
    drop(relay.commands);
    relay.program.signal(nix::sys::signal::Signal::SIGTERM);
    relay.program.wait_for("corrupted");
    println!("\n{blows} blows:");
    for (name, count) in &counts {
        println!("  {name:<24} {count}");
    }
    let relayed = relay.program.stdout();
    let relayed: Vec<&str> = relayed.lines().filter(|line| !["Ready", "Done"].contains(line)).collect();
    println!("the relay: {}; the stranger sent {flooded} datagrams", relayed.join(", "));
    for (end, log) in End::BOTH.iter().zip(&summaries) {
        println!("{end:?}: {}", log.lines().last().unwrap_or_default());
    }
    println!("longest time from the end of a blow to a ping's reply: {longest_recovery:.1?}\n");
    assert_all_hold(&report, &format!("VPNLAB_SOAK_SEED={seed}"));
}

#[test]
#[ignore = "tests/soak runs it: it measures"]
fn a_flood_and_a_full_tunnel_cost_little() {
    let lab = lab(user());
    let (_client, _server) = vpn(&lab, &[], &[]);
    assert_all_hold(&cost::measure(&lab), "");
}

/// Prints the report.
#[track_caller]
fn assert_all_hold(report: &[Row], seed: &str) {
    println!("\n{:<42} | {:<74} | must be", "", "was");
    for Row { what, was, must_be, holds } in report {
        println!("{what:<42} | {was:<74} | {must_be}{}", if *holds { "" } else { "  FAILED" });
    }
    let failed: Vec<&str> = report.iter().filter(|row| !row.holds).map(|row| row.what.as_str()).collect();
    assert!(failed.is_empty(), "{failed:?} {seed}");
}
