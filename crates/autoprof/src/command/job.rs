//! `autoprof job` and `autoprof manifest`: formats, for people and editors.
use autoprof_core::{job::JobFile, manifest::Manifest};
use camino::Utf8Path;

use crate::{
    cli::{self, Global, Job, Reach, Targets},
    exit::Failure,
    print, print_json, screen, wire,
};

/// Works with job files.
pub fn job(global: &Global, job: &Job) -> Result<u8, Failure> {
    match job {
        Job::Schema => print_json(&JobFile::schema()),
        Job::Check { file } => {
            let read = wire::read_job(Some(file))?;
            let targets = Targets { job: Some(file.clone()), reach: Reach::default(), profilers: Vec::new() };
            let asked = wire::asked(global, &targets, &read)?;
            let names = asked.set.names().join(", ");
            print(&format!("{file}: {}, profilers {names}\n", screen::hosts(asked.hosts.len())));
        }
    }
    Ok(0)
}

/// Prints the JSON Schema of manifests.
pub fn manifest_schema() -> Result<u8, Failure> {
    print_json(&Manifest::json_schema());
    Ok(0)
}

/// Writes the manual's pages.
pub fn manual(directory: &Utf8Path) -> Result<u8, Failure> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(<cli::Cli as clap::CommandFactory>::command(), directory)?;
    Ok(0)
}
