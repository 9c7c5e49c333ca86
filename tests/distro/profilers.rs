//! The profilers, in rounds that run together.

/// Profilers that share a run.
pub struct Round {
    /// The name of its run.
    pub name: &'static str,
    pub profilers: &'static [Profiler],
}

/// One profiler.
pub struct Profiler {
    pub name: &'static str,
    /// Its parameters; `DISK` stands for a disk of this machine.
    pub parameters: &'static str,
    /// A shell command that succeeds where the kernel lets the tool work. For what autoprof can only find out by
    /// running the tool itself: then the profiler must start with an error that says why.
    pub works: Option<&'static str>,
    /// Its tables that may have no rows, since nothing that they list needs to happen.
    pub may_be_empty: &'static [&'static str],
}

const fn profiler(name: &'static str, parameters: &'static str) -> Profiler {
    Profiler { name, parameters, works: None, may_be_empty: &[] }
}

impl Profiler {
    const fn where_works(mut self, command: &'static str) -> Profiler {
        self.works = Some(command);
        self
    }

    const fn with_empty(mut self, tables: &'static [&'static str]) -> Profiler {
        self.may_be_empty = tables;
        self
    }

    /// The value of `-p`.
    pub fn argument(&self, disk: &str) -> String {
        let parameters = self.parameters.replace("DISK", disk);
        if parameters.is_empty() { self.name.to_owned() } else { format!("{}:{parameters}", self.name) }
    }
}

/// A word on the command line of the process that strace follows.
pub const TRACED: &str = "traced-by-distro-test";

/// The round whose profilers are compared with each other.
pub const COMPARED: &str = "figures";

/// All rounds.
pub const ROUNDS: &[Round] = &[
    Round {
        name: COMPARED,
        profilers: &[
            profiler("proc", ""),
            profiler("mpstat", ""),
            profiler("iostat", ""),
            profiler("sar", ""),
            profiler("vmstat", ""),
            profiler("pidstat", "1"),
            profiler("perf-stat", ""),
            profiler("numastat", "1"),
            profiler("cat", ""),
            profiler("command", "poll=1,command=date"),
            profiler("sysinfo", "").with_empty(&["changes.txt"]),
            // kernel.dmesg_restrict keeps it from users.
            profiler("dmesg", "").where_works("dmesg >/dev/null"),
            profiler("inotify", "/tmp/watched"),
        ],
    },
    Round {
        name: "recorders",
        profilers: &[
            profiler("perf", ""),
            // The perf of Debian 11 and 12 reports no delays of tasks that were only woken, on kernels of today.
            profiler("perf-sched", "").with_empty(&["sched.csv"]),
            // Contention of the kernel's locks is rare on an idle machine.
            profiler("perf-lock", "").with_empty(&["lock.csv"]),
            profiler("perf-c2c", ""),
            profiler("strace", "process=traced-by-distro-test"),
            profiler("tcpdump", "interface=lo"),
            // No journal is written, since no systemd runs.
            profiler("journal", "").with_empty(&["journal.csv"]),
        ],
    },
    Round {
        name: "tracers",
        profilers: &[
            profiler("bpftrace", "")
                .where_works("bpftrace -e 'tracepoint:sched:sched_switch { @task = args->next_pid; exit(); }'"),
            profiler("trace-cmd", "").where_works("cat /sys/kernel/tracing/set_ftrace_pid >/dev/null"),
            profiler("blktrace", "devices=DISK").where_works(": <DISK"),
            profiler("powertop", "1"),
            profiler("turbostat", "").where_works("turbostat --quiet --num_iterations 1 --interval 1"),
            profiler("kvm_stat", ""),
            profiler("nvidia-smi", ""),
        ],
    },
];
