//! The kernel's own counters in `/proc`, read by the client itself: needs no tool and no rights, and goes down to
//! intervals of a hundredth of a second; and any other files, copied the same way (cat).
#![forbid(unsafe_code)]

mod cat;
mod convert;
mod counters;
mod samples;
mod tables;

use autoprof_plugin::prelude::*;

pub use cat::{CAT, Cat};

/// The raw file.
const OUTPUT: &str = "samples.txt";

const FILES: &[&str] =
    &["/proc/stat", "/proc/meminfo", "/proc/diskstats", "/proc/net/dev", "/proc/loadavg", "/proc/vmstat"];
const PRESSURE: &[&str] = &["/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"];

const PARAMS: &[Param] =
    &[Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.01..3600")];

/// proc as users know it.
pub const PROC: ProfilerInfo =
    ProfilerInfo::new("proc", "CPUs, memory, disks, network, pressure and load, without any tool")
        .params(PARAMS)
        .example("cat /proc/stat /proc/meminfo /proc/diskstats /proc/net/dev /proc/loadavg /proc/vmstat")
        .tables(tables::TABLES);

/// Adds the encoders of proc and cat.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Proc))?;
    registry.add_encoder(Arc::new(Cat))
}

export_plugin!(register, profilers = [PROC, CAT]);

/// Has the client read `/proc` and makes tables of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proc;

impl ArgEncoder for Proc {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = PROC;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let every_ms = every_ms(args);
        let files = files(facts).map(str::to_owned).collect();
        Ok(Invocation {
            samples: Some(Samples { every_ms, files, output: OUTPUT.to_owned() }),
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Text, required: true }],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        convert::convert(raw)
    }
}

/// The interval in milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
fn every_ms(args: &Args) -> u64 {
    (args.number("interval").unwrap_or(1.0) * 1000.0).round().max(1.0) as u64
}

/// The files that are read on a host.
fn files(facts: &HostFacts) -> impl Iterator<Item = &'static str> + use<> {
    let pressure = if facts.pressure { PRESSURE } else { &[] };
    FILES.iter().chain(pressure).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(interval: f64, facts: &HostFacts) -> Samples {
        let args = Args::new().with("interval", interval).complete(&PROC).unwrap();
        Proc.encode(&args, facts).unwrap().samples.unwrap()
    }

    #[test]
    fn the_client_reads_the_files_itself() {
        let samples = samples(0.01, &HostFacts::default());
        assert_eq!((samples.every_ms, samples.output.as_str()), (10, "samples.txt"));
        assert_eq!(samples.files, FILES);
    }

    #[test]
    fn pressure_is_read_where_the_kernel_has_it() {
        let facts = HostFacts { pressure: true, ..HostFacts::default() };
        assert_eq!(samples(1.0, &facts).files[6..], *PRESSURE);
    }

    #[test]
    fn it_runs_on_every_host() {
        let args = Args::new().complete(&PROC).unwrap();
        let invocation = Proc.encode(&args, &HostFacts::default()).unwrap();
        assert!(invocation.start.is_none() && invocation.report.is_empty());
    }
}

#[cfg(test)]
mod kept {
    use autoprof_plugin::{conformance, core::Registry};

    #[test]
    fn encoders_and_converters_keep_what_they_have_to() {
        let mut registry = Registry::default();
        super::register(&mut registry).unwrap();
        for (name, encoder) in registry.encoders() {
            assert_eq!(conformance::failures(&conformance::check(&**encoder)), Vec::<String>::new(), "{name}");
        }
    }
}
