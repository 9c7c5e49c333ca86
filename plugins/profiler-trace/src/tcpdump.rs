//! tcpdump: packets, bounded in size, and how many were missed.
use autoprof_plugin::{
    convert::{Lines, TableWriter, open},
    prelude::*,
    words,
};

use crate::{installed, only_root};

const OUTPUT: &str = "packets.pcap";
/// What the client keeps of a tool's standard error.
const STDERR: &str = "stderr.txt";

const PARAMS: &[Param] = &[
    Param::new("filter", ParamType::String, "which packets, as pcap-filter(7) says it"),
    Param::new("interface", ParamType::String, "where they are taken").default("any"),
    Param::new("snaplen", ParamType::Integer, "bytes kept of each packet")
        .default("96")
        .unit("bytes")
        .range("64..262144"),
    Param::new("megabytes", ParamType::Integer, "size of a file; the next is begun then")
        .default("50")
        .unit("MB")
        .range("1..10000"),
    Param::new("files", ParamType::Integer, "how many files are kept; the oldest is written over")
        .default("4")
        .range("1..1000"),
];

/// tcpdump as users know it.
pub const TCPDUMP: ProfilerInfo = ProfilerInfo::new("tcpdump", "packets, in a ring of files of bounded size")
    .params(PARAMS)
    .tools("tcpdump:--version=tcpdump_version_#")
    .example("tcpdump -n -i any -s 96 -C 50 -W 4 -w packets.pcap");

/// Captures packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcpdump;

impl ArgEncoder for Tcpdump {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = TCPDUMP;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let tool = installed(facts, "tcpdump")?;
        // A file with capabilities gives its user the right.
        if !tool.capabilities {
            only_root(facts, "tcpdump", "the kernel gives packets to root alone")?;
        }
        let integer = |name: &str, other: i64| args.integer(name).unwrap_or(other).to_string();
        let interface = args.string("interface").unwrap_or("any");
        if interface.is_empty() || interface.starts_with('-') {
            return Err(ArgError::new(ArgErrorKind::Range, format!("interface is {interface:?}")));
        }
        let mut argv = words(&["tcpdump", "-n", "-i", interface, "-s", &integer("snaplen", 96)]);
        argv.extend(words(&["-C", &integer("megabytes", 50), "-W", &integer("files", 4), "-w", OUTPUT]));
        if facts.uid == 0 {
            // As another user it could not begin its second file.
            argv.extend(words(&["-Z", "root"]));
        }
        // What follows is the filter, a word or many: tcpdump joins them.
        argv.extend(
            args.string("filter")
                .filter(|filter| !filter.trim().is_empty())
                .into_iter()
                .flat_map(|filter| words(&["--", filter])),
        );
        Ok(Invocation {
            start: Some(Start { argv, ..Start::default() }),
            stop: crate::STOP,
            // The first file of a ring has a number: which one is known only there.
            outputs: Vec::new(),
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    /// How many packets were taken and missed, as tcpdump says it at its end.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut table = TableWriter::events(raw, "packets.csv", &["packets", "count"])?;
        if !raw.file(STDERR).exists() {
            return Ok(vec![table.finish()?]);
        }
        let mut lines = Lines::new(open(raw, STDERR)?);
        let mut missed = 0;
        while let Some(line) = lines.next_text()? {
            let Some((count, what)) = line.split_once(" packets ").or_else(|| line.split_once(" packet ")) else {
                continue;
            };
            let Ok(number) = count.trim().parse::<u64>() else { continue };
            if what.starts_with("dropped") {
                missed += number;
            }
            table.row(raw.ended_unix_ns, [what, count.trim()])?;
        }
        if missed > 0 {
            table.warn(format!("{missed} packets were missed: name fewer by a filter, or keep less of each (snaplen)"));
        }
        Ok(vec![table.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};

    // tcpdump 4.99.3.
    const SAID: &str = "\
tcpdump: data link type LINUX_SLL2
tcpdump: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 96 bytes
120 packets captured
125 packets received by filter
5 packets dropped by kernel
";

    #[test]
    fn what_was_missed_is_said() {
        let (tables, csv) = converted(&Tcpdump, &Args::new(), &[(STDERR, SAID.as_bytes())], (10, 5), "packets.csv");
        let table = tables.unwrap().remove(0);
        assert_eq!(table.rows, 3, "{csv}");
        assert!(table.warnings[0].starts_with("5 packets were missed"), "{table:?}");
        assert_eq!(csv.lines().last(), Some("15.000000,dropped by kernel,5"));
    }

    #[test]
    fn it_is_bounded_and_a_filter_is_no_option() {
        let args = Args::new().with("filter", "-w /etc/passwd").complete(&TCPDUMP).unwrap();
        let argv = Tcpdump.encode(&args, &facts(&["tcpdump"])).unwrap().start.unwrap().argv;
        let whole = "tcpdump -n -i any -s 96 -C 50 -W 4 -w packets.pcap -Z root -- -w /etc/passwd";
        assert_eq!(argv.join(" "), whole);
        assert_eq!(argv.last().unwrap(), "-w /etc/passwd");
    }

    #[test]
    fn without_root_the_reason_is_said() {
        let mut host = facts(&["tcpdump"]);
        host.uid = 1000;
        let args = Args::new().complete(&TCPDUMP).unwrap();
        assert!(Tcpdump.encode(&args, &host).unwrap_err().message.contains("root"));
        if let Some(tool) = host.tools.get_mut("tcpdump") {
            tool.capabilities = true;
        }
        assert!(Tcpdump.encode(&args, &host).is_ok());
    }
}
