//! A perf that was really killed, and its file cut at many places: the real perf must read what the converter makes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use autoprof_plugin::{core::protocol::Tool, prelude::*};
use autoprof_profiler_perf::{PERF, PerfRecord};
use tempfile::TempDir;

/// Ends a process with its guard.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quiet(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether perf can be tested with here; loud when it cannot, and a failure where nobody would hear it.
fn ready() -> bool {
    let works = quiet("perf", &["record", "-e", "cpu-clock", "-o", "/dev/null", "true"]).status();
    let there = works.is_ok_and(|status| status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "perf cannot record, and in CI these tests must run");
        eprintln!("SKIPPED: perf is absent or may not record, nothing was tested with it");
    }
    there
}

/// A directory with the file of a perf that got a SIGKILL once the file was so large.
fn killed(options: &[&str], bytes: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let burner = Killed(quiet("sh", &["-c", "while :; do :; done"]).spawn().unwrap());
    let pid = burner.0.id().to_string();
    // Small buffers are emptied often.
    let mut perf = quiet("perf", &["record", "-m", "2", "-F", "4000", "-p", &pid, "-o", "perf.data"]);
    let mut perf = Killed(perf.args(options).current_dir(directory.path()).spawn().unwrap());
    let file = directory.path().join("perf.data");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&file).map_or(0, |file| file.len()) < bytes {
        assert!(Instant::now() < deadline, "perf writes nothing");
        assert!(perf.0.try_wait().unwrap().is_none(), "perf ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    directory
}

fn raw(directory: &Path) -> RawResults {
    let mut facts = HostFacts { system_wide: true, ..HostFacts::default() };
    facts.tools.insert(
        "perf".into(),
        Tool { path: "/usr/bin/perf".into(), version: "perf version 6.1.187".into(), ..Tool::default() },
    );
    RawResults {
        directory: directory.to_str().unwrap().into(),
        args: Args::new().complete(&PERF).unwrap(),
        began_unix_ns: 0,
        ended_unix_ns: 0,
        facts,
        clock_steps: Vec::new(),
        end_unknown: false,
    }
}

/// What the real perf prints of a file.
fn perf(directory: &Path, file: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new("perf").args(args).args(["-i", file]).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(String::from_utf8_lossy(&done.stdout).into_owned()) } else { Err(said) }
}

/// Samples that `perf script` finds in a file.
fn scripted(directory: &Path, file: &str) -> Result<u64, String> {
    let lines = perf(directory, file, &["script", "-F", "comm,time"])?;
    Ok(lines.lines().filter(|line| line.contains(':')).count() as u64)
}

/// Samples that the real perf finds in a file, which `perf report` must read as well.
fn samples_by_perf(directory: &Path, file: &str) -> Result<u64, String> {
    perf(directory, file, &["report", "--stdio", "--no-children", "--no-inline", "-s", "comm"])?;
    scripted(directory, file)
}

#[test]
fn the_file_of_a_killed_perf_is_read_by_perf_with_every_sample() {
    if !ready() {
        return;
    }
    let directory = killed(&["-g", "-e", "cpu-clock"], 200_000);
    let before = fs::read(directory.path().join("perf.data")).unwrap();
    assert!(samples_by_perf(directory.path(), "perf.data").is_err(), "perf reads it as it is");
    let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
    assert_eq!(tables.len(), 1);
    let samples = tables[0].repaired.unwrap();
    assert!(samples > 100, "{tables:?}");
    assert_eq!(tables[0].file, "perf.repaired.data");
    assert_eq!(samples_by_perf(directory.path(), "perf.repaired.data"), Ok(samples));
    assert_eq!(fs::read(directory.path().join("perf.data")).unwrap(), before, "the raw file stays as it came");
}

#[test]
fn a_file_cut_at_any_place_is_read_by_perf() {
    if !ready() {
        return;
    }
    let directory = killed(&["-g", "-e", "cpu-clock"], 60_000);
    let whole = fs::read(directory.path().join("perf.data")).unwrap();
    let mut last = 0;
    for place in 0..30 {
        // An odd step meets places within headers of records, their bodies and between them.
        let at = 1 + place * (whole.len() - 1) / 29;
        let zeros = [0, 1, 7, 8, 4096][place % 5];
        let torn = [&whole[..at], &vec![0; zeros]].concat();
        fs::write(directory.path().join("perf.data"), torn).unwrap();
        let Ok(tables) = PerfRecord.convert(&raw(directory.path())) else {
            assert_eq!(last, 0, "cut at {at}: nothing, though earlier there was something");
            continue;
        };
        let samples = tables[0].repaired.unwrap();
        assert!(samples + 1 >= last, "cut at {at}: {samples} samples, {last} before");
        assert_eq!(scripted(directory.path(), "perf.repaired.data"), Ok(samples), "cut at {at}");
        last = samples;
    }
    assert!(last > 50, "{last}");
}

#[test]
fn compressed_records_are_read_by_perf() {
    if !ready() {
        return;
    }
    let directory = killed(&["-g", "-z", "-e", "cpu-clock"], 60_000);
    let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
    assert!(tables[0].warnings[0].contains("compressed records"), "{tables:?}");
    assert!(samples_by_perf(directory.path(), "perf.repaired.data").unwrap() > tables[0].rows);
}

#[test]
fn a_file_that_was_ended_and_cut_later_is_read_by_perf() {
    if !ready() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let count = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let mut perf = quiet("perf", &["record", "-F", "4000", "-g", "-e", "cpu-clock", "sh", "-c", count]);
    assert!(perf.current_dir(directory.path()).status().unwrap().success());
    let whole = fs::read(directory.path().join("perf.data")).unwrap();
    let samples = samples_by_perf(directory.path(), "perf.data").unwrap();
    fs::write(directory.path().join("perf.folded.txt"), "").unwrap();
    let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
    assert!(tables.iter().all(|table| table.repaired.is_none()), "{tables:?}");
    assert!(!directory.path().join("perf.repaired.data").exists(), "a whole file is left alone");
    for lost in [1, 100, 1000, whole.len() / 2] {
        for zeros in [0, lost] {
            let torn = [&whole[..whole.len() - lost], &vec![0; zeros]].concat();
            fs::write(directory.path().join("perf.data"), torn).unwrap();
            let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
            let Some(found) = tables[0].repaired else {
                assert!(zeros > 0 && lost == 1, "{lost} bytes lost: {tables:?}");
                continue;
            };
            assert!(lost > 1000 || found == samples, "{lost} bytes lost: {found} of {samples}");
            assert_eq!(samples_by_perf(directory.path(), "perf.repaired.data"), Ok(found));
        }
    }
}

#[test]
fn tracepoints_are_read_by_perf_as_numbers() {
    let event = ["-g", "-e", "sched:sched_stat_runtime"];
    let tried = quiet("perf", &["record", "-o", "/dev/null"]).args(event).arg("true").status();
    if !ready() || !tried.unwrap().success() {
        eprintln!("SKIPPED: perf may not record tracepoints here");
        return;
    }
    let directory = killed(&["-g", "-e", "sched:sched_stat_runtime,cpu-clock"], 60_000);
    assert!(samples_by_perf(directory.path(), "perf.data").is_err(), "perf reads it as it is");
    let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
    assert!(tables[0].warnings.iter().any(|warning| warning.contains("tracepoints")), "{tables:?}");
    assert_eq!(samples_by_perf(directory.path(), "perf.repaired.data"), Ok(tables[0].repaired.unwrap()));
}

#[test]
fn what_came_through_a_pipe_is_cut_to_its_last_whole_record() {
    if !ready() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let count = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let script = format!("perf record -F 4000 -g -e cpu-clock -o - sh -c '{count}' > perf.data");
    assert!(quiet("sh", &["-c", &script]).current_dir(directory.path()).status().unwrap().success());
    let whole = fs::read(directory.path().join("perf.data")).unwrap();
    // What a file that seems to have ended is converted from.
    fs::write(directory.path().join("perf.folded.txt"), "").unwrap();
    let mut repaired = 0;
    for at in (1..20).map(|part| whole.len() * part / 20) {
        fs::write(directory.path().join("perf.data"), &whole[..at]).unwrap();
        let tables = PerfRecord.convert(&raw(directory.path())).unwrap();
        // What comes through a pipe has no size: a cut between two records cannot be told from the end.
        let Some(samples) = tables.first().and_then(|table| table.repaired) else { continue };
        repaired += 1;
        if samples > 0 {
            assert_eq!(samples_by_perf(directory.path(), "perf.repaired.data"), Ok(samples));
        }
    }
    assert!(repaired > 10, "only {repaired} of 19 cuts were seen");
}
