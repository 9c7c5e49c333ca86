//! Logging in: the agent's keys, key files and their certificates, then what a person knows.
use std::path::{Path, PathBuf};

use autoprof_plugin::prelude::*;
use russh::{
    AgentAuthError, MethodKind, MethodSet,
    client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply, Prompt},
    keys::{
        Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey,
        agent::{AgentIdentity, client::AgentClient},
        load_openssh_certificate, load_public_key,
    },
};
use tokio::net::UnixStream;

use crate::{
    config::Settings,
    connect::{State, Watch, blocking, step},
    known_hosts::fingerprint,
    secrets::Secrets,
};

/// How often a password is asked for.
const PASSWORD_TRIES: usize = 3;

/// Logs in with whatever the host takes first.
pub(crate) async fn log_in(
    handle: &mut Handle<Watch>,
    state: &State,
    settings: &Settings,
    secrets: &Secrets,
) -> Result<(), TransportError> {
    let mut login = Login { handle, state, settings, secrets, tried: Vec::new(), offered: None, over: false };
    if login.keys().await? || login.passwords().await? {
        return Ok(());
    }
    Err(login.refused())
}

/// One attempt to log in, and what came of each key.
struct Login<'a> {
    handle: &'a mut Handle<Watch>,
    state: &'a State,
    settings: &'a Settings,
    secrets: &'a Secrets,
    /// What was tried, and why it did not do.
    tried: Vec<String>,
    /// What the host takes, as far as it has said.
    offered: Option<MethodSet>,
    /// The host has ended the connection, mostly because its `MaxAuthTries` are used up.
    over: bool,
}

/// Most steps give whether the user is in.
type Step = Result<bool, TransportError>;

impl Login<'_> {
    async fn keys(&mut self) -> Step {
        if !self.settings.publickey {
            return Ok(false);
        }
        let files = self.settings.identity_files.clone();
        let public = blocking(move || files.into_iter().map(|f| (public_of(&f), f)).collect::<Vec<_>>()).await?;
        let shown = match self.agent_keys(&public).await? {
            Some(shown) => shown,
            None => return Ok(true),
        };
        for (key, file) in public {
            if !self.may_try(MethodKind::PublicKey) {
                break;
            }
            if key.is_some_and(|key| shown.contains(&key)) {
                // The agent has signed with it already.
                continue;
            }
            if self.key_file(&file).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tries the agent's keys; gives those that were refused, or none when the user is in.
    async fn agent_keys(
        &mut self,
        files: &[(Option<PublicKey>, PathBuf)],
    ) -> Result<Option<Vec<PublicKey>>, TransportError> {
        let mut shown = Vec::new();
        let Some(socket) = &self.settings.agent else { return Ok(Some(shown)) };
        let listed = step(self.settings, "asking the agent", identities(socket)).await?;
        let (mut agent, identities) = match listed {
            Ok(listed) => listed,
            Err(e) => {
                self.tried.push(format!("agent {}: {e}", socket.display()));
                return Ok(Some(shown));
            }
        };
        let rank = |identity: &AgentIdentity| {
            let key = identity.public_key();
            files.iter().position(|(of_file, _)| of_file.as_ref().is_some_and(|k| k.key_data() == key.key_data()))
        };
        // As OpenSSH does: those that the configuration names, in its order, then the others.
        let mut ranked: Vec<_> = identities.into_iter().map(|i| (rank(&i), i)).collect();
        ranked.sort_by_key(|(rank, _)| rank.unwrap_or(usize::MAX));
        for (rank, identity) in ranked {
            if rank.is_none() && self.settings.identities_only {
                continue;
            }
            if !self.may_try(MethodKind::PublicKey) {
                break;
            }
            if self.agent_key(&mut agent, identity.clone()).await? {
                return Ok(None);
            }
            // The file is the same key, so it has no better luck; compared by its data, comments differ.
            shown.extend(rank.and_then(|at| files[at].0.clone()));
        }
        Ok(Some(shown))
    }

    async fn agent_key(&mut self, agent: &mut AgentClient<UnixStream>, identity: AgentIdentity) -> Step {
        let key = identity.public_key().into_owned();
        let name = format!("agent key {} {}", comment(&identity), fingerprint(&key));
        let hash = self.rsa_hash(&key.algorithm()).await?;
        let user = self.settings.user.clone();
        let result = step(self.settings, "authentication", async {
            match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle.authenticate_publickey_with(user, key, hash, agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
                }
            }
        });
        match result.await? {
            Ok(result) => Ok(self.judge(result, name)),
            Err(AgentAuthError::Key(e)) => {
                self.tried.push(format!("{name}: the agent does not sign: {e}"));
                Ok(false)
            }
            Err(AgentAuthError::Send(_)) => Ok(self.ended(name)),
        }
    }

    /// Tries a key file, its certificate first.
    async fn key_file(&mut self, file: &Path) -> Step {
        let key = match self.secrets.key(file).await {
            Ok(key) => key,
            Err(reason) => {
                self.tried.push(format!("{}: {reason}", file.display()));
                return Ok(false);
            }
        };
        for certificate in self.certificates(file).await? {
            if self.may_try(MethodKind::PublicKey) && self.certificate(&key, certificate).await? {
                return Ok(true);
            }
        }
        if !self.may_try(MethodKind::PublicKey) {
            return Ok(false);
        }
        let hash = self.rsa_hash(&key.algorithm()).await?;
        let shown =
            self.handle.authenticate_publickey(self.settings.user.clone(), PrivateKeyWithHashAlg::new(key, hash));
        let result = step(self.settings, "authentication", shown).await?;
        self.settle(result, file.display().to_string())
    }

    /// The certificates that may belong to a key file.
    async fn certificates(&self, file: &Path) -> Result<Vec<(PathBuf, Certificate)>, TransportError> {
        let beside = PathBuf::from(format!("{}-cert.pub", file.display()));
        let paths: Vec<_> = [beside].into_iter().chain(self.settings.certificate_file.clone()).collect();
        blocking(move || {
            paths.into_iter().filter_map(|p| Some((p.clone(), load_openssh_certificate(&p).ok()?))).collect()
        })
        .await
    }

    async fn certificate(&mut self, key: &Arc<PrivateKey>, (file, certificate): (PathBuf, Certificate)) -> Step {
        if certificate.public_key() != key.public_key().key_data() {
            return Ok(false);
        }
        let shown = self.handle.authenticate_openssh_cert(self.settings.user.clone(), Arc::clone(key), certificate);
        let result = step(self.settings, "authentication", shown).await?;
        self.settle(result, file.display().to_string())
    }

    async fn passwords(&mut self) -> Step {
        // Also so that no password is in the first request: russh logs that one's bytes, at the level debug.
        if self.offered.is_none() && !self.over {
            let asked = self.handle.authenticate_none(self.settings.user.clone());
            let result = step(self.settings, "authentication", asked).await?;
            if self.settle(result, String::new())? {
                return Ok(true);
            }
        }
        if self.offers(MethodKind::Password) && self.password().await? {
            return Ok(true);
        }
        if self.offers(MethodKind::KeyboardInteractive) { self.interactive().await } else { Ok(false) }
    }

    fn account(&self) -> String {
        format!("{}@{}", self.settings.user, self.settings.place())
    }

    async fn password(&mut self) -> Step {
        let account = self.account();
        let mut known = self.secrets.password(&account);
        for _ in 0..PASSWORD_TRIES {
            let asked = match known.take() {
                Some(password) => Some(password),
                None => self.secrets.ask(format!("password for {account}")).await,
            };
            let Some(password) = asked else { break };
            let shown = self.handle.authenticate_password(self.settings.user.clone(), password.reveal());
            let result = step(self.settings, "authentication", shown).await?;
            if self.settle(result, "password".to_owned())? {
                self.secrets.remember(&account, password);
                return Ok(true);
            }
            if !self.offers(MethodKind::Password) {
                break;
            }
        }
        Ok(false)
    }

    async fn interactive(&mut self) -> Step {
        let started = self.handle.authenticate_keyboard_interactive_start(self.settings.user.clone(), None::<String>);
        let mut reply = step(self.settings, "authentication", started).await?;
        loop {
            let prompts = match reply {
                Ok(Reply::Success) => return Ok(true),
                Ok(Reply::Failure { remaining_methods, partial_success }) => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return Ok(self.judge(result, "keyboard-interactive".to_owned()));
                }
                Ok(Reply::InfoRequest { prompts, .. }) => prompts,
                Err(_) => return Ok(self.ended("keyboard-interactive".to_owned())),
            };
            let Some(answers) = self.answers(prompts).await else { return Ok(false) };
            let sent = self.handle.authenticate_keyboard_interactive_respond(answers);
            reply = step(self.settings, "authentication", sent).await?;
        }
    }

    async fn answers(&self, prompts: Vec<Prompt>) -> Option<Vec<String>> {
        let mut answers = Vec::new();
        for prompt in prompts {
            let text = autoprof_plugin::core::text::one_line(&prompt.prompt);
            answers.push(self.secrets.ask(format!("{}: {text}", self.account())).await?.into_string());
        }
        Some(answers)
    }

    /// RSA signatures need a hash that the host takes; a host that does not say gets the strongest.
    async fn rsa_hash(&self, algorithm: &Algorithm) -> Result<Option<HashAlg>, TransportError> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        let best = step(self.settings, "authentication", self.handle.best_supported_rsa_hash()).await?;
        Ok(best.ok().flatten().unwrap_or(Some(HashAlg::Sha512)))
    }

    fn settle(&mut self, result: Result<AuthResult, russh::Error>, name: String) -> Step {
        match result {
            Ok(result) => Ok(self.judge(result, name)),
            Err(russh::Error::SendError | russh::Error::RecvError | russh::Error::Disconnect) => Ok(self.ended(name)),
            Err(e) => {
                self.tried.push(format!("{name}: {e}"));
                Ok(false)
            }
        }
    }

    fn judge(&mut self, result: AuthResult, name: String) -> bool {
        match result {
            AuthResult::Success => return true,
            // russh says so when the connection has ended.
            AuthResult::Failure { remaining_methods, .. }
                if remaining_methods.is_empty() && self.handle.is_closed() =>
            {
                return self.ended(name);
            }
            AuthResult::Failure { remaining_methods, partial_success } => {
                let verdict = if partial_success { "accepted, but not enough" } else { "refused" };
                if !name.is_empty() {
                    self.tried.push(format!("{name}: {verdict}"));
                }
                self.offered = Some(remaining_methods);
            }
        }
        false
    }

    fn ended(&mut self, name: String) -> bool {
        self.over = true;
        let end = self.state.end().unwrap_or_default();
        self.tried.push(format!("{name}: refused, and the host ended the connection ({end})"));
        false
    }

    /// Whether the host takes a method, or has not said yet.
    fn may_try(&self, method: MethodKind) -> bool {
        !self.over && self.offered.as_ref().is_none_or(|offered| offered.contains(&method))
    }

    fn offers(&self, method: MethodKind) -> bool {
        !self.over && self.offered.as_ref().is_some_and(|offered| offered.contains(&method))
    }

    fn refused(&self) -> TransportError {
        let Settings { user, .. } = self.settings;
        let offered = self.offered.iter().flat_map(|o| o.iter()).map(String::from).collect::<Vec<_>>();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        let tried = if self.tried.is_empty() { "no key at all".to_owned() } else { self.tried.join("; ") };
        let place = self.settings.place();
        let end = self.state.end().unwrap_or_else(|| "the host ended the connection".to_owned());
        if self.over && !end.to_lowercase().contains("auth") {
            let message = format!("the connection to {place} ended during authentication: {end}; tried {tried}");
            return TransportError::new(TransportErrorKind::Closed, message)
                .with_hint("see the log of sshd on the host");
        }
        let message = format!("cannot log in to {place} as {user}: the host takes {offered}; tried {tried}");
        let hint = if self.over {
            "the host lets only a few keys be tried (MaxAuthTries): name the right one with IdentityFile and \
             IdentitiesOnly yes, or with identity_file of the host in the job file"
                .to_owned()
        } else {
            format!(
                "put a public key of these into ~/.ssh/authorized_keys of {user} on the host, or name another user or \
                 identity file, or load the right key with ssh-add"
            )
        };
        TransportError::new(TransportErrorKind::Auth, message).with_hint(hint)
    }
}

async fn identities(socket: &Path) -> Result<(AgentClient<UnixStream>, Vec<AgentIdentity>), russh::keys::Error> {
    let mut agent = AgentClient::connect_uds(socket).await?;
    let identities = agent.request_identities().await?;
    Ok((agent, identities))
}

fn comment(identity: &AgentIdentity) -> String {
    let (AgentIdentity::PublicKey { comment, .. } | AgentIdentity::Certificate { comment, .. }) = identity;
    autoprof_plugin::core::text::one_line(comment)
}

/// The public half of a key file, which needs no passphrase.
fn public_of(file: &Path) -> Option<PublicKey> {
    load_public_key(format!("{}.pub", file.display()))
        .ok()
        .or_else(|| Some(PrivateKey::read_openssh_file(file).ok()?.public_key().clone()))
        .or_else(|| load_public_key(file).ok())
}
