//! What a program prints at once, for people or for other programs: an error where it cannot be written, never a panic.
//!
//! `println!` panics on a full disk and on a closed stream. The result lines of a step are [`crate::lines`]. This is also the
//! one place that knows whether there are colours.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::atomic::{AtomicU8, Ordering};

use clap::{Args, ValueEnum};

use crate::error::{Context, Error, Result};

/// Writes this to standard output as it is.
///
/// # Errors
/// It cannot be written, as to a full disk; or nobody reads it any more, which is not reported.
pub fn text(text: impl Display) -> Result<()> {
    let mut stdout = stdout().lock();
    written(write!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// What has become of something that was written to standard output by others.
///
/// # Errors
/// As of [`text`].
pub fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::unread()),
        result => result.context(|| "cannot write to standard output".into()),
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// As of [`text`].
pub fn line(line: impl Display) -> Result<()> {
    text(format_args!("{line}\n"))
}

/// When there are colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Colours {
    /// On a terminal, unless NO_COLOR or TERM=dumb forbids them
    #[default]
    Auto,
    /// In any case
    Always,
    /// In no case
    Never,
}

/// Whether there are colours.
#[derive(Debug, Clone, Default, Args)]
pub struct ColourArgs {
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long = "color",
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    colours: Colours,
}

impl ColourArgs {
    /// Goes by it from now on.
    pub fn apply(&self) {
        choose(self.colours);
    }
}

static CHOSEN: AtomicU8 = AtomicU8::new(Colours::Auto as u8);

fn choose(colours: Colours) {
    CHOSEN.store(colours as u8, Ordering::Relaxed);
}

/// Goes by `--color` before the command line is understood: help and mistakes are told before that. What is no such option
/// after all is put right by [`ColourArgs::apply`].
pub fn choose_early<'a>(words: impl Iterator<Item = &'a OsStr>) {
    let mut words = words.take_while(|word| *word != "--").filter_map(OsStr::to_str);
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if let Some(colours) = value.and_then(|value| Colours::from_str(value, false).ok()) {
            choose(colours);
        }
    }
}

/// Whether standard output shows colours.
pub fn has_colour() -> bool {
    shows_colours(&stdout())
}

/// Whether standard error does.
pub fn error_has_colour() -> bool {
    shows_colours(&stderr())
}

fn shows_colours(stream: &impl IsTerminal) -> bool {
    let chosen = CHOSEN.load(Ordering::Relaxed);
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let by_itself = || stream.is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb";
    chosen == Colours::Always as u8 || (chosen == Colours::Auto as u8 && by_itself())
}

/// Writes a line to standard error; lost where nobody reads it.
pub fn error_line(line: impl Display) {
    // At once: a step's two processes have one stderr, and so have programs side by side.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the choice is the program's.
    #[test]
    fn the_last_color_before_two_hyphens_is_the_choice() {
        let early = |line: &str| {
            choose(Colours::Auto);
            choose_early(line.split(' ').map(OsStr::new));
            CHOSEN.load(Ordering::Relaxed)
        };
        assert_eq!(early("vpnlab --color always --help"), Colours::Always as u8);
        assert_eq!(early("vpnlab lab --color=never status"), Colours::Never as u8);
        assert_eq!(early("vpnlab --color=never --color always"), Colours::Always as u8);
        for line in [
            "vpnlab",
            "vpnlab --color",
            "vpnlab --color=blue",
            "vpnlab --colors never",
            "vpnlab lab exec h -- --color=never",
        ] {
            assert_eq!(early(line), Colours::Auto as u8, "{line}");
        }
        choose(Colours::Always);
        assert!(has_colour() && error_has_colour());
        choose(Colours::Never);
        assert!(!has_colour() && !error_has_colour());
        choose(Colours::Auto);
    }
}
