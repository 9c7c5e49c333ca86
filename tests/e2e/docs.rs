//! The commands that the documentation shows, run as a reader would.
use std::{fs, process::Command};

use camino::{Utf8Path, Utf8PathBuf};

use crate::support::{LONG, Scratch, hosts};

/// What is not run here, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("cargo ", "the tests of examples build them"),
    ("just ", "what runs this test"),
    ("install -D", "the tests of examples build what it installs"),
    ("sockets", "the tests of examples make plugins by `plugin new`"),
    ("/proc/net/sockstat", "its output is not autoprof's"),
    ("2026112", "a run that only its author has"),
    ("/tmp/profilers/autoprof-", "a client that only its author has"),
    ("autoprof attach", "a run has to go on; takeover:: has them"),
    ("autoprof mark", "a run has to go on; faults:: has them"),
    ("--sudo", "root has to allow something first; sudo:: does"),
    ("plugin lock", "it would hold for all commands behind it; plugins:: has it"),
    ("--plugin-dir plugins", "the tests of examples make the plugins"),
    ("-- ssh web01", "ssh(1) has its settings from the user's real home"),
    ("autoprof-runs/latest/hosts/local", "a file of a run that was left out"),
];

/// What the program says of a run that goes well.
const NORMAL: &[&str] = &["profiling ", "the test ended", "stopped", "collecting ", "window ", "it ends by itself"];

/// One command, and what the page shows of its output.
struct Shown {
    page: String,
    command: String,
    output: String,
}

impl Shown {
    /// The message with which it is shown to fail.
    fn error(&self) -> Option<&str> {
        let said = self.output.lines().filter_map(|line| line.strip_prefix("autoprof: "));
        said.into_iter().find(|said| !NORMAL.iter().any(|normal| said.starts_with(normal)))
    }
}

fn pages() -> Vec<Utf8PathBuf> {
    let root = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    for directory in ["docs", "docs/plugins"] {
        let entries = root.join(directory).read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
        pages.extend(entries.filter(|path| path.extension() == Some("md")));
    }
    pages.sort();
    pages
}

/// The blocks of a page that are of a kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let parts = text.split("\n```").filter_map(|part| part.split_once('\n'));
    parts.filter(|(head, _)| *head == kind).map(|(_, content)| format!("{content}\n")).collect()
}

fn shown(page: &Utf8Path, text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in blocks(text, "console") {
        let mut goes_on = false;
        for line in block.lines() {
            match (line.strip_prefix("$ "), all.last_mut()) {
                (_, Some(last)) if goes_on => last.command.push_str(line.trim()),
                (Some(command), _) => all.push(Shown {
                    page: page.file_name().unwrap().to_owned(),
                    command: command.to_owned(),
                    output: String::new(),
                }),
                (None, Some(last)) => last.output.push_str(&format!("{line}\n")),
                (None, None) => panic!("{page}: output without a command: {line}"),
            }
            let last = &mut all.last_mut().unwrap().command;
            goes_on = last.ends_with('\\') && last.pop().is_some();
        }
    }
    all
}

/// A reader's directory: what the page says is in its files, and the test that pages profile.
fn prepare(directory: &Utf8Path, page: &str, text: &str, commands: &[Shown]) {
    fs::create_dir_all(directory).unwrap();
    for test in ["load.sh", "soak.sh", "deploy.sh"] {
        fs::write(directory.join(test), "#!/bin/sh\nsleep 0.5\n").unwrap();
        lab::run(Command::new("chmod").args(["755", directory.join(test).as_str()]), LONG).expect_success();
    }
    let yaml = blocks(text, "yaml");
    for block in &yaml {
        if let Some(name) = block.lines().next().and_then(|line| line.strip_prefix("# ")?.split(' ').next()) {
            fs::write(directory.join(name), block).unwrap();
        }
    }
    if page == "job-file.md" {
        fs::write(directory.join("job.yaml"), &yaml[0]).unwrap();
    }
    for shown in commands {
        if let Some(file) = shown.command.strip_prefix("cat ").filter(|file| !file.contains('/')) {
            fs::write(directory.join(file), &shown.output).unwrap();
        }
    }
}

#[test]
fn every_command_that_is_shown_does_what_it_is_shown_to_do() {
    if lab::skip_unless(&["sshd", "bash", "perf", "vmstat", "sar", "inotifywait"]) {
        return;
    }
    let scratch = Scratch::new();
    let lab = hosts(3).start();
    let home = scratch.path("home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let mut config = fs::read_to_string(lab.ssh_config()).unwrap();
    for (ours, theirs) in [("h1", "web01"), ("h2", "web02"), ("h3", "db1")] {
        config = config.replace(&format!("Host {ours}\n"), &format!("Host {ours} {theirs}\n"));
    }
    fs::write(home.join(".ssh/config"), config).unwrap();
    let bin = lab::stage().join("bin");
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_owned();
        let commands = shown(&page, &text);
        let directory = scratch.path(&name);
        prepare(&directory, &name, &text, &commands);
        let sh = |command: &str| {
            let mut bash = Command::new("bash");
            bash.args(["-c", command]).current_dir(&directory).env("HOME", &home);
            bash.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()));
            bash.env_remove("SSH_AUTH_SOCK").env_remove("AUTOPROF_PLUGIN_DIR");
            lab::run(&mut bash, LONG)
        };
        let runs: Vec<&Shown> =
            commands.iter().filter(|shown| !LEFT_OUT.iter().any(|(what, _)| shown.command.contains(what))).collect();
        if runs.iter().any(|shown| shown.command.contains(" latest")) {
            sh("autoprof run -q -w web[01-02] -p proc:0.2 -p perf -d 1").expect_success();
        }
        let words = runs.iter().flat_map(|shown| shown.command.split(' '));
        for run in words.filter(|word| word.starts_with("autoprof-runs/") && !word.ends_with("/latest")) {
            if !directory.join(run).exists() {
                sh(&format!("autoprof run -q -p proc:0.2 -d 1 -o {run}")).expect_success();
            }
        }
        for shown in runs {
            count += 1;
            let command = shown.command.replace("-d 60", "-d 1").replace("view latest", "view latest --print");
            let done = sh(&command);
            let said = format!("{}{}", done.stdout, done.stderr);
            let failed = shown.output.contains(" failed ");
            let as_shown = match shown.error() {
                Some(error) => done.code() != 0 && said.contains(error),
                None => failed || done.code() == 0,
            };
            if !as_shown {
                wrong.push(format!("{}: {}\n{done}", shown.page, shown.command));
            }
            if command.contains("autoprof start") {
                sh("autoprof report -q latest").expect_success();
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} commands:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 50, "{count}");
    lab.assert_clean();
}
