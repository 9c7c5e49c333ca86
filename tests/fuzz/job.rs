//! Job files, and what is in them: hosts, profilers with arguments, spans of time.
use autoprof_core::{
    args::ProfilerSpec,
    host::MAX_EXPANSION,
    job::{HostEntry, JobFile, Timeouts},
};

use crate::hosts::assert_usable;

/// A job is read whole or refused; what is noted of it in a run's record is read from there as the same.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match JobFile::parse(text) {
        Ok(job) => assert_sound(&job),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    if let Ok(spec) = text.parse::<ProfilerSpec>() {
        assert_same(&spec);
    }
}

fn assert_sound(job: &JobFile) {
    let mut count = 0;
    for entry in &job.hosts {
        let hosts = entry.hosts().expect("checked when it was read");
        count += hosts.len();
        match entry {
            HostEntry::Text(_) => hosts.iter().take(100).for_each(|h| assert_usable(&h.host)),
            HostEntry::Map(map) => assert_eq!(hosts[0].host.name, map.name),
        }
        hosts.iter().take(1).filter_map(|h| h.own_profilers.as_ref()).flatten().for_each(assert_same);
    }
    assert!(count <= MAX_EXPANSION, "{count} hosts");
    let all = job.all_hosts().expect("checked when it was read");
    assert!(all.len() <= 2 * MAX_EXPANSION, "{} hosts", all.len());
    job.members().expect("checked when it was read");
    job.groups.values().flat_map(|group| group.profilers.iter().chain(&group.also)).for_each(|p| assert_same(&p.0));
    job.profilers.iter().for_each(|p| assert_same(&p.0));
    assert!(job.test.as_ref().is_none_or(|test| !test.command.argv.is_empty()));
    let noted = serde_json::to_string(&job.timeouts).unwrap();
    let timeouts: Timeouts = serde_json::from_str(&noted).expect("what is noted can be read");
    assert_eq!(serde_json::to_string(&timeouts).unwrap(), noted);
    let timeouts = &job.timeouts;
    for span in [timeouts.connect, timeouts.start, timeouts.collect].iter().chain(&job.limits.lease) {
        // What steps do with it.
        assert!(std::time::Instant::now().checked_add(span.0).is_some(), "{span} from now is no instant");
        assert!(span.to_string().parse().is_ok_and(|again: autoprof_core::duration::Span| again == *span), "{span}");
    }
}

/// A profiler as it is shown is what was read.
fn assert_same(spec: &ProfilerSpec) {
    let shown = spec.to_string();
    let again: ProfilerSpec = shown.parse().unwrap_or_else(|e| panic!("{shown:?}: {e}"));
    assert_eq!(again, *spec, "{shown:?}");
}
