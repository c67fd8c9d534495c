//! The command line: one variant and one `Args` per subcommand.

use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Exit, Result};
use crate::logging::{self, LogArgs};
use crate::output::{self, ColourArgs};
use crate::steps::{client, examples, server, tap_arp, tun_ping, tun_read, udp_sink, vpn};
use crate::version::VERSION;
use crate::{completions, demo, doctor, grade, lab, manual, memory, report, trace, watch};

/// Build an IP tunnel step by step, in a lab of its own.
#[derive(Debug, Parser)]
#[command(name = "vpnlab", version = VERSION, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much is logged, and where to.
    #[command(flatten, next_help_heading = "Log and colours")]
    pub log: LogArgs,
    /// Whether there are colours.
    #[command(flatten, next_help_heading = "Log and colours")]
    pub colours: ColourArgs,
}

const EXAMPLES: &str = "EXAMPLES:
  vpnlab demo                  the whole handout, told and shown
  vpnlab lab up                bring the lab up, without root
  vpnlab lab shell useru       a shell on a host; in it: sudo vpnlab tun-ping
  vpnlab lab down              end the lab; nothing is left

Exit codes: 0 done, 1 a check or the operation failed, 2 used wrongly, 3 the machine lacks something.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The testbed: bring it up, look at it, run programs on its hosts
    #[command(after_help = "EXAMPLES:\n  vpnlab lab up --step 4\n  vpnlab lab exec useru -- ping -c1 server\n  \
        vpnlab lab shell server\n  vpnlab lab down")]
    Lab(lab::LabArgs),
    /// The handout from step 0 to step 4, told and shown in a fresh lab
    Demo(demo::DemoArgs),
    /// Follow one packet through the whole lab, and say where it ended and why
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::TraceArgs),
    /// The evidence for a written report: commands, programs' lines, packets' ways, as a page and a folder
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// The lab, live on a terminal: hosts, wires, counters, and every packet opened layer by layer
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchArgs),
    /// Grade programs by what they do on the wire: is each step done, and if not, why?
    #[command(after_help = grade::EXAMPLES)]
    Grade(grade::GradeArgs),
    /// Write the skeleton of the handout's programs, to fill in
    #[command(after_help = grade::init::EXAMPLES)]
    Init(grade::init::InitArgs),
    /// Tell what this machine can do, what it lacks, and how to get that
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Step 1: show the packets that the kernel sends through a TUN device
    #[command(after_help = examples::tun_read())]
    TunRead(tun_read::TunReadArgs),
    /// Step 1: answer pings to every address behind a TUN device
    #[command(after_help = examples::tun_ping())]
    TunPing(tun_ping::TunPingArgs),
    /// Step 2: show the IP packets that arrive inside UDP datagrams
    #[command(after_help = examples::udp_sink())]
    UdpSink(udp_sink::UdpSinkArgs),
    /// Step 2: send what comes out of a TUN device to a server, one way
    #[command(after_help = examples::client())]
    Client(client::ClientArgs),
    /// Step 3: write what arrives in UDP datagrams to a TUN device, one way
    #[command(after_help = examples::server())]
    Server(server::ServerArgs),
    /// Step 4: the whole tunnel, both ways
    #[command(after_help = examples::vpn())]
    Vpn(vpn::VpnArgs),
    /// After the handout: answer the ARP requests that come out of a TAP device
    #[command(after_help = examples::tap_arp())]
    TapArp(tap_arp::TapArpArgs),
    /// Print the script with which a shell completes vpnlab's commands and options
    Completions(completions::CompletionsArgs),
    /// Show the manual page of vpnlab or of a subcommand, or write them all
    Man(manual::ManArgs),
}

impl Cli {
    /// Parses the program's arguments. Help is printed here; so is an error, in one line like any other.
    ///
    /// # Errors
    /// The exit code of a program that has nothing more to do.
    pub fn from_arguments() -> Result<Self, ExitCode> {
        let words: Vec<OsString> = std::env::args_os().skip(1).collect();
        output::choose_early(words.iter().map(OsString::as_os_str));
        let colours = if output::has_colour() { ColorChoice::Always } else { ColorChoice::Never };
        let command = Self::command().color(colours);
        memory::release();
        let parsed = command.try_get_matches().and_then(|mut matches| Self::from_arg_matches_mut(&mut matches));
        parsed.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let written = output::written(error.print());
                ExitCode::from(written.map_or_else(|error| logging::fatal(&error), |()| 0))
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                ExitCode::from(Exit::Usage as u8)
            }
            _ => ExitCode::from(logging::fatal(&Error::usage(mistake(&error)).hint("see --help"))),
        })
    }

    /// Runs the subcommand; returns the exit code.
    pub fn run(&self) -> Result<u8> {
        let step = match &self.command {
            Command::Lab(args) => return lab::run(args),
            Command::Demo(args) => return demo::run(args),
            Command::Trace(args) => return trace::run(args),
            Command::Report(args) => return report::run(args),
            Command::Watch(args) => watch::run(args),
            Command::Grade(args) => return grade::run(args),
            Command::Completions(args) => return completions::run(args, Self::command()),
            Command::Man(args) => return manual::run(args, Self::command()),
            Command::Init(args) => grade::init::run(args),
            Command::Doctor(args) => return doctor::run(args),
            Command::TunRead(args) => tun_read::run(args),
            Command::TunPing(args) => tun_ping::run(args),
            Command::UdpSink(args) => udp_sink::run(args),
            Command::Client(args) => client::run(args),
            Command::Server(args) => server::run(args),
            Command::Vpn(args) => vpn::run(args),
            Command::TapArp(args) => tap_arp::run(args),
        };
        step.map(|()| 0)
    }
}

/// What is wrong with the command line, in one line.
fn mistake(error: &clap::Error) -> String {
    match (number_mistake(error), error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue)) {
        (Some(why), Some(option), Some(value)) => format!("invalid value '{value}' for '{option}': {why}"),
        _ => one_line(&error.to_string()),
    }
}

/// Why something is no number, where that is the mistake: the language's own words for it are no student's.
fn number_mistake(error: &clap::Error) -> Option<&'static str> {
    use std::error::Error as _;
    let cause = error.source()?.downcast_ref::<ParseIntError>()?;
    Some(match cause.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "the number is out of range",
        _ => "a whole number is wanted",
    })
}

/// The message of clap's report without the usage and the tips below it.
fn one_line(report: &str) -> String {
    let message = report.strip_prefix("error: ").unwrap_or(report);
    let lines = message.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_of_the_command_line_is_one_line() {
        let error = Cli::try_parse_from(["vpnlab", "vpn"]).unwrap_err();
        let line = one_line(&error.to_string());
        assert_eq!(line, "the following required arguments were not provided: --role <ROLE>");
    }

    #[test]
    fn what_is_no_number_is_told_in_plain_words() {
        let said = |value: &str| {
            let line = ["vpnlab", "tun-read", "--mtu", value];
            mistake(&Cli::try_parse_from(line).unwrap_err())
        };
        assert_eq!(said("abc"), "invalid value 'abc' for '--mtu <BYTES>': a whole number is wanted");
        assert_eq!(said("1.5"), "invalid value '1.5' for '--mtu <BYTES>': a whole number is wanted");
        assert!(said("99999999999999999999").ends_with("': the number is out of range"));
        assert!(said("67").ends_with("67 is not in 68..=65535"), "{}", said("67"));
    }

    #[test]
    fn every_step_shows_examples_in_its_help() {
        for step in ["tun-read", "tun-ping", "udp-sink", "client", "server", "vpn", "tap-arp"] {
            let help = Cli::try_parse_from(["vpnlab", step, "--help"]).unwrap_err().to_string();
            assert!(help.contains(&format!("EXAMPLES:\n  sudo vpnlab {step}")) || step == "udp-sink", "{help}");
            assert!(help.contains("EXAMPLES:\n"), "{help}");
        }
    }
}
