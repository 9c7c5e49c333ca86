//! What root has to put on hosts so that profilers can run commands as root.
use std::{collections::BTreeMap, fmt::Write};

use autoprof_core::{
    manifest::{HostRecord, Manifest},
    protocol::HostFacts,
    sudo::Script,
    text::one_line,
};

/// For every host, a shell script that root runs there; hosts that need the same are together. What cannot be had, and
/// hosts that could not be looked at, are comments.
#[must_use]
pub fn sudoers(manifest: &Manifest) -> String {
    let mut hosts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, host) in &manifest.hosts {
        hosts.entry(script(host)).or_default().push(name);
    }
    let mut out = String::new();
    for (script, names) in hosts {
        let _ = writeln!(out, "# {}: to be run there by root", one_line(&names.join(", ")));
        out.push_str(&script);
    }
    out
}

/// The script for one host.
fn script(host: &HostRecord) -> String {
    let mut out = String::new();
    for error in &host.errors {
        let _ = writeln!(out, "# {}: {}", error.step, one_line(&error.message));
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (profiler, record) in &host.profilers {
        if let Some(reason) = &record.reason {
            let _ = writeln!(out, "# {profiler} cannot run: {}", one_line(reason));
        }
        let Some(invocation) = record.invocation.as_ref().filter(|i| i.root_commands().next().is_some()) else {
            continue;
        };
        for note in &invocation.notes {
            let _ = writeln!(out, "# {profiler}: {}", one_line(note));
        }
        // A profiler with a command that cannot be one was refused.
        let scripts = invocation.root_commands().filter_map(|argv| Script::of(argv).ok());
        files.extend(scripts.map(|script| (script.path, script.text)));
    }
    let Some(user) = host.facts.as_ref().map(user).filter(|_| !files.is_empty()) else {
        if out.is_empty() {
            out.push_str("# nothing that was asked for needs sudo\n");
        }
        return out;
    };
    out.push_str("set -eu\numask 022\n");
    let _ = writeln!(out, "mkdir -p {}", autoprof_core::sudo::DIRECTORY);
    let mut rules = String::new();
    for (path, text) in &files {
        let _ = write!(out, "cat > {path} <<'END'\n{text}END\nchmod 755 {path}\n");
        let _ = writeln!(rules, "{user} ALL=(root) NOPASSWD: NOSETENV: {path} \"\"");
    }
    // sudo does not read a file with a dot in its name: the rules are not there before they are right.
    let file = format!("/etc/sudoers.d/autoprof-{}", user.trim_start_matches('#').replace('.', "_"));
    let _ = write!(
        out,
        "cat > {file}.new <<'END'\n{rules}END\nchmod 440 {file}.new\nvisudo -cf {file}.new\nmv {file}.new {file}\n"
    );
    out
}

/// The user as a rule names them: by number where the name is unknown or could be read as something else.
fn user(facts: &HostFacts) -> String {
    let name = facts.user.as_untrusted_str();
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits { name.to_owned() } else { format!("#{}", facts.uid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_plain_name_is_named_by_number() {
        let facts = |name: &str| HostFacts { user: name.into(), uid: 7, ..HostFacts::default() };
        assert_eq!(user(&facts("ann-marie.b_2")), "ann-marie.b_2");
        for name in ["", "ALL", "%wheel", "a b", "x,root", "+netgroup"] {
            assert_eq!(user(&facts(name)), "#7", "{name:?}");
        }
    }
}
