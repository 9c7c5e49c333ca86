//! `perf lock contention`: where the kernel waited for its locks, and how long.
use autoprof_plugin::{
    convert::{Lines, TableWriter, number, open},
    prelude::*,
};

use crate::subcommand::{SIZE, ended_early, failed, invocation, milliseconds, perf};

const DATA: &str = "perf.lock.data";
const OUTPUT: &str = "perf.lock.txt";

const PARAMS: &[Param] = &[SIZE];

/// perf-lock as users know it.
pub const PERF_LOCK: ProfilerInfo =
    ProfilerInfo::new("perf-lock", "where the kernel waited for its locks (from Linux 5.19 on)")
        .params(PARAMS)
        .tools("perf:--version=perf_version_#")
        .example("perf lock record -a -o perf.lock.data");

/// Runs `perf lock record`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerfLock;

impl ArgEncoder for PerfLock {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = PERF_LOCK;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        perf(facts, &[6, 0], "perf lock contention")?;
        // Before perf 6.2 what it found was printed on standard error (tools/perf/builtin-lock.c).
        Ok(invocation("lock", DATA, args, &[(format!("perf lock contention -i {DATA} 2>&1"), OUTPUT)]))
    }

    /// `CONTENDED TOTAL unit MAX unit AVERAGE unit TYPE CALLER`, the longest total first.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let columns = ["caller", "type", "contended", "wait_total_ms", "wait_max_ms", "wait_avg_ms"];
        let mut table = TableWriter::events(raw, "lock.csv", &columns)?;
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut unread = 0u64;
        while let Some(line) = lines.next_text()? {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.starts_with(&["contended", "total", "wait"]) {
                // Nothing may have waited.
                table.nothing_happened();
            } else if let [count, total, unit, most, most_unit, average, average_unit, kind, caller @ ..] =
                fields.as_slice()
                && let (Ok(_), Some(total), Some(most), Some(average)) = (
                    count.parse::<u64>(),
                    milliseconds(total, unit),
                    milliseconds(most, most_unit),
                    milliseconds(average, average_unit),
                )
            {
                let times = [total, most, average].map(number);
                let names = [caller.join(" "), (*kind).to_owned(), (*count).to_owned()];
                table.row(raw.ended_unix_ns, names.into_iter().chain(times))?;
            } else if fields.first().is_some_and(|count| count.parse::<u64>().is_ok()) {
                unread += 1;
            }
        }
        ended_early(raw)?.into_iter().for_each(|warning| table.warn(warning));
        failed(raw)?.into_iter().for_each(|reason| table.incomplete(reason));
        lines.warnings().for_each(|warning| table.warn(warning));
        if unread > 0 {
            table.warn(format!("{unread} lines that cannot be read were left out"));
        }
        Ok(vec![table.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::testing::converted;
    use proptest::prelude::*;

    // perf 6.1.
    const TEXT: &str = " contended   total wait     max wait     avg wait         type   caller

         2     26.14 ms     13.97 ms     13.07 ms      rwsem:R   exc_page_fault+0x1d8
        23    363.85 us     23.36 us     15.82 us     spinlock   call_timer_fn+0x29
";

    fn made(text: &[u8]) -> (Table, String) {
        let (tables, csv) = converted(&PerfLock, &Args::new(), &[(OUTPUT, text)], (10, 5), "lock.csv");
        (tables.unwrap().remove(0), csv)
    }

    #[test]
    fn each_caller_has_a_row_in_milliseconds() {
        let (table, csv) = made(TEXT.as_bytes());
        assert_eq!(table.rows, 2, "{csv}");
        assert_eq!(csv.lines().nth(1), Some("15.000000,exc_page_fault+0x1d8,rwsem:R,2,26.14,13.97,13.07"));
        assert!(csv.lines().nth(2).unwrap().starts_with("15.000000,call_timer_fn+0x29,spinlock,23,0.36385,"), "{csv}");
    }

    #[test]
    fn that_the_file_was_full_is_said() {
        let full = b"[ perf record: perf size limit reached (1290 KB), stopping session ]\n";
        let files: [(&str, &[u8]); 2] = [(OUTPUT, TEXT.as_bytes()), ("stderr.txt", full)];
        let (tables, _) = converted(&PerfLock, &Args::new(), &files, (10, 5), "lock.csv");
        assert!(tables.unwrap()[0].warnings[0].contains("recording ended before the window"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            made(&bytes);
        }
    }
}
