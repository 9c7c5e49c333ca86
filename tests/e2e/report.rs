//! The report of a run, in a real browser; what is shown, compared and exported of it.
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::support::{LONG, Scratch, autoprof, run};

/// A host that would be the page's master if its name were taken for markup.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

/// What a person would do, and what is then to be seen, as JSON in an attribute.
const PROBE: &str = r##"<script>
(async () => {
  const until = (what) => new Promise((done) => { const look = setInterval(() => { const seen = what(); if (seen) { clearInterval(look); done(seen); } }, 20); });
  const marks = (plot) => plot.querySelectorAll(".scatterlayer .trace path, .heatmaplayer image, .barlayer path").length;
  const plots = () => [...document.querySelectorAll(".plot")].filter((plot) => plot.chart);
  const drawn = () => until(() => plots().length && plots().every((plot) => marks(plot) > 0));
  const at = (id) => document.getElementById(id);
  await until(() => document.documentElement.dataset.ready);
  await drawn();
  const seen = { title: document.title, plots: plots().length, hosts: [...at("host").options].map((o) => o.textContent) };
  seen.whole = at("range").textContent;
  at("zoom-in").click();
  const ranges = () => plots().map((plot) => plot.layout.xaxis.range.map((at) => Date.parse(at)).join());
  await until(() => new Set(ranges()).size === 1);
  const [low, high] = ranges()[0].split(",");
  seen.zoomed = { text: at("range").textContent, width: high - low };
  at("zoom-all").click();
  await until(() => at("range").textContent === "whole run");
  const before = at("host-charts").querySelector("figure");
  at("host").selectedIndex = 2;
  at("host").dispatchEvent(new Event("change"));
  await until(() => at("host-charts").querySelector("figure") !== before && at("host-charts").querySelector("figure"));
  await drawn();
  seen.other = plots().length;
  at("metric").selectedIndex = 1;
  at("metric").dispatchEvent(new Event("change"));
  await drawn();
  seen.fleet = at("fleet-charts").textContent;
  await until(() => at("flame").src);
  seen.flame = at("flame").src;
  at("flame-of").selectedIndex = 1;
  at("flame-of").dispatchEvent(new Event("change"));
  await until(() => at("to").value && marks(at("subsecond")));
  seen.all = at("to").value;
  at("to").value = "1.00";
  at("to").dispatchEvent(new Event("change"));
  await until(() => at("icicle").querySelectorAll(".slice path").length > 1);
  seen.interval = at("interval-text").textContent;
  document.body.setAttribute("data-probe", JSON.stringify(seen));
})();
</script>"##;

/// Opens a page; the document when its scripts have run, and what they complained of.
fn browse(page: &Utf8Path) -> (String, Vec<String>) {
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,12000"]);
    // Time of its own, which passes as fast as there is work. What other threads unpack takes none of it, so that it is
    // given plenty.
    chromium.args(["--virtual-time-budget=1200000", "--enable-logging=stderr", "--dump-dom"]);
    let done = lab::run(chromium.arg(format!("file://{page}")), LONG);
    let said = done.stderr.lines().filter(|line| line.contains("CONSOLE")).map(ToOwned::to_owned).collect();
    (done.stdout, said)
}

fn probed(page: &Utf8Path) -> Value {
    let copy = page.with_file_name("probed.html");
    let text = std::fs::read_to_string(page).unwrap();
    std::fs::write(&copy, text.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let (dom, said) = browse(&copy);
    assert_eq!(said, Vec::<String>::new());
    let found = dom.split_once("data-probe=\"").unwrap_or_else(|| panic!("the probe came to no end")).1;
    let json = found.split_once('"').unwrap().0.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    serde_json::from_str(&json.replace("&amp;", "&")).unwrap()
}

#[test]
fn the_report_of_a_fleet_works_in_a_browser_whatever_a_host_is_called() {
    if lab::skip_unless(&["chromium", "vmstat", "mpstat", "perf"]) {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.path("run");
    lab::fleet(&directory, &["h1", HOSTILE, "h3"], 300, &["default", "perf"]);
    let done = run(&["report", directory.as_str(), "--json"]);
    assert_eq!(done.code(), 0, "{done}");
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let page = Utf8PathBuf::from(json["report"].as_str().unwrap());
    assert_eq!(page, directory.join("report/index.html"));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains(HOSTILE) && text.contains("&lt;img src=x"), "names are escaped");
    assert!(!text.contains("http://") && !text.contains("https://"), "nothing is fetched");

    let seen = probed(&page);
    assert_eq!(seen["title"], format!("{} – autoprof", json["id"].as_str().unwrap()));
    assert_eq!(seen["hosts"], serde_json::json!([HOSTILE, "h1", "h3"]));
    assert!(seen["plots"].as_u64().unwrap() >= 10, "{seen}");
    assert_eq!(seen["whole"], "whole run");
    assert_ne!(seen["zoomed"]["text"], "whole run");
    let width = seen["zoomed"]["width"].as_f64().unwrap();
    assert!((140_000.0..165_000.0).contains(&width), "half of 300 s: {width} ms");
    assert!(seen["other"].as_u64().unwrap() >= 10, "{seen}");
    assert!(seen["flame"].as_str().unwrap().starts_with("blob:"), "{seen}");
    // Two CPUs or more at 99 Hz, for a second of some two and a half.
    let samples = seen["interval"].as_str().unwrap().split(' ').next().unwrap().parse::<u64>();
    assert!(samples.is_ok_and(|samples| samples >= 50), "{seen}");
    assert!(seen["all"].as_str().unwrap().parse::<f64>().unwrap() > 1.5, "{seen}");
}

#[test]
fn a_run_writes_its_report_and_shows_compares_and_exports_itself() {
    if lab::skip_unless(&["vmstat", "perf"]) {
        return;
    }
    let scratch = Scratch::new();
    let (idle, busy) = (scratch.path("idle"), scratch.path("busy"));
    let page = |run: &Utf8Path| run.join("report/index.html");
    let burn = "end=$(($(date +%s) + 5)); while [ $(date +%s) -lt $end ]; do :; done";
    for (out, test, more) in [(&idle, "sleep 5", "--no-report"), (&busy, burn, "--require=all")] {
        let args = ["run", "-o", out.as_str(), "-p", "proc:0.2", "-p", "perf", more, "--", "sh", "-c", test];
        let done = lab::run(&mut autoprof(&args), LONG);
        assert_eq!(done.code(), 0, "{done}");
        assert_eq!(page(out).exists(), more != "--no-report");
        assert_eq!(done.stderr.contains("report/index.html"), more != "--no-report", "{done}");
    }
    assert_eq!(run(&["view", "--print", idle.as_str()]).stdout.trim(), page(&idle));
    assert!(page(&idle).exists());

    let shown = run(&["show", busy.as_str()]);
    assert!(shown.stdout.contains("CPU busy, %") && shown.stdout.contains('▁'), "{shown}");
    let json: Value = serde_json::from_str(&run(&["show", "--json", busy.as_str()]).stdout).unwrap();
    assert_eq!(json["hosts"]["local"][0]["figure"], "CPU busy");

    let compared = run(&["compare", idle.as_str(), busy.as_str(), "--json"]);
    let json: Value = serde_json::from_str(&compared.stdout).unwrap();
    let busy_cpu = |figure: &&Value| figure["figure"] == "CPU busy";
    let cpu = json["figures"].as_array().unwrap().iter().find(busy_cpu).unwrap();
    let shown = |run: &Utf8Path| -> Value {
        serde_json::from_str(&lab::run(&mut autoprof(&["show", "--json", run.as_str()]), LONG).stdout).unwrap()
    };
    for (side, run) in [("a", &idle), ("b", &busy)] {
        let mean = shown(run)["hosts"]["local"][0]["mean"].as_f64().unwrap();
        assert!((cpu[side].as_f64().unwrap() - mean).abs() < 1e-6, "{cpu}, {mean}");
    }
    let compared = run(&["compare", idle.as_str(), busy.as_str()]);
    assert_eq!(compared.code(), 0, "{compared}");
    let written = std::fs::read_to_string(busy.join("report/compare.html")).unwrap();
    assert!(written.contains("CPU busy, %") && written.contains("data:image/svg+xml;base64,"));
    let none = run(&["compare", idle.as_str(), "--host-b", "h9"]);
    assert!(none.code() == 2 && none.stderr.contains("it has local"), "{none}");

    let samples =
        |text: &str| -> u64 { text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum() };
    let folded = run(&["export", busy.as_str(), "--format", "folded"]).stdout;
    let stacks = std::fs::read_to_string(busy.join("hosts/local/perf/stacks.folded")).unwrap();
    assert!(samples(&folded) == samples(&stacks) && folded.starts_with("local;"));
    let firefox: Value = serde_json::from_str(&run(&["export", busy.as_str(), "--format", "firefox"]).stdout).unwrap();
    let counts = firefox["threads"].as_array().unwrap().iter().map(|t| t["samples"]["length"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), samples(&stacks));
    let trace: Value = serde_json::from_str(&run(&["export", busy.as_str(), "--format", "perfetto"]).stdout).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().iter().any(|event| event["name"] == "CPU busy, %"));
    let out = scratch.path("run.csv");
    assert_eq!(run(&["export", busy.as_str(), "--format", "csv", "-o", out.as_str()]).code(), 0);
    let rows = csv::Reader::from_path(&out).unwrap().records().count();
    let cpu = csv::Reader::from_path(busy.join("hosts/local/proc/cpu.csv")).unwrap().records().count();
    assert!(rows > cpu * 8, "every number of every table: {rows}, {cpu}");
}

#[test]
fn a_run_without_figures_says_so_and_is_compared_with_nothing() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let failed = run(&["run", "-o", out.as_str(), "-p", "command:'exit 3'", "--require", "any", "--", "true"]);
    assert_eq!(failed.code(), 125, "{failed}");
    for format in ["csv", "parquet", "folded"] {
        let kept = scratch.write("kept", "precious");
        let none = run(&["export", out.as_str(), "--format", format, "-o", kept.as_str()]);
        assert_eq!((none.code(), std::fs::read_to_string(&kept).unwrap().as_str()), (2, "precious"), "{none}");
        assert_eq!(run(&["export", out.as_str(), "--format", format]).stdout, "");
    }
    let page = std::fs::read_to_string(out.join("report/index.html")).unwrap();
    assert!(page.contains("No profiler of this run measured a figure") && page.contains("it was not run"), "{failed}");
    let compared = run(&["compare", out.as_str(), out.as_str()]);
    assert!(compared.code() == 2 && compared.stderr.contains("no figure in common"), "{compared}");
    let exported = run(&["export", out.as_str(), "--format", "csv"]);
    assert!(exported.code() == 2 && exported.stdout.is_empty(), "{exported}");

    let running = scratch.path("running");
    run(&["start", "-o", running.as_str(), "-p", "proc"]).expect_success();
    for command in ["show", "view"] {
        let early = run(&[command, running.as_str()]);
        assert!(early.code() == 2 && early.stderr.contains("still goes on"), "{early}");
    }
    run(&["report", running.as_str()]).expect_success();
    assert!(running.join("report/index.html").exists());
}
