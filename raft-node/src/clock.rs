//! The clock of a node.

use std::time::Instant as Start;

use raft_core::clock::Clock;
use raft_core::types::Instant;

/// The system's monotonic clock, which goes on while the machine sleeps; its start is when it was made.
///
/// On Linux, Android, Fuchsia and OpenBSD it is `CLOCK_BOOTTIME`; on Apple's systems `CLOCK_MONOTONIC`, which counts
/// sleep there; on Windows the performance counter, which does too. Elsewhere it is [`std::time::Instant`], of which
/// that is not known: do not use leases there on machines that are suspended, or give the node a [`Clock`] of your own.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Start,
    /// What the clock that counts sleep showed at the start, where there is one.
    boot_millis: Option<u64>,
}

impl SystemClock {
    /// A clock that begins at 0.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { start: Start::now(), boot_millis: with_sleep_millis() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        if let (Some(boot), Some(now)) = (self.boot_millis, with_sleep_millis()) {
            return Instant(now.saturating_sub(boot));
        }
        Instant(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// What the clock that counts sleep shows, in milliseconds since a fixed moment; `None` where there is none.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_os = "openbsd",
    target_vendor = "apple"
))]
fn with_sleep_millis() -> Option<u64> {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(target_vendor = "apple")]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let millis = u64::try_from(time.tv_nsec).ok()? / 1_000_000;
    Some(seconds.saturating_mul(1000).saturating_add(millis))
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_os = "openbsd",
    target_vendor = "apple"
)))]
fn with_sleep_millis() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel says how long the machine has been up, sleep included.
    #[cfg(target_os = "linux")]
    #[test]
    fn it_counts_what_the_machine_has_slept() {
        let uptime = || -> u64 {
            let text = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
            let (seconds, hundredths) = text.split(' ').next().and_then(|it| it.split_once('.')).expect("two numbers");
            let number = |text: &str| text.parse::<u64>().expect("it is a number");
            number(seconds) * 1000 + number(hundredths) * 10
        };
        let (before, read) = (uptime(), with_sleep_millis().expect("Linux has this clock"));
        let after = uptime();
        // `/proc/uptime` has hundredths.
        assert!(read + 10 >= before && read <= after + 10, "{before} {read} {after}");
        let clock = SystemClock::new();
        let (boot, start) = (clock.boot_millis.expect("Linux has this clock"), clock.now());
        assert!(start.0 <= with_sleep_millis().expect("Linux has this clock") - boot);
        assert!(clock.now() >= start);
    }
}
