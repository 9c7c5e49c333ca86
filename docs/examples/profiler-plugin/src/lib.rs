//! free: memory and swap over time, as procps prints them.
#![forbid(unsafe_code)]
use autoprof_plugin::prelude::*;

const PARAMS: &[Param] =
    &[Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..3600")];

#[derive(Default)]
struct Free;

impl Profiler for Free {
    const INFO: ProfilerInfo = ProfilerInfo::new("free", "memory and swap over time")
        .params(PARAMS)
        .tools("free:-V")
        .example("free -w -k -s 1");

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        if !facts.tools.contains_key("free") {
            return Err(ArgError::new(ArgErrorKind::Missing, "free is not installed").with_hint("install procps"));
        }
        let free = tool(["free", "-w", "-k", "-s"]).arg(args.number("interval").unwrap_or(1.0));
        Ok(free.stdout("free.txt").stopped_by(StopSignal::Terminate).restarts())
    }
}

export_plugin!(profiler: Free);
