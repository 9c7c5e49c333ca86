//! The way to a host: names, sockets, hops and the handshake, each with a time-out of its own.
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_ssh2_tokio::Config;
use autoprof_plugin::prelude::*;
use russh::{
    ChannelId, ChannelOpenFailure, Disconnect,
    client::{DisconnectReason, Handle, Handler, Session as Russh, connect_stream},
    keys::PublicKey,
};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    auth,
    config::Settings,
    known_hosts::{KnownFiles, KnownHost},
    proxy::{Proxy, Said},
    secrets::Secrets,
    socket::{Link, Wire},
    ssh_config::{Files, User, in_family},
    window,
};

/// How long the other side may take to agree to the end of a connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens connections; holds what they share.
pub(crate) struct Connector {
    shared: Arc<Shared>,
    secrets: Secrets,
}

/// What settings are made of.
struct Shared {
    files: Files,
    known_files: Arc<KnownFiles>,
    user: User,
}

impl Connector {
    pub(crate) fn new(prompter: Arc<dyn Prompter>) -> Self {
        let shared = Shared { files: Files::default(), known_files: Arc::default(), user: User::current() };
        Self { shared: Arc::new(shared), secrets: Secrets::new(prompter) }
    }

    /// Connects to a host, through its jump hosts if it has some, and logs in.
    pub(crate) async fn connect(&self, host: &Host) -> Result<Arc<Connection>, TransportError> {
        let chain = {
            let (shared, host) = (Arc::clone(&self.shared), host.clone());
            // A configuration may have commands that are run, and names that are looked up.
            blocking(move || {
                let config = shared.files.load(host.option("ssh_config"), &shared.user)?;
                Settings::chain(&host, &config, &shared.user)
            })
            .await??
        };
        let last = chain.len() - 1;
        let mut via = None;
        for (at, settings) in chain.into_iter().enumerate() {
            let hop = self.open(&settings, via.clone()).await.map_err(|mut e| {
                if at < last {
                    e.message = format!("jump host: {}", e.message);
                }
                e
            })?;
            via = Some(Arc::new(hop));
        }
        via.ok_or_else(|| TransportError::new(TransportErrorKind::Other, "there is nowhere to connect to"))
    }

    async fn open(&self, settings: &Settings, via: Option<Arc<Connection>>) -> Result<Connection, TransportError> {
        let known = blocking({
            let (settings, shared) = (settings.clone(), Arc::clone(&self.shared));
            move || KnownHost::read(&settings, &shared.known_files)
        })
        .await??;
        let mut said = Said::default();
        let (wire, link) = match (&via, &settings.proxy_command) {
            (Some(hop), _) => Wire::jump(hop.forward(settings).await?.into_stream()),
            (None, Some(command)) => {
                let (proxy, errors) = Proxy::start(command).map_err(|e| {
                    let message = format!("cannot start the ProxyCommand of {}", settings.alias);
                    TransportError::caused(TransportErrorKind::Connect, message, &e)
                })?;
                said = errors;
                Wire::command(proxy)
            }
            (None, None) => dial(settings).await?,
        };
        // Until the connection is made, giving up must leave nothing behind: russh's task would wait on.
        let guard = CutOnDrop(Some(Arc::clone(&link)));
        let config = Arc::new(russh_config(settings, &known));
        let state = Arc::new(State::default());
        let handler = Watch { known: Arc::new(known), accepted: None, state: Arc::clone(&state) };
        let place = settings.place();
        let greeting = step(settings, "banner and key exchange", connect_stream(config, wire, handler)).await?;
        let mut handle = greeting.map_err(|refusal| {
            let mut error = refusal.into_error(&place, &state);
            if let Some(command) = settings.proxy_command.as_ref().filter(|_| error.kind == TransportErrorKind::Connect)
            {
                let said = said.text().map(|text| format!(": {text}")).unwrap_or_default();
                error.chain.push(format!("the ProxyCommand {command:?} ended or said something else{said}"));
            }
            error
        })?;
        auth::log_in(&mut handle, &state, settings, &self.secrets).await?;
        link.establish();
        guard.keep();
        Ok(Connection {
            handle,
            state,
            link,
            place,
            step_timeout: settings.connect_timeout,
            write_timeout: settings.write_timeout,
            via,
        })
    }
}

/// Waits for one step of connecting, and names it when it takes too long.
pub(crate) async fn step<T>(
    settings: &Settings,
    name: &str,
    work: impl Future<Output = T>,
) -> Result<T, TransportError> {
    timeout(settings.connect_timeout, work)
        .await
        .map_err(|_| too_slow(name, &settings.place(), settings.connect_timeout, "connect_timeout"))
}

fn too_slow(step: &str, place: &str, limit: Duration, option: &str) -> TransportError {
    let message = format!("{step} with {place} timed out after {} s", limit.as_secs_f64());
    TransportError::new(TransportErrorKind::Timeout, message).with_hint(format!(
        "if the host is only slow, raise {option} (seconds) among the host's options in the job file"
    ))
}

/// Blocking work (files, prompts) beside the connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TransportError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| TransportError::caused(TransportErrorKind::Other, "cannot read a file", &e))
}

/// Why a host opens no channel.
pub(crate) fn words(reason: &ChannelOpenFailure) -> String {
    match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "administratively prohibited".to_owned(),
        ChannelOpenFailure::ConnectFailed => "open failed".to_owned(),
        ChannelOpenFailure::UnknownChannelType => "unknown channel type".to_owned(),
        ChannelOpenFailure::ResourceShortage => "resource shortage".to_owned(),
        ChannelOpenFailure::Other { reason, .. } => autoprof_plugin::core::text::one_line(reason),
    }
}

/// Opens a socket to a host, as often as the configuration wants it tried.
async fn dial(settings: &Settings) -> Result<(Wire, Arc<Link>), TransportError> {
    let mut tried = 1;
    loop {
        match dial_once(settings).await {
            Err(_) if tried < settings.attempts => {
                tried += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => return done,
        }
    }
}

async fn dial_once(settings: &Settings) -> Result<(Wire, Arc<Link>), TransportError> {
    let place = settings.place();
    let unresolved = |e: &io::Error| {
        TransportError::caused(TransportErrorKind::Resolve, format!("cannot resolve {}", settings.address), e)
            .with_hint("check the name, or give the host's address")
    };
    let lookup = tokio::net::lookup_host((settings.address.as_str(), settings.port));
    let addresses = step(settings, "resolving the name", lookup).await?.map_err(|e| unresolved(&e))?;
    let addresses: Vec<_> = addresses.filter(|address| in_family(address.ip(), &settings.family)).collect();
    let mut failed = unresolved(&io::Error::new(
        io::ErrorKind::NotFound,
        match settings.family.as_str() {
            "inet" => "the name has no IPv4 address (AddressFamily inet)",
            "inet6" => "the name has no IPv6 address (AddressFamily inet6)",
            _ => "the name has no address",
        },
    ));
    for address in addresses {
        match step(settings, "TCP connect", connect_to(settings, address)).await {
            Ok(Ok(stream)) => {
                // A connection works without.
                let _ = SockRef::from(&stream).set_keepalive(settings.keep_tcp_alive);
                return Ok(Wire::tcp(stream, settings.write_timeout));
            }
            Ok(Err(e)) => {
                let message = format!("cannot connect to {place}: {}", plain(&e));
                failed = TransportError::new(TransportErrorKind::Connect, message);
                if e.kind() == io::ErrorKind::ConnectionRefused {
                    failed = failed.with_hint("nothing listens there: check the port, and that sshd runs");
                }
            }
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

/// Connects from where the configuration says.
async fn connect_to(settings: &Settings, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(interface) = &settings.bind_interface {
        SockRef::from(&socket)
            .bind_device(Some(interface.as_bytes()))
            .map_err(|e| io::Error::new(e.kind(), format!("BindInterface {interface}: {}", plain(&e))))?;
    }
    if let Some(from) = &settings.bind_address {
        let bad = |e: &dyn std::fmt::Display| io::Error::other(format!("BindAddress {from}: {e}"));
        let found = tokio::net::lookup_host((from.as_str(), 0)).await.map_err(|e| bad(&plain(&e)))?;
        let same = found.into_iter().find(|own| own.is_ipv4() == address.is_ipv4());
        socket
            .bind(same.ok_or_else(|| bad(&"not of the family of the host's address"))?)
            .map_err(|e| bad(&plain(&e)))?;
    }
    socket.connect(address).await
}

/// A system error without its number, in lower case.
fn plain(e: &io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn russh_config(settings: &Settings, known: &KnownHost) -> Config {
    Config {
        keepalive_interval: Some(settings.keepalive.0),
        keepalive_max: settings.keepalive.1,
        nodelay: true,
        preferred: settings.algorithms.preferred(&known.algorithms()),
        ..Config::default()
    }
}

/// Cuts a connection that is not finished.
struct CutOnDrop(Option<Arc<Link>>);

impl CutOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.cut();
        }
    }
}

/// What is known of a connection beside its streams.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Why it ended.
    end: Mutex<Option<String>>,
    /// The windows of the channels.
    channels: Mutex<HashMap<ChannelId, window::Shared>>,
}

impl State {
    /// Why the connection ended, for a message.
    pub(crate) fn end(&self) -> Option<String> {
        lock(&self.end).clone()
    }

    /// The window of a channel, in which its end is seen as well.
    pub(crate) fn window(&self, channel: ChannelId) -> window::Shared {
        lock(&self.channels).entry(channel).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the handshake was not finished.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By us: the host's key.
    HostKey(TransportError),
    /// By the protocol.
    Russh(russh::Error),
}

impl From<russh::Error> for Refusal {
    fn from(e: russh::Error) -> Self {
        Self::Russh(e)
    }
}

impl Refusal {
    fn into_error(self, place: &str, state: &State) -> TransportError {
        match self {
            Self::HostKey(error) => error,
            Self::Russh(e) => {
                let message = format!("banner and key exchange with {place} failed");
                let mut error = TransportError::caused(TransportErrorKind::Connect, message, &e);
                error.chain.extend(state.end());
                error
            }
        }
    }
}

/// What russh reports of a connection.
pub(crate) struct Watch {
    known: Arc<KnownHost>,
    /// The key that passed: it is shown again whenever session keys are renewed.
    accepted: Option<PublicKey>,
    state: Arc<State>,
}

impl Handler for Watch {
    type Error = Refusal;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, Refusal> {
        if let Some(accepted) = &self.accepted {
            return Ok(accepted.key_data() == key.key_data());
        }
        let (known, shown) = (Arc::clone(&self.known), key.clone());
        blocking(move || known.check(&shown)).await.and_then(|verdict| verdict).map_err(Refusal::HostKey)?;
        self.accepted = Some(key.clone());
        Ok(true)
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _: u32,
        size: u32,
        _: &mut Russh,
    ) -> Result<(), Refusal> {
        self.state.window(channel).send_modify(|window| window.set(size));
        Ok(())
    }

    async fn window_adjusted(&mut self, channel: ChannelId, size: u32, _: &mut Russh) -> Result<(), Refusal> {
        self.state.window(channel).send_modify(|window| window.set(size));
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Russh) -> Result<(), Refusal> {
        if let Some(closed) = lock(&self.state.channels).remove(&channel) {
            closed.send_modify(|window| window.closed = true);
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let (text, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                (format!("the host said: {}", autoprof_plugin::core::text::one_line(&info.message)), Ok(()))
            }
            DisconnectReason::Error(Refusal::Russh(e)) => (e.to_string().to_lowercase(), Err(Refusal::Russh(e))),
            DisconnectReason::Error(Refusal::HostKey(e)) => (e.to_string(), Err(Refusal::HostKey(e))),
        };
        lock(&self.state.end).get_or_insert(text);
        for (_, closed) in lock(&self.state.channels).drain() {
            closed.send_modify(|window| window.closed = true);
        }
        result
    }
}

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) handle: Handle<Watch>,
    pub(crate) state: Arc<State>,
    pub(crate) link: Arc<Link>,
    pub(crate) place: String,
    pub(crate) step_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// The connection below this one, which must not end before it.
    via: Option<Arc<Connection>>,
}

impl Connection {
    /// The error of something that a dead connection cannot do any more.
    pub(crate) fn closed(&self, what: &str) -> TransportError {
        let mut error =
            TransportError::new(TransportErrorKind::Closed, format!("the connection to {} ended {what}", self.place));
        error.chain.extend(self.state.end());
        error
    }

    /// A time-out of this connection's steps.
    pub(crate) fn too_slow(&self, step: &str) -> TransportError {
        too_slow(step, &self.place, self.step_timeout, "connect_timeout")
    }

    /// A stream to another host; its name is resolved over there.
    async fn forward(&self, to: &Settings) -> Result<russh::Channel<russh::client::Msg>, TransportError> {
        let open = self.handle.channel_open_direct_tcpip(to.address.clone(), u32::from(to.port), "127.0.0.1", 0);
        step(to, &format!("TCP connect through {}", self.place), open).await?.map_err(|e| match e {
            russh::Error::ChannelOpenFailure(reason) => {
                let message = format!("cannot connect to {} through {}: {}", to.place(), self.place, words(&reason));
                TransportError::new(TransportErrorKind::Connect, message)
                    .with_hint("check that the jump host reaches it, and allows it (AllowTcpForwarding in sshd_config)")
            }
            _ => self.closed("before the next host was reached"),
        })
    }

    /// Ends the connection and those below it.
    pub(crate) async fn close(&self) -> Result<(), TransportError> {
        let mut result = Ok(());
        let mut next = Some(self);
        while let Some(connection) = next {
            let farewell = async {
                // An error means that it has ended already.
                let _ = connection.handle.disconnect(Disconnect::ByApplication, "", "").await;
                connection.link.gone().await;
            };
            if timeout(FAREWELL, farewell).await.is_err() {
                connection.link.cut();
                result = Err(too_slow("closing the connection", &connection.place, FAREWELL, "close_timeout"));
            }
            next = connection.via.as_deref();
        }
        result.map_err(|mut e: TransportError| {
            e.hint = None;
            e
        })
    }
}
