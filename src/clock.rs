//! The time, as cheaply as the kernel gives it: it is asked for every packet.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since some fixed moment, to a few milliseconds; it never runs backwards (clock_gettime(2)).
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_does_not_run_backwards() {
        let before = now();
        assert!(before > Duration::ZERO);
        assert!(now() >= before);
    }
}
