//! The event readers: what a client says on its line to the controller, and a run's own record.
use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use autoprof_core::{
    Args, ClientHandle, Command, Host, Process, ProcessInput, ProcessOutput, Session, Signaler,
    error::{SignalErrorKind, TransportError},
    event::{HostEvent, RunEvent, RunEventKind},
    manifest::{FileRecord, Manifest},
    protocol::{Event, HostFacts, Invocation, Output, OutputFormat},
    run,
    transport::{ExitStatus, OutputChunk},
};
use autoprof_report::{
    plan,
    summary::{Paint, summary},
};
use autoprof_signal_marker::MarkerSignaler;
use bytes::Bytes;
use camino::Utf8Path;
use futures_util::FutureExt as _;

use crate::scratch;

/// The first byte: 0xff for a run's record; else the bytes are what a client says, in chunks of so many.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((0xff, rest)) => record(rest),
        Some((chunk, rest)) => client(rest, usize::from(*chunk) + 1),
        None => {}
    }
}

/// A record that can be read gives a manifest that can be shown, written and read again.
fn record(text: &[u8]) {
    let directory = scratch();
    let path = Utf8Path::from_path(directory.path()).expect("a temporary directory in UTF-8");
    std::fs::write(path.join("events.jsonl"), text).unwrap();
    let Ok(manifest) = run::read(path) else { return };
    show(&manifest);
    let json = serde_json::to_string(&manifest).unwrap();
    let again: Manifest = serde_json::from_str(&json).expect("what is written can be read");
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
}

/// A client can say what it likes: it is an event or an error, nothing is twice, and nothing of it acts on a terminal.
fn client(said: &[u8], chunk: usize) {
    let heard = hear(said, chunk);
    assert_eq!(heard, hear(said, said.len().max(1)), "chunks make a difference");
    let mut events = begun();
    if let Some(facts) = said.split(|b| *b == b'\n').find_map(|l| serde_json::from_slice::<HostFacts>(l).ok()) {
        events.push(HostEvent::Facts { facts: Box::new(facts) });
    }
    events.extend(heard.into_iter().map(|event| HostEvent::Client { event }));
    events.push(HostEvent::Collected { files: collected(), missing: None, left_out: Vec::new() });
    let events: Vec<RunEvent> = std::iter::once(created()).chain(events.into_iter().map(of_host)).collect();
    let manifest = Manifest::fold(&events).expect("it begins with the run's creation");
    for text in show(&manifest) {
        let acts = |c: &char| c.is_control() && *c != '\n';
        assert_eq!(text.chars().find(acts), None, "{text:?}");
        assert!(text.lines().all(|line| line.len() < 8000), "a line of {} bytes", text.len());
    }
}

/// All that the channel makes of the lines of a client.
fn hear(said: &[u8], chunk: usize) -> Vec<Event> {
    let chunks = said.chunks(chunk).map(|part| OutputChunk::Stdout(Bytes::copy_from_slice(part)));
    let output = Said(chunks.rev().collect());
    let session = Arc::new(Once(Mutex::new(Some(output))));
    let handle =
        ClientHandle { directory: "/tmp/profilers/autoprof-x".to_owned(), after: 0, ..ClientHandle::default() };
    let attaching = MarkerSignaler.attach(session, &handle);
    let mut channel = attaching.now_or_never().expect("nothing to wait for").expect("a process");
    let mut events = Vec::new();
    loop {
        match channel.event().now_or_never().expect("nothing to wait for") {
            Ok(event) => events.push(event),
            Err(e) => {
                assert!(matches!(e.kind, SignalErrorKind::Closed | SignalErrorKind::Protocol), "{e}");
                let text = e.to_string();
                assert!(!text.contains(char::is_control) && text.len() < 4000, "{e:?}");
                return events;
            }
        }
    }
}

/// What people see of a manifest.
fn show(manifest: &Manifest) -> [String; 2] {
    [summary(manifest, Paint::Plain), plan::commands(manifest)]
}

fn created() -> RunEvent {
    let kind = RunEventKind::Created {
        id: "run".into(),
        autoprof: "0".into(),
        controller: "c".into(),
        require: "all".parse().unwrap(),
        test: None,
        hosts: vec![Host::named("h")],
        settings: Box::default(),
    };
    event(kind)
}

fn event(kind: RunEventKind) -> RunEvent {
    RunEvent { at: "2026-11-22T21:58:52Z".parse().unwrap(), kind }
}

fn of_host(what: HostEvent) -> RunEvent {
    event(RunEventKind::Host { host: "h".into(), event: what })
}

/// A host with two profilers, up to the client's first word.
fn begun() -> Vec<HostEvent> {
    let planned = ["proc", "vmstat"].map(|profiler| HostEvent::Planned {
        profiler: profiler.into(),
        preset: None,
        args: Args::new(),
        invocation: Box::new(Invocation {
            outputs: vec![Output { file: "out.txt".into(), format: OutputFormat::Text, required: true }],
            ..Invocation::default()
        }),
        tool_version: None,
    });
    let installing = HostEvent::Installing { directory: "/tmp/profilers/autoprof-x".into() };
    std::iter::once(installing).chain(planned).collect()
}

fn collected() -> Vec<FileRecord> {
    let path = "proc/out.txt".to_owned();
    vec![FileRecord { path, bytes: 3, blake3: String::new(), cut: false }]
}

/// A session with one process, which says this and ends.
struct Once(Mutex<Option<Said>>);

struct Said(Vec<OutputChunk>);

struct Deaf;

#[async_trait]
impl Session for Once {
    async fn exec(&self, _: &Command) -> Result<Process, TransportError> {
        let output = self.0.lock().unwrap().take().expect("one process");
        Ok(Process { input: Box::new(Deaf), output: Box::new(output) })
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[async_trait]
impl ProcessOutput for Said {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        Ok(self.0.pop().unwrap_or(OutputChunk::Exit(ExitStatus::Code(0))))
    }
}

#[async_trait]
impl ProcessInput for Deaf {
    async fn write(&mut self, _: Bytes) -> Result<(), TransportError> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}
