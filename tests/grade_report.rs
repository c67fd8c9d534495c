//! The page of `vpnlab grade` in a real browser: headless Chromium shows it, and says on its console what it objects to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use vpnlab::grade::model::Grade;
use vpnlab::grade::report::html;

/// What Chromium writes before a message of a page's console, whatever its severity.
const CONSOLE: &str = ":CONSOLE";

fn grade(name: &str) -> Grade {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/grades").join(name).with_extension("json");
    serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

fn all() -> Vec<Grade> {
    ["healthy", "broken", "hostile", "unbuildable"].map(grade).into()
}

/// A page in a directory of its own, which goes with it.
struct Page {
    directory: PathBuf,
}

/// What the browser made of a page.
struct Shown {
    /// The document after everything that could run has run.
    dom: String,
    /// What it said on its console.
    console: Vec<String>,
}

impl Page {
    fn new(html: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vpnlab-page-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("page.html"), html).unwrap();
        Self { directory }
    }

    /// Runs Chromium with these options; its standard output, and the console's messages.
    fn open(&self, options: &[&str]) -> Shown {
        let profile = self.directory.join("profile");
        let output = Command::new("timeout")
            .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
            .args(["--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(options)
            .arg(format!("file://{}", self.directory.join("page.html").display()))
            .stdin(Stdio::null())
            .output()
            .expect("timeout, of coreutils, can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(127), "chromium is not installed: lab/setup.sh installs it\n{errors}");
        assert_ne!(output.status.code(), Some(124), "chromium did not end within a minute\n{errors}");
        assert!(output.status.success(), "chromium failed: {}\n{errors}", output.status);
        let console = errors.lines().filter(|line| line.contains(CONSOLE)).map(str::to_string).collect();
        Shown { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console }
    }

    fn dom(&self) -> Shown {
        self.open(&["--dump-dom"])
    }

    /// A picture: its width, and its pixels, four bytes each... as the file; pictures are compared by their bytes.
    fn picture(&self, name: &str, options: &[&str]) -> Vec<u8> {
        let file = self.directory.join(name);
        let shot = format!("--screenshot={}", file.display());
        let shown = self.open(&[&[shot.as_str()], options].concat());
        assert_eq!(shown.console, [""; 0], "{name}");
        fs::read(&file).unwrap_or_else(|error| panic!("no picture {name}: {error}"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_browser_tells_when_a_script_runs_and_when_one_is_refused() {
    let script = "<script>document.documentElement.setAttribute('data-injected', '1'); console.log('ran')</script>";
    let free = Page::new(&format!("<!doctype html><title>free</title>{script}")).dom();
    assert!(free.dom.contains("data-injected=\"1\""), "{}", free.dom);
    assert!(free.console.iter().any(|line| line.contains("ran")), "{:?}", free.console);

    // The page's own policy refuses it, should it ever get through.
    let html = html::page(&[grade("healthy")]).replace("</main>", &format!("{script}</main>"));
    let bound = Page::new(&html).dom();
    assert!(!bound.dom.contains("data-injected=\"1\""), "{}", bound.dom);
    assert!(bound.console.iter().any(|line| line.contains("Content Security Policy")), "{:?}", bound.console);
}

#[test]
fn no_page_makes_the_browser_object_and_nothing_of_a_student_runs() {
    let pages = all().into_iter().map(|grade| vec![grade]).chain([all(), vec![]]);
    for grades in pages {
        let shown = Page::new(&html::page(&grades)).dom();
        assert_eq!(shown.console, [""; 0]);
        assert!(!shown.dom.contains("data-injected=\""), "a script has run");
        assert!(!shown.dom.contains("<title>injected"), "a script has run");
        // As the browser has parsed it, and not as it was written.
        for tag in ["<script", "<img", "<iframe", "<link", "<object", "<form", "<base"] {
            assert!(!shown.dom.contains(tag), "{tag} is an element of the page");
        }
        let tags = shown.dom.split('<').skip(1).filter_map(|piece| piece.split('>').next());
        for tag in tags {
            // What stands outside of the quotes: names of attributes.
            let names: String = tag.split('"').step_by(2).collect();
            assert!(!names.contains(" onmouseover") && !names.contains(" onfocus"), "<{tag}>");
        }
        assert_eq!(shown.dom.matches("</html>").count(), 1);
        assert!(shown.dom.trim_end().ends_with("</main>\n\n\n</body></html>"), "the page is parsed to its end");
    }
}

#[test]
fn what_a_reader_looks_for_is_in_the_page() {
    let shown = Page::new(&html::page(&[grade("broken")])).dom();
    for text in [
        "<title>group-7-late: 9.5/21</title>",
        "What failed",
        "server: the host does not forward packets",
        "net.ipv4.ip_forward is 0 on server",
        "nothing on userv's eth0 within 2 s",
        "next would have been server, out of eth1",
        "it ends here",
        "struct.error: unpack requires a buffer of 20 bytes",
        "The grader\u{2019}s own error",
        "step4.ping failed, and nothing can come through before that",
    ] {
        assert!(shown.dom.contains(text), "{text}");
    }
}

#[test]
fn the_page_is_dark_where_the_system_is_and_fits_a_telephone() {
    let page = Page::new(&html::page(&all()));
    let light = page.picture("light.png", &["--window-size=1280,900"]);
    let dark = page.picture("dark.png", &["--window-size=1280,900", "--blink-settings=preferredColorScheme=0"]);
    let narrow = page.picture("narrow.png", &["--window-size=500,900"]);
    assert!(light.starts_with(b"\x89PNG") && dark.starts_with(b"\x89PNG") && narrow.starts_with(b"\x89PNG"));
    assert_ne!(light, dark, "there is a dark page");
}

#[test]
fn the_page_can_be_printed() {
    let page = Page::new(&html::page(&all()));
    let file = page.directory.join("page.pdf");
    let option = format!("--print-to-pdf={}", file.display());
    let shown = page.open(&[&option, "--no-pdf-header-footer"]);
    assert_eq!(shown.console, [""; 0]);
    let pdf = fs::read(&file).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
    // An index, and at least a sheet for each submission.
    let sheets = pdf.windows(b"/Type /Page\n".len()).filter(|it| it == b"/Type /Page\n").count();
    assert!(sheets >= 5, "{sheets} sheets");
}
