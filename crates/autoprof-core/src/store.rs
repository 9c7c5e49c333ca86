//! The client programs that the controller can bring to hosts, by architecture.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, OnceLock, PoisonError},
};

use autoprof_protocol::CLIENT_PROGRAM;
use bytes::Bytes;
use camino::Utf8PathBuf;

use crate::text::HostText;

/// Finds client programs in directories laid out as `<dir>/<arch>/autoprof-client`, and keeps what it has read.
#[derive(Debug)]
pub struct ClientStore {
    directories: Vec<Utf8PathBuf>,
    read: Mutex<BTreeMap<String, ClientProgram>>,
    /// Which clients there are, once that was asked.
    known: OnceLock<String>,
}

/// A client program, ready to be sent.
#[derive(Debug, Clone)]
pub struct ClientProgram {
    /// The file's content.
    pub content: Bytes,
    /// Its BLAKE3 digest in hexadecimal.
    pub digest: String,
}

/// No client for an architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no client for {arch}: looked for {arch}/{CLIENT_PROGRAM} in {}", .looked.join(", "))]
pub struct NoClient {
    /// The architecture, as the host's `uname -m` has it.
    pub arch: HostText,
    /// Where was looked.
    pub looked: Vec<String>,
}

/// The name of an architecture, if it is one: it becomes part of paths, and of commands that people are told to run.
pub(crate) fn arch_word(arch: &HostText) -> Option<&str> {
    let word = arch.as_untrusted_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    ((1..=32).contains(&word.len()) && word.bytes().all(plain)).then_some(word)
}

impl NoClient {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match arch_word(&self.arch) {
            Some(arch) => format!(
                "build it with `just client {arch}` and install it there, or name the directory with --client-dir"
            ),
            // What is no word is not offered to be pasted.
            None => "`uname -m` on the host must print the name of an architecture, such as x86_64".to_owned(),
        }
    }
}

impl ClientStore {
    /// A store that looks into these directories, in their order.
    #[must_use]
    pub fn new(directories: Vec<Utf8PathBuf>) -> Self {
        Self { directories, read: Mutex::default(), known: OnceLock::new() }
    }

    /// Where it looks.
    #[must_use]
    pub fn directories(&self) -> &[Utf8PathBuf] {
        &self.directories
    }

    /// The clients for all architectures that there are any for, each as `<arch>-<digest>`, with blanks between.
    #[must_use]
    pub fn known(&self) -> &str {
        self.known.get_or_init(|| self.look())
    }

    fn look(&self) -> String {
        let names = |dir: &Utf8PathBuf| dir.read_dir_utf8().into_iter().flatten().flatten();
        let archs: BTreeSet<String> =
            self.directories.iter().flat_map(names).map(|entry| entry.file_name().to_owned()).collect();
        let known = archs
            .into_iter()
            .filter_map(|arch| Some(format!("{arch}-{}", self.client(&arch.as_str().into()).ok()?.digest)));
        known.collect::<Vec<_>>().join(" ")
    }

    /// The client for an architecture.
    ///
    /// # Errors
    /// When no directory has one that can be read.
    pub fn client(&self, arch: &HostText) -> Result<ClientProgram, NoClient> {
        let missing =
            || NoClient { arch: arch.clone(), looked: self.directories.iter().map(ToString::to_string).collect() };
        let arch = arch_word(arch).ok_or_else(missing)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = read.get(arch) {
            return Ok(program.clone());
        }
        let paths = self.directories.iter().map(|dir| dir.join(arch).join(CLIENT_PROGRAM));
        let content = paths.filter_map(|path| std::fs::read(path).ok()).next().ok_or_else(missing)?;
        let digest = blake3::hash(&content).to_hex().to_string();
        let program = ClientProgram { content: content.into(), digest };
        read.insert(arch.to_owned(), program.clone());
        Ok(program)
    }
}
