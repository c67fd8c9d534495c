//! The packets, newest last: a line for each place of a packet, with a lane for each host; or a line for each packet.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Look, cut, filter_words, put, put_right, rule};
use crate::watch::packets::{Journey, Place};
use crate::watch::state::{Filter, State, is_out};

/// Where the times end, and where the lanes begin.
const TIME: u16 = 9;
const LANES: u16 = 11;

/// A text in parts, each with its look.
pub type Text = Vec<(String, Style)>;

/// Draws the packets that there is room for.
pub fn draw(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    rule(buffer, look, area);
    put_right(buffer, area, 1, 0, &format!(" {} ", filter_words(state, state.filter)), look.strong());
    let room = usize::from(area.height) - 1;
    let journeys = window(state, room);
    if journeys.is_empty() {
        let said = match state.filter == Filter::default() {
            true => "No packet has passed yet.",
            false => "No such packet has passed yet.",
        };
        put(buffer, area, 2, 2, said, look.faint());
        return;
    }
    match state.lines {
        true => draw_lines(state, look, area, buffer, &journeys),
        false => draw_places(state, look, area, buffer, &journeys),
    }
}

/// The packets on the screen: the newest ones, or, where that is not among them, the one that is picked and those after it.
/// Each is whole, but for the first where it is the only one; with how many of its first places there is no room for.
fn window(state: &State, room: usize) -> Vec<(&Journey, usize)> {
    let mut window = last_of(state.shown().rev(), state.lines, room);
    window.reverse();
    let is_whole = |picked: u64| window.iter().any(|(journey, hidden)| journey.number == picked && *hidden == 0);
    match state.picked.filter(|picked| !is_whole(*picked)) {
        None => window,
        Some(picked) => {
            let from = state.shown().filter(|journey| journey.number >= picked);
            last_of(from, state.lines, room).into_iter().map(|(journey, _)| (journey, 0)).collect()
        }
    }
}

/// As many packets as there is room for.
fn last_of<'s>(
    journeys: impl Iterator<Item = &'s Journey>,
    are_lines: bool,
    mut room: usize,
) -> Vec<(&'s Journey, usize)> {
    let mut window = Vec::new();
    for journey in journeys {
        let height = if are_lines { 1 } else { journey.places.len() };
        if height > room {
            if window.is_empty() {
                window.push((journey, height - room));
            }
            break;
        }
        room -= height;
        window.push((journey, 0));
    }
    window
}

fn draw_places(state: &State, look: &Look, area: Rect, buffer: &mut Buffer, journeys: &[(&Journey, usize)]) {
    let places = || journeys.iter().flat_map(|(journey, hidden)| journey.places.iter().skip(*hidden));
    let hosts: Vec<usize> = (0..state.hosts.len()).filter(|host| places().any(|place| place.host == *host)).collect();
    let width = |host: usize| {
        let marks = places().filter(|place| place.host == host).map(|place| place.interface.len() + 1);
        (marks.max().unwrap_or(0).max(state.hosts[host].name.len()) + 1) as u16
    };
    let lanes: Vec<(usize, u16, u16)> = hosts
        .iter()
        .scan(LANES, |x, host| {
            let lane = (*host, *x, width(*host));
            *x += lane.2;
            Some(lane)
        })
        .collect();
    let text_at = lanes.last().map_or(LANES, |(_, x, width)| x + width) + 1;
    let room = usize::from(area.width.saturating_sub(text_at));

    put_right(buffer, area, area.width - TIME, 0, " ms", look.strong());
    put(buffer, area, TIME, 0, " ", look.plain());
    for (host, x, _) in &lanes {
        put(buffer, area, *x - 1, 0, &format!(" {} ", state.hosts[*host].name), look.strong());
    }
    put(buffer, area, text_at - 1, 0, " ", look.plain());
    let x = text_at + put(buffer, area, text_at, 0, "outer ", look.outer());
    put(buffer, area, x, 0, "[inner] ", look.inner());

    let gaps = journeys.len() as u16 - 1;
    let are_apart = places().count() as u16 + gaps < area.height;
    let mut y = 1;
    for (journey, hidden) in journeys {
        // Where there is room, an empty line is between them.
        y += u16::from(are_apart && y > 1);
        for (at, place) in journey.places.iter().enumerate().skip(*hidden) {
            if y >= area.height {
                return;
            }
            let time = match at {
                0 => format!("#{}", journey.number),
                _ => format!("{:.3}", journey.since(place)),
            };
            let style = if at == 0 { look.strong() } else { look.plain() };
            put_right(buffer, area, area.width - TIME, y, &time, style);
            for (host, x, _) in &lanes {
                match *host == place.host {
                    true => put(buffer, area, *x, y, &mark(place), way_style(place, look)),
                    false => put(buffer, area, *x, y, look.vertical(), look.faint()),
                };
            }
            let mut x = text_at;
            for (part, style) in says(place, room, look) {
                x += put(buffer, area, x, y, &part, style);
            }
            if state.picked == Some(journey.number) {
                pick(buffer, look, area, y);
            }
            y += 1;
        }
    }
}

/// Shows that a line is picked.
fn pick(buffer: &mut Buffer, look: &Look, area: Rect, y: u16) {
    put(buffer, area, 0, y, ">", look.strong());
    let line = Rect { y: area.y + y, height: 1, ..area };
    buffer.set_style(line, look.picked());
}

/// The interface of a place, with an arrow out of the host or into it.
pub fn mark(place: &Place) -> String {
    if is_out(place) { format!("{}>", place.interface) } else { format!(">{}", place.interface) }
}

/// Whether it is in a datagram or not, as a colour.
pub fn way_style(place: &Place, look: &Look) -> Style {
    if place.sight.outer.is_some() { look.outer() } else { look.inner() }
}

/// What a packet is at a place, in the longest words that there is room for: the outer header, and in brackets the inner packet.
pub fn says(place: &Place, room: usize, look: &Look) -> Text {
    let sight = &place.sight;
    let style = if sight.is_error { look.error() } else { look.inner() };
    let ttl = sight.ttl.map_or(String::new(), |ttl| format!("ttl {ttl}"));
    let words = |parts: &[&str]| {
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).copied().collect();
        parts.join(" ")
    };
    let inner = [
        words(&[&sight.ends, &sight.says, &sight.detail, &ttl]),
        words(&[&sight.ends, &sight.says, &ttl]),
        words(&[&sight.ends, &sight.says]),
        words(&[&sight.says, &sight.detail]),
        sight.says.clone(),
    ];
    let Some(outer) = &sight.outer else {
        let fits = inner.iter().find(|text| text.chars().count() <= room);
        return vec![(cut(fits.unwrap_or(&inner[4]), room, look), style)];
    };
    let ends =
        [format!("UDP {} > {}", outer.from, outer.to), format!("UDP {} > {}", outer.from.port(), outer.to.port())];
    let choices = ends.iter().flat_map(|ends| inner.iter().map(move |inner| (ends, inner)));
    let length = |(ends, inner): &(&String, &String)| ends.len() + inner.len() + 3;
    match choices.into_iter().find(|choice| length(choice) <= room) {
        Some((ends, inner)) => vec![(format!("{ends} "), look.outer()), (format!("[{inner}]"), style)],
        None => vec![(cut(&format!("[{}]", sight.says), room, look), style)],
    }
}

fn draw_lines(state: &State, look: &Look, area: Rect, buffer: &mut Buffer, journeys: &[(&Journey, usize)]) {
    let ways: Vec<String> = journeys.iter().map(|(journey, _)| way(state, journey, look)).collect();
    let widest = ways.iter().map(|way| way.chars().count()).max().unwrap_or(0) as u16;
    let x = area.width.saturating_sub(widest + 1).max(area.width / 10 * 7);
    put(buffer, area, LANES - 1, 0, " packet ", look.strong());
    if x + 6 + (filter_words(state, state.filter).len() as u16) < area.width {
        put(buffer, area, x - 1, 0, " way ", look.strong());
    }
    for ((journey, _), (way, y)) in journeys.iter().zip(ways.iter().zip(1..)) {
        put_right(buffer, area, area.width - TIME, y, &format!("#{}", journey.number), look.strong());
        if let Some(sight) = journey.sight() {
            let style = if sight.is_error { look.error() } else { look.inner() };
            let said = [&sight.ends, &sight.says, &sight.detail].map(String::as_str);
            let said = said.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
            put(buffer, area, LANES, y, &cut(&said, usize::from(x - LANES - 1), look), style);
        }
        put(buffer, area, x, y, &cut(way, usize::from(area.width - x), look), look.plain());
        if state.picked == Some(journey.number) {
            pick(buffer, look, area, y);
        }
    }
}

/// The hosts that a packet has come through, joined as it was in the tunnel or not.
fn way(state: &State, journey: &Journey, look: &Look) -> String {
    let mut way = String::new();
    let mut before: Option<usize> = None;
    for place in &journey.places {
        if before == Some(place.host) {
            continue;
        }
        match (before, place.sight.outer) {
            (None, _) => {}
            (Some(_), Some(_)) => way += look.double_horizontal(),
            (Some(_), None) => way += look.horizontal(),
        }
        way += &state.hosts[place.host].name;
        before = Some(place.host);
    }
    way
}
