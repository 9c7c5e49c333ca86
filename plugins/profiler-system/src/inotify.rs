//! inotify: what happens to files below some directories.
use autoprof_plugin::{
    convert::{Lines, SECOND, TableWriter, open},
    installed,
    prelude::*,
    words,
};

use crate::text;

const OUTPUT: &str = "inotify.txt";
/// What the client keeps of a tool's standard error.
const STDERR: &str = "stderr.txt";

const PARAMS: &[Param] = &[
    Param::new("paths", ParamType::Strings, "directories and files that are watched, as absolute paths"),
    Param::new("events", ParamType::Strings, "only these kinds, such as create, delete, close_write"),
    Param::new("recursive", ParamType::Bool, "directories with all that is below them").default("true"),
    Param::new("exclude", ParamType::String, "files that are left out, as an extended regular expression"),
];

/// inotify's kinds of events, but those that stand for two others (`close`, `move`).
const KINDS: &[&str] = &[
    "access",
    "modify",
    "attrib",
    "close_write",
    "close_nowrite",
    "open",
    "moved_to",
    "moved_from",
    "move_self",
    "create",
    "delete",
    "delete_self",
    "unmount",
];

/// Seconds without an event that are written as such, all together: a day's.
const MOST_EMPTY: u32 = 86_400;

/// Leaves out the client's own directory, where this very output is written: each event would be another event. A
/// profiler's directory, the working directory, is `results/default/…` in it.
const SCRIPT: &str = r#"exec inotifywait "@${PWD%/results/default/*}" "$@""#;

/// inotify as users know it.
pub const INOTIFY: ProfilerInfo = ProfilerInfo::new("inotify", "what is done to files and directories, by inotifywait")
    .params(PARAMS)
    .tools("inotifywait:--help~inotifywait_#")
    .example("inotifywait -m -r --timefmt %s --format '%T %e %w%f' PATHS");

/// Runs inotifywait and counts what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inotify;

impl ArgEncoder for Inotify {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = INOTIFY;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "inotifywait", "inotify-tools (Debian, Fedora)")?;
        let paths = args.strings("paths");
        if paths.is_empty() {
            let error = ArgError::new(ArgErrorKind::Range, "paths says what is watched, and is not given");
            return Err(error.with_hint("such as inotify:/var/spool, or inotify:paths=[/etc, /var/spool]"));
        }
        if let Some(bad) = paths.iter().find(|path| !path.starts_with('/') || path.contains('\0')) {
            return Err(ArgError::new(ArgErrorKind::Range, format!("paths: {bad:?} is no absolute path")));
        }
        let mut argv = words(&["sh", "-c", SCRIPT, "sh", "-m"]);
        if args.flag("recursive") {
            argv.push("-r".to_owned());
        }
        argv.extend(words(&["--timefmt", "%s", "--format", "%T %e %w%f"]));
        for event in args.strings("events") {
            if !KINDS.contains(&event) && !["close", "move"].contains(&event) {
                let error = ArgError::new(ArgErrorKind::Range, format!("events: {event:?} is no kind of event"));
                return Err(error.with_hint(format!("there are {}, close and move", KINDS.join(", "))));
            }
            argv.extend(words(&["-e", event]));
        }
        if let Some(pattern) = args.string("exclude").filter(|pattern| !pattern.is_empty()) {
            argv.extend(words(&["--exclude", pattern]));
        }
        argv.extend(words(&paths));
        Ok(Invocation {
            start: Some(Start { argv, stdout: Some(OUTPUT.to_owned()), ..Start::default() }),
            // Nothing may happen to the files.
            outputs: vec![text(OUTPUT, false)],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let columns: Vec<String> = KINDS.iter().map(|kind| format!("{kind}_per_s")).collect();
        let mut seconds = Seconds::new(TableWriter::events(raw, "inotify.csv", &columns)?);
        if raw.file(OUTPUT).exists() {
            let mut lines = Lines::new(open(raw, OUTPUT)?);
            let (mut lost, mut gone) = (0_u64, false);
            while let Some(line) = lines.next_text()? {
                // `1795715089 CREATE,ISDIR /a/b`; what follows a line's end in a name is no such line.
                let mut fields = line.splitn(3, ' ');
                let (Some(Ok(second)), Some(kinds)) = (fields.next().map(str::parse), fields.next()) else { continue };
                seconds.table.nothing_happened();
                // A name may have a line's end in it, and then anything.
                if !(raw.began_unix_ns / SECOND - 1..=raw.ended_unix_ns / SECOND + 1).contains(&second) {
                    continue;
                }
                gone |= kinds.contains("DELETE_SELF") || kinds.contains("MOVE_SELF");
                lost += u64::from(kinds.contains("Q_OVERFLOW"));
                let of = |kind: &str| KINDS.iter().position(|known| kind.eq_ignore_ascii_case(known));
                for kind in kinds.split(',').filter_map(of) {
                    seconds.count(second, kind)?;
                }
            }
            seconds.write()?;
            seconds.table.account_for(&lines);
            if lost > 0 {
                seconds.table.warn(format!("the kernel lost events {lost} times: its queue was full"));
            }
            if gone {
                seconds
                    .table
                    .warn("directories were removed or moved meanwhile: what was put in their place is not seen");
            }
        }
        if raw.file(STDERR).exists() {
            let mut said = Lines::new(open(raw, STDERR)?);
            let mut watched = false;
            while let Some(line) = said.next_text()? {
                watched |= line.starts_with("Watches established");
                if line.starts_with("Couldn't watch") || line.starts_with("Failed to watch") {
                    seconds.table.warn(format!("inotifywait: {}", line.chars().take(200).collect::<String>()));
                }
            }
            if !watched {
                seconds.table.warn("inotifywait had not found all directories yet when it was stopped");
            }
        }
        Ok(vec![seconds.table.finish()?])
    }
}

/// What was counted in the second that is being read.
struct Seconds {
    table: TableWriter,
    second: Option<i64>,
    counts: [u64; KINDS.len()],
    empty: u32,
}

impl Seconds {
    const fn new(table: TableWriter) -> Self {
        Self { table, second: None, counts: [0; KINDS.len()], empty: 0 }
    }

    fn count(&mut self, second: i64, kind: usize) -> Result<(), ConvertError> {
        if self.second.is_some_and(|before| before != second) {
            self.write()?;
            // Nothing happened in between.
            let mut next = self.second.unwrap_or(second).saturating_add(1);
            while next < second && self.empty < MOST_EMPTY {
                self.row(next)?;
                self.empty += 1;
                next += 1;
            }
        }
        self.second = Some(second);
        self.counts[kind] += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<(), ConvertError> {
        self.second.map_or(Ok(()), |second| self.row(second))
    }

    /// A row at the end of a second.
    fn row(&mut self, second: i64) -> Result<(), ConvertError> {
        let counts = std::mem::take(&mut self.counts);
        self.table.row(second.saturating_add(1).saturating_mul(SECOND), counts.map(|count| count.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // inotifywait 3.22.6.0; the name of one file has a line's end in it.
    const TEXT: &str = "\
1000 CREATE,ISDIR /w/new
1000 OPEN,ISDIR /w/new
1000 CLOSE_NOWRITE,CLOSE,ISDIR /w/new
1000 CREATE /w/new/a b
1002 MOVED_FROM /w/new/a b
1002 MOVED_TO /w/c
1002 CREATE /w/x
y
1002 MODIFY /w/c
1002 MOD";
    const SAID: &str = "\
Setting up watches.  Beware: since -r was given, this may take a while!
Watches established.
";

    fn encoded(args: &Args) -> Result<Invocation, ArgError> {
        Inotify.encode(&args.complete(&INOTIFY)?, &facts(&["inotifywait"]))
    }

    fn list(words: &[&str]) -> Value {
        Value::List(words.iter().map(|word| Value::from(*word)).collect())
    }

    #[test]
    fn events_are_counted_by_the_second_and_a_quiet_second_is_one_too() {
        let files = [(OUTPUT, TEXT.as_bytes()), (STDERR, SAID.as_bytes())];
        let (tables, csv) = converted(&Inotify, &files, (1000, 5), "inotify.csv");
        let table = tables.unwrap().remove(0);
        assert_eq!(table.warnings, ["the last line is cut short and was left out"]);
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        let expected = [
            "1001.000000,0,0,0,0,1,1,0,0,0,2,0,0,0",
            "1002.000000,0,0,0,0,0,0,0,0,0,0,0,0,0",
            "1003.000000,0,1,0,0,0,0,1,1,0,1,0,0,0",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn what_was_not_watched_is_said() {
        let said = "Setting up watches.\nFailed to watch /w; upper limit on inotify watches reached!\n";
        let (tables, _) = converted(&Inotify, &[(STDERR, said.as_bytes())], (1000, 5), "inotify.csv");
        let warnings = tables.unwrap().remove(0).warnings;
        assert!(warnings[0].contains("upper limit"), "{warnings:?}");
        assert!(warnings[1].contains("had not found all"), "{warnings:?}");
    }

    #[test]
    fn paths_are_words_and_the_clients_own_directory_is_left_out() {
        let args = Args::new().with("paths", list(&["/a 'b'", "/c"])).with("events", list(&["create", "move"]));
        let argv = encoded(&args.with("exclude", "[.]swp$")).unwrap().start.unwrap().argv;
        assert_eq!(argv[..2], ["sh", "-c"]);
        assert!(argv[2].contains("@${PWD%"));
        let whole = "-m|-r|--timefmt|%s|--format|%T %e %w%f|-e|create|-e|move|--exclude|[.]swp$|/a 'b'|/c";
        assert_eq!(argv[4..].join("|"), whole);
        let flat = Args::new().with("paths", "/x").with("recursive", false);
        assert!(!encoded(&flat).unwrap().start.unwrap().argv.contains(&"-r".to_owned()));
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        for args in [
            Args::new(),
            Args::new().with("paths", "etc"),
            Args::new().with("paths", list(&["/x", "@/y"])),
            Args::new().with("paths", "/x").with("events", "nope"),
        ] {
            assert_eq!(encoded(&args).unwrap_err().kind, ArgErrorKind::Range, "{args:?}");
        }
        let missing = Inotify.encode(&Args::new(), &facts(&[])).unwrap_err();
        assert_eq!(missing.kind, ArgErrorKind::Missing);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&Inotify, &[(OUTPUT, &bytes)], (1000, 5), "inotify.csv");
        }
    }
}
