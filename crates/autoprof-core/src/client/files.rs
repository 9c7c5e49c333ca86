//! Files of the controller that profilers need on a host: packed once for all hosts, and sent before the client starts.
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use autoprof_protocol::{FILES_DIR, ProfilerEntry, SentFile};
use bytes::Bytes;

use super::{HostClient, Trouble, within};
use crate::transport::{Command, capture};

/// Most that is sent to a host for its profilers: it is held in memory.
const MOST: usize = 1 << 30;
/// Most that the host may say while it unpacks.
const MOST_WORDS: usize = 64 * 1024;
/// Unpacks what comes as this user's own.
const UNPACK: &str = "umask 077; mkdir -p \"$1\" && exec tar -xof - -C \"$1\"";

/// What each profiler of a host is sent.
type Contents = BTreeMap<String, Vec<SentFile>>;

/// What was packed so far: hosts that are sent the same share it.
#[derive(Debug, Default)]
pub(crate) struct Parcels(tokio::sync::Mutex<BTreeMap<Contents, Bytes>>);

impl Parcels {
    /// One that is being packed is waited for.
    async fn packed(&self, contents: &Contents) -> Result<Bytes, Trouble> {
        let mut parcels = self.0.lock().await;
        if let Some(packed) = parcels.get(contents) {
            return Ok(packed.clone());
        }
        let wanted = contents.clone();
        let packed = tokio::task::spawn_blocking(move || pack(&wanted)).await.map_err(Trouble::new)?;
        let packed = packed.map_err(|e| Trouble::new(format!("what its profilers need cannot be packed: {e}")))?;
        parcels.insert(contents.clone(), packed.clone());
        Ok(packed)
    }
}

impl HostClient {
    /// Puts what profilers need into the client's directory.
    pub(super) async fn send_files(&mut self, profilers: &[ProfilerEntry], directory: &str) -> Result<(), Trouble> {
        let files = profilers.iter().map(|profiler| (profiler.name.clone(), profiler.invocation.files.clone()));
        let contents: Contents = files.filter(|(_, files)| !files.is_empty()).collect();
        if contents.is_empty() {
            return Ok(());
        }
        let packed = self.context.parcels.packed(&contents).await?;
        let session = self.connect().await?;
        let command = Command::sh(UNPACK, [format!("{directory}/{FILES_DIR}")]);
        let sent = capture(session.as_ref(), &command, packed, MOST_WORDS);
        let done = within("install", self.context.settings.timeouts.install, sent).await?;
        if done.status.success() {
            return Ok(());
        }
        let message =
            format!("tar could not unpack there what its profilers need ({}): {}", done.status, done.stderr_text());
        Err(Trouble::new(message))
    }
}

/// Why something that is to be sent cannot be, if it cannot: before the test rather than when it is sent.
pub(super) fn unreadable(files: &[SentFile]) -> Option<String> {
    files.iter().find_map(|SentFile { from, name }| {
        if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains('\0') {
            return Some(format!("{from} cannot be sent as {name:?}, which is not a plain name"));
        }
        let looked = fs::metadata(from).and_then(|found| match found.file_type() {
            kind if kind.is_dir() => fs::read_dir(from).map(drop),
            kind if kind.is_file() => fs::File::open(from).map(drop),
            // Reading of a FIFO or a device may never end.
            _ => Err(io::Error::other("it is neither a file nor a directory")),
        });
        looked.err().map(|e| {
            let here = std::env::current_dir().unwrap_or_default();
            format!("{from} cannot be read on the controller: {e} (seen from {})", here.display())
        })
    })
}

/// A tar archive, with names and modes alone.
fn pack(contents: &Contents) -> io::Result<Bytes> {
    let mut archive = tar::Builder::new(Bounded(Vec::new()));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    for (profiler, files) in contents {
        for file in files {
            let to = Path::new(profiler).join(&file.name);
            // What the user named may be a link; what is in a directory stays what it is.
            let from = fs::canonicalize(&file.from).map_err(|e| about(Path::new(&file.from), &e))?;
            add(&mut archive, &from, &to)?;
        }
    }
    Ok(archive.into_inner()?.0.into())
}

/// Adds a file, or a directory with its files, directories and links. What is something else is left out: it has no content
/// that could be sent.
fn add(archive: &mut tar::Builder<Bounded>, from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from).map_err(|e| about(from, &e))?.file_type();
    if kind.is_dir() {
        archive.append_dir(to, from).map_err(|e| about(from, &e))?;
        for entry in fs::read_dir(from).map_err(|e| about(from, &e))? {
            let entry = entry.map_err(|e| about(from, &e))?;
            add(archive, &entry.path(), &to.join(entry.file_name()))?;
        }
    } else if kind.is_file() || kind.is_symlink() {
        archive.append_path_with_name(from, to).map_err(|e| about(from, &e))?;
    }
    Ok(())
}

fn about(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// Memory that takes so much and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0.len() + data.len() > MOST {
            return Err(io::Error::other(format!("more than {} MiB", MOST >> 20)));
        }
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn sent(from: &Path, name: &str) -> SentFile {
        SentFile { from: from.to_str().unwrap().to_owned(), name: name.to_owned() }
    }

    #[test]
    fn files_directories_and_links_are_packed_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (script, tree) = (dir.path().join("own.bt"), dir.path().join("tree"));
        fs::write(&script, "BEGIN { exit(); }").unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("run", tree.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
        symlink(&tree, dir.path().join("here")).unwrap();
        let files = vec![sent(&script, "s.bt"), sent(&dir.path().join("here"), "tree")];
        assert_eq!(unreadable(&files), None);
        let packed = pack(&BTreeMap::from([("bpftrace".to_owned(), files)])).unwrap();
        let out = tempfile::tempdir().unwrap();
        tar::Archive::new(&*packed).unpack(out.path()).unwrap();
        let there = out.path().join("bpftrace");
        assert_eq!(fs::read_to_string(there.join("s.bt")).unwrap(), "BEGIN { exit(); }");
        assert_eq!(fs::read_link(there.join("tree/link")).unwrap(), Path::new("run"));
        assert_eq!(fs::metadata(there.join("tree/run")).unwrap().permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn what_cannot_be_sent_is_said_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        let absent = unreadable(&[sent(&dir.path().join("absent"), "x")]).unwrap();
        assert!(absent.contains("absent") && absent.contains("No such file"), "{absent}");
        let device = unreadable(&[sent(Path::new("/dev/zero"), "x")]).unwrap();
        assert!(device.contains("neither a file nor a directory"), "{device}");
        for name in ["", "..", "a/b", ".x"] {
            assert!(unreadable(&[sent(dir.path(), name)]).is_some(), "{name:?}");
        }
    }
}
