//! Files of known hosts, each read once and looked up by name: they may be large, and hosts many.
use std::{
    collections::HashMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;

use crate::{bounded, ssh_config};

/// No file of known hosts is longer than this.
const MAX_SIZE: u64 = 256 << 20;
/// Nor is what a pipe or a device brings.
const MAX_STREAM: u64 = 16 << 20;
/// A longer line has no key.
const MAX_LINE: usize = 64 << 10;

/// A line of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) text: &'a str,
}

/// A file of known hosts.
#[derive(Debug, Default)]
pub(super) struct Store {
    text: Vec<u8>,
    /// Where the lines with plain names begin, by the names' hashes, sorted.
    plain: Vec<(u64, u32)>,
    /// Where lines begin that have to be looked at: with patterns, hashed names or markers.
    others: Vec<u32>,
}

impl Store {
    fn of(text: Vec<u8>) -> Self {
        let mut store = Self { text, ..Self::default() };
        let mut at = 0;
        for line in store.text.split(|byte| *byte == b'\n') {
            let begin = u32::try_from(at).unwrap_or(u32::MAX);
            at += line.len() + 1;
            if line.len() > MAX_LINE {
                continue;
            }
            let line = line.trim_ascii_start();
            let names = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            match names.first() {
                None | Some(b'#') => {}
                Some(b'@' | b'|') => store.others.push(begin),
                Some(_) if names.iter().any(|byte| b"*?!".contains(byte)) => store.others.push(begin),
                Some(_) => store.plain.extend(names.split(|byte| *byte == b',').map(|name| (hash(name), begin))),
            }
        }
        store.plain.sort_unstable();
        store
    }

    /// The lines that name a host, or may do so.
    fn lines(&self, name: &str) -> Vec<u32> {
        let wanted = hash(name.as_bytes());
        let from = self.plain.partition_point(|(hash, _)| *hash < wanted);
        let hits = self.plain[from..].iter().take_while(|(hash, _)| *hash == wanted).map(|(_, begin)| *begin);
        hits.chain(self.others.iter().copied()).collect()
    }

    /// The lines whose names include one of some, in their order in the file.
    pub(super) fn find(&self, names: &[&str]) -> Vec<Line<'_>> {
        let mut begins: Vec<u32> = names.iter().flat_map(|name| self.lines(name)).collect();
        begins.sort_unstable();
        begins.dedup();
        let (mut number, mut counted) = (1, 0);
        let mut found = Vec::new();
        for begin in begins.into_iter().map(|begin| begin as usize) {
            let line = self.text[begin..].split(|byte| *byte == b'\n').next().unwrap_or_default();
            let Ok(text) = std::str::from_utf8(line) else { continue };
            if names.iter().any(|name| names_host(text, name)) {
                number += self.text[counted..begin].iter().filter(|byte| **byte == b'\n').count();
                counted = begin;
                found.push(Line { number, text });
            }
        }
        found
    }
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.to_ascii_lowercase().hash(&mut hasher);
    hasher.finish()
}

/// Whether the names of a line include a host: plain, by a pattern or hashed.
pub(super) fn names_host(line: &str, host: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let names = match words.next() {
        Some(marker) if marker.starts_with('@') => words.next(),
        names => names,
    };
    let names = names.unwrap_or_default();
    match names.strip_prefix("|1|") {
        Some(hashed) => hashes_to(hashed, host).unwrap_or(false),
        None => ssh_config::matches_host(host, names),
    }
}

fn hashes_to(hashed: &str, host: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &BASE64_STANDARD.decode(salt).ok()?);
    Some(hmac::verify(&key, host.as_bytes(), &BASE64_STANDARD.decode(hash).ok()?).is_ok())
}

/// A name as `HashKnownHosts` has it written down.
pub(super) fn hashed(host: &str) -> io::Result<String> {
    let mut salt = [0; 20];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    let hash = hmac::sign(&key, host.as_bytes());
    Ok(format!("|1|{}|{}", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash)))
}

/// What tells that a file is still the one that was read: device, inode, size, and when it was changed.
type Stamp = (u64, u64, u64, i64, i64);

/// The files of this process.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles(Mutex<HashMap<PathBuf, (Stamp, Arc<Store>)>>);

impl KnownFiles {
    /// A file as it is now; one that is not there knows nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn get(&self, path: &Path) -> io::Result<Arc<Store>> {
        let file = match bounded::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        let stamp = stamp(&metadata);
        // Held while the file is read: hundreds of hosts connect at once, and one of them reads.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, store)) = known.get(path).filter(|(of, _)| *of == stamp && metadata.is_file()) {
            return Ok(Arc::clone(store));
        }
        let limit = if metadata.is_file() { MAX_SIZE } else { MAX_STREAM };
        let store = Arc::new(Store::of(bounded::read(file, limit)?));
        known.insert(path.to_owned(), (stamp, Arc::clone(&store)));
        Ok(store)
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
