//! free: memory and swap over time, as procps prints them.
#![forbid(unsafe_code)]
use autoprof_plugin::{
    convert::{Lines, TableWriter, nanoseconds, open},
    prelude::*,
};

const PARAMS: &[Param] =
    &[Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..3600")];

const MEASURES: &[Measure] = &[
    Measure::new("memory.total", "1024 * total_kib"),
    Measure::new("memory.available", "1024 * available_kib"),
    Measure::new("memory.used", "1024 * (total_kib - available_kib)"),
    Measure::new("memory.utilization", "100 * (1 - available_kib / total_kib)"),
];
const TABLES: &[TableInfo] = &[TableInfo::new("free.csv").measures(MEASURES)];

#[derive(Default)]
struct Free;

impl Profiler for Free {
    const INFO: ProfilerInfo = ProfilerInfo::new("free", "memory and swap over time")
        .params(PARAMS)
        .tools("free:-V")
        .example("free -w -k -s 1")
        .tables(TABLES);

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        if !facts.tools.contains_key("free") {
            return Err(ArgError::new(ArgErrorKind::Missing, "free is not installed").with_hint("install procps"));
        }
        let free = tool(["free", "-w", "-k", "-s"]).arg(args.number("interval").unwrap_or(1.0));
        Ok(free.stdout("free.txt").stopped_by(StopSignal::Terminate).restarts())
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let columns = ["total_kib", "free_kib", "available_kib"];
        let mut table = TableWriter::create(raw, "free.csv", interval, &columns)?;
        let mut lines = Lines::new(open(raw, "free.txt")?);
        // free prints no times: its rows are an interval apart.
        let mut at = raw.began_unix_ns;
        while let Some(line) = lines.next_text()? {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // `Mem: total used free shared buffers cache available`
            if let ["Mem:", total, _, free, _, _, _, available] = fields[..] {
                table.row(at, [total, free, available])?;
                at += nanoseconds(interval);
            }
        }
        lines.warnings().for_each(|warning| table.warn(warning));
        Ok(vec![table.finish()?])
    }
}

export_plugin!(profiler: Free);
