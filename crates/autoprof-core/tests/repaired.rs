//! What becomes of a profiler whose files were torn.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use autoprof_core::{
    Args, Host, Table,
    event::{HostEvent, RunEvent, RunEventKind},
    job::Require,
    manifest::{FileRecord, Manifest, ProfilerRecord, ProfilerState},
    protocol::{Ended, Event, EventKind, Invocation, Outcome, Stamp},
};

const STAMP: Stamp = Stamp { unix_ns: 1, boot_ns: 1 };

fn at(kind: RunEventKind) -> RunEvent {
    RunEvent { at: "2026-01-02T03:04:05Z".parse().unwrap(), kind }
}

/// The record of a profiler that ran on one host, after these tables were made of what it left.
fn record(tables: Vec<Table>) -> ProfilerRecord {
    let created = RunEventKind::Created {
        id: "run".into(),
        autoprof: "0".into(),
        controller: "c".into(),
        require: Require::All,
        test: None,
        hosts: vec![Host::named("web01")],
        settings: Box::default(),
    };
    let profiler = || "vmstat".to_owned();
    let said = |kind| HostEvent::Client { event: Event { seq: 1, at: STAMP, kind } };
    let (preset, args, invocation) = (None, Args::new(), Box::new(Invocation::default()));
    let events = [
        HostEvent::Planned { profiler: profiler(), preset, args, invocation, tool_version: None },
        said(EventKind::Began { profiler: profiler(), began: STAMP, pid: None }),
        said(EventKind::Ended(Ended {
            profiler: profiler(),
            ended: STAMP,
            outcome: Outcome::Ok,
            status: String::new().into(),
            reason: None,
            last_words: None,
            cpu_us: 0,
            samples: None,
        })),
        HostEvent::Collected {
            files: vec![FileRecord { path: "vmstat/vmstat.txt".into(), bytes: 9, blake3: String::new(), cut: false }],
            missing: None,
            left_out: Vec::new(),
        },
        HostEvent::Converted { profiler: profiler(), tables, problem: None },
    ];
    let host = |event| at(RunEventKind::Host { host: "web01".into(), event });
    let events: Vec<RunEvent> = std::iter::once(at(created)).chain(events.map(host)).collect();
    Manifest::fold(&events).unwrap().hosts["web01"].profilers["vmstat"].clone()
}

#[test]
fn a_file_that_was_repaired_makes_its_profiler_partial() {
    let table = |repaired| Table { file: "t.csv".into(), rows: 7, repaired, ..Table::default() };
    let record = record(vec![table(None), table(Some(3)), table(Some(5))]);
    assert_eq!((record.state, record.reason.as_deref()), (ProfilerState::Partial, Some("repaired, 5 samples")));
    assert_eq!(record.tables.len(), 3);
}

#[test]
fn a_plugin_from_before_repairs_says_nothing_of_them() {
    let table: Table = serde_json::from_str(r#"{"file": "t.csv", "rows": 7, "warnings": []}"#).unwrap();
    assert_eq!(table.repaired, None);
    assert_eq!(record(vec![table]).state, ProfilerState::Ok);
}
