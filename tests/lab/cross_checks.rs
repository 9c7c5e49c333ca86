//! What `autoprof show --json` says of quantities that several profilers of a host measured.
use std::time::Duration;

use camino::Utf8Path;
use serde_json::Value;

/// A quantity as one profiler measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The host.
    pub host: String,
    /// The quantity: `cpu.busy`.
    pub quantity: String,
    /// The profiler.
    pub profiler: String,
    /// What it is about: a device, an interface; empty: the host as a whole.
    pub key: String,
    /// Its mean.
    pub mean: f64,
    /// How many rows have a value.
    pub samples: u64,
}

/// What the profilers of a finished run measured, and what they disagree on.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossChecks {
    /// Every quantity of every profiler.
    pub readings: Vec<Reading>,
    /// The titles of findings that say that two profilers disagree.
    pub disagreements: Vec<String>,
}

impl CrossChecks {
    /// The means of a quantity by profiler.
    #[must_use]
    pub fn means(&self, host: &str, quantity: &str, key: &str) -> Vec<(String, f64)> {
        let of = |r: &&Reading| r.host == host && r.quantity == quantity && r.key == key;
        self.readings.iter().filter(of).map(|r| (r.profiler.clone(), r.mean)).collect()
    }
}

/// Reads them from the run's directory.
///
/// # Panics
/// When the run cannot be shown.
#[must_use]
pub fn cross_checks(run: &Utf8Path) -> CrossChecks {
    let mut show = crate::autoprof();
    let shown = crate::run(show.args(["show", "--json", run.as_str()]), Duration::from_secs(180)).expect_success();
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let text = |value: &Value, member: &str| value[member].as_str().unwrap_or_default().to_owned();
    let of_host = |(host, readings): (&String, &Value)| {
        let reading = |value: &Value| Reading {
            host: host.clone(),
            quantity: text(value, "quantity"),
            profiler: text(value, "profiler"),
            key: text(value, "key"),
            mean: value["mean"].as_f64().unwrap_or(f64::NAN),
            samples: value["samples"].as_u64().unwrap_or_default(),
        };
        readings.as_array().into_iter().flatten().map(reading).collect::<Vec<_>>()
    };
    let findings = shown["findings"].as_array().into_iter().flatten();
    CrossChecks {
        readings: shown["quantities"].as_object().into_iter().flatten().flat_map(of_host).collect(),
        disagreements: findings.filter(|f| f["level"] == "disagreement").map(|f| text(f, "title")).collect(),
    }
}
