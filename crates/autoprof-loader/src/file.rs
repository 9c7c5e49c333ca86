//! A plugin's file, opened once: what is checked, read, hashed and loaded is one and the same.
use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::AsRawFd as _,
};

use autoprof_abi::note::PluginNote;
use autoprof_core::trust::{self, Place};
use blake3::{Hash, Hasher};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    fs::{FileType, MemfdFlags, SealFlags, Stat, fcntl_add_seals, memfd_create},
    io::Errno,
};

use crate::{PluginFileError, Trust, elf};

/// Which file it is, and in which state: a replaced one is another, and writing to it changes its time. (Its time of
/// change would say more, but a link made elsewhere changes that too.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    length: i64,
    modified: (i64, i64),
}

impl Identity {
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn of(stat: &Stat) -> Self {
        Self {
            device: u64::from(stat.st_dev),
            inode: u64::from(stat.st_ino),
            length: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }

    /// Whether they are one file, maybe in two states.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Device and inode.
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A regular file that was found at a trusted place.
#[derive(Debug)]
pub(crate) struct PluginFile {
    /// Where it is, absolute and without links.
    pub(crate) path: Utf8PathBuf,
    /// Which it is.
    pub(crate) identity: Identity,
    file: File,
}

impl PluginFile {
    /// Opens a file, and checks it and the way to it.
    ///
    /// # Errors
    /// When it is not there, not trusted, or not a regular file.
    pub(crate) fn open(path: &Utf8Path, trust: Trust) -> Result<Self, PluginFileError> {
        Self::at(trust::find(path, trust)?)
    }

    /// Opens a file at a place that was checked.
    ///
    /// # Errors
    /// When it is not a regular file.
    pub(crate) fn at(place: Place) -> Result<Self, PluginFileError> {
        if FileType::from_raw_mode(place.stat.st_mode) != FileType::RegularFile {
            return Err(PluginFileError::NotALibrary("it is not a regular file".to_owned()));
        }
        // The same file again, for reading; its name is not asked any more.
        let file = File::open(descriptor_path(&place.fd))?;
        Ok(Self { path: place.path, identity: Identity::of(&place.stat), file })
    }

    /// What it says of itself.
    pub(crate) fn note(&self) -> Result<PluginNote, PluginFileError> {
        elf::note_of(&self.file)
    }

    /// The digest of its content.
    pub(crate) fn digest(&self) -> io::Result<Hash> {
        digest(&self.file)
    }

    /// The file itself.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Its content in memory, which nobody can write to any more.
    pub(crate) fn sealed_copy(&self, name: &str) -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create(name, flags | MemfdFlags::EXEC) {
            // Linux before 6.3 does not know that a memory file may be one that is not to be executed.
            Err(Errno::INVAL) => memfd_create(name, flags)?,
            other => other?,
        };
        let mut copy = File::from(fd);
        (&self.file).rewind()?;
        // A file that grows meanwhile has another digest, and must not fill the memory.
        let length = u64::try_from(self.identity.length).unwrap_or(0).saturating_add(1);
        io::copy(&mut (&self.file).take(length), &mut copy)?;
        fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(copy)
    }
}

/// The digest of a file's content.
pub(crate) fn digest(mut file: &File) -> io::Result<Hash> {
    file.rewind()?;
    let mut hasher = Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}

/// A name for what a descriptor of this process is open on, as long as it is open.
pub(crate) fn descriptor_path(fd: &impl std::os::fd::AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
