//! The short way to write a profiler: a trait with a constant, and words to write its invocation with.
use std::fmt;

use autoprof_core::{
    ArgEncoder, Args, ProfilerInfo, RawResults, Registry, Table,
    error::{ArgError, ArgErrorKind, ConvertError},
    protocol::{CLIENT_VARIABLE, FILES_DIR, HostFacts, Invocation, Output, OutputFormat, Start, StopSignal, Tool},
    registry::AlreadyRegistered,
};

/// A profiler whose description is a constant: `export_plugin!(profiler: MyType)` makes a plugin of it.
///
/// ```
/// use autoprof_plugin::prelude::*;
///
/// // A constant of its own: a parameter has a destructor, so no reference to a temporary one can be in a constant.
/// const PARAMS: &[Param] = &[Param::new("pid", ParamType::Integer, "whose calls")];
///
/// #[derive(Default)]
/// struct Ltrace;
///
/// impl Profiler for Ltrace {
///     const INFO: ProfilerInfo = ProfilerInfo::new("ltrace", "counts library calls of a process")
///         .params(PARAMS)
///         .tools("ltrace");
///
///     fn encode(&self, args: &Args, _facts: &HostFacts) -> Result<Invocation, ArgError> {
///         Ok(tool(["ltrace", "-c", "-p"]).arg(args.integer("pid").unwrap_or(1)).stdout("ltrace.txt"))
///     }
/// }
///
/// let invocation = Ltrace.encode(&Args::new().with("pid", 7i64), &HostFacts::default())?;
/// assert_eq!(invocation.start.unwrap().argv, ["ltrace", "-c", "-p", "7"]);
/// # Ok::<(), ArgError>(())
/// ```
pub trait Profiler: Default + Send + Sync + 'static {
    /// What it is called and takes; part of the plugin's note.
    const INFO: ProfilerInfo;

    /// The commands for one host; see [`ArgEncoder::encode`].
    ///
    /// # Errors
    /// When the arguments contradict each other, or the profiler cannot run on a host with these facts.
    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError>;

    /// Makes tables of the raw files; see [`ArgEncoder::convert`].
    ///
    /// # Errors
    /// When a file cannot be read, written or understood.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let _ = raw;
        Ok(Vec::new())
    }
}

/// A [`Profiler`] as an encoder.
struct Encoder<P> {
    profiler: P,
    info: ProfilerInfo,
}

impl<P: Profiler> ArgEncoder for Encoder<P> {
    fn profiler(&self) -> &ProfilerInfo {
        &self.info
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        self.profiler.encode(args, facts)
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        self.profiler.convert(raw)
    }
}

/// Adds a [`Profiler`] to a registry.
///
/// # Errors
/// When there is a profiler of its name already.
pub fn register_profiler<P: Profiler>(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(std::sync::Arc::new(Encoder { profiler: P::default(), info: P::INFO }))
}

/// An invocation that runs this program from start to stop; [`InvocationExt`] has more to say about it.
pub fn tool<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Invocation {
    let argv = argv.into_iter().map(Into::into).collect();
    Invocation { start: Some(Start { argv, ..Start::default() }), ..Invocation::default() }
}

/// A program on the host, or the error that says in which packages it is.
///
/// # Errors
/// When the host does not have it.
pub fn installed<'a>(facts: &'a HostFacts, name: &str, packages: &str) -> Result<&'a Tool, ArgError> {
    facts.tools.get(name).ok_or_else(|| {
        ArgError::new(ArgErrorKind::Missing, format!("{name} is not installed"))
            .with_hint(format!("install {packages}"))
    })
}

/// That a tool is of this version at least, or the error that names both. A tool that did not tell its version is tried.
///
/// # Errors
/// When it is older.
pub fn at_least(tool: &Tool, oldest: &[u32], name: &str, package: &str) -> Result<(), ArgError> {
    let version = tool.version_numbers();
    if version.is_empty() || tool.is_at_least(oldest) {
        return Ok(());
    }
    let numbers = |version: &[u32]| version.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let oldest = numbers(oldest);
    let of = if package.is_empty() { String::new() } else { format!(" of {package}") };
    let message = format!("{name}{of} {} is older than {oldest}", numbers(&version));
    let what = if package.is_empty() { name } else { package };
    Err(ArgError::new(ArgErrorKind::Unsupported, message).with_hint(format!("install {what} {oldest} or newer")))
}

/// That we are root on the host, or the error that says why a tool needs that.
///
/// # Errors
/// When we are not.
pub fn only_root(facts: &HostFacts, name: &str, why: &str) -> Result<(), ArgError> {
    if facts.uid == 0 {
        return Ok(());
    }
    let error = ArgError::new(ArgErrorKind::Unsupported, format!("{name} needs root: {why}"));
    Err(error.with_hint("log in to the host as root"))
}

/// Words as a command, which is a list of texts.
#[must_use]
pub fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

/// Where a [`SentFile`](autoprof_core::protocol::SentFile) of a profiler is on the host, for a command of the shell's: a
/// word in double quotes. Both names are plain.
#[must_use]
pub fn sent(profiler: &str, name: &str) -> String {
    format!("\"${CLIENT_VARIABLE}/{FILES_DIR}/{profiler}/{name}\"")
}

/// Short words for what an [`Invocation`] is made of.
pub trait InvocationExt: Sized {
    /// One more argument of the tool.
    #[must_use]
    fn arg(self, arg: impl fmt::Display) -> Self;
    /// More arguments of the tool.
    #[must_use]
    fn args<S: fmt::Display>(self, args: impl IntoIterator<Item = S>) -> Self;
    /// More arguments of the tool, if `condition` holds.
    #[must_use]
    fn args_if<S: fmt::Display>(self, condition: bool, args: impl IntoIterator<Item = S>) -> Self;
    /// The tool's standard output goes to this file, which is text that has to be there in the end.
    #[must_use]
    fn stdout(self, file: &str) -> Self;
    /// The tool leaves this file behind; it has to be there in the end.
    #[must_use]
    fn output(self, file: &str, format: OutputFormat) -> Self;
    /// The tool is ended by this signal instead of `SIGINT`.
    #[must_use]
    fn stopped_by(self, signal: StopSignal) -> Self;
    /// A second segment is begun after the host rebooted.
    #[must_use]
    fn restarts(self) -> Self;
}

impl InvocationExt for Invocation {
    fn arg(mut self, arg: impl fmt::Display) -> Self {
        self.start.get_or_insert_default().argv.push(arg.to_string());
        self
    }

    fn args<S: fmt::Display>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    fn args_if<S: fmt::Display>(self, condition: bool, args: impl IntoIterator<Item = S>) -> Self {
        if condition { self.args(args) } else { self }
    }

    fn stdout(mut self, file: &str) -> Self {
        self.start.get_or_insert_default().stdout = Some(file.to_owned());
        self.output(file, OutputFormat::Text)
    }

    fn output(mut self, file: &str, format: OutputFormat) -> Self {
        self.outputs.push(Output { file: file.to_owned(), format, required: true });
        self
    }

    fn stopped_by(mut self, signal: StopSignal) -> Self {
        self.stop.signal = signal;
        self
    }

    fn restarts(mut self) -> Self {
        self.restart_after_reboot = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_reads_as_what_it_does() {
        let short = tool(["x", "-a"])
            .arg(1)
            .args_if(false, ["-b"])
            .args_if(true, ["-c", "d"])
            .stdout("x.txt")
            .stopped_by(StopSignal::Terminate)
            .restarts();
        let start = short.start.unwrap();
        assert_eq!((start.argv.join(" ").as_str(), start.stdout.as_deref()), ("x -a 1 -c d", Some("x.txt")));
        assert_eq!((short.stop.signal, short.outputs.len()), (StopSignal::Terminate, 1));
        assert!(short.outputs[0].required && short.restart_after_reboot);
    }
}
