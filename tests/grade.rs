//! `vpnlab grade` on a real kernel, as a plain user and as root: every submission of tests/fixtures/submissions is judged as
//! expected.toml says, and the machine is afterwards as it was before. A few of them here; all of them with VPNLAB_LONG, as
//! tests/full has it.

#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Machine, remove_at_exit};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/submissions");

/// Those that every run of the tests judges: of each kind some, and those that tell the most.
const QUICK: [&str; 10] = [
    "right/sockets",
    "right/c",
    "right-with-warnings/dies-of-junk",
    "wrong/ping-56-bytes",
    "wrong/client-text",
    "wrong/server-clients-address",
    "wrong/round-the-tunnel",
    "nasty/manifest-no-toml",
    "nasty/reads-secrets",
    "nasty/writes-outside",
];

/// How often in a row right ones must be called right.
fn rounds() -> usize {
    if is_long() { 20 } else { 1 }
}

fn is_long() -> bool {
    std::env::var_os("VPNLAB_LONG").is_some()
}

fn expected() -> toml::Table {
    fs::read_to_string(format!("{FOLDER}/expected.toml")).unwrap().parse().unwrap()
}

/// The words of a value that is one word or a list of some.
fn words(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        Some(toml::Value::Array(list)) => list.iter().map(|word| word.as_str().unwrap().into()).collect(),
        Some(word) => vec![word.as_str().unwrap().into()],
        None => Vec::new(),
    }
}

/// A directory that every user can write to, and a copy of the submissions that every user can read.
fn directory() -> PathBuf {
    let directory = nix::unistd::mkdtemp("/tmp/vpnlab-grade-XXXXXX").expect("/tmp can be written");
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("its mode can be set");
    remove_at_exit(directory.clone());
    let copied = std::process::Command::new("cp").args(["-a", FOLDER]).arg(directory.join("submissions")).status();
    assert!(copied.is_ok_and(|status| status.success()), "the submissions can be copied");
    directory
}

/// Grades submissions; returns the exit code, what was printed, and the grades by their names.
fn grade(machine: &Machine, at: &Path, names: &[String], mark: &str) -> (i32, String, BTreeMap<String, Value>) {
    let json = at.join("grades.json");
    let folders: Vec<String> =
        names.iter().map(|name| at.join("submissions").join(name).display().to_string()).collect();
    let json_file = json.display().to_string();
    let mut arguments = vec!["grade", "--json", &json_file];
    arguments.extend(folders.iter().map(String::as_str));
    let mut command = machine.command(common::vpnlab());
    let (variable, value) = mark.split_once('=').expect("a mark is a variable");
    let output = command.args(arguments).env(variable, value).output().expect("vpnlab can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let text = fs::read_to_string(&json).unwrap_or_default();
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {said}"));
    let grades = document["grades"].as_array().expect("there are grades").iter();
    let grades = names.iter().cloned().zip(grades.cloned()).collect();
    (output.status.code().unwrap_or(-1), said, grades)
}

fn checks(grade: &Value) -> Vec<&Value> {
    let steps = grade["steps"].as_array().expect("there are steps").iter();
    steps.flat_map(|step| step["checks"].as_array().expect("there are checks")).collect()
}

/// How a grade differs from what is expected.
fn complaints(name: &str, wanted: &toml::Value, grade: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let all = checks(grade);
    let status = |id: &str| {
        all.iter().find(|check| check["id"] == id).map_or("missing", |check| check["status"].as_str().unwrap())
    };
    for step in wanted.get("passes").and_then(toml::Value::as_array).into_iter().flatten() {
        let prefix = format!("step{}.", step.as_integer().unwrap());
        let of_step = all.iter().filter(|check| check["id"].as_str().unwrap().starts_with(&prefix));
        for check in of_step.filter(|check| check["status"] != "pass" && check["max_points"] != 0.0) {
            found.push(format!(
                "{} is {}: {} {} {}",
                check["id"], check["status"], check["expected"], check["observed"], check["because"]
            ));
        }
    }
    let failed = words(wanted.get("check"));
    if !failed.is_empty() && !failed.iter().any(|id| status(id) == "fail") {
        let really: Vec<_> =
            all.iter().filter(|check| check["status"] == "fail").map(|check| check["id"].to_string()).collect();
        found.push(format!("{failed:?} should have failed, and {really:?} did"));
    }
    for id in words(wanted.get("also")).iter().filter(|id| status(id) != "fail") {
        found.push(format!("{id} should have failed, too, and is {}", status(id)));
    }
    for id in words(wanted.get("spared")).iter().filter(|id| status(id) != "pass") {
        found.push(format!("{id} should have been passed all the same, and is {}", status(id)));
    }
    let causes = words(wanted.get("cause"));
    let named: BTreeSet<_> = all.iter().filter_map(|check| check["cause"]["id"].as_str()).collect();
    if !causes.is_empty() && !causes.iter().any(|cause| named.contains(cause.as_str())) {
        found.push(format!("{causes:?} should be named, and {named:?} is"));
    }
    for warning in words(wanted.get("warns")) {
        let warned =
            grade["warnings"].as_array().expect("there are warnings").iter().any(|it| it["id"] == warning.as_str());
        if !warned {
            found.push(format!("there is no warning {warning}"));
        }
    }
    let is_refused = !grade["error"].is_null();
    if is_refused != wanted.get("refused").is_some_and(|refused| refused.as_bool() == Some(true)) {
        found.push(format!("it is {}refused: {}", if is_refused { "" } else { "not " }, grade["error"]));
    }
    let text = grade.to_string();
    for word in words(wanted.get("never")).iter().filter(|word| text.contains(word.as_str())) {
        found.push(format!("{word:?} stands in the grade"));
    }
    for check in all.iter().filter(|check| check["status"] == "error") {
        found.push(format!("{} is the grader's error: {}", check["id"], check["because"]));
    }
    if is_refused && name.starts_with("wrong/") {
        found.push("it was not graded at all".into());
    }
    found
}

/// A mark that a grader's processes bear in their environment, to be found by it.
fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{MARK}={}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

const MARK: &str = "VPNLAB_TEST_MARK";

/// Nothing may be left of a grader: no process with its mark, no mount, no file of those that try to write outside.
#[track_caller]
fn nothing_is_left(mark: &str, mounts: usize) {
    common::eventually("no process of the grader is left", || marked(mark) == 0);
    assert_eq!(self::mounts(), mounts);
    assert!(!Path::new("/tmp/vpnlab-mischief-was-here").exists());
}

/// How many processes bear a mark.
fn marked(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let bears_it = |entry: &fs::DirEntry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    entries.filter(bears_it).count()
}

/// How many mounts there are, without those of named network namespaces: others may make and end labs as root.
fn mounts() -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| !line.contains("/netns")).count()
}

for_each_user! {
    fn each_submission_is_judged_as_it_should_be(user: User) {
        let (machine, at, expected) = (Machine::new(user), directory(), expected());
        let names: Vec<String> = match is_long() {
            true => expected.keys().cloned().collect(),
            false => QUICK.map(String::from).to_vec(),
        };
        let (mark, before) = (mark(), mounts());
        let (code, said, grades) = grade(&machine, &at, &names, &mark);
        assert_eq!(code, 1, "{said}");
        let mut wrong = Vec::new();
        for (name, grade) in &grades {
            let found = complaints(name, &expected[name], grade);
            wrong.extend(found.iter().map(|complaint| format!("{name}: {complaint}")));
        }
        assert_eq!(grades.len(), names.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        nothing_is_left(&mark, before);
    }

    fn right_ones_pass_each_time_while_every_processor_is_busy(user: User) {
        let (machine, at, expected) = (Machine::new(user), directory(), expected());
        let is_wanted = |name: &&String| match is_long() {
            true => name.starts_with("right/"),
            false => *name == "right/sockets",
        };
        let names: Vec<String> = expected.keys().filter(is_wanted).cloned().collect();
        assert!(!names.is_empty());
        let processors = std::thread::available_parallelism().unwrap().get();
        let busy = || common::Program::start(machine.command("sh").args(["-c", "while :; do :; done"]));
        let _busy: Vec<_> = (0..2 * processors).map(|_| busy()).collect();
        for round in 1..=rounds() {
            let (code, said, grades) = grade(&machine, &at, &names, &mark());
            let wrong: Vec<_> = grades.iter().flat_map(|(name, grade)| complaints(name, &expected[name], grade)).collect();
            assert!(code == 0 && wrong.is_empty(), "round {round}: {}\n{said}", wrong.join("\n"));
        }
    }

    fn without_bubblewrap_only_who_says_so_is_graded(user: User) {
        let (machine, at) = (Machine::new(user), directory());
        let tools = at.join("tools");
        fs::create_dir(&tools).unwrap();
        for tool in ["unshare", "prlimit", "mount"] {
            let found = ["/usr/bin", "/bin", "/usr/sbin"].map(|at| Path::new(at).join(tool)).into_iter().find(|it| it.exists());
            std::os::unix::fs::symlink(found.unwrap(), tools.join(tool)).unwrap();
        }
        let submission = at.join("submissions/right/sockets").display().to_string();
        let json = at.join("open.json").display().to_string();
        let grade = |more: &[&str]| {
            let mut command = machine.command("env");
            command.arg(format!("PATH={}", tools.display())).arg(common::vpnlab());
            let done = command.args(["grade", "--json", &json, &submission]).args(more).output().unwrap();
            (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
        };
        let (code, said) = grade(&[]);
        assert!(code == Some(3) && said.contains("bwrap is missing") && said.contains("--no-sandbox"), "{code:?} {said}");
        let before = mounts();
        assert_eq!(grade(&["--no-sandbox"]), (Some(0), String::new()));
        let told: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        assert!(told["grades"][0]["sandbox"][0].as_str().unwrap().starts_with("no sandbox"), "{told}");
        assert_eq!(mounts(), before);
    }

    fn what_one_submission_brings_or_lacks_is_no_concern_of_the_others(user: User) {
        let (machine, at) = (Machine::new(user), directory());
        let class = at.join("class");
        for (name, from) in [("ann", "sockets"), ("bob", "scapy"), ("eve", "scapy")] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::copy(at.join(format!("submissions/right/{from}/tun.py")), class.join(name).join("tun.py")).unwrap();
        }
        // The usual name of a first experiment.
        fs::write(class.join("eve/scapy.py"), "print('hello')\n").unwrap();
        let python = at.join("python");
        common::run(machine.command("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(&python)).ok();
        let (class, json) = (class.display().to_string(), at.join("class.json").display().to_string());
        let python = python.join("bin/python").display().to_string();
        let grade = |more: &[&str]| {
            let done = machine.vpnlab(&[&["grade", "--step", "1", "--json", &json, &class], more].concat());
            let told: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
            let grade = |it: &Value| (it["score"].as_f64().unwrap(), it["error"].as_str().map(String::from));
            (done, told["grades"].as_array().unwrap().iter().map(grade).collect::<Vec<_>>())
        };
        // It is eve's own program that does not find its scapy.
        let (done, grades) = grade(&[]);
        assert_eq!(done.code, 1, "{done:#?}");
        assert_eq!(grades, [(3.0, None), (3.0, None), (0.0, None)]);
        // A Python without scapy is the machine's; who needs none is graded.
        let (done, grades) = grade(&["--python", &python]);
        assert!(done.code == 3 && done.stderr.contains("cannot import scapy"), "{done:#?}");
        assert_eq!(grades[0], (3.0, None));
        assert!(grades[1..].iter().all(|(score, error)| *score == 0.0 && error.as_ref().unwrap().contains("scapy")), "{grades:?}");
    }

    fn a_killed_grader_leaves_nothing(user: User) {
        let (machine, mark) = (Machine::new(user), mark());
        let (variable, value) = mark.split_once('=').unwrap();
        let grader = common::Program::start(machine.command(common::vpnlab()).arg("grade").env(variable, value));
        // The grader and both processes of its worker.
        common::eventually("it grades", || marked(&mark) >= 3);
        grader.signal(nix::sys::signal::Signal::SIGKILL);
        drop(grader);
        common::eventually("no process of the grader is left", || marked(&mark) == 0);
    }

    fn vpnlab_cannot_be_handed_in_and_shared_memory_counts(user: User) {
        let (machine, at) = (Machine::new(user), directory());
        let submission = |name: &str, file: &str, text: &str| {
            let folder = at.join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
            folder.display().to_string()
        };
        let own = "[programs]\ntun = \"vpnlab tun-read\"\ntun-ping = \"sudo vpnlab tun-ping\"\n";
        let done = machine.vpnlab(&["grade", "--step", "1", &submission("own", "vpnlab.toml", own)]).expect(1);
        assert!(done.stdout.contains("0/9"), "{}", done.stdout);
        let eats = "import mmap\nm = mmap.mmap(-1, 900 << 20)\nfor at in range(0, 900 << 20, 4096):\n    m[at] = 1\n\
            while True:\n    pass\n";
        let done = machine.vpnlab(&["grade", "--step", "1", &submission("eats", "tun.py", eats)]).expect(1);
        assert!(done.stdout.contains("more than 512 MB"), "{}", done.stdout);
    }

    fn a_machine_without_tun_devices_is_no_fault_of_a_students(user: User) {
        let (machine, at) = (Machine::new(user), directory());
        let folder = at.join("submissions/right/sockets").display().to_string();
        let report = at.join("results.json").display().to_string();
        let hidden = ["--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$@\"", "sh"];
        let mut command = machine.command("unshare");
        let arguments = ["grade", "--step", "1", "--gradescope", &report, &folder];
        let output = command.args(hidden).arg(common::vpnlab()).args(arguments).output().expect("unshare can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("cannot open /dev/net/tun"), "{said}");
        assert!(fs::read_to_string(&report).unwrap().contains("cannot open /dev/net/tun"));
    }

    fn vpnlab_passes_its_own_checks_each_time(user: User) {
        let machine = Machine::new(user);
        for _ in 0..rounds() {
            let done = machine.vpnlab(&["grade"]).ok();
            assert!(done.stdout.contains("25/25"), "{}", done.stdout);
        }
        let done = machine.vpnlab(&["grade", "--step", "1"]).ok();
        assert!(done.stdout.contains("step 1: ") && !done.stdout.contains("step 2: "), "{}", done.stdout);
    }

    fn mistakes_are_told_and_reports_are_written(user: User) {
        let (machine, at) = (Machine::new(user), directory());
        let says = |arguments: &[&str], words: &str| {
            let done = machine.vpnlab(&[&["grade"], arguments].concat()).expect(2);
            assert!(done.stderr.contains(words), "{done:#?}");
        };
        says(&["/nowhere"], "cannot read /nowhere: No such file or directory");
        says(&["/etc/passwd"], "/etc/passwd is no folder");
        says(&["--html", "/nowhere/r.html"], "cannot write /nowhere/r.html");
        says(&["--step", "5"], "5 is not in 1..=4");
        let path = |name: &str| at.join(name).display().to_string();
        let folder = at.join("submissions/wrong/ping-56-bytes").display().to_string();
        let files = ["g.html", "g.csv", "g.xml", "g.json"].map(path);
        let options = ["--html", "--csv", "--junit", "--gradescope"];
        let mut arguments = vec!["grade", "--step", "1", &folder];
        options.iter().zip(&files).for_each(|(option, file)| arguments.extend([*option, file.as_str()]));
        machine.vpnlab(&arguments).expect(1);
        let texts = files.each_ref().map(|file| fs::read_to_string(file).unwrap());
        assert!(texts[0].to_lowercase().starts_with("<!doctype html>") && texts[0].contains("ping-56-bytes"));
        assert!(texts[1].lines().count() == 2 && texts[1].contains("step1.ping-sizes"));
        assert!(texts[2].contains("<failure"));
        let gradescope: Value = serde_json::from_str(&texts[3]).unwrap();
        assert_eq!(gradescope["tests"].as_array().unwrap().len(), 9);

        // Where nobody reads the table, the reports are written all the same.
        fs::remove_file(&files[3]).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = machine.command(common::vpnlab());
        let done = command.args(&arguments).stdout(writer).output().unwrap();
        assert_eq!(done.status.code(), Some(141), "{done:?}");
        let gradescope: Value = serde_json::from_str(&fs::read_to_string(&files[3]).unwrap()).unwrap();
        assert_eq!(gradescope["tests"].as_array().unwrap().len(), 9);
    }
}
