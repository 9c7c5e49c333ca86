//! What must hold after every run, whatever happened to it.
use std::{fmt, sync::OnceLock};

use camino::Utf8Path;
use lab::{Finished, Lab};
use serde_json::Value;

use crate::{
    fault::Fault,
    round::{Round, STATUS, output},
};

/// What of a tool's output is not in the run directory.
#[derive(Debug, Default)]
pub struct Loss {
    /// Lines that were written before the fault, are not here, and are not said to be lost.
    pub unexplained: u64,
    /// Lines that are said to be lost, with the cause.
    pub explained: u64,
    /// Lines that are here.
    pub here: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines here, {} lost and said, {} lost unsaid", self.here, self.explained, self.unexplained)
    }
}

/// What a tool had written on the host right before the fault.
#[derive(Debug, Default)]
pub struct Witness {
    lines: u64,
}

impl Witness {
    pub fn look(lab: &Lab, round: &Round) -> Self {
        let file = format!("{}/autoprof-*/results/default/profiler_test/profiling/command/command.txt", round.tmpdir());
        let counted = lab[1].exec(&["sh", "-c", &format!("cat {file} 2>/dev/null | wc -l")]);
        Self { lines: counted.stdout.trim().parse().unwrap_or(0) }
    }
}

/// Checks everything.
///
/// # Panics
/// With the first thing that does not hold, and what the program said.
pub fn check(round: &Round, lab: &Lab, out: &Utf8Path, finished: &[Finished], witness: Witness) -> Loss {
    let said: String = finished.iter().map(|f| format!("{f}\n")).collect();
    // Nothing of ours on any host: no process, no file.
    lab.assert_clean();
    if !out.join("events.jsonl").exists() {
        // Killed before there was a run.
        return Loss::default();
    }
    assert!(out.join("manifest.json").exists(), "no manifest: {said}");
    let manifest = lab::manifest(out);
    valid(&manifest, &said);
    agrees_with_files(&manifest, out, &said);
    status(round, &manifest, finished, &said);
    let h2 = &manifest["hosts"]["h2"]["profilers"];
    let disturbs_run = matches!(
        round.fault,
        Fault::ControllerKilledThenAttach | Fault::ControllerKilledThenReport | Fault::GivenUp | Fault::Interrupted
    );
    if test_ran(&manifest) && !disturbs_run {
        for profiler in ["proc", "vmstat", "command"] {
            assert_eq!(h2[profiler]["state"], "ok", "another host's fault touched h2's {profiler}: {said}");
        }
    }
    lines(round, &manifest, out, &witness, &said)
}

fn test_ran(manifest: &Value) -> bool {
    manifest["test"]["began"].is_string()
}

/// The manifest is as its schema says.
fn valid(manifest: &Value, said: &str) {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let schema = output(lab::autoprof().args(["manifest", "schema"]));
        let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is one")
    });
    let errors: Vec<String> = validator.iter_errors(manifest).map(|e| format!("{} {e}", e.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{said}");
    assert_eq!(manifest["phase"], "finished", "{said}");
}

/// Every file that is listed is there, as it is listed; every file that is there is listed.
fn agrees_with_files(manifest: &Value, out: &Utf8Path, said: &str) {
    for (host, record) in manifest["hosts"].as_object().expect("hosts") {
        for (profiler, record) in record["profilers"].as_object().expect("profilers") {
            let directory = out.join("hosts").join(host).join(profiler);
            for file in record["files"].as_array().expect("files") {
                let path = directory.join(file["path"].as_str().expect("a path"));
                let content = std::fs::read(&path).unwrap_or_else(|e| panic!("{path} is listed: {e}\n{said}"));
                assert_eq!(content.len() as u64, file["bytes"].as_u64().expect("bytes"), "{path}\n{said}");
                let digest = blake3::hash(&content).to_hex();
                assert_eq!(digest.as_str(), file["blake3"].as_str().expect("a digest"), "{path}\n{said}");
            }
            let state = record["state"].as_str().unwrap_or_default();
            assert!(
                !matches!(state, "pending" | "running" | "ended"),
                "{host} {profiler} is {state} in a run that is over: {record:#}\n{said}"
            );
            assert!(
                state == "ok" || record["reason"].is_string(),
                "{host} {profiler} is {state} without a reason\n{said}"
            );
        }
    }
}

/// The exit status is the test's wherever the test ran to its end.
fn status(round: &Round, manifest: &Value, finished: &[Finished], said: &str) {
    let code = finished[0].code();
    let expected: &[i32] = match round.fault {
        // 128 and SIGKILL; or it was through already.
        Fault::ControllerKilledThenAttach | Fault::ControllerKilledThenReport => &[137, STATUS],
        Fault::Interrupted | Fault::GivenUp => &[130, STATUS],
        _ if test_ran(manifest) => &[STATUS],
        // It broke before the test.
        _ => &[125],
    };
    assert!(expected.contains(&code), "status {code}, not one of {expected:?}: {said}");
}

/// Every line that a tool had written before the fault is here, in order and once, or is said to be lost.
fn lines(round: &Round, manifest: &Value, out: &Utf8Path, witness: &Witness, said: &str) -> Loss {
    let record = &manifest["hosts"]["h1"]["profilers"]["command"];
    let file = out.join("hosts/h1/command/command.txt");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    let numbers: Vec<u64> = whole.lines().map(|line| line.parse().unwrap_or(u64::MAX)).collect();
    let expected: Vec<u64> = (0..numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "lines are missing in the middle, or twice: {said}");
    let here = numbers.len() as u64;
    let missing = witness.lines.saturating_sub(here);
    let reason = record["reason"].as_str().unwrap_or_default();
    let is_said = reason.contains("is lost") || record["state"] == "lost" || record["state"] == "failed";
    if !round.fault.wipes() || round.persistent {
        // A run that was ended on purpose before its test does not want its data.
        let wanted = test_ran(manifest);
        assert!(missing == 0 || !wanted, "{missing} of {} lines are not here: {record:#}\n{said}", witness.lines);
        return Loss { here, ..Loss::default() };
    }
    assert!(
        missing == 0 || is_said || !test_ran(manifest),
        "{missing} lines are lost and nothing says so: {record:#}\n{said}"
    );
    Loss { here, explained: missing, unexplained: 0 }
}
