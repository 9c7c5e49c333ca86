//! systemd ends what a user left running, where the administrator says so.

use std::process::Command;
use std::time::Duration;

use lab::Finished;

use crate::machine::Machine;
use crate::run::Results;

use super::collect_for;

const LONG: Duration = Duration::from_secs(300);

/// `autoprof start` ends its connection, and with it the user's last session: either the client outlives that, or
/// autoprof says what became of it.
pub fn kills_processes(machine: &mut Machine) -> String {
    machine.sh("mkdir -p /etc/systemd/logind.conf.d && printf '[Login]\\nKillUserProcesses=yes\\n' \
         >/etc/systemd/logind.conf.d/kill.conf && systemctl restart systemd-logind");
    let config = machine.ssh_config();
    let directory = machine.directory().join("run");
    let options = ["--ssh-config", config.as_str(), "-w", "tester@vm", "-p", "proc:1"];
    let check = lab::run(autoprof("check").args(options), LONG);
    let started = lab::run(autoprof("start").args(options).args(["-o", directory.as_str()]), LONG);
    // logind sends SIGTERM when the session ends; the user's own manager and its units go ten seconds later.
    collect_for(20);
    let survived = !machine.sh("pgrep -u tester -f '[a]utoprof-client' || true").is_empty();
    let report = lab::run(autoprof("report").arg(directory.as_str()), LONG);
    let warned = [&check, &started].map(says_why);
    let results = Results::read(report, directory);
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");

    let rows = results.series("proc", "cpu.csv").0.len();
    let state = results.state("proc");
    if survived {
        assert_eq!(results.profiler("proc")["state"], "ok", "a client that goes on has all its data: {state}");
        assert!(rows >= 15, "proc has rows for the whole window, and not {rows}");
    } else {
        assert_ne!(results.profiler("proc")["state"], "ok", "data that ends early is not whole");
        assert!(!started.status.success() || warned[1] || says_why(&results.finished), "nothing says why: {state}");
    }
    format!(
        "client {}; check {}, start {} KillUserProcesses; proc {state}, {rows} rows",
        if survived { "survived" } else { "was killed" },
        if warned[0] { "names" } else { "does not name" },
        if warned[1] { "names" } else { "does not name" },
    )
}

fn says_why(command: &Finished) -> bool {
    command.stderr.contains("KillUserProcesses") || command.stdout.contains("KillUserProcesses")
}

fn autoprof(subcommand: &str) -> Command {
    let mut command = lab::autoprof();
    command.arg(subcommand);
    command
}
