//! What both uses of perf have in common: whether it may look at the whole host, and the events that it is given.
use autoprof_plugin::{core::protocol::Tool, prelude::*};

/// How perf gets to look at the whole host.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// As the user who is logged in.
    Own(&'a Tool),
    /// As root, by sudo.
    Sudo {
        /// perf itself.
        perf: &'a Tool,
        /// The program that perf runs for as long as it is to record.
        sed: &'a Tool,
        /// What shows the addresses of the kernel's functions.
        cat: &'a Tool,
    },
}

/// The name of the program that a perf of root's runs for as long as it records: it reads its input to the end and prints
/// nothing of it, since root's output must not be what the user says.
const WORKLOAD: &str = "sed";

impl<'a> Access<'a> {
    /// perf.
    pub const fn perf(self) -> &'a Tool {
        match self {
            Self::Own(perf) | Self::Sudo { perf, .. } => perf,
        }
    }

    /// `perf` and its arguments as they run: whoever may not signal perf ends what it runs instead, by closing its
    /// input. What perf writes goes to standard output then, since a path in a directory of the user's could be a link
    /// to anywhere.
    pub fn command(self, argv: Vec<String>, output: &str) -> Start {
        match self {
            Self::Own(_) => Start { argv, ..Start::default() },
            Self::Sudo { perf, sed, .. } => {
                let argv = [perf.path.clone()].into_iter().chain(argv.into_iter().skip(1));
                let workload = ["--", &sed.path, "-n", "d"].map(str::to_owned);
                Start {
                    argv: as_root(argv.chain(workload)),
                    stdout: Some(output.to_owned()),
                    workload: Some(WORKLOAD.to_owned()),
                    ..Start::default()
                }
            }
        }
    }
}

/// How perf gets to look at the whole of a host, if it does.
pub fn system_wide(facts: &HostFacts) -> Result<Access<'_>, ArgError> {
    let tool = |name: &str| facts.tools.get(name);
    let Some(perf) = tool("perf") else {
        return Err(ArgError::new(ArgErrorKind::Missing, "perf is not installed")
            .with_hint("install linux-perf (Debian), linux-tools-generic (Ubuntu) or perf (Fedora)"));
    };
    // A perf that was given CAP_PERFMON may do what the client, which tried, may not.
    if facts.system_wide || perf.capabilities {
        return Ok(Access::Own(perf));
    }
    let Some(paranoid) = facts.perf_event_paranoid else {
        return Err(ArgError::new(ArgErrorKind::Unsupported, "the kernel has no perf events"));
    };
    if let (true, Some(sed), Some(cat)) = (facts.sudo, tool(WORKLOAD), tool("cat")) {
        return Ok(Access::Sudo { perf, sed, cat });
    }
    let hint = if paranoid > 0 {
        format!("kernel.perf_event_paranoid is {paranoid}: needs root, --sudo, CAP_PERFMON or a value of at most 0")
    } else {
        // The limit is not it, so it is a container or a security module.
        "perf_event_open is refused although kernel.perf_event_paranoid allows it: needs root, --sudo or CAP_PERFMON"
            .to_owned()
    };
    Err(ArgError::new(ArgErrorKind::Permission, "perf may not look at the whole host").with_hint(hint))
}

/// The events that were asked for, joined as `-e` takes them; none when there are none.
pub fn given(args: &Args) -> Result<Option<String>, ArgError> {
    let events = args.strings("events");
    let wrong = |event: &&&str| event.is_empty() || event.chars().any(|c| c.is_control() || c.is_whitespace());
    if let Some(event) = events.iter().find(wrong) {
        return Err(ArgError::new(ArgErrorKind::Range, format!("{event:?} is not the name of an event")));
    }
    if let Some(event) = events.iter().find(|event| names_a_program(event)) {
        let message = format!("{event:?} is a program for the kernel, and not the name of an event");
        return Err(ArgError::new(ArgErrorKind::Unsupported, message));
    }
    Ok((!events.is_empty()).then(|| events.join(",")))
}

/// Whether perf would take an event for a file with an eBPF program, to be loaded by whoever perf runs as: perf 6.1
/// takes `PATH.o`, `PATH.c` and `PATH.bpf` anywhere in the list for one.
fn names_a_program(event: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "_.".contains(c));
    [".o", ".c", ".bpf"]
        .iter()
        .any(|suffix| event.match_indices(suffix).any(|(at, _)| ends(&event[at + suffix.len()..])))
}

/// The parameter for settings of the kernel.
pub const SYSCTL: Param = Param::new(
    "sysctl",
    ParamType::Strings,
    "kernel settings while it runs, each NAME=VALUE such as kernel.kptr_restrict=0; restored afterwards; needs root",
);

/// The settings that were asked for.
pub fn settings(args: &Args, facts: &HostFacts) -> Result<Vec<Setting>, ArgError> {
    let given = args.strings("sysctl");
    if !given.is_empty() && facts.uid != 0 {
        let message = "kernel settings can be changed by root alone";
        return Err(ArgError::new(ArgErrorKind::Permission, message).with_hint("log in as root, or leave sysctl away"));
    }
    let setting = |text: &&str| {
        let bad = || {
            ArgError::new(ArgErrorKind::Range, format!("{text:?} is not a kernel setting"))
                .with_hint("write it as NAME=VALUE, such as kernel.kptr_restrict=0")
        };
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let fits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !name.split('.').all(fits) || value.is_empty() || value.contains(|c: char| c.is_control()) {
            return Err(bad());
        }
        Ok(Setting { path: format!("/proc/sys/{}", name.replace('.', "/")), value: value.to_owned() })
    };
    given.iter().map(setting).collect()
}

/// Which CPUs: all, or those that were asked for.
pub fn cpus(args: &Args) -> Result<Vec<String>, ArgError> {
    let Some(list) = args.string("cpus") else { return Ok(vec!["-a".to_owned()]) };
    let digits = |text: &str| text.parse::<u32>().is_ok();
    let range = |part: &str| part.split_once('-').map_or(digits(part), |(from, to)| digits(from) && digits(to));
    if list.split(',').all(range) {
        return Ok(vec!["-C".to_owned(), list.to_owned()]);
    }
    Err(ArgError::new(ArgErrorKind::Range, format!("{list:?} is not a list of CPUs"))
        .with_hint("write it as 0,2 or 0-3"))
}

/// The first event that needs the CPU's counters, one that perf_event_open(2) has as `PERF_TYPE_HARDWARE`.
pub fn needs_hardware(events: &str) -> Option<&str> {
    const HARDWARE: &[&str] = &[
        "cycles",
        "cpu-cycles",
        "instructions",
        "branches",
        "branch-instructions",
        "branch-misses",
        "cache-references",
        "cache-misses",
        "bus-cycles",
        "ref-cycles",
    ];
    events.split(',').find(|event| HARDWARE.contains(&event.split(':').next().unwrap_or(event)))
}

/// A host with a perf of this version, as root.
#[cfg(test)]
pub fn test_facts(version: &str) -> HostFacts {
    let mut facts =
        HostFacts { perf_event_paranoid: Some(2), system_wide: true, kernel_symbols: true, ..HostFacts::default() };
    facts
        .tools
        .insert("perf".into(), Tool { path: "/usr/bin/perf".into(), version: version.into(), ..Tool::default() });
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_perf_names_the_package() {
        let error = system_wide(&HostFacts::default()).unwrap_err();
        assert_eq!(error.kind, ArgErrorKind::Missing);
        assert!(error.hint.unwrap().contains("linux-perf (Debian)"));
    }

    #[test]
    fn a_user_who_may_not_is_told_the_setting() {
        let mut facts = HostFacts { system_wide: false, ..test_facts("6.1") };
        facts.perf_event_paranoid = Some(3);
        let error = system_wide(&facts).unwrap_err();
        assert_eq!(error.kind, ArgErrorKind::Permission);
        let hint = "kernel.perf_event_paranoid is 3: needs root, --sudo, CAP_PERFMON or a value of at most 0";
        assert_eq!(error.hint.as_deref(), Some(hint));
        facts.perf_event_paranoid = None;
        assert_eq!(system_wide(&facts).unwrap_err().kind, ArgErrorKind::Unsupported);
    }

    #[test]
    fn events_and_cpus_that_perf_could_not_read_are_refused() {
        assert!(given(&Args::new().with("events", "a b")).is_err());
        assert!(given(&Args::new().with("events", "")).is_err());
        assert_eq!(given(&Args::new().with("events", "cycles,faults")).unwrap().as_deref(), Some("cycles,faults"));
        for program in ["x.o", "/tmp/a.c,cycles", "a.bpf/x=1/", "{x.o}"] {
            assert!(given(&Args::new().with("events", program)).is_err(), "{program}");
        }
        assert!(given(&Args::new().with("events", "l2_rqsts.code_rd_hit,x.c.y")).is_ok());
        assert_eq!(cpus(&Args::new().with("cpus", "0-3,5")).unwrap(), ["-C", "0-3,5"]);
        for bad in ["", "a", "0-", "-1", "0,,1", "0 -o/etc/passwd"] {
            assert!(cpus(&Args::new().with("cpus", bad)).is_err(), "{bad}");
        }
    }
}
