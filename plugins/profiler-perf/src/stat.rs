//! `perf stat`: the host's counters, interval by interval.
use autoprof_plugin::prelude::*;

use crate::{
    events::{Access, SYSCTL, cpus, given, settings, system_wide},
    intervals,
};

/// The raw file.
pub const OUTPUT: &str = "perf-stat.json";

/// Without context-switches: counting them slows a load that does nothing but switch to 0.94 (`perf bench sched pipe`),
/// and proc and vmstat have the number from the kernel at no cost.
const SOFTWARE: &str = "task-clock,cpu-migrations,page-faults";
const HARDWARE: &str = "cycles,instructions,branches,branch-misses,cache-references,cache-misses";

const PARAMS: &[Param] = &[
    Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..3600"),
    Param::new("events", ParamType::Strings, "what to count; software events and, where they can be, CPU counters"),
    Param::new("cpus", ParamType::String, "only these CPUs, such as 0-3,8; all of them by default"),
    SYSCTL,
];

/// perf-stat as users know it.
pub const PERF_STAT: ProfilerInfo = ProfilerInfo::new(
    "perf-stat",
    "counters of the whole host: instructions, cycles, cache and branch misses, switches",
)
.params(PARAMS)
.tools("perf:--version=perf_version_# sed cat")
.example("perf stat -a -I 1000 -j -e task-clock,page-faults,cycles,instructions -o perf-stat.json")
.tables(crate::tables::PERF_STAT);

/// Runs `perf stat` and makes a table of rates.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerfStat;

impl ArgEncoder for PerfStat {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = PERF_STAT;
        &INFO
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most an hour")]
    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let access = system_wide(facts)?;
        let events = counted(args, facts)?;
        let milliseconds = (args.number("interval").unwrap_or(1.0) * 1000.0).round() as i64;
        let mut argv = vec!["perf".to_owned(), "stat".to_owned()];
        argv.extend(cpus(args)?);
        argv.extend(["-I".to_owned(), milliseconds.to_string()]);
        // JSON is there since 6.0. Without it the separator must not be in the name of an event, as a comma may be.
        if access.perf().is_at_least(&[6, 0]) {
            argv.push("-j".to_owned());
        } else {
            argv.extend(["-x".to_owned(), ";".to_owned()]);
        }
        argv.extend(["-e".to_owned(), events]);
        argv.extend(match access {
            Access::Own(_) => ["-o".to_owned(), OUTPUT.to_owned()],
            Access::Sudo { .. } => ["--log-fd", "1"].map(Into::into),
        });
        Ok(Invocation {
            settings: settings(args, facts)?,
            // Not armed: `-D -1 --control` works (measured with 6.1, "ack" after 0.4 ms), but the intervals run from
            // when the process began, so that the rows before "enable" are "<not counted>", the first one after it is
            // of unknown length, and times do not fit. Spawned, it counts after 9 ms.
            start: Some(Start { samples: true, ..access.command(argv, OUTPUT) }),
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Json, required: true }],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        intervals::convert(raw)
    }
}

/// The events that are counted on a host, as `-e` takes them.
pub fn counted(args: &Args, facts: &HostFacts) -> Result<String, ArgError> {
    Ok(match given(args)? {
        Some(events) => events,
        None if facts.hardware_counters => format!("{SOFTWARE},{HARDWARE}"),
        None => SOFTWARE.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::test_facts;

    fn line(version: &str, hardware_counters: bool, args: &Args) -> String {
        let facts = HostFacts { hardware_counters, ..test_facts(version) };
        let invocation = PerfStat.encode(&args.complete(&PERF_STAT).unwrap(), &facts).unwrap();
        assert_eq!(invocation.stop, Stop::default());
        let start = invocation.start.unwrap();
        assert!(start.arm.is_none());
        start.argv.join(" ")
    }

    #[test]
    fn software_events_each_second_where_there_are_no_counters() {
        assert_eq!(
            line("perf version 6.1.187", false, &Args::new()),
            "perf stat -a -I 1000 -j -e task-clock,cpu-migrations,page-faults -o perf-stat.json"
        );
    }

    #[test]
    fn counters_where_they_are() {
        assert!(line("6.1", true, &Args::new()).contains(",cycles,instructions,branches,branch-misses,"));
    }

    #[test]
    fn an_old_perf_writes_separated_values() {
        let args = Args::new().with("interval", 0.5).with("events", "cycles");
        let line = line("perf version 5.10.0", false, &args);
        assert_eq!(line, "perf stat -a -I 500 -x ; -e cycles -o perf-stat.json");
    }

    #[test]
    fn it_is_refused_where_the_whole_host_may_not_be_seen() {
        let facts = HostFacts { system_wide: false, ..test_facts("6.1") };
        assert_eq!(PerfStat.encode(&Args::new(), &facts).unwrap_err().kind, ArgErrorKind::Permission);
    }
}
