//! One look, for programs and for a quick glance.

use serde_json::Value;

use super::{quiet, tunnel};
use crate::common::{self, Lab, Program};
use crate::for_each_user;

/// Looks while a ping goes on, once it has begun.
#[track_caller]
fn look(lab: &Lab, options: &[&str]) -> String {
    let mut ping: Program = lab.start("useru", &["ping", "-i0.2", "userv"]);
    ping.wait_for("icmp_seq=2");
    let arguments = [&["watch", "--lab", &lab.name, "--once"], options].concat();
    let done = lab.machine.vpnlab(&arguments).ok();
    ping.interrupt();
    done.stdout
}

for_each_user! {
    fn one_look_is_json_with_interfaces_rates_and_packets_at_all_their_places(user: User) {
        let lab = Lab::up_at(user, 4);
        quiet(&lab);
        let _tunnel = tunnel(&lab);
        let text = look(&lab, &["--json", "--seconds", "1.5", "--protocol", "icmp"]);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((&value["format"], &value["one_of"], &value["not_seen"]), (&1.into(), &1.into(), &0.into()));
        assert_eq!(value["lab"], lab.name.as_str());
        assert!(value["seconds"].as_f64().unwrap() >= 1.5, "{value:#}");

        let hosts = value["hosts"].as_array().unwrap();
        let names: Vec<_> = hosts.iter().map(|host| host["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["useru", "server", "userv", "userw", "router"]);
        let interface = |host: usize, name: &str| {
            let all = hosts[host]["interfaces"].as_array().unwrap();
            all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name}: {value:#}"))
        };
        let eth0 = interface(0, "eth0");
        assert_eq!((&eth0["network"], &eth0["address"], &eth0["tun"]), (&"lan0".into(), &"10.1.2.2".into(), &false.into()));
        let tun0 = interface(0, "tun0");
        assert_eq!((&tun0["network"], &tun0["address"], &tun0["tun"]), (&Value::Null, &"10.1.3.1".into(), &true.into()));
        assert_eq!((&tun0["up"], &tun0["carrier"]), (&true.into(), &true.into()));
        let rate = tun0["sent"]["packets_per_second"].as_u64().unwrap();
        assert!((1..=10).contains(&rate), "five pings a second: {tun0:#}");
        assert!(tun0["received"]["bits_per_second"].as_u64().unwrap() >= 84 * 8, "{tun0:#}");

        let packets = value["packets"].as_array().unwrap();
        let whole = packets.iter().find(|it| it["says"] == "echo request" && it["places"].as_array().unwrap().len() == 6);
        let whole = whole.unwrap_or_else(|| panic!("no whole request: {value:#}"));
        assert_eq!((&whole["protocol"], &whole["ends"]), (&"icmp".into(), &"10.1.3.1 > 10.1.1.2".into()));
        assert!(whole["detail"].as_str().unwrap().starts_with("seq "));
        let places: Vec<_> = whole["places"].as_array().unwrap().iter().map(|place| {
            let word = |name: &str| place[name].as_str().unwrap().to_string();
            let inside = if place["outer"].is_null() { "" } else { " in a datagram" };
            format!("{} {} {}{inside}", word("host"), word("direction"), word("interface"))
        }).collect();
        assert_eq!(places, [
            "useru out tun0", "useru out eth0 in a datagram", "server in eth0 in a datagram", "server in tun0",
            "server out eth1", "userv in eth0",
        ]);
        let outer = &whole["places"][1]["outer"];
        assert_eq!((&outer["to"], &outer["ttl"]), (&"10.1.2.3:9090".into(), &64.into()));
        assert_eq!((&whole["places"][1]["length"], &whole["places"][5]["ttl"]), (&126.into(), &63.into()));
        assert!(packets.iter().all(|packet| packet["protocol"] == "icmp"));
    }

    fn a_look_ends_with_its_lab_and_does_not_keep_it_up(user: User) {
        let lab = Lab::up(user);
        let look = lab.machine.start(&["watch", "--lab", &lab.name, "--once", "--seconds", "600"]);
        let status = || std::fs::read_to_string(format!("/proc/{}/status", look.pid())).unwrap_or_default();
        // It gives up its rights when it has opened all of its sockets.
        common::eventually("it looks", || status().contains("NoNewPrivs:\t1"));
        lab.lab(&["down"]).ok();
        let done = look.wait().expect(1);
        assert_eq!((done.stdout.as_str(), done.stderr), ("", format!("vpnlab: lab {} is down\n", lab.name)));
    }

    fn one_look_is_text_too(user: User) {
        let lab = Lab::up_at(user, 4);
        quiet(&lab);
        let _tunnel = tunnel(&lab);
        let text = look(&lab, &["--tunnel", "--host", "useru"]);
        assert!(text.contains("only in the tunnel at useru"), "{text}");
        assert!(text.contains("[echo request]") && text.contains("[echo reply]"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains("quit"), "{text}");
    }
}
