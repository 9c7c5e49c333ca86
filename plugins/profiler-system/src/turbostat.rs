//! turbostat: frequency, idle states and power of the CPUs.
use autoprof_plugin::{
    convert::{Lines, TableWriter, TimeAxis, any_quantity, nanoseconds, open},
    installed, only_root,
    prelude::*,
    words,
};

use crate::{interval, text};

const OUTPUT: &str = "turbostat.txt";

const PARAMS: &[Param] = &[interval("1")];

/// turbostat's names and ours.
const COLUMNS: &[(&str, &str)] = &[
    ("Avg_MHz", "average_mhz"),
    ("Busy%", "busy_percent"),
    ("Bzy_MHz", "busy_mhz"),
    ("TSC_MHz", "tsc_mhz"),
    ("IPC", "instructions_per_cycle"),
    ("IRQ", "interrupts"),
    ("CPU%c1", "c1_percent"),
    ("CPU%c6", "c6_percent"),
    ("CPU%c7", "c7_percent"),
    ("Pkg%pc2", "package_c2_percent"),
    ("Pkg%pc6", "package_c6_percent"),
    ("CoreTmp", "core_celsius"),
    ("PkgTmp", "package_celsius"),
    ("PkgWatt", "package_watts"),
    ("CorWatt", "cores_watts"),
    ("GFXWatt", "graphics_watts"),
    ("RAMWatt", "memory_watts"),
];

/// turbostat as users know it.
pub const TURBOSTAT: ProfilerInfo = ProfilerInfo::new("turbostat", "frequency, idle states and power of the CPUs")
    .params(PARAMS)
    .tools("turbostat:--version=turbostat_version_#")
    .example("turbostat --quiet --Summary --enable Time_Of_Day_Seconds --interval 1");

/// Runs turbostat and makes a table of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turbostat;

impl ArgEncoder for Turbostat {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = TURBOSTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "turbostat", "linux-cpupower (Debian), kernel-tools (Fedora)")?;
        if facts.arch != "x86_64" {
            let message = format!("turbostat reads registers of x86 CPUs; this host is {}", facts.arch);
            return Err(ArgError::new(ArgErrorKind::Unsupported, message));
        }
        only_root(facts, "turbostat", "it reads /dev/cpu/*/msr")?;
        let seconds = args.integer("interval").unwrap_or(1).to_string();
        let argv = ["turbostat", "--quiet", "--Summary", "--enable", "Time_Of_Day_Seconds", "--interval", &seconds];
        Ok(Invocation {
            start: Some(Start { argv: words(&argv), stdout: Some(OUTPUT.to_owned()), ..Start::default() }),
            outputs: vec![text(OUTPUT, true)],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let names: Vec<&str> = COLUMNS.iter().map(|(_, name)| *name).collect();
        let mut table =
            TableWriter::create(raw, "turbostat.csv", interval, &names)?.limit("interrupts", any_quantity());
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut axis = TimeAxis::new(raw, interval);
        let mut places: Option<(usize, Vec<Option<usize>>)> = None;
        while let Some(line) = lines.next_text()? {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let Some(time) = fields.iter().position(|field| *field == "Time_Of_Day_Seconds") {
                let place = |(theirs, _): &(&str, &str)| fields.iter().position(|field| field == theirs);
                places = Some((time, COLUMNS.iter().map(place).collect()));
                continue;
            }
            let Some((time, columns)) = &places else { continue };
            let Some(at) = fields.get(*time).and_then(|text| text.parse::<f64>().ok()) else { continue };
            let cell = |place: &Option<usize>| place.and_then(|at| fields.get(at)).copied().unwrap_or("");
            table.row(axis.place_exact(nanoseconds(at)), columns.iter().map(cell))?;
        }
        table.account_for(&lines);
        Ok(vec![table.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};

    // As turbostat(8) of Linux 6.1 shows it, with the columns that its `--Summary` has on a server.
    const TEXT: &str = "\
Time_Of_Day_Seconds\tAvg_MHz\tBusy%\tBzy_MHz\tTSC_MHz\tIPC\tIRQ\tCPU%c1\tCPU%c6\tCoreTmp\tPkgTmp\tPkgWatt\tRAMWatt
1000.500000\t23\t0.96\t2391\t2494\t0.61\t1021\t3.10\t95.94\t41\t43\t56.12\t9.80
1001.500000\t2400\t99.90\t2402\t2494\t1.90\t900\t0.10\t0.00\t61\t63\t156.00\t19.80
";

    #[test]
    fn columns_are_found_by_their_names() {
        let (tables, csv) = converted(&Turbostat, &[(OUTPUT, TEXT.as_bytes())], (999, 5), "turbostat.csv");
        assert_eq!(tables.unwrap()[0].rows, 2);
        assert_eq!(
            csv.lines().nth(2),
            Some("1001.500000,2400,99.90,2402,2494,1.90,900,0.10,0.00,,,,61,63,156.00,,,19.80")
        );
    }

    #[test]
    fn where_it_cannot_run_the_reason_is_said() {
        let mut host = facts(&["turbostat"]);
        host.arch = "aarch64".into();
        assert!(Turbostat.encode(&Args::new(), &host).unwrap_err().message.contains("aarch64"));
        host.arch = "x86_64".into();
        host.uid = 1000;
        assert!(Turbostat.encode(&Args::new(), &host).unwrap_err().message.contains("root"));
        host.uid = 0;
        assert!(Turbostat.encode(&Args::new(), &host).is_ok());
    }
}
