//! The screen: from the state to a buffer of characters, and nothing else. What it says, it says without colours, too.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::state::{Filter, State};

mod help;
mod ladder;
mod look;
mod network;
mod opened;

pub use look::Look;

/// The least width and height.
pub const WIDTH: u16 = 80;
/// See [`WIDTH`].
pub const HEIGHT: u16 = 24;

/// How many lines the packets have at least, however many interfaces there are.
const LEAST_PACKETS: u16 = 6;

/// Draws everything.
pub fn draw(state: &State, look: &Look, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width < WIDTH || area.height < HEIGHT {
        return too_small(buffer);
    }
    let (title, rest) = split(area, 1);
    let (body, footer) = split(rest, rest.height - 1);
    draw_title(state, look, title, buffer);
    if state.help {
        help::draw(look, body, buffer);
    } else if state.opened.is_some() {
        opened::draw(state, look, body, buffer);
    } else {
        let height = network::height(state).min(body.height - 1 - LEAST_PACKETS);
        let (above, below) = split(body, height);
        network::draw(state, look, above, buffer);
        ladder::draw(state, look, below, buffer);
    }
    draw_footer(state, look, footer, buffer);
}

/// The screen as lines of text, for whoever has no terminal.
pub fn text(state: &State, look: &Look, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, WIDTH, height.max(HEIGHT)));
    draw(state, look, &mut buffer);
    let row = |cells: &[ratatui::buffer::Cell]| {
        let row: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        row.trim_end().to_string() + "\n"
    };
    // Without the keys, which there is nobody to press.
    let rows: Vec<_> = buffer.content.chunks(usize::from(WIDTH)).map(row).collect();
    let text: String = rows[..rows.len() - 1].concat();
    text.trim_end().to_string() + "\n"
}

fn too_small(buffer: &mut Buffer) {
    let area = buffer.area;
    let lines = [
        "Too small a screen:".to_string(),
        format!("{}x{}, {WIDTH}x{HEIGHT} are needed.", area.width, area.height),
        "Enlarge it; q quits.".to_string(),
    ];
    for (line, y) in lines.iter().zip(area.y..area.bottom()) {
        buffer.set_stringn(area.x, y, line, area.width.into(), Style::new());
    }
}

fn draw_title(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    let style = look.title();
    fill(buffer, area, " ", style);
    let mut left = format!("vpnlab watch   lab {}", state.lab);
    if state.is_paused {
        left += "   PAUSED";
    }
    put(buffer, area, 1, 0, &left, style);
    let right = match state.one_of {
        1 => "showing every packet".to_string(),
        many => format!("showing 1 of {many} packets"),
    };
    put_right(buffer, area, 1, 0, &right, style);
}

fn draw_footer(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    let arrows = |words: &'static str, signs: &'static str| if look.is_unicode { signs } else { words };
    let keys: &[(&str, &str)] = if state.help {
        &[("any key", "goes back"), ("q", "quit")]
    } else if state.opened.is_some() {
        &[
            (arrows("left/right", "← →"), "place on its way"),
            (arrows("up/down", "↑ ↓"), "field"),
            ("tab", "layer"),
            ("esc", "close"),
            ("?", "keys"),
            ("q", "quit"),
        ]
    } else {
        &[
            ("space", if state.is_paused { "go on" } else { "pause" }),
            (arrows("up/down", "↑ ↓"), "pick"),
            ("enter", "open"),
            ("h", "host"),
            ("p", "protocol"),
            ("t", "tunnel"),
            ("?", "keys"),
            ("q", "quit"),
        ]
    };
    // Words in place of arrows may leave no room for two spaces in between.
    let width: usize = keys.iter().map(|(key, what)| key.chars().count() + what.chars().count() + 3).sum();
    let gap = if width - 1 > area.width.into() { 1 } else { 2 };
    let mut x = 1;
    for (key, what) in keys {
        x += put(buffer, area, x, 0, key, look.key()) + 1;
        x += put(buffer, area, x, 0, what, look.plain()) + gap;
    }
}

/// What is shown, in words.
fn filter_words(state: &State, filter: Filter) -> String {
    let host = filter.host.and_then(|host| state.hosts.get(host)).map(|host| format!("at {}", host.name));
    let protocol = filter.protocol.map(|protocol| format!("{protocol:?}"));
    let protocol = protocol.map(|name| if name == "Other" { name.to_lowercase() } else { name.to_uppercase() });
    let tunnel = filter.tunnelled.then(|| "in the tunnel".to_string());
    let words: Vec<_> = [protocol, tunnel, host].into_iter().flatten().collect();
    if words.is_empty() { "all packets".into() } else { format!("only {}", words.join(" ")) }
}

/// The first so many lines of an area, and the others.
fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let above = Rect { height, ..area };
    (above, Rect { y: area.y + height, height: area.height - height, ..area })
}

/// Fills an area.
fn fill(buffer: &mut Buffer, area: Rect, symbol: &str, style: Style) {
    for y in area.y..area.bottom() {
        for x in area.x..area.right() {
            if let Some(cell) = buffer.cell_mut((x, y)) {
                cell.set_symbol(symbol).set_style(style);
            }
        }
    }
}

/// Writes a text into an area, as much of it as there is room for; returns its width.
fn put(buffer: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    if x >= area.width || y >= area.height {
        return 0;
    }
    let (end, _) = buffer.set_stringn(area.x + x, area.y + y, text, (area.width - x).into(), style);
    end - area.x - x
}

/// Writes a text that ends so many columns before the right end of an area.
fn put_right(buffer: &mut Buffer, area: Rect, margin: u16, y: u16, text: &str, style: Style) {
    let width = text.chars().count() as u16;
    put(buffer, area, area.width.saturating_sub(width + margin), y, text, style);
}

/// A line across an area.
fn rule(buffer: &mut Buffer, look: &Look, area: Rect) {
    fill(buffer, Rect { height: 1.min(area.height), ..area }, look.horizontal(), look.faint());
}

/// Cuts a text that is too long, and shows that it was cut.
fn cut(text: &str, width: usize, look: &Look) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mark = if look.is_unicode { "…" } else { "~" };
    text.chars().take(width.saturating_sub(1)).chain(mark.chars()).collect()
}

/// A style with colours for those who want them.
fn colour(look: &Look, colour: Color) -> Style {
    if look.has_colour { Style::new().fg(colour) } else { Style::new() }
}

/// Bold, reverse: they are no colours.
fn with(modifier: Modifier) -> Style {
    Style::new().add_modifier(modifier)
}

#[cfg(test)]
mod tests;
