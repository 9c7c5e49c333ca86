//! Being a relay.
use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_nats::{Client, Message};
use autoprof_relay::{Order, READY, Said, What, connect};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep_until, timeout},
};

use crate::start;

/// How often a relay without a client looks whether there is still a directory.
const LOOK: Duration = Duration::from_secs(1);
/// How long it waits for somebody to attach, or to tell an attached client something, before it ends. Those who listen
/// ask for signs of life at least twice a minute.
const IDLE: Duration = Duration::from_secs(300);
/// How long an `attach` may take to do what it was told when another one takes its place.
const LEAVE: Duration = Duration::from_secs(5);
/// How much of what `attach` says on standard error is passed on.
const LAST_WORDS: u64 = 2000;
/// The certificates, which the library takes from a file.
const CA: &str = "relay-ca.pem";

/// Serves the client of a directory until there is none.
///
/// # Errors
/// When the server cannot be reached at the beginning.
pub fn serve(dir: &Path) -> io::Result<()> {
    // Fails for a group leader, which a person's shell has made it: it is on its own then as well.
    let _ = rustix::process::setsid();
    let Some(_lock) = start::lock(dir)? else { return say_ready() };
    let mut order = String::new();
    io::stdin().read_to_string(&mut order)?;
    let order: Order = serde_json::from_str(&order).map_err(|e| io::Error::other(format!("no order: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(relay(dir, order))
}

fn say_ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()
}

async fn relay(dir: &Path, order: Order) -> io::Result<()> {
    let ca = order.ca.as_ref().map(|_| dir.join(CA));
    if let (Some(path), Some(text)) = (&ca, &order.ca) {
        fs::write(path, text)?;
    }
    let (command, event) = (order.command(), order.event());
    let broker = connect("autoprof-relay", &order.servers, ca.as_deref(), order.login).await?;
    let mut orders = broker.subscribe(command).await.map_err(io::Error::other)?;
    // Ready is who will hear the next order.
    broker.flush().await.map_err(io::Error::other)?;
    say_ready()?;
    let mut relay = Relay { dir: dir.to_owned(), broker, event, attached: None, last: 0, obeyed: 0 };
    let mut idle = Instant::now() + IDLE;
    loop {
        let look = if relay.attached.is_some() { idle } else { idle.min(Instant::now() + LOOK) };
        tokio::select! {
            order = orders.next() => {
                let Some(order) = order else { return Err(io::Error::other("the connection to the server has ended")) };
                idle = Instant::now() + IDLE;
                relay.obey(order).await?;
            }
            line = next_line(&mut relay.attached) => match line? {
                Some(line) => relay.pass_on(line).await?,
                None => relay.let_go().await?,
            },
            () = sleep_until(look) => {
                if Instant::now() >= idle || !dir.exists() {
                    relay.broker.flush().await.map_err(io::Error::other)?;
                    return Ok(());
                }
            }
        }
    }
}

/// The client's next line; none when it has ended. Never where there is none. Cancel safe.
async fn next_line(attached: &mut Option<Attached>) -> io::Result<Option<String>> {
    match attached {
        Some(attached) => attached.output.next_line().await,
        None => std::future::pending().await,
    }
}

struct Relay {
    dir: PathBuf,
    broker: Client,
    event: String,
    attached: Option<Attached>,
    /// The number of the last event that was passed on.
    last: u64,
    /// The number of the last order of this attachment that was obeyed.
    obeyed: u64,
}

/// A running `autoprof-client attach`.
struct Attached {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Attached {
    fn spawn(mut command: Command) -> io::Result<Self> {
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let none = || io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(none)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(none)?).lines();
        Ok(Self { child, input, output })
    }

    /// Lets it do what it was told, which it may not even have read yet, and end. What it says meanwhile is said again by
    /// the next one.
    async fn leave(self) -> io::Result<()> {
        let Self { mut child, input, mut output } = self;
        drop(input);
        let ended = async {
            while output.next_line().await?.is_some() {}
            child.wait().await
        };
        match timeout(LEAVE, ended).await {
            Ok(ended) => ended.map(drop),
            Err(_) => child.kill().await,
        }
    }
}

/// What of an event is looked at here.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl Relay {
    async fn obey(&mut self, order: Message) -> io::Result<()> {
        let text = String::from_utf8_lossy(&order.payload).into_owned();
        if let Some(after) = text.strip_prefix("attach ") {
            let answer = match after.trim().parse() {
                Ok(after) => self.attach(after).await.map_or_else(|e| e.to_string(), |()| "attached".to_owned()),
                Err(e) => format!("event number {after}: {e}"),
            };
            if let Some(reply) = order.reply {
                self.broker.publish(reply, answer.into()).await.map_err(io::Error::other)?;
            }
            return Ok(());
        }
        // An order with a number is answered, and comes again until it was: it is obeyed once.
        let numbered = text.split_once(' ').and_then(|(number, line)| Some((number.parse::<u64>().ok()?, line)));
        let (number, line) = numbered.map_or((None, text.trim()), |(number, line)| (Some(number), line.trim()));
        if number.is_none_or(|number| number > self.obeyed) {
            match &mut self.attached {
                Some(attached) => {
                    // One that has ended says so by the end of its output.
                    let _ = attached.input.write_all(format!("{line}\n").as_bytes()).await;
                }
                None => self.say(What::End("nobody is attached to the client".to_owned())).await?,
            }
            self.obeyed = number.unwrap_or(self.obeyed);
        }
        if let Some(reply) = order.reply {
            self.broker.publish(reply, "heard".into()).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Attaches behind an event, instead of whoever is attached.
    async fn attach(&mut self, after: u64) -> io::Result<()> {
        if let Some(before) = self.attached.take() {
            before.leave().await?;
        }
        let mut command = Command::new(self.dir.join("autoprof-client"));
        command.arg("attach").arg(&self.dir).arg(after.to_string());
        let attached = Attached::spawn(command)?;
        self.last = after;
        self.obeyed = 0;
        self.attached = Some(attached);
        Ok(())
    }

    async fn pass_on(&mut self, line: String) -> io::Result<()> {
        let numbered: Option<Numbered> = serde_json::from_str(&line).ok();
        self.last = self.last.max(numbered.map_or(0, |event| event.seq));
        self.say(What::Line(line)).await
    }

    /// Says how an `attach` ended.
    async fn let_go(&mut self) -> io::Result<()> {
        let Some(Attached { mut child, input, .. }) = self.attached.take() else { return Ok(()) };
        drop(input);
        let mut words = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            stderr.take(LAST_WORDS).read_to_end(&mut words).await?;
        }
        let status: ExitStatus = child.wait().await?;
        let words = String::from_utf8_lossy(&words);
        let words: Vec<&str> = words.split_whitespace().collect();
        self.say(What::End(format!("{status}: {}", words.join(" ")))).await
    }

    async fn say(&self, what: What) -> io::Result<()> {
        let said = Said { last: self.last, what };
        self.broker.publish(self.event.clone(), said.to_string().into()).await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_was_told_is_done_before_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let done = directory.path().join("done");
        let mut command = Command::new("sh");
        command.args(["-c", "echo busy; sleep 0.3; cat > \"$1\"", "sh"]).arg(&done);
        let mut attached = Attached::spawn(command).unwrap();
        attached.input.write_all(b"1 stop A\n").await.unwrap();
        attached.leave().await.unwrap();
        assert_eq!(fs::read_to_string(done).unwrap(), "1 stop A\n");
    }
}
