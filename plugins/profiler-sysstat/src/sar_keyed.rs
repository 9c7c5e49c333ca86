//! Tables of sar with a row for each CPU and each disk: another road to what mpstat and iostat measure.
use autoprof_plugin::{convert::TableWriter, prelude::*};
use serde_json::Value;

use crate::json::{cell, objects};

/// A table, and where it is in a sample.
struct Keyed {
    file: &'static str,
    /// Names of the list; which of them there is depends on the version of sadf.
    lists: &'static [&'static str],
    /// The member with the key, and our column for it.
    key: (&'static str, &'static str),
    columns: &'static [(&'static str, &'static str)],
}

const TABLES: [Keyed; 2] = [
    Keyed {
        file: "sar-cpu.csv",
        lists: &["cpu-load", "cpu-load-all"],
        key: ("cpu", "cpu"),
        columns: &[
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
        ],
    },
    Keyed {
        file: "sar-disk.csv",
        lists: &["disk"],
        key: ("disk-device", "device"),
        // Members that mean the same in every version; kB are of 1024 bytes.
        columns: &[
            ("tps", "transfers_per_s"),
            ("rkB", "read_kib_per_s"),
            ("wkB", "write_kib_per_s"),
            ("util-percent", "util_percent"),
        ],
    },
];

/// The tables while samples are read.
pub struct KeyedTables {
    tables: Vec<(&'static Keyed, TableWriter, bool)>,
}

impl KeyedTables {
    /// Begins the tables.
    pub fn create(raw: &RawResults, interval: f64) -> Result<Self, ConvertError> {
        let begin = |keyed: &'static Keyed| {
            let columns: Vec<&str> =
                std::iter::once(keyed.key.1).chain(keyed.columns.iter().map(|(_, ours)| *ours)).collect();
            Ok((keyed, TableWriter::create(raw, keyed.file, interval, &columns)?, false))
        };
        Ok(Self { tables: TABLES.iter().map(begin).collect::<Result<_, ConvertError>>()? })
    }

    /// Adds the rows of one sample.
    pub fn sample(&mut self, unix_ns: i64, sample: &Value) -> Result<(), ConvertError> {
        for (keyed, table, used) in &mut self.tables {
            for list in keyed.lists {
                for object in objects(sample, list) {
                    let key = cell(object, keyed.key.0);
                    if key.is_empty() {
                        continue;
                    }
                    *used = true;
                    let numbers = keyed.columns.iter().map(|(theirs, _)| cell(object, theirs));
                    table.row(unix_ns, std::iter::once(key).chain(numbers))?;
                }
            }
        }
        Ok(())
    }

    /// sar's names of values with ours.
    pub fn columns() -> impl Iterator<Item = (&'static str, &'static str)> {
        TABLES.iter().flat_map(|table| table.columns).copied()
    }

    /// The writers.
    pub fn writers(&mut self) -> impl Iterator<Item = &mut TableWriter> {
        self.tables.iter_mut().map(|(_, table, _)| table)
    }

    /// The tables that have rows: not every host has disks that are counted.
    pub fn finish(self) -> Result<Vec<Table>, ConvertError> {
        let with_rows = self.tables.into_iter().filter(|(.., used)| *used);
        with_rows.map(|(_, table, _)| table.finish()).collect()
    }
}
