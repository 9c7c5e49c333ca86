//! The program that autoprof puts on hosts.
//!
//! It knows no profiler and no plugin: it runs what the control file says, waits for markers, and says what it did.
//! One directory is one client; everything that it makes is in there.

mod attach;
mod clean;
mod clock;
mod clockset;
mod daemon;
mod disk;
mod environment;
mod events;
mod facts;
mod launch;
mod lease;
mod marker;
mod pack;
mod poll;
mod profiler;
mod sampler;
mod scheduling;
mod settings;
mod squeeze;
mod state;
mod strays;
mod sweep;
mod sys;
mod tool;

use std::{
    env,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use autoprof_protocol::ToolProbe;
use autoprof_protocol::blocks::BLOCK;
use rustix::fs::{Mode, OFlags};

const USAGE: &str = "usage: autoprof-client COMMAND
  facts DIR [PROBE…]                    what this host is and can do, as JSON
  install DIR [PROBE…]                  the same, then wait for a line on standard input: the controller has them
  launch DIR                            take a control file on standard input, leave a client running in DIR
  state DIR                             what there is of the client of DIR, as JSON
  run DIR                               be that client, in the foreground
  attach DIR [EVENT-NUMBER]             markers in (start, stop, report, beat, mark NAME), events out
  pack DIR                              write the results as an archive to standard output, without what standard
                                        input says is there already
  clean DIR                             end the client of DIR and remove DIR
  sweep TMPDIR [remove] [results]       list, or remove, what dead clients of this user left in TMPDIR
  version
Signals by hand: echo A > DIR/profiler.start (then .stop, then .report)";

fn main() -> ExitCode {
    sys::reset_signal_dispositions();
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["facts", dir, probes @ ..] => print_facts(Path::new(dir), probes),
        ["install", dir, probes @ ..] => print_facts(Path::new(dir), probes).and_then(|()| await_confirmation()),
        ["launch", dir] => directory(dir).and_then(|dir| launch::launch(&dir)),
        ["run", dir] => directory(dir).and_then(|dir| {
            // Fails for a group leader, which a person's shell has made it: it is on its own then as well.
            let _ = rustix::process::setsid();
            daemon::run(&dir)
        }),
        ["state", dir] => directory(dir).and_then(|dir| print_json(&state::standing(&dir)?)),
        ["attach", dir] => directory(dir).and_then(|dir| attach::attach(&dir, 0)),
        ["attach", dir, after] => match after.parse() {
            Ok(after) => directory(dir).and_then(|dir| attach::attach(&dir, after)),
            Err(e) => Err(io::Error::other(format!("event number {after}: {e}"))),
        },
        ["pack", dir] => directory(dir).and_then(|dir| pack::pack(&dir, BLOCK)),
        ["pack", dir, block] => match block.parse() {
            Ok(block @ 1..=BLOCK) => directory(dir).and_then(|dir| pack::pack(&dir, block)),
            _ => Err(io::Error::other(format!("{block} is not a size of blocks: 1 to {BLOCK} bytes"))),
        },
        ["clean", dir] => directory(dir).and_then(|dir| clean::clean(&dir)),
        ["sweep", tmpdir, how @ ..] => sweep::sweep(Path::new(tmpdir), sweep::How::from_words(how)),
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

/// A client's directory: this user's, and nobody else's to write in. Looked at by its descriptor, so that what is
/// judged is what is there, and no link leads elsewhere.
fn directory(dir: &str) -> io::Result<PathBuf> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{dir}: {e}"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| named(e.into()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| named(e.into()))?;
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != me {
        return Err(io::Error::other(format!("{dir} belongs to uid {}, not to {me}", stat.st_uid)));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(io::Error::other(format!("{dir} can be written by others (mode {:o})", stat.st_mode & 0o7777)));
    }
    Path::new(dir).canonicalize().map_err(named)
}

fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    out.flush()
}

fn print_facts(dir: &Path, probes: &[&str]) -> io::Result<()> {
    environment::set_client_dir(&dir.canonicalize()?);
    let probes: Vec<ToolProbe> = probes.iter().filter_map(|p| p.parse().ok()).collect();
    print_json(&facts::gather(dir, &probes))
}

/// Waits until the controller has confirmed that it has what was printed. One that does not may never have heard of this
/// directory, and nobody would remove it.
fn await_confirmation() -> io::Result<()> {
    const TIMEOUT_MS: u64 = 60_000;
    let stdin = io::stdin();
    let deadline = clock::boot_ns() + clock::millis(TIMEOUT_MS);
    while clock::boot_ns() < deadline {
        if poll::wait([stdin.as_fd()], Some(deadline))?.iter().all(|flags| flags.is_empty()) {
            continue;
        }
        return match stdin.lock().read(&mut [0; 16])? {
            0 => Err(io::Error::other("the controller went away before it had the facts")),
            _ => Ok(()),
        };
    }
    Err(io::Error::other(format!("the controller did not confirm the facts within {} s", TIMEOUT_MS / 1000)))
}

/// A line in the client's log, which comes back with the results.
fn log(message: &str) {
    eprintln!("{:.3} {message}", clock::now().unix_seconds());
}
