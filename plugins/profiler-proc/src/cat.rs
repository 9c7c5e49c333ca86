//! cat: any files, copied again and again with the time: what Autotest's catprofile did.
use std::{
    fs::File,
    io::{self, Read},
};

use autoprof_plugin::{
    convert::{BootAxis, TableWriter, number, open},
    prelude::*,
};

use crate::samples::{MOST_FILES, Reader, Sample};

const OUTPUT: &str = "files.txt";
const REPAIRED: &str = "files.repaired.txt";

const PARAMS: &[Param] = &[
    Param::new("files", ParamType::Strings, "what is copied, as absolute paths")
        .default("[/proc/meminfo, /proc/slabinfo]"),
    Param::new("interval", ParamType::Number, "time between copies").default("1").unit("s").range("0.01..3600"),
];

/// cat as users know it.
pub const CAT: ProfilerInfo = ProfilerInfo::new("cat", "any files, copied again and again with the time")
    .params(PARAMS)
    .example("cat /proc/meminfo /proc/slabinfo, every second");

/// Has the client copy files, and makes a table of those that have a number in each line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cat;

impl ArgEncoder for Cat {
    fn profiler(&self) -> &ProfilerInfo {
        static INFO: ProfilerInfo = CAT;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let files = args.strings("files");
        let range = |message: String| ArgError::new(ArgErrorKind::Range, message);
        if files.is_empty() || files.len() > MOST_FILES {
            return Err(range(format!("files: 1 to {MOST_FILES} can be copied, not {}", files.len())));
        }
        if let Some(bad) = files.iter().find(|path| !path.starts_with('/') || path.contains(['\0', '\n'])) {
            return Err(range(format!("files: {bad:?} is no absolute path on one line")));
        }
        let slabs = facts.uid != 0 && files.contains(&"/proc/slabinfo");
        Ok(Invocation {
            samples: Some(Samples {
                every_ms: crate::every_ms(args),
                files: files.into_iter().map(str::to_owned).collect(),
                output: OUTPUT.to_owned(),
            }),
            outputs: vec![Output { file: OUTPUT.to_owned(), format: OutputFormat::Text, required: true }],
            restart_after_reboot: true,
            notes: slabs.then(|| "the kernel shows /proc/slabinfo to root alone".to_owned()).into_iter().collect(),
            ..Invocation::default()
        })
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let interval = raw.args.number("interval").unwrap_or(1.0);
        let files = raw.args.strings("files");
        let mut table = TableWriter::create(raw, "values.csv", interval, &["file", "name", "value", "value_kib"])?
            .limit("value", f64::MIN..=f64::MAX);
        let mut reader = Reader::new(open(raw, OUTPUT)?, files.len());
        let mut axis = BootAxis::default();
        let (mut seen, mut samples) = (vec![0u64; files.len()], 0u64);
        while let Some(sample) = reader.next_sample()? {
            samples += 1;
            let at = axis.place((sample.unix_ns, sample.boot_ns));
            table.sample(at);
            files.iter().zip(&mut seen).for_each(|(file, seen)| *seen += u64::from(sample.has(file)));
            write(&mut table, at, &sample)?;
        }
        for (file, seen) in files.iter().zip(seen).filter(|(_, seen)| *seen < samples) {
            let missing =
                if seen == 0 { String::new() } else { format!(" in {} of {samples} samples", samples - seen) };
            table.warn(format!("{file} could not be read{missing}: not there, no plain file, or larger than 4 MiB"));
        }
        if reader.cut > 0 {
            table.warn(format!("{} samples that are not whole were left out", reader.cut));
        }
        if !reader.torn() {
            return Ok(vec![table.finish()?]);
        }
        // The raw file stays as it came; its whole samples are beside it.
        table.repaired(reader.whole);
        let copied = File::create(raw.file(REPAIRED))
            .and_then(|mut to| io::copy(&mut open(raw, OUTPUT).map_err(io::Error::other)?.take(reader.end), &mut to));
        copied.map_err(|e| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {REPAIRED}"), &e))?;
        table.warn(format!("{OUTPUT} is torn: what is before its end is in {REPAIRED}"));
        Ok(vec![table.finish()?])
    }
}

fn write(table: &mut TableWriter, at: i64, sample: &Sample) -> Result<(), ConvertError> {
    for (file, text) in sample.files() {
        let slabs = text.starts_with("slabinfo - version: 2");
        for line in text.lines() {
            let row = if slabs { slab(line) } else { value(line) };
            let Some((name, value, kib)) = row else { continue };
            table.row(at, [file, name, &value, &kib])?;
        }
    }
    Ok(())
}

/// A line that is a name and a number, such as `MemFree:  123 kB` and `pgfault 123`: a value, or one in KiB.
fn value(line: &str) -> Option<(&str, String, String)> {
    let mut fields = line.split_whitespace();
    let (name, value, unit, None) = (fields.next()?, fields.next()?, fields.next(), fields.next()) else { return None };
    let value = number(value.parse().ok()?);
    let name = name.trim_end_matches(':');
    match unit {
        None => Some((name, value, String::new())),
        Some("kB") => Some((name, String::new(), value)),
        Some(_) => None,
    }
}

/// A line of `/proc/slabinfo`, such as `kmalloc-64  900 1024 64 64 1 : …`: its objects in use, and their size.
#[expect(clippy::cast_precision_loss, reason = "sizes of memory")]
fn slab(line: &str) -> Option<(&str, String, String)> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?;
    let (active, _, size) = (fields.next()?, fields.next()?, fields.next()?);
    let (active, size) = (active.parse::<u64>().ok()?, size.parse::<u64>().ok()?);
    Some((name, active.to_string(), number(active.saturating_mul(size) as f64 / 1024.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::testing::converted;
    use proptest::prelude::*;

    // Linux 6.1: the beginnings of both files.
    const MEMINFO: &str = "MemTotal:       24684096 kB\nMemFree:        15872512 kB\nHugePages_Total:       0\n";
    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
ext4_inode_cache   12000  12600   1184   27    8 : tunables    0    0    0 : slabdata    467    467      0
";

    fn text() -> String {
        let sample = |second: u32| {
            let (mem, slab) = (MEMINFO.len(), SLABINFO.len());
            format!(
                "# {second}000000000 {second}000000000\n@ /proc/meminfo {mem}\n{MEMINFO}@ /proc/slabinfo {slab}\n{SLABINFO}"
            )
        };
        sample(10) + &sample(11)
    }

    fn table(bytes: &[u8], name: &str) -> (Table, String) {
        let (tables, text) = converted(&Cat, &Args::new(), &[(OUTPUT, bytes)], (10, 2), name);
        (tables.unwrap().remove(0), text)
    }

    #[test]
    fn lines_of_a_name_and_a_number_become_rows() {
        let (made, csv) = table(text().as_bytes(), "values.csv");
        assert_eq!((made.rows, made.warnings.len(), made.repaired), (8, 0, None), "{made:?}");
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(rows[1], "10.000000,/proc/meminfo,MemFree,,15872512");
        assert_eq!(rows[2], "10.000000,/proc/meminfo,HugePages_Total,0,");
        assert_eq!(rows[7], "11.000000,/proc/slabinfo,ext4_inode_cache,12000,13875");
    }

    #[test]
    fn whole_samples_of_a_torn_file_are_beside_it() {
        let whole = text();
        let torn = format!("{whole}# 12000000000 5\n@ /proc/meminfo 900\nMemTotal:\0\0\0\0");
        let (made, copy) = table(torn.as_bytes(), REPAIRED);
        assert_eq!((made.rows, made.repaired), (8, Some(2)), "{made:?}");
        assert_eq!(copy, whole);
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let sample = "# 10000000000 5\n@ /proc/meminfo 0\n";
        assert_eq!(
            table(sample.as_bytes(), "values.csv").0.warnings[..1],
            ["/proc/slabinfo could not be read: not there, no plain file, or larger than 4 MiB"]
        );
    }

    #[test]
    fn the_client_copies_what_it_is_told() {
        let encode =
            |args: Args, uid| Cat.encode(&args.complete(&CAT).unwrap(), &HostFacts { uid, ..HostFacts::default() });
        let invocation = encode(Args::new(), 1000).unwrap();
        assert!(invocation.notes[0].contains("slabinfo"));
        let samples = invocation.samples.unwrap();
        assert_eq!((samples.every_ms, samples.files.join(" ").as_str()), (1000, "/proc/meminfo /proc/slabinfo"));
        assert!(encode(Args::new(), 0).unwrap().notes.is_empty());
        for bad in ["meminfo", "/a\nb"] {
            let args = Args::new().with("files", bad).with("interval", 0.5);
            assert_eq!(encode(args, 0).unwrap_err().kind, ArgErrorKind::Range, "{bad:?}");
        }
        let many = Value::List((0..17).map(|n| Value::from(format!("/{n}"))).collect());
        assert_eq!(encode(Args::new().with("files", many), 0).unwrap_err().kind, ArgErrorKind::Range);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0..500usize, byte: u8) {
            let mut bytes = text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            table(&bytes, "values.csv");
        }
    }
}
