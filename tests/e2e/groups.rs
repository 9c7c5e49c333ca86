//! Groups of hosts: which hosts they choose, and which profilers they bring.
use crate::support::{Scratch, hosts, run, states};

fn names(manifest: &serde_json::Value, host: &str) -> Vec<String> {
    states(manifest, host).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_groups_profilers_run_on_its_hosts_alone_and_every_view_says_so() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat"]) {
        return;
    }
    let lab = hosts(3).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let job = scratch.write(
        "job.yaml",
        &format!(
            "hosts: [h1]\nprofilers: [light]\ngroups:\n  db: {{hosts: [h2], also: [vmstat]}}\n  \
             edge: {{hosts: [h3], profilers: [mpstat]}}\nssh: {{config: {config}}}\ntest: {{command: [sleep, '1.2']}}\n"
        ),
    );
    let expected = [("h1", vec!["proc"]), ("h2", vec!["proc", "vmstat"]), ("h3", vec!["mpstat"])];

    run(&["run", job.as_str(), "-o", out.as_str()]).expect_success();
    let manifest = lab::manifest(&out);
    for (host, profilers) in &expected {
        assert_eq!(names(&manifest, host), *profilers, "{host}");
        assert!(states(&manifest, host).iter().all(|(_, state)| state == "ok"), "{host}");
    }
    assert_eq!(manifest["hosts"]["h2"]["host"]["groups"], serde_json::json!(["db"]));

    let checked = run(&["check", job.as_str(), "--json"]).expect_success().stdout;
    let checked = serde_json::json!({"hosts": serde_json::from_str::<serde_json::Value>(&checked).unwrap()});
    expected.iter().for_each(|(host, profilers)| assert_eq!(names(&checked, host), *profilers, "{host}"));
    let table = run(&["check", job.as_str()]).expect_success().stdout;
    assert!(table.contains("groups") && table.contains(" db "), "{table}");
    let dry = run(&["run", job.as_str(), "--dry-run"]).expect_success().stdout;
    let (h1, rest) = dry.split_once("\nh2 ").unwrap();
    let (h2, h3) = rest.split_once("\nh3 ").unwrap();
    assert!(h2.contains(" in db\n") && h2.contains("vmstat -t") && !h1.contains("vmstat -t"), "{dry}");
    assert!(h3.contains("mpstat") && !h3.contains("  proc\n"), "{dry}");

    // The groups of the job choose among its hosts; with other hosts each is still in its group.
    let chosen = run(&["run", job.as_str(), "--dry-run", "-g", "db"]).expect_success().stdout;
    assert!(chosen.starts_with("h2 ") && !chosen.contains("h1 ") && !chosen.contains("h3 "), "{chosen}");
    let other = run(&["run", job.as_str(), "--dry-run", "-w", "h2", "-p", "mpstat"]).expect_success().stdout;
    assert!(other.contains(" in db\n") && other.contains("vmstat -t") && other.contains("  mpstat\n"), "{other}");
    lab.assert_clean();
}

#[test]
fn the_labels_of_a_file_of_hosts_are_groups() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let file = scratch.write("remotes", "# what pbench registers tools for\nh1,web\nh2,db\n");
    let job = scratch.write("job.yaml", "groups: {db: {also: [vmstat]}}\n");
    let on = |more: &[&str]| {
        let all = ["run", "--ssh-config", config.as_str(), "-H", file.as_str(), "-o", out.as_str(), "-d", "1.2"];
        run(&[&all, more].concat())
    };
    on(&[job.as_str()]).expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!(
        (names(&manifest, "h1"), names(&manifest, "h2")),
        (vec!["proc".into()], vec!["proc".into(), "vmstat".into()])
    );
    assert_eq!(manifest["hosts"]["h1"]["host"]["groups"], serde_json::json!(["web"]));
    let chosen = on(&["-g", "web", "--dry-run"]).expect_success().stdout;
    assert!(chosen.starts_with("h1 ") && !chosen.contains("h2"), "{chosen}");
    lab.assert_clean();
}

#[test]
fn groups_that_cannot_be_meant_are_refused_before_anything_is_touched() {
    let scratch = Scratch::new();
    let job = scratch.write(
        "job.yaml",
        "hosts: [a.invalid]\ngroups:\n  x: {hosts: [b.invalid], also: ['vmstat:5']}\n  \
         y: {hosts: [b.invalid], also: ['vmstat:2']}\n",
    );
    let refused = |args: &[&str]| {
        let done = run(&[&["run", "-d", "1"], args].concat());
        assert_eq!(done.code(), 2, "{done}");
        done.stderr
    };
    let said = refused(&[job.as_str()]);
    assert!(said.contains("host b.invalid: its groups x and y give vmstat different arguments\n  hint: "), "{said}");
    let said = refused(&[job.as_str(), "-g", "z"]);
    assert!(said.contains("no group \"z\"") && said.contains("there are x, y"), "{said}");
    let said = refused(&[job.as_str(), "-w", "c.invalid", "-g", "x"]);
    assert!(said.contains("-w names other ones"), "{said}");
    let empty = scratch.write("empty.yaml", "groups: {db: {also: [vmstat]}}\n");
    let said = refused(&[empty.as_str()]);
    assert!(said.contains("no host is said to be in the job's group \"db\"\n  hint: give the group `hosts`"), "{said}");
    let unknown = scratch.write("unknown.yaml", "groups: {db: {hosts: [a.invalid], also: [vmsat]}}\n");
    assert!(refused(&[unknown.as_str()]).contains("did you mean \"vmstat\""));
}
