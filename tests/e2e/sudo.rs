//! Profilers that run as root through sudo, of a user who may run nothing else.
use std::{os::unix::fs::PermissionsExt, process::Command};

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Finished, Running, Signal};

use crate::support::{LONG, Scratch, states};

/// A machine on which nobody, whom every machine has and who may do nothing, has rules of sudo: in mounts that nothing
/// else sees.
struct Machine {
    scratch: Scratch,
}

impl Machine {
    /// With these rules; none where it cannot be had here.
    fn new(rules: &str) -> Option<Self> {
        let needs = ["setpriv", "sudo", "visudo", "perf", "unshare", "pkill"];
        if lab::skip_unless(&needs) || lab::skip_unless_namespaces() || lab::skip_unless_perf_is_restricted() {
            return None;
        }
        let scratch = Scratch::for_everyone();
        for own in ["sudoers.d", "local"] {
            std::fs::create_dir(scratch.path(own)).unwrap();
        }
        let path = scratch.write("sudoers", &format!("{rules}@includedir /etc/sudoers.d\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        Some(Self { scratch })
    }

    /// A command of root's on it.
    fn root(&self, command: &[&str]) -> Command {
        const ENTER: &str = "mount --bind \"$1/sudoers\" /etc/sudoers
            mount --bind \"$1/sudoers.d\" /etc/sudoers.d
            mount --bind \"$1/local\" /usr/local
            shift; exec \"$@\"";
        let mut inside = Command::new("unshare");
        let scratch = self.scratch.path("");
        inside.args(["--mount", "sh", "-ec", ENTER, "sh", scratch.as_str()]).args(command);
        inside.env("HOME", scratch.as_str());
        inside
    }

    /// A command of nobody's.
    fn nobody(&self, command: &[&str]) -> Command {
        let become_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
        self.root(&[&become_nobody, command].concat())
    }

    /// The program with its arguments, as nobody.
    fn autoprof(&self, args: &[&str]) -> Command {
        let (program, tmpdir) = (self.scratch.path("stage/bin/autoprof"), self.scratch.path("profilers"));
        self.nobody(&[&[program.as_str()], args, &["--tmpdir", tmpdir.as_str()]].concat())
    }

    fn run(&self, args: &[&str]) -> Finished {
        lab::run(&mut self.autoprof(args), LONG)
    }

    /// Has root do what `check --sudoers` prints for these profilers; gives the rules.
    fn allow(&self, profilers: &[&str]) -> String {
        let printed = self.run(&[&["check", "--sudoers"], profilers].concat()).expect_success().stdout;
        lab::run(&mut self.root(&["sh", "-c", &printed]), LONG).expect_success();
        std::fs::read_to_string(self.scratch.path("sudoers.d/autoprof-nobody")).unwrap()
    }

    /// A program of the user's that says that it is perf, and otherwise does this.
    fn perf(&self, otherwise: &str) -> Utf8PathBuf {
        std::fs::create_dir(self.scratch.path("bin")).unwrap();
        let script = format!("#!/bin/sh\n[ \"$1\" != --version ] || exec echo perf version 6.1.1\n{otherwise}\n");
        let perf = self.scratch.write("bin/perf", &script);
        std::fs::set_permissions(&perf, std::fs::Permissions::from_mode(0o755)).unwrap();
        perf
    }

    /// What a file of a run's only host has in it.
    fn read(&self, file: &str) -> String {
        let path = self.scratch.path("out/hosts/local").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

/// Processes of this machine whose command line has a text in it.
fn running(text: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

/// The processes of a perf that samples this often.
fn perf_at(frequency: u32) -> Vec<String> {
    running(&format!("perf record -a -g -F {frequency} "))
}

/// perf in both ways.
const PERF: [&str; 4] = ["-p", "perf:frequency=97", "-p", "perf-stat:interval=0.5"];

fn with_perf<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &PERF].concat()
}

#[test]
fn what_check_prints_for_root_is_all_that_perf_needs() {
    // Where sudo runs the tool on a terminal of its own, there is one process more in between.
    for options in ["", "Defaults use_pty\n"] {
        let Some(machine) = Machine::new(options) else { return };
        // Before root has done anything it is said what is missing, and nothing runs.
        let refused = machine.run(&with_perf(&["check", "--sudo"]));
        assert_eq!(refused.code(), 1, "{refused}");
        assert!(refused.stdout.contains("cannot be run by sudo (exit status 1: "), "{refused}");
        let rules = machine.allow(&PERF);
        let is_rule = |line: &str| {
            line.starts_with("nobody ALL=(root) NOPASSWD: NOSETENV: /usr/local/libexec/autoprof/")
                && line.ends_with(" \"\"")
        };
        assert!(rules.lines().count() == 3 && rules.lines().all(is_rule), "{rules}");
        machine.run(&with_perf(&["check", "--sudo"])).expect_success();
        let out = machine.scratch.path("out");
        let done = machine.run(&with_perf(&["run", "--sudo", "-o", out.as_str(), "-d", "2"])).expect_success();
        assert!(states(&lab::manifest(&out), "local").iter().all(|(_, state)| state == "ok"), "{done}");
        // The kernel's functions have their names, which it shows to root alone.
        let stacks = machine.read("perf/stacks.folded");
        assert!(["do_idle", "do_syscall_64", "el0"].iter().any(|name| stacks.contains(name)), "{stacks}");
        assert!(machine.read("perf-stat/perf-stat.csv").lines().count() >= 3, "{done}");
        assert!(!out.join("hosts/local/perf/kallsyms").exists());
        assert!(perf_at(97).is_empty(), "{:?}", perf_at(97));
        assert!(!machine.scratch.path("profilers").exists(), "something of ours is left");
    }
}

#[test]
fn a_rule_allows_its_command_and_nothing_beside_it() {
    let Some(machine) = Machine::new("Defaults setenv\n") else { return };
    let rules = machine.allow(&PERF);
    let scripts: Vec<&str> = rules.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    let may = |words: &[&str]| {
        let done = lab::run(&mut machine.nobody(&[&["sudo", "-n"], words].concat()), LONG);
        assert_eq!(done.code() == 0, !done.stderr.contains("sudo: "), "{words:?}: {done}");
        done.code() == 0
    };
    for script in scripts {
        assert!(may(&[script]), "{script}");
        for more in ["", "-a", "-o/etc/x", "record -a"] {
            assert!(!may(&[script, more]), "{script} {more:?}");
        }
        assert!(!may(&["HOME=/tmp", script]), "the caller's environment");
        let text = std::fs::read_to_string(machine.scratch.path(script.trim_start_matches("/usr/"))).unwrap();
        // What the script runs may not be run as it is, in words or in one.
        let words: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert!(words[0].starts_with("/usr/bin/"), "{text}");
        assert!(!may(&words) && !may(&[words[0], &words[1..].join(" ")]), "{text}");
    }
    // Other parameters are another command.
    let other = machine.run(&["check", "--sudo", "-p", "perf:frequency=98"]);
    assert!(other.stdout.contains("cannot be run by sudo"), "{other}");
}

#[test]
fn a_program_that_lies_where_the_user_writes_is_not_run_as_root() {
    let Some(machine) = Machine::new("nobody ALL=(root) NOPASSWD: ALL\n") else { return };
    let perf = machine.perf("exit 0");
    let path = format!("{}:{}", perf.parent().unwrap(), std::env::var("PATH").unwrap());
    let checked = lab::run(machine.autoprof(&["check", "--sudo", "-p", "perf-stat"]).env("PATH", &path), LONG);
    assert_eq!(checked.code(), 1, "{checked}");
    assert!(checked.stdout.contains("which is not in a directory of the system's"), "{checked}");
    let printed = lab::run(machine.autoprof(&["check", "--sudoers", "-p", "perf-stat"]).env("PATH", &path), LONG);
    assert!(printed.code() == 1 && !printed.stdout.contains("NOPASSWD"), "{printed}");
}

/// Runs perf on the machine, does something to it while it records, and gives the profiler's record.
fn disturbed(machine: &Machine, frequency: u32, disturb: impl FnOnce(&mut Running, &Utf8Path)) -> serde_json::Value {
    let perf = format!("perf:frequency={frequency}");
    machine.allow(&["-p", &perf]);
    let out = machine.scratch.path("out");
    let args = ["run", "--sudo", "-o", out.as_str(), "-p", &perf, "-d", "600"];
    let mut running = Running::start(&mut machine.autoprof(&args));
    running.wait_for("profiling 1 host", LONG);
    assert!(!perf_at(frequency).is_empty());
    disturb(&mut running, &out);
    running.signal(Signal::INT);
    let done = running.finish(LONG);
    assert!(perf_at(frequency).is_empty(), "{done}: {:?}", perf_at(frequency));
    lab::manifest(&out)["hosts"]["local"]["profilers"]["perf"].clone()
}

#[test]
fn a_tool_of_roots_ends_with_a_client_that_is_killed() {
    let Some(machine) = Machine::new("") else { return };
    let perf = disturbed(&machine, 89, |running, out| {
        let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
        let directory = text.split("\"directory\":\"").nth(1).unwrap().split('"').next().unwrap();
        let pid = std::fs::read_to_string(Utf8Path::new(directory).join("client.pid")).unwrap();
        lab::run(Command::new("kill").args(["-KILL", pid.trim()]), LONG).expect_success();
        running.wait_for("local: found again", LONG);
    });
    assert_eq!(perf["segments"].as_array().map(Vec::len), Some(2), "{perf:#}");
    // What the first one wrote is whole: it had time to end.
    assert!(perf["files"][0]["bytes"].as_u64().unwrap() > 1000, "{perf:#}");
}

#[test]
fn a_tool_of_roots_ends_with_a_sudo_that_is_killed() {
    let Some(machine) = Machine::new("") else { return };
    let perf = disturbed(&machine, 83, |_, out| {
        lab::run(Command::new("pkill").args(["-KILL", "-f", "^sudo -n -- /usr/local/libexec/autoprof/perf-"]), LONG)
            .expect_success();
        let ended = || std::fs::read_to_string(out.join("events.jsonl")).unwrap().contains("\"event\":\"ended\"");
        assert!(lab::wait_until(LONG, ended));
        assert!(perf_at(83).is_empty(), "it went on: {:?}", perf_at(83));
    });
    assert_eq!(perf["state"], "partial", "{perf:#}");
}

#[test]
fn a_tool_of_roots_that_does_not_end_is_named() {
    let Some(machine) = Machine::new("") else { return };
    // It hears neither the end of its input nor the signals that sudo passes on, and only root may send it SIGKILL.
    let perf = machine.perf(
        "trap '' INT TERM HUP\nwhile [ $# -gt 1 ] && [ \"$1\" != -- ]; do shift; done\nshift\n\"$@\" < /dev/stdin\n\
         # It is tried once before it is needed.\n\
         [ -e ${0%/*}/tried ] || { : > ${0%/*}/tried; exit 0; }\nwhile :; do sleep 1; done",
    );
    let path = format!("/usr/local/bin:{}", std::env::var("PATH").unwrap());
    std::fs::create_dir(machine.scratch.path("local/bin")).unwrap();
    std::fs::copy(&perf, machine.scratch.path("local/bin/perf")).unwrap();
    let sudoers = ["check", "--sudoers", "-p", "perf-stat"];
    let printed = lab::run(machine.autoprof(&sudoers).env("PATH", &path), LONG).expect_success().stdout;
    lab::run(&mut machine.root(&["sh", "-c", &printed]), LONG).expect_success();
    let out = machine.scratch.path("out");
    let args = ["run", "--sudo", "-o", out.as_str(), "-p", "perf-stat", "-d", "1"];
    let done = lab::run(machine.autoprof(&args).env("PATH", path), LONG);
    let tools = running("/usr/local/bin/perf stat");
    lab::run(Command::new("pkill").args(["-KILL", "-f", "/usr/local/bin/perf stat"]), LONG).expect_success();
    assert!(!tools.is_empty(), "{done}");
    assert!(done.stderr.contains("only root can kill it: process group "), "{done}");
}
