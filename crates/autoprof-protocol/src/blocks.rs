//! How an archive goes over the line: in blocks, each as it is or compressed, whatever is quicker there and then.
//!
//! ```text
//! "APBLOCK1"
//! block*   = 'P' <u32 length> <u32 length> <bytes of the archive>
//!          | 'Z' <u32 length> <u32 length of what comes out> <a frame of Zstandard, RFC 8878>
//! ```
//! Integers are little-endian. A block gives [`BLOCK`] bytes of the archive at most, and a frame is no longer than it
//! would be plain: so much has to be kept of what a host sends, and no more comes out of it than is announced. Where the
//! archive ends is known from the archive.
use std::mem;

use crate::archive::{ArchiveError, fill, take, take_preamble};

/// First bytes of every stream of blocks; the last one is the version.
pub const MAGIC: &[u8; 8] = b"APBLOCK1";
/// Most bytes of the archive in one block.
pub const BLOCK: usize = 1 << 20;
const PLAIN: u8 = b'P';
const ZSTD: u8 = b'Z';
const HEADER: usize = 9;

/// What comes before a block that goes as it is.
#[must_use]
pub fn plain_header(length: u32) -> [u8; HEADER] {
    header(PLAIN, length, length)
}

/// What comes before a frame of Zstandard of which so much comes out.
#[must_use]
pub fn zstd_header(length: u32, out: u32) -> [u8; HEADER] {
    header(ZSTD, length, out)
}

fn header(kind: u8, length: u32, out: u32) -> [u8; HEADER] {
    let mut header = [kind; HEADER];
    header[1..5].copy_from_slice(&length.to_le_bytes());
    header[5..].copy_from_slice(&out.to_le_bytes());
    header
}

/// What a [`Reader`] found in a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of the archive.
    Plain(&'a [u8]),
    /// A whole frame of Zstandard, out of which so many bytes of the archive come, no more and no fewer.
    Zstd {
        /// The frame.
        frame: &'a [u8],
        /// How many.
        out: usize,
    },
}

/// Takes a stream of blocks apart as it arrives.
#[derive(Debug)]
pub struct Reader {
    state: State,
    pending: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Magic,
    Header,
    Plain { left: usize },
    Zstd { length: usize, out: usize },
}

impl Default for Reader {
    fn default() -> Self {
        Self { state: State::Magic, pending: Vec::new() }
    }
}

impl Reader {
    /// Takes one chunk and hands each thing found in it to `sink`.
    ///
    /// # Errors
    /// An [`ArchiveError`] wrapped in the sink's error type, or the sink's own error; after either the reader must not be
    /// used again.
    pub fn push<E: From<ArchiveError>>(
        &mut self,
        mut chunk: &[u8],
        mut sink: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match self.state {
                State::Magic => {
                    if !take_preamble(&mut self.pending, &mut chunk, MAGIC)? {
                        return Ok(());
                    }
                    self.state = State::Header;
                }
                State::Header => {
                    let Some(header) = take(&mut self.pending, &mut chunk, HEADER) else { return Ok(()) };
                    self.state = block(&header)?;
                }
                State::Plain { left } => {
                    let (part, rest) = chunk.split_at(left.min(chunk.len()));
                    chunk = rest;
                    if !part.is_empty() {
                        sink(Part::Plain(part))?;
                    }
                    if part.len() < left {
                        self.state = State::Plain { left: left - part.len() };
                        return Ok(());
                    }
                    self.state = State::Header;
                }
                State::Zstd { length, out } => {
                    fill(&mut self.pending, &mut chunk, length);
                    if self.pending.len() < length {
                        return Ok(());
                    }
                    let frame = mem::take(&mut self.pending);
                    sink(Part::Zstd { frame: &frame, out })?;
                    // The same memory serves for the next one.
                    self.pending = frame;
                    self.pending.clear();
                    self.state = State::Header;
                }
            }
        }
    }
}

/// What a header announces.
fn block(header: &[u8]) -> Result<State, ArchiveError> {
    let number =
        |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
    let (length, out) = (number(1), number(5));
    match header.first() {
        Some(&PLAIN) if length == out && out <= BLOCK => Ok(State::Plain { left: length }),
        Some(&ZSTD) if length < out && out <= BLOCK => Ok(State::Zstd { length, out }),
        Some(&kind) if kind != PLAIN && kind != ZSTD => Err(ArchiveError::Kind(kind)),
        _ => Err(ArchiveError::Header(format!("a block of {length} bytes for {out}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], chunk: usize) -> Result<Vec<(char, Vec<u8>)>, ArchiveError> {
        let mut reader = Reader::default();
        let mut found: Vec<(char, Vec<u8>)> = Vec::new();
        for part in bytes.chunks(chunk.max(1)) {
            reader.push(part, |part| -> Result<(), ArchiveError> {
                match part {
                    Part::Plain(bytes) => match found.last_mut() {
                        Some(('P', last)) => last.extend_from_slice(bytes),
                        _ => found.push(('P', bytes.to_vec())),
                    },
                    Part::Zstd { frame, .. } => found.push(('Z', frame.to_vec())),
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn a_block_that_is_longer_than_it_may_be_is_refused() {
        let large = u32::try_from(BLOCK).unwrap() + 1;
        let headers = [plain_header(large), zstd_header(10, large), zstd_header(10, 10), zstd_header(10, 0)];
        for header in headers.into_iter().chain([super::header(PLAIN, 5, 6)]) {
            assert!(matches!(read(&[&MAGIC[..], &header].concat(), 7), Err(ArchiveError::Header(_))), "{header:?}");
        }
        assert_eq!(read(&[&MAGIC[..], &super::header(b'X', 1, 1)].concat(), 7), Err(ArchiveError::Kind(b'X')));
    }

    proptest! {
        #[test]
        fn blocks_are_the_same_however_they_are_cut(
            blocks in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..8),
            banner in "[a-z \n]{0,100}",
            chunk in 1usize..400,
        ) {
            let mut stream = [banner.as_bytes(), MAGIC].concat();
            let mut expected: Vec<(char, Vec<u8>)> = Vec::new();
            for (plain, bytes) in blocks {
                let length = u32::try_from(bytes.len()).unwrap();
                let header = if plain { plain_header(length) } else { zstd_header(length, length + 1) };
                stream.extend([&header[..], &bytes].concat());
                match expected.last_mut() {
                    Some(('P', last)) if plain => last.extend(bytes),
                    _ => expected.push((if plain { 'P' } else { 'Z' }, bytes)),
                }
            }
            prop_assert_eq!(read(&stream, chunk), Ok(expected));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&[&MAGIC[..], &bytes].concat(), 11);
        }
    }
}
