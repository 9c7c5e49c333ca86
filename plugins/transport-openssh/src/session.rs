//! Commands on a connected host.
use std::{any::Any, sync::Mutex, sync::PoisonError};

use autoprof_plugin::prelude::*;
use tokio::time::timeout;

use crate::{
    channel::{self, NoChannel},
    master::{Connector, Master},
};

/// Most masters for one host; each gives room for `MaxSessions` commands more.
const MAX_MASTERS: usize = 32;

/// A host that commands can be run on.
pub(crate) struct MuxSession {
    connector: Arc<Connector>,
    host: Host,
    /// The master, and further ones for when the host refuses more channels on it (sshd's `MaxSessions`).
    masters: Mutex<Vec<Arc<Master>>>,
}

/// Why a command was not started on a master.
enum NotStarted {
    /// The host wants no more channels there.
    Refused(String),
    Failed(TransportError),
}

impl MuxSession {
    pub(crate) fn new(connector: Arc<Connector>, host: Host, master: Arc<Master>) -> Self {
        Self { connector, host, masters: Mutex::new(vec![master]) }
    }

    fn masters(&self) -> Vec<Arc<Master>> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self, reason: &str, connections: usize) -> TransportError {
        let message = format!(
            "{} opens no channel for a command on any of {connections} connections: {reason}",
            self.host.address()
        );
        TransportError::new(TransportErrorKind::Exec, message).with_hint("see MaxSessions in the host's sshd_config")
    }
}

async fn start(master: &Arc<Master>, line: &str, program: &str) -> Result<Process, NotStarted> {
    let limit = master.step_timeout();
    let started = async {
        let lease = master.lease().ok_or_else(|| NoChannel::Refused("too many sessions".to_owned()))?;
        let way = master.channel().await.ok_or(NoChannel::Gone)?;
        // A task, since this must not be given up.
        let granted = tokio::spawn(channel::open(way, lease)).await.map_err(|_| NoChannel::Gone)??;
        channel::start(Arc::clone(master), granted, line, program).await
    };
    match timeout(limit, started).await {
        Ok(Ok(process)) => Ok(process),
        Ok(Err(NoChannel::Refused(reason))) => Err(NotStarted::Refused(reason)),
        Ok(Err(NoChannel::NoCommand)) => {
            let message = format!("{} refuses to run commands", master.place());
            Err(NotStarted::Failed(TransportError::new(TransportErrorKind::Exec, message)))
        }
        Ok(Err(NoChannel::Gone)) => {
            Err(NotStarted::Failed(master.closed("before the command was started", limit).await))
        }
        Err(_) => Err(NotStarted::Failed(master.too_slow("starting a command", limit))),
    }
}

/// The command line for the user's login shell: `exec` leaves no shell behind between us and the program.
///
/// Single quotes mean the same in sh, bash, zsh, dash and ksh. In fish a backslash before `'` or another backslash
/// is special inside them, in tcsh `!` and a line break are: such arguments may not arrive as they are there.
fn command_line(command: &Command) -> Result<String, TransportError> {
    let bad = |reason: &str| TransportError::new(TransportErrorKind::Exec, format!("cannot run {command}: {reason}"));
    if command.argv.is_empty() {
        return Err(TransportError::new(TransportErrorKind::Exec, "cannot run a command without a program"));
    }
    if command.argv.iter().any(|arg| arg.contains('\0')) {
        return Err(bad("an argument has a zero byte"));
    }
    Ok(format!("exec {}", shell_words::join(&command.argv)))
}

#[async_trait]
impl Session for MuxSession {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let line = command_line(command)?;
        let program = &command.argv[0];
        let masters = self.masters();
        let mut refusal = String::new();
        for (at, master) in masters.iter().enumerate() {
            match start(master, &line, program).await {
                Ok(process) => return Ok(process),
                Err(NotStarted::Refused(reason)) => refusal = reason,
                // The first master is the session; a further one that died is only left out.
                Err(NotStarted::Failed(e)) if at == 0 => return Err(e),
                Err(NotStarted::Failed(_)) => {}
            }
        }
        if masters.len() >= MAX_MASTERS {
            return Err(self.refused(&refusal, masters.len()));
        }
        let master = self.connector.connect(&self.host).await?;
        // Started before others see the master, so that nobody takes the channel that it was made for.
        match start(&master, &line, program).await {
            Ok(process) => {
                self.masters.lock().unwrap_or_else(PoisonError::into_inner).push(master);
                Ok(process)
            }
            Err(NotStarted::Refused(reason)) => Err(self.refused(&reason, masters.len() + 1)),
            Err(NotStarted::Failed(e)) => Err(e),
        }
    }

    async fn close(&self) -> Result<(), TransportError> {
        let mut result = Ok(());
        for master in self.masters().iter().rev() {
            result = result.and(master.close().await);
        }
        result
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_no_shell_can_carry_is_refused() {
        assert_eq!(command_line(&Command::new(["a\0b"])).unwrap_err().kind, TransportErrorKind::Exec);
        assert_eq!(command_line(&Command::new([""; 0])).unwrap_err().kind, TransportErrorKind::Exec);
        assert_eq!(command_line(&Command::new(["printf", "", "it's"])).unwrap(), r#"exec printf '' 'it'\''s'"#);
    }
}
