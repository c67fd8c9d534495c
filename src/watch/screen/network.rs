//! The hosts, a line for each interface, with the wires between them drawn beside, and the counters.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Look, put, put_right};
use crate::watch::state::{Host, Interface, Rate, State};

/// The columns.
const HOST: u16 = 1;
const INTERFACE: u16 = 10;
const ADDRESS: u16 = 16;
const WIRES: u16 = 32;
/// Where the numbers end, counted from the left.
const NUMBERS: [u16; 4] = [56, 63, 72, 79];

/// A line.
struct Row<'s> {
    host: &'s str,
    is_first: bool,
    interface: &'s Interface,
}

/// What connects interfaces: a wire, or the tunnel.
struct Wire {
    name: String,
    is_tunnel: bool,
    /// The lines of its ends, in order.
    rows: Vec<usize>,
    lane: usize,
}

impl Wire {
    fn covers(&self, row: usize) -> bool {
        self.first() <= row && row <= self.last()
    }

    fn first(&self) -> usize {
        self.rows.first().copied().unwrap_or(0)
    }

    fn last(&self) -> usize {
        self.rows.last().copied().unwrap_or(0)
    }
}

/// How many lines it all takes.
pub fn height(state: &State) -> u16 {
    1 + rows(state).len() as u16
}

fn rows(state: &State) -> Vec<Row<'_>> {
    state.hosts.iter().flat_map(|host| of_host(state, host)).collect()
}

fn of_host<'s>(state: &'s State, host: &'s Host) -> impl Iterator<Item = Row<'s>> {
    let shown = host.interfaces.iter().filter(|interface| state.shows(interface)).enumerate();
    shown.map(|(at, interface)| Row { host: &host.name, is_first: at == 0, interface })
}

/// The wires, each in a lane of its own as far as they are beside each other.
fn wires(state: &State, rows: &[Row<'_>]) -> Vec<Wire> {
    let ends = |wanted: &dyn Fn(&Interface) -> bool| -> Vec<usize> {
        rows.iter().enumerate().filter(|(_, row)| wanted(row.interface)).map(|(at, _)| at).collect()
    };
    let mut wires: Vec<Wire> = state
        .networks
        .iter()
        .enumerate()
        .map(|(at, network)| (network.name.clone(), false, ends(&|interface| interface.network == Some(at))))
        .chain([("tunnel".to_string(), true, ends(&|interface| interface.is_tun))])
        .filter(|(_, _, rows)| !rows.is_empty())
        .map(|(name, is_tunnel, rows)| Wire { name, is_tunnel, rows, lane: 0 })
        .collect();
    wires.sort_by_key(Wire::first);
    let mut lanes: Vec<usize> = Vec::new();
    for wire in &mut wires {
        let free = lanes.iter().position(|last| *last < wire.first());
        wire.lane = free.unwrap_or(lanes.len());
        match free {
            Some(lane) => lanes[lane] = wire.last(),
            None => lanes.push(wire.last()),
        }
    }
    wires
}

/// Draws as much of it as there is room for.
pub fn draw(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    let rows = rows(state);
    let wires = wires(state, &rows);
    for (x, name) in [(HOST, "host"), (INTERFACE, "interface"), (WIRES, "wires")] {
        put(buffer, area, x, 0, name, look.strong());
    }
    for (end, name) in NUMBERS.into_iter().zip(["sent", "bit/s", "received", "bit/s"]) {
        put_right(buffer, area, area.width - end, 0, name, look.strong());
    }
    let room = usize::from(area.height) - 1;
    let shown = if rows.len() > room { room - 1 } else { rows.len() };
    for (at, row) in rows.iter().take(shown).enumerate() {
        draw_row(look, area, buffer, at as u16 + 1, row);
        draw_wires(look, area, buffer, at, row.interface, &wires);
    }
    if rows.len() > shown {
        let more = format!("and {} more interfaces: a larger screen shows them", rows.len() - shown);
        put(buffer, area, INTERFACE, shown as u16 + 1, &more, look.faint());
    }
}

fn draw_row(look: &Look, area: Rect, buffer: &mut Buffer, y: u16, row: &Row<'_>) {
    if row.is_first {
        let name: String = row.host.chars().take(usize::from(INTERFACE - HOST) - 1).collect();
        put(buffer, area, HOST, y, &name, look.strong());
    }
    let Interface { name, address, is_tun, passed, sent, received, .. } = row.interface;
    let style = if *is_tun { look.inner() } else { look.plain() };
    let name: String = name.chars().take(usize::from(ADDRESS - INTERFACE) - 1).collect();
    put(buffer, area, INTERFACE, y, &name, style);
    let address: String = address.as_deref().unwrap_or("-").chars().take(usize::from(WIRES - ADDRESS) - 1).collect();
    put(buffer, area, ADDRESS, y, &address, style);
    let numbers = [count(passed.sent), rate(*sent), count(passed.received), rate(*received)];
    let is_live = [sent.packets > 0, sent.packets > 0, received.packets > 0, received.packets > 0];
    for ((end, number), is_live) in NUMBERS.into_iter().zip(numbers).zip(is_live) {
        let style = if is_live { look.strong() } else { look.plain() };
        put_right(buffer, area, area.width - end, y, &number, style);
    }
}

/// The wires beside a line: the one that leads to its interface, and those that pass.
fn draw_wires(look: &Look, area: Rect, buffer: &mut Buffer, row: usize, interface: &Interface, wires: &[Wire]) {
    let column = |lane: usize| WIRES + 2 + 2 * lane as u16;
    let y = row as u16 + 1;
    let style = |wire: &Wire| if wire.is_tunnel { look.inner() } else { look.plain() };
    for wire in wires.iter().filter(|wire| wire.covers(row)) {
        let symbol = if wire.is_tunnel { look.double_vertical() } else { look.vertical() };
        put(buffer, area, column(wire.lane), y, symbol, style(wire));
    }
    let lanes = wires.iter().map(|wire| wire.lane + 1).max().unwrap_or(0);
    let label = column(lanes);
    let room = usize::from((NUMBERS[0] - 6).saturating_sub(label));
    let Some(own) = wires.iter().find(|wire| wire.rows.contains(&row)) else { return };
    let is_dead = !interface.is_up || !interface.has_carrier;
    let dead = match (interface.is_up, interface.is_tun) {
        (false, _) => "down",
        (true, true) => "unread",
        (true, false) => "no carrier",
    };
    let across = match (is_dead, own.is_tunnel) {
        (true, _) => ".",
        (false, true) => look.double_horizontal(),
        (false, false) => look.horizontal(),
    };
    for x in WIRES..column(own.lane) {
        let passing = wires.iter().find(|wire| wire.covers(row) && wire.lane != own.lane && column(wire.lane) == x);
        let symbol = match passing {
            Some(wire) if !is_dead => look.crossing(own.is_tunnel, wire.is_tunnel),
            Some(_) => continue,
            None => across,
        };
        put(buffer, area, x, y, symbol, style(own));
    }
    let joint = look.joint(row == own.first(), row == own.last(), own.is_tunnel);
    put(buffer, area, column(own.lane), y, joint, style(own));
    let name = if is_dead { dead } else { own.name.as_str() };
    if is_dead || row == own.first() {
        let name: String = name.chars().take(room).collect();
        put(buffer, area, label, y, &name, if is_dead { look.error() } else { style(own) });
    }
}

/// A number of packets, in eight characters at most.
fn count(number: u64) -> String {
    if number < 10_000_000 { number.to_string() } else { short(number) }
}

fn rate(rate: Rate) -> String {
    if rate.packets == 0 && rate.bits == 0 { "-".into() } else { short(rate.bits) }
}

/// A number in three digits and a letter.
pub fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| number >= *unit) else { return number.to_string() };
    let tenths = number / (unit / 10);
    match tenths {
        0..100 => format!("{}.{}{letter}", tenths / 10, tenths % 10),
        _ => format!("{}{letter}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let table =
            [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (9_414_000_000, "9.4G"), (u64::MAX, "18446744T")];
        for (number, text) in table {
            assert_eq!(short(number), text);
        }
        assert_eq!((count(9_999_999), count(10_000_000)), ("9999999".into(), "10M".into()));
    }
}
