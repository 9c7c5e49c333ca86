//! Instants on a host, on the two clocks that matter.
use serde::{Deserialize, Serialize};

/// One instant of a host, read from both of its clocks.
///
/// Wall time says when, for people and for comparing with files that tools wrote; the time since boot says
/// how long, and stays right when somebody sets the clock during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stamp {
    /// Nanoseconds since 1970-01-01 UTC, by the host's `CLOCK_REALTIME`.
    pub unix_ns: i64,
    /// Nanoseconds since the host's boot, by its `CLOCK_BOOTTIME`.
    pub boot_ns: i64,
}

impl Stamp {
    /// Nanoseconds from `earlier` to `self`, by the clock that nobody sets.
    #[must_use]
    pub fn since(&self, earlier: Self) -> i64 {
        self.boot_ns.saturating_sub(earlier.boot_ns)
    }

    /// Seconds since 1970-01-01 UTC, with fractions (exact to about a microsecond).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a quarter of a microsecond at today's dates")]
    pub fn unix_seconds(&self) -> f64 {
        self.unix_ns as f64 / 1e9
    }
}
