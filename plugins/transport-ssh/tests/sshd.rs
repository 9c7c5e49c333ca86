//! The transport against a real OpenSSH server.
#![allow(clippy::unwrap_used)]

#[path = "sshd/configuration.rs"]
mod configuration;
mod lab;
#[path = "sshd/login.rs"]
mod login;
#[path = "sshd/password.rs"]
mod password;

use std::{
    fs,
    process::Command as Program,
    time::{Duration, Instant},
};

use autoprof_plugin::{conformance, core::transport::capture, prelude::*};
use lab::{Answering, Lab, error, free_port, ready, run, sh, transport};

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
async fn a_signal_and_an_absent_program_are_told_apart_from_a_status() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    assert_eq!(sh(&*session, "kill -TERM $$").await.status, ExitStatus::Signal("TERM".into()));
    let absent = capture(&*session, &Command::new(["/no/such/program"]), Bytes::new(), 1 << 20).await.unwrap();
    assert_eq!(absent.status, ExitStatus::Code(127));
}

#[tokio::test]
async fn twenty_mebibytes_go_both_ways_intact() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    let mut seed = 1u64;
    let data: Bytes = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(20 << 20)
    .collect();
    let out = capture(&*session, &Command::new(["cat"]), data.clone(), 30 << 20).await.unwrap();
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
    // Again and again: what is on its way when the command ends differs, and none of it may be left in the way.
    for round in 0..20 {
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
async fn a_command_that_reads_in_small_steps_may_end_before_its_output_is_read() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
    // sshd widens the window by each page that the pipe takes: more often than messages may wait for their reader.
    let script = "for _ in $(seq 400); do dd bs=4096 count=1 of=/dev/null 2> /dev/null; done; exit 3";
    let Process { mut input, mut output } = session.exec(&Command::sh(script, [""; 0])).await.unwrap();
    let error = input.write(Bytes::from(vec![0; 40 << 20])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
    assert_eq!(output.next().await.unwrap(), OutputChunk::Exit(ExitStatus::Code(3)));
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
async fn a_write_without_progress_drops_the_connection() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let mut host = lab.host();
    host.options.insert("write_timeout".into(), "0.5".into());
    let session = transport(Arc::new(Answering::default())).connect(&host).await.unwrap();
    let Process { mut input, mut output } = session.exec(&Command::new(["sleep", "30"])).await.unwrap();
    let error = input.write(Bytes::from(vec![0; 40 << 20])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    let error = output.next().await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
}

#[tokio::test]
async fn a_write_to_a_host_that_stopped_drops_the_connection() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let mut host = lab.host();
    host.options.insert("write_timeout".into(), "1".into());
    let session = transport(Arc::new(Answering::default())).connect(&host).await.unwrap();
    let script = "echo $PPID; read -r go; kill -STOP $PPID; sleep 5";
    let Process { mut input, mut output } = session.exec(&Command::sh(script, [""; 0])).await.unwrap();
    let OutputChunk::Stdout(sshd) = output.next().await.unwrap() else { panic!() };
    input.write("go\n".into()).await.unwrap();
    let started = Instant::now();
    let error = input.write(Bytes::from(vec![0; 40 << 20])).await.unwrap_err();
    eprintln!("{error}");
    // Ours, or the kernel's, which notices at the same time that nothing is acknowledged.
    assert!(matches!(error.kind, Kind::Timeout | Kind::Closed), "{error}");
    let error = output.next().await.unwrap_err();
    assert_eq!(error.kind, Kind::Closed, "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    run(Program::new("kill").arg("-KILL").arg(String::from_utf8(sshd.to_vec()).unwrap().trim()));
}

#[tokio::test]
async fn more_commands_than_max_sessions_work_over_further_connections() {
    if !ready() {
        return;
    }
    let lab = Lab::start("MaxSessions 1");
    let session = lab.connect().await.unwrap();
    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(session.exec(&Command::new(["cat"])).await.unwrap());
    }
    for (at, process) in running.into_iter().enumerate() {
        let Process { mut input, mut output } = process;
        input.write(Bytes::from(format!("{at}"))).await.unwrap();
        input.close().await.unwrap();
        assert_eq!(output.next().await.unwrap(), OutputChunk::Stdout(format!("{at}").into()));
        assert_eq!(output.next().await.unwrap(), OutputChunk::Exit(ExitStatus::Code(0)));
    }
    // At the same time, too.
    let all = (0..5).map(|at| {
        let session = Arc::clone(&session);
        tokio::spawn(async move { sh(&*session, &format!("sleep 0.1; echo {at}")).await.stdout })
    });
    for (at, task) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), format!("{at}\n").into_bytes());
    }
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_host_behind_another_is_reached_through_it() {
    if !ready() {
        return;
    }
    let (gate, inner) = (Lab::start(""), Lab::start(""));
    let both = fs::read_to_string(gate.known_hosts()).unwrap() + &fs::read_to_string(inner.known_hosts()).unwrap();
    fs::write(inner.known_hosts(), both).unwrap();
    inner.config(&format!(
        "Host gate\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\nHost *\n",
        gate.port,
        gate.path("id").display()
    ));
    let host = Host { jump: Some("gate".into()), ..inner.host() };
    let session = transport(Arc::new(Answering::default())).connect(&host).await.unwrap();
    let out = sh(&*session, "echo $SSH_CONNECTION").await;
    assert!(String::from_utf8(out.stdout).unwrap().trim().ends_with(&inner.port.to_string()));
    let data = Bytes::from(vec![7; 3 << 20]);
    let out = capture(&*session, &Command::new(["cat"]), data.clone(), 30 << 20).await.unwrap();
    assert!(out.stdout == data);
    session.close().await.unwrap();

    let nowhere = Host { port: Some(free_port()), jump: Some("gate".into()), ..inner.host() };
    let refused = error(transport(Arc::new(Answering::default())).connect(&nowhere).await);
    assert_eq!(refused.kind, Kind::Connect);
    fs::write(inner.known_hosts(), "").unwrap();
    let unknown = error(transport(Arc::new(Answering::default())).connect(&host).await);
    assert!(
        unknown.message.starts_with(&format!("jump host: the host key of 127.0.0.1:{} is unknown", gate.port)),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_server_that_never_speaks_times_out_by_name() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap().to_string();
    let mut host: Host = place.parse().unwrap();
    host.options.insert("ssh_config".into(), "none".into());
    host.options.insert("connect_timeout".into(), "0.7".into());
    let started = Instant::now();
    let error = error(transport(Arc::new(Answering::default())).connect(&host).await);
    let took = started.elapsed();
    assert_eq!(error.kind, Kind::Timeout);
    assert_eq!(error.message, format!("banner and key exchange with {place} timed out after 0.7 s"));
    assert!(took > Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_refused_port_and_an_unknown_name_are_told() {
    let place = format!("127.0.0.1:{}", free_port());
    let mut host: Host = place.parse().unwrap();
    host.options.insert("ssh_config".into(), "none".into());
    let refused = error(transport(Arc::new(Answering::default())).connect(&host).await);
    assert_eq!(
        (refused.kind, refused.message),
        (Kind::Connect, format!("cannot connect to {place}: connection refused"))
    );
    let absent = Host { address: Some("no-such-host.invalid".into()), ..host };
    assert_eq!(error(transport(Arc::new(Answering::default())).connect(&absent).await).kind, Kind::Resolve);
}

#[tokio::test]
async fn a_bad_configuration_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let mut host = Host::named("web");
    host.options.insert("ssh_config".into(), file.display().to_string());
    for text in [None, Some("Port many\n")] {
        text.iter().for_each(|t| fs::write(&file, t).unwrap());
        let error = error(transport(Arc::new(Answering::default())).connect(&host).await);
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.contains(&file.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_is_no_success() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let session = lab.connect().await.unwrap();
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
}

#[tokio::test]
async fn a_connect_that_is_given_up_leaves_no_connection_behind() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host: Host = silent.local_addr().unwrap().to_string().parse().unwrap();
    host.options.insert("ssh_config".into(), "none".into());
    let transport = transport(Arc::new(Answering::default()));
    let connect = tokio::time::timeout(Duration::from_millis(300), transport.connect(&host));
    let (given_up, accepted) = tokio::join!(connect, silent.accept());
    assert!(given_up.is_err());
    let mut stream = accepted.unwrap().0;
    let mut sink = tokio::io::sink();
    let ended = tokio::time::timeout(Duration::from_secs(5), tokio::io::copy(&mut stream, &mut sink)).await;
    assert!(ended.is_ok(), "the connection is still there");
}
