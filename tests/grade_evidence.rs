//! `vpnlab grade --evidence`: what was seen is kept, per submission and check, in files that other programs read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SUBMISSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/submissions");

/// A folder that is not there yet, and is removed with this.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("vpnlab-evidence-cli-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn grade(evidence: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vpnlab"));
    command.args(["grade", "--evidence"]).arg(evidence).args(arguments).current_dir(SUBMISSIONS);
    command.output().expect("vpnlab starts")
}

fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_check_has_its_packets_its_transcripts_and_its_hosts() {
    let evidence = Folder::new("check");
    let output = grade(&evidence.0, &["--step", "2", "right/sockets"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(&evidence.0), ["README.txt", "sockets"]);
    let check = evidence.0.join("sockets/step2.together");
    let expected = [
        "check.json",
        "files.txt",
        "packets.pcapng",
        "router-network.txt",
        "server-network.txt",
        "server-tun_udp_server.txt",
        "useru-network.txt",
        "useru-tun_client.txt",
        "userv-network.txt",
        "userw-network.txt",
    ];
    assert_eq!(names(&check), expected);
    let read = |name: &str| fs::read_to_string(check.join(name)).unwrap();
    assert!(read("check.json").contains("\"id\": \"step2.together\""));
    assert!(read("useru-network.txt").contains("10.1.1.0/24 dev tun"), "{}", read("useru-network.txt"));
    assert!(read("server-network.txt").contains("UdpInDatagrams"), "{}", read("server-network.txt"));
    assert!(read("server-tun_udp_server.txt").starts_with("on server: python3 tun_udp_server.py\n"));
    assert!(read("server-tun_udp_server.txt").contains("10.1.3.1"));
    for line in read("files.txt").lines() {
        let (size, name) = line.trim().split_once("  ").unwrap();
        assert_eq!(fs::metadata(check.join(name)).unwrap().len().to_string(), size, "{line}");
    }
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(check.join("packets.pcapng")).args([
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-Y",
        "udp.dstport == 9090",
    ]);
    if let Ok(output) = tshark.output() {
        let seen = String::from_utf8_lossy(&output.stdout);
        assert!(seen.contains("useru/eth0\n") && seen.contains("server/eth0\n"), "{seen}");
    }
}

#[test]
fn a_second_run_takes_the_place_of_the_first_also_for_what_is_not_run() {
    let evidence = Folder::new("second");
    let output = grade(&evidence.0, &["--step", "1", "right/silent", "right/sockets"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // It has no tun.py.
    assert_eq!(names(&evidence.0.join("silent/step1.tun-device")), ["check.json"]);
    assert_eq!(names(&evidence.0), ["README.txt", "silent", "sockets"]);
    let output = grade(&evidence.0, &["--step", "1", "nasty/build-fails"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names(&evidence.0), ["README.txt", "build-fails"]);
    assert!(fs::read_to_string(evidence.0.join("build-fails/grade.json")).unwrap().contains("\"error\": \""));
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone() {
    let evidence = Folder::new("other");
    fs::create_dir(&evidence.0).unwrap();
    fs::write(evidence.0.join("thesis.tex"), "x").unwrap();
    let output = grade(&evidence.0, &["right/sockets"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("holds something else than evidence; name a folder that is new or empty"), "{said}");
    assert_eq!(names(&evidence.0), ["thesis.tex"]);
}
