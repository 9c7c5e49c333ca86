//! perf: profiles of a whole host as stacks (`perf record`), and its counters over time (`perf stat`).
#![forbid(unsafe_code)]

mod events;
mod folded;
mod intervals;
mod perf_data;
mod record;
mod stat;
mod timeline;

use autoprof_plugin::prelude::*;

pub use record::{PERF, PerfRecord};
pub use stat::{PERF_STAT, PerfStat};

/// Adds the encoders of perf and perf-stat.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(PerfRecord))?;
    registry.add_encoder(Arc::new(PerfStat))
}

export_plugin!(register, profilers = [PERF, PERF_STAT]);
