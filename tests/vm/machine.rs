//! The machine under test: a QEMU process, its disk, and the way in.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Finished, Running, Signal, wait_until};
use tempfile::TempDir;

use crate::image::{Arch, Image};
use crate::qmp;

/// From power on to a login takes 15 s on an idle machine (aarch64: 90 s on a loaded one).
const BOOT: Duration = Duration::from_secs(600);
/// One login and a short command take 2 s on an idle machine.
const COMMAND: Duration = Duration::from_secs(60);

/// A virtual machine with a disk of its own; its power is cut when it is dropped.
pub struct Machine {
    qemu: Option<Running>,
    power_on: Box<dyn Fn() -> Command>,
    port: u16,
    directory: Utf8PathBuf,
    // Not in the directory, whose path may be too long for a socket.
    sockets: TempDir,
    boot: String,
}

impl Machine {
    /// Boots a machine with a fresh disk and waits until root can log in. Its files are made in `directory`. QEMU gets
    /// `options` besides its usual ones.
    pub fn boot(image: &Image, directory: &Utf8Path, options: &[&str]) -> Machine {
        let port = free_port();
        let disk = directory.join("disk.qcow2");
        let backing = image.disk();
        let made = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing.as_str(), disk.as_str()];
        lab::run(Command::new("qemu-img").args(made), COMMAND).expect_success();

        let known_hosts = directory.join("known_hosts");
        write(&known_hosts, &format!("[127.0.0.1]:{port} {}\n", image.host_key()));
        let config = format!(
            "Host vm\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
             ConnectTimeout 15\n",
            image.key()
        );
        write(&directory.join("ssh_config"), &config);

        let sockets = tempfile::tempdir().expect("a temporary directory");
        let mut arguments = arguments(image, &disk, port, directory, &control(&sockets));
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let qemu = match image.arch() {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Aarch64 => "qemu-system-aarch64",
        };
        let power_on = Box::new(move || {
            // Nice comes first in the order of processes and is replaced by QEMU, which so has its number.
            let mut command = Command::new("nice");
            command.args(["-n", "10", qemu]).args(&arguments);
            command
        });
        let mut machine =
            Machine { qemu: None, power_on, port, directory: directory.to_owned(), sockets, boot: String::new() };
        machine.power_on();
        machine
    }

    /// The directory of the machine's files, the scenario's own.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// The OpenSSH configuration in which the machine is `vm`.
    pub fn ssh_config(&self) -> Utf8PathBuf {
        self.directory.join("ssh_config")
    }

    /// Switches a machine on that is off, and waits until root can log in; how long that took.
    pub fn power_on(&mut self) -> Duration {
        assert!(self.qemu.is_none(), "the machine is on already");
        self.qemu = Some(Running::start(&mut (self.power_on)()));
        self.wait_for_next_boot()
    }

    /// Cuts the power: what the guest had not written to its disk is gone. What it had flushed is not, since QEMU
    /// hands that on to this machine's kernel before it says so.
    pub fn cut(&mut self) {
        let mut qemu = self.qemu.take().expect("the machine is on");
        qemu.signal(Signal::KILL);
        qemu.finish(COMMAND);
    }

    /// Presses the reset button: the kernel is gone at once, with all that it had in memory.
    pub fn reset(&self) {
        qmp::execute(&control(&self.sockets), "system_reset");
    }

    /// Waits until root can log in to another boot than the last one that was seen; how long that took.
    pub fn wait_for_next_boot(&mut self) -> Duration {
        let began = Instant::now();
        let mut now = String::new();
        let booted = wait_until(BOOT, || {
            self.answers() && {
                let seen = self.ssh("cat /proc/sys/kernel/random/boot_id");
                now = seen.stdout.trim().to_owned();
                seen.status.success() && now != self.boot
            }
        });
        assert!(
            booted,
            "nobody can log in to the machine {BOOT:?} after it was to boot; the end of its console:\n{}",
            self.console()
        );
        self.boot = now;
        began.elapsed()
    }

    /// Runs a shell command on the machine as root.
    pub fn ssh(&self, command: &str) -> Finished {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", self.ssh_config().as_str(), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4", "vm", "--", command]);
        lab::run(&mut ssh, COMMAND)
    }

    /// Runs a shell command on the machine as root, which must succeed; what it printed, trimmed.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        self.ssh(command).expect_success().stdout.trim().to_owned()
    }

    /// Processes and files of autoprof on the machine, as lines; empty when there is nothing.
    pub fn leftovers(&self) -> String {
        // The pattern is written so that the shell which is given it does not match itself.
        self.sh("pgrep -a -f '[a]utoprof-client'; pgrep -a -x 'perf|vmstat'; \
                 for d in /tmp/profilers /var/tmp/profilers; do test -e $d && find $d -mindepth 1 -maxdepth 1; done; true")
    }

    /// Whether an SSH server answers. QEMU takes connections while there is none, so only its greeting counts.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let mut greeting = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(3))).is_ok()
            && stream.read_exact(&mut greeting).is_ok()
            && &greeting == b"SSH-"
    }

    fn console(&self) -> String {
        let text = fs::read(self.directory.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let qemu = self.qemu.as_ref().map(Running::stderr).unwrap_or_default();
        format!("{}\n{qemu}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

fn arguments(image: &Image, disk: &Utf8Path, port: u16, directory: &Utf8Path, control: &Utf8Path) -> Vec<String> {
    let (machine, console) = match image.arch() {
        Arch::X86_64 => ("-machine q35 -cpu max -m 512", "ttyS0"),
        // The emulated processor has a PMU, and pointer authentication of the cheap kind.
        Arch::Aarch64 => ("-machine virt -cpu max,pmu=on,pauth-impdef=on -m 1024", "ttyAMA0"),
    };
    let fixed = "-name autoprof-vm -accel tcg,tb-size=256 -smp 1 -nodefaults -no-user-config -display none \
                 -rtc base=utc -device virtio-rng-pci -device virtio-net-pci,netdev=net,romfile=";
    let mut all: Vec<String> = machine.split_whitespace().chain(fixed.split_whitespace()).map(str::to_owned).collect();
    let named = [
        ("-kernel", image.kernel().into_string()),
        ("-initrd", image.initrd().into_string()),
        ("-append", format!("root=/dev/vda rw console={console} mitigations=off net.ifnames=0")),
        // `writeback`: a flush of the guest reaches this machine's disk, so that what it holds when QEMU is killed is
        // what a disk would hold. `unsafe` would lose flushed data that QEMU has not yet put in the file's tables.
        ("-drive", format!("file={disk},format=qcow2,if=virtio,cache=writeback")),
        ("-netdev", format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")),
        ("-chardev", format!("file,id=console,path={directory}/console.log,append=on")),
        ("-serial", "chardev:console".to_owned()),
        ("-qmp", format!("unix:{control},server=on,wait=off")),
    ];
    all.extend(named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    all
}

/// QEMU's control socket.
fn control(sockets: &TempDir) -> Utf8PathBuf {
    Utf8Path::from_path(sockets.path()).expect("the temporary directory is UTF-8").join("qmp")
}

/// A port that nobody listens on; between this and QEMU's start somebody might, and the boot then fails by name.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its number").port()
}

fn write(file: &Utf8Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
}
