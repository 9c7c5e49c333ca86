//! The stream in which a host's results come back.
//!
//! ```text
//! "APARCHV2"
//! entry*   = 'F' <u32 header length> <header JSON> <content> <32 bytes BLAKE3>
//!          | 'F' <u32 header length> <header JSON> <content> <32 zero bytes> <u64 bytes of content that are real>
//! end      = 'E' <u32 header length> <header JSON>
//! ```
//! Who asks for an archive says what it has already ([`Have`]); of such a file only the rest is sent, and the header
//! says from where. The digest is of the whole file when what was there before was compared ([`Proof::Whole`]), and of
//! what is sent when it was taken on trust for the time being ([`Proof::Rest`]).
//!
//! A file that cannot be read to its announced end (it shrank, or its disk failed) is filled up with zero bytes and has no
//! digest: it costs itself, and the archive goes on.
//!
//! Integers are little-endian. An entry's header gives path and size, the end's header gives totals, so a
//! stream that was cut anywhere is known to be cut. The [`Decoder`] is fed with chunks as they arrive and
//! keeps none of them; it trusts nothing it reads: a path that could leave the directory it is unpacked into,
//! a second entry of the same name, more bytes than announced or a wrong digest end it with an error.
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize};

use crate::text::is_unprintable;

/// First bytes of every archive; the last one is the version.
pub const MAGIC: &[u8; 8] = b"APARCHV2";
/// Longest header that is read.
pub const MAX_HEADER: usize = 16 * 1024;
/// Most that a host may print before the archive begins.
pub const MAX_PREAMBLE: usize = 64 * 1024;
/// Longest path of an entry, in bytes.
pub const MAX_PATH: usize = 1024;
/// Longest name in a path, in bytes.
pub const MAX_NAME: usize = 255;
/// Most files that one host sends.
pub const MAX_FILES: u64 = 100_000;
/// Most bytes of all their paths.
pub const MAX_PATH_BYTES: u64 = 8 << 20;
/// In place of the digest of a file that could not be read to its end.
const NO_DIGEST: [u8; blake3::OUT_LEN] = [0; blake3::OUT_LEN];
const FILE: u8 = b'F';
const END: u8 = b'E';

/// What comes before a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Path below the archive's root, with `/` between components.
    pub path: String,
    /// The file's size in bytes.
    pub size: u64,
    /// How much of it is left out, since the receiver has it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from: u64,
    /// What the digest behind the content is of.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub proof: Proof,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_whole(proof: &Proof) -> bool {
    *proof == Proof::Whole
}

/// What the digest of an entry is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The whole file, what the receiver had before included.
    #[default]
    Whole,
    /// What follows the header alone.
    Rest,
}

/// What a receiver has already of one file: a line of JSON on the packer's standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The file's path in the archive.
    pub path: String,
    /// How many bytes of its beginning.
    pub bytes: u64,
    /// Their BLAKE3 digest in hexadecimal, to be compared with what the host has; none: taken on trust, as long as
    /// the file has not become shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// What an archive ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries before this one.
    pub files: u64,
    /// Bytes of content in them, as far as it was sent.
    pub bytes: u64,
}

/// Why an archive cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It does not begin like one.
    #[error("no archive of this version comes; what comes begins with {0:?}")]
    Magic(String),
    /// A record of no known kind.
    #[error("unknown record kind {0:#04x}")]
    Kind(u8),
    /// A header that is too long, or not what it should be.
    #[error("bad header: {0}")]
    Header(String),
    /// A path that is absolute, climbs, or could be read in two ways.
    #[error("unsafe path {0:?}")]
    Path(String),
    /// Two entries of one name.
    #[error("two entries named {0:?}")]
    Duplicate(String),
    /// More entries or bytes than the reader allows.
    #[error("more than {limit} {what}")]
    TooMuch {
        /// The unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A frame out of which something else comes than what is announced.
    #[error("a compressed block is damaged: {0}")]
    Frame(String),
    /// The content is not what was packed.
    #[error("wrong digest for {0:?}: damaged on the way")]
    Digest(String),
    /// The totals at the end are not those of what came before.
    #[error("the end record counts {announced:?}, received were {received:?}")]
    Totals {
        /// What the end record says.
        announced: Totals,
        /// What was there.
        received: Totals,
    },
    /// An entry goes on from where the receiver is not.
    #[error("{path:?} goes on from byte {from}, {have} are here")]
    Resume {
        /// The file.
        path: String,
        /// Where the entry begins.
        from: u64,
        /// How much is here.
        have: u64,
    },
    /// Something follows the end.
    #[error("{0} bytes after the end record")]
    Trailing(usize),
    /// The stream ended before the end record.
    #[error("cut short after {files} files and {bytes} bytes")]
    Cut {
        /// Whole files received.
        files: u64,
        /// Bytes of content received.
        bytes: u64,
    },
}

/// Checks that a path from a host stays below the directory that it is unpacked into.
///
/// # Errors
/// [`ArchiveError::Path`] for an absolute path, one with an empty, `.` or `..` component, with an unprintable
/// character or a backslash, or longer than [`MAX_PATH`].
pub fn check_path(path: &str) -> Result<(), ArchiveError> {
    let safe = !path.is_empty()
        && path.len() <= MAX_PATH
        && !path.chars().any(|c| is_unprintable(c) || c == '\\')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= MAX_NAME);
    if safe { Ok(()) } else { Err(ArchiveError::Path(path.chars().take(200).collect())) }
}

/// How a file came into an archive.
#[derive(Debug)]
pub enum Packed {
    /// To its announced end.
    Whole,
    /// Not to its end.
    Torn {
        /// Bytes of its content that are in the archive.
        kept: u64,
        /// Why the rest is not.
        cause: io::Error,
    },
}

/// Writes an archive.
#[derive(Debug)]
pub struct Encoder<W> {
    out: W,
    totals: Totals,
}

impl<W: Write> Encoder<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, totals: Totals::default() })
    }

    /// Adds a file of a known size.
    ///
    /// # Errors
    /// When writing fails, or the path cannot be in an archive.
    pub fn file(&mut self, path: &str, size: u64, content: impl Read) -> io::Result<Packed> {
        let header = FileHeader { path: path.to_owned(), size, from: 0, proof: Proof::Whole };
        self.rest(&header, blake3::Hasher::new(), content)
    }

    /// Adds what a receiver lacks of a file: `content` is at `header.from`, `hasher` has taken what is before, unless
    /// the proof is of the rest alone.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn rest(&mut self, header: &FileHeader, mut hasher: blake3::Hasher, content: impl Read) -> io::Result<Packed> {
        check_path(&header.path).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        self.record(FILE, header)?;
        let sent = header.size.saturating_sub(header.from);
        let mut content = content.take(sent);
        let mut buffer = vec![0; 256 * 1024];
        let mut left = sent;
        let mut packed = Packed::Whole;
        while left > 0 {
            let n = match content.read(&mut buffer) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                failed => {
                    let cause = failed.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    packed = Packed::Torn { kept: sent - left, cause };
                    io::copy(&mut io::repeat(0).take(left), &mut self.out)?;
                    break;
                }
            };
            hasher.update(&buffer[..n]);
            self.out.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        match &packed {
            Packed::Whole => self.out.write_all(hasher.finalize().as_bytes())?,
            Packed::Torn { kept, .. } => {
                self.out.write_all(&NO_DIGEST)?;
                self.out.write_all(&kept.to_le_bytes())?;
            }
        }
        self.totals.files += 1;
        self.totals.bytes += sent;
        Ok(packed)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<Totals> {
        let totals = self.totals;
        self.record(END, &totals)?;
        self.out.flush()?;
        Ok(totals)
    }

    fn record(&mut self, kind: u8, header: &impl Serialize) -> io::Result<()> {
        let header = serde_json::to_vec(header)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&header)
    }
}

/// What a [`Decoder`] found in a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A file begins.
    Begin(FileHeader),
    /// The next bytes of the file that began last.
    Content(&'a [u8]),
    /// The file that began last is whole and its digest is right; the digest in hexadecimal.
    Verified(String),
    /// The file that began last could not be read to its end: of its content, all but so many bytes is not its own.
    Torn(u64),
    /// The archive is whole.
    End(Totals),
}

/// How much a [`Decoder`] takes before it refuses to go on.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Entries.
    pub files: u64,
    /// Bytes of content over all entries.
    pub bytes: u64,
    /// Bytes of all paths together: names are kept to refuse a second one.
    pub path_bytes: u64,
}

#[derive(Debug)]
enum State {
    Magic,
    Record,
    Content { path: String, sent: u64, left: u64, hasher: Box<blake3::Hasher> },
    Digest { path: String, sent: u64, expected: blake3::Hash },
    Torn { path: String, sent: u64 },
    Done,
}

/// Reads an archive from chunks as they arrive.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of a record's head that is not whole yet; never more than a header.
    pending: Vec<u8>,
    seen: BTreeSet<String>,
    received: Totals,
    path_bytes: u64,
    limits: DecodeLimits,
    /// What is here already of files, hashed.
    have: BTreeMap<String, (u64, blake3::Hasher)>,
}

impl Decoder {
    /// A decoder at the beginning of an archive.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
        Self::resuming(limits, BTreeMap::new())
    }

    /// A decoder of an archive that leaves out what is here: for each path so many bytes, which the hasher has taken.
    #[must_use]
    pub fn resuming(limits: DecodeLimits, have: BTreeMap<String, (u64, blake3::Hasher)>) -> Self {
        let (state, received) = (State::Magic, Totals::default());
        Self { state, pending: Vec::new(), seen: BTreeSet::new(), received, path_bytes: 0, limits, have }
    }

    /// Takes one chunk and hands each thing found in it to `sink`.
    ///
    /// # Errors
    /// An [`ArchiveError`] wrapped in the sink's error type, or the sink's own error; after either the decoder
    /// must not be used again.
    pub fn push<E: From<ArchiveError>>(
        &mut self,
        mut chunk: &[u8],
        mut sink: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match &mut self.state {
                State::Magic => {
                    if !take_preamble(&mut self.pending, &mut chunk, MAGIC)? {
                        return Ok(());
                    }
                    self.state = State::Record;
                }
                State::Record => {
                    let Some((kind, header)) = take_record(&mut self.pending, &mut chunk)? else { return Ok(()) };
                    self.begin(kind, &header, &mut sink)?;
                }
                State::Content { path, sent, left, hasher } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    let (content, rest) = chunk.split_at(n);
                    chunk = rest;
                    if n > 0 {
                        hasher.update(content);
                        *left -= n as u64;
                        self.received.bytes += n as u64;
                        sink(Item::Content(content))?;
                    }
                    if *left > 0 {
                        return Ok(());
                    }
                    let (path, sent) = (std::mem::take(path), *sent);
                    self.state = State::Digest { path, sent, expected: hasher.finalize() };
                }
                State::Digest { path, sent, expected } => {
                    let Some(digest) = take(&mut self.pending, &mut chunk, blake3::OUT_LEN) else { return Ok(()) };
                    if digest == NO_DIGEST {
                        self.state = State::Torn { path: std::mem::take(path), sent: *sent };
                        continue;
                    }
                    if digest != expected.as_bytes() {
                        return Err(ArchiveError::Digest(std::mem::take(path)).into());
                    }
                    self.received.files += 1;
                    let digest = expected.to_hex().to_string();
                    self.state = State::Record;
                    sink(Item::Verified(digest))?;
                }
                State::Torn { path, sent } => {
                    let Some(kept) = take(&mut self.pending, &mut chunk, size_of::<u64>()) else { return Ok(()) };
                    let kept = kept.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
                    if kept >= *sent {
                        return Err(ArchiveError::Digest(std::mem::take(path)).into());
                    }
                    self.received.files += 1;
                    self.state = State::Record;
                    sink(Item::Torn(kept))?;
                }
                State::Done => {
                    return if chunk.is_empty() { Ok(()) } else { Err(ArchiveError::Trailing(chunk.len()).into()) };
                }
            }
        }
    }

    /// Says whether the archive was whole, once nothing more comes.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`] when the end record has not been seen.
    pub fn finish(&self) -> Result<Totals, ArchiveError> {
        match self.state {
            State::Done => Ok(self.received),
            _ => Err(ArchiveError::Cut { files: self.received.files, bytes: self.received.bytes }),
        }
    }

    fn begin<E: From<ArchiveError>>(
        &mut self,
        kind: u8,
        header: &[u8],
        sink: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match kind {
            FILE => {
                let header: FileHeader = parse(header)?;
                check_path(&header.path)?;
                let hasher = self.resume(&header)?;
                let sent = header.size.checked_sub(header.from);
                let sent = sent.ok_or_else(|| ArchiveError::Header("it goes on behind its own end".to_owned()))?;
                self.check_limits(sent, header.path.len())?;
                if !self.seen.insert(header.path.clone()) {
                    return Err(ArchiveError::Duplicate(header.path).into());
                }
                self.state = State::Content { path: header.path.clone(), sent, left: sent, hasher: Box::new(hasher) };
                sink(Item::Begin(header))
            }
            END => {
                let announced: Totals = parse(header)?;
                if announced != self.received {
                    return Err(ArchiveError::Totals { announced, received: self.received }.into());
                }
                self.state = State::Done;
                sink(Item::End(announced))
            }
            other => Err(ArchiveError::Kind(other).into()),
        }
    }

    /// The hasher for what follows a header.
    fn resume(&mut self, header: &FileHeader) -> Result<blake3::Hasher, ArchiveError> {
        if header.from == 0 {
            return Ok(blake3::Hasher::new());
        }
        match self.have.remove(&header.path) {
            Some((bytes, hasher)) if bytes == header.from => Ok(match header.proof {
                Proof::Whole => hasher,
                Proof::Rest => blake3::Hasher::new(),
            }),
            other => {
                let have = other.map_or(0, |(bytes, _)| bytes);
                Err(ArchiveError::Resume { path: header.path.clone(), from: header.from, have })
            }
        }
    }

    fn check_limits(&mut self, size: u64, path: usize) -> Result<(), ArchiveError> {
        self.path_bytes += path as u64;
        if self.path_bytes > self.limits.path_bytes {
            return Err(ArchiveError::TooMuch { what: "bytes of paths", limit: self.limits.path_bytes });
        }
        if self.received.files >= self.limits.files {
            return Err(ArchiveError::TooMuch { what: "files", limit: self.limits.files });
        }
        if size > self.limits.bytes.saturating_sub(self.received.bytes) {
            return Err(ArchiveError::TooMuch { what: "bytes", limit: self.limits.bytes });
        }
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(header: &[u8]) -> Result<T, ArchiveError> {
    // What does not fit is quoted in the error, at any length and with whatever is in it.
    let plain = |c: char| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c };
    serde_json::from_slice(header)
        .map_err(|e| ArchiveError::Header(e.to_string().chars().take(200).map(plain).collect()))
}

/// Takes exactly `n` bytes from what is pending and the chunk; none while there are fewer.
pub(crate) fn take(pending: &mut Vec<u8>, chunk: &mut &[u8], n: usize) -> Option<Vec<u8>> {
    fill(pending, chunk, n);
    (pending.len() == n).then(|| std::mem::take(pending))
}

/// Takes everything up to and with the magic; false while it has not come. Some hosts print a banner before whatever
/// a command prints: it is passed over, up to a limit.
pub(crate) fn take_preamble(pending: &mut Vec<u8>, chunk: &mut &[u8], magic: &[u8; 8]) -> Result<bool, ArchiveError> {
    // The magic may lie across two chunks.
    let from = pending.len().saturating_sub(magic.len() - 1);
    let room = (MAX_PREAMBLE + magic.len()).saturating_sub(pending.len()).min(chunk.len());
    pending.extend_from_slice(&chunk[..room]);
    if let Some(at) = pending[from..].windows(magic.len()).position(|w| w == magic) {
        let after = pending.len() - (from + at + magic.len());
        *chunk = &chunk[room - after..];
        pending.clear();
        return Ok(true);
    }
    if pending.len() >= MAX_PREAMBLE + magic.len() {
        let beginning: Vec<u8> = pending.iter().copied().take(40).collect();
        return Err(ArchiveError::Magic(String::from_utf8_lossy(&beginning).into_owned()));
    }
    *chunk = &[];
    Ok(false)
}

pub(crate) fn fill(pending: &mut Vec<u8>, chunk: &mut &[u8], n: usize) {
    let missing = n.saturating_sub(pending.len()).min(chunk.len());
    pending.extend_from_slice(&chunk[..missing]);
    *chunk = &chunk[missing..];
}

fn take_record(pending: &mut Vec<u8>, chunk: &mut &[u8]) -> Result<Option<(u8, Vec<u8>)>, ArchiveError> {
    const HEAD: usize = 5;
    fill(pending, chunk, HEAD);
    let Some(&[kind, a, b, c, d]) = pending.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_HEADER {
        return Err(ArchiveError::Header(format!("{length} bytes, at most {MAX_HEADER} are read")));
    }
    Ok(take(pending, chunk, HEAD + length).map(|mut whole| (kind, whole.split_off(HEAD))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: DecodeLimits = DecodeLimits { files: 100, bytes: 1 << 20, path_bytes: 10_000 };

    fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new()).unwrap();
        for (path, content) in files {
            encoder.file(path, content.len() as u64, content.as_slice()).unwrap();
        }
        let totals = encoder.totals;
        encoder.record(END, &totals).unwrap();
        encoder.out
    }

    fn unpack(bytes: &[u8], chunk: usize) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let mut decoder = Decoder::new(LIMITS);
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for part in bytes.chunks(chunk.max(1)) {
            decoder.push(part, |item| -> Result<(), ArchiveError> {
                match item {
                    Item::Begin(header) => files.push((header.path, Vec::new())),
                    Item::Content(content) => files.last_mut().unwrap().1.extend_from_slice(content),
                    Item::Torn(kept) => files.last_mut().unwrap().1.truncate(usize::try_from(kept).unwrap()),
                    Item::Verified(_) | Item::End(_) => {}
                }
                Ok(())
            })?;
        }
        decoder.finish().map(|_| files)
    }

    fn entry(path: &str, size: u64, content: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder { out: MAGIC.to_vec(), totals: Totals::default() };
        let header = FileHeader { path: path.into(), size, from: 0, proof: Proof::Whole };
        encoder.record(FILE, &header).unwrap();
        encoder.out.extend_from_slice(content);
        encoder.out
    }

    #[test]
    fn a_path_that_could_leave_the_directory_is_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a/", "a\nb", "a\\b", "\u{1b}[2J"] {
            let got = unpack(&entry(path, 0, &[]), 7);
            assert!(matches!(got, Err(ArchiveError::Path(_))), "{path:?}: {got:?}");
        }
    }

    #[test]
    fn lies_about_sizes_are_refused_before_anything_is_stored() {
        assert_eq!(
            unpack(&entry("a", u64::MAX, b"x"), 3),
            Err(ArchiveError::TooMuch { what: "bytes", limit: 1 << 20 })
        );
        let mut long = MAGIC.to_vec();
        long.extend_from_slice(&[FILE, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(unpack(&long, 100), Err(ArchiveError::Header(_))));
    }

    #[test]
    fn a_second_entry_of_one_name_is_refused() {
        let files = vec![("a".to_owned(), vec![1]), ("a".to_owned(), vec![2])];
        assert_eq!(unpack(&pack(&files), 10), Err(ArchiveError::Duplicate("a".into())));
    }

    #[test]
    fn one_changed_byte_of_content_is_noticed() {
        let mut bytes = pack(&[("a".to_owned(), b"hello".to_vec())]);
        let at = bytes.windows(5).position(|w| w == b"hello").unwrap();
        bytes[at] ^= 1;
        assert_eq!(unpack(&bytes, 4), Err(ArchiveError::Digest("a".into())));
    }

    #[test]
    fn what_a_host_prints_before_the_archive_is_passed_over() {
        let files = vec![("a".to_owned(), b"hello".to_vec())];
        let with_banner = [b"Welcome.\nAPARCH is no magic\n".to_vec(), pack(&files)].concat();
        for chunk in [1, 3, 7, 1000] {
            assert_eq!(unpack(&with_banner, chunk), Ok(files.clone()));
        }
        // The longest one, and one that is longer, in whatever chunks.
        for chunk in [1, 999, 100_000] {
            let longest = [vec![b'x'; MAX_PREAMBLE], pack(&files)].concat();
            assert_eq!(unpack(&longest, chunk), Ok(files.clone()));
            let longer = [b"x", longest.as_slice()].concat();
            assert!(matches!(unpack(&longer, chunk), Err(ArchiveError::Magic(_))));
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut bytes = pack(&[]);
        bytes.push(0);
        assert_eq!(unpack(&bytes, 100), Err(ArchiveError::Trailing(1)));
    }

    #[test]
    fn file_that_shrinks_while_packed_costs_only_itself() {
        let mut encoder = Encoder::new(Vec::new()).unwrap();
        encoder.file("a", 1, &b"x"[..]).unwrap();
        let packed = encoder.file("b", 1 << 19, &b"short"[..]).unwrap();
        assert!(matches!(packed, Packed::Torn { kept: 5, .. }), "{packed:?}");
        encoder.file("c", 1, &b"y"[..]).unwrap();
        let totals = encoder.totals;
        encoder.record(END, &totals).unwrap();
        let files = [("a", &b"x"[..]), ("b", b"short"), ("c", b"y")].map(|(name, text)| (name.into(), text.to_vec()));
        for chunk in [1, 13, 1 << 20] {
            assert_eq!(unpack(&encoder.out, chunk), Ok(files.to_vec()));
        }
    }

    #[test]
    fn paths_with_characters_that_nobody_sees_are_refused() {
        for path in ["a\u{202e}b", "a\u{2028}b", "\u{200b}", "a/\u{9b}2J"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
    }

    fn some_files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        prop::collection::btree_map(
            "[a-z]{1,8}(/[a-z. é-]{1,8}x){0,2}",
            prop::collection::vec(any::<u8>(), 0..300),
            0..6,
        )
        .prop_map(|m| m.into_iter().collect())
    }

    /// Packs `content` for somebody who has its first `have` bytes, and unpacks it for somebody who has `here`.
    fn go_on(content: &[u8], have: usize, proof: Proof, here: &[u8]) -> Result<(Vec<u8>, String), ArchiveError> {
        let hashed = |bytes: &[u8]| blake3::Hasher::new().update(bytes).clone();
        let header = FileHeader { path: "a".into(), size: content.len() as u64, from: have as u64, proof };
        let before = if proof == Proof::Whole { hashed(&content[..have]) } else { blake3::Hasher::new() };
        let mut encoder = Encoder::new(Vec::new()).unwrap();
        encoder.rest(&header, before, &content[have..]).unwrap();
        let totals = encoder.totals;
        encoder.record(END, &totals).unwrap();
        let known = BTreeMap::from([("a".to_owned(), (here.len() as u64, hashed(here)))]);
        let mut decoder = Decoder::resuming(LIMITS, known);
        let (mut got, mut digest) = (here.to_vec(), String::new());
        decoder.push(&encoder.out, |item| -> Result<(), ArchiveError> {
            match item {
                Item::Content(content) => got.extend_from_slice(content),
                Item::Verified(verified) => digest = verified,
                Item::Begin(_) | Item::Torn(_) | Item::End(_) => {}
            }
            Ok(())
        })?;
        decoder.finish().map(|_| (got, digest))
    }

    #[test]
    fn an_entry_that_goes_on_from_elsewhere_is_refused() {
        let refused = go_on(b"hello", 3, Proof::Whole, b"he");
        assert_eq!(refused, Err(ArchiveError::Resume { path: "a".into(), from: 3, have: 2 }));
        assert_eq!(go_on(b"hello", 3, Proof::Whole, b"hex"), Err(ArchiveError::Digest("a".into())));
    }

    proptest! {
        #[test]
        fn what_goes_on_from_anywhere_becomes_the_whole_with_its_digest(
            content in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
        ) {
            let have = at.index(content.len() + 1);
            let (got, digest) = go_on(&content, have, Proof::Whole, &content[..have]).unwrap();
            prop_assert_eq!(&got, &content);
            prop_assert_eq!(digest, blake3::hash(&content).to_hex().to_string());
            prop_assert_eq!(go_on(&content, have, Proof::Rest, &content[..have]).unwrap().0, content);
        }

        #[test]
        fn what_is_packed_is_unpacked_whatever_the_chunks(files in some_files(), chunk in 1usize..64) {
            prop_assert_eq!(unpack(&pack(&files), chunk).unwrap(), files);
        }

        #[test]
        fn a_cut_anywhere_is_noticed(files in some_files(), cut in any::<prop::sample::Index>()) {
            let bytes = pack(&files);
            let cut = cut.index(bytes.len());
            prop_assert!(
                matches!(unpack(&bytes[..cut], 16), Err(ArchiveError::Cut { .. })), "cut at {} of {}", cut, bytes.len()
            );
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&[MAGIC.to_vec(), bytes].concat(), 5);
        }
    }
}
