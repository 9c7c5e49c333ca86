//! Profilers of Autotest: an unmodified client tree of it, with the site's own profilers, runs on each host between start
//! and stop.
//!
//! The tree is sent. A control file adds the profilers and waits for Autotest's marker files (`profiler.start`, `.stop`,
//! `.report` in its `AUTODIR`): the rule is that of Autotest's own server-side profilers, so that what they left in
//! `results/default/profiler_test/profiling` comes back. A shell beside it raises the markers, and takes from the next
//! marker that Autotest waits for that the last step is done: of itself, Autotest acknowledges nothing.
#![forbid(unsafe_code)]

mod python;

use autoprof_plugin::{prelude::*, sent, words};

pub use python::call;

const NAME: &str = "autotest";
/// What the tree is called where it is sent to.
const TREE: &str = "tree";
/// What Autotest prints.
const LOG: &str = "autotest.log";
/// Says that all steps were taken: Autotest's own status is that of whatever came last.
const DONE: &str = "autotest.done";

const PARAMS: &[Param] = &[
    Param::new("tree", ParamType::String, "Autotest's client: a directory or tar archive of the controller"),
    Param::new(
        "profilers",
        ParamType::Any,
        "its profilers: a name, a list of names, or a map of names to arguments (a map of named ones, or a list)",
    ),
    Param::new("python", ParamType::String, "the Python that runs it; otherwise python2, python or python3"),
    Param::new("grace", ParamType::Number, "time for its profilers to stop and report")
        .default("60")
        .unit("s")
        .range("1..3600"),
];

/// autotest as users know it.
pub const AUTOTEST: ProfilerInfo =
    ProfilerInfo::new(NAME, "profilers of an Autotest client tree, one's own among them, as they are")
        .params(PARAMS)
        .tools("python2:-V=python_# python:-V=python_# python3:-V=python_# tar:--version")
        .example("python2 -u client/autotest-local autotest.control");

/// Adds the encoder of autotest.
///
/// # Errors
/// When there is a profiler of this name already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Autotest))
}

export_plugin!(register, profilers = [AUTOTEST]);

/// Unpacks the tree if need be, and finds the program in it: that of the newer clients, or of the older ones.
const PREPARE: &str = r#"cd "$1" || exit
tree=tree
if [ -f tree ]; then rm -rf unpacked && mkdir unpacked && tar -xf tree -C unpacked || exit; tree=unpacked; fi
rm -f where ended
for dir in "$tree" "$tree/client" "$tree"/*/ "$tree"/*/client; do
    for program in autotest-local bin/autotest-local bin/autotest; do
        [ -f "$dir/$program" ] && [ -d "$dir/profilers" ] || continue
        # Where no test was unpacked it is not there, and Autotest wants it to be.
        mkdir -p "$dir/tests" && echo "$PWD/$dir" >where && echo "$program" >>where || exit
        # A client without its server has no settings, and does not begin without a file of them.
        [ -e "$dir/global_config.ini" ] || : >"$dir/global_config.ini"
        exit
    done
done
echo "no Autotest client: neither autotest-local nor bin/autotest beside a directory profilers" >&2
exit 1"#;

/// Runs it. Signals that are meant for this shell are not for Autotest: it would die of them before its profilers have
/// stopped.
const RUN: &str = r#"home=${1%/} python=$2
{ read -r dir; read -r program; } <"$home/where"
rm -f "$dir/profiler.start" "$dir/profiler.stop" "$dir/profiler.report"
printf '%s' "$3" >autotest.control
trap '' USR1
(
    AUTOPROF_PROFDIR=$PWD "$python" -u "$dir/$program" "$PWD/autotest.control" >>autotest.log 2>&1
    echo $? >"$home/ended"
) &
client=$!
trap 'exit 1' USR1
ended() {
    [ "$(cat "$home/ended")" != 127 ] || command -v "$python" >/dev/null || echo "$python is not there" >&2
    echo "Autotest ended before $1 ($(cat "$home/ended")): $(grep -E 'Error|not present' autotest.log | tail -n 1 | tr '\t' ' ')" >&2
    exit 1
}
awaits() {
    until [ -p "$dir/profiler.$1" ]; do
        [ ! -e "$home/ended" ] || ended "$2"
        sleep 0.05
    done
}
finish() {
    trap '' USR1
    echo A >"$dir/profiler.stop"
    awaits report "its profilers had stopped"
    echo A >"$dir/profiler.report"
    wait $client
    [ "$(cat "$home/ended")" = 0 ] || ended "its profilers had reported"
    echo "started, stopped, reported" >autotest.done
    exit 0
}
exec 3<>autotest.fifo 4<>autotest.ack
while read -r word <&3; do
    case $word in
    ready) awaits start "its profilers were there" && echo done >&4 ;;
    begin)
        echo A >"$dir/profiler.start"
        awaits stop "its profilers had begun"
        trap finish USR1
        echo done >&4
        break
        ;;
    esac
done
wait $client
ended "it was stopped""#;

/// Waits for markers, and takes the profilers through their steps. It is read by Python 2.4 as well as by Python 3.
const STEPS: &str = r"
import errno, os, sys

class autoprof_test(object):
    pass

def autoprof_wait(step):
    path = os.path.join(job.autodir, 'profiler.' + step)
    try:
        os.mkfifo(path, 384)
    except OSError:
        # It is there: the signal came first.
        if sys.exc_info()[1].errno != errno.EEXIST:
            raise
    else:
        fifo = open(path)
        fifo.read(1)
        fifo.close()
    os.remove(path)

test = autoprof_test()
test.job, test.autodir, test.bindir = job, job.autodir, job.autodir
test.outputdir = os.path.join(job.resultdir, 'profiler_test')
test.profdir = os.path.join(test.outputdir, 'profiling')
test.resultsdir = test.debugdir = test.tmpdir = test.srcdir = test.outputdir
test.tagged_testname, test.iteration = 'profiler_test', None
if not os.path.isdir(test.outputdir):
    os.makedirs(test.outputdir)
if not os.path.islink(test.profdir):
    os.symlink(os.environ['AUTOPROF_PROFDIR'], test.profdir)
autoprof_wait('start')
job.profilers.start(test)
autoprof_wait('stop')
job.profilers.stop(test)
autoprof_wait('report')
job.profilers.report(test)
";

/// Runs Autotest's client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Autotest;

impl ArgEncoder for Autotest {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = AUTOTEST;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let control = control(args.named.get("profilers"))?;
        let Some(tree) = args.string("tree").filter(|tree| !tree.trim().is_empty()) else {
            let error = ArgError::new(ArgErrorKind::Conflict, "tree is missing: where Autotest's client is");
            return Err(error.with_hint("such as autotest:tree=~/autotest/client,profilers=vmstat"));
        };
        let python = match args.string("python").filter(|python| !python.trim().is_empty()) {
            // It may be anywhere; if it is not, Autotest does not come up, and that is said.
            Some(python) => python,
            None => *["python2", "python", "python3"].iter().find(|name| is_python(facts, name)).ok_or_else(|| {
                ArgError::new(ArgErrorKind::Missing, "no Python is installed")
                    .with_hint("install the one that the Autotest tree is written for, or name it with python=PATH")
            })?,
        };
        let home = sent(NAME, "");
        let script = |body: &str| format!("set -- {home} \"$@\"\n{body}");
        let run = script(RUN);
        Ok(Invocation {
            files: vec![SentFile { from: tree.to_owned(), name: TREE.to_owned() }],
            prepare: vec![words(&["sh", "-c", &script(PREPARE), "sh"])],
            start: Some(Start {
                argv: words(&["sh", "-c", &run, "sh", python, &control]),
                arm: Some(Arm {
                    control: "autotest.fifo".to_owned(),
                    ack: "autotest.ack".to_owned(),
                    probe: Some("ready".to_owned()),
                    enable: "begin".to_owned(),
                    answer: "done".to_owned(),
                    flush: None,
                }),
                ..Start::default()
            }),
            stop: Stop { signal: StopSignal::User1, grace_ms: grace(args) },
            // Whatever a tool says with its status when it is asked to end is taken for an end.
            report: vec![Report { argv: words(&["test", "-s", DONE]), stdout: None, timeout_ms: 10_000 }],
            outputs: [LOG, DONE]
                .map(|file| Output { file: file.to_owned(), format: OutputFormat::Text, required: false })
                .into(),
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }
}

/// Whether it says that it is: what stands in for one that is not installed (pyenv's) says something else.
fn is_python(facts: &HostFacts, name: &str) -> bool {
    facts.tools.get(name).is_some_and(|tool| tool.version.as_untrusted_str().starts_with("Python"))
}

/// Seconds as milliseconds; the parameter is checked to be at most an hour.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to an hour")]
fn grace(args: &Args) -> u64 {
    (args.number("grace").unwrap_or(60.0) * 1000.0).clamp(1000.0, 3_600_000.0) as u64
}

/// Autotest's control file for these profilers.
fn control(profilers: Option<&Value>) -> Result<String, ArgError> {
    let none = || {
        ArgError::new(ArgErrorKind::Conflict, "profilers is missing: which of Autotest's profilers are run")
            .with_hint("such as profilers=vmstat, or profilers={cmdprofile: {cmds: [ps], interval: 5}}")
    };
    let mut wanted = Vec::new();
    match profilers {
        None | Some(Value::Null) => return Err(none()),
        Some(Value::List(entries)) => entries.iter().try_for_each(|entry| entry_of(entry, &mut wanted))?,
        Some(one) => entry_of(one, &mut wanted)?,
    }
    if wanted.is_empty() {
        return Err(none());
    }
    let line = |verb: &str, call: &str| format!("job.profilers.{verb}({call})\n");
    let mut text: String = wanted.iter().map(|(_, call)| line("add", call)).collect();
    text.push_str(STEPS);
    for (name, _) in &wanted {
        text.push_str(&line("delete", &python::literal(&Value::from(name.as_str()))));
    }
    Ok(text)
}

/// A name, or a map of names to arguments: each with how Autotest is told of it.
fn entry_of(entry: &Value, wanted: &mut Vec<(String, String)>) -> Result<(), ArgError> {
    match entry {
        Value::Str(name) => wanted.push((name.clone(), call(name, &Args::new())?)),
        Value::Map(map) => {
            for (name, value) in map {
                let args = match value {
                    Value::Null => Args::new(),
                    Value::List(values) => Args { positional: values.clone(), ..Args::new() },
                    Value::Map(named) => Args { named: named.clone(), ..Args::new() },
                    one => Args { positional: vec![one.clone()], ..Args::new() },
                };
                wanted.push((name.clone(), call(name, &args)?));
            }
        }
        other => {
            let message = format!("profilers: {} ({other}) is no profiler's name", other.type_word());
            return Err(ArgError::new(ArgErrorKind::Type, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::testing::host_with;

    fn encoded(profilers: Value) -> Result<Invocation, ArgError> {
        let args = Args::new().with("tree", "/opt/a b/client").with("profilers", profilers);
        Autotest.encode(&args.complete(&AUTOTEST)?, &host_with(&["python3", "tar"], "Python 3.11"))
    }

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn the_control_file_adds_them_with_their_arguments_and_deletes_them() {
        let cmds = Value::List(vec![Value::from("ps -e"), Value::from("it's")]);
        let profilers =
            map(&[("cmdprofile", map(&[("cmds", cmds), ("interval", Value::Float(0.5))])), ("x", Value::Int(5))]);
        let argv = encoded(profilers).unwrap().start.unwrap().argv;
        let (python, control) = (&argv[4], &argv[5]);
        assert_eq!(python, "python3");
        assert!(control.starts_with(
            "job.profilers.add('cmdprofile', cmds=['ps -e', 'it\\'s'], interval=0.5)\njob.profilers.add('x', 5)\n"
        ));
        assert!(control.ends_with("job.profilers.delete('cmdprofile')\njob.profilers.delete('x')\n"), "{control}");
    }

    #[test]
    fn what_is_no_profiler_is_refused() {
        for profilers in [Value::Null, Value::List(vec![]), map(&[])] {
            assert_eq!(encoded(profilers).unwrap_err().kind, ArgErrorKind::Conflict);
        }
        assert_eq!(encoded(Value::Int(3)).unwrap_err().kind, ArgErrorKind::Type);
        for name in ["a b", "../x", "x'); import os", "class", ""] {
            assert_eq!(encoded(Value::from(name)).unwrap_err().kind, ArgErrorKind::Range, "{name:?}");
        }
        let bad_key = map(&[("x", map(&[("not a name", Value::Int(1))]))]);
        assert_eq!(encoded(bad_key).unwrap_err().kind, ArgErrorKind::Range);
        let without_python = Autotest.encode(
            &Args::new().with("tree", "/x").with("profilers", "vmstat").complete(&AUTOTEST).unwrap(),
            &HostFacts::default(),
        );
        assert_eq!(without_python.unwrap_err().kind, ArgErrorKind::Missing);
    }

    #[test]
    fn the_tree_is_sent() {
        let invocation = encoded(Value::from("vmstat")).unwrap();
        assert_eq!(invocation.files, [SentFile { from: "/opt/a b/client".into(), name: "tree".into() }]);
        assert!(invocation.prepare[0][2].starts_with("set -- \"$AUTOPROF_CLIENT_DIR/files/autotest/\" \"$@\"\n"));
    }
}
