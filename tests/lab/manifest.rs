//! The manifest of a run.

use camino::Utf8Path;

/// Reads `manifest.json` of a run directory.
///
/// # Panics
/// When there is none, or it is not JSON.
#[track_caller]
pub fn manifest(run_dir: impl AsRef<Utf8Path>) -> serde_json::Value {
    let file = run_dir.as_ref().join("manifest.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file} is not JSON: {error}\n{text}"))
}
