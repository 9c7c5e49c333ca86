//! What the machine itself has to say: dmesg, sysinfo (what it is, before and after), numastat, turbostat, nvidia-smi.
#![forbid(unsafe_code)]

mod dmesg;
mod numastat;
mod nvidia;
mod sysinfo;
mod turbostat;

use autoprof_plugin::{core::protocol::Tool, prelude::*};

pub use dmesg::{DMESG, Dmesg};
pub use numastat::{NUMASTAT, Numastat};
pub use nvidia::{NVIDIA_SMI, NvidiaSmi};
pub use sysinfo::{SYSINFO, Sysinfo};
pub use turbostat::{TURBOSTAT, Turbostat};

/// Adds the encoders of dmesg, sysinfo, numastat, turbostat and nvidia-smi.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Dmesg))?;
    registry.add_encoder(Arc::new(Sysinfo))?;
    registry.add_encoder(Arc::new(Numastat))?;
    registry.add_encoder(Arc::new(Turbostat))?;
    registry.add_encoder(Arc::new(NvidiaSmi))
}

export_plugin!(register, profilers = [DMESG, SYSINFO, NUMASTAT, TURBOSTAT, NVIDIA_SMI]);

/// The tool on the host, or which package has it.
fn installed<'a>(facts: &'a HostFacts, name: &str, package: &str) -> Result<&'a Tool, ArgError> {
    facts.tools.get(name).ok_or_else(|| {
        ArgError::new(ArgErrorKind::Missing, format!("{name} is not installed")).with_hint(format!("install {package}"))
    })
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

fn text(file: &str, required: bool) -> Output {
    Output { file: file.to_owned(), format: OutputFormat::Text, required }
}

/// Time between rows.
const fn interval(default: &'static str) -> Param {
    Param::new("interval", ParamType::Integer, "time between rows").default(default).unit("s").range("1..3600")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with these tools.
    pub fn facts(tools: &[&str]) -> HostFacts {
        let mut facts = HostFacts::default();
        for name in tools {
            let tool = Tool { path: format!("/usr/bin/{name}"), version: "2.38.1".into(), ..Tool::default() };
            facts.tools.insert((*name).into(), tool);
        }
        facts
    }

    /// What a converter makes of a file, for a window of `seconds` from `began` (seconds since 1970).
    pub fn converted(
        encoder: &dyn ArgEncoder,
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
            args: Args::new().complete(encoder.profiler()).unwrap(),
            began_unix_ns: began * 1_000_000_000,
            ended_unix_ns: (began + seconds) * 1_000_000_000,
            facts: facts(&[]),
            clock_steps: Vec::new(),
        };
        let tables = encoder.convert(&raw);
        (tables, std::fs::read_to_string(raw.file(table)).unwrap_or_default())
    }
}
