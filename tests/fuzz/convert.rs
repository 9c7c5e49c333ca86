//! The converters: what came from a host becomes tables that are what they say, or an error.
use std::fs;

use autoprof_core::{
    ArgEncoder, Args, RawResults, Table,
    protocol::{HostFacts, Tool},
};
use autoprof_profiler_perf::{PerfRecord, PerfStat};
use autoprof_profiler_proc::Proc;
use autoprof_profiler_sysstat::{Iostat, Mpstat, Pidstat, Sar};
use autoprof_profiler_vmstat::Vmstat;
use camino::Utf8PathBuf;

/// Each converter with the file that it reads, by the low four bits of an input's first byte.
const CONVERTERS: [(&dyn ArgEncoder, &str); 8] = [
    (&PerfRecord, "perf.folded.txt"),
    (&PerfStat, "perf-stat.json"),
    (&Iostat, "iostat.json"),
    (&Mpstat, "mpstat.json"),
    (&Sar, "sar.json"),
    (&Pidstat, "pidstat.txt"),
    (&Vmstat, "vmstat.txt"),
    (&Proc, "samples.txt"),
];

/// The window of what is in the corpus, 2026-11-22.
const BEGAN: i64 = 1_795_384_731_475_658_219;
const ENDED: i64 = 1_795_384_736_000_000_000;
/// How much earlier than its begin a row may be, and the longest interval here, in seconds.
const SLACK: f64 = 5.1;

/// Set in the first byte: the window is all that there is; the tools are old.
const ANY_TIME: u8 = 0x10;
const OLD_TOOLS: u8 = 0x20;

/// The first byte picks the converter and its circumstances, the rest is the file.
pub fn check(data: &[u8]) {
    let Some((&how, file)) = data.split_first() else { return };
    let Some((converter, name)) = CONVERTERS.get(usize::from(how & 0xf)) else { return };
    let directory = crate::scratch();
    let directory = Utf8PathBuf::from_path_buf(directory.path().to_owned()).map(|path| (path, directory)).unwrap();
    let (began_unix_ns, ended_unix_ns) = if how & ANY_TIME == 0 { (BEGAN, ENDED) } else { (i64::MIN, i64::MAX) };
    let raw = RawResults {
        directory: directory.0,
        args: Args::new().complete(converter.profiler()).unwrap(),
        began_unix_ns,
        ended_unix_ns,
        facts: facts(if how & OLD_TOOLS == 0 { "99.0" } else { "3.3.15" }),
        clock_steps: Vec::new(),
        end_unknown: false,
    };
    fs::write(raw.file(name), file).unwrap();
    let tables = converter.convert(&raw);
    let mut written = 0;
    for table in tables.iter().flatten() {
        let text = fs::read_to_string(raw.file(&table.file)).expect("a table is text in the directory");
        written += text.len();
        assert_told(table);
        match table.file.rsplit_once('.') {
            Some((_, "csv")) => assert_table(table, &text, how & ANY_TIME == 0),
            Some((_, "folded")) => assert_stacks(table, &text),
            _ => panic!("a table of an unknown kind: {}", table.file),
        }
    }
    assert_eq!(fs::read(raw.file(name)).unwrap(), file, "raw files stay whatever happens");
    // A cell of `1e308` is 300 digits; no input may cost the disk much more than that.
    assert!(written <= 8192 + 200 * file.len(), "{written} bytes of {}", file.len());
}

fn facts(version: &str) -> HostFacts {
    let tool = || Tool { version: version.into(), ..Tool::default() };
    let tools = ["perf", "iostat", "mpstat", "sar", "sadf", "pidstat", "vmstat"];
    HostFacts { tools: tools.map(|name| (name.to_owned(), tool())).into(), ..HostFacts::default() }
}

/// That a table's own words can be shown, and its name is one of a file beside the raw one.
fn assert_told(table: &Table) {
    assert!(!table.file.contains('/') && !table.file.starts_with('.') && table.file.len() < 200, "{}", table.file);
    assert!(table.warnings.len() <= 30);
    for text in table.warnings.iter().chain([&table.file]) {
        assert!(!text.contains(char::is_control) && text.len() < 600, "{text:?}");
    }
}

/// That rows are as many as is said, as long as the header, in the order of time and within the run.
fn assert_table(table: &Table, text: &str, within: bool) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a header").get(0), Some("time_unix"));
    let (mut rows, mut last) = (0, f64::MIN);
    for row in reader.records() {
        let row = row.expect("as many cells as in the header");
        let time: f64 = row[0].parse().expect("a time is a number");
        assert!(time.is_finite() && time >= last, "{time} after {last} in {}", table.file);
        let (from, to) = (BEGAN as f64 / 1e9 - SLACK, ENDED as f64 / 1e9 + SLACK);
        assert!(!within || (from..=to).contains(&time), "{time} in {}", table.file);
        (rows, last) = (rows + 1, time);
    }
    assert_eq!(rows, table.rows, "rows of {}", table.file);
}

/// That each line is a stack and its count.
fn assert_stacks(table: &Table, text: &str) {
    assert_eq!(text.lines().count() as u64, table.rows);
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a count");
        assert!(count.parse::<u64>().is_ok() && stack.contains(';'), "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
