//! Reading the host's clocks.
use std::{env, sync::OnceLock, time::Duration};

use autoprof_protocol::Stamp;
use rustix::time::{ClockId, clock_gettime};

fn nanos(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

/// Now, on both clocks.
pub fn now() -> Stamp {
    let (unix_ns, boot_ns) = (nanos(ClockId::Realtime), nanos(ClockId::Boottime));
    Stamp { unix_ns: unix_ns.saturating_add(error_ns(boot_ns)), boot_ns }
}

/// By how much wall time is to be wrong: seconds, and millionths since boot, from a variable that tests set. The kernel
/// has no wall clock for a part of a machine's processes.
fn error_ns(boot_ns: i64) -> i64 {
    static ERROR: OnceLock<Option<(i64, i64)>> = OnceLock::new();
    let read = || {
        let text = env::var("AUTOPROF_TEST_CLOCK").ok()?;
        let (seconds, ppm) = text.split_once(',')?;
        Some((seconds.parse().ok()?, ppm.parse().ok()?))
    };
    let (seconds, ppm) = ERROR.get_or_init(read).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add((boot_ns / 1_000_000).saturating_mul(ppm))
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
