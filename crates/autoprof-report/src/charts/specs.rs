//! The pictures that are known: which columns of which tables belong together.
use super::Kind;

/// Which rows of a table a picture shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows {
    /// Those about one thing.
    Of(&'static str),
    /// All, a line for each thing.
    Each,
    /// All but those about one thing.
    EachBut(&'static str),
}

/// A picture of known columns.
pub(super) struct Spec {
    pub(super) section: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
    /// The first of these that is there.
    pub(super) sources: &'static [Source],
}

pub(super) struct Source {
    pub(super) profiler: &'static str,
    pub(super) file: &'static str,
    pub(super) rows: Rows,
    /// Columns, with what they are called.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Factor to the unit.
    pub(super) times: f64,
}

const fn source(
    profiler: &'static str,
    file: &'static str,
    rows: Rows,
    columns: &'static [(&'static str, &'static str)],
    times: f64,
) -> Source {
    Source { profiler, file, rows, columns, times }
}

const CPU: &[(&str, &str)] = &[
    ("user_percent", "user"),
    ("nice_percent", "nice"),
    ("system_percent", "system"),
    ("irq_percent", "interrupts"),
    ("softirq_percent", "soft interrupts"),
    ("steal_percent", "stolen"),
    ("iowait_percent", "waiting for I/O"),
];
const QUEUE: &[(&str, &str)] = &[("runnable", "runnable"), ("blocked", "blocked")];
const SWITCHES: &[(&str, &str)] =
    &[("context_switches_per_s", "context switches"), ("interrupts_per_s", "interrupts"), ("forks_per_s", "forks")];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        section: "CPU",
        title: "CPU time, all CPUs",
        unit: "%",
        kind: Kind::Stack,
        sources: &[
            source("proc", "cpu.csv", Rows::Of("all"), CPU, 1.0),
            source("mpstat", "mpstat.csv", Rows::Of("all"), CPU, 1.0),
            source("vmstat", "vmstat.csv", Rows::Of(""), CPU, 1.0),
        ],
    },
    Spec {
        section: "CPU",
        title: "busy, by CPU",
        unit: "%",
        kind: Kind::Heat,
        sources: &[
            source("proc", "cpu.csv", Rows::EachBut("all"), &[("idle_percent", "")], -1.0),
            source("mpstat", "mpstat.csv", Rows::EachBut("all"), &[("idle_percent", "")], -1.0),
        ],
    },
    Spec {
        section: "CPU",
        title: "run queue",
        unit: "tasks",
        kind: Kind::Lines,
        sources: &[
            source("proc", "load.csv", Rows::Of(""), QUEUE, 1.0),
            source("vmstat", "vmstat.csv", Rows::Of(""), QUEUE, 1.0),
            source("sar", "sar-load.csv", Rows::Of(""), QUEUE, 1.0),
        ],
    },
    Spec {
        section: "CPU",
        title: "interrupts and context switches",
        unit: "1/s",
        kind: Kind::Lines,
        sources: &[
            source("proc", "load.csv", Rows::Of(""), SWITCHES, 1.0),
            source("vmstat", "vmstat.csv", Rows::Of(""), SWITCHES, 1.0),
        ],
    },
    Spec {
        section: "CPU",
        title: "interrupts, by CPU",
        unit: "1/s",
        kind: Kind::Heat,
        sources: &[source("mpstat", "mpstat.csv", Rows::EachBut("all"), &[("interrupts_per_s", "")], 1.0)],
    },
    Spec {
        section: "Pressure",
        title: "time in which some task waited",
        unit: "%",
        kind: Kind::Lines,
        sources: &[source("proc", "pressure.csv", Rows::Each, &[("some_percent", "")], 1.0)],
    },
    Spec {
        section: "Memory",
        title: "memory by use",
        unit: "bytes",
        kind: Kind::Stack,
        sources: &[
            source(
                "proc",
                "memory.csv",
                Rows::Of(""),
                &[
                    ("anonymous_kib", "programs"),
                    ("slab_kib", "kernel's slab"),
                    ("buffers_kib", "buffers"),
                    ("cached_kib", "page cache"),
                    ("free_kib", "free"),
                ],
                1024.0,
            ),
            source(
                "vmstat",
                "vmstat.csv",
                Rows::Of(""),
                &[("buffers_kib", "buffers"), ("cache_kib", "cache"), ("free_kib", "free")],
                1024.0,
            ),
        ],
    },
    Spec {
        section: "Memory",
        title: "paging",
        unit: "1/s",
        kind: Kind::Lines,
        sources: &[source(
            "proc",
            "paging.csv",
            Rows::Of(""),
            &[
                ("major_faults_per_s", "major faults"),
                ("swap_in_pages_per_s", "pages swapped in"),
                ("swap_out_pages_per_s", "pages swapped out"),
            ],
            1.0,
        )],
    },
    Spec {
        section: "Disks",
        title: "read and written",
        unit: "bytes/s",
        kind: Kind::Lines,
        sources: &[
            source(
                "proc",
                "disk.csv",
                Rows::Each,
                &[("read_bytes_per_s", "read"), ("write_bytes_per_s", "written")],
                1.0,
            ),
            source(
                "iostat",
                "iostat.csv",
                Rows::Each,
                &[("read_kib_per_s", "read"), ("write_kib_per_s", "written")],
                1024.0,
            ),
        ],
    },
    Spec {
        section: "Disks",
        title: "time of a request",
        unit: "ms",
        kind: Kind::Lines,
        sources: &[
            source("proc", "disk.csv", Rows::Each, &[("read_await_ms", "read"), ("write_await_ms", "write")], 1.0),
            source("iostat", "iostat.csv", Rows::Each, &[("read_await_ms", "read"), ("write_await_ms", "write")], 1.0),
        ],
    },
    Spec {
        section: "Disks",
        title: "busy, by device",
        unit: "%",
        kind: Kind::Heat,
        sources: &[
            source("proc", "disk.csv", Rows::Each, &[("util_percent", "")], 1.0),
            source("iostat", "iostat.csv", Rows::Each, &[("util_percent", "")], 1.0),
        ],
    },
    Spec {
        section: "Network",
        title: "received and sent",
        unit: "bytes/s",
        kind: Kind::Lines,
        sources: &[
            source("proc", "net.csv", Rows::Each, &[("rx_bytes_per_s", "in"), ("tx_bytes_per_s", "out")], 1.0),
            source("sar", "sar-network.csv", Rows::Each, &[("rx_kib_per_s", "in"), ("tx_kib_per_s", "out")], 1024.0),
        ],
    },
    Spec {
        section: "Network",
        title: "errors and drops",
        unit: "packets/s",
        kind: Kind::Lines,
        sources: &[source(
            "proc",
            "net.csv",
            Rows::Each,
            &[
                ("rx_errors_per_s", "errors in"),
                ("rx_drops_per_s", "drops in"),
                ("tx_errors_per_s", "errors out"),
                ("tx_drops_per_s", "drops out"),
            ],
            1.0,
        )],
    },
    Spec {
        section: "Network",
        title: "TCP",
        unit: "1/s",
        kind: Kind::Lines,
        sources: &[source(
            "sar",
            "sar-tcp.csv",
            Rows::Of(""),
            &[
                ("retransmits_per_s", "segments sent again"),
                ("established_resets_per_s", "connections reset"),
                ("failed_opens_per_s", "connections refused"),
                ("active_opens_per_s", "connections opened"),
                ("passive_opens_per_s", "connections taken"),
            ],
            1.0,
        )],
    },
];

/// Tables that the pictures above and [`processes`] show the most of.
pub(super) const SHOWN: [&str; 6] = ["proc", "mpstat", "vmstat", "iostat", "sar", "pidstat"];
