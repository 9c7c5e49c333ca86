//! Settings of the host that a profiler needs otherwise than they are: what was there is on record before anything is
//! changed, and is restored afterwards, by whoever comes after a client that was killed too.
//!
//! The record is a file in the client's directory: the id of the boot (a reboot restores by itself), then a line for each
//! setting with its path, the value before and the value since, parted by tabs. Clients of one parent directory take
//! turns, by a lock on it. Of several that want the same, each has the first one's value before on record, and the last
//! to end restores it.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use autoprof_protocol::{CLIENT_DIR_PREFIX, EventKind, Setting};
use rustix::fs::{FlockOperation, flock};

use crate::{attach::client_process, facts};

const RECORD: &str = "settings";
/// Where settings may be.
const PLACES: [&str; 2] = ["/proc/sys/", "/sys/kernel/tracing/"];
/// How long another client's turn is waited for: anybody may lock a directory that is open to all.
const TURN_TRIES: u32 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    path: String,
    before: String,
    since: String,
}

/// Sets what a profiler needs, the record first.
///
/// # Errors
/// When a setting is not there, cannot be written, or does not take the value; nothing of it stays then.
pub fn apply(dir: &Path, wanted: &[Setting]) -> io::Result<Vec<EventKind>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let _turn = take_turn(dir);
    let mut events = Vec::new();
    for setting in wanted {
        if !PLACES.iter().any(|place| setting.path.starts_with(place)) || setting.path.contains("..") {
            return Err(io::Error::other(format!("{} is no setting of the kernel", setting.path)));
        }
        events.extend(set(dir, setting).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", setting.path)))?);
    }
    Ok(events)
}

fn set(dir: &Path, setting: &Setting) -> io::Result<Option<EventKind>> {
    let mut changes = read(dir);
    let now = value(&setting.path)?;
    if let Some(own) = changes.iter().find(|change| change.path == setting.path) {
        if own.since != setting.value {
            return Err(io::Error::other(format!("another profiler needs it to be {}", own.since)));
        }
        fs::write(&setting.path, &setting.value)?;
        return Ok(None);
    }
    let theirs = siblings(dir).into_iter().filter(|other| is_alive(other));
    let before = theirs.flat_map(|other| read(&other)).find(|change| change.path == setting.path);
    if now == setting.value && before.is_none() {
        return Ok(None);
    }
    let before = before.map_or(now.clone(), |theirs| theirs.before);
    changes.push(Change { path: setting.path.clone(), before, since: setting.value.clone() });
    write(dir, &changes)?;
    let done = fs::write(&setting.path, &setting.value).and_then(|()| match value(&setting.path)? {
        taken if taken == setting.value => Ok(()),
        other => Err(io::Error::other(format!("it took {} as {other}", setting.value))),
    });
    if let Err(e) = done {
        changes.pop();
        let _ = fs::write(&setting.path, &now);
        write(dir, &changes)?;
        return Err(e);
    }
    Ok(Some(EventKind::SettingChanged {
        path: setting.path.clone().into(),
        from: now.into(),
        to: setting.value.clone().into(),
    }))
}

/// Restores what the client of a directory had changed; with nothing on record, nothing happens.
pub fn restore(dir: &Path) -> Vec<EventKind> {
    if !dir.join(RECORD).exists() {
        return Vec::new();
    }
    let _turn = take_turn(dir);
    let still_needed: Vec<Change> =
        siblings(dir).into_iter().filter(|other| is_alive(other)).flat_map(|other| read(&other)).collect();
    let mut events = Vec::new();
    for change in read(dir).into_iter().rev() {
        let Change { path, before, since } = change;
        if still_needed.iter().any(|other| other.path == path) {
            continue;
        }
        match value(&path) {
            Ok(now) if now == since => match fs::write(&path, &before) {
                Ok(()) => {
                    events.push(EventKind::SettingChanged { path: path.into(), from: now.into(), to: before.into() })
                }
                Err(e) => crate::log(&format!("{path} could not be set to {before} again: {e}")),
            },
            Ok(now) => crate::log(&format!("{path} is {now} by now, which somebody else set: it stays")),
            Err(e) => crate::log(&format!("{path}: {e}")),
        }
    }
    let _ = fs::remove_file(dir.join(RECORD));
    events
}

/// Restores what clients beside this directory had changed that were killed before they could.
pub fn restore_for_the_dead(dir: &Path) {
    for other in siblings(dir) {
        if other.join(RECORD).exists() && !is_alive(&other) {
            for event in restore(&other) {
                crate::log(&format!("restored for {}, whose client was killed: {event:?}", other.display()));
            }
        }
    }
}

fn is_alive(dir: &Path) -> bool {
    !matches!(client_process(dir), Ok(None))
}

/// The other client directories of this user beside one.
fn siblings(dir: &Path) -> Vec<std::path::PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let me = rustix::process::geteuid().as_raw();
    let entries = dir.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(CLIENT_DIR_PREFIX))
            && entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == me)
    });
    ours.map(|entry| entry.path()).filter(|path| path != dir).collect()
}

/// The lock of the parent directory, for as long as it is held; none after a while without.
fn take_turn(dir: &Path) -> Option<File> {
    let parent = File::open(dir.parent()?).ok()?;
    for _ in 0..TURN_TRIES {
        if flock(&parent, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(parent);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    None
}

fn value(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// What is on record and of this boot.
fn read(dir: &Path) -> Vec<Change> {
    let text = fs::read_to_string(dir.join(RECORD)).unwrap_or_default();
    let mut lines = text.lines();
    if lines.next() != Some(facts::boot_id().as_str()) {
        return Vec::new();
    }
    let change = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        Some(Change { path: parts.next()?, before: parts.next()?, since: parts.next()? })
    };
    lines.filter_map(change).collect()
}

/// Writes the record to the disk before anything is changed: a machine may lose power in the next instant.
fn write(dir: &Path, changes: &[Change]) -> io::Result<()> {
    let fresh = dir.join(format!("{RECORD}.new"));
    let mut file = File::create(&fresh)?;
    writeln!(file, "{}", facts::boot_id())?;
    for Change { path, before, since } in changes {
        writeln!(file, "{path}\t{before}\t{since}")?;
    }
    file.sync_all()?;
    fs::rename(fresh, dir.join(RECORD))
}
