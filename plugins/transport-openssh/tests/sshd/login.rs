//! Who is let in, and what only OpenSSH can do.
use std::{fs, process::Command as Program, sync::atomic::Ordering::Relaxed};

use autoprof_plugin::prelude::*;
use russh::MethodKind;

use crate::{
    Kind,
    lab::{
        Answering, Lab, connect,
        door::{WORD, server},
        error, keygen, ready, run, sh, transport,
    },
};

#[tokio::test]
async fn a_host_certificate_is_checked_against_its_authority() {
    if !ready() {
        return;
    }
    let lab = Lab::start_with("HostCertificate DIR/host-cert.pub", |dir| {
        keygen(&dir.join("ca"), "ed25519", "");
        let sign = ["-q", "-h", "-I", "lab", "-n", "127.0.0.1", "-s"];
        run(Program::new("ssh-keygen").args(sign).arg(dir.join("ca")).arg(dir.join("host.pub")));
    });
    let authority = |file: &str| {
        let key = fs::read_to_string(lab.path(file)).unwrap();
        fs::write(lab.known_hosts(), format!("@cert-authority [127.0.0.1]:{} {key}", lab.port)).unwrap();
    };
    authority("ca.pub");
    let session = lab.connect().await.unwrap();
    assert_eq!(sh(&*session, "echo in").await.stdout, b"in\n");
    authority("id.pub");
    assert_eq!(error(lab.connect().await).kind, Kind::HostKey);
}

#[tokio::test]
async fn match_exec_decides_and_runs_what_it_names() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::rename(lab.path("id"), lab.path("other")).unwrap();
    assert_eq!(error(lab.connect().await).kind, Kind::Auth);
    let (touched, other) = (lab.path("touched"), lab.path("other"));
    lab.config(&format!("Match exec \"touch {}\"\nIdentityFile {}\nMatch all", touched.display(), other.display()));
    lab.connect().await.unwrap();
    assert!(touched.exists());
}

#[tokio::test]
async fn a_proxy_command_and_a_jump_host_lead_to_the_host() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let config = lab.path("ssh_config");
    let plain = fs::read_to_string(&config).unwrap();
    fs::write(lab.path("plain"), plain).unwrap();
    let proxy = format!("ssh -F {} -p {} -W %h:%p 127.0.0.1", lab.path("plain").display(), lab.port);
    lab.config(&format!("Host target\nHostName 127.0.0.1\nPort {}\nProxyCommand {proxy}\nHost *", lab.port));
    let target = Host { name: "target".into(), address: Some("target".into()), port: None, ..lab.host() };
    let session = connect(&target).await.unwrap();
    assert_eq!(sh(&*session, "echo in").await.stdout, b"in\n");
    session.close().await.unwrap();

    // A host of another name, as ssh takes a jump through the host itself for a loop.
    lab.config(&format!("Host localhost\nHostKeyAlias [127.0.0.1]:{}\nHost *", lab.port));
    let far = Host { address: Some("localhost".into()), ..lab.host() };
    let jumping = Host { jump: Some(format!("127.0.0.1:{}", lab.port)), ..far.clone() };
    let session = connect(&jumping).await.unwrap();
    assert_eq!(sh(&*session, "echo in").await.stdout, b"in\n");
    // What goes wrong on the way is said of the way.
    let stranger = Host { jump: Some(format!("nobody-here@127.0.0.1:{}", lab.port)), ..far };
    let error = error(connect(&stranger).await);
    assert_eq!(error.kind, Kind::Auth);
    assert!(error.message.starts_with("jump host: cannot log in"), "{error}");
}

#[tokio::test]
async fn unknown_and_changed_and_revoked_host_keys_are_refused() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.known_hosts()).unwrap();
    let unknown = error(lab.connect().await);
    assert_eq!(unknown.kind, Kind::HostKey);
    let place = format!("the host key of 127.0.0.1:{} ", lab.port);
    assert!(unknown.message.starts_with(&format!("{place}is unknown: ssh-ed25519 SHA256:")), "{unknown}");
    assert!(!lab.known_hosts().exists());

    let other = fs::read_to_string(lab.path("id.pub")).unwrap();
    for policy in ["strict", "accept-new"] {
        fs::write(lab.known_hosts(), format!("[127.0.0.1]:{} {other}", lab.port)).unwrap();
        let mut host = lab.host();
        host.options.insert("host_keys".into(), policy.into());
        let changed = error(connect(&host).await);
        assert_eq!(changed.kind, Kind::HostKey);
        assert!(changed.message.starts_with("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{changed}");
        assert!(changed.message.contains(&format!("{}:1 has another", lab.known_hosts().display())), "{changed}");
    }

    fs::write(lab.known_hosts(), format!("@revoked * {}\n", lab.host_key())).unwrap();
    let revoked = error(lab.connect().await);
    assert_eq!(revoked.kind, Kind::HostKey);
    assert!(revoked.message.starts_with(&format!("{place}is revoked")), "{revoked}");
}

#[tokio::test]
async fn a_first_key_is_written_down_or_any_key_is_taken_where_asked() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.known_hosts()).unwrap();
    let with = |policy: &str| {
        let mut host = lab.host();
        host.options.insert("host_keys".into(), policy.into());
        host
    };
    connect(&with("insecure")).await.unwrap();
    assert!(!lab.known_hosts().exists());
    connect(&with("accept-new")).await.unwrap();
    assert!(fs::read_to_string(lab.known_hosts()).unwrap().contains(&lab.host_key()));
    lab.connect().await.unwrap();
    // As the configuration says, too.
    fs::remove_file(lab.known_hosts()).unwrap();
    lab.config("StrictHostKeyChecking accept-new");
    lab.connect().await.unwrap();
}

#[tokio::test]
async fn a_refused_login_names_user_methods_and_keys() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    keygen(&lab.path("wrong"), "ed25519", "");
    fs::copy(lab.path("wrong.pub"), lab.path("authorized")).unwrap();
    let host = Host { user: Some("root".into()), ..lab.host() };
    let refused = error(connect(&host).await);
    assert_eq!(refused.kind, Kind::Auth);
    let said = format!("cannot log in to 127.0.0.1:{} as root: the host takes publickey; tried ", lab.port);
    assert!(refused.message.starts_with(&said), "{refused}");
    assert!(refused.message.contains(&format!("{}: refused", lab.path("id").display())), "{refused}");
    // A key of the job file is tried first.
    let named = Host { identity_file: Some(lab.path("wrong").to_str().unwrap().into()), ..lab.host() };
    connect(&named).await.unwrap();
}

#[tokio::test]
async fn too_many_keys_are_told_as_such() {
    if !ready() {
        return;
    }
    let lab = Lab::start("MaxAuthTries 2");
    let wrong: String = (0..3)
        .map(|at| {
            let file = lab.path(&format!("wrong{at}"));
            keygen(&file, "ed25519", "");
            format!("IdentityFile {}\n", file.display())
        })
        .collect();
    lab.config(&wrong);
    let error = error(lab.connect().await);
    assert_eq!(error.kind, Kind::Auth);
    assert!(error.hint.unwrap().contains("MaxAuthTries"));
}

#[tokio::test]
async fn a_passphrase_is_asked_for_once_for_many_hosts() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.path("id")).unwrap();
    keygen(&lab.path("id"), "ed25519", WORD);
    fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
    let prompter = Answering::with(WORD);
    let transport = transport(prompter.clone());
    let connects = (0..4).map(|_| {
        let (transport, host) = (Arc::clone(&transport), lab.host());
        tokio::spawn(async move { transport.connect(&host).await.map(|_| ()) })
    });
    for connect in connects.collect::<Vec<_>>() {
        connect.await.unwrap().unwrap();
    }
    assert_eq!(prompter.asked.load(Relaxed), 1);
    assert_eq!(error(lab.connect().await).kind, Kind::Auth);
}

#[tokio::test]
async fn a_password_is_asked_for_and_remembered() {
    if !ready() {
        return;
    }
    for method in [MethodKind::Password, MethodKind::KeyboardInteractive] {
        let host = server(method).await;
        let prompter = Answering::with(WORD);
        let transport = transport(prompter.clone());
        // The door knows no commands: that there is a session is all that counts.
        transport.connect(&host).await.unwrap();
        transport.connect(&host).await.unwrap();
        assert_eq!(prompter.asked.load(Relaxed), 1, "{method:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_after_three_tries() {
    if !ready() {
        return;
    }
    let host = server(MethodKind::Password).await;
    let prompter = Answering::with("please");
    let refused = error(transport(prompter.clone()).connect(&host).await);
    assert_eq!((refused.kind, prompter.asked.load(Relaxed)), (Kind::Auth, 3));
    let nobody = error(connect(&host).await);
    assert_eq!(nobody.kind, Kind::Auth);
    assert!(nobody.message.contains("nobody answered"), "{nobody}");
}
