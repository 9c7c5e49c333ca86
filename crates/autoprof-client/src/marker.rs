//! The client's side of the marker files.
use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use autoprof_protocol::{Marker, MarkerTime};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Longest marker content that is read.
const LONGEST: u64 = 64;

/// A marker that the client waits for: a FIFO that somebody will write to.
#[derive(Debug)]
pub struct Waiting {
    path: PathBuf,
    fifo: OwnedFd,
}

/// What is known of a marker when the client begins to wait for it.
#[derive(Debug)]
pub enum Wait {
    /// The signal came first.
    Here(MarkerTime),
    /// It is still to come.
    Fifo(Waiting),
}

/// Begins to wait for a marker.
///
/// # Errors
/// When neither a FIFO can be made nor a file be read.
pub fn wait(dir: &Path, marker: Marker) -> io::Result<Wait> {
    let path = dir.join(marker.file_name());
    // It gets its name when somebody reads it: a writer that came in between would take the client for gone.
    let unnamed = dir.join(format!("{}.{}", marker.file_name(), std::process::id()));
    make_fifo(&unnamed)?;
    let fifo = read_end(&unnamed)?;
    let named = fs::hard_link(&unnamed, &path);
    fs::remove_file(&unnamed)?;
    match named {
        Ok(()) => return Ok(Wait::Fifo(Waiting { path, fifo })),
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        // A person may have made one.
        Err(_) if is_fifo(&path) => {
            let fifo = read_end(&path)?;
            return Ok(Wait::Fifo(Waiting { path, fifo }));
        }
        Err(_) => {}
    }
    let file = fs::File::open(&path)?;
    let time = parse(&read_some(file)?);
    fs::remove_file(&path)?;
    Ok(Wait::Here(time))
}

/// Opens a FIFO to read it, and to write: then there is no end of file, and no wake-up, when a writer closes.
fn read_end(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl Waiting {
    /// Reads the FIFO once it is readable; none when nothing was there after all.
    ///
    /// # Errors
    /// When reading fails.
    pub fn take(&self) -> io::Result<Option<MarkerTime>> {
        let mut buffer = [0; LONGEST as usize];
        let n = match rustix::io::read(&self.fifo, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other?,
        };
        fs::remove_file(&self.path)?;
        Ok(Some(parse(&String::from_utf8_lossy(&buffer[..n]))))
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// Raises a marker: into the FIFO if the client came first, into a new plain file if not.
///
/// # Errors
/// When neither can be written.
pub fn raise(dir: &Path, marker: Marker, time: MarkerTime) -> io::Result<()> {
    let path = dir.join(marker.file_name());
    let content = format!("{time}\n");
    let into_fifo = || {
        // Non-blocking: with the client gone and its FIFO left behind, a plain open would hang for ever.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fifo = rustix::fs::open(&path, flags, Mode::empty())?;
        fs::File::from(fifo).write_all(content.as_bytes())
    };
    // A client that waits needs no file, which a disk that is full would not take.
    if is_fifo(&path) {
        return into_fifo();
    }
    // The plain file appears with its content or not at all, so that the client never reads half of it.
    let whole = dir.join(format!("{}.{}", marker.file_name(), std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole)?;
    file.write_all(content.as_bytes()).inspect_err(|_| drop(fs::remove_file(&whole)))?;
    let linked = fs::hard_link(&whole, &path);
    fs::remove_file(&whole)?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => into_fifo(),
        other => other,
    }
}

/// Removes the FIFOs that an earlier client of the directory waited at: nobody reads them any more, and who writes to
/// one should not take it for a client's. A plain file is a signal that came first, and stays.
pub fn remove_stale(dir: &Path) {
    for marker in Marker::ALL {
        let path = dir.join(marker.file_name());
        if is_fifo(&path) {
            let _ = fs::remove_file(path);
        }
    }
}

fn is_fifo(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Makes a FIFO; something that is there already is left as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn read_some(from: impl Read) -> io::Result<String> {
    let mut content = Vec::new();
    from.take(LONGEST).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn parse(content: &str) -> MarkerTime {
    content.parse().unwrap_or_else(|e| {
        crate::log(&format!("{e}; taken as now"));
        MarkerTime::Now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_came_first_is_seen_and_its_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        raise(dir.path(), Marker::Start, MarkerTime::At(5)).unwrap();
        assert!(matches!(wait(dir.path(), Marker::Start).unwrap(), Wait::Here(MarkerTime::At(5))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_client_that_came_first_is_woken_through_its_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let Wait::Fifo(waiting) = wait(dir.path(), Marker::Stop).unwrap() else { panic!("nobody signalled") };
        assert!(waiting.take().unwrap().is_none());
        raise(dir.path(), Marker::Stop, MarkerTime::Now).unwrap();
        assert_eq!(waiting.take().unwrap(), Some(MarkerTime::Now));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_fifo_is_never_seen_without_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let (path, at) = (dir.path().to_owned(), dir.path().join(Marker::Start.file_name()));
        let (taken, next) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            for () in next {
                while !is_fifo(&at) {
                    std::thread::yield_now();
                }
                raise(&path, Marker::Start, MarkerTime::Now).unwrap();
            }
        });
        for _ in 0..1000 {
            taken.send(()).unwrap();
            let Wait::Fifo(waiting) = wait(dir.path(), Marker::Start).unwrap() else { panic!("nobody signalled") };
            while waiting.take().unwrap().is_none() {
                assert!(!writer.is_finished(), "the writer failed");
                std::thread::yield_now();
            }
        }
        drop(taken);
        writer.join().unwrap();
    }

    #[test]
    fn what_a_person_types_works_in_both_orders() {
        let dir = tempfile::tempdir().unwrap();
        let echo = format!("echo A > {}/profiler.report", dir.path().display());
        let run = || assert!(std::process::Command::new("sh").args(["-c", &echo]).status().unwrap().success());
        run();
        assert!(matches!(wait(dir.path(), Marker::Report).unwrap(), Wait::Here(MarkerTime::Now)));
        let Wait::Fifo(waiting) = wait(dir.path(), Marker::Report).unwrap() else { panic!("nobody signalled") };
        run();
        assert_eq!(waiting.take().unwrap(), Some(MarkerTime::Now));
    }

    #[test]
    fn a_fifo_whose_client_is_gone_does_not_hang_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        drop(wait(dir.path(), Marker::Start).unwrap());
        assert!(raise(dir.path(), Marker::Start, MarkerTime::Now).is_err());
    }
}
