//! A page in a real browser: headless Chromium shows it, and its console says what it objects to.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What Chromium writes before a message of a page's console, whatever its severity.
pub const CONSOLE: &str = ":CONSOLE";

/// A page in a directory of its own, which goes with it.
pub struct Page {
    pub directory: PathBuf,
}

/// What the browser made of a page.
pub struct Shown {
    /// The document after everything that could run has run.
    pub dom: String,
    /// What it said on its console.
    pub console: Vec<String>,
}

impl Page {
    pub fn new(html: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vpnlab-page-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("page.html"), html).unwrap();
        Self { directory }
    }

    /// Runs Chromium with these options; its standard output, and the console's messages.
    pub fn open(&self, options: &[&str]) -> Shown {
        let profile = self.directory.join("profile");
        let output = Command::new("timeout")
            .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
            .args(["--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(options)
            .arg(format!("file://{}", self.directory.join("page.html").display()))
            .stdin(Stdio::null())
            .output()
            .expect("timeout, of coreutils, can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_ne!(
            output.status.code(),
            Some(127),
            "chromium is not installed: lab/setup.sh --tests installs it\n{errors}"
        );
        assert_ne!(output.status.code(), Some(124), "chromium did not end within two minutes\n{errors}");
        assert!(output.status.success(), "chromium failed: {}\n{errors}", output.status);
        let console = errors.lines().filter(|line| line.contains(CONSOLE)).map(str::to_string).collect();
        Shown { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console }
    }

    pub fn dom(&self) -> Shown {
        self.open(&["--dump-dom"])
    }

    /// A picture, as a PNG file.
    pub fn picture(&self, name: &str, options: &[&str]) -> Vec<u8> {
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

/// The page with a script of the test in it, which its policy would refuse.
pub fn with_script(html: &str, script: &str) -> String {
    let start = html.find("<meta http-equiv=").expect("the page has a policy");
    let end = start + html[start..].find('>').unwrap() + 1;
    let free = [&html[..start], &html[end..]].concat();
    free.replace("</body>", &format!("<script>{script}</script></body>"))
}

/// What a script of the test has logged: the first line that begins with this word, without it.
pub fn logged<'a>(shown: &'a Shown, word: &str) -> &'a str {
    let line = shown.console.iter().find_map(|line| line.split_once(&format!("\"{word} ")));
    let (_, rest) = line.unwrap_or_else(|| panic!("nothing about {word}: {:?}", shown.console));
    rest.rsplit_once("\", source:").expect("a console message ends with its source").0
}

/// Logs each text whose colour stands out from what is behind it less than WCAG 2 asks for (AA: 4.5 to 1).
pub const CONTRAST: &str = r#"
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = numbers(getComputedStyle(element).backgroundColor);
            if (colour.length == 3 || colour[3] == 1) return colour;
        }
        return [255, 255, 255];
    };
    let count = 0, poor = [];
    for (const element of document.body.querySelectorAll('*')) {
        const own = [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim());
        if (!own || element.tagName == 'SCRIPT') continue;
        const style = getComputedStyle(element);
        const colour = numbers(element.ownerSVGElement ? style.fill : style.color);
        const [a, b] = [light(colour), light(behind(element))].sort((a, b) => b - a);
        const ratio = (a + 0.05) / (b + 0.05);
        count += 1;
        if (ratio < 4.5) poor.push(`${element.tagName}.${element.getAttribute('class')} ${ratio.toFixed(2)}`);
    }
    console.log('CONTRAST ' + (poor.length ? poor.join(', ') : count > 100 ? 'good' : `only ${count} texts`));
    console.log('PAGE ' + getComputedStyle(document.body).backgroundColor);
"#;
