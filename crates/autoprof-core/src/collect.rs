//! Bringing a host's results back: one checked stream, unpacked safely.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use autoprof_protocol::archive::{ArchiveError, DecodeLimits, Decoder, Item};
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::mpsc;

use crate::{
    duration::Span,
    error::TransportError,
    install,
    manifest::FileRecord,
    text,
    transport::{Command, ExitStatus, OutputChunk, Process, Session},
};

/// Most that one host may send: files, and bytes in them.
const LIMITS: DecodeLimits = DecodeLimits { files: 100_000, bytes: 1 << 40 };
/// How many chunks may wait for the disk.
const CHUNKS_AHEAD: usize = 16;
/// How much of the packer's standard error is kept for a message.
const STDERR_LIMIT: usize = 4096;

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
    /// A file could not be written here.
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
    /// Nothing came for too long.
    #[error("nothing came for {0}")]
    Stalled(Span),
}

/// What came back, and why there may be more.
#[derive(Debug)]
pub struct Collection {
    /// Whole, verified files; paths are below the host's directory.
    pub files: Vec<FileRecord>,
    /// Why the rest did not come.
    pub error: Option<CollectError>,
}

/// Packs the results on the host and unpacks them below `directory`, which may not have any of the files yet.
///
/// What was verified before something failed is kept and listed.
pub async fn collect(session: &dyn Session, client_dir: &str, directory: &Utf8Path, stall: Span) -> Collection {
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let target = directory.to_owned();
    // Hashing and writing block: they have a thread of their own, which ends when the channel does.
    let unpacker = tokio::task::spawn_blocking(move || unpack(received, target));
    let transferred = transfer(session, client_dir, chunks, stall).await;
    let (files, unpacked) = match unpacker.await {
        Ok(done) => done,
        Err(e) => (Vec::new(), Err(CollectError::Write { path: directory.to_owned(), source: io::Error::other(e) })),
    };
    // A stream that was cut is explained by what cut it.
    let error = match (transferred, unpacked) {
        (Err(e), Ok(()) | Err(CollectError::Archive(ArchiveError::Cut { .. }))) => Some(e),
        (_, Err(e)) => Some(e),
        (Ok(()), Ok(())) => None,
    };
    Collection { files, error }
}

async fn transfer(
    session: &dyn Session,
    client_dir: &str,
    chunks: mpsc::Sender<Bytes>,
    stall: Span,
) -> Result<(), CollectError> {
    let command = Command::new([install::program(client_dir), "pack".into(), client_dir.into()]);
    let Process { input: mut stdin, mut output } = session.exec(&command).await?;
    stdin.close().await?;
    let mut stderr = Vec::new();
    loop {
        let next = tokio::time::timeout(stall.0, output.next()).await.map_err(|_| CollectError::Stalled(stall))??;
        match next {
            OutputChunk::Stdout(data) => {
                // The unpacker has gone when it met something that it does not take; its error says what.
                if chunks.send(data).await.is_err() {
                    return Ok(());
                }
            }
            OutputChunk::Stderr(data) => {
                let room = STDERR_LIMIT.saturating_sub(stderr.len()).min(data.len());
                stderr.extend_from_slice(&data[..room]);
            }
            OutputChunk::Exit(status) => {
                let said = text::one_line(&String::from_utf8_lossy(&stderr));
                if status.success() {
                    if !said.is_empty() {
                        tracing::warn!("packing: {said}");
                    }
                    return Ok(());
                }
                return Err(CollectError::Packer { status, said });
            }
        }
    }
}

struct Unpacker {
    directory: Utf8PathBuf,
    current: Option<(Utf8PathBuf, File, FileRecord)>,
    files: Vec<FileRecord>,
}

fn unpack(mut chunks: mpsc::Receiver<Bytes>, directory: Utf8PathBuf) -> (Vec<FileRecord>, Result<(), CollectError>) {
    let mut decoder = Decoder::new(LIMITS);
    let mut unpacker = Unpacker { directory, current: None, files: Vec::new() };
    let mut result = Ok(());
    while let Some(chunk) = chunks.blocking_recv() {
        result = decoder.push(&chunk, |item| unpacker.take(item));
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| decoder.finish().map(drop).map_err(CollectError::from));
    // A file that is not whole would look like one that is.
    if let Some((path, ..)) = unpacker.current {
        let _ = fs::remove_file(path);
    }
    (unpacker.files, result)
}

impl Unpacker {
    fn take(&mut self, item: Item<'_>) -> Result<(), CollectError> {
        match item {
            Item::Begin(header) => {
                let path = self.directory.join(&header.path);
                let file = create(&path).map_err(|source| CollectError::Write { path: path.clone(), source })?;
                let record = FileRecord { path: header.path, bytes: header.size, blake3: String::new() };
                self.current = Some((path, file, record));
            }
            Item::Content(content) => {
                if let Some((path, file, _)) = &mut self.current {
                    file.write_all(content).map_err(|source| CollectError::Write { path: path.clone(), source })?;
                }
            }
            Item::Verified(blake3) => {
                if let Some((_, _, record)) = self.current.take() {
                    self.files.push(FileRecord { blake3, ..record });
                }
            }
            Item::End(_) => {}
        }
        Ok(())
    }
}

/// Makes a new file and the directories above it. The path was checked by the decoder, and everything below the host's
/// directory was made by this process, so that no link can be on the way.
fn create(path: &Utf8Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}
