//! Profilers that autoprof has never heard of: what they declare is enough for figures, findings and comparisons.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use autoprof_core::{
    Args, Host, Measure, Precision, Table, TableInfo,
    event::{HostEvent, RunEvent, RunEventKind},
    job::Require,
    manifest::Manifest,
    protocol::{HostFacts, Invocation},
};
use autoprof_report::{
    compare::{Side, compare},
    findings::{Level, find},
    page, show,
    summary::Paint,
};
use camino::{Utf8Path, Utf8PathBuf};

const BEGAN: f64 = 1_795_384_731.0;

/// A profiler of somebody else, with a table whose columns have names of its own.
const WATCH_MEASURES: &[Measure] = &[
    Measure::new("cpu.busy", "100 * (1 - lazy)").rows("total"),
    Measure::new("system.context_switches", "1000 * kswitches").rows("total"),
    Measure::new("shop.orders", "orders").rows("total").unit("1/s"),
    Measure::new("disk.write_bytes", "1048576 * 'mb to *'").rows("total"),
];
const CPUWATCH: &[TableInfo] = &[TableInfo::new("watch.csv").keys("core").measures(WATCH_MEASURES)];

/// Another one, which measures some of the same.
const DISK_MEASURES: &[Measure] = &[Measure::new("disk.write_bytes", "written")];
const DISKWATCH: &[TableInfo] =
    &[TableInfo::new("disks.csv").keys("disk").precision(Precision::Exact).measures(DISK_MEASURES)];

struct Run {
    _directory: tempfile::TempDir,
    path: Utf8PathBuf,
    manifest: Manifest,
}

fn at(kind: RunEventKind) -> RunEvent {
    RunEvent { at: "2026-11-22T21:58:51Z".parse().unwrap(), kind }
}

/// A finished run of one host for half a minute, on which the disk was written at this rate by both profilers' lights.
fn run(id: &str, lazy: f64, megabytes: f64, written: f64, declared: bool) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    let created = RunEventKind::Created {
        id: id.into(),
        autoprof: "0".into(),
        controller: "c".into(),
        require: Require::All,
        test: None,
        hosts: vec![Host::named("web01")],
        settings: Box::default(),
    };
    let mut manifest = Manifest::begin(&at(created)).unwrap();
    let mut tell = |event| manifest.apply(&at(RunEventKind::Host { host: "web01".into(), event }));
    let facts = HostFacts { cpus: 4, memory_kib: 1 << 20, ..HostFacts::default() };
    tell(HostEvent::Facts { facts: Box::new(facts) });
    for (profiler, file) in [("cpuwatch", "watch.csv"), ("diskwatch", "disks.csv")] {
        let invocation = Box::new(Invocation::default());
        tell(HostEvent::Planned {
            profiler: profiler.into(),
            preset: None,
            args: Args::new(),
            invocation,
            tool_version: None,
        });
        let table = Table { file: file.into(), rows: 60, ..Table::default() };
        tell(HostEvent::Converted { profiler: profiler.into(), tables: vec![table], problem: None });
    }
    if declared {
        for (profiler, tables) in [("cpuwatch", CPUWATCH), ("diskwatch", DISKWATCH)] {
            manifest.apply(&at(RunEventKind::Tables { profiler: profiler.into(), tables: tables.to_vec() }));
        }
    }
    manifest.apply(&at(RunEventKind::Finished { require_met: true }));
    let noise = |n: u32| [1.01, 0.98, 1.0, 0.99, 1.02][n as usize % 5];
    let mut watch = "time_unix,core,lazy,kswitches,orders,mb to sda\n".to_owned();
    let mut disks = "time_unix,disk,written\n".to_owned();
    for n in 0..30 {
        let (time, factor) = (BEGAN + f64::from(n), noise(n));
        // An instant with a value that cannot be.
        let lazy = if n == 7 { -31.0 } else { (lazy * factor).min(1.0) };
        watch += &format!("{time:.6},total,{lazy},{},{},{}\n", 3.0 * factor, 120.0 * factor, megabytes * factor);
        watch += &format!("{time:.6},0,0,0,0,0\n");
        disks += &format!("{:.6},sda,{}\n", time + 0.2, written * 1_048_576.0 * factor);
    }
    for (profiler, file, text) in [("cpuwatch", "watch.csv", watch), ("diskwatch", "disks.csv", disks)] {
        let directory = path.join("hosts/web01").join(profiler);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(file), text).unwrap();
    }
    // As it is read years later: through its JSON.
    let manifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
    Run { _directory: directory, path, manifest }
}

fn side<'a>(run: &'a Run) -> Side<'a> {
    Side { run: Utf8Path::new(run.path.as_str()), manifest: &run.manifest, host: None }
}

#[test]
fn a_third_partys_quantities_are_shown_with_their_source() {
    let run = run("a", 0.03, 5.0, 5.0, true);
    let figures = show::figures(&run.path, &run.manifest);
    let text = show::text(&run.manifest, &figures, Paint::Plain);
    for line in ["CPU busy, %", "context switches, 1/s", "disk throughput, bytes/s", "shop.orders, 1/s"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.lines().any(|line| line.contains("disk throughput") && line.trim_end().ends_with("diskwatch")),
        "{text}"
    );
    let json = show::json(&run.manifest, &figures);
    let readings = json["quantities"]["web01"].as_array().unwrap();
    let reading = |quantity: &str, profiler: &str| {
        readings.iter().find(|r| r["quantity"] == quantity && r["profiler"] == profiler).unwrap().clone()
    };
    let busy = reading("cpu.busy", "cpuwatch");
    assert_eq!((busy["samples"].as_u64(), busy["unit"].as_str()), (Some(29), Some("%")), "one value was impossible");
    assert!(busy["most"].as_f64().unwrap() <= 100.0);
    assert_eq!(reading("disk.write_bytes", "cpuwatch")["key"], "sda");
    assert_eq!(reading("disk.write_bytes", "diskwatch")["key"], "sda");
    assert_eq!(json["disagreements"]["web01"], serde_json::json!([]));
}

#[test]
fn a_third_partys_quantities_have_findings() {
    let run = run("a", 0.03, 1383.0, 687.0, true);
    let findings = find(&show::figures(&run.path, &run.manifest));
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert_eq!(findings[0].level, Level::Disagreement);
    assert_eq!(
        findings[0].title,
        "cpuwatch and diskwatch disagree on bytes written to sda: 1.45 GB/s against 720.37 MB/s"
    );
    assert_eq!(findings[1].title, "CPUs were saturated");
    assert!(findings[1].detail.contains("in 100 % of the samples"), "{}", findings[1].detail);
    let page = page::write(&run.path, &run.manifest).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("disagree on bytes written to sda") && page.contains("shop.orders"));
}

#[test]
fn a_third_partys_quantities_are_compared() {
    let (before, after) = (run("before", 0.9, 5.0, 5.0, true), run("after", 0.5, 5.0, 5.0, true));
    let compared = compare(&side(&before), &side(&after));
    let of = |figure: &str| compared.figures.iter().find(|f| f.figure == figure).unwrap().clone();
    assert!(of("CPU busy").significant && of("CPU busy").b > of("CPU busy").a);
    assert!(!of("shop.orders").significant);
    assert_eq!(of("shop.orders").unit, "1/s");
}

#[test]
fn a_run_without_declarations_is_reported_by_its_columns() {
    let run = run("old", 0.03, 1383.0, 687.0, false);
    assert!(!serde_json::to_string(&run.manifest).unwrap().contains("\"tables\":{"));
    let figures = show::figures(&run.path, &run.manifest);
    assert_eq!(find(&figures), []);
    let page = page::write(&run.path, &run.manifest).unwrap();
    assert!(std::fs::read_to_string(page).unwrap().contains("No profiler of this run measured a figure"));
}

#[test]
fn the_guide_lists_the_vocabulary_as_it_is() {
    use autoprof_core::quantity::{Fold, VOCABULARY};
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins/guide.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for quantity in VOCABULARY {
        let fold = match quantity.fold {
            Fold::Sum => "sum",
            Fold::SumOfLinks => "sum without `lo`",
            Fold::Mean => "mean",
            Fold::Max => "maximum",
            Fold::None => "–",
        };
        let compared = if quantity.compared { "yes" } else { "" };
        let row = format!("| `{}` | {} | {fold} | {compared} |", quantity.name, quantity.unit);
        assert!(guide.contains(&row), "the guide lacks {row}");
    }
}
