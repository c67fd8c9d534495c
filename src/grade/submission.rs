//! What a student hands in: a folder with the handout's files, or with a `vpnlab.toml` that says how to build and start
//! programs in any language.
//!
//! A folder is read into memory once, by the worker that grades it, and never written; what runs is a copy in a sandbox.
//! What a folder holds is not trusted: links are not followed, and its size is limited.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::output;

/// The most that a submission may hold.
const MOST_BYTES: u64 = 16 << 20;
const MOST_FILES: usize = 4096;

/// How the names of files end that no program needs: reports, pictures, recordings, archives, captures.
const DOCUMENTS: [&str; 33] = [
    "7z", "avi", "bmp", "bz2", "doc", "docx", "gif", "gz", "heic", "jpeg", "jpg", "key", "m4a", "mkv", "mov", "mp3",
    "mp4", "odp", "odt", "pages", "pcap", "pcapng", "pdf", "png", "ppt", "pptx", "rar", "tar", "tgz", "webm", "webp",
    "xz", "zip",
];

/// The file that says how a submission in another language is built and started.
const MANIFEST: &str = "vpnlab.toml";

/// A program of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Step 1: prints what comes out of a TUN device.
    Tun,
    /// Step 1: answers pings.
    TunPing,
    /// Step 2: prints what is inside of datagrams.
    UdpServer,
    /// Steps 2 and 3: sends what comes out of its TUN device to the server.
    Client,
    /// Step 3: writes what arrives to its TUN device.
    Server,
    /// Step 4: the client's end of the whole tunnel.
    VpnClient,
    /// Step 4: the server's end of it.
    VpnServer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Tun, Self::TunPing, Self::UdpServer, Self::Client, Self::Server, Self::VpnClient, Self::VpnServer];

    /// The handout's name for its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Tun => "tun.py",
            Self::TunPing => "tun_ping.py",
            Self::UdpServer => "tun_udp_server.py",
            Self::Client | Self::VpnClient => "tun_client.py",
            Self::Server | Self::VpnServer => "tun_server.py",
        }
    }

    /// The name of its command in a manifest.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tun => "tun",
            Self::TunPing => "tun-ping",
            Self::UdpServer => "udp-server",
            Self::Client => "client",
            Self::Server => "server",
            Self::VpnClient => "vpn-client",
            Self::VpnServer => "vpn-server",
        }
    }
}

/// Those that the handout has a file for.
const HANDOUTS: [Role; 5] = [Role::Tun, Role::TunPing, Role::UdpServer, Role::Client, Role::Server];

/// A file or a directory of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, from the submission's folder on.
    pub path: PathBuf,
    /// Its bytes; nothing for a directory.
    pub bytes: Option<Vec<u8>>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A submission, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its folder's name.
    pub name: String,
    /// What is in the folder; nothing any more once it is in its sandbox.
    pub entries: Vec<Entry>,
    /// Documents in it that were left out, since it would have been too large with them.
    pub left_out: Vec<PathBuf>,
    /// Whether one of its Python files has to do with scapy.
    pub uses_scapy: bool,
    /// What is run once before everything else.
    pub build: Option<Vec<String>>,
    /// How its programs are started.
    pub programs: BTreeMap<Role, Vec<String>>,
}

/// A command line: a list of words, or a line that is split as a shell does.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CommandLine {
    Words(Vec<String>),
    Line(String),
}

impl CommandLine {
    /// The words; nothing where a quotation mark is not closed.
    fn words(self) -> Option<Vec<String>> {
        match self {
            Self::Words(words) => Some(words),
            Self::Line(line) => shlex::split(&line),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    build: Option<CommandLine>,
    #[serde(default)]
    programs: BTreeMap<Role, CommandLine>,
}

impl Submission {
    /// Reads a folder; `python` runs the handout's files.
    ///
    /// # Errors
    /// It is too large, holds no program, or its manifest is none: the message is for the student.
    pub fn read(folder: &Path, python: &str) -> Result<Self> {
        let inside = inside(folder)?;
        let mut collected = Collected { entries: Vec::new(), documents: Vec::new(), room: MOST_BYTES };
        collected.add(&inside, Path::new(""))?;
        let left_out = collected.add_documents(&inside)?;
        let entries = collected.entries;
        let (build, programs) = match entries.iter().find(|entry| entry.path == Path::new(MANIFEST)) {
            Some(Entry { bytes: Some(bytes), .. }) => {
                let (build, named) = read_manifest(bytes)?;
                let mut programs = handouts(&entries, python);
                programs.extend(named);
                (build, programs)
            }
            _ => (None, handouts(&entries, python)),
        };
        if programs.is_empty() {
            return Err(no_program(folder));
        }
        let is_scapys = |entry: &Entry| {
            let text = entry.bytes.as_deref().unwrap_or_default();
            entry.path.extension().is_some_and(|it| it == "py") && text.windows(5).any(|window| window == b"scapy")
        };
        let uses_scapy = entries.iter().any(is_scapys);
        Ok(Self { name: name(folder), entries, left_out, uses_scapy, build, programs })
    }

    /// vpnlab's own steps.
    pub fn own() -> Self {
        let step = |words: &[&str]| [&["vpnlab"], words].concat().into_iter().map(String::from).collect::<Vec<_>>();
        let programs = [
            (Role::Tun, step(&["tun-read"])),
            (Role::TunPing, step(&["tun-ping"])),
            (Role::UdpServer, step(&["udp-sink"])),
            (Role::Client, step(&["client"])),
            (Role::Server, step(&["server"])),
            (Role::VpnClient, step(&["vpn", "--role", "client"])),
            (Role::VpnServer, step(&["vpn", "--role", "server"])),
        ];
        let (entries, left_out) = (Vec::new(), Vec::new());
        Self { name: "vpnlab".into(), entries, left_out, uses_scapy: false, build: None, programs: programs.into() }
    }

    /// How a program is started, if the submission has it; step 4's are those of the earlier steps where there are no others.
    pub fn command(&self, role: Role) -> Option<&[String]> {
        let earlier = match role {
            Role::VpnClient => Some(Role::Client),
            Role::VpnServer => Some(Role::Server),
            _ => None,
        };
        let command = self.programs.get(&role).or_else(|| self.programs.get(&earlier?));
        command.map(Vec::as_slice)
    }
}

/// What a submission is called: its folder's name.
pub fn name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "submission".into(), |name| name.to_string_lossy().into_owned())
}

/// The folders of submissions among what the user has named, each by its full path: a folder full of submissions stands for
/// these, and beside folders, as in `downloads/*`, files are passed over.
///
/// # Errors
/// One is not there, or there is no folder among them.
pub fn folders(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let hint = "a submission is a folder with the handout's files";
    let mut found = Vec::new();
    for path in named {
        let full = path.canonicalize();
        let full = full.map_err(|error| Error::usage(format!("cannot read {}", path.display())).because(error))?;
        if is_full_of_submissions(&full) {
            found.extend(directories(&full));
        } else if full.is_dir() {
            found.push(full);
        } else if named.len() == 1 {
            return Err(Error::usage(format!("{} is no folder", path.display())).hint(hint));
        } else {
            output::error_line(format_args!("vpnlab: {} is no folder, and is passed over", path.display()));
        }
    }
    match found.is_empty() {
        true => Err(Error::usage("there is no folder among these").hint(hint)),
        false => Ok(found),
    }
}

/// The folders in a folder that somebody has made, by their names; hidden ones and those that macOS adds are none.
fn directories(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| {
        let name = entry.file_name();
        let is_made = !name.to_string_lossy().starts_with('.') && name != "__MACOSX";
        is_made && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    let mut paths: Vec<PathBuf> = directories.take(MOST_FILES).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Those of the files by which programs are known that are in a folder.
fn known_files(folder: &Path) -> impl Iterator<Item = &'static str> {
    let names = HANDOUTS.map(Role::file).into_iter().chain([MANIFEST]);
    let folder = folder.to_path_buf();
    names.filter(move |file| folder.join(file).symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
}

/// Whether a folder is called as a step of the handout: `step2`, `Step 4`, `3`.
fn is_a_steps(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let number = ["step", "task", "part"].iter().find_map(|word| name.strip_prefix(word)).unwrap_or(&name);
    matches!(number.trim_start_matches([' ', '-', '_', '.']), "0" | "1" | "2" | "3" | "4" | "5")
}

/// Whether a folder holds other people's submissions: it is none by itself, and two folders in it have the same program.
/// Somebody's own folders, a `client` and a `server`, have not; nor are `step2` and `step4` people.
fn is_full_of_submissions(folder: &Path) -> bool {
    if known_files(folder).next().is_some() || directories(folder).iter().any(|it| is_a_steps(it)) {
        return false;
    }
    let mut owners: BTreeMap<&str, PathBuf> = BTreeMap::new();
    directories(folder).into_iter().filter_map(|it| Some((inside(&it).ok()?, it))).any(|(inside, folder)| {
        known_files(&inside).any(|file| owners.insert(file, folder.clone()).is_some_and(|owner| owner != folder))
    })
}

/// The folder that the programs are in: the submission's own, or the only one that has some of those in it, of those in
/// these, and so on. An archive often has them so, and a report beside them.
fn inside(folder: &Path) -> Result<PathBuf> {
    const DEEPEST: usize = 4;
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..DEEPEST {
        let found: Vec<&PathBuf> = level.iter().filter(|it| known_files(it).next().is_some()).collect();
        match found.as_slice() {
            [] => level = level.iter().flat_map(|it| directories(it)).take(MOST_FILES).collect(),
            [one] => return Ok((*one).clone()),
            several => {
                let below = |it: &&PathBuf| it.strip_prefix(folder).unwrap_or(it).display().to_string();
                let names: Vec<_> = several.iter().map(below).collect();
                return Err(Error::failed(format!(
                    "programs are in several folders of {}: {}",
                    name(folder),
                    names.join(", ")
                ))
                .hint("put them into one, or name each in a vpnlab.toml"));
            }
        }
    }
    Err(no_program(folder))
}

fn no_program(folder: &Path) -> Error {
    let files = HANDOUTS.map(Role::file);
    Error::failed(format!("there is no program in {}", name(folder)))
        .hint(format!("it should hold {}, or a {MANIFEST}", files.join(", ")))
}

/// What has been read of a folder.
struct Collected {
    entries: Vec<Entry>,
    /// The documents in it, with their sizes: they come last, as far as there is room.
    documents: Vec<(u64, PathBuf)>,
    /// How many bytes more may be read.
    room: u64,
}

impl Collected {
    /// Adds what is in a directory, but for documents.
    fn add(&mut self, folder: &Path, below: &Path) -> Result<()> {
        let reading = |path: &Path| format!("cannot read {}", path.display());
        let directory = folder.join(below);
        let listed = fs::read_dir(&directory).map_err(|error| Error::failed(reading(&directory)).because(error))?;
        for found in listed {
            let found = found.map_err(|error| Error::failed(reading(&directory)).because(error))?;
            let path = below.join(found.file_name());
            let kind = found.file_type().map_err(|error| Error::failed(reading(&path)).because(error))?;
            if self.entries.len() + self.documents.len() >= MOST_FILES {
                return Err(Error::failed(format!("{} holds more than {MOST_FILES} files", folder.display())));
            }
            if kind.is_dir() {
                self.entries.push(Entry { path: path.clone(), bytes: None, executable: true });
                self.add(folder, &path)?;
            } else if kind.is_file() && is_document(&path) {
                let metadata = found.metadata().map_err(|error| Error::failed(reading(&path)).because(error))?;
                self.documents.push((metadata.len(), path));
            } else if kind.is_file() {
                self.entries.push(read_file(folder, path, &mut self.room)?);
            }
            // A link could lead anywhere, and a device or a pipe is nothing to hand in.
        }
        Ok(())
    }

    /// Adds the documents for which there is room, the small ones first; returns the others.
    fn add_documents(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut left_out = Vec::new();
        self.documents.sort();
        for (length, path) in std::mem::take(&mut self.documents) {
            match length <= self.room {
                true => self.entries.push(read_file(folder, path, &mut self.room)?),
                false => left_out.push(path),
            }
        }
        Ok(left_out)
    }
}

/// Whether a file is one that no program needs, by its name.
fn is_document(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    DOCUMENTS.contains(&extension.as_str())
}

fn read_file(folder: &Path, path: PathBuf, room: &mut u64) -> Result<Entry> {
    use std::io::Read;
    let failed = |error| Error::failed(format!("cannot read {}", path.display())).because(error);
    // The file may have been changed for a link or a pipe since it was listed.
    let file = fs::File::options().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(folder.join(&path));
    let file = file.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(*room + 1).read_to_end(&mut bytes).map_err(failed)?;
    *room = room.checked_sub(bytes.len() as u64).ok_or_else(|| {
        Error::failed(format!("{} is larger than {} MB", folder.display(), MOST_BYTES >> 20)).hint(format!(
            "{} does not fit any more: it should hold the programs and what they need; large documents, pictures and \
             archives in it are left out",
            path.display()
        ))
    })?;
    // An archive or a download often loses that it is a program.
    let is_program = bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF");
    let executable = is_program || metadata.permissions().mode() & 0o111 != 0;
    Ok(Entry { path, bytes: Some(bytes), executable })
}

/// The handout's files among these, each run by Python.
fn handouts(entries: &[Entry], python: &str) -> BTreeMap<Role, Vec<String>> {
    let is_there = |role: &Role| entries.iter().any(|it| it.path == Path::new(role.file()) && it.bytes.is_some());
    let command = |role: Role| (role, vec![python.to_string(), role.file().to_string()]);
    HANDOUTS.into_iter().filter(is_there).map(command).collect()
}

/// The command that builds a submission, and those that start its programs.
pub type Commands = (Option<Vec<String>>, BTreeMap<Role, Vec<String>>);

/// Reads a manifest's text.
///
/// # Errors
/// It is no TOML of this form, or a command has no word; the message says in which line.
pub fn read_manifest(bytes: &[u8]) -> Result<Commands> {
    let broken = |problem: String| {
        Error::failed(format!("{MANIFEST} {problem}")).hint("`vpnlab init DIR` writes one with comments")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| broken(format!("is no text: {error}")))?;
    let manifest: Manifest = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        broken(format!("line {line}: {}", error.message().trim().replace('\n', " ")))
    })?;
    let mut programs = BTreeMap::new();
    for (role, command) in manifest.programs {
        let words = command.words().filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| broken(format!("gives {} no command", role.key())))?;
        programs.insert(role, words);
    }
    let build = manifest.build.map(|build| {
        let words = build.words().filter(|words| !words.is_empty());
        words.ok_or_else(|| broken("gives build no command".into()))
    });
    Ok((build.transpose()?, programs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry { path: path.into(), bytes: Some(Vec::new()), executable: false }
    }

    #[test]
    fn the_handouts_files_are_run_by_python() {
        let programs = handouts(&[file("tun.py"), file("tun_client.py"), file("notes.txt")], "python3");
        assert_eq!(programs[&Role::Tun], ["python3", "tun.py"]);
        assert_eq!(programs.keys().copied().collect::<Vec<_>>(), [Role::Tun, Role::Client]);
        let submission = Submission {
            name: "x".into(),
            entries: Vec::new(),
            left_out: Vec::new(),
            uses_scapy: false,
            build: None,
            programs,
        };
        assert_eq!(submission.command(Role::VpnClient), submission.command(Role::Client));
        assert_eq!(submission.command(Role::Server), None);
    }

    #[test]
    fn a_folder_full_of_submissions_stands_for_them_and_files_beside_it_are_passed_over() {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/submissions");
        let one = at.join("right/sockets");
        assert_eq!(folders(std::slice::from_ref(&one)).unwrap(), std::slice::from_ref(&one));
        let all = folders(&[at.join("right"), at.join("make.py"), one.clone()]).unwrap();
        assert!(all.len() > 5 && all[0] == at.join("right/c") && all[all.len() - 1] == one, "{all:?}");
        assert!(folders(&[at.join("make.py"), at.join("expected.toml")]).is_err());
        // What is no submission is told so when it is read.
        let none = at.join("nasty/no-program");
        assert_eq!(folders(std::slice::from_ref(&none)).unwrap(), [none]);
    }

    /// A folder of this test's own with files, which is removed with it.
    struct Made(PathBuf);

    impl Made {
        fn with(files: &[&str]) -> Self {
            let made = Self(nix::unistd::mkdtemp("/tmp/vpnlab-submission-XXXXXX").unwrap());
            for file in files {
                fs::create_dir_all(made.0.join(file).parent().unwrap()).unwrap();
                fs::write(made.0.join(file), "import scapy\n").unwrap();
            }
            made
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn programs_may_be_in_a_folder_beside_a_report() {
        let made =
            Made::with(&["ann/report.pdf", "ann/lab 5/src/tun.py", "ann/lab 5/src/more/notes.txt", "ann/.git/tun.py"]);
        let submission = Submission::read(&made.0.join("ann"), "python3").unwrap();
        assert_eq!((submission.name.as_str(), submission.uses_scapy), ("ann", true));
        let paths: Vec<_> = submission.entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths.iter().filter(|path| path.ends_with("tun.py")).collect::<Vec<_>>(), [&"tun.py"]);
        assert!(paths.contains(&"more/notes.txt") && !paths.contains(&"report.pdf"), "{paths:?}");
    }

    #[test]
    fn programs_in_several_folders_are_not_guessed_at() {
        let made = Made::with(&["ann/client/tun_client.py", "ann/server/tun_server.py", "bob/notes/diary.txt"]);
        let error = Submission::read(&made.0.join("ann"), "python3").unwrap_err().to_string();
        assert!(error.starts_with("programs are in several folders of ann: client, server"), "{error}");
        assert!(!is_full_of_submissions(&made.0.join("ann")));
        let names = ["step1", "Step 4", "task_2", "3", "steph", "4711", "step-ann", "bob"];
        assert_eq!(names.map(|name| is_a_steps(Path::new(name))), [true, true, true, true, false, false, false, false]);
        let error = Submission::read(&made.0.join("bob"), "python3").unwrap_err().to_string();
        assert!(error.starts_with("there is no program in bob"), "{error}");
    }

    #[test]
    fn a_folder_of_students_is_known_wherever_their_programs_are() {
        let files = ["s/ann/report.pdf", "s/ann/code/tun.py", "s/bob/tun.py", "s/eve/notes.txt", "s/__MACOSX/tun.py"];
        let made = Made::with(&files);
        let root = made.0.canonicalize().unwrap().join("s");
        let students = ["ann", "bob", "eve"].map(|name| root.join(name));
        assert_eq!(folders(std::slice::from_ref(&root)).unwrap(), students);
        assert_eq!(folders(&students).unwrap(), students);
    }

    #[test]
    fn a_manifest_says_how_programs_are_started() {
        let text = "build = \"make 'all of it'\"\n[programs]\nclient = [\"./tunnel\", \"a b\"]\nvpn-server = \"./tunnel server\"\n";
        let (build, programs) = read_manifest(text.as_bytes()).unwrap();
        assert_eq!(build.unwrap(), ["make", "all of it"]);
        assert_eq!(programs[&Role::Client], ["./tunnel", "a b"]);
        assert_eq!(programs[&Role::VpnServer], ["./tunnel", "server"]);
    }

    #[test]
    fn the_handouts_files_are_what_a_manifest_does_not_name() {
        let made = Made::with(&["ann/tun_client.py", "ann/tun_ping.py", "ann/final/tun_client.py"]);
        fs::write(
            made.0.join("ann/vpnlab.toml"),
            "[programs]\nvpn-client = \"python3 final/tun_client.py\"\ntun-ping = \"./ping\"\n",
        )
        .unwrap();
        let submission = Submission::read(&made.0.join("ann"), "/usr/bin/python3").unwrap();
        assert_eq!(submission.command(Role::Client).unwrap(), ["/usr/bin/python3", "tun_client.py"]);
        assert_eq!(submission.command(Role::VpnClient).unwrap(), ["python3", "final/tun_client.py"]);
        assert_eq!(submission.command(Role::TunPing).unwrap(), ["./ping"]);
        assert_eq!(submission.command(Role::Server), None);
    }

    #[test]
    fn a_large_report_is_left_out_and_a_large_file_of_another_kind_is_too_much() {
        let made = Made::with(&["ann/tun.py", "ann/small.PNG", "ann/report.pdf", "ann/trace.pcapng"]);
        let enlarge = |file: &str, megabytes: u64| {
            fs::File::options().write(true).open(made.0.join(file)).unwrap().set_len(megabytes << 20).unwrap();
        };
        enlarge("ann/report.pdf", 17);
        enlarge("ann/trace.pcapng", 64 << 10);
        let submission = Submission::read(&made.0.join("ann"), "python3").unwrap();
        assert_eq!(submission.left_out, [Path::new("report.pdf"), Path::new("trace.pcapng")]);
        assert!(submission.entries.iter().any(|entry| entry.path == Path::new("small.PNG")));
        fs::write(made.0.join("ann/core"), "").unwrap();
        enlarge("ann/core", 17);
        let error = Submission::read(&made.0.join("ann"), "python3").unwrap_err().to_string();
        assert!(error.contains("is larger than 16 MB") && error.contains("core does not fit any more"), "{error}");
    }

    #[test]
    fn a_bad_manifest_is_told_by_its_line() {
        for (text, said) in [
            ("[programs]\nclent = \"x\"\n", "vpnlab.toml line 2: unknown variant `clent`"),
            ("build = [\n", "vpnlab.toml line"),
            ("[programs]\nclient = \"\"\n", "vpnlab.toml gives client no command"),
        ] {
            let error = read_manifest(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
