//! The steps as root knows them: in a lab whose hosts are named namespaces, through `ip netns exec`.

use crate::common::{Lab, Program, User, eventually, run, vpnlab};

/// A command of root's on a host, without vpnlab's help.
fn on(lab: &Lab, host: &str, command: &[&str]) -> std::process::Command {
    let mut words = lab.machine.command("ip");
    words.args(["netns", "exec", &format!("{}-{host}", lab.name)]).args(command);
    words
}

#[test]
fn the_last_step_needs_no_option_under_ip_netns_exec_either() {
    let lab = Lab::up_at(User::Root, 4);
    let program = vpnlab().display().to_string();
    let mut server = Program::start(&mut on(&lab, "server", &[&program, "vpn", "--role", "server"]));
    server.wait_for("ip link set dev tun0 up");
    let mut client = Program::start(&mut on(&lab, "useru", &[&program, "vpn", "--role", "client"]));
    client.wait_for("ip route add 10.1.1.0/24 dev tun0");
    eventually("useru reaches userv", || run(&mut on(&lab, "useru", &["ping", "-c1", "-W1", "userv"])).code == 0);
    run(&mut on(&lab, "userv", &["ping", "-c1", "-W1", "10.1.3.1"])).ok();
    client.wait_for("From socket <==: 10.1.1.2 --> 10.1.3.1\n");
    server.wait_for("From tun ==>: 10.1.1.2 --> 10.1.3.1\n");
}

#[test]
fn the_first_step_answers_pings_under_ip_netns_exec_too() {
    let lab = Lab::up(User::Root);
    let program = vpnlab().display().to_string();
    let mut responder = Program::start(&mut on(&lab, "useru", &[&program, "tun-ping"]));
    responder.wait_for("ip link set dev tun0 up");
    eventually("10.1.3.4 answers", || run(&mut on(&lab, "useru", &["ping", "-c1", "-W1", "10.1.3.4"])).code == 0);
}
