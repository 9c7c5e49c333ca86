//! Nothing outlives a session, however it ends.
use std::{
    process::{Command as Program, Stdio},
    time::{Duration, Instant},
};

use autoprof_plugin::prelude::*;

use crate::{
    Kind,
    lab::{Lab, connect, ready, sh},
};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn closing_leaves_no_process_and_no_directory() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let directories = Lab::directories(&lab.processes());
    assert_eq!(directories.len(), 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&directories[0].metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    session.close().await.unwrap();
    assert!(!directories[0].exists());
    lab.assert_nothing_left(&directories, SOON).await;
}

#[tokio::test]
async fn a_session_that_is_dropped_leaves_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let directories = Lab::directories(&lab.processes());
    drop(session);
    lab.assert_nothing_left(&directories, SOON).await;
}

#[tokio::test]
async fn a_connect_that_is_given_up_leaves_nothing() {
    if !ready() {
        return;
    }
    let mut lab = Lab::start("");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    lab.port = silent.local_addr().unwrap().port();
    let host = lab.host();
    let seen = async {
        let stream = silent.accept().await.unwrap().0;
        (Lab::directories(&lab.processes()), stream)
    };
    let (directories, _stream) = tokio::select! {
        _ = connect(&host) => panic!("a silent server lets nobody in"),
        seen = seen => seen,
    };
    assert_eq!(directories.len(), 1);
    lab.assert_nothing_left(&directories, SOON).await;
}

/// Not a test: holds a session for the one below, in a process of its own.
#[tokio::test]
#[ignore = "a part of another test"]
async fn hold() {
    let Some(address) = std::env::var_os("AUTOPROF_TEST_HOLD") else { return };
    let address = address.into_string().unwrap();
    let (port, config) = address.split_once(' ').unwrap();
    let mut host: Host = format!("127.0.0.1:{port}").parse().unwrap();
    host.options.insert("ssh_config".into(), config.into());
    let session = connect(&host).await.unwrap();
    let _process = session.exec(&Command::new(["sleep", "1000"])).await.unwrap();
    println!("held");
    tokio::time::sleep(Duration::from_secs(600)).await;
}

#[tokio::test]
async fn kill_9_of_autoprof_leaves_no_process_and_no_directory() {
    if !ready() {
        return;
    }
    // Killed when connected, and while it connects.
    for silent in [false, true] {
        let mut lab = Lab::start("");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        if silent {
            lab.port = listener.local_addr().unwrap().port();
        }
        let mut holder = Program::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "end::hold", "--nocapture"])
            .env("AUTOPROF_TEST_HOLD", format!("{} {}", lab.port, lab.path("ssh_config").display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stream = None;
        if silent {
            stream = Some(listener.accept().unwrap());
        } else {
            let mut out = std::io::BufReader::new(holder.stdout.take().unwrap());
            let mut line = String::new();
            while !line.contains("held") {
                line.clear();
                assert_ne!(std::io::BufRead::read_line(&mut out, &mut line).unwrap(), 0, "it ended");
            }
        }
        let directories = Lab::directories(&lab.processes());
        assert_eq!(directories.len(), 1, "{:?}", lab.processes());
        holder.kill().unwrap();
        holder.wait().unwrap();
        lab.assert_nothing_left(&directories, SOON).await;
        drop(stream);
    }
}

#[tokio::test]
async fn a_connection_that_dies_is_no_success() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let directories = Lab::directories(&lab.processes());
    let mut process = session.exec(&Command::sh("echo begun; kill -9 $PPID; sleep 5", [""; 0])).await.unwrap();
    let end = loop {
        match process.output.next().await {
            Ok(OutputChunk::Stdout(data)) => assert_eq!(data, "begun\n"),
            Ok(other) => panic!("{other:?}"),
            Err(e) => break e,
        }
    };
    assert_eq!(end.kind, Kind::Closed);
    eprintln!("{end}");
    lab.assert_nothing_left(&directories, SOON).await;
}

#[tokio::test]
async fn an_ssh_that_is_killed_is_a_closed_connection() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let directories = Lab::directories(&lab.processes());
    let pattern = format!("^ssh .*{}/control", directories[0].display());
    crate::lab::run(Program::new("pkill").args(["-KILL", "-f", &pattern]));
    let started = Instant::now();
    let error = session.exec(&Command::new(["true"])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
    assert!(started.elapsed() < SOON);
    lab.assert_nothing_left(&directories, SOON).await;
}

#[tokio::test]
async fn a_command_whose_streams_are_dropped_frees_its_channel() {
    if !ready() {
        return;
    }
    let lab = Lab::start("MaxSessions 1");
    let session = lab.connect().await.unwrap();
    // Ends when its input does.
    drop(session.exec(&Command::new(["cat"])).await.unwrap());
    let deadline = Instant::now() + SOON;
    while sh(&*session, "pgrep -c -P $PPID cat || true").await.stdout != b"0\n" {
        assert!(Instant::now() < deadline, "cat runs on");
    }
}
