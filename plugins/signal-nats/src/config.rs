//! The file that says how the server is reached: it has secrets in it, so they are in no job, argument or variable.
use std::{
    env, fs, io,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use autoprof_plugin::{core::text::one_line, prelude::*};
use autoprof_relay::Login;
use serde::Deserialize;

/// Names another file than `nats.yaml` in autoprof's directory of the user's settings.
const VARIABLE: &str = "AUTOPROF_NATS";

/// How the controller and the hosts reach the server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where this was read.
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// `nats://HOST:PORT` or `tls://HOST:PORT`, one or more.
    pub(crate) servers: Vec<String>,
    /// Who may vouch for the servers, as a PEM file; relative to this file. With it TLS is insisted on.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// How the controller logs in.
    #[serde(default)]
    login: LoginConfig,
    /// What is other on hosts.
    #[serde(default)]
    hosts: Hosts,
    /// First part of all subjects.
    #[serde(default = "prefix")]
    pub(crate) prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hosts {
    /// The servers as hosts reach them.
    #[serde(default)]
    servers: Option<Vec<String>>,
    /// How hosts log in.
    #[serde(default)]
    login: Option<LoginConfig>,
}

/// How somebody logs in; one of these, or nothing.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginConfig {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    /// File with the seed of an NKey.
    nkey: Option<PathBuf>,
    /// File with a JWT and its seed, as `nsc` writes it.
    credentials: Option<PathBuf>,
}

impl std::fmt::Debug for LoginConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginConfig")
    }
}

fn prefix() -> String {
    "autoprof".to_owned()
}

impl Config {
    /// Reads the user's file.
    pub(crate) fn read() -> Result<Self, SignalError> {
        let file = path().ok_or_else(|| wrong("there is no home directory to look for nats.yaml in", None))?;
        Self::read_file(&file)
    }

    fn read_file(file: &Path) -> Result<Self, SignalError> {
        let text = read_own(file).map_err(|e| {
            let hint = format!("write there what docs/scale.md shows, or name another file by {VARIABLE}");
            wrong(&format!("cannot read how to reach the NATS server, {}: {e}", file.display()), Some(hint))
        })?;
        let mut config: Self = serde_yaml::from_str(&text).map_err(|e| {
            // The library's text may quote what it read, which may be a password.
            let place = e.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
            let hint = "docs/scale.md shows one".to_owned();
            wrong(&format!("{} is not as it should be{place}", file.display()), Some(hint))
        })?;
        if config.servers.is_empty() {
            return Err(wrong(&format!("{} names no server", file.display()), None));
        }
        let is_token = |part: &str| !part.is_empty() && !part.contains(['*', '>', ' ', '\t', '\r', '\n']);
        if !config.prefix.split('.').all(is_token) {
            return Err(wrong(&format!("{} is no first part of a subject", one_line(&config.prefix)), None));
        }
        config.file = file.to_owned();
        config.ca = config.ca.map(|ca| beside(file, &ca));
        Ok(config)
    }

    /// How the controller logs in.
    pub(crate) fn login(&self) -> Result<Login, SignalError> {
        self.login_of(&self.login)
    }

    /// How hosts log in.
    pub(crate) fn host_login(&self) -> Result<Login, SignalError> {
        self.login_of(self.hosts.login.as_ref().unwrap_or(&self.login))
    }

    /// The servers as hosts reach them.
    pub(crate) fn host_servers(&self) -> &[String] {
        self.hosts.servers.as_deref().unwrap_or(&self.servers)
    }

    /// The certificates of who may vouch for the servers.
    pub(crate) fn ca_text(&self) -> Result<Option<String>, SignalError> {
        let read = |ca: &PathBuf| {
            fs::read_to_string(ca).map_err(|e| wrong(&format!("cannot read {}: {e}", ca.display()), None))
        };
        self.ca.as_ref().map(read).transpose()
    }

    fn login_of(&self, login: &LoginConfig) -> Result<Login, SignalError> {
        let secret = |path: &Path| {
            let path = beside(&self.file, path);
            read_own(&path).map_err(|e| wrong(&format!("cannot read {}: {e}", path.display()), None))
        };
        let LoginConfig { user, password, token, nkey, credentials } = login;
        match (user, password, token, nkey, credentials) {
            (None, None, None, None, None) => Ok(Login::None),
            (Some(user), Some(password), None, None, None) => {
                Ok(Login::Password { user: user.clone(), password: password.clone().into() })
            }
            (None, None, Some(token), None, None) => Ok(Login::Token(token.clone().into())),
            (None, None, None, Some(path), None) => Ok(Login::Nkey(secret(path)?.trim().to_owned().into())),
            (None, None, None, None, Some(path)) => Ok(Login::Credentials(secret(path)?.into())),
            _ => Err(wrong(
                &format!("a login in {} is not one of them", self.file.display()),
                Some("say user and password, or token, or nkey, or credentials".to_owned()),
            )),
        }
    }
}

fn wrong(message: &str, hint: Option<String>) -> SignalError {
    let mut error = SignalError::new(SignalErrorKind::Transport, message);
    error.hint = hint;
    error
}

fn path() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(file) = env::var_os(VARIABLE) {
        return Some(file.into());
    }
    let settings = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(settings.join("autoprof/nats.yaml"))
}

/// A file that is named in another one.
fn beside(file: &Path, named: &Path) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(named)
}

/// A file with secrets: this user's, or root's, and nobody else's to read.
fn read_own(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let meta = file.metadata()?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(io::Error::other(format!("it belongs to uid {}, who is neither you nor root", meta.uid())));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("others may use it (mode {:o}): chmod 600", meta.mode() & 0o777)));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Config, SignalError> {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("nats.yaml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Config::read_file(&file)
    }

    #[test]
    fn hosts_have_a_login_of_their_own_where_one_is_said() {
        let text = "servers: [tls://broker:4222]\nca: ca.pem\nlogin: {user: controller, password: a}\n\
                    hosts: {servers: [tls://10.0.0.1:4222], login: {token: b}}\n";
        let config = read(text, 0o600).unwrap();
        assert!(matches!(config.login().unwrap(), Login::Password { user, .. } if user == "controller"));
        assert!(matches!(config.host_login().unwrap(), Login::Token(_)));
        assert_eq!(config.host_servers(), ["tls://10.0.0.1:4222"]);
        assert_eq!(config.ca.unwrap().file_name().unwrap(), "ca.pem");
        let config = read("servers: [nats://b]\nlogin: {token: a}\n", 0o600).unwrap();
        assert!(matches!(config.host_login().unwrap(), Login::Token(_)));
        assert_eq!(config.prefix, "autoprof");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let error = read("servers: [nats://b]\n", 0o640).unwrap_err();
        assert!(error.to_string().contains("others may use it (mode 640): chmod 600"), "{error}");
    }

    #[test]
    fn a_mistake_is_named_without_what_stands_there() {
        let error = read("servers: [nats://b]\nlogin:\n  passwort: hunter2\n", 0o600).unwrap_err();
        assert!(error.to_string().contains("nats.yaml is not as it should be at line"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
        let error =
            read("servers: [nats://b]\nlogin: {user: me, token: hunter2}\n", 0o600).unwrap().login().unwrap_err();
        assert!(error.to_string().contains("is not one of them"), "{error}");
        assert!(read("servers: []\n", 0o600).unwrap_err().to_string().contains("names no server"));
        assert!(read("servers: [nats://b]\nprefix: a.*\n", 0o600).unwrap_err().to_string().contains("subject"));
    }
}
