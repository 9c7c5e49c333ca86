//! What both ends of a client's line through a NATS server agree on: how the server is reached, and what goes by which
//! subject.
//!
//! Everything about a client goes by two subjects, [`Order::command`] and [`Order::event`]. To the host go the lines that
//! `autoprof-client attach` reads, and `attach N`, which (re)starts it behind event N and is answered. From the host comes
//! what it writes, each line as a [`Said`]. The server keeps nothing: what was lost on the way is asked for again, from
//! the client's own file of events.

use std::{fmt, io, path::Path, str::FromStr, time::Duration};

use async_nats::{Client, ConnectOptions};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The program's name, in the directories that have programs for hosts and in a client's directory.
pub const RELAY_PROGRAM: &str = "autoprof-relay";
/// What a host says when its relay is up.
pub const READY: &str = "@autoprof relay ready";
/// How long a server may take to let somebody in.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often an idle connection is tried; a server that is gone is noticed after two in vain.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What a relay is started with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The servers, as `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// Certificates, in PEM, of who may vouch for the servers; none: those that the host trusts.
    pub ca: Option<String>,
    /// How it logs in.
    pub login: Login,
    /// The first part of its subjects, the client's own.
    pub subject: String,
}

impl Order {
    /// Where the client's orders come by.
    #[must_use]
    pub fn command(&self) -> String {
        format!("{}.command", self.subject)
    }

    /// Where what the client says goes by.
    #[must_use]
    pub fn event(&self) -> String {
        format!("{}.event", self.subject)
    }
}

/// How a server lets somebody in. Not shown by `Debug`, and cleared after use.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Login {
    /// The server asks for nothing.
    #[default]
    None,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A token.
    Token(Zeroizing<String>),
    /// The seed of an NKey: the server is shown that it is there, and never sees it.
    Nkey(Zeroizing<String>),
    /// The text of a credentials file: a signed name (JWT) and the seed that belongs to it.
    Credentials(Zeroizing<String>),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Nkey(_) => "Nkey",
            Self::Credentials(_) => "Credentials",
        })
    }
}

/// Connects to the first server that lets us in. After that it is the connection's own matter to stay: it comes back
/// when a server does.
///
/// # Errors
/// Why no server could be reached or none let us in.
pub async fn connect(name: &str, servers: &[String], ca: Option<&Path>, login: Login) -> io::Result<Client> {
    let plain = |secret: &Zeroizing<String>| String::clone(secret);
    let mut options = ConnectOptions::new().name(name).connection_timeout(CONNECT_WITHIN).ping_interval(PING_EVERY);
    options = match &login {
        Login::None => options,
        Login::Password { user, password } => options.user_and_password(user.clone(), plain(password)),
        Login::Token(token) => options.token(plain(token)),
        Login::Nkey(seed) => options.nkey(plain(seed)),
        Login::Credentials(text) => options.credentials(text)?,
    };
    if let Some(ca) = ca {
        // Who vouches is said so that it is asked: a server without TLS is not taken then.
        options = options.add_root_certificates(ca.to_owned()).require_tls(true);
    }
    options.connect(servers).await.map_err(|e| io::Error::other(reasons(&e)))
}

/// An error with what it comes from, where that says more.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// One message from a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The number of the last event that went before this message, or in it: a receiver that has not got that one has
    /// missed something.
    pub last: u64,
    /// What it is.
    pub what: What,
}

/// What a message from a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A line of the client's: an event.
    Line(String),
    /// Nothing reads the client's events any more, and why.
    End(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Line(line) => write!(f, "{} {line}", self.last),
            What::End(why) => write!(f, "{} end {why}", self.last),
        }
    }
}

impl FromStr for Said {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (last, rest) = text.split_once(' ').ok_or("it has no number")?;
        let last = last.parse().map_err(|e| format!("its number is none: {e}"))?;
        let what = match rest.strip_prefix("end ") {
            Some(why) => What::End(why.to_owned()),
            None => What::Line(rest.to_owned()),
        };
        Ok(Self { last, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        for said in [
            Said { last: 0, what: What::Line(r#"{"seq":0}"#.to_owned()) },
            Said { last: u64::MAX, what: What::End("exit status: 1: the client is gone".to_owned()) },
        ] {
            let text = said.to_string();
            assert_eq!(text.parse(), Ok(said), "{text}");
        }
        assert!("17".parse::<Said>().is_err());
        assert!("x end".parse::<Said>().is_err());
    }

    #[test]
    fn a_login_is_not_shown() {
        let login = Login::Password { user: "me".to_owned(), password: Zeroizing::new("hunter2".to_owned()) };
        assert_eq!(format!("{login:?}"), "Password");
    }
}
