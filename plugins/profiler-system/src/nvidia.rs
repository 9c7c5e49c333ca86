//! nvidia-smi: use, memory, power and temperature of NVIDIA's GPUs.
use autoprof_plugin::{
    convert::{Lines, TableWriter, TimeAxis, nanoseconds, open, utc_date_time},
    installed,
    prelude::*,
    words,
};

const OUTPUT: &str = "nvidia-smi.csv";
const TABLE: &str = "gpu.csv";

const PARAMS: &[Param] =
    &[Param::new("interval", ParamType::Integer, "time between rows").default("1000").unit("ms").range("20..3600000")];

/// What it is asked for, and our names.
const COLUMNS: &[(&str, &str)] = &[
    ("utilization.gpu", "busy_percent"),
    ("utilization.memory", "memory_busy_percent"),
    ("memory.used", "memory_used_kib"),
    ("power.draw", "power_watts"),
    ("temperature.gpu", "temperature_celsius"),
    ("clocks.sm", "clock_mhz"),
];

/// nvidia-smi as users know it.
pub const NVIDIA_SMI: ProfilerInfo =
    ProfilerInfo::new("nvidia-smi", "use, memory, power and temperature of NVIDIA's GPUs")
        .params(PARAMS)
        .tools("nvidia-smi:-h=NVIDIA_System_Management_Interface")
        .example("nvidia-smi --query-gpu=timestamp,index,utilization.gpu,… --format=csv,nounits -lms 1000");

/// Runs nvidia-smi and makes a table of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct NvidiaSmi;

impl ArgEncoder for NvidiaSmi {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = NVIDIA_SMI;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "nvidia-smi", "NVIDIA's driver")?;
        let asked: Vec<&str> = COLUMNS.iter().map(|(theirs, _)| *theirs).collect();
        let query = format!("--query-gpu=timestamp,index,{}", asked.join(","));
        let every = args.integer("interval").unwrap_or(1000).to_string();
        let argv = words(&["nvidia-smi", &query, "--format=csv,nounits", "-lms", &every]);
        Ok(Invocation {
            start: Some(Start { argv, stdout: Some(OUTPUT.to_owned()), ..Start::default() }),
            stop: Stop { signal: StopSignal::Terminate, ..Stop::default() },
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Csv, required: true }],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1000.0) / 1000.0;
        let columns: Vec<&str> = std::iter::once("gpu").chain(COLUMNS.iter().map(|(_, name)| *name)).collect();
        let mut table = TableWriter::create(raw, TABLE, interval, &columns)?;
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut axis = TimeAxis::new(raw, interval);
        let (mut last, mut unread) = (None, 0u64);
        while let Some(line) = lines.next_text()? {
            // No value has a comma in it. The first line has the names.
            let fields: Vec<&str> = line.split(", ").map(str::trim).collect();
            let [time, index, values @ ..] = fields.as_slice() else { continue };
            let Some(printed) = instant(time) else {
                unread += u64::from(*time != "timestamp");
                continue;
            };
            // A line for each GPU, at nearly one time.
            let at = match last {
                Some((first, at)) if printed.saturating_sub(first).abs() < nanoseconds(interval) / 2 => {
                    at + (printed - first)
                }
                _ => {
                    let at = axis.place_exact(printed);
                    last = Some((printed, at));
                    at
                }
            };
            if values.len() != COLUMNS.len() {
                table.warn("lines that are not rows of nvidia-smi were left out");
                continue;
            }
            let cell = |(value, (theirs, _)): (&&str, &(&str, &str))| match value.parse::<f64>() {
                // It prints MiB.
                Ok(mib) if *theirs == "memory.used" => format!("{:.0}", mib * 1024.0),
                Ok(_) => (*value).to_owned(),
                // `[N/A]`, `[Not Supported]`
                Err(_) if value.starts_with('[') => String::new(),
                Err(_) => (*value).to_owned(),
            };
            let cells = values.iter().zip(COLUMNS).map(cell);
            table.row(at, std::iter::once((*index).to_owned()).chain(cells))?;
        }
        table.account_for(&lines);
        if unread > 0 {
            table.warn(format!("{unread} lines without a time were left out"));
        }
        Ok(vec![table.finish()?])
    }
}

/// `2026/11/26 14:02:03.456`, in UTC since the client sets `TZ`.
fn instant(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    let milliseconds: i64 = fraction.parse().ok().filter(|_| fraction.len() == 3)?;
    utc_date_time(&whole.replace('/', "-"))?.checked_mul(1_000_000_000)?.checked_add(milliseconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::converted;
    use proptest::prelude::*;

    // The form that NVIDIA's documentation of `--query-gpu` and `--format=csv,nounits` gives.
    const TEXT: &str = "\
timestamp, index, utilization.gpu [%], utilization.memory [%], memory.used [MiB], power.draw [W], temperature.gpu, clocks.current.sm [MHz]
2026/11/26 14:02:03.456, 0, 87, 40, 1024, 250.31, 65, 1410
2026/11/26 14:02:03.457, 1, [N/A], 0, 4, 50.00, 30, 210
";

    #[test]
    fn each_gpu_has_a_row() {
        let (tables, csv) = converted(&NvidiaSmi, &[(OUTPUT, TEXT.as_bytes())], (1_795_701_720, 10), TABLE);
        assert_eq!(tables.unwrap()[0].rows, 2, "{csv}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows,
            ["1795701723.456000,0,87,40,1048576,250.31,65,1410", "1795701723.457000,1,,0,4096,50.00,30,210"]
        );
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&NvidiaSmi, &[(OUTPUT, &bytes)], (1_795_701_720, 10), TABLE);
        }
    }
}
