//! Logging in: the agent's keys, key files and their certificates, then what a person knows.
use std::path::{Path, PathBuf};

use autoprof_plugin::prelude::*;
use russh::{
    AgentAuthError, MethodKind, MethodSet,
    client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply, Prompt},
    keys::{
        Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, agent::AgentIdentity,
        load_openssh_certificate, load_public_key,
    },
};

use crate::{
    agent::Agent,
    config::Settings,
    connect::{State, Watch, blocking, step},
    known_hosts::fingerprint,
    secrets::Secrets,
};

/// Logs in with whatever the host takes first.
pub(crate) async fn log_in(
    handle: &mut Handle<Watch>,
    state: &State,
    settings: &Settings,
    secrets: &Secrets,
) -> Result<(), TransportError> {
    let mut login =
        Login { handle, state, settings, secrets, tried: Vec::new(), offered: None, welcome: false, over: false };
    for method in &settings.methods {
        let done = match method.as_str() {
            "publickey" => login.keys().await?,
            // With nobody to ask there is nothing to say.
            _ if settings.batch => false,
            "password" => login.asks(MethodKind::Password).await? && login.password().await?,
            _ => login.asks(MethodKind::KeyboardInteractive).await? && login.interactive().await?,
        };
        if done || login.welcome {
            return Ok(());
        }
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
    /// The host lets the user in without anything.
    welcome: bool,
    /// The host has ended the connection, mostly because its `MaxAuthTries` are used up.
    over: bool,
}

/// Most steps give whether the user is in.
type Step = Result<bool, TransportError>;

impl Login<'_> {
    /// Tries keys: one that was given for this host first, then as OpenSSH does the agent's that are among the files, the
    /// agent's others, and the files that the agent does not have.
    async fn keys(&mut self) -> Step {
        let files = self.settings.identity_files.clone();
        let mut files: Vec<(Option<PublicKey>, PathBuf)> =
            blocking(move || files.into_iter().map(|f| (public_of(&f), f)).collect()).await?;
        let mut agent = self.ask_agent().await;
        if self.settings.identity.is_some() && !files.is_empty() {
            let (key, file) = files.remove(0);
            let held = agent.as_mut().and_then(|agent| {
                let at = agent.identities.iter().position(|identity| key.as_ref().is_some_and(|k| is(identity, k)))?;
                Some(agent.identities.remove(at))
            });
            let done = match (held, &mut agent) {
                (Some(identity), Some(agent)) => self.agent_key(agent, identity).await?,
                _ => self.key_file(&file).await?,
            };
            if done {
                return Ok(true);
            }
        }
        let mut shown = Vec::new();
        if let Some(agent) = &mut agent
            && self.agent_keys(agent, &files, &mut shown).await?
        {
            return Ok(true);
        }
        for (key, file) in files {
            if !self.may_try(MethodKind::PublicKey) {
                break;
            }
            // What the agent has signed with already has no better luck as a file.
            if !key.is_some_and(|key| shown.contains(&key)) && self.key_file(&file).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The agent with its keys; none: there is none, or none that answers.
    async fn ask_agent(&mut self) -> Option<Agent> {
        let socket = self.settings.agent.as_ref()?;
        // Less than a step of the login may take, so that the login goes on.
        match Agent::ask(socket, self.settings.connect_timeout.mul_f32(0.7)).await {
            Ok(agent) => Some(agent),
            Err(e) => {
                tracing::warn!("cannot use the ssh-agent {}: {e}", socket.display());
                self.tried.push(format!("agent {}: {e}", socket.display()));
                None
            }
        }
    }

    /// Tries the agent's keys; notes in `shown` those that are among the files.
    async fn agent_keys(
        &mut self,
        agent: &mut Agent,
        files: &[(Option<PublicKey>, PathBuf)],
        shown: &mut Vec<PublicKey>,
    ) -> Step {
        let (named, others): (Vec<_>, Vec<_>) = std::mem::take(&mut agent.identities)
            .into_iter()
            .partition(|identity| files.iter().any(|(key, _)| key.as_ref().is_some_and(|key| is(identity, key))));
        let others = if self.settings.identities_only { Vec::new() } else { others };
        for identity in named.into_iter().chain(others) {
            if !self.may_try(MethodKind::PublicKey) {
                break;
            }
            if !self.accepts(&identity.public_key().algorithm()) {
                continue;
            }
            let tried = self.tried.len();
            if self.agent_key(agent, identity.clone()).await? {
                return Ok(true);
            }
            if self.tried[tried..].iter().any(|text| text.contains(SILENT)) {
                // It will not sign with its other keys either; the files may do.
                break;
            }
            shown.extend(files.iter().filter_map(|(key, _)| key.clone()).filter(|key| is(&identity, key)));
        }
        Ok(false)
    }

    async fn agent_key(&mut self, agent: &mut Agent, identity: AgentIdentity) -> Step {
        let agent = &mut agent.client;
        let key = identity.public_key().into_owned();
        if let AgentIdentity::PublicKey { .. } = &identity {
            for (file, certificate) in self.certificates(None).await? {
                if certificate.public_key() != key.key_data() || !self.may_try(MethodKind::PublicKey) {
                    continue;
                }
                let hash = self.rsa_hash(&key.algorithm()).await?;
                let user = self.settings.user.clone();
                let shown = self.handle.authenticate_certificate_with(user, certificate, hash, agent);
                let result = step(self.settings, "authentication", shown).await?;
                if let Ok(result) = result
                    && self.judge(result, file.display().to_string())
                {
                    return Ok(true);
                }
            }
        }
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
                let silent = matches!(&e, russh::keys::Error::IO(e) if e.kind() == std::io::ErrorKind::TimedOut);
                let reason = if silent { SILENT.to_owned() } else { format!("the agent does not sign: {e}") };
                if silent {
                    tracing::warn!("{name}: {reason}");
                }
                self.tried.push(format!("{name}: {reason}"));
                Ok(false)
            }
            Err(AgentAuthError::Send(_)) => Ok(self.ended(name)),
        }
    }

    /// Tries a key file, its certificate first.
    async fn key_file(&mut self, file: &Path) -> Step {
        if let Some(reason) = self.unusable(file).await? {
            self.tried.push(format!("{}: {reason}", file.display()));
            return Ok(false);
        }
        let key = match self.secrets.key(file, !self.settings.batch).await {
            Ok(key) => key,
            Err(reason) => {
                self.tried.push(format!("{}: {reason}", file.display()));
                return Ok(false);
            }
        };
        for certificate in self.certificates(Some(file)).await? {
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
    async fn certificates(&self, file: Option<&Path>) -> Result<Vec<(PathBuf, Certificate)>, TransportError> {
        let mut paths = self.settings.certificate_files.clone();
        if paths.is_empty() {
            // Only where no certificate is named, those beside the keys count.
            paths.extend(file.map(|file| PathBuf::from(format!("{}-cert.pub", file.display()))));
        }
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

    /// Why a key file cannot be used whatever the host says.
    async fn unusable(&self, file: &Path) -> Result<Option<String>, TransportError> {
        let path = file.to_owned();
        let key = blocking(move || public_of(&path)).await?;
        Ok(match key.map(|key| key.algorithm()) {
            Some(Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) => {
                Some("it is kept by a security key; use the agent, or `transport: openssh`".into())
            }
            Some(algorithm) if !self.accepts(&algorithm) => Some("PubkeyAcceptedAlgorithms leaves it out".into()),
            _ => None,
        })
    }

    /// Whether keys of this kind may be used.
    fn accepts(&self, algorithm: &Algorithm) -> bool {
        let Some(accepted) = &self.settings.accepted_keys else { return true };
        match algorithm {
            Algorithm::Rsa { .. } => accepted.iter().any(|name| name.contains("rsa")),
            other => accepted.iter().any(|name| name == other.as_str()),
        }
    }

    /// Whether the host asks for something that a person knows.
    async fn asks(&mut self, method: MethodKind) -> Step {
        // Also so that no password is in the first request: russh logs that one's bytes, at the level debug.
        if self.offered.is_none() && !self.over {
            let asked = self.handle.authenticate_none(self.settings.user.clone());
            let result = step(self.settings, "authentication", asked).await?;
            if self.settle(result, String::new())? {
                self.welcome = true;
                return Ok(false);
            }
        }
        Ok(self.offers(method))
    }

    fn account(&self) -> String {
        format!("{}@{}", self.settings.user, self.settings.place())
    }

    async fn password(&mut self) -> Step {
        let account = self.account();
        let mut known = self.secrets.password(&account);
        for _ in 0..self.settings.password_prompts {
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
        let best = best.ok().flatten().unwrap_or(Some(HashAlg::Sha512));
        let allowed = |name: &str| self.settings.accepted_keys.as_ref().is_none_or(|a| a.iter().any(|n| n == name));
        Ok(match best {
            Some(HashAlg::Sha512) if !allowed("rsa-sha2-512") && allowed("rsa-sha2-256") => Some(HashAlg::Sha256),
            best => best,
        })
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
        let mut hint = if self.over {
            "the host lets only a few keys be tried (MaxAuthTries): name the right one with `-i FILE`, or with \
             identity_file of the host in the job file, and it is tried first; or set `IdentitiesOnly yes`"
                .to_owned()
        } else {
            format!(
                "put a public key of these into ~/.ssh/authorized_keys of {user} on the host, or name another user or \
                 identity file, or load the right key with ssh-add"
            )
        };
        let mut others = self.settings.left_out.clone();
        let wanted =
            |method: &MethodKind| matches!(method, MethodKind::HostBased) || String::from(method).starts_with("gssapi");
        others.extend(self.offered.iter().flat_map(|offered| offered.iter()).filter(|m| wanted(m)).map(String::from));
        if !others.is_empty() {
            let others = others.join(", ");
            hint =
                format!("{hint}; for {others} use the system's ssh: `transport: openssh` of the host in the job file");
        }
        TransportError::new(TransportErrorKind::Auth, message).with_hint(hint)
    }
}

/// What is noted of an agent that does not answer.
const SILENT: &str = "the agent does not answer";

/// Whether a key of the agent is that of a file; their comments differ.
fn is(identity: &AgentIdentity, key: &PublicKey) -> bool {
    identity.public_key().key_data() == key.key_data()
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
