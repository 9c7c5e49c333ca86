//! One private host.

use std::net::SocketAddrV4;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::keys::KeyPair;
use crate::leftovers::{self, Leftovers};
use crate::namespace::{Fork, Layout, Namespace};
use crate::options::{HostOptions, Trust};
use crate::process::{Belonging, HOST_VARIABLE, Process, Snapshot};
use crate::running::{self, Finished};
use crate::session::Session;
use crate::sshd;
use crate::system::System;

/// The temporary directory of every host in namespaces: the product's own default, private to the host.
const SHARED_NAME: &str = "/tmp/profilers";

const EXEC_WITHIN: Duration = Duration::from_secs(60);

/// One private host: an `sshd` of its own with a home and a temporary directory of its own.
pub struct Host {
    name: String,
    id: String,
    address: SocketAddrV4,
    directory: Utf8PathBuf,
    home: Utf8PathBuf,
    tmpdir: Utf8PathBuf,
    options: HostOptions,
    environment: Vec<(String, String)>,
    known_hosts_line: String,
    state: Mutex<State>,
}

/// What runs.
#[derive(Default)]
struct State {
    sshd: Option<Child>,
    /// Connections whose listener was stopped, so that they are nobody's children any more.
    orphans: Vec<Process>,
    namespace: Option<Namespace>,
}

/// What a host is made of.
pub(crate) struct Plan {
    pub(crate) name: String,
    /// Unique on this machine.
    pub(crate) id: String,
    pub(crate) address: SocketAddrV4,
    pub(crate) directory: Utf8PathBuf,
    pub(crate) path: String,
    pub(crate) client_key: String,
    pub(crate) in_namespaces: bool,
    pub(crate) options: HostOptions,
}

impl Host {
    /// Makes the host's files and starts it.
    pub(crate) fn start(plan: Plan) -> Host {
        let Plan { name, id, address, directory, path, client_key, in_namespaces, options } = plan;
        let home = options.system.as_ref().map_or_else(|| directory.join("home"), System::home);
        let own_tmp = directory.join("tmp");
        for made in [&directory.join("home"), &own_tmp, &directory.join("empty")] {
            std::fs::create_dir_all(made).unwrap_or_else(|error| panic!("cannot make {made}: {error}"));
        }
        let shell = options.shell.clone().unwrap_or_else(default_shell);
        let mut environment = vec![
            ("HOME".to_owned(), home.to_string()),
            ("PATH".to_owned(), path),
            ("SHELL".to_owned(), shell.split(' ').next().unwrap_or_default().to_owned()),
            (HOST_VARIABLE.to_owned(), id.clone()),
        ];
        if !in_namespaces {
            environment.push(("TMPDIR".to_owned(), own_tmp.to_string()));
        }
        environment.extend(options.environment.iter().cloned());
        let tmpdir = if in_namespaces { SHARED_NAME.into() } else { own_tmp };

        let banner = options.banner.as_ref().map(|text| write(&directory, "banner", &format!("{text}\n")));
        let session = Session { environment: &environment, shell: &shell, banner: banner.as_deref() }.script();
        let key = KeyPair::generate(directory.join("host_key"));
        let authorized = if options.refuses_key { String::new() } else { format!("{client_key}\n") };
        let config = sshd::config(
            address,
            &id,
            &sshd::Files {
                host_key: &key.private,
                authorized_keys: &write(&directory, "authorized_keys", &authorized),
                session: &write(&directory, "session", &session),
                banner: banner.as_deref(),
                empty_home: &directory.join("empty"),
            },
            &options,
        );
        write(&directory, "sshd_config", &config);
        let at = format!("[{}]:{}", address.ip(), address.port());
        let known_hosts_line = match options.trust {
            Trust::Known => format!("{at} {}\n", key.public),
            Trust::Changed => format!("{at} {}\n", KeyPair::generate(directory.join("former_key")).public),
            Trust::Unknown => String::new(),
        };
        let state = Mutex::default();
        let host = Host { name, id, address, directory, home, tmpdir, options, environment, known_hosts_line, state };
        if in_namespaces {
            host.start_namespace();
        }
        host.start_sshd();
        host
    }

    /// `h1`, `h2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The loopback address and port of its `sshd`.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// `$HOME` of its sessions, and where they begin.
    pub fn home(&self) -> &Utf8Path {
        &self.home
    }

    /// The directory to give to autoprof as `tmpdir`, as the host sees it. In namespaces it is `/tmp/profilers`, which
    /// is private and not there at first; otherwise it exists, and every host has another one (also in `TMPDIR`).
    pub fn tmpdir(&self) -> &Utf8Path {
        &self.tmpdir
    }

    /// Where this process finds the file that the host sees as `path` (absolute).
    pub fn outside(&self, path: impl AsRef<Utf8Path>) -> Utf8PathBuf {
        let path = path.as_ref();
        match &self.state().namespace {
            Some(namespace) => {
                Utf8PathBuf::from(format!("/proc/{}/root", namespace.init)).join(path.as_str().trim_start_matches('/'))
            }
            None => path.to_owned(),
        }
    }

    /// What its `sshd` has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("sshd.log")).unwrap_or_default()
    }

    /// Runs a command on the host, in the surroundings of its sessions but without SSH, and waits for it.
    ///
    /// # Panics
    /// When it takes more than a minute.
    pub fn exec<A: AsRef<str>>(&self, argv: &[A]) -> Finished {
        let mut command = match &self.state().namespace {
            Some(namespace) => {
                let mut command = namespace.command(Fork::Whole);
                command.arg("/bin/sh");
                command
            }
            None => Command::new("/bin/sh"),
        };
        command.args(["-c", "cd \"$HOME\" && exec \"$@\"", "sh"]).args(argv.iter().map(AsRef::as_ref));
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        running::run(&mut command, EXEC_WITHIN)
    }

    /// The processes of its sessions and all that came of them, without `sshd`.
    pub fn processes(&self) -> Vec<Process> {
        self.processes_in(&Snapshot::take())
    }

    /// The processes and files on it that were not there when it started.
    pub fn leftovers(&self) -> Leftovers {
        self.leftovers_in(&Snapshot::take())
    }

    /// How many connections are open to it.
    pub fn connections(&self) -> usize {
        let Some(sshd) = self.sshd_pid() else { return 0 };
        Snapshot::take().sessions_of(sshd).iter().filter(|session| session.parent == sshd).count()
    }

    /// Kills the `sshd` processes that serve its connections, at once and without a word to their clients. The
    /// commands of the sessions live on if they survive the loss of their pipes.
    pub fn kill_connections(&self) {
        let orphans = std::mem::take(&mut self.state().orphans);
        let sessions = self.sshd_pid().map(|sshd| Snapshot::take().sessions_of(sshd)).unwrap_or_default();
        for session in orphans.iter().chain(&sessions) {
            session.signal(crate::Signal::KILL);
        }
        for session in orphans.iter().chain(&sessions) {
            running::wait_until(Duration::from_secs(5), || !session.is_alive());
        }
    }

    /// Stops listening: new connections are refused, open ones go on. Nothing happens when it does not listen.
    pub fn stop_sshd(&self) {
        let mut state = self.state();
        let Some(mut sshd) = state.sshd.take() else { return };
        state.orphans.extend(Snapshot::take().sessions_of(sshd.id()));
        let _ = sshd.kill();
        let _ = sshd.wait();
    }

    /// Listens again, on the same address with the same key. Nothing happens when it does already.
    pub fn start_sshd(&self) {
        let mut state = self.state();
        if state.sshd.is_some() {
            return;
        }
        let config = self.directory.join("sshd_config");
        let words = match &self.options.system {
            Some(system) => system.server(self.address),
            None => sshd::words(&config),
        };
        let command = match &state.namespace {
            Some(namespace) => {
                let mut command = namespace.command(Fork::ChildrenOnly);
                command.args(words);
                command
            }
            None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        let sshd = sshd::start(command, self.address, &self.directory.join("sshd.log"));
        state.sshd = Some(sshd);
    }

    /// Ends every process of the host at once, as the loss of power does: connections break, what was in memory and
    /// in `/tmp` is gone, `/var/tmp` and the home stay.
    ///
    /// # Panics
    /// Without namespaces.
    pub fn power_off(&self) {
        assert!(self.state().namespace.is_some(), "{}: only a host in namespaces can lose power", self.name);
        self.stop_sshd();
        self.kill_connections();
        if let Some(mut namespace) = self.state().namespace.take() {
            namespace.end();
        }
    }

    /// Starts it again after [`power_off`](Self::power_off), with another boot id.
    pub fn power_on(&self) {
        self.start_namespace();
        self.start_sshd();
    }

    /// The user who logs in, where it is not the one of this process.
    pub(crate) fn login(&self) -> Option<&str> {
        self.options.system.as_ref().map(|system| system.login.as_str())
    }

    pub(crate) fn known_hosts_line(&self) -> &str {
        &self.known_hosts_line
    }

    pub(crate) fn leftovers_in(&self, snapshot: &Snapshot) -> Leftovers {
        let places: &[&str] = if self.tmpdir == SHARED_NAME { &["/tmp", "/var/tmp"] } else { &[] };
        let mut files = Vec::new();
        for place in places.iter().map(Utf8Path::new).chain([self.tmpdir(), self.home()]) {
            leftovers::collect(&self.outside(place), place, &mut files);
        }
        files.sort();
        files.dedup();
        files.retain(|file| *file != self.tmpdir);
        if let Some(system) = &self.options.system {
            // Its keys are the lab's own, and other files may be the system's.
            let keys = system.home().join(".ssh");
            files.retain(|file| !file.starts_with(&keys) && !system.has(file));
        }
        files.retain(|file| !self.options.ignored.iter().any(|ignored| file.starts_with(ignored)));
        Leftovers { host: self.name.clone(), processes: self.processes_in(snapshot), files }
    }

    /// Kills all that runs on it; [`wait_ended`](Self::wait_ended) waits for it.
    pub(crate) fn kill(&self, snapshot: &Snapshot) {
        let processes = self.processes_in(snapshot);
        let sessions = self.sshd_pid().map(|sshd| snapshot.sessions_of(sshd)).unwrap_or_default();
        let mut state = self.state();
        if let Some(sshd) = &mut state.sshd {
            let _ = sshd.kill();
        }
        for process in processes.iter().chain(&sessions).chain(&state.orphans) {
            process.signal(crate::Signal::KILL);
        }
        state.orphans.extend(sessions);
    }

    /// Waits until nothing runs on it any more, after [`kill`](Self::kill).
    pub(crate) fn wait_ended(&self) {
        let (sshd, namespace, orphans) = {
            let mut state = self.state();
            (state.sshd.take(), state.namespace.take(), std::mem::take(&mut state.orphans))
        };
        if let Some(mut sshd) = sshd {
            let _ = sshd.wait();
        }
        if let Some(mut namespace) = namespace {
            namespace.end();
        }
        for orphan in orphans {
            running::wait_until(Duration::from_secs(5), || !orphan.is_alive());
        }
    }

    fn processes_in(&self, snapshot: &Snapshot) -> Vec<Process> {
        let state = self.state();
        snapshot.of_host(&Belonging {
            id: &self.id,
            places: self.private_places(),
            sshd: state.sshd.as_ref().map(Child::id),
            namespace: state.namespace.as_ref().map(|namespace| namespace.pids.as_path()),
        })
    }

    /// Directories that are this host's alone as they are named in the test's own namespace. Those of a host in
    /// namespaces have the same names on every such host, and on this machine itself.
    fn private_places(&self) -> Vec<&std::path::Path> {
        if self.tmpdir == SHARED_NAME { Vec::new() } else { vec![self.home.as_std_path(), self.tmpdir.as_std_path()] }
    }

    fn start_namespace(&self) {
        let mut state = self.state();
        assert!(state.namespace.is_none(), "{} is on already", self.name);
        let hidden = self.options.without.iter().cloned().collect();
        state.namespace = Some(Namespace::start(&Layout {
            name: &self.name,
            directory: &self.directory,
            home: &self.home,
            tmp_options: self.options.tmp_options.as_deref(),
            hidden,
            system: self.options.system.as_ref(),
        }));
    }

    fn sshd_pid(&self) -> Option<u32> {
        self.state().sshd.as_ref().map(Child::id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding it must still be able to end the host.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill(&Snapshot::take());
        self.wait_ended();
    }
}

fn default_shell() -> String {
    let bash = Utf8Path::new("/bin/bash");
    if bash.exists() { bash.to_string() } else { "/bin/sh".to_owned() }
}

fn write(directory: &Utf8Path, name: &str, text: &str) -> Utf8PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
    file
}
