//! `autoprof run` and `autoprof start`.
use std::{io::IsTerminal, sync::Arc};

use autoprof_core::{
    conduct::{self, End, Outcome, Work},
    duration::Span,
    job::JobFile,
    manifest::RunPhase,
};
use autoprof_report::summary::summary;

use crate::{
    cli::{Global, Run, RunOptions, Start},
    command::{check, report::render},
    exit::{self, Failure},
    interrupt, paint, print, print_json,
    screen::{Say, Screen, TestStdout},
    wire::{self, Asked, Life},
};

/// A runtime for one command.
///
/// # Errors
/// When the system gives no threads or descriptors.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Profiles hosts around a test.
pub fn run(global: &Global, run: &Run) -> Result<u8, Failure> {
    let options = &run.options;
    if let (Some(span), Some(program)) = (run.duration, run.test.first()) {
        return Err(Failure::with_hint(
            format!("-d {span} and the test {program:?} exclude each other: the profilers run as long as the test"),
            format!("leave -d out; to end the test after that time, write --timeout {span} instead"),
        ));
    }
    let job = wire::read_job(options.targets.job.as_deref())?;
    let asked = wire::asked(global, &options.targets, &job)?;
    let test = wire::test(&run.test, run.timeout, &job).filter(|_| run.duration.is_none());
    if options.dry_run {
        return dry_run(global, options, &job, asked);
    }
    // Asked before any host is disturbed: nobody waits for a fleet to learn of a typing error.
    if let Some(test) = &test {
        test.check().map_err(|end| Failure::TestNotRun {
            status: end.status,
            code: end.exit_code,
            program: test.argv[0].clone(),
        })?;
    }
    let work = match (test, run.duration) {
        (Some(test), _) => Work::Test(test),
        (None, Some(span)) => Work::Wait(span),
        (None, None) => Work::UntilInterrupted,
    };
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let interrupts = interrupt::listen()?;
    let screen = Arc::new(Screen::new(wire::say(global)));
    let stdout = if options.json { TestStdout::Stderr } else { TestStdout::Stdout };
    let env = wire::environment(global, Arc::clone(&asked.registry), interrupts, &screen, stdout)?;
    if work == Work::UntilInterrupted && wire::say(global) >= Say::Phases {
        crate::screen::line("no test and no duration: profiling until Ctrl-C");
    }
    let plan = wire::plan(asked, options, &job, work, Life::Attached { lease: run.lease });
    let outcome = runtime.block_on(conduct::conduct(plan, env));
    screen.close();
    let outcome = outcome?;
    conclude(global, &outcome, options.json);
    let code = exit::of_run(&outcome);
    let code = if run.no_report { code } else { render(global, &outcome, code) };
    // Plugins have threads of their own; what a second interruption left running must not hold the exit.
    runtime.shutdown_background();
    Ok(code)
}

/// Starts profilers and leaves them running.
pub fn start(global: &Global, start: &Start) -> Result<u8, Failure> {
    let options = &start.options;
    let job = wire::read_job(options.targets.job.as_deref())?;
    let asked = wire::asked(global, &options.targets, &job)?;
    if options.dry_run {
        return dry_run(global, options, &job, asked);
    }
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let interrupts = interrupt::listen()?;
    let screen = Arc::new(Screen::new(wire::say(global)));
    let env = wire::environment(global, Arc::clone(&asked.registry), interrupts, &screen, TestStdout::Stdout)?;
    let plan = wire::plan(asked, options, &job, Work::UntilInterrupted, Life::Detached);
    let ends = Span(std::time::Duration::from_millis(plan.settings.max_duration_ms));
    if job.test.is_some() {
        crate::screen::line("start runs no test: the job's test is left out (`autoprof run` runs it)");
    }
    let outcome = runtime.block_on(conduct::start(plan, env));
    screen.close();
    let outcome = outcome?;
    if outcome.end != End::Complete {
        conclude(global, &outcome, options.json);
        return Ok(exit::of_run(&outcome));
    }
    if options.json {
        print_json(&result_json(&outcome));
    } else {
        print(&format!("{}\n", outcome.manifest.id));
    }
    if wire::say(global) >= Say::Phases {
        let run = &outcome.directory;
        crate::screen::line(&format!("profiling goes on; `autoprof report {run}` ends it and brings the results back"));
        crate::screen::line(&format!("it ends by itself after {ends} (--max-duration)"));
    }
    Ok(0)
}

fn dry_run(global: &Global, options: &RunOptions, job: &JobFile, asked: Asked) -> Result<u8, Failure> {
    let settings = wire::settings(&options.targets.reach, job, Some(options), Life::Attached { lease: None });
    let survey = check::survey(global, settings, asked)?;
    if options.json {
        print_json(&survey.hosts);
    } else {
        print(&autoprof_report::plan::commands(&survey));
    }
    Ok(if check::all_can_run(&survey) { 0 } else { exit::PROFILING_FAILED })
}

/// Says how the run went and where its results are.
pub fn conclude(global: &Global, outcome: &Outcome, json: bool) {
    if json {
        print_json(&result_json(outcome));
    }
    let paint = paint(global, std::io::stderr().is_terminal());
    if wire::say(global) >= Say::Phases {
        crate::screen::plain(&summary(&outcome.manifest, paint));
    }
    match &outcome.end {
        End::Complete => {}
        End::NotStarted => {
            crate::screen::line("the test was not run: too few hosts could begin (--require says how many must)");
        }
        End::Interrupted(by) => crate::screen::line(&format!("interrupted by {by}; what was collected is here")),
        End::GivenUp(by) => crate::screen::line(&format!("given up after a second {by}")),
    }
    if outcome.manifest.phase == RunPhase::Stopped && outcome.end == End::Complete {
        let run = &outcome.directory;
        crate::screen::line(&format!("the data is on the hosts; `autoprof report {run}` brings it back"));
        return;
    }
    if let Some(problem) = &outcome.unrecorded {
        let text = exit::with_sources(problem);
        crate::screen::line(&format!("not all of this is on record: {text}; free some space, then `autoprof report`"));
    }
    for (host, directory) in &outcome.left {
        crate::screen::line(&format!("left on {host}: {directory}"));
    }
    if !outcome.left.is_empty() && matches!(outcome.end, End::GivenUp(_)) {
        let run = &outcome.directory;
        crate::screen::line(&format!("`autoprof report {run}` ends what still runs and brings back what is there"));
    }
    if wire::say(global) >= Say::Phases {
        crate::screen::plain(&format!("results: {}\n", outcome.directory));
    }
}

/// The machine-readable result.
fn result_json(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "id": outcome.manifest.id,
        "directory": outcome.directory,
        "exit_status": exit::of_run(outcome),
        "left": outcome.left.iter().map(|(host, dir)| serde_json::json!({"host": host, "directory": dir})).collect::<Vec<_>>(),
        "manifest": outcome.manifest,
    })
}
