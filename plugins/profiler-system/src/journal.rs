//! journal: what services and the kernel log to systemd's journal during the window.
use autoprof_plugin::{
    convert::{Lines, TableWriter, json, open},
    installed,
    prelude::*,
    words,
};
use serde_json::Value as Json;

use crate::text;

const OUTPUT: &str = "journal.json";

/// Names of priorities, from 0 on, as journalctl(1) and syslog(3) have them.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

const PARAMS: &[Param] = &[
    Param::new("units", ParamType::Strings, "only what these units log; all of them by default"),
    Param::new("priority", ParamType::String, "only what is at least as urgent")
        .default("debug")
        .range("emerg|alert|crit|err|warning|notice|info|debug"),
];

/// journal as users know it.
pub const JOURNAL: ProfilerInfo = ProfilerInfo::new("journal", "messages in systemd's journal, as they come")
    .params(PARAMS)
    .tools("journalctl:--version=systemd_#")
    .example("journalctl --follow --lines=0 --no-pager --all --output=json");

/// Follows the journal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Journal;

impl ArgEncoder for Journal {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = JOURNAL;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let tool = installed(facts, "journalctl", "systemd (Debian, Fedora)")?;
        let mut argv = words(&["journalctl", "--follow", "--lines=0", "--no-pager", "--all", "--output=json"]);
        if tool.is_at_least(&[236]) {
            argv.push("--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT".to_owned());
        }
        argv.push(format!("--priority={}", args.string("priority").unwrap_or("debug")));
        argv.extend(args.strings("units").iter().map(|unit| format!("--unit={unit}")));
        let mut invocation = Invocation {
            start: Some(Start { argv, stdout: Some(OUTPUT.to_owned()), ..Start::default() }),
            stop: Stop { signal: StopSignal::Terminate, ..Stop::default() },
            // Nothing may be logged.
            outputs: vec![text(OUTPUT, false)],
            restart_after_reboot: true,
            ..Invocation::default()
        };
        if facts.uid != 0 {
            invocation
                .notes
                .push("a user who is not in the group systemd-journal is shown what his own programs log".to_owned());
        }
        Ok(invocation)
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut table = TableWriter::events(raw, "journal.csv", &["unit", "level", "message"])?;
        if !raw.file(OUTPUT).exists() {
            return Ok(vec![table.finish()?]);
        }
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let (mut unread, mut empty) = (0u64, 0u64);
        while let Some(line) = lines.next_text()? {
            let Some((at, cells)) = json::read(line.as_bytes()).and_then(|read| row(&read.value)) else {
                unread += 1;
                continue;
            };
            if cells[2].is_empty() {
                empty += 1;
            }
            table.row(at, cells)?;
        }
        table.account_for(&lines);
        if empty > 0 {
            table.warn(format!("{empty} entries have no message"));
        }
        if unread > 0 {
            table.warn(format!("{unread} lines that are no entries were left out"));
        }
        Ok(vec![table.finish()?])
    }
}

/// When, who, how urgent, what.
fn row(entry: &Json) -> Option<(i64, [String; 3])> {
    // A field that was given more than once is a list; the first is what journalctl shows as text.
    let text = |name: &str| match &entry[name] {
        Json::Array(values) => values.first()?.as_str(),
        value => value.as_str(),
    };
    let at = text("__REALTIME_TIMESTAMP")?.parse::<i64>().ok()?.checked_mul(1000)?;
    let unit = text("_SYSTEMD_UNIT").or_else(|| text("SYSLOG_IDENTIFIER")).unwrap_or_default();
    let level = text("PRIORITY").and_then(|level| LEVELS.get(level.parse::<usize>().ok()?)).unwrap_or(&"");
    let message = match &entry["MESSAGE"] {
        Json::String(text) => text.clone(),
        Json::Array(texts) if texts.iter().any(Json::is_string) => {
            texts.iter().filter_map(Json::as_str).collect::<Vec<_>>().join("; ")
        }
        // What is not UTF-8, or has bytes that cannot be printed, is a list of bytes (systemd's journal export formats).
        Json::Array(bytes) => {
            let bytes = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect::<Vec<_>>();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    Some((at, [unit.to_owned(), (*level).to_owned(), message]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // systemd 252; the second is shortened, and its message made one that cannot be printed.
    const TEXT: &str = r#"{"SYSLOG_IDENTIFIER":"autoprof-test","__REALTIME_TIMESTAMP":"1795722168676528","_HOSTNAME":"vm","MESSAGE":"hello x","PRIORITY":"4","_PID":"18275"}
{"__REALTIME_TIMESTAMP":"1795722169000000","_SYSTEMD_UNIT":"db.service","SYSLOG_IDENTIFIER":"db","MESSAGE":[97,1,98]}
nonsense
{"__REALTIME_TIMESTAMP":"17957221"#;

    // journalctl(1): without --all, what has more than 4096 bytes is null (opentelemetry-collector-contrib#30920); a field
    // that was given twice is a list (logdna-agent-v2#232).
    #[test]
    fn long_messages_are_there_and_missing_ones_are_said() {
        let args = Args::new().complete(&JOURNAL).unwrap();
        let argv = Journal.encode(&args, &facts(&["journalctl"])).unwrap().start.unwrap().argv;
        assert!(argv.contains(&"--all".to_owned()), "{argv:?}");
        let entry = |message: &str, level: &str| {
            format!("{{\"__REALTIME_TIMESTAMP\":\"11000000\",\"PRIORITY\":{level},\"MESSAGE\":{message}}}\n")
        };
        let long = "x".repeat(5000);
        let text = [
            entry(&format!("\"{long}\""), "\"3\""),
            entry("null", "\"3\""),
            entry("[\"first\",\"second\"]", "[\"6\",\"3\"]"),
            entry("[32,121]", "\"6\""),
        ];
        let (tables, csv) = converted(&Journal, &[(OUTPUT, text.concat().as_bytes())], (10, 5), "journal.csv");
        let table = tables.unwrap().remove(0);
        assert_eq!((table.rows, table.incomplete), (4, None));
        assert_eq!(table.warnings, ["1 entries have no message"]);
        let text: Vec<&str> = csv.split_inclusive('\n').collect();
        assert_eq!(text[1].len(), "11.000000,,err,".len() + long.len() + 1);
        assert_eq!(text[3..].concat(), "11.000000,,info,first; second\n11.000000,,info, y\n");
    }

    #[test]
    fn entries_are_rows_of_the_unit_or_of_who_logged() {
        let (tables, csv) = converted(&Journal, &[(OUTPUT, TEXT.as_bytes())], (1_795_722_168, 5), "journal.csv");
        let table = tables.unwrap().remove(0);
        assert_eq!((table.rows, table.repaired), (2, Some(2)), "{csv}");
        assert!(table.warnings.iter().any(|w| w == "1 lines that are no entries were left out"), "{table:?}");
        assert_eq!(csv.lines().nth(1), Some("1795722168.676528,autoprof-test,warning,hello x"));
        assert_eq!(csv.lines().nth(2), Some("1795722169.000000,db.service,,a\u{fffd}b"));
    }

    #[test]
    fn units_and_priority_are_words_of_their_own() {
        let args = Args::new().with("units", "a b; c").with("priority", "err").complete(&JOURNAL).unwrap();
        let mut host = facts(&["journalctl"]);
        if let Some(tool) = host.tools.get_mut("journalctl") {
            tool.version = "systemd 252 (252.39-1)".to_owned().into();
        }
        let argv = Journal.encode(&args, &host).unwrap().start.unwrap().argv;
        assert_eq!(
            argv[6..],
            ["--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT", "--priority=err", "--unit=a b; c"]
        );
        assert!(Args::new().with("priority", "loud").complete(&JOURNAL).is_err());
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&Journal, &[(OUTPUT, &bytes)], (1_795_722_168, 5), "journal.csv");
        }
    }
}
