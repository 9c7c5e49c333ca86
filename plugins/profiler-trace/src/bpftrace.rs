//! bpftrace: latencies as histograms over time, by bundled scripts or one's own.
use autoprof_plugin::{
    convert::{Lines, TableWriter, json, open},
    prelude::*,
    sent, words,
};
use serde_json::Value as Json;

use crate::{installed, only_root};

const OUTPUT: &str = "bpftrace.json";
/// What a file of the user's is called on the host.
const PROGRAM: &str = "program.bt";

const PARAMS: &[Param] = &[
    Param::new("script", ParamType::String, "a bundled script")
        .default("runqlat")
        .range("runqlat|biolatency|tcpretrans|offcpu"),
    Param::new("program", ParamType::String, "a program of one's own instead, in bpftrace's language"),
    Param::new("file", ParamType::String, "a program of one's own in a file of the controller, which is sent"),
];

/// How long a task waited for a CPU after it became runnable. After runqlat of BCC and of "BPF Performance Tools".
const RUNQLAT: &str = "\
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @since[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
  if (args->prev_state == 0) { @since[args->prev_pid] = nsecs; }
  $since = @since[args->next_pid];
  if ($since) { @run_queue_us = hist((nsecs - $since) / 1000); }
  delete(@since[args->next_pid]);
}
";

/// From when a request was given to a device to when it was done.
const BIOLATENCY: &str = "\
tracepoint:block:block_rq_issue { @since[args->dev, args->sector] = nsecs; }
tracepoint:block:block_rq_complete {
  $since = @since[args->dev, args->sector];
  if ($since) { @block_io_us = hist((nsecs - $since) / 1000); }
  delete(@since[args->dev, args->sector]);
}
";

/// Segments that TCP sent again.
const TCPRETRANS: &str = "tracepoint:tcp:tcp_retransmit_skb { @retransmits = count(); }\n";

/// How long a task was off its CPU.
const OFFCPU: &str = "\
tracepoint:sched:sched_switch {
  @since[args->prev_pid] = nsecs;
  $since = @since[args->next_pid];
  if ($since && args->next_pid) { @off_cpu_us = hist((nsecs - $since) / 1000); }
  delete(@since[args->next_pid]);
}
";

/// Each second, and nothing of the maps at the end.
fn bundled(body: &str, map: &str) -> String {
    let clear = if body.contains("@since") { "clear(@since);" } else { "" };
    format!(
        "{body}interval:s:1 {{ time(\"%s\\n\"); print(@{map}); clear(@{map}); }}\nEND {{ {clear} clear(@{map}); }}\n"
    )
}

/// bpftrace as users know it.
pub const BPFTRACE: ProfilerInfo =
    ProfilerInfo::new("bpftrace", "latencies of the run queue, block devices and others, as histograms over time")
        .params(PARAMS)
        .tools("bpftrace:--version=bpftrace_#")
        .example("bpftrace -f json -o bpftrace.json -e '…runqlat…'");

/// Runs bpftrace and makes a table of its histograms.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bpftrace;

impl ArgEncoder for Bpftrace {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = BPFTRACE;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        installed(facts, "bpftrace")?;
        only_root(facts, "bpftrace", "only root may load programs into the kernel")?;
        let own = |name: &str| args.string(name).filter(|own| !own.trim().is_empty());
        let mut invocation = Invocation {
            stop: crate::STOP,
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Json, required: true }],
            restart_after_reboot: true,
            ..Invocation::default()
        };
        if let Some(file) = own("file") {
            if own("program").is_some() {
                return Err(ArgError::new(ArgErrorKind::Conflict, "program and file exclude each other"));
            }
            let there = sent("bpftrace", PROGRAM);
            invocation.files = vec![SentFile { from: file.to_owned(), name: PROGRAM.to_owned() }];
            // What ran is kept beside what it printed.
            invocation.prepare = vec![words(&["sh", "-c", &format!("cp {there} .")])];
            let run = format!("exec bpftrace -f json -o {OUTPUT} {there}");
            invocation.start = Some(Start { argv: words(&["sh", "-c", &run]), ..Start::default() });
            return Ok(invocation);
        }
        let program = match (own("program"), args.string("script").unwrap_or("runqlat")) {
            (Some(own), _) => own.to_owned(),
            (_, "biolatency") => bundled(BIOLATENCY, "block_io_us"),
            (_, "tcpretrans") => bundled(TCPRETRANS, "retransmits"),
            (_, "offcpu") => bundled(OFFCPU, "off_cpu_us"),
            _ => bundled(RUNQLAT, "run_queue_us"),
        };
        let argv = words(&["bpftrace", "-f", "json", "-o", OUTPUT, "-e", &program]);
        invocation.start = Some(Start { argv, ..Start::default() });
        Ok(invocation)
    }

    /// Of a program of one's own the JSON stands as it is, unless it prints as the bundled ones do.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let mut table = TableWriter::events(raw, "histogram.csv", &["map", "bucket", "count_per_s"])?;
        let mut lines = Lines::new(open(raw, OUTPUT)?);
        let mut at = raw.began_unix_ns;
        let mut lost = 0;
        let mut unread = 0u64;
        while let Some(line) = lines.next_text()? {
            let Some(json::Read { value: json, .. }) = json::read(line.as_bytes()) else {
                unread += 1;
                continue;
            };
            if json["type"].is_string() {
                // It may have counted nothing, and a program of one's own may print something else.
                table.nothing_happened();
            }
            match (json["type"].as_str(), &json["data"]) {
                // When the histograms were printed that follow, in whole seconds.
                (Some("time"), Json::String(text)) => at = seconds(text).unwrap_or(at),
                (Some("hist"), Json::Object(maps)) => {
                    for (map, buckets) in maps {
                        for bucket in buckets.as_array().into_iter().flatten() {
                            let cells =
                                [map.trim_start_matches('@').to_owned(), range(bucket), bucket["count"].to_string()];
                            table.row(at, cells)?;
                        }
                    }
                }
                (Some("map"), Json::Object(maps)) => {
                    for (map, count) in maps.iter().filter(|(_, count)| count.is_number()) {
                        table.row(at, [map.trim_start_matches('@').to_owned(), String::new(), count.to_string()])?;
                    }
                }
                (Some("lost_events"), data) => lost += data["events"].as_u64().unwrap_or(0),
                _ => {}
            }
        }
        table.account_for(&lines);
        if lost > 0 {
            table.warn(format!("bpftrace lost {lost} events"));
        }
        if unread > 0 {
            table.warn(format!("{unread} lines that are no JSON were left out"));
        }
        Ok(vec![table.finish()?])
    }
}

fn seconds(text: &str) -> Option<i64> {
    text.trim().parse::<i64>().ok()?.checked_mul(1_000_000_000)
}

/// What a bucket counts: `64-127`; `0` alone; `-1` and less.
fn range(bucket: &Json) -> String {
    let end = |name: &str| bucket[name].as_i64().map_or_else(String::new, |end| end.to_string());
    let (min, max) = (end("min"), end("max"));
    if min == max || max.is_empty() { min } else { format!("{min}-{max}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{converted, facts};
    use proptest::prelude::*;

    // bpftrace 0.17.
    const TEXT: &str = r#"{"type": "attached_probes", "data": {"probes": 5}}
{"type": "time", "data": "11\n"}
{"type": "hist", "data": {"@run_queue_us": [{"min": 0, "max": 0, "count": 3}, {"min": 1, "max": 1, "count": 5}, {"min": 2, "max": 3, "count": 1}]}}
{"type": "time", "data": "12\n"}
{"type": "hist", "data": {"@run_queue_us": [{"min": 64, "max": 127, "count": 2}]}}
{"type": "lost_events", "data": {"events": 4}}
{"type": "hist", "da
"#;

    #[test]
    fn each_second_has_its_buckets() {
        let (tables, csv) = converted(&Bpftrace, &Args::new(), &[(OUTPUT, TEXT.as_bytes())], (10, 5), "histogram.csv");
        let table = tables.unwrap().remove(0);
        assert_eq!(table.rows, 4, "{csv}");
        assert_eq!(table.warnings, ["bpftrace lost 4 events", "1 lines that are no JSON were left out"]);
        assert_eq!(csv.lines().nth(3), Some("11.000000,run_queue_us,2-3,1"));
        assert_eq!(csv.lines().nth(4), Some("12.000000,run_queue_us,64-127,2"));
    }

    #[test]
    fn a_program_of_ones_own_is_one_word() {
        let encode = |args: &Args, host: &HostFacts| Bpftrace.encode(&args.complete(&BPFTRACE).unwrap(), host);
        let own = Args::new().with("program", "BEGIN { printf(\"%s\", \"a 'b'\"); }");
        let argv = encode(&own, &facts(&["bpftrace"])).unwrap().start.unwrap().argv;
        assert_eq!(argv.last().unwrap(), "BEGIN { printf(\"%s\", \"a 'b'\"); }");
        let mut user = facts(&["bpftrace"]);
        user.uid = 1000;
        assert!(encode(&own, &user).unwrap_err().message.contains("root"));
        let file = Args::new().with("file", "/a b/own.bt");
        let sent = encode(&file, &facts(&["bpftrace"])).unwrap();
        assert_eq!(sent.files, [SentFile { from: "/a b/own.bt".into(), name: "program.bt".into() }]);
        let command = &sent.start.unwrap().argv[2];
        assert!(command.ends_with("bpftrace.json \"$AUTOPROF_CLIENT_DIR/files/bpftrace/program.bt\""), "{command}");
        let both = encode(&file.with("program", "BEGIN {}"), &facts(&["bpftrace"])).unwrap_err();
        assert_eq!(both.kind, ArgErrorKind::Conflict);
        assert!(Args::new().with("script", "nope").complete(&BPFTRACE).is_err());
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = converted(&Bpftrace, &Args::new(), &[(OUTPUT, &bytes)], (10, 5), "histogram.csv");
        }
    }
}
