//! What the numbers were measured on.

use std::fs;
use std::process::Command;

/// The machine, its load and the programs, in a few lines.
pub fn describe() -> String {
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cpu = model.map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let hosts = if lab::Lab::namespaces_available() { "in namespaces of their own" } else { "without namespaces" };
    format!(
        "machine: {cpu}, {cores} cores, Linux {}; load {}\nprograms: {} ({}) · {} · {} · {}\n\
         hosts: one sshd each on a loopback address of this machine, {hosts}; they share the cores with the contenders",
        read("/proc/sys/kernel/osrelease"),
        load(),
        first_line(lab::autoprof().arg("--version")),
        lab::stage(),
        first_line(Command::new("ssh").arg("-V")),
        first_line(Command::new("pdsh").arg("-V")),
        first_line(Command::new("clush").arg("--version")),
    )
}

/// The load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// The first line that a program prints, on whichever stream.
fn first_line(command: &mut Command) -> String {
    let Ok(done) = command.output() else { return format!("{} absent", command.get_program().display()) };
    let text = [done.stdout, done.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// The most memory that a process has had so far, in MiB; none once it is gone.
pub fn most_memory(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: f64 =
        text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    Some(kib / 1024.0)
}
