//! The report of a large fleet: time, memory, size, and how soon a browser has it open.

use std::process::{Command, Stdio};

use camino::Utf8Path;

use crate::contender::{Contender, Row, autoprof, take_turns, timed};
use crate::machine;

/// Measures the report of so many hosts over so many seconds, a sample a second.
pub fn measure(hosts: u32, seconds: u32, runs: u32) -> Vec<Row> {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = Utf8Path::from_path(scratch.path()).expect("a path in UTF-8").join("run");
    let names: Vec<String> = (1..=hosts).map(|n| format!("h{n}")).collect();
    lab::fleet(&run, &names.iter().map(String::as_str).collect::<Vec<_>>(), seconds, &["default"]);
    let what = |figure: &str| format!("report of {hosts} hosts, {seconds} s of preset default, {figure}");
    let own = [what("s"), what("most memory, MiB"), what("size, MiB")];
    let rows: Vec<_> = own.iter().map(|what| (&**what, "autoprof report")).collect();
    let page = run.join("report/index.html");
    let mut measured = take_turns(runs, vec![Contender::autoprof(&rows, || one(&run))]);
    let open = what("opened in Chromium, s");
    let empty = scratch.path().join("empty.html");
    std::fs::write(&empty, "<!doctype html><title>empty</title>").expect("a file");
    let report =
        Contender::peer("chromium", &open, "chromium --headless, its picture when all scripts have run", || {
            browse(page.as_str())
        });
    let nothing = Contender::peer("chromium", &open, "chromium --headless, that of an empty page", || {
        browse(&empty.to_string_lossy())
    });
    measured.extend(take_turns(runs, vec![report, nothing]));
    measured
}

/// Opens a page and takes its picture when it has nothing more to do; seconds.
fn browse(page: &str) -> f64 {
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]);
    // Time of its own, which stands still while there is work: what is measured is the work.
    chromium.args(["--virtual-time-budget=20000", "--screenshot=/dev/null", &format!("file://{page}")]);
    timed(&mut chromium).0 / 1e3
}

fn one(run: &Utf8Path) -> Vec<f64> {
    let mut child = autoprof().args(["report", run.as_str()]).stdout(Stdio::null()).spawn().expect("autoprof starts");
    let began = std::time::Instant::now();
    let mut memory = 0.0;
    let ended = loop {
        memory = machine::most_memory(child.id()).unwrap_or(memory);
        if let Some(ended) = child.try_wait().expect("a child can be waited for") {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let took = began.elapsed().as_secs_f64();
    assert!(ended.success(), "autoprof report: {ended}");
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    let size = std::fs::metadata(run.join("report/index.html")).expect("the report").len() as f64;
    vec![took, memory, size / f64::from(1 << 20)]
}
