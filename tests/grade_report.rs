//! The page of `vpnlab grade` in a real browser: headless Chromium shows it, and its console says what it objects to.

mod common;

use std::fs;
use std::path::Path;

use common::browser::{CONTRAST, Page, logged, with_script};
use vpnlab::grade::model::Grade;
use vpnlab::grade::report::html;

fn grade(name: &str) -> Grade {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/grades").join(name).with_extension("json");
    serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

fn all() -> Vec<Grade> {
    ["healthy", "broken", "hostile", "unbuildable"].map(grade).into()
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
fn what_a_reader_looks_for_is_seen_and_what_is_long_is_folded() {
    let html = html::page(&[grade("broken")]);
    // The text as it is rendered: nothing of what is hidden, or folded.
    let script = "document.documentElement.setAttribute('data-seen', document.body.innerText)";
    let shown = Page::new(&with_script(&html, script)).dom();
    let (_, rest) = shown.dom.split_once("data-seen=\"").expect("the script has run");
    let seen = rest.split('"').next().unwrap();
    for text in [
        "group-7-late",
        "What failed",
        "server: the host does not forward packets",
        "net.ipv4.ip_forward is 0 on server",
        "nothing on userv's eth0 within 2 s",
        "next would have been server, out of eth1",
        "it ends here",
        "step 3 of the handout has it right",
        "sysctl -w net.ipv4.ip_forward=1",
        "cannot start ping on userv: Cannot allocate memory",
        "step4.ping failed, and nothing can come through before that",
        "tun0 appeared only after 3.1 s",
        "python3 tun_server.py",
    ] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    let folded = "struct.error: unpack requires a buffer of 20 bytes";
    assert!(shown.dom.contains(folded) && !seen.contains(folded));
}

#[test]
fn the_page_is_dark_where_the_system_is_and_every_text_stands_out() {
    let page = Page::new(&with_script(&html::page(&[grade("broken"), grade("unbuildable")]), CONTRAST));
    let backgrounds = [("1", "rgb(246, 246, 244)"), ("0", "rgb(22, 24, 27)")];
    for (scheme, background) in backgrounds {
        let shown = page.open(&["--dump-dom", &format!("--blink-settings=preferredColorScheme={scheme}")]);
        assert_eq!(logged(&shown, "PAGE"), background);
        assert_eq!(logged(&shown, "CONTRAST"), "good", "on {background}");
    }
    let poor = "<p style='color: #aaa; background: #fff'>grey</p></main>";
    let html = html::page(&[grade("broken")]).replace("</main>", poor);
    let shown = Page::new(&with_script(&html, CONTRAST)).dom();
    assert!(logged(&shown, "CONTRAST").starts_with("P.null 2.3"), "a poor contrast is found: {:?}", shown.console);
}

#[test]
fn the_page_fits_a_telephone_and_a_wide_window() {
    // Chromium's own window has a least width; a frame has none.
    let script = "const name = location.search, root = document.documentElement; \
                  console.log(`WIDTH ${name} ${root.scrollWidth - innerWidth} of ${innerWidth}`)";
    let pages: Vec<Vec<Grade>> = all().into_iter().map(|grade| vec![grade]).chain([all()]).collect();
    let mut frames = String::from("<!doctype html>");
    let mut expected = Vec::new();
    for width in [360, 400, 800, 1280] {
        for number in 0..pages.len() {
            frames += &format!("<iframe src=\"{number}.html?{number}\" width={width} height=600></iframe>");
            expected.push(format!("WIDTH ?{number} 0 of {width}"));
        }
    }
    let page = Page::new(&frames);
    for (number, grades) in pages.iter().enumerate() {
        let inner = with_script(&html::page(grades), script);
        fs::write(page.directory.join(format!("{number}.html")), inner).unwrap();
    }
    let shown = page.dom();
    let lines = shown.console.iter().filter_map(|line| line.split('"').nth(1)).map(str::to_string);
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn pictures_of_the_page_are_made_without_a_complaint() {
    let page = Page::new(&html::page(&all()));
    let light = page.picture("light.png", &["--window-size=1280,900"]);
    let dark = page.picture("dark.png", &["--window-size=1280,900", "--blink-settings=preferredColorScheme=0"]);
    assert!(light.starts_with(b"\x89PNG") && dark.starts_with(b"\x89PNG"));
    assert_ne!(light, dark);
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
