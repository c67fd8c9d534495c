//! What Wireshark's own reader makes of the files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::{self, Lab, eventually, remove_at_exit};
use crate::fixtures::traffic::vpn;
use crate::fixtures::{Running, STEPS};
use crate::{for_each_user, trace};

/// A directory that every user can write to.
fn directory() -> PathBuf {
    let directory = nix::unistd::mkdtemp("/tmp/vpnlab-files-XXXXXX").expect("/tmp can be written");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("its mode can be set");
    remove_at_exit(directory.clone());
    directory
}

/// The packets of a file as tshark reads them, each with these fields between tabs. A file that is still being written may
/// end in the middle of a packet.
#[track_caller]
fn fields(file: &Path, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-d", "udp.port==9090,ip", "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("tshark (lab/setup.sh --tests installs it): {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("cut short in the middle"), "{said}");
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|seen| seen == line), "{line:?} is not among {lines:#?}");
}

for_each_user! {
    fn a_trace_in_a_file_has_its_interfaces_its_comments_and_the_packet_inside(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let file = directory().join("t.pcapng");
        trace(&lab, &["--pcapng", &file.display().to_string()]).ok();
        let seen = fields(&file, &["frame.interface_name", "frame.protocols", "ip.dst", "frame.comment"]);
        let journey: Vec<_> = seen.iter().filter(|line| line.contains("vpnlab trace: ")).cloned().collect();
        assert_eq!(journey.len(), 12, "{seen:#?}");
        let first = "useru/tun0\traw:ip:icmp:data\t10.1.1.2\tvpnlab trace: request, 1 of 12. 10.1.3.1 > 10.1.1.2 echo request, ttl 64";
        assert_eq!(journey[0], first);
        let second = "useru/eth0\teth:ethertype:ip:udp:ip:icmp:data\t10.1.2.3,10.1.1.2\tvpnlab trace: request, 2 of 12. in UDP 10.1.2.2:";
        assert!(journey[1].starts_with(second), "{}", journey[1]);
        assert!(journey[11].starts_with("useru/tun0\traw:ip:icmp:data\t10.1.3.1\tvpnlab trace: reply, 12 of 12. "));
        // An interface for each place where something could have been seen.
        let output = Command::new("capinfos").arg("-I").arg(&file).output().expect("capinfos comes with tshark");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in ["useru/tun0", "useru/eth0", "useru/eth3", "server/eth1", "userw/eth0", "router/eth0"] {
            assert!(said.contains(&format!("Name = {name}\n")), "{name}: {said}");
        }
    }

    fn a_capture_of_the_lab_has_everything_until_ctrl_c(user: User) {
        let lab = Lab::up_at(user, 4);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let file = directory().join("all.pcapng");
        let path = file.display().to_string();
        let mut capture = lab.machine.start(&["lab", "--lab", &lab.name, "capture", &path]);
        capture.wait_for("Ctrl-C ends it");
        assert!(lab.pings("useru", "userv"));
        // It can be read while it is written.
        let wanted = "server/eth0\teth:ethertype:ip:udp:ip:icmp:data\t10.1.2.2,10.1.3.1";
        let read = || fields(&file, &["frame.interface_name", "frame.protocols", "ip.src"]);
        eventually("the ping is in the file", || read().iter().any(|line| line == wanted));
        let done = capture.interrupt().ok();
        assert!(done.stderr.contains(&format!(" packets in {path}\n")) && done.stdout.is_empty(), "{done:#?}");
        let seen = read();
        has(&seen, "useru/tun0\traw:ip:icmp:data\t10.1.3.1");
        has(&seen, "userv/eth0\teth:ethertype:ip:icmp:data\t10.1.1.2");
        let count: usize = done.stderr.lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).unwrap();
        assert_eq!(count, seen.len());
        let times = fields(&file, &["frame.time_epoch"]);
        // A frame that came at the end of a turn may be taken in the next one, behind others: a moment later.
        let times: Vec<f64> = times.iter().map(|time| time.parse().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[1] > pair[0] - 0.1), "{times:#?}");

        // By a pipe; killed, it leaves what it had.
        let script = format!("{0} lab --lab {1} capture - > {2}", common::vpnlab().display(), lab.name, path);
        let capture = common::Program::start(lab.machine.command("sh").args(["-c", &format!("exec {script}")]));
        eventually("it captures", || {
            lab.pings("useru", "userv");
            std::fs::read(&file).is_ok_and(|bytes| bytes.len() > 1000)
        });
        capture.signal(Signal::SIGKILL);
        drop(capture);
        assert!(!read().is_empty());
    }

    fn a_capture_with_a_limit_stays_within_it_and_says_so(user: User) {
        let lab = Lab::up(user);
        let file = directory().join("limited.pcapng");
        let path = file.display().to_string();
        let mut capture = lab.machine.start(&["lab", "--lab", &lab.name, "capture", &path, "--limit", "1"]);
        capture.wait_for("Ctrl-C ends it");
        // Each ping of this size is seen four times: 4 MB in all.
        lab.exec("useru", &["ping", "-c500", "-i", "0.002", "-q", "-s", "1400", "server"]).ok();
        let done = capture.interrupt().ok();
        assert!(done.stderr.contains(" more came after it had reached 1 MB"), "{done:#?}");
        let length = std::fs::metadata(&file).unwrap().len();
        assert!((900 << 10..=1 << 20).contains(&length), "{length} bytes");
        assert!(fields(&file, &["frame.len"]).len() > 600);
    }

    fn a_capture_into_a_pipe_that_nobody_reads_can_be_ended(user: User) {
        let lab = Lab::up_at(user, 4);
        let ping = || lab.sh("useru", "ping -q -c 40 -i 0.002 -s 1400 -W 0.1 server").ok();
        let (reader, writer) = std::io::pipe().unwrap();
        let arguments = ["lab", "--lab", &lab.name, "capture", "-"];
        let mut child = lab.machine.command(common::vpnlab()).args(arguments).stdout(writer).spawn().unwrap();
        // More than a pipe holds (pipe(7)).
        std::thread::sleep(std::time::Duration::from_millis(500));
        ping();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none());
        match lab.machine.user {
            // Signals do not pass what entered root's namespaces.
            common::User::Root => drop(lab.lab(&["down"]).ok()),
            common::User::Plain => {
                let pid = nix::unistd::Pid::from_raw(child.id() as i32);
                nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
            }
        }
        eventually("it ends", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success());
        drop(reader);
    }

    fn a_capture_ends_with_its_lab(user: User) {
        let lab = Lab::up_at(user, 4);
        let path = directory().join("all.pcapng").display().to_string();
        let mut capture = lab.machine.start(&["lab", "--lab", &lab.name, "capture", &path]);
        capture.wait_for("Ctrl-C ends it");
        lab.lab(&["down"]).ok();
        let done = capture.wait().ok();
        assert!(done.stderr.contains(&format!("lab {} is down", lab.name)), "{done:#?}");
    }

    fn each_step_records_what_it_reads_and_writes(user: User) {
        let lab = Lab::up_at(user, 4);
        let directory = directory();
        let path = |name: &str| directory.join(name).display().to_string();
        let read = |name: &str| fields(&directory.join(name), &["frame.interface_name", "frame.protocols", "ip.src", "ip.dst"]);
        let icmp = |interface: &str, from: &str, to: &str| format!("{interface}\traw:ip:icmp:data\t{from}\t{to}");
        let inside = |from: &str, to: &str, source: &str, destination: &str| {
            format!("udp\traw:ip:udp:ip:icmp:data\t{from},{source}\t{to},{destination}")
        };
        for step in ["tun-read", "tun-ping"] {
            let tun = Running::tunnel(&lab, "useru", &[step, "--pcap", &path(step)]);
            assert_eq!(lab.pings("useru", "10.1.3.4"), step == "tun-ping");
            has(&read(step), &icmp("tun0", "10.1.3.1", "10.1.3.4"));
            assert_eq!(read(step).contains(&icmp("tun0", "10.1.3.4", "10.1.3.1")), step == "tun-ping");
            tun.interrupt().ok();
        }

        let mut sink = Running::step(&lab, "server", &["udp-sink", "--pcap", &path("udp-sink")]);
        sink.wait_for("Start UDP server");
        let client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24", "--pcap", &path("client")]);
        assert!(!lab.pings("useru", "10.1.3.5"));
        let datagram = inside("10.1.2.2", "10.1.2.3", "10.1.3.1", "10.1.3.5");
        eventually("the sink has recorded it", || read("udp-sink").contains(&datagram));
        has(&read("client"), &datagram);
        has(&read("client"), &icmp("tun0", "10.1.3.1", "10.1.3.5"));
        sink.interrupt().ok();

        let server = Running::tunnel(&lab, "server", &["server", "--pcap", &path("server")]);
        assert!(!lab.pings("useru", "userv"));
        has(&read("server"), &inside("10.1.2.2", "10.1.2.3", "10.1.3.1", "10.1.1.2"));
        has(&read("server"), &icmp("tun0", "10.1.3.1", "10.1.1.2"));
        client.interrupt().ok();
        server.interrupt().ok();

        let (client, server) = vpn(&lab, &["--pcap", &path("vpn-client")], &["--no-offload", "--pcap", &path("vpn-server")]);
        assert!(lab.pings("useru", "userv"));
        for name in ["vpn-client", "vpn-server"] {
            has(&read(name), &icmp("tun0", "10.1.3.1", "10.1.1.2"));
            has(&read(name), &icmp("tun0", "10.1.1.2", "10.1.3.1"));
            has(&read(name), &inside("10.1.2.2", "10.1.2.3", "10.1.3.1", "10.1.1.2"));
            has(&read(name), &inside("10.1.2.3", "10.1.2.2", "10.1.1.2", "10.1.3.1"));
        }
        // What was recorded is there also after a kill.
        client.end_with("KILL");
        server.end_with("KILL");
        has(&read("vpn-client"), &icmp("tun0", "10.1.3.1", "10.1.1.2"));
    }

    fn a_full_disk_is_told_once_and_a_step_goes_on(user: User) {
        let lab = Lab::up_at(user, 4);
        let (client, _server) = vpn(&lab, &["--pcap", "/dev/full"], &[]);
        for _ in 0..3 {
            assert!(lab.pings("useru", "userv"));
        }
        let log = client.stderr();
        assert_eq!(log.matches("/dev/full ends here, since it cannot be written: No space left").count(), 1, "{log}");
        let done = trace(&lab, &["--pcapng", "/dev/full"]).expect(1);
        assert!(done.stderr.contains("cannot write /dev/full: No space left on device"), "{done:#?}");
        assert!(done.stdout.contains("The reply is back"), "{done:#?}");
        let mut capture = lab.machine.start(&["lab", "--lab", &lab.name, "capture", "/dev/full"]);
        capture.wait_for("Ctrl-C ends it");
        assert!(lab.pings("useru", "userv"));
        let done = capture.wait().expect(1);
        assert!(done.stderr.contains("cannot write /dev/full: No space left on device"), "{done:#?}");
    }

    fn a_recording_that_cannot_begin_costs_nothing(user: User) {
        let lab = Lab::up_at(user, 4);
        for (host, step) in STEPS {
            let done = lab.exec(host, &[&["vpnlab"], step, &["--pcap", "/nowhere/p"]].concat()).expect(2);
            assert!(done.stderr.contains("cannot write /nowhere/p: No such file or directory"), "{done:#?}");
            assert!(!done.stderr.contains("Interface name"), "{done:#?}");
        }
        let done = lab.lab(&["capture", "/nowhere/p"]).expect(2);
        assert!(done.stderr.contains("cannot write /nowhere/p"), "{done:#?}");
    }
}
