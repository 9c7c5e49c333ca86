//! A userland of its own for a host in namespaces: shell, C library, tools and SSH server of another system.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use camino::{Utf8Path, Utf8PathBuf};

use crate::session::quote;

/// A root file system for one host. The host gets a writable layer above it, so the directory itself never changes.
///
/// Unlike other hosts of the lab, such a host has no forced session: its own SSH server runs with its own
/// configuration and starts the login shell of its own password file.
#[derive(Debug, Clone)]
pub struct System {
    pub(crate) root: Utf8PathBuf,
    pub(crate) login: String,
    server: Server,
    read_only: bool,
    hidden: Vec<String>,
    prepared_by: Vec<String>,
}

/// Which program answers SSH connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    OpenSsh,
    Dropbear,
}

/// What a system needs of its host to start.
pub(crate) struct Boot<'a> {
    pub(crate) name: &'a str,
    /// The host's directory, outside.
    pub(crate) directory: &'a Utf8Path,
    pub(crate) tmp_options: Option<&'a str>,
}

impl System {
    /// The system in a directory, in which root logs in to an OpenSSH server.
    pub fn at(root: impl Into<Utf8PathBuf>) -> System {
        System {
            root: root.into(),
            login: "root".to_owned(),
            server: Server::OpenSsh,
            read_only: false,
            hidden: Vec::new(),
            prepared_by: Vec::new(),
        }
    }

    /// Another user of the system logs in, whose home is `/home/<user>`.
    #[must_use]
    pub fn login(mut self, user: &str) -> System {
        user.clone_into(&mut self.login);
        self
    }

    /// The SSH server is dropbear.
    #[must_use]
    pub fn dropbear(mut self) -> System {
        self.server = Server::Dropbear;
        self
    }

    /// Nothing can be written except below `/tmp` and `/run`.
    #[must_use]
    pub fn read_only(mut self) -> System {
        self.read_only = true;
        self
    }

    /// A directory is empty, such as one of `/proc`.
    #[must_use]
    pub fn without_files_in(mut self, directory: &str) -> System {
        self.hidden.push(directory.to_owned());
        self
    }

    /// A shell command runs as root in the system before its SSH server starts, with the shell of this machine's
    /// kernel: `uname -r` is the running kernel's.
    #[must_use]
    pub fn prepared_by(mut self, command: &str) -> System {
        self.prepared_by.push(command.to_owned());
        self
    }

    /// The home directory of the user who logs in.
    pub(crate) fn home(&self) -> Utf8PathBuf {
        if self.login == "root" { "/root".into() } else { Utf8Path::new("/home").join(&self.login) }
    }

    /// Whether a file, as the host names it, belongs to the system.
    pub(crate) fn has(&self, file: &Utf8Path) -> bool {
        self.root.join(file.as_str().trim_start_matches('/')).exists()
    }

    /// The script of the host's first process. Keys are read from the host's directory.
    pub(crate) fn script(&self, boot: &Boot<'_>) -> String {
        let directory = quote(boot.directory.as_str());
        let tmp_options = boot.tmp_options.map(|options| format!(",{options}")).unwrap_or_default();
        let mut text = String::from("set -e\n");
        let _ = writeln!(text, "hostname {}", boot.name);
        let _ = writeln!(text, "cd {directory}; mkdir -p root upper work empty");
        let layers = quote(&format!("lowerdir={},upperdir=upper,workdir=work", self.root));
        let _ = writeln!(text, "mount -t overlay -o {layers} overlay root");
        let _ = writeln!(text, "cat /proc/sys/kernel/random/uuid >boot_id");
        // Devices have the modes that udev gives them, whatever this machine's have.
        // Debian's systemd mounts the file systems of the tracers, which are mounted anew here since the machine may
        // lack them.
        let _ = writeln!(
            text,
            "mount -t proc proc root/proc\n\
             mount --bind boot_id root/proc/sys/kernel/random/boot_id\n\
             mount --rbind /sys root/sys\n\
             mount -t debugfs debugfs root/sys/kernel/debug || :\n\
             mount -t tracefs tracefs root/sys/kernel/tracing || :\n\
             mount -t tmpfs -o mode=755 tmpfs root/dev\n\
             for node in /dev/*; do [ -d $node ] || cp -a $node root/dev/; done\n\
             [ ! -d /dev/cpu ] || cp -a /dev/cpu root/dev/\n\
             rm -f root/dev/ptmx; mkdir -p root/dev/pts root/dev/shm\n\
             for node in null zero full random urandom tty; do chmod 666 root/dev/$node; done\n\
             mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts root/dev/pts\n\
             mount -t tmpfs -o mode=1777 tmpfs root/dev/shm\n\
             ln -s pts/ptmx root/dev/ptmx; ln -s /proc/self/fd root/dev/fd\n\
             mount -t tmpfs -o mode=755 tmpfs root/run\n\
             mkdir -p root/run/sshd root/run/old\n\
             mount -t tmpfs -o {} tmpfs root/tmp",
            quote(&format!("mode=1777{tmp_options}"))
        );
        for hidden in &self.hidden {
            let _ = writeln!(text, "mount -t tmpfs -o ro tmpfs {}", quote(&format!("root{hidden}")));
        }
        let home = quote(&format!("root{}", self.home()));
        let _ = writeln!(
            text,
            "mkdir -p {home}/.ssh\n\
             cp authorized_keys {home}/.ssh/authorized_keys\n\
             chmod 700 {home}/.ssh; chmod 600 {home}/.ssh/authorized_keys\n\
             chroot root chown -R {0} {1}/.ssh",
            quote(&self.login),
            quote(self.home().as_str()),
        );
        match self.server {
            Server::OpenSsh => text.push_str("install -m 600 host_key root/etc/ssh/ssh_host_ed25519_key\n"),
            Server::Dropbear => text.push_str(
                "mkdir -p root/etc/dropbear; cp host_key root/etc/dropbear/openssh\n\
                 chroot root /usr/lib/dropbear/dropbearconvert openssh dropbear \
                 /etc/dropbear/openssh /etc/dropbear/key\n",
            ),
        }
        for command in &self.prepared_by {
            let _ = writeln!(text, "chroot root /bin/sh -c {}", quote(command));
        }
        if self.read_only {
            text.push_str("mount -o remount,ro root\n");
        }
        // From here on every program is the system's own.
        let _ = writeln!(
            text,
            "cd root; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old\n\
             exec /bin/sh -c {}",
            quote("echo up; exec >/dev/null 2>&1; while :; do sleep 1000000 & wait; done")
        );
        text
    }

    /// The program that answers SSH connections, with its arguments, as the system names them.
    pub(crate) fn server(&self, address: SocketAddrV4) -> Vec<String> {
        match self.server {
            Server::OpenSsh => vec![
                "/usr/sbin/sshd".to_owned(),
                "-D".to_owned(),
                "-e".to_owned(),
                format!("-oListenAddress={}", address.ip()),
                format!("-oPort={}", address.port()),
                "-oHostKey=/etc/ssh/ssh_host_ed25519_key".to_owned(),
                "-oPidFile=none".to_owned(),
                "-oLogLevel=VERBOSE".to_owned(),
                "-oMaxStartups=100".to_owned(),
            ],
            Server::Dropbear => vec![
                "/usr/sbin/dropbear".to_owned(),
                "-F".to_owned(),
                "-E".to_owned(),
                "-p".to_owned(),
                address.to_string(),
                "-r".to_owned(),
                "/etc/dropbear/key".to_owned(),
                "-P".to_owned(),
                "/dev/null".to_owned(),
            ],
        }
    }
}
