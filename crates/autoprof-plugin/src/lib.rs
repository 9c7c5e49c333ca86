//! What authors of autoprof plugins use.
//!
//! A plugin implements core's native traits and exports one function that registers them; the same function serves
//! programs that link the plugin in ([`register_contained`] keeps its panics in). It is a `cdylib` by
//! [`export_plugin!`], which is all there is to the binary interface for its author: `#![forbid(unsafe_code)]` stays.
//!
//! A whole profiler is some twenty lines: see [`Profiler`], and `docs/examples/profiler-plugin`.
//!
//! # What to mind
//! - Log by `tracing` or `log`; both reach the host. What a plugin prints is lost or spoils the host's output.
//! - Futures run on the host's threads with this library's own runtime entered: timers, sockets and `tokio::spawn`
//!   work. Nothing of tokio's budget applies, so a long loop that never waits yields now and then.
//! - `panic = "abort"` is refused: a panic has to become that call's error.

pub use async_trait::async_trait;
pub use autoprof_abi::register_contained;
pub use autoprof_core as core;
pub use bytes;

mod child;
pub mod conformance;
pub mod convert;
mod export;
mod forward;
mod profiler;
pub mod testing;

pub use child::child_process;
pub use profiler::{InvocationExt, Profiler, at_least, installed, only_root, register_profiler, sent, tool, words};

#[doc(hidden)]
pub mod __private {
    pub use crate::export::{init, shutdown};
    pub use autoprof_abi as abi;
}

/// `use autoprof_plugin::prelude::*;`
pub mod prelude {
    pub use std::sync::Arc;

    pub use async_trait::async_trait;
    pub use autoprof_core::{
        ArgEncoder, Args, Channel, ClientHandle, Command, Host, Measure, Param, ParamType, Precision, Process,
        ProcessInput, ProcessOutput, ProfilerInfo, Prompter, RawResults, Registry, Secret, Session, Signal, Signaler,
        Table, TableInfo, Transport, Value,
        error::{
            ArgError, ArgErrorKind, ConvertError, ConvertErrorKind, SignalError, SignalErrorKind, TransportError,
            TransportErrorKind,
        },
        protocol::{
            Arm, Environment, Flush, HostFacts, Invocation, Output, OutputFormat, Poll, Report, Samples, SentFile,
            Setting, Start, Stop, StopSignal, as_root,
        },
        registry::AlreadyRegistered,
        transport::{ExitStatus, OutputChunk},
    };
    pub use bytes::Bytes;

    pub use crate::{InvocationExt, Profiler, export_plugin, tool};
}
