//! `--evidence DIR`: what the grader has seen, as files that people look at: a folder per submission, in it one per check.
//!
//! The worker has the packets, the programs and the hosts, and no file outside of its sandbox: it tells the files in
//! pieces, and the process that has started it writes them. Whatever a submission does, a check's files are of a limited
//! size, and so is what either process keeps of them in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::model::{Grade, Transcript};
use super::report;
use super::stage::Stage;
use super::worker::Told;
use crate::error::{Context, Error, Result};
use crate::lab::capture::Frame;
use crate::lab::network;
use crate::lab::record::Record;
use crate::page::text::file_name as safe_name;
use crate::topology::Topology;

/// The size of all files of a check, in bytes.
const MOST: usize = 16 << 20;

/// How much of a file is told at a time.
const PIECE: usize = 64 << 10;

/// What a frame needs in a pcapng file besides its bytes, at most; and what the file needs besides frames.
const AROUND_A_FRAME: usize = 64;
const AROUND_A_FILE: usize = 64 << 10;

/// What follows a check, and belongs to it: the answer to the last packet, say.
const AFTERMATH: Duration = Duration::from_millis(20);

/// The list of a check's files.
const LIST: &str = "files.txt";

/// The file by which a folder is known as one of these.
const README: &str = "README.txt";
const ABOUT: &str = "Evidence of vpnlab grade.

A folder per submission; in it grade.json (the whole grade) and a folder per check:

check.json            the check, as in the JSON report
packets.pcapng        what passed every interface of every host since the lab of this check stood, for Wireshark
HOST-program.txt      what a program printed, and how it ended
HOST-network.txt      the host's interfaces, routes, neighbours and counters at the end of the check
files.txt             these files, their sizes, and what was cut: they are at most 16 MB per check

A check that was not run has check.json alone. The next `vpnlab grade --evidence` with this folder removes every folder
in it first.
";

// ------------------------------------------------------------------------------------------------------ in the worker

/// Tells everything that is to be kept about a check that has come to its end.
pub fn tell(check: &str, stage: &mut Stage<'_>, tell: &dyn Fn(&Told)) {
    let _ = stage.pause(AFTERMATH);
    let mut pieces = Pieces { check, tell, room: MOST, list: String::new() };
    for (place, host) in stage.topology().hosts.iter().enumerate() {
        let text = report::shown(&network::told(&stage.lab, place));
        pieces.file(&format!("{}-network.txt", safe_name(&host.name)), text.as_bytes(), None);
    }
    let transcripts = stage.transcripts();
    for (name, transcript) in transcript_names(&transcripts).iter().zip(&transcripts) {
        let cut = transcript.truncated.then(|| "cut: the program printed more".to_string());
        pieces.file(name, transcript_text(transcript).as_bytes(), cut);
    }
    let (bytes, cut) = packets(stage.topology(), &stage.frames, pieces.room);
    pieces.file("packets.pcapng", &bytes, cut);
    let list = std::mem::take(&mut pieces.list);
    pieces.room = MOST;
    pieces.file(LIST, list.as_bytes(), None);
}

/// The files of a check as they are told.
struct Pieces<'p> {
    check: &'p str,
    tell: &'p dyn Fn(&Told),
    room: usize,
    list: String,
}

impl Pieces<'_> {
    fn file(&mut self, name: &str, bytes: &[u8], cut: Option<String>) {
        let kept = &bytes[..bytes.len().min(self.room)];
        let cut = match kept.len() < bytes.len() {
            true => Some(format!("cut: all files of a check are at most {} MB", MOST >> 20)),
            false => cut,
        };
        self.room -= kept.len();
        let line = format!("{:>9}  {name:<28}  {}", kept.len(), cut.unwrap_or_default());
        self.list += &format!("{}\n", line.trim_end());
        // An empty file is one, too.
        let pieces = kept.chunks(PIECE).chain(kept.is_empty().then_some(kept));
        for piece in pieces {
            let (check, name) = (self.check.to_string(), name.to_string());
            (self.tell)(&Told::Evidence { check, name, bytes: piece.to_vec() });
        }
    }
}

/// The frames as a file for Wireshark, of at most so many bytes, and what was left out: the oldest.
fn packets(topology: &Topology, frames: &[(usize, Frame)], room: usize) -> (Vec<u8>, Option<String>) {
    let mut left = room.saturating_sub(AROUND_A_FILE);
    let fits = frames.iter().rev().take_while(|(_, frame)| {
        let needed = frame.bytes.len() + AROUND_A_FRAME;
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    });
    let from = frames.len() - fits.count();
    let cut = (from > 0).then(|| {
        format!("cut: the oldest {from} of {} packets are left out, for {} MB per check", frames.len(), MOST >> 20)
    });
    let mut bytes = Vec::new();
    let written = Record::new(topology, &mut bytes)
        .and_then(|mut record| frames[from..].iter().try_for_each(|(host, frame)| record.frame(*host, frame)));
    match written {
        Ok(()) => (bytes, cut),
        Err(error) => (bytes, Some(format!("cut: {error}"))),
    }
}

/// The names of transcripts: HOST-program.txt, with a number where a host has had several of that name.
fn transcript_names(transcripts: &[Transcript]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let name = |it: &Transcript| {
        let name = format!("{}-{}", safe_name(&it.host), program(&it.command));
        let times = seen.entry(name.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times == 1 { format!("{name}.txt") } else { format!("{name}-{times}.txt") }
    };
    transcripts.iter().map(name).collect()
}

/// What a command line is called: its script where it has one, else its program.
fn program(command: &str) -> String {
    let base = |word: &str| Path::new(word).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut words = command.split_whitespace();
    let script = words.clone().find(|word| word.ends_with(".py"));
    safe_name(&script.or_else(|| words.next()).and_then(base).unwrap_or_default())
}

/// A transcript as text. It is a program's own words, but can do nothing to the terminal that shows it.
fn transcript_text(it: &Transcript) -> String {
    let text = format!("on {}: {}\n\n{}", it.host, it.command, it.output);
    let more = if it.truncated { "\n[and more, which is not kept]" } else { "" };
    format!("{}{more}\n[{}]\n", report::shown(text.trim_end_matches('\n')), report::shown(&it.end))
}

// -------------------------------------------------------------------------------------- in the process that starts it

/// The folder of `--evidence`.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Makes the folder, or empties one of these that is there.
    ///
    /// # Errors
    /// It is another folder, with something in it, or cannot be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let failed = |error| Error::usage(format!("cannot write {}", directory.display())).because(error);
        fs::create_dir_all(directory).map_err(failed)?;
        let mut entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        let about = fs::read_to_string(directory.join(README)).unwrap_or_default();
        let is_own = about.lines().next() == ABOUT.lines().next();
        if !entries.is_empty() && !is_own {
            return Err(Error::usage(format!("{} holds something else than evidence", directory.display()))
                .hint("name a folder that is new or empty"));
        }
        entries.retain(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in entries {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
        fs::write(directory.join(README), ABOUT).map_err(failed)?;
        Ok(Self { directory: directory.into() })
    }

    /// The folders of submissions with these names, in their order.
    pub fn folders<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Folder> {
        let names = folder_names(names);
        let folder = |name| Folder { path: self.directory.join(name), ..Folder::default() };
        names.into_iter().map(folder).collect()
    }

    /// Writes the grades and their checks, which are in the order of the submissions.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&self, grades: &[Grade]) -> Result<()> {
        let folders = self.folders(grades.iter().map(|grade| grade.submission.as_str()));
        for (folder, grade) in folders.iter().zip(grades) {
            folder.json("", "grade.json", grade)?;
            for check in grade.checks() {
                folder.json(&safe_name(&check.id), "check.json", check)?;
            }
        }
        Ok(())
    }
}

/// The folder of a submission.
#[derive(Debug, Default)]
pub struct Folder {
    path: PathBuf,
    /// A file could not be written; the grade is worth more than the rest of the evidence.
    is_broken: bool,
    /// How many bytes each check has, and each of its files that are there.
    written: BTreeMap<(String, String), usize>,
}

impl Folder {
    /// Adds a piece to a file of a check. That it cannot be written is logged, once.
    pub fn add(&mut self, check: &str, name: &str, bytes: &[u8]) {
        // The worker keeps to the limit and to such names. It is also what hostile programs come closest to.
        let (check, name) = (safe_name(check), safe_name(name));
        let of_check: usize = self.written.iter().filter(|((of, _), _)| *of == check).map(|(_, bytes)| bytes).sum();
        if self.is_broken || of_check + bytes.len() > MOST + PIECE {
            return;
        }
        let directory = self.path.join(&check);
        let path = directory.join(&name);
        let written = self.written.entry((check, name)).or_insert(0);
        let file = fs::create_dir_all(directory).and_then(|()| match *written {
            0 => File::create(&path),
            _ => File::options().append(true).open(&path),
        });
        *written += bytes.len();
        if let Err(error) = file.and_then(|mut file| file.write_all(bytes)) {
            log::error!("cannot write {}: {error}; nothing more is kept of this submission", path.display());
            self.is_broken = true;
        }
    }

    fn json(&self, below: &str, name: &str, what: &impl Serialize) -> Result<()> {
        let directory = self.path.join(below);
        let failed = || format!("cannot write {}", directory.join(name).display());
        let text = serde_json::to_string_pretty(what).context(failed)? + "\n";
        fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join(name), text)).context(failed)
    }
}

/// The names of the folders of submissions, each another, as the submissions are called.
fn folder_names<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for name in names {
        let name = safe_name(name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        taken.push(free.unwrap_or(name));
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::grade::report::samples;
    use crate::topology;

    fn transcript(host: &str, command: &str) -> Transcript {
        let (output, end) = ("one\ntwo\x1b[2J\n".into(), "still running".into());
        Transcript { host: host.into(), command: command.into(), output, truncated: false, end }
    }

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("vpnlab-evidence-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn every_submission_has_a_folder_of_its_own() {
        let names = folder_names(["lab5", "lab5", "lab5-2", "a/b", "a b"].into_iter());
        assert_eq!(names, ["lab5", "lab5-2", "lab5-2-2", "a_b", "a_b-2"]);
    }

    #[test]
    fn transcripts_are_called_by_host_and_program() {
        let transcripts = [
            transcript("useru", "python3 tun_client.py"),
            transcript("server", "./tunnel server"),
            transcript("useru", "python3 tun_client.py --again"),
            transcript("useru", "python3 -B ../../x.py"),
            transcript("useru", ""),
        ];
        let names =
            ["useru-tun_client.txt", "server-tunnel.txt", "useru-tun_client-2.txt", "useru-x.txt", "useru-_.txt"];
        assert_eq!(transcript_names(&transcripts), names);
        let text = transcript_text(&transcripts[0]);
        assert_eq!(text, "on useru: python3 tun_client.py\n\none\ntwo\u{241b}[2J\n[still running]\n");
    }

    #[test]
    fn the_files_of_a_check_are_cut_at_their_limit_and_the_list_says_so() {
        let told = RefCell::new(Vec::new());
        let tell = |it: &Told| {
            let Told::Evidence { check, name, bytes } = it else { panic!("{it:?}") };
            assert!(check == "step1.x" && bytes.len() <= PIECE);
            told.borrow_mut().push((name.clone(), bytes.len()));
        };
        let mut pieces = Pieces { check: "step1.x", tell: &tell, room: 100_000, list: String::new() };
        pieces.file("empty.txt", b"", None);
        pieces.file("small.txt", b"12345", Some("cut: it says why".into()));
        pieces.file("large.bin", &vec![0; 200_000], None);
        pieces.file("later.txt", b"12345", None);
        let lines: Vec<&str> = pieces.list.lines().collect();
        assert_eq!(lines[0], "        0  empty.txt");
        assert_eq!(lines[1], "        5  small.txt                     cut: it says why");
        assert_eq!(lines[2], "    99995  large.bin                     cut: all files of a check are at most 16 MB");
        assert_eq!(lines[3], "        0  later.txt                     cut: all files of a check are at most 16 MB");
        let told = told.into_inner();
        assert_eq!(told[2..4], [("large.bin".to_string(), PIECE), ("large.bin".to_string(), 99_995 - PIECE)]);
    }

    #[test]
    fn of_too_many_packets_the_newest_are_kept() {
        let topology = topology::handout();
        let frames: Vec<(usize, Frame)> = (0..1000_u16)
            .map(|number| {
                (usize::from(number % 2), Frame::made("eth0", &[&number.to_be_bytes()[..], &[0; 98]].concat()))
            })
            .collect();
        let (all, cut) = packets(topology, &frames, MOST);
        assert_eq!(cut, None);
        assert!(all.windows(10).any(|window| window == b"useru/eth0"));
        let room = AROUND_A_FILE + 100 * (100 + AROUND_A_FRAME);
        let (some, cut) = packets(topology, &frames, room);
        assert_eq!(cut.unwrap(), "cut: the oldest 900 of 1000 packets are left out, for 16 MB per check");
        assert!(some.len() <= room && some.windows(4).any(|window| window == [0x03, 0xe7, 0, 0]));
        assert_eq!(packets(topology, &frames, 0).1.unwrap().matches("1000 of 1000").count(), 1);
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused() {
        let directory = temporary("other");
        fs::create_dir_all(directory.join("precious")).unwrap();
        let error = Store::new(&directory).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        assert!(directory.join("precious").exists(), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_was_there_before_gives_way_and_files_stay_within_the_folder() {
        let directory = temporary("again");
        let grades = [samples::broken(), samples::hostile(), samples::unbuildable()];
        for _ in 0..2 {
            let store = Store::new(&directory).unwrap();
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
            let mut folders = store.folders(grades.iter().map(|grade| grade.submission.as_str()));
            folders[0].add("step1.x", "../../up.txt", b"one ");
            folders[0].add("step1.x", "../../up.txt", b"two");
            folders[0].add("step1.x", "flood", &vec![0; MOST + PIECE]);
            store.finish(&grades).unwrap();
        }
        let name = safe_name(&grades[0].submission);
        assert_eq!(fs::read_to_string(directory.join(&name).join("step1.x/_.._up.txt")).unwrap(), "one two");
        assert!(!directory.join(&name).join("step1.x/flood").exists());
        let id = &grades[0].checks().next().unwrap().id;
        let check = fs::read_to_string(directory.join(&name).join(id).join("check.json")).unwrap();
        let check: super::super::model::Check = serde_json::from_str(&check).unwrap();
        assert_eq!(&check, grades[0].checks().next().unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1 + grades.len());
        fs::remove_dir_all(&directory).unwrap();
    }
}
