//! kvm_stat: what the kernel does for virtual machines: exits by reason, interrupts, page faults.
use autoprof_plugin::{
    convert::{Lines, TableWriter, TimeAxis, number, open, utc_date_time},
    installed, only_root,
    prelude::*,
    words,
};

use crate::text;

const OUTPUT: &str = "kvm_stat.csv";
const TABLE: &str = "kvm.csv";

const PARAMS: &[Param] = &[
    Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..25.5"),
    Param::new("guest", ParamType::String, "one virtual machine by its name, instead of all"),
    Param::new("fields", ParamType::String, "only these events, as a regular expression"),
];

/// Most events; kernels have some 300, with the reasons of exits.
const MOST_EVENTS: usize = 4096;

/// It ends at once on a CPU that it does not know, such as those of some virtual machines; this tells before the test.
const CHECK: &str = "kvm_stat -f help >/dev/null";

/// Events that have rows on a host where no virtual machine runs too.
const ALWAYS: [&str; 2] = ["kvm_entry", "kvm_exit"];

/// kvm_stat as users know it.
pub const KVM_STAT: ProfilerInfo =
    ProfilerInfo::new("kvm_stat", "what the kernel does for virtual machines: exits by reason, interrupts, faults")
        .params(PARAMS)
        .tools("kvm_stat:--help=usage:_kvm_stat sh")
        .example("kvm_stat -l -c -s 1");

/// Runs kvm_stat and makes a table of what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct KvmStat;

impl ArgEncoder for KvmStat {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = KVM_STAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let packages = "linux-tools-host (Ubuntu), kernel-tools (Fedora), or tools/kvm/kvm_stat of Linux itself";
        let tool = installed(facts, "kvm_stat", packages)?;
        let refused = |message: &str, hint: &str| {
            Err(ArgError::new(ArgErrorKind::Unsupported, message.to_owned()).with_hint(hint.to_owned()))
        };
        if !facts.kvm {
            return refused("this host has no KVM: there is no /dev/kvm", "modprobe kvm_intel, or kvm_amd");
        }
        only_root(facts, "kvm_stat", "it reads debugfs")?;
        if !facts.debugfs {
            return refused(
                "kvm_stat needs debugfs, which is not mounted",
                "mount -t debugfs debugfs /sys/kernel/debug",
            );
        }
        // Its help begins with its options, or, before it had this one, has its first digit in another line.
        let help = tool.version.as_untrusted_str().to_ascii_lowercase();
        if (help.contains("usage:") || help.contains("perf_event_paranoid")) && !help.contains("[-c]") {
            return refused(
                "this kvm_stat cannot print CSV: it has no -c",
                &format!("install a newer one: {packages}"),
            );
        }
        let mut argv = words(&["kvm_stat", "-l", "-c", "-s"]);
        argv.push(number(args.number("interval").unwrap_or(1.0)));
        for (flag, name) in [("--guest", "guest"), ("--fields", "fields")] {
            argv.extend(args.string(name).filter(|text| !text.is_empty()).map(|text| format!("{flag}={text}")));
        }
        let mut start = Start { argv, stdout: Some(OUTPUT.to_owned()), ..Start::default() };
        // Otherwise Python would hold back some pages of rows, and lose them with the host.
        start.env.insert("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
        Ok(Invocation {
            prepare: vec![words(&["sh", "-c", CHECK])],
            start: Some(start),
            outputs: vec![Output { format: OutputFormat::Csv, ..text(OUTPUT, true) }],
            restart_after_reboot: true,
            ..Invocation::default()
        })
    }

    /// Of hundreds of events most never happen: an event has rows from its first on, and those that every virtual machine has always.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let mut table = TableWriter::create(raw, TABLE, interval, &["event", "events_per_s"])?;
        let mut axis = TimeAxis::new(raw, interval);
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut events = Vec::<(String, bool)>::new();
        while let Some(line) = lines.next_text()? {
            let mut fields = line.split(',');
            let first = fields.next().unwrap_or_default();
            if first == "timestamp" {
                // It is printed again after twenty rows.
                let names: Vec<&str> = fields.take(MOST_EVENTS).collect();
                if !names.iter().eq(events.iter().map(|(name, _)| name)) {
                    events = names.into_iter().map(|name| (name.to_owned(), ALWAYS.contains(&name))).collect();
                }
                continue;
            }
            let Some(second) = utc_date_time(first) else { continue };
            let at = axis.place(second);
            table.sample(at);
            for ((event, seen), count) in events.iter_mut().zip(fields) {
                let Ok(count) = count.parse::<f64>() else {
                    table.unreadable("events_per_s", count);
                    continue;
                };
                *seen |= count != 0.0;
                if *seen {
                    table.row(at, [event.as_str(), &number(count / interval)])?;
                }
            }
        }
        table.account_for(&lines);
        Ok(vec![table.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // kvm_stat of Linux 6.1 beside a guest that does nothing but I/O, six of its 226 events. Its first row, of a time
    // without a guest, and the repeated header were put in by hand.
    const TEXT: &str = "\
timestamp,kvm_ack_irq,kvm_entry,kvm_exit,kvm_exit(HLT),kvm_exit(INTR),kvm_exit(IOIO)
2026-11-26 18:30:43,0,0,0,0,0,0
2026-11-26 18:30:44,0,778,778,0,5,773
timestamp,kvm_ack_irq,kvm_entry,kvm_exit,kvm_exit(HLT),kvm_exit(INTR),kvm_exit(IOIO)
2026-11-26 18:30:45,0,685,685,0,6,680
";

    fn host(version: &str) -> HostFacts {
        let mut host = HostFacts { kvm: true, debugfs: true, ..facts(&["kvm_stat"]) };
        if let Some(tool) = host.tools.get_mut("kvm_stat") {
            tool.version = version.into();
        }
        host
    }

    #[test]
    fn events_have_rows_from_their_first_on() {
        // 18:30:42.
        let (tables, csv) = converted(&KvmStat, &[(OUTPUT, TEXT.as_bytes())], (1_795_717_842, 5), TABLE);
        assert_eq!(tables.unwrap()[0].rows, 10, "{csv}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[1], "1795717843.000000,kvm_exit,0");
        assert_eq!(rows[2], "1795717844.000000,kvm_entry,778");
        assert_eq!(rows[5], "1795717844.000000,kvm_exit(IOIO),773");
        assert_eq!(rows[9], "1795717845.000000,kvm_exit(IOIO),680");
    }

    #[test]
    fn where_it_cannot_run_the_reason_is_said() {
        let encode = |host: &HostFacts| KvmStat.encode(&Args::new().complete(&KVM_STAT).unwrap(), host);
        let new = "usage: kvm_stat [-h] [-1] [-c] [-d] [-f FIELDS] [-g GUEST] [-i] [-l] [-L FILE]";
        let start = encode(&host(new)).unwrap().start.unwrap();
        assert_eq!(start.argv.join(" "), "kvm_stat -l -c -s 1");
        assert_eq!(start.env["PYTHONUNBUFFERED"], "1");
        assert!(encode(&host("")).is_ok(), "what does not say its options may have them");
        let old = "- /proc/sys/kernel/perf_event_paranoid < 1 if user has no";
        assert!(encode(&host(old)).unwrap_err().message.contains("no -c"));
        let reason = |host: HostFacts| encode(&host).unwrap_err().message;
        assert!(reason(HostFacts { kvm: false, ..host(new) }).contains("/dev/kvm"));
        assert!(reason(HostFacts { uid: 1000, ..host(new) }).contains("root"));
        assert!(reason(HostFacts { debugfs: false, ..host(new) }).contains("debugfs"));
        assert_eq!(encode(&facts(&[])).unwrap_err().kind, ArgErrorKind::Missing);
    }

    #[test]
    fn a_name_is_no_option() {
        let args = Args::new().with("guest", "-l").with("fields", "^kvm_(exit|entry)").with("interval", 0.5);
        let argv = KvmStat.encode(&args.complete(&KVM_STAT).unwrap(), &host("")).unwrap().start.unwrap().argv;
        assert_eq!(argv[3..], ["-s", "0.5", "--guest=-l", "--fields=^kvm_(exit|entry)"]);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&KvmStat, &[(OUTPUT, &bytes)], (1_795_717_842, 5), TABLE);
        }
    }
}
