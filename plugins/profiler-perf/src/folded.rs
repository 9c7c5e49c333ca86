//! Folded stacks: made by `perf report` on the host, where the programs and their symbols are, and brought here into
//! the form that flame graph programs read, `command;outer;inner COUNT`.
use std::{
    fs::File,
    io::{BufWriter, Write},
};

use autoprof_plugin::{
    convert::{Lines, open},
    prelude::*,
    words,
};

use crate::{events::Access, subcommand};

/// What `perf report` printed.
pub const OUTPUT: &str = "perf.folded.txt";

/// The stacks of the first event; those of others are in `stacks-EVENT.folded`.
const STACKS: &str = "stacks.folded";

/// How many events have files of their own.
const MOST_EVENTS: usize = 32;

/// The command that prints the stacks, outermost function first, a count before each.
///
/// The separator is a tab, which is in no name, as a semicolon may be (Rust has `[T; 4]`). Without `--no-inline` perf
/// runs addr2line for every address; that is there since 4.14.
pub fn command(facts: &HostFacts, call_graph: &str) -> Option<Vec<String>> {
    facts.tools.get("perf")?.is_at_least(&[4, 14]).then(|| report(call_graph, ""))
}

/// `perf report` by what is named before the command, such as `time,`.
pub(crate) fn report(call_graph: &str, by: &str) -> Vec<String> {
    let mut argv = words(&["perf", "report", "-i", "perf.data", "--stdio", "--no-children", "--no-inline"]);
    argv.extend(words(&["--percent-limit", "0", "-t", "\t"]));
    // Without stacks the function itself is all that there is.
    let (what, graph) = if call_graph == "none" { ("comm,sym", "none") } else { ("comm", "folded,0,caller,count") };
    argv.extend(words(&["-F", &format!("sample,{by}{what}"), "-s", &format!("{by}{what}"), "-g", graph]));
    argv
}

/// The addresses of the kernel's functions, for the time of the report.
const KALLSYMS: &str = "kallsyms";

/// How the report is made. The kernel shows the addresses of its functions to root alone (`kernel.kptr_restrict`, and
/// `kernel.perf_event_paranoid` above 1), so that where it took root to record, it takes root to read those. perf itself
/// reads the records as the user: they are the user's, and could be anything.
pub fn reports(access: Access<'_>, commands: Vec<(Vec<String>, &str)>) -> Vec<Report> {
    let report = |argv, stdout: Option<&str>| Report { argv, stdout: stdout.map(str::to_owned), timeout_ms: 120_000 };
    let Access::Sudo { cat, .. } = access else {
        return commands.into_iter().map(|(argv, output)| report(argv, Some(output))).collect();
    };
    let mut reports = vec![report(as_root([cat.path.as_str(), "/proc/kallsyms"]), Some(KALLSYMS))];
    for (mut argv, output) in commands {
        argv.extend(words(&["--kallsyms", KALLSYMS]));
        reports.push(report(argv, Some(output)));
    }
    reports.push(report(words(&["rm", KALLSYMS]), None));
    reports
}

/// Makes `stacks.folded` of what the command printed.
///
/// It prints for each event a comment with its name; then for each command a line `COUNT⇥COMMAND`, followed by its
/// stacks, each `COUNT OUTER⇥…⇥INNER`; or, without stacks, lines `COUNT⇥COMMAND⇥[k] FUNCTION` alone.
pub fn convert(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    let mut stacks = vec![Stacks::create(raw, STACKS.to_owned())?];
    let mut lost = 0u64;
    let mut events = 0usize;
    let mut passed_over = false;
    while let Some(line) = lines.next_text()? {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(count) = comment.trim().strip_prefix("Total Lost Samples:") {
                lost = lost.saturating_add(count.trim().parse().unwrap_or(0));
            } else if let Some((_, event)) = comment.split_once(" of event") {
                events += 1;
                passed_over = events > MOST_EVENTS;
                if events > 1 && !passed_over {
                    stacks.push(Stacks::create(raw, format!("stacks-{events}-{}.folded", file_name(event)))?);
                }
            }
        } else if let (Some(current), false) = (stacks.last_mut(), passed_over || line.trim().is_empty()) {
            current.line(&line)?;
        }
    }
    if let (true, Some(last)) = (lines.torn(), stacks.last_mut()) {
        last.cut();
    }
    let samples = stacks.iter().fold(0u64, |sum, stacks| sum.saturating_add(stacks.samples));
    let mut tables = stacks.into_iter().map(Stacks::finish).collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = tables.first_mut() {
        first.incomplete = subcommand::failed(raw)?;
        first.warnings.extend(lines.warnings());
        first.repaired = lines.torn().then_some(samples);
        if lost > 0 {
            first.warnings.push(format!("perf lost {lost} samples"));
        }
        if events > MOST_EVENTS {
            first.warnings.push(format!("only the first {MOST_EVENTS} of {events} events have files"));
        }
    }
    Ok(tables)
}

/// ` 'sched:sched_switch'` as part of a file name: `sched-sched_switch`.
fn file_name(event: &str) -> String {
    let name = event.trim_start_matches('s').trim().trim_matches('\'');
    name.chars().take(60).map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// The stacks of one event.
pub(crate) struct Stacks {
    file: BufWriter<File>,
    /// What stands before the command: nothing, or a frame and its semicolon.
    root: String,
    table: Table,
    command: String,
    /// Samples of the command that have not been seen as a stack yet.
    left: u64,
    /// Samples that were written.
    samples: u64,
    strange: u64,
}

impl Stacks {
    pub(crate) fn create(raw: &RawResults, name: String) -> Result<Self, ConvertError> {
        let file = File::create(raw.file(&name))
            .map_err(|e| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {name}"), &e))?;
        let table = Table { file: name, ..Table::default() };
        let file = BufWriter::new(file);
        Ok(Self { file, root: String::new(), table, command: String::new(), left: 0, samples: 0, strange: 0 })
    }

    /// The frame that the stacks which follow have above their command.
    pub(crate) fn below(&mut self, root: &str) -> Result<(), ConvertError> {
        self.end_command()?;
        self.root = format!("{root};");
        Ok(())
    }

    /// What was not written is not there any more: the stacks may be what is missing.
    pub(crate) fn cut(&mut self) {
        self.left = 0;
    }

    /// Samples that were written.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), ConvertError> {
        let head = line.split_once('\t').and_then(|(count, rest)| Some((count.trim().parse::<u64>().ok()?, rest)));
        if let Some((count, rest)) = head {
            self.end_command()?;
            let (command, function) = rest.split_once('\t').map_or((rest, None), |(c, f)| (c, Some(f)));
            self.command = name(command).replace(' ', "_");
            return match function {
                // `[k] name`, or `[.] name` outside of the kernel.
                Some(function) => self.write(&[function.trim().get(4..).unwrap_or(function)], count),
                None => {
                    self.left = count;
                    Ok(())
                }
            };
        }
        let stack = line.split_once(' ').and_then(|(count, frames)| Some((count.parse::<u64>().ok()?, frames)));
        let Some((count, frames)) = stack.filter(|_| !self.command.is_empty()) else {
            self.strange += 1;
            return Ok(());
        };
        self.left = self.left.saturating_sub(count);
        self.write(&frames.split('\t').collect::<Vec<_>>(), count)
    }

    /// Samples for which perf found no stack at all are not to be missing in the sum.
    fn end_command(&mut self) -> Result<(), ConvertError> {
        match std::mem::take(&mut self.left) {
            0 => Ok(()),
            left => self.write(&[""], left),
        }
    }

    fn write(&mut self, frames: &[&str], count: u64) -> Result<(), ConvertError> {
        write!(self.file, "{}{}", self.root, self.command)?;
        let mut last_unknown = false;
        for frame in frames.iter().map(|frame| name(frame)) {
            // An address would be another one in every process; several in a row say no more than one.
            let unknown = is_address(&frame);
            if !(unknown && last_unknown) {
                write!(self.file, ";{}", if unknown { "[unknown]" } else { &frame })?;
            }
            last_unknown = unknown;
        }
        writeln!(self.file, " {count}")?;
        self.samples = self.samples.saturating_add(count);
        self.table.rows += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Table, ConvertError> {
        self.end_command()?;
        self.file.flush()?;
        if self.strange > 0 {
            self.table.warnings.push(format!("{} lines that are not stacks were left out", self.strange));
        }
        Ok(self.table)
    }
}

/// A name in which nothing can be taken for the end of a frame.
fn name(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| {
            if c == ';' {
                ':'
            } else if c.is_control() {
                '?'
            } else {
                c
            }
        })
        .collect()
}

/// perf prints an address, or a bare 0, where it has no name.
fn is_address(frame: &str) -> bool {
    let digits = frame.strip_prefix("0x").unwrap_or(if frame == "0" { "0" } else { frame });
    frame.is_empty() || frame == "0" || (frame.starts_with("0x") && digits.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PerfRecord, events::test_facts};
    use proptest::prelude::*;

    // perf 6.1 on two CPUs, one of them in a small C program.
    const FILE: &str = include_str!("../tests/data/perf.folded.txt");

    fn converted(text: &[u8]) -> (Vec<Table>, impl Fn(&str) -> String + use<>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), text).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new(),
            began_unix_ns: 0,
            ended_unix_ns: 0,
            facts: test_facts("perf version 6.1.187"),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let tables = PerfRecord.convert(&raw).unwrap();
        (tables, move |file| std::fs::read_to_string(directory.path().join(file)).unwrap())
    }

    fn sum(stacks: &str) -> u64 {
        stacks.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    #[test]
    fn stacks_have_the_command_first_and_the_innermost_function_last() {
        let (tables, read) = converted(FILE.as_bytes());
        let stacks = read("stacks.folded");
        assert_eq!((tables[0].rows, tables[0].warnings.len()), (stacks.lines().count() as u64, 0));
        assert!(stacks.contains("burn;__libc_start_call_main;main;burn_outer;burn_inner "), "{stacks}");
    }

    #[test]
    fn no_sample_is_missing() {
        let total = FILE.lines().find_map(|l| l.strip_prefix("# Samples: ")?.split(' ').next()).unwrap();
        assert_eq!(sum(&converted(FILE.as_bytes()).1("stacks.folded")), total.parse::<u64>().unwrap());
        assert_eq!(converted(b" 5 \tsh\n3 main\n").1("stacks.folded"), "sh;main 3\nsh;[unknown] 2\n");
    }

    #[test]
    fn names_cannot_be_taken_for_two_frames_and_addresses_are_one() {
        let (_, read) = converted(b" 9  \topt cgu.0 \n9 0\t0x7f00\t<[T; 4]>::f(int, char)\t0x1\n");
        assert_eq!(read("stacks.folded"), "opt_cgu.0;[unknown];<[T: 4]>::f(int, char);[unknown] 9\n");
    }

    #[test]
    fn each_event_has_a_file() {
        let text = "# Samples: 1  of event 'cpu-clock'\n 1 \ta\n1 f\n\n# Samples: 2  of event 'sched:sched_switch'\n 2 \tb\n2 g\n";
        let (tables, read) = converted(text.as_bytes());
        assert_eq!(tables.len(), 2);
        assert_eq!(read("stacks.folded"), "a;f 1\n");
        assert_eq!(read("stacks-2-sched-sched_switch.folded"), "b;g 2\n");
    }

    #[test]
    fn without_stacks_the_function_is_the_stack() {
        let argv = command(&test_facts("6.1"), "none").unwrap();
        assert!(argv.contains(&"sample,comm,sym".to_owned()));
        let (_, read) = converted(b" 195 \tburn  \t[.] burn_inner   \n 1 \tcat\t[.] 0x0000000000036c3b\n");
        assert_eq!(read("stacks.folded"), "burn;burn_inner 195\ncat;[unknown] 1\n");
    }

    #[test]
    fn stacks_that_were_cut_are_left_out() {
        let (tables, read) = converted(b" 5 \tsh\n3 main\n 7 \tcat\n4 main\n3 ma");
        assert_eq!(read("stacks.folded"), "sh;main 3\nsh;[unknown] 2\ncat;main 4\n");
        assert_eq!(tables[0].repaired, Some(9));
    }

    #[test]
    fn lost_samples_are_told() {
        assert_eq!(converted(b"# Total Lost Samples: 7\n").0[0].warnings, ["perf lost 7 samples"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            let _ = converted(&bytes).0;
            let _ = converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat()).0;
        }

        #[test]
        fn a_file_cut_within_a_line_gives_the_stacks_before(at in 0..FILE.len(), zeros in 0usize..9000) {
            prop_assume!(zeros > 0 || !FILE[..at].ends_with('\n'));
            let (tables, read) = converted(&[&FILE.as_bytes()[..at], &vec![0; zeros]].concat());
            let stacks = read("stacks.folded");
            prop_assert!(converted(FILE.as_bytes()).1("stacks.folded").starts_with(&stacks));
            prop_assert!(stacks.is_empty() || stacks.ends_with('\n'));
            prop_assert_eq!(tables[0].repaired, if at + zeros > 0 { Some(sum(&stacks)) } else { None });
        }

        #[test]
        fn every_line_is_a_stack_and_a_count(text in "[ 0-9a-z#;\t\n]{0,200}") {
            for line in converted(text.as_bytes()).1("stacks.folded").lines() {
                let (stack, count) = line.rsplit_once(' ').unwrap();
                prop_assert!(count.parse::<u64>().is_ok() && stack.contains(';'));
            }
        }
    }
}
