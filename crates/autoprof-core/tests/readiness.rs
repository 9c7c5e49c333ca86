//! Whether a host can begin, and what a profiler's reasons become, in whatever order things happen.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use autoprof_core::{
    Args, Host,
    event::{HostEvent, RunEvent, RunEventKind},
    job::Require,
    manifest::{FileRecord, HostError, Manifest, ProfilerState, Readiness},
    protocol::{Ended, Event, EventKind, HostFacts, Invocation, Outcome, Stamp},
};
use proptest::prelude::*;

const STAMP: Stamp = Stamp { unix_ns: 1, boot_ns: 1 };

fn event(kind: RunEventKind) -> RunEvent {
    RunEvent { at: "2026-01-02T03:04:05Z".parse().unwrap(), kind }
}

fn fold(require: Require, events: impl IntoIterator<Item = HostEvent>) -> Manifest {
    let created = RunEventKind::Created {
        id: "run".into(),
        autoprof: "0".into(),
        controller: "c".into(),
        require,
        test: None,
        hosts: vec![Host::named("web01")],
        settings: Box::default(),
    };
    let host = |e| event(RunEventKind::Host { host: "web01".into(), event: e });
    let all: Vec<RunEvent> = std::iter::once(event(created)).chain(events.into_iter().map(host)).collect();
    Manifest::fold(&all).unwrap()
}

fn said(kind: EventKind) -> HostEvent {
    HostEvent::Client { event: Event { seq: 1, at: STAMP, kind } }
}

fn planned(profiler: &str, preset: Option<&str>) -> HostEvent {
    let (args, invocation) = (Args::new(), Box::new(Invocation::default()));
    HostEvent::Planned {
        profiler: profiler.into(),
        preset: preset.map(Into::into),
        args,
        invocation,
        tool_version: None,
    }
}

fn failed(step: &str) -> HostEvent {
    HostEvent::Failed { error: HostError { step: step.into(), message: format!("{step} broke"), hint: None } }
}

fn ready() -> HostEvent {
    said(EventKind::Ready { pid: 1, boot_id: "b".into(), segment: 1 })
}

fn ended(profiler: &str, outcome: Outcome) -> HostEvent {
    said(EventKind::Ended(Ended {
        profiler: profiler.into(),
        ended: STAMP,
        outcome,
        status: "".into(),
        reason: (outcome == Outcome::Failed).then(|| "it cannot count here".into()),
        last_words: None,
        cpu_us: 0,
        samples: None,
    }))
}

fn began(profiler: &str) -> HostEvent {
    said(EventKind::Began { profiler: profiler.into(), began: STAMP, pid: None })
}

fn collected(missing: Option<&str>) -> HostEvent {
    let file = FileRecord { path: "vmstat/vmstat.txt".into(), bytes: 9, blake3: String::new(), cut: false };
    HostEvent::Collected { files: vec![file], missing: missing.map(Into::into), left_out: Vec::new() }
}

/// What can happen to a host before its profilers begin.
fn before_the_start() -> Vec<HostEvent> {
    vec![
        HostEvent::Installing { directory: "/tmp/profilers/x".into() },
        HostEvent::Facts { facts: Box::new(HostFacts::default()) },
        planned("vmstat", None),
        ready(),
        HostEvent::Cleaned,
        HostEvent::Lost { reason: "reset".into() },
        HostEvent::Back,
    ]
}

proptest! {
    #[test]
    fn a_host_that_failed_never_begins(
        events in Just(before_the_start()).prop_shuffle(),
        taken in 0_usize..=7,
        at in 0_usize..=7,
        step in prop::sample::select(vec!["connect", "install", "sudo", "ready", "start", "watch"]),
    ) {
        let mut events: Vec<HostEvent> = events.into_iter().take(taken).collect();
        events.insert(at.min(events.len()), failed(step));
        events.insert(0, HostEvent::Connecting);
        let manifest = fold(Require::All, events);
        prop_assert!(!manifest.can_begin());
        prop_assert_eq!(manifest.hosts["web01"].readiness, Readiness::Failed);
        prop_assert!(!manifest.hosts["web01"].is_usable());
    }

    #[test]
    fn a_host_begins_when_its_client_is_up_and_a_profiler_can_collect(
        events in Just(before_the_start()).prop_shuffle(),
        taken in 0_usize..=7,
    ) {
        let events: Vec<HostEvent> = std::iter::once(HostEvent::Connecting).chain(events.into_iter().take(taken)).collect();
        let up = events.iter().any(|e| matches!(e, HostEvent::Client { .. }));
        let has_profiler = events.iter().any(|e| matches!(e, HostEvent::Planned { .. }));
        prop_assert_eq!(fold(Require::All, events).can_begin(), up && has_profiler);
    }
}

#[test]
fn a_host_without_a_profiler_that_can_run_does_not_begin() {
    let skipped = HostEvent::Skipped {
        profiler: "iostat".into(),
        preset: Some("default".into()),
        args: Args::new(),
        reason: "iostat is not installed".into(),
    };
    assert!(!fold(Require::Any, [HostEvent::Connecting, skipped, ready()]).can_begin());
}

#[test]
fn a_preset_profiler_that_fails_at_the_start_is_skipped() {
    let start = |preset| {
        let events = [
            HostEvent::Connecting,
            planned("vmstat", None),
            planned("perf-stat", preset),
            ready(),
            began("vmstat"),
            began("perf-stat"),
            ended("perf-stat", Outcome::Failed),
            said(EventKind::Started { collecting: vec!["vmstat".into()] }),
        ];
        fold(Require::All, events)
    };
    let of_preset = start(Some("default"));
    let record = &of_preset.hosts["web01"].profilers["perf-stat"];
    assert_eq!((record.state, record.reason.as_deref()), (ProfilerState::Skipped, Some("it cannot count here")));
    assert!(of_preset.can_begin());
    let named = start(None);
    assert_eq!(named.hosts["web01"].profilers["perf-stat"].state, ProfilerState::Failed);
    assert!(!named.can_begin());
}

#[test]
fn a_profiler_that_fails_after_the_start_is_failed_whoever_asked_for_it() {
    let events = [
        HostEvent::Connecting,
        planned("vmstat", Some("default")),
        ready(),
        began("vmstat"),
        said(EventKind::Started { collecting: vec!["vmstat".into()] }),
        ended("vmstat", Outcome::Failed),
    ];
    assert_eq!(fold(Require::All, events).hosts["web01"].profilers["vmstat"].state, ProfilerState::Failed);
}

/// A run whose first try to bring its results back went as `first`, and the second brought everything.
fn collected_twice(first: Vec<HostEvent>) -> Manifest {
    let mut events = vec![
        HostEvent::Connecting,
        planned("vmstat", None),
        ready(),
        began("vmstat"),
        said(EventKind::Started { collecting: vec!["vmstat".into()] }),
        ended("vmstat", Outcome::Ok),
        said(EventKind::Stopped),
        said(EventKind::Reported),
    ];
    events.extend(first);
    events.push(collected(None));
    fold(Require::All, events)
}

#[test]
fn a_second_collection_that_brings_everything_withdraws_the_reasons_of_the_first() {
    let converted = || HostEvent::Converted {
        profiler: "vmstat".into(),
        tables: Vec::new(),
        problem: Some("no tables could be made: cut".into()),
    };
    let firsts = [
        vec![failed("collect")],
        vec![failed("reconnect")],
        vec![failed("stop"), failed("collect")],
        vec![collected(Some("the results could not all be brought back: reset"))],
        vec![collected(Some("the results could not all be brought back: reset")), converted(), failed("collect")],
        vec![failed("collect"), failed("reconnect"), collected(Some("half")), failed("collect")],
    ];
    for first in firsts {
        let manifest = collected_twice(first.clone());
        let host = &manifest.hosts["web01"];
        let record = &host.profilers["vmstat"];
        assert_eq!((record.state, record.reason.as_deref()), (ProfilerState::Ok, None), "{first:?}");
        assert!(host.errors.is_empty() && manifest.meets_requirement(), "{first:?}: {:?}", host.errors);
    }
}

#[test]
fn what_happened_to_a_profiler_itself_stays_a_reason() {
    let report = said(EventKind::ReportFailed { profiler: "vmstat".into(), reason: "exit status 2".into() });
    let manifest = collected_twice(vec![report, failed("collect")]);
    let record = &manifest.hosts["web01"].profilers["vmstat"];
    assert_eq!(record.state, ProfilerState::Partial);
    assert_eq!(record.reason.as_deref(), Some("its report on the host failed: exit status 2"));
}
