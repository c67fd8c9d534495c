//! What the checks are worth: `--rubric FILE`, a table of points in TOML.
//!
//! Applied to a grade when all its checks are made. It knows nothing of submissions, and they nothing of it: it is read
//! and applied outside of the process that grades.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::checks::{CHECKS, STEPS};
use super::model::Grade;
use crate::error::{Error, Result};

/// The most points that a check may have. A number beyond it is a slip.
const MOST: f64 = 1000.0;

/// Points for the checks.
#[derive(Debug, Clone, PartialEq)]
pub struct Rubric {
    default: f64,
    points: BTreeMap<String, f64>,
}

impl Rubric {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is no rubric: the user's mistake, told with its line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| Error::usage(format!("cannot read the rubric {}", path.display())).because(error))?;
        Self::parse(&text).map_err(|problem| {
            Error::usage(format!("rubric {} {problem}", path.display()))
                .hint("`vpnlab grade --print-rubric` writes one with all checks")
        })
    }

    /// Reads a rubric's text; an error says in which line what is wrong.
    ///
    /// # Errors
    /// It is no TOML, or names a check or a key that there is not, or points that are none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let at = |span: Range<usize>, problem: &str| {
            let line = 1 + text[..span.start.min(text.len())].matches('\n').count();
            format!("line {line}: {problem}")
        };
        let file = DeTable::parse(text)
            .map_err(|error| at(error.span().unwrap_or_default(), &error.message().trim().replace('\n', " ")))?;
        let mut rubric = Self { default: 1.0, points: BTreeMap::new() };
        for (key, value) in file.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("default", number) => {
                    rubric.default = points(number).map_err(|problem| at(value.span(), &problem))?;
                }
                ("points", DeValue::Table(table)) => rubric.collect("", table, &at)?,
                ("points", _) => return Err(at(value.span(), "points is no table; write [points]")),
                (other, _) => {
                    return Err(at(key.span(), &format!("there is no key {other:?}; there are default and [points]")));
                }
            }
        }
        match CHECKS.iter().any(|(_, _, id, _)| rubric.of(id) > 0.0) {
            true => Ok(rubric),
            false => Err("lets no check count".into()),
        }
    }

    /// Adds the points of a table. In TOML, `step1.ping-replies = 5` without quotes is a table in a table.
    fn collect(
        &mut self,
        prefix: &str,
        table: &DeTable<'_>,
        at: &dyn Fn(Range<usize>, &str) -> String,
    ) -> Result<(), String> {
        for (key, value) in table {
            let id = format!("{prefix}{}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                self.collect(&format!("{id}."), inner, at)?;
                continue;
            }
            if !CHECKS.iter().any(|(_, _, known, _)| *known == id) {
                return Err(at(key.span(), &format!("there is no check {id:?}")));
            }
            let number = points(value.get_ref()).map_err(|problem| at(value.span(), &format!("{id}: {problem}")))?;
            if self.points.insert(id.clone(), number).is_some() {
                return Err(at(key.span(), &format!("{id} stands here a second time")));
            }
        }
        Ok(())
    }

    /// The points of a check.
    pub fn of(&self, id: &str) -> f64 {
        self.points.get(id).copied().unwrap_or(self.default)
    }

    /// Gives a grade's checks these points, and adds them up. What does not count for the grader itself, like the checks of
    /// a program that need not be handed in, does not count with any rubric.
    pub fn apply(&self, grade: &mut Grade) {
        for check in grade.steps.iter_mut().flat_map(|step| &mut step.checks) {
            if check.max_points > 0.0 {
                let share = check.points / check.max_points;
                check.max_points = self.of(&check.id);
                check.points = share * check.max_points;
            }
        }
        grade.sum_up();
    }
}

/// The points that a value stands for.
fn points(value: &DeValue<'_>) -> Result<f64, String> {
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => return Err("the points are no number".into()),
    };
    match text.parse::<f64>() {
        Ok(number) if (0.0..=MOST).contains(&number) => Ok(number),
        _ => Err(format!("{text} points: they are from 0 to {MOST}")),
    }
}

/// A rubric of all checks, with comments: what counts where there is none.
pub fn commented() -> String {
    let mut text = String::from(
        "# The points of each check: vpnlab grade --rubric THIS-FILE\n\
         # 0: the check is made and reported, and does not count. Halves are fine: 0.5.\n\
         \n\
         # What a check has that is not named below.\n\
         default = 1\n\
         \n\
         [points]\n",
    );
    for (step, title) in STEPS {
        text += &format!("\n# Step {step}: {title}\n");
        for (_, _, id, what) in CHECKS.iter().filter(|(of, ..)| *of == step) {
            let entry = format!("\"{id}\" = 1");
            text += &format!("{entry:<34}# {what}\n");
        }
    }
    text + "\n# The checks of tun.py (step1.tun-...) do not count where there is no tun.py: it is the handout's first\n\
            # try, and no deliverable by itself.\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::model::{Status, VERSION};
    use crate::grade::report::samples;

    /// A grade with all checks, each passed for a point.
    fn passed() -> Grade {
        let mut grade = samples::empty();
        grade.version = VERSION;
        grade.steps = STEPS
            .iter()
            .map(|(step, title)| crate::grade::model::StepGrade {
                step: *step,
                title: (*title).into(),
                checks: CHECKS
                    .iter()
                    .filter(|(of, ..)| of == step)
                    .map(|(_, _, id, _)| {
                        let mut check = samples::check(Status::Pass);
                        (check.id, check.points, check.max_points) = ((*id).into(), 1.0, 1.0);
                        check
                    })
                    .collect(),
            })
            .collect();
        grade.sum_up();
        grade
    }

    fn check<'g>(grade: &'g mut Grade, id: &str) -> &'g mut crate::grade::model::Check {
        grade.steps.iter_mut().flat_map(|step| &mut step.checks).find(|check| check.id == id).unwrap()
    }

    #[test]
    fn the_printed_rubric_changes_nothing() {
        let rubric = Rubric::parse(&commented()).unwrap();
        assert_eq!(rubric.points.len(), CHECKS.len());
        assert!(commented().lines().all(|line| line.len() <= 120), "{}", commented());
        let mut grade = passed();
        rubric.apply(&mut grade);
        assert_eq!(grade, passed());
        assert_eq!((grade.score, grade.passed), (25.0, true));
    }

    #[test]
    fn points_are_the_rubrics_and_the_rest_has_the_default() {
        let rubric = Rubric::parse("default = 2\n[points]\n\"step1.ping-replies\" = 5\nstep4.many = 0.5\n").unwrap();
        let mut grade = passed();
        let failed = check(&mut grade, "step1.ping-replies");
        (failed.status, failed.points) = (Status::Fail, 0.0);
        rubric.apply(&mut grade);
        assert_eq!(grade.max_score, 23.0 * 2.0 + 5.0 + 0.5);
        assert_eq!(grade.score, grade.max_score - 5.0);
        assert!(!grade.passed);
        assert_eq!(check(&mut grade, "step4.many").points, 0.5);
    }

    #[test]
    fn what_has_no_points_does_not_count() {
        let rubric = Rubric::parse("default = 0\n[points]\n\"step1.ping-replies\" = 5\n").unwrap();
        let mut grade = passed();
        let failed = check(&mut grade, "step4.many");
        (failed.status, failed.points) = (Status::Fail, 0.0);
        rubric.apply(&mut grade);
        assert_eq!((grade.score, grade.max_score, grade.passed), (5.0, 5.0, true));
    }

    #[test]
    fn what_the_grader_does_not_count_stays_so() {
        let mut grade = passed();
        let absent = check(&mut grade, "step1.tun-device");
        (absent.status, absent.points, absent.max_points) = (Status::NotRun, 0.0, 0.0);
        grade.sum_up();
        Rubric::parse("default = 4").unwrap().apply(&mut grade);
        assert_eq!((grade.score, grade.max_score, grade.passed), (96.0, 96.0, true));
    }

    #[test]
    fn a_submission_that_cannot_be_graded_is_not_passed_by_a_rubric() {
        let mut grade = samples::unbuildable();
        Rubric::parse("").unwrap().apply(&mut grade);
        assert!(!grade.passed);
    }

    #[test]
    fn a_bad_rubric_is_told_by_its_line() {
        for (text, said) in [
            ("default = 1\n[points]\n\"step1.pings\" = 1\n", "line 3: there is no check \"step1.pings\""),
            ("[points]\nstep9.many = 1\n", "line 2: there is no check \"step9.many\""),
            ("[points]\n\"step4.many\" = -1\n", "line 2: step4.many: -1 points: they are from 0 to 1000"),
            ("[points]\n\n\"step4.many\" = 1e9\n", "line 3: step4.many: 1e9 points: they are from 0 to 1000"),
            ("[points]\n\"step4.many\" = nan\n", "line 2: step4.many: nan points: they are from 0 to 1000"),
            ("[points]\n\"step4.many\" = inf\n", "line 2: step4.many: inf points: they are from 0 to 1000"),
            ("[points]\n\"step4.many\" = \"5\"\n", "line 2: step4.many: the points are no number"),
            ("[points]\n\"step4.many\" = 0xff\n", "line 2: step4.many: the points are no number"),
            ("default = -0.5\n", "line 1: -0.5 points: they are from 0 to 1000"),
            ("defualt = 1\n", "line 1: there is no key \"defualt\"; there are default and [points]"),
            ("points = 5\n", "line 1: points is no table; write [points]"),
            ("[points]\nstep4.many = 1\n\"step4.many\" = 2\n", "line 3: step4.many stands here a second time"),
            ("default = 0\n", "lets no check count"),
        ] {
            assert_eq!(Rubric::parse(text).unwrap_err(), said, "{text}");
        }
        for (text, line) in [("default = \n", "line 1: "), ("[points]\n\"step4.many\" 3\n", "line 2: ")] {
            let said = Rubric::parse(text).unwrap_err();
            assert!(said.starts_with(line) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn a_rubric_that_is_not_there_is_the_users_mistake() {
        let error = Rubric::read(Path::new("/nowhere/rubric.toml")).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        assert!(error.to_string().starts_with("cannot read the rubric /nowhere/rubric.toml: "), "{error}");
    }
}
