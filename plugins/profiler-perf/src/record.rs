//! `perf record`: what the host's CPUs were doing, as stacks.
use autoprof_plugin::prelude::*;

use crate::{
    events::{cpus, given, needs_hardware, system_wide},
    folded,
};

const DATA: &str = "perf.data";
const CONTROL: &str = "perf.control";
const ACK: &str = "perf.ack";

const PARAMS: &[Param] = &[
    Param::new("frequency", ParamType::Integer, "samples per second and CPU")
        .default("99")
        .unit("Hz")
        .range("1..20000"),
    Param::new("events", ParamType::Strings, "what to sample on; cycles, or cpu-clock where those cannot be counted"),
    Param::new("call_graph", ParamType::String, "how stacks are found").default("fp").range("fp|dwarf|lbr|none"),
    Param::new("cpus", ParamType::String, "only these CPUs, such as 0-3,8; all of them by default"),
];

/// perf as users know it.
pub const PERF: ProfilerInfo = ProfilerInfo::new("perf", "profile of the whole host: which code the CPUs are in")
    .params(PARAMS)
    .tools("perf:--version")
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
        let perf = system_wide(facts)?;
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
            // The clock of most other tracers. With --buildid-all perf does not read its whole file again at the end.
            argv.extend(["-k", "CLOCK_MONOTONIC", "--buildid-all"].map(Into::into));
        }
        // Without this perf copies the host's programs to ~/.debug, and leaves them there.
        argv.push("-N".to_owned());
        // Measured with perf 6.1 and FIFOs that the supervisor holds open for both directions: it answers to "enable"
        // after 0.3 to 0.4 ms. `fifo:` is there since 5.10.
        let arm = perf.is_at_least(&[5, 10]).then(|| Arm {
            control: CONTROL.to_owned(),
            ack: ACK.to_owned(),
            enable: "enable".to_owned(),
            answer: "ack".to_owned(),
        });
        if arm.is_some() {
            argv.extend(["-D", "-1", "--control"].map(Into::into));
            argv.push(format!("fifo:{CONTROL},{ACK}"));
        }
        argv.extend(["-o", DATA].map(Into::into));
        let mut outputs = vec![Output { file: DATA.to_owned(), format: OutputFormat::Raw, required: true }];
        let mut report = Vec::new();
        if let Some(argv) = folded::command(facts, call_graph) {
            report.push(Report { argv, stdout: Some(folded::OUTPUT.to_owned()), timeout_ms: 120_000 });
            outputs.push(Output { file: folded::OUTPUT.to_owned(), format: OutputFormat::Text, required: false });
        }
        Ok(Invocation {
            start: Some(Start { argv, arm, ..Start::default() }),
            // 0.7 s on two idle CPUs, far more on a large host; a file whose end was not written is lost.
            stop: Stop { signal: StopSignal::Interrupt, grace_ms: 60_000 },
            report,
            outputs,
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        if folded::command(&raw.facts, "fp").is_none() {
            return Ok(Vec::new());
        }
        folded::convert(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::test_facts;

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
        assert_eq!((arm.enable.as_str(), arm.answer.as_str()), ("enable", "ack"));
        assert_eq!(invocation.stop, Stop { signal: StopSignal::Interrupt, grace_ms: 60_000 });
        assert_eq!(invocation.report[0].timeout_ms, 120_000);
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
