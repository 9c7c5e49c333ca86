//! The lab: hosts, and what a controller needs to reach them.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Index;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::host::{Host, Plan};
use crate::keeper::keeper;
use crate::keys::KeyPair;
use crate::leftovers::Leftovers;
use crate::link::Link;
use crate::options::HostOptions;
use crate::process::Snapshot;
use crate::running::{self, Finished};
use crate::{namespace, program, sshd};

const CLEAN_WITHIN: Duration = Duration::from_secs(10);
const SSH_WITHIN: Duration = Duration::from_secs(60);
/// How many hosts are started at a time; making keys is what takes the time.
const STARTERS: usize = 4;

/// Private hosts `h1` … `hN`, ended and removed when dropped. `lab[1]` is `h1`.
pub struct Lab {
    hosts: Vec<Host>,
    directory: Utf8PathBuf,
    key: KeyPair,
    user: String,
}

/// Says what a lab shall be; [`start`](LabBuilder::start) makes it.
#[must_use]
pub struct LabBuilder {
    hosts: Vec<HostOptions>,
    in_namespaces: bool,
}

impl Lab {
    /// Starts `count` hosts without anything special.
    pub fn new(count: usize) -> Lab {
        Lab::builder(count).start()
    }

    /// Describes a lab of `count` hosts.
    pub fn builder(count: usize) -> LabBuilder {
        LabBuilder { hosts: vec![HostOptions::default(); count], in_namespaces: false }
    }

    /// Whether hosts can have namespaces of their own (which takes root).
    pub fn namespaces_available() -> bool {
        namespace::available()
    }

    /// The hosts in order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Host `h<number>`.
    ///
    /// # Panics
    /// When the lab has no such host.
    #[track_caller]
    pub fn host(&self, number: usize) -> &Host {
        match number.checked_sub(1).and_then(|index| self.hosts.get(index)) {
            Some(host) => host,
            None => panic!("the lab has the hosts h1 to h{}, not h{number}", self.hosts.len()),
        }
    }

    /// A link to a host that can be cut, and the file for `--ssh-config` in which the host is reached through it.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn link(&self, number: usize) -> (Link, Utf8PathBuf) {
        let host = self.host(number);
        let link = Link::to(host.address());
        let config = linked(&std::fs::read_to_string(self.ssh_config()).unwrap_or_default(), host, &link);
        let file = self.directory.join(format!("ssh_config-link-{number}-{}", link.address().port()));
        std::fs::write(&file, config).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
        (link, file)
    }

    /// A link to each host, and the configuration by which all are reached through them.
    ///
    /// # Panics
    /// When no socket or file can be had.
    pub fn links(&self) -> (Vec<Link>, Utf8PathBuf) {
        let links: Vec<Link> = self.hosts.iter().map(|host| Link::to(host.address())).collect();
        let plain = std::fs::read_to_string(self.ssh_config()).unwrap_or_default();
        let config = self.hosts.iter().zip(&links).fold(plain, |config, (host, link)| linked(&config, host, link));
        let file = self.directory.join("ssh_config-links");
        std::fs::write(&file, config).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
        (links, file)
    }

    /// The file for `ssh -F` and `autoprof --ssh-config`, which names all hosts.
    pub fn ssh_config(&self) -> Utf8PathBuf {
        self.directory.join("ssh_config")
    }

    /// The controller's `known_hosts`.
    pub fn known_hosts(&self) -> Utf8PathBuf {
        self.directory.join("known_hosts")
    }

    /// The controller's private key; the public one lies beside it with `.pub`.
    pub fn identity(&self) -> &Utf8Path {
        &self.key.private
    }

    /// The user whom the hosts let in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A directory for a test's own files (jobs, runs), removed with the lab.
    pub fn directory(&self) -> Utf8PathBuf {
        self.directory.join("work")
    }

    /// Runs a command line on a host by plain OpenSSH and waits for it.
    ///
    /// # Panics
    /// When it takes more than a minute.
    #[track_caller]
    pub fn ssh(&self, host: &str, command: &str) -> Finished {
        running::run(&mut self.ssh_command(host, command), SSH_WITHIN)
    }

    /// The OpenSSH command that runs a command line on a host, never asking anybody anything.
    pub fn ssh_command(&self, host: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", self.ssh_config().as_str(), "-o", "BatchMode=yes", host, command]).env_remove("SSH_AUTH_SOCK");
        ssh
    }

    /// What is left on all hosts, where something is.
    pub fn leftovers(&self) -> Vec<Leftovers> {
        let snapshot = Snapshot::take();
        self.hosts.iter().map(|host| host.leftovers_in(&snapshot)).filter(|left| !left.is_empty()).collect()
    }

    /// Waits until nothing is left on any host.
    ///
    /// # Panics
    /// With the list of what is left, after ten seconds.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_clean_within(CLEAN_WITHIN);
    }

    /// Waits until nothing is left on any host, but no longer than `deadline`.
    ///
    /// # Panics
    /// With the list of what is left.
    #[track_caller]
    pub fn assert_clean_within(&self, deadline: Duration) {
        let mut left = Vec::new();
        let clean = running::wait_until(deadline, || {
            left = self.leftovers();
            left.is_empty()
        });
        let list: String = left.iter().map(Leftovers::to_string).collect();
        assert!(clean, "left over after {deadline:?}:\n{list}");
    }
}

impl Index<usize> for Lab {
    type Output = Host;

    #[track_caller]
    fn index(&self, number: usize) -> &Host {
        self.host(number)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && self.hosts.len() <= 8 {
            for host in &self.hosts {
                eprintln!("--- sshd of {}\n{}", host.name(), host.log());
            }
        }
        // All at once: killing and waiting host by host would look through /proc once for each.
        let snapshot = Snapshot::take();
        for host in &self.hosts {
            host.kill(&snapshot);
        }
        for host in &self.hosts {
            host.wait_ended();
        }
        self.hosts.clear();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl LabBuilder {
    /// Changes the description of host `h<number>`.
    ///
    /// # Panics
    /// When the lab has no such host.
    #[track_caller]
    pub fn host(mut self, number: usize, change: impl FnOnce(HostOptions) -> HostOptions) -> LabBuilder {
        let count = self.hosts.len();
        match number.checked_sub(1).and_then(|index| self.hosts.get_mut(index)) {
            Some(options) => *options = change(std::mem::take(options)),
            None => panic!("the lab has the hosts h1 to h{count}, not h{number}"),
        }
        self
    }

    /// Changes the description of every host.
    pub fn all(mut self, change: impl Fn(HostOptions) -> HostOptions) -> LabBuilder {
        self.hosts = self.hosts.into_iter().map(change).collect();
        self
    }

    /// Gives every host mount, process and host-name namespaces of its own: a private `/tmp` and `/var/tmp`, its own
    /// `/proc` and boot id. Needs root: see [`skip_unless_namespaces`](crate::skip_unless_namespaces).
    pub fn in_namespaces(mut self) -> LabBuilder {
        self.in_namespaces = true;
        self
    }

    /// Starts the hosts and waits until every one of them accepts connections.
    ///
    /// # Panics
    /// When a host does not start, or namespaces are asked for and not to be had.
    pub fn start(self) -> Lab {
        assert!(!self.in_namespaces || namespace::available(), "namespaces need root");
        for options in &self.hosts {
            assert!(
                self.in_namespaces || options.tmp_options.is_none(),
                "tmp_options need in_namespaces: without, /tmp is the machine's"
            );
            assert!(self.in_namespaces || options.system.is_none(), "a system of its own needs in_namespaces");
        }
        sshd::path();
        let directory = keeper().scratch().join(lab_number().to_string());
        let work = directory.join("work");
        std::fs::create_dir_all(&work).unwrap_or_else(|error| panic!("cannot make {work}: {error}"));
        let key = KeyPair::generate(directory.join("identity"));
        let mut lab = Lab { hosts: Vec::new(), directory, key, user: user() };
        lab.hosts = start_all(self.plans(&lab));
        lab.write_files();
        lab
    }

    fn plans(self, lab: &Lab) -> Vec<Plan> {
        let mut paths = HashMap::new();
        let mut plans = Vec::new();
        for (index, options) in self.hosts.into_iter().enumerate() {
            let count = paths.len();
            let path = paths.entry(options.without.clone()).or_insert_with_key(|without| path(without, lab, count));
            let name = format!("h{}", index + 1);
            let address = address();
            plans.push(Plan {
                id: format!("{}.{address}", keeper().tag()),
                address: SocketAddrV4::new(address, sshd::free_port(address)),
                directory: lab.directory.join(&name),
                path: path.clone(),
                client_key: lab.key.public.clone(),
                in_namespaces: self.in_namespaces,
                options,
                name,
            });
        }
        plans
    }
}

impl Lab {
    fn write_files(&self) {
        let known: String = self.hosts.iter().map(Host::known_hosts_line).collect();
        let mut config = String::new();
        for host in &self.hosts {
            let address = host.address();
            let _ = write!(
                config,
                "Host {}\n    HostName {}\n    Port {}\n    User {}\n    IdentityFile {}\n    IdentitiesOnly yes\n    \
                 UserKnownHostsFile {}\n\n",
                host.name(),
                address.ip(),
                address.port(),
                host.login().unwrap_or(&self.user),
                self.key.private,
                self.known_hosts()
            );
        }
        for (file, text) in [(self.known_hosts(), known), (self.ssh_config(), config)] {
            std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
        }
    }
}

/// A configuration by which one host is reached through a link.
fn linked(config: &str, host: &Host, link: &Link) -> String {
    let own = format!("    HostName {}\n    Port {}\n", host.address().ip(), host.address().port());
    // Its key is known under the host's own address.
    let linked = format!(
        "    HostName {}\n    Port {}\n    HostKeyAlias [{}]:{}\n",
        link.address().ip(),
        link.address().port(),
        host.address().ip(),
        host.address().port()
    );
    config.replace(&own, &linked)
}

/// Starts hosts, a few at a time, and gives them in order. When one fails, the others are ended by their destructors.
fn start_all(plans: Vec<Plan>) -> Vec<Host> {
    let queue = Mutex::new(plans.into_iter().enumerate());
    let next = || queue.lock().expect("no starter panics while it takes from the queue").next();
    let mut started: Vec<(usize, Host)> = std::thread::scope(|scope| {
        let starter = || std::iter::from_fn(next).map(|(index, plan)| (index, Host::start(plan))).collect::<Vec<_>>();
        let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(starter)).collect();
        let results: Vec<_> = starters.into_iter().map(|starter| starter.join()).collect();
        let joined = results.into_iter().map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    started.sort_by_key(|(index, _)| *index);
    started.into_iter().map(|(_, host)| host).collect()
}

/// `PATH` for hosts that lack some programs.
fn path(without: &BTreeSet<String>, lab: &Lab, count: usize) -> String {
    if without.is_empty() {
        return program::full_path();
    }
    let directory = lab.directory.join(format!("bin-{count}"));
    program::link_all_but(without, &directory);
    directory.into_string()
}

/// An address that no other lab of this machine uses: this process's number spreads labs over 127.0.0.0/8, a counter
/// parts the hosts of one process. Should two meet after all, their ports still differ.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(1021).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let number = number % (254 * 256 * 254);
    let part = |value: u32| u8::try_from(value).expect("a remainder below 256 is a byte");
    Ipv4Addr::new(127, part(number / (256 * 254)) + 1, part(number / 254 % 256), part(number % 254) + 1)
}

fn lab_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn user() -> String {
    let id = running::run(Command::new("id").arg("-un"), SSH_WITHIN).expect_success();
    id.stdout.trim().to_owned()
}
