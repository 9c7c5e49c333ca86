//! What the tables of the sysstat profilers measure.
use autoprof_plugin::prelude::*;

const MPSTAT_MEASURES: &[Measure] = &[
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("all"),
    Measure::new("cpu.user", "user_percent + nice_percent + guest_percent + guest_nice_percent").rows("all"),
    Measure::new("cpu.system", "system_percent + irq_percent + softirq_percent").rows("all"),
    Measure::new("cpu.kernel", "system_percent").rows("all"),
    Measure::new("cpu.irq", "irq_percent").rows("all"),
    Measure::new("cpu.softirq", "softirq_percent").rows("all"),
    Measure::new("cpu.steal", "steal_percent").rows("all"),
    Measure::new("cpu.iowait", "iowait_percent").rows("all"),
    Measure::new("cpu.idle", "idle_percent").rows("all"),
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("!all"),
    Measure::new("cpu.interrupts", "interrupts_per_s").rows("!all"),
];

const IOSTAT_MEASURES: &[Measure] = &[
    Measure::new("disk.read_bytes", "1024 * read_kib_per_s"),
    Measure::new("disk.write_bytes", "1024 * write_kib_per_s"),
    Measure::new("disk.reads", "reads_per_s"),
    Measure::new("disk.writes", "writes_per_s"),
    Measure::new("disk.read_latency", "read_await_ms"),
    Measure::new("disk.write_latency", "write_await_ms"),
    Measure::new("disk.busy", "util_percent"),
];

const PIDSTAT_MEASURES: &[Measure] = &[Measure::new("process.cpu", "cpu_percent")];

const SAR_NETWORK_MEASURES: &[Measure] = &[
    Measure::new("net.rx_bytes", "1024 * rx_kib_per_s"),
    Measure::new("net.tx_bytes", "1024 * tx_kib_per_s"),
    Measure::new("net.rx_packets", "rx_packets_per_s"),
    Measure::new("net.tx_packets", "tx_packets_per_s"),
    Measure::new("net.rx_errors", "rx_errors_per_s"),
    Measure::new("net.tx_errors", "tx_errors_per_s"),
    Measure::new("net.rx_drops", "rx_drops_per_s"),
    Measure::new("net.tx_drops", "tx_drops_per_s"),
];

const SAR_TCP_MEASURES: &[Measure] = &[
    Measure::new("tcp.segments_sent", "segments_out_per_s"),
    Measure::new("tcp.retransmits", "retransmits_per_s"),
    // Segments that are sent again are not among those sent.
    Measure::new("tcp.retransmit_share", "100 * retransmits_per_s / (segments_out_per_s + retransmits_per_s)"),
    Measure::new("tcp.resets", "established_resets_per_s"),
    Measure::new("tcp.failed_opens", "failed_opens_per_s"),
    Measure::new("tcp.active_opens", "active_opens_per_s"),
    Measure::new("tcp.passive_opens", "passive_opens_per_s"),
];

const SAR_MEMORY_MEASURES: &[Measure] = &[
    Measure::new("memory.available", "1024 * available_kib"),
    Measure::new("memory.used", "host.memory_bytes - 1024 * available_kib"),
    Measure::new("memory.utilization", "100 * (1 - 1024 * available_kib / host.memory_bytes)"),
    Measure::new("memory.free", "1024 * free_kib"),
    Measure::new("memory.buffers", "1024 * buffers_kib"),
    Measure::new("memory.cached", "1024 * cached_kib"),
    Measure::new("memory.anonymous", "1024 * anonymous_kib"),
    Measure::new("memory.slab", "1024 * slab_kib"),
];

const SAR_PAGING_MEASURES: &[Measure] = &[
    Measure::new("memory.faults", "faults_per_s"),
    Measure::new("memory.major_faults", "major_faults_per_s"),
    Measure::new("swap.in_pages", "swap_in_pages_per_s"),
    Measure::new("swap.out_pages", "swap_out_pages_per_s"),
];

const SAR_CPU_MEASURES: &[Measure] = &[
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("all"),
    Measure::new("cpu.user", "user_percent + nice_percent + guest_percent + guest_nice_percent").rows("all"),
    Measure::new("cpu.system", "system_percent + irq_percent + softirq_percent").rows("all"),
    Measure::new("cpu.kernel", "system_percent").rows("all"),
    Measure::new("cpu.irq", "irq_percent").rows("all"),
    Measure::new("cpu.softirq", "softirq_percent").rows("all"),
    Measure::new("cpu.steal", "steal_percent").rows("all"),
    Measure::new("cpu.iowait", "iowait_percent").rows("all"),
    Measure::new("cpu.idle", "idle_percent").rows("all"),
    Measure::new("cpu.busy", "100 - idle_percent - iowait_percent").rows("!all"),
];

const SAR_DISK_MEASURES: &[Measure] = &[
    Measure::new("disk.read_bytes", "1024 * read_kib_per_s"),
    Measure::new("disk.write_bytes", "1024 * write_kib_per_s"),
    Measure::new("disk.busy", "util_percent"),
];

const SAR_LOAD_MEASURES: &[Measure] = &[
    Measure::new("cpu.run_queue", "runnable / host.cpus"),
    Measure::new("system.runnable", "runnable"),
    Measure::new("system.blocked", "blocked"),
    Measure::new("system.context_switches", "context_switches_per_s"),
    Measure::new("system.forks", "forks_per_s"),
];

/// The table of mpstat. Its user time excludes that of guests, which the kernel's includes.
pub const MPSTAT: &[TableInfo] = &[TableInfo::new("mpstat.csv").keys("cpu").summarized().measures(MPSTAT_MEASURES)];

/// The table of iostat, which counts in KiB.
pub const IOSTAT: &[TableInfo] = &[TableInfo::new("iostat.csv").keys("device").summarized().measures(IOSTAT_MEASURES)];

/// The table of pidstat, whose percentages are of one CPU.
pub const PIDSTAT: &[TableInfo] =
    &[TableInfo::new("pidstat.csv").keys("pid command").summarized().measures(PIDSTAT_MEASURES)];

/// The tables of sar. Memory that is used is what is not available: sar's own column has another meaning in each version.
pub const SAR: &[TableInfo] = &[
    TableInfo::new("sar-network.csv").keys("interface").summarized().measures(SAR_NETWORK_MEASURES),
    TableInfo::new("sar-tcp.csv").summarized().measures(SAR_TCP_MEASURES),
    TableInfo::new("sar-memory.csv").summarized().measures(SAR_MEMORY_MEASURES),
    TableInfo::new("sar-paging.csv").summarized().measures(SAR_PAGING_MEASURES),
    // Its user time excludes that of guests, as mpstat's does.
    TableInfo::new("sar-cpu.csv").keys("cpu").summarized().measures(SAR_CPU_MEASURES),
    TableInfo::new("sar-disk.csv").keys("device").summarized().measures(SAR_DISK_MEASURES),
    TableInfo::new("sar-load.csv").summarized().measures(SAR_LOAD_MEASURES),
];
