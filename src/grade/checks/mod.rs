//! The checks of the four steps: what is done, what must be seen on the wire, and what was.
//!
//! Each step file plays its part on one or more [`Stage`]s and asks the [`Judge`] to record each check. A check that
//! cannot be made since an earlier one failed is `not run`; whatever the grader itself fails at is an `error`, and never
//! the student's.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::grade::evidence;
use crate::grade::model::{CauseSeen, Check, Grade, Ladders, Status, StepGrade, Transcript, Warning};
use crate::grade::program::Program;
use crate::grade::sandbox::{self, Sandbox};
use crate::grade::stage::Stage;
use crate::grade::submission::{Role, Submission};
use crate::grade::worker::{Job, Told};

mod beside;
mod device;
mod ports;
mod step1;
mod step2;
mod step3;
mod step4;
mod warnings;

/// What the steps are about.
pub const STEPS: [(u8, &str); 4] = [
    (1, "a TUN device, and answers to pings"),
    (2, "packets inside of datagrams"),
    (3, "the server writes and routes them"),
    (4, "both directions"),
];

/// All checks: the step, the program that it needs, the name, what is checked.
pub const CHECKS: [(u8, Role, &str, &str); 25] = [
    (1, Role::Tun, "step1.tun-device", "tun.py creates a TUN device without packet information"),
    (1, Role::Tun, "step1.tun-address", "It has the address 10.1.3.1/24, and is up"),
    (1, Role::Tun, "step1.tun-prints", "It prints the packets that come out of the device"),
    (1, Role::TunPing, "step1.ping-device", "tun_ping.py has its TUN device up, with the address 10.1.3.1/24"),
    (1, Role::TunPing, "step1.ping-replies", "A ping is answered, exact to the bit"),
    (1, Role::TunPing, "step1.ping-sizes", "Pings of all sizes, identifiers and sequence numbers are answered"),
    (1, Role::TunPing, "step1.ping-addresses", "Pings to all addresses behind the device are answered"),
    (1, Role::TunPing, "step1.ping-nothing-else", "What is no echo request gets no answer"),
    (1, Role::TunPing, "step1.ping-alive", "The program is still there after all that"),
    (2, Role::Client, "step2.client-device", "The client has its TUN device up, with the address 10.1.3.1/24"),
    (2, Role::Client, "step2.client-payload", "Each packet becomes a datagram whose payload it is, byte for byte"),
    (2, Role::Client, "step2.client-destination", "The datagrams go to port 9090 of the server"),
    (2, Role::UdpServer, "step2.sink-prints", "The UDP server prints the outer and the inner addresses"),
    (2, Role::UdpServer, "step2.together", "What useru sends into the tunnel is shown by the UDP server"),
    (3, Role::Server, "step3.server-device", "The server has a TUN device, and it is up"),
    (3, Role::Server, "step3.server-delivers", "userv receives the packet unchanged but for TTL and checksum"),
    (3, Role::Server, "step3.through-tun", "It has come through the server's TUN device"),
    (3, Role::Server, "step3.together", "A ping from useru arrives at userv through both programs"),
    (4, Role::VpnServer, "step4.ping-userv", "A ping from useru to userv is answered"),
    (4, Role::VpnServer, "step4.ping-userw", "A ping from useru to userw is answered"),
    (4, Role::VpnServer, "step4.ping-back", "A ping from userv to useru's address in the tunnel is answered"),
    (4, Role::VpnServer, "step4.large", "Large pings are answered"),
    (4, Role::VpnServer, "step4.many", "A hundred pings are answered, and UDP and TCP at both ends"),
    (4, Role::VpnServer, "step4.client-moves", "A client that was started anew, from another port, is answered"),
    (4, Role::VpnServer, "step4.only-in-the-tunnel", "The packets went through the tunnel, and no other way"),
];

/// How long something may take that a program does for one packet; scapy on a busy machine takes a tenth of a second.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long nothing must happen that must not happen.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Why a check failed.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// What should have been seen.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// As `trace` finds it.
    pub cause: Option<CauseSeen>,
    /// What the student may be told.
    pub hint: Option<String>,
    /// The packet's way.
    pub ladders: Option<Ladders>,
    /// Whether it came to its destination all the same, by another way than it should have.
    pub went_round: bool,
}

impl Failure {
    /// A failure without a packet's way.
    pub fn new(expected: impl Into<String>, observed: impl Into<String>) -> Self {
        Self { expected: expected.into(), observed: observed.into(), ..Self::default() }
    }
}

/// What a check found.
pub type Found = Result<(), Box<Failure>>;

/// Records what the checks find.
pub struct Judge<'j> {
    job: &'j Job,
    /// What to grade.
    pub submission: &'j Submission,
    sandbox: &'j Sandbox,
    tell: &'j dyn Fn(&Told),
    checks: Vec<Check>,
    warnings: Vec<Warning>,
}

impl<'j> Judge<'j> {
    /// How long a program may take to start.
    pub fn start_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.job.start_timeout)
    }

    /// A fresh lab as at the start of a step.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn stage(&self, step: u8) -> Result<Stage<'j>> {
        Stage::set(self.sandbox, self.submission, step, self.start_timeout())
    }

    /// Makes a check, and says whether it was passed.
    pub fn check(
        &mut self,
        id: &str,
        stage: &mut Stage<'_>,
        work: impl FnOnce(&mut Stage<'_>) -> Result<Found>,
    ) -> bool {
        let started = Instant::now();
        let found = work(stage);
        let mut check = blank(id);
        check.seconds = started.elapsed().as_secs_f64();
        check.done.clone_from(&stage.done);
        match found {
            Ok(Ok(())) => {
                check.status = Status::Pass;
                check.points = check.max_points;
            }
            Ok(Err(failure)) => {
                check.status = Status::Fail;
                check.expected = Some(failure.expected);
                check.observed = Some(match stage.excess() {
                    Some(excess) => format!("the programs were ended: {excess}"),
                    None => with_the_ended(failure.observed, stage),
                });
                check.cause = failure.cause;
                check.hint = failure.hint;
                check.ladders = failure.ladders;
                check.transcripts = stage.transcripts().into_iter().map(shortened).collect();
            }
            Err(error) => {
                check.status = Status::Error;
                check.because = Some(error.to_string());
                check.transcripts = stage.transcripts().into_iter().map(shortened).collect();
            }
        }
        if self.job.evidence {
            evidence::tell(id, stage, self.tell);
        }
        let passed = check.status == Status::Pass;
        self.record(check);
        passed
    }

    /// Says that something was seen that costs no points.
    pub fn warn(&mut self, id: &str, text: String) {
        self.warnings.push(Warning { id: id.into(), text });
    }

    fn record(&mut self, check: Check) {
        (self.tell)(&Told::Check(Box::new(check.clone())));
        self.checks.push(check);
    }

    /// Whether a check was made, and passed.
    pub fn passed(&self, id: &str) -> bool {
        self.checks.iter().any(|check| check.id == id && check.status == Status::Pass)
    }

    /// The checks of a step that were not made, each with the reason.
    fn leave_out(&mut self, step: u8, error: Option<&Error>) {
        let failed: Vec<String> =
            self.checks.iter().filter(|it| it.status != Status::Pass).map(|it| it.id.clone()).collect();
        for (_, role, id, _) in CHECKS.iter().filter(|(of, ..)| *of == step) {
            if self.checks.iter().any(|check| check.id == *id) {
                continue;
            }
            let mut check = blank(id);
            let missing = self.submission.command(*role).is_none();
            // The last one that failed of the same program, or else of the same step.
            let of_role = |failed: &&String| CHECKS.iter().any(|(_, its, known, _)| known == failed && its == role);
            let of_step = |failed: &&String| failed.starts_with(&id[..5]);
            let before = failed.iter().rev().find(of_role).or_else(|| failed.iter().rev().find(of_step));
            check.because = Some(match (error, before) {
                (Some(error), _) => error.to_string(),
                _ if missing => format!("there is no {}", role.file()),
                (None, Some(before)) => format!("{before} was not passed"),
                (None, None) => "another program of this step is missing".into(),
            });
            if error.is_some() {
                check.status = Status::Error;
            }
            // The handout's first program is none that is handed in.
            if missing && *role == Role::Tun {
                check.max_points = 0.0;
            }
            self.record(check);
        }
    }
}

/// A check that was not run yet.
fn blank(id: &str) -> Check {
    let title = CHECKS.iter().find(|(_, _, known, _)| *known == id).map_or("", |(.., title)| title);
    Check {
        id: id.into(),
        title: title.into(),
        status: Status::NotRun,
        points: 0.0,
        max_points: 1.0,
        seconds: 0.0,
        done: Vec::new(),
        expected: None,
        observed: None,
        because: None,
        cause: None,
        hint: None,
        ladders: None,
        transcripts: Vec::new(),
    }
}

/// Grades a submission.
///
/// # Errors
/// The machine lacks something that every submission needs.
pub fn run(job: &Job, submission: &Submission, sandbox: &Sandbox, tell: &dyn Fn(&Told)) -> Result<Grade> {
    let started = Instant::now();
    let mut judge = Judge { job, submission, sandbox, tell, checks: Vec::new(), warnings: Vec::new() };
    if !submission.left_out.is_empty() {
        const SHOWN: usize = 5;
        let mut names: Vec<_> = submission.left_out.iter().take(SHOWN).map(|it| it.display().to_string()).collect();
        if let Some(more @ 1..) = submission.left_out.len().checked_sub(SHOWN) {
            names.push(format!("and {more} more"));
        }
        judge.warn("left-out", format!("the programs do not see what is too large: {}", names.join(", ")));
    }
    if let Some(why) = prepare(&mut judge)? {
        return Ok(refused(&submission.name, &job.steps, why));
    }
    for step in &job.steps {
        let done = match step {
            1 => step1::judge(&mut judge),
            2 => step2::judge(&mut judge),
            3 => step3::judge(&mut judge),
            _ => step4::judge(&mut judge),
        };
        judge.leave_out(*step, done.as_ref().err());
    }
    let Judge { checks, warnings, .. } = judge;
    let seconds = started.elapsed().as_secs_f64();
    let mut grade = Grade { seconds, warnings, sandbox: sandbox::limits(job.is_open), ..Grade::of(&submission.name) };
    grade.steps = by_step(&job.steps, &checks);
    grade.sum_up();
    Ok(grade)
}

/// The grade of a submission that cannot be graded through its own fault: none of its checks was run, and all of them count.
pub fn refused(name: &str, steps: &[u8], why: String) -> Grade {
    let because = || Some("the submission cannot be graded".to_string());
    let checks: Vec<Check> = CHECKS.iter().map(|(_, _, id, _)| Check { because: because(), ..blank(id) }).collect();
    let mut grade = Grade { error: Some(why), steps: by_step(steps, &checks), ..Grade::of(name) };
    grade.sum_up();
    grade
}

/// The checks of some steps, in their order.
fn by_step(steps: &[u8], checks: &[Check]) -> Vec<StepGrade> {
    let place = |check: &&Check| CHECKS.iter().position(|(_, _, id, _)| *id == check.id);
    let of = |step: u8, title: &str| {
        let prefix = format!("step{step}.");
        let mut checks: Vec<&Check> = checks.iter().filter(|check| check.id.starts_with(&prefix)).collect();
        checks.sort_by_key(place);
        StepGrade { step, title: title.into(), checks: checks.into_iter().cloned().collect() }
    };
    STEPS.iter().filter(|(step, _)| steps.contains(step)).map(|(step, title)| of(*step, title)).collect()
}

/// Builds the submission, and sees that scapy is there where it needs it. Returns why the submission cannot be judged.
fn prepare(judge: &mut Judge<'_>) -> Result<Option<String>> {
    const BUILD: Duration = Duration::from_secs(60);
    let mut stage = judge.stage(0)?;
    let python = judge.job.python.clone();
    if judge.submission.programs.values().any(|words| words.first() == Some(&python)) {
        let (import, what) = match judge.submission.uses_scapy {
            true => ("import scapy.all", "cannot import scapy in the sandbox"),
            false => ("import socket, struct", "cannot be run in the sandbox"),
        };
        // Isolated (-I): a scapy.py of the student's own is no concern of the machine's.
        let words = [python.as_str(), "-I", "-c", import].map(String::from);
        let place = stage.run("useru", &words)?;
        let ended = stage.wait_to_start(BUILD, |stage| Ok(!stage.program(place).runs()))?;
        let program = stage.program(place);
        if !ended {
            let error = Error::environment(format!("{python} has not done `{import}` after {} s", BUILD.as_secs()));
            return Err(error.hint("the machine is busy: grade fewer at a time (--jobs 1)"));
        }
        if program.exit_code() != Some(0) {
            let error = Error::environment(format!("{python} {what}: {}", last_line(&program.output())));
            let hint =
                "install it for every user (apt-get install python3 python3-scapy), or choose another with --python";
            return Err(error.hint(hint));
        }
    }
    let Some(build) = judge.submission.build.clone() else { return Ok(None) };
    let place = stage.run("useru", &build)?;
    let ended = stage.wait(BUILD, |stage| Ok(!stage.program(place).runs()))?;
    if let Some(excess) = stage.excess() {
        return Ok(Some(format!("{} was ended: {excess}", build.join(" "))));
    }
    let program = stage.program(place);
    Ok(match program.exit_code() {
        _ if !ended => Some(format!("{} takes longer than {} s", build.join(" "), BUILD.as_secs())),
        Some(0) => None,
        _ => Some(format!("{} failed: {}", build.join(" "), program.output().trim())),
    })
}

/// What a program printed as it stands in a grade: the begin and the end of what is long. Grades are in memory until all
/// submissions are graded; `--evidence` has the whole.
fn shortened(mut it: Transcript) -> Transcript {
    const HALF: usize = 8 << 10;
    let characters: Vec<char> = it.output.chars().collect();
    if let Some(left_out) = characters.len().checked_sub(3 * HALF) {
        let begin: String = characters[..HALF].iter().collect();
        let end: String = characters[characters.len() - HALF..].iter().collect();
        it.output = format!("{begin}\n[... {} characters are left out here ...]\n{end}", left_out + HALF);
        it.truncated = true;
    }
    it
}

/// A TUN device is gone: its program has ended, or is about to, and may still be saying why.
fn gone<T>(stage: &mut Stage<'_>, what: &str) -> Result<Result<T, Box<Failure>>> {
    await_an_end(stage)?;
    Ok(Err(Box::new(Failure::new(what, "it is gone"))))
}

/// Waits a moment for the end of a program: its device goes before the program does.
fn await_an_end(stage: &mut Stage<'_>) -> Result<()> {
    const MOMENT: Duration = Duration::from_secs(1);
    stage.wait(MOMENT, |stage| Ok((0..stage.count()).any(|place| !stage.program(place).runs()))).map(drop)
}

/// What was seen; and which program has ended by itself, unless that has been said.
fn with_the_ended(observed: String, stage: &mut Stage<'_>) -> String {
    let ended = (0..stage.count()).find_map(|place| {
        let program = stage.program(place);
        let code = (!program.runs()).then(|| program.exit_code()).flatten()?;
        Some(format!("the program on {} ended (exit code {code}): {}", program.host(), last_line(&program.output())))
    });
    match ended {
        Some(ended) if !observed.contains("the program ended") => format!("{observed}; {ended}"),
        _ => observed,
    }
}

/// How a program has ended, and what it said last.
fn ending(program: &Program) -> String {
    let code = program.exit_code().map_or(String::new(), |code| format!(" (exit code {code})"));
    format!("the program ended{code}: {}", last_line(&program.output()))
}

/// The last line of what a program has printed that is not empty; where it is Python's about an exception, with the
/// place in the submission's files that it names last.
pub fn last_line(output: &str) -> String {
    const LONGEST: usize = 300;
    let lines = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let last = lines().next().unwrap_or("it printed nothing");
    let last: String = last.chars().take(LONGEST).collect();
    let traceback = lines().take_while(|line| !line.starts_with("Traceback "));
    // File "/submission/tun.py", line 7, in main
    let place =
        traceback.filter_map(|line| line.strip_prefix("File \"")?.split_once("\", line ")).find_map(|(file, rest)| {
            let line = rest.split(',').next()?.parse::<u32>().ok()?;
            let is_own = !file.starts_with(['/', '<']) || file.starts_with("/submission/");
            is_own.then(|| format!(" ({}, line {line})", file.trim_start_matches("/submission/")))
        });
    let is_exception =
        last.split([':', ' ']).next().is_some_and(|word| word.ends_with("Error") || word.ends_with("Exception"));
    format!("{last}{}", place.filter(|_| is_exception).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_transcript_the_begin_and_the_end_are_kept() {
        let transcript = |output: String| Transcript {
            host: "useru".into(),
            command: "x".into(),
            output,
            truncated: false,
            end: "gone".into(),
        };
        let short = transcript("é".repeat(10_000));
        assert_eq!(shortened(short.clone()), short);
        let long = shortened(transcript(format!("begin{}end", "é".repeat(100_000))));
        assert!(long.truncated && long.output.chars().count() < 17_000, "{}", long.output.len());
        assert!(
            long.output.starts_with("beginé")
                && long.output.ends_with("éend")
                && long.output.contains(" 83624 characters are left out")
        );
    }

    #[test]
    fn the_last_line_of_an_exception_has_its_place() {
        assert_eq!(last_line("one\ntwo \n\n"), "two");
        assert_eq!(last_line(""), "it printed nothing");
        assert_eq!(last_line(&"é".repeat(1000)).chars().count(), 300);
        let syntax = "  File \"/submission/tun.py\", line 7\n    while True\n    ^^^\nSyntaxError: expected ':'\n";
        assert_eq!(last_line(syntax), "SyntaxError: expected ':' (tun.py, line 7)");
        let within = "Traceback (most recent call last):\n  File \"/submission/tun.py\", line 7, in <module>\n    f()\n\
            \x20 File \"/usr/lib/python3/x.py\", line 90, in f\n    raise\nOSError: [Errno 22] Invalid argument\n";
        assert_eq!(last_line(within), "OSError: [Errno 22] Invalid argument (tun.py, line 7)");
        assert_eq!(last_line("  File \"tun.py\", line 7\nready\n"), "ready");
    }
}
