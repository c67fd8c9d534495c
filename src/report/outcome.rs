//! What came of a command, a program or an echo request, by what was told of it. Pure.

use serde_json::Value;

use super::model::{Cause, Trace};
use super::steps::Goal;
use crate::page::ladder::{Ladder, Rung};
use crate::page::text::shown;

/// How much of a command's output stands on the page and in the JSON; the file has all that was kept. In bytes.
const SHOWN: usize = 32 << 10;

/// The start of a text, as much of it as is shown; and whether that is not all.
pub fn cut(text: &str) -> (String, bool) {
    match text.len() > SHOWN {
        true => {
            let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            (text[..end].to_string(), true)
        }
        false => (text.to_string(), false),
    }
}

/// Whether a text has an address in it that is not part of a longer one.
pub fn has_word(text: &str, word: &str) -> bool {
    let is_part = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric());
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !is_part(before) && !is_part(after)
    })
}

/// How far an echo came, by the JSON of `vpnlab trace`.
pub fn has_come(json: &Value, goal: &Goal) -> bool {
    let sightings = || json["journey"].as_array().into_iter().flatten();
    let at = |it: &Value, host: &str, direction: &str| it["host"] == host && it["direction"] == direction;
    let is_request = |it: &Value| it["leg"] == "request" && it["error"].is_null();
    match goal {
        Goal::Back => json["answered"] == true,
        Goal::Host(host) => sightings().any(|it| is_request(it) && at(it, host, "in") && it["datagram"].is_null()),
        Goal::Datagram(host) => sightings().any(|it| is_request(it) && at(it, host, "in") && !it["datagram"].is_null()),
        Goal::Program(host) => {
            // The first place of all is where the sender's kernel sent it: a TUN device, if one has the route.
            let first = sightings().next();
            let held = json["programs"][host].as_str().unwrap_or_default();
            let is_tun = |it: &Value| {
                let name = it["interface"].as_str().unwrap_or_default();
                held.split([' ', ',', ';']).any(|word| word == name)
            };
            first.is_some_and(|it| is_request(it) && at(it, host, "out") && is_tun(it))
        }
    }
}

/// A trace of the JSON of `vpnlab trace`.
pub fn trace(json: &Value, command: String, file: String) -> Trace {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let rung = |it: &Value| Rung {
        host: text(&it["host"]),
        interface: text(&it["interface"]),
        incoming: it["direction"] == "in",
        milliseconds: it["milliseconds"].as_f64(),
        text: text(&it["news"]),
    };
    /// What goes in circles is seen often, and looks the same each time.
    const MOST: usize = 60;
    let rows: Vec<Rung> = json["journey"].as_array().into_iter().flatten().take(MOST).map(rung).collect();
    let mut hosts: Vec<String> = Vec::new();
    for row in &rows {
        if !hosts.contains(&row.host) {
            hosts.push(row.host.clone());
        }
    }
    Trace {
        command,
        answered: json["answered"] == true,
        cause: json["verdict"].is_object().then(|| cause(&json["verdict"])),
        text: shown(&text(&json["text"])),
        ladder: Ladder { hosts, rows },
        file,
    }
}

fn cause(verdict: &Value) -> Cause {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let facts = verdict["facts"].as_array().into_iter().flatten().map(text).collect();
    Cause { id: text(&verdict["cause"]), title: text(&verdict["title"]), host: text(&verdict["host"]), facts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_found_as_a_word() {
        assert!(has_word(" Inside: 10.1.3.1 ---> 10.1.3.5\n", "10.1.3.5"));
        assert!(has_word("10.1.3.5:", "10.1.3.5"));
        assert!(!has_word("10.1.3.51", "10.1.3.5") && !has_word("110.1.3.5", "10.1.3.5") && !has_word("", "10.1.3.5"));
    }

    #[test]
    fn how_far_an_echo_came_is_told_by_its_sightings() {
        let place = |host: &str, direction: &str, interface: &str, datagram: Value| {
            json!({ "leg": "request", "host": host, "direction": direction, "interface": interface,
                "datagram": datagram, "error": null, "milliseconds": 0.5, "news": "x" })
        };
        let journey = [place("useru", "out", "tun0", Value::Null), place("server", "in", "eth0", json!({ "ttl": 64 }))];
        let json = json!({ "answered": false, "journey": journey, "programs": { "useru": "python3 tun.py (7): tun0, UDP 9" } });
        assert!(has_come(&json, &Goal::Program("useru".into())));
        assert!(has_come(&json, &Goal::Datagram("server".into())));
        assert!(!has_come(&json, &Goal::Host("server".into())) && !has_come(&json, &Goal::Back));
        assert!(!has_come(&json!({}), &Goal::Program("useru".into())));
        let trace = trace(&json, "vpnlab trace".into(), "f".into());
        assert_eq!((trace.ladder.hosts.join(" "), trace.ladder.rows.len()), ("useru server".into(), 2));
    }

    #[test]
    fn a_long_output_is_cut_between_characters() {
        assert_eq!(cut("short"), ("short".into(), false));
        let (text, is_cut) = cut(&"\u{20ac}".repeat(SHOWN));
        assert!(is_cut && text.len() <= SHOWN && text.ends_with('\u{20ac}'));
    }
}
