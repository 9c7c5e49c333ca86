//! Hosts that nobody here set up: what their logins print and export, what stands in for their tools, and how busy they
//! are.
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use camino::Utf8Path;

use crate::support::{LONG, Scratch, autoprof, run_on, state, times, window};

/// A login shell whose start-up file is this text.
fn login(scratch: &Scratch, name: &str, startup: &str) -> String {
    scratch.program(name, &format!("#!/bin/bash\n{startup}\nexec /bin/bash \"$@\"\n")).to_string()
}

#[test]
fn what_a_login_prints_is_taken_for_nothing() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let scratch = Scratch::new();
    let logins = [
        // No end of line, JSON, colors, a percent sign, a title.
        r#"printf 'Welcome {"not": "json"}\n\033[1;32m42%% used\033[0m\r\nno end of line'; printf '\033]0;title\007' >&2"#,
        // What an answer of the host's would look like, were it not for the mark.
        r#"printf '{"protocol":3,"client_digest":"x"}\nx86_64 /tmp/profilers/autoprof-evil1234 kept\n{"seq":1,'"#,
        "head -c 30000 /dev/urandom; head -c 30000 /dev/urandom >&2",
        // A shell that shows what it runs.
        "exec 2>&1; set -x; set -v",
    ];
    let shells: Vec<String> =
        logins.iter().enumerate().map(|(n, startup)| login(&scratch, &format!("login{n}"), startup)).collect();
    let builder =
        shells.iter().enumerate().fold(lab::Lab::builder(4), |lab, (n, shell)| lab.host(n + 1, |h| h.shell(shell)));
    let lab = builder.start();
    let out = scratch.path("run");
    run_on(&lab, "h[1-4]", &out, &["-p", "proc", "-p", "vmstat", "--", "sleep", "1.2"]).expect_success();
    let manifest = lab::manifest(&out);
    for host in ["h1", "h2", "h3", "h4"] {
        assert_eq!((state(&manifest, host, "proc"), state(&manifest, host, "vmstat")), ("ok".into(), "ok".into()));
    }
    lab.assert_clean();
}

#[test]
fn a_connection_that_breaks_during_the_installation_leaves_nothing() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = lab::Lab::builder(1).start();
    let (link, config) = lab.link(1);
    let check = || {
        let args = ["check", "--ssh-config", config.as_str(), "-w", "h1", "-p", "proc"];
        lab::run(&mut autoprof(&args), LONG)
    };
    check().expect_success();
    let whole = link.passed();
    lab.assert_clean();
    // After the log-in there are few bytes, and the directory is made among them.
    for percent in [50, 60, 70, 75, 80, 85, 90, 95] {
        link.break_after(whole * percent / 100);
        let _ = check();
        link.break_after(u64::MAX);
        lab.assert_clean_within(Duration::from_secs(20));
    }
}

/// Variables that change what tools print, and a path before the others.
fn hostile(host: lab::HostOptions) -> lab::HostOptions {
    let variables = [
        ("S_COLORS", "always"),
        ("S_TIME_FORMAT", "none"),
        ("S_REPEAT_HEADER", "2"),
        ("POSIXLY_CORRECT", "1"),
        ("GREP_OPTIONS", "--color=always"),
        ("COLUMNS", "20"),
        ("LINES", "3"),
        ("PAGER", "cat -v"),
        ("PERF_PAGER", "cat -v"),
        ("SYSTEMD_COLORS", "1"),
        ("LS_COLORS", "di=1"),
        ("BASH_ENV", "/dev/zero"),
        ("LANG", "de_DE.UTF-8"),
        ("PYTHONSTARTUP", "/dev/zero"),
    ];
    variables.into_iter().fold(host, |host, (name, value)| host.env(name, value))
}

#[test]
fn variables_and_files_of_the_login_do_not_change_what_tools_print() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat", "perf"]) {
        return;
    }
    let lab = lab::Lab::builder(2).host(1, hostile).start();
    let config =
        "[report]\n  percent-limit = 99\n  sort_order = pid\n[stat]\n  big-num = true\n[core]\n  verbose = 1\n";
    fs::write(lab[1].home().join(".perfconfig"), config).unwrap();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let profilers = ["vmstat", "mpstat", "iostat", "sar", "pidstat:1", "perf-stat", "perf"];
    let mut args: Vec<&str> = profilers.iter().flat_map(|profiler| ["-p", profiler]).collect();
    args.extend(["--", "sleep", "3.5"]);
    run_on(&lab, "h[1-2]", &out, &args).expect_success();
    let manifest = lab::manifest(&out);
    for profiler in profilers.map(|profiler| profiler.split(':').next().unwrap()) {
        assert_eq!(state(&manifest, "h1", profiler), "ok", "{}", manifest["hosts"]["h1"]["profilers"][profiler]);
        let [hostile, plain] = ["h1", "h2"].map(|host| out.join("hosts").join(host).join(profiler));
        let names = |dir: &Utf8Path| -> BTreeSet<String> {
            dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect()
        };
        assert_eq!(names(&hostile), names(&plain), "{profiler}");
        for name in names(&hostile)
            .iter()
            .filter(|name| name.ends_with(".txt") || name.ends_with(".csv") || name.ends_with(".json"))
        {
            let [hostile, plain] = [&hostile, &plain].map(|dir| fs::read_to_string(dir.join(name)).unwrap_or_default());
            assert!(!hostile.contains('\u{1b}'), "{profiler}/{name}");
            let beginning = |text: &str| {
                // All but numbers, and the spaces that make way for them.
                let plain = |c: char| if c.is_ascii_digit() { '0' } else { c };
                let line: String = text.lines().next().unwrap_or_default().chars().map(plain).collect();
                line.split_whitespace()
                    .map(|word| word.trim_start_matches('0').to_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            if name.ends_with(".csv") {
                assert_eq!(beginning(&hostile), beginning(&plain), "{profiler}/{name}");
                assert_eq!(hostile.lines().count() > 1, plain.lines().count() > 1, "{profiler}/{name}");
            }
        }
    }
    fs::remove_file(lab[1].home().join(".perfconfig")).unwrap();
    lab.assert_clean();
}

#[test]
fn only_a_command_of_the_users_has_the_environment_of_the_login() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = lab::Lab::builder(1).host(1, hostile).start();
    let scratch = Scratch::new();
    for (environment, inherited) in [("login", true), ("clean", false)] {
        let out = scratch.path(environment);
        let profiler = format!("command:command='env; sleep 60',environment={environment}");
        run_on(&lab, "h1", &out, &["-p", &profiler, "--", "sleep", "0.5"]).expect_success();
        let printed = fs::read_to_string(out.join("hosts/h1/command/command.txt")).unwrap();
        assert_eq!(printed.contains("S_COLORS=always"), inherited, "{environment}: {printed}");
        assert!(printed.contains("LC_ALL=C\n") && printed.contains("TZ=UTC\n"), "{printed}");
        let has_home = printed.contains(&format!("HOME={}\n", lab[1].home()));
        assert_eq!(has_home, inherited, "{environment}: {printed}");
    }
    lab.assert_clean();
}

/// A host where these programs come before those of the system.
fn with_programs(scratch: &Scratch, programs: &[(&str, &str)]) -> lab::Lab {
    fs::create_dir(scratch.path("bin")).unwrap();
    for (name, script) in programs {
        scratch.program(&format!("bin/{name}"), script);
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", scratch.path("bin"));
    lab::Lab::builder(1).host(1, |h| h.env("PATH", &path)).start()
}

/// As Ubuntu has it at /usr/bin/perf where the package for the running kernel is not installed (linux-tools-common).
const UBUNTU_PERF: &str = "#!/bin/bash\necho 'WARNING: perf not found for kernel 6.18.44' >&2\necho >&2\n\
    echo '  You may need to install the following packages for this specific kernel:' >&2\nexit 2\n";

#[test]
fn a_tool_that_does_not_work_is_not_there() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat"]) {
        return;
    }
    let scratch = Scratch::new();
    let lab = with_programs(
        &scratch,
        &[
            ("perf", UBUNTU_PERF),
            // A stub that says that all is well.
            ("iostat", "#!/bin/sh\necho 'iostat is provided by package sysstat 12'\n"),
            // As of busybox 1.35.
            (
                "mpstat",
                "#!/bin/sh\necho \"mpstat: invalid option -- 'V'\" >&2\necho 'BusyBox v1.35.0 multi-call binary.' >&2\nexit 1\n",
            ),
            ("pidstat", "#!/bin/sh\necho 'pidstat: error while loading shared libraries: libc.so.7' >&2\nexit 127\n"),
            ("sar", "#!/bin/sh\necho sysstat version 12.6.1\nsleep 600\n"),
        ],
    );
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let check = lab::run(
        &mut autoprof(&["check", "--ssh-config", config.as_str(), "-w", "h1", "-p", "default", "-p", "perf"]),
        LONG,
    );
    assert_eq!(check.code(), 1, "{check}");
    for said in [
        "perf failed: cannot use perf: WARNING: perf not found for kernel 6.18.44",
        "perf-stat skipped: cannot use perf: WARNING: perf not found for kernel 6.18.44",
        "iostat skipped: cannot use iostat: ",
        "prints no version of it, but `iostat is provided by package sysstat 12`",
        "mpstat skipped: cannot use mpstat: mpstat: invalid option -- 'V'",
        "pidstat skipped: cannot use pidstat: pidstat: error while loading shared libraries: libc.so.7",
        "did not end within 10 s",
    ] {
        assert!(format!("{}{}", check.stdout, check.stderr).contains(said), "{said}: {check}");
    }
    // What a preset brings and the host cannot run does not keep the test from being run.
    run_on(&lab, "h1", &out, &["-p", "default", "--", "sleep", "1.2"]).expect_success();
    let manifest = lab::manifest(&out);
    for (profiler, expected) in [("proc", "ok"), ("vmstat", "ok"), ("perf-stat", "skipped"), ("iostat", "skipped")] {
        assert_eq!(state(&manifest, "h1", profiler), expected, "{profiler}");
    }
    let init = scratch.path("job.yaml");
    let args = ["init", "--ssh-config", config.as_str(), "-w", "h1", "-o", init.as_str()];
    lab::run(&mut autoprof(&args), LONG).expect_success();
    let job = fs::read_to_string(&init).unwrap();
    assert!(!job.lines().any(|line| line.trim_start().starts_with("- perf")), "{job}");
    lab.assert_clean();
}

#[test]
fn a_tool_that_fails_at_the_start_does_not_take_the_others_down() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let scratch = Scratch::new();
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo perf version 6.1.0 && exit\necho 'cannot open counters' >&2\nexit 255\n";
    let lab = with_programs(&scratch, &[("perf", script)]);
    let out = scratch.path("run");
    run_on(&lab, "h1", &out, &["-p", "default", "--", "sleep", "2.2"]).expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!((state(&manifest, "h1", "proc"), state(&manifest, "h1", "vmstat")), ("ok".into(), "ok".into()));
    assert_eq!(state(&manifest, "h1", "perf-stat"), "skipped");
    lab.assert_clean();
}

#[test]
fn a_daemon_that_a_tool_leaves_behind_costs_nothing_and_is_ended() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let scratch = Scratch::new();
    let script = "#!/bin/sh\nsetsid sleep 600 &\n[ \"$1\" = -V ] && echo vmstat from procps-ng 4.0.2 && exit\nexec /usr/bin/vmstat \"$@\"\n";
    let lab = with_programs(&scratch, &[("vmstat", script)]);
    let out = scratch.path("run");
    let begun = std::time::Instant::now();
    run_on(&lab, "h1", &out, &["-p", "vmstat", "--", "sleep", "1.2"]).expect_success();
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(state(&lab::manifest(&out), "h1", "vmstat"), "ok");
    lab.assert_clean();
}

/// Processes that are killed when the test is over, whatever comes of it.
struct Load(Vec<std::process::Child>);

impl Load {
    /// A busy worker on each CPU, and on each a pair of processes that do nothing but wake each other.
    fn start() -> Self {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let spawn = |argv: &[String]| {
            Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let workers = (0..cpus).map(|cpu| words(format!("taskset -c {cpu} sha1sum /dev/zero")));
        let pairs = (0..cpus).map(|cpu| words(format!("taskset -c {cpu} perf bench sched pipe -l 1000000000")));
        Self(workers.chain(pairs).map(|argv| spawn(&argv)).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
#[ignore = "starves whatever runs beside it: `just starve-test` runs it alone"]
fn sampling_survives_a_load_that_starves_everything_else() {
    if lab::skip_unless(&["vmstat", "mpstat", "perf", "taskset", "sha1sum"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "only root may have a real-time priority");
        eprintln!("skipped: only root may have a real-time priority");
        return;
    }
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let profilers = ["proc", "vmstat", "mpstat", "iostat", "sar", "pidstat:1", "perf-stat"];
    let mut args = vec!["run", "-w", "local", "-o", out.as_str(), "-d", "15", "--no-report"];
    args.extend(profilers.iter().flat_map(|profiler| ["-p", profiler]));
    let load = Load::start();
    let done = lab::run(&mut autoprof(&args), LONG);
    drop(load);
    assert_eq!(done.code(), 0, "{done}");
    let manifest = lab::manifest(&out);
    let host = &manifest["hosts"]["local"];
    assert_eq!(host["scheduling"]["policy"], "round_robin", "{}", host["scheduling"]);
    let samples = &host["profilers"]["proc"]["samples"];
    let number = |name: &str| samples[name].as_u64().unwrap_or_else(|| panic!("{name}: {samples}"));
    assert!(number("expected") >= 15 && number("taken") * 100 >= number("expected") * 98, "{samples}");
    let tables = [
        ("proc", "cpu.csv"),
        ("vmstat", "vmstat.csv"),
        ("mpstat", "mpstat.csv"),
        ("iostat", "iostat.csv"),
        ("sar", "sar-memory.csv"),
        ("pidstat", "pidstat.csv"),
        ("perf-stat", "perf-stat.csv"),
    ];
    for (profiler, table) in tables {
        let (began, ended) = window(&manifest, "local", profiler);
        let csv = out.join("hosts/local").join(profiler).join(table);
        let rows: BTreeSet<i64> = times(&csv).into_iter().map(|time| (time * 2.0).round() as i64).collect();
        // The last row may just be due when the window closes: vmstat's come some milliseconds later each.
        let expected = (ended - began - 0.5).floor();
        assert!(rows.len() as f64 >= expected * 0.98, "{profiler}: {} of {expected} rows", rows.len());
    }
}
