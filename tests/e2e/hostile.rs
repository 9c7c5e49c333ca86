//! Hosts and users of hosts that mean harm.
use std::{fmt::Write as _, io::Write as _};

use autoprof_protocol::blocks;
use camino::Utf8Path;

use crate::support::{LONG, Scratch, hosts, run, run_on, state};

/// Prints the mark that stands before what a command prints, as the command would.
const MARK: &str = "(eval \"set -- $2\"; [ $1 != exec ] || shift; echo \"$4$5\"; echo \"$4$5\" >&2)";

/// A login shell that does what it is asked to, but for `autoprof-client pack`, whose archive it replaces by its own.
fn evil_shell(scratch: &Scratch, archive: &str) -> String {
    let script = format!(
        "#!/bin/sh\ncase \"$2\" in *' pack '*) {MARK}; cat > /dev/null; {archive}; exit 0;; esac\nexec /bin/sh \"$@\"\n"
    );
    let shell = scratch.write("shell", &script);
    let mut permissions = std::fs::metadata(&shell).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&shell, permissions).unwrap();
    shell.to_string()
}

/// An archive of entries with these paths, each with some bytes.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut stream = b"APARCHV2".to_vec();
    let mut record = |kind: u8, header: String, content: Option<&[u8]>| {
        stream.push(kind);
        stream.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
        stream.extend(header.as_bytes());
        if let Some(content) = content {
            stream.extend(content);
            stream.extend(blake3::hash(content).as_bytes());
        }
    };
    for (path, content) in entries {
        record(b'F', serde_json::json!({ "path": path, "size": content.len() }).to_string(), Some(content));
    }
    let bytes: usize = entries.iter().map(|(_, content)| content.len()).sum();
    record(b'E', serde_json::json!({ "files": entries.len(), "bytes": bytes }).to_string(), None);
    stream
}

/// Runs on a host that sends this instead of its results, and on an honest one; gives the manifest and what was said.
fn collected_from(send: &dyn Fn(&Scratch) -> String) -> (serde_json::Value, lab::Finished, Vec<String>) {
    let scratch = Scratch::new();
    let shell = evil_shell(&scratch, &send(&scratch));
    // Not in namespaces: the shell lies in this machine's own temporary directory.
    let lab = lab::Lab::builder(2).host(1, |h| h.shell(&shell)).start();
    let out = scratch.path("run");
    // What the evil host keeps stays in the lab.
    let tmpdir = lab[1].tmpdir().to_string();
    let done = run_on(&lab, "h1", &out, &["-p", "proc:0.1", "-d", "0.5", "-w", "h2", "--tmpdir", &tmpdir]);
    assert_eq!(done.code(), 125, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h2", "proc"), "ok", "the other host's results are whole: {done}");
    assert!(!done.stderr.contains('\u{1b}'), "an escape reached the terminal: {done}");
    let entries = walk(&out.join("hosts/h1"));
    (manifest, done, entries)
}

fn walk(directory: &Utf8Path) -> Vec<String> {
    let Ok(entries) = directory.read_dir_utf8() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let kind = entry.file_type().unwrap();
        assert!(kind.is_file() || kind.is_dir(), "{} is neither file nor directory", entry.path());
        found.push(entry.path().to_string());
        if kind.is_dir() {
            found.extend(walk(entry.path()));
        }
    }
    found
}

/// Sends an archive, in blocks as they are sent.
fn from_file(archive: Vec<u8>) -> impl Fn(&Scratch) -> String {
    let mut blocks = blocks::MAGIC.to_vec();
    for block in archive.chunks(blocks::BLOCK) {
        blocks.extend(blocks::plain_header(u32::try_from(block.len()).unwrap()));
        blocks.extend(block);
    }
    from_bytes(blocks)
}

/// Sends just these bytes.
fn from_bytes(bytes: Vec<u8>) -> impl Fn(&Scratch) -> String {
    move |scratch| {
        let path = scratch.path("evil-archive");
        std::fs::write(&path, &bytes).unwrap();
        format!("cat {path}")
    }
}

#[test]
fn a_host_that_sends_paths_out_of_its_directory_writes_nothing_anywhere() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let witness = Scratch::new();
    let absolute = witness.path("absolute").to_string();
    let paths =
        ["../../../../escaped", absolute.as_str(), "a/../../../escaped", "proc/\u{1b}[2Jx", "proc//x", "./proc"];
    for path in paths {
        let (manifest, done, _) = collected_from(&from_file(archive(&[("proc/samples.txt", b"x"), (path, b"evil")])));
        let errors = manifest["hosts"]["h1"]["errors"].to_string();
        assert!(errors.contains("unsafe path"), "{path}: {done}");
        assert!(!witness.path("absolute").exists());
    }
}

#[test]
fn a_host_that_lies_about_sizes_sends_without_end_or_a_million_files_is_cut_off() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let mut huge = b"APARCHV2F".to_vec();
    let header = serde_json::json!({ "path": "proc/x", "size": u64::MAX }).to_string();
    huge.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    huge.extend(header.as_bytes());
    let (manifest, done, _) = collected_from(&from_file(huge));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("more than"), "{done}");

    let negative = b"APARCHV2F\x1b\x00\x00\x00{\"path\":\"proc/x\",\"size\":-5}".to_vec();
    let (manifest, done, _) = collected_from(&from_file(negative));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("bad header"), "{done}");

    let short = b"APARCHV2F\xff\x00\x00\x00{\"path\":\"proc/x\"".to_vec();
    let (manifest, done, _) = collected_from(&from_file(short));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("cut short"), "{done}");

    let twice = archive(&[("proc/x", b"1"), ("proc/x", b"2")]);
    let (manifest, done, _) = collected_from(&from_file(twice));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("two entries"), "{done}");

    let (manifest, done, _) = collected_from(&|_| "printf APBLOCK1; cat /dev/zero".to_owned());
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("cannot be trusted"), "{done}");

    let (manifest, done, _) = collected_from(&|_| "cat /dev/urandom".to_owned());
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("cannot be trusted"), "{done}");

    // Four bytes that say that they are a mebibyte.
    let bomb = [&blocks::MAGIC[..], &blocks::zstd_header(4, 1 << 20), b"evil"].concat();
    let (manifest, done, _) = collected_from(&from_bytes(bomb));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("compressed block is damaged"), "{done}");

    let names: Vec<String> = (0..100_002).map(|n| format!("proc/{n}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let (manifest, done, entries) = collected_from(&from_file(archive(&many)));
    assert!(manifest["hosts"]["h1"]["errors"].to_string().contains("more than 100000 files"), "{}", done.status);
    assert!(entries.len() <= 100_100);
}

#[test]
fn names_that_are_no_text_come_back_under_names_that_are() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let odd = r#"command:command='printf x > "$(printf "a\377b\033[2J")"; ln -s /etc/passwd link; mkfifo fifo; exec sleep 600'"#;
    run_on(&lab, "h1", &out, &["-p", odd, "-d", "1"]);
    let names: Vec<String> = walk(&out.join("hosts/h1/command"));
    assert!(names.iter().any(|n| n.ends_with("a%ffb%1b[2J")), "{names:?}");
    assert!(names.iter().all(|n| !n.ends_with("link") && !n.ends_with("fifo")), "{names:?}");
    lab.assert_clean();
}

#[test]
fn a_client_that_says_escapes_and_lies_harms_only_its_own_host() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut events = std::fs::File::create(scratch.path("events")).unwrap();
    let stamp = r#""at":{"unix_ns":5,"boot_ns":6}"#;
    let said = [
        format!(r#"{{"seq":1,{stamp},"event":"ready","pid":1,"boot_id":"[2J"}}"#),
        format!(
            r#"{{"seq":2,{stamp},"event":"began","profiler":"proc","began":{{"unix_ns":-9223372036854775808,"boot_ns":0}},"pid":null}}"#
        ),
        format!(
            r#"{{"seq":3,{stamp},"event":"began","profiler":"../../etc","began":{{"unix_ns":1,"boot_ns":0}},"pid":null}}"#
        ),
        format!(r#"{{"seq":4,{stamp},"event":"started","collecting":["proc"]}}"#),
        format!(r#"{{"seq":18446744073709551615,{stamp},"event":"failed","reason":"\u001b]0;owned\u0007\u001b[2J"}}"#),
    ];
    said.iter().for_each(|line| writeln!(events, "{line}").unwrap());
    let mut script = String::from("#!/bin/sh\ncase \"$2\" in\n");
    let _ = writeln!(
        script,
        "*' launch '*) {MARK}; cat > /dev/null; exit 0;;\n*' attach '*) {MARK}; cat {}; exec sleep 600;;",
        scratch.path("events")
    );
    script.push_str("esac\nexec /bin/sh \"$@\"\n");
    let shell = scratch.write("shell", &script);
    lab::run(std::process::Command::new("chmod").args(["755", shell.as_str()]), LONG).expect_success();
    let lab = lab::Lab::builder(2).host(1, |h| h.shell(shell.as_str())).start();
    let out = scratch.path("run");
    let job = scratch.write("job.yaml", "timeouts: {reconnect: 1s, stop: 5s, report: 5s, ready: 5s}\n");
    let tmpdir = lab[1].tmpdir().to_string();
    let more = [job.as_str(), "--require", "any", "-p", "proc:0.1", "-d", "0.5", "--tmpdir", &tmpdir];
    let done = run_on(&lab, "h[1-2]", &out, &more);
    assert_eq!(done.code(), 0, "{done}");
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'), "{done}");
    assert_eq!(state(&lab::manifest(&out), "h2", "proc"), "ok", "{done}");
}

#[test]
fn a_parent_directory_that_somebody_else_made_is_not_used() {
    if lab::skip_unless(&["sshd", "runuser"]) || lab::skip_unless_namespaces() {
        return;
    }
    let bad = [
        "mkdir -m 1777 /tmp/profilers; chown nobody /tmp/profilers",
        "mkdir -m 755 /tmp/elsewhere; chown nobody /tmp/elsewhere; ln -s /tmp/elsewhere /tmp/profilers",
        "mkdir /tmp/profilers; chmod 777 /tmp/profilers",
    ];
    for make in bad {
        let lab = hosts(1).host(1, |h| h.ignoring("/tmp/elsewhere").ignoring("/tmp/profilers")).start();
        lab[1].exec(&["sh", "-c", make]).expect_success();
        let scratch = Scratch::new();
        let out = scratch.path("run");
        let done = run_on(&lab, "h1", &out, &["-p", "proc:0.1", "-d", "0.3"]);
        assert_eq!(done.code(), 0, "{make}: {done}");
        let events = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
        assert!(events.contains("\"directory\":\"/tmp/profilers-0/autoprof-"), "{make}: {events}");
        lab.assert_clean();
        // With no place that can be trusted there is no run there, and the error says why.
        lab[1].exec(&["sh", "-c", "mkdir -m 777 /tmp/profilers-0; chown nobody /tmp/profilers-0"]).expect_success();
        let refused = run_on(&lab, "h1", &scratch.path("refused"), &["-p", "proc:0.1", "-d", "0.3"]);
        assert_eq!(refused.code(), 125, "{refused}");
        assert!(refused.stderr.contains("/tmp/profilers is not to be trusted"), "{refused}");
        assert!(refused.stderr.contains("--tmpdir"), "{refused}");
    }
}

#[test]
fn what_is_on_a_host_is_its_users_alone() {
    if lab::skip_unless(&["sshd", "runuser"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let config = lab.ssh_config();
    let started = run(&["start", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "proc:0.2"]);
    started.expect_success();
    let as_nobody = |script: &str| lab[1].exec(&["runuser", "-u", "nobody", "--", "sh", "-c", script]);
    let directory = lab::manifest(&out)["hosts"]["h1"]["client"]["directory"].as_str().unwrap().to_owned();
    for attack in [
        format!("ls {directory}"),
        format!("echo A > {directory}/profiler.stop"),
        format!("cat {directory}/control.yaml"),
        format!("cp /bin/true {directory}/autoprof-client"),
        format!("mv {directory} /tmp/profilers/mine"),
        format!("rm -rf {directory}"),
    ] {
        assert_ne!(as_nobody(&attack).code(), 0, "{attack}");
    }
    let mode = lab[1].exec(&["stat", "-c", "%a %U", &directory]).stdout;
    assert_eq!(mode.trim(), "700 root");
    let open = lab[1].exec(&["find", &directory, "-perm", "/077", "!", "-type", "l"]).stdout;
    assert_eq!(open, "", "open to others");
    assert_eq!(run(&["report", out.as_str()]).code(), 0);
    lab.assert_clean();
}
