//! Passphrases are asked for, used, and nowhere else; nobody else reads the memory that they are in.
use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    process::Command,
};

use camino::{Utf8Path, Utf8PathBuf};
use lab::Terminal;

use crate::support::{LONG, Scratch, autoprof, hosts, state};

const PASSPHRASE: &str = "correct-horse-battery-staple-7Q";

/// As it might be written: by letters, and as logs show bytes.
fn forms() -> [String; 3] {
    let bytes = format!("{:?}", PASSPHRASE.as_bytes());
    let hex = PASSPHRASE.bytes().map(|byte| format!("{byte:02x}")).collect();
    [PASSPHRASE.to_owned(), bytes.trim_matches(['[', ']']).to_owned(), hex]
}

#[track_caller]
fn assert_absent(place: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "the passphrase is in {place}");
    }
}

/// A lab whose key has the passphrase.
fn locked_lab() -> lab::Lab {
    let lab = hosts(1).start();
    let args = ["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", lab.identity().as_str()];
    lab::run(Command::new("ssh-keygen").args(args), LONG).expect_success();
    lab
}

fn files_below(directory: &Utf8Path, out: &mut Vec<Utf8PathBuf>) {
    for entry in directory.read_dir_utf8().unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_below(entry.path(), out),
            kind if kind.is_file() => out.push(entry.path().to_owned()),
            _ => {}
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// How often the passphrase is in the memory of a process.
fn copies_in_memory(pid: u32) -> usize {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut copies = 0;
    for line in maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut content = vec![0; usize::try_from(to - from).unwrap()];
        // What belongs to the kernel is not to be read.
        if memory.read_exact_at(&mut content, from).is_ok() {
            copies += content.windows(PASSPHRASE.len()).filter(|window| *window == PASSPHRASE.as_bytes()).count();
        }
    }
    copies
}

#[test]
fn a_passphrase_that_is_typed_is_in_no_file_log_argument_or_variable() {
    if lab::skip_unless(&["sshd", "setsid"]) {
        return;
    }
    let lab = locked_lab();
    let scratch = Scratch::new();
    let (out, pid, go) = (scratch.path("run"), scratch.path("pid"), scratch.path("go"));
    let config = lab.ssh_config();
    let script = format!("echo $PPID > {pid}.new; mv {pid}.new {pid}; while ! [ -e {go} ]; do sleep 0.02; done");
    let args =
        ["-vvv", "run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "--", "sh", "-c", &script];
    let terminal = Terminal::new();
    let mut running = lab::Running::start(&mut terminal.command(&autoprof(&args)));
    let prompt = match lab::over_openssh() {
        true => format!("Enter passphrase for key '{}': ", lab.identity()),
        false => format!("passphrase for {}: ", lab.identity()),
    };
    terminal.wait_for_prompt(&prompt, LONG);
    terminal.type_line(PASSPHRASE);
    running.wait_for("profiling 1 host", LONG);
    while !pid.exists() {
        std::thread::yield_now();
    }
    let number: u32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    if is_root() {
        for what in ["environ", "cmdline"] {
            let content = fs::read(format!("/proc/{number}/{what}")).unwrap();
            assert!(!content.is_empty());
            assert_absent(what, &String::from_utf8_lossy(&content));
        }
        // The system's ssh opens the key again for each connection, so its transport keeps the answer until the end.
        if !lab::over_openssh() {
            assert_eq!(copies_in_memory(number), 0, "the passphrase was cleared when the key was open");
        }
    }
    fs::write(&go, "").unwrap();
    let done = running.finish(LONG).expect_success();
    assert_eq!(state(&lab::manifest(&out), "h1", "proc"), "ok");
    let logged = if lab::over_openssh() { "Server accepts key" } else { "negotiated algorithms" };
    assert!(done.stderr.contains(logged), "the logs of the library that has the key are in it: {done}");
    assert_absent("standard error", &done.stderr);
    assert_absent("standard output", &done.stdout);
    assert_absent("what the terminal shows", &terminal.shown());
    let mut files = Vec::new();
    files_below(&out, &mut files);
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        assert_absent(file.as_str(), &String::from_utf8_lossy(&fs::read(&file).unwrap()));
    }
    lab.assert_clean();
}

#[test]
fn a_crash_while_a_passphrase_is_asked_for_leaves_no_core_dump() {
    if lab::skip_unless(&["sshd", "setsid"]) {
        return;
    }
    let lab = locked_lab();
    let scratch = Scratch::new();
    let dumps = |name: &str| {
        let directory = scratch.path(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let is_empty = |directory: &Utf8Path| directory.read_dir_utf8().unwrap().next().is_none();
    let program = autoprof(&[]);
    let path = program.get_program().to_str().unwrap();
    let with_dumps = |directory: &Utf8Path, rest: &str| {
        let mut shell = Command::new("sh");
        shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.args(["-c", &format!("ulimit -c unlimited && cd {directory} && {rest}")]);
        shell
    };
    let plain = dumps("plain");
    let control = lab::run(&mut with_dumps(&plain, "exec sh -c 'kill -SEGV $$'"), LONG);
    let dumps_here = !is_empty(&plain);

    let crashed = dumps("crashed");
    let config = lab.ssh_config();
    let out = scratch.path("run");
    let rest = format!("exec {path} run --ssh-config {config} -w h1 -o {out} -- true");
    let terminal = Terminal::new();
    let running = lab::Running::start(&mut terminal.command(&with_dumps(&crashed, &rest)));
    terminal.wait_for_prompt("passphrase for", LONG);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid())).unwrap();
    // Not SEGV, whose first is caught by Rust's own handler.
    lab::run(Command::new("kill").args(["-ABRT", children.trim()]), LONG).expect_success();
    let done = running.finish(LONG);
    assert!(!done.status.success(), "{done}");
    assert!(is_empty(&crashed), "a core dump: {:?}", crashed.read_dir_utf8().unwrap().flatten().collect::<Vec<_>>());

    // What autoprof runs has its dumps as ever.
    let tests = dumps("tests");
    let rest = format!("{path} run -o {out}-2 -- sh -c 'kill -SEGV $$'");
    let done = lab::run(&mut with_dumps(&tests, &rest), LONG);
    assert_eq!(done.code(), control.code(), "{done}");
    assert_eq!(!is_empty(&tests), dumps_here, "the test's core dump: {done}");
}

#[test]
fn nobody_but_root_looks_into_a_run() {
    if lab::skip_unless(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let (results, home) = (scratch.path("results"), scratch.path("home"));
    let program = autoprof(&[]).get_program().to_owned();
    let mut command = Command::new("setpriv");
    if is_root() {
        // As somebody without root's rights, whom the system would let look into their own processes.
        let other = 12345;
        for directory in [&results, &home] {
            fs::create_dir(directory).unwrap();
            std::os::unix::fs::chown(directory, Some(other), Some(other)).unwrap();
        }
        fs::set_permissions(scratch.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]);
    }
    let script =
        "for what in environ mem; do head -c 1 /proc/$PPID/$what >/dev/null 2>&1 && echo \"$what is read\"; done
        ls /proc/$PPID/fd >/dev/null 2>&1 && echo 'fd is read'
        stat -c 'owned by %u' /proc/$PPID/environ
        head -c 1 /proc/$$/environ >/dev/null && echo 'its own is read'";
    command.arg(program).args(["run", "-q", "--results", results.as_str(), "--", "sh", "-c", script]);
    command.env("HOME", &home).current_dir(scratch.path(""));
    let done = lab::run(&mut command, LONG).expect_success();
    assert_eq!(done.stdout, "owned by 0\nits own is read\n", "{done}");
    let run = results.join("latest");
    assert_ne!(fs::metadata(run.join("manifest.json")).unwrap().uid(), 0, "this ran as somebody else");
}
