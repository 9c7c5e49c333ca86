//! The algorithms of a connection: what OpenSSH's configuration allows, of what the SSH library has.
use std::borrow::Cow;

use russh::{Preferred, cipher, kex, keys::Algorithm, mac};

use crate::ssh_config::{ConfigError, Key, Place, Resolved, assemble};

/// GCM moves twice as much as ChaCha20 where both sides have AES (docs/performance.md).
const CIPHERS: [cipher::Name; 6] = [
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];
/// Names in a list of key exchanges that are none, and stay in every list.
const EXTENSIONS: [&str; 4] =
    ["ext-info-c", "ext-info-s", "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com"];
/// Signatures that OpenSSH takes when the configuration says nothing; those with SHA-1 are not among them.
const KEYS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];
/// Signatures that can be made or checked here.
const ALL_KEYS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
];

/// Algorithms in the order in which they are offered.
#[derive(Debug, Clone)]
pub(crate) struct Algorithms {
    kex: Vec<kex::Name>,
    cipher: Vec<cipher::Name>,
    mac: Vec<mac::Name>,
    key: Vec<Algorithm>,
    /// Keys that are known come first, as long as the configuration has no order of its own.
    known_first: bool,
}

impl Algorithms {
    /// What a configuration allows.
    ///
    /// # Errors
    /// When none of it is here.
    pub(crate) fn of(found: &Resolved) -> Result<Self, ConfigError> {
        let kex = {
            let usual: Vec<&str> = names(&Preferred::DEFAULT.kex);
            let all: Vec<&str> = kex::ALL_KEX_ALGORITHMS.iter().map(|name| name.as_ref()).collect();
            let real = |names: Vec<&'static str>| {
                names.into_iter().filter(|n| *n != "none" && !EXTENSIONS.contains(n)).collect::<Vec<_>>()
            };
            let mut chosen = choose(found, Key::KexAlgorithms, "KexAlgorithms", &real(usual.clone()), &real(all))?;
            chosen.extend(usual.iter().filter(|n| EXTENSIONS.contains(n)).map(|n| (*n).to_owned()));
            chosen
        };
        let all: Vec<&str> =
            cipher::ALL_CIPHERS.iter().map(|n| n.as_ref()).filter(|n| !["clear", "none"].contains(n)).collect();
        let cipher = choose(found, Key::Ciphers, "Ciphers", &names(&CIPHERS), &all)?;
        let all: Vec<&str> = mac::ALL_MAC_ALGORITHMS.iter().map(|n| n.as_ref()).filter(|n| *n != "none").collect();
        let mac = choose(found, Key::Macs, "MACs", &names(&Preferred::DEFAULT.mac), &all)?;
        let key = choose(found, Key::HostKeyAlgorithms, "HostKeyAlgorithms", &KEYS, &ALL_KEYS)?;
        let listed = found.text(Key::HostKeyAlgorithms);
        Ok(Self {
            kex: kex.iter().filter_map(|name| kex::Name::try_from(name.as_str()).ok()).collect(),
            cipher: cipher.iter().filter_map(|name| cipher::Name::try_from(name.as_str()).ok()).collect(),
            mac: mac.iter().filter_map(|name| mac::Name::try_from(name.as_str()).ok()).collect(),
            key: key.iter().filter_map(|name| name.parse().ok()).collect(),
            known_first: listed.is_none_or(|list| list.starts_with(['+', '-'])),
        })
    }

    /// As the library takes them; `known` are the types of the host's keys that are known.
    pub(crate) fn preferred(&self, known: &[Algorithm]) -> Preferred {
        let first: Vec<_> = known.iter().filter(|a| self.known_first && self.key.contains(a)).cloned().collect();
        let rest = self.key.iter().filter(|a| !first.contains(a)).cloned();
        Preferred {
            key: Cow::Owned(first.iter().cloned().chain(rest).collect()),
            kex: Cow::Owned(self.kex.clone()),
            cipher: Cow::Owned(self.cipher.clone()),
            mac: Cow::Owned(self.mac.clone()),
            ..Preferred::DEFAULT
        }
    }
}

/// The algorithms of users' keys that a configuration allows, if it says so; certificates go by their key's.
///
/// # Errors
/// When none of them is here.
pub(crate) fn accepted_keys(found: &Resolved) -> Result<Option<Vec<String>>, ConfigError> {
    if found.said(Key::PubkeyAcceptedAlgorithms).is_none() {
        return Ok(None);
    }
    // The agent signs with these.
    let agents = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];
    let (usual, all) = ([&KEYS[..], &agents].concat(), [&ALL_KEYS[..], &agents].concat());
    choose(found, Key::PubkeyAcceptedAlgorithms, "PubkeyAcceptedAlgorithms", &usual, &all).map(Some)
}

fn names<T: AsRef<str>>(names: &[T]) -> Vec<&str> {
    names.iter().map(AsRef::as_ref).collect()
}

fn choose(found: &Resolved, key: Key, keyword: &str, usual: &[&str], all: &[&str]) -> Result<Vec<String>, ConfigError> {
    let chosen = assemble(found.text(key), usual, all);
    if chosen.is_empty() {
        let place = found.said(key).map_or_else(Place::options, |said| said.place.clone());
        let reason = "the built-in SSH client has none of these algorithms";
        return Err(ConfigError::only_openssh(&place, keyword, reason));
    }
    Ok(chosen)
}
