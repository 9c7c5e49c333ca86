//! The test of a run whose process is gone: it goes on by itself, and its end can be waited for but not asked for.
use std::time::Duration;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::{duration::Span, event::RunEventKind, run::Recorder};

/// How often a test that is nobody's child is looked at.
const LOOK: Duration = Duration::from_millis(200);
const FILE: &str = "process.json";

/// Which process the test is: enough to know it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TestProcess {
    pid: u32,
    /// When it began, in clock ticks after the machine's boot (proc(5)): with the number it is unique in one boot.
    began_ticks: u64,
    boot_id: String,
}

impl TestProcess {
    /// The process of this number on this machine.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, began_ticks: began_ticks(pid)?, boot_id: boot_id() })
    }

    /// Keeps it in a run's directory, for whoever goes on with the run.
    pub(crate) fn keep(&self, workload: &Utf8Path) {
        let kept = serde_json::to_vec(self).map_err(std::io::Error::other);
        if let Err(e) = kept.and_then(|text| std::fs::write(workload.join(FILE), text)) {
            tracing::warn!("cannot keep the test's process number: {e}");
        }
    }

    fn runs(&self) -> bool {
        self.boot_id == boot_id() && began_ticks(self.pid) == Some(self.began_ticks)
    }
}

/// Waits until a run that another process began is over: until its test ends, where that is on this machine, or for
/// `duration`; else for ever.
pub(super) async fn over(recorder: &Recorder, duration: Option<Span>) {
    let waits = duration.map(|span| tokio::time::sleep(span.0));
    let test = test_over(recorder);
    tokio::select! {
        () = async { match waits { Some(waits) => waits.await, None => std::future::pending().await } } => {}
        () = test => {}
    }
}

async fn test_over(recorder: &Recorder) {
    let (has_test, ended) =
        recorder.with_manifest(|m| (m.test.is_some(), m.test.as_ref().is_some_and(|t| t.ended.is_some())));
    if ended {
        return;
    }
    // Its process is on record before the event that it began: it may even have said something before that.
    let text = std::fs::read(recorder.directory().join("workload").join(FILE));
    let process = text.ok().and_then(|text| serde_json::from_slice::<TestProcess>(&text).ok());
    let status = match process {
        None if !has_test => return std::future::pending().await,
        None => "it never began: the process that was to run it was killed before".to_owned(),
        // On another machine, or after a reboot of this one, nothing can be known of it.
        Some(process) if process.boot_id != boot_id() => return std::future::pending().await,
        Some(process) => {
            while process.runs() {
                tokio::time::sleep(LOOK).await;
            }
            "unknown: the process that ran it was killed, and it ended by itself".to_owned()
        }
    };
    recorder.record(RunEventKind::TestEnded { status, exit_code: u8::MAX });
}

/// Says when the test of a run that is ended still runs: it is another process's, and nobody asked for its end.
pub(super) fn note_test_that_runs(recorder: &Recorder) {
    let text = std::fs::read(recorder.directory().join("workload").join(FILE));
    let process = text.ok().and_then(|text| serde_json::from_slice::<TestProcess>(&text).ok());
    if let Some(process) = process.filter(TestProcess::runs) {
        tracing::warn!("the test (process {}) still runs: another process began it, and it was not ended", process.pid);
        let status = "unknown: it still ran when the run was ended".to_owned();
        recorder.record(RunEventKind::TestEnded { status, exit_code: u8::MAX });
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The 22nd field of `/proc/PID/stat`; none for one that has ended, also while nobody has taken its end.
fn began_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
