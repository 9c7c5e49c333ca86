//! Putting the relay on a host and starting it.
use autoprof_plugin::{core::transport::capture, prelude::*};
use autoprof_relay::{Order, READY, RELAY_PROGRAM};

/// Most that a step prints.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// Takes the program; it gets its name when it is whole. No character that a login shell other than POSIX's could take
/// amiss inside single quotes.
const RECEIVE: &str = "cd \"$1\" || exit 3; umask 077; cat > \"$2.new\" && [ -s \"$2.new\" ] && chmod 700 \"$2.new\" \
    && mv -f \"$2.new\" \"$2\"";

/// Reads the program for a host's architecture.
pub(crate) fn find(client: &ClientHandle) -> Result<Bytes, SignalError> {
    let paths = client.programs.iter().map(|dir| dir.join(&client.arch).join(RELAY_PROGRAM));
    let looked: Vec<String> = paths.clone().map(|path| path.to_string()).collect();
    paths.into_iter().find_map(|path| std::fs::read(path).ok()).map(Bytes::from).ok_or_else(|| {
        let message = format!("there is no relay for {}: looked for {}", client.arch, looked.join(", "));
        let mut error = SignalError::new(SignalErrorKind::NoClient, message);
        error.hint = Some(format!(
            "build it with `just relay {}` and install it there, or name the directory with --client-dir",
            client.arch
        ));
        error
    })
}

/// Sends the program into the client's directory.
pub(crate) async fn put(session: &dyn Session, client: &ClientHandle, program: Bytes) -> Result<(), SignalError> {
    let command = Command::sh(RECEIVE, [client.directory.as_str(), RELAY_PROGRAM]);
    let done = capture(session, &command, program, OUTPUT_LIMIT).await?;
    if done.status.success() {
        return Ok(());
    }
    let message = format!("the relay could not be put on the host ({}): {}", done.status, done.stderr_text());
    Err(SignalError::new(SignalErrorKind::NoClient, message))
}

/// Starts the relay, if none is there; false when its program is not.
pub(crate) async fn start(session: &dyn Session, client: &ClientHandle, order: &Order) -> Result<bool, SignalError> {
    let program = format!("{}/{RELAY_PROGRAM}", client.directory);
    let command = Command::new([&program, "start", &client.directory]);
    let order = serde_json::to_vec(order)
        .map_err(|e| SignalError::new(SignalErrorKind::Protocol, format!("an order that cannot be written: {e}")))?;
    let done = capture(session, &command, order.into(), OUTPUT_LIMIT).await?;
    if done.status == ExitStatus::Code(127) {
        return Ok(false);
    }
    let up = String::from_utf8_lossy(&done.stdout).lines().any(|line| line.trim() == READY);
    if up {
        return Ok(true);
    }
    let message = format!("the host does not reach the NATS server ({}): {}", done.status, done.stderr_text());
    let mut error = SignalError::new(SignalErrorKind::Transport, message);
    error.hint = Some("hosts.servers and hosts.login of nats.yaml say how hosts reach it".to_owned());
    Err(error)
}
