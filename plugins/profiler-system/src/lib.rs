//! What the machine itself has to say: dmesg, journal, sysinfo (what it is, before and after), numastat, turbostat,
//! nvidia-smi, inotify, powertop, kvm_stat.
#![forbid(unsafe_code)]

mod dmesg;
mod inotify;
mod journal;
mod kvm_stat;
mod numastat;
mod nvidia;
mod powertop;
mod sysinfo;
mod turbostat;

use autoprof_plugin::prelude::*;

pub use dmesg::{DMESG, Dmesg};
pub use inotify::{INOTIFY, Inotify};
pub use journal::{JOURNAL, Journal};
pub use kvm_stat::{KVM_STAT, KvmStat};
pub use numastat::{NUMASTAT, Numastat};
pub use nvidia::{NVIDIA_SMI, NvidiaSmi};
pub use powertop::{POWERTOP, Powertop};
pub use sysinfo::{SYSINFO, Sysinfo};
pub use turbostat::{TURBOSTAT, Turbostat};

/// Adds the encoders of dmesg, journal, sysinfo, numastat, turbostat, nvidia-smi, inotify, powertop and kvm_stat.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Dmesg))?;
    registry.add_encoder(Arc::new(Journal))?;
    registry.add_encoder(Arc::new(Sysinfo))?;
    registry.add_encoder(Arc::new(Numastat))?;
    registry.add_encoder(Arc::new(Turbostat))?;
    registry.add_encoder(Arc::new(NvidiaSmi))?;
    registry.add_encoder(Arc::new(Inotify))?;
    registry.add_encoder(Arc::new(Powertop))?;
    registry.add_encoder(Arc::new(KvmStat))
}

export_plugin!(
    register,
    profilers = [DMESG, JOURNAL, SYSINFO, NUMASTAT, TURBOSTAT, NVIDIA_SMI, INOTIFY, POWERTOP, KVM_STAT]
);

fn text(file: &str, required: bool) -> Output {
    Output { file: file.to_owned(), format: OutputFormat::Text, required }
}

/// Time between rows.
const fn interval(default: &'static str) -> Param {
    Param::new("interval", ParamType::Integer, "time between rows").default(default).unit("s").range("1..3600")
}

#[cfg(test)]
pub(crate) mod tests {
    use autoprof_plugin::testing;

    use super::*;

    /// A host with these tools.
    pub fn facts(tools: &[&str]) -> HostFacts {
        testing::host_with(tools, "2.38.1")
    }

    /// What a converter makes of files with the profiler's defaults.
    pub fn converted(
        encoder: &dyn ArgEncoder,
        files: &[(&str, &[u8])],
        window: (i64, i64),
        table: &str,
    ) -> (Result<Vec<Table>, ConvertError>, String) {
        testing::converted(encoder, &Args::new(), files, window, table)
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
