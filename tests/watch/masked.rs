//! A screen of `vpnlab watch` without what differs from one run to the next: counters, rates, times, chosen ports, checksums.

/// The characters of a screen.
struct Grid(Vec<Vec<char>>);

impl Grid {
    fn of(screen: &[String]) -> Self {
        Self(screen.iter().map(|line| format!("{line:<80}").chars().collect()).collect())
    }

    fn line(&self, row: usize) -> String {
        self.0[row].iter().collect()
    }

    /// Replaces what stands in these columns, if anything does.
    fn put(&mut self, row: usize, columns: std::ops::Range<usize>, text: &str) {
        if self.0[row][columns.clone()].iter().any(|character| *character != ' ') {
            let width = columns.len();
            let text: Vec<char> = format!("{text:>width$}").chars().collect();
            self.0[row].splice(columns, text);
        }
    }

    /// Replaces the digits (of base 16) that follow this text, by as many of `by`.
    fn hide(&mut self, row: usize, after: &str, by: char) {
        let line = self.line(row);
        for (at, _) in line.match_indices(after) {
            let start = line[..at].chars().count() + after.chars().count();
            for character in self.0[row][start..].iter_mut().take_while(|character| character.is_ascii_hexdigit()) {
                *character = by;
            }
        }
    }

    fn text(&self) -> String {
        let lines: Vec<_> = (0..self.0.len()).map(|row| self.line(row).trim_end().to_string() + "\n").collect();
        lines.concat()
    }
}

/// A screen on which nothing differs.
pub fn nothing(screen: &[String]) -> String {
    Grid::of(screen).text()
}

/// The picture of the lab and the packets.
pub fn overview(screen: &[String]) -> String {
    let mut grid = Grid::of(screen);
    let heading = (0..grid.0.len()).find(|row| grid.line(*row).starts_with("──────")).unwrap_or(grid.0.len() - 1);
    for row in 2..heading {
        for columns in [48..56, 57..63, 64..72, 73..79] {
            grid.put(row, columns, "N");
        }
    }
    for row in heading + 1..grid.0.len() - 1 {
        // The first column shows what is picked.
        let time: String = grid.0[row][1..9].iter().collect();
        match time.trim() {
            number if number.starts_with('#') => grid.put(row, 1..9, "#N"),
            time if time.parse::<f64>().is_ok() => grid.put(row, 1..9, "N.NNN"),
            _ => {}
        }
        grid.hide(row, "UDP 10.1.2.2:", 'N');
        grid.hide(row, "> 10.1.2.2:", 'N');
    }
    grid.text()
}

/// An open packet of the tunnel with an echo request in it, as it is on the wire.
pub fn opened(screen: &[String]) -> String {
    /// Addresses of interfaces; identification, checksum and source port of the datagram; identification and checksum of the
    /// packet inside; checksum and identifier of the echo, and the time that ping puts into it.
    const DIFFER: [std::ops::Range<usize>; 8] = [0..12, 18..20, 24..26, 34..36, 40..42, 46..48, 52..54, 64..68];
    const TIME: std::ops::Range<usize> = 70..86;
    let mut grid = Grid::of(screen);
    // The packet's number has one digit, or more.
    let digits = grid.0[1].iter().skip(2).take_while(|character| character.is_ascii_digit()).count();
    grid.0[1].splice(2..2 + digits, ['N']);
    let line = grid.line(3);
    // It may not be open yet.
    let Some(time) = line.find(" ms ").filter(|_| line.starts_with("─ ")) else { return grid.text() };
    let columns = line[..time].chars().count();
    let start = line[..time].rfind(' ').map_or(0, |at| line[..at].chars().count() + 1);
    grid.0[3].splice(start..columns, "N.NNN".chars());
    // The line between fills what is left.
    let line = grid.line(3);
    let Some((left, right)) = line.split_once(" ──") else { return grid.text() };
    let right = right.trim_start_matches('─').trim_end();
    let rule = "─".repeat(80 - left.chars().count() - 1 - right.chars().count());
    grid.0[3] = format!("{left} {rule}{right}").chars().collect();
    for row in 4..grid.0.len() - 1 {
        grid.hide(row, "0x", 'N');
        grid.hide(row, "outer UDP ", 'N');
        for at in (row - 4) * 8..(row - 4) * 8 + 8 {
            if DIFFER.iter().chain([&TIME]).any(|range| range.contains(&at)) {
                let (hex, text) = (41 + 5 + 3 * (at % 8), 41 + 29 + at % 8);
                grid.put(row, hex..hex + 2, "xx");
                grid.put(row, text..text + 1, ".");
            }
        }
    }
    grid.text()
}
