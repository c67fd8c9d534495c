//! Texts of others as something that can do nothing but be read. Pure.

/// A text whose lines stay, and that can do nothing but be read: control characters are shown by their pictures, and
/// what would turn the direction of writing or has no place in XML by a replacement character.
pub fn shown(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars().map(harmless).collect()
}

/// As [`shown`], in one line.
pub fn one_line(text: &str) -> String {
    shown(text.trim()).replace(['\n', '\t'], " ")
}

fn harmless(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        // Their pictures: ESC is shown as one small "ESC".
        '\0'..='\x1f' => char::from_u32(0x2400 + character as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

/// Breaks a text into lines of at most so many characters: between words where that can be, and within one that is
/// longer than a line. Its own line breaks stay.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.trim_end().split('\n') {
        let mut line = String::new();
        let mut length = 0;
        for (place, word) in paragraph.split(' ').enumerate() {
            let word: Vec<char> = word.chars().collect();
            let is_first = place == 0;
            if !is_first && length + 1 + word.len() <= width {
                line.push(' ');
                line.extend(&word);
                length += 1 + word.len();
                continue;
            }
            if !is_first {
                lines.push(std::mem::take(&mut line));
            }
            let mut rest = &word[..];
            while rest.len() > width {
                lines.push(rest[..width].iter().collect());
                rest = &rest[width..];
            }
            line.extend(rest);
            length = rest.len();
        }
        lines.push(line);
    }
    lines
}

/// A name that is a file's in one folder and nothing else: letters, numbers, `-`, `_`, and dots that are not at its begin.
pub fn file_name(name: &str) -> String {
    const LONGEST: usize = 50;
    let kept = |it: char| if it.is_alphanumeric() || "-_.".contains(it) { it } else { '_' };
    let name: String = name.trim_start_matches('.').chars().map(kept).take(LONGEST).collect();
    if name.is_empty() { "_".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_text_has_no_control_characters() {
        assert_eq!(shown("a\x1b[31m\0\r\nb\tc\x7f\r"), "a\u{241b}[31m\u{2400}\nb\tc\u{2421}\u{240d}");
        assert_eq!(shown("\u{202e}x\u{2066}\u{fffe}\u{85}"), "\u{fffd}x\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(one_line(" a\nb\n"), "a b");
    }

    #[test]
    fn lines_break_between_words_and_within_long_ones() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a-word-that-is-longer", 8), ["a-word-t", "hat-is-l", "onger"]);
        assert_eq!(wrap("a b-word-that\nc", 8), ["a", "b-word-t", "hat", "c"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("  indented", 20), ["  indented"]);
    }

    #[test]
    fn a_file_name_stays_in_its_folder() {
        for (name, safe) in [
            ("asha-verma", "asha-verma"),
            ("Zoë Müller_123_assignsubmission_file", "Zoë_Müller_123_assignsubmission_file"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "_"),
            ("", "_"),
            ("a\0b\nc", "a_b_c"),
            ("step1.tun-device", "step1.tun-device"),
        ] {
            assert_eq!(file_name(name), safe);
        }
        assert!(file_name(&"\u{1d54f}".repeat(1000)).len() <= 200);
    }
}
