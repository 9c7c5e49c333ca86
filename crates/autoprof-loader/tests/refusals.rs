//! Every file that cannot be a plugin, and the one line that says why.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    process,
};

use autoprof_core::Registry;
use autoprof_loader::{Plugins, Scan, Trust, load_into, read_note, scan};
use camino::{Utf8Path, Utf8PathBuf};
use proptest::{prelude::*, test_runner::TestRunner};
use support::candidate;
use tempfile::TempDir;

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> Utf8PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn scan(&self) -> Scan {
        scan(&[self.path().to_owned()], Trust::Owned)
    }

    /// The one line for the one file that is here.
    fn refusal(&self) -> String {
        let scan = self.scan();
        assert!(scan.found.is_empty(), "{:?}", scan.found);
        let [rejected] = scan.rejected.as_slice() else { panic!("{:?}", scan.rejected) };
        rejected.error.to_string()
    }
}

fn refusal_of(content: &[u8]) -> String {
    let dir = Dir::new();
    dir.file("x.so", content);
    dir.refusal()
}

fn vmstat() -> Vec<u8> {
    fs::read(candidate("autoprof-profiler-vmstat").path).unwrap()
}

/// A plugin in which a part of its note is replaced.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut library = vmstat();
    let note = library.windows(5).position(|w| w == b"name\x1f").unwrap();
    let at = note + library[note..].windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    library[at..at + to.len()].copy_from_slice(to.as_bytes());
    library
}

#[test]
fn what_is_no_library_is_refused() {
    assert_eq!(refusal_of(b""), "not a shared library: the file is empty");
    assert_eq!(refusal_of(b"garbage\nof more lines"), "not a shared library: it begins with \"garbage\\nof m\"");
    assert_eq!(refusal_of(b"\x7fELF\x02"), "not a shared library: the file is cut short");
    let library = vmstat();
    assert_eq!(refusal_of(&library[..library.len() / 2]), "not a shared library: the file is cut short");
    let dir = Dir::new();
    fs::create_dir(dir.path().join("dir.so")).unwrap();
    assert_eq!(dir.refusal(), "not a shared library: it is not a regular file");
    let dir = Dir::new();
    assert!(process::Command::new("mkfifo").arg(dir.path().join("fifo.so")).status().unwrap().success());
    assert_eq!(dir.refusal(), "not a shared library: it is not a regular file");
    let dir = Dir::new();
    std::os::unix::fs::symlink("/nonexistent", dir.path().join("link.so")).unwrap();
    assert_eq!(dir.refusal(), "cannot be read: No such file or directory (os error 2)");
}

#[test]
fn what_is_for_others_is_refused() {
    let mut other = vmstat();
    let (found, machine) = if cfg!(target_arch = "x86_64") { ("aarch64", 183) } else { ("x86_64", 62) };
    other[18] = machine;
    let wanted = std::env::consts::ARCH;
    assert_eq!(refusal_of(&other), format!("built for another machine: {found}, this one is {wanted}"));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
    let libc = fs::read(libc.unwrap()).unwrap();
    assert_eq!(refusal_of(&libc), "a shared library, but not an autoprof plugin");
    assert_eq!(
        refusal_of(&patched("interface\u{1f}1.", "interface\u{1f}2.")),
        "built for plugin interface 2.0.0, this autoprof has 1.0.0: rebuild it with this autoprof's autoprof-plugin"
    );
    assert_eq!(
        refusal_of(&patched("panic\u{1f}unwind", "panic\u{1f}abort ")),
        "built with panic = \"abort\", so that a panic in it would end autoprof: rebuild it with panic = \"unwind\""
    );
    assert_eq!(
        refusal_of(&patched("name\u{1f}", "nams\u{1f}")),
        "its description of itself is damaged: it has no name"
    );
}

#[test]
fn what_somebody_else_could_have_written_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.so", &vmstat());
    let end = "; change its owner or mode, or allow untrusted plugins";
    let mode = |path: &Utf8Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&file, 0o646);
    assert_eq!(dir.refusal(), format!("not trusted: {file} can be written by everyone (mode 646){end}"));
    mode(&file, 0o644);
    mode(dir.path(), 0o777);
    assert_eq!(dir.refusal(), format!("not trusted: {} can be written by everyone (mode 777){end}", dir.path()));
    assert_eq!(scan(&[dir.path().to_owned()], Trust::Any).found.len(), 1);
    mode(dir.path(), 0o755);
    assert_eq!(dir.scan().found.len(), 1);
    // Only root can give a file away.
    if std::os::unix::fs::chown(&file, Some(12345), None).is_ok() {
        let why = "belongs to uid 12345, who is neither you nor root";
        assert_eq!(dir.refusal(), format!("not trusted: {file} {why}{end}"));
    }
}

#[test]
fn names_are_clear() {
    let dir = Dir::new();
    let first = dir.file("a.so", &vmstat());
    dir.file("b.so", &vmstat());
    fs::write(dir.0.path().join(OsStr::from_bytes(b"\xff.so")), "x").unwrap();
    fs::write(dir.path().join("notes.txt"), "not looked at").unwrap();
    let found = dir.scan();
    let lines: Vec<String> = found.rejected.iter().map(|r| r.error.to_string()).collect();
    let twice = format!("plugin autoprof-profiler-vmstat is in this directory twice: the other file is {first}");
    assert_eq!((found.found.len(), lines.len()), (1, 2));
    assert!(lines.contains(&twice), "{lines:?}");
    assert!(lines.contains(&"its file name is not UTF-8: rename it".to_owned()), "{lines:?}");

    let later = Dir::new();
    later.file("c.so", &vmstat());
    std::os::unix::fs::symlink(&first, later.path().join("link.so")).unwrap();
    let dirs = [dir.path().to_owned(), later.path().to_owned(), "/nonexistent".into()];
    let both = scan(&dirs, Trust::Owned);
    assert_eq!(both.found.len(), 2);
    assert_eq!(both.found[1].shadowed_by.as_ref(), Some(&first));
    assert_eq!(Plugins::scan_only(&dirs, Trust::Owned).profilers().count(), 1);
}

#[test]
fn what_fails_at_its_load_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.so", &patched("-vmstat\n", "-vmstax\n"));
    let found = dir.scan().found;
    let error = load_into(&found[0], &mut Registry::default()).unwrap_err().to_string();
    let symbol = "autoprof_plugin_root_autoprof-profiler-vmstax";
    assert_eq!(error, format!("the system cannot load it: {file}: undefined symbol: {symbol}"));
    // A new file: the old one stays mapped, and writing into it would crash this process.
    fs::remove_file(&file).unwrap();
    fs::write(&file, vmstat()).unwrap();
    let error = load_into(&found[0], &mut Registry::default()).unwrap_err().to_string();
    assert_eq!(error, "it changed after it was looked at: try again");
    let refused = Dir::new();
    let path = refused.file("libautoprof_transport_ssh.so", b"");
    let plugins = Plugins::scan_only(&[refused.path().to_owned()], Trust::Owned);
    let error = plugins.load(["transport:ssh"], &mut Registry::default()).unwrap_err().to_string();
    let why = format!("{path} was refused: not a shared library: the file is empty");
    assert_eq!(error, format!("unknown transport \"ssh\": there is none at all; {why}"));
}

#[test]
fn no_damage_panics_the_reader() {
    // The beginning of a library: headers, notes and a little more; the checks for its end are what it is cut for.
    let library = vmstat();
    let start = &library[..4096.min(library.len())];
    let dir = Dir::new();
    let path = dir.path().join("x.so");
    let mut runner = TestRunner::new(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() });
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let law = (damage, any::<prop::sample::Index>(), 0u8..4);
    runner
        .run(&law, |(damage, cut, whole)| {
            let mut bytes = start.to_vec();
            // Most of the damage is done to the headers, where it matters.
            damage.iter().for_each(|(at, byte)| bytes[at.index(if whole < 3 { 900 } else { 4096 })] = *byte);
            if whole == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            fs::write(&path, &bytes).unwrap();
            let _ = read_note(&path);
            Ok(())
        })
        .unwrap();
}
