//! Warm connections for OpenSSH: a ControlMaster to each host.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Host, Lab, Running};

/// Open masters, ended when dropped.
pub struct Masters {
    config: Utf8PathBuf,
    _running: Vec<Running>,
}

impl Masters {
    /// Connects to every host of the lab. `name` tells several masters of one lab apart; `line` goes into the
    /// configuration (a cipher, say).
    pub fn open(lab: &Lab, name: &str, line: &str) -> Self {
        let config = lab.directory().join(format!("{name}.config"));
        let sockets = lab.directory().join(format!("{name}.%n"));
        let own = format!("Host *\n    BatchMode yes\n    ControlPath {sockets}\n    {line}\n");
        fs::write(&config, own + &format!("Include {}\n", lab.ssh_config())).expect("the lab's directory takes a file");
        let master = |host: &Host| {
            let mut ssh = Command::new("ssh");
            Running::start(ssh.args(["-F", config.as_str(), "-M", "-N", host.name()]).env_remove("SSH_AUTH_SOCK"))
        };
        let running = lab.hosts().iter().map(master).collect();
        for host in lab.hosts() {
            // It is there when the connection is.
            let socket = sockets.as_str().replace("%n", host.name());
            let began = Instant::now();
            while !Utf8Path::new(&socket).exists() {
                assert!(began.elapsed() < Duration::from_secs(30), "no ControlMaster to {}", host.name());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Self { config, _running: running }
    }

    /// The file for `-F` with which ssh and scp go over the masters.
    pub fn config(&self) -> &str {
        self.config.as_str()
    }
}
