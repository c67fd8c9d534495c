//! The way of a packet as an inline SVG: a lane for each host, and a line from place to place down to where it ends.

use serde::{Deserialize, Serialize};

use super::escaped;
use super::text::{one_line, wrap};

/// Two ways of one packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladders {
    /// As it was seen.
    pub seen: Ladder,
    /// As it should have been.
    pub expected: Ladder,
}

/// The way of a packet: a lane for each host, a row for each place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    /// The hosts, in the order of their lanes.
    pub hosts: Vec<String>,
    /// The places, in the order in which the packet came by.
    pub rows: Vec<Rung>,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// The host.
    pub host: String,
    /// Its interface.
    pub interface: String,
    /// Whether it came into the host there; else it left.
    pub incoming: bool,
    /// Milliseconds since the first place; nothing where it is only expected.
    pub milliseconds: Option<f64>,
    /// What is new there: "in UDP 10.1.2.2:40000 > 10.1.2.3:9090".
    pub text: String,
}

/// Where the first lane is: to the left of it the milliseconds, and an interface's name.
const FIRST_LANE: usize = 108;
/// From lane to lane.
const PITCH: usize = 78;
/// From the last lane to the texts, with an interface's name between them.
const TO_TEXT: usize = 64;
/// How many characters of a text are in a line of it.
const TEXT_CHARACTERS: usize = 30;
/// The width of a character of the texts: 11 pixels high, and the widest of monospaced fonts.
const CHARACTER: f64 = 6.7;
const LINE: usize = 14;
/// The names of the hosts, and the space below them.
const HEAD: usize = 44;
/// What stands below the last place: that it is the last.
const FOOT: usize = 40;

/// Which of the two it is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Seen,
    Expected,
}

/// Both ways, drawn with the same lanes and with rows of the same heights, so that they compare at a glance.
pub fn figures(ladders: &Ladders) -> String {
    let Ladders { seen, expected } = ladders;
    let hosts = hosts(ladders);
    let common = common(seen, expected);
    let arrived = common == expected.rows.len() && seen.rows.len() == common;

    let seen_says = match (seen.rows.last(), seen.rows.get(common)) {
        (None, _) => "it was seen nowhere".into(),
        (Some(_), _) if arrived => format!("{} places, all as they should be", seen.rows.len()),
        (Some(last), _) if common == seen.rows.len() || expected.rows.is_empty() => {
            format!("it ends at {}", place(last))
        }
        (Some(last), other) => format!("it goes another way at {}", place(other.unwrap_or(last))),
    };
    let expected_says = match expected.rows.get(common) {
        Some(next) => format!("next would have been {}", place(next)),
        None => format!("{} places", expected.rows.len()),
    };
    let figure = |title: &str, says: &str, ladder: &Ladder, kind| {
        let drawing = draw(ladder, kind, &hosts, &heights(ladders), common, arrived);
        format!(
            "<figure><figcaption><b>{title}</b>: {}</figcaption>\n<div class='scroll'>{drawing}</div></figure>\n",
            escaped(&one_line(says))
        )
    };
    let seen = figure("The packet\u{2019}s way", &seen_says, seen, Kind::Seen);
    let expected = match expected.rows.is_empty() {
        true => String::new(),
        false => figure("As it should be", &expected_says, expected, Kind::Expected),
    };
    format!("<div class='ladders'>\n{seen}{expected}</div>\n")
}

/// One way by itself, which ends where it should or was lost there.
pub fn figure(title: &str, says: &str, ladder: &Ladder, arrived: bool) -> String {
    let nothing = Ladder { hosts: Vec::new(), rows: Vec::new() };
    let ladders = Ladders { seen: ladder.clone(), expected: nothing };
    let drawing = draw(ladder, Kind::Seen, &hosts(&ladders), &heights(&ladders), ladder.rows.len(), arrived);
    format!(
        "<figure><figcaption><b>{}</b>: {}</figcaption>\n<div class='scroll'>{drawing}</div></figure>\n",
        escaped(&one_line(title)),
        escaped(&one_line(says))
    )
}

/// How many places of both are the same from the start.
fn common(seen: &Ladder, expected: &Ladder) -> usize {
    let is_same = |(a, b): &(&Rung, &Rung)| (&a.host, &a.interface, a.incoming) == (&b.host, &b.interface, b.incoming);
    seen.rows.iter().zip(&expected.rows).take_while(is_same).count()
}

/// The lanes: those of the expected way, then whatever else was seen.
fn hosts(ladders: &Ladders) -> Vec<&str> {
    let both = [&ladders.expected, &ladders.seen];
    let named = both.iter().flat_map(|ladder| &ladder.hosts);
    let all = named.chain(both.iter().flat_map(|ladder| ladder.rows.iter().map(|row| &row.host)));
    let mut hosts: Vec<&str> = Vec::new();
    for host in all {
        if !hosts.contains(&host.as_str()) {
            hosts.push(host);
        }
    }
    hosts
}

/// The height of each row: the taller of the two ways'.
fn heights(ladders: &Ladders) -> Vec<usize> {
    let (seen, expected) = (&ladders.seen.rows, &ladders.expected.rows);
    let height = |rows: &[Rung], row: usize| rows.get(row).map_or(0, |rung| lines(rung).len().max(1) * LINE + 16);
    (0..seen.len().max(expected.len())).map(|row| height(seen, row).max(height(expected, row))).collect()
}

fn lines(rung: &Rung) -> Vec<String> {
    wrap(&one_line(&rung.text), TEXT_CHARACTERS)
}

fn place(rung: &Rung) -> String {
    format!("{}, {} {}", rung.host, if rung.incoming { "into" } else { "out of" }, rung.interface)
}

fn draw(ladder: &Ladder, kind: Kind, hosts: &[&str], heights: &[usize], common: usize, arrived: bool) -> String {
    let lane = |host: &str| FIRST_LANE + PITCH * hosts.iter().position(|it| *it == host).unwrap_or(0);
    let level = |row: usize| HEAD + heights[..row].iter().sum::<usize>() + 16;
    let text_at = FIRST_LANE + PITCH * hosts.len().saturating_sub(1) + TO_TEXT;
    let width = text_at + (TEXT_CHARACTERS as f64 * CHARACTER) as usize;
    let height = HEAD + heights.iter().sum::<usize>() + FOOT;
    let (rows, is_seen) = (&ladder.rows, kind == Kind::Seen);
    // What both ways share; where the seen one goes wrong; what of the expected one did not come to pass.
    let class = |row: usize| match kind {
        _ if row < common => "both",
        Kind::Seen => "odd",
        Kind::Expected => "missing",
    };

    let described: Vec<String> =
        rows.iter().map(|it| format!("{} {}", place(it), it.text).trim().to_string()).collect();
    let mut svg = format!(
        "<svg class='ladder' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' \
         aria-label='{}'>\n",
        escaped(&one_line(&described.join("; ")))
    );
    for host in hosts {
        let x = lane(host);
        svg += &format!(
            "<line class='lane' x1='{x}' y1='26' x2='{x}' y2='{}'/>\
             <text class='host' x='{x}' y='16'>{}</text>\n",
            height - 6,
            escaped(&short(host, 10))
        );
    }
    for row in 1..rows.len() {
        let (from, to) = ((lane(&rows[row - 1].host), level(row - 1)), (lane(&rows[row].host), level(row)));
        svg += &format!("<path class='way {}' d='M{} {}L{} {}'/>", class(row), from.0, from.1, to.0, to.1);
        if from.0 != to.0 {
            svg += &arrow(from, to, class(row));
        }
        svg.push('\n');
    }
    for (row, rung) in rows.iter().enumerate() {
        let (x, y, class) = (lane(&rung.host), level(row), class(row));
        svg += &format!("<circle class='place {class}' cx='{x}' cy='{y}' r='4'/>");
        // On the side where no line comes or goes.
        let near = if rung.incoming { row.checked_sub(1) } else { Some(row + 1) };
        let other = near.and_then(|near| rows.get(near)).map_or(x, |rung| lane(&rung.host));
        let (label, anchor) = if other > x { (x - 11, "end") } else { (x + 11, "start") };
        svg += &format!(
            "<text class='interface' x='{label}' y='{}' text-anchor='{anchor}'>{}</text>",
            y + 4,
            escaped(&short(&rung.interface, 8))
        );
        if let Some(milliseconds) = rung.milliseconds {
            svg += &format!("<text class='time' x='42' y='{}'>{milliseconds:.3}</text>", y + 4);
        }
        for (line, text) in lines(rung).iter().enumerate() {
            let y = y + 4 + line * LINE;
            svg += &format!("<text class='what {class}' x='{text_at}' y='{y}'>{}</text>", escaped(text));
        }
        svg.push('\n');
    }
    if let Some(last) = rows.last() {
        let (x, y) = (lane(&last.host), level(rows.len() - 1));
        // Below all lines of the row's text.
        let below = HEAD + heights[..rows.len()].iter().sum::<usize>() + 14;
        if !is_seen || arrived {
            svg += &format!("<text class='end good' x='{text_at}' y='{}'>arrived</text>", below + 4);
            svg += &format!("<circle class='good' cx='{x}' cy='{y}' r='7'/>");
        } else {
            svg += &format!("<path class='way lost' d='M{x} {}V{}'/>", y + 4, below - 8);
            let (left, right, top, bottom) = (x - 6, x + 6, below - 6, below + 6);
            svg += &format!("<path class='cross' d='M{left} {top}L{right} {bottom}M{right} {top}L{left} {bottom}'/>");
            svg += &format!("<text class='end bad' x='{text_at}' y='{}'>it ends here</text>", below + 4);
        }
    }
    svg + "\n</svg>"
}

/// An arrow's head just before the place that it leads to.
fn arrow(from: (usize, usize), to: (usize, usize), class: &str) -> String {
    let (dx, dy) = (to.0 as f64 - from.0 as f64, to.1 as f64 - from.1 as f64);
    let length = dx.hypot(dy);
    let (dx, dy) = (dx / length, dy / length);
    let at = |along: f64, aside: f64| {
        format!("{:.1} {:.1}", to.0 as f64 - dx * along - dy * aside, to.1 as f64 - dy * along + dx * aside)
    };
    format!("<path class='arrow {class}' d='M{}L{}L{}Z'/>", at(5.0, 0.0), at(14.0, 4.5), at(14.0, -4.5))
}

fn short(text: &str, most: usize) -> String {
    let text = one_line(text);
    match text.chars().count() <= most {
        true => text,
        false => text.chars().take(most - 1).chain(['\u{2026}']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;

    fn forwarding() -> Ladders {
        samples::broken().steps[2].checks[1].ladders.clone().expect("it has a ladder")
    }

    #[test]
    fn the_end_is_marked_and_what_would_have_come_next_is_said() {
        let html = figures(&forwarding());
        assert!(html.contains("it ends at server, into tun0"), "{html}");
        assert!(html.contains("next would have been server, out of eth1"), "{html}");
        assert_eq!(html.matches("it ends here").count(), 1);
        assert_eq!(html.matches("class='place missing'").count(), 2);
        // Both have the lane of the host that the packet never came to.
        assert_eq!(html.matches(">userv</text>").count(), 2);
    }

    #[test]
    fn one_way_is_drawn_by_itself() {
        let seen = forwarding().seen;
        let lost = figure("useru > userv", "it ends at <server>", &seen, false);
        assert!(lost.contains("it ends here") && lost.contains("&lt;server&gt;"), "{lost}");
        let arrived = figure("useru > userv", "it is back", &seen, true);
        assert!(arrived.contains(">arrived</text>") && !arrived.contains("odd"), "{arrived}");
    }

    #[test]
    fn a_packet_that_arrived_ends_nowhere() {
        let mut ladders = forwarding();
        ladders.seen = ladders.expected.clone();
        let html = figures(&ladders);
        assert!(!html.contains("ends here") && !html.contains("missing"), "{html}");
        assert!(html.contains("6 places, all as they should be"), "{html}");
    }

    #[test]
    fn a_way_that_differs_is_told_from_one_that_ends() {
        let ladders = samples::broken().steps[3].checks[0].ladders.clone().unwrap();
        let html = figures(&ladders);
        assert!(html.contains("it goes another way at useru, out of eth0"), "{html}");
    }

    #[test]
    fn empty_and_strange_ladders_are_drawn_too() {
        let mut ladders = forwarding();
        ladders.seen.rows.clear();
        assert!(figures(&ladders).contains("it was seen nowhere"));
        ladders.expected.rows.clear();
        ladders.expected.hosts.clear();
        ladders.seen.hosts.clear();
        let html = figures(&ladders);
        assert!(html.contains("it was seen nowhere") && html.matches("<figure>").count() == 1, "{html}");
    }
}
