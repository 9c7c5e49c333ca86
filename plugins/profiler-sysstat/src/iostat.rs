//! iostat: throughput, latency and utilisation of each block device.
use autoprof_plugin::{
    convert::{TableWriter, TimeAxis, number, open, utc_date_time},
    prelude::*,
};
use serde_json::Value;

use crate::{
    json::{Samples, cell, has_list, objects, settle},
    tool::{interval, invocation, recent, required},
};

const OUTPUT: &str = "iostat.json";

const PARAMS: &[Param] = &[interval("1")];

/// iostat as users know it.
pub const IOSTAT: ProfilerInfo = ProfilerInfo::new("iostat", "throughput, latency and utilisation of block devices")
    .params(PARAMS)
    .tools("iostat:-V=sysstat_version_#")
    .example("iostat -xtdkyN -o JSON 1")
    .tables(crate::tables::IOSTAT);

/// Members of a disk in iostat's JSON and our columns; kB are of 1024 bytes (iostat(1)).
const COLUMNS: &[(&str, &str)] = &[
    ("r/s", "reads_per_s"),
    ("w/s", "writes_per_s"),
    ("d/s", "discards_per_s"),
    ("f/s", "flushes_per_s"),
    ("rkB/s", "read_kib_per_s"),
    ("wkB/s", "write_kib_per_s"),
    ("dkB/s", "discard_kib_per_s"),
    ("rrqm/s", "reads_merged_per_s"),
    ("wrqm/s", "writes_merged_per_s"),
    ("r_await", "read_await_ms"),
    ("w_await", "write_await_ms"),
    ("d_await", "discard_await_ms"),
    ("f_await", "flush_await_ms"),
    ("rareq-sz", "read_size_kib"),
    ("wareq-sz", "write_size_kib"),
    ("aqu-sz", "queue_length"),
    ("util", "util_percent"),
];

/// Longest that a request is believed to wait: a day. A counter that wrapped gives more, or half of that at once.
const MAX_AWAIT_MS: f64 = 86_400_000.0;

/// Throughput, operations per second, and KiB of each of them: what 12.1.5 to 12.2.0 print twice as large.
const THROUGHPUT: [(&str, &str, &str); 3] =
    [("rkB/s", "r/s", "rareq-sz"), ("wkB/s", "w/s", "wareq-sz"), ("dkB/s", "d/s", "dareq-sz")];

/// Runs iostat and makes a table of its JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Iostat;

impl ArgEncoder for Iostat {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = IOSTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        recent(facts, "iostat")?;
        let argv = ["iostat", "-xtdkyN", "-o", "JSON"];
        let output = required(OUTPUT, OutputFormat::Json);
        Ok(invocation(&argv, args.integer("interval").unwrap_or(1), Some(OUTPUT), output))
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let mut samples = Samples::new(open(raw, OUTPUT)?);
        let columns: Vec<&str> = ["device"].into_iter().chain(COLUMNS.iter().map(|(_, name)| *name)).collect();
        let mut table = TableWriter::create(raw, "iostat.csv", interval, &columns)?;
        for column in columns.iter().filter(|name| name.ends_with("_await_ms")) {
            table = table.limit(column, 0.0..=MAX_AWAIT_MS);
        }
        let doubles = doubles(raw);
        let mut halved = 0u64;
        let mut axis = TimeAxis::new(raw, interval);
        while let Some(sample) = samples.next_sample()? {
            let Some(displayed) = utc_date_time(&cell(&sample, "timestamp")) else {
                table.warn("samples without a time were left out");
                continue;
            };
            let unix_ns = axis.place(displayed);
            if !has_list(&sample, "disk") {
                table.warn("samples without a list of disks were left out");
                continue;
            }
            table.sample(unix_ns);
            for disk in objects(&sample, "disk") {
                let value = |key| match THROUGHPUT.iter().find(|(theirs, ..)| *theirs == key && doubles) {
                    Some(names) => single(disk, *names, &mut halved),
                    None => cell(disk, key),
                };
                let numbers: Vec<String> = COLUMNS.iter().map(|(key, _)| *key).map(value).collect();
                table.row(unix_ns, std::iter::once(cell(disk, "disk_device")).chain(numbers))?;
            }
        }
        if halved > 0 {
            table.warn("iostat of sysstat 12.1.5 to 12.2.0 prints kB/s twice as large: they were halved");
        }
        settle(&samples, raw, OUTPUT, COLUMNS, [&mut table])?;
        Ok(vec![table.finish()?])
    }
}

/// Whether this is an iostat whose JSON has kB/s twice as large as they are with `-k`: 12.1.5 to 12.2.0 (sysstat#264;
/// corrected in 12.2.1 and 12.3.1).
fn doubles(raw: &RawResults) -> bool {
    raw.facts.tools.get("iostat").is_some_and(|tool| {
        tool.is_at_least(&[12, 1, 5]) && !tool.is_at_least(&[12, 2, 1]) && !tool.version_numbers().is_empty()
    })
}

/// Throughput of a disk as it is: operations times their size say whether it was doubled, since distributions have
/// corrected it without another version.
fn single(disk: &Value, (throughput, operations, size): (&str, &str, &str), halved: &mut u64) -> String {
    let value = |key| disk.get(key).and_then(Value::as_f64);
    let (Some(printed), Some(operations), Some(size)) = (value(throughput), value(operations), value(size)) else {
        // Nobody can say which it is.
        return match value(throughput) {
            Some(0.0) => "0".to_owned(),
            _ => String::new(),
        };
    };
    let product = operations * size;
    if (printed / 2.0 - product).abs() < (printed - product).abs() {
        *halved += 1;
        number(printed / 2.0)
    } else {
        number(printed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tests::{encoded, raw};
    use proptest::prelude::*;

    const TIMES: (i64, i64) = (1_795_384_731_476_602_828, 1_795_384_735_982_271_782);

    // iostat of sysstat 12.6.1, two samples of one disk.
    const FILE: &str = include_str!("../tests/data/iostat.json");

    fn converted(bytes: &[u8]) -> (Table, String) {
        let (_directory, raw) = raw(&Iostat, OUTPUT, bytes, TIMES);
        let table = Iostat.convert(&raw).unwrap().remove(0);
        (table, std::fs::read_to_string(raw.file("iostat.csv")).unwrap())
    }

    #[test]
    fn extended_statistics_of_disks_as_json_without_the_sample_since_boot() {
        let invocation = encoded(&Iostat, &Args::new().with("interval", 3i64));
        let start = invocation.start.unwrap();
        assert_eq!(start.argv, ["iostat", "-xtdkyN", "-o", "JSON", "3"]);
        assert_eq!(start.env["S_TIME_FORMAT"], "ISO");
        assert_eq!(start.stdout.as_deref(), Some("iostat.json"));
        assert_eq!(invocation.stop.signal, StopSignal::Interrupt);
    }

    #[test]
    fn each_disk_of_each_sample_is_a_row() {
        let (table, csv) = converted(FILE.as_bytes());
        assert_eq!((table.rows, table.warnings.len()), (4, 0));
        assert_eq!(
            csv.lines().nth(1).unwrap(),
            "1795384732.476602,vda,62,86,0,0,760,58376,0,40,192,0.44,1.4,0,0,12.26,678.79,0.15,4.8"
        );
        assert!(csv.lines().nth(2).unwrap().starts_with("1795384733.476602,vda,0,"));
    }

    #[test]
    fn json_that_was_cut_is_repaired_with_a_warning() {
        let (table, _) = converted(&FILE.as_bytes()[..FILE.len() - 100]);
        assert_eq!((table.rows, table.repaired), (3, Some(3)));
        assert_eq!(table.warnings, ["iostat.json is torn: its 3 whole samples are in iostat.repaired.json"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            converted(&bytes);
            converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat());
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_samples(at in 0..FILE.len(), zeros in 0usize..9000) {
            let torn = [&FILE.as_bytes()[..at], &vec![0; zeros]].concat();
            let (_directory, raw) = raw(&Iostat, OUTPUT, &torn, TIMES);
            let table = Iostat.convert(&raw).unwrap().remove(0);
            let csv = std::fs::read_to_string(raw.file("iostat.csv")).unwrap();
            // A sample ends with the brace at this depth.
            let whole = FILE[..at].matches("\n\t\t\t\t}").count() as u64;
            prop_assert_eq!(table.rows, whole);
            // Without the end of the last line all is there.
            prop_assert_eq!(table.repaired, (at < FILE.trim_end().len()).then_some(whole));
            prop_assert!(csv.ends_with('\n') && converted(FILE.as_bytes()).1.starts_with(&csv));
            if table.repaired.is_some() && whole > 0 {
                let repaired = std::fs::read(raw.file("iostat.repaired.json")).unwrap();
                let (_directory, again) = crate::tool::tests::raw(&Iostat, OUTPUT, &repaired, TIMES);
                prop_assert_eq!(&Iostat.convert(&again).unwrap()[0].repaired, &None);
                prop_assert_eq!(csv, std::fs::read_to_string(again.file("iostat.csv")).unwrap());
                prop_assert_eq!(std::fs::read(raw.file(OUTPUT)).unwrap(), torn);
            }
        }
    }
}
