//! Clients that are signalled through a real NATS server.
use std::process::Command;

use autoprof_core::protocol::EVENTS_FILE;
use lab::{Broker, Finished, Lab, Running, run, wait_until};
use serde_json::Value;

use crate::support::{LONG, Scratch, event_numbers, hosts, state};

/// A job over the server, the hosts being those of a lab.
struct Job {
    scratch: Scratch,
    broker: Broker,
}

impl Job {
    fn new() -> Job {
        let scratch = Scratch::new();
        let directory = scratch.path("broker");
        std::fs::create_dir(&directory).unwrap();
        Job { broker: Broker::start(directory), scratch }
    }

    fn command(&self, lab: &Lab, more: &[&str]) -> Command {
        let job = self.scratch.write("job.yaml", "signaler: nats\n");
        let hosts = format!("h[1-{}]", lab.hosts().len());
        let mut command = lab::autoprof();
        command.args(["run", job.as_str(), "-w", &hosts, "--ssh-config", lab.ssh_config().as_str()]);
        command.args(["-o", self.scratch.path("run").as_str()]).args(more);
        command.env("AUTOPROF_NATS", self.broker.config());
        command
    }

    fn run(&self, lab: &Lab, more: &[&str]) -> Finished {
        run(&mut self.command(lab, more), LONG)
    }

    fn manifest(&self) -> Value {
        lab::manifest(self.scratch.path("run"))
    }

    /// The numbers of the client's events that were recorded of a host.
    fn numbers(&self, host: &str) -> Vec<u64> {
        event_numbers(&self.scratch.path("run"), host)
    }
}

/// How many connections to the hosts of a lab are open, by what the kernel says.
fn connections(lab: &Lab) -> usize {
    let open = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let address = |host: &lab::Host| {
        let (ip, port) = (u32::from_ne_bytes(host.address().ip().octets()), host.address().port());
        format!("{ip:08X}:{port:04X}")
    };
    let hosts: Vec<String> = lab.hosts().iter().map(address).collect();
    let established = open.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"01")).then(|| fields[1].to_owned())
    });
    established.filter(|local| hosts.contains(local)).count()
}

/// The arguments and environments of processes, of the hosts' too, that have this text in them.
fn showing(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let files = processes.flat_map(|process| [process.join("cmdline"), process.join("environ")]);
    let shows = |file: &std::path::PathBuf| {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    files.filter(shows).map(|file| file.display().to_string()).collect()
}

#[test]
fn hosts_are_signalled_without_a_connection_to_each() {
    if lab::skip_unless(&["sshd", "nats-server"]) {
        return;
    }
    let lab = hosts(3).start();
    let job = Job::new();
    // While the window is open the test waits for this file, so that what is looked at holds still.
    let (open, go_on) = (job.scratch.path("open"), job.scratch.path("go-on"));
    let test = format!("touch {open}; while [ ! -e {go_on} ]; do sleep 0.1; done");
    let running = Running::start(&mut job.command(&lab, &["-p", "proc:0.2", "--", "sh", "-c", &test]));
    assert!(wait_until(LONG, || open.exists()), "the window opens: {}", running.stderr());
    assert!(wait_until(LONG, || connections(&lab) == 0), "{} connections stay open", connections(&lab));
    assert_eq!(showing(Broker::HOSTS_PASSWORD), Vec::<String>::new(), "the hosts' password is to be read there");
    std::fs::write(&go_on, "").unwrap();
    running.finish(LONG).expect_success();
    let manifest = job.manifest();
    for host in ["h1", "h2", "h3"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{manifest:#}");
        let numbers = job.numbers(host);
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{host}: each event once, in order");
    }
    lab.assert_clean();
}

#[test]
fn a_server_that_is_gone_for_a_while_costs_nothing() {
    if lab::skip_unless(&["sshd", "nats-server"]) {
        return;
    }
    let lab = hosts(2).start();
    let mut job = Job::new();
    let (open, go_on) = (job.scratch.path("open"), job.scratch.path("go-on"));
    let test = format!("touch {open}; while [ ! -e {go_on} ]; do sleep 0.1; done");
    // One of the profilers ends while nobody can be told of it.
    let short = "command:command='while [ ! -e ~/away ]; do sleep 0.1; done; rm ~/away'";
    let arguments = ["-p", "proc:0.2", "-p", short, "--", "sh", "-c", &test];
    let running = Running::start(&mut job.command(&lab, &arguments));
    assert!(wait_until(LONG, || open.exists()), "the window opens: {}", running.stderr());
    job.broker.down();
    for host in lab.hosts() {
        host.exec(&["touch", "away"]).expect_success();
        let known = format!("grep -q '\"ended\"' {}/*/{EVENTS_FILE}", host.tmpdir());
        let is_known = || host.exec(&["sh", "-c", &known]).status.success();
        assert!(wait_until(LONG, is_known), "{}: the client knows that the command has ended", host.name());
    }
    job.broker.up();
    std::fs::write(&go_on, "").unwrap();
    let done = running.finish(LONG);
    let manifest = job.manifest();
    for host in ["h1", "h2"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{done}");
        assert_eq!(state(&manifest, host, "command"), "partial", "{done}");
        let numbers = job.numbers(host);
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{host}: each event once, in order");
    }
    lab.assert_clean();
}

#[test]
fn who_is_not_let_in_or_not_vouched_for_is_told_so() {
    if lab::skip_unless(&["sshd", "nats-server"]) {
        return;
    }
    let lab = hosts(1).start();
    let mut job = Job::new();
    let refused = |controller: &str, hosts: &str, ca: &str| {
        job.broker.configure(controller, hosts, ca);
        let _ = std::fs::remove_dir_all(job.scratch.path("run"));
        let done = job.run(&lab, &["-p", "proc", "--", "true"]);
        assert_eq!(done.code(), 125, "{done}");
        assert!(!done.stderr.contains("hunter"), "{done}");
        done.stderr
    };
    let said = refused("wrong-hunter", "wrong-hunter", "ca.pem");
    assert!(said.contains("cannot connect to the NATS server at tls://localhost:"), "{said}");
    assert!(said.contains("authorization violation"), "{said}");
    let said = refused("controller-hunter2", "wrong-hunter", "ca.pem");
    assert!(said.contains("the host does not reach the NATS server"), "{said}");
    assert!(said.contains("hosts.login"), "{said}");
    let said = refused("controller-hunter2", "hosts-hunter2", "stranger.pem");
    assert!(said.contains("cannot connect to the NATS server") && said.contains("certificate"), "{said}");
    job.broker.down();
    let said = {
        let _ = std::fs::remove_dir_all(job.scratch.path("run"));
        job.run(&lab, &["-p", "proc", "--", "true"]).stderr
    };
    assert!(said.contains("cannot connect to the NATS server"), "{said}");
    lab.assert_clean();
}
