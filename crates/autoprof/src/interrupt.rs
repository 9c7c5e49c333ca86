//! Signals to this process become interruptions of the run.
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use autoprof_core::conduct::{Interrupter, Interrupts, interrupts};
use tokio::signal::unix::{SignalKind, signal};

/// The number of this signal on every architecture on which Linux knows it (signal(7)), but MIPS and PA-RISC.
const SIGXFSZ: i32 = 25;
/// How soon after another one a signal is only its echo.
const ECHO: Duration = Duration::from_secs(1);

/// Listens for the signals that end a run; needs a runtime.
///
/// # Errors
/// When a handler cannot be installed.
pub fn listen() -> std::io::Result<Interrupts> {
    let (interrupter, hears) = interrupts();
    let kinds = [
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::quit(), "SIGQUIT"),
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::hangup(), "SIGHUP"),
    ];
    // By default they would end this process and leave profilers running on the hosts. A file that may not grow any
    // more is an error of the write. Handlers, and not "ignore", which programs started from here would inherit.
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::from_raw(SIGXFSZ)] {
        let mut stream = signal(kind)?;
        tokio::spawn(async move { while stream.recv().await.is_some() {} });
    }
    let interrupter = std::sync::Arc::new(interrupter);
    for (kind, name) in kinds {
        let mut stream = signal(kind)?;
        let interrupter = std::sync::Arc::clone(&interrupter);
        tokio::spawn(async move {
            let mut last: Option<Instant> = None;
            while stream.recv().await.is_some() {
                // timeout(1) and service managers signal the process and then its group: that is one request.
                let typed = matches!(name, "SIGINT" | "SIGQUIT");
                let echo = !typed && last.is_some_and(|at| at.elapsed() < ECHO);
                last = Some(Instant::now());
                if !echo {
                    say(&interrupter, name);
                }
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
