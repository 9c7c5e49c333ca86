//! What both uses of perf have in common: whether it may look at the whole host, and the events that it is given.
use autoprof_plugin::{core::protocol::Tool, prelude::*};

/// perf on a host where it can be used for the whole host.
pub fn system_wide(facts: &HostFacts) -> Result<&Tool, ArgError> {
    let Some(tool) = facts.tools.get("perf") else {
        return Err(ArgError::new(ArgErrorKind::Missing, "perf is not installed")
            .with_hint("install linux-perf (Debian), linux-tools-generic (Ubuntu) or perf (Fedora)"));
    };
    if facts.system_wide {
        return Ok(tool);
    }
    let Some(paranoid) = facts.perf_event_paranoid else {
        return Err(ArgError::new(ArgErrorKind::Unsupported, "the kernel has no perf events"));
    };
    let hint = if paranoid > 0 {
        format!("kernel.perf_event_paranoid is {paranoid}: needs root, CAP_PERFMON or a value of at most 0")
    } else {
        // The limit is not it, so it is a container or a security module.
        "perf_event_open is refused although kernel.perf_event_paranoid allows it: needs root or CAP_PERFMON".to_owned()
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
    Ok((!events.is_empty()).then(|| events.join(",")))
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
    let mut facts = HostFacts { perf_event_paranoid: Some(2), system_wide: true, ..HostFacts::default() };
    facts.tools.insert("perf".into(), Tool { path: "/usr/bin/perf".into(), version: version.into() });
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
        let hint = "kernel.perf_event_paranoid is 3: needs root, CAP_PERFMON or a value of at most 0";
        assert_eq!(error.hint.as_deref(), Some(hint));
        facts.perf_event_paranoid = None;
        assert_eq!(system_wide(&facts).unwrap_err().kind, ArgErrorKind::Unsupported);
    }

    #[test]
    fn events_and_cpus_that_perf_could_not_read_are_refused() {
        assert!(given(&Args::new().with("events", "a b")).is_err());
        assert!(given(&Args::new().with("events", "")).is_err());
        assert_eq!(given(&Args::new().with("events", "cycles,faults")).unwrap().as_deref(), Some("cycles,faults"));
        assert_eq!(cpus(&Args::new().with("cpus", "0-3,5")).unwrap(), ["-C", "0-3,5"]);
        for bad in ["", "a", "0-", "-1", "0,,1", "0 -o/etc/passwd"] {
            assert!(cpus(&Args::new().with("cpus", bad)).is_err(), "{bad}");
        }
    }
}
