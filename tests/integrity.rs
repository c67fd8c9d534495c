//! What goes through the tunnel comes out bit for bit, also where the network between the two ends loses datagrams and
//! changes their order. A relay does that to single datagrams (lossy_relay.c), of which the client thinks as the server.
//!
//! With VPNLAB_LONG set the transfers are as large as before a release: a gigabyte.

mod common;
mod fixtures;

use std::time::{Duration, Instant};

use common::{Lab, User};
use fixtures::traffic::{CLIENT, Flows, SERVER, counter, has_route, transfer, transfer_within, vpn};
use fixtures::{Running, program};

const MEGABYTE: u64 = 1_000_000;

/// How long a transfer may take: with every twentieth datagram lost, TCP mostly waits.
const PATIENCE: Duration = Duration::from_secs(900);

/// A bad network.
#[derive(Debug, Clone, Copy)]
struct Network {
    /// Of a thousand datagrams, how many are lost.
    lost: u32,
    /// Which of the others are overtaken by the next few; 0 for none.
    held_every: u32,
    /// Whether they arrive in runs, as far as they were of one size.
    in_runs: bool,
}

const CLEAN: Network = Network { lost: 0, held_every: 0, in_runs: false };

/// What a relay has done.
#[derive(Debug)]
struct Relayed {
    passed: u64,
    dropped: u64,
    held: u64,
}

fn start_relay(lab: &Lab, Network { lost, held_every, in_runs }: Network) -> Running<'_> {
    let words = [program("lossy_relay.c"), "9091".into(), "9090".into(), lost.to_string(), held_every.to_string()];
    let last = if in_runs { ["4711", "join"] } else { ["4711", ""] };
    let mut relay = Running::start(lab, "server", &[&words[..], &last.map(String::from)].concat());
    relay.wait_for("Ready");
    relay
}

#[track_caller]
fn end_relay(relay: Running<'_>) -> Relayed {
    let said = relay.end_with("TERM").ok().stdout;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [passed, dropped, held, ..] = numbers[..] else { panic!("a relay says what it did: {said}") };
    Relayed { passed, dropped, held }
}

/// Sends TCP both ways through this network, so many bytes each way; then it must have been as bad as it should.
fn transfers_survive(user: User, network: Network, bytes: u64, client: &[&str], server: &[&str]) {
    let lab = Lab::up_at(user, 4);
    let relay = start_relay(&lab, network);
    let (client, server) = vpn(&lab, &[&["--server", "server:9091"], client].concat(), server);
    for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userv", "useru", CLIENT)] {
        let started = Instant::now();
        transfer_within(&lab, from, to, address, bytes, PATIENCE);
        println!("{} MB from {from} to {to}: {:.1?}", bytes / MEGABYTE, started.elapsed());
    }
    let (client, server) = (client.interrupt().ok(), server.interrupt().ok());
    let relayed = end_relay(relay);
    println!("{network:?}: {relayed:?}\n{}\n{}", last_line(&client.stderr), last_line(&server.stderr));
    let all = relayed.passed + relayed.dropped;
    // Each segment is 1472 bytes at most, and there are two directions.
    assert!(all > 2 * bytes / 1472, "the relay was not on the way: {relayed:?}");
    let expected = all * u64::from(network.lost) / 1000;
    assert!((expected / 2..=expected * 2).contains(&relayed.dropped), "{network:?}: {relayed:?}");
    let held = if network.held_every > 0 { relayed.passed / u64::from(network.held_every) } else { 0 };
    assert!((held / 2..=held).contains(&relayed.held), "{network:?}: {relayed:?}");
}

fn last_line(log: &str) -> &str {
    log.lines().last().unwrap_or_default()
}

/// So many megabytes now, or so many before a release.
fn megabytes(now: u64, before_a_release: u64) -> u64 {
    MEGABYTE * if std::env::var_os("VPNLAB_LONG").is_some() { before_a_release } else { now }
}

const DEFAULT: &[&str] = &[];
const PLAIN: &[&str] = &["--no-offload"];

for_each_user! {
    fn without_loss(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, DEFAULT, DEFAULT);
        for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userw", "useru", CLIENT)] {
            transfer_within(&lab, from, to, address, megabytes(50, 1000), PATIENCE);
        }
        // Large packets were written to the server's device: the fast path was on the way.
        let written = counter(&lab, "server", "rx_packets");
        client.interrupt().ok();
        let done = server.interrupt().ok();
        println!("{written} packets written; {}", last_line(&done.stderr));
        assert!(written < megabytes(50, 1000) / 1472 / 2, "{written} packets were written: {done:#?}");
    }

    fn with_single_datagrams(user: User) {
        transfers_survive(user, CLEAN, megabytes(10, 1000), DEFAULT, DEFAULT);
    }

    fn with_one_percent_lost(user: User) {
        let network = Network { lost: 10, ..CLEAN };
        transfers_survive(user, network, megabytes(20, 1000), DEFAULT, DEFAULT);
    }

    fn with_one_percent_lost_of_runs(user: User) {
        let network = Network { lost: 10, in_runs: true, ..CLEAN };
        transfers_survive(user, network, megabytes(20, 1000), DEFAULT, DEFAULT);
    }

    fn with_five_percent_lost(user: User) {
        transfers_survive(user, Network { lost: 50, ..CLEAN }, megabytes(2, 20), DEFAULT, DEFAULT);
    }

    fn with_another_order(user: User) {
        let network = Network { held_every: 30, in_runs: true, ..CLEAN };
        transfers_survive(user, network, megabytes(10, 1000), DEFAULT, DEFAULT);
    }

    fn with_all_of_it(user: User) {
        let network = Network { lost: 10, held_every: 40, in_runs: true };
        transfers_survive(user, network, megabytes(5, 200), DEFAULT, DEFAULT);
    }

    fn with_all_of_it_between_a_fast_and_a_plain_end(user: User) {
        let network = Network { lost: 10, held_every: 40, in_runs: true };
        transfers_survive(user, network, megabytes(3, 200), DEFAULT, PLAIN);
        transfers_survive(user, network, megabytes(3, 200), PLAIN, DEFAULT);
    }

    fn flows_of_datagrams_keep_their_order_their_lengths_and_their_bytes(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, DEFAULT, DEFAULT);
        for (from, to, address) in [("useru", "userv", "10.1.1.2"), ("userv", "useru", CLIENT)] {
            for sizes in ["random", "equal", "runs", "all"] {
                let before = counter(&lab, "server", "rx_packets");
                Flows { flows: 5, count: 1500, sizes, window: 200 }.arrive(&lab, from, to, address);
                let written = counter(&lab, "server", "rx_packets") - before;
                if sizes == "runs" && to == "userv" {
                    assert!(written < 5 * 1500 / 2, "large packets are written: {written}");
                }
            }
        }
    }

    fn ipv6_inside_and_outside(user: User) {
        let lab = Lab::up_at(user, 4);
        lab.sh("useru", "ip addr add fd00:2::2/64 dev eth0 nodad").ok();
        lab.sh("server", "ip addr add fd00:2::3/64 dev eth0 nodad").ok();
        let (client_inside, server_inside) = (["--address", "fd00:3::1/64"], ["--address", "fd00:3::2/64"]);
        let serve = [&["vpn", "--role", "server", "--bind", "::", "--address", "10.1.3.2/24"], &server_inside[..]];
        let _server = Running::tunnel(&lab, "server", &serve.concat());
        let outside = ["--server", "[fd00:2::3]", "--address", "10.1.3.1/24"];
        let connect = [&["vpn", "--role", "client"], &outside[..], &client_inside];
        let _client = Running::tunnel(&lab, "useru", &connect.concat());
        has_route(&lab);
        lab.exec("useru", &["ping", "-6", "-c1", "-W5", "fd00:3::2"]).ok();
        for (from, to, addresses) in [("useru", "server", ["fd00:3::2", SERVER]), ("server", "useru", ["fd00:3::1", CLIENT])] {
            for address in addresses {
                transfer(&lab, from, to, address, 5 * MEGABYTE);
                Flows { flows: 3, count: 500, sizes: "runs", window: 200 }.arrive(&lab, from, to, address);
            }
        }
    }
}
