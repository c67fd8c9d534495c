//! A fast tunnel ends when it should, also at full load, and is quiet when there is nothing to do.

use std::time::{Duration, Instant};

use crate::common::{self, Done, Lab, eventually};
use crate::fixtures::Running;
use crate::fixtures::traffic::{CLIENT, Load, Summary, bytes_come, vpn};
use crate::for_each_user;

/// Full load in both directions.
#[track_caller]
fn both_ways(lab: &Lab) -> [Load<'_>; 2] {
    let loads = [Load::start(lab, "useru", "userv", "10.1.1.2"), Load::start(lab, "userv", "useru", CLIENT)];
    bytes_come(lab, "server", 10_000_000);
    bytes_come(lab, "useru", 10_000_000);
    loads
}

/// What came in at one side went out at the other, but for what was dropped.
#[track_caller]
fn plausible(done: &Done) -> Summary {
    let summary = Summary::of(done);
    let Summary { from_tun, to_tun, from_net, to_net, dropped } = summary;
    assert!(from_tun > 5000 && from_net > 5000, "{done:#?}");
    assert!(to_net <= from_tun && to_tun <= from_net, "{done:#?}");
    assert!(from_tun - to_net + from_net - to_tun <= dropped, "{done:#?}");
    summary
}

/// The shortest and the middle one of the round trips of a ping that is not alone in its batch for long, in ms.
#[track_caller]
fn round_trip(lab: &Lab) -> (f64, f64) {
    let done = lab.exec("useru", &["ping", "-n", "-c", "100", "-i", "0.01", "-W", "2", "10.1.1.2"]).ok();
    let times = done.stdout.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok());
    let mut times: Vec<f64> = times.collect();
    assert_eq!(times.len(), 100, "{done:#?}");
    times.sort_by(f64::total_cmp);
    (times[0], times[50])
}

/// The processor time of a program, in ticks of a hundredth of a second.
#[track_caller]
fn ticks(lab: &Lab, host: &str, program: &Running<'_>) -> u64 {
    let stat = lab.sh(host, &format!("cat /proc/{}/stat", program.carrier())).ok().stdout;
    let (_, fields) = stat.rsplit_once(") ").expect("the kernel's format");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("counters are numbers")).sum()
}

for_each_user! {
    fn ctrl_c_and_sigterm_end_both_ends_at_full_load_with_plausible_counts(user: User) {
        let lab = Lab::up_at(user, 4);
        for signal in ["INT", "TERM"] {
            let (client, server) = vpn(&lab, &[], &[]);
            let load = both_ways(&lab);
            let mut ends = Vec::new();
            for end in [client, server] {
                let started = Instant::now();
                ends.push(plausible(&end.end_with(signal).ok()));
                assert!(started.elapsed() < Duration::from_secs(2), "SIG{signal}: {:?}", started.elapsed());
            }
            // The server went on for a moment; what came to the client had been sent by the server.
            assert!(ends[0].from_net <= ends[1].to_net, "{ends:?}");
            assert!(ends[1].from_net <= ends[0].to_net, "{ends:?}");
            load.into_iter().for_each(Load::end);
        }
    }

    fn an_end_stops_after_as_many_packets_as_asked_for_and_the_rest_of_a_batch(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &["--count", "3000"], &["--count", "30000"]);
        let load = Load::start(&lab, "useru", "userv", "10.1.1.2");
        let done = client.wait().ok();
        let Summary { from_tun, from_net, .. } = Summary::of(&done);
        assert!((3000..3000 + 600).contains(&(from_tun + from_net)), "{done:#?}");
        let done = server.interrupt().ok();
        let Summary { from_tun, from_net, .. } = Summary::of(&done);
        assert!((2000..30000).contains(&(from_tun + from_net)), "{done:#?}");
        load.end();
    }

    fn an_idle_tunnel_uses_no_processor(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        let all = || [ticks(&lab, "useru", &client), ticks(&lab, "server", &server)];
        let before = all();
        let load = both_ways(&lab);
        eventually("a tunnel that carries something uses the processor", || all()[0] > before[0] + 5);
        load.into_iter().for_each(Load::end);
        // The connections are reset, and the seconds of output run out.
        eventually("it calms down", || {
            let before = all();
            std::thread::sleep(Duration::from_secs(1));
            all() == before
        });
        let before = all();
        std::thread::sleep(Duration::from_secs(2));
        let after = all();
        assert!(after[0] <= before[0] + 1 && after[1] <= before[1] + 1, "{before:?}, {after:?}");
    }

    fn a_single_ping_is_not_held_back(user: User) {
        let lab = Lab::up_at(user, 4);
        let mut times = Vec::new();
        for options in [&["--no-offload"][..], &[]] {
            let (client, server) = vpn(&lab, options, options);
            times.push(round_trip(&lab));
            client.interrupt().ok();
            server.interrupt().ok();
        }
        println!("plain and fast, shortest and middle in ms: {times:?}");
        let (plain, fast) = (times[0], times[1]);
        assert!(fast.0 < 2.0 * plain.0 + 0.2, "the shortest: {times:?}");
        assert!(fast.1 < 4.0 * plain.1 + 2.0, "the one in the middle: {times:?}");
    }
}
