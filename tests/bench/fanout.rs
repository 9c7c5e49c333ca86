//! Reaching many hosts at once: connect + install + ready, and how far apart the hosts begin.

use std::process::Command;

use lab::{Host, Lab};

use crate::autoprof::{Run, milliseconds};
use crate::bare;
use crate::contender::{Contender, Row, take_turns, timed};
use crate::masters::Masters;

/// What OpenSSH prefers (sntrup761) costs it much more time than this.
const LIGHT_KEX: &str = "-o KexAlgorithms=curve25519-sha256";

/// Measures the contenders on all hosts of the lab; 64 at a time, which is autoprof's default.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let count = lab.hosts().len();
    let ready = format!("connect + install + ready, {count} hosts, ms");
    let skew = format!("signal → began skew, {count} hosts, ms");
    let masters = Masters::open(lab, "warm", "");
    let (warm, cold) = (masters.config(), lab.ssh_config().into_string());
    let client = lab::stage().join(format!("lib/autoprof/clients/{}/autoprof-client", std::env::consts::ARCH));
    // Where autoprof's client goes, too, when hosts have namespaces.
    let copy = if Lab::namespaces_available() { "/tmp/bench-client" } else { "bench-client" };
    let install = |more| format!("exec ssh -F {cold} {more} {{}} 'cat > {copy} && chmod +x {copy}' < {client}");
    let warm_true = format!("exec ssh -n -F {warm} {{}} true");
    let lines = [
        ("ssh, cold, xargs -P 64: runs `true` only", format!("exec ssh -n -F {cold} {{}} true")),
        ("ssh, cold, xargs -P 64: copies the client by `cat`", install("")),
        ("ssh, cold, curve25519, xargs -P 64: copies the client by `cat`", install(LIGHT_KEX)),
        ("ssh, warm ControlMaster, xargs -P 64: runs `true` only", warm_true.clone()),
        (
            "scp of the client, then ssh `true`, warm ControlMaster, xargs -P 64",
            format!("scp -q -F {warm} {client} {{}}:{copy} && {warm_true}"),
        ),
    ];
    let own = [
        (&*ready, "autoprof: launch → last host ready"),
        (&ready, "autoprof: run created → last host ready"),
        (&ready, "autoprof: launch → connected, first command done (as peers' `true`)"),
        (&skew, "autoprof: began of proc"),
        (&skew, "autoprof: as it states it (skew_s, clocks compared)"),
    ];
    let again = [(&*ready, "autoprof, the client being there from an earlier run: launch → last host ready")];
    let mut contenders = vec![
        Contender::autoprof(&own, || autoprof(lab)),
        Contender::autoprof(&again, || {
            let run = Run::go(lab, &format!("h[1-{count}]"), &["-p", "proc", "-d", "0", "--keep-client"]);
            vec![milliseconds(run.launched, run.last("/event/event/event", "ready"))]
        }),
        Contender::peer("sshd", &ready, "russh alone, 64 at a time: connects, runs `true` (lower bound)", || {
            bare::connect_all(lab)
        }),
        Contender::peer("pdsh", &ready, "pdsh -R ssh -f 64: runs `true` only", || shell(lab, "pdsh", "", "true").0),
        Contender::peer("pdsh", &ready, "pdsh -R ssh -f 64, curve25519: runs `true` only", || {
            shell(lab, "pdsh", LIGHT_KEX, "true").0
        }),
        Contender::peer("clush", &ready, "clush -f 64: runs `true` only", || shell(lab, "clush", "", "true").0),
        Contender::peer("ssh", &skew, "`for h; ssh h date &`, warm ControlMaster", || {
            const SCRIPT: &str = r#"config=$1; shift; for h; do ssh -n -F "$config" "$h" date +%s.%N & done; wait"#;
            spread(&timed(Command::new("sh").args(["-c", SCRIPT, "sh", warm]).args(names(lab))).1, count)
        }),
        Contender::peer("pdsh", &skew, "pdsh -R ssh -f 64 date, cold", || {
            spread(&shell(lab, "pdsh", "", "date +%s.%N").1, count)
        }),
    ];
    contenders.extend(lines.map(|(name, line)| Contender::peer("ssh", &ready, name, move || each(lab, &line))));
    // Grouped by what is measured, autoprof first.
    let mut rows = take_turns(runs, contenders);
    rows.sort_by_key(|row| row.what == skew);
    rows
}

fn names(lab: &Lab) -> Vec<&str> {
    lab.hosts().iter().map(Host::name).collect()
}

fn autoprof(lab: &Lab) -> Vec<f64> {
    let count = lab.hosts().len();
    // What the one that leaves its client has left.
    for host in lab.hosts() {
        let kept = format!("{}/autoprof-client.*", host.outside(host.tmpdir()));
        let _ = Command::new("sh").args(["-c", &format!("rm -rf {kept}")]).status();
    }
    let run = Run::go(lab, &format!("h[1-{count}]"), &["-p", "proc", "-d", "0"]);
    let (created, ready) = (run.last("/type", "created"), run.last("/event/event/event", "ready"));
    let manifest = lab::manifest(&run.directory);
    let hosts = manifest["hosts"].as_object().expect("a manifest has hosts");
    let began = |host: &serde_json::Value| host["profilers"]["proc"]["began"]["stamp"]["unix_ns"].as_i64();
    let mut began: Vec<i64> = hosts.values().filter_map(began).collect();
    assert_eq!(began.len(), count, "proc began on every host");
    began.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a difference of instants, far below 2^52 ns")]
    let skew = (began[count - 1] - began[0]) as f64 / 1e6;
    vec![
        milliseconds(run.launched, ready),
        milliseconds(created, ready),
        milliseconds(run.launched, run.last("/event/what", "installing")),
        skew,
        manifest["skew_s"].as_f64().expect("the manifest states the skew") * 1e3,
    ]
}

/// Runs a command by pdsh or clush; `more` is for their ssh.
fn shell(lab: &Lab, program: &str, more: &str, command: &str) -> (f64, String) {
    let options = format!("-F {} {more}", lab.ssh_config());
    let flags = if program == "pdsh" { ["-R", "ssh"] } else { ["-o", &options] };
    let mut shell = Command::new(program);
    shell.args(flags).args(["-S", "-f", "64", "-w", &names(lab).join(","), command]);
    timed(shell.env("PDSH_SSH_ARGS_APPEND", &options))
}

/// Runs a shell's command line for each host, up to 64 at a time; `{}` is the host.
fn each(lab: &Lab, line: &str) -> f64 {
    const SCRIPT: &str = r#"line=$1; shift; printf '%s\n' "$@" | xargs -P 64 -I{} sh -c "$line""#;
    timed(Command::new("sh").args(["-c", SCRIPT, "sh", line]).args(names(lab))).0
}

/// How far apart the instants are that the hosts printed, in milliseconds.
fn spread(printed: &str, count: usize) -> f64 {
    let instant = |line: &str| line.split_whitespace().next_back()?.parse().ok();
    let mut instants: Vec<f64> = printed.lines().filter_map(instant).collect();
    assert_eq!(instants.len(), count, "every host printed its time:\n{printed}");
    instants.sort_by(f64::total_cmp);
    (instants[count - 1] - instants[0]) * 1e3
}
