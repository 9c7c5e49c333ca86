//! Reaching many hosts at once: connect + install + ready, and how far apart the hosts begin.

use std::process::Command;

use lab::Lab;

use crate::autoprof::{Run, milliseconds};
use crate::contender::{Contender, Measure, Row, Unit, take_turns, timed};
use crate::masters::Masters;

/// autoprof's own default, given to every peer.
const FORKS: &str = "64";

/// Starts all at once and waits, as a person would write it.
const DATES: &str = r#"config=$1; shift; for h; do ssh -n -F "$config" "$h" date +%s.%N & done; wait"#;

/// Measures the contenders on all hosts of the lab.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let count = lab.hosts().len();
    let ready = format!("connect + install + ready, {count} hosts");
    let skew = format!("signal → began skew, {count} hosts");
    let time = |what: &str, name: &str| Measure::new(what, name, Unit::Milliseconds);
    let warm = Masters::open(lab, "warm", "");
    let (warm, cold) = (warm.config(), lab.ssh_config());
    let cold = cold.as_str();
    let client = client();
    let measures = vec![
        time(&ready, "autoprof: launch → last host ready"),
        time(&ready, "autoprof: run created → last host ready"),
        time(&ready, "autoprof: launch → connected + first command (compare with `true`)"),
        time(&skew, "autoprof: began of proc"),
        time(&skew, "autoprof: as it states it (skew_s, clocks compared)"),
    ];
    let install = "cat > /tmp/bench-client && chmod +x /tmp/bench-client && test -x /tmp/bench-client";
    let copy = format!("ssh -F {cold} {{}} '{install}' < {client}");
    let copy_warm = format!("scp -q -F {warm} {client} {{}}:/tmp/bench-client && ssh -n -F {warm} {{}} true");
    let mut contenders = vec![
        Contender::new("autoprof", measures, || autoprof(lab)),
        Contender::single("pdsh", time(&ready, "pdsh -f 64: connects and runs `true` only"), || pdsh(lab, &["true"]).0),
        Contender::single("clush", time(&ready, "clush -f 64: connects and runs `true` only"), || clush(lab)),
        Contender::single("ssh", time(&ready, "ssh, cold, xargs -P 64: connects and runs `true` only"), || {
            each(lab, &format!("ssh -n -F {cold} {{}} true"))
        }),
        Contender::single("ssh", time(&ready, "ssh, cold, xargs -P 64: the client through `cat`"), || each(lab, &copy)),
        Contender::single("ssh", time(&ready, "ssh, warm ControlMaster, xargs -P 64: `true` only"), || {
            each(lab, &format!("ssh -n -F {warm} {{}} true"))
        }),
        Contender::single(
            "scp",
            time(&ready, "scp of the client + ssh `true`, warm ControlMaster, xargs -P 64"),
            || each(lab, &copy_warm),
        ),
    ];
    contenders.push(Contender::single("ssh", time(&skew, "`for h; ssh h date &`, warm ControlMaster"), || {
        spread(&timed(Command::new("sh").args(["-c", DATES, "sh", warm]).args(names(lab))).1, count)
    }));
    contenders.push(Contender::single("pdsh", time(&skew, "pdsh -f 64 date"), || {
        spread(&pdsh(lab, &["date", "+%s.%N"]).1, count)
    }));
    // Grouped by what is measured, autoprof first.
    let mut rows = take_turns(runs, contenders);
    rows.sort_by_key(|row| row.measure.what == skew);
    rows
}

/// The client that autoprof installs, for the peers to install as well.
fn client() -> String {
    lab::stage().join(format!("lib/autoprof/clients/{}/autoprof-client", std::env::consts::ARCH)).into_string()
}

fn names(lab: &Lab) -> impl Iterator<Item = &str> {
    lab.hosts().iter().map(lab::Host::name)
}

fn autoprof(lab: &Lab) -> Vec<f64> {
    let count = lab.hosts().len();
    let run = Run::go(lab, &format!("h[1-{count}]"), &["-p", "proc", "-d", "0"]);
    let created = run.last("created", |event| event["type"] == "created");
    let ready = run.last_client("ready");
    let manifest = run.manifest();
    let hosts = manifest["hosts"].as_object().expect("a manifest has hosts");
    let began = |host: &serde_json::Value| host["profilers"]["proc"]["began"]["stamp"]["unix_ns"].as_i64();
    let began: Vec<i64> = hosts.values().filter_map(began).collect();
    assert_eq!(began.len(), count, "proc began on every host");
    let (first, last) = (began.iter().min().copied(), began.iter().max().copied());
    #[expect(clippy::cast_precision_loss, reason = "a difference of instants, far below 2^52 ns")]
    let skew = first.zip(last).map_or(0.0, |(first, last)| (last - first) as f64 / 1e6);
    vec![
        milliseconds(run.launched, ready),
        milliseconds(created, ready),
        milliseconds(run.launched, run.last_host("installing")),
        skew,
        manifest["skew_s"].as_f64().expect("the manifest states the skew") * 1e3,
    ]
}

fn pdsh(lab: &Lab, command: &[&str]) -> (f64, String) {
    let hosts: Vec<&str> = names(lab).collect();
    let arguments = format!("-F {} -o BatchMode=yes", lab.ssh_config());
    let mut pdsh = Command::new("pdsh");
    pdsh.args(["-R", "ssh", "-S", "-f", FORKS, "-w", &hosts.join(",")]).args(command);
    timed(pdsh.env("PDSH_SSH_ARGS_APPEND", arguments))
}

fn clush(lab: &Lab) -> f64 {
    let hosts: Vec<&str> = names(lab).collect();
    let arguments = format!("-F {} -o BatchMode=yes", lab.ssh_config());
    timed(Command::new("clush").args(["-S", "-f", FORKS, "-o", &arguments, "-w", &hosts.join(","), "true"])).0
}

/// Runs a shell's command line for each host, up to 64 at a time; `{}` is the host.
fn each(lab: &Lab, line: &str) -> f64 {
    const SCRIPT: &str = r#"line=$1; shift; printf '%s\n' "$@" | xargs -P 64 -I{} sh -c "$line""#;
    timed(Command::new("sh").args(["-c", SCRIPT, "sh", line]).args(names(lab))).0
}

/// How far apart the instants are that the hosts printed, in milliseconds.
fn spread(printed: &str, count: usize) -> f64 {
    let instants: Vec<f64> =
        printed.lines().filter_map(|line| line.split_whitespace().next_back()?.parse().ok()).collect();
    assert_eq!(instants.len(), count, "every host printed its time:\n{printed}");
    let (first, last) = instants.iter().fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(*at), high.max(*at)));
    (last - first) * 1e3
}
