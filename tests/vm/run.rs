//! A run of autoprof on the machine, whose test lasts until the scenario has done what it does.

use std::fs;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Finished, Running, wait_until};
use serde_json::Value;

use crate::figures::{Series, mean};
use crate::machine::Machine;

/// Longer than connecting, installing and starting take on an emulated processor, also once it is back.
const BEGIN: Duration = Duration::from_secs(180);
/// Longer than stopping, collecting and cleaning take.
const END: Duration = Duration::from_secs(300);

/// An `autoprof run` that goes on.
pub struct Run {
    autoprof: Running,
    directory: Utf8PathBuf,
    may_end: Utf8PathBuf,
}

/// What a run left.
pub struct Results {
    /// How autoprof ended, or the last of several commands.
    pub finished: Finished,
    /// The run's directory.
    pub directory: Utf8PathBuf,
    /// Its manifest.
    pub manifest: Value,
}

impl Run {
    /// Starts `autoprof run` on the machine with a test that ends with `status` when [`Run::end`] says so.
    pub fn start(machine: &Machine, options: &[&str], status: u8) -> Run {
        Run::start_named(machine, "run", options, status)
    }

    /// The same in a directory of that name, for one of several runs of a scenario.
    pub fn start_named(machine: &Machine, name: &str, options: &[&str], status: u8) -> Run {
        let directory = machine.directory().join(name);
        let may_end = machine.directory().join(format!("the-test-of-{name}-may-end"));
        let test = format!("while ! [ -e \"$0\" ]; do sleep 0.2; done; exit {status}");
        let mut command = lab::autoprof();
        command.args(["run", "--ssh-config", machine.ssh_config().as_str(), "-w", "vm", "-o", directory.as_str()]);
        command.args(options).args(["--", "sh", "-c", &test, may_end.as_str()]);
        Run { autoprof: Running::start(&mut command), directory, may_end }
    }

    /// Waits until a profiler has begun for the `times`-th time, as the run itself notes it.
    ///
    /// # Panics
    /// When it has not in time, with what autoprof printed.
    #[track_caller]
    pub fn wait_for_beginning(&mut self, profiler: &str, times: usize) {
        let mut seen = 0;
        let in_time = wait_until(BEGIN, || {
            seen = beginnings(&self.directory, profiler);
            seen >= times || !self.autoprof.is_running()
        });
        assert!(
            in_time && seen >= times,
            "{profiler} began {seen} times and not {times} within {BEGIN:?}:\n{}{}",
            self.autoprof.stdout(),
            self.autoprof.stderr()
        );
    }

    /// Lets the test end, and waits until autoprof has.
    pub fn end(self) -> Results {
        fs::write(&self.may_end, "").unwrap_or_else(|error| panic!("cannot write {}: {error}", self.may_end));
        let finished = self.autoprof.finish(END);
        Results::read(finished, self.directory)
    }
}

impl Results {
    /// What is in the directory of a run that is over.
    pub fn read(finished: Finished, directory: Utf8PathBuf) -> Results {
        let _ = fs::write(directory.with_file_name("autoprof.txt"), finished.to_string());
        Results { manifest: lab::manifest(&directory), finished, directory }
    }

    /// What is known of the machine.
    pub fn host(&self) -> &Value {
        &self.manifest["hosts"]["vm"]
    }

    /// What is known of one of its profilers.
    pub fn profiler(&self, name: &str) -> &Value {
        &self.host()["profilers"][name]
    }

    /// How far the machine's clock was ahead of this one's when the run began, in seconds.
    pub fn ahead(&self) -> f64 {
        self.host()["clock"]["ahead_s"].as_f64().unwrap_or_default()
    }

    /// State and reason of a profiler, for people.
    pub fn state(&self, name: &str) -> String {
        let record = self.profiler(name);
        let state = record["state"].as_str().unwrap_or("absent");
        match record["reason"].as_str() {
            Some(reason) => format!("{state} ({reason})"),
            None => state.to_owned(),
        }
    }

    /// The instants in a table of a profiler, which has the rows of all its segments.
    pub fn series(&self, profiler: &str, table: &str) -> Series {
        Series::read(&self.directory.join("hosts/vm").join(profiler).join(table))
    }

    /// The mean of a column of a profiler's table.
    pub fn mean(&self, profiler: &str, table: &str, column: &str) -> f64 {
        mean(&self.directory.join("hosts/vm").join(profiler).join(table), column)
    }

    /// How many samples there are in what perf recorded in a segment (`""` or `"segment-2/"`): by perf's own report, or
    /// by what was said of a file that had to be repaired.
    pub fn perf_samples(&self, segment: &str) -> u64 {
        let repaired = format!("{segment}perf.repaired.data");
        let tables = self.profiler("perf")["tables"].as_array().into_iter().flatten();
        let warnings = tables.filter(|table| table["path"] == *repaired).flat_map(|table| table["warnings"].as_array());
        let mut said = warnings.flatten().filter_map(|warning| {
            let (before, _) = warning.as_str()?.split_once(" samples are in ")?;
            before.rsplit(' ').next()?.parse().ok()
        });
        said.next().unwrap_or_else(|| self.reported_samples(segment))
    }

    fn reported_samples(&self, segment: &str) -> u64 {
        let file = self.directory.join("hosts/vm/perf").join(segment).join("perf.folded.txt");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("# Samples: ")?.split_whitespace().next());
        count.map_or(0, |count| perf_number(count).unwrap_or_else(|| panic!("{file} has {count} samples")))
    }
}

/// perf rounds what it prints: `627`, `1K`, `2M`.
fn perf_number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1_000),
        b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    Some(digits.parse::<u64>().ok()? * unit)
}

/// How often a profiler has begun.
fn beginnings(run: &Utf8Path, profiler: &str) -> usize {
    let events = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let client = events.filter_map(|event| event.pointer("/event/event").cloned());
    client.filter(|event| event["event"] == "began" && event["profiler"] == profiler).count()
}
