//! The transport against real processes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use std::{fs, time::Duration};

use autoprof_plugin::{
    conformance,
    core::transport::{Captured, capture},
    prelude::*,
};
use autoprof_transport_local::Local;
use tokio::time::{Instant, timeout};

async fn session() -> Arc<dyn Session> {
    Local.connect(&Host::local()).await.unwrap()
}

async fn run(script: &str, input: &'static str) -> Captured {
    let command = Command::sh(script, Vec::<String>::new());
    capture(session().await.as_ref(), &command, Bytes::from(input), 64 << 20).await.unwrap()
}

#[tokio::test]
async fn it_keeps_what_a_session_promises() {
    let failed = conformance::failures(&conformance::session(session().await.as_ref()).await);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A session as it is easily written: what is no script yet is made one.
struct Careless;

#[async_trait]
impl Session for Careless {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        match command.argv[0].as_str() {
            "/bin/sh" => session().await.exec(command).await,
            _ => session().await.exec(&Command::sh(&command.argv.join(" "), [""; 0])).await,
        }
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[tokio::test]
async fn a_session_that_does_not_keep_it_is_told_so() {
    let failed = conformance::failures(&conformance::session(&Careless).await);
    assert!(failed.len() == 1 && failed[0].starts_with("arguments that a shell would change: "), "{failed:#?}");
}

#[tokio::test]
async fn streams_and_status_come_through() {
    let captured = run("cat; echo oops >&2; exit 7", "hello\n").await;
    assert_eq!((captured.stdout.as_slice(), captured.stderr_text().as_str()), (b"hello\n".as_slice(), "oops"));
    assert_eq!(captured.status, ExitStatus::Code(7));
}

#[tokio::test]
async fn a_signal_is_named() {
    assert_eq!(run("kill -TERM $$", "").await.status, ExitStatus::Signal("TERM".into()));
}

#[tokio::test]
async fn a_program_that_does_not_start_ends_as_in_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "text").unwrap();
    let plain = plain.to_str().unwrap();
    for (program, code, message) in [("no-such-program", 127, "not found"), (plain, 126, "cannot be executed")] {
        let captured =
            capture(session().await.as_ref(), &Command::new([program]), Bytes::new(), 100_000).await.unwrap();
        assert_eq!(captured.status, ExitStatus::Code(code));
        assert_eq!(captured.stderr_text(), format!("{program}: {message}"));
    }
}

#[tokio::test]
async fn arguments_are_not_seen_by_any_shell() {
    let command = Command::new(["printf", "%s|", "$HOME", "a b", "'", ""]);
    let captured = capture(session().await.as_ref(), &command, Bytes::new(), 1000).await.unwrap();
    assert_eq!(String::from_utf8(captured.stdout).unwrap(), "$HOME|a b|'||");
}

#[tokio::test]
async fn much_data_is_complete() {
    let captured = run("head -c 20000000 /dev/zero", "").await;
    assert_eq!((captured.stdout.len(), captured.status), (20_000_000, ExitStatus::Code(0)));
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let Process { mut input, mut output } = session().await.exec(&Command::new(["cat"])).await.unwrap();
    assert!(timeout(Duration::from_millis(30), output.next()).await.is_err());
    input.write("a".into()).await.unwrap();
    let mut heard = Vec::new();
    loop {
        match timeout(Duration::from_millis(1), output.next()).await {
            Err(_) if heard.is_empty() => {}
            Err(_) => drop(input.close().await),
            Ok(Ok(OutputChunk::Stdout(data))) => heard.extend_from_slice(&data),
            Ok(other) => break assert_eq!(other.unwrap(), OutputChunk::Exit(ExitStatus::Code(0))),
        }
    }
    assert_eq!(heard, b"a");
    assert!(input.write("b".into()).await.is_err());
}

#[tokio::test]
async fn a_grandchild_in_the_background_holds_nothing_up() {
    let began = Instant::now();
    let captured = run("sleep 30 & echo $!", "").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let pid = String::from_utf8(captured.stdout).unwrap();
    assert_eq!(run(&format!("kill {pid}"), "").await.status, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_process_outlives_its_streams_in_a_group_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("done");
    let script = "sleep 0.3; ps -o pgid= -p $$ | tr -d ' ' > $1.tmp; echo $$ >> $1.tmp; mv $1.tmp $1";
    let command = Command::sh(script, [file.to_str().unwrap()]);
    drop(session().await.exec(&command).await.unwrap());
    let done = timeout(Duration::from_secs(10), async {
        loop {
            match fs::read_to_string(&file) {
                Ok(text) => break text,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let text = done.await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], lines[1]);
}
