//! Every file that cannot be a plugin, and the one line that says why.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
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
    symlink("/nonexistent", dir.path().join("link.so")).unwrap();
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
    symlink(&first, later.path().join("link.so")).unwrap();
    let dirs = [dir.path().to_owned(), later.path().to_owned(), "/nonexistent".into()];
    let both = scan(&dirs, Trust::Owned);
    assert_eq!(both.found.len(), 2);
    assert_eq!(both.found[1].shadowed_by.as_ref(), Some(&first));
    assert_eq!(Plugins::scan_only(&dirs, Trust::Owned).profilers().count(), 1);
}

/// Whether another user's file can be made here, which only root can.
fn give_away(path: &Utf8Path) -> bool {
    std::os::unix::fs::lchown(path, Some(12345), None).is_ok()
}

fn mode(path: &Utf8Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make_dir(path: Utf8PathBuf) -> Utf8PathBuf {
    fs::create_dir(&path).unwrap();
    mode(&path, 0o755);
    path
}

/// The one line for the one file in a directory.
fn refusal_in(dir: &Utf8Path) -> String {
    let scan = scan(&[dir.to_owned()], Trust::Owned);
    let [rejected] = scan.rejected.as_slice() else { panic!("{:?}, {:?}", scan.found, scan.rejected) };
    rejected.error.to_string()
}

#[test]
fn a_directory_below_one_that_others_can_write_is_refused_by_every_name() {
    let dir = Dir::new();
    let open = make_dir(dir.path().join("open"));
    let plugins = make_dir(open.join("plugins"));
    fs::write(plugins.join("x.so"), vmstat()).unwrap();
    mode(&open, 0o777);
    let why = format!("not trusted: {open} can be written by everyone (mode 777)");
    assert!(refusal_in(&plugins).starts_with(&why), "{}", refusal_in(&plugins));
    let link = dir.path().join("link");
    symlink("open/../open/plugins", &link).unwrap();
    assert!(refusal_in(&link).starts_with(&why), "{}", refusal_in(&link));
    // Sticky: others can add names, but neither take this one away nor give it to something else.
    mode(&open, 0o1777);
    for name in [&plugins, &link] {
        let scan = scan(std::slice::from_ref(name), Trust::Owned);
        assert_eq!(scan.found[0].path, plugins.join("x.so"));
    }
    if give_away(&plugins) {
        let why = format!("not trusted: {plugins} belongs to uid 12345, who is neither you nor root");
        assert!(refusal_in(&link).starts_with(&why), "{}", refusal_in(&link));
    }
}

#[test]
fn a_link_that_others_could_point_elsewhere_is_refused() {
    let dir = Dir::new();
    let plugins = make_dir(dir.path().join("plugins"));
    fs::write(plugins.join("x.so"), vmstat()).unwrap();
    let open = make_dir(dir.path().join("open"));
    symlink("../plugins", open.join("link")).unwrap();
    mode(&open, 0o777);
    let why = format!("not trusted: {open} can be written by everyone (mode 777)");
    assert!(refusal_in(&open.join("link")).starts_with(&why));
    mode(&open, 0o1777);
    assert_eq!(scan(&[open.join("link")], Trust::Owned).found.len(), 1);
    if give_away(&open.join("link")) {
        let why = format!("not trusted: {open}/link belongs to uid 12345");
        assert!(refusal_in(&open.join("link")).starts_with(&why), "{}", refusal_in(&open.join("link")));
    }
    let round = dir.path().join("round.so");
    symlink("round.so", &round).unwrap();
    assert!(refusal_in(dir.path()).starts_with("cannot be read: Too many levels of symbolic links"));
}

#[test]
fn a_name_that_others_could_have_given_to_a_file_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.so", &vmstat());
    fs::hard_link(&file, dir.path().join("elsewhere")).unwrap();
    assert_eq!(dir.scan().found.len(), 1);
    mode(dir.path(), 0o1777);
    let why = format!("not trusted: {file} has 2 names, and others can put names beside it");
    assert!(dir.refusal().starts_with(&why), "{}", dir.refusal());
    fs::remove_file(dir.path().join("elsewhere")).unwrap();
    assert_eq!(dir.scan().found.len(), 1);
}

#[test]
fn what_a_group_or_a_list_of_others_can_write_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.so", &vmstat());
    mode(&file, 0o664);
    let metadata = fs::metadata(&file).unwrap();
    if metadata.gid() == 0 || metadata.gid() == metadata.uid() {
        assert_eq!(dir.scan().found.len(), 1, "a group of one's own");
        // For user 12345 read and write, as `setfacl -m u:12345:rw` has it: version 2; then tag, rights and number.
        let entry = |tag: u16, rights: u16, id: u32| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let list =
            [(0x01, 6, u32::MAX), (0x02, 6, 12345), (0x04, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)];
        let list = [vec![2, 0, 0, 0], list.map(|(tag, rights, id)| entry(tag, rights, id)).concat()].concat();
        let set =
            rustix::fs::setxattr(file.as_str(), "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty());
        if set.is_ok() {
            let why = format!("not trusted: {file} can be written by others through its access list (mode 664)");
            assert!(dir.refusal().starts_with(&why), "{}", dir.refusal());
        }
    }
    if std::os::unix::fs::chown(&file, None, Some(100)).is_ok() {
        mode(&file, 0o664);
        let why = format!("not trusted: {file} can be written by group 100 (mode 664)");
        assert!(dir.refusal().starts_with(&why), "{}", dir.refusal());
    }
}

#[test]
fn what_took_the_place_of_what_was_checked_is_not_loaded() {
    let changed = |put: fn(&Utf8Path, &Utf8Path)| {
        let dir = Dir::new();
        let plugins = make_dir(dir.path().join("plugins"));
        let file = plugins.join("x.so");
        fs::write(&file, vmstat()).unwrap();
        let found = scan(std::slice::from_ref(&plugins), Trust::Owned).found;
        put(&plugins, &file);
        let error = load_into(&found[0], &mut Registry::default()).unwrap_err().to_string();
        assert_eq!(error, "it changed after it was looked at: try again");
    };
    // Another plugin, and the very same content, renamed into its place.
    changed(|dir, file| {
        fs::copy(candidate("autoprof-profiler-proc").path, dir.join("new")).unwrap();
        fs::rename(dir.join("new"), file).unwrap();
    });
    changed(|dir, file| {
        fs::write(dir.join("new"), vmstat()).unwrap();
        fs::rename(dir.join("new"), file).unwrap();
    });
    changed(|dir, file| {
        fs::write(dir.join("new"), vmstat()).unwrap();
        fs::remove_file(file).unwrap();
        symlink("new", file).unwrap();
    });
    changed(|dir, _| {
        fs::rename(dir, dir.with_file_name("old")).unwrap();
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("x.so"), vmstat()).unwrap();
    });
    // In place, of the same length and with the same note.
    changed(|_, file| {
        let before = fs::metadata(file).unwrap();
        let seen = |metadata: &fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
        let mut content = vmstat();
        *content.last_mut().unwrap() ^= 1;
        // The clock of a file system stands still for some milliseconds.
        while seen(&fs::metadata(file).unwrap()) == seen(&before) {
            fs::write(file, &content).unwrap();
        }
    });
    // Checked again, not only compared.
    let dir = Dir::new();
    let file = dir.file("x.so", &vmstat());
    let found = dir.scan().found;
    mode(&file, 0o666);
    let error = load_into(&found[0], &mut Registry::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("not trusted: {file} can be written by everyone (mode 666)")), "{error}");
}

#[test]
fn what_failed_at_its_load_does_not_come_back_in_anothers_place() {
    let dir = Dir::new();
    dir.file("a.so", &patched("-vmstat\n", "-vmstay\n"));
    fs::copy(candidate("autoprof-profiler-proc").path, dir.path().join("b.so")).unwrap();
    let found = dir.scan().found;
    let mut registry = Registry::default();
    for _ in 0..2 {
        let error = load_into(&found[0], &mut registry).unwrap_err().to_string();
        assert!(error.contains("undefined symbol: autoprof_plugin_root_autoprof-profiler-vmstay"), "{error}");
    }
    load_into(&found[1], &mut registry).unwrap();
    assert_eq!(registry.encoders().map(|(name, _)| name).collect::<Vec<_>>(), ["cat", "proc"]);
    // Loaded once, however often it is asked for.
    load_into(&found[1], &mut Registry::default()).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let starts =
        maps.lines().filter(|line| line.ends_with("/b.so") && line.split_whitespace().nth(2) == Some("00000000"));
    assert_eq!(starts.count(), 1, "{maps}");
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
