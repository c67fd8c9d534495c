//! What a program prints at once, for people or for other programs: an error where it cannot be written, never a panic.
//!
//! `println!` panics on a full disk and on a closed stream. The result lines of a step are [`crate::lines`].

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};

use crate::error::{Context, Result};

/// Writes this to standard output as it is.
///
/// # Errors
/// It cannot be written, as to a full disk.
pub fn text(text: impl Display) -> Result<()> {
    let mut stdout = stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).context(|| "cannot write to standard output".into())
}

/// Writes a line to standard output.
///
/// # Errors
/// As of [`text`].
pub fn line(line: impl Display) -> Result<()> {
    text(format_args!("{line}\n"))
}

/// Whether standard output shows colours: a terminal, and nobody has forbidden them (no-color.org).
pub fn has_colour() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard error; lost where nobody reads it.
pub fn error_line(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
