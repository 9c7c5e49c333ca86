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
    /// The programs that were looked for and work.
    pub tools: BTreeMap<String, Tool>,
    /// The programs that were looked for and are installed, but do not work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<UnusableTool>,
}

/// A program on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tool {
    /// Absolute path.
    pub path: String,
    /// The line that its version command prints; empty when the profiler declares no version command.
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

/// A program that is installed on a host but does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnusableTool {
    /// The name that it was looked for by.
    pub name: String,
    /// Absolute path.
    pub path: HostText,
    /// The flag of its version command; empty when no command was run.
    pub flag: HostText,
    /// What is wrong with it.
    pub fault: ToolFault,
    /// The first line that its version command printed; may be empty.
    pub output: HostText,
}

/// What is wrong with a program that is installed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolFault {
    /// It cannot be executed; holds the error.
    NotExecutable(HostText),
    /// Its version command did not end within this many seconds.
    Timeout(u64),
    /// Its version command ended with this status, in words.
    Status(HostText),
    /// Its version command printed no version of this program: it is a wrapper, a stub or another program.
    Format,
    /// Its version is older than the profiler requires; holds the required version.
    TooOld(HostText),
}

impl fmt::Display for UnusableTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, flag, fault, output, .. } = self;
        let quoted = || if output.is_empty() { "nothing".to_owned() } else { format!("`{output}`") };
        match fault {
            ToolFault::NotExecutable(e) => write!(f, "cannot execute {path}: {e}"),
            ToolFault::Timeout(seconds) => write!(f, "`{path} {flag}` did not end within {seconds} s"),
            ToolFault::Status(status) if output.is_empty() => write!(f, "`{path} {flag}` ended with {status}"),
            ToolFault::Status(status) => write!(f, "{output} (`{path} {flag}`: {status})"),
            ToolFault::Format => write!(f, "`{path} {flag}` prints no version of it, but {}", quoted()),
            ToolFault::TooOld(least) => write!(f, "version {least} or newer is required ({path} is {})", quoted()),
        }
    }
}

/// How a program's version command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEnd {
    /// It could not be executed.
    NotExecuted(String),
    /// It had to be killed after this many seconds.
    TimedOut(u64),
    /// It exited with this code.
    Code(i32),
    /// This signal ended it; its name without `SIG`.
    Signal(String),
}

/// A program to look for on a host, and how to check that it works: `NAME[:FLAG[=PATTERN][>=VERSION]]`.
///
/// A program without a flag works when it is there. One with a flag is run with that flag, and works when it exits with
/// status 0 and prints a line that begins with the pattern. In a pattern, `#` is a version number, `_` stands for blanks,
/// `|` separates alternatives, and case does not matter. With `~` instead of `=`, any exit status will do. Without a
/// pattern, the line has to have a version number right after the program's name or the word "version", or consist of
/// one. The program is used if its version is at least `VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolProbe {
    /// Program name, looked up in `PATH` and in the system's `sbin` directories.
    pub name: String,
    /// The flag that makes it print its version and end, if it has one.
    pub version_flag: Option<String>,
    /// How the line begins that it prints; none: the default rule.
    pub pattern: Option<String>,
    /// Whether its version command may exit with a status other than 0.
    pub any_status: bool,
    /// The oldest version that works, if there is such a limit.
    pub least: Option<String>,
}

impl ToolProbe {
    /// Whether a program works that printed this and ended like this; returns the line with its version.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, path: &str, end: &ProbeEnd, printed: &str) -> Result<String, Box<UnusableTool>> {
        let mut lines = printed.lines().map(str::trim).filter(|line| !line.is_empty());
        let version = lines.clone().find(|line| self.is_version(line));
        let fault = match end {
            ProbeEnd::NotExecuted(e) => Some(ToolFault::NotExecutable(e.as_str().into())),
            ProbeEnd::TimedOut(seconds) => Some(ToolFault::Timeout(*seconds)),
            ProbeEnd::Code(code) if *code != 0 && !self.any_status => {
                Some(ToolFault::Status(format!("exit status {code}").into()))
            }
            ProbeEnd::Signal(signal) => Some(ToolFault::Status(format!("signal {signal}").into())),
            ProbeEnd::Code(_) => None,
        };
        match (fault, version) {
            (None, Some(line)) => Ok(cut(line)),
            (fault, _) => Err(Box::new(UnusableTool {
                name: self.name.clone(),
                path: path.into(),
                flag: self.version_flag.clone().unwrap_or_default().into(),
                fault: fault.unwrap_or(ToolFault::Format),
                output: lines.next().map(cut).unwrap_or_default().into(),
            })),
        }
    }

    /// Why a program is older than this probe requires, if it is. A version that is unknown is new enough.
    #[must_use]
    pub fn too_old(&self, tool: &Tool) -> Option<UnusableTool> {
        let least = self.least.as_ref()?;
        let wanted: Vec<u32> = least.split('.').map_while(|part| part.parse().ok()).collect();
        (!tool.version_numbers().is_empty() && !tool.is_at_least(&wanted)).then(|| UnusableTool {
            name: self.name.clone(),
            path: tool.path.as_str().into(),
            flag: self.version_flag.clone().unwrap_or_default().into(),
            fault: ToolFault::TooOld(least.as_str().into()),
            output: tool.version.clone(),
        })
    }

    fn is_version(&self, line: &str) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.split('|').any(|one| begins_with(line, one)),
            None => has_own_version(line, &self.name),
        }
    }
}

/// The longest line that is kept of a program's output, in characters.
const MAX_LINE: usize = 200;

fn cut(line: &str) -> String {
    line.chars().take(MAX_LINE).collect()
}

/// Whether a line begins with a pattern of a probe.
fn begins_with(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    for wanted in pattern.chars() {
        let after = match wanted {
            '_' => rest.trim_start(),
            '#' => rest.strip_prefix(['v', 'V']).unwrap_or(rest).trim_start_matches(|c: char| c.is_ascii_digit()),
            other => rest.strip_prefix(|c: char| c.eq_ignore_ascii_case(&other)).unwrap_or(rest),
        };
        let taken = &rest[..rest.len() - after.len()];
        if taken.is_empty() || (wanted == '#' && !taken.ends_with(|c: char| c.is_ascii_digit())) {
            return false;
        }
        rest = after;
    }
    true
}

/// How many words there may be from a program's name to its version: `date (GNU coreutils) 9.1` has three.
const NAME_TO_VERSION: usize = 3;

/// Whether a line has a version number right after a program's name or the word "version", or consists of one.
fn has_own_version(line: &str, name: &str) -> bool {
    // python3 prints "Python 3.11.7".
    let base = name.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    let mut words = line.split(|c: char| c.is_whitespace() || "(),:;\"'".contains(c)).filter(|word| !word.is_empty());
    // How many words may still come before the version; which one it is otherwise does not count.
    let mut left = 0;
    let (mut count, mut numbers, mut found) = (0, 0, false);
    words.by_ref().for_each(|word| {
        count += 1;
        let number = word
            .find(|c: char| c.is_ascii_digit())
            .filter(|at| !word[..*at].contains(|c: char| !c.is_ascii_alphabetic()));
        let is_number = number.is_some_and(|at| at == 0 || word[..at].eq_ignore_ascii_case("v"));
        numbers += usize::from(is_number);
        found |= left > 0 && is_number || left == usize::MAX && number.is_some();
        left = match word {
            word if word.eq_ignore_ascii_case("version") => usize::MAX,
            word if word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(base) => NAME_TO_VERSION,
            // Dashes and the like are no words.
            word if !word.contains(|c: char| c.is_ascii_alphanumeric()) => left,
            _ if left == usize::MAX => 0,
            _ => left.saturating_sub(1),
        };
    });
    found || (count == 1 && numbers == 1)
}

impl fmt::Display for ToolProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(flag) = &self.version_flag {
            write!(f, ":{flag}")?;
        }
        if let Some(pattern) = &self.pattern {
            write!(f, "{}{pattern}", if self.any_status { '~' } else { '=' })?;
        }
        if let Some(least) = &self.least {
            write!(f, ">={least}")?;
        }
        Ok(())
    }
}

impl FromStr for ToolProbe {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, least) = text.split_once(">=").map_or((text, None), |(t, least)| (t, Some(least.to_owned())));
        let (name, flag) = text.split_once(':').map_or((text, None), |(n, f)| (n, Some(f)));
        let (flag, pattern, any_status) = match flag.and_then(|f| Some((f, f.find(['=', '~'])?))) {
            Some((f, at)) => (Some(&f[..at]), Some(f[at + 1..].to_owned()), f[at..].starts_with('~')),
            None => (flag, None, false),
        };
        Ok(Self { name: name.to_owned(), version_flag: flag.map(str::to_owned), pattern, any_status, least })
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

    fn judged(probe: &str, code: i32, printed: &str) -> Result<String, ToolFault> {
        let probe: ToolProbe = probe.parse().unwrap();
        probe.judge("/usr/bin/x", &ProbeEnd::Code(code), printed).map_err(|unusable| unusable.fault)
    }

    #[test]
    fn probes_are_read_as_they_are_written() {
        for text in ["sh", "free:-V", "perf:--version=perf_version_#>=4.14", "inotifywait:--help~inotifywait_#", "x>=2"]
        {
            assert_eq!(text.parse::<ToolProbe>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn version_lines_of_real_tools_are_taken_by_the_default_rule() {
        for (name, line) in [
            ("free", "free from procps-ng 4.0.2"),
            ("date", "date (GNU coreutils) 9.1"),
            ("strace", "strace -- version 6.1"),
            ("iostat", "S_COLORS=always\nsysstat version 12.7.6\n(C) Sebastien Godard"),
            ("bpftrace", "bpftrace v0.17.0"),
            ("powertop", "PowerTOP version 2.14"),
            ("python3", "Python 3.11.7"),
            ("numastat", "numastat version: 20130723: Dec 26 2022"),
            ("nvidia-smi", "NVIDIA-SMI version  : 535.54.03"),
            ("node", "v18.13.0"),
            ("java", "openjdk version \"17.0.2\" 2022-01-18"),
            ("go", "go version go1.21.4 linux/amd64"),
            ("gdb", "GNU gdb (Debian 13.1-3) 13.1"),
        ] {
            assert!(judged(&format!("{name}:-V"), 0, line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrappers_and_stubs_are_not_taken_for_the_tool() {
        let ubuntu = "WARNING: perf not found for kernel 6.18.44\n\n  You may need to install the following packages\n    linux-tools-6.18.44\n";
        let status = |code| Err(ToolFault::Status(format!("exit status {code}").into()));
        for probe in ["perf:--version", "perf:--version=perf_version_#"] {
            assert_eq!(judged(probe, 2, ubuntu), status(2));
            // A stub may exit with 0.
            assert_eq!(judged(probe, 0, ubuntu), Err(ToolFault::Format));
            assert_eq!(judged(probe, 0, ""), Err(ToolFault::Format));
            assert_eq!(judged(probe, 0, "perf is not available in this image (build 42)"), Err(ToolFault::Format));
            assert_eq!(
                judged(probe, 127, "perf: error while loading shared libraries: libpython3.11.so.1.0"),
                status(127)
            );
            assert_eq!(judged(probe, 0, "perf version 6.1.187"), Ok("perf version 6.1.187".to_owned()));
            assert_eq!(judged(probe, 1, "perf version 6.1.187"), status(1));
        }
        let busybox =
            "iostat: invalid option -- 'V'\nBusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.\n\nUsage: iostat";
        assert_eq!(judged("iostat:-V", 1, busybox), status(1));
        assert_eq!(judged("iostat:-V=sysstat_version_#", 0, busybox), Err(ToolFault::Format));
    }

    #[test]
    fn a_tool_may_exit_with_another_status_where_the_profiler_says_so() {
        let printed = "inotifywait 3.22.6.0\nWait for a particular event";
        assert_eq!(judged("inotifywait:--help~inotifywait_#", 1, printed), Ok("inotifywait 3.22.6.0".to_owned()));
        let other = judged("inotifywait:--help~inotifywait_#", 127, "inotifywait: not found");
        assert_eq!(other, Err(ToolFault::Format));
    }

    #[test]
    fn a_tool_that_is_too_old_is_told_from_one_of_unknown_age() {
        let probe: ToolProbe = "perf:--version>=5.10".parse().unwrap();
        assert!(probe.too_old(&tool("perf version 5.9.1")).unwrap().to_string().contains("5.10 or newer"));
        assert_eq!((probe.too_old(&tool("perf version 5.10")), probe.too_old(&tool(""))), (None, None));
    }
}
