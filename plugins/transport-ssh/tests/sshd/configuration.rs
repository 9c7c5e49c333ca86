//! What the configuration says, followed against a real server.
use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::{Child, Command as Program, Stdio},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use autoprof_plugin::prelude::*;

use crate::{
    Kind,
    lab::{Answering, Lab, error, keygen, ready, run, sh, transport},
};

/// A host by a name that only the configuration knows.
fn web(lab: &Lab) -> Host {
    Host { name: "web".into(), address: Some("web".into()), port: None, ..lab.host() }
}

async fn connect(host: &Host) -> Result<Arc<dyn Session>, TransportError> {
    transport(Arc::new(Answering::default())).connect(host).await
}

#[tokio::test]
async fn included_and_conditional_lines_lead_to_the_host() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::create_dir_all(lab.path("inc/old")).unwrap();
    std::os::unix::fs::symlink("/nowhere", lab.path("inc/gone")).unwrap();
    let included = format!(
        "Host \"web\" other\n HostName 127.0.0.1 # the lab\nMatch user nobody\n Port 1\nMatch host 127.0.0.*\n Port={}\n",
        lab.port
    );
    fs::write(lab.path("inc/hosts"), included).unwrap();
    lab.config(&format!(
        "Host elsewhere\n ConnectTimeout 1m\n AddKeysToAgent confirm\nMatch all\nInclude {}/*",
        lab.path("inc").display()
    ));
    connect(&web(&lab)).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_an_error() {
    let mut host = Host::named("web");
    host.options.insert("ssh_config".into(), "/nowhere/at/all".into());
    let error = error(connect(&host).await);
    assert_eq!(error.kind, Kind::Config);
    assert_eq!(error.message, "cannot read the SSH configuration /nowhere/at/all: no such file or directory");
    assert!(error.hint.unwrap().contains("--ssh-config none"));
}

/// A command that joins its standard input and output to the lab's port, after another one.
fn bridge(lab: &Lab, first: &str) -> String {
    format!("bash -c '{first}; exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & exec cat >&3'", lab.port)
}

#[tokio::test]
async fn a_proxy_command_reaches_a_host_without_an_address() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let key = format!("{} {}\n", "[web.invalid]:2222", lab.host_key());
    fs::write(lab.known_hosts(), key).unwrap();
    let said = lab.path("said");
    lab.config(&format!(
        "Host web\n HostName %h.invalid\n Port 2222\n ProxyCommand {}\nHost *",
        bridge(&lab, &format!("echo %n %h %p > {}", said.display()))
    ));
    let session = connect(&web(&lab)).await.unwrap();
    assert_eq!(sh(&*session, "echo on").await.stdout, b"on\n");
    assert_eq!(fs::read_to_string(&said).unwrap(), "web web.invalid 2222\n");
    session.close().await.unwrap();
}

#[tokio::test]
async fn what_a_proxy_command_says_is_told() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    lab.config("Host web\n ProxyCommand sh -c 'echo no way there >&2; exit 7'\nHost *");
    let failed = error(connect(&web(&lab)).await);
    assert_eq!(failed.kind, Kind::Connect);
    assert!(failed.to_string().contains("no way there"), "{failed}");
    lab.config(&format!("Host web\n ProxyUseFdpass yes\n ProxyCommand {}\nHost *", bridge(&lab, "true")));
    let refused = error(connect(&web(&lab)).await);
    assert!(refused.message.contains("ssh_config:2: ProxyUseFdpass"), "{refused}");
    assert!(refused.hint.unwrap().contains("transport: openssh"));
}

#[tokio::test]
async fn options_of_the_host_come_before_the_configuration() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    lab.config("Host web\n HostName 127.0.0.2\n Port 1\nHost *");
    let mut host = web(&lab);
    host.options.insert("ssh_options".into(), format!("HostName=127.0.0.1\nPort {}", lab.port));
    connect(&host).await.unwrap();
    host.options.insert("ssh_options".into(), "Prot=1".into());
    let refused = error(connect(&host).await);
    assert!(refused.message.starts_with("SSH options: Prot: OpenSSH knows no such keyword"), "{refused}");
}

#[tokio::test]
async fn a_bound_address_is_where_the_connection_comes_from() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    lab.config("BindAddress 127.0.0.9\nAddressFamily inet\nCiphers aes256-ctr\nMACs hmac-sha2-256\nTCPKeepAlive no");
    let session = lab.connect().await.unwrap();
    let from = sh(&*session, "echo $SSH_CONNECTION").await;
    assert!(String::from_utf8(from.stdout).unwrap().starts_with("127.0.0.9 "));
    lab.config("AddressFamily inet6");
    let refused = error(lab.connect().await);
    assert!(refused.to_string().contains("AddressFamily inet6"), "{refused}");
}

/// An ssh-agent with keys, which ends with the test.
struct Agent(Child);

impl Agent {
    fn start(lab: &Lab, keys: &[std::path::PathBuf]) -> Self {
        let socket = lab.path("agent");
        let agent = Program::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self(agent);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            run(Program::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a configuration without a key of its own, and with an agent.
fn with_agent(lab: &Lab, extra: &str) {
    let text = format!(
        "{extra}\nIdentityAgent {}\nUserKnownHostsFile {}\nGlobalKnownHostsFile none\n",
        lab.path("agent").display(),
        lab.known_hosts().display()
    );
    fs::write(lab.path("ssh_config"), text).unwrap();
}

#[tokio::test]
async fn the_hint_about_too_many_keys_works() {
    if !ready() {
        return;
    }
    let lab = Lab::start("MaxAuthTries 3");
    let keys: Vec<_> = (0..6).map(|at| lab.path(&format!("other{at}"))).collect();
    keys.iter().for_each(|key| keygen(key, "ed25519", ""));
    let _agent = Agent::start(&lab, &keys);
    with_agent(&lab, &format!("IdentityFile {}", lab.path("id").display()));
    let refused = error(lab.connect().await);
    let hint = refused.hint.unwrap();
    assert!(hint.contains("identity_file") && hint.contains("-i FILE"), "{hint}");
    // Both that it names, each alone.
    let named = Host { identity_file: Some(lab.path("id").display().to_string().into()), ..lab.host() };
    connect(&named).await.unwrap();
    with_agent(&lab, &format!("IdentityFile {}\nIdentitiesOnly yes", lab.path("id").display()));
    lab.connect().await.unwrap();
    // Also where the agent has the key, behind the others.
    run(Program::new("ssh-add").arg("-q").arg(lab.path("id")).env("SSH_AUTH_SOCK", lab.path("agent")));
    fs::remove_file(lab.path("id")).unwrap();
    with_agent(&lab, "");
    connect(&named).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_never_answers_leaves_the_key_files() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let silent = UnixListener::bind(lab.path("agent")).unwrap();
    with_agent(&lab, &format!("IdentityFile {}", lab.path("id").display()));
    let started = Instant::now();
    lab.connect().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    drop(silent);
}

#[tokio::test]
async fn an_agent_that_never_signs_leaves_the_key_files() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    let public = fs::read_to_string(lab.path("id.pub")).unwrap();
    let listener = UnixListener::bind(lab.path("agent")).unwrap();
    // It has the right key, and falls silent when it is to sign.
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        let blob = run(Program::new("sh")
            .args(["-c", "echo \"$1\" | base64 -d | od -An -v -tu1", "sh"])
            .arg(public.split(' ').nth(1).unwrap()));
        let blob: Vec<u8> = blob.split_whitespace().map(|byte| byte.parse().unwrap()).collect();
        let length = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        let mut answer = vec![12, 0, 0, 0, 1];
        answer.extend(length(blob.len()));
        answer.extend(&blob);
        answer.extend(length(0));
        stream.write_all(&length(answer.len())).unwrap();
        stream.write_all(&answer).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let other = lab.path("second");
    keygen(&other, "ed25519", "");
    let both =
        fs::read_to_string(lab.path("authorized")).unwrap() + &fs::read_to_string(lab.path("second.pub")).unwrap();
    fs::write(lab.path("authorized"), both).unwrap();
    with_agent(
        &lab,
        &format!("IdentityFile {}\nIdentityFile {}\nConnectTimeout 4", lab.path("id").display(), other.display()),
    );
    lab.connect().await.unwrap();
}

#[tokio::test]
async fn a_private_key_that_others_can_read_is_not_used() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::set_permissions(lab.path("id"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = error(lab.connect().await);
    assert_eq!(refused.kind, Kind::Auth);
    assert!(refused.message.contains("others can read this private key (mode 0644)"), "{refused}");
    assert!(refused.message.contains(&format!("chmod 600 {}", lab.path("id").display())), "{refused}");
}

#[tokio::test]
async fn in_batch_mode_nobody_is_asked() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    fs::remove_file(lab.path("id")).unwrap();
    keygen(&lab.path("id"), "ed25519", "open sesame");
    fs::copy(lab.path("id.pub"), lab.path("authorized")).unwrap();
    lab.config("BatchMode yes");
    let prompter = Answering::with("open sesame");
    let refused = error(transport(prompter.clone()).connect(&lab.host()).await);
    assert!(refused.message.contains("BatchMode is on"), "{refused}");
    assert_eq!(prompter.asked.load(Relaxed), 0);
}

#[tokio::test]
async fn known_hosts_without_an_end_take_no_memory_and_let_nobody_in() {
    if !ready() {
        return;
    }
    let lab = Lab::start("");
    for device in ["/dev/zero", "/dev/full"] {
        let mut host = lab.host();
        host.options.insert("ssh_options".into(), format!("UserKnownHostsFile {device}"));
        let refused = error(connect(&host).await);
        assert_eq!(refused.kind, Kind::HostKey);
        assert!(refused.to_string().contains(&format!("cannot read the known hosts {device}")), "{refused}");
    }
}
