//! The table of all submissions, which leads the page where there are several.

use std::collections::BTreeMap;

use super::html::{class, in_short, named, score, short, status_of, symbol, word};
use super::{points, points_of};
use crate::grade::model::{Grade, Status};
use crate::page::escaped;

/// The table of all submissions.
pub fn table(grades: &[Grade]) -> String {
    let steps: BTreeMap<u8, ()> = grades.iter().flat_map(|grade| &grade.steps).map(|step| (step.step, ())).collect();
    let passed = grades.iter().filter(|grade| grade.passed && grade.error.is_none()).count();
    let columns: String =
        steps.keys().map(|step| format!("<th scope='col' class='number step'>Step {step}</th>")).collect();
    let mut html = format!(
        "<header class='index'>\n<h1>Grades</h1>\n<p class='soft'>{} submissions, {passed} passed</p>\n\
         <div class='scroll'><table>\n<thead><tr><th scope='col'>Submission</th>{columns}\
         <th scope='col' class='number'>Points</th><th scope='col'>What is wrong first</th></tr></thead>\n<tbody>\n",
        grades.len()
    );
    for (place, grade) in grades.iter().enumerate() {
        html += &format!("<tr><th scope='row'><a href='#g{place}'>{}</a></th>", named(grade));
        for number in steps.keys() {
            let step = grade.steps.iter().find(|step| step.step == *number);
            html += &step.map_or("<td class='number step'>\u{2013}</td>".into(), |step| {
                let (reached, possible) = points_of(step);
                let status = status_of(step);
                let (class, symbol) = (class(status), symbol(status));
                let points = format!("{}/{}", points(reached), points(possible));
                format!(
                    "<td class='number step {class}'>{points} {symbol}<span class='unseen'> {}</span></td>",
                    word(status)
                )
            });
        }
        let first = grade.checks().find(|check| matches!(check.status, Status::Fail | Status::Error));
        let wrong = match (&grade.error, first) {
            (Some(error), _) => format!("Nothing could be graded: {}", short(error)),
            (None, Some(check)) => in_short(check),
            (None, None) => String::new(),
        };
        html += &format!("<td class='number'>{}</td><td class='wrong'>{}</td></tr>\n", score(grade), escaped(&wrong));
    }
    html + "</tbody>\n</table></div>\n</header>\n"
}
