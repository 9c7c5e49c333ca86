//! `autoprof check`, and the survey behind `--dry-run`.
use std::{io::IsTerminal, sync::Arc};

use autoprof_core::{
    Host,
    event::RunEventKind,
    job::Require,
    manifest::{HostRecord, Manifest, ProfilerState, RunSettings, Sudo},
    profilers::Profilers,
    run::Recorder,
};
use autoprof_report::{
    sudoers::sudoers,
    summary::{Paint, summary},
};

use crate::{
    cli::{Check, Global},
    command::run::runtime,
    exit::Failure,
    paint, print, print_json,
    wire::{self, Asked, Life},
};

/// Says what would work on which host, and why not.
pub fn check(global: &Global, check: &Check) -> Result<u8, Failure> {
    let job = wire::read_job(check.targets.job.as_deref())?;
    let asked = wire::asked(global, &check.targets, &job)?;
    let mut settings = wire::settings(&check.targets.reach, &job, None, Life::Attached { lease: None });
    if check.sudoers {
        settings.sudo = Sudo::Assumed;
    }
    let survey = survey(global, settings, asked)?;
    if check.sudoers {
        print(&sudoers(&survey));
    } else if check.json {
        print_json(&survey.hosts);
    } else {
        print(&verdicts(&survey, paint(global, std::io::stdout().is_terminal())));
    }
    Ok(u8::from(!all_can_run(&survey)))
}

/// Connects to the hosts, finds out what would run there, and leaves nothing behind.
pub fn survey(global: &Global, settings: RunSettings, asked: Asked) -> Result<Manifest, Failure> {
    let scratch = tempfile::Builder::new().prefix("autoprof-check-").tempdir()?;
    let directory = camino::Utf8PathBuf::from_path_buf(scratch.path().to_owned())
        .map_err(|path| Failure::usage(format!("{} is not UTF-8", path.display())))?;
    let created = RunEventKind::Created {
        id: "check".into(),
        autoprof: env!("CARGO_PKG_VERSION").into(),
        controller: String::new(),
        require: Require::All,
        test: None,
        hosts: asked.hosts.clone(),
        settings: Box::new(settings.clone()),
    };
    let recorder = Arc::new(Recorder::create(directory, created, Vec::new())?);
    let store = Arc::new(wire::store(global)?);
    let mut profilers = Profilers::new(asked.set, asked.registry, Arc::clone(&recorder), store, settings);
    runtime()?.block_on(visit(&mut profilers, &asked.hosts));
    Ok(recorder.manifest())
}

async fn visit(profilers: &mut Profilers, hosts: &[Host]) {
    profilers.survey(hosts).await;
    profilers.abort().await;
}

/// Whether every profiler that was named, and every host, would work.
pub fn all_can_run(survey: &Manifest) -> bool {
    survey.hosts.values().all(HostRecord::is_usable)
}

fn verdicts(survey: &Manifest, paint: Paint) -> String {
    let mut shown = survey.clone();
    for host in shown.hosts.values_mut() {
        for profiler in host.profilers.values_mut().filter(|p| p.state == ProfilerState::Pending) {
            profiler.state = ProfilerState::Ok;
        }
    }
    summary(&shown, paint)
}
