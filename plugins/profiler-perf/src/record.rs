//! `perf record`: what the host's CPUs were doing, as stacks.
use std::fs::File;

use autoprof_plugin::prelude::*;

use crate::{
    events::{Access, SYSCTL, cpus, given, needs_hardware, settings, system_wide},
    folded,
    perf_data::{Found, Saved, repair},
    timeline,
};

const DATA: &str = "perf.data";
/// What was whole of a file that perf could not end.
const REPAIRED: &str = "perf.repaired.data";
const CONTROL: &str = "perf.control";
const ACK: &str = "perf.ack";

/// How often what perf holds in memory goes to its file: what a power cut costs at most.
const FLUSH_MS: u64 = 2_000;

const PARAMS: &[Param] = &[
    Param::new("frequency", ParamType::Integer, "samples per second and CPU")
        .default("99")
        .unit("Hz")
        .range("1..20000"),
    Param::new("events", ParamType::Strings, "what to sample on; cycles, or cpu-clock where those cannot be counted"),
    Param::new("call_graph", ParamType::String, "how stacks are found").default("fp").range("fp|dwarf|lbr|none"),
    Param::new("cpus", ParamType::String, "only these CPUs, such as 0-3,8; all of them by default"),
    Param::new("timeline", ParamType::Integer, "stacks over time are made too of a perf.data up to this size")
        .default("64")
        .unit("MiB")
        .range("0..4096"),
    SYSCTL,
];

/// perf as users know it.
pub const PERF: ProfilerInfo = ProfilerInfo::new("perf", "profile of the whole host: which code the CPUs are in")
    .params(PARAMS)
    .tools("perf:--version=perf_version_# sed cat")
    .example("perf record -a -g -F 99 -e cycles -k CLOCK_MONOTONIC -o perf.data");

/// Runs `perf record`, has `perf report` fold the stacks where the symbols are, and makes `stacks.folded`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerfRecord;

impl ArgEncoder for PerfRecord {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = PERF;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let access = system_wide(facts)?;
        let perf = access.perf();
        let call_graph = args.string("call_graph").unwrap_or("fp");
        let events = match given(args)? {
            Some(events) => events,
            None if facts.hardware_counters => "cycles".to_owned(),
            None => "cpu-clock".to_owned(),
        };
        if !facts.hardware_counters {
            let event = needs_hardware(&events);
            if let Some(what) = event.or((call_graph == "lbr").then_some("call_graph lbr")) {
                let message = format!("{what} needs the CPU's performance counters, which this host does not give");
                return Err(ArgError::new(ArgErrorKind::Unsupported, message)
                    .with_hint("sample on cpu-clock, and find stacks by fp or dwarf"));
            }
        }
        let mut argv = vec!["perf".to_owned(), "record".to_owned()];
        argv.extend(cpus(args)?);
        match call_graph {
            "none" => {}
            "fp" => argv.push("-g".to_owned()),
            other => argv.extend(["--call-graph".to_owned(), other.to_owned()]),
        }
        argv.extend(["-F".to_owned(), args.integer("frequency").unwrap_or(99).to_string(), "-e".to_owned(), events]);
        if perf.is_at_least(&[4, 5]) {
            // The clock of most other tracers.
            argv.extend(["-k", "CLOCK_MONOTONIC"].map(Into::into));
            if let Access::Own(_) = access {
                // perf does not read its whole file again at the end; what goes to a pipe it never does.
                argv.push("--buildid-all".to_owned());
            }
        }
        // Without this perf copies the host's programs to ~/.debug, and leaves them there.
        argv.push("-N".to_owned());
        // Measured with perf 6.1 and FIFOs that the supervisor holds open for both directions: it answers to "enable"
        // after 0.3 to 0.4 ms. `fifo:` is there since 5.10.
        let may_arm = matches!(access, Access::Own(_)) && perf.is_at_least(&[5, 10]);
        let arm = may_arm.then(|| Arm {
            control: CONTROL.to_owned(),
            ack: ACK.to_owned(),
            // What is off already may be switched off. perf takes commands when it has opened its events and looked
            // through /proc, after 50 ms on an idle machine.
            probe: Some("disable".to_owned()),
            enable: "enable".to_owned(),
            answer: "ack".to_owned(),
            // perf reads its buffers when one is half full, which at 99 Hz takes 14 s on two busy CPUs; woken by a
            // command it reads them all. Measured with perf 6.1: after a `ping` a second 1308 samples were in the file
            // within 7.5 s, without there were none. Commands other than enable are known since 5.12.
            flush: perf.is_at_least(&[5, 12]).then(|| Flush { command: "ping".to_owned(), every_ms: FLUSH_MS }),
        });
        if arm.is_some() {
            argv.extend(["-D", "-1", "--control"].map(Into::into));
            argv.push(format!("fifo:{CONTROL},{ACK}"));
        }
        argv.extend(["-o", if let Access::Own(_) = access { DATA } else { "-" }].map(Into::into));
        let mut outputs = vec![Output { file: DATA.to_owned(), format: OutputFormat::Raw, required: true }];
        let mut notes = Vec::new();
        if matches!(access, Access::Own(perf) if !perf.capabilities) && !facts.kernel_symbols {
            notes.push("functions of the kernel have no names: it shows their addresses to root alone".to_owned());
        }
        if matches!(access, Access::Sudo { .. }) && call_graph == "dwarf" {
            notes.push("perf.data has copies of the stacks of all processes in it, also of root's".to_owned());
        }
        let mut report = Vec::new();
        if let Some(argv) = folded::command(facts, call_graph) {
            let most_bytes = u64::try_from(args.integer("timeline").unwrap_or(64)).unwrap_or(0) << 20;
            let over_time = timeline::command(facts, call_graph, most_bytes);
            let commands =
                std::iter::once((argv, folded::OUTPUT)).chain(over_time.map(|argv| (argv, timeline::OUTPUT)));
            let commands: Vec<_> = commands.collect();
            outputs.extend(commands.iter().map(|(_, output)| Output {
                file: (*output).to_owned(),
                format: OutputFormat::Text,
                required: false,
            }));
            report.extend(folded::reports(access, commands));
        }
        Ok(Invocation {
            settings: settings(args, facts)?,
            start: Some(Start { arm, ..access.command(argv, DATA) }),
            // 0.7 s on two idle CPUs, far more on a large host; a file whose end was not written is lost.
            stop: Stop { signal: StopSignal::Interrupt, grace_ms: 60_000 },
            report,
            outputs,
            restart_after_reboot: true,
            notes,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let found = found(raw)?;
        let has_stacks = folded::command(&raw.facts, "fp").is_some();
        let saved = match found {
            None | Some(Found::Whole) if !has_stacks => return Ok(Vec::new()),
            None | Some(Found::Whole) => {
                let mut tables = folded::convert(raw)?;
                tables.extend(timeline::convert(raw)?);
                return Ok(tables);
            }
            Some(Found::Repaired(saved)) => saved,
            Some(Found::Nothing(why)) => {
                let message = format!("{DATA} is torn and cannot be repaired: {why}");
                return Err(ConvertError::new(ConvertErrorKind::Format, message));
            }
        };
        let mut tables = vec![table_of(saved)];
        // perf on the host may have come to an end of its report before the file was torn.
        let stacks = if has_stacks { folded::convert(raw).unwrap_or_default() } else { Vec::new() };
        if stacks.iter().any(|table| table.rows > 0) {
            tables.extend(stacks);
        } else {
            for table in stacks {
                std::fs::remove_file(raw.file(table.file))?;
            }
        }
        Ok(tables)
    }
}

/// What is to be said of the data file, which is repaired if it has to be; none when there is no such file.
fn found(raw: &RawResults) -> Result<Option<Found>, ConvertError> {
    let cannot =
        |what: &str, e: &std::io::Error| ConvertError::caused(ConvertErrorKind::Io, format!("cannot {what}"), e);
    let path = raw.file(DATA);
    // Opening a FIFO would wait for ever.
    if !std::fs::metadata(&path).is_ok_and(|file| file.is_file()) {
        return Ok(None);
    }
    let mut from = File::open(&path).map_err(|e| cannot("read perf.data", &e))?;
    let found = repair(&mut from, || File::create(raw.file(REPAIRED)));
    found.map(Some).map_err(|e| cannot("repair perf.data", &e))
}

/// The repaired file as a table, so that the manifest names it.
///
/// No stacks are made of it: perf is not made for files that somebody may have forged, and the programs that have the
/// names of functions are on the host.
fn table_of(saved: Saved) -> Table {
    let Saved { samples, compressed, tracepoints, left_out } = saved;
    let what = if compressed > 0 { "compressed records" } else { "samples" };
    let mut warnings = vec![format!(
        "{DATA} is torn: {} {what} are in {REPAIRED}; read it with: perf report -i {REPAIRED}",
        samples + compressed
    )];
    warnings.push("build ids, which perf writes last, are lost".to_owned());
    if left_out > 0 {
        warnings.push(format!("{left_out} bytes behind the last whole record were left out"));
    }
    if tracepoints > 0 {
        warnings.push("tracepoints have lost their names and fields, which perf writes last".to_owned());
    }
    let repaired = Some(samples + compressed);
    Table { file: REPAIRED.to_owned(), rows: samples + compressed, warnings, repaired, ..Table::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::test_facts;
    use autoprof_plugin::core::protocol::Tool;

    const MODERN: &str = "perf version 6.1.187";

    fn encoded(args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        PerfRecord.encode(&args.complete(&PERF).unwrap(), facts)
    }

    fn line(args: &Args, facts: &HostFacts) -> String {
        encoded(args, facts).unwrap().start.unwrap().argv.join(" ")
    }

    #[test]
    fn a_host_without_counters_is_sampled_by_its_clock() {
        assert_eq!(
            line(&Args::new(), &test_facts(MODERN)),
            "perf record -a -g -F 99 -e cpu-clock -k CLOCK_MONOTONIC --buildid-all -N -D -1 \
             --control fifo:perf.control,perf.ack -o perf.data"
        );
    }

    #[test]
    fn a_host_with_counters_is_sampled_by_its_cycles() {
        let facts = HostFacts { hardware_counters: true, ..test_facts(MODERN) };
        assert!(line(&Args::new(), &facts).contains(" -e cycles "));
        assert!(line(&Args::new().with("call_graph", "lbr"), &facts).contains(" --call-graph lbr "));
    }

    #[test]
    fn arguments_reach_perf() {
        let args = Args::new().with("frequency", 997i64).with("call_graph", "dwarf").with("cpus", "0-1");
        let line = line(&args.with("events", "context-switches"), &test_facts(MODERN));
        assert!(line.starts_with("perf record -C 0-1 --call-graph dwarf -F 997 -e context-switches "), "{line}");
    }

    #[test]
    fn it_is_armed_by_fifos_and_may_take_a_minute_to_end() {
        let invocation = encoded(&Args::new(), &test_facts(MODERN)).unwrap();
        let arm = invocation.start.unwrap().arm.unwrap();
        assert_eq!((arm.control.as_str(), arm.ack.as_str()), ("perf.control", "perf.ack"));
        assert_eq!(
            (arm.probe.as_deref(), arm.enable.as_str(), arm.answer.as_str()),
            (Some("disable"), "enable", "ack")
        );
        assert_eq!(arm.flush.unwrap().command, "ping");
        assert_eq!(invocation.stop, Stop { signal: StopSignal::Interrupt, grace_ms: 60_000 });
        assert_eq!(invocation.report[0].timeout_ms, 120_000);
    }

    #[test]
    fn what_takes_root_is_run_by_sudo_and_touches_no_path_of_the_users() {
        let mut facts = HostFacts { system_wide: false, sudo: true, uid: 1000, ..test_facts(MODERN) };
        for name in ["sed", "cat"] {
            facts.tools.insert(name.into(), Tool { path: format!("/bin/{name}"), ..Tool::default() });
        }
        let invocation = encoded(&Args::new().with("frequency", 49i64), &facts).unwrap();
        let commands: Vec<String> = invocation.root_commands().map(|argv| argv.join(" ")).collect();
        let record = "/usr/bin/perf record -a -g -F 49 -e cpu-clock -k CLOCK_MONOTONIC -N -o - -- /bin/sed -n d";
        assert_eq!(commands, [record, "/bin/cat /proc/kallsyms"]);
        let start = invocation.start.unwrap();
        assert_eq!((start.stdout.as_deref(), start.workload.as_deref()), (Some("perf.data"), Some("sed")));
        assert!(start.arm.is_none());
        let report = &invocation.report[1];
        assert_eq!(report.argv[..4], ["perf", "report", "-i", "perf.data"], "the user's own file is read by the user");
        assert_eq!(invocation.report.last().unwrap().argv, ["rm", "kallsyms"]);
    }

    #[test]
    fn a_user_whom_the_kernel_hides_its_functions_from_is_told() {
        let hidden = HostFacts { kernel_symbols: false, ..test_facts(MODERN) };
        assert_eq!(encoded(&Args::new(), &hidden).unwrap().notes.len(), 1);
        assert!(encoded(&Args::new(), &test_facts(MODERN)).unwrap().notes.is_empty());
    }

    #[test]
    fn old_versions_are_given_only_what_they_know() {
        let invocation = encoded(&Args::new(), &test_facts("perf version 5.4.0")).unwrap();
        let start = invocation.start.unwrap();
        assert!(start.arm.is_none() && !start.argv.contains(&"--control".to_owned()));
        let invocation = encoded(&Args::new(), &test_facts("perf version 3.10.0")).unwrap();
        assert_eq!(invocation.start.unwrap().argv.join(" "), "perf record -a -g -F 99 -e cpu-clock -N -o perf.data");
        assert!(invocation.report.is_empty());
    }

    #[test]
    fn what_needs_counters_is_refused_where_there_are_none() {
        for args in [Args::new().with("events", "cycles:u"), Args::new().with("call_graph", "lbr")] {
            assert_eq!(encoded(&args, &test_facts(MODERN)).unwrap_err().kind, ArgErrorKind::Unsupported);
        }
    }
}
