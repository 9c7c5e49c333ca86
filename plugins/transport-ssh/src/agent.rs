//! The user's ssh-agent: one that does not answer must not keep key files from being tried.
use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use russh::{
    AgentAuthError, Signer,
    client::AuthResult,
    keys::{
        HashAlg,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::Notify,
    time::{Instant, Sleep, sleep, timeout},
};

/// How long an agent may take to say which keys it has.
const LISTING: Duration = Duration::from_secs(5);

/// Why an agent has no keys to offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Absent {
    /// It cannot be asked.
    #[error("{0}")]
    Gone(String),
    /// It was asked, and said nothing for this long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
}

/// An agent, and its keys.
pub(crate) struct Agent {
    pub(crate) client: AgentClient<Bounded>,
    pub(crate) identities: Vec<AgentIdentity>,
}

impl Agent {
    /// Asks an agent for its keys; each signature of it may take as long as `signing`.
    ///
    /// # Errors
    /// Why it has none to offer.
    pub(crate) async fn ask(socket: &Path, signing: Duration) -> Result<Self, Absent> {
        let asked = async {
            let stream = UnixStream::connect(socket).await.map_err(|e| Absent::Gone(plain(&e)))?;
            let mut client = AgentClient::connect(Bounded::new(stream, signing));
            let identities = client.request_identities().await.map_err(|e| Absent::Gone(e.to_string()))?;
            Ok(Self { client, identities })
        };
        match timeout(LISTING.min(signing), asked).await {
            Ok(asked) => asked,
            Err(_) => Err(Absent::Silent(LISTING.min(signing))),
        }
    }
}

fn plain(e: &io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// An agent that signs, or says that it did not.
///
/// When a signature fails, russh 0.62 waits for it for ever, and no other key can be tried. It is given back what it
/// wanted signed instead, which it does not send; the wait for the host's answer is given up here.
pub(crate) struct Signing<'a> {
    client: &'a mut AgentClient<Bounded>,
    failed: Failed,
}

/// Why a signature failed.
#[derive(Clone, Default)]
pub(crate) struct Failed {
    error: Arc<Mutex<Option<russh::keys::Error>>>,
    noted: Arc<Notify>,
}

impl<'a> Signing<'a> {
    pub(crate) fn of(client: &'a mut AgentClient<Bounded>) -> Self {
        Self { client, failed: Failed::default() }
    }

    pub(crate) fn failed(&self) -> Failed {
        self.failed.clone()
    }
}

impl Signer for Signing<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        let unsigned = to_sign.clone();
        match self.client.auth_sign(key, hash, to_sign).await {
            Err(AgentAuthError::Key(e)) => {
                *self.failed.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                self.failed.noted.notify_one();
                Ok(unsigned)
            }
            done => done,
        }
    }
}

impl Failed {
    /// Waits for a login that uses the agent, or for a signature that failed.
    pub(crate) async fn or(
        &self,
        login: impl Future<Output = Result<AuthResult, AgentAuthError>>,
    ) -> Result<AuthResult, AgentAuthError> {
        let done = tokio::select! {
            // The login first: it hands over what it got before the failure is seen.
            biased;
            done = login => Some(done),
            () = self.noted.notified() => None,
        };
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (done, error) {
            (Some(done), None) => done,
            (_, Some(e)) => Err(AgentAuthError::Key(e)),
            (None, None) => Err(AgentAuthError::Key(russh::keys::Error::AgentFailure)),
        }
    }
}

/// A stream of which each answer has a time limit.
pub(crate) struct Bounded {
    stream: UnixStream,
    limit: Duration,
    left: Pin<Box<Sleep>>,
}

impl Bounded {
    fn new(stream: UnixStream, limit: Duration) -> Self {
        Self { stream, limit, left: Box::pin(sleep(limit)) }
    }

    fn begin(&mut self) {
        let end = Instant::now() + self.limit;
        self.left.as_mut().reset(end);
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            return Poll::Ready(read);
        }
        ready!(self.left.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the agent does not answer")))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
