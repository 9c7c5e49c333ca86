//! Settings of a host that a profiler changes: on record before, restored after, whatever happens in between.
use lab::{Running, Signal};

use crate::support::{LONG, Scratch, autoprof, hosts, run, state};

/// A setting of the kernel that nothing here depends on, and that all hosts of the lab have in common.
const SETTING: &str = "/proc/sys/vm/stat_interval";

fn value() -> String {
    std::fs::read_to_string(SETTING).unwrap().trim().to_owned()
}

fn wait_for(wanted: &str) {
    let waited = std::time::Instant::now();
    while value() != wanted {
        assert!(waited.elapsed() < LONG, "{SETTING} is {}, not {wanted}", value());
        std::thread::yield_now();
    }
}

/// In one test, since all hosts of this machine have one kernel.
#[test]
fn what_a_profiler_changes_is_restored_also_after_a_crash_and_by_the_last_of_two() {
    if lab::skip_unless(&["sshd", "perf"]) || lab::skip_unless_namespaces() {
        return;
    }
    let before = value();
    let lab = hosts(1).start();
    let (scratch, config) = (Scratch::new(), lab.ssh_config());
    let wants = "perf-stat:sysctl=[vm.stat_interval=7]";
    let begin = |name: &str| {
        let out = scratch.path(name);
        let args = ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", wants, "-d", "600"];
        let mut running = Running::start(&mut autoprof(&args));
        running.wait_for("profiling 1 host", LONG);
        assert_eq!(value(), "7");
        running
    };
    let end = |mut running: Running| {
        running.signal(Signal::INT);
        running.finish(LONG)
    };

    let done = end(begin("plain"));
    assert_eq!(value(), before, "{done}");
    let manifest = lab::manifest(scratch.path("plain"));
    assert_eq!(state(&manifest, "h1", "perf-stat"), "ok", "{done}");
    let changes = manifest["hosts"]["h1"]["settings"].as_array().unwrap();
    let seen: Vec<_> = changes.iter().map(|c| (c["from"].as_str().unwrap(), c["to"].as_str().unwrap())).collect();
    assert_eq!(seen, [(before.as_str(), "7"), ("7", before.as_str())]);

    // Of two that want it, the last one to end restores it.
    let (first, second) = (begin("first"), begin("second"));
    end(first);
    assert_eq!(value(), "7");
    end(second);
    assert_eq!(value(), before);

    // Client and controller are killed: `clean` finishes it, and so does the next run on the host.
    for who in ["clean", "the next run"] {
        let mut killed = begin(&format!("killed-{}", who.len()));
        killed.signal(Signal::KILL);
        killed.finish(LONG);
        for process in lab[1].processes() {
            process.signal(Signal::KILL);
        }
        assert_eq!(value(), "7");
        if who == "clean" {
            run(&["clean", "--ssh-config", config.as_str(), "-w", "h1"]).expect_success();
        } else {
            let out = scratch.path("next");
            let args =
                ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "proc:0.2", "-d", "0.3"];
            run(&args).expect_success();
        }
        wait_for(&before);
    }

    // Nothing is changed by a host's user who may not, nor by anything that is no setting.
    let bad =
        run(&["run", "-o", scratch.path("bad").as_str(), "-p", "perf-stat:sysctl=[../../etc/passwd=x]", "-d", "1"]);
    assert_eq!(bad.code(), 2, "{bad}");
    assert!(bad.stderr.contains("is not a kernel setting"), "{bad}");
    let absent =
        run(&["run", "-o", scratch.path("no").as_str(), "-p", "perf-stat:sysctl=[vm.no_such_thing=1]", "-d", "1"]);
    assert_eq!(absent.code(), 125, "{absent}");
    assert!(absent.stderr.contains("cannot change a setting of the host: /proc/sys/vm/no_such_thing"), "{absent}");
}
