//! What would run on each host: for `--dry-run` and `check`.
use std::fmt::Write;

use autoprof_core::{
    Host,
    manifest::{Manifest, ProfilerState},
    protocol::{Invocation, StopSignal},
    text::one_line,
    transport::Command,
};

/// Per host, the exact commands of every profiler, or why it cannot run there.
#[must_use]
pub fn commands(manifest: &Manifest) -> String {
    let mut out = String::new();
    for (name, host) in &manifest.hosts {
        let facts = host.facts.as_ref();
        let about = facts.map(|f| format!(" ({}, kernel {}, {} CPUs)", f.arch, f.kernel, f.cpus));
        let about = about.unwrap_or_default();
        let _ = writeln!(out, "{name}{about}{}", in_groups(&host.host));
        for error in &host.errors {
            let _ = writeln!(out, "  {}: {}", error.step, error.message);
            if let Some(hint) = &error.hint {
                let _ = writeln!(out, "    hint: {hint}");
            }
        }
        for (profiler, record) in &host.profilers {
            match (&record.invocation, &record.reason) {
                (Some(invocation), _) => {
                    let _ = writeln!(out, "  {profiler}");
                    out.push_str(&invocation_lines(invocation));
                }
                (None, reason) => {
                    let word = if record.state == ProfilerState::Skipped { "skipped" } else { "cannot run" };
                    let _ =
                        writeln!(out, "  {profiler}: {word}: {}", reason.as_deref().unwrap_or("for no known reason"));
                }
            }
        }
    }
    out
}

/// Which groups a host is in, when it is in any.
fn in_groups(host: &Host) -> String {
    let groups: Vec<String> = host.groups.iter().map(|group| one_line(group)).collect();
    if groups.is_empty() { String::new() } else { format!(" in {}", groups.join(", ")) }
}

/// The commands of one profiler, a line each.
#[must_use]
pub fn invocation_lines(invocation: &Invocation) -> String {
    let mut out = String::new();
    let mut line = |what: &str, text: String| {
        let _ = writeln!(out, "    {what:<8} {text}");
    };
    let show = |argv: &[String], stdout: Option<&String>| {
        let into = stdout.map(|file| format!(" > {file}")).unwrap_or_default();
        format!("{}{into}", Command::new(argv.iter().cloned()))
    };
    invocation.files.iter().for_each(|file| line("send", format!("{} as {}", file.from, file.name)));
    invocation.prepare.iter().for_each(|argv| line("prepare", show(argv, None)));
    if let Some(start) = &invocation.start {
        let env: String = start.env.iter().map(|(k, v)| format!("{k}={v} ")).collect();
        line("start", format!("{env}{}", show(&start.argv, start.stdout.as_ref())));
        let asked = match &start.workload {
            Some(workload) => format!("end of the input of {workload}"),
            None => signal(invocation.stop.signal).to_owned(),
        };
        line("stop", format!("{asked}, then {} s of patience", invocation.stop.grace_ms / 1000));
    }
    if let Some(samples) = &invocation.samples {
        line("sample", format!("every {} ms: {} > {}", samples.every_ms, samples.files.join(" "), samples.output));
    }
    if let Some(poll) = &invocation.poll {
        line("poll", format!("every {} ms: {}", poll.every_ms, show(&poll.argv, Some(&poll.output))));
    }
    invocation.notes.iter().for_each(|note| line("note", note.clone()));
    invocation.report.iter().for_each(|report| line("report", show(&report.argv, report.stdout.as_ref())));
    out
}

const fn signal(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::Interrupt => "SIGINT",
        StopSignal::Terminate => "SIGTERM",
        StopSignal::Hangup => "SIGHUP",
        StopSignal::User1 => "SIGUSR1",
        StopSignal::User2 => "SIGUSR2",
    }
}
