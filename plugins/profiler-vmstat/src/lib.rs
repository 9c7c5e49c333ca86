//! vmstat: run queue, memory, swap, block I/O, interrupts and CPU time of a whole host, as one time series.
#![forbid(unsafe_code)]

mod convert;
mod tables;

use autoprof_plugin::prelude::*;

/// The oldest procps that is supported: `-t` prints dates since then (its NEWS).
const OLDEST: &[u32] = &[3, 3, 10];

/// The raw file.
const OUTPUT: &str = "vmstat.txt";

const PARAMS: &[Param] =
    &[Param::new("interval", ParamType::Integer, "time between rows").default("1").unit("s").range("1..3600")];

/// vmstat as users know it.
pub const VMSTAT: ProfilerInfo =
    ProfilerInfo::new("vmstat", "run queue, memory, swap, block I/O, interrupts and CPU time")
        .params(PARAMS)
        .tools("vmstat:-V=vmstat_from_procps|procps_version_#")
        .example("vmstat -t -w -n -y 1")
        .tables(tables::TABLES);

/// Adds the encoder of vmstat.
///
/// # Errors
/// When there is a profiler of this name already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Vmstat))
}

export_plugin!(register, profilers = [VMSTAT]);

/// Runs vmstat and makes a table of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vmstat;

impl ArgEncoder for Vmstat {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = VMSTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let tool = autoprof_plugin::installed(facts, "vmstat", "procps (Debian) or procps-ng (Fedora)")?;
        if tool.version.as_untrusted_str().contains("BusyBox") {
            let error = ArgError::new(ArgErrorKind::Unsupported, "vmstat of BusyBox prints no times");
            return Err(error.with_hint("install procps there"));
        }
        autoprof_plugin::at_least(tool, OLDEST, "vmstat", "procps")?;
        let mut argv: Vec<String> = ["vmstat", "-t", "-w", "-n"].map(Into::into).to_vec();
        if omits_first(facts) {
            argv.push("-y".to_owned());
        }
        argv.push(args.integer("interval").unwrap_or(1).to_string());
        Ok(Invocation {
            start: Some(Start { argv, stdout: Some(OUTPUT.to_owned()), samples: true, ..Start::default() }),
            // procps 4.0.2 has no handler for SIGINT, so it keeps the disposition that it inherits; SIGTERM always
            // ends it, and each row is flushed as it is printed.
            stop: Stop { signal: StopSignal::Terminate, ..Stop::default() },
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Text, required: true }],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        convert::convert(raw)
    }
}

/// Whether this vmstat can leave out its first row, the averages since boot.
///
/// `-y` is there since procps 4.0.0 (its NEWS): the 3.3.17 of Debian 11 and Ubuntu 22.04 refuses it. Where it is not used
/// the converter drops the first row, so the two must agree.
fn omits_first(facts: &HostFacts) -> bool {
    facts.tools.get("vmstat").is_some_and(|tool| tool.is_at_least(&[4]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::core::protocol::Tool;

    pub(crate) fn facts(version: &str) -> HostFacts {
        let mut facts = HostFacts::default();
        facts.tools.insert(
            "vmstat".into(),
            Tool { path: "/usr/bin/vmstat".into(), version: version.into(), ..Tool::default() },
        );
        facts
    }

    fn argv(version: &str, args: &Args) -> Vec<String> {
        let args = args.complete(&VMSTAT).unwrap();
        Vmstat.encode(&args, &facts(version)).unwrap().start.unwrap().argv
    }

    #[test]
    fn a_row_each_second_without_the_one_since_boot() {
        assert_eq!(argv("vmstat from procps-ng 4.0.2", &Args::new()), ["vmstat", "-t", "-w", "-n", "-y", "1"]);
    }

    #[test]
    fn an_old_vmstat_is_not_asked_to_leave_out_its_first_row() {
        let args = Args::new().with("interval", 5i64);
        assert_eq!(argv("vmstat from procps-ng 3.3.17", &args), ["vmstat", "-t", "-w", "-n", "5"]);
    }

    #[test]
    fn it_is_stopped_by_the_signal_that_it_does_not_ignore() {
        let args = Args::new().complete(&VMSTAT).unwrap();
        let invocation = Vmstat.encode(&args, &facts("4.0.2")).unwrap();
        assert_eq!(invocation.stop.signal, StopSignal::Terminate);
        assert_eq!(invocation.start.unwrap().stdout.as_deref(), Some("vmstat.txt"));
        assert!(invocation.outputs[0].required);
    }

    #[test]
    fn a_vmstat_that_is_too_old_is_refused_by_name() {
        let refused = |version: &str| {
            let args = Args::new().complete(&VMSTAT).unwrap();
            Vmstat.encode(&args, &facts(version)).map_err(|e| (e.kind, e.message, e.hint.unwrap())).err()
        };
        let (kind, message, hint) = refused("vmstat from procps-ng 3.3.9").unwrap();
        assert_eq!(
            (kind, message.as_str()),
            (ArgErrorKind::Unsupported, "vmstat of procps 3.3.9 is older than 3.3.10")
        );
        assert_eq!(hint, "install procps 3.3.10 or newer");
        assert_eq!(refused("BusyBox v1.35.0 (Debian 1:1.35.0-4+b7)").unwrap().1, "vmstat of BusyBox prints no times");
        for version in ["vmstat from procps-ng 3.3.10", "vmstat from procps-ng 4.0.4", ""] {
            assert_eq!(refused(version), None, "{version}");
        }
    }

    #[test]
    fn without_vmstat_the_package_is_named() {
        let error = Vmstat.encode(&Args::new(), &HostFacts::default()).unwrap_err();
        assert_eq!(error.kind, ArgErrorKind::Missing);
        assert!(error.hint.unwrap().contains("procps"));
    }

    #[test]
    fn an_interval_out_of_range_is_refused() {
        for interval in [0i64, 3601] {
            assert!(Args::new().with("interval", interval).complete(&VMSTAT).is_err());
        }
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
