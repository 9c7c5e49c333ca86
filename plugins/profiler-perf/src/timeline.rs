//! Stacks over time: what a heat map of seconds and parts of a second is made of, and the flame graph of an interval.
//!
//! `perf report` sorts by time as well as by command, in steps of [`STEP_MS`] (since perf 5.2). It holds all that in
//! memory, so that it is done for files up to a size.
use autoprof_plugin::{
    convert::{Lines, open},
    prelude::*,
    words,
};

use crate::folded::{Stacks, report};

/// What `perf report` printed.
pub const OUTPUT: &str = "perf.timeline.txt";
/// Folded stacks with an outermost frame more: when, in seconds since 1970.
pub const TIMELINE: &str = "timeline.folded";
/// The length of a step, in milliseconds: that of FlameScope, which has 50 in a second.
const STEP_MS: u32 = 20;

/// The command, if this perf knows how; it does nothing where the file is larger than that many bytes.
pub fn command(facts: &HostFacts, call_graph: &str, most_bytes: u64) -> Option<Vec<String>> {
    if most_bytes == 0 || !facts.tools.get("perf")?.is_at_least(&[5, 2]) {
        return None;
    }
    let script = format!("[ $(wc -c <perf.data) -le {most_bytes} ] || exit 0; exec \"$@\"");
    let mut argv = words(&["sh", "-c", &script, "sh"]);
    argv.extend(report(call_graph, "time,"));
    // The header has the clock's reference time (since 5.10).
    argv.extend(words(&["--header", "--time-quantum", &format!("{STEP_MS}ms")]));
    Some(argv)
}

/// Makes `timeline.folded` of what the command printed; none: it had nothing to print.
///
/// It prints as for folded stacks, with the time by perf's clock behind the count: `COUNT⇥TIME⇥COMMAND`.
pub fn convert(raw: &RawResults) -> Result<Option<Table>, ConvertError> {
    if !raw.file(OUTPUT).metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
        return Ok(None);
    }
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    let mut stacks = Stacks::create(raw, TIMELINE.to_owned())?;
    let mut ahead = None;
    let mut events = 0u32;
    while let Some(line) = lines.next_text()? {
        if let Some(comment) = line.strip_prefix('#') {
            ahead = ahead.or_else(|| reference(comment));
            events += u32::from(comment.contains(" of event"));
            // The first event's, as in the flame graph.
            if events > 1 {
                break;
            }
        } else if let Some((count, at, rest)) = head(&line) {
            // Without a reference the first sample was taken when the profiler began.
            let ahead = *ahead.get_or_insert_with(|| seconds(raw.began_unix_ns) - at);
            stacks.below(&format!("{:.3}", at + ahead))?;
            stacks.line(&format!(" {count}\t{rest}"))?;
        } else if !line.trim().is_empty() {
            stacks.line(&line)?;
        }
    }
    if lines.torn() {
        stacks.cut();
    }
    let samples = stacks.samples();
    let mut table = stacks.finish()?;
    table.warnings.extend(lines.warnings());
    table.repaired = lines.torn().then_some(samples);
    Ok(Some(table))
}

/// ` reference time: … = 1795716091.994284 (TOD) = 14120.181172349 (monotonic)`: how far the host's clock is ahead of
/// perf's, in seconds.
pub fn reference(comment: &str) -> Option<f64> {
    let rest = comment.trim().strip_prefix("reference time:")?;
    let mut clocks = rest.split('=').skip(1).map(|clock| clock.split_whitespace().next()?.parse::<f64>().ok());
    Some(clocks.next()?? - clocks.next()??)
}

/// What begins the stacks of a command in a step of time.
fn head(line: &str) -> Option<(u64, f64, &str)> {
    let mut fields = line.splitn(3, '\t');
    let (count, at, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let at = at.trim();
    // An address or a function is no number with a fraction.
    let is_time = at.contains('.') && at.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    Some((count.trim().parse().ok()?, at.parse().ok().filter(|_| is_time)?, rest))
}

#[expect(clippy::cast_precision_loss, reason = "a float has microseconds enough until 2255")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::test_facts;
    use proptest::prelude::*;

    // perf 6.1, shortened.
    const TEXT: &str = "\
# clockid: monotonic (1)
# reference time: 2026-11-26 18:01:31.994284 = 1795716091.994284 (TOD) = 14120.181172349 (monotonic)
# Samples: 4  of event 'cpu-clock'
#      Samples\tTime        \tCommand
 1          \t14120.240000\topt cgu.0
1 0x7fde59ce0910\tllvm::InstCombinePass::run

 3          \t14120.260000\trustc
2 main\tf;g
# Samples: 1  of event 'sched:sched_switch'
 1          \t14120.280000\tswapper
1 schedule
";
    const FOLDED: &str = "\
1795716092.053;opt_cgu.0;[unknown];llvm::InstCombinePass::run 1
1795716092.073;rustc;main;f:g 2
1795716092.073;rustc;[unknown] 1
";

    fn timeline(text: &[u8]) -> (Table, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), text).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new(),
            began_unix_ns: 1_000_000_000_000,
            ended_unix_ns: 0,
            facts: HostFacts::default(),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let table = convert(&raw).unwrap().unwrap();
        (table, std::fs::read_to_string(directory.path().join(TIMELINE)).unwrap())
    }

    #[test]
    fn each_stack_has_its_time_by_the_hosts_clock() {
        let (table, folded) = timeline(TEXT.as_bytes());
        assert_eq!((table.rows, table.repaired, table.warnings.len()), (3, None, 0));
        assert_eq!(folded, FOLDED);
        let (_, folded) = timeline(TEXT.replace("# reference", "# no").as_bytes());
        assert!(folded.starts_with("1000.000;opt_cgu.0;"), "{folded}");
    }

    #[test]
    fn it_is_made_of_files_up_to_a_size_by_perfs_that_can() {
        let argv = command(&test_facts("perf version 6.1.187"), "fp", 1 << 20).unwrap();
        assert_eq!(argv[..3], ["sh", "-c", "[ $(wc -c <perf.data) -le 1048576 ] || exit 0; exec \"$@\""]);
        assert!(argv.join(" ").contains("-F sample,time,comm -s time,comm -g folded,0,caller,count --header"));
        assert!(command(&test_facts("perf version 6.1.187"), "fp", 0).is_none());
        assert!(command(&test_facts("perf version 4.19.1"), "fp", 1 << 20).is_none());
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            timeline(&bytes);
        }
    }
}
