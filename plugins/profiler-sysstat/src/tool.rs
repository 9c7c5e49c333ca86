//! What the encoders of sysstat have in common.
use autoprof_plugin::{core::protocol::Tool, prelude::*};

/// The one parameter that they all have.
pub const fn interval(default: &'static str) -> Param {
    Param::new("interval", ParamType::Integer, "time between rows").default(default).unit("s").range("1..3600")
}

/// The tool on the host.
pub fn installed<'a>(facts: &'a HostFacts, name: &str) -> Result<&'a Tool, ArgError> {
    autoprof_plugin::installed(facts, name, "sysstat (Debian, Fedora)")
}

/// The oldest sysstat that is supported: its stable series has iostat and mpstat with `-o JSON` and pidstat with `-H`,
/// which came in the development series 11.5.
const OLDEST: &[u32] = &[11, 6];

/// The tool on the host, if it is new enough. A tool that did not tell its version is tried.
pub fn recent<'a>(facts: &'a HostFacts, name: &str) -> Result<&'a Tool, ArgError> {
    let tool = installed(facts, name)?;
    autoprof_plugin::at_least(tool, OLDEST, name, "sysstat")?;
    Ok(tool)
}

/// Starts a tool that ends well on `SIGINT`.
///
/// sysstat installs a handler for it (12.6.1), which closes the JSON; a `SIGTERM` leaves it cut before 12.7.8.
pub fn invocation(argv: &[&str], interval: i64, stdout: Option<&str>, output: Output) -> Invocation {
    let argv = argv.iter().map(|word| (*word).to_owned()).chain([interval.to_string()]).collect();
    // Dates are as ISO 8601 has them, whatever the host's settings are.
    let env = [("S_TIME_FORMAT".to_owned(), "ISO".to_owned())].into();
    Invocation {
        start: Some(Start { argv, env, stdout: stdout.map(str::to_owned), samples: true, ..Start::default() }),
        outputs: vec![output],
        restart_after_reboot: true,
        ..Invocation::default()
    }
}

/// A file that the profiler has failed without.
pub fn required(file: &str, format: OutputFormat) -> Output {
    Output { file: file.to_owned(), format, required: true }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Facts of a host with all of sysstat in one version.
    pub fn facts(version: &str) -> HostFacts {
        let mut facts = HostFacts::default();
        for name in ["iostat", "mpstat", "sar", "sadf", "pidstat"] {
            let tool = Tool { path: format!("/usr/bin/{name}"), version: version.into(), ..Tool::default() };
            facts.tools.insert(name.into(), tool);
        }
        facts
    }

    /// The raw results of a run of these nanoseconds, in a directory with one file.
    pub fn raw(
        encoder: &dyn ArgEncoder,
        file: &str,
        content: &[u8],
        (began_unix_ns, ended_unix_ns): (i64, i64),
    ) -> (tempfile::TempDir, RawResults) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(file), content).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new().complete(encoder.profiler()).unwrap(),
            began_unix_ns,
            ended_unix_ns,
            facts: facts("sysstat version 12.6.1"),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        (directory, raw)
    }

    /// The invocation with these arguments on a host with sysstat 12.6.1.
    pub fn encoded(encoder: &dyn ArgEncoder, args: &Args) -> Invocation {
        let args = args.complete(encoder.profiler()).unwrap();
        encoder.encode(&args, &facts("sysstat version 12.6.1")).unwrap()
    }

    #[test]
    fn a_tool_that_is_absent_is_missing_and_its_package_is_named() {
        let error = installed(&HostFacts::default(), "iostat").unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ArgErrorKind::Missing, "iostat is not installed"));
        assert!(error.hint.unwrap().contains("sysstat"));
    }

    #[test]
    fn a_tool_that_is_too_old_is_named_with_its_version() {
        let error = recent(&facts("sysstat version 10.1.5"), "iostat").unwrap_err();
        assert_eq!(error.kind, ArgErrorKind::Unsupported);
        assert_eq!(error.message, "iostat of sysstat 10.1.5 is older than 11.6");
        assert!(recent(&facts("sysstat version 11.7.3"), "iostat").is_ok());
        assert!(recent(&facts(""), "iostat").is_ok());
    }
}
