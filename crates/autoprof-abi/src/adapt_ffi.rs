//! The other side's objects as native ones.
use std::{any::Any, sync::Arc};

use abi_stable::std_types::{RStr, RString, Tuple2};
use async_trait::async_trait;
use autoprof_core::{
    ArgEncoder, Args, Channel, ClientHandle, Command, Host, Process, ProcessInput, ProcessOutput, ProfilerInfo,
    Prompter, RawResults, Registry, Secret, Session, Signal, Signaler, Table, Transport,
    error::{ArgError, ConvertError, SignalError, SignalErrorKind, TransportError, TransportErrorKind},
    protocol::{Event, HostFacts, Invocation},
    registry::AlreadyRegistered,
    transport::{ExitStatus, OutputChunk},
};
use bytes::Bytes;
use zeroize::Zeroize as _;

use crate::{
    adapt_native::{LogRecord, Logger, session_to_ffi},
    json,
    raw::*,
    run::Executor,
};

/// What came from a plugin, as core knows it.
#[derive(Default)]
pub struct Provided {
    /// Transports by name.
    pub transports: Vec<(String, Arc<dyn Transport>)>,
    /// Signalers by name.
    pub signalers: Vec<(String, Arc<dyn Signaler>)>,
    /// Encoders.
    pub encoders: Vec<Arc<dyn ArgEncoder>>,
}

impl Provided {
    /// Takes what the other side hands over.
    ///
    /// # Errors
    /// When a profiler's description cannot be read.
    pub fn from_ffi(registry: FfiRegistry) -> Result<Self, ArgError> {
        let mut provided = Self::default();
        for Tuple2(name, inner) in registry.transports {
            provided.transports.push((name.into(), Arc::new(TransportFromFfi { inner })));
        }
        for Tuple2(name, inner) in registry.signalers {
            provided.signalers.push((name.into(), Arc::new(SignalerFromFfi { inner })));
        }
        for inner in registry.encoders {
            provided.encoders.push(Arc::new(EncoderFromFfi::new(inner)?));
        }
        Ok(provided)
    }

    /// Adds everything to a registry, or nothing.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn add_to(self, registry: &mut Registry) -> Result<(), AlreadyRegistered> {
        let taken = |kind, name: &str| AlreadyRegistered { kind, name: name.to_owned() };
        if let Some((name, _)) = self.transports.iter().find(|(name, _)| registry.transport(name).is_ok()) {
            return Err(taken("transport", name));
        }
        if let Some((name, _)) = self.signalers.iter().find(|(name, _)| registry.signaler(name).is_ok()) {
            return Err(taken("signaler", name));
        }
        let mut profilers = self.encoders.iter().map(|e| e.profiler().name.as_ref());
        if let Some(name) = profilers.find(|name| registry.encoder(name).is_ok()) {
            return Err(taken("profiler", name));
        }
        self.transports.into_iter().try_for_each(|(name, transport)| registry.add_transport(&name, transport))?;
        self.signalers.into_iter().try_for_each(|(name, signaler)| registry.add_signaler(&name, signaler))?;
        self.encoders.into_iter().try_for_each(|encoder| registry.add_encoder(encoder))
    }

    /// Kind and name of everything: `transport:ssh`, `profiler:vmstat`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let transports = self.transports.iter().map(|(name, _)| format!("transport:{name}"));
        let signalers = self.signalers.iter().map(|(name, _)| format!("signaler:{name}"));
        let encoders = self.encoders.iter().map(|e| format!("profiler:{}", e.profiler().name));
        transports.chain(signalers).chain(encoders)
    }
}

struct EncoderFromFfi {
    inner: FfiArgEncoderObj,
    info: ProfilerInfo,
}

impl EncoderFromFfi {
    fn new(inner: FfiArgEncoderObj) -> Result<Self, ArgError> {
        let text = inner.info().into_result().map_err(ArgError::from)?;
        let info = json::from("a profiler's description", text.as_str())?;
        Ok(Self { inner, info })
    }
}

impl ArgEncoder for EncoderFromFfi {
    fn profiler(&self) -> &ProfilerInfo {
        &self.info
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let (args, facts): (String, String) = (json::to("the arguments", args)?, json::to("the facts", facts)?);
        let text = self.inner.encode(RStr::from(args.as_str()), RStr::from(facts.as_str())).into_result()?;
        json::from("the invocation", text.as_str())
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let raw: String = json::to("the raw results", raw)?;
        let text = self.inner.convert(RStr::from(raw.as_str())).into_result()?;
        json::from("the tables", text.as_str())
    }
}

struct TransportFromFfi {
    inner: FfiTransportObj,
}

#[async_trait]
impl Transport for TransportFromFfi {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        let host: String = json::to("the host", host)?;
        let session = self.inner.connect(host.into()).await.into_result()?;
        Ok(Arc::new(SessionFromFfi::new(session)))
    }
}

/// A session of the other side's.
pub(crate) struct SessionFromFfi {
    pub(crate) inner: FfiSessionObj,
}

impl SessionFromFfi {
    pub(crate) fn new(inner: FfiSessionObj) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl Session for SessionFromFfi {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let argv = command.argv.iter().map(|word| RString::from(word.as_str())).collect();
        let FfiProcess { input, output } = self.inner.exec(argv).await.into_result()?;
        Ok(Process { input: Box::new(InputFromFfi(input)), output: Box::new(OutputFromFfi(output)) })
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(self.inner.close().await.into_result()?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct InputFromFfi(FfiProcessInputObj);

#[async_trait]
impl ProcessInput for InputFromFfi {
    async fn write(&mut self, data: Bytes) -> Result<(), TransportError> {
        Ok(self.0.write(data.into()).await.into_result()?)
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        Ok(self.0.close().await.into_result()?)
    }
}

struct OutputFromFfi(FfiProcessOutputObj);

#[async_trait]
impl ProcessOutput for OutputFromFfi {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        let FfiChunk { kind, code, data } = self.0.next().await.into_result()?;
        let data = Bytes::from(data);
        Ok(match kind {
            FfiChunk::STDOUT => OutputChunk::Stdout(data),
            FfiChunk::STDERR => OutputChunk::Stderr(data),
            FfiChunk::EXIT_CODE => OutputChunk::Exit(ExitStatus::Code(code)),
            FfiChunk::EXIT_SIGNAL => OutputChunk::Exit(ExitStatus::Signal(String::from_utf8_lossy(&data).into_owned())),
            other => {
                let message = format!("the plugin's process gave something of an unknown kind ({other})");
                return Err(TransportError::new(TransportErrorKind::Other, message));
            }
        })
    }
}

struct SignalerFromFfi {
    inner: FfiSignalerObj,
}

#[async_trait]
impl Signaler for SignalerFromFfi {
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError> {
        let client = json::to::<_, SignalErrorKind>("the client's handle", client)?;
        // A session of this side's own needs this side's runtime, on whatever thread the plugin uses it.
        let session = session_to_ffi(session, Executor::current());
        let channel = self.inner.attach(session, client.into()).await.into_result()?;
        Ok(Box::new(ChannelFromFfi(channel)))
    }
}

struct ChannelFromFfi(FfiChannelObj);

#[async_trait]
impl Channel for ChannelFromFfi {
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError> {
        let signal = json::to::<_, SignalErrorKind>("the signal", &signal)?;
        Ok(self.0.signal(signal.into()).await.into_result()?)
    }

    async fn event(&mut self) -> Result<Event, SignalError> {
        let text = self.0.event().await.into_result()?;
        json::from("the event", text.as_str())
    }
}

/// The host as a plugin knows it.
pub struct HostFromFfi {
    inner: FfiHostObj,
}

impl HostFromFfi {
    /// Takes what the host lends.
    #[must_use]
    pub fn new(inner: FfiHostObj) -> Self {
        Self { inner }
    }
}

impl Logger for HostFromFfi {
    fn max_level(&self) -> u8 {
        self.inner.max_level()
    }

    fn log(&self, record: LogRecord<'_>) {
        let LogRecord { level, target, message, file, line } = record;
        self.inner.log(FfiLogRecord { level, line, target: target.into(), message: message.into(), file: file.into() });
    }
}

impl Prompter for HostFromFfi {
    fn secret(&self, text: &str) -> Option<Secret> {
        let given = self.inner.secret(text.into()).into_option()?;
        let secret = Secret::from(given.as_str());
        // It goes back to the other side's allocator, which does not clear it.
        given.into_bytes().as_mut_slice().zeroize();
        Some(secret)
    }
}
