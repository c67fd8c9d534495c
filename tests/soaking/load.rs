//! What goes through the tunnel during a soak: every byte is checked by the program that receives it.

use std::time::Duration;

use crate::common::Lab;
use crate::fixtures::{Running, python};
use crate::sampled::Row;

const SCRIPT: &str = "soak_traffic.py";

/// The programs, and what each is called in the report.
pub struct Load<'l> {
    servers: Vec<Running<'l>>,
    senders: Vec<(&'static str, Running<'l>)>,
    ping: Running<'l>,
}

impl<'l> Load<'l> {
    #[track_caller]
    pub fn start(lab: &'l Lab, seed: u64) -> Self {
        let servers = ["userv", "useru"].map(|host| Running::python(lab, host, SCRIPT, &["serve"], "Listening\n"));
        let start = |host, arguments: &[&str]| Running::start(lab, host, &python(SCRIPT, arguments));
        let seed = seed.to_string();
        let mut session = start("useru", &["session", "10.1.1.2"]);
        session.wait_for("Connected\n");
        let senders = vec![
            ("TCP, useru to userv", start("useru", &["tcp", "10.1.1.2", &seed])),
            ("TCP, userv to useru", start("userv", &["tcp", "10.1.3.1", &seed])),
            ("TCP, userw to useru", start("userw", &["tcp", "10.1.3.1", &seed])),
            ("one session all the time", session),
            ("UDP, useru to userv", start("useru", &["udp", "10.1.1.2", &seed])),
            ("UDP, userv to useru", start("userv", &["udp", "10.1.3.1", &seed])),
        ];
        let ping = Running::start(lab, "useru", &["ping", "-q", "-i", "0.1", "10.1.1.2"]);
        Self { servers: servers.into(), senders, ping }
    }

    /// Fails as soon as one of the programs has ended: it says why.
    #[track_caller]
    pub fn goes_on(&mut self) {
        for (what, sender) in &mut self.senders {
            assert!(sender.runs(), "{what}: broken: {}", sender.stderr());
        }
    }

    /// Ends all of it, what is under way with its last byte; says what became of each.
    #[track_caller]
    pub fn end(self, patience: Duration) -> Vec<Row> {
        let mut rows = Vec::new();
        let ping = self.ping.end_with("INT").stdout;
        let pings = ping.lines().find(|line| line.contains("transmitted")).unwrap_or("no summary").to_string();
        rows.push(Row::new(
            "pings",
            &pings,
            "some received",
            !pings.contains(" 0 received") && pings.contains("received"),
        ));
        self.senders.iter().for_each(|(_, sender)| sender.signal("TERM"));
        for (what, sender) in self.senders {
            let done = sender.wait_for_long(patience);
            let last = done.stdout.lines().last().unwrap_or_default();
            let count = last.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
            let complaint = done.stderr.lines().rfind(|line| !line.starts_with("not connected")).unwrap_or("no error");
            let was = if done.code == 0 { last.to_string() } else { format!("exit {}: {complaint}", done.code) };
            rows.push(Row::new(what, &was, "each byte as sent, none broken", done.code == 0 && count > 0));
        }
        for (host, server) in ["userv", "useru"].iter().zip(self.servers) {
            let done = server.end_with("TERM");
            let last = done.stdout.lines().last().unwrap_or_default();
            let is_right = done.code == 0 && last.ends_with(" damaged 0") && !last.contains("received 0 ");
            rows.push(Row::new(&format!("UDP, at {host}"), last, "damaged 0", is_right));
        }
        rows
    }
}
