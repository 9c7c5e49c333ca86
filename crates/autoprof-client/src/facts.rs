//! Finding out what this host is and can do.
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{self, PipeReader, Read},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use autoprof_protocol::{Environment, HostFacts, PROTOCOL_VERSION, ProbeEnd, Tool, ToolProbe, UnusableTool};
use rustix::fs::OFlags;

use crate::{
    clock, environment, poll,
    sys::{self, Counter, Hangup, Priority},
};

/// How long the version commands of all programs together may take. They run at the same time; a host that is busy, or
/// reads a large program from a cold disk, takes seconds.
const VERSIONS_S: u64 = 10;
/// Most that is kept of what a version command prints.
const MAX_PRINTED: usize = 16 * 1024;
/// The kernel's id of this boot.
pub fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// Finds the facts; results would go into `dir`.
pub fn gather(dir: &Path, probes: &[ToolProbe]) -> HostFacts {
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let uid = rustix::process::geteuid().as_raw();
    let system_wide = sys::can_count_system_wide(Counter::CpuClock);
    let (tools, unusable) = tools(probes);
    HostFacts {
        protocol: PROTOCOL_VERSION,
        client_digest: own_digest().unwrap_or_default(),
        hostname: text(uname.nodename()).into(),
        arch: text(uname.machine()).into(),
        kernel: text(uname.release()).into(),
        os: os_name().into(),
        boot_id: boot_id(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_kib: memory_kib(),
        uid,
        user: user_name(uid).into(),
        sudo: false,
        free_bytes: rustix::fs::statvfs(dir).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize)),
        clock: Some(clock::now()),
        perf_event_paranoid: line("/proc/sys/kernel/perf_event_paranoid").parse().ok(),
        hardware_counters: if system_wide { sys::can_count_system_wide(Counter::Cycles) } else { has_counters() },
        system_wide,
        kernel_symbols: shows_kernel_symbols(),
        pressure: Path::new("/proc/pressure/cpu").exists(),
        debugfs: is_mounted("debugfs", "/sys/kernel/debug"),
        tracefs: is_mounted("tracefs", "/sys/kernel/tracing"),
        kvm: Path::new("/dev/kvm").exists(),
        tools,
        unusable,
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The digest of this program.
///
/// # Errors
/// When it cannot be read.
pub fn own_digest() -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open("/proc/self/exe")?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn os_name() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

/// The name of a user in `/etc/passwd` (passwd(5)); empty where it is not there, as those of a directory service.
fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    users.lines().find_map(name).unwrap_or_default()
}

/// Whether the kernel has a driver for the CPU's counters, which this user may not open. Its name is `cpu` on x86, with
/// two kinds of cores `cpu_core` and `cpu_atom`, and on ARM that of the CPU.
fn has_counters() -> bool {
    let drivers = fs::read_dir("/sys/bus/event_source/devices").into_iter().flatten().flatten();
    drivers
        .filter_map(|driver| driver.file_name().into_string().ok())
        .any(|name| ["cpu_core", "armv", "arm_cortex"].iter().any(|begin| name.starts_with(begin)) || name == "cpu")
}

/// Whether `/proc/kallsyms` has addresses, which it shows as zeros to those who may not see them. One of a CPU's own
/// variables may well be at 0.
fn shows_kernel_symbols() -> bool {
    let mut beginning = String::new();
    let read = fs::File::open("/proc/kallsyms").and_then(|file| file.take(4096).read_to_string(&mut beginning));
    read.is_ok() && beginning.lines().any(|line| line.starts_with(|c: char| c.is_ascii_hexdigit() && c != '0'))
}

/// Whether a file system of a type is mounted somewhere, which `/proc/mounts` tells those too who may not look into it.
fn is_mounted(kind: &str, at: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next(), fields.next()) == (Some(at), Some(kind))
    })
}

fn memory_kib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    total.and_then(|t| t.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Looks for programs, and runs the version commands of all that are there at once.
fn tools(probes: &[ToolProbe]) -> (BTreeMap<String, Tool>, Vec<UnusableTool>) {
    // What a version command leaves behind comes to this process, and is ended.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let path = environment::search_path();
    let mut asked: Vec<(&ToolProbe, PathBuf, Option<Question>)> = Vec::new();
    for probe in probes {
        // Several profilers may need a program, most of them by the same check.
        if asked.iter().any(|(same, ..)| *same == probe) {
            continue;
        }
        let Some(file) = find(&path, &probe.name) else { continue };
        let question = probe.version_flag.as_ref().map(|flag| Question::ask(&file, flag));
        asked.push((probe, file, question));
    }
    answer(&mut asked.iter_mut().filter_map(|(.., question)| question.as_mut()).collect::<Vec<_>>());
    #[cfg(not(test))]
    crate::daemon::kill_children();
    let (mut tools, mut unusable): (BTreeMap<String, Tool>, Vec<UnusableTool>) = (BTreeMap::new(), Vec::new());
    for (probe, file, question) in &asked {
        let path = file.display().to_string();
        let judged = question.as_ref().map_or(Ok(String::new()), |asked| {
            probe.judge(&path, &asked.end, &String::from_utf8_lossy(&asked.printed))
        });
        match judged {
            // One profiler may not ask for the version that another one needs.
            Ok(version) if version.is_empty() && tools.contains_key(&probe.name) => {}
            Ok(version) => {
                let capabilities = rustix::fs::getxattr(file, c"security.capability", &mut [0u8; 64]).is_ok();
                tools.insert(probe.name.clone(), Tool { path, version: version.into(), capabilities });
            }
            Err(e) => unusable.push(*e),
        }
    }
    // What failed one check and passed another works.
    unusable.retain(|one| tools.get(&one.name).is_none_or(|tool| tool.version.is_empty()));
    (tools, unusable)
}

fn find(path: &OsString, name: &str) -> Option<PathBuf> {
    let executable =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(executable)
}

/// A version command that runs, or its end.
struct Question {
    /// None once it has ended.
    running: Option<(Child, PipeReader)>,
    end: ProbeEnd,
    printed: Vec<u8>,
}

impl Question {
    fn ask(program: &Path, flag: &str) -> Self {
        match Self::spawn(program, flag) {
            Ok(running) => Self { running: Some(running), end: ProbeEnd::TimedOut(VERSIONS_S), printed: Vec::new() },
            Err(e) => Self { running: None, end: ProbeEnd::NotExecuted(e.to_string()), printed: Vec::new() },
        }
    }

    fn spawn(program: &Path, flag: &str) -> io::Result<(Child, PipeReader)> {
        // Some print their version on the one, some on the other.
        let (reader, writer) = io::pipe()?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let mut command = Command::new(program);
        command.arg(flag).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).current_dir("/");
        environment::set(&mut command, Environment::Clean);
        // A shell may keep a here-document in a file.
        sys::prepare_child(&mut command, Priority::Normal, 1 << 20, Hangup::Ignored);
        Ok((command.spawn()?, reader))
    }

    /// Takes what it has printed, all of it, so that none waits for its reader; its beginning is kept.
    fn read(&mut self) {
        let Some((_, reader)) = &mut self.running else { return };
        let mut buffer = [0; 4096];
        // What goes on without an end is left to the deadline.
        for _ in 0..256 {
            let Ok(n @ 1..) = reader.read(&mut buffer) else { return };
            let room = MAX_PRINTED.saturating_sub(self.printed.len()).min(n);
            self.printed.extend_from_slice(&buffer[..room]);
        }
    }

    /// Takes its end if it has ended. Its end is its exit: what it leaves in the background may hold its output open.
    fn reap(&mut self) {
        self.read();
        let Some((child, _)) = &mut self.running else { return };
        let pid = child.id();
        if let Ok(Some(status)) = child.try_wait() {
            self.read();
            self.end = match (status.code(), status.signal()) {
                (Some(code), _) => ProbeEnd::Code(code),
                (None, signal) => ProbeEnd::Signal(sys::signal_name(signal.unwrap_or_default())),
            };
            self.running = None;
            sys::signal_group(pid, libc::SIGKILL);
        }
    }

    fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            sys::signal_group(child.id(), libc::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// Waits until all have ended, or their time is over.
fn answer(questions: &mut [&mut Question]) {
    let deadline = clock::boot_ns() + clock::millis(VERSIONS_S * 1000);
    loop {
        questions.iter_mut().for_each(|question| question.reap());
        let output: Vec<_> =
            questions.iter().filter_map(|q| q.running.as_ref()).map(|(_, reader)| reader.as_fd()).collect();
        if output.is_empty() || clock::boot_ns() >= deadline {
            break;
        }
        // An end of file comes with the exit or before it, and would be there at once: so not only that is waited for.
        let soon = clock::boot_ns() + clock::millis(2);
        if poll::wait(output, Some(soon)).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    questions.iter_mut().for_each(|question| question.kill());
}

#[cfg(test)]
mod tests {
    use autoprof_protocol::ToolFault;

    use super::*;

    fn script(dir: &Path, name: &str, text: &str) {
        // By another process: a child of another test would have the file open for writing, and it could not be run.
        let write = "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let file = dir.join(name);
        assert!(Command::new("sh").args(["-c", write, "sh"]).arg(file).arg(text).status().unwrap().success());
    }

    fn ask(probe: &str, program: &Path) -> Result<String, ToolFault> {
        let probe: ToolProbe = probe.parse().unwrap();
        let mut question = Question::ask(program, probe.version_flag.as_deref().unwrap());
        answer(&mut [&mut question]);
        let printed = String::from_utf8_lossy(&question.printed).into_owned();
        probe.judge("x", &question.end, &printed).map_err(|unusable| unusable.fault)
    }

    #[test]
    fn programs_are_found_with_their_versions_and_absent_ones_are_not() {
        let probes = ["sh", "sleep:--version", "autoprof-no-such-program:-V"].map(|p| p.parse().unwrap());
        let (tools, unusable) = tools(&probes);
        assert_eq!(tools.keys().collect::<Vec<_>>(), ["sh", "sleep"]);
        assert!(tools["sleep"].version_numbers().len() > 1 && unusable.is_empty(), "{tools:?} {unusable:?}");
    }

    #[test]
    fn a_version_command_that_misbehaves_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        script(dir.path(), "loud", "#!/bin/sh\necho loud version 1.2 >&2\nhead -c 5000000 /dev/zero | tr '\\0' x\n");
        script(dir.path(), "daemon", "#!/bin/sh\nsleep 600 &\necho daemon version 3.4\n");
        script(dir.path(), "hung", "#!/bin/sh\necho hung version 5.6\nsleep 600\n");
        script(dir.path(), "broken", "#!/nonexistent/interpreter\n");
        script(dir.path(), "killed", "#!/bin/sh\necho killed version 1.0\nkill -SEGV $$\n");
        let begun = std::time::Instant::now();
        assert_eq!(ask("loud:-V", &at("loud")), Ok("loud version 1.2".to_owned()));
        assert_eq!(ask("daemon:-V", &at("daemon")), Ok("daemon version 3.4".to_owned()));
        assert!(begun.elapsed().as_secs() < VERSIONS_S, "waited for what holds standard output");
        assert!(matches!(ask("broken:-V", &at("broken")), Err(ToolFault::NotExecutable(_))));
        assert_eq!(ask("killed:-V", &at("killed")), Err(ToolFault::Status("signal SEGV".into())));
        assert_eq!(ask("hung:-V", &at("hung")), Err(ToolFault::Timeout(VERSIONS_S)));
    }
}
