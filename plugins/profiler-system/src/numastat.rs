//! numastat: memory of each NUMA node over time.
use autoprof_plugin::{
    convert::{BootAxis, Lines, TableWriter, open, stamp},
    installed,
    prelude::*,
    words,
};

use crate::{interval, text};

const OUTPUT: &str = "numastat.txt";

const PARAMS: &[Param] = &[interval("5")];

/// numastat's names (`numastat -m`) and ours; it prints MiB.
const ROWS: &[(&str, &str)] = &[
    ("MemTotal", "total_kib"),
    ("MemFree", "free_kib"),
    // What is not free: "used" is what is not available, which a node does not say.
    ("MemUsed", "not_free_kib"),
    ("Active", "active_kib"),
    ("Inactive", "inactive_kib"),
    ("AnonPages", "anonymous_kib"),
    ("FilePages", "files_kib"),
    ("Slab", "slab_kib"),
    ("AnonHugePages", "huge_anonymous_kib"),
    ("HugePages_Total", "huge_total_kib"),
    ("HugePages_Free", "huge_free_kib"),
];

/// numastat as users know it.
pub const NUMASTAT: ProfilerInfo = ProfilerInfo::new("numastat", "memory of each NUMA node")
    .params(PARAMS)
    .tools("numastat:-V")
    .example("numastat -m, every 5 s");

/// Asks numastat again and again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numastat;

impl ArgEncoder for Numastat {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = NUMASTAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "numastat", "numactl (Debian, Fedora)")?;
        let every_ms = u64::try_from(args.integer("interval").unwrap_or(5)).unwrap_or(5) * 1000;
        Ok(Invocation {
            poll: Some(Poll { every_ms, argv: words(&["numastat", "-m"]), output: OUTPUT.to_owned() }),
            outputs: vec![text(OUTPUT, true)],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(5.0);
        let columns: Vec<&str> = std::iter::once("node").chain(ROWS.iter().map(|(_, name)| *name)).collect();
        let mut table = TableWriter::create(raw, "numastat.csv", interval, &columns)?;
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut axis = BootAxis::default();
        let (mut at, mut nodes) = (0, Vec::<Node>::new());
        while let Some(line) = lines.next_text()? {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                ["#", ..] => {
                    write(&mut table, at, &mut nodes)?;
                    at = stamp(&line).map_or(0, |stamp| axis.place(stamp));
                }
                // `Node 0   Node 1   Total`
                ["Node", ..] => {
                    let numbers = fields.chunks(2).filter(|pair| pair.len() == 2 && pair[0] == "Node");
                    nodes = numbers.map(|pair| Node { number: pair[1].to_owned(), ..Node::default() }).collect();
                }
                [name, values @ ..] => {
                    let Some(place) = ROWS.iter().position(|(theirs, _)| theirs == name) else { continue };
                    for (node, value) in nodes.iter_mut().zip(values) {
                        node.values[place] = value.parse::<f64>().ok().map(|mib| mib * 1024.0);
                    }
                }
                [] => {}
            }
        }
        // The last poll may have been cut off: it counts only where all of it is there.
        if !lines.torn() {
            write(&mut table, at, &mut nodes)?;
        }
        table.account_for(&lines);
        Ok(vec![table.finish()?])
    }
}

#[derive(Default)]
struct Node {
    number: String,
    values: [Option<f64>; ROWS.len()],
}

fn write(table: &mut TableWriter, at: i64, nodes: &mut Vec<Node>) -> Result<(), ConvertError> {
    for node in nodes.drain(..).filter(|node| node.values.iter().any(Option::is_some)) {
        let values = node.values.iter().map(|value| value.map_or_else(String::new, |kib| format!("{kib:.0}")));
        table.row(at, std::iter::once(node.number).chain(values))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::converted;
    use proptest::prelude::*;

    // numactl 2.0.16; the second node was added by hand as numastat prints several.
    const TEXT: &str = "\
# 10000000000 5

Per-node system memory usage (in MBs):
                          Node 0          Node 1           Total
                 --------------- --------------- ---------------
MemTotal                24105.56         1000.00        25105.56
MemFree                 15500.50          900.25        16400.75
AnonPages                 190.00           10.00          200.00
# 15000000000 5000000005
                          Node 0          Node 1           Total
MemTotal                24105.56         1000.00        25105.56
";

    #[test]
    fn each_node_has_a_row_for_each_poll() {
        let (tables, csv) = converted(&Numastat, &[(OUTPUT, TEXT.as_bytes())], (9, 10), "numastat.csv");
        assert_eq!(tables.unwrap()[0].rows, 4, "{csv}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[1], "10.000000,1,1024000,921856,,,,10240,,,,,");
        assert!(rows[2].starts_with("15.000000,0,24684093,,"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&Numastat, &[(OUTPUT, &bytes)], (9, 10), "numastat.csv");
        }
    }
}
