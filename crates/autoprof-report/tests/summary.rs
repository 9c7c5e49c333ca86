//! What people read at the end of a run and of a dry run, word for word.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use autoprof_core::{
    Args, Host,
    event::{HostEvent, RunEvent, RunEventKind},
    job::Require,
    manifest::{FileRecord, HostError, Manifest},
    protocol::{
        Ended, Event, EventKind, HostFacts, Invocation, Outcome, Output, OutputFormat, Report, Stamp, Start, Stop,
        StopSignal,
    },
};
use autoprof_report::{
    plan::commands,
    summary::{Paint, summary},
};

fn at(kind: RunEventKind) -> RunEvent {
    RunEvent { at: "2026-01-02T03:04:05Z".parse().unwrap(), kind }
}

fn created(hosts: &[&str]) -> Manifest {
    let created = RunEventKind::Created {
        id: "run".into(),
        autoprof: "0".into(),
        controller: "c".into(),
        require: Require::All,
        test: None,
        hosts: hosts.iter().map(|name| Host::named(name)).collect(),
        settings: Box::default(),
    };
    Manifest::begin(&at(created)).unwrap()
}

fn apply(manifest: &mut Manifest, host: &str, events: impl IntoIterator<Item = HostEvent>) {
    for event in events {
        manifest.apply(&at(RunEventKind::Host { host: host.into(), event }));
    }
}

fn planned(profiler: &str, invocation: Invocation) -> HostEvent {
    let (preset, args, tool_version) = (None, Args::new(), Some("tool 1.2".into()));
    HostEvent::Planned { profiler: profiler.into(), preset, args, invocation: invocation.into(), tool_version }
}

fn said(kind: EventKind) -> HostEvent {
    HostEvent::Client { event: Event { seq: 1, at: Stamp { unix_ns: 0, boot_ns: 0 }, kind } }
}

fn ended(outcome: Outcome, reason: Option<&str>) -> HostEvent {
    said(EventKind::Ended(Ended {
        profiler: "vmstat".into(),
        ended: Stamp { unix_ns: 5, boot_ns: 5 },
        outcome,
        status: "exit status 3".into(),
        reason: reason.map(Into::into),
        last_words: reason.map(|_| "vmstat: it \u{1b}[2J broke\n".into()),
        cpu_us: 10,
        samples: None,
    }))
}

fn vmstat() -> Invocation {
    Invocation {
        start: Some(Start {
            argv: ["vmstat", "-t", "an argument", "1"].map(String::from).to_vec(),
            stdout: Some("vmstat.txt".into()),
            ..Start::default()
        }),
        stop: Stop { signal: StopSignal::Terminate, grace_ms: 5000 },
        report: vec![Report { argv: vec!["true".into()], stdout: Some("report.txt".into()), timeout_ms: 1 }],
        outputs: vec![Output { file: "vmstat.txt".into(), format: OutputFormat::Text, required: true }],
        ..Invocation::default()
    }
}

fn collected() -> HostEvent {
    let file = FileRecord { path: "vmstat/vmstat.txt".into(), bytes: 2048, blake3: "00".into(), cut: false };
    HostEvent::Collected { files: vec![file], missing: None, left_out: Vec::new() }
}

#[test]
fn a_summary_has_every_state_and_every_reason_once() {
    let mut manifest = created(&["web01", "web02", "web03", "web04"]);
    let began =
        || said(EventKind::Began { profiler: "vmstat".into(), began: Stamp { unix_ns: 1, boot_ns: 1 }, pid: Some(1) });
    apply(&mut manifest, "web01", [planned("vmstat", vmstat()), began(), ended(Outcome::Ok, None), collected()]);
    let broke = ended(Outcome::Partial, Some("ended by itself during the window (exit status 3)"));
    apply(&mut manifest, "web02", [planned("vmstat", vmstat()), began(), broke, collected()]);
    let refused = |name: &str| HostEvent::Refused {
        profiler: name.into(),
        args: Args::new(),
        reason: "perf is not installed (install linux-perf)".into(),
    };
    apply(&mut manifest, "web02", [refused("perf")]);
    apply(&mut manifest, "web03", [refused("perf")]);
    let error = HostError {
        step: "connect".into(),
        message: "cannot connect to web04:22: connection refused".into(),
        hint: Some("check the port, and that sshd runs".into()),
    };
    apply(&mut manifest, "web04", [HostEvent::Failed { error }]);
    insta::assert_snapshot!(summary(&manifest, Paint::Plain));
}

#[test]
fn a_summary_and_a_dry_run_name_groups_where_there_are_any() {
    let mut manifest = created(&["web01", "web02"]);
    let groups = ["db", "eu"].map(str::to_owned).into();
    manifest.hosts.get_mut("web02").unwrap().host.groups = groups;
    apply(&mut manifest, "web01", [planned("vmstat", vmstat())]);
    apply(&mut manifest, "web02", [planned("vmstat", vmstat())]);
    assert_eq!(
        summary(&manifest, Paint::Plain).lines().map(str::trim_end).collect::<Vec<_>>(),
        [" host   groups  vmstat   data", " web01  -       pending  -", " web02  db,eu   pending  -",]
    );
    let commands = commands(&manifest);
    assert!(commands.contains("web01\n") && commands.contains("web02 in db, eu\n"), "{commands}");
}

#[test]
fn a_dry_run_shows_exact_commands() {
    let mut manifest = created(&["web01"]);
    let facts = HostFacts { arch: "x86_64".into(), kernel: "6.1.0".into(), cpus: 4, ..HostFacts::default() };
    apply(&mut manifest, "web01", [HostEvent::Facts { facts: facts.into() }, planned("vmstat", vmstat())]);
    insta::assert_snapshot!(commands(&manifest));
}
