//! What is found, and what follows from it: pure.

use serde::Serialize;

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is there, and works.
    Ok,
    /// It works with a restriction.
    Limited,
    /// It could not be tried, since something else is missing.
    Untried,
    /// It is not there, or does not work.
    Missing,
}

/// What somebody wants to do with this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// `lab`, `demo` and `trace`; the steps on the lab's hosts.
    Lab,
    /// The steps on the machine itself.
    Steps,
    /// `vpn` with all that makes it fast.
    FastPath,
    /// `grade`.
    Grading,
    /// The commands that the handout has students type on the hosts.
    Handout,
    /// `lab tmux`.
    Tmux,
}

impl Purpose {
    /// All of them, in the order in which they are summed up.
    pub const ALL: [Self; 6] = [Self::Lab, Self::Steps, Self::Grading, Self::FastPath, Self::Handout, Self::Tmux];

    /// What it is called beside a finding.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Steps => "steps",
            Self::FastPath => "fast path",
            Self::Grading => "grade",
            Self::Handout => "handout",
            Self::Tmux => "lab tmux",
        }
    }

    /// What it is called in the summary.
    pub fn title(self, is_root: bool) -> &'static str {
        match (self, is_root) {
            (Self::Lab, true) => "lab as root",
            (Self::Lab, false) => "lab without root",
            (Self::Steps, true) => "steps as root",
            (Self::Steps, false) => "steps with sudo",
            (Self::FastPath, _) => "fast path",
            (Self::Grading, _) => "grading",
            (Self::Handout, _) => "handout's commands",
            (Self::Tmux, _) => "lab tmux",
        }
    }

    /// Whether vpnlab's commands, or the handout's, fail without it. The steps also run on the hosts of a lab, and what the
    /// others give is speed or comfort.
    pub fn counts(self) -> bool {
        matches!(self, Self::Lab | Self::Grading | Self::Handout)
    }
}

/// Something that this machine has or lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What programs know it by.
    pub id: &'static str,
    /// What people know it by.
    pub title: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// What cannot be done without it.
    pub needed_for: &'static [Purpose],
    /// What is done less well without it.
    pub helps: &'static [Purpose],
    /// How to get it, where it is not all there.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding that is not judged yet: untried.
    pub fn of(id: &'static str, title: &'static str) -> Self {
        let (state, seen) = (State::Untried, "not tried".into());
        Self { id, title, state, seen, needed_for: &[], helps: &[], remedy: None }
    }

    /// Says what cannot be done without it.
    pub fn needed_for(mut self, purposes: &'static [Purpose]) -> Self {
        self.needed_for = purposes;
        self
    }

    /// Says what is done less well without it.
    pub fn helps(mut self, purposes: &'static [Purpose]) -> Self {
        self.helps = purposes;
        self
    }

    /// It is there.
    pub fn ok(mut self, seen: impl Into<String>) -> Self {
        (self.state, self.seen) = (State::Ok, seen.into());
        self
    }

    /// It is there, but not all of it.
    pub fn limited(self, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Limited, seen: seen.into(), remedy: Some(remedy.into()), ..self }
    }

    /// It is not there.
    pub fn missing(self, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Missing, seen: seen.into(), remedy: Some(remedy.into()), ..self }
    }

    /// It could not be tried without something else.
    pub fn untried(mut self, without: &str) -> Self {
        (self.state, self.seen) = (State::Untried, format!("not tried, for want of {without}"));
        self
    }
}

/// Whether something can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It can.
    Yes,
    /// It can, less well.
    Limited,
    /// It cannot.
    No,
}

/// What follows from the findings for a purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The purpose.
    pub purpose: Purpose,
    /// Its title.
    pub title: &'static str,
    /// Whether it can be done.
    pub answer: Answer,
    /// Whether the exit code is 3 where it cannot.
    pub counts: bool,
    /// The titles of the findings that are in the way.
    pub because: Vec<&'static str>,
}

impl Summary {
    /// Sums up the findings for each purpose.
    pub fn all(findings: &[Finding], is_root: bool) -> Vec<Self> {
        Purpose::ALL.into_iter().map(|purpose| Self::of(purpose, findings, is_root)).collect()
    }

    fn of(purpose: Purpose, findings: &[Finding], is_root: bool) -> Self {
        let titles = |is_in_the_way: &dyn Fn(&Finding) -> bool| -> Vec<&'static str> {
            findings.iter().filter(|finding| is_in_the_way(finding)).map(|finding| finding.title).collect()
        };
        let needed = |finding: &Finding| finding.needed_for.contains(&purpose);
        let missing = titles(&|finding| needed(finding) && finding.state == State::Missing);
        // What could not be tried is in the way of itself only where nothing else explains it.
        let untried = titles(&|finding| needed(finding) && finding.state == State::Untried);
        let limits = titles(&|finding| match finding.state {
            State::Limited => needed(finding) || finding.helps.contains(&purpose),
            State::Missing | State::Untried => finding.helps.contains(&purpose),
            State::Ok => false,
        });
        let (answer, because) = match (missing.is_empty(), untried.is_empty(), limits.is_empty()) {
            (false, ..) => (Answer::No, missing),
            (_, false, _) => (Answer::No, untried),
            (.., false) => (Answer::Limited, limits),
            _ => (Answer::Yes, Vec::new()),
        };
        Self { purpose, title: purpose.title(is_root), answer, counts: purpose.counts(), because }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(title: &'static str) -> Finding {
        Finding::of(title, title).needed_for(&[Purpose::Lab]).helps(&[Purpose::FastPath])
    }

    fn lab_and_fast_path(findings: &[Finding]) -> [(Answer, Vec<&'static str>); 2] {
        [Purpose::Lab, Purpose::FastPath].map(|purpose| {
            let summary = Summary::of(purpose, findings, false);
            (summary.answer, summary.because)
        })
    }

    #[test]
    fn what_is_needed_and_missing_is_a_no_and_what_helps_a_limit() {
        let there = finding("there").ok("");
        assert_eq!(lab_and_fast_path(std::slice::from_ref(&there)), [(Answer::Yes, vec![]), (Answer::Yes, vec![])]);
        let gone = finding("gone").missing("", "");
        let [lab, fast] = lab_and_fast_path(&[there.clone(), gone]);
        assert_eq!([lab, fast], [(Answer::No, vec!["gone"]), (Answer::Limited, vec!["gone"])]);
        let less = finding("less").limited("", "");
        let [lab, fast] = lab_and_fast_path(&[there, less]);
        assert_eq!([lab, fast], [(Answer::Limited, vec!["less"]), (Answer::Limited, vec!["less"])]);
    }

    #[test]
    fn what_could_not_be_tried_is_no_yes_and_what_is_missing_explains_it() {
        let untried = finding("untried").untried("something");
        assert_eq!(lab_and_fast_path(std::slice::from_ref(&untried))[0], (Answer::No, vec!["untried"]));
        let gone = finding("gone").missing("", "");
        assert_eq!(lab_and_fast_path(&[untried, gone])[0], (Answer::No, vec!["gone"]));
    }
}
