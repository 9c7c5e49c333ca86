//! vmstat's text to CSV. Columns are found by the names in its header: old versions have fewer.
use autoprof_plugin::{
    convert::{Lines, TableWriter, TimeAxis, any_quantity, open, utc_date_time},
    prelude::*,
};

use crate::{OUTPUT, omits_first};

/// vmstat's names and ours; memory is in KiB, and blocks are of 1 KiB (vmstat(8)).
const COLUMNS: &[(&str, &str)] = &[
    ("r", "runnable"),
    ("b", "blocked"),
    ("swpd", "swap_used_kib"),
    ("free", "free_kib"),
    ("buff", "buffers_kib"),
    ("cache", "cache_kib"),
    ("si", "swap_in_kib_per_s"),
    ("so", "swap_out_kib_per_s"),
    ("bi", "block_in_kib_per_s"),
    ("bo", "block_out_kib_per_s"),
    ("in", "interrupts_per_s"),
    ("cs", "context_switches_per_s"),
    ("us", "user_percent"),
    ("sy", "system_percent"),
    ("id", "idle_percent"),
    ("wa", "iowait_percent"),
    ("st", "steal_percent"),
    ("gu", "guest_percent"),
];

/// Makes `vmstat.csv`.
pub fn convert(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let interval = raw.args.number("interval").unwrap_or(1.0);
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    let names: Vec<&str> = COLUMNS.iter().map(|(_, name)| *name).collect();
    let mut table = TableWriter::create(raw, "vmstat.csv", interval, &names)?;
    for column in ["runnable", "blocked"] {
        table = table.limit(column, any_quantity());
    }
    let mut axis = TimeAxis::new(raw, interval);
    let mut header: Option<Header> = None;
    let mut since_boot = !omits_first(&raw.facts);
    while let Some(line) = lines.next_text()? {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.starts_with(&["r", "b"]) {
            header = Some(Header::read(&fields));
            continue;
        }
        if fields.first().is_none_or(|f| f.starts_with("procs") || f.starts_with("--procs")) {
            continue;
        }
        let Some((displayed, cells)) = header.as_ref().and_then(|header| header.row(&fields)) else {
            table.warn("lines that are not rows of vmstat were left out");
            continue;
        };
        if std::mem::take(&mut since_boot) {
            continue;
        }
        table.row(axis.place(displayed), cells)?;
    }
    table.account_for(&lines);
    Ok(vec![table.finish()?])
}

/// What vmstat's header says of its rows.
struct Header {
    /// How many words a row has before its date.
    count: usize,
    /// Where each of our columns stands.
    places: Vec<Option<usize>>,
}

impl Header {
    /// The columns of a line such as `r b swpd … gu UTC`.
    fn read(names: &[&str]) -> Self {
        let zone = names.last().is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase()));
        // A date and a time of day stand below the name of the time zone.
        let count = names.len() - usize::from(zone);
        let places = COLUMNS.iter().map(|(theirs, _)| names.iter().position(|name| name == theirs)).collect();
        Self { count, places }
    }

    /// The time and the cells of a row in our order; none when one of them is not what it should be.
    fn row<'a>(&self, fields: &[&'a str]) -> Option<(i64, Vec<&'a str>)> {
        // A torn row and the one after it may have become one line.
        let (numbers, stamp) = fields.split_at_checked(self.count)?;
        let ([date, time] | [date, time, _]) = stamp else { return None };
        // One number that cannot be read is left empty and counted; of more it is no row.
        if numbers.iter().filter(|text| text.parse::<f64>().is_err()).count() > 1 {
            return None;
        }
        let cell = |place: &Option<usize>| place.map_or("", |at| numbers[at]);
        // In UTC, since the client sets `TZ`.
        Some((utc_date_time(&format!("{date} {time}"))?, self.places.iter().map(cell).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VMSTAT, Vmstat, tests::facts};
    use proptest::prelude::*;

    // procps 4.0.2, begun at 1795384731.475658, on two CPUs.
    const NEW: &str = "\
--procs-- -----------------------memory---------------------- ---swap-- -----io---- -system-- ----------cpu---------- -----timestamp-----
   r    b         swpd         free         buff        cache   si   so    bi    bo   in   cs  us  sy  id  wa  st  gu                 UTC
   1    0            0     22658224       221536      1654072    0    0   668 58376  163  308   0   3  96   1   0   0 2026-11-22 21:58:52
   1    0            0     22658224       221536      1654072    0    0     0     0   43  168   0   0 100   0   0   0 2026-11-22 21:58:53
   2    0            0     22658224       221536      1654072    0    0     0     0   46  165   0   0 100   0   0   0 2026-11-22 21:58:54
";

    fn converted(version: &str, text: &[u8]) -> (Result<Vec<Table>, ConvertError>, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), text).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new().complete(&VMSTAT).unwrap(),
            began_unix_ns: 1_795_384_731_475_658_219,
            ended_unix_ns: 1_795_384_735_982_128_218,
            facts: facts(version),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let tables = Vmstat.convert(&raw);
        (tables, std::fs::read_to_string(raw.file("vmstat.csv")).unwrap_or_default())
    }

    #[test]
    fn rows_become_rows_at_the_instants_where_they_were_taken() {
        let (tables, csv) = converted("4.0.2", NEW.as_bytes());
        let table = &tables.unwrap()[0];
        assert_eq!((table.rows, table.warnings.len()), (3, 0));
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().starts_with("time_unix,runnable,blocked,swap_used_kib,free_kib,"));
        assert_eq!(
            lines.next().unwrap(),
            "1795384732.475658,1,0,0,22658224,221536,1654072,0,0,668,58376,163,308,0,3,96,1,0,0"
        );
        assert!(lines.next().unwrap().starts_with("1795384733.475658,"));
    }

    #[test]
    fn the_row_since_boot_is_dropped_where_vmstat_cannot_leave_it_out() {
        let old = NEW.replace("  gu ", " ").replace("   0 2026", " 2026").replace("21:58:52", "21:58:51");
        let old = old.replace("21:58:53", "21:58:52").replace("21:58:54", "21:58:53");
        let (tables, csv) = converted("3.3.15", old.as_bytes());
        assert_eq!(tables.unwrap()[0].rows, 2);
        assert!(csv.lines().nth(1).unwrap().starts_with("1795384732.475658,1,"));
        assert!(csv.lines().nth(1).unwrap().ends_with(",0,"), "no guest column in old versions: {csv}");
    }

    #[test]
    fn a_cut_row_is_left_out() {
        let (tables, _) = converted("4.0.2", &NEW.as_bytes()[..NEW.len() - 3]);
        let table = &tables.unwrap()[0];
        assert_eq!((table.rows, table.warnings.len(), table.repaired), (2, 1, Some(2)));
    }

    #[test]
    fn a_torn_row_that_another_one_follows_costs_only_that_line() {
        let (before, after) = NEW.split_at(NEW.find("58:53").unwrap() - 60);
        let (tables, csv) = converted("4.0.2", [before, after.split_once('\n').unwrap().1, after].concat().as_bytes());
        let table = &tables.unwrap()[0];
        assert_eq!(table.warnings, ["lines that are not rows of vmstat were left out"]);
        assert!(csv.lines().skip(1).all(|line| line.contains(",22658224,221536,1654072,")), "{csv}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = converted("4.0.2", &bytes);
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_rows(at in 0..NEW.len(), zeros in 0usize..9000) {
            let whole = NEW[..at].matches('\n').count().saturating_sub(2);
            let torn = [&NEW.as_bytes()[..at], &vec![0; zeros]].concat();
            let (tables, csv) = converted("4.0.2", &torn);
            let table = tables.unwrap().remove(0);
            prop_assert_eq!(table.rows, whole as u64);
            let is_torn = zeros > 0 || !(at == 0 || NEW[..at].ends_with('\n'));
            prop_assert_eq!(table.repaired, is_torn.then_some(whole as u64));
            prop_assert!(csv.ends_with('\n') && converted("4.0.2", NEW.as_bytes()).1.starts_with(&csv));
        }

        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..NEW.len(), byte: u8) {
            let mut bytes = NEW.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted("4.0.2", &bytes);
        }
    }
}
