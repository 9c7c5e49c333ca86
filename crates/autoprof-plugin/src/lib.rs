//! What authors of autoprof plugins use.

pub use async_trait::async_trait;
pub use autoprof_core as core;
pub use bytes;

pub mod convert;

/// `use autoprof_plugin::prelude::*;`
pub mod prelude {
    pub use std::sync::Arc;

    pub use async_trait::async_trait;
    pub use autoprof_core::{
        ArgEncoder, Args, Channel, ClientHandle, Command, Host, Param, ParamType, Process, ProcessInput, ProcessOutput,
        ProfilerInfo, Prompter, RawResults, Registry, Session, Signal, Signaler, Table, Transport, Value,
        error::{
            ArgError, ArgErrorKind, ConvertError, ConvertErrorKind, SignalError, SignalErrorKind, TransportError,
            TransportErrorKind,
        },
        protocol::{
            Arm, HostFacts, Invocation, Output, OutputFormat, Poll, Report, Samples, Start, Stop, StopSignal,
        },
        registry::AlreadyRegistered,
        transport::{ExitStatus, OutputChunk},
    };
    pub use bytes::Bytes;
}
