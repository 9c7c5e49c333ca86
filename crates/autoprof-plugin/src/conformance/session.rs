//! Whether a transport's session keeps what it has to: for the tests of a transport, with a host that it reaches.
use std::time::Duration;

use autoprof_core::{
    Command, Process, Session,
    error::TransportError,
    transport::{Captured, ExitStatus, OutputChunk, capture},
};
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{Check, Verdict};

/// Longest that one check may take.
const EACH: Duration = Duration::from_secs(60);
/// Most that a check prints.
const LIMIT: usize = 32 << 20;
/// As much as no pipe, window or buffer takes at once.
const MUCH: usize = 8 << 20;

/// Arguments that a shell would take for more than they are.
const WORDS: [&str; 7] = ["$HOME", "a b", "it's", "", "*", "a;b|c&d", "-n"];

/// Looks at what autoprof relies on, with processes on the session's host: streams, ends, arguments, much data, reads
/// that are given up, several processes at once, and one that nobody listens to any more.
///
/// The host has to have `sh`, `cat`, `head`, `kill`, `printf`, `mktemp`, `rm` and `sleep`.
pub async fn session(session: &dyn Session) -> Vec<Check> {
    let checks = [
        look("input, output and exit status", streams(session)).await,
        look("a process that a signal ends", signal(session)).await,
        look("a program that is not there", absent(session)).await,
        look("arguments that a shell would change", arguments(session)).await,
        look("much data, both ways", much(session)).await,
        look("a read that is given up loses nothing", given_up(session)).await,
        look("two processes at once", two(session)).await,
        look("a process goes on when nobody listens", left(session)).await,
    ];
    checks.into()
}

type Finding = Result<(), String>;

async fn look(what: &str, check: impl Future<Output = Finding>) -> Check {
    let found = timeout(EACH, check).await.unwrap_or_else(|_| Err(format!("it took more than {} s", EACH.as_secs())));
    Check { what: what.to_owned(), verdict: found.map_or_else(Verdict::Failed, |()| Verdict::Ok) }
}

fn said(e: TransportError) -> String {
    e.to_string()
}

fn expect(is_so: bool, problem: impl FnOnce() -> String) -> Finding {
    if is_so { Ok(()) } else { Err(problem()) }
}

async fn run(session: &dyn Session, command: &Command, input: Bytes) -> Result<Captured, String> {
    capture(session, command, input, LIMIT).await.map_err(said)
}

async fn script(session: &dyn Session, text: &str, args: &[&str]) -> Result<Captured, String> {
    run(session, &Command::sh(text, args.iter().copied()), Bytes::new()).await
}

async fn streams(session: &dyn Session) -> Finding {
    let input: Vec<u8> = (0..=u8::MAX).collect();
    let command = Command::sh("cat; echo oops >&2; exit 7", [""; 0]);
    let done = run(session, &command, input.clone().into()).await?;
    expect(done.stdout == input, || format!("256 bytes went in, and {} others came out", done.stdout.len()))?;
    expect(done.stderr == b"oops\n", || format!("standard error was {:?}", done.stderr_text()))?;
    expect(done.status == ExitStatus::Code(7), || format!("the process ended with status 7, and {} came", done.status))
}

async fn signal(session: &dyn Session) -> Finding {
    let status = script(session, "kill -TERM $$", &[]).await?.status;
    expect(status == ExitStatus::Signal("TERM".to_owned()), || format!("signal TERM ended it, and {status} came"))
}

async fn absent(session: &dyn Session) -> Finding {
    let status = run(session, &Command::new(["autoprof-no-such-program"]), Bytes::new()).await?.status;
    expect(status == ExitStatus::Code(127), || format!("a shell gives status 127, and {status} came"))
}

async fn arguments(session: &dyn Session) -> Finding {
    let command = Command::new(["printf", "%s|"].into_iter().chain(WORDS));
    let done = run(session, &command, Bytes::new()).await?;
    let whole = WORDS.map(|word| format!("{word}|")).concat();
    expect(done.stdout == whole.as_bytes(), || {
        format!("{whole:?} became {:?} {}", String::from_utf8_lossy(&done.stdout), done.stderr_text())
    })
}

async fn much(session: &dyn Session) -> Finding {
    let input = Bytes::from(vec![b'x'; MUCH]);
    let done = run(session, &Command::new(["cat"]), input.clone()).await?;
    expect(done.stdout == input, || format!("{MUCH} bytes went in, and {} came out", done.stdout.len()))?;
    expect(done.status.success(), || format!("cat ended with {}", done.status))
}

async fn given_up(session: &dyn Session) -> Finding {
    const LINE: &str = "what came while nobody waited\n";
    let Process { mut input, mut output } = session.exec(&Command::new(["cat"])).await.map_err(said)?;
    let mut heard = Vec::new();
    // Each read is given up at once unless there is something already; the input is closed once all is there.
    input.write(LINE.into()).await.map_err(said)?;
    loop {
        match timeout(Duration::from_micros(100), output.next()).await {
            Err(_) if heard.len() < LINE.len() => {}
            Err(_) => input.close().await.map_err(said)?,
            Ok(next) => match next.map_err(said)? {
                OutputChunk::Stdout(data) => heard.extend_from_slice(&data),
                OutputChunk::Stderr(data) => return Err(format!("cat said {}", String::from_utf8_lossy(&data))),
                OutputChunk::Exit(status) => {
                    expect(heard == LINE.as_bytes() && status.success(), || {
                        format!("{:?} and {status} came", String::from_utf8_lossy(&heard))
                    })?;
                    return Ok(());
                }
            },
        }
    }
}

async fn two(session: &dyn Session) -> Finding {
    let Process { mut input, mut output } = session.exec(&Command::new(["cat"])).await.map_err(said)?;
    let other = script(session, "echo other", &[]).await?;
    expect(other.stdout == b"other\n", || format!("the second process said {:?}", other.stderr_text()))?;
    input.write("first\n".into()).await.map_err(said)?;
    let first = output.next().await.map_err(said)?;
    expect(first == OutputChunk::Stdout("first\n".into()), || format!("the first process gave {first:?}"))?;
    input.close().await.map_err(said)
}

async fn left(session: &dyn Session) -> Finding {
    let made = script(session, "mktemp -d", &[]).await?;
    let directory = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    expect(made.status.success() && directory.starts_with('/'), || format!("mktemp: {}", made.stderr_text()))?;
    // Two waits, so that it is at work both when its streams are dropped and afterwards.
    let command = Command::sh("sleep 0.2; : > \"$1/begun\"; sleep 0.2; : > \"$1/done\"", [directory.as_str()]);
    drop(session.exec(&command).await.map_err(said)?);
    let mut is_done = false;
    for _ in 0..200 {
        is_done = script(session, "[ -e \"$1/done\" ]", &[&directory]).await?.status.success();
        if is_done {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    script(session, "rm -r \"$1\"", &[&directory]).await?;
    expect(is_done, || "it ended with its streams, or never began".to_owned())
}
