//! `vpnlab report`: from a running lab, whoever's programs run in it, to a folder that is whole and true, or not there.

mod common;
mod fixtures;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::browser::{CONTRAST, Page, logged, with_script};
use common::terminal::{CTRL_C, Terminal};
use common::{Done, Lab, User, eventually, run, vpnlab};
use fixtures::Running;
use nix::sys::signal::Signal;
use vpnlab::report::model::{Promise, Report, Step};

/// A place where a lab's user can write; it goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = nix::unistd::mkdtemp("/tmp/vpnlab-report-XXXXXX").expect("/tmp can be written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A file that every user can read.
    fn with(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        self.at(name)
    }

    /// The names of what is in it.
    fn names(&self) -> BTreeSet<String> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a report of a lab.
#[track_caller]
fn report(lab: &Lab, directory: &str, options: &[&str]) -> Done {
    lab.machine.vpnlab(&[&["report", directory, "--lab", &lab.name], options].concat())
}

/// A report that was made: whole, its files those of the list, its captures readable.
#[track_caller]
fn read(directory: &str) -> Report {
    let directory = Path::new(directory);
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(directory)).ok();
    let sums = fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    let listed: BTreeSet<String> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_string()).collect();
    let report: Report = serde_json::from_slice(&fs::read(directory.join("report.json")).unwrap()).unwrap();
    assert_eq!((report.format.as_str(), report.version), ("vpnlab report", 1));
    for name in ["index.html", "report.json", "topology.toml"] {
        assert!(listed.contains(name), "{name}: {listed:?}");
    }
    for step in &report.steps {
        let commands = step.commands.iter().map(|it| &it.file).chain(step.lines.iter().map(|it| &it.file));
        for file in commands.chain(step.traces.iter().map(|it| &it.file)).chain(step.networks.iter().map(|it| &it.file))
        {
            assert!(listed.contains(file), "{file}: {listed:?}");
        }
        let capture = step.capture.as_ref().unwrap();
        assert!(listed.contains(&capture.file));
        let packets = packets(&directory.join(&capture.file), "icmp");
        assert!(packets > 0, "no ping in the capture of step {}", step.step);
        assert!(capture.said.contains("packets in step-"), "{}", capture.said);
    }
    report
}

/// How many packets of a capture tshark finds by a filter.
#[track_caller]
fn packets(file: &Path, filter: &str) -> usize {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-d", "udp.port==9090,ip", "-Y", filter, "-r"]).arg(file);
    run(&mut tshark).ok().stdout.lines().count()
}

fn promise<'s>(step: &'s Step, words: &str) -> &'s Promise {
    step.promises.iter().find(|it| it.text.contains(words)).unwrap_or_else(|| panic!("{words}: {:#?}", step.promises))
}

#[track_caller]
fn seen(step: &Step, words: &str) {
    assert_eq!(promise(step, words).seen, Some(true), "{:#?}", promise(step, words));
}

fn output<'s>(step: &'s Step, host: &str, command: &str) -> &'s str {
    let typed = step.commands.iter().find(|it| it.host == host && it.command.contains(command));
    &typed.unwrap_or_else(|| panic!("{command} on {host}: {:#?}", step.commands)).output
}

/// What is in the lab besides itself: the programs on its hosts.
#[track_caller]
fn programs(lab: &Lab) -> Vec<String> {
    let done = lab.machine.vpnlab(&["lab", "status", "--json"]).ok();
    let labs: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let own = labs.as_array().unwrap().iter().find(|it| it["lab"] == lab.name.as_str()).expect("the lab is up");
    let all = own["hosts"].as_array().unwrap().iter().flat_map(|host| host["programs"].as_array().unwrap().clone());
    all.map(|it| it["command"].as_str().unwrap().to_string()).collect()
}

/// The command line of a fixture, for `--run`.
fn python(name: &str) -> String {
    format!("sudo {}", fixtures::python(name, &[]).join(" "))
}

const ROUTE: [&str; 3] = ["--run", "useru", "sudo ip route add 10.1.1.0/24 dev tun0"];

for_each_user! {
    fn without_a_program_it_is_the_network_itself(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let done = report(&lab, &place.at("r"), &[]).ok();
        assert!(done.stdout.contains("step 0, since no program holds a TUN device"), "{done:#?}");
        assert!(done.stderr.is_empty(), "{done:#?}");
        let report = read(&place.at("r"));
        assert!(report.passed && report.steps.len() == 1 && report.programs.is_empty());
        let step = &report.steps[0];
        assert!(output(step, "useru", "ping -c1 -W3 server").contains("1 received"));
        assert!(output(step, "userv", "traceroute server").contains("10.1.1.4"));
        assert!(output(step, "useru", "ping -c1 -W3 userv").contains("Destination Host Unreachable"));
        assert!(output(step, "", "vpnlab lab check").contains("ok"));
        assert_eq!(report.stamp.vpnlab, lab.machine.vpnlab(&["--version"]).ok().stdout.trim());
        assert_eq!(report.stamp.lab, lab.name);
        assert_eq!(report.stamp.mode, if user == User::Root { "as root" } else { "without root" });
    }

    fn our_own_tun_ping_is_step_1(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let _answerer = Running::tunnel(&lab, "useru", &["tun-ping"]);
        report(&lab, &place.at("r"), &[]).ok();
        let report = read(&place.at("r"));
        let step = &report.steps[0];
        assert_eq!((step.step, report.passed), (1, true));
        seen(step, "the ping of 10.1.3.4 is answered");
        seen(step, "comes out of the TUN device");
        assert!(output(step, "useru", "ip address").contains("inet 10.1.3.1/24"));
        let [program] = &report.programs[..] else { panic!("{:#?}", report.programs) };
        assert!(program.command.contains("vpnlab tun-ping") && program.holds == ["tun0"], "{program:#?}");
        // It is the vpnlab that made the report.
        assert_eq!(program.sources[0].sha256, report.stamp.vpnlab_sha256);
        assert!(programs(&lab).iter().any(|it| it.contains("tun-ping")), "it was ended");
    }

    fn step_0_is_the_network_without_a_tunnel(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let _answerer = Running::tunnel(&lab, "useru", &["tun-ping"]);
        report(&lab, &place.at("r"), &["--step", "0"]).expect(1);
        let because = promise(&read(&place.at("r")).steps[0], "no tunnel runs").because.clone().unwrap();
        assert!(because.contains("vpnlab tun-ping on useru holds tun0: end it"), "{because}");
    }

    fn a_program_that_takes_longer_to_start_is_told_of(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let options = ["--step", "1", "--run", "useru", "sleep 60", "--start-timeout", "0.3"];
        let done = report(&lab, &place.at("r"), &options).expect(1);
        let said = "on useru, sleep 60 is not at work after 0.3 s (--start-timeout): it has no UDP port open";
        assert!(done.stderr.contains(said), "{done:#?}");
    }

    fn a_program_that_only_reads_shows_the_packet_and_no_answer(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let _reader = Running::python(&lab, "useru", "tun.py", &[], "Ready");
        let done = report(&lab, &place.at("r"), &["--step", "1"]).expect(1);
        assert!(done.stdout.contains("NOT SEEN   the ping of 10.1.3.4 is answered"), "{done:#?}");
        let report = read(&place.at("r"));
        seen(&report.steps[0], "comes out of the TUN device");
        let source = &report.programs[0].sources[0];
        assert!(source.path.ends_with("tun.py") && source.note.is_none(), "{source:#?}");
        let copy = fs::read(Path::new(&place.at("r")).join(source.copy.as_ref().unwrap())).unwrap();
        assert_eq!(copy, fs::read(fixtures::path("tun.py")).unwrap());
    }

    fn our_own_sink_and_client_are_step_2(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let mut sink = Running::step(&lab, "server", &["udp-sink"]);
        sink.wait_for("Start UDP server");
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        let done = report(&lab, &place.at("r"), &[]).ok();
        assert!(done.stdout.contains("not shown  the program on server prints the packet for 10.1.3.5"), "{done:#?}");
        let report = read(&place.at("r"));
        let step = &report.steps[0];
        assert_eq!(step.step, 2);
        seen(step, "a ping of 10.1.3.5 comes to server inside of a datagram");
        seen(step, "a ping of userv comes to server inside of a datagram");
        let because = promise(step, "prints the packet for 10.1.3.5").because.as_ref().unwrap();
        assert!(because.contains("--run server"), "{because}");
        let inner = "udp.port == 9090 and ip.dst == 10.1.3.5";
        assert!(packets(&Path::new(&place.at("r")).join("step-2/packets.pcapng"), inner) >= 5);
    }

    fn our_own_server_and_client_are_step_3(user: User) {
        let (lab, place) = (Lab::up_at(user, 3), Place::new());
        let _server = Running::tunnel(&lab, "server", &["server", "--forward"]);
        let _client = Running::tunnel(&lab, "useru", &["client", "--route", "10.1.1.0/24"]);
        report(&lab, &place.at("r"), &[]).ok();
        let report = read(&place.at("r"));
        let step = &report.steps[0];
        assert_eq!(step.step, 3);
        seen(step, "a ping is delivered to userv");
        assert!(output(step, "server", "sysctl").contains("net.ipv4.ip_forward = 1"));
        assert!(output(step, "userv", "tcpdump").contains("10.1.3.1 > 10.1.1.2: ICMP echo request"), "{step:#?}");
        let trace = &step.traces[0];
        assert!(!trace.answered && trace.ladder.hosts.contains(&"userv".into()), "{trace:#?}");
        assert!(trace.cause.is_some());
    }

    fn our_own_vpn_is_step_4(user: User) {
        let (lab, place) = (Lab::up_at(user, 4), Place::new());
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let _client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        let done = report(&lab, &place.at("r"), &["--json"]).ok();
        let report = read(&place.at("r"));
        assert_eq!(serde_json::from_str::<Report>(&done.stdout).unwrap(), without_texts(report.clone()));
        let step = &report.steps[0];
        assert_eq!(step.step, 4);
        for words in ["useru reaches userv", "useru reaches userw", "userv reaches useru"] {
            seen(step, words);
        }
        assert!(step.traces.len() == 2 && step.traces.iter().all(|it| it.answered), "{step:#?}");
        assert_eq!(report.programs.len(), 2);
        let network = fs::read_to_string(Path::new(&place.at("r")).join("step-4/network-server.txt")).unwrap();
        for text in ["10.1.3.2/24", "net.ipv4.ip_forward = 1", "IpForwDatagrams"] {
            assert!(network.contains(text), "{text}: {network}");
        }
    }

    fn programs_in_python_are_started_recorded_and_ended(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let (server, client) = (python("tun_udp_server.py"), python("tun_client.py"));
        let options = [&["--step", "0", "--step", "2", "--run", "server", &server, "--run", "useru", &client], &ROUTE[..]];
        report(&lab, &place.at("r"), &options.concat()).ok();
        let report = read(&place.at("r"));
        assert_eq!(report.steps.iter().map(|it| it.step).collect::<Vec<_>>(), [0, 2]);
        let step = &report.steps[1];
        seen(step, "the program on server prints the packet for 10.1.3.5");
        seen(step, "the program on server prints the packet for 10.1.1.2");
        assert!(step.lines[0].output.contains(" Inside: 10.1.3.1 ---> 10.1.3.5\n"), "{:#?}", step.lines);
        let [server, client, route] = &report.programs[..] else { panic!("{:#?}", report.programs) };
        assert!(server.started_by_report && server.holds == ["UDP 9090"], "{server:#?}");
        let names: Vec<_> = client.sources.iter().map(|it| it.copy.as_deref().unwrap()).collect();
        assert_eq!(names, ["programs/useru-tun_client.py", "programs/useru-tun.py"]);
        assert!(client.end.as_ref().unwrap().starts_with("ended by the report"), "{client:#?}");
        assert!(route.end.as_ref().unwrap().starts_with("ended by itself"), "{route:#?}");
        assert!(report.programs.iter().all(|it| !it.failed), "{report:#?}");
        let printed = fs::read_to_string(Path::new(&place.at("r")).join(server.output_file.as_ref().unwrap())).unwrap();
        assert!(printed.contains("Start UDP server on port 9090"), "{printed}");
        assert_eq!(programs(&lab), [""; 0]);
    }

    fn both_ends_in_python_are_step_4(user: User) {
        let (lab, place) = (Lab::up_at(user, 4), Place::new());
        let (server, client) = (python("vpn_server.py"), python("vpn_client.py"));
        let options = [&["--run", "server", &server, "--run", "useru", &client], &ROUTE[..]].concat();
        report(&lab, &place.at("r"), &options).ok();
        let report = read(&place.at("r"));
        assert_eq!(report.steps[0].step, 4);
        assert_eq!(programs(&lab), [""; 0]);
    }

    fn what_does_not_work_is_recorded_as_it_is(user: User) {
        let (lab, place) = (Lab::up_at(user, 4), Place::new());
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        // It makes the device, and sends nothing on.
        let client = python("tun.py");
        let options = [&["--run", "useru", &client], &ROUTE[..]].concat();
        let done = report(&lab, &place.at("r"), &options).expect(1);
        assert!(done.stdout.contains("NOT SEEN   useru reaches userv"), "{done:#?}");
        let report = read(&place.at("r"));
        assert!(!report.passed);
        let step = &report.steps[0];
        let ping = step.commands.iter().find(|it| it.command.contains("userv") && it.host == "useru").unwrap();
        assert!(ping.exit == Some(1) && ping.output.contains("0 received"), "{ping:#?}");
        let cause = step.traces[0].cause.as_ref().unwrap();
        assert_eq!((cause.id.as_str(), cause.host.as_str()), ("not-sent", "useru"), "{cause:#?}");
        let page = fs::read_to_string(Path::new(&place.at("r")).join("index.html")).unwrap();
        assert!(page.contains("What was not seen") && page.contains("it ends here"), "the page says where it ended");
        assert!(page.contains(&cause.title));
    }

    fn no_program_at_all_fails_what_step_4_promises(user: User) {
        let (lab, place) = (Lab::up_at(user, 4), Place::new());
        let done = report(&lab, &place.at("r"), &["--step", "4"]).expect(1);
        assert!(done.stdout.contains("useru has no TUN device"), "{done:#?}");
        assert!(!read(&place.at("r")).passed);
    }

    fn a_program_that_cannot_start_is_told(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let broken = place.with("tun.py", "import no_such_module\n");
        let command = format!("sudo python3 {broken}");
        let done = report(&lab, &place.at("r"), &["--step", "1", "--run", "useru", &command]).expect(1);
        let report = read(&place.at("r"));
        let program = &report.programs[0];
        let end = program.end.as_ref().unwrap();
        assert!(program.failed, "{program:#?}");
        assert!(end.ends_with("exit code 1: ModuleNotFoundError: No module named 'no_such_module'"), "{program:#?}");
        let told = format!("\nprograms that failed\n  useru:$ {command}\n             {end}\n");
        assert!(done.stdout.contains(&told), "{done:#?}");
        assert_eq!(program.sources[0].path, broken);
        let printed = fs::read_to_string(Path::new(&place.at("r")).join(program.output_file.as_ref().unwrap())).unwrap();
        assert!(printed.contains("ModuleNotFoundError"), "{printed}");
    }

    fn a_script_that_was_changed_since_is_no_proof_of_what_runs(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let modules = Path::new(&fixtures::path("tun.py")).parent().unwrap().display().to_string();
        let text = format!("import sys\nsys.path.insert(0, '{modules}')\nimport tun\ntun.main()\n");
        let script = place.with("tun_ping.py", &text);
        let _program = Running::start(&lab, "useru", &["python3", "-B", &script]);
        eventually("it holds a device", || lab.sh("useru", "ip -o address show dev tun0 up | grep -q inet").code == 0);
        run(Command::new("touch").args(["-d", "1 hour", &script])).ok();
        report(&lab, &place.at("r"), &["--step", "1"]).expect(1);
        let report = read(&place.at("r"));
        let source = &report.programs[0].sources[0];
        assert_eq!(source.path, script);
        assert!(source.note.as_ref().unwrap().contains("changed after the program was started"), "{source:#?}");
    }

    fn what_a_program_prints_can_do_nothing_and_is_bounded(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let script = "import sys, time\n\
            print('\\x1b[2J<script>document.title = \"injected\"</script>\\u202e', flush=True)\n\
            time.sleep(3)\nwhile True: sys.stdout.write('<b onclick=x>flood</b>\\n')\n";
        let nasty = place.with("<b>'a' & b.py", script);
        let command = format!("python3 {}", shlex::try_quote(&nasty).unwrap());
        let options = ["--step", "1", "--run", "useru", &command, "--start-timeout", "1"];
        report(&lab, &place.at("r"), &options).expect(1);
        let page = fs::read_to_string(Path::new(&place.at("r")).join("index.html")).unwrap();
        assert!(!page.contains("<script") && !page.contains("<b onclick") && !page.contains('\x1b'));
        assert!(page.contains("&lt;b&gt;&#39;a&#39; &amp; b.py"));
        assert!(page.len() < 1 << 20, "{} bytes", page.len());
        let size = run(Command::new("du").args(["-s", "--block-size=1M", &place.at("r")])).ok().stdout;
        assert!(size.split_whitespace().next().unwrap().parse::<u64>().unwrap() < 16, "{size}");
        read(&place.at("r"));
        assert_eq!(programs(&lab), [""; 0]);
    }

    fn a_folder_with_something_in_it_stays_as_it_is(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        fs::create_dir(place.at("mine")).unwrap();
        fs::write(place.at("mine/thesis"), "years of work").unwrap();
        for options in [&[][..], &["--force"]] {
            let done = report(&lab, &place.at("mine"), options).expect(2);
            assert!(done.stderr.contains("holds something else than a report"), "{done:#?}");
        }
        assert_eq!(fs::read_to_string(place.at("mine/thesis")).unwrap(), "years of work");
        report(&lab, &place.at("r"), &[]).ok();
        let done = report(&lab, &place.at("r"), &[]).expect(2);
        assert!(done.stderr.contains("--force"), "{done:#?}");
        report(&lab, &place.at("r"), &["--force"]).ok();
        read(&place.at("r"));
        assert_eq!(place.names(), ["mine", "r"].map(String::from).into());
    }

    fn ctrl_c_leaves_nothing(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let command = python("tun_ping.py");
        let line = format!("{} report {} --lab {} --run useru '{command}'", vpnlab().display(), place.at("r"), lab.name);
        let mut terminal = Terminal::open(&lab.machine, &line);
        terminal.shows("useru:$ ping -c1 -W3 10.1.3.4");
        terminal.types(CTRL_C);
        terminal.shows("interrupted: no report was written");
        assert_eq!(terminal.end(), 130);
        assert_eq!(place.names(), BTreeSet::new());
        assert_eq!(programs(&lab), [""; 0]);
    }

    fn killed_it_leaves_no_program_in_the_lab(user: User) {
        let (lab, place) = (Lab::up(user), Place::new());
        let command = python("tun_ping.py");
        // A program that goes on for as long as it may start.
        let arguments = ["report", &place.at("r"), "--lab", &lab.name, "--run", "useru", &command, "--run", "useru", "sleep 60", "--start-timeout", "60"];
        let program = lab.machine.start(&arguments);
        eventually("both programs run", || programs(&lab).iter().any(|it| it.contains("sleep 60")));
        program.signal(Signal::SIGKILL);
        eventually("the programs have ended", || programs(&lab).is_empty());
        assert!(!Path::new(&place.at("r")).exists());
    }

    fn other_topologies_have_their_own_names_and_addresses(user: User) {
        let topology = fixtures::lab_file("site-to-site.toml");
        let (lab, place) = (Lab::up_with(user, &["--topology", &topology]), Place::new());
        let server = ["vpn", "--role", "server", "--allow-source", "10.1.4.0/24", "--route", "10.1.4.0/24"];
        let _server = Running::tunnel(&lab, "east", &server);
        let _client = Running::tunnel(&lab, "west", &["vpn", "--role", "client"]);
        report(&lab, &place.at("r"), &["--step", "4"]).ok();
        let report = read(&place.at("r"));
        seen(&report.steps[0], "west reaches userv");
        let toml = fs::read_to_string(Path::new(&place.at("r")).join("topology.toml")).unwrap();
        assert_eq!(toml, fs::read_to_string(topology).unwrap());
    }
}

/// A report as its JSON has it.
fn without_texts(mut report: Report) -> Report {
    report.steps.iter_mut().flat_map(|step| &mut step.networks).for_each(|it| it.text.clear());
    report
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let (lab, place) = (Lab::up(User::Root), Place::new());
    // In root's own mount namespace, as everything here.
    for size in ["16k", "64k", "120k"] {
        let script =
            "mount -t tmpfs -o size=$2 tmpfs $1 && $3 report $1/r --lab $4; code=$?; ls -A $1; umount $1; exit $code";
        let vpnlab = vpnlab().display().to_string();
        let path = place.0.display().to_string();
        let mut command = lab.machine.command("sh");
        let done = run(command.args(["-c", script, "sh", &path, size, &vpnlab, &lab.name])).expect(1);
        assert!(done.stderr.contains("No space left on device"), "{size}: {done:#?}");
        assert!(done.stderr.contains(&format!("{path}/r")), "{size}: {done:#?}");
        assert_eq!((done.stderr.lines().count(), done.stdout.as_str()), (1, ""), "{size}: {done:#?}");
    }
    assert_eq!(programs(&lab), [""; 0]);
}

#[test]
fn what_is_wrong_with_the_command_line_is_told_before_anything_is_done() {
    let (lab, place) = (Lab::up(User::Plain), Place::new());
    let run = ["--run", "nobody", "true"];
    for (options, code, words) in
        [(&run[..], 2, "no host named nobody"), (&["--step", "5"], 2, "5"), (&["--run", "useru"], 2, "--run")]
    {
        let done = report(&lab, &place.at("r"), options).expect(code);
        assert!(done.stderr.contains(words), "{done:#?}");
    }
    let done = lab.machine.vpnlab(&["report", &place.at("r"), "--lab", "no-such-lab"]).expect(2);
    assert!(done.stderr.contains("lab no-such-lab is not up"), "{done:#?}");
    let done = report(&lab, &place.at("no/such/place"), &[]).expect(2);
    assert!(done.stderr.contains("cannot write"), "{done:#?}");
    assert_eq!(place.names(), BTreeSet::new());
}

#[test]
fn the_page_shows_commands_and_ladders_in_a_browser() {
    let (lab, place) = (Lab::up_at(User::Plain, 4), Place::new());
    let (server, client) = (python("vpn_server.py"), python("tun.py"));
    let options = [&["--step", "0", "--step", "4", "--run", "server", &server, "--run", "useru", &client], &ROUTE[..]];
    report(&lab, &place.at("r"), &options.concat()).expect(1);
    let html = fs::read_to_string(Path::new(&place.at("r")).join("index.html")).unwrap();
    let page = Page::new(&html);
    let shown = page.dom();
    assert_eq!(shown.console, [""; 0]);
    assert!(shown.dom.contains("<svg class=\"ladder\"") && !shown.dom.contains("<script"));
    let script = "document.documentElement.setAttribute('data-seen', document.body.innerText)";
    let seen = Page::new(&with_script(&html, script)).dom().dom;
    let (_, seen) = seen.split_once("data-seen=\"").expect("the script has run");
    let seen = seen.split('"').next().unwrap();
    for text in [
        "useru:$ ping -c2 -i 0.2 -W3 userv",
        "2 packets transmitted, 0 received",
        "it ends here",
        "What was not seen",
        "vpn_server.py",
        "exit code 1",
    ] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    for scheme in ["1", "0"] {
        let page = Page::new(&with_script(&html, CONTRAST));
        let shown = page.open(&["--dump-dom", &format!("--blink-settings=preferredColorScheme={scheme}")]);
        assert_eq!(logged(&shown, "CONTRAST"), "good");
    }
    // Chromium's own window has a least width; a frame has none.
    let script = "console.log(`WIDTH ${document.documentElement.scrollWidth - innerWidth}`)";
    for width in ["360", "1280"] {
        let frame = Page::new(&format!("<!doctype html><iframe src='inner.html' width={width} height=600></iframe>"));
        fs::write(frame.directory.join("inner.html"), with_script(&html, script)).unwrap();
        assert_eq!(logged(&frame.dom(), "WIDTH"), "0", "in a window of {width}");
    }
    let picture = page.picture("page.png", &["--window-size=1200,2400"]);
    assert!(picture.starts_with(b"\x89PNG"));
}
