//! The pictures of the packets are what a lab shows today: docs/img/packets draws them anew, and nothing has changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Machine, run, vpnlab};

#[test]
fn the_pictures_show_what_passes_the_lab() {
    let machine = Machine::apart();
    let drawn = nix::unistd::mkdtemp("/tmp/vpnlab-docs-XXXXXX").expect("/tmp can be written");
    crate::common::remove_at_exit(drawn.clone());
    // Where every user can read it, and write beside it.
    let root = Path::new(crate::ROOT);
    for directory in ["docs/img", "lab/benchlib", "new"] {
        fs::create_dir_all(drawn.join(directory)).expect("/tmp can be written");
    }
    for file in ["docs/img/packets", "lab/benchlib/svg.py"] {
        fs::copy(root.join(file), drawn.join(file)).expect("the script can be copied");
    }
    run(Command::new("chmod").args(["-R", "a+rwX"]).arg(&drawn)).ok();
    let mut script = machine.command(drawn.join("docs/img/packets"));
    run(script.arg("--vpnlab").arg(vpnlab()).arg(drawn.join("new"))).ok();
    let mut names = Vec::new();
    for entry in fs::read_dir(drawn.join("new")).expect("it can be read") {
        let name = entry.expect("it can be read").file_name();
        let new = fs::read_to_string(drawn.join("new").join(&name)).expect("a picture is text");
        let old = fs::read_to_string(root.join("docs/img").join(&name)).unwrap_or_default();
        let line = new.lines().zip(old.lines()).find(|(one, other)| one != other);
        assert!(new == old, "{name:?} is not what is seen now; run docs/img/packets. The first difference: {line:#?}");
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        ["step-0.svg", "step-1.svg", "step-2-bytes.svg", "step-2.svg", "step-3.svg", "step-4.svg", "tap-arp.svg"]
    );
}
