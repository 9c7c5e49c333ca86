//! Profilers beyond the default ones, with the tools that are really there.
use std::sync::{Mutex, PoisonError};

use camino::Utf8Path;
use lab::Running;

use crate::{
    faults::Gate,
    support::{LONG, Scratch, autoprof, run, state},
};

/// Held by tests that load BPF programs, and by one whose tool (perf 6.1) cannot read its own file when that happens.
static KERNEL: Mutex<()> = Mutex::new(());

/// The values of a column, as text.
fn column(path: &Utf8Path, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let at = reader.headers().unwrap().iter().position(|column| column == name).unwrap();
    reader.records().map(|row| row.unwrap()[at].to_owned()).collect()
}

#[test]
fn what_the_machine_and_its_kernel_say_becomes_tables() {
    if lab::skip_unless(&["strace", "tcpdump", "bpftrace", "numastat", "dmesg", "sh"]) {
        return;
    }
    let _alone = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    // What is traced: known by a word that nothing else has on its command line.
    let word = format!("traced-{}", std::process::id());
    let mut traced = Running::start(std::process::Command::new("sh").args([
        "-c",
        "while :; do cat /proc/uptime > /dev/null; sleep 0.05; done",
        &word,
    ]));
    let strace = format!("strace:process={word}");
    let profilers = ["dmesg", "sysinfo", "numastat:1", &strace, "tcpdump:interface=lo,filter=udp port 9", "bpftrace"];
    let mut args = vec!["run", "-o", out.as_str()];
    profilers.iter().for_each(|profiler| args.extend(["-p", profiler]));
    let script = format!("echo '<4>autoprof says {word}' > /dev/kmsg; {}", gate.script(0));
    let mut running = Running::start(autoprof(&args).args(["--", "sh", "-c", &script]));
    running.wait_for("the-test-began", LONG);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let directory = out.join("hosts/local");
    // Until bpftrace, the slowest to begin, has printed: it compiles its program first.
    let printed = lab::wait_until(LONG, || {
        socket.send_to(b"packet", "127.0.0.1:9").unwrap();
        has_printed("run_queue_us")
    });
    assert!(printed, "bpftrace prints");
    gate.open();
    let done = running.finish(LONG);
    traced.signal(lab::Signal::KILL);
    traced.finish(LONG);
    assert!(done.status.success(), "{done}");
    let manifest = lab::manifest(&out);
    for profiler in ["dmesg", "sysinfo", "numastat", "strace", "tcpdump", "bpftrace"] {
        assert_eq!(state(&manifest, "local", profiler), "ok", "{profiler}: {done}");
    }
    let logged = column(&directory.join("dmesg/dmesg.csv"), "message");
    assert!(logged.iter().any(|text| text.contains(&word)), "{logged:?}");
    assert!(directory.join("sysinfo/changes.txt").exists());
    assert!(!column(&directory.join("numastat/numastat.csv"), "not_free_kib").is_empty());
    let calls = column(&directory.join("strace/syscalls.csv"), "syscall");
    assert!(
        calls.iter().any(|call| call == "read") && !calls.iter().any(|call| call.starts_with("epoll")),
        "{calls:?}"
    );
    let packets = directory.join("tcpdump/packets.csv");
    assert_eq!(column(&packets, "packets")[0], "captured");
    assert!(column(&packets, "count")[0].parse::<u64>().unwrap() > 0);
    let histogram = directory.join("bpftrace/histogram.csv");
    assert!(column(&histogram, "map").iter().all(|map| map == "run_queue_us"));
    assert!(column(&histogram, "count_per_s").iter().any(|count| count != "0"));
}

/// What profilers of the runs on this machine have written so far to files of this name.
fn written(file: &str) -> impl Iterator<Item = String> {
    let runs = std::fs::read_dir("/tmp/profilers").into_iter().flatten().flatten();
    runs.filter_map(move |run| {
        std::fs::read_to_string(run.path().join("results/default/profiler_test/profiling").join(file)).ok()
    })
}

#[test]
fn what_happens_to_files_is_counted() {
    if lab::skip_unless(&["inotifywait", "sh"]) {
        return;
    }
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let watched = scratch.path("watched");
    std::fs::create_dir(&watched).unwrap();
    let profiler = format!("inotify:{watched}");
    let mut running = Running::start(autoprof(&["run", "-o", out.as_str(), "-p", &profiler, "--"]).args([
        "sh",
        "-c",
        &gate.script(0),
    ]));
    running.wait_for("the-test-began", LONG);
    // From when its directory is watched, which it may not be yet.
    let seen = lab::wait_until(LONG, || {
        std::fs::write(watched.join("file"), "x").unwrap();
        std::fs::remove_file(watched.join("file")).unwrap();
        written("inotify/inotify.txt").any(|text| text.contains(&format!(" DELETE {watched}/file")))
    });
    assert!(seen, "inotifywait prints");
    gate.open();
    let done = running.finish(LONG);
    assert!(done.status.success(), "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "inotify"), "ok", "{done}");
    let table = out.join("hosts/local/inotify/inotify.csv");
    for kind in ["delete_per_s", "modify_per_s"] {
        assert!(column(&table, kind).iter().any(|count| count != "0"), "{kind}");
    }
}

#[test]
fn a_measurement_of_powertop_becomes_a_row() {
    if lab::skip_unless(&["powertop", "sh"]) {
        return;
    }
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let mut args = autoprof(&["run", "-o", out.as_str(), "-p", "powertop:1", "--"]);
    let mut running = Running::start(args.args(["sh", "-c", &gate.script(0)]));
    running.wait_for("the-test-began", LONG);
    let measured =
        lab::wait_until(LONG, || written("powertop/powertop.txt").any(|text| text.contains("Device Power Report")));
    assert!(measured, "powertop ends a measurement");
    gate.open();
    let done = running.finish(LONG);
    assert!(done.status.success(), "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "powertop"), "ok", "{done}");
    let used = column(&out.join("hosts/local/powertop/powertop.csv"), "cpu_percent");
    assert!(used.iter().all(|percent| percent.parse::<f64>().is_ok()) && !used.is_empty(), "{used:?}");
    assert!(!column(&out.join("hosts/local/powertop/consumers.csv"), "consumer").is_empty());
}

#[test]
fn events_of_the_kernel_are_counted_or_its_tracer_is_left_as_it_is() {
    if lab::skip_unless(&["trace-cmd", "sh"]) {
        return;
    }
    // In some containers and virtual machines not all of the tracer is root's.
    let whole = std::fs::File::open("/sys/kernel/tracing/set_ftrace_pid").is_ok();
    let is_on = || std::fs::read_to_string("/sys/kernel/tracing/tracing_on").ok();
    let before = is_on();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run(&["run", "-o", out.as_str(), "-p", "trace-cmd", "--", "true"]);
    assert_eq!(is_on(), before, "{done}");
    if !whole {
        assert_eq!(done.code(), 125, "{done}");
        assert!(done.stderr.contains("trace-cmd failed: "), "{done}");
        return;
    }
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "trace-cmd"), "ok", "{done}");
    let events = column(&out.join("hosts/local/trace-cmd/events.csv"), "event");
    assert!(events.iter().any(|event| event == "sched_switch"), "{events:?}");
}

#[test]
fn files_are_copied_again_and_again() {
    let scratch = Scratch::new();
    let (out, own) = (scratch.path("run"), scratch.path("own"));
    std::fs::write(&own, "depth: 7\nfree: 5 kB\nnot a number\n").unwrap();
    let profiler = format!("cat:files=[/proc/meminfo,{own}]");
    let done = run(&["run", "-o", out.as_str(), "-p", &profiler, "--", "true"]);
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "cat"), "ok", "{done}");
    let directory = out.join("hosts/local/cat");
    assert!(std::fs::read_to_string(directory.join("files.txt")).unwrap().contains("not a number\n"));
    let names = column(&directory.join("values.csv"), "name");
    assert!(names.iter().any(|name| name == "MemFree") && names.iter().any(|name| name == "depth"), "{names:?}");
}

/// Whether bpftrace, in a run on this machine, has printed a histogram of this name.
fn has_printed(map: &str) -> bool {
    let of_it = |text: String| text.lines().any(|line| line.contains("\"hist\"") && line.contains(map));
    written("bpftrace/bpftrace.json").any(of_it)
}

#[test]
fn a_bpftrace_program_of_ones_own_is_sent_and_kept() {
    if lab::skip_unless(&["bpftrace", "tar"]) {
        return;
    }
    let _alone = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let program = "tracepoint:sched:sched_switch { @of_ones_own = hist(1); }\n\
                   interval:ms:100 { time(\"%s\\n\"); print(@of_ones_own); clear(@of_ones_own); }\n";
    let file = scratch.write("own program.bt", program);
    let profiler = format!("bpftrace:file='{file}'");
    let args = ["run", "-o", out.as_str(), "-p", &profiler, "--", "sh", "-c", &gate.script(0)];
    let mut running = Running::start(&mut autoprof(&args));
    running.wait_for("the-test-began", LONG);
    assert!(lab::wait_until(LONG, || has_printed("of_ones_own")), "bpftrace prints");
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(state(&lab::manifest(&out), "local", "bpftrace"), "ok", "{done}");
    let left = out.join("hosts/local/bpftrace");
    assert_eq!(std::fs::read_to_string(left.join("program.bt")).unwrap(), program);
    assert!(column(&left.join("histogram.csv"), "map").iter().all(|map| map == "of_ones_own"));
}

#[test]
fn what_perf_says_of_switches_and_locks_becomes_tables() {
    if lab::skip_unless(&["perf", "awk"]) {
        return;
    }
    let _alone = KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let args = ["run", "-o", out.as_str(), "-p", "perf-sched", "-p", "perf-lock", "--", "sh", "-c"];
    // Tasks that wake each other, on as many CPUs as there are.
    let load = "for i in 1 2 3 4; do (timeout 2 sh -c 'while :; do echo; done' | cat > /dev/null) & done; wait";
    let done = lab::run(autoprof(&args).arg(load), LONG).expect_success();
    let manifest = lab::manifest(&out);
    for profiler in ["perf-sched", "perf-lock"] {
        assert_eq!(state(&manifest, "local", profiler), "ok", "{done}");
    }
    let directory = out.join("hosts/local");
    let delays = directory.join("perf-sched/sched.csv");
    assert!(column(&delays, "map").iter().all(|map| map == "sched_delay_us"));
    assert!(column(&delays, "count_per_s").iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>() > 0);
    let (began, ended) = crate::support::window(&manifest, "local", "perf-sched");
    let times = crate::support::times(&delays);
    assert!(times.iter().all(|at| (began..ended + 1.0).contains(at)), "{began}..{ended}: {times:?}");
    assert!(column(&directory.join("perf-sched/sched-tasks.csv"), "task").iter().any(|task| task.starts_with("sh")));
    assert!(directory.join("perf-lock/lock.csv").exists());
}

#[test]
fn what_cannot_run_says_why_before_the_test() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let none = run(&["run", "-o", out.as_str(), "-p", "strace", "--", "true"]);
    assert_eq!(none.code(), 2, "{none}");
    assert!(none.stderr.contains("one of process and pid says what is traced"), "{none}");
    let listed = run(&["profilers"]).stdout;
    for pid in ["strace:pid=[17,18]", "strace:pid=17"] {
        let dry = run(&["run", "--dry-run", "-p", pid]);
        assert!(dry.code() == 0 && dry.stdout.contains("-p 17"), "{dry}");
    }
    let names = "dmesg journal sysinfo numastat turbostat nvidia-smi powertop kvm_stat inotify strace tcpdump bpftrace trace-cmd blktrace cat";
    for name in names.split(' ') {
        assert!(listed.lines().any(|line| line.trim_start().starts_with(name)), "{name} is not listed:\n{listed}");
    }
}

#[test]
fn a_command_that_may_end_may_do_so_at_once() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run(&["run", "-o", out.as_str(), "-p", "command:'echo hello',may_end=true", "--", "true"]);
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "command"), "ok", "{done}");
    assert_eq!(std::fs::read_to_string(out.join("hosts/local/command/command.txt")).unwrap(), "hello\n");
}
