//! `perf c2c`: which cache lines CPUs took from each other.
use autoprof_plugin::{
    convert::{Lines, TableWriter, open},
    prelude::*,
};

use crate::subcommand::{SIZE, ended_early, failed, invocation, perf};

const DATA: &str = "perf.c2c.data";
const OUTPUT: &str = "perf.c2c.txt";

const PARAMS: &[Param] = &[SIZE];

/// perf-c2c as users know it.
pub const PERF_C2C: ProfilerInfo =
    ProfilerInfo::new("perf-c2c", "cache lines that CPUs took from each other: false sharing")
        .params(PARAMS)
        .tools("perf:--version=perf_version_#")
        .example("perf c2c record -a -o perf.c2c.data");

/// Runs `perf c2c record`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerfC2c;

impl ArgEncoder for PerfC2c {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = PERF_C2C;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        perf(facts, &[5, 5], "perf c2c with a bounded file")?;
        if !facts.hardware_counters {
            let message = "perf c2c needs the CPU's samples of loads and stores, which this host does not give";
            return Err(ArgError::new(ArgErrorKind::Unsupported, message).with_hint("run it on a machine's own kernel"));
        }
        let report = format!("perf c2c report -i {DATA} --stdio --stats");
        let lines = format!("perf c2c report -i {DATA} --stdio");
        Ok(invocation("c2c", DATA, args, &[(report, OUTPUT), (lines, "perf.c2c.lines.txt")]))
    }

    /// The counts of the first part, `Load Local HITM : 1234`; the lines themselves are for reading.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut table = TableWriter::events(raw, "c2c.csv", &["kind", "count"])?;
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        while let Some(line) = lines.next_text()? {
            let Some((name, count)) = line.split_once(" : ") else { continue };
            if let Ok(count) = count.trim().parse::<u64>() {
                table.row(raw.ended_unix_ns, [name.trim().to_owned(), count.to_string()])?;
            }
        }
        ended_early(raw)?.into_iter().for_each(|warning| table.warn(warning));
        failed(raw)?.into_iter().for_each(|reason| table.incomplete(reason));
        lines.warnings().for_each(|warning| table.warn(warning));
        Ok(vec![table.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::testing::{converted, host_with};

    // As perf-c2c(1) and the kernel's documentation of it print it.
    const TEXT: &str = "\
=================================================
            Trace Event Information
=================================================
  Total records                     :     329219
  Locked Load/Store Operations      :      14654
  Load Local HITM                   :        121
  Load access blocked by data       :       0.5%
";

    #[test]
    fn counts_are_rows() {
        let files: [(&str, &[u8]); 1] = [(OUTPUT, TEXT.as_bytes())];
        let (tables, csv) = converted(&PerfC2c, &Args::new(), &files, (10, 5), "c2c.csv");
        assert_eq!(tables.unwrap()[0].rows, 3, "{csv}");
        assert_eq!(csv.lines().nth(3), Some("15.000000,Load Local HITM,121"));
    }

    #[test]
    fn a_host_without_counters_is_refused() {
        let facts = host_with(&["perf"], "perf version 6.1");
        let error = PerfC2c.encode(&Args::new().complete(&PERF_C2C).unwrap(), &facts).unwrap_err();
        assert_eq!(error.kind, ArgErrorKind::Unsupported);
    }
}
