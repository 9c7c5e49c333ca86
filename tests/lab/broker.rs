//! A NATS server of a test's own, with TLS and users who may do no more than they have to.
use std::{net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::running::{Running, wait_until};

/// How long the server may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A server that can be stopped and started.
pub struct Broker {
    directory: Utf8PathBuf,
    port: u16,
    running: Option<Running>,
}

impl Broker {
    /// The password of the hosts, which is nowhere to be seen on them.
    pub const HOSTS_PASSWORD: &str = "hosts-hunter2";
    const CONTROLLER_PASSWORD: &str = "controller-hunter2";

    /// Starts a server whose files are in a directory.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(directory: Utf8PathBuf) -> Broker {
        write_certificates(&directory);
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port();
        // What docs/scale.md shows.
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             tls {{ cert_file: \"{directory}/server.pem\", key_file: \"{directory}/server.key\" }}\n\
             authorization {{ users: [\n\
             {{ user: controller, password: \"{}\", permissions: {{\n\
             publish: \"autoprof.*.*.command\", subscribe: [\"autoprof.*.*.event\", \"_INBOX.>\"] }} }}\n\
             {{ user: hosts, password: \"{}\", permissions: {{\n\
             subscribe: \"autoprof.*.*.command\", publish: \"autoprof.*.*.event\", allow_responses: true }} }}\n\
             ] }}\n",
            Self::CONTROLLER_PASSWORD,
            Self::HOSTS_PASSWORD
        );
        write(&directory, "server.conf", &config);
        let mut broker = Broker { directory, port, running: None };
        broker.configure(Self::CONTROLLER_PASSWORD, Self::HOSTS_PASSWORD, "ca.pem");
        broker.up();
        broker
    }

    /// Starts the server again.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(&mut self) {
        let mut server = Command::new("nats-server");
        let mut running = Running::start(server.args(["-c", self.directory.join("server.conf").as_str()]));
        running.wait_for("Server is ready", UP_WITHIN);
        self.running = Some(running);
    }

    /// Ends the server, with all its connections.
    ///
    /// # Panics
    /// When something still listens there.
    pub fn down(&mut self) {
        self.running = None;
        let is_free = || TcpListener::bind(("127.0.0.1", self.port)).is_ok();
        assert!(wait_until(UP_WITHIN, is_free), "the server's port stays taken");
    }

    /// Writes autoprof's configuration: the passwords of the controller and of the hosts, and who vouches for the server.
    pub fn configure(&self, controller: &str, hosts: &str, ca: &str) {
        let text = format!(
            "servers: [\"tls://localhost:{}\"]\nca: {ca}\nlogin: {{user: controller, password: {controller}}}\n\
             hosts:\n  login: {{user: hosts, password: {hosts}}}\n",
            self.port
        );
        write(&self.directory, "nats.yaml", &text);
    }

    /// That configuration, for `AUTOPROF_NATS`.
    pub fn config(&self) -> Utf8PathBuf {
        self.directory.join("nats.yaml")
    }
}

/// Writes a file for this user alone.
fn write(directory: &Utf8Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode for a file of ours");
}

/// An authority, the server's certificate by it, and another authority that has nothing to do with it.
fn write_certificates(directory: &Utf8Path) {
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::self_signed(params, key).expect("a certificate")
    };
    let (ca, stranger) = (authority(), authority());
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let server = params.signed_by(&key, &ca).expect("a certificate");
    write(directory, "ca.pem", &ca.pem());
    write(directory, "stranger.pem", &stranger.pem());
    write(directory, "server.pem", &server.pem());
    write(directory, "server.key", &key.serialize_pem());
}
