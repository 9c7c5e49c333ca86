//! Packing the results into one stream on standard output.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead, Read, Seek, SeekFrom},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use autoprof_protocol::{
    LOG_FILE, RESULTS_DIR,
    archive::{self, FileHeader, Have, Proof},
};

use crate::{squeeze::Squeezer, sys};

/// Room in the pipe on standard output; more takes a privilege (pipe(7), pipe-max-size).
const PIPE: usize = 1 << 20;
/// Most that is read of what the receiver has.
const MOST_HAVE: u64 = 64 << 20;

/// Packs every regular file of the results, and the client's log, in the order of their names; what standard input says
/// is there already is left out.
///
/// Links, FIFOs and devices are not results of anything and are passed over. A file that cannot be packed is named on
/// standard error, and does not hold the others.
///
/// # Errors
/// When a file cannot be read or the stream not be written.
pub fn pack(dir: &Path) -> io::Result<()> {
    // Whoever reads it reads 32 KiB at a time: with room for more than its default of 64 KiB in the pipe, the two sides
    // need not wake each other for each. Where it is no pipe, or the user has too many, it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(io::stdout(), PIPE);
    // Not by way of the standard library's standard output, which looks for ends of lines.
    let out = Squeezer::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))?;
    // The window is over, or the test still runs: in either case there is nothing that this should be in the way of.
    sys::step_back();
    let mut have = read_have()?;
    let mut encoder = archive::Encoder::new(out)?;
    let results = dir.join(RESULTS_DIR);
    let mut files = Vec::new();
    find(&results, &mut files)?;
    files.sort();
    for path in files {
        let name = plain_name(path.strip_prefix(&results).unwrap_or(&path));
        if let Err(e) = archive::check_path(&name) {
            eprintln!("left out {name}: {e}");
            continue;
        }
        add(&mut encoder, &name, &path, have.remove(&name))?;
    }
    add(&mut encoder, LOG_FILE, &dir.join(LOG_FILE), have.remove(LOG_FILE))?;
    encoder.finish()?;
    Ok(())
}

/// What the receiver has already, by path.
fn read_have() -> io::Result<BTreeMap<String, Have>> {
    let mut have = BTreeMap::new();
    for line in io::stdin().lock().take(MOST_HAVE).lines() {
        let one: Have = serde_json::from_str(&line?)?;
        have.insert(one.path.clone(), one);
    }
    Ok(have)
}

/// A path as it can stand in an archive: bytes that could not are written as `%` and two digits.
fn plain_name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                escape(&mut name, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                name.push(c);
            }
        }
        escape(&mut name, chunk.invalid());
    }
    name
}

fn escape(name: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(name, "%{byte:02x}");
    }
}

fn add<W: io::Write>(encoder: &mut archive::Encoder<W>, name: &str, path: &Path, have: Option<Have>) -> io::Result<()> {
    let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let prepared = opened.and_then(|file| {
        let size = file.metadata()?.len();
        let (hasher, from, proof) = compare(&file, size, have)?;
        (&file).seek(SeekFrom::Start(from))?;
        Ok((file, FileHeader { path: name.to_owned(), size, from, proof }, hasher))
    });
    match prepared {
        Ok((file, header, hasher)) => encoder.rest(&header, hasher, file),
        Err(e) => {
            eprintln!("left out {name}: {e}");
            Ok(())
        }
    }
}

/// From where a file is sent: from its beginning, unless what the receiver has is what is here.
fn compare(mut file: &File, size: u64, have: Option<Have>) -> io::Result<(blake3::Hasher, u64, Proof)> {
    let Some(have) = have.filter(|have| have.bytes > 0 && have.bytes <= size) else {
        return Ok((blake3::Hasher::new(), 0, Proof::Whole));
    };
    let Some(digest) = have.blake3 else { return Ok((blake3::Hasher::new(), have.bytes, Proof::Rest)) };
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut (&mut file).take(have.bytes), &mut hasher)?;
    if hasher.finalize().to_hex().as_str() == digest {
        Ok((hasher, have.bytes, Proof::Whole))
    } else {
        Ok((blake3::Hasher::new(), 0, Proof::Whole))
    }
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn names_that_an_archive_cannot_have_are_written_so_that_it_can() {
        let name = |bytes: &[u8]| plain_name(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(name("a/é b".as_bytes()), "a/é b");
        assert_eq!(name(b"a/\x1b[2J\xff\\\n"), "a/%1b[2J%ff%5c%0a");
        for bytes in [&b"\xff\xfe"[..], b"\x00x", b"\\"] {
            archive::check_path(&name(bytes)).unwrap();
        }
    }

    #[test]
    fn only_what_is_the_same_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"0123456789").unwrap();
        let file = || File::open(&path).unwrap();
        let have = |bytes: u64, content: &[u8]| {
            Some(Have { path: "f".into(), bytes, blake3: Some(blake3::hash(content).to_hex().to_string()) })
        };
        let from = |have| compare(&file(), 10, have).map(|(_, from, proof)| (from, proof)).unwrap();
        assert_eq!(from(have(4, b"0123")), (4, Proof::Whole));
        assert_eq!(from(have(4, b"0x23")), (0, Proof::Whole));
        assert_eq!(from(have(11, b"01234567890")), (0, Proof::Whole));
        assert_eq!(from(Some(Have { path: "f".into(), bytes: 4, blake3: None })), (4, Proof::Rest));
        assert_eq!(from(None), (0, Proof::Whole));
    }
}
