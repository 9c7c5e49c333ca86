//! What others have put there: odd files, hosts that send escapes, other people's run directories and client programs.
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use camino::{Utf8Path, Utf8PathBuf};
use lab::Finished;
use serde_json::Value;

use crate::support::{LONG, Scratch, autoprof, hosts, run, run_on, state};

/// What is done to a run's directory.
type Way<'w> = &'w dyn Fn(&Utf8Path);

const BAD: [char; 4] = ['\u{1b}', '\u{202e}', '\u{2028}', '\u{9b}'];

/// A run of this machine that is over.
fn finished_run(scratch: &Scratch, more: &[&str]) -> Utf8PathBuf {
    let out = scratch.path("run");
    let args = ["run", "-q", "-o", out.as_str(), "-p", "proc:0.1", "-d", "0.3"];
    run(&[&args[..], more].concat()).expect_success();
    out
}

fn set_mode(path: &Utf8Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Edits the events of a run.
fn edit(run: &Utf8Path, edit: impl FnOnce(String) -> String) {
    let path = run.join("events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let edited = edit(text.clone());
    assert_ne!(text, edited, "nothing was edited");
    fs::write(path, edited).unwrap();
}

fn assert_clean(done: &Finished) {
    for text in [&done.stdout, &done.stderr] {
        assert!(!text.contains(BAD), "{:?}", text.chars().filter(|c| BAD.contains(c)).collect::<String>() + text);
    }
}

/// Commands that act on a run or write into its directory.
fn acting(run: &Utf8Path) -> Vec<Vec<&str>> {
    let run = run.as_str();
    let commands: [&[&str]; 6] = [
        &["attach", run, "-d", "0.1"],
        &["stop", run],
        &["report", run],
        &["mark", run, "x"],
        &["view", run, "--print"],
        &["rm", run],
    ];
    commands.map(<[_]>::to_vec).to_vec()
}

#[test]
fn odd_files_of_a_host_cost_only_themselves() {
    if lab::skip_unless(&["sshd", "python3"]) {
        return;
    }
    // Not in namespaces: the script lies in this machine's own temporary directory.
    let lab = lab::Lab::builder(1).start();
    let tmpdir = lab[1].tmpdir().to_string();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    // Names that look alike once they are escaped, names and paths that are too long, and things that are no files.
    let script = scratch.write(
        "odd.py",
        "import os, socket, time\n\
         for name in (b'a\\xff', b'a%ff', b'a%25ff', b'new\\nline', b'bidi\\xe2\\x80\\xaex', b'plain'):\n\
         \x20   open(name, 'wb').write(name)\n\
         open(b'\\xfe' * 200, 'wb').write(b'x')\n\
         os.mkfifo('fifo')\n\
         socket.socket(socket.AF_UNIX).bind('socket')\n\
         os.symlink('/etc/shadow', 'link')\n\
         here = os.getcwd()\n\
         for _ in range(30):\n\
         \x20   os.mkdir('d' * 200)\n\
         \x20   os.chdir('d' * 200)\n\
         open('in', 'w').write('x')\n\
         os.chdir(here)\n\
         print('made', flush=True)\n\
         time.sleep(600)\n",
    );
    let spec = format!("command:command='exec python3 {script}'");
    let done = run_on(&lab, "h1", &out, &["-p", &spec, "-p", "proc:0.1", "-d", "2", "--tmpdir", &tmpdir]);
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "{done}");
    assert_eq!(state(&manifest, "h1", "command"), "partial", "{done}");
    let record = &manifest["hosts"]["h1"]["profilers"]["command"];
    let reason = record["reason"].as_str().unwrap();
    for cause in ["more than 255 bytes", "more than 1024 bytes", "command/fifo: it is a FIFO", "socket: it is a socket"]
    {
        assert!(reason.contains(cause), "{cause}: {reason}");
    }
    let own = out.join("hosts/h1/command");
    for (name, content) in [
        ("a%ff", &b"a\xff"[..]),
        ("a%25ff", b"a%ff"),
        ("a%2525ff", b"a%25ff"),
        ("new%0aline", b"new\nline"),
        ("bidi%e2%80%aex", "bidi\u{202e}x".as_bytes()),
        ("plain", b"plain"),
    ] {
        assert_eq!(fs::read(own.join(name)).unwrap(), content, "{name}");
        let listed = record["files"].as_array().unwrap().iter().any(|file| file["path"] == name && file["cut"] != true);
        assert!(listed, "{name}: {record}");
    }
    assert!(!own.join("link").exists());
    assert_eq!(run(&["report", out.as_str()]).code(), 0);
    lab.assert_clean();
}

#[test]
fn directory_that_its_own_user_cannot_read_costs_only_itself() {
    if lab::skip_unless(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::for_everyone();
    let (out, tmpdir) = (scratch.path("run"), scratch.path("profilers"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    command.args([scratch.path("stage/bin/autoprof").as_str(), "run", "-o", out.as_str(), "--tmpdir", tmpdir.as_str()]);
    command.args(["-p", "proc:0.1", "-p"]);
    command.arg(
        "command:command='mkdir locked; echo x > locked/in; chmod 0 locked; echo x > secret; chmod 0 secret; \
         echo x > plain; exec sleep 600'",
    );
    command.args(["-d", "1"]).env("HOME", scratch.path("").as_str()).current_dir(scratch.path(""));
    let done = lab::run(&mut command, LONG);
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "local", "proc"), "ok", "{done}");
    assert_eq!(state(&manifest, "local", "command"), "partial", "{done}");
    let reason = manifest["hosts"]["local"]["profilers"]["command"]["reason"].to_string();
    assert!(reason.contains("command/locked: Permission denied"), "{reason}");
    assert!(reason.contains("command/secret: Permission denied"), "{reason}");
    assert_eq!(fs::read_to_string(out.join("hosts/local/command/plain")).unwrap(), "x\n");
    assert!(!tmpdir.exists(), "something is left: {done}");
}

/// A login shell that puts escapes into everything that a client says.
fn lying_shell(scratch: &Scratch) -> Utf8PathBuf {
    let evil = r"x\\u001b[2J\\u202ey\\u2028z\\u009b";
    let facts = ["hostname", "kernel", "os", "user", "version", "boot_id"];
    let events = ["status", "reason", "last_words", "limit"];
    let replace = |names: &[&str]| {
        let each = names.iter().map(|name| format!("s/\"{name}\":\"[^\"]*\"/\"{name}\":\"{evil}\"/g"));
        each.collect::<Vec<_>>().join(";")
    };
    let script = format!(
        "#!/bin/sh\nprintf '\\033[2J\\342\\200\\256 login \\342\\200\\250\\n' >&2\ncase \"$2\" in\n\
         *uname*|*' facts '*) /bin/sh \"$@\" | sed -u '{}';;\n\
         *' attach '*) /bin/sh \"$@\" | sed -u '{}';;\n\
         *' pack '*) /bin/sh \"$@\"; printf 'left out proc/\\033[2J\\342\\200\\256: no\\n' >&2;;\n\
         *) exec /bin/sh \"$@\";;\nesac\n",
        replace(&facts),
        replace(&events),
    );
    let shell = scratch.write("shell", &script);
    set_mode(&shell, 0o755);
    shell
}

#[test]
fn no_field_of_a_host_reaches_the_terminal_raw() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let scratch = Scratch::new();
    let shell = lying_shell(&scratch);
    let lab = lab::Lab::builder(1).host(1, |h| h.shell(shell.as_str())).start();
    let out = scratch.path("run");
    let tmpdir = lab[1].tmpdir().to_string();
    let config = lab.ssh_config();
    let reach = ["--ssh-config", config.as_str(), "-w", "h1", "--tmpdir", &tmpdir];
    let what = ["-p", "proc:0.1", "-p", "vmstat:1", "-p", "command:command='exit 3'"];
    let out_args = ["-v", "-d", "2", "-o", out.as_str()];
    let done = run(&[&["run"][..], &reach, &what, &out_args].concat());
    assert_clean(&done);
    let record = fs::read_to_string(out.join("manifest.json")).unwrap();
    assert!(record.contains("\\u001b[2J"), "the host's lie did not arrive: {done}");
    let results = scratch.path("");
    let starter = scratch.path("starter.yaml");
    let commands: Vec<Vec<&str>> = vec![
        [&["check"][..], &reach, &what].concat(),
        [&["check", "--json"][..], &reach, &what].concat(),
        [&["init", "-o", starter.as_str()][..], &reach].concat(),
        vec!["status", out.as_str()],
        vec!["status", out.as_str(), "--json"],
        vec!["ls", "--results", results.as_str()],
        vec!["ls", "--results", results.as_str(), "--json"],
        vec!["show", out.as_str()],
        vec!["show", out.as_str(), "--json"],
        vec!["report", out.as_str()],
        vec!["view", out.as_str(), "--print"],
        vec!["export", out.as_str(), "--format", "csv"],
        [&["run", "--dry-run"][..], &reach, &what].concat(),
    ];
    for command in commands {
        let done = run(&command);
        assert_clean(&done);
        assert!(!done.stdout.is_empty() || done.code() != 0, "{command:?}: {done}");
        if command.contains(&"--json") {
            serde_json::from_str::<Value>(&done.stdout).unwrap_or_else(|e| panic!("{command:?}: {e}: {done}"));
        }
    }
    let page = fs::read_to_string(out.join("report/index.html")).unwrap();
    assert!(!page.contains("[2J\u{202e}") && !page.contains('\u{1b}'), "escapes in the report");
    assert!(!fs::read_to_string(starter).unwrap_or_default().contains(BAD), "escapes in the job file");
}

#[test]
fn architecture_that_is_no_word_is_neither_shown_raw_nor_offered_to_be_pasted() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let scratch = Scratch::new();
    for arch in [
        "x86;$(touch${IFS}evil)",
        "\\033[2J\\342\\200\\256x86",
        "../../../../bin",
        "x86_64_that_is_far_too_long_to_be_one",
    ] {
        let bin = scratch.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let uname = scratch.write("bin/uname", &format!("#!/bin/sh\nprintf '{arch}\\n'\n"));
        set_mode(&uname, 0o755);
        let shell = scratch.write("shell", &format!("#!/bin/sh\nPATH={bin}:$PATH exec /bin/sh \"$@\"\n"));
        set_mode(&shell, 0o755);
        let lab = lab::Lab::builder(1).host(1, |h| h.shell(shell.as_str())).start();
        let out = scratch.path("run");
        let tmpdir = lab[1].tmpdir().to_string();
        let done = run_on(&lab, "h1", &out, &["-p", "proc:0.1", "-d", "0.3", "--tmpdir", &tmpdir]);
        assert_clean(&done);
        assert_ne!(done.code(), 0, "{done}");
        assert!(!done.stderr.contains("just client"), "{arch}: {done}");
        let hints = done.stderr.lines().filter(|line| line.contains("hint:"));
        assert!(hints.clone().count() > 0, "{done}");
        for hint in hints {
            assert!(!hint.contains("evil") && !hint.contains("../"), "{hint}");
        }
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn client_directory_that_somebody_else_made_is_not_entered() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let config = lab.ssh_config();
    let args = ["start", "--ssh-config", config.as_str(), "-w", "h1", "-p", "proc:0.1", "-o", out.as_str()];
    run(&args).expect_success();
    let events = fs::read_to_string(out.join("events.jsonl")).unwrap();
    let directory = events.split("\"directory\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    for process in lab[1].processes() {
        process.signal(lab::Signal::KILL);
    }
    // The client is gone, and what is there now under its name is another user's.
    let replace = format!(
        "rm -rf {directory} && mkdir {directory} && printf '#!/bin/sh\ntouch /tmp/witness\n' > {directory}/autoprof-client \
         && chmod 755 {directory}/autoprof-client && chown -R nobody {directory}"
    );
    lab[1].exec(&["sh", "-c", &replace]).expect_success();
    let done = run(&["stop", out.as_str()]);
    assert!(done.stderr.contains("directory was removed"), "{done}");
    assert_ne!(lab[1].exec(&["test", "-e", "/tmp/witness"]).code(), 0, "somebody else's program was run: {done}");
    lab[1].exec(&["rm", "-rf", directory]).expect_success();
}

#[test]
fn run_directory_that_others_can_write_needs_trust() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let nobody = |path: &Utf8Path| {
        lab::run(Command::new("chown").args(["nobody", path.as_str()]), LONG).expect_success();
    };
    let ways: [(&str, &dyn Fn()); 3] = [
        ("can be written by everyone", &|| set_mode(&out, 0o777)),
        ("can be written by everyone", &|| set_mode(&out.join("events.jsonl"), 0o666)),
        ("belongs to uid", &|| nobody(&out.join("hosts"))),
    ];
    for (reason, way) in ways {
        way();
        for command in acting(&out) {
            let done = run(&command);
            assert_eq!(done.code(), 2, "{command:?}: {done}");
            assert!(done.stderr.contains(reason) && done.stderr.contains("--trust"), "{command:?}: {done}");
        }
        // Reading does no harm.
        for command in [&["status", out.as_str()][..], &["show", out.as_str()]] {
            assert_eq!(run(command).code(), 0, "{command:?}");
        }
        assert_eq!(run(&["report", out.as_str(), "--trust"]).code(), 0);
        lab::run(Command::new("chown").args(["-R", "root", out.as_str()]), LONG).expect_success();
        set_mode(&out, 0o755);
        set_mode(&out.join("events.jsonl"), 0o644);
    }
    assert_eq!(run(&["report", out.as_str()]).code(), 0);
}

#[test]
fn links_and_devices_in_a_run_directory_are_not_followed() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let victim = scratch.write("victim", "mine");
    let fifo = |path: &Utf8Path| {
        lab::run(Command::new("mkfifo").arg(path.as_str()), LONG).expect_success();
    };
    let link = |path: &Utf8Path| symlink(&victim, path).unwrap();
    let around = |path: &Utf8Path| symlink(path.parent().unwrap(), path).unwrap();
    let ways: [(&str, Way<'_>); 9] = [
        ("lock", &link),
        (".manifest.json", &link),
        ("manifest.json", &link),
        ("marks.jsonl", &link),
        ("marks.jsonl", &fifo),
        ("report/index.html", &link),
        ("hosts/local/proc/loop", &around),
        ("hosts/local/proc/secrets.csv", &link),
        ("workload", &|path| symlink("/etc", path).unwrap()),
    ];
    for (name, make) in ways {
        let path = out.join(name);
        let kept = fs::read(&path).ok();
        if kept.is_some() {
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        for trust in [&[][..], &["--trust"]] {
            for mut command in acting(&out) {
                command.extend(trust);
                let done = run(&command);
                assert_ne!(done.code(), 0, "{name}: {command:?}: {done}");
                assert!(done.stderr.contains("symbolic link") || done.stderr.contains("FIFO"), "{command:?}: {done}");
            }
        }
        for command in [["show", out.as_str()], ["export", out.as_str()]] {
            let more = if command[0] == "export" { vec!["--format", "csv"] } else { vec![] };
            assert_ne!(run(&[&command[..], &more].concat()).code(), 0, "{name}: {command:?}");
        }
        fs::remove_file(&path).unwrap();
        if let Some(kept) = kept {
            fs::write(&path, kept).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name} was written through");
    }
    assert_eq!(run(&["report", out.as_str()]).code(), 0);
}

#[test]
fn names_in_a_run_directory_lead_nowhere_else() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let events = out.join("events.jsonl");
    let whole = fs::read_to_string(&events).unwrap();
    let manifest = lab::manifest(&out);
    let id = manifest["id"].as_str().unwrap();
    let directory = manifest["hosts"]["local"]["client"]["directory"].as_str().unwrap();
    let evil = scratch.path("autoprof-evil1");
    fs::create_dir(&evil).unwrap();
    let witness = scratch.path("witness");
    fs::write(evil.join("autoprof-client"), format!("#!/bin/sh\ntouch {witness}\n")).unwrap();
    set_mode(&evil.join("autoprof-client"), 0o755);
    let edits: Vec<(String, String)> = vec![
        ("\"local\"".into(), "\"../../escaped\"".into()),
        ("\"local\"".into(), "\"/absolute\"".into()),
        ("\"host\":\"local\"".into(), "\"host\":\"a\\u0000b\"".into()),
        (format!("\"id\":\"{id}\""), "\"id\":\"../../x\"".into()),
        (format!("\"directory\":\"{directory}\""), format!("\"directory\":\"{evil}\"")),
        (format!("\"directory\":\"{directory}\""), "\"directory\":\"/\"".into()),
        ("\"path\":\"proc/".into(), "\"path\":\"proc/../../".into()),
        ("\"path\":\"proc/".into(), "\"path\":\"proc//etc/".into()),
        ("\"profiler\":\"proc\"".into(), "\"profiler\":\"../proc\"".into()),
        ("\"signaler\":\"marker\"".into(), "\"signaler\":\"/tmp/x.so\"".into()),
        ("\"transport\":\"local\"".into(), "\"transport\":\"../local\"".into()),
    ];
    for (from, to) in edits {
        edit(&out, |text| text.replace(&from, &to));
        for command in acting(&out) {
            let done = run(&command);
            // What is of no host that the run has is nothing.
            let unknown = to.contains("\\u0000");
            assert!(unknown || done.code() != 0, "{to}: {command:?}: {done}");
            assert!(!done.stderr.contains("panicked"), "{to}: {command:?}: {done}");
            if unknown {
                break;
            }
        }
        assert!(!witness.exists(), "a program that the directory names was run");
        assert!(!scratch.path("escaped").exists() && !out.join("../escaped").exists());
        fs::write(&events, &whole).unwrap();
    }
    assert_eq!(run(&["report", out.as_str()]).code(), 0);
}

#[test]
fn ssh_configuration_inside_a_run_directory_is_not_used() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let witness = scratch.path("witness");
    let config = out.join("ssh_config");
    fs::write(&config, format!("Host *\n  ProxyCommand touch {witness}\n")).unwrap();
    let options = format!("\"transport\":\"ssh\",\"options\":{{\"ssh_config\":\"{config}\"}}");
    edit(&out, |text| text.replace("\"transport\":\"local\"", &options));
    // One that the run would go on with.
    edit(&out, |text| text.lines().filter(|l| !l.contains("finished")).map(|l| l.to_owned() + "\n").collect());
    for command in [&["attach", out.as_str(), "-d", "0.1"][..], &["stop", out.as_str()]] {
        for trust in [&[][..], &["--trust"]] {
            let done = run(&[command, trust].concat());
            assert_eq!(done.code(), 2, "{done}");
            assert!(done.stderr.contains("names a file inside itself"), "{done}");
        }
    }
    // Elsewhere, where others can write it.
    let elsewhere = scratch.write("ssh_config", &fs::read_to_string(&config).unwrap());
    set_mode(&elsewhere, 0o666);
    edit(&out, |text| text.replace(config.as_str(), elsewhere.as_str()));
    let done = run(&["stop", out.as_str()]);
    assert_eq!(done.code(), 2, "{done}");
    assert!(done.stderr.contains("is not trusted") && done.stderr.contains("--trust"), "{done}");
    assert!(!witness.exists());
}

#[test]
fn files_of_a_run_directory_are_bounded() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let events = out.join("events.jsonl");
    let whole = fs::read(&events).unwrap();
    // 10 GB without one end of line.
    fs::OpenOptions::new().write(true).open(&events).unwrap().set_len(10 << 30).unwrap();
    for command in [&["status", out.as_str()][..], &["show", out.as_str()], &["report", out.as_str()]] {
        let done = run(command);
        assert_ne!(done.code(), 0, "{done}");
        assert!(done.stderr.contains("a line of more than 64 MiB"), "{done}");
    }
    fs::remove_file(&events).unwrap();
    lab::run(Command::new("mkfifo").arg(events.as_str()), LONG).expect_success();
    for command in
        [&["status", out.as_str()][..], &["show", out.as_str()], &["ls", "--results", scratch.path("").as_str()]]
    {
        // It ends, whatever it says.
        let done = run(command);
        assert!(command[0] == "ls" || done.code() != 0, "{done}");
    }
    fs::remove_file(&events).unwrap();
    fs::write(&events, whole).unwrap();
    // A number that no run reaches, nesting without end, and bytes that are no text.
    let huge = "{\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"host\",\"host\":\"local\",\"event\":{\"what\":\"client\",\"event\":{\"seq\":18446744073709551615,\"at\":{\"unix_ns\":1,\"boot_ns\":1},\"event\":\"ready\",\"pid\":1,\"boot_id\":\"x\",\"segment\":4294967295}}}\n";
    edit(&out, |text| text + huge);
    let done = run(&["report", out.as_str()]);
    assert!(done.code() != 0 && done.stderr.contains("too high a number"), "{done}");
    edit(&out, |text| text.replace(huge, "") + &"[".repeat(1 << 20) + "\n\0\0\0\n");
    assert_eq!(run(&["status", out.as_str()]).code(), 0);
}

#[test]
fn escapes_in_a_run_directory_do_not_reach_the_terminal() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let evil = "x\\u001b[2J\\u202ey\\u2028";
    edit(&out, |text| {
        let version = format!("\"kernel\":\"{evil}\",\"ignored\":\"");
        text.replace("\"kernel\":\"", &version).replace("\"controller\":\"", &format!("\"controller\":\"{evil}"))
    });
    let skipped = format!(
        "{{\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"host\",\"host\":\"local\",\"event\":{{\"what\":\"skipped\",\
         \"profiler\":\"sar\",\"preset\":null,\"args\":{{}},\"reason\":\"{evil}\\nforged: line\"}}}}\n"
    );
    let marked = format!(
        "{{\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"marked\",\"name\":\"{evil}\",\"marked\":\"2026-01-01T00:00:00Z\"}}\n"
    );
    edit(&out, |text| text + &skipped + &marked);
    let results = scratch.path("");
    for command in [
        &["status", out.as_str()][..],
        &["status", out.as_str(), "--json"],
        &["ls", "--results", results.as_str()],
        &["ls", "--results", results.as_str(), "--json"],
        &["show", out.as_str()],
        &["show", out.as_str(), "--json"],
        &["report", out.as_str()],
        &["report", out.as_str(), "--json"],
        &["stop", out.as_str()],
        &["mark", out.as_str(), "late"],
    ] {
        assert_clean(&run(command));
    }
}

#[test]
fn client_programs_that_others_can_write_are_refused() {
    let scratch = Scratch::new();
    let clients = scratch.path("clients");
    let stage = lab::stage().join("lib/autoprof/clients");
    lab::run(Command::new("cp").args(["-r", stage.as_str(), clients.as_str()]), LONG).expect_success();
    let arch = clients.join(std::env::consts::ARCH);
    let out = scratch.path("run");
    let args = ["run", "-q", "-p", "proc:0.1", "-d", "0.2", "-o", out.as_str()];
    let restore = || {
        set_mode(&clients, 0o755);
        set_mode(&arch, 0o755);
        set_mode(&arch.join("autoprof-client"), 0o755);
    };
    let by_flag = |more: &[&str]| run(&[&args[..], &["--client-dir", clients.as_str()], more].concat());
    let by_variable = || lab::run(autoprof(&args).env("AUTOPROF_CLIENT_DIR", clients.as_str()), LONG);
    let ways: [&dyn Fn(); 4] = [
        &|| set_mode(&clients, 0o777),
        &|| set_mode(&arch, 0o777),
        &|| set_mode(&arch.join("autoprof-client"), 0o757),
        &|| {
            let file = arch.join("autoprof-client");
            lab::run(Command::new("chown").args(["nobody", file.as_str()]), LONG).expect_success();
        },
    ];
    for way in ways {
        restore();
        way();
        for done in [by_flag(&[]), by_variable()] {
            assert_eq!(done.code(), 2, "{done}");
            assert!(done.stderr.contains("are not trusted") && done.stderr.contains("hint:"), "{done}");
            assert!(!out.exists());
        }
    }
    by_flag(&["--allow-untrusted-plugins"]).expect_success();
    fs::remove_dir_all(&out).unwrap();
    lab::run(Command::new("chown").args(["-R", "root", clients.as_str()]), LONG).expect_success();
    restore();
    by_flag(&[]).expect_success();
}

#[test]
fn output_that_is_cut_short_is_not_success() {
    let scratch = Scratch::new();
    let out = finished_run(&scratch, &[]);
    let results = scratch.path("");
    let commands: Vec<Vec<&str>> = vec![
        vec!["ls", "--results", results.as_str()],
        vec!["ls", "--results", results.as_str(), "--json"],
        vec!["status", out.as_str()],
        vec!["status", out.as_str(), "--json"],
        vec!["show", out.as_str()],
        vec!["show", out.as_str(), "--json"],
        vec!["job", "schema"],
        vec!["manifest", "schema"],
        vec!["export", out.as_str(), "--format", "csv"],
        vec!["export", out.as_str(), "--format", "parquet"],
        vec!["export", out.as_str(), "--format", "perfetto"],
        vec!["profilers"],
        vec!["profilers", "--json"],
        vec!["plugin", "list"],
        vec!["plugin", "list", "--json"],
        vec!["report", out.as_str(), "--json"],
        vec!["view", out.as_str(), "--print"],
        vec!["check", "--json"],
        vec!["--help"],
        vec!["run", "--help"],
        vec!["--version"],
    ];
    let shell = |text: &str, command: &[&str]| {
        let program = lab::stage().join("bin/autoprof");
        let mut shell = Command::new("bash");
        shell.args(["-c", text, "bash", program.as_str()]).args(command);
        lab::run(&mut shell, LONG)
    };
    for command in &commands {
        let full = shell("\"$@\" > /dev/full", command);
        assert_eq!(full.code(), 125, "{command:?}: {full}");
        assert!(full.stderr.contains("No space left on device"), "{command:?}: {full}");
        let gone = shell("set -o pipefail; \"$@\" | true", command);
        assert_eq!(gone.code(), 0, "{command:?}: {gone}");
        assert!(!gone.stderr.contains("roken pipe"), "{command:?}: {gone}");
    }
    let full = shell("COMPLETE=bash \"$@\" > /dev/full", &[]);
    assert_ne!(full.code(), 0, "{full}");
}

#[test]
fn report_that_cannot_be_written_is_not_success() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let in_the_way = format!("echo x > {out}/report");
    let done = run(&["run", "-p", "proc:0.1", "-o", out.as_str(), "--", "sh", "-c", &in_the_way]);
    assert_eq!(done.code(), 125, "{done}");
    assert!(done.stderr.contains("report"), "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "proc"), "ok", "{done}");
    let again = run(&["report", out.as_str()]);
    assert_eq!(again.code(), 125, "{again}");
    // The test's own status says more.
    let failing = scratch.path("failing");
    let in_the_way = format!("echo x > {failing}/report; exit 7");
    let done = run(&["run", "-p", "proc:0.1", "-o", failing.as_str(), "--", "sh", "-c", &in_the_way]);
    assert_eq!(done.code(), 7, "{done}");
}
