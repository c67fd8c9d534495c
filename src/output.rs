//! What a program prints at once, for people or for other programs: an error where it cannot be written, never a panic.
//!
//! `println!` panics on a full disk and on a closed stream. The result lines of a step are [`crate::lines`].

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

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

/// Writes a line to standard error; lost where nobody reads it.
pub fn error_line(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
