//! Whether a host's key is the one that it had before.
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use autoprof_plugin::prelude::*;
use ring::hmac;
use russh::keys::{
    Algorithm, HashAlg, PublicKey,
    ssh_key::known_hosts::{Entry, HostPatterns, Marker},
};

use crate::config::{HostKeys, Settings};

/// A key that a file has for a host.
#[derive(Debug, Clone)]
struct KnownKey {
    key: PublicKey,
    file: PathBuf,
    line: usize,
    revoked: bool,
    /// Known for the host's usual port, and the connection goes to another.
    elsewhere: bool,
}

impl KnownKey {
    fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// What the files say of one host, and what to do with a key that they do not have.
#[derive(Debug, Clone)]
pub(crate) struct KnownHost {
    /// The host as the files name it.
    name: String,
    /// Address and port, for messages.
    place: String,
    keys: Vec<KnownKey>,
    policy: HostKeys,
    /// Where a new key is written down.
    learn: Option<PathBuf>,
    /// Whether the host has a line with an authority, which cannot be used.
    authority: bool,
}

/// What a key turns out to be.
#[derive(Debug)]
enum Verdict<'a> {
    Same,
    Revoked(&'a KnownKey),
    Changed(&'a KnownKey),
    /// The host is known, but by keys of other types.
    OtherType(&'a KnownKey),
    Unknown,
}

/// A `known_hosts` file is written by one connection at a time.
static WRITING: Mutex<()> = Mutex::new(());

impl KnownHost {
    /// Reads what the files know. Blocks.
    pub(crate) fn read(settings: &Settings) -> Self {
        // As in OpenSSH, an alias stands for itself, without a port.
        let (name, bare) = match &settings.host_key_alias {
            Some(alias) => (alias.to_lowercase(), None),
            None if settings.port == 22 => (settings.address.to_lowercase(), None),
            None => {
                let bare = settings.address.to_lowercase();
                (format!("[{bare}]:{}", settings.port), Some(bare))
            }
        };
        let mut known = Self {
            place: settings.place(),
            keys: Vec::new(),
            policy: settings.host_keys,
            learn: settings.known_hosts.first().cloned(),
            authority: false,
            name,
        };
        for file in settings.known_hosts.iter().chain(&settings.global_known_hosts) {
            // A file that is not there knows nothing, and one that cannot be read must not let anybody in.
            if let Ok(text) = fs::read(file) {
                known.add(file, &String::from_utf8_lossy(&text), bare.as_deref());
            }
        }
        known
    }

    fn add(&mut self, file: &Path, text: &str, bare: Option<&str>) {
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            // Keys of types that are not understood cannot be presented either.
            let Ok(entry) = line.parse::<Entry>() else { continue };
            let revoked = entry.marker() == Some(&Marker::Revoked);
            let named = matches(entry.host_patterns(), &self.name);
            let elsewhere = !named && bare.is_some_and(|bare| matches(entry.host_patterns(), bare));
            let key = entry.public_key().clone();
            match entry.marker() {
                Some(Marker::CertAuthority) => self.authority |= named,
                _ if named || elsewhere => {
                    self.keys.push(KnownKey { key, file: file.to_owned(), line: at + 1, revoked, elsewhere });
                }
                _ => {}
            }
        }
    }

    /// The types of the keys that are known, which are asked for first: a host has keys of several types, and one
    /// that is not known here yet would look like a stranger's.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let mut out = Vec::new();
        for known in self.keys.iter().filter(|k| !k.revoked) {
            let of_key = match known.key.algorithm() {
                // The hash is a property of the signature, not of the key.
                Algorithm::Rsa { .. } => {
                    [HashAlg::Sha512, HashAlg::Sha256].map(|h| Algorithm::Rsa { hash: Some(h) }).to_vec()
                }
                other => vec![other],
            };
            out.extend(of_key.into_iter().filter(|a| !out.contains(a)).collect::<Vec<_>>());
        }
        out
    }

    fn judge(&self, key: &PublicKey) -> Verdict<'_> {
        let same = |k: &&KnownKey| k.key.key_data() == key.key_data();
        if let Some(revoked) = self.keys.iter().filter(|k| k.revoked).find(same) {
            return Verdict::Revoked(revoked);
        }
        let usable = self.keys.iter().filter(|k| !k.revoked);
        if usable.clone().any(|k| same(&k)) {
            return Verdict::Same;
        }
        // OpenSSH takes a key that is known for the host's usual port on any other port, if it is the same key;
        // a different one there says nothing: it may be another machine behind the same address.
        let mut usable = usable.filter(|k| !k.elsewhere);
        match usable.clone().find(|k| k.key.algorithm() == key.algorithm()) {
            Some(changed) => Verdict::Changed(changed),
            None => usable.next().map_or(Verdict::Unknown, Verdict::OtherType),
        }
    }

    /// Lets a key pass or says why not; a new key is written down where that was asked for. Blocks.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), TransportError> {
        let verdict = self.judge(key);
        if self.policy == HostKeys::Insecure {
            if !matches!(verdict, Verdict::Same) {
                tracing::warn!("the key of {} is not checked: {} {}", self.place, kind(key), fingerprint(key));
            }
            return Ok(());
        }
        match verdict {
            Verdict::Same => Ok(()),
            Verdict::Revoked(known) => Err(self.revoked(key, known)),
            Verdict::Changed(known) => Err(self.changed(key, known)),
            Verdict::OtherType(known) => Err(self.other_type(key, known)),
            Verdict::Unknown if self.policy == HostKeys::AcceptNew => self.learn(key),
            Verdict::Unknown => Err(self.unknown(key)),
        }
    }

    fn learn(&self, key: &PublicKey) -> Result<(), TransportError> {
        let Some(file) = &self.learn else { return Ok(()) };
        let written = key.to_openssh().map_err(std::io::Error::other).and_then(|key| {
            // The comment is the host's own text; it has no place in the user's file.
            let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
            append(file, &format!("{} {key}\n", self.name))
        });
        written.map_err(|e| {
            let message = format!("cannot write the new key of {} to {}", self.place, file.display());
            TransportError::caused(TransportErrorKind::HostKey, message, &e)
        })?;
        tracing::info!("wrote the new key of {} to {}: {} {}", self.place, file.display(), kind(key), fingerprint(key));
        Ok(())
    }

    fn unknown(&self, key: &PublicKey) -> TransportError {
        let message = format!("the host key of {} is unknown: {} {}", self.place, kind(key), fingerprint(key));
        let mut hint = format!(
            "compare the fingerprint, then connect once with ssh, or add the key with `ssh-keyscan {}`, or use \
             --accept-new-host-keys to trust every first key",
            self.keyscan()
        );
        if self.authority {
            hint.push_str("; the @cert-authority line for it cannot be used, host certificates are not supported");
        }
        TransportError::new(TransportErrorKind::HostKey, message).with_hint(hint)
    }

    fn changed(&self, key: &PublicKey, known: &KnownKey) -> TransportError {
        let message = format!(
            "REMOTE HOST IDENTIFICATION HAS CHANGED: the host key of {} is now {} {}, and {} has {}; someone could be \
             eavesdropping on you right now (man-in-the-middle attack), or the host has been installed anew",
            self.place,
            kind(key),
            fingerprint(key),
            known.place(),
            fingerprint(&known.key)
        );
        TransportError::new(TransportErrorKind::HostKey, message).with_hint(self.forget(known))
    }

    fn other_type(&self, key: &PublicKey, known: &KnownKey) -> TransportError {
        let message = format!(
            "the host key of {} is of a new type, {} {}, and {} has only {}",
            self.place,
            kind(key),
            fingerprint(key),
            known.place(),
            kind(&known.key)
        );
        TransportError::new(TransportErrorKind::HostKey, message)
            .with_hint(format!("compare the fingerprint, then add the key with `ssh-keyscan {}`", self.keyscan()))
    }

    fn revoked(&self, key: &PublicKey, known: &KnownKey) -> TransportError {
        let message = format!(
            "the host key of {} is REVOKED: {} {} is marked @revoked at {}",
            self.place,
            kind(key),
            fingerprint(key),
            known.place()
        );
        TransportError::new(TransportErrorKind::HostKey, message)
            .with_hint("the key was stolen or retired; do not connect until the host has a new one")
    }

    fn forget(&self, known: &KnownKey) -> String {
        format!(
            "ask who runs the host; if the new key is right, remove the old one with `ssh-keygen -f {} -R '{}'`",
            shell_words::quote(&known.file.to_string_lossy()),
            self.name
        )
    }

    /// The arguments with which ssh-keyscan asks this host.
    fn keyscan(&self) -> String {
        match self.place.rsplit_once(':') {
            Some((address, port)) => format!("-p {port} {}", address.trim_matches(['[', ']'])),
            None => self.place.clone(),
        }
    }
}

fn kind(key: &PublicKey) -> String {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "RSA".to_owned(),
        Algorithm::Ed25519 => "ED25519".to_owned(),
        Algorithm::Ecdsa { .. } => "ECDSA".to_owned(),
        other => other.as_str().to_owned(),
    }
}

/// The fingerprint as `ssh-keygen -l` shows it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut out = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    if text.lines().any(|known| known == line.trim_end()) {
        return Ok(());
    }
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    out.write_all(format!("{separator}{line}").as_bytes())
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let (refusing, naming): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.starts_with('!'));
            let hit = |p: &String| glob(p.trim_start_matches('!').to_lowercase().as_bytes(), name.as_bytes());
            naming.into_iter().any(hit) && !refusing.into_iter().any(hit)
        }
    }
}

/// `*` and `?`, as in OpenSSH: brackets are only brackets.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests;
