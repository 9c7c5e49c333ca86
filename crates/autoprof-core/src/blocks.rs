//! The archive in the blocks that come over the line.
use autoprof_protocol::{
    archive::ArchiveError,
    blocks::{BLOCK, Part, Reader},
};
use zstd_safe::DCtx;

/// Takes blocks as they come and gives the bytes of the archive.
///
/// What comes from a host can be anything: no more comes out of a frame than it announced, which is [`BLOCK`] at most.
#[derive(Default)]
pub struct Blocks {
    reader: Reader,
    context: Option<DCtx<'static>>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Takes one chunk and hands the archive's bytes in it to `sink`, in parts.
    ///
    /// # Errors
    /// An [`ArchiveError`] wrapped in the sink's error type, or the sink's own error.
    pub fn push<E: From<ArchiveError>>(
        &mut self,
        chunk: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { reader, context, out } = self;
        reader.push(chunk, |part| match part {
            Part::Plain(bytes) => sink(bytes),
            Part::Zstd { frame, out: length } => {
                let context = context.get_or_insert_with(DCtx::create);
                out.resize(length.min(BLOCK), 0);
                let damaged = |what: &str| E::from(ArchiveError::Frame(what.to_owned()));
                match context.decompress(&mut out[..], frame) {
                    Ok(n) if n == length => sink(out),
                    Ok(n) => Err(damaged(&format!("{n} bytes come out of it, and not {length}"))),
                    Err(code) => Err(damaged(zstd_safe::get_error_name(code))),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use autoprof_protocol::blocks::{MAGIC, zstd_header};

    use super::*;

    fn push(frame: &[u8], announced: usize) -> Result<Vec<u8>, ArchiveError> {
        let header = zstd_header(u32::try_from(frame.len()).unwrap(), u32::try_from(announced).unwrap());
        let mut out = Vec::new();
        let stream = [&MAGIC[..], &header, frame].concat();
        Blocks::default().push(&stream, |bytes| {
            out.extend_from_slice(bytes);
            Ok::<_, ArchiveError>(())
        })?;
        Ok(out)
    }

    #[test]
    fn no_more_and_no_less_comes_out_than_was_announced() {
        let content = vec![7; 500_000];
        let mut frame = vec![0; 1000];
        let n = zstd_safe::compress(&mut frame[..], &content, 1).unwrap();
        frame.truncate(n);
        assert!(push(&frame, content.len()).unwrap() == content);
        for announced in [content.len() - 1, content.len() + 1] {
            assert!(matches!(push(&frame, announced), Err(ArchiveError::Frame(_))));
        }
        assert!(matches!(push(&frame[..n - 1], content.len()), Err(ArchiveError::Frame(_))));
        assert!(matches!(push(b"no frame at all", 100), Err(ArchiveError::Frame(_))));
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        // 1 GiB of zeros in 33 KiB; it says itself how much it is.
        let content = vec![0; 1 << 30];
        let mut frame = vec![0; 1 << 20];
        let n = zstd_safe::compress(&mut frame[..], &content, 1).unwrap();
        assert!(n < 100_000);
        assert!(matches!(push(&frame[..n], BLOCK), Err(ArchiveError::Frame(_))));
    }
}
