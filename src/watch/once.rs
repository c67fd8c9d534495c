//! One look, as JSON. docs/watch.md describes it; whatever is in it keeps its name and its meaning while `format` is the same.

use serde_json::{Value, json};

use super::packets::{Journey, Place};
use super::state::{Host, Interface, Rate, State};

/// The number of the format.
const FORMAT: u32 = 1;

/// All that is known, after so many seconds of looking.
pub fn json(state: &State, seconds: f64) -> Value {
    json!({
        "format": FORMAT,
        "lab": state.lab,
        "seconds": seconds,
        "one_of": state.one_of,
        "not_seen": state.lost,
        "hosts": state.hosts.iter().map(|it| host(state, it)).collect::<Vec<_>>(),
        "packets": state.shown().map(|it| packet(state, it)).collect::<Vec<_>>(),
    })
}

fn host(state: &State, host: &Host) -> Value {
    let interface = |it: &Interface| {
        let flow = |packets: u64, bytes: u64, lost: u64, rate: Rate| {
            json!({
                "packets": packets, "bytes": bytes, "lost": lost,
                "packets_per_second": rate.packets, "bits_per_second": rate.bits,
            })
        };
        let counts = it.passed;
        json!({
            "name": it.name,
            "network": it.network.map(|network| &state.networks[network].name),
            "address": it.address,
            "tun": it.is_tun,
            "up": it.is_up,
            "carrier": it.has_carrier,
            "sent": flow(counts.sent, counts.sent_bytes, counts.sent_lost, it.sent),
            "received": flow(counts.received, counts.received_bytes, counts.received_lost, it.received),
        })
    };
    json!({ "name": host.name, "interfaces": host.interfaces.iter().map(interface).collect::<Vec<_>>() })
}

fn packet(state: &State, journey: &Journey) -> Value {
    let place = |place: &Place| {
        let sight = &place.sight;
        json!({
            "host": state.hosts[place.host].name,
            "interface": place.interface,
            "direction": place.direction,
            "milliseconds": journey.since(place),
            "length": place.length,
            "outer": sight.outer,
            "ttl": sight.ttl,
        })
    };
    let said = |of: fn(&super::sight::Sight) -> &String| journey.sight().map(of).filter(|text| !text.is_empty());
    json!({
        "number": journey.number,
        "protocol": journey.protocol(),
        "ends": said(|sight| &sight.ends),
        "says": said(|sight| &sight.says),
        "detail": said(|sight| &sight.detail),
        "tunnelled": journey.is_tunnelled(),
        "places": journey.places.iter().map(place).collect::<Vec<_>>(),
    })
}
