//! What a person says is in no log, no error and no text of debugging, whatever level is asked for.
#![allow(clippy::unwrap_used)]

mod lab;

use std::{
    fmt::{self, Write as _},
    fs,
    sync::{Mutex, PoisonError},
};

use autoprof_loader::{Plugins, Trust};
use autoprof_plugin::prelude::*;
use camino::{Utf8Path, Utf8PathBuf};
use lab::{
    Answering, Lab,
    door::{WORD, server},
    error, keygen, ready,
};
use russh::MethodKind;
use tracing::{Event, Metadata, Subscriber, field::Field, span};

const WRONG: &str = "wrong as wrong can be";

/// All that was logged.
static LOGGED: Mutex<String> = Mutex::new(String::new());

fn logged(text: fmt::Arguments<'_>) {
    let _ = writeln!(LOGGED.lock().unwrap_or_else(PoisonError::into_inner), "{text}");
}

struct Everything;

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut |field: &Field, value: &dyn fmt::Debug| logged(format_args!("{field} {value:?}")));
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| logged(format_args!("{field} {value:?}")));
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The transport as autoprof has it: loaded, with its own logs that come through the boundary.
fn loaded(word: &str) -> Arc<dyn Transport> {
    let exe = Utf8PathBuf::try_from(std::env::current_exe().unwrap()).unwrap();
    let built = exe.with_file_name("libautoprof_transport_ssh.so");
    let dir = tempfile::tempdir().unwrap();
    fs::copy(built, dir.path().join("ssh.so")).unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    let mut registry = Registry::new(Answering::with(word));
    Plugins::scan_only(&[dir], Trust::Owned).load(["transport:ssh"], &mut registry).unwrap();
    registry.transport("ssh").unwrap()
}

/// Whether a text has the word in it, by letters or as logs show bytes.
fn gives_away(text: &str, word: &str) -> bool {
    let bytes = format!("{:?}", word.as_bytes());
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    [word, bytes.trim_matches(['[', ']']), &hex].iter().any(|form| text.contains(form))
}

#[tokio::test]
async fn what_is_typed_is_in_no_log_and_no_error() {
    if !ready() {
        return;
    }
    tracing::subscriber::set_global_default(Everything).unwrap();

    for method in [MethodKind::Password, MethodKind::KeyboardInteractive] {
        let host = server(method).await;
        loaded(WORD).connect(&host).await.unwrap();
        let refused = error(loaded(WRONG).connect(&host).await);
        assert!(!gives_away(&format!("{refused} {refused:?}"), WRONG), "{refused:?}");
    }
    let lab = Lab::start("");
    fs::remove_file(lab.path("id")).unwrap();
    keygen(&lab.path("id"), "ed25519", WORD);
    fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
    loaded(WORD).connect(&lab.host()).await.unwrap();
    let refused = error(loaded(WRONG).connect(&lab.host()).await);
    assert!(refused.message.contains("the passphrase was wrong"), "{refused}");

    let logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // The logs of the library that has the passwords are in it.
    assert!(logged.contains("negotiated algorithms"), "{logged}");
    for word in [WORD, WRONG] {
        let line = logged.lines().find(|line| gives_away(line, word));
        assert_eq!(line, None);
    }
}
