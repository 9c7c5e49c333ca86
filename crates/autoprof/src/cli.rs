//! The command line.
#![allow(rustdoc::broken_intra_doc_links, reason = "the comments are help for the terminal, where [user@] is no link")]
use crate::complete;
use autoprof_core::{args::ProfilerSpec, duration::Span, job::Require, size::Size};
use camino::Utf8PathBuf;
use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{NonEmptyStringValueParser, TypedValueParser as _},
    error::{ContextKind, ErrorKind},
};

/// Profile a fleet of Linux hosts around a test, from one place.
///
/// Starts profilers on many hosts over SSH, runs the test, stops the profilers, and brings everything back with an
/// honest record of what happened. Nothing needs to be installed on the hosts.
#[derive(Debug, Parser)]
#[command(name = "autoprof", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Examples:
  autoprof run -- sleep 5
  autoprof run -w web[01-03],db1 -p light -p perf -- ./load.sh
  autoprof run job.yaml
  autoprof check -w web[01-03] -p perf

Exit status of run: the test's own; 124 when it took longer than
--timeout; 125 when profiling failed by --require; 126 or 127 when
it cannot be run; 2 for usage; 130 after Ctrl-C, 143 after SIGTERM,
129 after SIGHUP. check: 1 when something asked for cannot run.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Subcommands,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Look for plugins here first (repeatable)
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    pub plugin_dir: Vec<Utf8PathBuf>,
    /// Load plugins, and send client programs, that other users could have replaced
    #[arg(long, global = true, help_heading = "Global options")]
    pub allow_untrusted_plugins: bool,
    /// Load only plugins whose contents this file lists, which `autoprof plugin lock` writes [default:
    /// ~/.config/autoprof/plugins.lock when it is there]
    #[arg(long, value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(Utf8PathBuf::from))]
    #[arg(env = autoprof_loader::PLUGINS_LOCK_VARIABLE, global = true, help_heading = "Global options")]
    pub plugins_lock: Option<Utf8PathBuf>,
    /// Look for client programs here first, laid out as DIR/ARCH/autoprof-client (repeatable)
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    pub client_dir: Vec<Utf8PathBuf>,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "Global options")]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, help_heading = "Global options")]
    pub color: ColorWhen,
}

/// Prints what is wrong with a command line; a test that was written without `--` before it is told where that goes.
pub fn refuse(error: &clap::Error, words: impl Iterator<Item = String>) -> std::process::ExitCode {
    let words: Vec<String> = words.collect();
    let at = words.iter().position(|word| word == "run");
    let without_dashes = error.kind() == ErrorKind::UnknownArgument && !words.iter().any(|word| word == "--");
    let wrong = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let wrong = wrong.split('=').next().unwrap_or_default();
    // A word that is no flag, or a flag after a word that is none: `run sleep 5`, `run ls -l`.
    let test = at.filter(|_| without_dashes).map(|at| &words[at + 1..]).and_then(|rest| {
        let wrong_at = rest.iter().position(|word| word.split('=').next() == Some(wrong))?;
        rest.iter()
            .take(wrong_at + 1)
            .position(|word| !word.starts_with('-'))
            .filter(|first| *first == 0 || !wrong.starts_with('-'))
    });
    match (test, at) {
        (Some(first), Some(at)) => {
            // After a flag, which words are its values is not known here.
            let line = match first {
                0 => {
                    let test: String =
                        words[at + 1..].iter().map(|word| format!(" {}", shell_words::quote(word))).collect();
                    format!("autoprof run --{test}")
                }
                _ => "autoprof run -w web01 -- sleep 5".to_owned(),
            };
            crate::screen::line(&format!("unexpected argument {wrong:?}"));
            let before = if first == 0 { ":" } else { ", as in" };
            crate::screen::plain(&format!("  hint: the test comes after --{before} `{line}`\n"));
            std::process::ExitCode::from(crate::exit::USAGE)
        }
        _ => {
            // What cannot be printed is said by the status.
            let _ = error.print();
            std::process::ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(crate::exit::USAGE))
        }
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Start profilers on the hosts, run the test, stop them, bring the results back
    Run(Box<Run>),
    /// Start profilers and leave them running; print the run's id
    Start(Box<Start>),
    /// Show runs, hosts, profilers, states
    Status(Status),
    /// Stop the profilers of a started run; results stay on the hosts until `report`
    #[command(after_help = "Examples:
  autoprof stop latest
  autoprof stop 20261122T231817Z-soak --json")]
    Stop(OneRun),
    /// Stop a started run if need be, bring its results back, clean the hosts, and write the report
    Report(Report),
    /// Open the report of a run in the browser
    View(View),
    /// Show the figures of a run and what stands out in it
    Show(Show),
    /// Say what differs between two runs, or between two hosts
    Compare(Compare),
    /// Write a run in the form that another viewer reads
    Export(Export),
    /// Go on with a run whose process is gone, from this or another machine
    Attach(Attach),
    /// Put a named instant on every host's timeline
    Mark(Mark),
    /// List runs (as `status` does)
    Ls(List),
    /// Remove a run's directory
    Rm(Remove),
    /// Find and remove what dead runs left on hosts
    Clean(Box<Clean>),
    /// Say what would work on which host, and why not
    Check(Check),
    /// Ask hosts what they have, and write a job file for them
    Init(Box<Init>),
    /// List profilers, or show one's parameters and commands
    Profilers(Profilers),
    /// Look at plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Work with job files
    #[command(subcommand)]
    Job(Job),
    /// Work with manifests of runs
    #[command(subcommand)]
    Manifest(Manifest),
    /// Write the manual's pages, for roff, into a directory: one for each command
    #[command(hide = true)]
    Manual {
        /// The directory
        directory: Utf8PathBuf,
    },
}

/// Which hosts and profilers; what is given here replaces what the job file says.
#[derive(Debug, Args)]
pub struct Targets {
    /// A job file (job.yaml)
    #[arg(value_name = "JOB")]
    pub job: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub reach: Reach,
    /// A profiler with its parameters, NAME[:KEY=VALUE,...], or a preset: light, default, heavy; or several names with
    /// commas (repeatable) [default: light]
    #[arg(short = 'p', long = "profiler", value_name = "PROFILER", add = complete::profilers())]
    pub profilers: Vec<ProfilerList>,
}

/// Profilers of one `-p`.
#[derive(Debug, Clone)]
pub struct ProfilerList(pub Vec<ProfilerSpec>);

impl std::str::FromStr for ProfilerList {
    type Err = autoprof_core::args::BadProfilerSpec;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ProfilerSpec::list(text).map(Self)
    }
}

/// Which hosts, and how they are reached.
#[derive(Debug, Default, Args)]
pub struct Reach {
    /// Hosts: [user@]host[:port], comma-separated, ranges such as web[01-16] or n[1-9/2], IPv6 in brackets, `local` for
    /// this machine; @GROUP, ^FILE, and HOSTS!HOSTS to leave some out (repeatable) [default: the file that WCOLL names,
    /// else local]
    #[arg(short = 'w', long, value_name = "HOSTS")]
    pub hosts: Vec<String>,
    /// Hosts to leave out, of the same form (repeatable)
    #[arg(short = 'x', long, value_name = "HOSTS")]
    pub exclude: Vec<String>,
    /// A file of hosts, one a line, with a label after a comma or without, # for comments; or an Ansible inventory: INI,
    /// YAML or JSON (repeatable)
    #[arg(short = 'H', long, value_name = "FILE")]
    pub hosts_file: Vec<Utf8PathBuf>,
    /// Of files of hosts, or else of the job's hosts, only those of this group (repeatable)
    #[arg(short = 'g', long, value_name = "GROUP")]
    pub group: Vec<String>,
    #[command(flatten)]
    pub ssh: Ssh,
    /// Trust the key that an unknown host shows, and remember it; changed keys are still refused
    #[arg(long, conflicts_with = "insecure_host_keys", help_heading = "SSH")]
    pub accept_new_host_keys: bool,
    /// Take any host key: whoever can answer in a host's place gets what is sent to it
    #[arg(long, help_heading = "SSH")]
    pub insecure_host_keys: bool,
    /// Transport for SSH hosts: `ssh` (built in), or `openssh` (the system's ssh, for host certificates, FIDO keys,
    /// GSSAPI, PKCS#11 and Match exec) [default: ssh]
    #[arg(long, value_name = "NAME", env = "AUTOPROF_TRANSPORT", help_heading = "SSH")]
    pub transport: Option<String>,
    /// How many hosts to connect to at the same time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub forks: Option<u32>,
    /// Run what takes root through sudo, on hosts where root has allowed exactly those commands; `check --sudoers` prints
    /// how
    #[arg(long)]
    pub sudo: bool,
    /// Directory on the hosts under which clients are installed [default: /tmp/profilers]
    #[arg(long, value_name = "DIR")]
    pub tmpdir: Option<String>,
}

/// How hosts are reached over SSH, in the words of `ssh`.
#[derive(Debug, Clone, Default, Args)]
pub struct Ssh {
    /// OpenSSH client configuration to read instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read no file. For
    /// a run that exists, the default is the configuration that the run was started with
    #[arg(long, value_name = "FILE", help_heading = "SSH")]
    pub ssh_config: Option<Utf8PathBuf>,
    /// OpenSSH option, as of `ssh -o`; it comes before the configuration (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = ssh_option, help_heading = "SSH")]
    pub ssh_option: Vec<String>,
    /// Private key file, tried before all other keys
    #[arg(short, long, value_name = "FILE", help_heading = "SSH")]
    pub identity: Option<Utf8PathBuf>,
    /// User to log in as, on hosts that -w does not name a user for
    #[arg(short, long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    #[arg(help_heading = "SSH")]
    pub login: Option<String>,
    /// Hosts to go through: [user@]host[:port], comma-separated, nearest first; `none`: directly
    #[arg(short = 'J', long, value_name = "HOSTS", value_parser = NonEmptyStringValueParser::new())]
    #[arg(help_heading = "SSH")]
    pub jump: Option<String>,
}

/// An option of OpenSSH: a keyword and its value, on one line.
fn ssh_option(text: &str) -> Result<String, String> {
    match text.split_once(|c: char| c == '=' || c.is_whitespace()) {
        Some((key, value)) if !key.is_empty() && !value.trim().is_empty() && !text.contains(['\n', '\0']) => {
            Ok(text.to_owned())
        }
        _ => Err("an option is KEY=VALUE, such as ServerAliveInterval=5".to_owned()),
    }
}

/// How a run is done and kept.
#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub targets: Targets,
    /// The run's own directory, which must not exist
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<Utf8PathBuf>,
    /// Directory that takes the run's directory, named by its id [default: autoprof-runs]
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub results: Option<Utf8PathBuf>,
    /// A name, part of the run's id
    #[arg(long)]
    pub name: Option<String>,
    /// Which hosts must be whole for the run to succeed: all, any, or N% [default: all]
    #[arg(long, value_name = "SHARE")]
    pub require: Option<Require>,
    /// Leave the clients' directories on the hosts
    #[arg(long)]
    pub keep: bool,
    /// Leave the client's program on the hosts, so that the next run need not send it (`autoprof clean` removes it)
    #[arg(long)]
    pub keep_client: bool,
    /// How long clients go on at all [default: 24h in run, 1h in start]
    #[arg(long, value_name = "TIME")]
    pub max_duration: Option<Span>,
    /// Bring results back this often while the profilers collect: a host that is lost then loses no more than that
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub checkpoint: Option<Span>,
    /// How much of a host's disk all profilers may take, such as 500M or 4G [default: half of what is free, at most 2G]
    #[arg(long, value_name = "SIZE")]
    pub host_quota: Option<Size>,
    /// How much of it one profiler may take [default: half of the host's]
    #[arg(long, value_name = "SIZE")]
    pub profiler_quota: Option<Size>,
    /// Print the exact commands that would run on each host, and run none of them
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof run -- sleep 5
  autoprof run -w web[01-02],db1 -p default -p perf:frequency=49 -- ./load.sh
  autoprof run -H inventory.ini -g db -p vmstat:5 -d 1m
  autoprof run job.yaml --dry-run")]
pub struct Run {
    #[command(flatten)]
    pub options: RunOptions,
    /// Collect for this long instead of running a command; without either, until Ctrl-C
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true)]
    pub duration: Option<Span>,
    /// How long clients go on without hearing from this process [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub lease: Option<Span>,
    /// End the test after this long (exit status 124)
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Write no report (report/index.html) at the end
    #[arg(long)]
    pub no_report: bool,
    /// The test: a command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub test: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof start -w web[01-02] --name soak
  autoprof start job.yaml --max-duration 8h --checkpoint 1m
  autoprof report latest")]
pub struct Start {
    #[command(flatten)]
    pub options: RunOptions,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof status
  autoprof status latest --json")]
pub struct Status {
    /// A run: its directory, its id or a unique beginning of it; none: all runs
    pub run: Option<String>,
    /// Directory of runs
    #[arg(long, value_name = "DIR", default_value = autoprof_core::run::DEFAULT_RESULTS)]
    pub results: Utf8PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which run, and how its hosts are reached where this machine is not the one that began it.
#[derive(Debug, Args)]
pub struct Which {
    /// The run: its directory, its id or a unique beginning of it
    pub run: String,
    /// Directory of runs
    #[arg(long, value_name = "DIR", default_value = autoprof_core::run::DEFAULT_RESULTS)]
    pub results: Utf8PathBuf,
    #[command(flatten)]
    pub ssh: Ssh,
    /// Use the run's directory although another user owns it or can write to it
    #[arg(long)]
    pub trust: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof attach latest
  autoprof attach latest -d 10m")]
pub struct Attach {
    #[command(flatten)]
    pub which: Which,
    /// Stop and report after this long; without it, when the test ends, or at Ctrl-C
    #[arg(short, long, value_name = "TIME")]
    pub duration: Option<Span>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof mark latest \"phase 2\"")]
pub struct Mark {
    #[command(flatten)]
    pub which: Which,
    /// The name
    pub name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof ls
  autoprof ls --results nightly-runs --json")]
pub struct List {
    /// Directory of runs
    #[arg(long, value_name = "DIR", default_value = autoprof_core::run::DEFAULT_RESULTS)]
    pub results: Utf8PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof rm 20261122T231817Z-soak
  autoprof rm autoprof-runs/20261122T2*")]
pub struct Remove {
    /// Runs: directories, or whole ids
    #[arg(required = true)]
    pub runs: Vec<String>,
    /// Directory of runs
    #[arg(long, value_name = "DIR", default_value = autoprof_core::run::DEFAULT_RESULTS)]
    pub results: Utf8PathBuf,
    /// Also a run that still has results, or profilers that run, on hosts: they are not touched, and nothing will know
    /// of them any more
    #[arg(long)]
    pub force: bool,
    /// Use the run's directory although another user owns it or can write to it
    #[arg(long)]
    pub trust: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof clean -w web[01-02] --dry-run
  autoprof clean -H inventory.ini --with-results")]
pub struct Clean {
    #[command(flatten)]
    pub targets: Targets,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove results that nobody has fetched as well
    #[arg(long)]
    pub with_results: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct OneRun {
    #[command(flatten)]
    pub which: Which,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof report latest
  autoprof report 20261122T231817Z-soak --no-report")]
pub struct Report {
    #[command(flatten)]
    pub one: OneRun,
    /// Only bring the results back
    #[arg(long)]
    pub no_report: bool,
}

/// A run that is over; its hosts are not needed.
#[derive(Debug, Args)]
pub struct Past {
    /// The run: its directory, its id or a unique beginning of it
    pub run: String,
    /// Directory of runs
    #[arg(long, value_name = "DIR", default_value = autoprof_core::run::DEFAULT_RESULTS)]
    pub results: Utf8PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof view latest
  autoprof view latest --print")]
pub struct View {
    #[command(flatten)]
    pub past: Past,
    /// Print where the report is, which is written if it is not there yet, and open nothing
    #[arg(long)]
    pub print: bool,
    /// Use the run's directory although another user owns it or can write to it
    #[arg(long)]
    pub trust: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof show latest
  autoprof show latest --json")]
pub struct Show {
    #[command(flatten)]
    pub past: Past,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof compare autoprof-runs/before autoprof-runs/after
  autoprof compare latest --host-a web1 --host-b web2")]
pub struct Compare {
    #[command(flatten)]
    pub a: Past,
    /// The other run; none: the same one, of which two hosts are compared
    pub other: Option<String>,
    /// Only this host of the first run
    #[arg(long, value_name = "HOST")]
    pub host_a: Option<String>,
    /// Only this host of the second run
    #[arg(long, value_name = "HOST")]
    pub host_b: Option<String>,
    /// Where the page goes [default: report/compare.html of the second run]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,
    /// Print the figures as JSON, and write no page
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof export latest --format folded | flamegraph.pl > flame.svg
  autoprof export latest --format firefox -o profile.json
  autoprof export latest --format perfetto -o trace.json
  autoprof export latest --format csv -o run.csv")]
pub struct Export {
    #[command(flatten)]
    pub past: Past,
    /// The form
    #[arg(long, value_name = "FORMAT")]
    pub format: ExportFormat,
    /// Where it goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,
}

/// A time that passes.
fn some_time(text: &str) -> Result<Span, String> {
    match text.parse::<Span>() {
        Ok(Span(time)) if time.is_zero() => Err("0 is too short".to_owned()),
        other => other.map_err(|e| e.to_string()),
    }
}

/// A form that other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Stacks, a line each: flamegraph.pl, inferno, speedscope
    Folded,
    /// Stacks for profiler.firefox.com
    Firefox,
    /// Figures as counters for ui.perfetto.dev
    Perfetto,
    /// Every number of every table, a row each
    Csv,
    /// The same as Parquet: pandas, DuckDB
    Parquet,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof check -w web[01-02] -p default -p perf:call_graph=lbr
  autoprof check job.yaml
  autoprof check -w web01 -p perf --sudoers > allow.sh")]
pub struct Check {
    #[command(flatten)]
    pub targets: Targets,
    /// Print what root has to put on the hosts so that the profilers can run with --sudo, as a shell script
    #[arg(long, conflicts_with = "json")]
    pub sudoers: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof init -w web[01-02],db1
  autoprof init -H inventory.ini -g db -o db.yaml")]
pub struct Init {
    #[command(flatten)]
    pub reach: Reach,
    /// Where to write it
    #[arg(short, long, value_name = "FILE", default_value = "job.yaml")]
    pub output: Utf8PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  autoprof profilers
  autoprof profilers perf")]
pub struct Profilers {
    /// The profiler to show
    #[arg(add = complete::profilers())]
    pub name: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// List plugins: name, kind, version, file, state; runs no code of theirs
    #[command(after_help = "Examples:
  autoprof plugin list
  autoprof plugin list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a crate with a profiler of your own, which builds, passes its tests and runs as it is
    #[command(after_help = "Examples:
  autoprof plugin new run-queue
  autoprof plugin new run-queue --autoprof ../autoprof -o rq")]
    New {
        /// What the profiler is to be called
        name: String,
        /// A clone of autoprof to build against, instead of the version in the registry
        #[arg(long, value_name = "DIR")]
        autoprof: Option<Utf8PathBuf>,
        /// Where to write it [default: autoprof-profiler-NAME]
        #[arg(short, long, value_name = "DIR")]
        output: Option<Utf8PathBuf>,
    },
    /// Load a plugin and say whether its profilers keep what autoprof relies on; exit status 1 when one does not
    #[command(after_help = "Examples:
  autoprof plugin test target/release/libautoprof_profiler_run_queue.so")]
    Test {
        /// The plugin's file
        file: Utf8PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write down the contents of all usable plugins: from then on only these are loaded; runs no code of theirs
    #[command(after_help = "Examples:
  autoprof plugin lock
  autoprof plugin lock -o plugins.lock")]
    Lock {
        /// Where to write [default: the file of --plugins-lock, or ~/.config/autoprof/plugins.lock]
        #[arg(short, long, value_name = "FILE")]
        output: Option<Utf8PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Job {
    /// Print the JSON Schema of job files
    #[command(after_help = "Examples:
  autoprof job schema > job.schema.json")]
    Schema,
    /// Read a job file and say what is wrong with it; touches no host
    #[command(after_help = "Examples:
  autoprof job check job.yaml")]
    Check {
        /// The job file
        file: Utf8PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// Print the JSON Schema of manifests
    #[command(after_help = "Examples:
  autoprof manifest schema > manifest.schema.json")]
    Schema,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command that does something, with its name.
    fn commands(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let below = |sub: &clap::Command| commands(sub, &format!("{name} {}", sub.get_name()));
        let subs: Vec<_> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).flat_map(below).collect();
        if subs.is_empty() { vec![(name.to_owned(), command.clone())] } else { subs }
    }

    #[test]
    fn every_command_has_examples_that_are_commands() {
        let all = commands(&Cli::command(), "autoprof");
        assert!(all.len() > 20, "{all:?}");
        for (name, command) in all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("{name}: {help:?}"));
            assert!(examples.lines().any(|line| line.trim().starts_with(&name)), "{name}: {examples}");
            for line in examples.lines() {
                let words = shell_words::split(line.split(['|', '>']).next().unwrap()).unwrap();
                Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            }
        }
    }

    #[test]
    fn a_job_and_a_command_are_told_apart() {
        let parse = |args: &[&str]| match Cli::try_parse_from(args).unwrap().command {
            Subcommands::Run(run) => (run.options.targets.job.map(String::from), run.test),
            _ => panic!("not run"),
        };
        assert_eq!(parse(&["autoprof", "run", "job.yaml"]), (Some("job.yaml".into()), vec![]));
        assert_eq!(parse(&["autoprof", "run", "--", "sleep", "5"]), (None, vec!["sleep".into(), "5".into()]));
        assert_eq!(parse(&["autoprof", "run", "j", "--", "-x"]), (Some("j".into()), vec!["-x".into()]));
    }
}
