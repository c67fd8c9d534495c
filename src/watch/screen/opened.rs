//! One packet, opened: its way, its layers with the fields of one of them, and the bytes beside.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::ladder::{mark, way_style};
use super::{Look, cut, put, put_right, rule};
use crate::watch::layers::{Layer, Part};
use crate::watch::packets::{Journey, Place};
use crate::watch::state::{Opened, State, is_out};

/// The width of the layers, and how many bytes a line has.
const LAYERS: u16 = 41;
const PER_LINE: usize = 8;

/// The column of a field's value.
const VALUE: usize = 18;

/// Draws the packet that is opened.
pub fn draw(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    let (Some(opened), Some((journey, place, layers))) = (state.opened, state.layers()) else { return };
    let sight = &place.sight;
    let title = format!("#{} {} {} {}", journey.number, sight.ends, sight.says, sight.detail);
    put(buffer, area, 1, 0, title.trim_end(), look.strong());
    draw_way(state, look, area, buffer, journey, opened.place);

    let below = Rect { y: area.y + 2, height: area.height - 2, ..area };
    rule(buffer, look, below);
    put(buffer, below, 1, 0, &format!(" {} ", where_it_is(state, journey, place, opened)), look.strong());
    let bytes = match place.length {
        length if length > place.bytes.len() => format!(" {} of {length} bytes ", place.bytes.len()),
        length => format!(" {length} bytes "),
    };
    put_right(buffer, below, 1, 0, &bytes, look.strong());

    let panes = Rect { y: below.y + 1, height: below.height - 1, ..below };
    let left = Rect { width: LAYERS, ..panes };
    let right = Rect { x: panes.x + LAYERS, width: panes.width - LAYERS, ..panes };
    draw_layers(look, left, buffer, &layers, opened);
    draw_bytes(look, right, buffer, place, &layers, opened);
}

fn where_it_is(state: &State, journey: &Journey, place: &Place, opened: Opened) -> String {
    let host = &state.hosts[place.host].name;
    let (at, all, way) = (opened.place + 1, journey.places.len(), if is_out(place) { "out of" } else { "into" });
    format!("{way} {host} through {}, {at} of {all}, {:.3} ms", place.interface, journey.since(place))
}

/// The packet's way, with the place that is looked at.
fn draw_way(state: &State, look: &Look, area: Rect, buffer: &mut Buffer, journey: &Journey, at: usize) {
    let mut x = 1;
    let mut before = None;
    for (number, place) in journey.places.iter().enumerate() {
        if before != Some(place.host) {
            if before.is_some() {
                x += put(buffer, area, x, 1, look.vertical(), look.faint()) + 1;
            }
            x += put(buffer, area, x, 1, &state.hosts[place.host].name, look.strong()) + 1;
            before = Some(place.host);
        }
        let style = way_style(place, look);
        let mark = if place.sight.outer.is_some() { format!("[{}]", mark(place)) } else { mark(place) };
        let style = if number == at { style.patch(look.picked()) } else { style };
        x += put(buffer, area, x, 1, &mark, style) + 1;
    }
}

/// What a layer is called, with what it is part of.
fn name(layer: &Layer) -> String {
    match layer.part {
        Part::Outer => format!("outer {}", layer.title),
        Part::Inner => format!("inner {}", layer.title),
        Part::Quoted => format!("quoted {}", layer.title),
        Part::Wire | Part::Packet => layer.title.clone(),
    }
}

fn style(look: &Look, part: Part) -> Style {
    match part {
        Part::Outer => look.outer(),
        Part::Inner | Part::Packet => look.inner(),
        Part::Wire | Part::Quoted => look.plain(),
    }
}

/// The layers, one of them with its fields.
fn draw_layers(look: &Look, area: Rect, buffer: &mut Buffer, layers: &[Layer], opened: Opened) {
    let mut rows: Vec<(String, Style, bool)> = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let is_open = at == opened.layer;
        let indent = match layer.part {
            Part::Inner | Part::Quoted => format!("{} ", look.vertical()),
            _ => String::new(),
        };
        let style = style(look, layer.part);
        let heading = format!("{indent}{} {}", look.fold(is_open), name(layer));
        rows.push((heading, style.patch(look.strong()), is_open && opened.field.is_none()));
        for (number, field) in layer.fields.iter().enumerate().filter(|_| is_open) {
            let row = format!("{indent}  {:<VALUE$}{}", field.name, field.value);
            rows.push((row, style, opened.field == Some(number)));
        }
    }
    let room = usize::from(area.height);
    let at = rows.iter().position(|(_, _, is_at)| *is_at).unwrap_or(0);
    let first = (at + 1).saturating_sub(room).min(rows.len());
    for ((row, style, is_at), y) in rows[first..].iter().zip(0..area.height) {
        let style = if *is_at { style.patch(look.picked()) } else { *style };
        put(buffer, area, 0, y, if *is_at { "*" } else { " " }, look.strong());
        put(buffer, area, 1, y, &cut(row, usize::from(area.width) - 2, look), style);
    }
}

/// The bytes, those of the layer or field in brackets.
fn draw_bytes(look: &Look, area: Rect, buffer: &mut Buffer, place: &Place, layers: &[Layer], opened: Opened) {
    let bytes = &place.bytes;
    let chosen =
        layers.get(opened.layer).map_or(0..0, |layer| match opened.field.and_then(|at| layer.fields.get(at)) {
            Some(field) => field.range.clone(),
            None => layer.range.clone(),
        });
    let room = usize::from(area.height);
    let lines = bytes.len().div_ceil(PER_LINE);
    // All of what is chosen, or its beginning.
    let last = chosen.end.saturating_sub(1) / PER_LINE;
    let first = (last + 1).saturating_sub(room).min(chosen.start / PER_LINE).min(lines.saturating_sub(room));
    let part = |at: usize| layers.iter().find(|layer| layer.range.contains(&at)).map_or(Part::Wire, |layer| layer.part);
    let looks = |at: usize| {
        let style = style(look, part(at));
        if chosen.contains(&at) { style.patch(look.picked()) } else { style }
    };
    for (line, y) in (first..lines).zip(0..area.height) {
        let start = line * PER_LINE;
        put(buffer, area, 0, y, &format!("{start:04x}"), look.faint());
        for at in start..(start + PER_LINE).min(bytes.len()) {
            let x = 4 + 3 * (at - start) as u16;
            let before = match at {
                _ if chosen.is_empty() => " ",
                at if at == chosen.start => "[",
                at if at == chosen.end && at > start => "]",
                _ => " ",
            };
            put(buffer, area, x, y, before, look.strong());
            put(buffer, area, x + 1, y, &format!("{:02x}", bytes[at]), looks(at));
            if at + 1 == chosen.end && (at + 1 == bytes.len() || at + 1 == start + PER_LINE) {
                put(buffer, area, x + 3, y, "]", look.strong());
            }
            let shown = if bytes[at].is_ascii_graphic() { char::from(bytes[at]) } else { '.' };
            put(buffer, area, 5 + 3 * PER_LINE as u16 + (at - start) as u16, y, &shown.to_string(), looks(at));
        }
    }
}
