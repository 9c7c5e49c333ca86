//! Sampling that survives the load that it measures.
//!
//! A process that sleeps for a second and then competes with a busy thread on each CPU may wait for seconds. While
//! profilers collect, the client and the tools that sample therefore run at the lowest real-time priority, where they may
//! (root, `CAP_SYS_NICE`, `RLIMIT_RTPRIO`), and as the nicest to themselves where they may not. What they do takes
//! milliseconds each time; whoever takes more loses the priority.
use std::sync::atomic::{AtomicBool, Ordering};

use autoprof_protocol::{EventKind, Policy};

use crate::{clock, profiler::Profiler, sys};

/// Longest time that the client may use a CPU without a pause while it has a real-time priority.
const LONGEST_RUN_US: u64 = 100_000;
/// Most of one CPU that the client, or a tool, may use while it has one, in percent.
const MAX_PERCENT: i64 = 20;
/// Shortest time over which that is measured.
const MEASURE_NS: i64 = 1_000_000_000;

/// Whether the client used a CPU for longer than it may; the kernel said so by a signal.
pub static OVERRAN: AtomicBool = AtomicBool::new(false);

/// How the client is scheduled while profilers collect.
#[derive(Debug)]
pub struct Scheduling {
    policy: Policy,
    /// When it was looked at last, and what the client had used by then.
    last: (i64, u64),
}

impl Scheduling {
    /// Takes the best that this user may have.
    pub fn acquire() -> (Self, EventKind) {
        let (policy, reason) = match sys::become_realtime(LONGEST_RUN_US) {
            Ok(()) => (Policy::RoundRobin, None),
            Err(e) => {
                let (group, nice) = (sys::set_autogroup(-20), sys::raise_nice());
                let policy = if nice {
                    Policy::Nice
                } else if group {
                    Policy::Group
                } else {
                    Policy::Default
                };
                (policy, Some(format!("no real-time priority: {e}").into()))
            }
        };
        let scheduling = Self { policy, last: (clock::boot_ns(), sys::own_cpu_us()) };
        (scheduling, EventKind::Scheduling { policy, reason })
    }

    /// When it wants to look next, if it has something to look after.
    pub fn due(&self) -> Option<i64> {
        (self.policy == Policy::RoundRobin).then(|| self.last.0 + 2 * MEASURE_NS)
    }

    /// Takes the priority from who uses too much of a CPU.
    pub fn look(&mut self, profilers: &mut [Profiler]) -> Option<EventKind> {
        if self.policy != Policy::RoundRobin {
            return None;
        }
        let overran = OVERRAN.swap(false, Ordering::Relaxed);
        let now = clock::boot_ns();
        let span = now - self.last.0;
        if !overran && span < MEASURE_NS {
            return None;
        }
        let used = sys::own_cpu_us();
        let too_much = is_too_much(used.saturating_sub(self.last.1), span);
        self.last = (now, used);
        for profiler in profilers {
            profiler.bound_realtime(is_too_much);
        }
        if !overran && !too_much {
            return None;
        }
        sys::become_ordinary();
        self.policy = Policy::Default;
        let why = if overran { "it used a CPU for 100 ms without a pause" } else { "it used a fifth of a CPU" };
        let reason = Some(format!("the client gave up its real-time priority: {why}").into());
        Some(EventKind::Scheduling { policy: self.policy, reason })
    }

    /// Gives it up: what comes now is done when the test is over.
    pub fn release(&mut self) {
        sys::become_ordinary();
        sys::step_back();
        if matches!(self.policy, Policy::Nice | Policy::Group) {
            sys::set_autogroup(0);
        }
        self.policy = Policy::Default;
    }
}

fn is_too_much(used_us: u64, span_ns: i64) -> bool {
    span_ns >= MEASURE_NS
        && i64::try_from(used_us).unwrap_or(i64::MAX).saturating_mul(1000 * 100) > span_ns * MAX_PERCENT
}
