//! The program that autoprof puts on hosts.
//!
//! It knows no profiler and no plugin: it runs what the control file says, waits for markers, and says what it did.
//! One directory is one client; everything that it makes is in there.

mod attach;
mod clean;
mod clock;
mod daemon;
mod events;
mod facts;
mod launch;
mod lease;
mod marker;
mod pack;
mod poll;
mod profiler;
mod sampler;
mod sys;
mod tool;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use autoprof_protocol::ToolProbe;
use rustix::fs::Mode;

const USAGE: &str = "usage: autoprof-client COMMAND
  facts DIR [PROGRAM[:VERSION-FLAG]…]   what this host is and can do, as JSON
  launch DIR                            take a control file on standard input, leave a client running in DIR
  run DIR                               be that client, in the foreground
  attach DIR [EVENT-NUMBER]             markers in (start, stop, report, beat), events out
  pack DIR                              write the results as an archive to standard output
  clean DIR                             end the client of DIR and remove DIR
  version
Signals by hand: echo A > DIR/profiler.start (then .stop, then .report)";

fn main() -> ExitCode {
    sys::reset_signal_dispositions();
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["facts", dir, probes @ ..] => print_facts(Path::new(dir), probes),
        ["launch", dir] => directory(dir).and_then(|dir| launch::launch(&dir)),
        ["run", dir] => directory(dir).and_then(|dir| {
            // Fails for a group leader, which a person's shell has made it: it is on its own then as well.
            let _ = rustix::process::setsid();
            daemon::run(&dir)
        }),
        ["attach", dir] => directory(dir).and_then(|dir| attach::attach(&dir, 0)),
        ["attach", dir, after] => match after.parse() {
            Ok(after) => directory(dir).and_then(|dir| attach::attach(&dir, after)),
            Err(e) => Err(io::Error::other(format!("event number {after}: {e}"))),
        },
        ["pack", dir] => directory(dir).and_then(|dir| pack::pack(&dir)),
        ["clean", dir] => directory(dir).and_then(|dir| clean::clean(&dir)),
        ["version" | "--version"] => {
            println!("autoprof-client {} protocol {}", env!("CARGO_PKG_VERSION"), autoprof_protocol::PROTOCOL_VERSION);
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("autoprof-client: {e}");
            ExitCode::FAILURE
        }
    }
}

fn directory(dir: &str) -> io::Result<PathBuf> {
    Path::new(dir).canonicalize().map_err(|e| io::Error::new(e.kind(), format!("{dir}: {e}")))
}

fn print_facts(dir: &Path, probes: &[&str]) -> io::Result<()> {
    let probes: Vec<ToolProbe> = probes.iter().filter_map(|p| p.parse().ok()).collect();
    println!("{}", serde_json::to_string(&facts::gather(dir, &probes))?);
    Ok(())
}

/// A line in the client's log, which comes back with the results.
fn log(message: &str) {
    eprintln!("{:.3} {message}", clock::now().unix_seconds());
}
