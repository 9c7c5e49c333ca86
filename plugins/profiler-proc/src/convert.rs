//! Samples to tables: what changed between one sample and the next, as rates and percentages.
use autoprof_plugin::{
    convert::{BootAxis, TableWriter, any_quantity, number, open},
    prelude::*,
};

use crate::{
    OUTPUT, counters, files,
    samples::{Reader, Sample},
};

const CPU: &[&str] = &[
    "cpu",
    "user_percent",
    "nice_percent",
    "system_percent",
    "idle_percent",
    "iowait_percent",
    "irq_percent",
    "softirq_percent",
    "steal_percent",
];

const DISK: &[&str] = &[
    "device",
    "reads_per_s",
    "read_bytes_per_s",
    "read_await_ms",
    "writes_per_s",
    "write_bytes_per_s",
    "write_await_ms",
    "in_flight",
    "queue_length",
    "util_percent",
];

const NET: &[&str] = &[
    "interface",
    "rx_bytes_per_s",
    "rx_packets_per_s",
    "rx_errors_per_s",
    "rx_drops_per_s",
    "tx_bytes_per_s",
    "tx_packets_per_s",
    "tx_errors_per_s",
    "tx_drops_per_s",
];

/// `/proc/meminfo` and our columns; what it calls kB is KiB.
const MEMORY: &[(&str, &str)] = &[
    ("MemTotal", "total_kib"),
    ("MemFree", "free_kib"),
    ("MemAvailable", "available_kib"),
    ("Buffers", "buffers_kib"),
    ("Cached", "cached_kib"),
    ("Active", "active_kib"),
    ("Inactive", "inactive_kib"),
    ("AnonPages", "anonymous_kib"),
    ("Slab", "slab_kib"),
    ("Dirty", "dirty_kib"),
    ("Writeback", "writeback_kib"),
    ("SwapTotal", "swap_total_kib"),
    ("SwapFree", "swap_free_kib"),
];

/// `/proc/vmstat` and our columns.
const PAGING: &[(&str, &str)] = &[
    ("pgpgin", "page_in_kib_per_s"),
    ("pgpgout", "page_out_kib_per_s"),
    ("pswpin", "swap_in_pages_per_s"),
    ("pswpout", "swap_out_pages_per_s"),
    ("pgfault", "faults_per_s"),
    ("pgmajfault", "major_faults_per_s"),
];

const LOAD: &[&str] = &[
    "load_1min",
    "load_5min",
    "load_15min",
    "runnable",
    "tasks",
    "blocked",
    "context_switches_per_s",
    "interrupts_per_s",
    "forks_per_s",
];

/// More requests than any device has at a time.
const MAX_IN_FLIGHT: f64 = 1e7;

const PRESSURE: &[&str] = &["resource", "some_percent", "full_percent"];

/// The tables that are being written.
struct Tables {
    cpu: TableWriter,
    memory: TableWriter,
    paging: TableWriter,
    disk: TableWriter,
    net: TableWriter,
    pressure: TableWriter,
    load: TableWriter,
}

/// Makes `cpu.csv`, `memory.csv`, `paging.csv`, `disk.csv`, `net.csv`, `pressure.csv` and `load.csv`.
pub fn convert(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let mut reader = Reader::new(open(raw, OUTPUT)?, files(&raw.facts).count());
    let interval = raw.args.number("interval").unwrap_or(1.0);
    let create = |file: &str, columns: &[&str]| TableWriter::create(raw, file, interval, columns);
    let second = |pairs: &[(&str, &'static str)]| pairs.iter().map(|(_, name)| *name).collect::<Vec<_>>();
    let mut tables = Tables {
        cpu: create("cpu.csv", CPU)?,
        memory: create("memory.csv", &second(MEMORY))?,
        paging: create("paging.csv", &second(PAGING))?,
        // A driver that loses count of its requests shows 2^32 less some of them.
        disk: create("disk.csv", DISK)?.limit("in_flight", 0.0..=MAX_IN_FLIGHT),
        net: create("net.csv", NET)?,
        pressure: create("pressure.csv", PRESSURE)?,
        load: LOAD[..6].iter().fold(create("load.csv", LOAD)?, |load, column| load.limit(column, any_quantity())),
    };
    let mut axis = BootAxis::default();
    let mut before: Option<Sample> = None;
    while let Some(sample) = reader.next_sample()? {
        let at = axis.place((sample.unix_ns, sample.boot_ns));
        tables.all().into_iter().for_each(|table| table.sample(at));
        tables.now(at, &sample, before.as_ref())?;
        if let Some(before) = before.as_ref().filter(|before| seconds(before, &sample) > 0.0) {
            tables.changes(at, before, &sample)?;
        }
        before = Some(sample);
    }
    if reader.cut > 0 {
        tables.cpu.warn(format!("{} samples that are cut short were left out", reader.cut));
    }
    if reader.torn() {
        // One sample gives no rate: the table that has a row for each sample is the one to say how many there are.
        tables.memory.repaired(reader.whole);
    }
    let Tables { cpu, memory, paging, disk, net, pressure, load } = tables;
    [cpu, memory, paging, disk, net, pressure, load]
        .into_iter()
        // A host without pressure information has no table of it, only the file.
        .map(TableWriter::finish)
        .filter(|table| !matches!(table, Ok(t) if t.file == "pressure.csv" && t.rows == 0))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "an interval is short")]
fn seconds(before: &Sample, after: &Sample) -> f64 {
    after.boot_ns.saturating_sub(before.boot_ns) as f64 / 1e9
}

/// How much a counter grew. One that went back (a device that was taken out and put in again) gives a number below zero,
/// which no table takes for one: its cell is empty and counted.
#[expect(clippy::cast_precision_loss, reason = "what a counter grows in an interval is far below 2^53")]
fn grown(before: u64, after: u64) -> f64 {
    if after >= before { (after - before) as f64 } else { -((before - after) as f64) }
}

impl Tables {
    fn all(&mut self) -> [&mut TableWriter; 7] {
        let Self { cpu, memory, paging, disk, net, pressure, load } = self;
        [cpu, memory, paging, disk, net, pressure, load]
    }

    /// What a sample says by itself, and the load with the rates that go with it.
    fn now(&mut self, at: i64, sample: &Sample, before: Option<&Sample>) -> Result<(), ConvertError> {
        let meminfo = sample.file("/proc/meminfo");
        if !meminfo.is_empty() {
            let cell = |name: &str| counters::value(meminfo, name).map(|kib| kib.to_string()).unwrap_or_default();
            self.memory.row(at, MEMORY.iter().map(|(name, _)| cell(name)))?;
        }
        let Some(load) = counters::load(sample.file("/proc/loadavg")) else { return Ok(()) };
        let stat = sample.file("/proc/stat");
        let blocked = counters::value(stat, "procs_blocked").map(|n| n.to_string()).unwrap_or_default();
        let rate = |name: &str| {
            let before = before.filter(|before| seconds(before, sample) > 0.0)?;
            let from = counters::value(before.file("/proc/stat"), name)?;
            Some(number(grown(from, counters::value(stat, name)?) / seconds(before, sample)))
        };
        let rates = ["ctxt", "intr", "processes"].map(|name| rate(name).unwrap_or_default());
        self.load.row(at, load.map(str::to_owned).into_iter().chain([blocked]).chain(rates))
    }

    /// What changed from one sample to the next.
    fn changes(&mut self, at: i64, before: &Sample, after: &Sample) -> Result<(), ConvertError> {
        let seconds = seconds(before, after);
        let both = |path| (before.file(path), after.file(path));
        self.cpus(at, both("/proc/stat"))?;
        self.disks(at, seconds, both("/proc/diskstats"))?;
        let (old, new) = both("/proc/net/dev");
        let old = counters::interfaces(old);
        for (name, new) in counters::interfaces(new) {
            let Some(old) = old.get(&name) else { continue };
            let rates = old.iter().zip(new).map(|(old, new)| number(grown(*old, new) / seconds));
            self.net.row(at, std::iter::once(name).chain(rates))?;
        }
        let (old, new) = both("/proc/vmstat");
        if !new.is_empty() {
            let rate = |name: &str| {
                let (old, new) = (counters::value(old, name)?, counters::value(new, name)?);
                Some(number(grown(old, new) / seconds))
            };
            self.paging.row(at, PAGING.iter().map(|(name, _)| rate(name).unwrap_or_default()))?;
        }
        for resource in ["cpu", "io", "memory"] {
            let path = format!("/proc/pressure/{resource}");
            let (old, new) = (before.file(&path), after.file(&path));
            let percent = |who| {
                let (old, new) = (counters::pressure(old, who)?, counters::pressure(new, who)?);
                // Microseconds of a second, in percent; the kernel adds it up a little later than time passes.
                Some(number((grown(old, new) / seconds / 1e4).min(100.0)))
            };
            if let Some(some) = percent("some") {
                self.pressure.row(at, [resource.to_owned(), some, percent("full").unwrap_or_default()])?;
            }
        }
        Ok(())
    }

    /// Shares of all time that was counted, so that they add up to 100 also where ticks are missed.
    fn cpus(&mut self, at: i64, (old, new): (&str, &str)) -> Result<(), ConvertError> {
        let old: std::collections::BTreeMap<_, _> = counters::cpus(old).into_iter().collect();
        for (name, new) in counters::cpus(new) {
            let Some(old) = old.get(&name) else { continue };
            let grown: Vec<f64> = old.iter().zip(new).map(|(old, new)| grown(*old, new)).collect();
            let total: f64 = grown.iter().map(|ticks| ticks.max(0.0)).sum();
            // 0 / 0 is an empty cell: within 10 ms there may be no tick at all.
            let shares = grown.iter().map(|ticks| number(100.0 * ticks / total));
            self.cpu.row(at, std::iter::once(name).chain(shares))?;
        }
        Ok(())
    }

    fn disks(&mut self, at: i64, seconds: f64, (old, new): (&str, &str)) -> Result<(), ConvertError> {
        let old = counters::disks(old);
        for (name, new) in counters::disks(new) {
            let Some(old) = old.get(&name) else { continue };
            let by = |place: usize| grown(old[place], new[place]);
            let await_ms = |operations: f64, ms: f64| match operations {
                0.0 => 0.0,
                operations if operations > 0.0 => ms / operations,
                _ => -1.0,
            };
            // Sectors are of 512 bytes whatever the device has.
            let cells = [
                by(0) / seconds,
                by(2) * 512.0 / seconds,
                await_ms(by(0), by(3)),
                by(4) / seconds,
                by(6) * 512.0 / seconds,
                await_ms(by(4), by(7)),
                grown(0, new[8]),
                by(10) / 1e3 / seconds,
                (by(9) / 10.0 / seconds).min(100.0),
            ];
            self.disk.row(at, std::iter::once(name).chain(cells.map(number)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PROC, Proc};
    use proptest::prelude::*;

    const BEGAN: i64 = 1_795_384_731_000_000_000;

    fn file(path: &str, text: &str) -> String {
        format!("@ {path} {}\n{text}", text.len())
    }

    fn sample(second: i64, stat: &str, disk: &str, net: &str, some: u64) -> String {
        let stamp = format!("# {} {}\n", BEGAN + second * 1_000_000_000, 5_000_000_000 + second * 1_000_000_000);
        let cpu = format!("cpu  {stat}\ncpu0 {stat}\nctxt {}\nprocs_blocked 1\n", 100 * second);
        let pressure = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\n");
        stamp
            + &file("/proc/stat", &cpu)
            + &file("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\n")
            + &file("/proc/diskstats", &format!(" 254 0 vda {disk}\n"))
            + &file("/proc/net/dev", &format!("  eth0: {net}\n"))
            + &file("/proc/loadavg", "0.20 0.18 0.12 1/80 11206\n")
            + &file("/proc/vmstat", &format!("pgfault {}\n", 50 * second))
            + &file("/proc/pressure/io", &pressure)
    }

    fn samples() -> String {
        sample(0, "0 0 0 0 0 0 0 0", "1 0 0 0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0 0 0 0 0", 0)
            + &sample(1, "50 0 25 25 0 0 0 0", "11 0 16 20 4 0 8 2 3 500 1500", "100 1 0 0 0 0 0 0 70 1 0 0", 250_000)
            + &sample(3, "50 0 25 225 0 0 0 0", "11 0 16 20 4 0 8 2 0 500 1500", "300 3 0 0 0 0 0 0 70 1 0 0", 250_000)
    }

    fn converted(bytes: &[u8]) -> (Vec<Table>, impl Fn(&str) -> String + use<>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), bytes).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new().complete(&PROC).unwrap(),
            began_unix_ns: BEGAN,
            ended_unix_ns: BEGAN + 3_000_000_000,
            facts: HostFacts::default(),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let tables = Proc.convert(&raw).unwrap();
        (tables, move |file| std::fs::read_to_string(directory.path().join(file)).unwrap())
    }

    #[test]
    fn the_time_of_cpus_is_shared_out_in_percent() {
        let (tables, read) = converted(samples().as_bytes());
        assert!(tables.iter().all(|table| table.warnings.is_empty()));
        assert_eq!(
            read("cpu.csv").lines().skip(1).collect::<Vec<_>>(),
            [
                "1795384732.000000,all,50,0,25,25,0,0,0,0",
                "1795384732.000000,0,50,0,25,25,0,0,0,0",
                "1795384734.000000,all,0,0,0,100,0,0,0,0",
                "1795384734.000000,0,0,0,0,100,0,0,0,0",
            ]
        );
    }

    #[test]
    fn counters_become_rates_over_the_time_that_really_passed() {
        let (_, read) = converted(samples().as_bytes());
        let row = |file: &str, n: usize| read(file).lines().nth(n).unwrap().to_owned();
        assert_eq!(row("disk.csv", 1), "1795384732.000000,vda,10,8192,2,4,4096,0.5,3,1.5,50");
        assert_eq!(row("net.csv", 2), "1795384734.000000,eth0,100,1,0,0,0,0,0,0");
        assert_eq!(row("pressure.csv", 1), "1795384732.000000,io,25,");
        assert_eq!(row("paging.csv", 2), "1795384734.000000,,,,,50,");
        assert_eq!(row("load.csv", 1), "1795384731.000000,0.20,0.18,0.12,1,80,1,,,");
        assert_eq!(row("load.csv", 3), "1795384734.000000,0.20,0.18,0.12,1,80,1,100,,");
        assert_eq!(row("memory.csv", 1), "1795384731.000000,1000,400,,,,,,,,,,,");
    }

    #[test]
    fn a_clock_that_is_set_moves_no_row() {
        let text = samples().replace("# 1795384732000000000", "# 1795380000000000000");
        assert_eq!(converted(text.as_bytes()).1("cpu.csv"), converted(samples().as_bytes()).1("cpu.csv"));
    }

    #[test]
    fn a_host_without_pressure_information_has_no_table_of_it() {
        let text = samples().replace("/proc/pressure/io", "/proc/pressure/xx");
        assert!(converted(text.as_bytes()).0.iter().all(|table| table.file != "pressure.csv"));
    }

    #[test]
    fn a_file_that_is_cut_gives_the_samples_before() {
        let text = samples();
        let (tables, _) = converted(&text.as_bytes()[..text.len() - 20]);
        assert_eq!(tables[0].rows, 2);
        assert_eq!(tables[0].warnings, ["1 samples that are cut short were left out"]);
        assert_eq!(tables.iter().find_map(|table| table.repaired), Some(2));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..2000) {
            let text = samples();
            let _ = converted(&bytes).0;
            let _ = converted(&[&text.as_bytes()[..at.min(text.len())], &bytes[..]].concat()).0;
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_samples(at in 1usize..2000, zeros in 0usize..9000) {
            let text = samples();
            let at = at.min(text.len());
            let (tables, read) = converted(&[&text.as_bytes()[..at], &vec![0; zeros]].concat());
            let (_, whole) = converted(text.as_bytes());
            for table in &tables {
                let csv = read(&table.file);
                prop_assert!(csv.ends_with('\n') && whole(&table.file).starts_with(&csv), "{}: {}", table.file, csv);
            }
            if zeros > 0 {
                let ends = (1..=3).map(|n| text.match_indices("# 17").nth(n).map_or(text.len(), |(end, _)| end));
                // The first one may lack the pressure, which not every kernel has.
                let pressure = text.find("@ /proc/pressure").unwrap();
                let samples = ends.filter(|end| *end <= at).count() as u64;
                let samples = samples.max(u64::from(at >= pressure && !text[pressure..at].contains('\n')));
                prop_assert_eq!(tables.iter().find_map(|table| table.repaired), Some(samples));
            }
        }

        #[test]
        fn no_number_makes_it_panic(unix: i64, boot: i64, ticks: u64) {
            let stat = format!("cpu {ticks} {ticks} 0 0 0 0 0 0\n");
            let file = file("/proc/stat", &stat);
            let _ = converted(format!("# 0 0\n{file}# {unix} {boot}\n{file}# {boot} {unix}\n{file}").as_bytes()).0;
        }
    }
}
