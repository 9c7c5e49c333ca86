//! A server of russh's that takes passwords.
use std::borrow::Cow;

use autoprof_plugin::prelude::*;
use russh::{
    MethodKind, MethodSet,
    keys::load_secret_key,
    server::{Auth, Config, Handler, Response, run_stream},
};

use super::keygen;

/// What lets everybody in.
pub const WORD: &str = "open sesame";

/// Lets in whoever says the word.
struct Door;

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        // Without a list, this server would take the method away at the first mistake.
        let again = Some(MethodSet::from(&[MethodKind::Password][..]));
        let refused = Auth::Reject { proceed_with_methods: again, partial_success: false };
        Ok(if password == WORD { Auth::Accept } else { refused })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            let prompts = Cow::Owned(vec![(Cow::Borrowed("Magic word: "), false)]);
            return Ok(Auth::Partial { name: Cow::Borrowed(""), instructions: Cow::Borrowed(""), prompts });
        };
        Ok(if response.next().is_some_and(|word| word == WORD) { Auth::Accept } else { Auth::reject() })
    }
}

/// A server that takes one method; the host that it is.
pub async fn server(method: MethodKind) -> Host {
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("host"), "ed25519", "");
    let config = Arc::new(Config {
        keys: vec![load_secret_key(dir.path().join("host"), None).unwrap()],
        methods: MethodSet::from(&[method][..]),
        auth_rejection_time: std::time::Duration::from_millis(10),
        ..Config::default()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host: Host = format!("root@{}", listener.local_addr().unwrap()).parse().unwrap();
    host.options.insert("ssh_config".into(), "none".into());
    host.options.insert("host_keys".into(), "insecure".into());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(run_stream(Arc::clone(&config), stream, Door));
        }
    });
    host
}
