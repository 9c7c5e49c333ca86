//! The byte stream below a connection, and the switch that ends it.
use std::{
    io,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use autoprof_plugin::prelude::*;
use russh::{ChannelStream, client::Msg};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};

use crate::proxy::Proxy;

/// A hold on a stream that russh owns: what it is told from outside, and what is seen of it.
///
/// russh 0.62 does not wake a task that waits for the window of a dead connection, nor does it look at its own
/// time-outs while a write to the socket is blocked. Cutting the stream below it ends both.
#[derive(Debug)]
pub(crate) struct Link {
    cut: AtomicBool,
    established: AtomicBool,
    /// Those who wait to read and to write.
    waiting: [Mutex<Option<Waker>>; 2],
    /// Bytes that the carrier has taken.
    written: watch::Sender<u64>,
    gone: watch::Sender<bool>,
}

impl Link {
    fn new() -> Self {
        Self {
            cut: AtomicBool::default(),
            established: AtomicBool::default(),
            waiting: Default::default(),
            written: watch::Sender::new(0),
            gone: watch::Sender::new(false),
        }
    }

    /// Ends the stream: reads and writes fail from now on.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
        for slot in &self.waiting {
            if let Some(waker) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
    }

    /// Says that the handshake is over; acknowledgements may be delayed again.
    pub(crate) fn establish(&self) {
        self.established.store(true, Relaxed);
    }

    /// Bytes that have been written in all.
    pub(crate) fn written(&self) -> u64 {
        *self.written.borrow()
    }

    /// Waits until so many bytes have been written in all.
    pub(crate) async fn reached(&self, bytes: u64) {
        // As in `gone`.
        let _ = self.written.subscribe().wait_for(|written| *written >= bytes).await;
    }

    /// Waits until russh has let go of the stream.
    pub(crate) async fn gone(&self) {
        // An error means that the sender is gone, which cannot be while it is borrowed here.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Fails when the stream has been cut, and notes whom to wake when it is.
    fn check(&self, direction: usize, cx: &Context<'_>) -> io::Result<()> {
        {
            let mut slot = self.waiting[direction].lock().unwrap_or_else(PoisonError::into_inner);
            if !slot.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *slot = Some(cx.waker().clone());
            }
        }
        if self.cut.load(Relaxed) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// What carries the bytes.
enum Carrier {
    Tcp(TcpStream),
    /// A channel through a jump host.
    Jump(ChannelStream<Msg>),
    /// A ProxyCommand.
    Command(Proxy),
}

/// The stream that is handed to russh.
pub(crate) struct Wire {
    carrier: Carrier,
    link: Arc<Link>,
}

impl Wire {
    /// A stream over a socket.
    pub(crate) fn tcp(stream: TcpStream, give_up: Duration) -> (Self, Arc<Link>) {
        // Small packets of the handshake would wait 40 ms each for Nagle's algorithm. A connection works without.
        let _ = stream.set_nodelay(true);
        // What stays unacknowledged is a dead peer; russh cannot notice while it is blocked in a write.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(give_up));
        Self::new(Carrier::Tcp(stream))
    }

    /// A stream through a ProxyCommand.
    pub(crate) fn command(proxy: Proxy) -> (Self, Arc<Link>) {
        Self::new(Carrier::Command(proxy))
    }

    /// A stream through a jump host.
    pub(crate) fn jump(stream: ChannelStream<Msg>) -> (Self, Arc<Link>) {
        Self::new(Carrier::Jump(stream))
    }

    fn new(carrier: Carrier) -> (Self, Arc<Link>) {
        let link = Arc::new(Link::new());
        (Self { carrier, link: Arc::clone(&link) }, link)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.link.gone.send_replace(true);
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.link.check(0, cx)?;
        let hurry = !self.link.established.load(Relaxed);
        match &mut self.carrier {
            Carrier::Tcp(stream) => {
                if hurry {
                    // The kernel clears the flag by itself, so it is set before every read. Only speed hangs on it.
                    let _ = SockRef::from(&*stream).set_tcp_quickack(true);
                }
                Pin::new(stream).poll_read(cx, buf)
            }
            Carrier::Jump(stream) => Pin::new(stream).poll_read(cx, buf),
            Carrier::Command(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.link.check(1, cx)?;
        let taken = ready!(match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Carrier::Jump(stream) => Pin::new(stream).poll_write(cx, data),
            Carrier::Command(stream) => Pin::new(stream).poll_write(cx, data),
        })?;
        self.link.written.send_modify(|written| *written += taken as u64);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.check(1, cx)?;
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Jump(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Command(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.check(1, cx)?;
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Jump(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Command(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
