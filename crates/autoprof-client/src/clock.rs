//! Reading the host's clocks.
use std::time::Duration;

use autoprof_protocol::Stamp;
use rustix::time::{ClockId, clock_gettime};

fn nanos(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

/// Now, on both clocks.
pub fn now() -> Stamp {
    Stamp { unix_ns: nanos(ClockId::Realtime), boot_ns: nanos(ClockId::Boottime) }
}

/// Now, on the clock that deadlines are kept on: nanoseconds since boot.
pub fn boot_ns() -> i64 {
    nanos(ClockId::Boottime)
}

/// A number of milliseconds in nanoseconds.
pub fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// How long until a deadline, for a system call that takes a time-out.
pub fn until(deadline_boot_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(deadline_boot_ns.saturating_sub(boot_ns())).unwrap_or(0))
}
