//! Packing the results into one stream on standard output.
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::{Display, Write as _},
    fs::{self, File},
    io::{self, BufRead, Read, Seek, SeekFrom},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use autoprof_protocol::{
    LOG_FILE, RESULTS_DIR,
    archive::{self, FileHeader, Have, Packed, Proof},
    text::is_unprintable,
};

use crate::{squeeze::Squeezer, sweep, sys};

/// Room in the pipe on standard output; more takes a privilege (pipe(7), pipe-max-size).
const PIPE: usize = 1 << 20;
/// Most that is read of what the receiver has.
const MOST_HAVE: u64 = 64 << 20;
/// How many files of one profiler are named that could not be packed.
const MOST_NAMED: usize = 20;
/// How much of such a name is shown, in characters.
const LONGEST_SHOWN: usize = 200;

/// Packs the regular files of the results, and the client's log, in the order of their names; what standard input says
/// is there already is left out.
///
/// What cannot be packed (a name that is too long, a directory that cannot be read, a FIFO, socket or device) costs itself:
/// it is named on standard error, and the others are packed. Symbolic links are passed over.
///
/// So many bytes of the archive are compressed together, [`BLOCK`](autoprof_protocol::blocks::BLOCK) at most.
///
/// # Errors
/// When the stream cannot be written.
pub fn pack(dir: &Path, block: usize) -> io::Result<()> {
    // As long as this goes on, somebody wants the results: nobody else may remove them.
    let _wanted = sweep::hold(dir)?;
    // Whoever reads it reads 32 KiB at a time: with room for more than its default of 64 KiB in the pipe, the two sides
    // need not wake each other for each. Where it is no pipe, or the user has too many, it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(io::stdout(), PIPE);
    // Not by way of the standard library's standard output, which looks for ends of lines.
    let out = Squeezer::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), block)?;
    // The window is over, or the test still runs: in either case there is nothing that this should be in the way of.
    sys::step_back();
    let mut have = read_have()?;
    let mut encoder = archive::Encoder::new(out)?;
    let mut left_out = LeftOut::default();
    for (name, path) in choose(find_all(&dir.join(RESULTS_DIR), &mut left_out), &mut left_out) {
        add(&mut encoder, &name, &path, have.remove(&name), &mut left_out)?;
    }
    add(&mut encoder, LOG_FILE, &dir.join(LOG_FILE), have.remove(LOG_FILE), &mut left_out)?;
    encoder.finish()?;
    left_out.report();
    Ok(())
}

/// What could not be packed, by the first part of its name, which is its profiler's.
#[derive(Debug, Default)]
struct LeftOut(BTreeMap<String, (Vec<String>, u64)>);

impl LeftOut {
    fn add(&mut self, name: &str, cause: impl Display) {
        let (lines, more) = self.0.entry(profiler_of(name).to_owned()).or_default();
        if lines.len() < MOST_NAMED {
            let shown: String = name.chars().take(LONGEST_SHOWN).collect();
            let rest = if shown.len() < name.len() { "…" } else { "" };
            lines.push(format!("{shown}{rest}: {cause}"));
        } else {
            *more += 1;
        }
    }

    fn report(&self) {
        for (profiler, (lines, more)) in &self.0 {
            lines.iter().for_each(|line| eprintln!("left out {line}"));
            if *more > 0 {
                eprintln!("left out {profiler}/…: {more} more");
            }
        }
    }
}

fn profiler_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Every file of the results with its name in the archive, by profiler.
type Files = BTreeMap<String, Vec<(String, PathBuf)>>;

fn find_all(results: &Path, left_out: &mut LeftOut) -> Files {
    let mut found = Vec::new();
    find(results, "", &mut found, left_out);
    let mut files = Files::new();
    for (name, path) in found {
        files.entry(profiler_of(&name).to_owned()).or_default().push((name, path));
    }
    files
}

/// The files that are packed, in the order of their names: where there are more than an archive takes, each profiler has
/// the same share, so that one with very many costs the others nothing.
fn choose(mut files: Files, left_out: &mut LeftOut) -> Vec<(String, PathBuf)> {
    files.values_mut().for_each(|own| own.sort());
    let counts: Vec<u64> = files.values().map(|own| own.len() as u64).collect();
    // One is the log's.
    let most_files = share(&counts, archive::MAX_FILES - 1);
    let lengths: Vec<u64> = files.values().map(|own| own.iter().map(|(name, _)| name.len() as u64).sum()).collect();
    let most_bytes = share(&lengths, archive::MAX_PATH_BYTES - LOG_FILE.len() as u64);
    let mut chosen = Vec::new();
    for own in files.into_values() {
        let (mut taken, mut bytes) = (0, 0);
        for (name, path) in own {
            bytes += name.len() as u64;
            if name == LOG_FILE {
                left_out.add(&name, "the name is that of the client's log");
            } else if taken < most_files && bytes <= most_bytes {
                taken += 1;
                chosen.push((name, path));
            } else {
                left_out.add(
                    &name,
                    format_args!(
                        "more than {} files or {} bytes of names",
                        archive::MAX_FILES,
                        archive::MAX_PATH_BYTES
                    ),
                );
            }
        }
    }
    chosen.sort();
    chosen
}

/// The most that each may have so that all together have at most `room`.
fn share(wanted: &[u64], room: u64) -> u64 {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    let mut room = room;
    let count = wanted.len();
    for (nth, want) in wanted.into_iter().enumerate() {
        let fair = room / (count - nth) as u64;
        if want > fair {
            return fair;
        }
        room -= want;
    }
    u64::MAX
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

/// A file's name as it can stand in an archive. Bytes that cannot (not UTF-8, unprintable, a backslash) are written as `%`
/// and two digits, and so is a `%` that would read like that: two names never become one.
fn plain_name(raw: &OsStr) -> String {
    let mut name = String::new();
    let bytes = raw.as_bytes();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            at += c.len_utf8();
            if is_unprintable(c) || c == '\\' || (c == '%' && looks_like_digits(&bytes[at..])) {
                escape(&mut name, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                name.push(c);
            }
        }
        at += chunk.invalid().len();
        escape(&mut name, chunk.invalid());
    }
    name
}

fn looks_like_digits(bytes: &[u8]) -> bool {
    bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit)
}

fn escape(name: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(name, "%{byte:02x}");
    }
}

fn add<W: io::Write>(
    encoder: &mut archive::Encoder<W>,
    name: &str,
    path: &Path,
    have: Option<Have>,
    left_out: &mut LeftOut,
) -> io::Result<()> {
    // What was a file a moment ago may be a FIFO now, on which opening would wait.
    let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let prepared = opened.and_then(|file| {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let size = found.len();
        let (hasher, from, proof) = compare(&file, size, have)?;
        (&file).seek(SeekFrom::Start(from))?;
        Ok((file, FileHeader { path: name.to_owned(), size, from, proof }, hasher))
    });
    match prepared {
        Ok((file, header, hasher)) => {
            if let Packed::Torn { kept, cause } = encoder.rest(&header, hasher, file)? {
                left_out
                    .add(name, format_args!("it ends after {} of {} bytes: {cause}", header.from + kept, header.size));
            }
        }
        Err(e) => left_out.add(name, e),
    }
    Ok(())
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

/// Finds the regular files below a directory whose name in the archive is `below`.
fn find(dir: &Path, below: &str, files: &mut Vec<(String, PathBuf)>, left_out: &mut LeftOut) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return left_out.add(below, e),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => return left_out.add(below, e),
        };
        let plain = plain_name(&entry.file_name());
        let name = if below.is_empty() { plain } else { format!("{below}/{plain}") };
        // Also what bounds the depth: nothing is looked for below a path that is too long itself.
        if name.len() > archive::MAX_PATH {
            left_out.add(&name, format_args!("its path has more than {} bytes", archive::MAX_PATH));
        } else if archive::check_path(&name).is_err() {
            left_out.add(&name, format_args!("its name has more than {} bytes", archive::MAX_NAME));
        } else {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => find(&entry.path(), &name, files, left_out),
                Ok(kind) if kind.is_file() => files.push((name, entry.path())),
                Ok(kind) if kind.is_symlink() => {}
                Ok(kind) => left_out.add(&name, format_args!("it is a {}", word(kind))),
                Err(e) => left_out.add(&name, e),
            }
        }
    }
}

fn word(kind: fs::FileType) -> &'static str {
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(bytes: &[u8]) -> String {
        plain_name(OsStr::from_bytes(bytes))
    }

    #[test]
    fn names_that_an_archive_cannot_have_are_written_so_that_it_can() {
        assert_eq!(name("é b".as_bytes()), "é b");
        assert_eq!(name(b"\x1b[2J\xff\\\n"), "%1b[2J%ff%5c%0a");
        assert_eq!(name("a\u{202e}b".as_bytes()), "a%e2%80%aeb");
        assert_eq!(name(b"50%"), "50%");
        assert_eq!(name(b"a%ff"), "a%25ff");
        assert_ne!(name(b"a%ff"), name(b"a\xff"));
        for bytes in [&b"\xff\xfe"[..], b"\x00x", b"\\"] {
            archive::check_path(&name(bytes)).unwrap();
        }
    }

    /// What a name in an archive was on the host.
    fn original(name: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), name.as_bytes());
        while let Some((&first, after)) = rest.split_first() {
            if first == b'%' && looks_like_digits(after) {
                out.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            } else {
                out.push(first);
                rest = after;
            }
        }
        out
    }

    proptest! {
        #[test]
        fn escaped_names_can_be_undone_and_so_never_meet(
            raw in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"%%%2f5caF\xe2\x80\xae"[..])], 1..40)
        ) {
            prop_assert_eq!(original(&name(&raw)), raw);
        }
    }

    #[test]
    fn one_profiler_with_too_many_files_costs_the_others_nothing() {
        assert_eq!(share(&[5, 1000, 3], 100), 92);
        assert_eq!(share(&[50, 60], 100), 50);
        assert_eq!(share(&[50, 50], 100), u64::MAX);
    }

    #[test]
    fn odd_files_cost_themselves_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("command");
        fs::create_dir(&own).unwrap();
        for raw in [&b"a\xff"[..], b"a%ff", b"a%25ff", b"plain", b"new\nline"] {
            fs::write(own.join(OsStr::from_bytes(raw)), raw).unwrap();
        }
        // 200 bytes that become 600.
        fs::write(own.join(OsStr::from_bytes(&[0xff; 200])), "x").unwrap();
        std::os::unix::net::UnixListener::bind(own.join("socket")).unwrap();
        // Deeper than any path that the kernel takes.
        let mut deep = rustix::fs::open(&own, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..30 {
            let long = "d".repeat(200);
            rustix::fs::mkdirat(&deep, &long, rustix::fs::Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, &long, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        }
        let mut left_out = LeftOut::default();
        let found = choose(find_all(dir.path(), &mut left_out), &mut left_out);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = ["command/a%2525ff", "command/a%25ff", "command/a%ff", "command/new%0aline", "command/plain"];
        assert_eq!(names, wanted);
        let (lines, more) = &left_out.0["command"];
        assert_eq!((lines.len(), *more), (3, 0), "{lines:?}");
        for cause in ["it is a socket", "its name has more than 255 bytes", "its path has more than 1024 bytes"] {
            assert!(lines.iter().any(|line| line.ends_with(cause)), "{cause}: {lines:?}");
        }
        drop(deep);
        // The standard library cannot remove what is deeper than a path.
        assert!(std::process::Command::new("rm").arg("-rf").arg(&own).status().unwrap().success());
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
