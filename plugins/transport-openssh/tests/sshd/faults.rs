//! What `ssh` says when a host cannot be reached, and the errors that become of it.
use std::{fs, time::Instant};

use autoprof_plugin::prelude::*;

use crate::{
    Kind,
    lab::{Lab, connect, error, free_port, ready},
};

#[tokio::test]
async fn a_port_where_nothing_listens_is_refused() {
    if !ready() {
        return;
    }
    let mut lab = Lab::start("");
    lab.port = free_port();
    let error = error(lab.connect().await);
    assert_eq!(error.kind, Kind::Connect);
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1:{}: connection refused", lab.port));
    assert!(error.hint.unwrap().contains("sshd runs"));
}

#[tokio::test]
async fn a_name_without_an_address_is_told_as_such() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let host = Host { address: Some("no-such-host.invalid".into()), ..lab.host() };
    let error = error(connect(&host).await);
    assert_eq!(error.kind, Kind::Resolve);
    assert!(error.message.starts_with("cannot resolve no-such-host.invalid: "), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    if !ready() {
        return;
    }
    let mut lab = Lab::start("");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    lab.port = silent.local_addr().unwrap().port();
    for limit in ["1", "0.4"] {
        let mut host = lab.host();
        host.options.insert("connect_timeout".into(), limit.into());
        let started = Instant::now();
        let error = error(connect(&host).await);
        assert_eq!(error.kind, Kind::Timeout);
        assert!(error.message.starts_with("banner and key exchange with 127.0.0.1:"), "{error}");
        assert!(started.elapsed().as_secs() < 8, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_or_speaks_something_else_is_no_connection() {
    if !ready() {
        return;
    }
    let mut lab = Lab::start("");
    for greeting in ["", "220 mail ESMTP\r\n"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        lab.port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            tokio::io::AsyncWriteExt::write_all(&mut stream, greeting.as_bytes()).await.unwrap();
        });
        let error = error(lab.connect().await);
        assert_eq!(error.kind, Kind::Connect, "{greeting:?}");
        assert!(error.message.starts_with("banner and key exchange with"), "{error}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_host_without_a_common_algorithm_says_which() {
    if !ready() {
        return;
    }
    let lab = Lab::start("Ciphers aes256-ctr");
    lab.config("Ciphers aes128-ctr");
    let error = error(lab.connect().await);
    assert_eq!(error.kind, Kind::Connect);
    assert!(error.to_string().contains("no matching cipher found. Their offer: aes256-ctr"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_configuration_names_file_and_line() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::write(lab.path("ssh_config"), "# one\n# two\nNoSuchOption yes\n").unwrap();
    let error = error(lab.connect().await);
    assert_eq!(error.kind, Kind::Config);
    let file = lab.path("ssh_config");
    assert!(error.to_string().contains(&format!("{}: line 3: Bad configuration option: nosuchoption", file.display())));
    fs::remove_file(&file).unwrap();
    let absent = crate::lab::error(lab.connect().await);
    assert_eq!(absent.kind, Kind::Config);
    assert!(absent.to_string().contains(&format!("cannot read the SSH configuration {}", file.display())), "{absent}");
}

#[tokio::test]
async fn a_machine_without_openssh_says_what_to_install() {
    let lab_less = |program: &str| {
        let mut host: Host = "127.0.0.1:9".parse().unwrap();
        host.options.insert("program".into(), program.into());
        host
    };
    let absent = error(connect(&lab_less("/no/such/ssh")).await);
    assert_eq!(absent.kind, Kind::Config);
    assert_eq!(absent.to_string(), "cannot run /no/such/ssh: no such program on this machine");
    assert!(absent.hint.unwrap().contains("openssh-client"));
    let other = error(connect(&lab_less("/bin/true")).await);
    assert!(other.to_string().contains("it is not OpenSSH"), "{other}");
}
