//! The pictures that are known: which quantities belong together.
use super::Kind;

/// A picture of some quantities.
pub(super) struct Spec {
    pub(super) section: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
    /// Whether it shows each thing that the table has keys for, and not the host as a whole.
    pub(super) each: bool,
    parts: &'static [Part],
}

/// A line, an area or a row of a picture.
pub(super) struct Part {
    pub(super) quantity: &'static str,
    pub(super) label: &'static str,
    /// A quantity that has this one in it: it is drawn only where that one is not measured in its parts.
    unless: Option<&'static str>,
}

impl Part {
    pub(super) const fn new(quantity: &'static str, label: &'static str) -> Self {
        Self { quantity, label, unless: None }
    }

    const fn unless(mut self, quantity: &'static str) -> Self {
        self.unless = Some(quantity);
        self
    }
}

impl Spec {
    const fn new(
        section: &'static str,
        title: &'static str,
        unit: &'static str,
        kind: Kind,
        parts: &'static [Part],
    ) -> Self {
        Self { section, title, unit, kind, each: false, parts }
    }

    const fn each(mut self) -> Self {
        self.each = true;
        self
    }

    /// The parts that a table has.
    pub(super) fn parts_of(&self, has: &dyn Fn(&str) -> bool) -> Vec<&'static Part> {
        let wanted = |part: &&Part| has(part.quantity) && !part.unless.is_some_and(has);
        self.parts.iter().filter(wanted).collect()
    }
}

const fn part(quantity: &'static str, label: &'static str) -> Part {
    Part::new(quantity, label)
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new(
        "CPU",
        "CPU time, all CPUs",
        "%",
        Kind::Stack,
        &[
            part("cpu.user", "user"),
            part("cpu.kernel", "system"),
            part("cpu.system", "system").unless("cpu.kernel"),
            part("cpu.irq", "interrupts"),
            part("cpu.softirq", "soft interrupts"),
            part("cpu.steal", "stolen"),
            part("cpu.iowait", "waiting for I/O"),
        ],
    ),
    Spec::new("CPU", "busy, by CPU", "%", Kind::Heat, &[part("cpu.busy", "")]).each(),
    Spec::new(
        "CPU",
        "run queue",
        "tasks",
        Kind::Lines,
        &[part("system.runnable", "runnable"), part("system.blocked", "blocked")],
    ),
    Spec::new(
        "CPU",
        "interrupts and context switches",
        "1/s",
        Kind::Lines,
        &[
            part("system.context_switches", "context switches"),
            part("system.interrupts", "interrupts"),
            part("system.forks", "forks"),
        ],
    ),
    Spec::new("CPU", "interrupts, by CPU", "1/s", Kind::Heat, &[part("cpu.interrupts", "")]).each(),
    Spec::new(
        "Pressure",
        "time in which some task waited",
        "%",
        Kind::Lines,
        &[part("pressure.cpu", "cpu"), part("pressure.io", "io"), part("pressure.memory", "memory")],
    ),
    Spec::new(
        "Memory",
        "memory by use",
        "bytes",
        Kind::Stack,
        &[
            part("memory.anonymous", "programs"),
            part("memory.slab", "kernel's slab"),
            part("memory.buffers", "buffers"),
            part("memory.cached", "page cache"),
            part("memory.cache", "cache"),
            part("memory.free", "free"),
        ],
    ),
    Spec::new(
        "Memory",
        "paging",
        "1/s",
        Kind::Lines,
        &[
            part("memory.major_faults", "major faults"),
            part("swap.in_pages", "pages swapped in"),
            part("swap.out_pages", "pages swapped out"),
        ],
    ),
    Spec::new(
        "Disks",
        "read and written",
        "bytes/s",
        Kind::Lines,
        &[part("disk.read_bytes", "read"), part("disk.write_bytes", "written")],
    )
    .each(),
    Spec::new(
        "Disks",
        "time of a request",
        "ms",
        Kind::Lines,
        &[part("disk.read_latency", "read"), part("disk.write_latency", "write")],
    )
    .each(),
    Spec::new("Disks", "busy, by device", "%", Kind::Heat, &[part("disk.busy", "")]).each(),
    Spec::new(
        "Network",
        "received and sent",
        "bytes/s",
        Kind::Lines,
        &[part("net.rx_bytes", "in"), part("net.tx_bytes", "out")],
    )
    .each(),
    Spec::new(
        "Network",
        "errors and drops",
        "packets/s",
        Kind::Lines,
        &[
            part("net.rx_errors", "errors in"),
            part("net.rx_drops", "drops in"),
            part("net.tx_errors", "errors out"),
            part("net.tx_drops", "drops out"),
        ],
    )
    .each(),
    Spec::new(
        "Network",
        "TCP",
        "1/s",
        Kind::Lines,
        &[
            part("tcp.retransmits", "segments sent again"),
            part("tcp.resets", "connections reset"),
            part("tcp.failed_opens", "connections refused"),
            part("tcp.active_opens", "connections opened"),
            part("tcp.passive_opens", "connections accepted"),
        ],
    ),
];
