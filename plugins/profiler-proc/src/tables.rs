//! What the tables of proc measure.
use autoprof_plugin::prelude::*;

const CPU_MEASURES: &[Measure] = &[
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("all"),
    Measure::new("cpu.user", "user_percent + nice_percent").rows("all"),
    Measure::new("cpu.system", "system_percent + irq_percent + softirq_percent").rows("all"),
    Measure::new("cpu.kernel", "system_percent").rows("all"),
    Measure::new("cpu.irq", "irq_percent").rows("all"),
    Measure::new("cpu.softirq", "softirq_percent").rows("all"),
    Measure::new("cpu.steal", "steal_percent").rows("all"),
    Measure::new("cpu.iowait", "iowait_percent").rows("all"),
    Measure::new("cpu.idle", "idle_percent").rows("all"),
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("!all"),
];

const MEMORY_MEASURES: &[Measure] = &[
    Measure::new("memory.total", "1024 * total_kib"),
    Measure::new("memory.available", "1024 * available_kib"),
    Measure::new("memory.used", "1024 * (total_kib - available_kib)"),
    Measure::new("memory.utilization", "100 * (1 - available_kib / total_kib)"),
    Measure::new("memory.free", "1024 * free_kib"),
    Measure::new("memory.buffers", "1024 * buffers_kib"),
    Measure::new("memory.cached", "1024 * cached_kib"),
    Measure::new("memory.anonymous", "1024 * anonymous_kib"),
    Measure::new("memory.slab", "1024 * slab_kib"),
];

const PAGING_MEASURES: &[Measure] = &[
    Measure::new("memory.faults", "faults_per_s"),
    Measure::new("memory.major_faults", "major_faults_per_s"),
    Measure::new("swap.in_pages", "swap_in_pages_per_s"),
    Measure::new("swap.out_pages", "swap_out_pages_per_s"),
];

const DISK_MEASURES: &[Measure] = &[
    Measure::new("disk.read_bytes", "read_bytes_per_s"),
    Measure::new("disk.write_bytes", "write_bytes_per_s"),
    Measure::new("disk.reads", "reads_per_s"),
    Measure::new("disk.writes", "writes_per_s"),
    Measure::new("disk.read_latency", "read_await_ms"),
    Measure::new("disk.write_latency", "write_await_ms"),
    Measure::new("disk.busy", "util_percent"),
];

const NET_MEASURES: &[Measure] = &[
    Measure::new("net.rx_bytes", "rx_bytes_per_s"),
    Measure::new("net.tx_bytes", "tx_bytes_per_s"),
    Measure::new("net.rx_packets", "rx_packets_per_s"),
    Measure::new("net.tx_packets", "tx_packets_per_s"),
    Measure::new("net.rx_errors", "rx_errors_per_s"),
    Measure::new("net.tx_errors", "tx_errors_per_s"),
    Measure::new("net.rx_drops", "rx_drops_per_s"),
    Measure::new("net.tx_drops", "tx_drops_per_s"),
];

const PRESSURE_MEASURES: &[Measure] = &[
    Measure::new("pressure.cpu", "some_percent").rows("cpu"),
    Measure::new("pressure.io", "some_percent").rows("io"),
    Measure::new("pressure.memory", "some_percent").rows("memory"),
];

const LOAD_MEASURES: &[Measure] = &[
    Measure::new("cpu.run_queue", "runnable / host.cpus"),
    Measure::new("system.runnable", "runnable"),
    Measure::new("system.blocked", "blocked"),
    Measure::new("system.context_switches", "context_switches_per_s"),
    Measure::new("system.interrupts", "interrupts_per_s"),
    Measure::new("system.forks", "forks_per_s"),
];

/// Every table of proc; none of its columns need a chart beside those of the quantities.
pub const TABLES: &[TableInfo] = &[
    TableInfo::new("cpu.csv").keys("cpu").precision(Precision::Exact).summarized().measures(CPU_MEASURES),
    TableInfo::new("memory.csv").precision(Precision::Exact).summarized().measures(MEMORY_MEASURES),
    TableInfo::new("paging.csv").precision(Precision::Exact).summarized().measures(PAGING_MEASURES),
    TableInfo::new("disk.csv").keys("device").precision(Precision::Exact).summarized().measures(DISK_MEASURES),
    TableInfo::new("net.csv").keys("interface").precision(Precision::Exact).summarized().measures(NET_MEASURES),
    TableInfo::new("pressure.csv")
        .keys("resource")
        .precision(Precision::Exact)
        .summarized()
        .measures(PRESSURE_MEASURES),
    TableInfo::new("load.csv").precision(Precision::Exact).summarized().measures(LOAD_MEASURES),
];
