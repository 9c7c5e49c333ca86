//! What `perf sched`, `perf lock` and `perf c2c` have in common: each records what it needs by a command of its own, and
//! each says of its records what they mean.
use autoprof_plugin::{
    convert::{Lines, open},
    prelude::*,
    words,
};

/// How large the recorded file may become.
pub const SIZE: Param = Param::new("megabytes", ParamType::Integer, "size of what is recorded; then it has ended")
    .default("256")
    .unit("MB")
    .range("1..65536");

/// perf, where this one is as new as it has to be, and may trace the whole host.
pub fn perf<'a>(facts: &'a HostFacts, needs: &[u32], what: &str) -> Result<(), ArgError> {
    let perf: &'a _ = autoprof_plugin::installed(
        facts,
        "perf",
        "linux-perf (Debian), linux-tools-generic (Ubuntu) or perf (Fedora)",
    )?;
    if !perf.is_at_least(needs) {
        let wanted = needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        let message = format!("{what} is there since perf {wanted}; this one is {:?}", perf.version);
        return Err(ArgError::new(ArgErrorKind::Unsupported, message).with_hint("install a newer perf there"));
    }
    if facts.uid != 0 {
        let error = ArgError::new(ArgErrorKind::Permission, format!("{what} needs root: it reads tracepoints"));
        return Err(error.with_hint("log in to the host as root"));
    }
    Ok(())
}

/// `perf WHAT record` for the whole host into a file of bounded size, and what is made of it.
pub fn invocation(what: &str, data: &str, args: &Args, reports: &[(String, &str)]) -> Invocation {
    let size = format!("--max-size={}M", args.integer("megabytes").unwrap_or(256));
    let report = |(script, output): &(String, &str)| Report {
        argv: words(&["sh", "-c", script]),
        stdout: Some((*output).to_owned()),
        timeout_ms: 120_000,
    };
    let file = |file: &str, format, required| Output { file: file.to_owned(), format, required };
    let mut outputs = vec![file(data, OutputFormat::Raw, true)];
    outputs.extend(reports.iter().map(|(_, output)| file(output, OutputFormat::Text, false)));
    Invocation {
        // At its size perf ends by itself, with a whole file.
        start: Some(Start {
            argv: words(&["perf", what, "record", "-a", "-k", "CLOCK_MONOTONIC", "-N", &size, "-o", data]),
            may_end: true,
            ..Start::default()
        }),
        stop: Stop { signal: StopSignal::Interrupt, grace_ms: 60_000 },
        report: reports.iter().map(report).collect(),
        outputs,
        restart_after_reboot: true,
        ..Invocation::default()
    }
}

/// That recording ended before the window did, if it has: perf says so on standard error.
pub fn ended_early(raw: &RawResults) -> Result<Option<String>, ConvertError> {
    let full = printed(raw, |line| line.contains("size limit reached"))?;
    Ok(full.map(|_| "recording ended before the window: perf's file was full (megabytes)".to_owned()))
}

/// What perf says of a report that it could not make, also where its exit status is 0: `Error: failed to process sample`.
pub fn failed(raw: &RawResults) -> Result<Option<String>, ConvertError> {
    let line = printed(raw, |line| line.trim_start().starts_with("Error:") || line.contains("failed to process"))?;
    Ok(line.map(|line| format!("perf could not read all of its file: {}", line.trim())))
}

/// The first line of standard error that is one of these, shortened.
fn printed(raw: &RawResults, is_it: impl Fn(&str) -> bool) -> Result<Option<String>, ConvertError> {
    const STDERR: &str = "stderr.txt";
    const MAX_LINE: usize = 200;
    if !raw.file(STDERR).exists() {
        return Ok(None);
    }
    let mut lines = Lines::new(open(raw, STDERR)?);
    while let Some(line) = lines.next_text()? {
        if is_it(&line) {
            return Ok(Some(line.chars().take(MAX_LINE).map(|c| if c.is_control() { '?' } else { c }).collect()));
        }
    }
    Ok(None)
}

/// A number and its unit of time, in milliseconds.
pub fn milliseconds(value: &str, unit: &str) -> Option<f64> {
    let factor = match unit {
        "s" => 1e3,
        "ms" => 1.0,
        "us" | "usec" => 1e-3,
        "ns" => 1e-6,
        _ => return None,
    };
    value.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value * factor)
}
