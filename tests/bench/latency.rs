//! How long the commands take that a person waits for: what is listed comes from the notes of thirty plugins more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Lab;

use crate::contender::{self, Contender, Row, take_turns};

/// How many plugins there are beside autoprof's own.
const PLUGINS: usize = 30;
/// How often each command is run in one turn; the median of them counts.
const REPEATS: usize = 100;
const COMMANDS: [&[&str]; 3] = [&["--help"], &["profilers"], &["plugin", "list"]];

/// Measures the commands and a bare program of Rust's.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let directory = lab.directory();
    let plugins = plugins(&directory);
    let hello = hello(&directory);
    let mut rows = Vec::new();
    for words in COMMANDS {
        let line = words.join(" ");
        let what = format!("autoprof {line}, {PLUGINS} plugins more, ms");
        let own = [(&*what, "autoprof")];
        let contenders = vec![
            Contender::autoprof(&own, || {
                let mut command = contender::autoprof();
                vec![median(command.args(["--plugin-dir", plugins.as_str()]).args(words))]
            }),
            Contender::peer("rustc", &what, "a bare hello world in Rust", || median(&mut Command::new(&hello))),
        ];
        rows.extend(take_turns(runs, contenders));
    }
    rows
}

/// The median of many runs, in milliseconds.
fn median(command: &mut Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut once = || {
        let began = Instant::now();
        let status = command.status().expect("the command can be started");
        assert!(status.success(), "{command:?}: {status}");
        began.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..REPEATS).map(|_| once()).collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}

/// Copies of one of autoprof's plugins under names of their own.
fn plugins(directory: &Utf8Path) -> Utf8PathBuf {
    const NAME: &[u8] = b"autoprof-profiler-vmstat";
    let original = lab::stage().join("lib/autoprof/plugins/libautoprof_profiler_vmstat.so");
    let original = fs::read(&original).unwrap_or_else(|error| panic!("{original}: {error}"));
    let places: Vec<usize> = (0..original.len() - NAME.len()).filter(|&at| original[at..].starts_with(NAME)).collect();
    let plugins = directory.join("plugins");
    fs::create_dir_all(&plugins).expect("a directory for plugins");
    for nth in 0..PLUGINS {
        let mut copy = original.clone();
        for &at in &places {
            copy[at..at + NAME.len()].copy_from_slice(format!("autoprof-profiler-copy{nth:02}").as_bytes());
        }
        let path = plugins.join(format!("libcopy{nth:02}.so"));
        fs::write(&path, copy)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .expect("a copy");
    }
    plugins
}

/// The least that a program of Rust's does.
fn hello(directory: &Utf8Path) -> Utf8PathBuf {
    let (source, program) = (directory.join("hello.rs"), directory.join("hello"));
    fs::write(&source, "fn main() {\n    println!(\"Hello, world!\");\n}\n").expect("a source");
    if lab::find_program("rustc").is_some() {
        let built = Command::new("rustc").args(["-O", "-o", program.as_str(), source.as_str()]).status();
        assert!(built.is_ok_and(|status| status.success()), "rustc builds a hello world");
    }
    program
}
