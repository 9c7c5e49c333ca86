//! blktrace: what is asked of block devices, and how long it takes.
use std::collections::{BTreeMap, HashMap};

use autoprof_plugin::{
    convert::{Lines, SECOND, TableWriter, number, open, time_of_day},
    prelude::*,
    words,
};

use crate::{installed, only_root};

/// What blktrace prints at its end: how many events, and how many it dropped.
const SAID: &str = "blktrace.txt";

const PARAMS: &[Param] = &[
    Param::new("devices", ParamType::Strings, "which, such as /dev/sda"),
    Param::new("buffer", ParamType::Integer, "a buffer of the kernel's, of which each CPU has some")
        .default("512")
        .unit("KiB")
        .range("4..65536"),
    Param::new("buffers", ParamType::Integer, "how many of those").default("4").unit("buffers").range("2..1024"),
    Param::new("report", ParamType::Integer, "what is kept of the text that the table is made of, the earliest")
        .default("64")
        .unit("MiB")
        .range("1..10000"),
];

/// Most devices.
const MOST_DEVICES: usize = 16;
/// Most requests of a device that are followed at a time.
const MOST_OPEN: usize = 1 << 20;

/// blktrace as users know it.
pub const BLKTRACE: ProfilerInfo =
    ProfilerInfo::new("blktrace", "requests to block devices: how many, how much, how long they take")
        .params(PARAMS)
        .tools("blktrace:-V=blktrace_version_# blkparse sh head")
        .example("blktrace -d /dev/sda -b 512 -n 4; blkparse -q -i sda");

/// Says what is wrong with a device before the test.
const CHECK: &str = r#"for device; do
    [ -b "$device" ] || { echo "$device is no block device" >&2; exit 1; }
    : < "$device" || exit 1
done"#;

/// A blktrace that was killed leaves its device traced, and closed to the next one.
const END: &str = r#"grep -q '^=== ' blktrace.txt || for device; do blktrace -d "$device" -k; done >/dev/null 2>&1
exit 0"#;

/// The time of day, what happened, of what kind, the first sector and how many of them.
const READ: &str = r#"blkparse -q -i "$1" -f '%z %a %d %S %n\n' | head -c "$2""#;

const REPORT_MS: u64 = 600_000;

/// Runs blktrace and makes a table of what it recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blktrace;

impl ArgEncoder for Blktrace {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = BLKTRACE;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "blktrace")?;
        installed(facts, "blkparse")?;
        only_root(facts, "blktrace", "the kernel lets nobody else trace a device")?;
        if !facts.debugfs {
            let error = ArgError::new(ArgErrorKind::Unsupported, "blktrace needs debugfs, which is not mounted");
            return Err(error.with_hint("mount -t debugfs debugfs /sys/kernel/debug"));
        }
        let devices = args.strings("devices");
        if devices.is_empty() || devices.len() > MOST_DEVICES {
            let message = format!("devices: 1 to {MOST_DEVICES} can be traced, not {}", devices.len());
            return Err(ArgError::new(ArgErrorKind::Range, message).with_hint("such as blktrace:/dev/sda"));
        }
        if let Some(bad) = devices.iter().find(|device| name(device).is_none()) {
            let error = ArgError::new(ArgErrorKind::Range, format!("devices: {bad:?} is no device such as /dev/sda"));
            return Err(error.with_hint("a volume is known as /dev/dm-0 and the like: lsblk -o NAME,KNAME"));
        }
        let integer = |name: &str, other: i64| args.integer(name).unwrap_or(other);
        let mut argv = words(&["blktrace"]);
        argv.extend(devices.iter().flat_map(|device| words(&["-d", device])));
        argv.extend(words(&["-b", &integer("buffer", 512).to_string(), "-n", &integer("buffers", 4).to_string()]));
        let with_devices = |script: &str| [words(&["sh", "-c", script, "sh"]), words(&devices)].concat();
        let bytes = (integer("report", 64) << 20).to_string();
        let read = |device: &str| Report {
            argv: words(&["sh", "-c", READ, "sh", device, &bytes]),
            stdout: Some(parsed(device)),
            timeout_ms: REPORT_MS,
        };
        let end = Report { argv: with_devices(END), stdout: None, timeout_ms: 30_000 };
        let names: Vec<&str> = devices.iter().filter_map(|device| name(device)).collect();
        let file = |file: String, required| Output { file, format: OutputFormat::Text, required };
        Ok(Invocation {
            prepare: vec![with_devices(CHECK)],
            start: Some(Start { argv, stdout: Some(SAID.to_owned()), ..Start::default() }),
            stop: crate::STOP,
            report: std::iter::once(end).chain(names.iter().map(|name| read(name))).collect(),
            // Each CPU's file has its number: which there are is known only there.
            outputs: std::iter::once(file(SAID.to_owned(), true))
                .chain(names.iter().map(|name| file(parsed(name), false)))
                .collect(),
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let columns = [
            "device",
            "reads_per_s",
            "writes_per_s",
            "read_kib_per_s",
            "write_kib_per_s",
            "issue_to_complete_us",
            "queue_to_complete_us",
            "queue_to_complete_max_us",
        ];
        let mut table = TableWriter::events(raw, "blktrace.csv", &columns)?;
        let most = u64::try_from(raw.args.integer("report").unwrap_or(64)).unwrap_or(64) << 20;
        let mut seconds = BTreeMap::<(i64, &str), Second>::new();
        let devices = raw.args.strings("devices");
        for name in devices.iter().filter_map(|device| name(device)) {
            let path = raw.file(parsed(name));
            let Ok(file) = std::fs::metadata(&path) else { continue };
            let mut lines = Lines::new(open(raw, &parsed(name))?);
            let mut requests = Requests::default();
            while let Some(line) = lines.next_text()? {
                if let Some(event) = event(&line, raw.began_unix_ns) {
                    requests.event(event, |at| seconds.entry((at.div_euclid(SECOND), name)).or_default());
                }
            }
            if file.len() >= most {
                table.warn(format!("{name} ends early: report says how much text the table is made of"));
            } else if lines.torn() {
                lines.warnings().for_each(|warning| table.warn(warning));
                table.repaired(requests.completed);
            }
        }
        for ((second, name), counted) in seconds {
            let end = second.saturating_add(1).saturating_mul(SECOND);
            table.row(end, std::iter::once(name.to_owned()).chain(counted.cells()))?;
        }
        let (said, dropped) = dropped(raw)?;
        if said {
            // Nobody may have asked anything of the device.
            table.nothing_happened();
        }
        if dropped > 0 {
            table.warn(format!("{dropped} events were dropped: give more buffers"));
        }
        Ok(vec![table.finish()?])
    }
}

/// `/dev/sda` as `sda`; none: it is no such path.
fn name(device: &str) -> Option<&str> {
    let name = device.strip_prefix("/dev/")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!name.is_empty() && !name.starts_with('-') && name.chars().all(fits)).then_some(name)
}

fn parsed(name: &str) -> String {
    format!("{name}.blkparse.txt")
}

/// Whether blktrace came to its end, and how many events were dropped, as blktrace says it of each device: `Total: 44701 events (dropped 610), …`.
fn dropped(raw: &RawResults) -> Result<(bool, u64), ConvertError> {
    if !raw.file(SAID).exists() {
        return Ok((false, 0));
    }
    let mut lines = Lines::new(open(raw, SAID)?);
    let (mut said, mut all) = (false, 0_u64);
    while let Some(line) = lines.next_text()? {
        said |= line.trim_start().starts_with("Total:");
        let count = line.split_once("(dropped ").and_then(|(_, rest)| rest.split_once(')')?.0.parse::<u64>().ok());
        all = all.saturating_add(count.unwrap_or(0));
    }
    Ok((said, all))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event<'a> {
    at: i64,
    action: &'a str,
    kind: &'a str,
    sector: u64,
    sectors: u64,
}

/// A line such as `17:59:19.771336 Q WSM 526328 8`, of the day that comes nearest to the beginning of the window.
fn event(line: &str, began: i64) -> Option<Event<'_>> {
    const DAY: i64 = 86_400 * SECOND;
    let fields: Vec<&str> = line.split(' ').collect();
    let [time, action, kind, sector, sectors] = fields.as_slice() else { return None };
    let micros = time.get(8..)?.strip_prefix('.').filter(|text| text.len() == 6)?.parse::<u32>().ok()?;
    let of_day = time_of_day(time)? * SECOND + i64::from(micros) * 1000;
    // Half a day before the beginning is the day after.
    let at = began.checked_add((of_day - began.rem_euclid(DAY) + DAY / 2).rem_euclid(DAY) - DAY / 2)?;
    Some(Event { at, action, kind, sector: sector.parse().ok()?, sectors: sectors.parse().ok()? })
}

/// Requests that are under way.
#[derive(Default)]
struct Requests {
    /// When they were queued, by their first sector: several of these may become one request.
    queued: BTreeMap<u64, i64>,
    /// When they were given to the device.
    issued: HashMap<u64, i64>,
    completed: u64,
}

impl Requests {
    fn event<'s>(&mut self, event: Event<'_>, second: impl FnOnce(i64) -> &'s mut Second) {
        let Event { at, action, kind, sector, sectors } = event;
        match action {
            "Q" if self.queued.len() < MOST_OPEN => {
                self.queued.insert(sector, at);
            }
            "D" if self.issued.len() < MOST_OPEN => {
                self.issued.insert(sector, at);
            }
            // One without sectors is a flush.
            "C" if sectors > 0 => {
                self.completed += 1;
                let second = second(at);
                if let Some(since) = self.issued.remove(&sector) {
                    second.issue.add(since, at);
                }
                let end = sector.saturating_add(sectors);
                while let Some(first) = self.queued.range(sector..end).next().map(|(first, _)| *first) {
                    if let Some(since) = self.queued.remove(&first) {
                        second.queue.add(since, at);
                    }
                }
                // A sector has 512 bytes, whatever the device's are.
                if kind.contains('W') {
                    second.writes += 1;
                    second.written = second.written.saturating_add(sectors);
                } else if kind.contains('R') {
                    second.reads += 1;
                    second.read = second.read.saturating_add(sectors);
                }
            }
            _ => {}
        }
    }
}

/// What was completed in a second.
#[derive(Default)]
struct Second {
    reads: u64,
    writes: u64,
    read: u64,
    written: u64,
    issue: Times,
    queue: Times,
}

impl Second {
    #[expect(clippy::cast_precision_loss, reason = "sectors of a second")]
    fn cells(&self) -> [String; 7] {
        let kib = |sectors: u64| number(sectors as f64 / 2.0);
        let most = if self.queue.count == 0 { String::new() } else { number(self.queue.most_ns as f64 / 1e3) };
        [
            self.reads.to_string(),
            self.writes.to_string(),
            kib(self.read),
            kib(self.written),
            self.issue.mean_us(),
            self.queue.mean_us(),
            most,
        ]
    }
}

/// How long something took.
#[derive(Default)]
struct Times {
    count: u32,
    sum_ns: i64,
    most_ns: i64,
}

impl Times {
    fn add(&mut self, since: i64, at: i64) {
        let took = at.saturating_sub(since).max(0);
        self.count = self.count.saturating_add(1);
        self.sum_ns = self.sum_ns.saturating_add(took);
        self.most_ns = self.most_ns.max(took);
    }

    #[expect(clippy::cast_precision_loss, reason = "times of a second")]
    fn mean_us(&self) -> String {
        if self.count == 0 { String::new() } else { number(self.sum_ns as f64 / 1e3 / f64::from(self.count)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // blkparse 1.2.0; shortened, and the last two lines moved to the next second.
    const TEXT: &str = "\
17:59:19.771336 Q WSM 526328 8
17:59:19.771534 G WSM 526328 8
17:59:19.771596 P N 0 0
17:59:19.771617 Q WSM 526336 8
17:59:19.771694 M WSM 526336 8
17:59:19.771800 D WSM 526328 16
17:59:19.772336 C WSM 526328 16
17:59:19.780000 C FN 0 0
17:59:19.790000 Q R 1024 8
17:59:19.790100 D R 1024 8
17:59:20.000100 C R 1024 8
Input file vda.blktrace.0 added
";
    // blktrace 2.0.0.
    const PRINTED: &str = "\
=== vda ===
  CPU  0:                25562 events,     1199 KiB data
  CPU  1:                19139 events,      898 KiB data
  Total:                 44701 events (dropped 610),     2096 KiB data

You have 610 (  1.3%) dropped events
";

    fn host() -> HostFacts {
        HostFacts { debugfs: true, ..facts(&["blktrace", "blkparse"]) }
    }

    fn table(text: &[u8], began: i64) -> (Table, String) {
        let args = Args::new().with("devices", "/dev/vda");
        let files = [("vda.blkparse.txt", text), (SAID, PRINTED.as_bytes())];
        let (tables, csv) = converted(&Blktrace, &args, &files, (began, 5), "blktrace.csv");
        (tables.unwrap().remove(0), csv)
    }

    #[test]
    fn each_second_has_its_requests_and_how_long_they_took() {
        // 2026-11-26 17:59:18.
        let (made, csv) = table(TEXT.as_bytes(), 1_795_715_958);
        assert_eq!(made.warnings, ["610 events were dropped: give more buffers"]);
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[0], "1795715960.000000,vda,0,1,0,8,536,859.5,1000");
        assert_eq!(rows[1], "1795715961.000000,vda,1,0,4,0,210000,210100,210100");
    }

    #[test]
    fn a_window_may_have_midnight_in_it() {
        let at = |line: &str| event(line, 86_399 * SECOND).unwrap().at;
        assert_eq!(at("00:00:01.000000 Q R 0 8"), 86_401 * SECOND);
        assert_eq!(at("23:59:59.500000 Q R 0 8"), 86_399 * SECOND + SECOND / 2);
    }

    #[test]
    fn where_it_cannot_run_the_reason_is_said() {
        let encode = |args: Args, host: &HostFacts| Blktrace.encode(&args.complete(&BLKTRACE).unwrap(), host);
        let disk = || Args::new().with("devices", "/dev/sda");
        let invocation = encode(disk(), &host()).unwrap();
        assert_eq!(invocation.start.unwrap().argv.join(" "), "blktrace -d /dev/sda -b 512 -n 4");
        assert_eq!(invocation.report[1].argv[4..], ["sda", "67108864"]);
        let user = HostFacts { uid: 1000, ..host() };
        assert!(encode(disk(), &user).unwrap_err().message.contains("root"));
        let without = HostFacts { debugfs: false, ..host() };
        assert!(encode(disk(), &without).unwrap_err().message.contains("debugfs"));
        for bad in ["sda", "/dev/", "/dev/../x", "/dev/-k", "/dev/mapper/a"] {
            let error = encode(Args::new().with("devices", bad), &host()).unwrap_err();
            assert_eq!(error.kind, ArgErrorKind::Range, "{bad}");
        }
        assert_eq!(encode(Args::new(), &host()).unwrap_err().kind, ArgErrorKind::Range);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            table(&bytes, 1_795_715_958);
        }
    }
}
