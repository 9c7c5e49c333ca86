//! What only a person knows: passphrases and passwords, asked for once and one at a time.
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use autoprof_plugin::prelude::*;
use russh::keys::{PrivateKey, load_public_key, load_secret_key};

/// How often a wrong passphrase may be given.
const TRIES: usize = 3;

/// A private key, or why it could not be opened.
type OpenedKey = Result<Arc<PrivateKey>, String>;

/// Opened keys and passwords of this process.
///
/// They are kept because many hosts share one key: the person is asked once, also when they decline. A passphrase is not
/// kept, the key that it opened is; both and passwords are cleared when they are dropped. Not cleared are the copies of
/// passwords that russh makes on their way to the host.
pub(crate) struct Secrets {
    prompter: Arc<dyn Prompter>,
    /// Held by whoever is asking: two prompts on one terminal cannot be told apart.
    turn: Arc<tokio::sync::Mutex<()>>,
    keys: Arc<Mutex<HashMap<PathBuf, OpenedKey>>>,
    passwords: Mutex<HashMap<String, Secret>>,
}

impl Secrets {
    pub(crate) fn new(prompter: Arc<dyn Prompter>) -> Self {
        Self { prompter, turn: Arc::default(), keys: Arc::default(), passwords: Mutex::default() }
    }

    /// The private key of a file, opened by a passphrase if it has one and somebody may be asked, or why it cannot be
    /// used.
    pub(crate) async fn key(&self, path: &Path, ask: bool) -> OpenedKey {
        if let Some(known) = self.known(path) {
            return known;
        }
        let file = path.to_owned();
        if let Some(reason) = blocking(move || exposed(&file)).await? {
            tracing::warn!("{}: {reason}", path.display());
            lock(&self.keys).insert(path.to_owned(), Err(reason.clone()));
            return Err(reason);
        }
        let file = path.to_owned();
        match blocking(move || load_secret_key(file, None)).await? {
            Ok(key) => return Ok(Arc::new(key)),
            Err(russh::keys::Error::KeyIsEncrypted) if ask => {}
            Err(russh::keys::Error::KeyIsEncrypted) => return Err("it has a passphrase, and BatchMode is on".into()),
            Err(e) => return Err(format!("cannot be read: {e}")),
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(known) = self.known(path) {
            return known;
        }
        let (file, prompter, keys) = (path.to_owned(), Arc::clone(&self.prompter), Arc::clone(&self.keys));
        let opened = blocking(move || {
            // The turn ends in here, after the answer is kept: neither a caller who gave up nor one who comes next
            // lets a second prompt in.
            let _turn = turn;
            let opened = open(&file, &*prompter);
            lock(&keys).insert(file, opened.clone());
            opened
        });
        opened.await?
    }

    fn known(&self, path: &Path) -> Option<OpenedKey> {
        lock(&self.keys).get(path).cloned()
    }

    /// Asks for a secret; none: there is nobody to ask, or they declined.
    pub(crate) async fn ask(&self, text: String) -> Option<Secret> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let prompter = Arc::clone(&self.prompter);
        let answer = blocking(move || {
            let _turn = turn;
            prompter.secret(&text)
        });
        answer.await.ok().flatten()
    }

    /// The password that let an account in before.
    pub(crate) fn password(&self, account: &str) -> Option<Secret> {
        lock(&self.passwords).get(account).cloned()
    }

    /// Keeps a password that let an account in, for further connections to it.
    pub(crate) fn remember(&self, account: &str, password: Secret) {
        lock(&self.passwords).insert(account.to_owned(), password);
    }
}

/// Why a private key is left out: as OpenSSH does, one of our own that others can read.
fn exposed(file: &Path) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    let own = fs::metadata("/proc/self").ok()?.uid() == metadata.uid();
    let mode = metadata.mode() & 0o777;
    (own && mode & 0o077 != 0 && !is_public(file)).then(|| {
        format!(
            "others can read this private key (mode {mode:04o}), so it is not used; `chmod 600 {}`",
            shell_words::quote(&file.to_string_lossy())
        )
    })
}

/// Whether a file has a public key: anybody may read that.
fn is_public(file: &Path) -> bool {
    load_public_key(file).is_ok()
}

fn open(file: &Path, prompter: &dyn Prompter) -> OpenedKey {
    for _ in 0..TRIES {
        let Some(passphrase) = prompter.secret(&format!("passphrase for {}", file.display())) else {
            return Err("it has a passphrase, and nobody gave it".to_owned());
        };
        if let Ok(key) = load_secret_key(file, Some(passphrase.reveal())) {
            return Ok(Arc::new(key));
        }
    }
    Err("the passphrase was wrong".to_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("cannot be read: {e}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
