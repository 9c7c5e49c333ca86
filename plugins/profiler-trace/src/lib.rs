//! Tracers: strace (system calls), tcpdump (packets), bpftrace (bundled scripts, or one's own).
#![forbid(unsafe_code)]

mod bpftrace;
mod strace;
mod tcpdump;

use autoprof_plugin::{core::protocol::Tool, prelude::*};

pub use bpftrace::{BPFTRACE, Bpftrace};
pub use strace::{STRACE, Strace};
pub use tcpdump::{TCPDUMP, Tcpdump};

/// Adds the encoders of strace, tcpdump and bpftrace.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Strace))?;
    registry.add_encoder(Arc::new(Tcpdump))?;
    registry.add_encoder(Arc::new(Bpftrace))
}

export_plugin!(register, profilers = [STRACE, TCPDUMP, BPFTRACE]);

/// The tool on the host, or which package has it.
fn installed<'a>(facts: &'a HostFacts, name: &str) -> Result<&'a Tool, ArgError> {
    facts.tools.get(name).ok_or_else(|| {
        ArgError::new(ArgErrorKind::Missing, format!("{name} is not installed"))
            .with_hint(format!("install {name} (Debian, Fedora)"))
    })
}

/// That only root can run it there.
fn only_root(facts: &HostFacts, name: &str, why: &str) -> Result<(), ArgError> {
    if facts.uid == 0 {
        return Ok(());
    }
    let error = ArgError::new(ArgErrorKind::Unsupported, format!("{name} needs root: {why}"));
    Err(error.with_hint("log in to the host as root"))
}

/// A tracer has to let go of what it traces, which takes its time on a busy host.
const STOP: Stop = Stop { signal: StopSignal::Interrupt, grace_ms: 30_000 };

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with these tools, on which we are root.
    pub fn facts(tools: &[&str]) -> HostFacts {
        let mut facts = HostFacts::default();
        for name in tools {
            let tool = Tool { path: format!("/usr/bin/{name}"), version: "0.17.0".into(), ..Tool::default() };
            facts.tools.insert((*name).into(), tool);
        }
        facts
    }

    /// What a converter makes of files, for a window of `seconds` from `began` (seconds since 1970).
    pub fn converted(
        encoder: &dyn ArgEncoder,
        args: &Args,
        files: &[(&str, &[u8])],
        (began, seconds): (i64, i64),
        table: &str,
    ) -> (Result<Vec<Table>, ConvertError>, String) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: args.complete(encoder.profiler()).unwrap(),
            began_unix_ns: began * 1_000_000_000,
            ended_unix_ns: (began + seconds) * 1_000_000_000,
            facts: facts(&[]),
            clock_steps: Vec::new(),
        };
        let tables = encoder.convert(&raw);
        (tables, std::fs::read_to_string(raw.file(table)).unwrap_or_default())
    }
}
