//! `autoprof report`, `view`, `show`, `compare` and `export`: what a run has to say.
use std::{
    fs::File,
    io::{BufWriter, IsTerminal, Write},
};

use autoprof_core::{
    conduct::{self, Outcome},
    manifest::{Manifest, RunPhase},
    run,
};
use autoprof_report::{
    compare::{self, Side},
    export::{self, ExportError},
    page, show,
    whole::Whole,
};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    cli::{Compare, Export, ExportFormat, Global, Past, Report, Show, View},
    command::status,
    exit::Failure,
    paint, print,
    screen::{self, Say},
    wire,
};

/// Brings the results of a run back, if that is still to be done, and writes its report.
pub fn report(global: &Global, report: &Report) -> Result<u8, Failure> {
    let which = &report.one.which;
    let directory = run::find(&which.run, &which.results)?;
    let manifest = run::read(&directory)?;
    if !conduct::is_over(&manifest) || report.no_report {
        return status::report(global, &report.one, report.no_report);
    }
    let path = page::write(&directory, &manifest)?;
    if report.one.json {
        print(&format!("{}\n", serde_json::json!({"id": manifest.id, "directory": directory, "report": path})));
    } else {
        print(&format!("{path}\n"));
    }
    Ok(0)
}

/// Writes the report at the end of a run. That it could not be written takes nothing from the run.
pub fn render(global: &Global, outcome: &Outcome) {
    if outcome.manifest.phase != RunPhase::Finished || outcome.manifest.hosts.is_empty() {
        return;
    }
    match page::write(&outcome.directory, &outcome.manifest) {
        Ok(path) if wire::say(global) >= Say::Phases => screen::plain(&format!("report: {path}\n")),
        Ok(_) => {}
        Err(problem) => screen::line(&crate::exit::with_sources(&problem)),
    }
}

/// A run that is over, with its directory.
fn past(past: &Past) -> Result<(Utf8PathBuf, Manifest), Failure> {
    let directory = run::find(&past.run, &past.results)?;
    let manifest = run::read(&directory)?;
    if manifest.phase != RunPhase::Finished {
        return Err(page::ReportError::NotOver(directory).into());
    }
    Ok((directory, manifest))
}

/// Opens the report, which is written first where there is none.
pub fn view(view: &View) -> Result<u8, Failure> {
    let (directory, manifest) = past(&view.past)?;
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
    let (directory, manifest) = past(&show.past)?;
    let figures = show::figures(&directory, &manifest);
    if show.json {
        let json = serde_json::to_string_pretty(&show::json(&manifest, &figures)).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&show::text(&manifest, &figures, paint(global, std::io::stdout().is_terminal())));
    }
    Ok(0)
}

/// Compares two runs, or two hosts.
pub fn compare(asked: &Compare) -> Result<u8, Failure> {
    if asked.other.is_none() && asked.host_b.is_none() {
        let run = &asked.a.run;
        return Err(Failure::with_hint(
            "compare needs two runs, or one run and two of its hosts",
            format!("`autoprof compare {run} OTHER`, or `autoprof compare {run} --host-a HOST --host-b HOST`"),
        ));
    }
    let (run_a, manifest_a) = past(&asked.a)?;
    let (run_b, manifest_b) = match &asked.other {
        Some(other) => past(&Past { run: other.clone(), results: asked.a.results.clone() })?,
        None => (run_a.clone(), manifest_a.clone()),
    };
    let a = side(&run_a, &manifest_a, asked.host_a.as_deref())?;
    let b = side(&run_b, &manifest_b, asked.host_b.as_deref())?;
    let comparison = compare::compare(&a, &b);
    if comparison.figures.is_empty() {
        return Err(Failure::Usage {
            message: format!("{} and {} have no figure in common", a.name(), b.name()),
            hint: Some("figures come from the profilers proc, vmstat, mpstat, iostat and sar".into()),
        });
    }
    if asked.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&comparison).unwrap_or_default()));
        return Ok(0);
    }
    print(&comparison.text());
    let path = match &asked.output {
        Some(path) => path.clone(),
        None => {
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
pub fn export(asked: &Export) -> Result<u8, Failure> {
    let (run, manifest) = past(&asked.past)?;
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
            let mut file = Whole::create(path).map_err(cannot)?;
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
