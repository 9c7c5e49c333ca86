//! Bringing a host's results back: one checked stream, unpacked safely, that goes on where an earlier one ended.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::Instant,
};

use autoprof_protocol::{
    DiskLimits,
    archive::{ArchiveError, DecodeLimits, Decoder, Have, MAX_FILES, MAX_PATH_BYTES},
};
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc};

use crate::{
    blocks::Blocks,
    duration::Span,
    error::TransportError,
    install,
    manifest::FileRecord,
    text,
    transport::{Command, ExitStatus, OutputChunk, Process, ProcessInput, Session},
    unpack::Unpacker,
};

/// How many bytes have to come every second, on average over [`How::stall`]; also how many verified bytes each second
/// of tries over a line that breaks again and again has to bring.
pub const LEAST_RATE: u64 = 1024;
/// How much goes to the disk at once, where so much is there: less often than the network brings it.
const BATCH: usize = 256 << 10;
/// How many batches may wait for the disk.
const BATCHES_AHEAD: usize = 8;
/// How much of the packer's standard error is kept.
const STDERR_LIMIT: usize = 64 * 1024;
/// Later windows of a run lie in directories of this name beside the first one's profilers.
const WINDOW_PREFIX: &str = "window-";

/// Why results are not, or not all, here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The connection failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The stream is not what a client sends.
    #[error("the host's archive cannot be trusted: {0}")]
    Archive(#[from] ArchiveError),
    /// A file could not be read or written here.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The packer on the host failed.
    #[error("packing on the host failed ({status}): {said}")]
    Packer {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// Nothing came for too long, or hardly anything.
    #[error("received less than 1 KiB/s for {0}")]
    Stalled(Span),
    /// It all took too long.
    #[error("not complete within {0}")]
    TooLong(Span),
}

impl CollectError {
    /// Whether another try may bring the rest: the connection failed, and not what came over it.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Stalled(_) => true,
            // A packer that a signal ended has gone with its connection, or with its host.
            Self::Packer { status, .. } => matches!(status, ExitStatus::Signal(_)),
            // Also one that is cut short: had the connection cut it, that would be the error.
            Self::Archive(_) | Self::Write { .. } | Self::TooLong(_) => false,
        }
    }
}

/// What a collection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The end: everything, compared with what is here by its digests.
    All,
    /// A checkpoint: what has been added since the last one, while the files still grow.
    Added,
}

/// How results of a run on one host are collected.
#[derive(Debug, Clone)]
pub struct How {
    /// What for.
    pub purpose: Purpose,
    /// Most bytes that the host may send.
    pub most_bytes: u64,
    /// How long hardly anything may come: less than [`LEAST_RATE`].
    pub stall: Span,
    /// How long it may take altogether, and until when that is.
    pub total: (Span, Instant),
    /// How much of the archive is compressed together: what is cut on its way is lost with its block.
    pub block: usize,
    /// The host's segment: files of earlier ones were cut by a reboot, which may have taken back from the host's disk
    /// what a checkpoint had brought here before.
    pub segment: u32,
    /// Held until nothing is written any more, also where the future is dropped before.
    pub writing: Arc<Mutex<()>>,
}

/// What came over, and why there may be more.
#[derive(Debug, Default)]
pub struct Collection {
    /// Digests of the files that are whole and verified, by path.
    pub verified: BTreeMap<String, String>,
    /// Bytes that were received.
    pub received: u64,
    /// What the host said of files that it could not send.
    pub left_out: Vec<String>,
    /// Why the rest did not come.
    pub error: Option<CollectError>,
}

/// How much a host may send whose results are within these limits; more than that, it is not what we installed there.
#[must_use]
pub fn most_bytes(disk: &DiskLimits) -> u64 {
    let quota = disk.host_bytes.unwrap_or(DiskLimits::MOST).max(disk.profiler_bytes.unwrap_or(0));
    quota.saturating_mul(2).saturating_add(256 << 20)
}

/// Packs the results on the host and unpacks them below `directory`, beside what is there of them already.
///
/// What came before something failed is kept, and is where the next try goes on.
pub async fn collect(session: &dyn Session, client_dir: &str, directory: &Utf8Path, how: How) -> Collection {
    let How { purpose, most_bytes, segment, .. } = how;
    let writing = Arc::clone(&how.writing);
    // A collection that was given up may still be writing what it had received.
    let turn = writing.lock_owned().await;
    let target = directory.to_owned();
    let looked = tokio::task::spawn_blocking(move || look(&target, purpose)).await;
    let have = match looked {
        Ok(Ok(have)) => have,
        Ok(Err(source)) => return failed(CollectError::Write { path: directory.to_owned(), source }),
        Err(e) => return failed(CollectError::Write { path: directory.to_owned(), source: io::Error::other(e) }),
    };
    let (batches, received) = mpsc::channel(BATCHES_AHEAD);
    let lines = have.lines();
    let limits = DecodeLimits { files: MAX_FILES, bytes: most_bytes, path_bytes: MAX_PATH_BYTES };
    let decoder = Decoder::resuming(limits, have.hashers);
    let target = directory.to_owned();
    // Hashing and writing block: they have a thread of their own, which ends when the channel does.
    let unpacker = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        unpack(received, target, decoder, segment)
    });
    let transferred = transfer(session, client_dir, lines, batches, &how).await;
    let (mut collection, unpacked) = match unpacker.await {
        Ok(done) => done,
        Err(e) => return failed(CollectError::Write { path: directory.to_owned(), source: io::Error::other(e) }),
    };
    // A stream that was cut is explained by what cut it.
    collection.error = match (transferred, unpacked) {
        (Err(e), Ok(()) | Err(CollectError::Archive(ArchiveError::Cut { .. }))) => Some(e),
        (_, Err(e)) => Some(e),
        (Ok(left_out), Ok(())) => {
            collection.left_out.extend(left_out);
            None
        }
    };
    collection
}

fn failed(error: CollectError) -> Collection {
    Collection { error: Some(error), ..Collection::default() }
}

/// Everything that is here of a host's results: whole and verified files with their digests, and beginnings.
///
/// # Errors
/// When a file cannot be read.
pub fn inventory(directory: &Utf8Path, verified: &BTreeMap<String, String>) -> io::Result<Vec<FileRecord>> {
    let mut records = Vec::new();
    for path in files(directory)? {
        let Ok(mut file) = open(directory, &path) else { continue };
        let bytes = file.metadata()?.len();
        let record = match verified.get(&path) {
            Some(blake3) => FileRecord { path, bytes, blake3: blake3.clone(), cut: false },
            None => {
                let mut hasher = blake3::Hasher::new();
                io::copy(&mut file, &mut hasher)?;
                FileRecord { path, bytes, blake3: hasher.finalize().to_hex().to_string(), cut: true }
            }
        };
        records.push(record);
    }
    Ok(records)
}

/// Opens a file that is here. One that cannot be read costs itself: it is asked for again, or does not count.
fn open(directory: &Utf8Path, path: &str) -> io::Result<File> {
    let opened = File::open(directory.join(path));
    opened.inspect_err(|e| tracing::warn!("cannot read {path} of the results: {e}"))
}

/// Paths of the regular files below a host's directory, in the order of their names. Nothing has a name there that is not
/// UTF-8 but what others put there.
fn files(directory: &Utf8Path) -> io::Result<Vec<String>> {
    fn walk(directory: &Utf8Path, below: &str, found: &mut Vec<String>) -> io::Result<()> {
        let entries = match directory.read_dir_utf8() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries.flatten() {
            let path = format!("{below}{}", entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !(below.is_empty() && path.starts_with(WINDOW_PREFIX)) {
                if let Err(e) = walk(entry.path(), &format!("{path}/"), found) {
                    tracing::warn!("cannot read {path} of the results: {e}");
                }
            } else if kind.is_file() {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(directory, "", &mut found)?;
    found.sort();
    Ok(found)
}

/// What is here already of a host's results.
struct Here {
    have: Vec<Have>,
    hashers: BTreeMap<String, (u64, blake3::Hasher)>,
}

impl Here {
    fn lines(&self) -> Bytes {
        let lines = self.have.iter().filter_map(|have| serde_json::to_string(have).ok());
        lines.fold(String::new(), |text, line| text + &line + "\n").into()
    }
}

fn look(directory: &Utf8Path, purpose: Purpose) -> io::Result<Here> {
    let mut here = Here { have: Vec::new(), hashers: BTreeMap::new() };
    for path in files(directory)? {
        let Ok(mut file) = open(directory, &path) else { continue };
        let mut hasher = blake3::Hasher::new();
        let bytes = match purpose {
            // Bounded by what is here now, whatever becomes of the file.
            Purpose::All => {
                let bytes = file.metadata()?.len();
                io::copy(&mut (&mut file).take(bytes), &mut hasher)?
            }
            Purpose::Added => file.metadata()?.len(),
        };
        let blake3 = (purpose == Purpose::All).then(|| hasher.finalize().to_hex().to_string());
        here.have.push(Have { path: path.clone(), bytes, blake3 });
        here.hashers.insert(path, (bytes, hasher));
    }
    Ok(here)
}

async fn transfer(
    session: &dyn Session,
    client_dir: &str,
    have: Bytes,
    batches: mpsc::Sender<Vec<Bytes>>,
    how: &How,
) -> Result<Vec<String>, CollectError> {
    let mut patience = Patience::new(how);
    let argv = [install::program(client_dir), "pack".into(), client_dir.into(), how.block.to_string()];
    let command = Command::new(argv);
    let Process { input: stdin, mut output } = patience.within(session.exec(&command)).await??;
    patience.within(feed(stdin, have)).await??;
    let mut stderr = Vec::new();
    let (mut batch, mut batched) = (Vec::new(), 0);
    loop {
        // What is there already is taken without waiting; what has to be waited for finds nothing kept back.
        let ready = if batched < BATCH { output.next().now_or_never() } else { None };
        let next = match ready {
            Some(next) => next.map_err(CollectError::from),
            None => {
                batched = 0;
                // The unpacker has gone when it met something that it does not take; its error says what.
                if !batch.is_empty() && batches.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(Vec::new());
                }
                patience.within(output.next()).await.and_then(|next| next.map_err(CollectError::from))
            }
        };
        let next = match next {
            Ok(next) => next,
            Err(e) => {
                // What came before the line broke need not come again.
                let _ = batches.send(batch).await;
                return Err(e);
            }
        };
        match next {
            OutputChunk::Stdout(data) => {
                patience.received(data.len());
                batched += data.len();
                batch.push(data);
            }
            OutputChunk::Stderr(data) => {
                let room = STDERR_LIMIT.saturating_sub(stderr.len()).min(data.len());
                stderr.extend_from_slice(&data[..room]);
            }
            OutputChunk::Exit(status) => {
                let _ = batches.send(batch).await;
                let said = String::from_utf8_lossy(&stderr);
                if !status.success() {
                    return Err(CollectError::Packer { status, said: text::one_line(&said) });
                }
                let left_out = said.lines().filter_map(|line| line.strip_prefix("left out "));
                return Ok(left_out.map(text::one_line).collect());
            }
        }
    }
}

/// How long a transfer is waited for: in each span of time so much has to come, and all of it has an end.
struct Patience {
    stall: Span,
    total: (Span, Instant),
    since: Instant,
    bytes: u64,
}

impl Patience {
    fn new(how: &How) -> Self {
        Self { stall: how.stall, total: how.total, since: Instant::now(), bytes: 0 }
    }

    fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.since.elapsed() >= self.stall.0 && self.is_enough() {
            (self.since, self.bytes) = (Instant::now(), 0);
        }
    }

    fn is_enough(&self) -> bool {
        self.bytes >= LEAST_RATE * self.stall.0.as_secs()
    }

    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, CollectError> {
        tokio::pin!(work);
        loop {
            let until = (self.since + self.stall.0).min(self.total.1);
            if let Ok(done) = tokio::time::timeout_at(until.into(), &mut work).await {
                return Ok(done);
            }
            if Instant::now() >= self.total.1 {
                return Err(CollectError::TooLong(self.total.0));
            }
            if !self.is_enough() {
                return Err(CollectError::Stalled(self.stall));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
    }
}

async fn feed(mut stdin: Box<dyn ProcessInput>, have: Bytes) -> Result<(), TransportError> {
    if !have.is_empty() {
        stdin.write(have).await?;
    }
    stdin.close().await
}

fn unpack(
    mut batches: mpsc::Receiver<Vec<Bytes>>,
    directory: Utf8PathBuf,
    mut decoder: Decoder,
    segment: u32,
) -> (Collection, Result<(), CollectError>) {
    let mut unpacker = Unpacker::new(directory, segment);
    let mut result = Ok(());
    let mut blocks = Blocks::default();
    while let Some(batch) = batches.blocking_recv() {
        result = batch
            .iter()
            .try_for_each(|chunk| blocks.push(chunk, |bytes| decoder.push(bytes, |item| unpacker.take(item))));
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| decoder.finish().map(drop).map_err(CollectError::from));
    (unpacker.collection, result)
}
