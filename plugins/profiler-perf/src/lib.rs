//! perf: profiles of a whole host as stacks (`perf record`), its counters over time (`perf stat`), and what `perf sched`,
//! `perf lock` and `perf c2c` say.
#![forbid(unsafe_code)]

mod c2c;
mod events;
mod folded;
mod intervals;
mod lock;
mod perf_data;
mod record;
mod sched;
mod stat;
mod subcommand;
mod tables;
mod timeline;

use autoprof_plugin::prelude::*;

pub use c2c::{PERF_C2C, PerfC2c};
pub use lock::{PERF_LOCK, PerfLock};
pub use record::{PERF, PerfRecord};
pub use sched::{PERF_SCHED, PerfSched};
pub use stat::{PERF_STAT, PerfStat};

/// Adds the encoders of perf, perf-stat, perf-sched, perf-lock and perf-c2c.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(PerfRecord))?;
    registry.add_encoder(Arc::new(PerfStat))?;
    registry.add_encoder(Arc::new(PerfSched))?;
    registry.add_encoder(Arc::new(PerfLock))?;
    registry.add_encoder(Arc::new(PerfC2c))
}

export_plugin!(register, profilers = [PERF, PERF_STAT, PERF_SCHED, PERF_LOCK, PERF_C2C]);

#[cfg(test)]
mod kept {
    use autoprof_plugin::{conformance, core::Registry};

    #[test]
    fn encoders_and_converters_keep_what_they_have_to() {
        let mut registry = Registry::default();
        super::register(&mut registry).unwrap();
        for (name, encoder) in registry.encoders() {
            assert_eq!(conformance::failures(&conformance::check(&**encoder)), Vec::<String>::new(), "{name}");
        }
    }
}
