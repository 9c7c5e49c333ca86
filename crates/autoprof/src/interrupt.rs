//! Signals to this process become interruptions of the run.
use std::sync::atomic::{AtomicBool, Ordering};

use autoprof_core::conduct::{Interrupter, Interrupts, interrupts};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for the signals that end a run; needs a runtime.
///
/// # Errors
/// When a handler cannot be installed.
pub fn listen() -> std::io::Result<Interrupts> {
    let (interrupter, hears) = interrupts();
    let kinds =
        [(SignalKind::interrupt(), "SIGINT"), (SignalKind::terminate(), "SIGTERM"), (SignalKind::hangup(), "SIGHUP")];
    let interrupter = std::sync::Arc::new(interrupter);
    for (kind, name) in kinds {
        let mut stream = signal(kind)?;
        let interrupter = std::sync::Arc::clone(&interrupter);
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                say(&interrupter, name);
            }
        });
    }
    Ok(hears)
}

fn say(interrupter: &Interrupter, name: &str) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    if FIRST.swap(false, Ordering::SeqCst) {
        crate::screen::line(&format!("{name}: stopping and collecting; once more to give up at once"));
    }
    interrupter.interrupt(name);
}
