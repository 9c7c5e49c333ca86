//! Plugins for tests: built by cargo, found in its messages.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests")]
use std::{
    env, fs,
    process::{Command, Stdio},
    sync::OnceLock,
};

use autoprof_loader::{Candidate, Trust, scan};
use camino::{Utf8Path, Utf8PathBuf};

const PACKAGES: &[&str] = &[
    "autoprof-transport-local",
    "autoprof-transport-ssh",
    "autoprof-signal-marker",
    "autoprof-profiler-command",
    "autoprof-profiler-perf",
    "autoprof-profiler-proc",
    "autoprof-profiler-sysstat",
    "autoprof-profiler-vmstat",
];

/// A directory with every plugin of the workspace, the example and the bad one.
///
/// That of `AUTOPROF_TEST_PLUGIN_DIR`, or else freshly built beside this test.
pub fn plugin_dir() -> &'static Utf8Path {
    static DIR: OnceLock<Utf8PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Ok(dir) = env::var("AUTOPROF_TEST_PLUGIN_DIR") {
            return dir.into();
        }
        let exe = Utf8PathBuf::try_from(env::current_exe().unwrap()).unwrap();
        let target = exe.ancestors().nth(3).unwrap();
        let all = target.join("test-plugins");
        forget_the_dead(&all);
        let dir = all.join(std::process::id().to_string());
        fs::create_dir_all(&dir).unwrap();
        let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages: Vec<&str> = PACKAGES.iter().flat_map(|package| ["-p", package]).collect();
        let mut built = build(&here.join("../../Cargo.toml"), target, &packages);
        built.extend(build(&here.join("tests/fixtures/bad-plugin/Cargo.toml"), target, &[]));
        built.extend(build(&here.join("../../docs/examples/profiler-plugin/Cargo.toml"), target, &[]));
        for library in built {
            let to = dir.join(library.file_name().unwrap());
            fs::hard_link(&library, &to).or_else(|_| fs::copy(&library, &to).map(drop)).unwrap();
        }
        dir
    })
}

/// Removes what test processes left that are gone.
fn forget_the_dead(all: &Utf8Path) {
    for entry in all.read_dir_utf8().into_iter().flatten().flatten() {
        if !Utf8Path::new("/proc").join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn build(manifest: &Utf8Path, target: &Utf8Path, packages: &[&str]) -> Vec<Utf8PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this test is not meant for another build.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            cargo.env_remove(name);
        }
    }
    cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics", "--manifest-path", manifest.as_str()]);
    let out = cargo.args(packages).env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit()).output().unwrap();
    assert!(out.status.success(), "{manifest} did not build");
    let messages = String::from_utf8(out.stdout).unwrap();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let artifacts = messages.filter(|message| message["reason"] == "compiler-artifact");
    let files = artifacts.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let paths = files.filter_map(|file| file.as_str().map(Utf8PathBuf::from));
    paths.filter(|path| path.extension() == Some("so") && is_plugin(path)).collect()
}

/// Procedural macros are shared libraries too.
fn is_plugin(path: &Utf8Path) -> bool {
    autoprof_loader::read_note(path).is_ok()
}

/// One of the plugins.
pub fn candidate(name: &str) -> Candidate {
    let scan = scan(&[plugin_dir().to_owned()], Trust::Any);
    scan.found.into_iter().find(|candidate| candidate.note.name == name).unwrap()
}
