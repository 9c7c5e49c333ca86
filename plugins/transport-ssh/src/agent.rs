//! The user's ssh-agent: one that does not answer must not keep key files from being tried.
use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use russh::keys::agent::{AgentIdentity, client::AgentClient};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Instant, Sleep, sleep, timeout},
};

/// How long an agent may take to say which keys it has.
const LISTING: Duration = Duration::from_secs(5);

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
    pub(crate) async fn ask(socket: &Path, signing: Duration) -> Result<Self, String> {
        let asked = async {
            let stream = UnixStream::connect(socket).await.map_err(|e| plain(&e))?;
            let mut client = AgentClient::connect(Bounded::new(stream, signing));
            let identities = client.request_identities().await.map_err(|e| e.to_string())?;
            Ok(Self { client, identities })
        };
        match timeout(LISTING.min(signing), asked).await {
            Ok(asked) => asked,
            Err(_) => Err(format!("no answer within {} s", LISTING.min(signing).as_secs_f64())),
        }
    }
}

fn plain(e: &io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
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
