//! `%` tokens and `${NAME}` in values.
use std::path::PathBuf;

use ring::digest;

use super::users::User;

/// Where a token stands: each keyword knows its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// `HostName`.
    Name,
    /// `ProxyCommand` and `ProxyJump`.
    Proxy,
    /// `User`, before the user on the host is known.
    User,
    /// Paths and `Match exec`.
    All,
}

/// What tokens stand for.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    pub(crate) user: &'a User,
    /// `%n`: the name as it was asked for.
    pub(crate) alias: &'a str,
    /// `%h`.
    pub(crate) address: &'a str,
    /// `%p`.
    pub(crate) port: u16,
    /// `%r`: the user on the host.
    pub(crate) remote: &'a str,
    /// `%k`: the host as the known-hosts files name it.
    pub(crate) key_alias: &'a str,
    /// `%j`: the jump hosts.
    pub(crate) jump: &'a str,
}

impl Tokens<'_> {
    /// Expands tokens, and `${NAME}` where `environment` says so.
    ///
    /// # Errors
    /// For a token that the keyword does not have, and a variable that is not set.
    pub(crate) fn expand(&self, text: &str, set: Set, environment: bool) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '$']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if environment && let Some(inner) = rest.strip_prefix("${") {
                let (value, after) = variable(inner)?;
                out.push_str(&value);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('%') {
                let Some(token) = after.chars().next() else { return Err("a % ends the value; write %%".into()) };
                out.push_str(&self.token(token, set)?);
                rest = &after[token.len_utf8()..];
            } else {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        Ok(out + rest)
    }

    /// Expands a path: `~`, then tokens and variables.
    ///
    /// # Errors
    /// As [`Tokens::expand`], and for an unknown user.
    pub(crate) fn path(&self, text: &str) -> Result<PathBuf, String> {
        let path = self.user.path(text)?;
        self.expand(&path.to_string_lossy(), Set::All, true).map(PathBuf::from)
    }

    fn token(&self, token: char, set: Set) -> Result<String, String> {
        let allowed = match set {
            Set::Name => "%h",
            Set::Proxy => "%hknpr",
            Set::User => "%dhiklLnpju",
            Set::All => "%CdhijklLnpru",
        };
        if !allowed.contains(token) {
            return Err(format!("%{token} is no token of this keyword (write %% for a % sign)"));
        }
        Ok(match token {
            'C' => self.hash(),
            'd' => self.user.home.to_string_lossy().into_owned(),
            'h' => self.address.to_owned(),
            'i' => self.user.uid.to_string(),
            'j' => self.jump.to_owned(),
            'k' => self.key_alias.to_owned(),
            'l' => self.user.machine.clone(),
            'L' => self.user.machine.split('.').next().unwrap_or_default().to_owned(),
            'n' => self.alias.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.remote.to_owned(),
            'u' => self.user.name.clone(),
            _ => "%".to_owned(),
        })
    }

    /// `%C`: what tells connections apart. OpenSSH 9.6 took the jump hosts into it; with none it is the same.
    fn hash(&self) -> String {
        let text = format!("{}{}{}{}{}", self.user.machine, self.address, self.port, self.remote, self.jump);
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The value of the variable whose name ends with the first `}`, and what follows it.
fn variable(inner: &str) -> Result<(String, &str), String> {
    let (name, after) = inner.split_once('}').ok_or("a ${ has no }")?;
    if name.is_empty() {
        return Err("${} names no variable".into());
    }
    let value = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?;
    Ok((value, after))
}

/// Checks that all `${NAME}` in a text have values.
///
/// # Errors
/// Which has none.
pub(crate) fn environment(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, inner)) = rest.split_once("${") {
        rest = variable(inner)?.1;
    }
    Ok(())
}
