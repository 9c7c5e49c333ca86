//! The signaler against a client that is a script.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use autoprof_plugin::{
    core::protocol::{EventKind, Marker, MarkerTime},
    prelude::*,
};
use autoprof_signal_marker::MarkerSignaler;
use autoprof_transport_local::Local;
use tempfile::TempDir;
use tokio::time::timeout;

const STAMP: &str = r#""at":{"unix_ns":5,"boot_ns":6}"#;

/// A directory with a client that runs this script; `$2` is the directory, `$3` the last event that is known.
async fn attach(script: &str, after: u64) -> (TempDir, Box<dyn Channel>) {
    let dir = TempDir::new().unwrap();
    let client = dir.path().join("autoprof-client");
    fs::write(&client, format!("#!/bin/sh\n{}\n", script.replace("STAMP", STAMP))).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let session = Local.connect(&Host::local()).await.unwrap();
    let handle = ClientHandle { directory: dir.path().to_str().unwrap().to_owned(), after, ..ClientHandle::default() };
    let channel = MarkerSignaler.attach(session, &handle).await.unwrap();
    (dir, channel)
}

async fn closed(channel: &mut dyn Channel) -> SignalError {
    channel.event().await.unwrap_err()
}

#[tokio::test]
async fn signals_go_in_as_lines_and_events_come_out() {
    let script = r#"
        while read -r line; do
            n=$((n + 1)); printf '%s\n' "$line" >> "$2/lines"
            printf '{"seq":%d,STAMP,"event":"beat","question":7,"bytes":%d,"took_ns":9}\n' "$n" "$3"
        done"#;
    let (dir, mut channel) = attach(script, 41).await;
    let signals = [
        Signal::Marker(Marker::Start, MarkerTime::At(12_000_000_345)),
        Signal::Marker(Marker::Stop, MarkerTime::Now),
        Signal::Marker(Marker::Report, MarkerTime::Now),
        Signal::Beat(7),
    ];
    for (nth, signal) in signals.into_iter().enumerate() {
        channel.signal(signal).await.unwrap();
        let event = channel.event().await.unwrap();
        assert_eq!((event.seq, event.kind), (nth as u64 + 1, EventKind::Beat { question: 7, bytes: 41, took_ns: 9 }));
    }
    let lines = fs::read_to_string(dir.path().join("lines")).unwrap();
    assert_eq!(lines, "start A 12.000000345\nstop A\nreport A\nbeat 7\n");
}

#[tokio::test]
async fn what_a_login_prints_is_skipped() {
    let script =
        r#"echo 'Welcome!'; echo; echo '*** [warning] ***'; echo '{"seq":1,STAMP,"event":"stopped"}'; echo no"#;
    let (_dir, mut channel) = attach(script, 0).await;
    assert_eq!(channel.event().await.unwrap().kind, EventKind::Stopped);
    let error = channel.event().await.unwrap_err();
    assert_eq!(error.kind, SignalErrorKind::Protocol);
    assert!(error.message.ends_with("no event: no"), "{error}");
}

#[tokio::test]
async fn the_end_says_what_the_client_said() {
    let script = r#"echo '{"seq":1,STAMP,"event":"stopped"}'; echo 'no such run' >&2; exit 3"#;
    let (_dir, mut channel) = attach(script, 0).await;
    channel.event().await.unwrap();
    for _ in 0..2 {
        let error = closed(channel.as_mut()).await;
        assert_eq!(error.kind, SignalErrorKind::Closed);
        assert_eq!(error.to_string(), "the client is no longer attached (exit status 3): no such run");
    }
}

#[tokio::test]
async fn a_client_that_is_not_there_is_an_end_too() {
    let session = Local.connect(&Host::local()).await.unwrap();
    let handle = ClientHandle { directory: "/nonexistent".into(), after: 0, ..ClientHandle::default() };
    let mut channel = MarkerSignaler.attach(session, &handle).await.unwrap();
    let error = closed(channel.as_mut()).await.to_string();
    assert_eq!(error, "the client is no longer attached (exit status 127): /nonexistent/autoprof-client: not found");
}

#[tokio::test]
async fn a_line_without_an_end_is_bounded() {
    let (_dir, mut channel) = attach("head -c 3000000 /dev/zero; sleep 5", 0).await;
    let error = closed(channel.as_mut()).await;
    assert_eq!(error.kind, SignalErrorKind::Protocol);
    assert_eq!(error.message, "the client wrote a line of more than 1048576 bytes");
}

#[tokio::test]
async fn a_dropped_wait_loses_no_event() {
    let script = r#"for n in 1 2 3 4 5 6 7 8; do
        printf '{"seq":%d,ST' "$n"; sleep 0.02; printf 'AMP,"event":"stopped"}\n' | sed 's/AMP/X/'
    done"#;
    // The stamp is written in two parts, so that waits are dropped in the middle of lines.
    let script = script
        .replace("ST'", "\"at\":{\"unix_ns\":1,'")
        .replace("'AMP,", "'\"boot_ns\":2},")
        .replace("| sed 's/AMP/X/'", "");
    let (_dir, mut channel) = attach(&script, 0).await;
    let mut heard = Vec::new();
    while heard.len() < 8 {
        if let Ok(event) = timeout(Duration::from_millis(3), channel.event()).await {
            heard.push(event.unwrap().seq);
        }
    }
    assert_eq!(heard, [1, 2, 3, 4, 5, 6, 7, 8]);
}
