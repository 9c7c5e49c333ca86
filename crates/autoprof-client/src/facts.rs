//! Finding out what this host is and can do.
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use autoprof_protocol::{HostFacts, PROTOCOL_VERSION, Tool, ToolProbe};

use crate::{
    clock,
    sys::{self, Counter},
};

/// How long all the programs together may take to say their versions.
const VERSIONS: Duration = Duration::from_secs(3);
/// Where administrators' programs are; often not in the `PATH` of a login over SSH.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The `PATH` in which tools are looked up: this process's, and the system's `sbin` directories.
pub fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let sbin: Vec<PathBuf> =
        SBIN.iter().map(PathBuf::from).filter(|dir| !env::split_paths(&path).any(|d| d == *dir)).collect();
    env::join_paths(env::split_paths(&path).chain(sbin)).unwrap_or(path)
}

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
        tools: tools(probes),
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

/// Looks for programs, and asks all that are there for their versions at once.
fn tools(probes: &[ToolProbe]) -> BTreeMap<String, Tool> {
    let path = search_path();
    let found = probes.iter().filter_map(|probe| Some((probe, find(&path, &probe.name)?)));
    let asked: Vec<_> = found.map(|(probe, file)| (probe, ask(&file, probe.version_flag.as_deref()), file)).collect();
    let deadline = Instant::now() + VERSIONS;
    asked
        .into_iter()
        .map(|(probe, child, file)| {
            let version = child.map(|c| answer(c, deadline)).unwrap_or_default();
            let capabilities = rustix::fs::getxattr(&file, c"security.capability", &mut [0u8; 64]).is_ok();
            (probe.name.clone(), Tool { path: file.display().to_string(), version: version.into(), capabilities })
        })
        .collect()
}

fn find(path: &OsString, name: &str) -> Option<PathBuf> {
    let executable =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(executable)
}

fn ask(program: &Path, flag: Option<&str>) -> Option<Child> {
    let mut command = Command::new(program);
    command.arg(flag?).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().ok()
}

/// What a program says about its version: the first line with a digit, whether on standard output or standard error
/// (sysstat's tools say it on the one, others on the other).
fn answer(mut child: Child, deadline: Instant) -> String {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(Some(_)) => break,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return String::new();
            }
        }
    }
    let mut text = String::new();
    let mut read = |from: Option<&mut dyn Read>| {
        from.map(|f| f.take(4096).read_to_string(&mut text));
    };
    read(child.stdout.as_mut().map(|s| s as &mut dyn Read));
    read(child.stderr.as_mut().map(|s| s as &mut dyn Read));
    text.lines().find(|l| l.contains(|c: char| c.is_ascii_digit())).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_with_their_versions_and_absent_ones_are_not() {
        let probes = ["sh", "sleep:--version", "autoprof-no-such-program:-V"].map(|p| p.parse().unwrap());
        let tools = tools(&probes);
        assert_eq!(tools.keys().collect::<Vec<_>>(), ["sh", "sleep"]);
        assert!(tools["sleep"].version_numbers().len() > 1, "{tools:?}");
    }
}
