//! sysinfo: what the machine is and how it is set up, before the window and after it, and what changed in between.
use std::collections::BTreeMap;

use autoprof_plugin::{convert::open, prelude::*, words};

use crate::text;

const BEFORE: &str = "before.txt";
const AFTER: &str = "after.txt";
const CHANGES: &str = "changes.txt";

/// Longest file that is compared: more than any host says of itself.
const LONGEST: u64 = 16 << 20;

/// Each command's output below a line with the command; one that is not there is left out.
const SCRIPT: &str = r###"
section() { command -v "$1" >/dev/null 2>&1 || return 0; echo "## $*"; "$@" 2>/dev/null; }
section uname -a
section cat /etc/os-release
section cat /proc/cmdline
section cat /proc/version
section lscpu
section lsblk -o NAME,TYPE,SIZE,ROTA,SCHED,MOUNTPOINT
section cat /proc/meminfo
section cat /proc/mounts
section cat /proc/modules
section ip -brief address
section numactl --hardware
section sysctl -a
for file in /sys/devices/system/cpu/vulnerabilities/* /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor \
    /sys/kernel/mm/transparent_hugepage/enabled /sys/devices/system/clocksource/clocksource0/current_clocksource; do
    [ -r "$file" ] && echo "## $file" && cat "$file"
done
exit 0
"###;

/// sysinfo as users know it.
pub const SYSINFO: ProfilerInfo =
    ProfilerInfo::new("sysinfo", "what the machine is and how it is set up, before and after, and what changed")
        .example("uname -a; lscpu; lsblk; sysctl -a; … before and after");

/// Takes stock twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sysinfo;

impl ArgEncoder for Sysinfo {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = SYSINFO;
        &INFO
    }

    fn encode(&self, _: &Args, _: &HostFacts) -> Result<Invocation, ArgError> {
        // Commands that prepare have no file of their own; the script's first argument is the file.
        let before = format!("exec > {BEFORE}\n{SCRIPT}");
        Ok(Invocation {
            prepare: vec![words(&["sh", "-c", &before])],
            report: vec![Report {
                argv: words(&["sh", "-c", SCRIPT]),
                stdout: Some(AFTER.to_owned()),
                timeout_ms: 60_000,
            }],
            outputs: vec![text(BEFORE, true), text(AFTER, false)],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        if !raw.file(AFTER).exists() {
            return Ok(Vec::new());
        }
        let (before, after) = (sections(raw, BEFORE)?, sections(raw, AFTER)?);
        let (mut out, mut changed) = (String::new(), 0);
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let lines = |of: &BTreeMap<String, Vec<String>>| of.get(name).cloned().unwrap_or_default();
            let (old, new) = (lines(&before), lines(&after));
            let only = |these: &[String], those: &[String]| -> Vec<String> {
                these.iter().filter(|line| !those.contains(line)).cloned().collect()
            };
            let (gone, come) = (only(&old, &new), only(&new, &old));
            if gone.is_empty() && come.is_empty() {
                continue;
            }
            changed += u64::try_from(gone.len().max(come.len())).unwrap_or(u64::MAX);
            out.push_str(&format!("## {name}\n"));
            gone.iter().for_each(|line| out.push_str(&format!("- {line}\n")));
            come.iter().for_each(|line| out.push_str(&format!("+ {line}\n")));
        }
        std::fs::write(raw.file(CHANGES), out)
            .map_err(|e| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {CHANGES}"), &e))?;
        // That nothing changed is the usual result.
        let understood = |of: &BTreeMap<String, Vec<String>>| of.keys().any(|name| !name.is_empty());
        let may_be_empty = understood(&before) && understood(&after);
        Ok(vec![Table { file: CHANGES.to_owned(), rows: changed, may_be_empty, ..Table::default() }])
    }
}

/// The lines below each command, without those that change by themselves.
fn sections(raw: &RawResults, file: &str) -> Result<BTreeMap<String, Vec<String>>, ConvertError> {
    use std::io::Read;
    let mut content = Vec::new();
    open(raw, file)?.take(LONGEST).read_to_end(&mut content)?;
    let content = String::from_utf8_lossy(&content);
    let (mut sections, mut name) = (BTreeMap::<String, Vec<String>>::new(), String::new());
    for line in content.lines() {
        match line.strip_prefix("## ") {
            Some(command) => command.clone_into(&mut name),
            None if is_count(&name, line) => {}
            None => sections.entry(name.clone()).or_default().push(line.to_owned()),
        }
    }
    Ok(sections)
}

/// Whether a line is a figure of the moment, not of how the machine is set up.
fn is_count(section: &str, line: &str) -> bool {
    const COUNTS: [&str; 9] = [
        "kernel.random.",
        "kernel.ns_last_pid",
        "fs.dentry-state",
        "fs.file-nr",
        "fs.inode-",
        "fs.quota.",
        "kernel.pty.nr",
        "net.netfilter.nf_conntrack_count",
        "kernel.sched_domain",
    ];
    match section {
        "cat /proc/meminfo" => {
            !["MemTotal", "SwapTotal", "HugePages_Total", "Hugepagesize"].iter().any(|k| line.starts_with(k))
        }
        "lscpu" => line.starts_with("CPU MHz") || line.starts_with("CPU(s) scaling"),
        "sysctl -a" => COUNTS.iter().any(|name| line.starts_with(name)),
        _ => line.starts_with("node ") && line.contains(" free:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::converted;

    #[test]
    fn what_was_changed_is_told_from_what_changes_by_itself() {
        let before = b"## sysctl -a\nvm.swappiness = 60\nkernel.random.uuid = a\n## cat /proc/meminfo\nMemFree: 1 kB\n";
        let after = b"## sysctl -a\nvm.swappiness = 10\nkernel.random.uuid = b\n## cat /proc/meminfo\nMemFree: 2 kB\n";
        let (tables, changes) = converted(&Sysinfo, &[(BEFORE, before), (AFTER, after)], (0, 1), CHANGES);
        assert_eq!(tables.unwrap()[0].rows, 1);
        assert_eq!(changes, "## sysctl -a\n- vm.swappiness = 60\n+ vm.swappiness = 10\n");
    }

    #[test]
    fn the_script_says_something_wherever_there_is_a_shell() {
        let done = std::process::Command::new("sh").args(["-c", SCRIPT]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.starts_with("## uname -a\nLinux "), "{said}");
    }
}
