//! The lab does what it says, shown by plain OpenSSH.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Lab, Process, Running, Signal, skip_unless, skip_unless_namespaces};

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);

fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not so within ten seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn commands(processes: &[Process]) -> Vec<&str> {
    processes.iter().map(|process| process.command.as_str()).collect()
}

#[test]
fn three_hosts_answer_each_from_a_home_of_its_own() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::new(3);

    for host in lab.hosts() {
        let done = lab.ssh(host.name(), "pwd; echo \"$HOME $TMPDIR $SHELL\"; exit 7");
        let home = host.home();
        assert_eq!(done.stdout, format!("{home}\n{home} {} /bin/bash\n", host.tmpdir()), "{done}");
        assert_eq!((done.code(), done.stderr.as_str()), (7, ""), "{done}");
    }
    assert_ne!(lab[1].address().ip(), lab[2].address().ip());
    lab.assert_clean();
}

#[test]
fn input_and_quotes_reach_the_command_unchanged() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::new(1);

    let quoted = lab.ssh("h1", r#"printf '<%s>' 'a  b' "c'd" '$HOME' "\\""#);
    let script =
        lab::run_with_input(&mut lab.ssh_command("h1", "exec /bin/sh -s"), "tr a-z A-Z <<E\nhello\nE\nexit 5\n", LONG);

    assert_eq!(quoted.stdout, r"<a  b><c'd><$HOME><\>");
    assert_eq!((script.code(), script.stdout.as_str()), (5, "HELLO\n"), "{script}");
}

#[test]
fn keys_are_refused_and_host_keys_are_changed_or_unknown_where_asked() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::builder(4)
        .host(1, |host| host.refuses_key())
        .host(2, |host| host.changed_host_key())
        .host(3, |host| host.unknown_host_key())
        .start();

    let said = |name| {
        let done = lab.ssh(name, "true");
        assert_eq!(done.code(), 255, "{done}");
        done.stderr
    };
    assert!(said("h1").contains("Permission denied (publickey)"));
    assert!(said("h2").contains("REMOTE HOST IDENTIFICATION HAS CHANGED"));
    assert!(said("h3").contains("Host key verification failed"));
    lab.ssh("h4", "true").expect_success();
}

#[test]
fn a_banner_comes_before_the_output_in_every_shell() {
    if skip_unless(&["sshd", "ssh", "fish", "tcsh"]) {
        return;
    }
    let lab = Lab::builder(3)
        .all(|host| host.banner("Welcome to the lab"))
        .host(2, |host| host.shell("/usr/bin/fish"))
        .host(3, |host| host.shell("/usr/bin/tcsh"))
        .start();

    for host in lab.hosts() {
        let done = lab.ssh(host.name(), "echo output");
        assert_eq!(done.stdout, "Welcome to the lab\noutput\n");
        assert!(done.stderr.contains("Welcome to the lab"), "{done}");
    }
}

#[test]
fn the_login_shell_is_the_one_asked_for() {
    if skip_unless(&["sshd", "ssh", "fish", "tcsh"]) {
        return;
    }
    let lab = Lab::builder(3)
        .host(1, |host| host.shell("/usr/bin/fish"))
        .host(2, |host| host.shell("/usr/bin/tcsh"))
        .host(3, |host| host.shell("/bin/sh"))
        .start();

    assert_eq!(lab.ssh("h1", "echo $FISH_VERSION | string sub -l 1").code(), 0);
    assert!(lab.ssh("h1", "A=1; echo $A").stderr.contains("Unsupported use of '='"), "fish is not POSIX");
    assert!(lab.ssh("h2", "echo $A").stderr.contains("A: Undefined variable"));
    for host in lab.hosts() {
        let done = lab.ssh(host.name(), "exec /bin/sh -c 'A=$0; echo \"$A\"'");
        assert_eq!(done.stdout, "/bin/sh\n", "{done}");
    }
    lab.assert_clean();
}

#[test]
fn a_program_can_be_missing() {
    if skip_unless(&["sshd", "ssh", "vmstat", "perf"]) {
        return;
    }
    let lab = Lab::builder(2).host(1, |host| host.without("perf").without("iostat")).start();

    assert_eq!(lab.ssh("h1", "command -v perf").code(), 1);
    assert_eq!(lab.ssh("h1", "perf stat true").code(), 127);
    lab.ssh("h1", "vmstat").expect_success();
    lab.ssh("h2", "command -v perf").expect_success();
}

#[test]
fn sftp_is_there_unless_switched_off() {
    if skip_unless(&["sshd", "ssh", "sftp"]) {
        return;
    }
    let lab = Lab::builder(2).host(2, |host| host.no_sftp()).start();
    let sftp = |host: &str| {
        let mut sftp = Command::new("sftp");
        sftp.args(["-F", lab.ssh_config().as_str(), "-b", "-", host]);
        lab::run_with_input(&mut sftp, "pwd\n", LONG)
    };

    assert!(sftp("h1").expect_success().stdout.contains(lab[1].home().as_str()));
    assert_eq!(sftp("h2").code(), 255);
}

#[test]
fn lines_for_sshd_and_variables_take_effect() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::builder(2)
        .host(1, |host| host.max_sessions(1).env("GREETING", "it's me"))
        .host(2, |host| host.sshd_option("PubkeyAuthentication no"))
        .start();
    let master = lab.directory().join("master");
    let through = format!("ControlPath={master}");

    assert_eq!(lab.ssh("h1", "echo \"$GREETING\"").stdout, "it's me\n");
    assert_eq!(lab.ssh("h2", "true").code(), 255);
    let ssh = |mode: &str, command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", lab.ssh_config().as_str(), "-o", mode, "-o", &through, "h1", command]);
        ssh
    };
    let mut first = Running::start(&mut ssh("ControlMaster=yes", "echo first; exec sleep 1000"));
    first.wait_for("first", LONG);
    let second = lab::run(&mut ssh("ControlMaster=no", "true"), LONG);
    assert!(second.stderr.contains("Session open refused by peer"), "{second}");
}

#[test]
fn leftover_processes_and_files_are_found_until_they_are_gone() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::new(2);
    let file = lab[1].tmpdir().join("run/profiler.start");
    let start = format!(
        "mkdir {0}/run; echo A > {0}/run/profiler.start; setsid sleep 1000 </dev/null >/dev/null 2>&1 &",
        lab[1].tmpdir()
    );
    lab.ssh("h1", &start).expect_success();
    lab.ssh("h2", "cd /; env -i setsid sleep 2000 </dev/null >$HOME/log 2>&1 &").expect_success();

    let panic = catch_unwind(AssertUnwindSafe(|| lab.assert_clean_within(SHORT))).unwrap_err();

    let told = panic.downcast_ref::<String>().unwrap();
    for part in ["h1: process ", ": sleep 1000\n", &format!("h1: file {file}\n"), ": sleep 2000\n", "/h2/home/log\n"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert_eq!(commands(&lab[1].processes()), ["sleep 1000"]);
    for process in lab.leftovers().iter().flat_map(|left| &left.processes) {
        process.signal(Signal::TERM);
    }
    std::fs::remove_dir_all(lab[1].tmpdir().join("run")).unwrap();
    std::fs::remove_file(lab[2].home().join("log")).unwrap();
    lab.assert_clean();
}

#[test]
fn connections_can_be_cut_and_the_host_closed_and_opened() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    let lab = Lab::new(1);
    let open = || {
        let mut running = Running::start(&mut lab.ssh_command("h1", "echo up; exec sleep 1000"));
        running.wait_for("up", LONG);
        running
    };

    let first = open();
    assert_eq!(lab[1].connections(), 1);
    lab[1].kill_connections();
    assert_eq!(first.finish(LONG).code(), 255);

    let second = open();
    lab[1].stop_sshd();
    assert!(lab.ssh("h1", "true").stderr.contains("Connection refused"));
    assert_eq!(second.stdout(), "up\n", "an open connection outlives the listener");
    lab[1].kill_connections();
    assert_eq!(second.finish(LONG).code(), 255);

    lab[1].start_sshd();
    lab.ssh("h1", "true").expect_success();
}

#[test]
fn nothing_outlives_the_lab_even_when_a_test_panics() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    for in_namespaces in [false, true] {
        if in_namespaces && skip_unless_namespaces() {
            return;
        }
        let mut seen = None;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let builder = Lab::builder(2);
            let lab = if in_namespaces { builder.in_namespaces() } else { builder }.start();
            lab.ssh("h1", "setsid sleep 3000 </dev/null >/dev/null 2>&1 &").expect_success();
            let mut session = Running::start(&mut lab.ssh_command("h2", "echo up; sleep 3000; :"));
            session.wait_for("up", LONG);
            let processes: Vec<_> = lab.hosts().iter().flat_map(|host| host.processes()).collect();
            assert!(processes.len() >= 3, "{processes:?}");
            seen = Some((processes, lab.ssh_config(), lab[1].address()));
            panic!("as tests do");
        }));

        assert!(panicked.is_err());
        let (processes, config, address) = seen.unwrap();
        wait_until(|| !processes.iter().any(Process::is_alive));
        assert!(!config.parent().unwrap().exists());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[test]
fn namespaces_give_each_host_its_own_tmp_processes_and_name() {
    if skip_unless(&["sshd", "ssh"]) || skip_unless_namespaces() {
        return;
    }
    let lab = Lab::builder(2).in_namespaces().start();
    lab.ssh("h1", "mkdir -p /tmp/profilers; echo 1 > /tmp/profilers/mine; echo 1 > /var/tmp/mine").expect_success();

    assert_eq!(
        lab.ssh("h1", "ls /tmp /var/tmp/mine; hostname; pwd").stdout,
        format!("/var/tmp/mine\n\n/tmp:\nprofilers\nh1\n{}\n", lab[1].home())
    );
    assert_eq!(lab.ssh("h2", "ls /tmp /var/tmp/mine; hostname").code(), 0);
    assert_eq!(lab[1].exec(&["cat", "/tmp/profilers/mine"]).expect_success().stdout, "1\n");
    let left: Vec<_> = lab.leftovers().into_iter().flat_map(|left| left.files).collect();
    assert_eq!(left, ["/tmp/profilers/mine", "/var/tmp/mine"]);
    let own = lab.ssh("h1", "ps -e -o comm=").expect_success().stdout;
    assert!(own.lines().count() < 12 && !own.contains("lab"), "{own}");
}

#[test]
fn tmp_of_a_host_can_refuse_programs_or_writing_or_be_small() {
    if skip_unless(&["sshd", "ssh"]) || skip_unless_namespaces() {
        return;
    }
    let lab = Lab::builder(3)
        .host(1, |host| host.tmp_options("noexec"))
        .host(2, |host| host.tmp_options("ro"))
        .host(3, |host| host.tmp_options("size=1m"))
        .in_namespaces()
        .start();

    assert_eq!(lab.ssh("h1", "cp /bin/true /tmp/x && /tmp/x").code(), 126);
    assert!(lab.ssh("h2", "mkdir /tmp/profilers").stderr.contains("Read-only file system"));
    assert!(lab.ssh("h3", "head -c 2000000 /dev/zero > /tmp/x").stderr.contains("No space left"));
}

#[test]
fn a_missing_program_is_not_found_by_its_full_path_in_namespaces() {
    if skip_unless(&["sshd", "ssh", "perf"]) || skip_unless_namespaces() {
        return;
    }
    let lab = Lab::builder(1).all(|host| host.without("perf")).in_namespaces().start();

    assert_ne!(lab.ssh("h1", "PATH=/usr/bin:/bin; perf --version").code(), 0);
    assert_eq!(lab.ssh("h1", "/usr/bin/perf").code(), 126);
}

#[test]
fn a_host_in_namespaces_can_lose_power_and_come_back() {
    if skip_unless(&["sshd", "ssh"]) || skip_unless_namespaces() {
        return;
    }
    let lab = Lab::builder(1).in_namespaces().start();
    let boot = || lab.ssh("h1", "cat /proc/sys/kernel/random/boot_id").expect_success().stdout;
    let before = boot();
    lab.ssh("h1", "touch /tmp/lost /var/tmp/kept ~/kept; setsid sleep 4000 </dev/null >/dev/null 2>&1 &")
        .expect_success();

    lab[1].power_off();
    assert_eq!(lab.ssh("h1", "true").code(), 255);
    lab[1].power_on();

    assert_ne!(boot(), before);
    let left = lab[1].leftovers();
    assert_eq!(left.files, [lab[1].home().join("kept"), "/var/tmp/kept".into()]);
    assert!(left.processes.is_empty(), "{left}");
}

#[test]
fn orphans_are_taken_off_the_table_in_namespaces() {
    if skip_unless(&["sshd", "ssh"]) || skip_unless_namespaces() {
        return;
    }
    let lab = Lab::builder(1).in_namespaces().start();

    lab.ssh("h1", "setsid sleep 0.2 </dev/null >/dev/null 2>&1 &").expect_success();
    lab.assert_clean();

    assert!(!lab[1].exec(&["ps", "-e", "-o", "stat="]).stdout.contains('Z'));
}

#[test]
fn the_burner_burns_where_it_says() {
    if skip_unless(&["sshd", "ssh", "cc", "perf"]) {
        return;
    }
    let lab = Lab::new(1);
    let record = format!(
        "perf record -q -g -e cpu-clock -F 499 -o perf.data {} 0.3 && perf report -i perf.data --stdio",
        lab::burner()
    );

    let report = lab.ssh("h1", &record).expect_success().stdout;

    assert!(report.contains("burn_inner") && report.contains("burn_outer"), "{report}");
}

#[test]
fn many_labs_at_once_do_not_meet() {
    if skip_unless(&["sshd", "ssh"]) {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lab = Lab::new(2);
                for host in lab.hosts() {
                    assert_eq!(lab.ssh(host.name(), "pwd").stdout.trim(), host.home());
                }
                lab.assert_clean();
            });
        }
    });
}

#[test]
#[should_panic(expected = "left over")]
fn a_deadline_ends_a_command_and_shows_what_it_printed() {
    lab::run(Command::new("sh").args(["-c", "echo left over; sleep 100"]), SHORT);
}

/// Run with `--ignored --nocapture` to see how long labs take.
#[test]
#[ignore = "a measurement"]
fn how_long_labs_take() {
    for (count, in_namespaces) in [(3, false), (3, true), (100, false), (100, true)] {
        let begin = Instant::now();
        let builder = Lab::builder(count);
        let lab = if in_namespaces { builder.in_namespaces() } else { builder }.start();
        let up = begin.elapsed();
        lab.assert_clean();
        let clean = begin.elapsed() - up;
        let begin = Instant::now();
        drop(lab);
        eprintln!(
            "{count} hosts, namespaces {in_namespaces}: up {up:?}, checked {clean:?}, down {:?}",
            begin.elapsed()
        );
    }
}
