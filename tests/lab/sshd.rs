//! One private `sshd`.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use crate::keeper::keeper;
use crate::options::HostOptions;
use crate::program;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Where the configuration of a host's `sshd` points.
pub(crate) struct Files<'a> {
    pub(crate) host_key: &'a Utf8Path,
    pub(crate) authorized_keys: &'a Utf8Path,
    pub(crate) session: &'a Utf8Path,
    pub(crate) banner: Option<&'a Utf8Path>,
    pub(crate) empty_home: &'a Utf8Path,
}

/// The text of `sshd_config`.
pub(crate) fn config(address: SocketAddrV4, id: &str, files: &Files<'_>, options: &HostOptions) -> String {
    // The first value of a keyword wins, so a test's own lines come before ours.
    let mut lines = options.sshd_lines.clone();
    lines.extend([
        format!("ListenAddress {}", address.ip()),
        format!("Port {}", address.port()),
        format!("HostKey {}", files.host_key),
        format!("AuthorizedKeysFile {}", files.authorized_keys),
        "PidFile none".to_owned(),
        "UsePAM no".to_owned(),
        "StrictModes no".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "PasswordAuthentication no".to_owned(),
        "KbdInteractiveAuthentication no".to_owned(),
        "PubkeyAuthentication yes".to_owned(),
        "PrintMotd no".to_owned(),
        "UseDNS no".to_owned(),
        "MaxStartups 100".to_owned(),
        "LogLevel VERBOSE".to_owned(),
        format!("ForceCommand exec /bin/sh {}", files.session),
        // The login shell of the password file runs first; with an empty home it reads nobody's start-up files.
        format!("SetEnv HOME={} {}={id}", files.empty_home, crate::process::HOST_VARIABLE),
    ]);
    if let Some(banner) = files.banner {
        lines.push(format!("Banner {banner}"));
    }
    if !options.no_sftp {
        lines.push(format!("Subsystem sftp {}", sftp_server()));
    }
    lines.join("\n") + "\n"
}

/// Starts `command` (which becomes `sshd`) with its words going to `log`, and waits until it greets.
pub(crate) fn start(mut command: Command, address: SocketAddrV4, log: &Utf8Path) -> Child {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(log);
    let opened = opened.unwrap_or_else(|error| panic!("cannot write {log}: {error}"));
    let mut child = command
        .env_clear()
        .env("PATH", program::full_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(opened)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start sshd: {error}"));
    keeper().watch(child.id());
    let deadline = Instant::now() + READY_WITHIN;
    while !greets(address) {
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(log).unwrap_or_default();
            panic!("sshd on {address} is not ready (ended: {ended:?}); it said:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The program found by [`path`], with its arguments.
pub(crate) fn words(config: &Utf8Path) -> Vec<String> {
    [path().as_str(), "-D", "-e", "-f", config.as_str()].map(str::to_owned).to_vec()
}

/// The absolute path of `sshd`, which it insists on being started by; as root, with the directory it needs.
pub(crate) fn path() -> Utf8PathBuf {
    if rustix::process::geteuid().is_root() {
        // Debian makes it in the unit file, so it is missing where no systemd runs.
        let _ = std::fs::create_dir_all("/run/sshd");
    }
    program::find_program("sshd").expect("sshd is installed (just setup)")
}

/// A port of `address` that nobody listens on.
pub(crate) fn free_port(address: Ipv4Addr) -> u16 {
    let probe = TcpListener::bind((address, 0)).unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    probe.local_addr().expect("a listening socket has an address").port()
}

fn greets(address: SocketAddrV4) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::V4(address), Duration::from_secs(1)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut start = [0; 4];
    stream.read_exact(&mut start).is_ok() && &start == b"SSH-"
}

fn sftp_server() -> &'static str {
    const PLACES: [&str; 4] = [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
        "/usr/lib/ssh/sftp-server",
        "/usr/libexec/sftp-server",
    ];
    PLACES.into_iter().find(|place| Utf8Path::new(place).exists()).unwrap_or(PLACES[0])
}
