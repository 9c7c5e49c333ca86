//! What profiling costs a host: CPU time of the client and of the tools that it runs.

use lab::Lab;

use crate::autoprof::Run;
use crate::contender::{Contender, Row, take_turns};

/// How long the window is.
const SECONDS: &str = "20";
/// What is measured: a profiler or a preset, and how it is told to.
const WHAT: [(&str, &str); 3] =
    [("proc", "proc, every second"), ("proc:0.01", "proc, every 10 ms"), ("light", "preset light")];

/// Measures the share of one CPU, with everything before and after the window counted in.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for (spec, name) in WHAT {
        let what = format!("{name}: client and tools, % of one CPU");
        rows.extend(take_turns(runs, vec![Contender::autoprof(&[(&what, "autoprof")], || one(lab, spec))]));
    }
    rows
}

fn one(lab: &Lab, spec: &str) -> Vec<f64> {
    let run = Run::go(lab, "h1", &["-p", spec, "-d", SECONDS]);
    let manifest = lab::manifest(&run.directory);
    let host = &manifest["hosts"]["h1"];
    let tools = host["profilers"].as_object().expect("a host has profilers").values();
    let tools: f64 = tools.filter_map(|profiler| profiler["cpu_s"].as_f64()).sum();
    let cpu = host["client_cpu_s"].as_f64().expect("the manifest states what the client took") + tools;
    vec![cpu * 100.0 / SECONDS.parse::<f64>().expect("seconds")]
}
