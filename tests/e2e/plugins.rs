//! `plugins.lock` from the command line.
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Finished;
use serde_json::Value;

use crate::support::{LONG, Scratch, autoprof};

/// A user with settings and an autoprof of their own.
struct User {
    scratch: Scratch,
}

impl User {
    fn new() -> Self {
        let user = Self { scratch: Scratch::new() };
        for directory in ["bin", "lib/autoprof/plugins"] {
            std::fs::create_dir_all(user.scratch.path(directory)).unwrap();
            for file in lab::stage().join(directory).read_dir_utf8().unwrap().flatten() {
                std::fs::copy(file.path(), user.scratch.path(directory).join(file.file_name())).unwrap();
            }
        }
        user
    }

    fn plugins(&self) -> Utf8PathBuf {
        self.scratch.path("lib/autoprof/plugins")
    }

    fn list(&self) -> Utf8PathBuf {
        self.scratch.path("config/autoprof/plugins.lock")
    }

    fn plugin(&self, name: &str) -> Utf8PathBuf {
        self.plugins().join(format!("libautoprof_{name}.so"))
    }

    fn run(&self, args: &[&str]) -> Finished {
        let installed = autoprof(&[]);
        let mut command = Command::new(self.scratch.path("bin/autoprof"));
        command.env_clear().envs(installed.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("XDG_CONFIG_HOME", self.scratch.path("config"));
        command.env("AUTOPROF_CLIENT_DIR", lab::stage().join("lib/autoprof/clients"));
        lab::run(command.args(args).current_dir(self.scratch.path("")), LONG)
    }

    /// The state of a plugin of this directory.
    fn state(&self, file: &Utf8Path) -> String {
        let listed = self.run(&["plugin", "list", "--json"]).expect_success().stdout;
        let rows: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let row = rows.iter().find(|row| row["file"] == file.as_str()).unwrap_or_else(|| panic!("{listed}"));
        row["state"].as_str().unwrap().to_owned()
    }
}

fn append(file: &Utf8Path) {
    let new = file.with_extension("new");
    let mut content = std::fs::read(file).unwrap();
    content.push(0);
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn from_plugin_lock_on_only_what_was_there_is_loaded() {
    let user = User::new();
    let (proc, vmstat, list) = (user.plugin("profiler_proc"), user.plugin("profiler_vmstat"), user.list());
    assert_eq!(user.state(&proc), "usable");
    let locked = user.run(&["plugin", "lock"]).expect_success();
    let count = user.plugins().read_dir_utf8().unwrap().count();
    assert_eq!((locked.stdout.as_str(), locked.stderr.as_str()), (&*format!("{list}: {count} plugins\n"), ""));
    assert_eq!(user.state(&proc), "usable, locked");
    let out = user.scratch.path("run");
    user.run(&["run", "-q", "-o", out.as_str(), "-p", "proc", "--", "true"]).expect_success();

    append(&vmstat);
    let anew = "if that is as it should be, run it again";
    let changed = format!("changed since `autoprof plugin lock` wrote {list}; {anew}");
    assert_eq!(user.state(&vmstat), format!("refused: {changed}"));
    let refused = user.run(&["run", "-p", "vmstat", "--", "true"]);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains(&format!("{vmstat} was refused: {changed}\n  hint: ")), "{refused}");
    let profilers = user.run(&["profilers"]).expect_success().stdout;
    assert!(profilers.contains("\nproc ") && !profilers.contains("\nvmstat "), "{profilers}");

    let locked = user.run(&["plugin", "lock"]).expect_success().stdout;
    assert!(locked.ends_with("  changed  autoprof-profiler-vmstat  libautoprof_profiler_vmstat.so\n"), "{locked}");
    assert_eq!(user.state(&vmstat), "usable, locked");

    // Of two lists, the one that is named counts; `plugin lock` writes that as well.
    let own = user.scratch.path("own.lock");
    std::fs::remove_file(&vmstat).unwrap();
    user.run(&["plugin", "lock", "--output", own.as_str()]).expect_success();
    std::fs::copy(&proc, &vmstat).unwrap();
    append(&vmstat);
    std::fs::remove_file(&proc).unwrap();
    let listed = user.run(&["--plugins-lock", own.as_str(), "plugin", "list"]).expect_success().stdout;
    assert!(listed.contains(&format!("changed since `autoprof plugin lock` wrote {own}")), "{listed}");
}

#[test]
fn a_list_that_cannot_be_used_stops_everything() {
    let user = User::new();
    user.run(&["plugin", "lock"]).expect_success();
    std::fs::set_permissions(user.list(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    for args in [&["profilers"][..], &["plugin", "list"], &["run", "--", "true"]] {
        let refused = user.run(args);
        assert_eq!(refused.code(), 2, "{refused}");
        let list = user.list();
        let said = format!(
            "autoprof: {list} says what plugins may be loaded, but {list} can be written by everyone (mode 666); change its owner or mode\n"
        );
        assert_eq!(refused.stderr, said);
    }
    let absent = user.scratch.path("absent.lock");
    let mut command = autoprof(&["profilers"]);
    let refused = lab::run(command.env("AUTOPROF_PLUGINS_LOCK", &absent), LONG);
    assert_eq!(refused.code(), 2, "{refused}");
    assert_eq!(
        refused.stderr,
        format!(
            "autoprof: cannot read {absent}, which says what plugins may be loaded: No such file or directory (os error 2)\n  hint: `autoprof plugin lock` writes it; or name another with --plugins-lock\n"
        )
    );
}
