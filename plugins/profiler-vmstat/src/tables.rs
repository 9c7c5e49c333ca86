//! What the table of vmstat measures.
use autoprof_plugin::prelude::*;

const VMSTAT_MEASURES: &[Measure] = &[
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent"),
    Measure::new("cpu.user", "user_percent"),
    Measure::new("cpu.system", "system_percent"),
    Measure::new("cpu.steal", "steal_percent"),
    Measure::new("cpu.iowait", "iowait_percent"),
    Measure::new("cpu.idle", "idle_percent"),
    Measure::new("cpu.run_queue", "runnable / host.cpus"),
    Measure::new("system.runnable", "runnable"),
    Measure::new("system.blocked", "blocked"),
    Measure::new("system.context_switches", "context_switches_per_s"),
    Measure::new("system.interrupts", "interrupts_per_s"),
    Measure::new("memory.free", "1024 * free_kib"),
    Measure::new("memory.buffers", "1024 * buffers_kib"),
    Measure::new("memory.cache", "1024 * cache_kib"),
    Measure::new("swap.in_bytes", "1024 * swap_in_kib_per_s"),
    Measure::new("swap.out_bytes", "1024 * swap_out_kib_per_s"),
];

/// The table of vmstat, which prints whole numbers.
///
/// Its user time includes niced time; its kernel time includes interrupts. It has no available memory.
pub const TABLES: &[TableInfo] =
    &[TableInfo::new("vmstat.csv").precision(Precision::Integer).summarized().measures(VMSTAT_MEASURES)];
