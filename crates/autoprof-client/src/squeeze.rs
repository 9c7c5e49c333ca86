//! Sends an archive in blocks, compressed where that is quicker than to send it as it is.
use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use autoprof_protocol::blocks::{BLOCK, MAGIC, plain_header, zstd_header};
use zstd_safe::CCtx;

/// Zstandard's quickest usual level: 14 times less of perf's data at 1.5 GB/s; level 3 gives one fourteenth more.
const LEVEL: i32 = 1;
/// A line that takes more bytes per second than this is not worth looking at.
const FAST: f64 = 400e6;
/// What is this large makes a block of its own if it goes as it is, and is not copied together with others.
const LARGE: usize = 64 << 10;
/// How much of what was measured still counts after the next block.
const MEMORY: f64 = 0.8;
/// After so many blocks the other way is tried again: the line, or what is sent, may have changed.
const TRY_AGAIN: u32 = 32;

/// Takes an archive, sends blocks.
pub struct Squeezer<W> {
    out: W,
    /// How many bytes of the archive make a block.
    size: usize,
    block: Vec<u8>,
    frame: Vec<u8>,
    context: CCtx<'static>,
    pace: Pace,
}

impl<W: Write> Squeezer<W> {
    /// Begins a stream of blocks of so many bytes of the archive, [`BLOCK`] at most.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(mut out: W, size: usize) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let size = size.clamp(1, BLOCK);
        let frame = vec![0; zstd_safe::compress_bound(size)];
        Ok(Self { out, size, block: Vec::with_capacity(size), frame, context: CCtx::create(), pace: Pace::default() })
    }

    fn send(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let squeezed = if self.pace.wants_squeezing() { self.squeeze() } else { None };
        match squeezed {
            Some(short) => {
                let frame = &self.frame[..short];
                put(&mut self.out, &mut self.pace, &zstd_header(length(frame)?, length(&self.block)?), frame)?;
            }
            None => plain(&mut self.out, &mut self.pace, &self.block)?,
        }
        self.block.clear();
        Ok(())
    }

    /// Compresses the block; gives the length of the frame, if that is less.
    fn squeeze(&mut self) -> Option<usize> {
        let begun = Instant::now();
        let squeezed = self.context.compress(&mut self.frame[..], &self.block, LEVEL).unwrap_or(usize::MAX);
        self.pace.squeezed(self.block.len(), squeezed, begun.elapsed());
        (squeezed < self.block.len()).then_some(squeezed)
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

/// Sends a block as it is.
fn plain(out: &mut impl Write, pace: &mut Pace, block: &[u8]) -> io::Result<()> {
    put(out, pace, &plain_header(length(block)?), block)
}

/// Sends a block, and notes how long that took.
fn put(out: &mut impl Write, pace: &mut Pace, header: &[u8], content: &[u8]) -> io::Result<()> {
    let begun = Instant::now();
    out.write_all(header)?;
    out.write_all(content)?;
    pace.sent(content.len(), begun.elapsed());
    Ok(())
}

impl<W: Write> Write for Squeezer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.size - self.block.len());
        if self.block.is_empty() && n >= LARGE && !self.pace.wants_squeezing() {
            plain(&mut self.out, &mut self.pace, &bytes[..n])?;
            return Ok(n);
        }
        self.block.extend_from_slice(&bytes[..n]);
        if self.block.len() == self.size {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.out.flush()
    }
}

/// What is known of how fast things go.
#[derive(Debug, Default)]
struct Pace {
    /// Bytes that were written lately, and how long that took. A line that is slow makes its writer wait once the room
    /// on the way is full; single writes say little.
    sent: Measured,
    /// Bytes that were compressed lately, and how long that took.
    squeezed: Measured,
    /// How many bytes become one.
    ratio: f64,
    /// Blocks since it was tried.
    untried: u32,
}

#[derive(Debug, Default)]
struct Measured {
    bytes: f64,
    seconds: f64,
}

impl Measured {
    fn add(&mut self, bytes: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a block")]
        let bytes = bytes as f64;
        self.bytes = self.bytes * MEMORY + bytes;
        self.seconds = self.seconds * MEMORY + took.as_secs_f64();
    }

    /// Bytes a second; without measurement as many as one likes.
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes / self.seconds } else { f64::INFINITY }
    }
}

impl Pace {
    fn sent(&mut self, bytes: usize, took: Duration) {
        self.sent.add(bytes, took);
        self.untried = self.untried.saturating_add(1);
    }

    fn squeezed(&mut self, from: usize, to: usize, took: Duration) {
        self.squeezed.add(from, took);
        #[expect(clippy::cast_precision_loss, reason = "bytes of a block")]
        let ratio = from as f64 / to.max(1) as f64;
        self.ratio = ratio.max(1.0);
        self.untried = 0;
    }

    /// Whether the next block is quicker compressed: what compressing takes is less than what it saves of the sending.
    fn wants_squeezing(&self) -> bool {
        let line = self.sent.rate();
        if line >= FAST {
            return false;
        }
        let known = self.ratio > 0.0 && self.untried < TRY_AGAIN;
        !known || 1.0 / self.squeezed.rate() + 1.0 / (self.ratio * line) < 1.0 / line
    }
}

#[cfg(test)]
mod tests {
    use autoprof_protocol::{archive::ArchiveError, blocks};

    use super::*;

    const MIB: usize = 1 << 20;

    fn pace(line_mib_s: f64, squeeze_mib_s: f64, ratio: f64) -> Pace {
        let mut pace = Pace { ratio, ..Pace::default() };
        for (measured, rate) in [(&mut pace.sent, line_mib_s), (&mut pace.squeezed, squeeze_mib_s)] {
            measured.add(MIB, Duration::from_secs_f64(1.0 / rate));
        }
        pace
    }

    #[test]
    fn a_slow_line_gets_what_is_smaller_and_a_fast_one_what_is_there() {
        assert!(pace(12.0, 500.0, 14.0).wants_squeezing());
        assert!(!pace(12.0, 500.0, 1.0).wants_squeezing(), "what cannot be compressed");
        assert!(!pace(12.0, 10.0, 2.0).wants_squeezing(), "a slow host");
        assert!(!pace(900.0, 5000.0, 14.0).wants_squeezing());
        assert!(!Pace::default().wants_squeezing(), "nothing is known of the line");
        let unknown = Pace { ratio: 0.0, ..pace(12.0, 500.0, 1.0) };
        assert!(unknown.wants_squeezing(), "it has to be tried");
        assert!(Pace { untried: TRY_AGAIN, ..pace(12.0, 500.0, 1.0) }.wants_squeezing(), "and tried again");
    }

    #[test]
    fn what_is_sent_is_what_was_written() {
        let content: Vec<u8> = (0..3 * MIB + 17).map(|n| (n / 100) as u8).collect();
        for slow in [false, true] {
            let mut squeezer = Squeezer::new(Vec::new(), BLOCK).unwrap();
            if slow {
                squeezer.pace = pace(1.0, 500.0, 10.0);
            }
            squeezer.write_all(&content).unwrap();
            squeezer.flush().unwrap();
            let sent = squeezer.out;
            assert_eq!(sent.len() < content.len() / 2, slow, "{}", sent.len());
            let mut out = Vec::new();
            let read = blocks::Reader::default().push(&sent, |part| -> Result<(), ArchiveError> {
                match part {
                    blocks::Part::Plain(bytes) => out.extend_from_slice(bytes),
                    blocks::Part::Zstd { frame, out: length } => {
                        let mut bytes = vec![0; length];
                        assert_eq!(zstd_safe::decompress(&mut bytes[..], frame), Ok(length));
                        out.extend(bytes);
                    }
                }
                Ok(())
            });
            read.unwrap();
            assert!(out == content);
        }
    }
}
