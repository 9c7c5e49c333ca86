//! Warm connections for OpenSSH: a ControlMaster to each host.

use std::fs;
use std::process::Command;
use std::time::Duration;

use camino::Utf8PathBuf;
use lab::{Lab, Running};

/// Open masters, ended when dropped.
pub struct Masters {
    config: Utf8PathBuf,
    masters: Vec<Running>,
}

impl Masters {
    /// Connects to every host of the lab. `name` tells several masters of one lab apart; `lines` go into the
    /// configuration (a cipher, say).
    ///
    /// # Panics
    /// When a host cannot be reached.
    pub fn open(lab: &Lab, name: &str, lines: &str) -> Self {
        let config = lab.directory().join(format!("{name}.config"));
        let sockets = lab.directory().join(format!("{name}.%n"));
        let text = format!(
            "Host *\n    BatchMode yes\n    ControlPath {sockets}\n    {lines}\nInclude {}\n",
            lab.ssh_config()
        );
        fs::write(&config, text).unwrap_or_else(|error| panic!("cannot write {config}: {error}"));
        let master = |host: &lab::Host| {
            let mut ssh = Command::new("ssh");
            ssh.args(["-F", config.as_str(), "-M", "-N", host.name()]).env_remove("SSH_AUTH_SOCK");
            Running::start(&mut ssh)
        };
        let masters = lab.hosts().iter().map(master).collect();
        let is_up = |host: &lab::Host| {
            let mut ssh = Command::new("ssh");
            ssh.args(["-F", config.as_str(), "-O", "check", host.name()]);
            lab::run(&mut ssh, Duration::from_secs(10)).status.success()
        };
        for host in lab.hosts() {
            let up = (0..600).any(|_| {
                let up = is_up(host);
                if !up {
                    std::thread::sleep(Duration::from_millis(50));
                }
                up
            });
            assert!(up, "no ControlMaster to {} within 30 s", host.name());
        }
        Self { config, masters }
    }

    /// The file for `-F` with which ssh and scp go over the masters.
    pub fn config(&self) -> &str {
        self.config.as_str()
    }
}

impl Drop for Masters {
    fn drop(&mut self) {
        // By signal, so that each removes its socket.
        self.masters.iter_mut().for_each(|master| master.signal(lab::Signal::TERM));
    }
}
