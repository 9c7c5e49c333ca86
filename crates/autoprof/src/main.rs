//! The command line of autoprof: wiring, progress and exit statuses. What is done is done in `autoprof-core`.

mod cli;
mod command;
mod complete;
mod exit;
mod files;
mod hosts;
mod interrupt;
mod memory;
mod output;
mod screen;
mod ssh;
mod wire;

use std::{io::IsTerminal, process::ExitCode};

use autoprof_report::summary::Paint;
use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    cli::{Cli, ColorWhen, Global, Subcommands},
    output::{print, print_json},
};

fn main() -> ExitCode {
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::from(output::finish(0)),
        Err(e) => return help(&e),
    }
    let hidden = memory::hide();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => return cli::refuse(&e, std::env::args().skip(1)),
        Err(e) => return help(&e),
    };
    log_to_stderr(&cli.global);
    if let Err(e) = hidden {
        screen::line(&format!("passphrases may end up in a core dump: the system does not keep them out: {e}"));
    }
    let result = match &cli.command {
        Subcommands::Run(run) => command::run::run(&cli.global, run),
        Subcommands::Start(start) => command::run::start(&cli.global, start),
        Subcommands::Status(status) => command::status::status(&cli.global, status),
        Subcommands::Stop(stop) => command::status::stop(&cli.global, stop),
        Subcommands::Report(report) => command::report::report(&cli.global, report),
        Subcommands::View(view) => command::report::view(&cli.global, view),
        Subcommands::Show(show) => command::report::show(&cli.global, show),
        Subcommands::Compare(compare) => command::report::compare(&cli.global, compare),
        Subcommands::Export(export) => command::report::export(&cli.global, export),
        Subcommands::Attach(attach) => command::status::attach(&cli.global, attach),
        Subcommands::Mark(mark) => command::status::mark(&cli.global, mark),
        Subcommands::Ls(list) => command::status::list(&cli.global, list),
        Subcommands::Rm(remove) => command::retention::remove(&cli.global, remove),
        Subcommands::Clean(clean) => command::retention::clean(&cli.global, clean),
        Subcommands::Init(init) => command::init::init(&cli.global, init),
        Subcommands::Check(check) => command::check::check(&cli.global, check),
        Subcommands::Profilers(profilers) => command::profilers::profilers(&cli.global, profilers),
        Subcommands::Plugin(cli::Plugin::List { json }) => command::profilers::plugins(&cli.global, *json),
        Subcommands::Plugin(cli::Plugin::New { name, autoprof, output }) => {
            command::author::new(name, autoprof.as_deref(), output.as_deref())
        }
        Subcommands::Plugin(cli::Plugin::Test { file, json }) => command::author::test(&cli.global, file, *json),
        Subcommands::Plugin(cli::Plugin::Lock { output }) => command::lock::lock(&cli.global, output.as_deref()),
        Subcommands::Job(job) => command::job::job(&cli.global, job),
        Subcommands::Manifest(cli::Manifest::Schema) => command::job::manifest_schema(),
        Subcommands::Manual { directory } => command::job::manual(directory),
    };
    ExitCode::from(output::finish(result.unwrap_or_else(|failure| failure.report())))
}

/// Prints the help or the version.
fn help(e: &clap::Error) -> ExitCode {
    let code = u8::try_from(e.exit_code()).unwrap_or(exit::USAGE);
    if let Err(problem) = e.print() {
        output::fail(problem);
    }
    ExitCode::from(output::finish(code))
}

fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(screen::log_writer)
        .with_ansi(paint(global, std::io::stderr().is_terminal()) == Paint::Colour)
        .with_target(global.verbose > 1)
        .without_time()
        .init();
}

/// Whether to use colours on a stream.
fn paint(global: &Global, terminal: bool) -> Paint {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match global.color {
        ColorWhen::Always => Paint::Colour,
        ColorWhen::Auto if terminal && !no_color => Paint::Colour,
        ColorWhen::Auto | ColorWhen::Never => Paint::Plain,
    }
}
