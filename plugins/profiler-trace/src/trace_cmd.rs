//! trace-cmd: events of the kernel's tracer (ftrace), how many, and how long tasks waited for a CPU.
use std::collections::{BTreeMap, HashMap};

use autoprof_plugin::{
    convert::{Lines, SECOND, TableWriter, bucket, open},
    prelude::*,
    words,
};

use crate::{installed, only_root};

const DATA: &str = "trace.dat";
const REPORT: &str = "report.txt";
/// What `trace-cmd record` prints: what it lost, among others.
const SAID: &str = "record.txt";
const INSTANCE: &str = "instance.txt";

const PARAMS: &[Param] = &[
    Param::new("events", ParamType::Strings, "events, or whole systems of them, as trace-cmd's -e takes them")
        .default("[sched_switch, sched_wakeup, irq]"),
    Param::new("buffer", ParamType::Integer, "the kernel's buffer of each CPU")
        .default("1408")
        .unit("KiB")
        .range("4..1048576"),
    Param::new("size", ParamType::Integer, "what is kept of all CPUs together, the latest")
        .default("200")
        .unit("MiB")
        .range("1..100000"),
    Param::new("report", ParamType::Integer, "what is kept of the text that the tables are made of, the earliest")
        .default("64")
        .unit("MiB")
        .range("1..10000"),
];

/// trace-cmd as users know it.
pub const TRACE_CMD: ProfilerInfo =
    ProfilerInfo::new("trace-cmd", "events of the kernel's tracer, and how long tasks waited for a CPU")
        .params(PARAMS)
        .tools("trace-cmd sh cat head")
        .example("trace-cmd record -B INSTANCE -e sched_switch -e sched_wakeup -e irq -b 1408 -m … -C mono --date");

/// trace-cmd stops the tracing of others and leaves it so when it is refused half-way, as in a container or where the
/// kernel is locked down; reading this file is refused then too, and changes nothing.
const CHECK: &str = "cd /sys/kernel/tracing || exit 1
[ ! -e set_ftrace_pid ] || cat set_ftrace_pid >/dev/null";

/// Records into buffers of its own, so that whoever else traces on that host is left alone. A trace-cmd that was killed
/// leaves its buffers with their events on: those of the dead are removed.
const RECORD: &str = r#"for old in /sys/kernel/tracing/instances/autoprof-*; do
    [ -d "$old" ] && ! kill -0 "${old##*-}" 2>/dev/null && rmdir "$old"
done
echo "autoprof-$$" > instance.txt
exec trace-cmd record -B "autoprof-$$" "$@""#;

const READ: &str = r#"read -r instance < instance.txt && rmdir "/sys/kernel/tracing/instances/$instance" 2>/dev/null
trace-cmd report -R trace.dat | head -c "$1""#;

/// The program that trace-cmd runs for as long as it records, which takes it seconds to begin on a slow host.
const WORKLOAD: &str = "cat";

/// Reading a gibibyte takes minutes.
const REPORT_MS: u64 = 600_000;
/// Most names of events that are counted.
const MOST_EVENTS: usize = 1000;
/// Most tasks whose waiting is followed at a time.
const MOST_TASKS: usize = 1 << 20;

/// Runs trace-cmd and makes tables of what it recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceCmd;

impl ArgEncoder for TraceCmd {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = TRACE_CMD;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "trace-cmd")?;
        only_root(facts, "trace-cmd", "the kernel's tracer is root's")?;
        if !facts.tracefs {
            let error = ArgError::new(ArgErrorKind::Unsupported, "the kernel's tracer is not there: no tracefs");
            return Err(error.with_hint("mount -t tracefs tracefs /sys/kernel/tracing"));
        }
        let events = args.strings("events");
        let is_event = |event: &&&str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_:*?-.".contains(c);
            !event.is_empty() && !event.starts_with('-') && event.chars().all(fits)
        };
        if events.is_empty() {
            return Err(ArgError::new(ArgErrorKind::Range, "events: none is given"));
        }
        if let Some(bad) = events.iter().find(|event| !is_event(event)) {
            return Err(ArgError::new(ArgErrorKind::Range, format!("events: {bad:?} is no name of an event")));
        }
        let integer = |name: &str, other: i64| args.integer(name).unwrap_or(other);
        // It is told how much to keep of each CPU, and keeps two files of half of that.
        let each = (integer("size", 200) * 1024 / i64::from(facts.cpus.max(1))).max(64);
        let mut argv = words(&["sh", "-c", RECORD, "sh"]);
        argv.extend(events.iter().flat_map(|event| words(&["-e", event])));
        argv.extend(words(&["-b", &integer("buffer", 1408).to_string(), "-m", &each.to_string()]));
        argv.extend(words(&["-C", "mono", "--date", "-o", DATA, WORKLOAD]));
        let bytes = (integer("report", 64) << 20).to_string();
        Ok(Invocation {
            prepare: vec![words(&["sh", "-c", CHECK])],
            start: Some(Start {
                argv,
                stdout: Some(SAID.to_owned()),
                workload: Some(WORKLOAD.to_owned()),
                ..Start::default()
            }),
            stop: Stop { grace_ms: 60_000, ..crate::STOP },
            report: vec![Report {
                argv: words(&["sh", "-c", READ, "sh", &bytes]),
                stdout: Some(REPORT.to_owned()),
                timeout_ms: REPORT_MS,
            }],
            outputs: vec![
                Output { file: DATA.to_owned(), format: OutputFormat::Raw, required: true },
                Output { file: REPORT.to_owned(), format: OutputFormat::Text, required: false },
                Output { file: INSTANCE.to_owned(), format: OutputFormat::Text, required: false },
            ],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut counts = Counts::new(
            TableWriter::events(raw, "events.csv", &["event", "events_per_s"])?,
            TableWriter::events(raw, "histogram.csv", &["map", "bucket", "count_per_s"])?,
        );
        if let Some(lost) = lost(raw)? {
            counts.events.warn(lost);
        }
        if raw.file(REPORT).exists() {
            let mut lines = Lines::new(open(raw, REPORT)?);
            let mut ahead = None;
            while let Some(line) = lines.next_text()? {
                if line.starts_with("cpus=") {
                    // None of the events may have happened.
                    counts.events.nothing_happened();
                }
                let Some(Event { at, name, fields }) = event(&line) else { continue };
                let ahead = *ahead.get_or_insert_with(|| {
                    // A kernel that has no such clock gives no date.
                    let undated = at < 1_000_000_000 * SECOND;
                    undated.then(|| raw.began_unix_ns.saturating_sub(at))
                });
                if ahead.is_some() {
                    counts.events.warn("trace-cmd gave no date: the first event is taken to be at the beginning");
                }
                counts.event(at.saturating_add(ahead.unwrap_or(0)), name, fields)?;
            }
            counts.write()?;
            let most = raw.args.integer("report").unwrap_or(64) << 20;
            let length = std::fs::metadata(raw.file(REPORT)).map_or(0, |file| file.len());
            if i64::try_from(length).is_ok_and(|length| length >= most) {
                counts.events.warn("the tables end early: report says how much text they are made of");
            } else {
                counts.events.account_for(&lines);
            }
        }
        Ok(vec![counts.events.finish()?, counts.waits.finish()?])
    }
}

/// How many events were lost, as `trace-cmd record` says it at its end: `CPU 1: 693 events lost`.
fn lost(raw: &RawResults) -> Result<Option<String>, ConvertError> {
    if !raw.file(SAID).exists() {
        return Ok(None);
    }
    let mut lines = Lines::new(open(raw, SAID)?);
    let mut all = 0_u64;
    while let Some(line) = lines.next_text()? {
        let count = line.strip_suffix(" events lost").and_then(|rest| rest.rsplit(' ').next());
        all = all.saturating_add(count.and_then(|count| count.parse().ok()).unwrap_or(0));
    }
    Ok((all > 0).then(|| format!("{all} events were lost: name fewer, or give more buffer")))
}

#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    at: i64,
    name: &'a str,
    fields: &'a str,
}

/// A line such as `autoprof-7:  a task-17  [000] 1795715861.978401: sched_switch:  prev_comm=a task prev_pid=17 …`.
fn event(line: &str) -> Option<Event<'_>> {
    // A task's name may have anything in it.
    line.match_indices(" [").find_map(|(from, _)| {
        let (cpu, rest) = line[from + 2..].split_once("] ")?;
        let (time, rest) = rest.trim_start().split_once(": ")?;
        let (name, fields) = rest.split_once(':')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_cpu = cpu.bytes().all(|b| b.is_ascii_digit());
        (is_cpu && is_name).then_some(Event { at: instant(time)?, name, fields })
    })
}

/// Seconds with six or nine decimals, in nanoseconds.
fn instant(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.')?;
    let scale = match fraction.len() {
        6 => 1000,
        9 => 1,
        _ => return None,
    };
    let fraction = i64::from(fraction.parse::<u32>().ok()?) * scale;
    seconds.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(fraction)
}

/// The value of a field; a name of a task may have blanks in it, numbers have none.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    fields.rsplit(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// What was counted in the second that is being read.
struct Counts {
    events: TableWriter,
    waits: TableWriter,
    second: Option<i64>,
    by_name: BTreeMap<String, u64>,
    /// Waits by the power of two of their microseconds.
    by_length: [u64; 64],
    /// Since when tasks are runnable.
    since: HashMap<u32, i64>,
}

impl Counts {
    fn new(events: TableWriter, waits: TableWriter) -> Self {
        Self { events, waits, second: None, by_name: BTreeMap::new(), by_length: [0; 64], since: HashMap::new() }
    }

    fn event(&mut self, at: i64, name: &str, fields: &str) -> Result<(), ConvertError> {
        let second = at.div_euclid(SECOND);
        if self.second != Some(second) {
            self.write()?;
            self.second = Some(second);
        }
        if let Some(count) = self.by_name.get_mut(name) {
            *count += 1;
        } else if self.by_name.len() < MOST_EVENTS {
            self.by_name.insert(name.to_owned(), 1);
        } else {
            self.events.warn(format!("events of more than {MOST_EVENTS} names were left out"));
        }
        let number = |name: &str| field(fields, name).and_then(|text| text.parse::<u32>().ok());
        match name {
            "sched_wakeup" | "sched_wakeup_new" => self.is_runnable(number("pid"), at),
            "sched_switch" => {
                // 0 is runnable, and 256 likewise but driven out by another (TASK_REPORT_MAX).
                if number("prev_state").is_some_and(|state| state & 0xff == 0) {
                    self.is_runnable(number("prev_pid"), at);
                }
                if let Some(since) = number("next_pid").and_then(|pid| self.since.remove(&pid)) {
                    let micros = u64::try_from(at.saturating_sub(since) / 1000).unwrap_or(0);
                    // 0; 1; 2 and 3; 4 to 7; …
                    let place = (u64::BITS - micros.leading_zeros()) as usize;
                    self.by_length[place.min(63)] += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_runnable(&mut self, pid: Option<u32>, at: i64) {
        // The idle task, 0, always is.
        if let Some(pid) = pid.filter(|pid| *pid != 0)
            && self.since.len() < MOST_TASKS
        {
            self.since.insert(pid, at);
        }
    }

    /// Rows at the end of the second.
    fn write(&mut self) -> Result<(), ConvertError> {
        let Some(second) = self.second else { return Ok(()) };
        let end = second.saturating_add(1).saturating_mul(SECOND);
        for (name, count) in &mut self.by_name {
            self.events.row(end, [name.as_str(), &std::mem::take(count).to_string()])?;
        }
        for (place, count) in std::mem::replace(&mut self.by_length, [0; 64]).into_iter().enumerate() {
            if count > 0 {
                let least = if place == 0 { 0 } else { 1 << (place - 1) };
                self.waits.row(end, ["run_queue_us", &bucket(least), &count.to_string()])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // trace-cmd 3.1.6 on Linux 6.1; one name was changed to have blanks and brackets in it.
    const TEXT: &str = "\
cpus=2
autoprof-355:        trace-cmd-357   [000] 1000.977372: softirq_raise:        vec=9
autoprof-355:        trace-cmd-357   [000] 1000.978206: sched_wakeup:          comm=a [9] b: pid=15 prio=120 target_cpu=001
autoprof-355:        trace-cmd-355   [001] 1000.981596: sched_switch:          prev_comm=trace-cmd prev_pid=355 prev_prio=120 prev_state=256 next_comm=a [9] b: next_pid=15 next_prio=120
autoprof-355: CPU:1 [693 EVENTS DROPPED]
autoprof-355:        a [9] b:-15     [001] 1001.981601: sched_switch:          prev_comm=a [9] b: prev_pid=15 prev_prio=120 prev_state=128 next_comm=trace-cmd next_pid=355 next_prio=120
autoprof-355:           <idle>-0     [001] 1001.985642: softirq_raise:        vec=9
";
    const RECORDED: &str = "\
Hit Ctrl^C to stop recording

Buffer: autoprof-355

CPU 0: 7 events lost
CPU 1: 693 events lost
CPU0 data recorded at offset=0xf6000
";

    fn host() -> HostFacts {
        HostFacts { tracefs: true, cpus: 4, ..facts(&["trace-cmd"]) }
    }

    fn both(text: &[u8], began: i64, table: &str) -> (Vec<Table>, String) {
        let files = [(REPORT, text), (SAID, RECORDED.as_bytes())];
        let (tables, csv) = converted(&TraceCmd, &Args::new(), &files, (began, 5), table);
        (tables.unwrap(), csv)
    }

    #[test]
    fn events_are_counted_by_the_second() {
        let dated = TEXT.replace(" 100", " 180000100");
        let (tables, csv) = both(dated.as_bytes(), 1_800_001_000, "events.csv");
        assert_eq!(tables[0].warnings, ["700 events were lost: name fewer, or give more buffer"]);
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows[..3],
            [
                "1800001001.000000,sched_switch,1",
                "1800001001.000000,sched_wakeup,1",
                "1800001001.000000,softirq_raise,1"
            ]
        );
        assert_eq!(rows[4], "1800001002.000000,sched_wakeup,0");
    }

    #[test]
    fn waiting_ends_when_a_task_gets_a_cpu() {
        let dated = TEXT.replace(" 100", " 180000100");
        let (_, csv) = both(dated.as_bytes(), 1_800_001_000, "histogram.csv");
        // 3390 µs after its wakeup; 1000005 µs after it was driven out.
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows,
            ["1800001001.000000,run_queue_us,2048-4095,1", "1800001002.000000,run_queue_us,524288-1048575,1"]
        );
    }

    #[test]
    fn without_a_date_the_beginning_is_that_of_the_window() {
        let (tables, csv) = both(TEXT.as_bytes(), 1_800_000_000, "events.csv");
        assert!(tables[0].warnings[1].contains("no date"), "{tables:?}");
        assert!(csv.lines().nth(1).unwrap().starts_with("1800000001.000000,sched_switch,1"), "{csv}");
    }

    #[test]
    fn it_is_bounded_whatever_the_cpus() {
        let encode = |args: Args, host: &HostFacts| TraceCmd.encode(&args.complete(&TRACE_CMD).unwrap(), host);
        let invocation = encode(Args::new(), &host()).unwrap();
        let argv = invocation.start.unwrap().argv;
        let whole = "-e sched_switch -e sched_wakeup -e irq -b 1408 -m 51200 -C mono --date -o trace.dat cat";
        assert_eq!(argv[4..].join(" "), whole);
        assert_eq!(invocation.report[0].argv.last().unwrap(), "67108864");
        for bad in ["-e", "a b", "", "a;b"] {
            assert_eq!(encode(Args::new().with("events", bad), &host()).unwrap_err().kind, ArgErrorKind::Range);
        }
        let user = HostFacts { uid: 1000, ..host() };
        assert!(encode(Args::new(), &user).unwrap_err().message.contains("root"));
        let without = HostFacts { tracefs: false, ..host() };
        assert!(encode(Args::new(), &without).unwrap_err().message.contains("tracefs"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            both(&bytes, 1000, "events.csv");
        }
    }
}
