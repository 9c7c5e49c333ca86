//! Profilers that measure the same thing agree under a load that is known, and one that is wrong is found.
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    sync::mpsc,
    time::Duration,
};

use camino::Utf8Path;

use crate::support::{LONG, Scratch, autoprof};

/// CPU time, switches, bytes on the loopback interface and on the disk below `file`, until `over` is set.
fn load(file: &Utf8Path, over: &AtomicBool) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                std::hint::spin_loop()
            }
        });
        let ((ping, pong), (back, forth)) = (mpsc::sync_channel::<()>(0), mpsc::sync_channel::<()>(0));
        scope.spawn(move || while pong.recv().is_ok() && back.send(()).is_ok() {});
        scope.spawn(move || while !over.load(Relaxed) && ping.send(()).is_ok() && forth.recv().is_ok() {});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut receiver = listener.accept().unwrap().0;
        scope.spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while receiver.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        scope.spawn(move || {
            while !over.load(Relaxed) {
                sender.write_all(&[7; 1 << 16]).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        scope.spawn(|| {
            let block = vec![7; 4 << 20];
            while !over.load(Relaxed) {
                let mut out = std::fs::File::create(file).unwrap();
                out.write_all(&block).and_then(|()| out.sync_all()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    });
}

/// A run of these profilers on this machine under the load.
fn loaded(scratch: &Scratch, profilers: &[&str], path: Option<&Utf8Path>) -> lab::CrossChecks {
    let (out, over) = (scratch.path("run"), AtomicBool::new(false));
    let file = scratch.path("written");
    let mut args = vec!["run", "-o", out.as_str(), "--no-report", "-d", "10"];
    profilers.iter().for_each(|profiler| args.extend(["-p", profiler]));
    let mut command = autoprof(&args);
    if let Some(path) = path {
        command.env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| load(&file, &over));
        let done = lab::run(&mut command, LONG);
        over.store(true, Relaxed);
        done.expect_success();
    });
    lab::cross_checks(&out)
}

#[test]
fn all_roads_to_a_quantity_lead_to_the_same_number() {
    if lab::skip_unless(&["vmstat", "mpstat", "iostat", "sar", "sadf", "perf"]) {
        return;
    }
    let scratch = Scratch::new();
    let perf = "perf-stat:events=context-switches";
    let checks = loaded(&scratch, &["proc", "vmstat", "mpstat", "iostat", "sar", perf], None);
    assert_eq!(checks.disagreements, Vec::<String>::new());
    let disk = {
        let mut written: Vec<_> =
            checks.readings.iter().filter(|r| r.quantity == "disk.write_bytes" && r.profiler == "proc").collect();
        written.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        written[0].key.clone()
    };
    let expected: [(&str, &str, &[&str], f64); 9] = [
        ("cpu.busy", "", &["mpstat", "proc", "sar", "vmstat"], 20.0),
        ("cpu.system", "", &["mpstat", "proc", "sar", "vmstat"], 0.5),
        ("system.context_switches", "", &["perf-stat", "proc", "sar", "vmstat"], 1000.0),
        ("memory.available", "", &["proc", "sar"], 1e6),
        ("disk.write_bytes", &disk, &["iostat", "proc", "sar"], 1e6),
        ("disk.busy", &disk, &["iostat", "proc", "sar"], 0.1),
        ("net.rx_bytes", "lo", &["proc", "sar"], 1e6),
        ("net.tx_bytes", "lo", &["proc", "sar"], 1e6),
        ("system.forks", "", &["proc", "sar"], 0.0),
    ];
    for (quantity, key, profilers, least) in expected {
        let mut means = checks.means("local", quantity, key);
        means.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<&str> = means.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, profilers, "{quantity} {key}: {checks:#?}");
        assert!(means.iter().all(|(_, mean)| *mean >= least), "{quantity} {key}: {means:?}");
    }
}

#[test]
fn a_tool_that_prints_twice_what_was_written_is_found() {
    if lab::skip_unless(&["iostat", "awk"]) {
        return;
    }
    let scratch = Scratch::new();
    let bin = scratch.path("bin");
    std::fs::create_dir(&bin).unwrap();
    // Its interrupt is for the tool: what reads it goes on to the end.
    let real = lab::find_program("iostat").unwrap();
    let doubled = format!(
        "#!/bin/sh\ncase $1 in -V) exec {real} -V;; esac\ntrap '' INT\n\
         (trap - INT; exec {real} \"$@\") | awk '{{ while (match($0, /\"wkB\\/s\": [0-9.]+/)) {{ \
         v = substr($0, RSTART + 9, RLENGTH - 9); printf \"%s\\\"wkB/s\\\": %.2f\", substr($0, 1, RSTART - 1), 2 * v; \
         $0 = substr($0, RSTART + RLENGTH) }} print; fflush() }}'\n"
    );
    let fake = bin.join("iostat");
    std::fs::write(&fake, doubled).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let checks = loaded(&scratch, &["proc", "iostat"], Some(&bin));
    let found = checks.disagreements.join("\n");
    assert!(found.starts_with("iostat and proc disagree on bytes written to "), "{checks:#?}");
    assert_eq!(checks.disagreements.len(), 1, "{found}");
}
