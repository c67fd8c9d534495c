//! The keys, and how to read the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Look, put};
use crate::watch::keys::KEYS;

/// How to read it, each with what it is about.
const READING: [(&str, &str); 6] = [
    ("eth0>  >eth0", "out of its host through eth0; into it"),
    ("[...]", "inside of a UDP datagram; before it, the outer header"),
    ("#7, 0.112", "the packet's number; milliseconds since it was seen first"),
    ("sent, received", "packets, as the interface counts them; now, in bits a second"),
    ("unread", "a TUN device that no program holds"),
    ("1 of 40", "more pass than can be shown: the same ones everywhere"),
];

/// Draws both.
pub fn draw(look: &Look, area: Rect, buffer: &mut Buffer) {
    const WORDS: u16 = 20;
    let mut y = 0;
    put(buffer, area, 1, y, "Keys", look.strong());
    for (key, what) in KEYS {
        y += 1;
        put(buffer, area, 3, y, key, look.key());
        put(buffer, area, WORDS, y, what, look.plain());
    }
    y += 2;
    put(buffer, area, 1, y, "How to read it", look.strong());
    for (sign, what) in READING {
        y += 1;
        put(buffer, area, 3, y, sign, look.key());
        put(buffer, area, WORDS, y, what, look.plain());
    }
}
