//! Mistakes of a first hour: each is refused before any host is contacted, and told what to write instead.
use std::process::Command;

use crate::support::{LONG, Scratch, autoprof, hosts, run};

/// What is said where a command line is refused with status 2.
fn refused(args: &[&str]) -> String {
    let done = run(args);
    assert_eq!(done.code(), 2, "{args:?}: {done}");
    done.stderr
}

/// Asserts that something is refused, and what is said.
fn says(args: &[&str], parts: &[&str]) {
    let said = refused(args);
    for part in parts {
        assert!(said.contains(part), "{args:?} says nothing of {part:?}: {said}");
    }
}

#[test]
fn directories_that_are_not_there_are_refused() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "");
    for flag in ["--plugin-dir", "--client-dir"] {
        says(
            &[flag, "/nonexistent", "run", "--", "true"],
            &[flag, "\"/nonexistent\": no such directory", "hint: correct the path"],
        );
        says(&[flag, file.as_str(), "profilers"], &[flag, "not a directory"]);
    }
    says(&["--plugin-dir", "/nonexistent", "plugin", "list"], &["no such directory"]);
}

#[test]
fn required_arguments_are_asked_for_before_connecting() {
    let nowhere = ["run", "-w", "nowhere.invalid", "-d", "1", "-p"];
    for (profiler, part) in
        [("strace", "pid"), ("blktrace", "such as blktrace:/dev/sda"), ("strace:pid=x", "is no process number")]
    {
        let said = refused(&[&nowhere[..], &[profiler]].concat());
        assert!(said.contains(part) && !said.contains("connect"), "{profiler}: {said}");
    }
    let scratch = Scratch::new();
    let job = scratch.write("job.yaml", "hosts: [nowhere.invalid]\nprofilers: [strace]\n");
    says(&["job", "check", job.as_str()], &["strace"]);
}

#[test]
fn several_profilers_may_follow_one_flag() {
    let scratch = Scratch::new();
    let job = scratch.write("job.yaml", "profilers: light, vmstat\n");
    let checked = run(&["job", "check", job.as_str()]).expect_success();
    assert!(checked.stdout.contains("profilers proc, vmstat"), "{checked}");
    let out = scratch.path("run");
    run(&["run", "-q", "-p", "proc,sysinfo", "-o", out.as_str(), "--", "true"]).expect_success();
    let profilers =
        lab::manifest(&out)["hosts"]["local"]["profilers"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(profilers, ["proc", "sysinfo"]);
}

#[test]
fn numbers_are_text_where_text_is_meant() {
    if lab::skip_unless(&["perf", "tcpdump"]) {
        return;
    }
    for (profiler, part) in [("perf:cpus=0", "-C 0 "), ("perf:cpus='0'", "-C 0 "), ("tcpdump:filter=80", " 80")] {
        let done = run(&["run", "--dry-run", "-w", "local", "-p", profiler, "-d", "1"]);
        assert!(done.stdout.contains(part), "{profiler}: {done}");
    }
    let scratch = Scratch::new();
    let job = scratch.write("job.yaml", "profilers:\n- perf: {cpus: 0}\n");
    run(&["job", "check", job.as_str()]).expect_success();
    says(&["run", "-p", "perf:cpus=0-3,8", "-d", "1"], &["put a value with commas in quotes: -p \"perf:KEY='A,B'\""]);
}

#[test]
fn empty_names_are_refused() {
    says(&["run", "-w", "", "-d", "1"], &["-w \"\" names no host", "hint: name hosts"]);
    says(&["run", "-w", ",", "-d", "1"], &["names no host"]);
    let scratch = Scratch::new();
    for text in ["", "# nothing yet\n"] {
        let job = scratch.write("job.yaml", text);
        says(&["run", job.as_str()], &["job.yaml: the file is empty", "`autoprof init` writes a job file"]);
    }
    says(&["run", scratch.path("").as_str()], &["cannot read", "Is a directory", "hint: "]);
}

#[test]
fn misspelled_keys_are_told_apart() {
    let scratch = Scratch::new();
    let said = |text: &str| {
        let job = scratch.write("job.yaml", text);
        refused(&["job", "check", job.as_str()])
    };
    assert!(said("hosts: [local]\nprofiler: [proc]\n").contains("hint: line 2: did you mean `profilers`?"));
    assert!(said("test: {comand: x}\n").contains("hint: line 1: did you mean `command`?"));
    let job = scratch.write("test.yaml", "test: touch here\n");
    let out = scratch.path("run");
    lab::run(autoprof(&["run", "-q", "-o", out.as_str(), job.as_str()]).current_dir(scratch.path("")), LONG)
        .expect_success();
    assert!(scratch.path("here").exists());
}

#[test]
fn a_test_without_dashes_is_told_where_they_go() {
    says(
        &["run", "sleep", "5"],
        &["unexpected argument \"5\"", "hint: the test comes after --: `autoprof run -- sleep 5`"],
    );
    says(&["run", "ls", "-Z"], &["`autoprof run -- ls -Z`"]);
    says(&["run", "rnu"], &["cannot read rnu", "hint: a test comes after --"]);
    says(
        &["run", "-w", "h", "sleep", "5"],
        &["hint: the test comes after --, as in `autoprof run -w web01 -- sleep 5`"],
    );
    says(
        &["run", "-d", "5", "--", "true"],
        &["-d 5s and the test \"true\" exclude each other", "hint: leave -d out", "--timeout 5s"],
    );
    says(&["compare", "latest"], &["compare needs two runs", "hint: `autoprof compare latest OTHER`"]);
}

#[test]
fn a_program_that_is_not_executable_is_told_how_to_run() {
    let scratch = Scratch::new();
    let script = scratch.write("load.sh", "echo\n");
    let done = run(&["run", "--", script.as_str()]);
    assert_eq!(done.code(), 126, "{done}");
    assert!(done.stderr.contains("hint: make it executable (chmod +x), or name its interpreter"), "{done}");
}

#[test]
fn times_and_numbers_are_told_how_they_are_written() {
    for time in ["5x", "-5", "five", "1m 30", ""] {
        says(&["run", "-d", time], &["write seconds (90, 0.5) or units (90s, 1m30s, 1h, 500ms)"]);
    }
    says(&["run", "--forks", "0", "-d", "1"], &["--forks"]);
    says(&["run", "--require", "most", "-d", "1"], &["write all, any, or a percentage such as 80%"]);
}

#[test]
fn hosts_are_named_as_in_pdsh() {
    let scratch = Scratch::new();
    let inventory = scratch.write("inv.ini", "[web]\nw[1:3]\n[db]\nd1\n[bad]\nx ansible_host='{{ ip }}'\n");
    let list = scratch.write("list", "f1\nf2 # second\n");
    let refused_at = |args: &[&str]| refused(&[&["run", "-d", "1"][..], args].concat());
    assert!(refused_at(&["-w", "@web"]).contains("no group \"web\""));
    assert!(refused_at(&["-H", inventory.as_str(), "-w", "@wbe"]).contains("did you mean \"web\"?"));
    assert!(refused_at(&["-w", "^/nonexistent"]).contains("/nonexistent: cannot read the file"));
    assert!(refused_at(&["-w", "n[1-3]!n[1-3]"]).contains("names no host"));
    assert!(refused_at(&["-w", "n{1..3}"]).contains("hint: ranges are in brackets: n[1-3]"));
    assert!(refused_at(&["-w", "n[1:3]"]).contains("hint: after -w a range is web[01-16]"));
    let one = refused_at(&["-H", inventory.as_str()]);
    assert!(one.contains("inv.ini:6: x: cannot use ansible_host: it is a template"), "{one}");
    assert!(one.contains("hint: leave the host out with -x"), "{one}");
    // What is left after exclusion is one host, given a second time.
    let twice = refused_at(&["-H", inventory.as_str(), "-w", "@web!w[1-2],@web!w1", "-x", "w2"]);
    assert!(twice.contains("host w3 is given twice"), "{twice}");
    let twice = refused_at(&["-w", &format!("n[1-5/2],^{list},n3,-n1,-n5"), "-x", "f1,f2"]);
    assert!(twice.contains("host n3 is given twice"), "{twice}");
    let mut by_variable = autoprof(&["run", "-d", "1", "-g", "nope"]);
    let done = lab::run(by_variable.env("WCOLL", list.as_str()), LONG);
    assert!(done.code() == 2 && done.stderr.contains(&format!("taking those of {list} (WCOLL)")), "{done}");
}

#[test]
fn an_inventory_is_refused_with_file_and_line() {
    let scratch = Scratch::new();
    for (name, text, parts) in [
        (
            "a.yml",
            "all:\n  hosts: [h1]\n",
            &["a.yml:2: \"hosts\" of the group \"all\" is a list", "hint: write each name as a key"][..],
        ),
        (
            "b.yml",
            "plugin: aws_ec2\n",
            &["b.yml:1: the file configures the inventory plugin", "ansible-inventory -i FILE --list"],
        ),
        ("c", "#!/bin/sh\n", &["c:1: the file is a script", "ansible-inventory -i FILE --list"]),
        ("d.ini", "[web]\nwww[3:1]\n", &["d.ini:2: cannot expand \"www[3:1]\": the range runs backwards"]),
    ] {
        let path = scratch.write(name, text);
        says(&["run", "-H", path.as_str(), "-d", "1"], parts);
    }
    says(&["run", "-H", "/nonexistent", "-d", "1"], &["/nonexistent: cannot read the file"]);
}

#[test]
fn group_vars_and_host_vars_say_how_a_host_is_reached() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let config = lab.ssh_config();
    let inventory = scratch.write("inv.ini", "[all:vars]\nansible_user=nobody\n[web]\nh1\nh2 ansible_user=nobody\n");
    lab::run(Command::new("mkdir").arg(scratch.path("group_vars")).arg(scratch.path("host_vars")), LONG)
        .expect_success();
    scratch.write("group_vars/web.yml", "ansible_user: root\n");
    scratch.write("host_vars/h2", "ansible_ssh_user: root\n");
    scratch.write("group_vars/all.yml", "$ANSIBLE_VAULT;1.1;AES256\n6231\n");
    let done = run(&["check", "--ssh-config", config.as_str(), "-H", inventory.as_str(), "-p", "proc"]);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stderr.contains("group_vars/all.yml: encrypted with ansible-vault, not read"), "{done}");
    lab.assert_clean();
}

#[test]
fn yaml_that_would_take_all_memory_is_refused_at_once() {
    let scratch = Scratch::new();
    let mut bomb = "hosts: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    (1..10).for_each(|n| bomb.push_str(&format!("k{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))));
    for (name, text, why) in [
        ("deep.yaml", format!("hosts: {}", "[".repeat(200_000)), "recursion limit exceeded at line 1"),
        ("bomb.yaml", bomb, "more than 2000000 values"),
    ] {
        let file = scratch.write(name, &text);
        let began = std::time::Instant::now();
        // With so little memory only what is refused at once ends as it should.
        let script = format!("ulimit -v 2000000; exec \"$@\" {file}");
        for (args, more) in [(["job", "check"], ""), (["run", "-d"], "1 -H")] {
            let mut command = Command::new("sh");
            let program = autoprof(&[]).get_program().to_owned();
            let script = script.replace("\"$@\"", &format!("\"$@\" {more}"));
            command.args(["-c", &script, "sh"]).arg(program).args(args);
            let done = lab::run(&mut command, LONG);
            assert_eq!(done.code(), 2, "{name}: {done}");
            assert!(done.stderr.contains(why), "{name}: {done}");
        }
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    }
}
