//! `autoprof init`: a job file to begin with, of what hosts were found to have.
use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Write as _},
    sync::Arc,
};

use autoprof_core::{
    Args, Value,
    atomic_file::AtomicFile,
    encoder::ProfilerInfo,
    job::JobFile,
    manifest::{Manifest, Readiness},
    profiler::Origin,
    profilers::ProfilerSet,
};
use autoprof_report::starter::{Choice, job_file};
use camino::Utf8Path;

use crate::{
    cli::{Global, Init, Reach},
    command::check,
    exit::Failure,
    files, print, screen,
    wire::{self, Asked, Life},
};

/// Asks hosts what they have, and writes a job file for them.
pub fn init(global: &Global, init: &Init) -> Result<u8, Failure> {
    // Asked before any host is disturbed, and again by the system when the file is made.
    if !init.force && init.output.symlink_metadata().is_ok() {
        return Err(there_already(&init.output));
    }
    let nothing = JobFile::default();
    let hosts = wire::hosts(&init.reach, &nothing)?;
    let plugins = wire::plugins(global)?;
    let mut infos: Vec<&ProfilerInfo> = plugins.profilers().map(|(info, _)| info).collect();
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    let names = infos.iter().map(|info| info.name.as_ref());
    let registry = Arc::new(wire::registry(global, names, wire::transports(&hosts), wire::signaler(&nothing))?);
    let mut choice = Choice { settings: settings(&init.reach), ..Choice::default() };
    let mut set = ProfilerSet::new();
    for info in infos {
        // What refuses no arguments wants some.
        match set.add(&registry, &info.name, &Args::new(), Origin::Named) {
            Ok(()) => choice.tried.push(info),
            Err(_) => choice.need_arguments.push(info),
        }
    }
    files::allow(hosts.len());
    let asked = Asked { hosts: hosts.into_iter().map(|known| known.host).collect(), set, registry };
    let settings = wire::settings(&init.reach, &nothing, None, Life::Attached { lease: None });
    let survey = check::survey(global, settings, asked)?;
    let lost = say_lost(&survey);
    if lost == survey.hosts.len() {
        return Err(Failure::with_hint(
            "no host could be looked at, so that nothing is written",
            "a host that `ssh HOST` reaches without questions needs nothing more",
        ));
    }
    let text = job_file(&survey, &choice);
    // Whatever hosts say of themselves: what is written is a job.
    JobFile::parse(&text).map_err(|source| Failure::Job { path: init.output.clone(), source })?;
    write(init, &text)?;
    let file = &init.output;
    print(&format!(
        "{file} is written, for {} of {} hosts. Put your test into it, then:\n  autoprof check {file}\n  \
         autoprof run {file} --dry-run\n  autoprof run {file}\n",
        survey.hosts.len() - lost,
        survey.hosts.len(),
    ));
    Ok(u8::from(lost > 0))
}

/// What was said on the command line of how hosts are reached, as a job file says it.
fn settings(reach: &Reach) -> Vec<String> {
    let text = |text: &str| Value::Str(text.to_owned());
    let mut ssh = Vec::new();
    ssh.extend(reach.ssh.ssh_config.as_ref().map(|file| format!("config: {}", text(file.as_str()))));
    // Each keyword once, and of two values the first one counts.
    let mut seen = BTreeSet::new();
    let options = reach.ssh.ssh_option.iter().filter_map(|option| option.split_once(|c: char| "= \t".contains(c)));
    let options = options.filter(|(key, _)| seen.insert(key.to_ascii_lowercase()));
    let options: Vec<_> = options.map(|(key, value)| format!("{key}: {}", text(value.trim()))).collect();
    ssh.extend((!options.is_empty()).then(|| format!("options: {{{}}}", options.join(", "))));
    // Keys that were accepted are known from now on; those that are not asked for are not.
    ssh.extend(reach.insecure_host_keys.then(|| "host_keys: insecure".to_owned()));
    let mut lines = Vec::new();
    lines.extend((!ssh.is_empty()).then(|| format!("ssh: {{{}}}", ssh.join(", "))));
    lines.extend(reach.tmpdir.as_ref().map(|tmpdir| format!("tmpdir: {}", text(tmpdir))));
    lines.extend(reach.forks.map(|forks| format!("forks: {forks}")));
    lines.extend(reach.sudo.then(|| "sudo: true".to_owned()));
    lines
}

/// Says which hosts could not be looked at, and gives their number.
fn say_lost(survey: &Manifest) -> usize {
    let lost = survey.hosts.values().filter(|host| host.readiness != Readiness::Surveyed);
    lost.map(|host| {
        for error in &host.errors {
            screen::line(&format!("{}: {}: {}", host.host, error.step, error.message));
            if let Some(hint) = &error.hint {
                screen::plain(&format!("  hint: {hint}\n"));
            }
        }
    })
    .count()
}

fn write(init: &Init, text: &str) -> Result<(), Failure> {
    let written = if init.force && (init.output.is_file() || !init.output.exists()) {
        AtomicFile::create(&init.output)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.finish()))
    } else if init.force {
        // A device or a FIFO.
        File::create(&init.output).and_then(|mut file| file.write_all(text.as_bytes()))
    } else {
        File::create_new(&init.output).and_then(|mut file| {
            // What is half there would be taken for somebody's own file by the next try.
            file.write_all(text.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(&init.output)))
        })
    };
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(there_already(&init.output)),
        Err(e) => Err(Failure::usage(format!("cannot write {}: {e}", init.output))),
    }
}

fn there_already(file: &Utf8Path) -> Failure {
    Failure::with_hint(format!("{file} is there already"), "--force replaces it; -o names another file")
}
