//! QEMU's control socket, as far as it is used here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::Utf8Path;
use serde_json::{Value, json};

/// Runs one command without arguments.
///
/// # Panics
/// When QEMU does not take it.
pub fn execute(socket: &Utf8Path, command: &str) {
    let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("cannot connect to {socket}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out can be set");
    let mut answers = BufReader::new(&stream).lines().map(|line| {
        let line = line.unwrap_or_else(|error| panic!("QEMU does not answer on {socket}: {error}"));
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("QEMU answered {line}: {error}"))
    });
    answers.next().expect("QEMU greets");
    for each in ["qmp_capabilities", command] {
        writeln!(&stream, "{}", json!({ "execute": each })).expect("QEMU reads its control socket");
        // Events, such as that of the reset itself, come in between.
        let answer = answers.find(|answer| answer.get("return").or(answer.get("error")).is_some());
        let answer = answer.unwrap_or_else(|| panic!("QEMU closed {socket} before it answered {each}"));
        assert!(answer.get("error").is_none(), "QEMU refused {each}: {answer}");
    }
}
