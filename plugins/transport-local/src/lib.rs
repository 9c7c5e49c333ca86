//! Reaches this machine itself: commands are children of this process.
//!
//! Each has a process group of its own, so that a Ctrl-C at the terminal does not reach it, and goes on when nobody
//! listens any more, as a command over SSH does.
#![forbid(unsafe_code)]

use std::{any::Any, process};

use autoprof_plugin::{child_process, prelude::*};

/// The name under which the transport is registered.
pub const NAME: &str = "local";

/// Adds the transport.
///
/// # Errors
/// When there is a transport named `local` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_transport(NAME, Arc::new(Local))
}

export_plugin!(register, provides = ["transport:local"]);

/// The local transport. It has no state and no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

#[async_trait]
impl Transport for Local {
    async fn connect(&self, _: &Host) -> Result<Arc<dyn Session>, TransportError> {
        Ok(Arc::new(LocalSession))
    }
}

/// A connection that cannot be lost.
struct LocalSession;

#[async_trait]
impl Session for LocalSession {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let Some((program, args)) = command.argv.split_first() else {
            return Err(TransportError::new(TransportErrorKind::Exec, "a command without a program"));
        };
        let mut child = process::Command::new(program);
        child.args(args);
        child_process(child)
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
