//! Native objects for the other side: what a plugin registered, and the sessions that the host lends to signalers.
use std::sync::Arc;

use abi_stable::{
    sabi_trait::prelude::TD_Opaque,
    std_types::{RArc, ROption, RStr, RString, RVec, Tuple2},
};
use async_ffi::BorrowingFfiFuture;
use autoprof_core::{
    ArgEncoder, Channel, Command, ProcessInput, ProcessOutput, Prompter, Registry, Session, Signaler, Transport,
    error::{ArgErrorKind, ConvertErrorKind, SignalErrorKind, TransportError, TransportErrorKind},
    transport::{ExitStatus, OutputChunk},
};
use bytes::Bytes;

use crate::{
    FfiBytes,
    adapt_ffi::SessionFromFfi,
    json,
    raw::*,
    run::{Executor, Kept, guard},
};

/// Hands over what is in a registry. A plugin's transports and signalers run on `executor`.
#[must_use]
pub fn registry_to_ffi(registry: &Registry, executor: &Executor) -> FfiRegistry {
    let transports = registry.transports().map(|(name, transport)| {
        Tuple2(RString::from(name), transport_to_ffi(Arc::clone(transport), executor.clone()))
    });
    let signalers = registry
        .signalers()
        .map(|(name, signaler)| Tuple2(RString::from(name), signaler_to_ffi(Arc::clone(signaler), executor.clone())));
    let encoders = registry.encoders().map(|(_, encoder)| encoder_to_ffi(Arc::clone(encoder)));
    FfiRegistry { transports: transports.collect(), signalers: signalers.collect(), encoders: encoders.collect() }
}

struct Encoder(Kept<Arc<dyn ArgEncoder>>);

impl FfiArgEncoder for Encoder {
    fn info(&self) -> FfiResult<RString> {
        guard(|| json::to::<_, ArgErrorKind>("the profiler's description", self.0.value.profiler()).map(Into::into))
    }

    fn encode(&self, args: RStr<'_>, facts: RStr<'_>) -> FfiResult<RString> {
        guard(|| {
            let args = json::from::<_, ArgErrorKind>("the arguments", args.as_str())?;
            let facts = json::from("the facts of the host", facts.as_str())?;
            let invocation = self.0.value.encode(&args, &facts)?;
            json::to("the invocation", &invocation).map(Into::into)
        })
    }

    fn convert(&self, raw: RStr<'_>) -> FfiResult<RString> {
        guard(|| {
            let raw = json::from::<_, ConvertErrorKind>("the raw results", raw.as_str())?;
            json::to("the tables", &self.0.value.convert(&raw)?).map(Into::into)
        })
    }
}

fn encoder_to_ffi(encoder: Arc<dyn ArgEncoder>) -> FfiArgEncoderObj {
    FfiArgEncoder_TO::from_ptr(RArc::new(Encoder(Kept::new(encoder, Executor::Bare))), TD_Opaque)
}

struct NativeTransport(Kept<Arc<dyn Transport>>);

impl FfiTransport for NativeTransport {
    fn connect(&self, host: RString) -> BorrowingFfiFuture<'static, FfiResult<FfiSessionObj>> {
        let (transport, executor) = (Arc::clone(&self.0.value), self.0.executor.clone());
        self.0.executor.wrap(async move {
            let host = json::from("the host", host.as_str())?;
            transport.connect(&host).await.map(|session| session_to_ffi(session, executor))
        })
    }
}

fn transport_to_ffi(transport: Arc<dyn Transport>, executor: Executor) -> FfiTransportObj {
    FfiTransport_TO::from_ptr(RArc::new(NativeTransport(Kept::new(transport, executor))), TD_Opaque)
}

struct NativeSession(Kept<Arc<dyn Session>>);

impl FfiSession for NativeSession {
    fn exec(&self, argv: RVec<RString>) -> BorrowingFfiFuture<'_, FfiResult<FfiProcess>> {
        let Kept { value, executor } = &self.0;
        executor.wrap(async move {
            let command = Command { argv: argv.into_iter().map(Into::into).collect() };
            if command.argv.is_empty() {
                return Err(TransportError::new(TransportErrorKind::Exec, "a command without a program"));
            }
            let process = value.exec(&command).await?;
            let input = Input(Kept::new(process.input, executor.clone()));
            let output = Output(Kept::new(process.output, executor.clone()));
            Ok(FfiProcess {
                input: FfiProcessInput_TO::from_value(input, TD_Opaque),
                output: FfiProcessOutput_TO::from_value(output, TD_Opaque),
            })
        })
    }

    fn close(&self) -> BorrowingFfiFuture<'_, FfiResult<()>> {
        self.0.executor.wrap(self.0.value.close())
    }
}

/// A session for the other side; one that came from there goes back as it was.
pub(crate) fn session_to_ffi(session: Arc<dyn Session>, executor: Executor) -> FfiSessionObj {
    if let Some(foreign) = session.as_any().downcast_ref::<SessionFromFfi>() {
        return FfiSession_TO::from_sabi(foreign.inner.obj.shallow_clone());
    }
    FfiSession_TO::from_ptr(RArc::new(NativeSession(Kept::new(session, executor))), TD_Opaque)
}

struct Input(Kept<Box<dyn ProcessInput>>);

impl FfiProcessInput for Input {
    fn write(&mut self, data: FfiBytes) -> BorrowingFfiFuture<'_, FfiResult<()>> {
        let Kept { value, executor } = &mut self.0;
        executor.wrap(value.write(data.into()))
    }

    fn close(&mut self) -> BorrowingFfiFuture<'_, FfiResult<()>> {
        let Kept { value, executor } = &mut self.0;
        executor.wrap(value.close())
    }
}

struct Output(Kept<Box<dyn ProcessOutput>>);

impl FfiProcessOutput for Output {
    fn next(&mut self) -> BorrowingFfiFuture<'_, FfiResult<FfiChunk>> {
        let Kept { value, executor } = &mut self.0;
        executor.wrap(async move { value.next().await.map(chunk_to_ffi) })
    }
}

fn chunk_to_ffi(chunk: OutputChunk) -> FfiChunk {
    let (kind, code, data) = match chunk {
        OutputChunk::Stdout(data) => (FfiChunk::STDOUT, 0, data),
        OutputChunk::Stderr(data) => (FfiChunk::STDERR, 0, data),
        OutputChunk::Exit(ExitStatus::Code(code)) => (FfiChunk::EXIT_CODE, code, Bytes::new()),
        OutputChunk::Exit(ExitStatus::Signal(name)) => (FfiChunk::EXIT_SIGNAL, 0, name.into()),
    };
    FfiChunk { kind, code, data: data.into() }
}

struct NativeSignaler(Kept<Arc<dyn Signaler>>);

impl FfiSignaler for NativeSignaler {
    fn attach(&self, session: FfiSessionObj, client: RString) -> BorrowingFfiFuture<'static, FfiResult<FfiChannelObj>> {
        let (signaler, executor) = (Arc::clone(&self.0.value), self.0.executor.clone());
        self.0.executor.wrap(async move {
            let client = json::from::<_, SignalErrorKind>("the client's handle", client.as_str())?;
            let channel = signaler.attach(Arc::new(SessionFromFfi::new(session)), &client).await;
            channel.map(|channel| FfiChannel_TO::from_value(NativeChannel(Kept::new(channel, executor)), TD_Opaque))
        })
    }
}

fn signaler_to_ffi(signaler: Arc<dyn Signaler>, executor: Executor) -> FfiSignalerObj {
    FfiSignaler_TO::from_ptr(RArc::new(NativeSignaler(Kept::new(signaler, executor))), TD_Opaque)
}

struct NativeChannel(Kept<Box<dyn Channel>>);

impl FfiChannel for NativeChannel {
    fn signal(&mut self, signal: RString) -> BorrowingFfiFuture<'_, FfiResult<()>> {
        let Kept { value, executor } = &mut self.0;
        executor.wrap(async move {
            let signal = json::from::<_, SignalErrorKind>("the signal", signal.as_str())?;
            value.signal(signal).await
        })
    }

    fn event(&mut self) -> BorrowingFfiFuture<'_, FfiResult<RString>> {
        let Kept { value, executor } = &mut self.0;
        // What comes after the await cannot be interrupted: an event that was taken is handed out.
        executor.wrap(async move { json::to::<_, SignalErrorKind>("the event", &value.event().await?).map(Into::into) })
    }
}

/// One log record of a plugin's.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// 1 error … 5 trace
    pub level: u8,
    /// Where in the plugin's modules.
    pub target: &'a str,
    /// The text, with its fields.
    pub message: &'a str,
    /// Source file.
    pub file: &'a str,
    /// Line in it.
    pub line: u32,
}

/// What a host lends each plugin, besides a prompter.
pub trait Logger: Send + Sync {
    /// The most verbose level that is wanted: 0 none, 1 error … 5 trace.
    fn max_level(&self) -> u8;
    /// Takes a record.
    fn log(&self, record: LogRecord<'_>);
}

struct NativeHost {
    logger: Box<dyn Logger>,
    prompter: Arc<dyn Prompter>,
}

impl FfiHost for NativeHost {
    fn max_level(&self) -> u8 {
        quiet(|| self.logger.max_level()).unwrap_or(0)
    }

    fn log(&self, record: FfiLogRecord<'_>) {
        let FfiLogRecord { level, line, target, message, file } = record;
        let (target, message, file) = (target.as_str(), message.as_str(), file.as_str());
        quiet(|| self.logger.log(LogRecord { level, target, message, file, line }));
    }

    fn secret(&self, text: RStr<'_>) -> ROption<RString> {
        quiet(|| self.prompter.secret(text.as_str())).flatten().map(|secret| secret.into_string().into()).into()
    }
}

/// For what cannot fail: a panic gives nothing.
fn quiet<T>(f: impl FnOnce() -> T) -> Option<T> {
    guard::<T, TransportErrorKind>(|| Ok(f())).into_result().ok()
}

/// The host as one plugin sees it.
#[must_use]
pub fn host_to_ffi(logger: Box<dyn Logger>, prompter: Arc<dyn Prompter>) -> FfiHostObj {
    FfiHost_TO::from_ptr(RArc::new(NativeHost { logger, prompter }), TD_Opaque)
}
