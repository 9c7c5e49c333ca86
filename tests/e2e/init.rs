//! `autoprof init`: a job file of what hosts have, which is a job.
use crate::support::{Scratch, hosts, run, states};

#[test]
fn what_is_written_for_hosts_is_a_job_that_runs_on_them() {
    if lab::skip_unless(&["sshd", "vmstat", "perf"]) {
        return;
    }
    let lab = hosts(3).host(1, |h| h.without("vmstat")).start();
    lab[3].stop_sshd();
    let scratch = Scratch::new();
    let (out, config, file) = (scratch.path("run"), lab.ssh_config(), scratch.path("job.yaml"));
    let remotes = scratch.write("remotes", "h1,small\nh2,big\n");
    let init = |more: &[&str]| {
        run(&[&["init", "--ssh-config", config.as_str(), "-o", file.as_str(), "-H", remotes.as_str()], more].concat())
    };

    let lost = init(&["-w", "h3"]);
    assert!(lost.code() == 1 && lost.stderr.contains("h3: connect: "), "{lost}");
    assert!(lost.stdout.contains("is written, for 2 of 3 hosts"), "{lost}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\n  # - h3  # connect: ") && text.contains("not on h1: vmstat is not installed"), "{text}");

    // What somebody has written into it stays.
    std::fs::write(&file, "hosts: [mine]\n").unwrap();
    let refused = init(&[]);
    assert!(refused.code() == 2 && refused.stderr.contains("is there already\n  hint: --force"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hosts: [mine]\n");
    init(&["--force"]).expect_success();

    run(&["job", "check", file.as_str()]).expect_success();
    run(&["check", file.as_str()]).expect_success();
    let dry = run(&["run", file.as_str(), "--dry-run"]).expect_success().stdout;
    assert!(dry.contains("h2 ") && dry.contains(" in big\n") && !dry.contains("vmstat -t"), "{dry}");

    // With the group's comment taken away, vmstat runs where it is.
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, big) = text.split_once("  big:\n").unwrap();
    let with = format!("{before}  big:\n{}", big.replacen("    # also: [vmstat]\n", "    also: [vmstat]\n", 1));
    assert_ne!(with, text);
    std::fs::write(&file, with).unwrap();
    run(&["run", file.as_str(), "-o", out.as_str(), "-d", "1.5"]).expect_success();
    let manifest = lab::manifest(&out);
    let of = |host: &str| states(&manifest, host).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert!(of("h2").contains(&"vmstat".to_owned()) && !of("h1").contains(&"vmstat".to_owned()));
    assert!(of("h1").contains(&"proc".to_owned()) && of("h1").contains(&"perf".to_owned()));
    lab[3].start_sshd();
    lab.assert_clean();
}

#[test]
fn nothing_is_written_where_no_host_answers() {
    let scratch = Scratch::new();
    let file = scratch.path("job.yaml");
    let done = run(&["init", "-w", "nowhere.invalid", "-o", file.as_str()]);
    assert!(done.code() == 2 && done.stderr.contains("no host could be looked at"), "{done}");
    assert!(!file.exists());
}
