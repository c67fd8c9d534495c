//! When, where, by whom and with what a report is made.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::unistd::{User, gethostname, getuid};

use super::hash;
use super::model::Stamp;
use crate::lab::{Lab, Mode};
use crate::version::VERSION;

/// The stamp of a report that begins now, in this lab and with this vpnlab.
pub fn stamp(lab: &Lab, vpnlab: &Path) -> Stamp {
    let user = User::from_uid(getuid()).ok().flatten();
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mode = match lab.mode {
        Mode::Rootless { .. } => "without root",
        Mode::Root => "as root",
    };
    Stamp {
        vpnlab: format!("vpnlab {VERSION}"),
        vpnlab_sha256: hash::of_file(vpnlab).ok(),
        made: time(since),
        seconds: 0.0,
        kernel: kernel.trim().into(),
        machine: gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        user: user.map_or_else(|| getuid().to_string(), |user| user.name),
        lab: lab.name.clone(),
        mode: mode.into(),
        topology_sha256: hash::of_bytes(lab.text.as_bytes()),
    }
}

/// A time since 1970 as RFC 3339 has it, in UTC.
fn time(since: Duration) -> String {
    let seconds = since.as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(day);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The date of a day since 1970.
fn date(mut day: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
