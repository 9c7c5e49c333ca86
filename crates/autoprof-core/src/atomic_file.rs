//! Files that are there whole or not at all: somebody may have the earlier one open, or need it still.
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

/// A file that is written beside its place, and put there when it is whole. Dropped before that, it leaves what is there
/// as it is.
#[derive(Debug)]
pub struct AtomicFile {
    path: Utf8PathBuf,
    /// Where it is written; none once it is in its place.
    part: Option<Utf8PathBuf>,
    file: BufWriter<File>,
}

impl AtomicFile {
    /// Begins a file; where its place is a link, that stays one.
    ///
    /// # Errors
    /// When no file can be made beside its place.
    pub fn create(path: &Utf8Path) -> io::Result<Self> {
        let path = path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
        let part =
            path.with_file_name(format!(".{}.part-{}", path.file_name().unwrap_or_default(), std::process::id()));
        // What another process of this number left, or put there to be written through: a link is removed, not followed.
        match fs::remove_file(&part) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = BufWriter::new(File::create_new(&part)?);
        Ok(Self { path, part: Some(part), file })
    }

    /// Puts it into its place.
    ///
    /// # Errors
    /// When not all of it can be written, or it cannot be put there.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        if let Some(part) = &self.part {
            fs::rename(part, &self.path)?;
        }
        self.part = None;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    /// What is left is a part that nobody asked for.
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_by_all_of_it_or_stays() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let (path, link) = (directory.join("file"), directory.join("link"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let mut given_up = AtomicFile::create(&path).unwrap();
        given_up.write_all(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert!(link.is_symlink() && directory.read_dir_utf8().unwrap().count() == 2);
    }

    #[test]
    fn link_in_place_of_the_part_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let victim = directory.join("victim");
        fs::write(&victim, "mine").unwrap();
        let part = directory.join(format!(".file.part-{}", std::process::id()));
        std::os::unix::fs::symlink(&victim, part).unwrap();
        let mut file = AtomicFile::create(&directory.join("file")).unwrap();
        file.write_all(b"text").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "text");
    }
}
