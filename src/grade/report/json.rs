//! The grades as one JSON document, for programs: the types of [`crate::grade::model`] as they are.

use serde::Serialize;

use crate::grade::model::{Grade, VERSION};

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    grades: &'a [Grade],
}

/// The document: `{ "version": 1, "grades": [...] }`, indented, with a line break at its end. The same grades make the
/// same bytes.
pub fn document(grades: &[Grade]) -> String {
    let document = Document { version: VERSION, grades };
    // There is no map with keys other than strings in the model, the only thing that this could fail of.
    serde_json::to_string_pretty(&document).expect("a grade is JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grade::report::samples;
    use serde_json::Value;

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let grades = samples::all();
        let text = document(&grades);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 1);
        let read: Vec<Grade> = serde_json::from_value(value["grades"].clone()).unwrap();
        assert_eq!(read, grades);
        assert_eq!(document(&read), text);
    }

    #[test]
    fn no_grades_are_an_empty_list() {
        assert_eq!(document(&[]), "{\n  \"version\": 1,\n  \"grades\": []\n}\n");
    }

    #[test]
    fn the_statuses_have_names_of_small_letters() {
        let text = document(&samples::all());
        for status in ["pass", "fail", "not-run", "error"] {
            assert!(text.contains(&format!("\"status\": \"{status}\"")), "{status}");
        }
    }
}
