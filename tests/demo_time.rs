//! `vpnlab demo` shows every step in under ten seconds. In a file of its own: nothing else runs beside it.

mod common;

use common::{Machine, User, run};
use serde_json::Value;

#[test]
fn every_step_shows_what_it_must_in_under_ten_seconds() {
    for user in [User::Plain, User::Root] {
        let machine = Machine::new(user);
        let done = run(&mut machine.demo(&["--json"])).ok();
        let told: Value = serde_json::from_str(&done.stdout).expect("the demo prints JSON");
        assert_eq!(told["passed"], true, "{told:#}");
        let steps = told["steps"].as_array().unwrap();
        let numbers: Vec<_> = steps.iter().map(|step| step["step"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(told["seconds"].as_f64().unwrap() < 10.0, "{user:?}: {}", told["seconds"]);
    }
}
