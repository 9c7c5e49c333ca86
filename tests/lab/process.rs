//! The processes of this machine, read from `/proc`.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// The variable that every process of a host's sessions inherits.
pub(crate) const HOST_VARIABLE: &str = "AUTOPROF_LAB_HOST";
/// The variable of the first process of a host's namespaces and its helpers, which are the lab's own.
pub(crate) const INIT_VARIABLE: &str = "AUTOPROF_LAB_INIT";

/// One process, as it was when looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on this machine (not the one inside a host's namespaces).
    pub pid: u32,
    /// Its parent's number.
    pub parent: u32,
    /// Its arguments, joined by spaces; for one without arguments, its name in brackets.
    pub command: String,
    /// When it began, in clock ticks after boot; with the number it is unique.
    pub began: u64,
    state: char,
}

impl Process {
    /// Sends it a signal; nothing happens when it has ended meanwhile.
    pub fn signal(&self, signal: Signal) {
        if read(self.pid).is_some_and(|now| now.began == self.began)
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it still runs (one that is only waited for does not).
    pub fn is_alive(&self) -> bool {
        read(self.pid).is_some_and(|now| now.began == self.began && now.runs())
    }

    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (parent {}): {}", self.pid, self.parent, self.command)
    }
}

/// Reads one process.
pub(crate) fn read(pid: u32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name is in parentheses and may itself hold some; the figures follow the last one.
    let (head, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    let name = head.split_once('(').map_or("", |(_, name)| name);
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        command: if arguments.is_empty() { format!("[{name}]") } else { arguments },
        began: fields.get(19)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
    })
}

/// The first child of a process.
pub(crate) fn child_of(parent: u32) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| read(*pid).is_some_and(|process| process.parent == parent))
}

/// The namespace of process numbers that `pid` is in.
pub(crate) fn pid_namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// How to tell which processes are a host's.
pub(crate) struct Belonging<'a> {
    /// The value of [`HOST_VARIABLE`] in its sessions.
    pub(crate) id: &'a str,
    /// Its private directories: who works in them is its own, whatever became of its environment.
    pub(crate) places: Vec<&'a Path>,
    /// The number of its `sshd`.
    pub(crate) sshd: Option<u32>,
    /// Its namespace of process numbers, where it has one.
    pub(crate) namespace: Option<&'a Path>,
}

/// All processes at one instant.
pub(crate) struct Snapshot(Vec<Seen>);

struct Seen {
    process: Process,
    is_sshd: bool,
    is_init: bool,
    host: Option<String>,
    places: Vec<PathBuf>,
    namespace: Option<PathBuf>,
}

impl Snapshot {
    /// Reads `/proc`; processes that end meanwhile are left out.
    pub(crate) fn take() -> Snapshot {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Snapshot(Vec::new()) };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Snapshot(pids.filter_map(Seen::look).collect())
    }

    /// The processes of a host's sessions, without `sshd` and without the lab's own.
    pub(crate) fn of_host(&self, host: &Belonging<'_>) -> Vec<Process> {
        let seeds = self.0.iter().filter(|seen| seen.is_seed(host)).map(|seen| seen.process.pid);
        let family = self.descendants(seeds.chain(host.sshd).collect());
        let own = std::process::id();
        self.0
            .iter()
            .filter(|seen| family.contains(&seen.process.pid) && seen.process.pid != own)
            .filter(|seen| !seen.is_sshd && !seen.is_init && seen.process.runs())
            .map(|seen| seen.process.clone())
            .collect()
    }

    /// The processes of `sshd` that serve connections of the listener `sshd`.
    pub(crate) fn sessions_of(&self, sshd: u32) -> Vec<Process> {
        let family = self.descendants(HashSet::from([sshd]));
        self.0
            .iter()
            .filter(|seen| family.contains(&seen.process.pid) && seen.process.pid != sshd)
            .filter(|seen| seen.is_sshd && seen.process.runs())
            .map(|seen| seen.process.clone())
            .collect()
    }

    fn descendants(&self, mut family: HashSet<u32>) -> HashSet<u32> {
        loop {
            let before = family.len();
            for seen in &self.0 {
                if family.contains(&seen.process.parent) {
                    family.insert(seen.process.pid);
                }
            }
            if family.len() == before {
                return family;
            }
        }
    }
}

impl Seen {
    fn look(pid: u32) -> Option<Seen> {
        let process = read(pid)?;
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let variable = |name: &str| {
            environment.split(|byte| *byte == 0).find_map(|entry| {
                let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some(String::from_utf8_lossy(value).into_owned())
            })
        };
        let program = link("exe");
        let name = program.as_ref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        Some(Seen {
            // OpenSSH 9.8 moved sessions to programs of their own, sshd-session and sshd-auth.
            is_sshd: name.is_some_and(|name| name.starts_with("sshd") || name == "dropbear"),
            is_init: variable(INIT_VARIABLE).is_some(),
            host: variable(HOST_VARIABLE),
            places: open.chain(link("cwd")).chain(program.clone()).collect(),
            namespace: pid_namespace(pid),
            process,
        })
    }

    fn is_seed(&self, host: &Belonging<'_>) -> bool {
        if self.host.as_deref() == Some(host.id) {
            return true;
        }
        match host.namespace {
            Some(namespace) => self.namespace.as_deref() == Some(namespace),
            None => self.places.iter().any(|place| host.places.iter().any(|of_host| place.starts_with(of_host))),
        }
    }
}
