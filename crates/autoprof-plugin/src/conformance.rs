//! Whether a profiler's encoder keeps what it has to: for `autoprof plugin test`, and for the tests of a plugin.
//! [`session`] does the same for what a transport gives.
//!
//! ```
//! # use autoprof_plugin::{conformance, prelude::*};
//! # fn test(encoder: &dyn ArgEncoder) {
//! let failed = conformance::failures(&conformance::check(encoder));
//! assert!(failed.is_empty(), "{failed:#?}");
//! # }
//! ```
mod session;

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use autoprof_core::{
    ArgEncoder, Args, Param, ParamType, ProfilerInfo, RawResults, Table, Value,
    args::is_name,
    error::ArgError,
    protocol::{HostFacts, Invocation},
    quantity::{self, Formula, HOST_NAMES},
    require_rows,
};
use camino::{Utf8Path, Utf8PathBuf};

pub use self::session::session;
use crate::testing::{Scratch, host_with};

/// Longest that an encoder may take: it is called once for each host, and asks nobody.
const ENCODE: Duration = Duration::from_secs(1);
/// Longest that a converter may take for a megabyte of anything.
const CONVERT: Duration = Duration::from_secs(10);
/// A day, in milliseconds: no grace, interval or time-out is longer.
const LONGEST_MS: u64 = 86_400_000;

/// Texts that a shell, a splitter at blanks or a format would spoil.
const TEXTS: [&str; 9] =
    ["a b", "it's", "say \"x\"", "two\nlines", "$HOME `id` $(id)", "-v", "ünï→code", "a,b;c|d&e", "%s {} \\n"];

/// What was looked at, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it has to be.
    Ok,
    /// It works, and users may be surprised.
    Warning(String),
    /// It breaks what autoprof or users rely on.
    Failed(String),
}

/// The checks that failed, a line each.
#[must_use]
pub fn failures(checks: &[Check]) -> Vec<String> {
    let failed = |check: &Check| match &check.verdict {
        Verdict::Failed(reason) => Some(format!("{}: {reason}", check.what)),
        Verdict::Ok | Verdict::Warning(_) => None,
    };
    checks.iter().filter_map(failed).collect()
}

/// Looks at all that can be told without a host: description, defaults, extremes, wrong types, quoting, purity, panics,
/// time, and what the converter does with files that are empty, torn or nonsense.
#[must_use]
pub fn check(encoder: &dyn ArgEncoder) -> Vec<Check> {
    let info = encoder.profiler().clone();
    let mut checks = Checks { encoder, info: &info, all: Vec::new() };
    checks.description();
    checks.defaults();
    checks.parameters();
    checks.quoting();
    checks.converter();
    checks.all
}

/// What a table lacks of what its profiler declared: key columns, and columns that formulas name.
///
/// A column that is named by a `*` may be absent. So may those of a table whose columns depend on the arguments, which
/// the declaration shows by such a name.
#[must_use]
pub fn undeclared(info: &ProfilerInfo, file: &str, header: &[&str]) -> Vec<String> {
    let Some(table) = info.tables.iter().find(|table| table.file == file) else { return Vec::new() };
    let lacks = |name: &str| !header.contains(&name) && !HOST_NAMES.contains(&name);
    let mut problems: Vec<String> = table
        .keys
        .split_whitespace()
        .filter(|key| lacks(key))
        .map(|key| format!("{file} has no key column {key:?}"))
        .collect();
    let formulas: Vec<Formula> = table.measures.iter().filter_map(|m| Formula::parse(&m.formula).ok()).collect();
    let names: Vec<&String> = formulas.iter().flat_map(Formula::names).collect();
    if !names.iter().any(|name| name.contains('*')) {
        let absent = names.into_iter().filter(|name| lacks(name));
        problems.extend(absent.map(|name| format!("{file} has no column {name:?}")));
    }
    problems.dedup();
    problems
}

/// A host on which everything that the profiler may need is there.
#[must_use]
pub fn rich_host(info: &ProfilerInfo) -> HostFacts {
    let tools: Vec<String> = info.tool_probes().map(|probe| probe.name).collect();
    HostFacts {
        hostname: "host".to_owned().into(),
        arch: "x86_64".to_owned().into(),
        kernel: "6.12.0".to_owned().into(),
        cpus: 8,
        memory_kib: 32 << 20,
        free_bytes: 100 << 30,
        perf_event_paranoid: Some(-1),
        hardware_counters: true,
        system_wide: true,
        kernel_symbols: true,
        pressure: true,
        debugfs: true,
        tracefs: true,
        kvm: true,
        ..host_with(&tools, "99.0")
    }
}

struct Checks<'a> {
    encoder: &'a dyn ArgEncoder,
    info: &'a ProfilerInfo,
    all: Vec<Check>,
}

impl Checks<'_> {
    fn add(&mut self, what: impl Into<String>, verdict: Verdict) {
        self.all.push(Check { what: what.into(), verdict });
    }

    /// Adds what went wrong, or that nothing did.
    fn sum_up(&mut self, what: &str, problems: Vec<String>) {
        let verdict = if problems.is_empty() { Verdict::Ok } else { Verdict::Failed(problems.join("; ")) };
        self.add(what, verdict);
    }

    fn description(&mut self) {
        let info = self.info;
        let mut problems = Vec::new();
        let one_line = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
        if !is_name(&info.name) {
            problems.push(format!("{:?} is no name: small letters, digits, dashes", info.name));
        }
        if !one_line(&info.summary) {
            problems.push("the summary is no line of text".to_owned());
        }
        for (at, table) in info.tables.iter().enumerate() {
            problems.extend(quantity::problems(table).into_iter().map(|problem| format!("{}: {problem}", table.file)));
            for param in table.unless.split_whitespace().filter(|name| info.param(name).is_none()) {
                problems.push(format!("{}: there is no parameter {param:?}", table.file));
            }
            if info.tables[..at].iter().any(|other| other.file == table.file) {
                problems.push(format!("{} is declared twice", table.file));
            }
        }
        for (at, param) in info.params.iter().enumerate() {
            if param.name.is_empty()
                || param.name.contains(|c: char| c == ':' || c == '=' || c == ',' || c.is_whitespace())
            {
                problems.push(format!("a parameter cannot be called {:?}", param.name));
            }
            if info.params[..at].iter().any(|other| other.name == param.name) {
                problems.push(format!("two parameters are called {:?}", param.name));
            }
            if !one_line(&param.help) {
                problems.push(format!("{} has no line of help", param.name));
            }
        }
        if let Err(e) = Args::new().complete(info) {
            problems.push(format!("a default is not what its parameter takes: {}", e.message));
        }
        self.sum_up("name, summary, parameters and their defaults", problems);
        let unitless: Vec<&str> = info
            .params
            .iter()
            .filter(|p| matches!(p.kind, ParamType::Integer | ParamType::Number) && p.unit.is_empty())
            .map(|p| p.name.as_ref())
            .collect();
        if !unitless.is_empty() {
            self.add("units", Verdict::Warning(format!("numbers without a unit: {}", unitless.join(", "))));
        }
    }

    /// What the encoder makes of arguments, checked for panic, time and purity.
    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Result<Invocation, ArgError>, String> {
        let began = Instant::now();
        let once = quiet(|| self.encoder.encode(args, facts))?;
        if let Err(e) = &once
            && e.message.starts_with("the plugin panicked")
        {
            return Err(e.message.clone());
        }
        if began.elapsed() > ENCODE {
            return Err(format!("it took {:?}, more than {ENCODE:?}", began.elapsed()));
        }
        let again = quiet(|| self.encoder.encode(args, facts))?;
        match (&once, &again) {
            (Ok(a), Ok(b)) if a != b => Err("the same arguments gave another invocation the second time".to_owned()),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => Err("the same arguments were taken once and refused once".to_owned()),
            _ => Ok(once),
        }
    }

    fn defaults(&mut self) {
        let Ok(args) = Args::new().complete(self.info) else { return };
        let verdict = match self.encode(&args, &rich_host(self.info)) {
            Err(problem) => Verdict::Failed(problem),
            Ok(Err(refused)) => Verdict::Warning(format!("refused where everything is there: {}", refused.message)),
            Ok(Ok(invocation)) => {
                let problems = sane(&invocation);
                if problems.is_empty() { Verdict::Ok } else { Verdict::Failed(problems.join("; ")) }
            }
        };
        self.add("defaults, on a host with everything", verdict);
        let verdict = match self.encode(&args, &HostFacts::default()) {
            Err(problem) => Verdict::Failed(problem),
            Ok(Err(refused)) if refused.message.trim().is_empty() => {
                Verdict::Failed("refused without a reason".to_owned())
            }
            Ok(Ok(_)) if !self.info.tools.trim().is_empty() => {
                let needs = self.info.tools.as_ref();
                Verdict::Warning(format!("taken though none of its programs is there ({needs}): the run finds out"))
            }
            Ok(_) => Verdict::Ok,
        };
        self.add("defaults, on a host of which nothing is known", verdict);
    }

    fn parameters(&mut self) {
        let (mut extremes, mut types) = (Vec::new(), Vec::new());
        let host = rich_host(self.info);
        for param in self.info.params.iter() {
            for value in edges(param) {
                let args = Args::new().with(&param.name, value.clone());
                let Ok(args) = args.complete(self.info) else {
                    extremes.push(format!("{} = {value} is within its range, and refused", param.name));
                    continue;
                };
                match self.encode(&args, &host) {
                    Err(problem) => extremes.push(format!("{} = {value}: {problem}", param.name)),
                    Ok(Ok(invocation)) => {
                        extremes.extend(sane(&invocation).into_iter().map(|p| format!("{} = {value}: {p}", param.name)))
                    }
                    Ok(Err(_)) => {}
                }
            }
            if let Some(wrong) = wrong(param.kind)
                && Args::new().with(&param.name, wrong.clone()).complete(self.info).is_ok()
            {
                types.push(format!("{} takes {wrong}, which is no {}", param.name, param.kind.word()));
            }
        }
        self.sum_up("values at the ends of their ranges", extremes);
        self.sum_up("values of a wrong type", types);
    }

    fn quoting(&mut self) {
        let (mut problems, mut lost) = (Vec::new(), Vec::new());
        let host = rich_host(self.info);
        let takes_text = |param: &&Param| matches!(param.kind, ParamType::String | ParamType::Strings);
        for param in self.info.params.iter().filter(takes_text).filter(|param| param.range.is_empty()) {
            let mut reached = None;
            for text in TEXTS {
                let Ok(args) = Args::new().with(&param.name, text).complete(self.info) else { continue };
                match self.encode(&args, &host) {
                    Err(problem) => problems.push(format!("{} = {text:?}: {problem}", param.name)),
                    Ok(Err(_)) => {}
                    Ok(Ok(invocation)) => {
                        problems
                            .extend(sane(&invocation).into_iter().map(|p| format!("{} = {text:?}: {p}", param.name)));
                        let whole = mentions(&invocation).any(|word| word.contains(text));
                        reached = Some(reached.unwrap_or(true) && whole);
                    }
                }
            }
            if reached == Some(false) {
                lost.push(param.name.to_string());
            }
        }
        self.sum_up("texts with blanks, quotes, line breaks, $ and dashes", problems);
        if !lost.is_empty() {
            let lost = lost.join(", ");
            self.add("texts", Verdict::Warning(format!("not every text reaches a command as it is: {lost}")));
        }
    }

    /// Gives the converter files as hosts that lost their power, or lie, would leave them.
    fn converter(&mut self) {
        let Ok(args) = Args::new().complete(self.info) else { return };
        let facts = rich_host(self.info);
        let outputs: Vec<String> = match self.encode(&args, &facts) {
            Ok(Ok(invocation)) => files(&invocation),
            _ => Vec::new(),
        };
        let wrong = |text: &str| text.as_bytes().to_vec();
        let contents: [(&str, Vec<u8>); 11] = [
            ("no file at all", Vec::new()),
            ("empty files", Vec::new()),
            ("zeros", vec![0; 64 << 10]),
            ("noise", noise(256 << 10)),
            ("many short lines", b"a b c 1 2 3\n".repeat(20_000)),
            ("one endless line", vec![b'x'; 1 << 20]),
            ("an empty JSON object", wrong("{}\n")),
            (
                "JSON without the expected members",
                wrong("{\"a\": [{\"b\": 1}], \"statistics\": [{\"timestamp\": \"x\"}]}\n"),
            ),
            ("lines of such JSON", wrong(&"{\"a\": 1, \"interval\": 1.0, \"type\": 7}\n".repeat(100))),
            ("an error message", wrong("Error: cannot do that: Permission denied\n")),
            ("a usage text", wrong("Usage: tool [ options ] [ <interval> ]\nOptions are:\n -h\n")),
        ];
        let (mut problems, mut mistaken) = (Vec::new(), Vec::new());
        for (nth, (what, content)) in contents.iter().enumerate() {
            let content = (nth > 0).then_some(content.as_slice());
            match self.converts(&args, &facts, &outputs, content) {
                Err(problem) => problems.push(format!("{what}: {problem}")),
                Ok(None) => {}
                Ok(Some(table)) => mistaken.push(format!("{what}: {table}")),
            }
        }
        self.sum_up("the converter, of files that are absent, empty, torn or nonsense", problems);
        self.sum_up("the converter takes no nonsense for a window in which nothing happened", mistaken);
    }

    fn converts(
        &self,
        args: &Args,
        facts: &HostFacts,
        outputs: &[String],
        content: Option<&[u8]>,
    ) -> Result<Option<String>, String> {
        let mut mistaken = None;
        let mut attempt = || -> Result<Attempt, String> {
            let scratch = Scratch::new().map_err(|e| format!("no directory to try it in: {e}"))?;
            let files =
                content.into_iter().flat_map(|content| outputs.iter().map(move |name| (name.as_str(), content)));
            let raw = scratch.results(args, files, facts, (1_700_000_000, 60));
            let raw = raw.map_err(|e| format!("its files cannot be written: {e}"))?;
            let directory = &raw.directory;
            let began = Instant::now();
            let mut done = quiet(|| self.encoder.convert(&raw))?;
            if let (Ok(made), Some([_, ..])) = (&mut done, content) {
                mistaken = empty_result(made, &raw, outputs);
            }
            if began.elapsed() > CONVERT {
                return Err(format!("it took {:?}", began.elapsed()));
            }
            if let Err(e) = &done
                && e.message.starts_with("the plugin panicked")
            {
                return Err(e.message.clone());
            }
            for table in done.iter().flatten() {
                if !stays_inside(&table.file) || !directory.join(&table.file).is_file() {
                    return Err(format!("the table {:?} is no file in its directory", table.file));
                }
            }
            for table in done.iter().flatten().filter(|table| table.file.ends_with(".csv")) {
                let header = header(&directory.join(&table.file));
                let columns: Vec<&str> = header.iter().map(String::as_str).collect();
                if let Some(problem) = undeclared(self.info, &table.file, &columns).first() {
                    return Err(problem.clone());
                }
            }
            let beside = fs::read_dir(scratch.path()).map(Iterator::count).unwrap_or(1);
            if beside != 1 {
                return Err("it wrote outside its directory".to_owned());
            }
            let tables = done.iter().flatten().map(|table| {
                let path = Utf8PathBuf::from(&table.file);
                fs::read(directory.join(&path)).map(|content| (path, content))
            });
            let tables: io::Result<Vec<_>> = tables.collect();
            Ok((done.is_ok(), tables.map_err(|e| format!("a table cannot be read: {e}"))?))
        };
        let (first, tables) = attempt()?;
        let (second, again) = attempt()?;
        if first != second || tables != again {
            return Err("the same files gave other tables the second time".to_owned());
        }
        Ok(mistaken)
    }
}

/// The columns of a table; none of one that cannot be read.
fn header(table: &Utf8Path) -> Vec<String> {
    let mut line = String::new();
    let file = fs::File::open(table).map(|file| io::BufReader::new(io::Read::take(file, 1 << 20)));
    if file.is_ok_and(|mut file| io::BufRead::read_line(&mut file, &mut line).is_err()) {
        return Vec::new();
    }
    line.trim_end().split(',').map(|name| name.trim_matches('"').to_owned()).collect()
}

/// The table that a run would take for a result without rows, of files that have something in them.
fn empty_result(tables: &mut [Table], raw: &RawResults, outputs: &[String]) -> Option<String> {
    require_rows(tables, raw, outputs, 0);
    let has_reason =
        tables.iter().any(|table| table.rows > 0 || table.incomplete.is_some() || table.repaired.is_some());
    let first = tables.first().filter(|_| !has_reason && !outputs.is_empty())?;
    Some(format!("{} has no row, and nothing says why", first.file))
}

/// Whether a conversion succeeded, and its tables with what is in them.
type Attempt = (bool, Vec<(Utf8PathBuf, Vec<u8>)>);

/// The result of something that may panic. A loaded plugin's panic is an error already.
fn quiet<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("it panicked: {text}")
    })
}

/// The ends of a parameter's range, and what it may be.
fn edges(param: &Param) -> Vec<Value> {
    let range = param.range.as_ref();
    let ends = || range.split_once("..").into_iter().flat_map(|(low, high)| [low, high]);
    match param.kind {
        ParamType::Bool => vec![Value::Bool(false), Value::Bool(true)],
        ParamType::Integer => ends().filter_map(|end| end.parse().ok()).map(Value::Int).collect(),
        ParamType::Number => ends().filter_map(|end| end.parse().ok()).map(Value::Float).collect(),
        ParamType::String if range.contains('|') => range.split('|').map(Value::from).collect(),
        _ => Vec::new(),
    }
}

/// A value that a parameter of this type cannot have; none: it takes any.
fn wrong(kind: ParamType) -> Option<Value> {
    match kind {
        ParamType::Bool | ParamType::Integer | ParamType::Number => Some(Value::from("no such thing")),
        ParamType::String => Some(Value::List(vec![Value::from("a"), Value::from("b")])),
        // A number or boolean is taken for the text that was written.
        ParamType::Strings => Some(Value::Map(std::collections::BTreeMap::new())),
        _ => None,
    }
}

/// Every command of an invocation.
fn commands(invocation: &Invocation) -> impl Iterator<Item = &Vec<String>> {
    let start = invocation.start.iter().map(|start| &start.argv);
    let poll = invocation.poll.iter().map(|poll| &poll.argv);
    let report = invocation.report.iter().map(|report| &report.argv);
    invocation.prepare.iter().chain(start).chain(poll).chain(report)
}

/// Every text in it that can have come from an argument.
fn mentions(invocation: &Invocation) -> impl Iterator<Item = &str> {
    let words = commands(invocation).flatten().map(String::as_str);
    let env = invocation.start.iter().flat_map(|start| start.env.values()).map(String::as_str);
    let sampled = invocation.samples.iter().flat_map(|samples| &samples.files).map(String::as_str);
    let settings = invocation.settings.iter().flat_map(|s| [s.path.as_str(), s.value.as_str()]);
    words.chain(env).chain(sampled).chain(settings)
}

/// Every file that it writes.
fn files(invocation: &Invocation) -> Vec<String> {
    let mut files: Vec<String> = invocation.outputs.iter().map(|output| output.file.clone()).collect();
    files.extend(invocation.start.iter().filter_map(|start| start.stdout.clone()));
    files.extend(invocation.samples.iter().map(|samples| samples.output.clone()));
    files.extend(invocation.poll.iter().map(|poll| poll.output.clone()));
    files.extend(invocation.report.iter().filter_map(|report| report.stdout.clone()));
    files.sort();
    files.dedup();
    files.retain(|file| !file.contains('/'));
    files
}

fn stays_inside(file: &str) -> bool {
    let path = Utf8Path::new(file);
    !file.is_empty() && path.components().all(|part| matches!(part, camino::Utf8Component::Normal(_)))
}

/// What is wrong with an invocation, whatever it is for.
fn sane(invocation: &Invocation) -> Vec<String> {
    let mut problems = Vec::new();
    let does = invocation.start.is_some() || invocation.samples.is_some() || invocation.poll.is_some();
    if !does && invocation.prepare.is_empty() && invocation.report.is_empty() {
        problems.push("it runs nothing".to_owned());
    }
    for argv in commands(invocation) {
        if argv.first().is_none_or(String::is_empty) {
            problems.push("a command has no program".to_owned());
        }
        if argv.iter().any(|word| word.contains('\0')) {
            problems.push("a command has a zero byte in it".to_owned());
        }
    }
    let outputs = invocation.outputs.iter().map(|output| &output.file);
    let written = outputs.chain(invocation.start.iter().filter_map(|start| start.stdout.as_ref()));
    problems
        .extend(written.filter(|file| !stays_inside(file)).map(|file| format!("{file:?} is outside its directory")));
    if invocation.stop.grace_ms > LONGEST_MS {
        problems.push(format!("it may take {} ms to end", invocation.stop.grace_ms));
    }
    let every = invocation.samples.iter().map(|s| s.every_ms).chain(invocation.poll.iter().map(|poll| poll.every_ms));
    problems.extend(every.filter(|ms| *ms == 0).map(|_| "an interval is zero".to_owned()));
    let absolute = |path: &&String| path.starts_with('/');
    let sampled = invocation.samples.iter().flat_map(|samples| &samples.files);
    problems.extend(sampled.filter(|path| !absolute(path)).map(|path| format!("{path:?} is not absolute")));
    problems
}

/// Bytes without sense, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use std::sync::atomic::Ordering::Relaxed;

    use autoprof_core::{
        RawResults, Table,
        error::ConvertError,
        protocol::{Output, OutputFormat, Start},
    };

    use super::*;

    const INFO: ProfilerInfo = ProfilerInfo::new("sample", "an encoder to be tested").params(PARAMS).tools("sample:-V");
    const PARAMS: &[Param] = &[
        Param::new("text", ParamType::String, "any text"),
        Param::new("interval", ParamType::Integer, "time between rows").default("1").unit("s").range("1..60"),
    ];

    /// An encoder that does what a test says.
    struct Sample<E, C>(E, C);

    impl<E, C> ArgEncoder for Sample<E, C>
    where
        E: Fn(&Args) -> Result<Invocation, ArgError> + Send + Sync,
        C: Fn(&RawResults) -> Result<Vec<Table>, ConvertError> + Send + Sync,
    {
        fn profiler(&self) -> &ProfilerInfo {
            static OF_ALL: ProfilerInfo = INFO;
            &OF_ALL
        }

        fn encode(&self, args: &Args, _: &HostFacts) -> Result<Invocation, ArgError> {
            self.0(args)
        }

        fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
            self.1(raw)
        }
    }

    fn runs(words: &[&str]) -> Invocation {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        let start = Some(Start { argv, stdout: Some("out.txt".to_owned()), ..Start::default() });
        let outputs = vec![Output { file: "out.txt".to_owned(), format: OutputFormat::Text, required: true }];
        Invocation { start, outputs, ..Invocation::default() }
    }

    fn good(args: &Args) -> Result<Invocation, ArgError> {
        Ok(runs(&["sample", args.string("text").unwrap_or("none")]))
    }

    fn nothing(_: &RawResults) -> Result<Vec<Table>, ConvertError> {
        Ok(Vec::new())
    }

    fn failed(encoder: &dyn ArgEncoder) -> String {
        failures(&check(encoder)).join("\n")
    }

    #[test]
    fn a_good_encoder_passes_with_what_may_surprise_said() {
        let checks = check(&Sample(good, nothing));
        assert_eq!(failures(&checks), Vec::<String>::new());
        let warned =
            checks.iter().any(|check| matches!(&check.verdict, Verdict::Warning(w) if w.contains("sample:-V")));
        assert!(warned, "{checks:#?}");
    }

    #[test]
    fn each_way_to_break_it_is_found() {
        let panics = |args: &Args| match args.string("text") {
            Some("it's") => panic!("a quote"),
            _ => good(args),
        };
        assert!(failed(&Sample(panics, nothing)).contains("it panicked: a quote"));
        let flag = AtomicBool::new(false);
        let moody = |_: &Args| Ok(runs(if flag.fetch_xor(true, Relaxed) { &["a"] } else { &["b"] }));
        assert!(failed(&Sample(moody, nothing)).contains("another invocation"));
        let escapes = |_: &Args| {
            let mut invocation = runs(&["x"]);
            invocation.outputs[0].file = "../x".to_owned();
            Ok(invocation)
        };
        assert!(failed(&Sample(escapes, nothing)).contains("outside its directory"));
        let splits = |args: &Args| Ok(runs(&args.string("text").unwrap_or("x").split(' ').collect::<Vec<_>>()));
        let checks = check(&Sample(splits, nothing));
        assert!(checks.iter().any(|c| matches!(&c.verdict, Verdict::Warning(w) if w.contains("reaches a command"))));
    }

    #[test]
    fn a_column_that_is_declared_and_not_made_is_found() {
        use autoprof_core::{Measure, TableInfo};
        const MEASURES: &[Measure] = &[Measure::new("cpu.busy", "100 - idle_percent")];
        const TABLES: &[TableInfo] = &[TableInfo::new("top.csv").keys("cpu").measures(MEASURES)];
        let info = ProfilerInfo::new("top", "").tables(TABLES);
        assert_eq!(undeclared(&info, "top.csv", &["time_unix", "cpu", "idle_percent"]), Vec::<String>::new());
        let lacks = ["top.csv has no key column \"cpu\"", "top.csv has no column \"idle_percent\""];
        assert_eq!(undeclared(&info, "top.csv", &["time_unix", "idle"]), lacks);
        assert_eq!(undeclared(&info, "other.csv", &["time_unix"]), Vec::<String>::new());

        struct Top;
        impl ArgEncoder for Top {
            fn profiler(&self) -> &ProfilerInfo {
                static WRONG: ProfilerInfo = ProfilerInfo::new("top", "who is busy").tables(TABLES);
                &WRONG
            }

            fn encode(&self, args: &Args, _: &HostFacts) -> Result<Invocation, ArgError> {
                good(args)
            }

            fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
                fs::write(raw.file("top.csv"), "time_unix,cpu,idle\n").unwrap();
                Ok(vec![Table { file: "top.csv".to_owned(), ..Table::default() }])
            }
        }
        let said = failed(&Top);
        assert!(said.contains("top.csv has no column \"idle_percent\""), "{said}");
    }

    #[test]
    fn a_converter_that_takes_nonsense_for_nothing_is_found() {
        let with = |may_be_empty| {
            move |raw: &RawResults| {
                fs::write(raw.file("t.csv"), "time_unix\n").unwrap();
                Ok(vec![Table { file: "t.csv".to_owned(), may_be_empty, ..Table::default() }])
            }
        };
        let said = failed(&Sample(good, with(true)));
        assert!(said.contains("an empty JSON object: t.csv has no row, and nothing says why"), "{said}");
        assert_eq!(failed(&Sample(good, with(false))), "", "a run has the reason by itself");
    }

    #[test]
    fn a_converter_that_trusts_its_files_is_found() {
        let trusting = |raw: &RawResults| {
            let text = fs::read_to_string(raw.file("out.txt")).expect("text");
            let _: u64 = text.lines().next().expect("a line").parse().expect("a number");
            Ok(Vec::new())
        };
        let said = failed(&Sample(good, trusting));
        assert!(said.contains("no file at all: it panicked") && said.contains("noise: it panicked"), "{said}");
        let absent = |_: &RawResults| Ok(vec![Table { file: "/etc/passwd".to_owned(), ..Table::default() }]);
        assert!(failed(&Sample(good, absent)).contains("no file in its directory"));
    }
}
