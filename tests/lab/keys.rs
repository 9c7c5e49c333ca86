//! Key pairs, made by `ssh-keygen`.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

/// An ed25519 key pair on disk, without a passphrase.
pub(crate) struct KeyPair {
    /// The file of the private key; the public one lies beside it with `.pub`.
    pub(crate) private: Utf8PathBuf,
    /// Algorithm and key, as `known_hosts` and `authorized_keys` want them.
    pub(crate) public: String,
}

impl KeyPair {
    /// Makes a new pair at `path`.
    pub(crate) fn generate(path: Utf8PathBuf) -> KeyPair {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "autoprof-lab", "-f", path.as_str()])
            .output()
            .expect("ssh-keygen can be started");
        assert!(made.status.success(), "ssh-keygen {path}: {}", String::from_utf8_lossy(&made.stderr));
        let line = read(&path.with_extension("pub"));
        let public = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        KeyPair { private: path, public }
    }
}

fn read(path: &Utf8Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}
