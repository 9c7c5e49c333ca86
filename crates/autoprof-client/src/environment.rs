//! The environment of everything that this program starts: a short list of variables, whatever the login's was.
//!
//! Tools read variables and files of their user that change what they print (`S_COLORS`, `S_TIME_FORMAT`,
//! `POSIXLY_CORRECT`, `~/.perfconfig`, `~/.toprc` …). None of that reaches them, so that their output has one format on
//! every host.
use std::{
    env,
    ffi::OsString,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use autoprof_protocol::{CLIENT_VARIABLE, Environment};

/// Where administrators' programs are; often not in the `PATH` of a login over SSH.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// `PATH` of a login that has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The directory below the client's that is `HOME` for tools.
const HOME_DIR: &str = "home";

/// What is the same everywhere.
const FIXED: [(&str, &str); 4] = [
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("TERM", "dumb"),
    // Instead of /etc/perfconfig and ~/.perfconfig; every perf reads it (tools/perf/perf.c).
    ("PERF_CONFIG", "/dev/null"),
];
/// What is passed on from the login, where it has it.
const PASSED: [&str; 2] = ["USER", "LOGNAME"];

/// The client's directory, which everything that it starts is told, so that it can be found.
static CLIENT_DIR: OnceLock<PathBuf> = OnceLock::new();

/// Sets the client's directory, once.
pub fn set_client_dir(dir: &Path) {
    let _ = CLIENT_DIR.set(dir.to_owned());
}

/// The `PATH` in which tools are looked up: the absolute directories of this process's, and the system's for
/// administrators. A relative one would be looked up in a directory of results.
pub fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let own = || env::split_paths(&path).filter(|dir| dir.is_absolute());
    let sbin = SBIN.iter().map(PathBuf::from).filter(|dir| !own().any(|own| own == *dir));
    env::join_paths(own().chain(sbin)).unwrap_or_else(|_| DEFAULT_PATH.into())
}

/// Gives a command its environment.
pub fn set(command: &mut Command, environment: Environment) {
    let dir = CLIENT_DIR.get();
    match environment {
        Environment::Clean => {
            command.env_clear();
            command.envs(FIXED);
            command.envs(PASSED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
            command.env("HOME", dir.map_or_else(|| PathBuf::from("/nonexistent"), |dir| home(dir)));
            command.env("TMPDIR", dir.map_or(Path::new("/tmp"), PathBuf::as_path));
        }
        // Plain numbers and times, in whatever the user's own command calls.
        Environment::Login => {
            command.env("LC_ALL", "C").env("TZ", "UTC");
        }
    }
    command.env("PATH", search_path());
    if let Some(dir) = dir {
        command.env(CLIENT_VARIABLE, dir);
    }
}

/// A directory with no files of the user's; what a tool keeps there is removed with the client's directory.
fn home(dir: &Path) -> PathBuf {
    let home = dir.join(HOME_DIR);
    // One that is there is used; a disk that is full leaves a home that does not exist, which is as well.
    let _ = DirBuilder::new().mode(0o700).create(&home);
    home
}
