//! strace: the system calls of processes that run, as a summary or call by call.
use std::collections::BTreeMap;

use autoprof_plugin::{
    convert::{Lines, TableWriter, nanoseconds, number, open},
    prelude::*,
    words,
};

use crate::installed;

const OUTPUT: &str = "strace.txt";
const TABLE: &str = "syscalls.csv";

const PARAMS: &[Param] = &[
    Param::new("process", ParamType::String, "processes whose command line matches this, as pgrep -f finds them"),
    Param::new("pid", ParamType::Strings, "processes by number"),
    Param::new("mode", ParamType::String, "counts and times of each call, or every call")
        .default("summary")
        .range("summary|full"),
    Param::new("calls", ParamType::String, "only these, as strace's -e trace= takes them, such as file or read,write"),
];

/// strace as users know it.
pub const STRACE: ProfilerInfo = ProfilerInfo::new("strace", "system calls of running processes; it slows them down")
    .params(PARAMS)
    .tools("strace:-V=strace_--_version pgrep")
    .example("strace -f -c -S time -o strace.txt -p PID,…");

/// Finds the processes when it begins; strace itself follows their children. This shell has the name on its command
/// line, and so may whoever profiles this machine, and what started that: those are not meant.
const BY_NAME: &str = r#"name=$1; shift; pids=; not=" $$ "
found=$(pgrep -f -- "$name")
for pid in $found; do
    case $(cat "/proc/$pid/comm" 2>/dev/null) in '' | pgrep) not="$not$pid " ;; autoprof*)
        while [ "${pid:-0}" -gt 1 ]; do
            not="$not$pid "
            pid=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status" 2>/dev/null)
        done ;;
    esac
done
for pid in $found; do
    case $not in *" $pid "*) ;; *) pids=$pids${pids:+,}$pid ;; esac
done
[ -n "$pids" ] || { echo "no process matches: $name" >&2; exit 1; }
exec "$@" -p "$pids""#;

/// Attaches strace to processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strace;

impl ArgEncoder for Strace {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = STRACE;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "strace")?;
        let mut strace = words(&["strace", "-f", "-o", OUTPUT]);
        strace.extend(words(if is_full(args) { &["-ttt", "-T", "-y"] } else { &["-c", "-S", "time"] }));
        if let Some(calls) = args.string("calls") {
            strace.extend(["-e".to_owned(), format!("trace={calls}")]);
        }
        let argv = match (args.string("process"), args.strings("pid").as_slice()) {
            (Some(name), []) if !name.trim().is_empty() => {
                words(&["sh", "-c", BY_NAME, "sh", name]).into_iter().chain(strace).collect()
            }
            (None, pids) if !pids.is_empty() => {
                if let Some(bad) = pids.iter().find(|pid| pid.parse::<u32>().is_err()) {
                    return Err(ArgError::new(ArgErrorKind::Range, format!("pid: {bad:?} is no process number")));
                }
                strace.extend(["-p".to_owned(), pids.join(",")]);
                strace
            }
            _ => {
                let error = ArgError::new(ArgErrorKind::Conflict, "one of process and pid says what is traced");
                return Err(error.with_hint("such as strace:process=nginx, or strace:pid=[17, 18]"));
            }
        };
        let mut notes = vec!["strace stops a process at every call: what is measured beside it is slower".to_owned()];
        if facts.uid != 0 {
            notes.push(
                "a user may trace his own processes alone, and only where kernel.yama.ptrace_scope is 0".to_owned(),
            );
        }
        Ok(Invocation {
            // A process that is traced may end before the window does.
            start: Some(Start { argv, may_end: true, ..Start::default() }),
            stop: crate::STOP,
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Text, required: true }],
            notes,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        if is_full(&raw.args) { calls(raw) } else { summary(raw) }
    }
}

fn is_full(args: &Args) -> bool {
    args.string("mode") == Some("full")
}

/// The table that `-c` prints, at the end of the window.
fn summary(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let columns = ["syscall", "time_percent", "time_s", "time_per_call_us", "calls", "errors"];
    let mut table = TableWriter::events(raw, TABLE, &columns)?;
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    while let Some(line) = lines.next_text()? {
        // `% time  seconds  usecs/call  calls  [errors]  syscall`
        let fields: Vec<&str> = line.split_whitespace().collect();
        let cells = match fields.as_slice() {
            [percent, seconds, each, calls, name] => [*name, percent, seconds, each, calls, "0"],
            [percent, seconds, each, calls, errors, name] => [*name, percent, seconds, each, calls, errors],
            ["%", "time", ..] => {
                table.nothing_happened();
                continue;
            }
            _ => continue,
        };
        if cells[0] != "total" && cells[1..].iter().all(|cell| cell.parse::<f64>().is_ok()) {
            table.row(raw.ended_unix_ns, cells)?;
        }
    }
    lines.warnings().for_each(|warning| table.warn(warning));
    Ok(vec![table.finish()?])
}

/// How often each call was made in each second, and how long it took.
fn calls(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let columns = ["syscall", "calls_per_s", "errors_per_s", "time_ms_per_s"];
    let mut table = TableWriter::events(raw, TABLE, &columns)?;
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    let mut seconds: BTreeMap<i64, BTreeMap<String, (u64, u64, f64)>> = BTreeMap::new();
    while let Some(line) = lines.next_text()? {
        if ["+++ ", "--- ", "<unfinished ...>"].iter().any(|what| line.contains(what)) {
            table.nothing_happened();
        }
        let Some((at, name, failed, took)) = call(&line) else { continue };
        // A second that has not ended yet; strace of several processes writes nearly in order.
        let (calls, errors, time) = seconds.entry(at).or_default().entry(name.to_owned()).or_default();
        *calls += 1;
        *errors += u64::from(failed);
        *time += took * 1e3;
    }
    for (second, calls) in seconds {
        for (name, (count, errors, time)) in calls {
            let end = (second + 1).saturating_mul(1_000_000_000);
            table.row(end, [name, count.to_string(), errors.to_string(), number(time)])?;
        }
    }
    table.account_for(&lines);
    Ok(vec![table.finish()?])
}

/// A line such as `17 1795701720.123456 read(3</etc/passwd>, "…", 4096) = -1 EAGAIN (…) <0.000012>`: the second, the
/// call, whether it failed, and how many seconds it took. A call that is `resumed` is counted, its beginning is not.
fn call(line: &str) -> Option<(i64, &str, bool, f64)> {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    // Without `-f` being needed there is no process number before the time.
    let (time, rest) = if rest.starts_with('.') { line.split_once(' ')? } else { rest.split_once(' ')? };
    let at = nanoseconds(time.parse().ok()?).div_euclid(1_000_000_000);
    let rest = rest.trim_start();
    let (name, after) = match rest.strip_prefix("<... ") {
        Some(resumed) => resumed.split_once(' ')?,
        None => rest.split_once('(')?,
    };
    let took: f64 = after.rsplit_once('<')?.1.strip_suffix('>')?.parse().ok()?;
    let failed = after.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with("-1 "));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((at, name, failed, took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // strace 6.1.
    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.54    0.000040          40         1           clock_nanosleep
 38.46    0.000025           5         5         2 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000065          10         6         2 total
";
    const FULL: &str = "\
17 1000.100000 read(3</etc/a b>, \"x < y\", 4096) = 5 <0.000100>
18 1000.200000 futex(0x7f, FUTEX_WAIT, 0 <unfinished ...>
17 1000.300000 openat(AT_FDCWD</>, \"/nope\", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000050>
18 1001.400000 <... futex resumed>) = 0 <1.200000>
17 1001.500000 +++ exited with 0 +++
17 1001.600000 read(3</etc/a
";

    #[test]
    fn the_summary_is_one_row_for_each_call() {
        let (tables, csv) =
            converted(&Strace, &Args::new().with("pid", "1"), &[(OUTPUT, SUMMARY.as_bytes())], (10, 5), TABLE);
        assert_eq!(tables.unwrap()[0].rows, 2, "{csv}");
        assert_eq!(csv.lines().nth(1), Some("15.000000,clock_nanosleep,61.54,0.000040,40,1,0"));
        assert_eq!(csv.lines().nth(2), Some("15.000000,read,38.46,0.000025,5,5,2"));
    }

    #[test]
    fn calls_are_counted_by_the_second() {
        let args = Args::new().with("pid", "17").with("mode", "full");
        let (tables, csv) = converted(&Strace, &args, &[(OUTPUT, FULL.as_bytes())], (1000, 5), TABLE);
        assert_eq!(tables.unwrap()[0].rows, 3, "{csv}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows, ["1001.000000,openat,1,1,0.05", "1001.000000,read,1,0,0.1", "1002.000000,futex,1,0,1200"]);
    }

    #[test]
    fn what_is_traced_must_be_said_once() {
        let encode = |args: &Args| Strace.encode(&args.complete(&STRACE).unwrap(), &facts(&["strace"]));
        for args in [Args::new(), Args::new().with("process", "x").with("pid", "1"), Args::new().with("process", " ")] {
            assert_eq!(encode(&args).unwrap_err().kind, ArgErrorKind::Conflict);
        }
        assert_eq!(encode(&Args::new().with("pid", "-1")).unwrap_err().kind, ArgErrorKind::Range);
        let argv =
            encode(&Args::new().with("process", "a 'b'; $(c)").with("calls", "file")).unwrap().start.unwrap().argv;
        assert_eq!(argv[..2], ["sh", "-c"]);
        assert_eq!(
            argv[3..],
            ["sh", "a 'b'; $(c)", "strace", "-f", "-o", "strace.txt", "-c", "-S", "time", "-e", "trace=file"]
        );
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..FULL.len(), byte: u8) {
            let mut bytes = FULL.as_bytes().to_vec();
            bytes[at] = byte;
            let args = Args::new().with("pid", "17").with("mode", "full");
            let _ = converted(&Strace, &args, &[(OUTPUT, &bytes)], (1000, 5), TABLE);
        }
    }
}
