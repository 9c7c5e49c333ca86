//! Whether a host's key is the one that it had before.
mod store;

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use autoprof_plugin::prelude::*;
use russh::keys::{
    Algorithm, HashAlg, PublicKey,
    ssh_key::known_hosts::{Entry, Marker},
};

pub(crate) use self::store::KnownFiles;
use self::store::{Store, hashed, names_host};
use crate::{
    bounded,
    config::{HostKeys, Settings},
};

/// What a list of revoked keys in OpenSSH's binary form begins with.
const KRL: &[u8] = b"SSHKRL\n\0";
/// No list of revoked keys is longer than this.
const MAX_REVOKED: u64 = 16 << 20;

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
    /// Its name is written down hashed.
    hash_names: bool,
    files: Arc<KnownFiles>,
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
    ///
    /// # Errors
    /// When a file cannot be read: it may have a line that would refuse the host.
    pub(crate) fn read(settings: &Settings, files: &Arc<KnownFiles>) -> Result<Self, TransportError> {
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
            hash_names: settings.hash_names,
            files: Arc::clone(files),
            authority: false,
            name,
        };
        for file in settings.known_hosts.iter().chain(&settings.global_known_hosts) {
            match files.get(file) {
                Ok(store) => known.add(file, &store, bare.as_deref()),
                // OpenSSH passes over one that it may not open.
                Err(e) if fs::File::open(file).is_err() => {
                    tracing::warn!("cannot read the known hosts {}: {e}", file.display());
                }
                Err(e) => return Err(unreadable("the known hosts", file, &e)),
            }
        }
        if let Some(file) = &settings.revoked {
            known.revoke(file)?;
        }
        Ok(known)
    }

    fn add(&mut self, file: &Path, store: &Store, bare: Option<&str>) {
        let names: Vec<&str> = [self.name.as_str()].into_iter().chain(bare).collect();
        let mut found = Vec::new();
        for line in store.find(&names) {
            let text = line.text.split_whitespace().collect::<Vec<_>>().join(" ");
            // Keys of types that are not understood cannot be presented either.
            let Ok(entry) = text.parse::<Entry>() else { continue };
            let named = names_host(line.text, &self.name);
            if entry.marker() == Some(&Marker::CertAuthority) {
                self.authority |= named;
                continue;
            }
            found.push(KnownKey {
                key: entry.public_key().clone(),
                file: file.to_owned(),
                line: line.number,
                revoked: entry.marker() == Some(&Marker::Revoked),
                elsewhere: !named,
            });
        }
        self.keys.extend(found);
    }

    /// Notes the keys of `RevokedHostKeys`.
    fn revoke(&mut self, file: &Path) -> Result<(), TransportError> {
        let text = bounded::open(file).and_then(|open| bounded::read(open, MAX_REVOKED));
        let text = text.map_err(|e| unreadable("RevokedHostKeys", file, &e))?;
        if text.starts_with(KRL) {
            let message = format!("RevokedHostKeys {} is a binary list, which cannot be used", file.display());
            return Err(TransportError::new(TransportErrorKind::HostKey, message)
                .with_hint("use the system's ssh for this host: set `transport: openssh` for it in the job file"));
        }
        for (at, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            if let Ok(key) = line.trim().parse::<PublicKey>() {
                let file = file.to_owned();
                self.keys.push(KnownKey { key, file, line: at + 1, revoked: true, elsewhere: false });
            }
        }
        Ok(())
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
            let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
            // Another connection may have been first.
            let written = self.files.get(file)?;
            if written.find(&[&self.name]).iter().any(|line| line.text.contains(&key)) {
                return Ok(());
            }
            let name = if self.hash_names { hashed(&self.name)? } else { self.name.clone() };
            append(file, &format!("{name} {key}\n"))
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

fn unreadable(what: &str, file: &Path, e: &std::io::Error) -> TransportError {
    let message = format!("cannot read {what} {}", file.display());
    TransportError::caused(TransportErrorKind::HostKey, message, e)
        .with_hint("correct the file, or name another one with UserKnownHostsFile in the SSH configuration")
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut out = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    let mut last = [b'\n'];
    if out.metadata()?.is_file() && out.seek(SeekFrom::End(-1)).is_ok() {
        out.read_exact(&mut last)?;
    }
    let separator = if last == *b"\n" { "" } else { "\n" };
    out.write_all(format!("{separator}{line}").as_bytes())
}

#[cfg(test)]
mod tests;
