//! Who is let in: host keys and the user's keys.
use std::{
    fs,
    process::Command as Program,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use autoprof_plugin::prelude::*;

use crate::{
    Kind,
    lab::{Answering, Lab, error, keygen, ready, run, transport},
};

#[tokio::test]
async fn an_unknown_host_key_is_refused() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.known_hosts()).unwrap();
    let error = error(lab.connect().await);
    assert_eq!(error.kind, Kind::HostKey);
    assert!(error.message.contains("is unknown: ED25519 SHA256:"), "{error}");
    assert!(!lab.known_hosts().exists());
}

#[tokio::test]
async fn a_changed_host_key_is_refused_with_severity() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    for policy in ["strict", "accept-new"] {
        let other = fs::read_to_string(lab.path("id.pub")).unwrap();
        fs::write(lab.known_hosts(), format!("[127.0.0.1]:{} {other}", lab.port)).unwrap();
        let mut host = lab.host();
        host.options.insert("host_keys".into(), policy.into());
        let error = error(transport(Arc::new(Answering::default())).connect(&host).await);
        assert_eq!(error.kind, Kind::HostKey);
        assert!(error.message.starts_with("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{error}");
        assert!(error.message.contains(&format!("{}:1 has SHA256:", lab.known_hosts().display())), "{error}");
        assert!(error.hint.unwrap().contains("ssh-keygen -f"));
    }
}

#[tokio::test]
async fn a_first_key_is_written_down_and_then_checked() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.known_hosts()).unwrap();
    lab.config("StrictHostKeyChecking accept-new");
    lab.connect().await.unwrap();
    lab.config("StrictHostKeyChecking yes");
    lab.connect().await.unwrap();
    let text = fs::read_to_string(lab.known_hosts()).unwrap();
    assert_eq!(text, format!("[127.0.0.1]:{} {}\n", lab.port, lab.host_key()));
    // What was written is what OpenSSH finds.
    run(Program::new("ssh-keygen").arg("-F").arg(format!("[127.0.0.1]:{}", lab.port)).arg("-f").arg(lab.known_hosts()));
}

#[tokio::test]
async fn insecure_takes_any_key() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.known_hosts()).unwrap();
    let mut host = lab.host();
    host.options.insert("host_keys".into(), "insecure".into());
    transport(Arc::new(Answering::default())).connect(&host).await.unwrap();
    assert!(!lab.known_hosts().exists());
}

#[tokio::test]
async fn names_hashed_by_openssh_are_found() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    run(Program::new("ssh-keygen").arg("-H").arg("-f").arg(lab.known_hosts()));
    assert!(fs::read_to_string(lab.known_hosts()).unwrap().starts_with("|1|"));
    lab.connect().await.unwrap();
}

#[tokio::test]
async fn a_host_with_keys_of_several_types_shows_the_known_one() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let lab = {
        keygen(&lab.path("host_ecdsa"), "ecdsa", "");
        keygen(&lab.path("host_rsa"), "rsa", "");
        let extra = format!("HostKey {}\nHostKey {}", lab.path("host_ecdsa").display(), lab.path("host_rsa").display());
        let two = Lab::start(&extra);
        for file in ["host_ecdsa.pub", "host_rsa.pub"] {
            let key = fs::read_to_string(lab.path(file)).unwrap();
            fs::write(two.known_hosts(), format!("[127.0.0.1]:{} {key}", two.port)).unwrap();
            two.connect().await.unwrap();
        }
        two
    };
    lab.trust();
    lab.connect().await.unwrap();
}

#[tokio::test]
async fn a_refused_login_names_user_methods_and_keys() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    keygen(&lab.path("wrong"), "ed25519", "");
    let host = lab.host();
    let text = fs::read_to_string(lab.path("ssh_config")).unwrap();
    let text = text.replace(&format!("IdentityFile {}", lab.path("id").display()), "");
    let (wrong, absent) = (lab.path("wrong"), lab.path("absent"));
    let keys = format!("{text}\nIdentityFile {}\nIdentityFile {}\n", wrong.display(), absent.display());
    fs::write(lab.path("ssh_config"), keys).unwrap();
    let host = Host { user: Some("root".into()), ..host };
    let error = error(transport(Arc::new(Answering::default())).connect(&host).await);
    assert_eq!(error.kind, Kind::Auth);
    assert!(error.message.contains("as root: the host takes publickey"), "{error}");
    assert!(error.message.contains(&format!("{}: refused", wrong.display())), "{error}");
    assert!(error.message.contains(&format!("{}: cannot be read", absent.display())), "{error}");
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
    assert!(error.message.contains("the host ended the connection"), "{error}");
    assert!(error.hint.unwrap().contains("MaxAuthTries"));
}

#[tokio::test]
async fn a_passphrase_is_asked_for_once_for_many_hosts() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.path("id")).unwrap();
    keygen(&lab.path("id"), "ed25519", "open sesame");
    fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
    let prompter = Answering::with("open sesame");
    let transport = transport(prompter.clone());
    let connects = (0..4).map(|_| {
        let (transport, host) = (Arc::clone(&transport), lab.host());
        tokio::spawn(async move { transport.connect(&host).await.map(|_| ()) })
    });
    for connect in connects.collect::<Vec<_>>() {
        connect.await.unwrap().unwrap();
    }
    assert_eq!(prompter.asked.load(Relaxed), 1);
    let error = error(lab.connect().await);
    assert!(error.message.contains("it has a passphrase, and nobody gave it"), "{error}");
}

#[tokio::test]
async fn rsa_and_ecdsa_keys_log_in() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    for kind in ["rsa", "ecdsa"] {
        fs::remove_file(lab.path("id")).unwrap();
        keygen(&lab.path("id"), kind, "");
        fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
        lab.connect().await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_beside_the_key_logs_in() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    keygen(&lab.path("ca"), "ed25519", "");
    let ca = fs::read_to_string(lab.path("ca.pub")).unwrap();
    fs::write(lab.path("authorized"), format!("cert-authority {ca}")).unwrap();
    assert_eq!(error(lab.connect().await).kind, Kind::Auth);
    let user = run(Program::new("id").arg("-un"));
    let sign = ["-q", "-I", "lab", "-n", user.trim(), "-s"];
    run(Program::new("ssh-keygen").args(sign).arg(lab.path("ca")).arg(lab.path("id.pub")));
    lab.connect().await.unwrap();
}

#[tokio::test]
async fn the_agents_keys_log_in() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let socket = lab.path("agent");
    let mut agent =
        Program::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "ssh-agent does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    run(Program::new("ssh-add").arg("-q").arg(lab.path("id")).env("SSH_AUTH_SOCK", &socket));
    fs::remove_file(lab.path("id")).unwrap();
    lab.config(&format!("IdentityAgent {}\nIdentitiesOnly yes", socket.display()));
    // The public half of the key that the configuration names is there, and the agent has the private one.
    lab.connect().await.unwrap();
    fs::remove_file(lab.path("id.pub")).unwrap();
    assert_eq!(error(lab.connect().await).kind, Kind::Auth, "IdentitiesOnly leaves the agent's other keys out");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
