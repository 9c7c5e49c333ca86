//! mpstat: where the time of each CPU goes.
use std::collections::{HashMap, HashSet};

use autoprof_plugin::{
    convert::{TableWriter, TimeAxis, open, time_of_day},
    prelude::*,
};
use serde_json::Value;

use crate::{
    json::{Samples, cell, has_list, keyed, objects, settle},
    tool::{interval, invocation, recent, required},
};

const OUTPUT: &str = "mpstat.json";

const PARAMS: &[Param] = &[interval("1")];

/// mpstat as users know it.
pub const MPSTAT: ProfilerInfo = ProfilerInfo::new("mpstat", "where the time of each CPU goes, and its interrupts")
    .params(PARAMS)
    .tools("mpstat:-V=sysstat_version_#")
    .example("mpstat -P ALL -u -I SUM -o JSON 1")
    .tables(crate::tables::MPSTAT);

const COLUMNS: &[(&str, &str)] = &[
    ("usr", "user_percent"),
    ("nice", "nice_percent"),
    ("sys", "system_percent"),
    ("iowait", "iowait_percent"),
    ("irq", "irq_percent"),
    ("soft", "softirq_percent"),
    ("steal", "steal_percent"),
    ("guest", "guest_percent"),
    ("gnice", "guest_nice_percent"),
    ("idle", "idle_percent"),
];

/// Runs mpstat and makes a table of its JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mpstat;

impl ArgEncoder for Mpstat {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = MPSTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        recent(facts, "mpstat")?;
        let argv = ["mpstat", "-P", "ALL", "-u", "-I", "SUM", "-o", "JSON"];
        let output = required(OUTPUT, OutputFormat::Json);
        Ok(invocation(&argv, args.integer("interval").unwrap_or(1), Some(OUTPUT), output))
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let mut samples = Samples::new(open(raw, OUTPUT)?);
        let names = COLUMNS.iter().map(|(_, name)| *name);
        let columns: Vec<&str> = ["cpu"].into_iter().chain(names).chain(["interrupts_per_s"]).collect();
        let mut table = TableWriter::create(raw, "mpstat.csv", interval, &columns)?;
        let mut axis = TimeAxis::new(raw, interval);
        while let Some(sample) = samples.next_sample()? {
            // mpstat has the date once for the whole file, so a night's run must find the day itself.
            let Some(displayed) = time_of_day(&cell(&sample, "timestamp")) else {
                table.warn("samples without a time were left out");
                continue;
            };
            let unix_ns = axis.place_in_day(displayed);
            if !has_list(&sample, "cpu-load") {
                table.warn("samples without a list of CPUs were left out");
                continue;
            }
            table.sample(unix_ns);
            // A CPU that goes offline or comes may be in one of the lists alone.
            let interrupts: HashMap<String, &Value> =
                keyed(&sample, "sum-interrupts", "cpu").into_iter().map(|(name, sum)| (all(name), sum)).collect();
            let mut seen = HashSet::new();
            for cpu in objects(&sample, "cpu-load") {
                let name = all(cell(cpu, "cpu"));
                let numbers = COLUMNS.iter().map(|(key, _)| cell(cpu, key));
                let sum = interrupts.get(&name).map(|sum| cell(sum, "intr")).unwrap_or_default();
                seen.insert(name.clone());
                table.row(unix_ns, std::iter::once(name).chain(numbers).chain([sum]))?;
            }
            for sum in objects(&sample, "sum-interrupts") {
                let name = all(cell(sum, "cpu"));
                if seen.insert(name.clone()) {
                    let none = COLUMNS.iter().map(|_| String::new());
                    table.row(unix_ns, std::iter::once(name).chain(none).chain([cell(sum, "intr")]))?;
                }
            }
        }
        let names = [COLUMNS, &[("intr", "interrupts_per_s")]].concat();
        settle(&samples, raw, OUTPUT, &names, [&mut table])?;
        Ok(vec![table.finish()?])
    }
}

/// The name of a CPU: before 12.0.4 and 12.1.4 mpstat calls all of them together -1 in the list of their load, and `all`
/// in the one of their interrupts.
fn all(name: String) -> String {
    if name == "-1" { "all".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tests::{encoded, raw};
    use proptest::prelude::*;

    const TIMES: (i64, i64) = (1_795_384_731_477_802_883, 1_795_384_735_983_228_570);

    // mpstat of sysstat 12.6.1 on two CPUs.
    const FILE: &str = include_str!("../tests/data/mpstat.json");

    fn converted(bytes: &[u8]) -> (Table, String) {
        let (_directory, raw) = raw(&Mpstat, OUTPUT, bytes, TIMES);
        let table = Mpstat.convert(&raw).unwrap().remove(0);
        (table, std::fs::read_to_string(raw.file("mpstat.csv")).unwrap())
    }

    #[test]
    fn a_window_without_room_for_a_sample_misses_none() {
        let head = &FILE[..FILE.find('[').unwrap() + 1];
        let began = TIMES.0;
        for (ended, repaired) in [(began + 500_000_000, None), (began + 3_000_000_000, Some(0))] {
            let (_directory, raw) = raw(&Mpstat, OUTPUT, head.as_bytes(), (began, ended));
            let table = Mpstat.convert(&raw).unwrap().remove(0);
            assert_eq!((table.rows, table.repaired), (0, repaired));
        }
    }

    #[test]
    fn all_cpus_and_the_sum_of_their_interrupts() {
        let invocation = encoded(&Mpstat, &Args::new());
        let start = invocation.start.unwrap();
        assert_eq!(start.argv, ["mpstat", "-P", "ALL", "-u", "-I", "SUM", "-o", "JSON", "1"]);
        assert_eq!(start.stdout.as_deref(), Some("mpstat.json"));
        assert_eq!(invocation.stop, Stop::default());
    }

    #[test]
    fn each_cpu_of_each_sample_is_a_row() {
        let (table, csv) = converted(FILE.as_bytes());
        assert_eq!((table.rows, table.warnings.len()), (12, 0));
        assert_eq!(csv.lines().nth(1).unwrap(), "1795384732.477802,all,0,0,2.02,1.01,0,0,0,0,0,96.97,164");
        assert_eq!(csv.lines().nth(3).unwrap(), "1795384732.477802,1,0,0,3.03,2.02,0,0,0,0,0,94.95,113");
        assert!(csv.lines().nth(4).unwrap().starts_with("1795384733.477802,all,"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            converted(&bytes);
            converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat());
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_samples(at in 0..FILE.len(), zeros in 0usize..9000) {
            let torn = [&FILE.as_bytes()[..at], &vec![0; zeros]].concat();
            let (_directory, raw) = raw(&Mpstat, OUTPUT, &torn, TIMES);
            let table = Mpstat.convert(&raw).unwrap().remove(0);
            let csv = std::fs::read_to_string(raw.file("mpstat.csv")).unwrap();
            // A sample ends with the brace at this depth.
            let whole = FILE[..at].matches("\n\t\t\t\t}").count() as u64;
            prop_assert_eq!(table.rows, 3 * whole);
            // Without the end of the last line all is there.
            prop_assert_eq!(table.repaired, (at < FILE.trim_end().len()).then_some(whole));
            prop_assert!(csv.ends_with('\n') && converted(FILE.as_bytes()).1.starts_with(&csv));
            if table.repaired.is_some() && whole > 0 {
                let repaired = std::fs::read(raw.file("mpstat.repaired.json")).unwrap();
                let (_directory, again) = crate::tool::tests::raw(&Mpstat, OUTPUT, &repaired, TIMES);
                prop_assert_eq!(&Mpstat.convert(&again).unwrap()[0].repaired, &None);
                prop_assert_eq!(csv, std::fs::read_to_string(again.file("mpstat.csv")).unwrap());
                prop_assert_eq!(std::fs::read(raw.file(OUTPUT)).unwrap(), torn);
            }
        }
    }
}
