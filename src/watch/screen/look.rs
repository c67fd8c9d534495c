//! How things look: characters for terminals that have Unicode and for those that have not; few colours, each with a meaning.

use ratatui::style::{Color, Modifier, Style};

use super::{colour, with};

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it shows more than ASCII.
    pub is_unicode: bool,
    /// Whether colours are wanted.
    pub has_colour: bool,
}

impl Look {
    /// What the locale (locale(7)) says of the terminal: the first of these variables that is set counts.
    pub fn of_locale(variable: impl Fn(&str) -> Option<String>, has_colour: bool) -> Self {
        let set =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|it| !it.is_empty()));
        let set = set.unwrap_or_default().to_lowercase();
        Self { is_unicode: set.contains("utf-8") || set.contains("utf8"), has_colour }
    }

    /// Text as it is.
    pub fn plain(&self) -> Style {
        Style::new()
    }

    /// The first line.
    pub fn title(&self) -> Style {
        with(Modifier::REVERSED | Modifier::BOLD)
    }

    /// Headings, hosts.
    pub fn strong(&self) -> Style {
        with(Modifier::BOLD)
    }

    /// Lines and what is less important.
    pub fn faint(&self) -> Style {
        colour(self, Color::DarkGray)
    }

    /// A key.
    pub fn key(&self) -> Style {
        with(Modifier::BOLD)
    }

    /// The datagram around a packet.
    pub fn outer(&self) -> Style {
        colour(self, Color::Yellow)
    }

    /// The packet itself, and all that belongs to the tunnel's inside.
    pub fn inner(&self) -> Style {
        colour(self, Color::Cyan)
    }

    /// Errors and losses.
    pub fn error(&self) -> Style {
        colour(self, Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What is picked.
    pub fn picked(&self) -> Style {
        with(Modifier::REVERSED)
    }

    /// A line from left to right.
    pub fn horizontal(&self) -> &'static str {
        if self.is_unicode { "─" } else { "-" }
    }

    /// A line from top to bottom.
    pub fn vertical(&self) -> &'static str {
        if self.is_unicode { "│" } else { "|" }
    }

    /// The same of the tunnel.
    pub fn double_horizontal(&self) -> &'static str {
        if self.is_unicode { "═" } else { "=" }
    }

    /// See [`Look::double_horizontal`].
    pub fn double_vertical(&self) -> &'static str {
        if self.is_unicode { "║" } else { "H" }
    }

    /// Where a line from the left meets one from top to bottom that begins here, ends here, or goes on; of the tunnel or not.
    pub fn joint(&self, begins: bool, ends: bool, is_double: bool) -> &'static str {
        match (self.is_unicode, is_double, begins, ends) {
            (false, false, ..) => "+",
            (false, true, ..) => "#",
            (true, false, true, true) => "╴",
            (true, false, true, false) => "┐",
            (true, false, false, true) => "┘",
            (true, false, false, false) => "┤",
            (true, true, true, true) => "╸",
            (true, true, true, false) => "╗",
            (true, true, false, true) => "╝",
            (true, true, false, false) => "╣",
        }
    }

    /// Where a line to the right crosses one from top to bottom that it does not touch.
    pub fn crossing(&self, across_is_double: bool, down_is_double: bool) -> &'static str {
        match (self.is_unicode, across_is_double, down_is_double) {
            (false, false, _) => "-",
            (false, true, _) => "=",
            (true, false, false) => "┼",
            (true, true, false) => "╪",
            (true, false, true) => "╫",
            (true, true, true) => "╬",
        }
    }

    /// What stands before a layer that is open, or closed.
    pub fn fold(&self, is_open: bool) -> &'static str {
        match (self.is_unicode, is_open) {
            (true, true) => "▾",
            (true, false) => "▸",
            (false, true) => "v",
            (false, false) => ">",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_whether_there_is_more_than_ascii() {
        let table: [(&[(&str, &str)], bool); 6] = [
            (&[("LANG", "en_GB.UTF-8")], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.UTF-8"), ("LANG", "C")], true),
            (&[("LANG", "de_DE.ISO-8859-1")], false),
            (&[], false),
        ];
        for (set, is_unicode) in table {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            assert_eq!(Look::of_locale(variable, true).is_unicode, is_unicode, "{set:?}");
        }
    }
}
