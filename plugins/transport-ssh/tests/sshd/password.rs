//! Passwords, against a server of russh's: sshd takes none here without PAM and an account that has one.
use std::{borrow::Cow, sync::atomic::Ordering::Relaxed};

use autoprof_plugin::prelude::*;
use russh::{
    MethodKind, MethodSet,
    keys::load_secret_key,
    server::{Auth, Config, Handler, Response, run_stream},
};

use crate::{
    Kind,
    lab::{Answering, error, keygen, transport},
};

/// Lets in whoever says "open sesame".
struct Door;

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        // Without a list, this server would take the method away at the first mistake.
        let again = Some(MethodSet::from(&[MethodKind::Password][..]));
        let refused = Auth::Reject { proceed_with_methods: again, partial_success: false };
        Ok(if password == "open sesame" { Auth::Accept } else { refused })
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
        Ok(if response.next().is_some_and(|word| word == "open sesame") { Auth::Accept } else { Auth::reject() })
    }
}

/// A server that takes one method; the host that it is.
async fn server(method: MethodKind) -> Host {
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

#[tokio::test]
async fn a_password_is_asked_for_and_remembered() {
    let host = server(MethodKind::Password).await;
    let prompter = Answering::with("open sesame");
    let transport = transport(prompter.clone());
    transport.connect(&host).await.unwrap();
    transport.connect(&host).await.unwrap();
    assert_eq!(prompter.asked.load(Relaxed), 1);
}

#[tokio::test]
async fn a_wrong_password_is_refused_after_three_tries() {
    let host = server(MethodKind::Password).await;
    let prompter = Answering::with("please");
    let refused = error(transport(prompter.clone()).connect(&host).await);
    assert_eq!((refused.kind, prompter.asked.load(Relaxed)), (Kind::Auth, 3));
    assert!(refused.message.contains("the host takes password"), "{refused}");
    let nobody = error(transport(Arc::new(Answering::default())).connect(&host).await);
    assert_eq!(nobody.kind, Kind::Auth);
}

#[tokio::test]
async fn a_server_may_ask_its_own_question() {
    let host = server(MethodKind::KeyboardInteractive).await;
    let prompter = Answering::with("open sesame");
    transport(prompter.clone()).connect(&host).await.unwrap();
    assert_eq!(prompter.asked.load(Relaxed), 1);
}
