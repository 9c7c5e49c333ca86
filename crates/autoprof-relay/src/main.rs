//! Joins one client on this host to a NATS server, so that nobody needs a connection to the host for it.
//!
//! It reads what `autoprof-client attach` would be told from a subject, and puts what that says on another one. It has no
//! state of its own that matters: killed, it is started again, and the client does not notice.

mod serve;
mod start;

use std::{env, path::Path, process::ExitCode};

const USAGE: &str = "usage: autoprof-relay COMMAND
  start DIR   take an order on standard input, leave a relay for the client of DIR running, say when it is up
  serve DIR   be that relay, in the foreground";

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["start", dir] => start::start(Path::new(dir)),
        ["serve", dir] => serve::serve(Path::new(dir)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("autoprof-relay: {e}");
            ExitCode::FAILURE
        }
    }
}
