//! What a stranger on the client's network can do to the tunnel, with raw sockets and full knowledge of the protocol, and
//! what not: a test per attack, from the host `mallory` of lab/attacker.toml. SECURITY.md tells the same in words.
//!
//! Every attack that is stopped has its like beside it that is not, so that it is the rule that stops it and not a mistake of
//! the test's. The last tests show what the plain protocol cannot stop.

mod common;
mod fixtures;

use common::{Done, Lab, User, eventually};
use fixtures::traffic::vpn;
use fixtures::{Running, program, python};

const SERVER: &str = "10.1.2.3:9090";
/// The stranger's own address, with the port at which she listens, and an inner address that is nobody's.
const MALLORY: &str = "10.1.2.66:7777";
const FREE: &str = "10.1.3.66";
const CLIENT: &str = "10.1.3.1";
const USERV: &str = "10.1.1.2";

fn lab(user: User) -> Lab {
    Lab::up_with(user, &["--step", "4", "--topology", &fixtures::path("attacker.toml")])
}

/// Sends a tunnel datagram with these ends outside and in.
#[track_caller]
fn send(lab: &Lab, outer: [&str; 2], inner: [&str; 2], text: &str) {
    send_many(lab, outer, inner, text, 1);
}

#[track_caller]
fn send_many(lab: &Lab, outer: [&str; 2], inner: [&str; 2], text: &str, count: u32) {
    let count = count.to_string();
    let command = python("attack.py", &[&["send"], &outer[..], &inner, &[text, &count]].concat());
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    lab.exec("mallory", &words).ok();
}

/// A program that prints the payload of what comes to port 6666, as a service there would have it.
#[track_caller]
fn service<'l>(lab: &'l Lab, host: &str) -> Running<'l> {
    Running::python(lab, host, "udp_print.py", &["6666"], "Start\n")
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
}

/// How often the summary counts this cause among what was dropped.
fn dropped(done: &Done, cause: &str) -> u64 {
    let summary = done.stderr.lines().last().unwrap_or_default();
    let drops =
        summary.split_once("; dropped ").and_then(|(_, drops)| drops.split_once(": ")).map_or("", |(_, drops)| drops);
    let count = drops.split(", ").find_map(|part| part.strip_suffix(cause)?.trim().parse().ok());
    count.unwrap_or(0)
}

/// The port from which the client's tunnel comes.
#[track_caller]
fn clients_port(lab: &Lab) -> String {
    let mut port = String::new();
    eventually("the client has a socket", || {
        let sockets = lab.sh("useru", "ss -Huanp").stdout;
        let line = sockets.lines().find(|line| line.contains("vpnlab")).map(str::to_string);
        port = line
            .and_then(|line| Some(line.split_whitespace().nth(3)?.rsplit(':').next()?.to_string()))
            .unwrap_or_default();
        !port.is_empty()
    });
    port
}

/// The memory of its own that a program and its children have, in kB.
#[track_caller]
fn memory(lab: &Lab, host: &str, running: &Running<'_>) -> u64 {
    let script = format!(
        "for pid in {0} $(cat /proc/{0}/task/*/children 2>/dev/null); do awk '/^RssAnon/ {{ print $2 }}' /proc/$pid/status; done",
        running.pid()
    );
    lab.sh(host, &script).ok().stdout.lines().map(|line| line.parse::<u64>().expect("kB are a number")).sum()
}

for_each_user! {
    fn an_inner_address_in_use_cannot_be_stolen(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &[]);
        let mut at_userv = service(&lab, "userv");
        let mut mallory = Running::python(&lab, "mallory", "attack.py", &["listen", "7777"], "Listening\n");
        assert!(lab.pings("useru", "userv"));

        // An address that is nobody's she may have: whoever reaches the port is a client.
        send(&lab, [MALLORY, SERVER], [FREE, USERV], "as a client");
        at_userv.wait_for(&hex("as a client"));
        lab.exec("userv", &["ping", "-c1", "-W1", FREE]).expect(1);
        mallory.wait_for(&format!("{USERV} {FREE}"));

        send_many(&lab, [MALLORY, SERVER], [CLIENT, USERV], "as useru", 50);
        send(&lab, [MALLORY, SERVER], [FREE, USERV], "the end");
        at_userv.wait_for(&hex("the end"));
        assert!(!at_userv.stdout().contains(&hex("as useru")), "{}", at_userv.stdout());
        // What is for the client goes to the client.
        assert!(lab.pings("userv", CLIENT) && lab.pings("useru", "userv"));
        assert!(!mallory.stdout().contains(&format!(" {CLIENT} ")), "{}", mallory.stdout());
        assert_eq!(dropped(&server.interrupt().ok(), "from another client's address"), 50);
    }

    fn who_may_not_speak_is_not_heard(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &["--allow-peer", "10.1.2.2/32"]);
        let mut at_userv = service(&lab, "userv");
        send_many(&lab, [MALLORY, SERVER], [FREE, USERV], "as a client", 10);
        assert!(lab.pings("useru", "userv"));
        // She who lies about where she is, is heard: see below.
        send(&lab, ["10.1.2.2:7777", SERVER], [FREE, USERV], "the end");
        at_userv.wait_for(&hex("the end"));
        assert!(!at_userv.stdout().contains(&hex("as a client")));
        assert_eq!(dropped(&server.interrupt().ok(), "from an address that is not allowed"), 10);
    }

    fn nothing_comes_into_the_private_network_from_a_foreign_source(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &[]);
        let mut at_userv = service(&lab, "userv");
        // A host of the private network, one of the internet, the server by each of its names, and what is no host.
        let foreign = ["10.1.1.3", "192.0.2.7", "10.1.2.2", "10.1.2.66"];
        let own = ["10.1.3.2", "10.1.1.4", "10.1.2.3", "127.0.0.1"];
        let no_host = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "10.1.3.255", "10.1.3.0"];
        for source in foreign.iter().chain(&own).chain(&no_host) {
            send(&lab, [MALLORY, SERVER], [source, USERV], source);
        }
        send(&lab, [MALLORY, SERVER], [FREE, USERV], "the end");
        at_userv.wait_for(&hex("the end"));
        assert_eq!(at_userv.stdout(), format!("Start\n{}", hex("the end")), "only her own address is let in");
        let done = server.interrupt().ok();
        let counted = ["from a foreign source", "from our own address", "from no host's address"].map(|it| dropped(&done, it));
        assert_eq!(counted, [foreign.len(), own.len(), no_host.len()].map(|count| count as u64), "{done:#?}");
    }

    fn one_client_reaches_no_other(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &[]);
        let mut at_useru = service(&lab, "useru");
        assert!(lab.pings("useru", "userv"));
        send_many(&lab, [MALLORY, SERVER], [FREE, CLIENT], "to useru", 10);
        send(&lab, [MALLORY, SERVER], [FREE, USERV], "to userv");
        assert!(lab.pings("useru", "userv"));
        let done = server.interrupt().ok();
        assert_eq!(dropped(&done, "from client to client"), 10, "{done:#?}");
        assert!(!at_useru.stdout().contains(&hex("to useru")));
        // Where the server lets them, they do.
        let _server = Running::tunnel(&lab, "server", &["vpn", "--role", "server", "--client-to-client"]);
        eventually("the tunnel carries packets again", || lab.pings("useru", "userv"));
        send(&lab, [MALLORY, SERVER], [FREE, CLIENT], "to useru");
        at_useru.wait_for(&hex("to useru"));
    }

    fn invented_addresses_fill_no_memory_and_push_nobody_out(user: User) {
        let lab = lab(user);
        // A site with a million addresses behind a client, so that there is enough to invent.
        let (_client, server) = vpn(&lab, &[], &["--allow-source", "11.0.0.0/8", "--max-peers", "256"]);
        assert!(lab.pings("useru", "userv"));
        let mut ping = Running::start(&lab, "useru", &["ping", "-i", "0.2", "10.1.1.2"]);
        ping.wait_for("bytes from");
        let flood = |kind: &str| lab.exec("mallory", &[&program("flood.c"), "10.1.2.3", "9090", "2", kind]).ok();
        flood("foreign");
        let before = memory(&lab, "server", &server);
        for kind in ["foreign", "invented", "foreign"] {
            flood(kind);
        }
        let after = memory(&lab, "server", &server);
        assert!(after <= before + 256, "{before} kB, then {after} kB");
        // The client that was there is still the one.
        let answered = ping.stdout().matches("bytes from").count();
        eventually("pings are answered", || ping.stdout().matches("bytes from").count() > answered + 3);
        assert!(lab.pings("userv", CLIENT));
        drop(ping.end_with("INT"));
        let done = server.interrupt().ok();
        let refused = dropped(&done, "no room for another client");
        assert!(refused > 1000, "{done:#?}");
    }

    fn a_flood_of_junk_does_not_end_a_clients_tunnel(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        let flood = Running::start(&lab, "mallory", &[&program("flood.c"), "10.1.2.3", "9090", "4", "junk"]);
        // tests/soak cost measures how much is left of its throughput; here that something is.
        let pings = lab.exec("useru", &["ping", "-c10", "-i0.2", "-W2", "10.1.1.2"]);
        let sent: u64 = flood.wait().ok().stdout.split(' ').next().and_then(|it| it.parse().ok()).expect("it says how many");
        assert!(pings.code == 0 && sent > 10_000, "{sent} datagrams beside {pings:#?}");
        let done = server.interrupt().ok();
        assert!(dropped(&done, "no IP packet") > 1000, "{done:#?}");
    }

    fn the_kernel_refuses_a_flood_and_counts_it(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &[], &[]);
        assert!(lab.pings("useru", "userv"));
        let mut sent = Vec::new();
        for (kind, cause) in [("junk", "no IP packet"), ("foreign", "from a foreign source")] {
            let flood = Running::start(&lab, "mallory", &[&program("flood.c"), "10.1.2.3", "9090", "3", kind]);
            eventually("the kernel refuses it", || {
                server.stderr().matches("from now on by the kernel, all but a sample").count() == sent.len() + 1
            });
            assert!(lab.pings("useru", "userv"), "beside {cause}");
            let said = flood.wait().ok().stdout;
            sent.push(said.split(' ').next().and_then(|it| it.parse::<u64>().ok()).expect("it says how many"));
            // While it is over, what comes now and then is looked at again.
            eventually("the flood is over", || {
                assert!(lab.pings("useru", "userv"));
                server.stderr().matches("The flood is over").count() == sent.len()
            });
        }
        send(&lab, [MALLORY, SERVER], [USERV, CLIENT], "alone, and counted by its cause");
        let (done, sent) = (server.interrupt().ok(), sent.iter().sum::<u64>());
        let counted = ["no IP packet", "from a foreign source", "from our own address", "the socket's queue was full"];
        let by_cause: u64 = counted.iter().map(|cause| dropped(&done, cause)).sum();
        let by_kernel = dropped(&done, "refused by the kernel during a flood");
        assert!(by_kernel > sent / 2, "{by_kernel} of {sent}: {done:#?}");
        // What was lost before it got to the server's socket is not there to be counted.
        assert!(by_cause + by_kernel <= sent + 1 && by_cause + by_kernel > sent * 9 / 10, "{sent}: {done:#?}");
    }

    fn an_address_that_the_device_gets_during_a_flood_counts(user: User) {
        let lab = lab(user);
        let (_client, server) = vpn(&lab, &["--address", "10.1.3.1/24", "--address", "10.7.0.1/24"], &[]);
        assert!(lab.pings("useru", "userv"));
        let ping = ["ping", "-c1", "-W1", "-I", "10.7.0.1", "10.7.0.2"];
        let flood = Running::start(&lab, "mallory", &[&program("flood.c"), "10.1.2.3", "9090", "8", "foreign"]);
        eventually("the kernel refuses it", || server.stderr().contains("from now on by the kernel"));
        assert_ne!(lab.exec("useru", &ping).code, 0);
        lab.sh("server", "sudo ip address add 10.7.0.2/24 dev tun0").ok();
        eventually("the new network is let through", || lab.exec("useru", &ping).code == 0);
        drop(flood.end_with("TERM"));
    }

    fn the_client_takes_nothing_from_others_than_its_server(user: User) {
        let lab = lab(user);
        let (client, _server) = vpn(&lab, &[], &[]);
        let mut at_useru = service(&lab, "useru");
        let to = format!("10.1.2.2:{}", clients_port(&lab));
        for port in [7777, 9090] {
            send_many(&lab, [&format!("10.1.2.66:{port}"), &to], [USERV, CLIENT], "as the server", 5);
        }
        // With the server's address it is taken, as the next test has it: the way was the right one.
        send(&lab, [SERVER, &to], [USERV, CLIENT], "the end");
        at_useru.wait_for(&hex("the end"));
        assert!(!at_useru.stdout().contains(&hex("as the server")));
        assert_eq!(dropped(&client.interrupt().ok(), "not from the server"), 10);
    }

    // What the plain protocol cannot stop. Should one of these fail, SECURITY.md promises too little.

    fn who_can_send_from_the_servers_address_is_the_server(user: User) {
        let lab = lab(user);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let mut at_useru = service(&lab, "useru");
        send(&lab, [SERVER, &format!("10.1.2.2:{}", clients_port(&lab))], [USERV, CLIENT], "believed");
        at_useru.wait_for(&hex("believed"));
    }

    fn who_can_send_from_the_clients_address_is_the_client(user: User) {
        let lab = lab(user);
        let (_client, _server) = vpn(&lab, &[], &["--allow-peer", "10.1.2.2/32"]);
        let mut at_userv = service(&lab, "userv");
        assert!(lab.pings("useru", "userv"));
        send(&lab, ["10.1.2.2:7777", SERVER], [CLIENT, USERV], "believed");
        at_userv.wait_for(&hex("believed"));
        // And the server now believes that the client is at that port: until the client says something, what is for it is
        // lost there.
        assert!(!lab.pings("userv", CLIENT));
        assert!(lab.pings("useru", "userv"));
        assert!(lab.pings("userv", CLIENT));
    }

    fn a_server_that_forwards_does_so_for_its_neighbours_too(user: User) {
        let lab = lab(user);
        let (_client, _server) = vpn(&lab, &[], &[]);
        let mut at_userv = service(&lab, "userv");
        lab.sh("mallory", "sudo ip route add 10.1.1.0/24 via 10.1.2.3").ok();
        let send = python("udp_send.py", &[USERV, "6666", hex("round the tunnel").trim()]);
        lab.exec("mallory", &send.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        at_userv.wait_for(&hex("round the tunnel"));
        assert!(!lab.pings("mallory", "userv"), "there is no way back");
    }
}
