//! `perf sched`: how long tasks waited for a CPU after they were woken, over time and task by task.
use std::collections::BTreeMap;

use autoprof_plugin::{
    convert::{Lines, TableWriter, bucket, nanoseconds, number, open},
    prelude::*,
};

use crate::{
    subcommand::{SIZE, ended_early, failed, invocation, milliseconds, perf},
    timeline::reference,
};

const DATA: &str = "perf.sched.data";
const DELAYS: &str = "perf.sched.delays.txt";
const TASKS: &str = "perf.sched.latency.txt";

/// The clock's reference time, then for each second and power of two of microseconds, how many waits were that long:
/// every switch would be a line of a hundred bytes, of which a busy host has a hundred thousand in a second.
const REDUCE: &str = r#"perf report --header-only -i perf.sched.data 2>/dev/null | grep 'reference time'
perf sched timehist -i perf.sched.data | awk '
function flush(bucket) { for (bucket in count) print second, bucket, count[bucket]; split("", count) }
$1 ~ /^[0-9]+[.][0-9]+$/ && $(NF - 1) > 0 {
    if (int($1) != second) { flush(); second = int($1) }
    bucket = 1
    while (bucket * 2 <= $(NF - 1) * 1000) bucket *= 2
    count[bucket]++
}
END { flush() }'"#;

const PARAMS: &[Param] = &[SIZE];

/// perf-sched as users know it.
pub const PERF_SCHED: ProfilerInfo =
    ProfilerInfo::new("perf-sched", "how long tasks waited for a CPU, by time and by task; every switch is recorded")
        .params(PARAMS)
        .tools("perf:--version=perf_version_# awk")
        .example("perf sched record -a -o perf.sched.data");

/// Runs `perf sched record`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerfSched;

impl ArgEncoder for PerfSched {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = PERF_SCHED;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        perf(facts, &[5, 5], "perf sched with a bounded file")?;
        autoprof_plugin::installed(facts, "awk", "mawk (Debian) or gawk (Fedora)")?;
        let tasks = format!("perf sched latency -s max -i {DATA}");
        Ok(invocation("sched", DATA, args, &[(REDUCE.to_owned(), DELAYS), (tasks, TASKS)]))
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        Ok(vec![delays(raw)?, tasks(raw)?])
    }
}

/// `SECOND BUCKET COUNT`, below the reference time.
fn delays(raw: &RawResults) -> Result<Table, ConvertError> {
    let mut table = TableWriter::events(raw, "sched.csv", &["map", "bucket", "count_per_s"])?;
    let mut lines = Lines::new(open(raw, DELAYS)?);
    let mut ahead = None;
    let mut seconds: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
    while let Some(line) = lines.next_text()? {
        if let Some(found) = reference(line.trim_start_matches('#')) {
            ahead = Some(found);
        } else if let [second, bucket, count] = line.split_whitespace().collect::<Vec<_>>()[..]
            && let (Ok(second), Ok(bucket), Ok(count)) = (second.parse(), bucket.parse(), count.parse::<u64>())
        {
            *seconds.entry(second).or_default().entry(bucket).or_default() += count;
        }
    }
    // Without a reference the first second is that in which the profiler began.
    let first = seconds.keys().next().copied().unwrap_or_default();
    for (second, buckets) in seconds {
        let at = match ahead {
            #[expect(clippy::cast_precision_loss, reason = "seconds since boot")]
            Some(ahead) => nanoseconds(second as f64 + 1.0 + ahead),
            None => raw.began_unix_ns.saturating_add((second - first).saturating_add(1).saturating_mul(1_000_000_000)),
        };
        for (least, count) in buckets {
            table.row(at, ["sched_delay_us".to_owned(), bucket(least), count.to_string()])?;
        }
    }
    ended_early(raw)?.into_iter().for_each(|warning| table.warn(warning));
    failed(raw)?.into_iter().for_each(|reason| table.incomplete(reason));
    lines.warnings().for_each(|warning| table.warn(warning));
    table.finish()
}

/// `TASK | RUNTIME ms | SWITCHES | avg: DELAY ms | max: DELAY ms | …`, the longest delay first.
fn tasks(raw: &RawResults) -> Result<Table, ConvertError> {
    let columns = ["task", "runtime_ms", "switches", "delay_avg_ms", "delay_max_ms"];
    let mut table = TableWriter::events(raw, "sched-tasks.csv", &columns)?;
    let mut lines = Lines::new(open(raw, TASKS)?);
    while let Some(line) = lines.next_text()? {
        if line.contains("lost") {
            table.warn(line.trim());
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let time = |cell: &str| {
            let (value, unit) = cell.rsplit(':').next()?.trim().split_once(' ')?;
            milliseconds(value, unit).map(number)
        };
        // A task's name may have the separator in it.
        let Some(at) = cells.iter().skip(1).position(|cell| time(cell).is_some()).map(|at| at + 1) else { continue };
        let (task, [runtime, switches, average, most, ..]) = cells.split_at(at) else { continue };
        if let (Some(runtime), Ok(_), Some(average), Some(most)) =
            (time(runtime), switches.parse::<u64>(), time(average), time(most))
        {
            table.row(raw.ended_unix_ns, [task.join("|"), runtime, (*switches).to_owned(), average, most])?;
        }
    }
    lines.warnings().for_each(|warning| table.warn(warning));
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::testing::{converted, host_with};
    use proptest::prelude::*;

    const COUNTS: &str = "\
# reference time: 2026-11-26 18:23:04.454227 = 1795717384.454227 (TOD) = 15412.641115134 (monotonic)
15412 4 7
15412 1 2
15413 1024 1
15413 1
";
    // perf 6.1, shortened.
    const LATENCY: &str = "
 -------------------------------------------------------------------------------------------------------------------
  Task                  |   Runtime ms  | Switches | Avg delay ms    | Max delay ms    | Max delay start           |
 -------------------------------------------------------------------------------------------------------------------
  opt cgu.08:13144      |     12.325 ms |        3 | avg:   7.436 ms | max:  16.001 ms | max start: 15384.330491 s |
  cc:(2)                |     12.951 ms |        3 | avg:   4.376 ms | max:  11.181 ms | max start: 15384.702510 s |
 -----------------------------------------------------------------------------------------------------------------
  TOTAL:                |   3941.187 ms |     4526 |
 ---------------------------------------------------
  INFO: 0.100% lost events (5 out of 5000, in 1 chunks)
";

    fn made(counts: &[u8], latency: &[u8], table: &str) -> (Vec<Table>, String) {
        let window = (1_795_717_384, 3);
        let (tables, csv) = converted(&PerfSched, &Args::new(), &[(DELAYS, counts), (TASKS, latency)], window, table);
        (tables.unwrap(), csv)
    }

    #[test]
    fn waits_are_counted_by_second_and_size() {
        let (tables, csv) = made(COUNTS.as_bytes(), LATENCY.as_bytes(), "sched.csv");
        assert_eq!(tables[0].rows, 3);
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "1795717384.813111,sched_delay_us,1,2",
                "1795717384.813111,sched_delay_us,4-7,7",
                "1795717385.813111,sched_delay_us,1024-2047,1"
            ]
        );
    }

    #[test]
    fn each_task_has_a_row_and_lost_events_are_told() {
        let (tables, csv) = made(COUNTS.as_bytes(), LATENCY.as_bytes(), "sched-tasks.csv");
        assert_eq!((tables[1].rows, tables[1].warnings.len()), (2, 1));
        assert!(tables[1].warnings[0].contains("5 out of 5000"));
        assert_eq!(csv.lines().nth(1), Some("1795717387.000000,opt cgu.08:13144,12.325,3,7.436,16.001"));
    }

    #[test]
    fn only_root_traces_and_only_a_perf_that_can() {
        let args = Args::new().complete(&PERF_SCHED).unwrap();
        let mut facts = host_with(&["perf", "awk"], "perf version 6.1");
        let argv = PerfSched.encode(&args, &facts).unwrap().start.unwrap().argv.join(" ");
        assert_eq!(argv, "perf sched record -a -k CLOCK_MONOTONIC -N --max-size=256M -o perf.sched.data");
        facts.uid = 1000;
        assert_eq!(PerfSched.encode(&args, &facts).unwrap_err().kind, ArgErrorKind::Permission);
        let old = host_with(&["perf", "awk"], "perf version 4.19");
        assert_eq!(PerfSched.encode(&args, &old).unwrap_err().kind, ArgErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..LATENCY.len(), byte: u8) {
            let (mut latency, mut counts) = (LATENCY.as_bytes().to_vec(), COUNTS.as_bytes().to_vec());
            latency[at] = byte;
            counts[at % COUNTS.len()] = byte;
            made(&counts, &latency, "sched.csv");
        }
    }
}
