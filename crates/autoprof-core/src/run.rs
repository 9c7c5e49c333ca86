//! The run on disk: its directory, its id, its events and its manifest.
use std::{
    collections::VecDeque,
    error::Error as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read as _, Write},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::{
    atomic_file::AtomicFile,
    event::{HostEvent, RunEvent, RunEventKind},
    manifest::{HostError, Manifest, RunPhase},
    text,
    trust::{self, Trust, TrustError},
};

/// Where runs go when nothing else is said.
pub const DEFAULT_RESULTS: &str = "autoprof-runs";
/// The link to the newest run in a results directory.
pub const LATEST: &str = "latest";
const EVENTS: &str = "events.jsonl";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
/// Longest line of the events: the record of all the files that a host may send.
const MAX_LINE: u64 = 64 << 20;

/// Why a run's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is something at the path already.
    #[error("{0} exists already: a run never writes into a directory that is there")]
    Exists(Utf8PathBuf),
    /// A file or directory could not be made, read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// No run of this name.
    #[error("no run {wanted:?}: not a directory, and no id in {results} begins like this")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Where was looked.
        results: Utf8PathBuf,
    },
    /// Several runs of this name.
    #[error("{wanted:?} could be any of {}", .ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// What it could be.
        ids: Vec<String>,
    },
    /// Another process conducts it.
    #[error("{0} is being conducted by another autoprof process: interrupt that one, or wait for it")]
    Busy(Utf8PathBuf),
    /// It goes on, or waits to be reported.
    #[error("{path} is not over ({phase}): its profilers may run on hosts, and their results be there")]
    NotOver {
        /// The run's directory.
        path: Utf8PathBuf,
        /// Where it is.
        phase: &'static str,
    },
    /// Something of it is left on hosts, and only its directory knows.
    #[error("{path} has things left on hosts ({})", .left.join(", "))]
    Left {
        /// The run's directory.
        path: Utf8PathBuf,
        /// Host and directory of each.
        left: Vec<String>,
    },
    /// Somebody else could have written what is in it.
    #[error("{path} is not trusted")]
    Untrusted {
        /// The run's directory.
        path: Utf8PathBuf,
        /// What is wrong with it.
        #[source]
        source: TrustError,
    },
    /// The directory holds no run.
    #[error("{path} holds no run that can be read: {reason}")]
    NotARun {
        /// The directory.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn io_error<'a>(verb: &'static str, path: &'a Utf8Path) -> impl FnOnce(io::Error) -> RunError + 'a {
    move |source| RunError::Io { verb, path: path.to_owned(), source }
}

/// A run's id: sortable by time, with the run's name if it has one.
#[must_use]
pub fn new_id(name: Option<&str>, now: Timestamp) -> String {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    // Two runs begun in the same second by two processes still differ.
    let salt = blake3::hash(format!("{} {}", now.as_nanosecond(), std::process::id()).as_bytes()).to_hex();
    let name: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(60)
        .collect();
    match name.trim_matches(['-', '.']) {
        "" => format!("{time}-{}", &salt[..4]),
        name => format!("{time}-{name}-{}", &salt[..4]),
    }
}

/// Where a new run's directory is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory named by the id, below this one, with a link `latest`.
    Below(Utf8PathBuf),
    /// Exactly here.
    At(Utf8PathBuf),
}

/// Makes a new run's directory.
///
/// # Errors
/// When it exists, or cannot be made.
pub fn create_directory(place: &Place, id: &str) -> Result<Utf8PathBuf, RunError> {
    let (parent, directory) = match place {
        Place::Below(results) => (results.clone(), results.join(id)),
        Place::At(path) => (path.parent().unwrap_or(Utf8Path::new("")).to_owned(), path.clone()),
    };
    if !parent.as_str().is_empty() {
        fs::create_dir_all(&parent).map_err(io_error("make", &parent))?;
    }
    match fs::create_dir(&directory) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(RunError::Exists(directory)),
        other => other.map_err(io_error("make", &directory))?,
    }
    if let Place::Below(results) = place {
        link_latest(results, id);
    }
    Ok(directory)
}

/// Points `latest` to the newest run; a convenience, so that failing to is no failure of the run.
fn link_latest(results: &Utf8Path, id: &str) {
    let fresh = results.join(format!(".{LATEST}-{id}"));
    let made = std::os::unix::fs::symlink(id, &fresh).and_then(|()| fs::rename(&fresh, results.join(LATEST)));
    if let Err(e) = made {
        tracing::debug!(%results, "no link to the latest run: {e}");
        let _ = fs::remove_file(fresh);
    }
}

/// Checks a run's directory before something is done that it asks for: that nothing in it leads out of it, and that only the
/// user and root could have written it, unless everybody is trusted.
///
/// # Errors
/// [`RunError::Untrusted`] with what is wrong.
pub fn check(directory: &Utf8Path, trust: Trust) -> Result<(), RunError> {
    trust::check_run(directory, trust).map_err(|source| match source {
        TrustError::Io(e) => io_error("read", directory)(e),
        source => RunError::Untrusted { path: directory.to_owned(), source },
    })
}

/// Opens a file of a run: no link, no FIFO, no device.
pub(crate) fn open_file(path: &Utf8Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Takes a line of at most [`MAX_LINE`] bytes, without its end; false at the end of the file.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let taken = reader.take(MAX_LINE + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if taken as u64 > MAX_LINE {
        return Err(io::Error::other(format!("it has a line of more than {} MiB", MAX_LINE >> 20)));
    }
    Ok(taken > 0)
}

/// An event of a line, in whose texts nothing acts on a terminal.
fn event_of(line: &[u8]) -> serde_json::Result<RunEvent> {
    // Texts of ASCII without escapes are most.
    if line.is_ascii() && !line.windows(2).any(|two| two == b"\\u") {
        return serde_json::from_slice(line);
    }
    let mut value: serde_json::Value = serde_json::from_slice(line)?;
    text::sanitize(&mut value);
    serde_json::from_value(value)
}

/// Finds a run by its directory, its id, or a unique beginning of its id.
///
/// # Errors
/// When there is none, or several.
pub fn find(wanted: &str, results: &Utf8Path) -> Result<Utf8PathBuf, RunError> {
    let path = Utf8Path::new(wanted);
    if path.join(EVENTS).is_file() {
        return Ok(path.to_owned());
    }
    if !wanted.is_empty() && results.join(wanted).join(EVENTS).is_file() {
        return Ok(results.join(wanted));
    }
    let beginning = |id: &String| !wanted.is_empty() && id.starts_with(wanted);
    let mut ids: Vec<String> = list(results).into_iter().filter(beginning).collect();
    match ids.len() {
        1 => Ok(results.join(ids.remove(0))),
        0 => Err(RunError::NotFound { wanted: wanted.to_owned(), results: results.to_owned() }),
        _ => Err(RunError::Ambiguous { wanted: wanted.to_owned(), ids }),
    }
}

/// The ids of all runs below a results directory, oldest first.
#[must_use]
pub fn list(results: &Utf8Path) -> Vec<String> {
    let Ok(entries) = results.read_dir_utf8() else { return Vec::new() };
    let runs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && e.path().join(EVENTS).is_file());
    let mut ids: Vec<String> = runs.map(|e| e.file_name().to_owned()).collect();
    ids.sort();
    ids
}

/// Which runs are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Those of which nothing is left on a host.
    WhenOver,
    /// Any that nobody conducts at the moment.
    Forced,
}

/// Removes a run's directory, and gives its real path.
///
/// # Errors
/// When it is no run's, somebody conducts it, something of it is left on hosts, or it cannot be removed.
pub fn remove(directory: &Utf8Path, how: Removal) -> Result<Utf8PathBuf, RunError> {
    // The link `latest` names a run; the run is what is removed.
    let directory = &directory.canonicalize_utf8().map_err(io_error("read", directory))?;
    let recorder = Recorder::resume(directory.clone(), Vec::new())?;
    let phase = recorder.with_manifest(|m| m.phase);
    if phase != RunPhase::Finished && how == Removal::WhenOver {
        return Err(RunError::NotOver { path: directory.clone(), phase: phase.word() });
    }
    let left = recorder.with_manifest(|m| {
        let on_host = |(name, host): (&String, &crate::manifest::HostRecord)| {
            let client = host.client.as_ref().filter(|c| c.present)?;
            Some(format!("{name}: {}", client.directory))
        };
        m.hosts.iter().filter_map(on_host).collect::<Vec<_>>()
    });
    if !left.is_empty() && how == Removal::WhenOver {
        return Err(RunError::Left { path: directory.clone(), left });
    }
    fs::remove_dir_all(directory).map_err(io_error("remove", directory))?;
    if let Some(results) = directory.parent() {
        let latest = results.join(LATEST);
        if fs::read_link(&latest).is_ok_and(|to| Some(to.as_os_str()) == directory.file_name().map(AsRef::as_ref)) {
            let _ = fs::remove_file(latest);
        }
    }
    Ok(directory.clone())
}

/// Reads a run's manifest from its events, whatever its process is doing; a torn last line is left out.
///
/// # Errors
/// When the directory holds no run.
pub fn read(directory: &Utf8Path) -> Result<Manifest, RunError> {
    let path = directory.join(EVENTS);
    let file = open_file(&path, OpenOptions::new().read(true)).map_err(io_error("read", &path))?;
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let mut manifest: Option<Manifest> = None;
    let mut unreadable = 0;
    while next_line(&mut reader, &mut line).map_err(io_error("read", &path))? {
        let Ok(event) = event_of(&line) else {
            // A torn last line is what a process leaves that is killed; each that follows began after one.
            unreadable += usize::from(!line.is_empty());
            continue;
        };
        match &mut manifest {
            Some(manifest) => manifest.apply(&event),
            none => *none = Manifest::begin(&event),
        }
    }
    if unreadable > 0 {
        tracing::warn!("{unreadable} lines of {path} cannot be read, and what they said is not known");
    }
    let not_a_run = |reason| RunError::NotARun { path: directory.to_owned(), reason };
    let manifest = manifest.ok_or_else(|| not_a_run(format!("{EVENTS} does not begin with a run's creation")))?;
    manifest.check().map_err(not_a_run)?;
    Ok(manifest)
}

/// Hears of every event of a run, after it was recorded.
pub trait Observer: Send + Sync {
    /// Takes one event, and the manifest as it is after it. Called on the run's own task: it must not block.
    fn event(&self, event: &RunEvent, manifest: &Manifest);
}

/// Records what happens in a run: to its file, into its manifest, to its observers.
pub struct Recorder {
    directory: Utf8PathBuf,
    state: Mutex<State>,
    observers: Vec<Arc<dyn Observer>>,
    _lock: File,
}

struct State {
    events: File,
    manifest: Manifest,
    /// Lines that could not be written yet (the disk is full), in order, and why.
    waiting: VecDeque<String>,
    problem: Option<String>,
    /// What will never be written: a run whose record has a hole must not look whole.
    hole: Option<String>,
}

/// Most lines that are kept in memory while the disk takes none.
const MOST_WAITING: usize = 100_000;

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins the record of a new run in its directory.
    ///
    /// # Errors
    /// When the files cannot be made, or `created` is not an event that creates a run.
    pub fn create(
        directory: Utf8PathBuf,
        created: RunEventKind,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Self, RunError> {
        let event = RunEvent { at: Timestamp::now(), kind: created };
        let manifest = Manifest::begin(&event).ok_or_else(|| RunError::NotARun {
            path: directory.clone(),
            reason: "the first event creates no run".into(),
        })?;
        let recorder = Self::with(directory, manifest, observers)?;
        recorder.append(&mut recorder.lock(), &event);
        recorder.checkpoint()?;
        Ok(recorder)
    }

    /// Goes on with the record of a run that another process began.
    ///
    /// # Errors
    /// When the directory holds no run, or another process conducts it.
    pub fn resume(directory: Utf8PathBuf, observers: Vec<Arc<dyn Observer>>) -> Result<Self, RunError> {
        let manifest = read(&directory)?;
        let recorder = Self::with(directory, manifest, observers)?;
        // Somebody may have gone on with it between the reading and the locking.
        recorder.lock().manifest = read(&recorder.directory)?;
        Ok(recorder)
    }

    fn with(directory: Utf8PathBuf, manifest: Manifest, observers: Vec<Arc<dyn Observer>>) -> Result<Self, RunError> {
        let lock_path = directory.join(LOCK);
        let lock = open_file(&lock_path, OpenOptions::new().write(true).create(true).truncate(false));
        let lock = lock.map_err(io_error("make", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::Busy(directory)),
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &lock_path)(e)),
        }
        let path = directory.join(EVENTS);
        let events = open_file(&path, OpenOptions::new().read(true).append(true).create(true));
        let mut events = events.map_err(io_error("write", &path))?;
        end_torn_line(&mut events).map_err(io_error("write", &path))?;
        let state = Mutex::new(State { events, manifest, waiting: VecDeque::new(), problem: None, hole: None });
        Ok(Self { directory, state, observers, _lock: lock })
    }

    /// The run's directory.
    #[must_use]
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// The directory that takes one host's results.
    #[must_use]
    pub fn host_directory(&self, host: &str) -> Utf8PathBuf {
        self.directory.join("hosts").join(host)
    }

    /// The manifest as it is now.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        self.lock().manifest.clone()
    }

    /// Looks at the manifest without copying it.
    pub fn with_manifest<T>(&self, look: impl FnOnce(&Manifest) -> T) -> T {
        look(&self.lock().manifest)
    }

    /// Changes what is known without a record: how hosts are reached from another machine is not part of the run.
    pub(crate) fn with_manifest_mut(&self, change: impl FnOnce(&mut Manifest)) {
        change(&mut self.lock().manifest);
    }

    /// Records that something happened.
    pub fn record(&self, kind: RunEventKind) {
        let event = RunEvent { at: Timestamp::now(), kind };
        let mut state = self.lock();
        self.append(&mut state, &event);
        state.manifest.apply(&event);
        self.observers.iter().for_each(|observer| observer.event(&event, &state.manifest));
    }

    /// Takes note of something that is not worth a line: a sign of life.
    pub fn notice(&self, kind: RunEventKind) {
        let event = RunEvent { at: Timestamp::now(), kind };
        let mut state = self.lock();
        state.manifest.apply(&event);
        self.observers.iter().for_each(|observer| observer.event(&event, &state.manifest));
    }

    /// Records that something happened with a host.
    pub fn host(&self, host: &str, event: HostEvent) {
        self.record(RunEventKind::Host { host: host.to_owned(), event });
    }

    /// Records that a step failed on a host.
    pub fn failed(&self, host: &str, error: HostError) {
        self.host(host, HostEvent::Failed { error });
    }

    /// Records that the run came into its next phase, and writes the manifest.
    ///
    /// A disk that is full must not keep profilers from being stopped and hosts from being cleaned: what could not be
    /// written is tried again, and is an error only at the end ([`Self::checkpoint`]).
    pub fn phase(&self, phase: RunPhase) {
        self.record(RunEventKind::Phase { phase });
        if let Err(e) = self.checkpoint() {
            tracing::warn!("{e}: {}", e.source().map(ToString::to_string).unwrap_or_default());
        }
    }

    /// Writes the manifest as it is now: whole, or not at all.
    ///
    /// # Errors
    /// When it, or any event before, could not be written.
    pub fn checkpoint(&self) -> Result<(), RunError> {
        let mut state = self.lock();
        flush(&mut state, &self.directory);
        if let Some(problem) = state.hole.as_ref().or(state.problem.as_ref()) {
            let source = io::Error::other(problem.clone());
            return Err(RunError::Io { verb: "write", path: self.directory.join(EVENTS), source });
        }
        let path = self.directory.join(MANIFEST);
        let write = || -> io::Result<()> {
            let mut file = AtomicFile::create(&path)?;
            serde_json::to_writer_pretty(&mut file, &state.manifest)?;
            file.write_all(b"\n")?;
            file.finish()
        };
        write().map_err(io_error("write", &path))
    }

    fn append(&self, state: &mut State, event: &RunEvent) {
        match serde_json::to_string(event) {
            Ok(line) if state.waiting.len() < MOST_WAITING => state.waiting.push_back(line + "\n"),
            Ok(_) => state.hole = Some("the disk took no events for too long, and some are lost".to_owned()),
            Err(e) => state.hole = Some(e.to_string()),
        }
        flush(state, &self.directory);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the lines that wait, each whole or not at all: half of one, on a disk that is full, would spoil the next.
fn flush(state: &mut State, directory: &Utf8Path) {
    while let Some(line) = state.waiting.front() {
        let before = state.events.metadata().map(|m| m.len());
        let written = before.and_then(|before| {
            state.events.write_all(line.as_bytes()).inspect_err(|_| drop(state.events.set_len(before)))
        });
        if let Err(e) = written {
            if state.problem.is_none() {
                tracing::error!("cannot record events in {directory}: {e}; it is tried again with each that follows");
            }
            state.problem = Some(e.to_string());
            return;
        }
        state.waiting.pop_front();
        if state.waiting.is_empty() && state.problem.take().is_some() {
            tracing::info!("the events in {directory} are complete again");
        }
    }
}

/// A process that was killed may have left half a line: the next event must not be written behind it.
fn end_torn_line(events: &mut File) -> io::Result<()> {
    let length = events.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    events.read_exact_at(&mut last, length - 1)?;
    if last == *b"\n" { Ok(()) } else { events.write_all(b"\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::Host,
        job::{Require, Timeouts},
        manifest::RunSettings,
    };

    fn created(id: &str) -> RunEventKind {
        RunEventKind::Created {
            id: id.into(),
            autoprof: "0".into(),
            controller: "c".into(),
            require: Require::All,
            test: None,
            hosts: vec![Host::local()],
            settings: Box::new(RunSettings {
                signaler: "marker".into(),
                tmpdir: "/tmp/profilers".into(),
                keep: false,
                keep_client: false,
                forks: 1,
                lease_ms: None,
                max_duration_ms: 1,
                timeouts: Timeouts::default(),
                disk: Default::default(),
                checkpoint_ms: None,
                several_windows: false,
                sudo: Default::default(),
            }),
        }
    }

    fn results() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn ids_sort_by_time_and_carry_the_name() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let (a, b) = (new_id(None, at("2026-01-02T03:04:05Z")), new_id(Some("my run/1"), at("2026-01-02T03:04:06Z")));
        assert!(a.starts_with("20260102T030405Z-") && a < b, "{a} {b}");
        assert!(b.contains("-my-run-1-"), "{b}");
    }

    #[test]
    fn a_directory_that_exists_is_refused() {
        let (_keep, results) = results();
        let place = Place::At(results.join("run"));
        create_directory(&place, "id").unwrap();
        assert!(matches!(create_directory(&place, "id"), Err(RunError::Exists(_))));
    }

    #[test]
    fn a_run_is_found_by_a_unique_beginning_and_by_latest() {
        let (_keep, results) = results();
        for id in ["20260101T000000Z-aaaa", "20260102T000000Z-bbbb"] {
            let dir = create_directory(&Place::Below(results.clone()), id).unwrap();
            Recorder::create(dir, created(id), Vec::new()).unwrap();
        }
        assert_eq!(find("20260101", &results).unwrap(), results.join("20260101T000000Z-aaaa"));
        assert!(matches!(find("2026", &results), Err(RunError::Ambiguous { ids, .. }) if ids.len() == 2));
        assert!(matches!(find("x", &results), Err(RunError::NotFound { .. })));
        assert_eq!(read(&find(LATEST, &results).unwrap()).unwrap().id, "20260102T000000Z-bbbb");
    }

    #[test]
    fn the_manifest_is_a_fold_over_the_events_and_a_torn_line_is_dropped() {
        let (_keep, results) = results();
        let dir = create_directory(&Place::Below(results), "r").unwrap();
        let recorder = Recorder::create(dir.clone(), created("r"), Vec::new()).unwrap();
        recorder.host("local", HostEvent::Connecting);
        recorder.phase(RunPhase::Running);
        let now = serde_json::to_value(recorder.manifest()).unwrap();
        assert!(matches!(Recorder::resume(dir.clone(), Vec::new()), Err(RunError::Busy(_))));
        drop(recorder);
        OpenOptions::new().append(true).open(dir.join(EVENTS)).unwrap().write_all(b"{\"at\":\"20").unwrap();
        assert_eq!(serde_json::to_value(read(&dir).unwrap()).unwrap(), now);
        let written: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(dir.join(MANIFEST)).unwrap()).unwrap();
        assert_eq!(written, now);
        let resumed = Recorder::resume(dir.clone(), Vec::new()).unwrap();
        resumed.host("local", HostEvent::Connecting);
        assert_eq!(
            serde_json::to_value(read(&dir).unwrap()).unwrap(),
            serde_json::to_value(resumed.manifest()).unwrap()
        );
    }
}
