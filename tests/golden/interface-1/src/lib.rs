//! A profiler, a transport and a signaler as interface 1.0.0 let them be written.
//!
//! Never changed: what is written here has to compile against every later `autoprof-plugin` of the same major version,
//! and what was built of it has to work in every later autoprof. What is new belongs into another crate beside it.
#![forbid(unsafe_code)]
use std::{any::Any, process::Stdio};

use autoprof_plugin::{
    convert::{Lines, TableWriter, open},
    core::protocol::Event,
    prelude::*,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command as Program},
};

const PARAMS: &[Param] = &[
    Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..3600"),
    Param::new("words", ParamType::Strings, "what to say in each"),
];
const INFO: ProfilerInfo = ProfilerInfo::new("golden", "says the time").params(PARAMS).tools("date:--version");

#[derive(Default)]
struct Golden;

impl Profiler for Golden {
    const INFO: ProfilerInfo = INFO;

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        if !facts.tools.contains_key("date") {
            return Err(ArgError::new(ArgErrorKind::Missing, "date is not installed").with_hint("install coreutils"));
        }
        let script = "while :; do date +%s; sleep \"$1\"; done";
        let said = tool(["sh", "-c", script, "sh"]).arg(args.number("interval").unwrap_or(1.0));
        Ok(said.stdout("golden.txt").stopped_by(StopSignal::Terminate).restarts())
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let mut table = TableWriter::create(raw, "golden.csv", interval, &["seconds"])?;
        let mut lines = Lines::new(open(raw, "golden.txt")?);
        while let Some(line) = lines.next_text()? {
            match line.parse::<i64>() {
                Ok(seconds) => table.row(seconds * 1_000_000_000, [&line])?,
                Err(_) => table.warn("lines that are no time were left out"),
            }
        }
        Ok(vec![table.finish()?])
    }
}

struct GoldenTransport;

#[async_trait]
impl Transport for GoldenTransport {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        match host.option("answer") {
            Some("42") => Ok(Arc::new(GoldenSession)),
            other => Err(TransportError::new(TransportErrorKind::Config, format!("{other:?} is not the answer"))),
        }
    }
}

struct GoldenSession;

#[async_trait]
impl Session for GoldenSession {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let mut program = Program::new(&command.argv[0]);
        program.args(&command.argv[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let failed = |e| TransportError::caused(TransportErrorKind::Exec, "it cannot be started", &e);
        let mut child = program.spawn().map_err(failed)?;
        let input = Box::new(Input(child.stdin.take()));
        Ok(Process { input, output: Box::new(Output(child)) })
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Input(Option<ChildStdin>);

#[async_trait]
impl ProcessInput for Input {
    async fn write(&mut self, data: Bytes) -> Result<(), TransportError> {
        let closed = || TransportError::new(TransportErrorKind::Closed, "its input is closed");
        let input = self.0.as_mut().ok_or_else(closed)?;
        input.write_all(&data).await.map_err(|_| closed())
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.0 = None;
        Ok(())
    }
}

struct Output(Child);

#[async_trait]
impl ProcessOutput for Output {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        let failed = |e| TransportError::caused(TransportErrorKind::Closed, "it cannot be read", &e);
        if let Some(stdout) = &mut self.0.stdout {
            let mut data = vec![0; 64 << 10];
            match stdout.read(&mut data).await.map_err(failed)? {
                0 => self.0.stdout = None,
                n => return Ok(OutputChunk::Stdout(Bytes::from(data).slice(..n))),
            }
        }
        let status = self.0.wait().await.map_err(failed)?;
        Ok(OutputChunk::Exit(match status.code() {
            Some(code) => ExitStatus::Code(code),
            None => ExitStatus::Signal("KILL".to_owned()),
        }))
    }
}

struct GoldenSignaler;

#[async_trait]
impl Signaler for GoldenSignaler {
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError> {
        let program = format!("{}/autoprof-client", client.directory);
        let attach = Command::new([&program, "attach", &client.directory, &client.after.to_string()]);
        let process = session.exec(&attach).await?;
        Ok(Box::new(GoldenChannel { _session: session, process, pending: Vec::new() }))
    }
}

struct GoldenChannel {
    _session: Arc<dyn Session>,
    process: Process,
    pending: Vec<u8>,
}

#[async_trait]
impl Channel for GoldenChannel {
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError> {
        let line = match signal {
            Signal::Marker(marker, time) => format!("{marker} {time}\n"),
            Signal::Beat(question) => format!("beat {question}\n"),
            Signal::Mark(name) => format!("mark {name}\n"),
        };
        Ok(self.process.input.write(line.into()).await?)
    }

    async fn event(&mut self) -> Result<Event, SignalError> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let unclear = |e| SignalError::caused(SignalErrorKind::Protocol, "that is no event", &e);
                return serde_json::from_slice(&line).map_err(unclear);
            }
            match self.process.output.next().await? {
                OutputChunk::Stdout(data) => self.pending.extend_from_slice(&data),
                OutputChunk::Stderr(_) => {}
                OutputChunk::Exit(status) => {
                    return Err(SignalError::new(SignalErrorKind::Closed, format!("it ended with {status}")));
                }
            }
        }
    }
}

fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    autoprof_plugin::register_profiler::<Golden>(registry)?;
    registry.add_transport("golden", Arc::new(GoldenTransport))?;
    registry.add_signaler("golden", Arc::new(GoldenSignaler))
}

export_plugin!(register, provides = ["transport:golden", "signaler:golden"], profilers = [INFO]);
