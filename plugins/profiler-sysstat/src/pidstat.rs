//! pidstat: CPU, memory, I/O and context switches of each process that did anything.
use std::collections::BTreeMap;

use autoprof_plugin::{
    convert::{Lines, TableWriter, TimeAxis, number, open, percent_of_all_cpus},
    prelude::*,
};

use crate::tool::{interval, invocation, recent, required};

const OUTPUT: &str = "pidstat.txt";

// Reading all of /proc is dear (6 to 8 ms of CPU time for 83 processes, measured), so not each second.
const PARAMS: &[Param] = &[interval("5")];

/// pidstat as users know it.
pub const PIDSTAT: ProfilerInfo = ProfilerInfo::new("pidstat", "CPU, memory and I/O of each process that is active")
    .params(PARAMS)
    .tools("pidstat:-V=sysstat_version_#")
    .example("pidstat -H -h -l -u -d -r -w 5")
    .tables(crate::tables::PIDSTAT);

/// pidstat's names and ours; kB are of 1024 bytes, `iodelay` is in clock ticks (pidstat(1)).
const COLUMNS: &[(&str, &str)] = &[
    ("UID", "uid"),
    ("PID", "pid"),
    ("%usr", "user_percent"),
    ("%system", "system_percent"),
    ("%guest", "guest_percent"),
    ("%wait", "wait_percent"),
    ("%CPU", "cpu_percent"),
    ("CPU", "cpu"),
    ("minflt/s", "minor_faults_per_s"),
    ("majflt/s", "major_faults_per_s"),
    ("VSZ", "virtual_kib"),
    ("RSS", "resident_kib"),
    ("%MEM", "memory_percent"),
    ("kB_rd/s", "read_kib_per_s"),
    ("kB_wr/s", "write_kib_per_s"),
    ("kB_ccwr/s", "write_cancelled_kib_per_s"),
    ("iodelay", "io_delay_ticks"),
    ("cswch/s", "voluntary_switches_per_s"),
    ("nvcswch/s", "involuntary_switches_per_s"),
];

const NO_IO: &str = "I/O of other users' processes is left empty: the kernel shows it to root alone";

/// Runs pidstat and makes a table of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pidstat;

impl ArgEncoder for Pidstat {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = PIDSTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        recent(facts, "pidstat")?;
        let argv = ["pidstat", "-H", "-h", "-l", "-u", "-d", "-r", "-w"];
        let output = required(OUTPUT, OutputFormat::Text);
        let notes = if facts.uid == 0 { Vec::new() } else { vec![NO_IO.to_owned()] };
        Ok(Invocation { notes, ..invocation(&argv, args.integer("interval").unwrap_or(5), Some(OUTPUT), output) })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(5.0);
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let names: Vec<&str> = COLUMNS.iter().map(|(_, name)| *name).chain(["command"]).collect();
        let mut table = TableWriter::create(raw, "pidstat.csv", interval, &names)?;
        // A process may have threads on all CPUs.
        for column in ["user_percent", "system_percent", "guest_percent", "wait_percent", "cpu_percent"] {
            table = table.limit(column, percent_of_all_cpus(&raw.facts));
        }
        let mut axis = TimeAxis::new(raw, interval);
        let mut header = None;
        // One sample is many rows with one time; the next sample begins with a header.
        let mut sample: Option<(i64, i64)> = None;
        let mut samples = 0;
        while let Some(line) = lines.next_text()? {
            if line.is_empty() || line.starts_with("Linux ") {
                continue;
            }
            if let Some(found) = line.strip_prefix('#').and_then(Header::read) {
                header = Some(found);
                sample = None;
                continue;
            }
            let Some((displayed, cells)) = header.as_ref().and_then(|header| header.row(&line)) else {
                // A command line may have ends of lines in it.
                table.warn("lines that are not rows of pidstat were left out");
                continue;
            };
            let unix_ns = match sample {
                Some((before, unix_ns)) if before == displayed => unix_ns,
                _ => {
                    samples += 1;
                    axis.place(displayed)
                }
            };
            sample = Some((displayed, unix_ns));
            table.row(unix_ns, cells)?;
        }
        lines.warnings().for_each(|warning| table.warn(warning));
        if lines.torn() {
            table.repaired(samples);
        }
        Ok(vec![table.finish()?])
    }
}

/// Where pidstat has its columns; their number depends on its version.
struct Header {
    /// Of those before the command, whether they have decimals.
    decimal: Vec<bool>,
    places: Vec<Option<usize>>,
    /// Where the numbers are that every row has.
    whole: BTreeMap<&'static str, usize>,
}

impl Header {
    /// The columns of a line such as ` Time  UID  PID  … Command`.
    fn read(line: &str) -> Option<Self> {
        let names: Vec<&str> = line.split_whitespace().collect();
        let (["Time", ..], Some(count)) = (names.as_slice(), names.iter().position(|name| *name == "Command")) else {
            return None;
        };
        let places = COLUMNS.iter().map(|(theirs, _)| names[..count].iter().position(|name| name == theirs)).collect();
        let decimal = names[..count].iter().map(|name| name.starts_with('%') || name.ends_with("/s")).collect();
        let whole = ["UID", "PID"]
            .into_iter()
            .filter_map(|name| names[..count].iter().position(|found| *found == name).map(|at| (name, at)));
        Some(Self { decimal, places, whole: whole.collect() })
    }

    /// The time and the cells of a row; the command is all that is left behind the numbers.
    fn row(&self, line: &str) -> Option<(i64, Vec<String>)> {
        let mut rest = line;
        let mut words = Vec::new();
        let mut unreadable = 0;
        for decimal in &self.decimal {
            let (word, behind) = rest.trim_start().split_once(char::is_whitespace)?;
            let number = word.parse::<f64>().ok().filter(|x| x.is_finite());
            // Where a torn row and the one after it have become one line, numbers are not in their columns any more.
            if number.is_some() && *decimal && !word.contains('.') {
                return None;
            }
            unreadable += usize::from(number.is_none());
            words.push((word, number));
            rest = behind;
        }
        // One that cannot be read is left empty and counted; of more it is no row.
        if unreadable * 4 > words.len() {
            return None;
        }
        let cell = |place: &Option<usize>| match place.map(|at| words[at]) {
            // -1 is pidstat's way to say that it may not read it.
            Some((_, Some(-1.0))) | None => String::new(),
            Some((_, Some(value))) => number(value),
            Some((word, None)) => word.to_owned(),
        };
        let whole = |name: &str| self.whole.get(name).is_none_or(|at| words[*at].0.parse::<u32>().is_ok());
        if !whole("UID") || !whole("PID") {
            return None;
        }
        let time = line.split_whitespace().next()?.parse().ok()?;
        Some((time, self.places.iter().map(cell).chain([rest.trim().to_owned()]).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tests::{encoded, raw};
    use proptest::prelude::*;

    const TIMES: (i64, i64) = (1_795_384_731_484_187_321, 1_795_384_737_986_311_122);

    // pidstat of sysstat 12.6.1 with an interval of 2 s.
    const FILE: &str = include_str!("../tests/data/pidstat.txt");

    fn converted(bytes: &[u8]) -> (Table, String) {
        let (_directory, mut raw) = raw(&Pidstat, OUTPUT, bytes, TIMES);
        raw.args = raw.args.with("interval", 2i64);
        let table = Pidstat.convert(&raw).unwrap().remove(0);
        (table, std::fs::read_to_string(raw.file("pidstat.csv")).unwrap())
    }

    #[test]
    fn active_processes_with_their_command_lines() {
        let invocation = encoded(&Pidstat, &Args::new());
        let start = invocation.start.unwrap();
        assert_eq!(start.argv, ["pidstat", "-H", "-h", "-l", "-u", "-d", "-r", "-w", "5"]);
        assert_eq!(start.stdout.as_deref(), Some("pidstat.txt"));
    }

    #[test]
    fn a_user_is_told_what_only_root_may_read() {
        let facts = HostFacts { uid: 1000, ..crate::tool::tests::facts("12.6.1") };
        let invocation = Pidstat.encode(&Args::new().complete(&PIDSTAT).unwrap(), &facts).unwrap();
        assert_eq!(invocation.notes, [NO_IO]);
        assert!(encoded(&Pidstat, &Args::new()).notes.is_empty(), "as root");
    }

    #[test]
    fn each_process_of_each_sample_is_a_row_and_commands_keep_their_blanks() {
        let (table, csv) = converted(FILE.as_bytes());
        assert_eq!((table.rows, table.warnings.len()), (6, 0));
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows[1],
            "1795384733.484187,0,13916,0,0,0,0,0,1,0,0,6204,2760,0.01,0,0,0,0,1,0,vmstat -t -w -n -y 1"
        );
        assert!(rows[2].starts_with("1795384735.484187,0,15,"));
        assert!(rows[4].starts_with("1795384737.484187,0,14,"));
    }

    #[test]
    fn what_may_not_be_read_is_empty_and_not_minus_one() {
        let (_, csv) = converted(FILE.replace("  2.00     36.00 ", " -1.00     -1.00 ").as_bytes());
        assert!(csv.lines().last().unwrap().contains(",,,0,0,13.5,1.5,"), "{csv}");
    }

    #[test]
    fn a_torn_row_that_another_one_follows_costs_only_that_line() {
        let at = FILE.find("1795384735").unwrap() + 60;
        let (table, csv) = converted([&FILE[..at], &FILE[FILE.find("1795384737").unwrap()..]].concat().as_bytes());
        assert_eq!(table.warnings, ["lines that are not rows of pidstat were left out"]);
        assert_eq!(table.rows, 3, "{csv}");
    }

    #[test]
    fn a_command_line_with_an_end_of_line_costs_only_its_rest() {
        let (table, _) = converted(FILE.replace("vmstat -t", "vmstat\n# as in a script\n-t").as_bytes());
        assert_eq!(table.rows, 6);
        assert_eq!(table.warnings, ["lines that are not rows of pidstat were left out"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            converted(&bytes);
            converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat());
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_rows(at in 0..FILE.len(), zeros in 0usize..9000) {
            let (table, csv) = converted(&[&FILE.as_bytes()[..at], &vec![0; zeros]].concat());
            let is_row = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit()) && line.ends_with('\n');
            let rows: Vec<&str> = FILE[..at].split_inclusive('\n').filter(is_row).collect();
            prop_assert_eq!(table.rows, rows.len() as u64);
            let is_torn = zeros > 0 || !(at == 0 || FILE[..at].ends_with('\n'));
            prop_assert_eq!(table.repaired, is_torn.then_some(rows.len().div_ceil(2) as u64));
            prop_assert!(csv.ends_with('\n') && converted(FILE.as_bytes()).1.starts_with(&csv));
        }
    }
}
