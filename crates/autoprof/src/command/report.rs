//! `autoprof report`, `view`, `show`, `compare` and `export`: what a run has to say.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, IsTerminal, Write},
};

use autoprof_core::{
    atomic_file::AtomicFile,
    conduct::{self, Outcome},
    manifest::{Manifest, RunPhase},
    run::{self, RunError},
    trust::Trust,
};
use autoprof_report::{
    compare::{self, Side},
    export::{self, ExportError},
    page, show,
};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    cli::{Compare, Export, ExportFormat, Global, Past, Report, Show, View},
    command::status,
    exit::{self, Failure},
    paint, print, print_json,
    screen::{self, Say},
    wire,
};

/// Brings the results of a run back, if that is still to be done, and writes its report.
pub fn report(global: &Global, report: &Report) -> Result<u8, Failure> {
    let which = &report.one.which;
    let directory = run::find(&which.run, &which.results)?;
    run::check(&directory, wire::run_trust(which.trust))?;
    let mut manifest = run::read(&directory)?;
    if !conduct::is_over(&manifest) || report.no_report {
        return status::report(global, &report.one, report.no_report);
    }
    describe_old(global, &mut manifest);
    let path = page::write(&directory, &manifest)?;
    if report.one.json {
        print_json(&serde_json::json!({"id": manifest.id, "directory": directory, "report": path}));
    } else {
        print(&format!("{path}\n"));
    }
    Ok(0)
}

/// Writes the report at the end of a run, and gives the exit status: that the report could not be written takes nothing
/// from the run's data, but a status of 0 would say that it is there.
pub fn render(global: &Global, outcome: &Outcome, code: u8) -> u8 {
    if outcome.manifest.phase != RunPhase::Finished || outcome.manifest.hosts.is_empty() {
        return code;
    }
    match page::write(&outcome.directory, &outcome.manifest) {
        Ok(path) if wire::say(global) >= Say::Phases => screen::plain(&format!("report: {path}\n")),
        Ok(_) => {}
        Err(problem) => {
            screen::line(&exit::with_sources(&problem));
            if code == 0 {
                return exit::PROFILING_FAILED;
            }
        }
    }
    code
}

/// Takes what tables measure from the notes of today's plugins, for a run from before runs recorded it.
fn describe_old(global: &Global, manifest: &mut Manifest) {
    if !manifest.tables.is_empty() {
        return;
    }
    // Without plugins the run is reported by the units in its columns' names.
    let Ok(plugins) = wire::plugins(global) else { return };
    let names: BTreeSet<&String> = manifest.hosts.values().flat_map(|host| host.profilers.keys()).collect();
    let of_run = plugins.profilers().filter(|(info, _)| names.iter().any(|name| **name == info.name));
    let described = of_run.filter(|(info, _)| !info.tables.is_empty());
    let described: BTreeMap<_, _> = described.map(|(info, _)| (info.name.to_string(), info.tables.to_vec())).collect();
    manifest.tables = described;
}

/// A run that is over, with its directory. Only the files in it are read, so that it may be somebody else's unless something
/// is written there.
fn past(global: &Global, past: &Past, trust: Trust) -> Result<(Utf8PathBuf, Manifest), Failure> {
    let directory = run::find(&past.run, &past.results)?;
    run::check(&directory, trust)?;
    let mut manifest = run::read(&directory)?;
    if manifest.phase != RunPhase::Finished {
        return Err(page::ReportError::NotOver(directory).into());
    }
    describe_old(global, &mut manifest);
    Ok((directory, manifest))
}

/// Opens the report, which is written first where there is none.
pub fn view(global: &Global, view: &View) -> Result<u8, Failure> {
    let (directory, manifest) = past(global, &view.past, wire::run_trust(view.trust))?;
    let there = directory.join("report/index.html");
    let path = if there.exists() { there } else { page::write(&directory, &manifest)? };
    print(&format!("{path}\n"));
    if !view.print {
        open::that_detached(path.as_std_path()).map_err(|problem| Failure::Usage {
            message: format!("no browser could be started: {problem}"),
            hint: Some(format!("open {path} in one, or copy it to where there is one: the file needs nothing else")),
        })?;
    }
    Ok(0)
}

/// Shows the figures in the terminal.
pub fn show(global: &Global, show: &Show) -> Result<u8, Failure> {
    let (directory, manifest) = past(global, &show.past, Trust::Any)?;
    let figures = show::figures(&directory, &manifest);
    if show.json {
        print_json(&show::json(&manifest, &figures));
    } else {
        print(&show::text(&manifest, &figures, paint(global, std::io::stdout().is_terminal())));
    }
    Ok(0)
}

/// Compares two runs, or two hosts.
pub fn compare(global: &Global, asked: &Compare) -> Result<u8, Failure> {
    if asked.other.is_none() && asked.host_b.is_none() {
        let run = &asked.a.run;
        return Err(Failure::with_hint(
            "compare needs two runs, or one run and two of its hosts",
            format!("`autoprof compare {run} OTHER`, or `autoprof compare {run} --host-a HOST --host-b HOST`"),
        ));
    }
    let (run_a, manifest_a) = past(global, &asked.a, Trust::Any)?;
    let (run_b, manifest_b) = match &asked.other {
        Some(other) => past(global, &Past { run: other.clone(), results: asked.a.results.clone() }, Trust::Any)?,
        None => (run_a.clone(), manifest_a.clone()),
    };
    let a = side(&run_a, &manifest_a, asked.host_a.as_deref())?;
    let b = side(&run_b, &manifest_b, asked.host_b.as_deref())?;
    let comparison = compare::compare(&a, &b);
    if comparison.figures.is_empty() {
        return Err(Failure::Usage {
            message: format!("{} and {} have no figure in common", a.name(), b.name()),
            hint: Some("figures come from profilers that declare quantities, such as those of `-p light`".into()),
        });
    }
    if asked.json {
        print_json(&comparison);
        return Ok(0);
    }
    print(&comparison.text());
    let path = match &asked.output {
        Some(path) => path.clone(),
        None => {
            run::check(&run_b, Trust::Owned).map_err(|e| match e {
                RunError::Untrusted { .. } => Failure::with_hint(
                    format!("cannot write the comparison into {run_b}, which another user owns or can write to"),
                    "name another file with -o",
                ),
                other => other.into(),
            })?;
            std::fs::create_dir_all(run_b.join("report"))?;
            run_b.join("report/compare.html")
        }
    };
    compare::write(&path, &comparison, compare::folded(&a, &b)?.as_deref())?;
    screen::plain(&format!("report: {path}\n"));
    Ok(0)
}

fn side<'a>(run: &'a Utf8Path, manifest: &'a Manifest, host: Option<&'a str>) -> Result<Side<'a>, Failure> {
    if let Some(host) = host.filter(|host| !manifest.hosts.contains_key(*host)) {
        let there: Vec<&str> = manifest.hosts.keys().map(String::as_str).collect();
        return Err(Failure::Usage {
            message: format!("{} has no host {host:?}", manifest.id),
            hint: Some(format!("it has {}", there.join(", "))),
        });
    }
    Ok(Side { run, manifest, host })
}

/// Writes a run for another viewer.
pub fn export(global: &Global, asked: &Export) -> Result<u8, Failure> {
    let (run, manifest) = past(global, &asked.past, Trust::Any)?;
    let write = |out: &mut (dyn Write + Send)| match asked.format {
        ExportFormat::Folded => export::folded(&run, &manifest, out),
        ExportFormat::Firefox => export::firefox(&run, &manifest, out),
        ExportFormat::Perfetto => export::perfetto(&run, &manifest, out),
        ExportFormat::Csv => export::csv(&run, &manifest, out),
        ExportFormat::Parquet => export::parquet(&run, &manifest, out),
    };
    match &asked.output {
        Some(path) => {
            let cannot = |e: std::io::Error| Failure::usage(format!("cannot write {path}: {e}"));
            if path.exists() && !path.is_file() {
                // A device or a FIFO.
                let mut out = BufWriter::new(File::create(path).map_err(cannot)?);
                write(&mut out).and_then(|()| Ok(out.flush()?))?;
                return Ok(0);
            }
            let mut file = AtomicFile::create(path).map_err(cannot)?;
            let written = write(&mut file);
            // What can be had is in it.
            if matches!(written, Ok(()) | Err(ExportError::Incomplete(_))) {
                file.finish().map_err(ExportError::Io)?;
            }
            written?;
        }
        None if asked.format == ExportFormat::Parquet && std::io::stdout().is_terminal() => {
            return Err(Failure::usage("Parquet is nothing for a terminal: -o names a file"));
        }
        None => {
            let mut out = BufWriter::new(std::io::stdout());
            // A reader that is gone (`| head`) is no error.
            match write(&mut out).and_then(|()| Ok(out.flush()?)) {
                Err(problem) if problem.is_broken_pipe() => {}
                done => done?,
            }
        }
    }
    Ok(0)
}
