//! Passwords, against a server of russh's: sshd takes none here without PAM and an account that has one.
use std::sync::{Arc, atomic::Ordering::Relaxed};

use russh::MethodKind;

use crate::{
    Kind,
    lab::{Answering, door::server, error, transport},
};

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
