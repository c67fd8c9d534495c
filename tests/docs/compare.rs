//! Compares what a page shows with what was seen, line by line, with what differs from run to run masked. Pure.
//!
//! Masked are times, identifiers and process ids, ports that a kernel chooses, interface numbers, link-local and MAC
//! addresses, checksums, the name of the queueing discipline. Nothing else is: addresses, counts, lengths, TTLs, sequence
//! numbers and every word must be right.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Stands for any lines.
pub const ANY: &str = "[...]";
/// Stands for one word of an expected line, whatever it is.
const WORD: &str = "\u{1}";

/// What is masked: a pattern, and what takes its place.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        ("fe80::[0-9a-f:]+", "fe80::*"),
        ("(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "<mac>"),
        (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b", "<date>"),
        (r"\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?", "<time>"),
        // A port that a kernel chose has five digits.
        (r"((?:[0-9]{1,3}\.){3}[0-9]{1,3}[:.])[1-6][0-9]{4}\b", "$1<port>"),
        (r"\b(UDP|udp port|port|UDP/) ?[1-6][0-9]{4}\b", "$1 <port>"),
        (r"\b[0-9]+(?:\.[0-9]+)? ?ms\b", "* ms"),
        (r"\bid [0-9]+\b", "id *"),
        (r"\buid [0-9]+\b", "uid *"),
        (r" \([0-9]{1,7}\)", " (<pid>)"),
        (r"^[0-9]+: ([a-z][a-z0-9@]*:)", "N: $1"),
        (r"@if[0-9]+\b", "@if*"),
        (r"\bcksum (?:0x)?[0-9a-f]+(?: \(->(?:0x)?[0-9a-f]+\))?", "cksum *"),
        (r"\bqdisc [a-z_]+\b", "qdisc *"),
        (r"\b[0-9]+ packets? (captured|received by filter|dropped by kernel)", "* packets $1"),
    ]
    .map(|(pattern, instead)| (Regex::new(pattern).expect("a mask is a pattern"), instead))
    .into()
});
static COLOUR: LazyLock<Regex> = LazyLock::new(|| Regex::new("\x1b\\[[0-9;]*[A-Za-z]").expect("a pattern"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[0-9]+(?:\.[0-9]+)+").expect("a pattern"));
static DUMP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(0x[0-9a-f]{4}:(?:\s[0-9a-f]{4}|\s[0-9a-f]{2}\b|\s)+?)\s\s.*$").expect("a pattern")
});

/// A line without what differs from run to run. The spaces of a line that has such numbers stand for any number of
/// spaces, since its columns may have moved.
pub fn mask(line: &str) -> String {
    let line = COLOUR.replace_all(line, "");
    let line = line.trim_end();
    if let Some(dump) = DUMP.captures(line) {
        return dump[1].split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let mut masked = line.to_string();
    for (pattern, instead) in MASKS.iter() {
        masked = pattern.replace_all(&masked, *instead).into_owned();
    }
    // 0.165 is a measurement; 10.1.3.1 is an address, and 0.1.0 a version.
    let fraction =
        |found: &Captures<'_>| if found[0].matches('.').count() == 1 { "*".into() } else { found[0].to_string() };
    masked = NUMBER.replace_all(&masked, fraction).into_owned();
    if masked == line { masked } else { masked.split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// Whether lines that nobody asked for may stand between others: what an IPv6 kernel sends through every device that
/// comes up, at times of its own. An indented line belongs to the one before it.
fn may_come_unasked<S: AsRef<str>>(lines: &[S], at: usize) -> bool {
    let is_one = |line: &str| line.contains("fe80::") || line.contains("ff02::");
    let after = lines.get(at + 1).map_or("", AsRef::as_ref);
    is_one(lines[at].as_ref()) || (after.starts_with(' ') && is_one(after))
}

fn equal(expected: &str, seen: &str) -> bool {
    if !expected.contains(WORD) {
        return expected == seen;
    }
    let (expected, seen) = (expected.split_whitespace(), seen.split_whitespace());
    expected.clone().count() == seen.clone().count()
        && expected.zip(seen).all(|(one, other)| one == WORD || one == other)
}

/// What must be seen.
#[derive(Debug, Clone)]
pub struct Expected(Vec<String>);

impl Expected {
    /// Of a page's lines. The words that vary stand for any word.
    pub fn new(lines: &[String], varies: &[&str]) -> Self {
        let word = |word: &str| if varies.contains(&word) { WORD } else { word }.to_string();
        let line = |line: &String| {
            let masked = mask(line);
            let has_one = masked.split_whitespace().any(|it| varies.contains(&it));
            if has_one { masked.split_whitespace().map(word).collect::<Vec<_>>().join(" ") } else { masked }
        };
        let length = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
        Self(lines[..length].iter().map(line).collect())
    }

    /// The same, after any other lines.
    pub fn somewhere(mut self) -> Self {
        self.0.insert(0, ANY.into());
        self
    }

    /// The same, with any other lines between them.
    pub fn apart(self) -> Self {
        Self(self.0.into_iter().flat_map(|line| [line, ANY.into()]).collect())
    }

    /// The number of lines after which all that is expected has been seen; further ones may follow.
    pub fn begins<S: AsRef<str>>(&self, seen: &[S]) -> Option<usize> {
        self.run(seen, |states| states[self.0.len()])
    }

    /// Whether this is what was seen, from the first line to the last.
    pub fn is<S: AsRef<str>>(&self, seen: &[S]) -> bool {
        let mut last = false;
        // Asked after every line, so that it is known after the last.
        self.run(seen, |states| {
            last = states[self.0.len()];
            false
        });
        last
    }

    /// Goes through the lines but for empty ones at the end, with all places of the expected ones that they may have led to: asked after each.
    fn run<S: AsRef<str>>(&self, seen: &[S], mut ends: impl FnMut(&[bool]) -> bool) -> Option<usize> {
        let mut states = vec![false; self.0.len() + 1];
        states[0] = true;
        self.pass_any(&mut states);
        if ends(&states) {
            return Some(0);
        }
        let length = seen.iter().rposition(|line| !line.as_ref().trim().is_empty()).map_or(0, |last| last + 1);
        for (index, line) in seen[..length].iter().enumerate() {
            let (line, unasked) = (mask(line.as_ref()), may_come_unasked(&seen[..length], index));
            let mut next = vec![false; states.len()];
            for place in (0..states.len()).filter(|&place| states[place]) {
                let expected = self.0.get(place).map(String::as_str);
                if expected == Some(ANY) || unasked {
                    next[place] = true;
                }
                if expected.is_some_and(|expected| expected != ANY && equal(expected, &line)) {
                    next[place + 1] = true;
                }
            }
            states = next;
            self.pass_any(&mut states);
            if ends(&states) {
                return Some(index + 1);
            }
        }
        None
    }

    fn pass_any(&self, states: &mut [bool]) {
        for place in 0..self.0.len() {
            if states[place] && self.0[place] == ANY {
                states[place + 1] = true;
            }
        }
    }

    /// Both, with what only one has marked.
    pub fn difference<S: AsRef<str>>(&self, seen: &[S]) -> String {
        let seen: Vec<&str> = seen.iter().map(AsRef::as_ref).collect();
        let masked: Vec<String> = seen.iter().map(|line| mask(line)).collect();
        let (rows, columns) = (self.0.len(), seen.len());
        let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
        for row in (0..rows).rev() {
            for column in (0..columns).rev() {
                common[row][column] = if equal(&self.0[row], &masked[column]) {
                    common[row + 1][column + 1] + 1
                } else {
                    common[row + 1][column].max(common[row][column + 1])
                };
            }
        }
        let (mut row, mut column, mut text) = (0, 0, String::new());
        while row < rows || column < columns {
            let both = row < rows && column < columns && equal(&self.0[row], &masked[column]);
            if both {
                text += &format!("      {}\n", seen[column]);
                (row, column) = (row + 1, column + 1);
            } else if column == columns || row < rows && common[row + 1][column] >= common[row][column + 1] {
                text += &format!("    - {}\n", self.0[row].replace(WORD, "<any>"));
                row += 1;
            } else {
                text += &format!("    + {}\n", seen[column]);
                column += 1;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(String::from).collect()
    }

    fn is(expected: &str, seen: &str) -> bool {
        Expected::new(&lines(expected), &[]).is(&lines(seen))
    }

    #[test]
    fn what_differs_from_run_to_run_is_masked() {
        for (one, other) in [
            (
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=63 time=0.223 ms",
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=63 time=12 ms",
            ),
            (
                "1 packets transmitted, 0 received, 100% packet loss, time 0ms",
                "1 packets transmitted, 0 received, 100% packet loss, time 4079ms",
            ),
            ("10.1.2.2:45039 --> 0.0.0.0:9090", "10.1.2.2:58821 --> 0.0.0.0:9090"),
            (
                "17:49:32.846991 IP 10.1.2.2.45601 > 10.1.2.3.9090: UDP, length 84",
                "01:02:03.4 IP 10.1.2.2.32768 > 10.1.2.3.9090: UDP, length 84",
            ),
            (
                "4: tun0: <POINTOPOINT> mtu 1500 qdisc noop state DOWN",
                "11: tun0: <POINTOPOINT> mtu 1500 qdisc fq_codel state DOWN",
            ),
            ("    inet6 fe80::9227:e86a:4d5:adeb/64 scope link", "    inet6 fe80::1/64 scope link"),
            ("10.1.3.4 dev tun0 src 10.1.3.1 uid 1001 ", "10.1.3.4 dev tun0 src 10.1.3.1 uid 0"),
            (" 1  server-lan0 (10.1.2.3)  0.165 ms  0.128 ms", " 1  server-lan0 (10.1.2.3)  10.165 ms  0.1 ms"),
            (
                "    0.172  eth0> |      |      in UDP 10.1.2.2:35599 > 10.1.2.3:9090",
                "   10.172  eth0> |      |      in UDP 10.1.2.2:45599 > 10.1.2.3:9090",
            ),
            ("  useru: vpnlab vpn (29703): tun0, UDP 35599", "  useru: vpnlab vpn (8): tun0, UDP 45599"),
            (
                "link/ether 00:0e:0c:68:a7:11 brd ff:ff:ff:ff:ff:ff",
                "link/ether 02:0e:0c:68:a7:11 brd ff:ff:ff:ff:ff:ff",
            ),
            ("length 64 (wrong icmp cksum b0e (->130e)!)", "length 64 (wrong icmp cksum 1234 (->34)!)"),
        ] {
            assert!(is(one, other), "{}\n{}", mask(one), mask(other));
        }
    }

    #[test]
    fn what_must_be_so_is_not_masked() {
        for (one, other) in [
            (
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=63 time=0.2 ms",
                "64 bytes from userv (10.1.1.3): icmp_seq=1 ttl=63 time=0.2 ms",
            ),
            (
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=63 time=0.2 ms",
                "64 bytes from userv (10.1.1.2): icmp_seq=2 ttl=63 time=0.2 ms",
            ),
            (
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=63 time=0.2 ms",
                "64 bytes from userv (10.1.1.2): icmp_seq=1 ttl=64 time=0.2 ms",
            ),
            (
                "1 packets transmitted, 0 received, 100% packet loss, time 0ms",
                "1 packets transmitted, 1 received, 0% packet loss, time 0ms",
            ),
            ("10.1.2.2:45039 --> 0.0.0.0:9090", "10.1.2.2:45039 --> 0.0.0.0:9091"),
            ("IP 10.1.2.2.45601 > 10.1.2.3.9090: UDP, length 84", "IP 10.1.2.2.45601 > 10.1.2.3.9090: UDP, length 88"),
            ("10.1.3.4 dev tun0 src 10.1.3.1 uid 1001", "10.1.3.4 dev eth0 src 10.1.3.1 uid 1001"),
            ("[INFO] ip addr add 10.1.3.1/24 dev tun0", "[INFO] ip addr add 10.1.3.1/32 dev tun0"),
            ("[INFO] ip link set dev tun0 mtu 1472", "[INFO] ip link set dev tun0 mtu 1372"),
            ("4: tun0: <POINTOPOINT,UP> mtu 1500 qdisc noop", "4: tun0: <POINTOPOINT> mtu 1500 qdisc noop"),
            ("    0.177  |     >eth0  |", "    0.177  >eth0 |      |"),
            ("    0.177  |     >eth0  |", "    0.177  |     eth0>  |"),
            (
                "tun0  Out IP 10.1.3.1 > 10.1.3.4: ICMP echo request, id 4, seq 1",
                "tun0  Out IP 10.1.3.1 > 10.1.3.4: ICMP echo request, id 4, seq 0",
            ),
            ("net.ipv4.ip_forward = 1", "net.ipv4.ip_forward = 0"),
            ("2 hosts", "3 hosts"),
            ("\t0x0000:  4500 0054 3245 4000  E..T2E@.", "\t0x0000:  6000 0054 3245 4000  `..T2E@."),
            ("vpnlab 0.1.0", "vpnlab 0.2.0"),
            ("a", ""),
            ("", "a"),
            ("a\n\nb", "a\nb"),
            ("a\nb", "b\na"),
            ("a\nb", "a"),
            ("a", "a\nb"),
            ("a  b", "a b"),
        ] {
            assert!(!is(one, other), "the mask hides too much:\n{}\n{}", mask(one), mask(other));
        }
    }

    #[test]
    fn dots_stand_for_any_lines_and_for_none() {
        assert!(is("a\n[...]\nd", "a\nb\nc\nd"));
        assert!(is("a\n[...]\nd", "a\nd"));
        assert!(is("[...]\nd", "b\nd"));
        assert!(is("a\n[...]", "a\nb"));
        assert!(!is("a\n[...]\nd", "a\nb\nc"));
        assert!(!is("[...]\nd", "d\ne"));
        assert!(is("a\n[...]\nd", "a\nd\nb\nd"));
    }

    #[test]
    fn a_line_of_the_kernels_own_ipv6_may_come_but_must_where_it_is_shown() {
        assert!(is("a\nb", "a\nFrom tun ==>: fe80::1 --> ff02::2\nb"));
        assert!(is("a\nFrom tun ==>: fe80::9 --> ff02::2\nb", "a\nFrom tun ==>: fe80::1 --> ff02::2\nb"));
        assert!(!is("a\nFrom tun ==>: fe80::9 --> ff02::2\nb", "a\nb"));
        assert!(is("a\nb", "10.1.2.2:45039 --> 0.0.0.0:9090\n Inside: fe80::1 ---> ff02::2\na\nb"));
        assert!(!is("a\nb", "10.1.2.2:45039 --> 0.0.0.0:9090\na\nb"));
        assert!(!is("a\nb", "a\nFrom tun ==>: 10.1.3.1 --> 10.1.3.4\nb"));
    }

    #[test]
    fn a_word_that_varies_is_any_word() {
        let dump = lines("\t0x0010:  0a01 0203 a0b8 2382 0060 1878  ......#..`.x");
        let expected = Expected::new(&dump, &["a0b8", "1878"]);
        assert!(expected.is(&["\t0x0010:  0a01 0203 b1c9 2382 0060 9999  ......#..`.y"]));
        assert!(!expected.is(&["\t0x0010:  0a01 0204 b1c9 2382 0060 9999  ......#..`.y"]));
        assert!(!expected.is(&["\t0x0010:  0a01 0203 b1c9 2382 0060"]));
    }

    #[test]
    fn output_that_goes_on_is_enough_once_all_was_seen() {
        let expected = Expected::new(&lines("a\nb"), &[]);
        assert_eq!(expected.begins(&["a", "b", "c"]), Some(2));
        assert_eq!(expected.begins(&["a"]), None);
        assert_eq!(expected.begins(&["x", "a", "b"]), None);
        assert_eq!(expected.clone().apart().begins(&["a", "x", "b", "c"]), Some(3));
        assert_eq!(expected.somewhere().begins(&["x", "a", "b", "c"]), Some(3));
    }

    #[test]
    fn the_difference_marks_what_only_one_has() {
        let expected = Expected::new(&lines("a\nttl=63 time=0.2 ms\nc"), &[]);
        let text = expected.difference(&["a", "ttl=64 time=0.3 ms", "c"]);
        assert_eq!(text, "      a\n    - ttl=63 time=* ms\n    + ttl=64 time=0.3 ms\n      c\n");
    }
}
