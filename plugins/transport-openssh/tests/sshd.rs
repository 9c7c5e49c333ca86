//! The transport against a real OpenSSH server.
#![allow(clippy::unwrap_used)]

#[path = "sshd/end.rs"]
mod end;
#[path = "sshd/faults.rs"]
mod faults;
mod lab;
#[path = "sshd/login.rs"]
mod login;

use std::time::{Duration, Instant};

use autoprof_plugin::{conformance, core::transport::capture, prelude::*};
use lab::{Lab, connect, ready, sh};

type Kind = TransportErrorKind;

#[tokio::test]
async fn it_keeps_what_a_session_promises() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let failed = conformance::failures(&conformance::session(session.as_ref()).await);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_command_has_input_output_errors_and_a_status() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let command = Command::sh("cat; echo \"$1\" >&2; exit 7", ["it's \"$HOME\"\n*"]);
    let out = capture(&*session, &command, "hello".into(), 1 << 20).await.unwrap();
    assert_eq!(out.stdout, b"hello");
    assert_eq!(out.stderr, b"it's \"$HOME\"\n*\n");
    assert_eq!(out.status, ExitStatus::Code(7));
    assert!(sh(&*session, "true").await.status.success());
    session.close().await.unwrap();
    let error = session.exec(&Command::new(["true"])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
}

#[tokio::test]
async fn status_255_and_signals_are_the_commands_own() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    for code in [0, 1, 126, 143, 254, 255] {
        assert_eq!(sh(&*session, &format!("exit {code}")).await.status, ExitStatus::Code(code));
    }
    for signal in ["TERM", "KILL", "INT", "HUP", "USR1"] {
        assert_eq!(sh(&*session, &format!("kill -{signal} $$")).await.status, ExitStatus::Signal(signal.into()));
    }
    let absent = capture(&*session, &Command::new(["/no/such/program"]), Bytes::new(), 1 << 20).await.unwrap();
    assert_eq!(absent.status, ExitStatus::Code(127));
}

#[tokio::test]
async fn sixty_four_mebibytes_go_both_ways_intact() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let mut seed = 1u64;
    let data: Bytes = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_le_bytes()
    })
    .take(8 << 20)
    .flatten()
    .collect();
    assert_eq!(data.len(), 64 << 20);
    let started = Instant::now();
    let out = capture(&*session, &Command::new(["cat"]), data.clone(), 80 << 20).await.unwrap();
    eprintln!("{:.0} MiB/s both ways", 64.0 / started.elapsed().as_secs_f64());
    assert!(out.status.success());
    assert!(out.stdout == data, "{} of {} bytes came back", out.stdout.len(), data.len());
}

#[tokio::test]
async fn a_command_that_stops_reading_ends_the_writing_and_not_the_connection() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    for round in 0..10 {
        let script = format!("head -c {} > /dev/null; exit 3", 100_000 * round);
        let Process { mut input, mut output } = session.exec(&Command::sh(&script, [""; 0])).await.unwrap();
        let started = Instant::now();
        let error = input.write(Bytes::from(vec![0; 40 << 20])).await.unwrap_err();
        assert_eq!(error.kind, Kind::Closed, "{error}");
        assert_eq!(output.next().await.unwrap(), OutputChunk::Exit(ExitStatus::Code(3)));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(sh(&*session, "echo on").await.stdout, b"on\n");
    }
}

#[tokio::test]
async fn a_command_that_does_not_read_does_not_hold_up_others() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let Process { mut input, output } = session.exec(&Command::new(["sleep", "20"])).await.unwrap();
    let stuck = tokio::spawn(async move { input.write(Bytes::from(vec![0; 40 << 20])).await });
    for _ in 0..10 {
        assert_eq!(sh(&*session, "echo on").await.stdout, b"on\n");
    }
    assert!(!stuck.is_finished());
    stuck.abort();
    drop(output);
}

#[tokio::test]
async fn output_that_nobody_reads_is_held_back_on_the_host() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let count = lab.path("count");
    let script = "n=0; while head -c 65536 /dev/zero; do n=$((n+1)); echo $n > \"$1\"; done";
    let process = session.exec(&Command::sh(script, [count.to_str().unwrap()])).await.unwrap();
    // It stands still once the window and the pipes are full.
    let written = || std::fs::read_to_string(&count).ok().and_then(|n| n.trim().parse::<usize>().ok()).unwrap_or(0);
    let mut before = usize::MAX;
    while before != written() || before == 0 {
        before = written();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(before * 65536 < 8 << 20, "{before} blocks of 64 KiB were written");
    drop(process);
}

#[tokio::test]
async fn a_write_without_progress_drops_the_connection() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let mut host = lab.host();
    host.options.insert("write_timeout".into(), "0.5".into());
    let session = connect(&host).await.unwrap();
    let Process { mut input, mut output } = session.exec(&Command::new(["sleep", "30"])).await.unwrap();
    let error = input.write(Bytes::from(vec![0; 40 << 20])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    let error = output.next().await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
}

#[tokio::test]
async fn more_commands_than_max_sessions_run_at_once() {
    if !ready() {
        return;
    }
    let lab = Lab::start("MaxSessions 1");
    let session = lab.connect().await.unwrap();
    let first = session.exec(&Command::new(["cat"])).await.unwrap();
    let second = session.exec(&Command::new(["cat"])).await.unwrap();
    assert_eq!(sh(&*session, "echo third").await.stdout, b"third\n");
    for Process { mut input, mut output } in [first, second] {
        input.write("x".into()).await.unwrap();
        assert_eq!(output.next().await.unwrap(), OutputChunk::Stdout("x".into()));
        input.close().await.unwrap();
        assert_eq!(output.next().await.unwrap(), OutputChunk::Exit(ExitStatus::Code(0)));
    }
    session.close().await.unwrap();
    lab.assert_nothing_left(&[], Duration::from_secs(3)).await;
}

#[tokio::test]
async fn variables_of_the_configuration_are_not_sent() {
    if !ready() {
        return;
    }
    let lab = Lab::start("AcceptEnv *");
    lab.config("SetEnv LC_LEAK=1\nSendEnv PATH* LC_* LANG");
    let session = lab.connect().await.unwrap();
    assert_eq!(sh(&*session, "echo \"<$LC_LEAK>\"").await.stdout, b"<>\n");
}
