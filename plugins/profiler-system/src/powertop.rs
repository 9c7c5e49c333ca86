//! powertop: wake-ups, use of the CPUs and power, and who is behind them.
use autoprof_plugin::{
    convert::{BootAxis, Lines, TableWriter, nanoseconds, number, open, percent_of_all_cpus, stamp},
    installed,
    prelude::*,
    words,
};

use crate::text;

const OUTPUT: &str = "powertop.txt";

const PARAMS: &[Param] =
    &[Param::new("time", ParamType::Integer, "how long one measurement takes").default("5").unit("s").range("1..3600")];

/// Its summary's names and ours.
const SUMMARY: &[(&str, &str)] = &[
    ("CPU", "cpu_percent"),
    ("System", "wakeups_per_s"),
    ("GPU", "gpu_operations_per_s"),
    ("GFX", "graphics_wakeups_per_s"),
    ("VFS", "file_operations_per_s"),
];

/// Most consumers of one measurement; powertop begins with the greatest.
const MOST_CONSUMERS: u32 = 20;
/// Longest name of a consumer, in characters: a command line has no end.
const LONGEST_NAME: usize = 100;

/// powertop as users know it.
pub const POWERTOP: ProfilerInfo = ProfilerInfo::new("powertop", "wake-ups, use of the CPUs, power, and by whom")
    .params(PARAMS)
    .tools("powertop:--version=powertop_version_# sh cat")
    .example("powertop --csv=… --time=5, again and again");

/// powertop writes nothing before its measurement ends, whatever it is sent. What it is told to write to it cuts to
/// nothing first, and a pipe has nothing to cut.
const SCRIPT: &str = r#"powertop --csv=/dev/stdout --time="$1" 2>&1 | cat"#;

/// Runs powertop again and again and makes tables of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Powertop;

impl ArgEncoder for Powertop {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = POWERTOP;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "powertop", "powertop (Debian, Fedora)")?;
        if facts.uid != 0 {
            let error = ArgError::new(ArgErrorKind::Unsupported, "powertop needs root, and ends without");
            return Err(error.with_hint("log in to the host as root"));
        }
        let time = args.integer("time").unwrap_or(5).to_string();
        let argv = words(&["sh", "-c", SCRIPT, "sh", &time]);
        Ok(Invocation {
            // A measurement is never overlapped by the next, which begins within this time of its end.
            poll: Some(Poll { every_ms: 500, argv, output: OUTPUT.to_owned() }),
            outputs: vec![text(OUTPUT, true)],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    /// Rows are at the instants when powertop was started.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("time").unwrap_or(5.0);
        let names = SUMMARY.iter().map(|(_, name)| *name).chain(["battery_watts", "baseline_watts"]);
        let mut table = TableWriter::events(raw, "powertop.csv", &names.collect::<Vec<_>>())?
            .limit("cpu_percent", percent_of_all_cpus(&raw.facts));
        let columns = ["category", "consumer", "cpu_percent", "wakeups_per_s"];
        let mut consumers =
            TableWriter::events(raw, "consumers.csv", &columns)?.limit("cpu_percent", percent_of_all_cpus(&raw.facts));
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let (mut at, mut summary) = (None::<i64>, None::<Summary>);
        let mut places: Option<Places> = None;
        let mut axis = BootAxis::default();
        let mut left = 0;
        while let Some(line) = lines.next_text()? {
            if let Some(began) = stamp(&line) {
                write(&mut table, at, &mut summary)?;
                (at, places) = (Some(axis.place(began)), None);
            } else if line.starts_with("Target:") {
                summary = Some(Summary { counts: counts(&line), ..Summary::default() });
            } else if let (Some(rate), Some(summary)) = (line.split_once("discharge rate of"), &mut summary) {
                summary.battery = watts(rate.1);
            } else if let (Some(base), Some(summary)) = (line.split_once("power is estimated at"), &mut summary) {
                summary.baseline = watts(base.1);
            } else if line.starts_with("Usage;Wakeups/s") {
                (places, left) = (Places::of(&line), MOST_CONSUMERS);
            } else if line.trim().is_empty() {
                places = None;
            } else if let (Some(at), Some(places), 1..) = (at, &places, left)
                && let Some(cells) = places.cells(&line)
            {
                consumers.row(at, cells)?;
                left -= 1;
            }
        }
        write(&mut table, at, &mut summary)?;
        table.account_for(&lines);
        if table.rows() == 0 {
            let window = raw.ended_unix_ns.saturating_sub(raw.began_unix_ns);
            if at.is_some() && window < nanoseconds(interval).saturating_mul(2) {
                table.nothing_happened();
            }
            table.warn(format!("no measurement was done: each takes {interval} s, and some more to begin"));
        }
        Ok(vec![table.finish()?, consumers.finish()?])
    }
}

/// What one measurement says of the whole machine.
#[derive(Default)]
struct Summary {
    counts: [String; SUMMARY.len()],
    battery: String,
    baseline: String,
}

fn write(table: &mut TableWriter, at: Option<i64>, summary: &mut Option<Summary>) -> Result<(), ConvertError> {
    let (Some(at), Some(Summary { counts, battery, baseline })) = (at, summary.take()) else { return Ok(()) };
    table.row(at, counts.into_iter().chain([battery, baseline]))
}

/// `Target: 1 units/s;System:  1.4 wakeup/s;CPU:  79.5% usage;GPU: 0 ops/s;…`
fn counts(line: &str) -> [String; SUMMARY.len()] {
    std::array::from_fn(|place| {
        let value = line.split(';').find_map(|part| part.trim().strip_prefix(SUMMARY[place].0)?.strip_prefix(':'));
        value.and_then(leading).map_or_else(String::new, |(value, _)| number(value))
    })
}

/// A number and what follows it.
fn leading(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// `: 8.94 W` or ` 912 mW`.
fn watts(text: &str) -> String {
    let value = leading(text.trim_start_matches([':', ' ']));
    value.map_or_else(String::new, |(value, unit)| number(if unit.starts_with('m') { value / 1e3 } else { value }))
}

/// Where the columns of the list of consumers are.
struct Places {
    usage: usize,
    wakeups: usize,
    category: usize,
    description: usize,
}

impl Places {
    fn of(header: &str) -> Option<Self> {
        let fields: Vec<&str> = header.split(';').map(str::trim).collect();
        let place = |name: &str| fields.iter().position(|field| *field == name);
        Some(Self {
            usage: place("Usage")?,
            wakeups: place("Wakeups/s")?,
            category: place("Category")?,
            description: place("Description")?,
        })
    }

    fn cells(&self, line: &str) -> Option<[String; 4]> {
        // What is last may have semicolons in it.
        let fields: Vec<&str> = line.splitn(self.description + 1, ';').map(str::trim).collect();
        let field = |place: usize| fields.get(place).copied();
        let (usage, unit) = leading(field(self.usage)?)?;
        let percent = match unit {
            "ms/s" => usage / 10.0,
            "us/s" | "µs/s" => usage / 10_000.0,
            _ => return None,
        };
        let wakeups = field(self.wakeups).and_then(leading).map_or_else(String::new, |(count, _)| number(count));
        let name = field(self.description)?.chars().take(LONGEST_NAME).collect();
        Some([field(self.category)?.to_owned(), name, number(percent), wakeups])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // powertop 2.14 on a virtual machine, shortened; the lines about a battery and the microseconds are in the form
    // of its source.
    const TEXT: &str = "\
# 10000000000 5
modprobe cpufreq_stats failedmodprobe msr failedRAPL device for cpu 0
Taking 1 measurement(s) for a duration of 2 second(s) each.
 *  *  *   System Information   *  *  *
PowerTOP Version;2.14 ran at Thu Nov 26 17:45:35 2026
Target: 1 units/s;System:  1.4 wakeup/s;CPU:  199.8% usage;GPU: 0 ops/s;GFX: 0 wakeups/s;VFS: 3 ops/s;
The battery reports a discharge rate of: 8.94 W
System baseline power is estimated at 912 mW
 *  *  *   Top 10 Power Consumers   *  *  *
Usage;Events/s;Category;Description
 52.0%; 0.00;Process;[PID 30687] rustc
 *  *  *   Overview of Software Power Consumers   *  *  *

Usage;Wakeups/s;GPU ops/s;Disk IO/s;GFX Wakeups/s;Category;Description
519.7 ms/s;;;;;Process;[PID 30687] /usr/bin/rustc --crate-name a;b
  5.9 us/s; 12.5;;;;Timer;tick_nohz_handler

 *  *  *   Device Power Report   *  *  *
Usage;Device Name
199.8%;CPU use
# 15000000000 5
Taking 1 measurement(s) for a duration of 2 second(s) each.
";

    #[test]
    fn each_measurement_has_a_row_and_its_consumers() {
        let (tables, csv) = converted(&Powertop, &[(OUTPUT, TEXT.as_bytes())], (9, 10), "powertop.csv");
        let tables = tables.unwrap();
        assert_eq!((tables[0].rows, tables[1].rows), (1, 2), "{csv}");
        assert_eq!(csv.lines().nth(1), Some("10.000000,199.8,1.4,0,0,3,8.94,0.912"));
        let (_, csv) = converted(&Powertop, &[(OUTPUT, TEXT.as_bytes())], (9, 10), "consumers.csv");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[0], "10.000000,Process,[PID 30687] /usr/bin/rustc --crate-name a;b,51.97,");
        assert_eq!(rows[1], "10.000000,Timer,tick_nohz_handler,0.00059,12.5");
    }

    #[test]
    fn a_window_too_short_for_a_measurement_is_said() {
        let (tables, _) = converted(&Powertop, &[(OUTPUT, b"# 10000000000 5\n")], (9, 10), "powertop.csv");
        assert!(tables.unwrap()[0].warnings[0].contains("each takes 5 s"));
    }

    #[test]
    fn it_is_asked_again_and_again_as_root() {
        let poll = Powertop.encode(&Args::new().with("time", 7i64), &facts(&["powertop"])).unwrap().poll.unwrap();
        assert_eq!(poll.argv.last().unwrap(), "7");
        let user = HostFacts { uid: 1000, ..facts(&["powertop"]) };
        assert!(Powertop.encode(&Args::new(), &user).unwrap_err().message.contains("root"));
        assert_eq!(Powertop.encode(&Args::new(), &facts(&[])).unwrap_err().kind, ArgErrorKind::Missing);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&Powertop, &[(OUTPUT, &bytes)], (9, 10), "powertop.csv");
        }
    }
}
