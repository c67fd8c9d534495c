//! A rubric: refused in one line, or points that are numbers, for every check.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::grade::checks::CHECKS;
use vpnlab::grade::rubric::Rubric;

fuzz_target!(|text: &str| {
    match Rubric::parse(text) {
        Ok(rubric) => {
            let sum: f64 = CHECKS.iter().map(|(_, _, id, _)| rubric.of(id)).sum();
            assert!(sum.is_finite() && sum > 0.0, "{sum}");
        }
        Err(line) => assert!(!line.is_empty() && !line.contains('\n'), "{line:?}"),
    }
});
