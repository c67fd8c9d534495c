//! The keys, each with what it does; `?` shows them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::Action;

/// What is shown of them. The screen has room for 13.
pub const KEYS: [(&str, &str); 13] = [
    ("q, ctrl-c", "quit"),
    ("space", "hold still; go on with the newest packets"),
    ("up, down, pages", "pick a packet; in an open one, a field of it"),
    ("enter", "open the packet that is picked, or the newest"),
    ("left, right", "in an open packet: the interface before, the next on its way"),
    ("tab, shift-tab", "in an open packet: the next layer, the one before"),
    ("esc", "close; pick nothing"),
    ("h", "only packets that were at one host: each in turn, then all"),
    ("p", "only packets of one protocol: each in turn, then all"),
    ("t", "only packets that were in the tunnel, or all"),
    ("l", "a line for each packet (= in the tunnel), or for each place"),
    ("a", "all interfaces, or those of the lab's own networks"),
    ("c", "forget the packets so far"),
];

/// What a key does.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | '\\' | 'd') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('z') => Some(Action::Suspend),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q' | 'Q') => Action::Quit,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::First,
        KeyCode::End => Action::Last,
        KeyCode::Left => Action::Left,
        KeyCode::Right => Action::Right,
        KeyCode::Tab => Action::NextLayer,
        KeyCode::BackTab => Action::PreviousLayer,
        KeyCode::Enter => Action::Open,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Char('h') => Action::Host,
        KeyCode::Char('p') => Action::Protocol,
        KeyCode::Char('t') => Action::Tunnel,
        KeyCode::Char('l') => Action::Lines,
        KeyCode::Char('a') => Action::Interfaces,
        KeyCode::Char('c') => Action::Clear,
        KeyCode::Char('?') => Action::Help,
        _ => return None,
    })
}
