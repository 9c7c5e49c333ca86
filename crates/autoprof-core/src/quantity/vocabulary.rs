//! The quantities that autoprof knows.

/// A quantity that autoprof knows: its unit is fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it is, in a few words; `{}` stands for the key.
    pub title: &'static str,
    /// What a value stands for.
    pub kind: Kind,
    /// How the values of several keys become one of the host.
    pub fold: Fold,
    /// Whether two profilers that measure it have to agree.
    pub compared: bool,
}

/// What a value of a quantity stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The mean of the time since the row before.
    Mean,
    /// The instant of its row.
    Instant,
}

/// How the values of several keys become one of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// They are added up.
    Sum,
    /// They are added up without those of the loopback interface.
    SumOfLinks,
    /// Their mean counts.
    Mean,
    /// The greatest counts.
    Max,
    /// There is no such value.
    None,
}

/// What a formula may ask about the host beside the columns.
pub const HOST_NAMES: [&str; 2] = ["host.cpus", "host.memory_bytes"];

impl Quantity {
    const fn mean(name: &'static str, unit: &'static str, fold: Fold, title: &'static str) -> Self {
        Self { name, unit, title, kind: Kind::Mean, fold, compared: true }
    }

    const fn instant(name: &'static str, unit: &'static str, fold: Fold, title: &'static str) -> Self {
        Self { name, unit, title, kind: Kind::Instant, fold, compared: true }
    }

    /// Tools count it differently, or it is too short-lived to compare.
    const fn alone(mut self) -> Self {
        self.compared = false;
        self
    }

    /// Whether the quantity can have this value: percentages end at 100 (those of a process do not), nothing is
    /// below zero.
    #[must_use]
    pub fn allows(&self, value: f64) -> bool {
        // Tools round the parts of a percentage that a formula adds up.
        const ROUNDING: f64 = 1.0;
        match self.unit {
            "%" => (-ROUNDING..=100.0 + ROUNDING).contains(&value),
            _ => value >= 0.0,
        }
    }

    /// A value that is allowed, without what rounding made of it.
    #[must_use]
    pub fn bounded(&self, value: f64) -> f64 {
        match (self.allows(value), self.unit) {
            (false, _) => f64::NAN,
            (true, "%") => value.clamp(0.0, 100.0),
            (true, _) => value,
        }
    }
}

/// The quantity of this name.
#[must_use]
pub fn known(name: &str) -> Option<&'static Quantity> {
    VOCABULARY.iter().find(|quantity| quantity.name == name)
}

/// Every quantity that autoprof knows.
///
/// Of CPU time, `cpu.busy` is what is neither idle nor waiting for I/O: 100 − idle − iowait. Stolen time counts as busy,
/// since a task wanted the CPU; interrupts count as busy, too.
pub const VOCABULARY: &[Quantity] = &[
    Quantity::mean("cpu.busy", "%", Fold::Mean, "CPU busy{}"),
    // Tools do not agree on whether the time of guests belongs to it.
    Quantity::mean("cpu.user", "%", Fold::Mean, "CPU time in user mode{}").alone(),
    Quantity::mean("cpu.system", "%", Fold::Mean, "CPU time in the kernel{}"),
    Quantity::mean("cpu.kernel", "%", Fold::Mean, "CPU time in system calls{}").alone(),
    Quantity::mean("cpu.irq", "%", Fold::Mean, "CPU time in interrupts{}").alone(),
    Quantity::mean("cpu.softirq", "%", Fold::Mean, "CPU time in soft interrupts{}").alone(),
    Quantity::mean("cpu.steal", "%", Fold::Mean, "CPU time stolen{}"),
    Quantity::mean("cpu.iowait", "%", Fold::Mean, "CPU time waiting for I/O{}"),
    Quantity::mean("cpu.idle", "%", Fold::Mean, "CPU idle{}"),
    Quantity::mean("cpu.interrupts", "1/s", Fold::Sum, "interrupts{}").alone(),
    Quantity::mean("cpu.instructions_per_cycle", "instructions", Fold::Mean, "instructions per cycle{}").alone(),
    Quantity::instant("cpu.run_queue", "tasks", Fold::Sum, "tasks that run or wait for a CPU, for each CPU").alone(),
    Quantity::mean("system.context_switches", "1/s", Fold::Sum, "context switches{}"),
    Quantity::mean("system.interrupts", "1/s", Fold::Sum, "interrupts{}").alone(),
    Quantity::mean("system.forks", "1/s", Fold::Sum, "processes created{}"),
    Quantity::instant("system.runnable", "tasks", Fold::Sum, "tasks that run or wait for a CPU").alone(),
    Quantity::instant("system.blocked", "tasks", Fold::Sum, "tasks that wait for I/O").alone(),
    Quantity::instant("memory.total", "bytes", Fold::Sum, "memory"),
    Quantity::instant("memory.available", "bytes", Fold::Sum, "memory available"),
    Quantity::instant("memory.used", "bytes", Fold::Sum, "memory used"),
    Quantity::instant("memory.utilization", "%", Fold::Mean, "memory used"),
    Quantity::instant("memory.free", "bytes", Fold::Sum, "free memory").alone(),
    Quantity::instant("memory.buffers", "bytes", Fold::Sum, "memory in buffers").alone(),
    Quantity::instant("memory.cached", "bytes", Fold::Sum, "memory in the page cache").alone(),
    Quantity::instant("memory.cache", "bytes", Fold::Sum, "memory in the page cache and reclaimable slab").alone(),
    Quantity::instant("memory.anonymous", "bytes", Fold::Sum, "anonymous memory").alone(),
    Quantity::instant("memory.slab", "bytes", Fold::Sum, "memory in slabs").alone(),
    Quantity::mean("memory.faults", "1/s", Fold::Sum, "page faults").alone(),
    Quantity::mean("memory.major_faults", "1/s", Fold::Sum, "major page faults").alone(),
    Quantity::mean("swap.in_pages", "pages/s", Fold::Sum, "pages swapped in"),
    Quantity::mean("swap.out_pages", "pages/s", Fold::Sum, "pages swapped out"),
    Quantity::mean("swap.in_bytes", "bytes/s", Fold::Sum, "bytes swapped in"),
    Quantity::mean("swap.out_bytes", "bytes/s", Fold::Sum, "bytes swapped out"),
    Quantity::mean("pressure.cpu", "%", Fold::Mean, "pressure on CPU"),
    Quantity::mean("pressure.io", "%", Fold::Mean, "pressure on I/O"),
    Quantity::mean("pressure.memory", "%", Fold::Mean, "pressure on memory"),
    Quantity::mean("disk.read_bytes", "bytes/s", Fold::Sum, "bytes read from {}"),
    Quantity::mean("disk.write_bytes", "bytes/s", Fold::Sum, "bytes written to {}"),
    Quantity::mean("disk.reads", "1/s", Fold::Sum, "reads from {}"),
    Quantity::mean("disk.writes", "1/s", Fold::Sum, "writes to {}"),
    Quantity::mean("disk.read_latency", "ms", Fold::Max, "time of a read from {}").alone(),
    Quantity::mean("disk.write_latency", "ms", Fold::Max, "time of a write to {}").alone(),
    Quantity::mean("disk.busy", "%", Fold::Max, "busy time of {}"),
    Quantity::mean("net.rx_bytes", "bytes/s", Fold::SumOfLinks, "bytes received on {}"),
    Quantity::mean("net.tx_bytes", "bytes/s", Fold::SumOfLinks, "bytes sent on {}"),
    Quantity::mean("net.rx_packets", "packets/s", Fold::SumOfLinks, "packets received on {}"),
    Quantity::mean("net.tx_packets", "packets/s", Fold::SumOfLinks, "packets sent on {}"),
    Quantity::mean("net.rx_errors", "packets/s", Fold::Sum, "receive errors on {}"),
    Quantity::mean("net.tx_errors", "packets/s", Fold::Sum, "transmit errors on {}"),
    Quantity::mean("net.rx_drops", "packets/s", Fold::Sum, "received packets dropped on {}"),
    Quantity::mean("net.tx_drops", "packets/s", Fold::Sum, "sent packets dropped on {}"),
    Quantity::mean("tcp.segments_sent", "1/s", Fold::Sum, "TCP segments sent"),
    Quantity::mean("tcp.retransmits", "1/s", Fold::Sum, "TCP segments sent again"),
    Quantity::mean("tcp.retransmit_share", "%", Fold::Mean, "TCP segments sent again").alone(),
    Quantity::mean("tcp.resets", "1/s", Fold::Sum, "TCP connections reset"),
    Quantity::mean("tcp.failed_opens", "1/s", Fold::Sum, "TCP connections refused"),
    Quantity::mean("tcp.active_opens", "1/s", Fold::Sum, "TCP connections opened"),
    Quantity::mean("tcp.passive_opens", "1/s", Fold::Sum, "TCP connections accepted"),
    Quantity::mean("process.cpu", "% of one CPU", Fold::None, "CPU time of process {}").alone(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_a_unit() {
        for (at, quantity) in VOCABULARY.iter().enumerate() {
            assert!(!quantity.unit.is_empty(), "{quantity:?}");
            assert!(VOCABULARY[..at].iter().all(|other| other.name != quantity.name), "{quantity:?}");
        }
    }

    #[test]
    fn impossible_values_have_no_place() {
        let busy = known("cpu.busy").unwrap();
        assert_eq!((busy.bounded(-0.01), busy.bounded(100.3), busy.bounded(55.5)), (0.0, 100.0, 55.5));
        assert!(busy.bounded(-12.0).is_nan() && busy.bounded(214_748_364.7).is_nan());
        assert!(known("disk.read_bytes").unwrap().bounded(-1.0).is_nan());
        assert_eq!(known("process.cpu").unwrap().bounded(380.0), 380.0);
    }
}
