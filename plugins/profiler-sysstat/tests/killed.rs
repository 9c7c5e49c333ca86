//! Tools that were really killed: what they left becomes JSON and tables of every sample that was written.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use autoprof_plugin::prelude::*;
use autoprof_profiler_sysstat::{Iostat, Mpstat};

fn now_ns() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos().try_into().unwrap()
}

/// Whether a tool is here; loud when it is not, and a failure where nobody would hear it.
fn ready(tool: &str) -> bool {
    let there = Command::new(tool).arg("-V").output().is_ok();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{tool} is absent, and in CI these tests must run");
        eprintln!("SKIPPED: {tool} is absent, nothing was tested with it");
    }
    there
}

/// Runs an encoder's tool until two samples are in its file, kills it, and converts the file.
fn kills(encoder: &dyn ArgEncoder) {
    let name = encoder.profiler().name.clone();
    if !ready(&name) {
        return;
    }
    let mut facts = HostFacts::default();
    facts.tools.insert(name.to_string(), Default::default());
    let args = Args::new().complete(encoder.profiler()).unwrap();
    let start = encoder.encode(&args, &facts).unwrap().start.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(start.stdout.unwrap());
    let began_unix_ns = now_ns();
    let mut tool = Command::new(&start.argv[0]);
    tool.args(&start.argv[1..]).envs(&start.env).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    let mut tool = tool.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    let samples = || fs::read_to_string(&file).unwrap().matches("timestamp").count();
    let deadline = Instant::now() + Duration::from_secs(60);
    while samples() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    tool.kill().unwrap();
    tool.wait().unwrap();
    let raw = RawResults {
        directory: directory.path().to_str().unwrap().into(),
        args,
        began_unix_ns,
        ended_unix_ns: now_ns(),
        facts,
        clock_steps: Vec::new(),
        end_unknown: false,
    };
    let table = encoder.convert(&raw).unwrap().remove(0);
    assert!(table.rows > 0 && table.repaired.is_some_and(|samples| samples > 0), "{table:?}");
    let repaired: serde_json::Value =
        serde_json::from_slice(&fs::read(raw.file(format!("{name}.repaired.json"))).unwrap()).unwrap();
    let samples = repaired.pointer("/sysstat/hosts/0/statistics").unwrap().as_array().unwrap();
    assert_eq!(table.repaired, Some(samples.len() as u64));
}

#[test]
fn what_a_killed_iostat_left_is_made_whole() {
    kills(&Iostat);
}

#[test]
fn what_a_killed_mpstat_left_is_made_whole() {
    kills(&Mpstat);
}
