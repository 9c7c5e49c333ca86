//! sar: all that sysstat can count; the tables are of what the other profilers do not have.
use std::collections::HashSet;

use autoprof_plugin::{
    convert::{TableWriter, TimeAxis, any_quantity, number, open, utc_date_time},
    prelude::*,
};
use serde_json::Value;

use crate::{
    json::{Samples, cell, keyed, objects, settle},
    sar_keyed::KeyedTables,
    tool::{installed, interval, invocation, recent, required},
};

const DATA: &str = "sar.data";
const OUTPUT: &str = "sar.json";

const PARAMS: &[Param] = &[interval("1")];

/// sar as users know it.
pub const SAR: ProfilerInfo = ProfilerInfo::new("sar", "network, TCP, memory, paging and load")
    .params(PARAMS)
    .tools("sar:-V=sysstat_version_# sadf:-V=sysstat_version_#")
    .example("sar -A -o sar.data 1")
    .tables(crate::tables::SAR);

/// What sar does not print: all memory without what is available.
const USED: &str = "used";
const USED_PERCENT: &str = "used-percent";

/// A table with one row for each sample: where in a sample its columns are, as JSON pointers.
type Columns = &'static [(&'static str, &'static str)];

/// kB are of 1024 bytes (sar(1)).
const TABLES: &[(&str, Columns)] = &[
    (
        "sar-tcp.csv",
        &[
            ("/network/net-tcp/active", "active_opens_per_s"),
            ("/network/net-tcp/passive", "passive_opens_per_s"),
            ("/network/net-tcp/iseg", "segments_in_per_s"),
            ("/network/net-tcp/oseg", "segments_out_per_s"),
            ("/network/net-etcp/retrans", "retransmits_per_s"),
            ("/network/net-etcp/atmptf", "failed_opens_per_s"),
            ("/network/net-etcp/estres", "established_resets_per_s"),
            ("/network/net-etcp/isegerr", "segments_in_error_per_s"),
            ("/network/net-etcp/orsts", "resets_out_per_s"),
            ("/network/net-sock/tcpsck", "tcp_sockets"),
            ("/network/net-sock/tcp-tw", "tcp_time_wait"),
            ("/network/net-sock/totsck", "sockets"),
        ],
    ),
    (
        "sar-memory.csv",
        &[
            ("/memory/memfree", "free_kib"),
            ("/memory/avail", "available_kib"),
            // sar has two meanings of "used", before 11.7.4 and from then on: it is what is not available.
            (USED, "used_kib"),
            (USED_PERCENT, "used_percent"),
            ("/memory/buffers", "buffers_kib"),
            ("/memory/cached", "cached_kib"),
            ("/memory/commit", "commit_kib"),
            ("/memory/commit-percent", "commit_percent"),
            ("/memory/active", "active_kib"),
            ("/memory/inactive", "inactive_kib"),
            ("/memory/dirty", "dirty_kib"),
            ("/memory/anonpg", "anonymous_kib"),
            ("/memory/slab", "slab_kib"),
            ("/memory/swpused", "swap_used_kib"),
            ("/memory/swpused-percent", "swap_used_percent"),
        ],
    ),
    (
        "sar-paging.csv",
        &[
            ("/paging/pgpgin", "page_in_kib_per_s"),
            ("/paging/pgpgout", "page_out_kib_per_s"),
            ("/paging/fault", "faults_per_s"),
            ("/paging/majflt", "major_faults_per_s"),
            ("/paging/pgfree", "pages_freed_per_s"),
            ("/paging/pgscank", "pages_scanned_by_kswapd_per_s"),
            ("/paging/pgscand", "pages_scanned_directly_per_s"),
            ("/paging/pgsteal", "pages_reclaimed_per_s"),
            ("/swap-pages/pswpin", "swap_in_pages_per_s"),
            ("/swap-pages/pswpout", "swap_out_pages_per_s"),
        ],
    ),
    (
        "sar-load.csv",
        &[
            ("/queue/runq-sz", "runnable"),
            ("/queue/plist-sz", "tasks"),
            ("/queue/blocked", "blocked"),
            ("/queue/ldavg-1", "load_1min"),
            ("/queue/ldavg-5", "load_5min"),
            ("/queue/ldavg-15", "load_15min"),
            ("/process-and-context-switch/proc", "forks_per_s"),
            ("/process-and-context-switch/cswch", "context_switches_per_s"),
        ],
    ),
];

/// Members of an interface in `net-dev`, then in `net-edev`.
const TRAFFIC: Columns = &[
    ("rxpck", "rx_packets_per_s"),
    ("txpck", "tx_packets_per_s"),
    ("rxkB", "rx_kib_per_s"),
    ("txkB", "tx_kib_per_s"),
    ("ifutil-percent", "util_percent"),
];
const ERRORS: Columns = &[
    ("rxerr", "rx_errors_per_s"),
    ("txerr", "tx_errors_per_s"),
    ("rxdrop", "rx_drops_per_s"),
    ("txdrop", "tx_drops_per_s"),
    ("coll", "collisions_per_s"),
];

/// Runs sar into its own format, has sadf make JSON of it, and makes tables of that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sar;

impl ArgEncoder for Sar {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = SAR;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        recent(facts, "sar")?;
        // What sar prints would be twice the size of what it writes; everything is in the file.
        let argv = ["sar", "-A", "-o", DATA];
        let output = required(DATA, OutputFormat::Raw);
        let mut invocation = invocation(&argv, args.integer("interval").unwrap_or(1), None, output);
        if installed(facts, "sadf").is_ok() {
            // On the host: the format of the file is that of its version of sysstat.
            let argv = ["sadf", "-j", DATA, "--", "-A"].map(Into::into).to_vec();
            invocation.report.push(Report { argv, stdout: Some(OUTPUT.to_owned()), timeout_ms: 60_000 });
            let format = OutputFormat::Json;
            invocation.outputs.push(Output { file: OUTPUT.to_owned(), format, required: false });
        }
        Ok(invocation)
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        if installed(&raw.facts, "sadf").is_err() {
            return Ok(Vec::new());
        }
        if is_empty(raw, OUTPUT) && !is_empty(raw, DATA) {
            return Err(left_to_the_user(raw));
        }
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let mut samples = Samples::new(open(raw, OUTPUT)?);
        let columns = TRAFFIC.iter().chain(ERRORS).map(|(_, name)| *name);
        let columns: Vec<&str> = ["interface"].into_iter().chain(columns).collect();
        let mut network = TableWriter::create(raw, "sar-network.csv", interval, &columns)?;
        let mut tables = TABLES
            .iter()
            .map(|(file, columns)| {
                let names: Vec<&str> = columns.iter().map(|(_, name)| *name).collect();
                let table = TableWriter::create(raw, file, interval, &names)?;
                // More may be promised than there is.
                Ok((*columns, table.limit("commit_percent", any_quantity())))
            })
            .collect::<Result<Vec<_>, ConvertError>>()?;
        let mut per_device = KeyedTables::create(raw, interval)?;
        let total_kib = raw.facts.memory_kib;
        let mut axis = TimeAxis::new(raw, interval);
        while let Some(sample) = samples.next_sample()? {
            let stamp = sample.get("timestamp").unwrap_or(&Value::Null);
            let Some(displayed) = utc_date_time(&format!("{} {}", cell(stamp, "date"), cell(stamp, "time"))) else {
                network.warn("samples without a time were left out");
                continue;
            };
            let unix_ns = axis.place(displayed);
            network.sample(unix_ns);
            interfaces(&mut network, unix_ns, &sample)?;
            per_device.sample(unix_ns, &sample)?;
            for (columns, table) in &mut tables {
                let value = |pointer: &str| match pointer {
                    USED | USED_PERCENT => used(&sample, total_kib, pointer),
                    pointer => at(&sample, pointer),
                };
                let cells: Vec<String> = columns.iter().map(|(pointer, _)| value(pointer)).collect();
                // A host that cannot count something has no such member at all.
                if cells.iter().any(|cell| !cell.is_empty()) {
                    table.row(unix_ns, cells)?;
                }
            }
        }
        let others = tables.iter_mut().map(|(_, table)| table).chain(per_device.writers());
        let last = |pointer: &'static str| pointer.rsplit('/').next().unwrap_or(pointer);
        let names = TABLES.iter().flat_map(|(_, columns)| columns.iter().map(|(theirs, ours)| (last(theirs), *ours)));
        let names: Vec<(&str, &str)> =
            names.chain(TRAFFIC.iter().chain(ERRORS).copied()).chain(KeyedTables::columns()).collect();
        settle(&samples, raw, OUTPUT, &names, std::iter::once(&mut network).chain(others))?;
        let one_row = std::iter::once(network).chain(tables.into_iter().map(|(_, table)| table));
        let mut done: Vec<Table> = one_row.map(TableWriter::finish).collect::<Result<_, _>>()?;
        done.extend(per_device.finish()?);
        Ok(done)
    }
}

/// Whether a file is not there, or nothing is in it.
fn is_empty(raw: &RawResults, file: &str) -> bool {
    std::fs::metadata(raw.file(file)).map_or(true, |file| file.len() == 0)
}

/// What to do when the host could not run sadf any more.
///
/// A converter runs no program on a host's files: sadf is not made for files that somebody may have forged, and reads
/// those of its own version only.
fn left_to_the_user(raw: &RawResults) -> ConvertError {
    let version = raw.facts.tools.get("sar").map(|tool| &tool.version).filter(|v| !v.is_empty());
    let version = version.map_or_else(|| "the host's version of sysstat".to_owned(), ToString::to_string);
    let message = format!(
        "there is no {OUTPUT}, since sadf could not run on the host; with {version}, also of a {DATA} that is torn: \
         sadf -j {DATA} -- -A > {OUTPUT}"
    );
    ConvertError::new(ConvertErrorKind::Format, message)
}

fn interfaces(table: &mut TableWriter, unix_ns: i64, sample: &Value) -> Result<(), ConvertError> {
    let network = sample.get("network").unwrap_or(&Value::Null);
    let errors = keyed(network, "net-edev", "iface");
    let mut seen = HashSet::new();
    for device in objects(network, "net-dev") {
        let name = cell(device, "iface");
        seen.insert(name.clone());
        let errors = errors.get(&name).copied().unwrap_or(&Value::Null);
        let traffic = TRAFFIC.iter().map(|(key, _)| cell(device, key));
        let errors = ERRORS.iter().map(|(key, _)| cell(errors, key));
        table.row(unix_ns, std::iter::once(name).chain(traffic).chain(errors))?;
    }
    for device in objects(network, "net-edev") {
        let name = cell(device, "iface");
        if seen.insert(name.clone()) {
            let none = TRAFFIC.iter().map(|_| String::new());
            let errors = ERRORS.iter().map(|(key, _)| cell(device, key));
            table.row(unix_ns, std::iter::once(name).chain(none).chain(errors))?;
        }
    }
    Ok(())
}

/// Memory that is not available, in KiB or percent; empty where this sar or kernel does not say what is (`kbavail` came in
/// sysstat 11.1.7 with Linux 3.14), or where it is not known how much there is.
#[expect(clippy::cast_precision_loss, reason = "KiB of memory")]
fn used(sample: &Value, total_kib: u64, what: &str) -> String {
    let available = sample.pointer("/memory/avail").and_then(Value::as_u64);
    let Some(used) = available.filter(|_| total_kib > 0).and_then(|kib| total_kib.checked_sub(kib)) else {
        return String::new();
    };
    if what == USED { used.to_string() } else { number(100.0 * used as f64 / total_kib as f64) }
}

/// The number that a JSON pointer leads to.
fn at(sample: &Value, pointer: &str) -> String {
    pointer.rsplit_once('/').and_then(|(parent, key)| Some(cell(sample.pointer(parent)?, key))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tests::{encoded, facts, raw};
    use proptest::prelude::*;

    const TIMES: (i64, i64) = (1_795_384_731_481_145_111, 1_795_384_735_989_590_183);

    // sar and sadf of sysstat 12.6.1: two samples, without the interrupts.
    const FILE: &str = include_str!("../tests/data/sar.json");

    fn converted(bytes: &[u8]) -> (Vec<Table>, impl Fn(&str) -> String + use<>) {
        let (directory, raw) = raw(&Sar, OUTPUT, bytes, TIMES);
        let tables = Sar.convert(&raw).unwrap();
        (tables, move |file| std::fs::read_to_string(directory.path().join(file)).unwrap())
    }

    #[test]
    fn everything_goes_to_the_file_and_json_is_made_on_the_host() {
        let invocation = encoded(&Sar, &Args::new());
        let start = invocation.start.unwrap();
        assert_eq!(start.argv, ["sar", "-A", "-o", "sar.data", "1"]);
        assert_eq!(start.stdout, None);
        assert_eq!(invocation.report[0].argv, ["sadf", "-j", "sar.data", "--", "-A"]);
        assert_eq!(invocation.report[0].timeout_ms, 60_000);
        assert_eq!(invocation.outputs.iter().map(|o| o.required).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn without_sadf_the_raw_file_stands_alone() {
        let mut facts = facts("sysstat version 12.6.1");
        facts.tools.remove("sadf");
        let invocation = Sar.encode(&Args::new(), &facts).unwrap();
        assert!(invocation.report.is_empty());
        assert_eq!(invocation.outputs.len(), 1);
        facts.tools.remove("sar");
        assert_eq!(Sar.encode(&Args::new(), &facts).unwrap_err().kind, ArgErrorKind::Missing);
    }

    #[test]
    fn where_sadf_could_not_run_the_way_to_run_it_is_told() {
        let (_directory, raw) = raw(&Sar, DATA, b"x", TIMES);
        let told = Sar.convert(&raw).unwrap_err().to_string();
        assert!(told.contains("with sysstat version 12.6.1") && told.ends_with("sadf -j sar.data -- -A > sar.json"));
        std::fs::write(raw.file(OUTPUT), "").unwrap();
        assert_eq!(Sar.convert(&raw).unwrap_err().to_string(), told);
    }

    #[test]
    fn network_tcp_memory_paging_and_load_become_tables() {
        let (tables, read) = converted(FILE.as_bytes());
        let rows: Vec<(&str, u64)> = tables.iter().map(|t| (t.file.as_str(), t.rows)).collect();
        let one_each = ["sar-tcp.csv", "sar-memory.csv", "sar-paging.csv", "sar-load.csv"].map(|file| (file, 2));
        assert_eq!(rows, [&[("sar-network.csv", 4)], &one_each[..]].concat());
        assert!(tables.iter().all(|t| t.warnings.is_empty()));
        assert_eq!(read("sar-network.csv").lines().nth(2).unwrap(), "1795384732.481145,eth0,0,0,0,0,0,0,0,0,0,0");
        assert_eq!(read("sar-load.csv").lines().nth(1).unwrap(), "1795384732.481145,0,97,0,1.82,0.7,0.33,0,281");
        assert!(read("sar-memory.csv").lines().nth(1).unwrap().starts_with("1795384732.481145,22657372,24229476,"));
        assert!(read("sar-paging.csv").lines().nth(1).unwrap().starts_with("1795384732.481145,324,58376,243,0,98,"));
        assert_eq!(read("sar-tcp.csv").lines().nth(1).unwrap(), "1795384732.481145,0,0,0,0,0,0,0,0,0,1,0,12");
    }

    #[test]
    fn cpus_and_disks_are_rows_of_their_own() {
        let text = FILE.replacen(
            "\"network\":",
            r#""cpu-load": [{"cpu": "all", "usr": 78.71, "nice": 0.0, "sys": 21.29, "iowait": 0.0, "idle": 0.0}],
               "disk": [{"disk-device": "vda", "tps": 187.13, "rkB": 11045.54, "wkB": 0.0, "util-percent": 5.15}],
               "network":"#,
            1,
        );
        let (tables, read) = converted(text.as_bytes());
        assert_eq!(tables.iter().map(|t| t.file.as_str()).collect::<Vec<_>>()[5..], ["sar-cpu.csv", "sar-disk.csv"]);
        assert_eq!(read("sar-cpu.csv").lines().nth(1).unwrap(), "1795384732.481145,all,78.71,0,21.29,0,,,,,,0");
        assert_eq!(read("sar-disk.csv").lines().nth(1).unwrap(), "1795384732.481145,vda,187.13,11045.54,0,5.15");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            let _ = converted(&bytes).0;
            let _ = converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat()).0;
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_samples(at in 1..FILE.len(), zeros in 0usize..9000) {
            let (tables, read) = converted(&[&FILE.as_bytes()[..at], &vec![0; zeros]].concat());
            let (_, whole) = converted(FILE.as_bytes());
            // A sample ends with the brace at this depth.
            let samples = FILE[..at].matches("\n     }").count() as u64;
            prop_assert!(tables.iter().all(|table| table.repaired == Some(samples)));
            prop_assert_eq!(tables[1].rows, samples);
            for table in &tables {
                let csv = read(&table.file);
                prop_assert!(csv.ends_with('\n') && whole(&table.file).starts_with(&csv));
            }
            let is_closed = samples == 0 || read("sar.repaired.json").ends_with("}\n]}]}}\n");
            prop_assert!(is_closed);
        }
    }
}
