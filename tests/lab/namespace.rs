//! The namespaces of one host: mounts, processes and the name, held by a first process of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use camino::Utf8Path;

use crate::keeper::keeper;
use crate::process::{self, INIT_VARIABLE};
use crate::program;
use crate::session::quote;
use crate::system::{Boot, System};

/// What a host has for itself.
pub(crate) struct Layout<'a> {
    pub(crate) name: &'a str,
    /// The host's directory, in which mount points and the persistent `/var/tmp` are made.
    pub(crate) directory: &'a Utf8Path,
    pub(crate) home: &'a Utf8Path,
    pub(crate) tmp_options: Option<&'a str>,
    pub(crate) hidden: Vec<String>,
    /// A userland of its own, which replaces all of the machine's.
    pub(crate) system: Option<&'a System>,
}

/// A running set of namespaces; [`end`](Namespace::end) ends every process in it.
pub(crate) struct Namespace {
    unshare: Child,
    /// The first process, by its number on this machine.
    pub(crate) init: u32,
    /// The namespace of process numbers.
    pub(crate) pids: PathBuf,
}

/// Whether this process may make them (root, or what amounts to it).
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        rustix::process::geteuid().is_root()
            && Command::new("unshare")
                .args(["--mount", "--pid", "--uts", "--fork", "--mount-proc"])
                .args(["--", "/bin/sh", "-c", "mount -t tmpfs tmpfs /tmp"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

impl Namespace {
    /// Makes the namespaces and waits until all is mounted.
    pub(crate) fn start(layout: &Layout<'_>) -> Namespace {
        let log = layout.directory.join("namespace.log");
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["--", "/bin/sh", "-c", &layout.script()])
            .env_clear()
            .env("PATH", program::full_path())
            .env(INIT_VARIABLE, format!("{}.{}", keeper().tag(), layout.name))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap_or_else(|error| panic!("cannot write {log}: {error}")))
            .spawn()
            .expect("unshare can be started");
        // When unshare is killed, so is the first process, and with it all others.
        keeper().watch(unshare.id());
        let mut word = String::new();
        let output = unshare.stdout.take().expect("the output of unshare is piped");
        let _ = BufReader::new(output).read_line(&mut word);
        let init = process::child_of(unshare.id());
        let (Some(init), "up") = (init, word.trim()) else {
            let _ = unshare.kill();
            let _ = unshare.wait();
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("cannot make the namespaces of {}: {said}", layout.name);
        };
        keeper().watch(init);
        let pids = process::pid_namespace(init).expect("the first process of a namespace shows it");
        Namespace { unshare, init, pids }
    }

    /// A command that runs `program` as a child of this machine inside the namespaces. With `--no-fork` the process
    /// itself keeps a number outside and only its children are inside, which suits an `sshd`.
    pub(crate) fn command(&self, fork: Fork) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--uts"]);
        if matches!(fork, Fork::ChildrenOnly) {
            command.arg("--no-fork");
        }
        command.arg("--");
        command
    }

    /// Kills the first process, and by that all others, and waits for it.
    pub(crate) fn end(&mut self) {
        if let Some(init) = process::read(self.init).filter(|init| init.parent == self.unshare.id()) {
            init.signal(crate::Signal::KILL);
        }
        let _ = self.unshare.wait();
    }
}

/// Who enters a namespace of process numbers.
pub(crate) enum Fork {
    /// The process itself (by way of one that waits for it).
    Whole,
    /// Its children only.
    ChildrenOnly,
}

impl Layout<'_> {
    fn script(&self) -> String {
        if let Some(system) = self.system {
            let boot = Boot { name: self.name, directory: self.directory, tmp_options: self.tmp_options };
            return system.script(&boot);
        }
        let mut text = String::from("set -e\n");
        let options = self.tmp_options.map(|options| format!(",{options}")).unwrap_or_default();
        let _ = writeln!(text, "hostname {}", self.name);
        let _ = writeln!(text, "mount -t tmpfs -o {} tmpfs /tmp", quote(&format!("mode=1777{options}")));
        if let Some(home) = passwd_home() {
            let _ = writeln!(text, "mount --bind {} {}", quote(self.home.as_str()), quote(&home));
        }
        // Programs are hidden under a file that cannot be executed, which is also what PATH searches pass over.
        let _ = writeln!(text, ": > {0}/hidden; chmod 0 {0}/hidden", self.directory);
        for program in &self.hidden {
            for directory in program::DIRECTORIES {
                let file = quote(&format!("{directory}/{program}"));
                let _ = writeln!(text, "[ ! -x {file} ] || mount --bind {}/hidden {file}", self.directory);
            }
        }
        // Every boot has an identity of its own.
        let _ = writeln!(text, "cat /proc/sys/kernel/random/uuid > {}/boot_id", self.directory);
        let _ = writeln!(text, "mount --bind {}/boot_id /proc/sys/kernel/random/boot_id", self.directory);
        // A private /var/tmp that outlives a reboot, as it does on real hosts. The lab's own files are below the
        // machine's /var/tmp, so they are mounted into the private one at the same place before it takes over.
        let scratch = keeper().scratch();
        let name = scratch.file_name().unwrap_or_default();
        let _ = writeln!(
            text,
            "var={0}/var-tmp\n\
             mkdir -p $var/{name}; chmod 1777 $var\n\
             mount --bind $var $var\n\
             mount --bind {scratch} $var/{name}\n\
             mount --move $var /var/tmp",
            self.directory
        );
        // The shell's `wait` also takes orphans off the table, which is the first process's duty.
        text.push_str("echo up\nexec >/dev/null 2>&1\nset +e\nwhile :; do sleep infinity & wait; done\n");
        text
    }
}

/// The home that the password file gives to the user of this process.
fn passwd_home() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    let home = line.split(':').nth(5)?;
    Utf8Path::new(home).is_dir().then(|| home.to_owned()).filter(|home| home != "/")
}
