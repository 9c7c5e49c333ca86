//! Writing what a host sends into its directory of the run, and nowhere else.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
};

use autoprof_protocol::archive::{FileHeader, Item};
use camino::Utf8PathBuf;
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use crate::collect::{CollectError, Collection};

/// Writes the files of an archive. A file that the controller's file system does not take costs itself alone.
pub(crate) struct Unpacker {
    directory: Utf8PathBuf,
    /// The directory, once something was written into it.
    root: Option<OwnedFd>,
    segment: u32,
    current: Option<Current>,
    /// Which names are on the disk under which number: where case makes no difference, two names are one file.
    written: BTreeMap<(u64, u64), String>,
    pub(crate) collection: Collection,
}

struct Current {
    name: String,
    from: u64,
    file: File,
}

impl Unpacker {
    pub(crate) fn new(directory: Utf8PathBuf, segment: u32) -> Self {
        let (written, collection) = (BTreeMap::new(), Collection::default());
        Self { directory, root: None, segment, current: None, written, collection }
    }

    pub(crate) fn take(&mut self, item: Item<'_>) -> Result<(), CollectError> {
        match item {
            Item::Begin(header) => {
                self.current = None;
                match self.begin(&header) {
                    Ok(file) => {
                        self.current = file.map(|file| Current { name: header.path, from: header.from, file });
                        Ok(())
                    }
                    Err(e) => self.failed(&header.path, e),
                }
            }
            Item::Content(content) => {
                self.collection.received += content.len() as u64;
                let Some(mut current) = self.current.take() else { return Ok(()) };
                match current.file.write_all(content) {
                    Ok(()) => {
                        self.current = Some(current);
                        Ok(())
                    }
                    Err(e) => self.failed(&current.name, e),
                }
            }
            Item::Verified(blake3) => {
                if let Some(current) = self.current.take() {
                    self.collection.verified.insert(current.name, blake3);
                }
                Ok(())
            }
            Item::Torn(kept) => {
                let Some(current) = self.current.take() else { return Ok(()) };
                let cut = current.file.set_len(current.from.saturating_add(kept));
                cut.or_else(|e| self.failed(&current.name, e))
            }
            Item::End(_) => Ok(()),
        }
    }

    /// What is wrong with one file costs that file; what is wrong with the disk costs the collection.
    fn failed(&mut self, name: &str, source: io::Error) -> Result<(), CollectError> {
        if !is_of_the_file(&source) {
            return Err(CollectError::Write { path: self.directory.join(name), source });
        }
        self.collection.left_out.push(format!("{name}: cannot write it on the controller: {source}"));
        Ok(())
    }

    /// Opens the file of an entry; none: what is here already stands.
    fn begin(&mut self, header: &FileHeader) -> io::Result<Option<File>> {
        let (parent, name) = self.parent(&header.path)?;
        if header.from == 0 && segment_of(&header.path) < self.segment {
            let here = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let here = here.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            if here > header.size {
                // What is here was on the host before it lost it: it stands, as a beginning.
                return Ok(None);
            }
            if here > 0 {
                // Written anew at its end (perf's header), or torn: nobody can tell, so both are kept.
                rustix::fs::renameat(&parent, name, &parent, format!("{name}.checkpoint"))?;
            }
        }
        let append = header.from > 0;
        let make = if append { OFlags::APPEND } else { OFlags::CREATE };
        // A FIFO that somebody put there would hold the writer for ever.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | make;
        let file = File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(Errno::NOTSUP.into());
        }
        let number = (found.dev(), found.ino());
        if let Some(other) = self.written.get(&number) {
            let message = format!("it is the same file as {other} there");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        self.written.insert(number, header.path.clone());
        if append && found.len() != header.from {
            return Err(io::Error::other(format!(
                "it changed meanwhile: {} bytes, and not {}",
                found.len(),
                header.from
            )));
        }
        if !append {
            file.set_len(0)?;
        }
        Ok(Some(file))
    }

    /// The directory that a file is in, made where it is missing; no link on the way is followed. The path was checked by
    /// the decoder.
    fn parent<'a>(&mut self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let root = match &self.root {
            Some(root) => root,
            None => {
                std::fs::create_dir_all(&self.directory)?;
                self.root.insert(open_directory(rustix::fs::CWD, self.directory.as_str())?)
            }
        };
        let mut here = root.try_clone()?;
        let (parents, name) = path.rsplit_once('/').map_or((None, path), |(parents, name)| (Some(parents), name));
        for part in parents.into_iter().flat_map(|parents| parents.split('/')) {
            here = match open_directory(&here, part) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o777))?;
                    open_directory(&here, part)?
                }
                other => other?,
            };
        }
        Ok((here, name))
    }
}

fn open_directory(at: impl std::os::fd::AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Whether an error says that one name or one file is not taken, and not that the disk takes nothing.
fn is_of_the_file(e: &io::Error) -> bool {
    if e.raw_os_error().is_none() {
        return e.kind() == io::ErrorKind::AlreadyExists;
    }
    let of_the_file = [
        Errno::NAMETOOLONG,
        Errno::INVAL,
        Errno::ILSEQ,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::EXIST,
        Errno::LOOP,
        Errno::MLINK,
        Errno::NXIO,
        Errno::NOTSUP,
        Errno::ACCESS,
        Errno::PERM,
        Errno::TXTBSY,
    ];
    of_the_file.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// The segment that a file is of; the client's log is of all.
fn segment_of(path: &str) -> u32 {
    let mut parts = path.split('/').skip(1);
    match parts.next().map(|part| part.strip_prefix("segment-").and_then(|n| n.parse().ok())) {
        None => u32::MAX,
        Some(None) => 1,
        Some(Some(n)) => n,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use autoprof_protocol::archive::Proof;
    use camino::Utf8Path;

    use super::*;

    fn put(unpacker: &mut Unpacker, path: &str, content: &[u8]) -> Result<(), CollectError> {
        let header = FileHeader { path: path.into(), size: content.len() as u64, from: 0, proof: Proof::Whole };
        unpacker.take(Item::Begin(header))?;
        unpacker.take(Item::Content(content))?;
        unpacker.take(Item::Verified(String::new()))
    }

    #[test]
    fn file_that_cannot_be_written_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let host = Utf8Path::from_path(dir.path()).unwrap().join("h1");
        let outside = dir.path().join("outside");
        fs::create_dir_all(host.join("p")).unwrap();
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, host.join("p/link")).unwrap();
        std::os::unix::fs::symlink(outside.join("x"), host.join("p/file-link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, host.join("p/fifo").as_std_path(), Mode::RWXU).unwrap();
        // As it is where case makes no difference.
        fs::write(host.join("p/A"), "").unwrap();
        fs::hard_link(host.join("p/A"), host.join("p/a")).unwrap();
        fs::create_dir(host.join("p/dir")).unwrap();
        let mut unpacker = Unpacker::new(host.clone(), 1);
        for path in ["p/A", "p/a", "p/dir", "p/fifo", "p/file-link", "p/link/x", "p/plain", "p/plain/below", "p/z"] {
            put(&mut unpacker, path, path.as_bytes()).unwrap();
        }
        let whole: Vec<&str> = unpacker.collection.verified.keys().map(String::as_str).collect();
        assert_eq!(whole, ["p/A", "p/plain", "p/z"]);
        assert_eq!(fs::read_to_string(host.join("p/A")).unwrap(), "p/A");
        let left_out = &unpacker.collection.left_out;
        assert_eq!(left_out.len(), 6, "{left_out:?}");
        assert!(
            left_out[0].starts_with("p/a: ") && left_out[0].ends_with("the same file as p/A there"),
            "{left_out:?}"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn file_that_was_torn_on_the_host_is_cut_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let host = Utf8Path::from_path(dir.path()).unwrap().to_owned();
        let mut unpacker = Unpacker::new(host.clone(), 1);
        let header = FileHeader { path: "p/x".into(), size: 8, from: 0, proof: Proof::Whole };
        unpacker.take(Item::Begin(header)).unwrap();
        unpacker.take(Item::Content(b"real\0\0\0\0")).unwrap();
        unpacker.take(Item::Torn(4)).unwrap();
        assert_eq!(fs::read(host.join("p/x")).unwrap(), b"real");
        assert!(unpacker.collection.verified.is_empty());
    }
}
