//! What the numbers were measured on.

use std::fs;
use std::process::Command;

/// The machine, its load and the programs, in a few lines.
pub fn describe() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let version = |program: &str, flag: &str| {
        let Some(file) = lab::find_program(program) else { return format!("{program}: absent") };
        first_line(Command::new(file.as_std_path()).arg(flag)).unwrap_or_else(|| format!("{program}: unknown version"))
    };
    let own = first_line(lab::autoprof().arg("--version")).unwrap_or_default();
    let hosts = if lab::Lab::namespaces_available() { "in namespaces of their own" } else { "without namespaces" };
    format!(
        "machine: {cpu}, {cores} cores, {memory}, Linux {kernel}; load {}\n\
         programs: {own} ({}) · {} · {} · {}\n\
         hosts: one sshd each on a loopback address of this machine, {hosts}; they share the cores with the contenders.",
        load(),
        lab::stage(),
        version("ssh", "-V"),
        version("pdsh", "-V"),
        version("clush", "--version"),
    )
}

/// The load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read(file);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first line that a program prints, on whichever stream.
fn first_line(command: &mut Command) -> Option<String> {
    let done = command.output().ok()?;
    let text = [done.stdout, done.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}
