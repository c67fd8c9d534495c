//! Two texts beside each other, as HTML: what is expected, and what was seen. Used by the page alone.

use crate::page::escaped;

/// Texts with more words than this are not compared: it takes their product.
const MOST_WORDS: usize = 400;

/// Both texts as HTML. Where they share most of their words, as two dumps of a packet do, the bytes and numbers are
/// marked that the other does not have.
pub fn compared(expected: &str, observed: &str) -> (String, String) {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.split_whitespace().collect(), observed.split_whitespace().collect());
    if a.len().max(b.len()) > MOST_WORDS {
        return (escaped(expected), escaped(observed));
    }
    // The longest common subsequence: how long it is for the ends of both from here.
    let mut length = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i][j] = if a[i] == b[j] { length[i + 1][j + 1] + 1 } else { length[i + 1][j].max(length[i][j + 1]) };
        }
    }
    if length[0][0] * 2 < a.len().min(b.len()) {
        return (escaped(expected), escaped(observed));
    }
    let (mut in_a, mut in_b) = (vec![false; a.len()], vec![false; b.len()]);
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            (in_a[i], in_b[j]) = (true, true);
            (i, j) = (i + 1, j + 1);
        } else if length[i + 1][j] >= length[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    (marked(expected, &in_a), marked(observed, &in_b))
}

/// A text with marks at the bytes and numbers that are not shared.
fn marked(text: &str, shared: &[bool]) -> String {
    let mut html = String::new();
    let mut words = 0;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let is_byte = word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let differs = !word.is_empty() && !shared[words];
        words += usize::from(!word.is_empty());
        if differs && (is_byte || word.bytes().any(|byte| byte.is_ascii_digit())) {
            html += &format!("<mark>{}</mark>{}", escaped(word), escaped(&piece[word.len()..]));
        } else {
            html += &escaped(piece);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_differ_are_marked() {
        let (expected, observed) = compared("45 00 00 24 ttl", "45 00 08 24 <ttl>");
        assert_eq!(expected, "45 00 <mark>00</mark> 24 ttl");
        assert_eq!(observed, "45 00 <mark>08</mark> 24 &lt;ttl&gt;");
        let (expected, observed) = compared("an echo reply from 10.1.1.2", "nothing within 2 s");
        assert!(!expected.contains("mark") && !observed.contains("mark"), "they share nothing");
        let (expected, _) = compared("  two\n\nlines  ", "two lines");
        assert_eq!(expected, "  two\n\nlines  ", "white space stays");
    }
}
