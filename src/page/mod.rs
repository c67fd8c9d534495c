//! Pages for a browser: one file each, without scripts, fonts or images from elsewhere; whatever others wrote is text in it, and
//! nothing else. Pure. Stood on by the pages of `grade` and of `report`.

use text::shown;

pub mod ladder;
pub mod text;

/// How the page looks. Light or dark as the reader's system is; light on paper.
const STYLE: &str = include_str!("page.css");

/// Nothing may be loaded, and nothing may run, should a text get through as markup after all.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A page with this title and, as its main part, this body, which is HTML already.
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n\
         <meta http-equiv='Content-Security-Policy' content=\"{POLICY}\">\n\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\n\
         <meta name='color-scheme' content='light dark'>\n<meta name='referrer' content='no-referrer'>\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main id='top'>\n{body}</main>\n</body>\n</html>\n",
        escaped(title)
    )
}

/// A text in which nothing is markup, between tags and within quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in shown(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}
