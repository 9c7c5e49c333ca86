//! What the tables of the perf profilers measure.
use autoprof_plugin::prelude::*;

const PERF_STAT_MEASURES: &[Measure] = &[
    Measure::new("system.context_switches", "context_switches_per_s"),
    // The short name of the same event.
    Measure::new("system.context_switches", "cs_per_s"),
    Measure::new("cpu.instructions_per_cycle", "instructions_per_cycle"),
    Measure::new("perf.*", "'*_per_s'").unit("1/s"),
];

/// The table of perf-stat: a column for each event.
///
/// Every event is a quantity of its own, so that two runs can be compared. Of some CPUs only, it is not the host's.
pub const PERF_STAT: &[TableInfo] = &[TableInfo::new("perf-stat.csv").unless("cpus").measures(PERF_STAT_MEASURES)];
