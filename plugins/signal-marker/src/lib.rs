//! Signals clients by marker files, through `autoprof-client attach`: markers go in as lines, events come out as lines,
//! over one command, so that raising a signal forks nothing.
#![forbid(unsafe_code)]

mod channel;

use autoprof_plugin::{core::protocol::CLIENT_PROGRAM, prelude::*};

/// The name under which the signaler is registered.
pub const NAME: &str = "marker";

/// Adds the signaler.
///
/// # Errors
/// When there is a signaler named `marker` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_signaler(NAME, Arc::new(MarkerSignaler))
}

export_plugin!(register, provides = ["signaler:marker"]);

/// The signaler. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct MarkerSignaler;

#[async_trait]
impl Signaler for MarkerSignaler {
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError> {
        let ClientHandle { directory, after, .. } = client;
        let program = format!("{directory}/{CLIENT_PROGRAM}");
        let command = Command::new([&program, "attach", directory, &after.to_string()]);
        let process = session.exec(&command).await?;
        Ok(Box::new(channel::Attached::new(session, process)))
    }
}
