//! Every real plugin, loaded and used through the boundary.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
mod support;

use std::{fs, sync::Arc, time::Duration};

use autoprof_core::{
    Args, ClientHandle, Command, Host, Process, Prompter, Registry, Secret,
    error::{ArgErrorKind, SignalErrorKind, TransportErrorKind},
    protocol::{HostFacts, Tool},
    transport::{ExitStatus, OutputChunk, capture},
};
use autoprof_loader::{PluginFileError, Plugins, Trust, load_into};
use bytes::Bytes;
use support::{candidate, plugin_dir};
use tokio::time::timeout;

fn plugins() -> Plugins {
    Plugins::scan_only(&[plugin_dir().to_owned()], Trust::Any)
}

fn registry(wanted: &[&str]) -> Registry {
    let mut registry = Registry::default();
    plugins().load(wanted.iter().copied(), &mut registry).unwrap();
    registry
}

#[test]
fn what_the_notes_say_is_what_the_plugins_say() {
    let plugins = plugins();
    assert!(plugins.rejected().is_empty(), "{:?}", plugins.rejected());
    let mut names: Vec<String> = plugins.profilers().map(|(info, _)| info.name.to_string()).collect();
    names.sort();
    let expected = [
        "bad",
        "cat",
        "command",
        "free",
        "iostat",
        "mpstat",
        "perf",
        "perf-c2c",
        "perf-lock",
        "perf-sched",
        "perf-stat",
        "pidstat",
        "proc",
        "sar",
        "vmstat",
    ];
    assert_eq!(names, expected);
    let wanted: Vec<String> = plugins.candidates().iter().flat_map(|c| c.note.provides.clone()).collect();
    let mut registry = Registry::default();
    plugins.load(wanted.iter().map(String::as_str), &mut registry).unwrap();
    for (info, _) in plugins.profilers() {
        assert_eq!(registry.encoder(&info.name).unwrap().profiler(), info);
        assert!(Args::new().complete(info).is_ok(), "{}", info.name);
    }
    assert!(["ssh", "local"].iter().all(|name| registry.transport(name).is_ok()));
    assert!(registry.signaler("marker").is_ok());
}

#[test]
fn a_third_partys_plugin_encodes() {
    let registry = registry(&["profiler:free"]);
    let free = registry.encoder("free").unwrap();
    let args = Args::new().with("interval", 0.5).complete(free.profiler()).unwrap();
    let missing = free.encode(&args, &HostFacts::default()).unwrap_err();
    assert_eq!((missing.kind, missing.hint.as_deref()), (ArgErrorKind::Missing, Some("install procps")));
    let mut facts = HostFacts::default();
    facts.tools.insert("free".into(), Tool::default());
    let invocation = free.encode(&args, &facts).unwrap();
    let start = invocation.start.unwrap();
    assert_eq!(start.argv, ["free", "-w", "-k", "-s", "0.5"]);
    assert_eq!((start.stdout.as_deref(), invocation.restart_after_reboot), (Some("free.txt"), true));
}

#[test]
fn only_what_is_wanted_is_loaded() {
    let registry = registry(&["profiler:vmstat", "profiler:vmstat"]);
    assert_eq!(registry.encoders().map(|(name, _)| name).collect::<Vec<_>>(), ["vmstat"]);
    assert_eq!(registry.transports().count(), 0);
    let error = plugins().load(["transport:shh"], &mut Registry::default()).unwrap_err();
    assert_eq!(error.to_string(), "unknown transport \"shh\": did you mean \"ssh\"?");
}

#[tokio::test]
async fn a_process_runs_through_the_boundary() {
    let registry = registry(&["transport:local"]);
    let session = registry.transport("local").unwrap().connect(&Host::local()).await.unwrap();
    let command = Command::sh("cat; echo oops >&2; exit 7", Vec::<String>::new());
    let input = Bytes::from(vec![b'x'; 3_000_000]);
    let captured = capture(session.as_ref(), &command, input.clone(), 8 << 20).await.unwrap();
    assert_eq!(captured.stdout, input);
    assert_eq!((captured.stderr_text().as_str(), captured.status), ("oops", ExitStatus::Code(7)));
    let killed = capture(session.as_ref(), &Command::sh("kill -9 $$", [""]), Bytes::new(), 10).await.unwrap();
    assert_eq!(killed.status, ExitStatus::Signal("KILL".into()));
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_read_loses_nothing_through_the_boundary() {
    let registry = registry(&["transport:local"]);
    let session = registry.transport("local").unwrap().connect(&Host::local()).await.unwrap();
    let Process { mut input, mut output } = session.exec(&Command::new(["cat"])).await.unwrap();
    let mut heard = Vec::new();
    for n in 0u8..20 {
        assert!(timeout(Duration::from_millis(2), output.next()).await.is_err());
        input.write(Bytes::from(vec![n])).await.unwrap();
        let OutputChunk::Stdout(data) = output.next().await.unwrap() else { panic!("no output") };
        heard.extend_from_slice(&data);
    }
    assert_eq!(heard, (0u8..20).collect::<Vec<_>>());
    input.close().await.unwrap();
    assert_eq!(output.next().await.unwrap(), OutputChunk::Exit(ExitStatus::Code(0)));
}

#[tokio::test]
async fn one_plugin_uses_anothers_session() {
    let registry = registry(&["transport:local", "signaler:marker"]);
    let session = registry.transport("local").unwrap().connect(&Host::local()).await.unwrap();
    let client = ClientHandle { directory: "/nonexistent".into(), after: 0, ..ClientHandle::default() };
    let mut channel = registry.signaler("marker").unwrap().attach(session, &client).await.unwrap();
    let error = channel.event().await.unwrap_err();
    assert_eq!(error.kind, SignalErrorKind::Closed);
    assert!(error.message.ends_with("/nonexistent/autoprof-client: not found"), "{error}");
}

struct Says(&'static str);

impl Prompter for Says {
    fn secret(&self, text: &str) -> Option<Secret> {
        (text == "how?").then(|| self.0.into())
    }
}

fn load_bad(how: &'static str) -> Result<Registry, PluginFileError> {
    let mut registry = Registry::new(Arc::new(Says(how)));
    load_into(&candidate("bad-plugin"), &mut registry)?;
    Ok(registry)
}

#[test]
fn a_start_that_fails_is_one_line() {
    let error = |how| load_bad(how).unwrap_err().to_string();
    assert_eq!(error("panic"), "its start failed: the plugin panicked: boom in register at src/lib.rs:12");
    assert_eq!(error("fail"), "its start failed: no licence");
    assert_eq!(error("less"), "its description of itself is wrong: it names profiler:bad, which it did not register");
    assert_eq!(
        error("more"),
        "its description of itself is wrong: it registered transport:more, which it does not name"
    );
    let mut registry = load_bad("well").unwrap();
    let taken = load_into(&candidate("bad-plugin"), &mut registry).unwrap_err().to_string();
    assert_eq!(taken, "it cannot be used beside the others: there is a transport named \"bad\" already");
}

#[tokio::test]
async fn a_panic_is_that_calls_error() {
    let registry = load_bad("well").unwrap();
    let error = registry.encoder("bad").unwrap().encode(&Args::new(), &HostFacts::default()).unwrap_err();
    assert_eq!(error.kind, ArgErrorKind::Panic);
    assert_eq!(error.message, "the plugin panicked: boom in encode at src/lib.rs:33");
    let error = registry.transport("bad").unwrap().connect(&Host::named("panic")).await.err().unwrap();
    assert_eq!(error.kind, TransportErrorKind::Panic);
    assert!(error.message.starts_with("the plugin panicked: boom in connect at src/lib.rs:"), "{error}");
}

#[tokio::test]
async fn a_dropped_call_is_dropped_in_the_plugin_with_its_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let mut host = Host::named("slow");
    host.options.insert("trace".into(), file.to_str().unwrap().into());
    let registry = load_bad("well").unwrap();
    let transport = registry.transport("bad").unwrap();
    assert!(timeout(Duration::from_millis(50), transport.connect(&host)).await.is_err());
    assert_eq!(fs::read_to_string(file).unwrap(), "dropped");
}

#[test]
fn a_panic_of_a_plugin_that_is_linked_in_is_an_error_too() {
    use autoprof_plugin::{prelude::*, register_contained};
    struct Linked;
    impl ArgEncoder for Linked {
        fn profiler(&self) -> &ProfilerInfo {
            static INFO: ProfilerInfo = ProfilerInfo::new("linked", "");
            &INFO
        }
        fn encode(&self, _: &Args, _: &HostFacts) -> Result<Invocation, ArgError> {
            panic!("boom")
        }
    }
    let mut registry = Registry::default();
    register_contained(|registry| registry.add_encoder(Arc::new(Linked)), &mut registry).unwrap();
    let error = registry.encoder("linked").unwrap().encode(&Args::new(), &HostFacts::default()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ArgErrorKind::Panic, "the plugin panicked: boom"));
}
