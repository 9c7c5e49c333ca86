//! A real sshd on the loopback, with keys and configuration of its own.
#[path = "../../../transport-ssh/tests/lab/door.rs"]
pub mod door;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use autoprof_plugin::{
    core::transport::{Captured, capture},
    prelude::*,
};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// Whether there is an sshd to test with; loud when there is not, and a failure where nobody would hear it.
pub fn ready() -> bool {
    let there = Path::new(SSHD).exists() && Path::new("/usr/bin/ssh").exists();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{SSHD} or ssh is absent, and in CI these tests must run");
        eprintln!("SKIPPED: {SSHD} or ssh is absent, nothing of SSH was tested");
    }
    there
}

/// Runs a program that must succeed and gives its standard output.
pub fn run(program: &mut Program) -> String {
    let out = program.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{program:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Makes a key pair.
pub fn keygen(file: &Path, kind: &str, passphrase: &str) {
    run(Program::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-C", "lab", "-f"]).arg(file));
}

/// Answers every question in the same way, and counts them.
#[derive(Default)]
pub struct Answering {
    answer: Option<String>,
    pub asked: AtomicUsize,
}

impl Answering {
    pub fn with(answer: &str) -> Arc<Self> {
        Arc::new(Self { answer: Some(answer.to_owned()), ..Self::default() })
    }
}

impl Prompter for Answering {
    fn secret(&self, text: &str) -> Option<Secret> {
        eprintln!("asked: {text}");
        self.asked.fetch_add(1, Relaxed);
        self.answer.as_deref().map(Secret::from)
    }
}

/// The transport as a program gets it.
pub fn transport(prompter: Arc<dyn Prompter>) -> Arc<dyn Transport> {
    let mut registry = Registry::new(prompter);
    autoprof_transport_openssh::register(&mut registry).unwrap();
    registry.transport(autoprof_transport_openssh::NAME).unwrap()
}

/// Connects where nobody answers questions.
pub async fn connect(host: &Host) -> Result<Arc<dyn Session>, TransportError> {
    transport(Arc::new(Answering::default())).connect(host).await
}

/// An sshd, the user's key for it, and the user's configuration.
pub struct Lab {
    pub dir: TempDir,
    pub port: u16,
    sshd: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl Lab {
    /// Starts an sshd; `extra` are lines of its configuration.
    pub fn start(extra: &str) -> Self {
        Self::start_with(extra, |_| ())
    }

    /// The same, after something was done in its directory, which `DIR` in the lines stands for.
    pub fn start_with(extra: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().unwrap();
        keygen(&dir.path().join("host"), "ed25519", "");
        keygen(&dir.path().join("id"), "ed25519", "");
        fs::copy(dir.path().join("id.pub"), dir.path().join("authorized")).unwrap();
        prepare(dir.path());
        let (sshd, port) = Self::sshd(dir.path(), &extra.replace("DIR", dir.path().to_str().unwrap()));
        let lab = Self { dir, port, sshd };
        lab.trust();
        lab.config("");
        lab
    }

    fn sshd(dir: &Path, extra: &str) -> (Child, u16) {
        // Privilege separation of an sshd that root starts wants this directory.
        let _ = fs::create_dir_all("/run/sshd");
        let d = dir.display();
        for _ in 0..5 {
            let port = free_port();
            let config = format!(
                "{extra}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nMaxStartups 100\n"
            );
            fs::write(dir.join("sshd_config"), config).unwrap();
            let log = fs::File::create(dir.join("sshd.log")).unwrap();
            let mut child =
                Program::new(SSHD).args(["-D", "-e", "-f"]).arg(dir.join("sshd_config")).stderr(log).spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return (child, port);
                }
                assert!(Instant::now() < deadline, "sshd does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
            // It ended: somebody else took the port in between.
        }
        panic!("sshd does not start: {}", fs::read_to_string(dir.join("sshd.log")).unwrap());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// The host's public key, type and base64.
    pub fn host_key(&self) -> String {
        let text = fs::read_to_string(self.path("host.pub")).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// Writes the host's key into the user's file.
    pub fn trust(&self) {
        fs::write(self.known_hosts(), format!("[127.0.0.1]:{} {}\n", self.port, self.host_key())).unwrap();
    }

    /// Writes the user's configuration, `extra` first.
    pub fn config(&self, extra: &str) {
        let text = format!(
            "{extra}\nIdentityAgent none\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile none\n\
             IdentityFile {}\n",
            self.known_hosts().display(),
            self.path("id").display()
        );
        fs::write(self.path("ssh_config"), text).unwrap();
    }

    /// The host as the user would describe it.
    pub fn host(&self) -> Host {
        let mut host: Host = format!("127.0.0.1:{}", self.port).parse().unwrap();
        host.options.insert("ssh_config".into(), self.path("ssh_config").display().to_string());
        host
    }

    pub async fn connect(&self) -> Result<Arc<dyn Session>, TransportError> {
        connect(&self.host()).await
    }

    /// What the transport has running for this host: command lines of `ssh` and of its watcher.
    pub fn processes(&self) -> Vec<String> {
        let port = format!(" -p {} ", self.port);
        let all = fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains("autoprof-ssh-") && line.contains(&port)).collect()
    }

    /// The private directories that are named in command lines.
    pub fn directories(processes: &[String]) -> Vec<PathBuf> {
        let words = processes.iter().flat_map(|line| line.split(' '));
        let mut found: Vec<_> = words.filter_map(|word| Some(PathBuf::from(word.strip_suffix("/control")?))).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Waits until the transport has nothing running for this host, and its directories are gone.
    pub async fn assert_nothing_left(&self, directories: &[PathBuf], within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let (processes, left) = (self.processes(), directories.iter().filter(|d| d.exists()).count());
            if processes.is_empty() && left == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "after {within:?} there are {left} directories and {processes:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs a script on a host and gives what it printed.
pub async fn sh(session: &dyn Session, script: &str) -> Captured {
    let command = Command::sh(script, [""; 0]);
    capture(session, &command, Bytes::new(), 1 << 20).await.unwrap()
}

/// The error of a connection that must fail.
pub fn error(result: Result<Arc<dyn Session>, TransportError>) -> TransportError {
    match result {
        Ok(_) => panic!("the connection was made"),
        Err(e) => {
            eprintln!("{:?}: {e}\n  hint: {}", e.kind, e.hint.as_deref().unwrap_or("-"));
            e
        }
    }
}
