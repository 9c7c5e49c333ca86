//! dmesg: what the kernel logs during the window.
use autoprof_plugin::{
    convert::{Lines, TableWriter, open, utc_date_time},
    core::protocol::Tool,
    installed,
    prelude::*,
    words,
};

use crate::text;

const OUTPUT: &str = "dmesg.txt";

/// dmesg as users know it.
pub const DMESG: ProfilerInfo = ProfilerInfo::new("dmesg", "messages of the kernel, as they come")
    .tools("dmesg:--version=dmesg_from_util-linux")
    .example("dmesg --follow-new --decode --time-format iso");

/// Follows the kernel's log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dmesg;

impl ArgEncoder for Dmesg {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = DMESG;
        &INFO
    }

    fn encode(&self, _: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let tool = installed(facts, "dmesg", "util-linux (Debian, Fedora)")?;
        let follow = if begins_at_the_end(tool) { "--follow-new" } else { "--follow" };
        let start = Start {
            argv: words(&["dmesg", follow, "--decode", "--time-format", "iso"]),
            stdout: Some(OUTPUT.to_owned()),
            ..Start::default()
        };
        let mut invocation = Invocation {
            start: Some(start),
            stop: Stop { signal: StopSignal::Terminate, ..Stop::default() },
            // A kernel may have nothing to say.
            outputs: vec![text(OUTPUT, false)],
            restart_after_reboot: true,
            ..Invocation::default()
        };
        if facts.uid != 0 {
            invocation.notes.push("the kernel may show its log to root alone (kernel.dmesg_restrict)".to_owned());
        }
        Ok(invocation)
    }

    /// The kernel stamps its messages by a clock of its own that nobody sets, and dmesg adds when that was zero: after
    /// days the times are seconds off (dmesg(1)). What is known to be of the window is put at its edge then.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut table = TableWriter::events(raw, "dmesg.csv", &["facility", "level", "message"])?;
        if !raw.file(OUTPUT).exists() {
            return Ok(vec![table.finish()?]);
        }
        let all_new = raw.facts.tools.get("dmesg").is_some_and(begins_at_the_end);
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut unread = 0u64;
        while let Some(line) = lines.next_text()? {
            // `kern  :info  : 2026-11-26T14:02:03,456789+00:00 text`; a line that follows another has no time.
            let Some((at, facility, level, message)) = row(&line) else {
                unread += u64::from(!line.trim().is_empty());
                continue;
            };
            table.nothing_happened();
            let within = at.clamp(raw.began_unix_ns, raw.ended_unix_ns);
            if all_new && at != within {
                table.warn("the kernel's clock is not the host's: some times are those of the window's edge");
            }
            if all_new || at == within {
                table.row(within, [facility, level, message])?;
            }
        }
        lines.warnings().for_each(|warning| table.warn(warning));
        if unread > 0 {
            table.warn(format!("{unread} lines without a time, such as further lines of a message, were left out"));
        }
        Ok(vec![table.finish()?])
    }
}

/// Whether dmesg can leave out what was logged before it: since util-linux 2.37.
fn begins_at_the_end(tool: &Tool) -> bool {
    tool.is_at_least(&[2, 37])
}

fn row(line: &str) -> Option<(i64, &str, &str, &str)> {
    let (facility, rest) = line.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    let (time, message) = rest.trim_start().split_once(' ')?;
    // util-linux writes a comma before the microseconds; the zone is UTC, since the client sets `TZ`.
    let micros: i64 = time.get(20..26)?.parse().ok()?;
    let at = utc_date_time(time)?.checked_mul(1_000_000_000)?.checked_add(micros * 1000)?;
    Some((at, facility.trim(), level.trim(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // util-linux 2.38.1.
    const LOG: &str = "\
kern  :info  : 2026-11-26T14:00:00,000001+00:00 Linux version 6.1
kern  :warn  : 2026-11-26T14:02:03,456789+00:00 Out of memory: Killed process 7 (a:b)
  continued
user  :notice: 2026-11-26T14:02:04,000000+00:00 hello, \"world\"
kern  :info  : 2026-11-26T15:00:00,000000+00:00 later
";

    #[test]
    fn messages_of_the_window_are_kept() {
        // 14:02:00, for ten seconds; a host of which nothing is known.
        let (tables, csv) = converted(&Dmesg, &[(OUTPUT, LOG.as_bytes())], (1_795_701_720, 10), "dmesg.csv");
        assert_eq!(tables.unwrap()[0].rows, 2, "{csv}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[0], "1795701723.456789,kern,warn,Out of memory: Killed process 7 (a:b)");
        assert_eq!(rows[1], "1795701724.000000,user,notice,\"hello, \"\"world\"\"\"");
    }

    #[test]
    fn what_is_known_to_be_new_is_kept_whatever_the_kernels_clock_says() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), LOG).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new(),
            began_unix_ns: 1_795_701_724_000_000_000,
            ended_unix_ns: 1_795_701_730_000_000_000,
            facts: facts(&["dmesg"]),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let table = Dmesg.convert(&raw).unwrap().remove(0);
        assert_eq!((table.rows, table.warnings.len()), (4, 2), "{table:?}");
    }

    #[test]
    fn a_user_is_told_what_may_be_missing() {
        let mut host = facts(&["dmesg"]);
        host.uid = 1000;
        assert!(Dmesg.encode(&Args::new(), &host).unwrap().notes[0].contains("dmesg_restrict"));
        assert!(Dmesg.encode(&Args::new(), &facts(&["dmesg"])).unwrap().notes.is_empty());
        assert_eq!(Dmesg.encode(&Args::new(), &facts(&[])).unwrap_err().kind, ArgErrorKind::Missing);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = converted(&Dmesg, &[(OUTPUT, &bytes)], (0, 10), "dmesg.csv");
        }
    }
}
