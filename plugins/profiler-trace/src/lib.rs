//! Tracers: strace (system calls), tcpdump (packets), bpftrace (bundled scripts, or one's own),
//! trace-cmd (the kernel's events), blktrace (requests to block devices).
#![forbid(unsafe_code)]

mod blktrace;
mod bpftrace;
mod strace;
mod tcpdump;
mod trace_cmd;

use autoprof_plugin::{core::protocol::Tool, only_root, prelude::*};

pub use blktrace::{BLKTRACE, Blktrace};
pub use bpftrace::{BPFTRACE, Bpftrace};
pub use strace::{STRACE, Strace};
pub use tcpdump::{TCPDUMP, Tcpdump};
pub use trace_cmd::{TRACE_CMD, TraceCmd};

/// Adds the encoders of strace, tcpdump, bpftrace, trace-cmd and blktrace.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Strace))?;
    registry.add_encoder(Arc::new(Tcpdump))?;
    registry.add_encoder(Arc::new(Bpftrace))?;
    registry.add_encoder(Arc::new(TraceCmd))?;
    registry.add_encoder(Arc::new(Blktrace))
}

export_plugin!(register, profilers = [STRACE, TCPDUMP, BPFTRACE, TRACE_CMD, BLKTRACE]);

/// The tool on the host, or which package has it.
fn installed<'a>(facts: &'a HostFacts, name: &str) -> Result<&'a Tool, ArgError> {
    autoprof_plugin::installed(facts, name, &format!("{name} (Debian, Fedora)"))
}

/// A tracer has to let go of what it traces, which takes its time on a busy host.
const STOP: Stop = Stop { signal: StopSignal::Interrupt, grace_ms: 30_000 };

#[cfg(test)]
pub(crate) mod tests {
    pub use autoprof_plugin::testing::converted;

    use super::*;

    /// A host with these tools, on which we are root.
    pub fn facts(tools: &[&str]) -> HostFacts {
        autoprof_plugin::testing::host_with(tools, "0.17.0")
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
