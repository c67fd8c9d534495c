//! The log: what a program did and what went wrong, on stderr, and in a file where the user names one.
//!
//! stdout is for results alone. The file gets both, each line with its time, so that one file tells the whole run. A
//! log that cannot be written (a full disk, a closed terminal) is lost, which is said once; it never ends the program.

use std::fs::{File, OpenOptions};
use std::io::{self, LineWriter, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{ArgAction, Args};
use log::LevelFilter;
use simplelog::{
    ColorChoice, CombinedLogger, Config, ConfigBuilder, SharedLogger, TermLogger, TerminalMode, WriteLogger,
};

use crate::error::{Context, Error, Exit, Result};
use crate::output;

/// The log target of what stdout or stderr shows already: only the file gets it.
pub const RESULTS: &str = "results";

/// How much is logged, and where to.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// Log more on stderr: what is done in between, and with -vv everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less on stderr: warnings only, and with -qq errors only
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub quiet: u8,
    /// Append the log and the result lines to FILE too, each with its time
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// Starts the log; called once, before anything is logged.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(args: &LogArgs) -> Result<()> {
    let level = level(args);
    let colors = if output::error_has_colour() { ColorChoice::Always } else { ColorChoice::Never };
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![TermLogger::new(level, terminal_format(), TerminalMode::Stderr, colors)];
    if let Some(path) = &args.log_file {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file =
            file.map_err(|error| Error::usage(format!("cannot open log file {}", path.display())).because(error))?;
        let file = LineWriter::new(LogFile::new(FILE.get_or_init(|| file)));
        loggers.push(WriteLogger::new(level.max(LevelFilter::Info), file_format(), file));
    }
    CombinedLogger::init(loggers).context(|| "cannot start the log".into())
}

/// The log file, where there is one.
static FILE: OnceLock<File> = OnceLock::new();

/// The log file, for a process that closes everything else.
pub fn file() -> Option<&'static File> {
    FILE.get()
}

/// A file that says on stderr when it cannot be written, once. The log itself is locked while it writes.
struct LogFile {
    file: &'static File,
    told: bool,
}

impl LogFile {
    fn new(file: &'static File) -> Self {
        Self { file, told: false }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted && !std::mem::replace(&mut self.told, true) {
                let _ = writeln!(io::stderr(), "[WARN] cannot write to the log file: {error}");
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where the user learns what else the machine lacks.
const POINTER: &str = "; `vpnlab doctor` tells what this machine lacks";

/// Reports the error that ends the program, and returns its exit code: one line on stderr, and in the log file; nothing where
/// nobody reads.
pub fn fatal(error: &Error) -> u8 {
    if error.exit() != Exit::Unread {
        let line = last_words(error);
        // Not eprintln, which panics when nobody reads stderr any more.
        let _ = writeln!(io::stderr(), "vpnlab: {line}");
        log::error!(target: RESULTS, "{line}");
    }
    error.exit() as u8
}

/// An error as it is reported: with a pointer to `vpnlab doctor` where the machine lacks something. A program that was
/// started by this one may have said so already.
fn last_words(error: &Error) -> String {
    let line = error.to_string();
    match error.exit() {
        Exit::Environment if !line.ends_with(POINTER) => line + POINTER,
        _ => line,
    }
}

fn level(args: &LogArgs) -> LevelFilter {
    match (args.quiet, args.verbose) {
        (0, 0) => LevelFilter::Info,
        (0, 1) => LevelFilter::Debug,
        (0, _) => LevelFilter::Trace,
        (1, _) => LevelFilter::Warn,
        (_, _) => LevelFilter::Error,
    }
}

/// `[INFO] Interface name: tun0`; the libraries underneath say nothing that a student could use.
fn terminal_format() -> Config {
    let mut format = ConfigBuilder::new();
    format.set_time_level(LevelFilter::Off).set_target_level(LevelFilter::Off).set_thread_level(LevelFilter::Off);
    format.set_location_level(LevelFilter::Off).add_filter_allow_str("vpnlab");
    format.build()
}

/// The same with the time in front, in UTC (RFC 3339), and with what stdout and stderr showed.
fn file_format() -> Config {
    let mut format = ConfigBuilder::new();
    format.set_time_format_rfc3339().set_target_level(LevelFilter::Off).set_thread_level(LevelFilter::Off);
    format.set_location_level(LevelFilter::Off).add_filter_allow_str("vpnlab").add_filter_allow_str(RESULTS);
    format.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(quiet: u8, verbose: u8) -> LevelFilter {
        level(&LogArgs { quiet, verbose, log_file: None })
    }

    #[test]
    fn each_v_logs_more_and_each_q_less() {
        assert_eq!([0, 1, 2].map(|v| level_of(0, v)), [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace]);
        assert_eq!([1, 2].map(|q| level_of(q, 0)), [LevelFilter::Warn, LevelFilter::Error]);
    }

    #[test]
    fn where_the_machine_lacks_something_the_error_points_to_the_doctor_once() {
        let lacking = Error::environment("cannot do it").hint("run with sudo");
        let said = last_words(&lacking);
        assert_eq!(said, "cannot do it; run with sudo; `vpnlab doctor` tells what this machine lacks");
        assert_eq!(last_words(&Error::environment(said.clone())), said);
        assert_eq!(last_words(&Error::failed("cannot do it")), "cannot do it");
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_an_error() {
        let args = LogArgs { log_file: Some("/proc/none/log".into()), ..LogArgs::default() };
        let error = start(&args).unwrap_err();
        assert!(error.to_string().starts_with("cannot open log file /proc/none/log: "), "{error}");
    }
}
