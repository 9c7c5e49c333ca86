//! What a host is and can do: what an encoder needs to know to pick a command that works there.
use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{HostText, Stamp};

/// Facts about one host, found by the client right after its installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HostFacts {
    /// [`crate::PROTOCOL_VERSION`] of the client.
    pub protocol: u32,
    /// BLAKE3 digest of the client program as it runs, in hexadecimal.
    pub client_digest: String,
    /// The host's own name for itself.
    pub hostname: HostText,
    /// Machine architecture as `uname -m` has it.
    pub arch: HostText,
    /// Kernel release as `uname -r` has it.
    pub kernel: HostText,
    /// Distribution, from `os-release`; empty when unknown.
    pub os: HostText,
    /// Kernel's id of this boot.
    pub boot_id: String,
    /// Online CPUs.
    pub cpus: u32,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Effective user id of the client.
    pub uid: u32,
    /// The name of that user, where the host's own `/etc/passwd` has it; else empty.
    pub user: HostText,
    /// Whether commands may run as root through sudo: not found on the host, but what the user of the controller says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
    /// Free space for results, in bytes.
    pub free_bytes: u64,
    /// The client's clocks when it looked.
    pub clock: Option<Stamp>,
    /// `kernel.perf_event_paranoid`; none when the kernel has no perf events.
    pub perf_event_paranoid: Option<i64>,
    /// Whether the CPU's cycle counter can be opened system-wide by this user, or by root where this user may not.
    pub hardware_counters: bool,
    /// Whether the kernel's CPU clock can be sampled system-wide by this user.
    pub system_wide: bool,
    /// Whether the kernel shows this user the addresses of its functions.
    pub kernel_symbols: bool,
    /// Whether pressure stall information is there.
    pub pressure: bool,
    /// Whether debugfs is mounted at `/sys/kernel/debug`.
    pub debugfs: bool,
    /// Whether the kernel's tracer is there, at `/sys/kernel/tracing`.
    pub tracefs: bool,
    /// Whether the host can have virtual machines by KVM: `/dev/kvm` is there.
    pub kvm: bool,
    /// The programs that were looked for and are there.
    pub tools: BTreeMap<String, Tool>,
}

/// A program on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tool {
    /// Absolute path.
    pub path: String,
    /// The first line with a digit of what it says about its version; empty when it was not asked.
    pub version: HostText,
    /// Whether its file gives it rights that its user does not have (capabilities(7)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capabilities: bool,
}

impl Tool {
    /// The first run of dotted numbers in the version text: `sysstat version 12.6.1` gives `[12, 6, 1]`.
    #[must_use]
    pub fn version_numbers(&self) -> Vec<u32> {
        let version = self.version.as_untrusted_str();
        let from = version.find(|c: char| c.is_ascii_digit()).unwrap_or(version.len());
        let text = &version[from..];
        let to = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        text[..to].split('.').map_while(|part| part.parse().ok()).collect()
    }

    /// Whether the version is at least this one; an unknown version is not.
    #[must_use]
    pub fn is_at_least(&self, wanted: &[u32]) -> bool {
        let have = self.version_numbers();
        !have.is_empty() && have.as_slice() >= wanted
    }
}

/// A program to look for, and how to ask it for its version: `NAME` or `NAME:FLAG` on a command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolProbe {
    /// Program name, looked up in `PATH` and in the system's `sbin` directories.
    pub name: String,
    /// The flag that makes it print its version and end, if it has one.
    pub version_flag: Option<String>,
}

impl fmt::Display for ToolProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version_flag {
            Some(flag) => write!(f, "{}:{flag}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for ToolProbe {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, flag) = text.split_once(':').map_or((text, None), |(n, f)| (n, Some(f.to_owned())));
        Ok(Self { name: name.to_owned(), version_flag: flag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(version: &str) -> Tool {
        Tool { version: version.into(), ..Tool::default() }
    }

    #[test]
    fn versions_are_read_from_what_tools_really_print() {
        assert_eq!(tool("vmstat from procps-ng 4.0.2").version_numbers(), [4, 0, 2]);
        assert_eq!(tool("sysstat version 12.6.1").version_numbers(), [12, 6, 1]);
        assert_eq!(tool("perf version 6.1.187").version_numbers(), [6, 1, 187]);
        assert_eq!(tool("perf version 5.15.ga2b3").version_numbers(), [5, 15]);
        assert_eq!(tool("unknown").version_numbers(), [0u32; 0]);
    }

    #[test]
    fn an_unknown_version_is_never_new_enough() {
        assert!(tool("perf version 6.1").is_at_least(&[5, 10]));
        assert!(!tool("perf version 5.9.1").is_at_least(&[5, 10]));
        assert!(!tool("").is_at_least(&[0]));
    }
}
