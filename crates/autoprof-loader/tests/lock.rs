//! `plugins.lock`: only what was written down is loaded, and what is written down runs nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use autoprof_core::{Args, Registry, protocol::HostFacts};
use autoprof_loader::{Lock, LockChange, Plugins, Policy, Trust};
use camino::{Utf8Path, Utf8PathBuf};
use support::candidate;
use tempfile::TempDir;

/// A directory of plugins and a list of them.
struct Locked {
    dir: TempDir,
}

impl Locked {
    fn new(plugins: &[&str]) -> Self {
        let new = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(new.plugins()).unwrap();
        plugins.iter().for_each(|name| new.add(name));
        new.lock().write().unwrap();
        new
    }

    fn plugins(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.dir.path()).unwrap().join("plugins")
    }

    /// A plugin's file.
    fn file(&self, name: &str) -> Utf8PathBuf {
        self.plugins().join(candidate(&format!("autoprof-profiler-{name}")).path.file_name().unwrap())
    }

    fn add(&self, name: &str) {
        fs::copy(candidate(&format!("autoprof-profiler-{name}")).path, self.file(name)).unwrap();
    }

    fn list(&self) -> Utf8PathBuf {
        self.plugins().with_file_name("plugins.lock")
    }

    /// A list of what is there now.
    fn lock(&self) -> Lock {
        Lock::of(&Plugins::scan_only(&[self.plugins()], Trust::Owned), &self.list()).unwrap()
    }

    /// What may be loaded by the list that is written.
    fn scan(&self) -> Plugins {
        let lock = Lock::read(&self.list()).unwrap();
        Plugins::scan_only(&[self.plugins()], Policy::new(Trust::Owned, Some(lock)))
    }

    fn usable(&self) -> Vec<String> {
        self.scan().usable().map(|candidate| candidate.note.name.clone()).collect()
    }

    fn refusals(&self) -> Vec<String> {
        self.scan().rejected().iter().map(|rejected| rejected.error.to_string()).collect()
    }

    /// Why the list cannot be used.
    fn unusable(&self) -> String {
        Lock::read(&self.list()).unwrap_err().to_string()
    }
}

fn mode(path: &Utf8Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn maps() -> String {
    fs::read_to_string("/proc/self/maps").unwrap()
}

#[test]
fn a_list_is_sorted_readable_and_made_without_running_anything() {
    let locked = Locked::new(&["vmstat", "command"]);
    let text = fs::read_to_string(locked.list()).unwrap();
    let digest = |name: &str| blake3::hash(&fs::read(locked.file(name)).unwrap()).to_hex().to_string();
    let entry = |name: &str| {
        let file = locked.file(name);
        format!(
            "    {{\n      \"name\": \"autoprof-profiler-{name}\",\n      \"file\": \"{}\",\n      \"blake3\": \"{}\"\n    }}",
            file.file_name().unwrap(),
            digest(name)
        )
    };
    let expected =
        format!("{{\n  \"version\": 1,\n  \"plugins\": [\n{},\n{}\n  ]\n}}\n", entry("command"), entry("vmstat"));
    assert_eq!(text, expected);
    assert_eq!(fs::metadata(locked.list()).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(locked.usable(), ["autoprof-profiler-command", "autoprof-profiler-vmstat"]);
    assert!(locked.scan().usable().all(autoprof_loader::Candidate::is_locked));
    assert!(!maps().contains(locked.plugins().as_str()), "{}", maps());
}

#[test]
fn what_was_not_written_down_is_refused() {
    let locked = Locked::new(&["vmstat", "command"]);
    let list = locked.list();
    locked.add("proc");
    let mut changed = fs::read(locked.file("vmstat")).unwrap();
    changed.push(0);
    fs::write(locked.file("vmstat"), changed).unwrap();
    assert_eq!(locked.usable(), ["autoprof-profiler-command"]);
    assert_eq!(
        locked.refusals(),
        [
            format!("not in {list}; if you trust it, run `autoprof plugin lock` again"),
            format!("changed since `autoprof plugin lock` wrote {list}; if that is as it should be, run it again"),
        ]
    );
    let error = locked.scan().load(["profiler:vmstat"], &mut Registry::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("{} was refused: changed since", locked.file("vmstat"))), "{error}");
    let (before, after) = (Lock::read(&list).unwrap(), locked.lock());
    let changes: Vec<String> = after
        .changes_since(&before)
        .into_iter()
        .map(|change| match change {
            LockChange::Added(plugin) => format!("added {}", plugin.name),
            LockChange::Changed(plugin) => format!("changed {}", plugin.name),
            LockChange::Removed(plugin) => format!("removed {}", plugin.name),
        })
        .collect();
    assert_eq!(changes, ["added autoprof-profiler-proc", "changed autoprof-profiler-vmstat"]);
    after.write().unwrap();
    assert_eq!((locked.usable().len(), locked.refusals().len()), (3, 0));
    fs::remove_file(locked.file("proc")).unwrap();
    assert!(
        matches!(locked.lock().changes_since(&after).as_slice(), [LockChange::Removed(gone)] if gone.name.ends_with("-proc"))
    );
}

#[test]
fn what_is_loaded_is_a_copy_that_nobody_can_change_any_more() {
    let locked = Locked::new(&["perf"]);
    let plugins = locked.scan();
    let mut registry = Registry::default();
    plugins.load(["profiler:perf"], &mut registry).unwrap();
    // All of it, in place: what was mapped from this file would crash at its next use.
    let length = fs::metadata(locked.file("perf")).unwrap().len();
    fs::write(locked.file("perf"), vec![0; usize::try_from(length).unwrap()]).unwrap();
    let perf = registry.encoder("perf").unwrap();
    let args = Args::new().complete(perf.profiler()).unwrap();
    assert!(perf.encode(&args, &HostFacts::default()).is_err(), "perf is not on that host");
    let maps = maps();
    assert!(maps.contains("/memfd:autoprof-profiler-perf"), "{maps}");
    assert!(!maps.contains(locked.file("perf").as_str()), "{maps}");
}

#[test]
fn what_changes_after_the_list_was_asked_is_not_loaded() {
    let swapped = |swap: fn(&Utf8Path)| {
        let locked = Locked::new(&["vmstat"]);
        let plugins = locked.scan();
        swap(&locked.file("vmstat"));
        plugins.load(["profiler:vmstat"], &mut Registry::default()).unwrap_err().to_string()
    };
    let renamed = swapped(|file| {
        let new = file.with_file_name("new");
        fs::write(&new, fs::read(file).unwrap()).unwrap();
        fs::rename(new, file).unwrap();
    });
    assert!(renamed.ends_with("it changed after it was looked at: try again"), "{renamed}");
    // With its time put back, so that only the content tells.
    let rewritten = swapped(|file| {
        let times = fs::metadata(file).unwrap();
        let mut content = fs::read(file).unwrap();
        *content.last_mut().unwrap() ^= 1;
        fs::write(file, content).unwrap();
        let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
        fs::File::options().write(true).open(file).unwrap().set_times(times).unwrap();
    });
    assert!(rewritten.ends_with("it changed after it was looked at: try again"), "{rewritten}");
}

#[test]
fn a_list_that_others_can_write_is_refused() {
    let locked = Locked::new(&["command"]);
    let list = locked.list();
    mode(&list, 0o666);
    let why = format!(
        "{list} says what plugins may be loaded, but {list} can be written by everyone (mode 666); change its owner or mode"
    );
    assert_eq!(locked.unusable(), why);
    mode(&list, 0o644);
    let dir = list.parent().unwrap();
    mode(dir, 0o777);
    assert!(locked.unusable().contains(&format!("but {dir} can be written by everyone (mode 777)")));
    assert!(locked.lock().write().unwrap_err().to_string().contains("can be written by everyone"));
    mode(dir, 0o700);
    if std::os::unix::fs::chown(&list, Some(12345), None).is_ok() {
        assert!(locked.unusable().contains("belongs to uid 12345, who is neither you nor root"));
    }
}

#[test]
fn a_list_that_is_none_is_named() {
    let locked = Locked::new(&["command"]);
    let list = locked.list();
    let unusable = |text: &str| {
        fs::write(&list, text).unwrap();
        locked.unusable()
    };
    let anew = "`autoprof plugin lock` writes it anew";
    assert_eq!(
        unusable("{\"version\": 2, \"tomorrow\": 1}"),
        format!("{list} has version 2, this autoprof reads version 1; {anew}")
    );
    for text in [
        "",
        "{}",
        "{\"version\": 1}",
        "{\"version\": 1, \"plugins\": [], \"more\": 1}",
        "{\"version\": 1, \"plugins\": [{\"name\": \"x\", \"file\": \"x.so\", \"blake3\": \"00\"}]}",
    ] {
        let said = unusable(text);
        assert!(said.starts_with(&format!("{list} does not list plugins: ")) && said.ends_with(anew), "{text}: {said}");
    }
    let is_long = unusable(&format!("{{\"version\": 1, \"plugins\": []}}{}", " ".repeat(2 << 20)));
    assert!(is_long.contains("it is too long"), "{is_long}");
    fs::remove_file(&list).unwrap();
    let read = format!("cannot read {list}, which says what plugins may be loaded: ");
    assert_eq!(locked.unusable(), format!("{read}No such file or directory (os error 2)"));
    assert!(Lock::find(Some(&list)).is_err(), "a list that is named has to be there");
    fs::create_dir(&list).unwrap();
    assert_eq!(locked.unusable(), format!("{read}it is not a regular file"));
    fs::remove_dir(&list).unwrap();
    symlink("/nonexistent", &list).unwrap();
    assert_eq!(locked.unusable(), format!("{read}No such file or directory (os error 2)"));
}
