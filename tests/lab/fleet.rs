//! A run of many hosts and hours, made of a short one on this machine: for what reads runs.
use std::{fs, time::Duration};

use camino::Utf8Path;
use serde_json::Value;

use crate::autoprof;

/// Columns that say what a row is about, or must add up.
const AS_THEY_ARE: [&str; 4] = ["cpu", "pid", "uid", "total_kib"];

/// Writes a finished run below `run`, with hosts of these names whose profilers collected for so long. A host is loaded
/// the more the later its name comes; the tables of this machine are repeated second by second.
///
/// # Panics
/// When the short run fails or a file cannot be written.
pub fn fleet(run: &Utf8Path, names: &[&str], seconds: u32, profilers: &[&str]) {
    let base = tempfile::tempdir().expect("a directory");
    let base = Utf8Path::from_path(base.path()).expect("a path in UTF-8").join("base");
    let mut short = autoprof();
    short.args(["run", "-q", "--no-report", "-d", "2.5", "-o", base.as_str()]);
    for profiler in profilers {
        short.args(["-p", profiler]);
    }
    crate::run(&mut short, Duration::from_secs(180)).expect_success();
    fs::create_dir_all(run.join("hosts")).expect("the run's directory");
    for (nth, name) in names.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few hosts")]
        let load = 0.3 + 0.7 * (nth + 1) as f64 / names.len() as f64;
        copy(&base.join("hosts/local"), &run.join("hosts").join(name), seconds, load);
    }
    let text = fs::read_to_string(base.join("events.jsonl")).expect("the events of the short run");
    let mut events = String::new();
    for line in text.lines() {
        let mut event: Value = serde_json::from_str(line).expect("an event");
        if event["type"] == "created" {
            let host = event["hosts"][0].clone();
            let named = |name: &&str| {
                let mut host = host.clone();
                host["name"] = Value::from(*name);
                host
            };
            event["hosts"] = names.iter().map(named).collect();
        }
        if event.pointer("/event/event/event").is_some_and(|kind| kind == "ended") {
            let ended = event.pointer_mut("/event/event/ended/unix_ns").expect("an instant");
            *ended = Value::from(ended.as_i64().expect("nanoseconds") + i64::from(seconds) * 1_000_000_000);
        }
        let hosts: &[&str] = if event["host"] == "local" { names } else { &[""] };
        for name in hosts {
            if !name.is_empty() {
                event["host"] = Value::from(*name);
            }
            events.push_str(&format!("{event}\n"));
        }
    }
    fs::write(run.join("events.jsonl"), events).expect("the run's events");
}

fn copy(from: &Utf8Path, to: &Utf8Path, seconds: u32, load: f64) {
    fs::create_dir_all(to).expect("a directory of the run");
    for entry in from.read_dir_utf8().expect("a directory of the short run") {
        let path = entry.expect("an entry").into_path();
        let (name, into) = (path.file_name().expect("a name"), to.join(path.file_name().expect("a name")));
        if path.is_dir() {
            copy(&path, &into, seconds, load);
        } else if name.ends_with(".csv") {
            let text = fs::read_to_string(&path).expect("a table");
            fs::write(into, longer(&text, seconds, load)).expect("a table of the run");
        } else {
            fs::copy(&path, into).expect("a file of the run");
        }
    }
}

/// The last instant's rows of a table, repeated every second and varied.
fn longer(text: &str, seconds: u32, load: f64) -> String {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let columns: Vec<&str> = header.split(',').collect();
    let rows: Vec<&str> = lines.collect();
    let time = |row: &str| row.split(',').next().and_then(|time| time.parse::<f64>().ok());
    let Some((last, first)) = rows.last().and_then(|row| time(row)).zip(rows.first().and_then(|row| time(row))) else {
        return text.to_owned();
    };
    let block: Vec<&str> = rows.iter().copied().filter(|row| time(row) == Some(last)).collect();
    let mut out = format!("{header}\n");
    for second in 0..seconds {
        let wave = load * (0.6 + 0.4 * (f64::from(second) / 97.0).sin() + 0.2 * (f64::from(second) * 1.7).sin());
        for row in &block {
            let cells = row.split(',').enumerate().map(|(at, cell)| {
                let column = columns.get(at).copied().unwrap_or_default();
                match cell.parse::<f64>() {
                    _ if at == 0 => format!("{:.6}", first + f64::from(second)),
                    Ok(_) if column == "idle_percent" => format!("{:.2}", 100.0 - 95.0 * wave.clamp(0.0, 1.0)),
                    Ok(_) if column == "user_percent" => format!("{:.2}", 95.0 * wave.clamp(0.0, 1.0)),
                    Ok(value) if !AS_THEY_ARE.contains(&column) => format!("{:.3}", value * wave.max(0.0)),
                    _ => cell.to_owned(),
                }
            });
            out.push_str(&cells.collect::<Vec<_>>().join(","));
            out.push('\n');
        }
    }
    out
}
