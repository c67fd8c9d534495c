//! What a step has done: packets and bytes in and out, and what was dropped and why.
//!
//! Each end of a tunnel keeps its own counts. A cause of drops is said the first time it happens and only counted from
//! then on, so that a network in trouble does not flood the log; what strangers send is said again, at most once a second. The last line of a step is [`summary`]; a [`Report`]
//! tells the counts on SIGUSR1 and at the end, in the log and as a file for programs.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use nix::errno::Errno;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

use crate::packet::{Dropped, NoArpReply, NoReply};

/// How many packets, and how many bytes they have from the first byte of their IP header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of packets.
    pub packets: u64,
    /// The sum of their lengths in bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts one packet of this length.
    pub fn add(&mut self, bytes: usize) {
        self.add_many(1, bytes);
    }

    /// Counts packets of this length together.
    pub fn add_many(&mut self, packets: usize, bytes: usize) {
        self.packets += packets as u64;
        self.bytes += bytes as u64;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.packets == 1 { "" } else { "s" };
        write!(f, "{} packet{plural} ({} bytes)", self.packets, self.bytes)
    }
}

/// Why a packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A system call refused it, or the network reported an earlier one lost.
    System(Errno),
    /// What arrived is no IP packet.
    NotIp,
    /// No client has sent anything yet, so there is nowhere to send it.
    NoPeer,
    /// None of several clients has its destination.
    UnknownClient,
    /// It is for many hosts at once, and there are several clients.
    ToMany,
    /// A datagram from an outer address that may not speak.
    PeerNotAllowed,
    /// Its source is no address of a client's.
    ForeignSource,
    /// Its source can be no host's address.
    ImpossibleSource,
    /// Its source is an address that another host uses.
    TakenSource,
    /// Its source is new, and the table of clients is full.
    TableFull,
    /// From a client to another client.
    ClientToClient,
    /// It tells a client of a shorter way, and there is none.
    Redirect,
    /// A datagram that the server did not send.
    Stranger,
    /// The kernel dropped it for us during a flood, since it would have been refused.
    Flood,
    /// The socket's queue was full.
    QueueFull,
    /// It comes from our own address: the kernel believes no packet that comes from outside and claims that.
    OwnSource,
    /// It is one of the tunnel's own datagrams, which a route led into the tunnel.
    Loop,
    /// The kernel handed over a large packet that is not what it says.
    Uncut,
    /// It asks for no answer.
    NoReply(NoReply),
    /// It gets no ARP reply.
    NoArpReply(NoArpReply),
    /// It asks our own address, and the kernel answers for that.
    OwnDestination,
    /// A fragment that fits no packet.
    Fragment(Dropped),
    /// It is too large for the path to the other end, and must not be cut.
    TooBig,
    /// A reply that is larger than the MTU and cannot be cut.
    Unfragmentable,
    /// It cannot be sent back from the address that was asked for.
    NotRewritable,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(Errno::EIO) => f.write_str("interface down"),
            Self::System(error) => f.write_str(&error.desc().to_lowercase()),
            Self::NotIp => f.write_str("no IP packet"),
            Self::NoPeer => f.write_str("no client yet"),
            Self::UnknownClient => f.write_str("no client has that address"),
            Self::ToMany => f.write_str("to many hosts at once"),
            Self::PeerNotAllowed => f.write_str("from an address that is not allowed"),
            Self::ForeignSource => f.write_str("from a foreign source"),
            Self::ImpossibleSource => f.write_str("from no host's address"),
            Self::TakenSource => f.write_str("from another client's address"),
            Self::TableFull => f.write_str("no room for another client"),
            Self::ClientToClient => f.write_str("from client to client"),
            Self::Redirect => f.write_str("ICMP redirect"),
            Self::Stranger => f.write_str("not from the server"),
            Self::Flood => f.write_str("refused by the kernel during a flood"),
            Self::QueueFull => f.write_str("the socket's queue was full"),
            Self::OwnSource => f.write_str("from our own address"),
            Self::Loop => f.write_str("tunnel in the tunnel"),
            Self::Uncut => f.write_str("cannot be cut"),
            Self::NoReply(reason) => reason.fmt(f),
            Self::NoArpReply(reason) => reason.fmt(f),
            Self::OwnDestination => f.write_str("to our own address"),
            Self::Fragment(reason) => reason.fmt(f),
            Self::TooBig => f.write_str("too big for the path"),
            Self::Unfragmentable => f.write_str("reply larger than the MTU"),
            Self::NotRewritable => f.write_str("cannot be sent from that address"),
        }
    }
}

impl Cause {
    /// What the file of `--stats-json` calls it; a name once given stays.
    fn key(self) -> Cow<'static, str> {
        match self {
            Self::System(error) => format!("system-{error:?}").into(),
            Self::NotIp => "not-ip".into(),
            Self::NoPeer => "no-client".into(),
            Self::UnknownClient => "unknown-client".into(),
            Self::ToMany => "to-many".into(),
            Self::PeerNotAllowed => "peer-not-allowed".into(),
            Self::ForeignSource => "foreign-source".into(),
            Self::ImpossibleSource => "impossible-source".into(),
            Self::TakenSource => "taken-source".into(),
            Self::TableFull => "table-full".into(),
            Self::ClientToClient => "client-to-client".into(),
            Self::Redirect => "redirect".into(),
            Self::Stranger => "not-from-server".into(),
            Self::Flood => "flood".into(),
            Self::QueueFull => "queue-full".into(),
            Self::OwnSource => "own-source".into(),
            Self::Loop => "loop".into(),
            Self::Uncut => "uncut".into(),
            Self::NoReply(_) => "no-reply".into(),
            Self::NoArpReply(_) => "no-arp-reply".into(),
            Self::OwnDestination => "own-destination".into(),
            Self::Fragment(_) => "fragment".into(),
            Self::TooBig => "too-big".into(),
            Self::Unfragmentable => "unfragmentable".into(),
            Self::NotRewritable => "not-rewritable".into(),
        }
    }

    /// Whether both are counted together: what matters of a packet's reason is its kind, not the addresses in it. So
    /// there are only so many causes, whatever arrives.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NoReply(this), Self::NoReply(that)) => discriminant(this) == discriminant(that),
            (Self::NoArpReply(this), Self::NoArpReply(that)) => discriminant(this) == discriminant(that),
            (Self::Fragment(this), Self::Fragment(that)) => discriminant(this) == discriminant(that),
            _ => self == other,
        }
    }
}

/// The packets dropped, by cause.
#[derive(Debug, Default)]
pub struct Drops(Vec<OfCause>);

#[derive(Debug)]
struct OfCause {
    cause: Cause,
    packets: u64,
    said: Option<Said>,
}

/// What was said last about a cause.
#[derive(Debug)]
struct Said {
    at: Duration,
    /// How many packets had been dropped by then.
    packets: u64,
    /// How long nothing is said from then on.
    pause: Duration,
}

/// The shortest and the longest time between two lines about one cause.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Drops {
    /// Counts one dropped packet; the first of each cause is logged as the warning that `say` makes.
    pub fn count(&mut self, cause: Cause, say: impl FnOnce() -> String) {
        if self.note(cause) {
            warn!("{} (further ones are only counted)", say());
        }
    }

    /// Counts one dropped packet without a word, for what is no trouble; says whether it was the first of its cause.
    pub fn note(&mut self, cause: Cause) -> bool {
        let dropped = self.of(cause);
        dropped.packets += 1;
        dropped.packets == 1
    }

    /// Counts packets that others have dropped, without a word.
    pub fn note_many(&mut self, cause: Cause, packets: u64) {
        if packets > 0 {
            self.of(cause).packets += packets;
        }
    }

    /// Counts one dropped packet whose cause may be another sender each time. It is logged as the warning that `say` makes,
    /// but no more often than once a second, and less often the longer it goes on.
    pub fn warn(&mut self, cause: Cause, now: Duration, say: impl FnOnce() -> String) {
        let dropped = self.of(cause);
        dropped.packets += 1;
        if let Some(unsaid) = dropped.may_say(now) {
            match unsaid {
                0 => warn!("{}", say()),
                more => warn!("{} ({more} more since the last such line)", say()),
            }
        }
    }

    fn of(&mut self, cause: Cause) -> &mut OfCause {
        let place = self.0.iter().position(|dropped| dropped.cause.is(&cause)).unwrap_or_else(|| {
            self.0.push(OfCause { cause, packets: 0, said: None });
            self.0.len() - 1
        });
        &mut self.0[place]
    }
}

impl OfCause {
    /// Whether something is to be said now; and of how many packets before the last nothing was.
    fn may_say(&mut self, now: Duration) -> Option<u64> {
        let (shortest, longest) = PAUSES;
        let pause = match &self.said {
            None => shortest,
            Some(said) => {
                let passed = now.saturating_sub(said.at);
                if passed < said.pause {
                    return None;
                }
                if passed > 2 * said.pause { shortest } else { (2 * said.pause).min(longest) }
            }
        };
        let before = self.said.as_ref().map_or(0, |said| said.packets);
        self.said = Some(Said { at: now, packets: self.packets, pause });
        Some(self.packets - 1 - before)
    }
}

/// The counts of one end.
#[derive(Debug, Default)]
pub struct Counts {
    /// What came in and was taken.
    pub received: Tally,
    /// What was handed on.
    pub sent: Tally,
    /// What was dropped, on the way in or out.
    pub drops: Drops,
    /// How many inner addresses of clients are known, and how many there may be; of a server's socket alone.
    pub clients: Option<(usize, usize)>,
}

/// What the end of a tunnel at the socket is called.
pub const UDP: &str = "UDP";

/// Where the counts of a step are told.
#[derive(Debug, Default)]
pub struct Report {
    file: Option<(PathBuf, File)>,
}

impl Report {
    /// A report to the log, and to this file, which is opened now and written anew each time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn to(file: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| match File::create(path) {
            Ok(file) => Ok((path.to_path_buf(), file)),
            Err(error) => Err(Error::usage(format!("cannot write {}", path.display())).because(error)),
        };
        Ok(Self { file: file.map(open).transpose()? })
    }

    /// Tells the counts of these ends. A file that cannot be written is a warning.
    pub fn tell(&mut self, ends: &[(&str, &Counts)]) {
        info!("{}", summary(ends));
        if let Some((path, file)) = &mut self.file
            && let Err(error) = overwrite(file, &format!("{:#}\n", as_json(ends)))
        {
            warn!("cannot write {}: {error}", path.display());
        }
    }
}

/// Makes this text all that the file holds. The file was opened at the start, when there were rights to do so; what is no
/// file, as a pipe, gets the text appended.
fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return file.write_all(text.as_bytes());
    }
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// The counts for programs: an object for each end, `tun` and `udp`; docs/many-clients.md lists the keys.
fn as_json(ends: &[(&str, &Counts)]) -> Value {
    let tally = |tally: Tally| json!({ "packets": tally.packets, "bytes": tally.bytes });
    let end = |(name, counts): &(&str, &Counts)| {
        let mut dropped = Map::new();
        for OfCause { cause, packets, .. } in &counts.drops.0 {
            let sum = dropped.entry(cause.key()).or_insert_with(|| json!(0));
            *sum = json!(sum.as_u64().unwrap_or(0) + packets);
        }
        let key = if *name == UDP { "udp" } else { "tun" };
        let mut told = json!({
            "name": name,
            "received": tally(counts.received),
            "sent": tally(counts.sent),
            "dropped": dropped,
        });
        if let Some((known, most)) = counts.clients {
            told["clients"] = json!({ "known": known, "most": most });
        }
        (key.to_string(), told)
    };
    Value::Object(ends.iter().map(end).collect())
}

/// One line: `tun0: 3 packets (252 bytes) in, ... out; dropped 2: 1 no IP packet, 1 connection refused`.
pub fn summary(ends: &[(&str, &Counts)]) -> String {
    let traffic: Vec<_> = ends.iter().map(|(name, c)| format!("{name}: {} in, {} out", c.received, c.sent)).collect();
    let drops: Vec<_> = ends.iter().flat_map(|(_, counts)| &counts.drops.0).collect();
    let total: u64 = drops.iter().map(|dropped| dropped.packets).sum();
    let reasons: Vec<_> = drops.iter().map(|OfCause { cause, packets, .. }| format!("{packets} {cause}")).collect();
    let colon = if reasons.is_empty() { "" } else { ": " };
    format!("{}; dropped {total}{colon}{}", traffic.join("; "), reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_went_where_and_what_was_dropped_and_why() {
        let (mut tun, mut udp) = (Counts::default(), Counts::default());
        tun.received.add(84);
        udp.sent.add(84);
        udp.drops.note(Cause::NotIp);
        udp.drops.note(Cause::System(Errno::ECONNREFUSED));
        udp.drops.note(Cause::NotIp);
        assert_eq!(
            summary(&[("tun0", &tun), ("UDP", &udp)]),
            "tun0: 1 packet (84 bytes) in, 0 packets (0 bytes) out; UDP: 0 packets (0 bytes) in, 1 packet (84 bytes) out; \
             dropped 3: 2 no IP packet, 1 connection refused"
        );
        assert!(summary(&[("tun0", &tun)]).ends_with("; dropped 0"));
    }

    #[test]
    fn the_file_has_the_last_counts_alone() {
        let directory = std::env::temp_dir().join(format!("vpnlab-counts-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("stats.json");
        let (mut tun, mut udp) = (Counts::default(), Counts::default());
        tun.received.add(84);
        udp.drops.note(Cause::NoReply(NoReply::NotEchoRequest));
        udp.drops.note(Cause::NoReply(NoReply::Source([224, 0, 0, 1].into())));
        udp.drops.note(Cause::System(Errno::ECONNREFUSED));
        udp.clients = Some((2, 4096));
        let mut report = Report::to(Some(&path)).unwrap();
        tun.sent.add(1_000_000);
        report.tell(&[("tun0", &tun), (UDP, &udp)]);
        tun.sent = Tally::default();
        report.tell(&[("tun0", &tun), (UDP, &udp)]);
        let told: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let none = json!({ "packets": 0, "bytes": 0 });
        let expected = json!({
            "tun": { "name": "tun0", "received": { "packets": 1, "bytes": 84 }, "sent": none, "dropped": {} },
            "udp": { "name": "UDP", "received": none, "sent": none, "clients": { "known": 2, "most": 4096 },
                     "dropped": { "no-reply": 2, "system-ECONNREFUSED": 1 } },
        });
        assert_eq!(told, expected);
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(Report::to(Some(&path)).unwrap_err().to_string().starts_with("cannot write "));
    }

    #[test]
    fn reasons_that_differ_in_their_addresses_are_counted_together() {
        let mut drops = Drops::default();
        assert!(drops.note(Cause::NoReply(NoReply::Source([224, 0, 0, 1].into()))));
        assert!(!drops.note(Cause::NoReply(NoReply::Source([224, 0, 0, 2].into()))));
        assert!(drops.note(Cause::NoReply(NoReply::NotEchoRequest)));
    }

    #[test]
    fn what_goes_on_is_said_at_most_once_a_second_and_less_and_less_often() {
        let mut dropped = OfCause { cause: Cause::ForeignSource, packets: 0, said: None };
        let mut said = Vec::new();
        // Ten packets a second, for two minutes.
        for tenth in 0..1200 {
            dropped.packets += 1;
            said.extend(dropped.may_say(Duration::from_millis(tenth * 100)).map(|unsaid| (tenth / 10, unsaid)));
        }
        assert_eq!(said, [(0, 0), (1, 9), (3, 19), (7, 39), (15, 79), (31, 159), (63, 319)]);
        // After a silence the next is said at once, and then a second is enough again.
        let mut at = |second| {
            dropped.packets += 1;
            dropped.may_say(Duration::from_secs(second)).is_some()
        };
        assert_eq!([at(1000), at(1000), at(1001), at(1002), at(1003)], [true, false, true, false, true]);
    }

    #[test]
    fn only_the_first_drop_of_a_cause_is_the_first() {
        let mut drops = Drops::default();
        assert!(drops.note(Cause::NotIp));
        assert!(!drops.note(Cause::NotIp));
        assert!(drops.note(Cause::NoPeer));
        assert!(!drops.note(Cause::NotIp));
    }
}
