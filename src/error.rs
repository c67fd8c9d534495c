//! The one error type: what was tried, on what, why it failed, and what the user can do about it.
//!
//! Every error is printed as one line, `operation: cause; hint`, and carries the exit code that belongs to it.
//! Nothing here panics and nothing here logs.

use std::error::Error as StdError;
use std::fmt;

/// What to do about a lack of rights.
pub const RUN_AS_ROOT: &str = "run with sudo, or inside the lab: vpnlab lab exec HOST -- ...";

/// What every fallible function of vpnlab returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the program ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A check failed, or the operation did.
    Failed = 1,
    /// The program was used wrongly: a bad option, an unknown host, a file that does not parse.
    Usage = 2,
    /// The machine lacks something: rights, a device, a kernel feature.
    Environment = 3,
    /// Whoever read its output has gone, as in `vpnlab doctor | head -1`: nothing to report, and the code that shells have for
    /// SIGPIPE.
    Unread = 141,
}

/// An error that names the operation and the object, the cause, and the remedy where there is one.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    hint: Option<String>,
}

impl Error {
    /// An operation that did not succeed (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A wrong use of the program (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that the machine lacks (exit code 3).
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Exit::Environment, message)
    }

    /// Nobody reads the output any more (exit code 141).
    pub fn unread() -> Self {
        Self::new(Exit::Unread, "nobody reads the output")
    }

    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), cause: None, hint: None }
    }

    /// Adds the error underneath.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what the user can do about it; printed last, after a semicolon.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the user can do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error without what can be done about it.
    pub fn without_remedy(mut self) -> Self {
        self.hint = None;
        self
    }

    /// The errno underneath, where the system refused something.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause.as_deref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }

    /// The exit code of a program that ends with this error.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause: Option<&dyn StdError> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

// The whole chain is in Display, so that one line says everything; `source` would repeat it.
impl StdError for Error {}

/// Turns any error into an [`Error`] that says what was being done.
pub trait Context<T> {
    /// `Err(cause)` becomes exit code 1: `what: cause`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::failed(what()).because(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn an_error_is_one_line_of_operation_cause_and_hint() {
        let cause = io::Error::from_raw_os_error(1);
        let error = Error::environment("cannot create TUN device tun0").because(cause).hint("run with sudo");
        assert_eq!(
            error.to_string(),
            "cannot create TUN device tun0: Operation not permitted (os error 1); run with sudo"
        );
        assert_eq!(error.exit(), Exit::Environment);
    }
}
