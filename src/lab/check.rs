//! `lab check`: the handout's step 0, that each host reaches whom it should, and nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::lab::probe::{Answer, Prober};
use crate::lab::{Lab, namespace};
use crate::topology::Check;

/// How long an answer may take. On the lab's wires it takes well under a millisecond, also where nobody is there:
/// the router answers for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one check expected, and what it saw.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The host that probed.
    pub from: String,
    /// The host that it probed.
    pub to: String,
    /// The address that TO has for FROM.
    pub address: Ipv4Addr,
    /// What had to be seen.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Whether that is the same.
    pub passed: bool,
}

/// Runs the topology's checks on a running lab, in their order.
pub fn run(lab: &Lab) -> Result<Vec<Outcome>> {
    lab.join()?;
    lab.topology.checks.iter().map(|check| outcome(lab, check)).collect()
}

fn outcome(lab: &Lab, check: &Check) -> Result<Outcome> {
    let prober = namespace::inside(lab.network(&check.from)?, Prober::open)?;
    let address = lab.topology.resolve(lab.topology.host(&check.from)?, lab.topology.host(&check.to)?);
    let probe = |ttl: u8| prober.probe(address, ttl, u16::from(ttl), 56, PATIENCE).map(|(answer, _)| answer);
    let (expected, seen, passed) = match (check.hops, check.unreachable_from) {
        (Some(hops), _) => {
            // One hop less must not do, where there is one.
            let nearer = if hops > 1 { Some(probe(hops - 1)?) } else { None };
            let answer = probe(hops)?;
            let arrived = matches!(answer, Answer::Reply { from, .. } if from == address);
            let not_nearer = matches!(nearer, None | Some(Answer::Expired { .. }));
            let seen = match &nearer {
                Some(Answer::Reply { .. }) => format!("answers nearer, {} at most", count(hops - 1)),
                // What came back too early, though the whole way ends well.
                Some(nearer) if arrived && !not_nearer => format!("{}: {}", count(hops - 1), seen(lab, nearer, None)),
                _ => seen(lab, &answer, Some(hops)),
            };
            (format!("answers, {}", count(hops)), seen, arrived && not_nearer)
        }
        (None, Some(router)) => {
            const HOST: u8 = 1;
            let wanted = Answer::Unreachable { from: router, code: HOST };
            let answer = probe(64)?;
            (seen(lab, &wanted, None), seen(lab, &answer, None), answer == wanted)
        }
        (None, None) => (String::new(), String::new(), true),
    };
    Ok(Outcome { from: check.from.clone(), to: check.to.clone(), address, expected, seen, passed })
}

fn count(hops: u8) -> String {
    if hops == 1 { "1 hop away".into() } else { format!("{hops} hops away") }
}

/// An answer in words.
fn seen(lab: &Lab, answer: &Answer, hops: Option<u8>) -> String {
    match (answer, hops) {
        (Answer::Reply { .. }, Some(hops)) => format!("answers, {}", count(hops)),
        (Answer::Reply { from, .. }, None) => format!("an answer from {from}"),
        (Answer::Unreachable { from, code }, _) => format!("{} from {from}", unreachable(*code)),
        (Answer::Expired { from }, _) => {
            format!("further away: the TTL ran out at {}", lab.topology.name_of((*from).into()))
        }
        (Answer::NotSent(errno), _) => format!("not sent: {}", std::io::Error::from_raw_os_error(*errno)),
        (Answer::Silence, _) => "no answer".into(),
    }
}

/// The name of an ICMP Destination Unreachable code, as ping(8) prints it.
pub fn unreachable(code: u8) -> &'static str {
    match code {
        0 => "Destination Net Unreachable",
        1 => "Destination Host Unreachable",
        2 => "Destination Protocol Unreachable",
        3 => "Destination Port Unreachable",
        4 => "Frag needed and DF set",
        13 => "Packet filtered",
        _ => "Destination Unreachable",
    }
}

/// The outcomes as a table for people.
pub fn table(outcomes: &[Outcome]) -> String {
    let width = |cell: fn(&Outcome) -> &str| outcomes.iter().map(|outcome| cell(outcome).len()).max().unwrap_or(0);
    let expected = width(|outcome| &outcome.expected);
    let hosts = width(|outcome| &outcome.from) + width(|outcome| &outcome.to) + 4;
    let mut text = String::new();
    for outcome in outcomes {
        let result = if outcome.passed { "ok" } else { "FAILED" };
        let route = format!("{} -> {}", outcome.from, outcome.to);
        text.push_str(&format!(
            "{result:<6}  {route:<hosts$}  {:<15}  {:<expected$}",
            outcome.address, outcome.expected
        ));
        if !outcome.passed {
            text.push_str(&format!("  but saw: {}", outcome.seen));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
