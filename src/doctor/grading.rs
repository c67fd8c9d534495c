//! What `grade` stands on: bubblewrap, and Python with scapy inside of its sandbox. All of it is really run, as it is run
//! for a submission, in a lab that is gone with its process.

use std::process::{Command, Stdio};

use crate::doctor::attempts;
use crate::doctor::model::{Finding, Purpose, State};
use crate::grade::sandbox::SYSTEM;
use crate::grade::trial::Ran;
use crate::programs;

const GRADING: &[Purpose] = &[Purpose::Grading];

const PYTHON: &[&str] = &["python3", "-c", "import socket, struct, sys; print('Python', sys.version.split()[0])"];
const SCAPY: &[&str] = &["python3", "-c", "import scapy, scapy.all; print('scapy', scapy.VERSION)"];

/// What is looked at; there is no sandbox where something else that it stands on is `lacking`.
pub fn look(lacking: Option<&'static str>) -> Vec<Finding> {
    let tools = [tool("bubblewrap", "bwrap", "bubblewrap"), tool("prlimit", "prlimit", "util-linux")];
    let missing = tools.iter().find(|tool| tool.state != State::Ok).map(|tool| tool.title).or(lacking);
    let finding = Finding::of("sandbox", "the sandbox").needed_for(GRADING);
    let (sandbox, ran) = match missing {
        Some(missing) => (finding.untried(missing), None),
        None => match attempts::sandbox(&[&["true"], PYTHON, SCAPY]) {
            Ok(ran) if ran.first().is_some_and(|ran| ran.well) => {
                (finding.ok("a program ran in it, on a host of a lab"), Some(ran))
            }
            Ok(ran) => {
                let said = ran.first().map(|ran| ran.said.clone()).unwrap_or_default();
                let remedy = "run outside the container; or, for programs that you trust, grade --no-sandbox";
                (finding.missing(format!("bubblewrap does not work here: {said}"), remedy), None)
            }
            Err(error) => {
                let remedy = error.remedy().unwrap_or("run outside the container").to_string();
                (finding.missing(error.without_remedy().to_string(), remedy), None)
            }
        },
    };
    // Without a sandbox they are looked for on the machine itself.
    let [python, scapy] = match ran.as_deref() {
        Some([_, python, scapy, ..]) => [python.clone(), scapy.clone()],
        _ => [PYTHON, SCAPY].map(on_the_machine),
    };
    let [bubblewrap, prlimit] = tools;
    vec![bubblewrap, prlimit, sandbox, python_found(&python), scapy_found(&python, &scapy)]
}

fn tool(title: &'static str, program: &str, package: &str) -> Finding {
    let finding = Finding::of(title, title).needed_for(GRADING);
    match programs::on_path(program) {
        Some(file) => finding.ok(file.display().to_string()),
        None => finding.missing(format!("there is no {program}"), super::install(package)),
    }
}

fn python_found(ran: &Ran) -> Finding {
    let finding = Finding::of("python3", "python3").needed_for(GRADING);
    match ran.well {
        true => finding.ok(ran.said.as_str()),
        false => finding.missing(ran.said.as_str(), super::install("python3")),
    }
}

/// The handout's programs are Python with scapy; those of other submissions may be anything.
fn scapy_found(python: &Ran, ran: &Ran) -> Finding {
    let finding = Finding::of("scapy", "scapy").needed_for(GRADING);
    match (python.well, ran.well) {
        (_, true) => finding.ok(ran.said.as_str()),
        (false, _) => finding.untried("python3"),
        _ => finding.missing(ran.said.as_str(), super::install("python3-scapy")),
    }
}

/// Runs a command with the sandbox's path, outside of it.
fn on_the_machine(words: &[&str]) -> Ran {
    let ran = Command::new(words[0]).args(&words[1..]).env_clear().env("PATH", SYSTEM).stdin(Stdio::null()).output();
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_string()
    };
    match ran {
        Ok(output) if output.status.success() => Ran { well: true, said: last(&output.stdout) },
        Ok(output) => Ran { well: false, said: last(&output.stderr) },
        Err(error) => Ran { well: false, said: format!("cannot run {}: {error}", words[0]) },
    }
}
