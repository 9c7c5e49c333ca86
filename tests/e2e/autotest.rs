//! Autotest's own profilers on real hosts. Autotest itself runs on Pythons that no distribution has any more, so that a
//! tree of its shape stands in for it: its program, its profilers, and nothing of autoprof's.
use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use camino::Utf8PathBuf;

use crate::support::{LONG, Scratch, hosts, run_on, state};

/// What a client of Autotest does with a control file: it gives it a `job`, whose profilers are classes of the tree.
const PROGRAM: &str = r#"
import importlib.util, os, sys

class Profilers:
    def __init__(self, job):
        self.job, self.list = job, []

    def add(self, name, *args, **dargs):
        path = os.path.join(self.job.autodir, "profilers", name, name + ".py")
        if not os.path.exists(path):
            raise RuntimeError("Error: %s not present" % name)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        profiler = getattr(module, name)()
        profiler.name = name
        profiler.initialize(*args, **dargs)
        self.list.append(profiler)

    def delete(self, name):
        self.list = [p for p in self.list if p.name != name]
        print("deleted", name, flush=True)

    def start(self, test):
        for p in self.list: p.start(test)

    def stop(self, test):
        for p in self.list: p.stop(test)

    def report(self, test):
        for p in self.list: p.report(test)

class Job:
    autodir = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    resultdir = os.path.join(autodir, "results", "default")
    def __init__(self):
        os.makedirs(self.resultdir, exist_ok=True)
        self.profilers = Profilers(self)

exec(open(sys.argv[1]).read(), {"job": Job()})
"#;

/// A profiler as sites have them: like Autotest's vmstat it kills the shell that it started and not what that runs.
const TICKER: &str = r#"
import os, subprocess

class ticker:
    def initialize(self, *args, **dargs):
        self.arguments = (args, dargs)

    def start(self, test):
        out = open(os.path.join(test.profdir, "ticks"), "w")
        self.shell = subprocess.Popen("while :; do echo tick; sleep 0.1; done & wait", shell=True, stdout=out)

    def stop(self, test):
        os.kill(self.shell.pid, 15)

    def report(self, test):
        with open(os.path.join(test.profdir, "arguments"), "w") as file:
            file.write(repr(self.arguments))
"#;

/// The tree, in a directory whose name needs quoting.
fn tree(scratch: &Scratch) -> Utf8PathBuf {
    let client = scratch.path("auto test/client");
    for (name, content) in [("bin/autotest", PROGRAM), ("profilers/ticker/ticker.py", TICKER)] {
        let path = client.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    client
}

#[test]
fn a_sites_own_profiler_runs_unmodified_from_a_directory_and_from_an_archive() {
    if lab::skip_unless(&["sshd", "python3", "tar"]) {
        return;
    }
    let scratch = Scratch::new();
    let client = tree(&scratch);
    let archive = scratch.path("client.tar.gz");
    let above = client.parent().unwrap();
    lab::run(Command::new("tar").args(["-czf", archive.as_str(), "-C", above.as_str(), "client"]), LONG)
        .expect_success();
    let lab = hosts(2).start();
    for from in [&client, &archive] {
        let out = scratch.path(&format!("run-{}", from.file_name().unwrap()));
        let profilers = "{ticker: {text: \"it's\", list: [1, null, [true, 0.5]], map: {a b: {}}}}";
        let autotest = format!("autotest:python=python3,tree='{from}',profilers={profilers}");
        let done = run_on(&lab, "h[1-2]", &out, &["-p", &autotest, "--", "sleep", "0.5"]).expect_success();
        let manifest = lab::manifest(&out);
        for host in ["h1", "h2"] {
            assert_eq!(state(&manifest, host, "autotest"), "ok", "{done}");
            let left = out.join("hosts").join(host).join("autotest");
            let read = |name: &str| fs::read_to_string(left.join(name)).unwrap();
            assert!(read("ticks").lines().filter(|line| *line == "tick").count() >= 2, "{}", read("ticks"));
            let arguments = "((), {'list': [1, None, [True, 0.5]], 'map': {'a b': {}}, 'text': \"it's\"})";
            assert_eq!(read("arguments"), arguments);
            assert!(read("autotest.log").ends_with("deleted ticker\n"), "{}", read("autotest.log"));
        }
    }
    lab.assert_clean();
}

#[test]
fn what_autotest_cannot_do_is_said_in_its_words() {
    if lab::skip_unless(&["sshd", "python3", "tar"]) {
        return;
    }
    let scratch = Scratch::new();
    let (client, out) = (tree(&scratch), scratch.path("run"));
    let lab = hosts(1).start();
    let profiler = format!("autotest:python=python3,tree='{client}',profilers=nosuch");
    let done = run_on(&lab, "h1", &out, &["-p", &profiler, "--", "true"]);
    assert_eq!(done.code(), 125, "{done}");
    assert!(done.stderr.contains("nosuch not present"), "{done}");
    let log = fs::read_to_string(out.join("hosts/h1/autotest/autotest.log")).unwrap();
    assert!(log.contains("nosuch not present"), "{log}");
    let ticker = client.join("profilers/ticker/ticker.py");
    fs::write(&ticker, TICKER.replace("os.kill(self.shell.pid, 15)", "raise RuntimeError('stuck')")).unwrap();
    let (stuck, profiler) = (scratch.path("stuck"), profiler.replace("nosuch", "ticker"));
    let done = run_on(&lab, "h1", &stuck, &["-p", &profiler, "--", "sleep", "0.3"]);
    assert_eq!((done.code(), state(&lab::manifest(&stuck), "h1", "autotest").as_str()), (125, "partial"), "{done}");
    assert!(done.stderr.contains("ended before its profilers had stopped") && done.stderr.contains("stuck"), "{done}");
    let absent = "autotest:tree=/no/such/tree,python=python3,profilers=ticker";
    let done = run_on(&lab, "h1", &scratch.path("absent"), &["-p", absent, "--", "true"]);
    assert!(done.stderr.contains("/no/such/tree cannot be read on the controller"), "{done}");
    lab.assert_clean();
}
