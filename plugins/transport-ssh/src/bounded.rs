//! Files that are read whole, and are not trusted to have an end.
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

/// How long a pipe may take to bring its text.
const PIPE_LIMIT: Duration = Duration::from_secs(10);

/// Opens a file without waiting: a pipe that nobody writes to would wait for ever.
pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)
}

/// Reads a file to its end; a directory has none of its own.
///
/// # Errors
/// When it cannot be read, or is longer than `limit` bytes.
pub(crate) fn read(mut file: fs::File, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Vec::new());
    }
    let too_long = || io::Error::other(format!("it is longer than {} MiB", limit >> 20));
    if metadata.is_file() && metadata.len() > limit {
        return Err(too_long());
    }
    let mut data = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    let mut piece = vec![0; 64 << 10];
    let deadline = Instant::now() + PIPE_LIMIT;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(data),
            Ok(length) => data.extend_from_slice(&piece[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(e),
        }
        if data.len() as u64 > limit {
            return Err(too_long());
        }
    }
}
