//! What the tools of sysstat's versions print, and what tables are made of it. The texts are those of the versions that
//! are named, with the source of the fact beside each.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use autoprof_plugin::{
    conformance,
    core::{ArgEncoder, Args, Registry, Table, error::ArgErrorKind, protocol::HostFacts},
    testing::{converted_on, host_with},
};
use autoprof_profiler_sysstat::{Iostat, Mpstat, Pidstat, Sar};

/// 2026-11-22 21:58:51 UTC.
const BEGAN: i64 = 1_795_384_731;

const CLOSED: &str = "\n\t\t\t]\n\t\t}\n\t]\n}}\n";

fn host(version: &str) -> HostFacts {
    let tools = ["iostat", "mpstat", "sar", "sadf", "pidstat"];
    HostFacts { cpus: 4, memory_kib: 1000, ..host_with(&tools, &format!("sysstat version {version}")) }
}

/// The one table that is made of a window of 3 s, and its rows without the time.
fn made(encoder: &dyn ArgEncoder, version: &str, file: &str, text: &str) -> (Table, Vec<String>) {
    let csv = format!("{}.csv", file.split('.').next().unwrap());
    let args = Args::new().with("interval", 1i64);
    let (tables, csv) = converted_on(&host(version), encoder, &args, &[(file, text.as_bytes())], (BEGAN, 3), &csv);
    let rows = csv.lines().filter_map(|line| Some(line.split_once(',')?.1.to_owned())).collect();
    (tables.unwrap().remove(0), rows)
}

/// The JSON of iostat and mpstat up to their samples.
fn head() -> String {
    "{\"sysstat\": {\n\t\"hosts\": [\n\t\t{\n\t\t\t\"nodename\": \"host\",\n\t\t\t\"sysname\": \"Linux\",\n\
     \t\t\t\"release\": \"4.18.0\",\n\t\t\t\"machine\": \"x86_64\",\n\t\t\t\"number-of-cpus\": 2,\n\
     \t\t\t\"date\": \"2026-11-22\",\n\t\t\t\"statistics\": [\n"
        .to_owned()
}

/// Three samples, each with these members.
fn samples(stamp: &str, members: &str) -> Vec<String> {
    let sample =
        |second| format!("\t\t\t\t{{\n\t\t\t\t\t\"timestamp\": \"{stamp}21:58:{second}\",\n{members}\t\t\t\t}}");
    [52, 53, 54].map(sample).to_vec()
}

fn disks(rows: &[&str]) -> String {
    format!("\t\t\t\t\t\"disk\": [\n\t\t\t\t\t\t{}\n\t\t\t\t\t]\n", rows.join(",\n\t\t\t\t\t\t"))
}

fn disk(name: &str, util: &str) -> String {
    format!(
        "{{\"disk_device\": \"{name}\", \"r/s\": 2.00, \"w/s\": 11078.00, \"d/s\": 7.00, \"rkB/s\": 520.00, \
         \"wkB/s\": 1417984.00, \"dkB/s\": 56.00, \"rrqm/s\": 0.00, \"wrqm/s\": 0.00, \"drqm/s\": 0.00, \
         \"r_await\": 0.00, \"w_await\": 0.06, \"d_await\": 0.14, \"rareq-sz\": 130.00, \"wareq-sz\": 64.00, \
         \"dareq-sz\": 4.00, \"aqu-sz\": 0.80, \"util\": {util}}}"
    )
}

fn iostat(rows: &[&str]) -> String {
    head() + &samples("2026-11-22T", &disks(rows)).join(",\n") + CLOSED
}

fn load(cpus: &[&str]) -> String {
    let row =
        |cpu: &&str| format!("\t\t\t\t\t\t{{\"cpu\": \"{cpu}\", \"usr\": 80.00, \"sys\": 15.00, \"idle\": 5.00}}");
    format!("\t\t\t\t\t\"cpu-load\": [\n{}\n\t\t\t\t\t]", cpus.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

fn interrupts(cpus: &[&str]) -> String {
    let row = |cpu: &&str| format!("\t\t\t\t\t\t{{\"cpu\": \"{cpu}\", \"intr\": 547.52}}");
    format!("\t\t\t\t\t\"sum-interrupts\": [\n{}\n\t\t\t\t\t]", cpus.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

fn mpstat(of_load: &[&str], of_interrupts: &[&str]) -> Vec<String> {
    samples("", &format!("{},\n{}\n", load(of_load), interrupts(of_interrupts)))
}

// Before 12.0.4 and 12.1.4: all CPUs are -1 in the list of their load (sysstat#214), the JSON is not closed on SIGINT
// (sysstat#215, #253), and before 11.6.1 and 12.0.5 a comma is before the first sample with -y (sysstat#163; CHANGES).
#[test]
fn json_that_an_old_version_never_closes_is_whole() {
    for version in ["11.6.0", "11.7.3", "12.0.2", "12.1.3"] {
        let text = head() + ",\n" + &mpstat(&["-1", "0", "1"], &["all", "0", "1"]).join(",\n");
        let (table, rows) = made(&Mpstat, version, "mpstat.json", &text);
        assert_eq!((table.rows, table.repaired, table.incomplete), (9, None, None), "{version}");
        assert_eq!(
            table.warnings,
            ["this version of sysstat does not close its JSON: mpstat.repaired.json is the whole file"]
        );
        assert_eq!(rows[1], "all,80,,15,,,,,,,5,547.52");
        assert_eq!(rows[3], "1,80,,15,,,,,,,5,547.52");
        let good = disk("vda", "1.00");
        let text = head() + &samples("2026-11-22T", &disks(&[&good])).join(",\n");
        assert_eq!(made(&Iostat, version, "iostat.json", &text).0.repaired, None, "{version}");
    }
}

#[test]
fn json_that_is_torn_is_torn_in_every_version() {
    let whole = head() + &mpstat(&["all", "0"], &["all", "0"]).join(",\n");
    for version in ["12.0.4", "12.1.4", "12.7.5", ""] {
        assert_eq!(made(&Mpstat, version, "mpstat.json", &whole).0.repaired, Some(3), "{version} closes its JSON");
    }
    let cut = &whole[..whole.len() - 10];
    assert_eq!(made(&Mpstat, "11.7.3", "mpstat.json", cut).0.repaired, Some(2), "in the middle of a sample");
}

// sysstat#264: 12.1.5 to 12.2.0 print twice the kB/s in JSON with -k; corrected in 12.2.1 (CHANGES).
#[test]
fn throughput_that_was_printed_twice_as_large_is_halved() {
    let text = iostat(&[&disk("vda", "1.00")]);
    for version in ["12.1.5", "12.1.7", "12.2.0"] {
        let (table, rows) = made(&Iostat, version, "iostat.json", &text);
        assert!(rows[1].starts_with("vda,2,11078,7,,260,708992,28,"), "{version}: {}", rows[1]);
        assert_eq!(table.warnings, ["iostat of sysstat 12.1.5 to 12.2.0 prints kB/s twice as large: they were halved"]);
    }
    for version in ["12.1.4", "12.2.1", "12.5.2", "12.7.5"] {
        let (_, rows) = made(&Iostat, version, "iostat.json", &text);
        assert!(rows[1].starts_with("vda,2,11078,7,,520,1417984,56,"), "{version}: {}", rows[1]);
    }
    // A distribution that has corrected it without another version.
    let text = text.replace("520.00", "260.00").replace("1417984.00", "708992.00").replace("56.00", "28.00");
    let (table, rows) = made(&Iostat, "12.2.0", "iostat.json", &text);
    assert!(rows[1].starts_with("vda,2,11078,7,,260,708992,28,"), "{}", rows[1]);
    assert!(table.warnings.is_empty());
}

// udev writes what is no letter as \xNN in /dev/mapper, and sysstat escapes nothing (atop#300); 9223372036854775808.00 is
// sysstat#312, nan and inf are PerfSpect#151 and memtier_benchmark#271.
#[test]
fn one_bad_disk_costs_the_others_nothing() {
    let good = disk("vda", "4.80");
    for (bad, cells, warning) in [
        (disk(r"my\x20volume", "1.00"), r"my\x20volume,2,", None),
        (disk("my\"volume", "1.00"), "\"my\"\"volume\",2,", None),
        (disk("a}]\"", "1.00"), "\"a}]\"\"\",2,", None),
        (disk("vdb", "nan"), "vdb,2,", Some("util_percent: 3 values left empty: not a number, such as nan")),
        (disk("vdb", "1,50"), "vdb,2,", Some("util_percent: 3 values left empty: not a number, such as 1,50")),
        (
            disk("vdb", "214748364.70"),
            "vdb,2,",
            Some("util_percent: 3 values left empty: outside the possible range, such as 214748364.7"),
        ),
        (
            disk("vdb", "-3.00").replace("2.00,", "9223372036854775808.00,"),
            "vdb,,",
            Some("util_percent: 3 values left empty: outside the possible range, such as -3"),
        ),
        (disk("vdb", "1.00").replace(", \"w/s\"", " \"w/s\""), "vdb,2,", None),
    ] {
        let (table, rows) = made(&Iostat, "12.6.1", "iostat.json", &iostat(&[&bad, &good]));
        assert_eq!((table.rows, table.repaired, table.incomplete.as_deref()), (6, None, None), "{bad}");
        assert!(rows[1].starts_with(cells), "{}", rows[1]);
        assert!(rows[2].starts_with("vda,2,11078,") && rows[2].ends_with(",4.8"), "{}", rows[2]);
        match warning {
            Some(warning) => {
                assert!(table.warnings.iter().any(|told| told == warning), "{:?}", table.warnings);
                assert!(rows[1].ends_with(','), "{}", rows[1]);
            }
            None => assert!(table.warnings.is_empty(), "{:?}", table.warnings),
        }
    }
}

#[test]
fn a_row_or_a_sample_that_cannot_be_read_costs_itself() {
    let good = disk("vda", "4.80");
    let (table, rows) = made(&Iostat, "12.6.1", "iostat.json", &iostat(&["{\"disk_device\" \"vdb\"}", &good]));
    assert_eq!((table.rows, rows.len()), (3, 4));
    assert_eq!(table.warnings, ["3 rows of iostat.json that cannot be read were left out"]);
    // The second sample has lost its end.
    let mut all = samples("2026-11-22T", &disks(&[&good]));
    let end = all[1].find("r_await").unwrap();
    all[1].truncate(end);
    let text = head() + &all.join("\n,\n") + CLOSED;
    let (table, _) = made(&Iostat, "12.6.1", "iostat.json", &text);
    assert_eq!((table.rows, table.repaired), (2, None));
    assert_eq!(table.warnings, ["1 samples of iostat.json that cannot be read were left out"]);
}

// A CPU that goes offline or comes back is in one of mpstat's lists before the other (pbench#1207, atop#261).
#[test]
fn cpus_are_joined_by_name() {
    let text = |load: &[&str], sum: &[&str]| head() + &mpstat(load, sum).join(",\n") + CLOSED;
    let cells = |text: &str| {
        let (_, rows) = made(&Mpstat, "12.6.1", "mpstat.json", text);
        let cell = |row: &String| row.split(',').step_by(11).map(str::to_owned).collect::<Vec<_>>().join(" ");
        rows[1..].iter().take(4).map(cell).collect::<Vec<_>>()
    };
    let all = ["all", "0", "1", "2"];
    assert_eq!(cells(&text(&all, &["all", "0", "2"])), ["all 547.52", "0 547.52", "1 ", "2 547.52"]);
    assert_eq!(cells(&text(&all, &["2", "1", "0", "all"])), ["all 547.52", "0 547.52", "1 547.52", "2 547.52"]);
    assert_eq!(cells(&text(&["all", "0", "2"], &all)), ["all 547.52", "0 547.52", "2 547.52", "1 547.52"]);
}

const PIDSTAT: &str = "# Time        UID       PID    %usr %system  %guest   %wait    %CPU   CPU  minflt/s  majflt/s     VSZ     \
                       RSS   %MEM   kB_rd/s   kB_wr/s kB_ccwr/s iodelay   cswch/s nvcswch/s  Command\n";

fn pidstat(row: &str) -> String {
    let sample = |second: i64| format!("\n{PIDSTAT}{}\n", row.replace("TIME", &(BEGAN + second).to_string()));
    format!("Linux 4.9.0 (host) \t2026-11-22 \t_x86_64_\t(2 CPU)\n{}{}{}", sample(1), sample(2), sample(3))
}

// pidstat 11.6.0 prints a NUL behind each percentage (a build of the tag v11.6.0; pgcluu#130).
#[test]
fn zeros_behind_percentages_are_not_a_power_cut() {
    let row = "TIME      0         1    0.20\0    0.40\0    0.00\0    0.00\0    0.60\0     0      0.00      0.00   42692   \
               13860   0.06\0      0.00      0.00      0.00       0      0.00      0.00  /sbin/init";
    let (table, rows) = made(&Pidstat, "11.6.0", "pidstat.txt", &pidstat(row));
    assert_eq!((table.rows, table.repaired, table.warnings.len()), (3, None, 0), "{:?}", table.warnings);
    assert_eq!(rows[1], "0,1,0.2,0.4,0,0,0.6,0,0,0,42692,13860,0.06,0,0,0,0,0,0,/sbin/init");
}

const INIT: &str = "TIME      0         1    0.20    0.40    0.00    0.00    0.60     0      0.00      0.00   42692   13860   \
                    0.06     -1.00     -1.00     -1.00       0      0.00      0.00  /sbin/init";

// With S_COLORS=always each value has a color of its own (sysstat's common.c).
#[test]
fn colors_do_not_hide_rows() {
    let text = pidstat(INIT).lines().map(|line| format!("\u{1b}[31;22m{line}\u{1b}[0m\n")).collect::<String>();
    let (table, rows) = made(&Pidstat, "12.6.1", "pidstat.txt", &text.replace("0.60", "\u{1b}[34;1m0.60\u{1b}[0m"));
    assert_eq!((table.rows, table.warnings.len()), (3, 0), "{:?}", table.warnings);
    assert_eq!(rows[1], "0,1,0.2,0.4,0,0,0.6,0,0,0,42692,13860,0.06,,,,0,0,0,/sbin/init");
}

#[test]
fn a_process_keeps_its_row_where_one_number_cannot_be() {
    for (bad, what) in [("-nan", "not a number"), ("214748364.70", "outside the possible range")] {
        let (table, rows) = made(&Pidstat, "12.6.1", "pidstat.txt", &pidstat(&INIT.replace("0.60", bad)));
        assert_eq!(rows[1], "0,1,0.2,0.4,0,0,,0,0,0,42692,13860,0.06,,,,0,0,0,/sbin/init");
        let shown = if bad == "-nan" { bad } else { "214748364.7" };
        assert_eq!(table.warnings, [format!("cpu_percent: 3 values left empty: {what}, such as {shown}")]);
    }
    // Four threads on four CPUs.
    let (table, _) = made(&Pidstat, "12.6.1", "pidstat.txt", &pidstat(&INIT.replace("0.60", "399.00")));
    assert!(table.warnings.is_empty());
}

fn sar(memory: &str, network: &str) -> String {
    let sample = |second| {
        format!(
            "     {{\n      \"timestamp\": {{\n       \"date\": \"2026-11-22\",\n       \"time\": \"21:58:{second}\",\n       \
             \"utc\": 1,\n       \"interval\": 1\n      }},\n      \"memory\": {{{memory}}},\n      \"network\": {{{network}}}\n     }}"
        )
    };
    let samples = [52, 53, 54].map(sample).join(",\n");
    format!(
        "{{\"sysstat\": {{\n  \"hosts\": [\n   {{\n    \"nodename\": \"h\",\n    \"statistics\": [\n{samples}\n    ]\n   }}\n  ]\n }}\n}}\n"
    )
}

fn column(csv: &str, name: &str) -> Vec<String> {
    let place = csv.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    csv.lines().skip(1).map(|row| row.split(',').nth(place).unwrap().to_owned()).collect()
}

// kbmemused has buffers and caches in it before 11.7.4 and not since (CHANGES); kbavail is not there before 11.1.7, nor
// with a kernel before 3.14.
#[test]
fn used_memory_is_what_is_not_available_in_every_version() {
    let used = |version: &str, memory: &str| {
        let text = sar(memory, "");
        let files: [(&str, &[u8]); 2] = [("sar.json", text.as_bytes()), ("sar.data", b"x")];
        let (tables, csv) = converted_on(&host(version), &Sar, &Args::new(), &files, (BEGAN, 3), "sar-memory.csv");
        assert_eq!(tables.unwrap()[2].rows, 3);
        (column(&csv, "used_kib")[0].clone(), column(&csv, "used_percent")[0].clone())
    };
    let both = ("400".to_owned(), "40".to_owned());
    let old = "\"memfree\": 100, \"memused\": 900, \"memused-percent\": 90.00, \"buffers\": 300, \"cached\": 200";
    assert_eq!(used("11.7.3", &format!("{old}, \"avail\": 600")), both);
    assert_eq!(used("12.7.5", "\"memfree\": 100, \"avail\": 600, \"memused\": 380, \"memused-percent\": 38.00"), both);
    assert_eq!(used("11.6.0", old), (String::new(), String::new()));
}

#[test]
fn interfaces_are_joined_by_name() {
    let text = sar(
        "\"memfree\": 1",
        "\"net-dev\": [{\"iface\": \"lo\", \"rxpck\": 1.00}, {\"iface\": \"eth0\", \"rxpck\": 2.00}], \
         \"net-edev\": [{\"iface\": \"eth0\", \"rxerr\": 5.00}, {\"iface\": \"wlan0\", \"rxerr\": 6.00}]",
    );
    let files: [(&str, &[u8]); 2] = [("sar.json", text.as_bytes()), ("sar.data", b"x")];
    let (_, csv) = converted_on(&host("12.6.1"), &Sar, &Args::new(), &files, (BEGAN, 3), "sar-network.csv");
    assert_eq!(column(&csv, "interface")[..3], ["lo", "eth0", "wlan0"]);
    assert_eq!(column(&csv, "rx_packets_per_s")[..3], ["1", "2", ""]);
    assert_eq!(column(&csv, "rx_errors_per_s")[..3], ["", "5", "6"]);
}

#[test]
fn output_without_a_sample_is_not_a_result() {
    let open = head() + "\n\t\t\t\t{\n\t\t\t\t\t\"timestamp\"";
    let empty = head() + CLOSED;
    let other = iostat(&[]).replace("\"disk\"", "\"disks\"");
    let bare = iostat(&["{\"name\": \"vda\", \"reads\": 1.00}"]);
    let unstamped = iostat(&[&disk("vda", "1.00")]).replace("timestamp", "time");
    for text in ["{}\n", "[]", "null\n", "Usage: iostat\n", &head(), &empty, &open, &other, &bare, &unstamped] {
        let (table, _) = made(&Iostat, "12.6.1", "iostat.json", text);
        assert!(table.incomplete.is_some() || table.repaired.is_some(), "{text}: {table:?}");
    }
    for text in ["Linux 6.1.0 (host)\n", &format!("\n{PIDSTAT}"), &pidstat("TIME nothing to see here").replace('#', "")]
    {
        let (table, _) = made(&Pidstat, "12.6.1", "pidstat.txt", text);
        assert!(table.incomplete.is_some(), "{text}: {table:?}");
    }
    // A host without a disk has samples all the same.
    let (table, _) = made(&Iostat, "12.6.1", "iostat.json", &iostat(&[]));
    assert_eq!((table.rows, table.incomplete, table.warnings.len()), (0, None, 0));
}

// Amazon Linux 2 has 10.1.5, RHEL 7 too; SLES 15 has 12.0.2, RHEL 8 11.7.3, Debian 11 and RHEL 9 12.5.x.
#[test]
fn versions_are_refused_by_name_or_served() {
    let encoders: [&dyn ArgEncoder; 4] = [&Iostat, &Mpstat, &Pidstat, &Sar];
    for encoder in encoders {
        let name = encoder.profiler().name.as_ref();
        let args = Args::new().complete(encoder.profiler()).unwrap();
        let refused = encoder.encode(&args, &host("10.1.5")).unwrap_err();
        assert_eq!(refused.kind, ArgErrorKind::Unsupported);
        assert_eq!(refused.message, format!("{name} of sysstat 10.1.5 is older than 11.6"));
        assert_eq!(refused.hint.as_deref(), Some("install sysstat 11.6 or newer"));
        for version in ["11.6.0", "11.7.3", "12.0.2", "12.2.0", "12.5.2", "12.7.5"] {
            assert!(encoder.encode(&args, &host(version)).is_ok(), "{name} {version}");
        }
    }
}

#[test]
fn encoders_and_converters_keep_what_they_have_to() {
    let mut registry = Registry::default();
    autoprof_profiler_sysstat::register(&mut registry).unwrap();
    for (name, encoder) in registry.encoders() {
        assert_eq!(conformance::failures(&conformance::check(&**encoder)), Vec::<String>::new(), "{name}");
    }
}
