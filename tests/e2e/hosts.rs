//! Hosts that are not as one would wish: each gives its stated outcome.
use crate::support::{LONG, Scratch, autoprof, hosts, run, run_on, state};

/// What a run on one special host and one plain host (`h2`) gives, with `--require any` so that it goes on.
fn outcome(builder: lab::LabBuilder, profilers: &[&str]) -> (lab::Lab, serde_json::Value, lab::Finished) {
    let lab = builder.start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut args = vec!["--require", "any"];
    for profiler in profilers {
        args.extend(["-p", profiler]);
    }
    args.extend(["--", "sleep", "1.2"]);
    let done = run_on(&lab, "h[1-2]", &out, &args);
    let manifest = lab::manifest(&out);
    (lab, manifest, done)
}

fn error(manifest: &serde_json::Value, host: &str) -> String {
    let errors = manifest["hosts"][host]["errors"].as_array().expect("errors");
    errors
        .iter()
        .map(|e| format!("{}: {} [{}]\n", e["step"].as_str().unwrap(), e["message"].as_str().unwrap(), e["hint"]))
        .collect()
}

fn works(builder: lab::LabBuilder) {
    let (lab, manifest, done) = outcome(builder, &["proc", "vmstat"]);
    assert_eq!(done.code(), 0, "{done}");
    for profiler in ["proc", "vmstat"] {
        assert_eq!(state(&manifest, "h1", profiler), "ok", "{done}");
    }
    lab.assert_clean();
}

#[test]
fn one_that_refuses_the_key_is_its_own_failure() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let (lab, manifest, done) = outcome(hosts(2).host(1, |h| h.refuses_key()), &["proc"]);
    assert_eq!(done.code(), 0, "the other host is enough: {done}");
    let said = error(&manifest, "h1");
    assert!(said.contains("connect: cannot log in to") && said.contains("authorized_keys"), "{said}");
    assert_eq!(state(&manifest, "h2", "proc"), "ok");
    lab.assert_clean();
}

#[test]
fn one_with_a_changed_key_is_refused_with_severity() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let (_lab, manifest, done) = outcome(hosts(2).host(1, |h| h.changed_host_key()), &["proc"]);
    let said = error(&manifest, "h1");
    assert!(said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{said}");
    assert!(done.stderr.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{done}");
    assert_eq!(state(&manifest, "h2", "proc"), "ok");
}

#[test]
fn one_with_an_unknown_key_is_refused_with_what_to_do() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let (_lab, manifest, _) = outcome(hosts(2).host(1, |h| h.unknown_host_key()), &["proc"]);
    let said = error(&manifest, "h1");
    assert!(said.contains("is unknown") && said.contains("--accept-new-host-keys"), "{said}");
}

#[test]
fn one_without_perf_ends_a_run_that_names_perf_before_the_test() {
    if lab::skip_unless(&["sshd", "perf"]) {
        return;
    }
    let lab = hosts(2).host(1, |h| h.without("perf")).start();
    let scratch = Scratch::new();
    let (out, witness) = (scratch.path("run"), scratch.path("witness"));
    let done = run_on(&lab, "h[1-2]", &out, &["-p", "perf", "--", "touch", witness.as_str()]);
    assert_eq!(done.code(), 125, "{done}");
    assert!(done.stderr.contains("h1: perf cannot run: perf is not installed"), "{done}");
    assert!(done.stderr.contains("linux-perf"), "{done}");
    assert!(!witness.exists(), "the test was run");
    lab.assert_clean();
}

#[test]
fn one_without_perf_skips_it_when_only_a_preset_asks() {
    if lab::skip_unless(&["sshd", "perf"]) {
        return;
    }
    let lab = hosts(2).host(1, |h| h.without("perf")).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run_on(&lab, "h[1-2]", &out, &["-p", "heavy", "--", "sleep", "1.2"]);
    assert_eq!(done.code(), 0, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "perf"), "skipped");
    assert_eq!(state(&manifest, "h1", "vmstat"), "ok");
    assert_eq!(state(&manifest, "h2", "perf"), "ok");
    lab.assert_clean();
}

#[test]
fn one_whose_tmp_is_noexec_says_so_and_works_elsewhere() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    let (lab, manifest, _) = outcome(hosts(2).host(1, |h| h.tmp_options("noexec")), &["proc"]);
    let said = error(&manifest, "h1");
    assert!(said.contains("cannot run the client in /tmp/profilers/autoprof-") && said.contains("noexec"), "{said}");
    lab.assert_clean();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    run_on(&lab, "h1", &out, &["--tmpdir", "/var/tmp/profilers", "-d", "0.5"]).expect_success();
    lab.assert_clean();
}

#[test]
fn one_with_fish_as_login_shell_works() {
    if lab::skip_unless(&["sshd", "fish", "vmstat"]) {
        return;
    }
    works(hosts(2).host(1, |h| h.shell("/usr/bin/fish")));
}

#[test]
fn one_with_tcsh_as_login_shell_works() {
    if lab::skip_unless(&["sshd", "tcsh", "vmstat"]) {
        return;
    }
    works(hosts(2).host(1, |h| h.shell("/usr/bin/tcsh")));
}

#[test]
fn one_that_prints_a_banner_before_everything_works() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    works(hosts(2).host(1, |h| h.banner("Welcome to the lab.\nAll use is {\"logged\": true}.")));
}

#[test]
fn one_without_sftp_and_with_a_single_session_works() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    works(hosts(2).host(1, |h| h.no_sftp().max_sessions(1)));
}

#[test]
fn one_that_is_not_there_is_named_and_the_run_ends_before_the_test_by_default() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    lab[1].stop_sshd();
    let scratch = Scratch::new();
    let (out, witness) = (scratch.path("run"), scratch.path("witness"));
    let done = run_on(&lab, "h[1-2]", &out, &["--", "touch", witness.as_str()]);
    assert_eq!(done.code(), 125, "{done}");
    assert!(done.stderr.contains("h1: connect: ") && done.stderr.contains("refused"), "{done}");
    assert!(!witness.exists());
    lab.assert_clean();
}

/// Bytes that a host's sshd has received, over all connections that have ended.
fn received(host: &lab::Host) -> u64 {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once("Transferred: ")?.1.split_once("received ")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    host.log().lines().filter_map(of_line).sum()
}

#[test]
fn a_client_that_may_stay_is_sent_once_and_only_used_when_it_is_whole_and_ours() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    const PROGRAM: u64 = 1 << 20;
    let lab = hosts(1).start();
    let kept = format!("{}/autoprof-client.*", lab[1].tmpdir());
    let on_host = |script: &str| lab[1].exec(&["sh", "-c", script]).expect_success().stdout;
    let sent = |what: &str, more: &[&str]| {
        let before = received(&lab[1]);
        let scratch = Scratch::new();
        let arguments = [&["-p", "proc", "-d", "0"], more].concat();
        run_on(&lab, "h1", &scratch.path("run"), &arguments).expect_success();
        assert_eq!(state(&lab::manifest(scratch.path("run")), "h1", "proc"), "ok", "{what}");
        // What it has transferred is said by sshd when the connection is over.
        assert!(lab::wait_until(crate::support::LONG, || received(&lab[1]) > before), "{what}");
        received(&lab[1]) - before
    };
    assert!(sent("without", &[]) > PROGRAM);
    lab.assert_clean();
    assert!(sent("to be kept", &["--keep-client"]) > PROGRAM);
    assert_eq!(on_host(&format!("stat -c '%a %F' {kept} {kept}/*")), "700 directory\n700 regular file\n");
    assert!(sent("kept", &[]) < PROGRAM);
    assert!(sent("kept, and to be kept", &["--keep-client"]) < PROGRAM);

    // A crash has torn it: the run goes on with one that is sent.
    on_host(&format!("f=$(echo {kept}/*); head -c 900000 $f > $f.torn; chmod 700 $f.torn; mv $f.torn $f"));
    assert!(sent("torn", &[]) > PROGRAM);
    on_host(&format!("f=$(echo {kept}/*); : > $f"));
    assert!(sent("empty", &[]) > PROGRAM);
    // Others could have changed it.
    on_host(&format!("rm -r {kept}"));
    assert!(sent("again", &["--keep-client"]) > PROGRAM);
    on_host(&format!("chmod 777 {kept}"));
    assert!(sent("open to all", &["--keep-client"]) > PROGRAM);
    on_host(&format!(
        "chmod 700 {kept}; mv {kept} ~/elsewhere; ln -s ~/elsewhere $(dirname '{kept}')/autoprof-client.$(id -u)"
    ));
    assert!(sent("a link", &["--keep-client"]) > PROGRAM);
    on_host(&format!("rm {kept}; mv ~/elsewhere $(dirname '{kept}')/autoprof-client.$(id -u)"));
    assert!(sent("back in its place", &[]) < PROGRAM);

    // It goes by `clean`, like what dead runs leave.
    on_host(&format!("touch -d '1 hour ago' {kept}"));
    let config = lab.ssh_config();
    let cleaned = crate::support::run(&["clean", "--ssh-config", config.as_str(), "-w", "h1"]).expect_success();
    assert!(cleaned.stdout.contains("removed ") && cleaned.stdout.contains("autoprof-client."), "{cleaned}");
    lab.assert_clean();
}

#[test]
fn the_hosts_of_an_inventorys_group_are_profiled() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let inventory = scratch.write("inventory.ini", "[one]\nh1\n[two]\nh[2:2]\n[both:children]\none\ntwo\n");
    let on = |group: &str| {
        let args = ["run", "--ssh-config", config.as_str(), "-H", inventory.as_str(), "-g", group, "-o", out.as_str()];
        lab::run(autoprof(&args).args(["-p", "proc", "--", "true"]), LONG)
    };
    let none = on("three");
    assert!(none.code() == 2 && none.stderr.contains("there are all, both, one, two"), "{none}");
    on("two").expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["hosts"].as_object().unwrap().keys().collect::<Vec<_>>(), ["h2"]);
    lab.assert_clean();
}

#[test]
fn options_of_ssh_reach_a_host_in_every_command() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let results = scratch.path("runs");
    let (host, gate) = (lab[1].address(), lab[2].address());
    let gate_named = |name: &str| {
        let known = lab.known_hosts();
        format!(
            "Host {name}\n HostName {}\n Port {}\n User {}\n UserKnownHostsFile {known}\nHost web\n Port 1\n",
            gate.ip(),
            gate.port(),
            lab.user()
        )
    };
    let config = scratch.write("config", &gate_named("gate"));
    let options = [
        format!("HostName={}", host.ip()),
        format!("Port {}", host.port()),
        format!("UserKnownHostsFile={}", lab.known_hosts()),
    ];
    let mut args = vec!["start", "-w", "web", "-p", "proc", "--results", results.as_str(), "-l", lab.user()];
    args.extend(["--ssh-config", config.as_str(), "-i", lab.identity().as_str(), "--jump", "gate"]);
    options.iter().for_each(|option| args.extend(["--ssh-option", option]));
    let id = run(&args).expect_success().stdout.trim().to_owned();

    // The run knows its options; what is given now comes before them.
    scratch.write("config", &gate_named("door"));
    run(&["stop", &id, "--results", results.as_str(), "-J", "door"]).expect_success();
    let gate = format!("{}@{}:{}", lab.user(), gate.ip(), gate.port());
    let own = format!("UserKnownHostsFile {}\n", lab.known_hosts());
    scratch.write("config", &own);
    run(&["report", &id, "--results", results.as_str(), "--no-report", "-J", &gate]).expect_success();
    assert_eq!(state(&lab::manifest(results.join(&id)), "web", "proc"), "ok");
    lab.assert_clean();

    for (flags, says) in [
        (vec!["--ssh-option", "Prot=1"], "SSH options: Prot: OpenSSH knows no such keyword"),
        (vec!["--ssh-config", "/nowhere/at/all"], "cannot read the SSH configuration /nowhere/at/all: no such file"),
    ] {
        let check: Vec<&str> = ["check", "-w", "web", "-p", "proc"].into_iter().chain(flags).collect();
        let refused = run(&check);
        assert!(refused.code() == 1 && refused.stdout.contains(says), "{refused}");
    }
    let bad = run(&["check", "-w", "web", "--ssh-option", "Port"]);
    assert!(bad.code() == 2 && bad.stderr.contains("an option is KEY=VALUE"), "{bad}");
}
