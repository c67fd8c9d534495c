//! A tunnel's memory: the code of its start is given back, so that neither of an end's two processes ever
//! holds all of its own program.

mod common;
mod fixtures;

use common::{Lab, eventually};
use fixtures::Running;

/// The sum of the numbers behind these words at a line's beginning, in kilobytes.
fn sum(text: &str, word: &str) -> u64 {
    let numbers =
        text.lines().filter_map(|line| line.strip_prefix(word)?.split_whitespace().next()?.parse::<u64>().ok());
    numbers.sum()
}

/// What of the program is mapped, and the most that the process ever held of anything (proc_pid_status(5)).
fn program_and_peak(lab: &Lab, host: &str, pid: &str) -> (u64, u64) {
    let read = |file: &str| lab.exec(host, &["cat", &format!("/proc/{pid}/{file}")]).ok().stdout;
    let mappings = read("smaps");
    // Each begins with a line that ends in the file's name.
    let of_program = mappings.split_inclusive("VmFlags:").filter(|mapping| mapping.contains("/vpnlab\n"));
    (of_program.map(|mapping| sum(mapping, "Size:")).sum(), sum(&read("status"), "VmHWM:"))
}

for_each_user! {
    fn no_end_of_a_tunnel_ever_holds_its_whole_program(user: User) {
        let lab = Lab::up_at(user, 4);
        let server = Running::tunnel(&lab, "server", &["vpn", "--role", "server"]);
        let client = Running::tunnel(&lab, "useru", &["vpn", "--role", "client"]);
        eventually("userv answers through the tunnel", || lab.pings("useru", "userv"));
        for (host, step) in [("server", &server), ("useru", &client)] {
            let carrier = step.carrier();
            assert_ne!(carrier, step.pid());
            for pid in [step.pid(), &carrier] {
                let (program, peak) = program_and_peak(&lab, host, pid);
                assert!(program > 1000 && peak > 1000, "{host}: {program} kB of the program are mapped, {peak} kB were the peak");
                assert!(peak < program, "{host}: {peak} kB were resident, {program} kB of them are the program's size");
            }
        }
        client.interrupt().ok();
        server.interrupt().ok();
    }
}
