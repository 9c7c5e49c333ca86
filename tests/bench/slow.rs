//! Bringing back what can be compressed over a line of 100 Mbit/s, and ten thousand small files over a fast one.

use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Lab;

use crate::autoprof::{Run, milliseconds, place};
use crate::contender::{Contender, Row, take_turns, timed};

/// Bytes a second of a line of 100 Mbit/s.
const RATE: u64 = 100_000_000 / 8;
/// How many small files, and how large each is.
const FILES: usize = 10_000;
const SMALL: usize = 4096;

/// A directory on the host that is fetched, under the names that the contenders know it by.
struct Source<'a> {
    lab: &'a Lab,
    config: Utf8PathBuf,
    source: Utf8PathBuf,
    target: Utf8PathBuf,
    files: usize,
}

/// Measures a file of perf's, made by the perf of this machine, over a slow line.
pub fn perf_data(lab: &Lab, mebibytes: u32, runs: u32) -> Vec<Row> {
    let source = place(lab).join("bench-slow");
    // One recording again and again: a block of what goes over the line has no more of it than once.
    let make = format!(
        "mkdir -p {source} && cd {source} && perf record -q -a -g -F 5000 -e cpu-clock -o one -- sh -c 'timeout 5 find / \
         -xdev > /dev/null 2>&1; true' && while [ $(stat -c %s perf.data 2>/dev/null || echo 0) -lt {} ]; do cat one >> \
         perf.data; done; truncate -s {mebibytes}M perf.data; rm one",
        u64::from(mebibytes) << 20
    );
    lab[1].exec(&["sh", "-c", &make]).expect_success();
    let (link, config) = lab.link(1);
    link.slow_down(RATE);
    let it = Source { lab, config, source, target: lab.directory().join("bench-target"), files: 1 };
    let what = format!("{mebibytes} MiB of perf data over 100 Mbit/s, ms");
    let scp = |more: &str| it.peer(&format!("exec scp -r -q {more} -F {} h1:{} {}", it.config, it.source, it.target));
    take_turns(
        runs,
        vec![
            Contender::autoprof(&[(&what, "autoprof: reported → collected (transfer, BLAKE3)")], || {
                vec![it.autoprof()]
            }),
            Contender::peer("scp", &what, "scp", || scp("")),
            Contender::peer("scp", &what, "scp -C (zlib)", || scp("-C")),
        ],
    )
}

/// Measures many small files.
pub fn small_files(lab: &Lab, runs: u32) -> Vec<Row> {
    let source = place(lab).join("bench-small");
    let make = format!(
        "mkdir -p {source} && cd {source} && head -c {} /dev/urandom | split -b {SMALL} -a 4 - f",
        FILES * SMALL
    );
    lab[1].exec(&["sh", "-c", &make]).expect_success();
    let config = lab.ssh_config();
    let it = Source { lab, config, source, target: lab.directory().join("bench-target"), files: FILES };
    let what = format!("{FILES} files of {SMALL} bytes, ms");
    let (config, source, target) = (&it.config, &it.source, &it.target);
    let tar = format!("mkdir {target} && ssh -n -F {config} h1 tar -C {source} -cf - . | tar -C {target} -xf -");
    let rsync = format!("exec rsync -a -e 'ssh -F {config}' h1:{source}/ {target}");
    take_turns(
        runs,
        vec![
            Contender::autoprof(&[(&what, "autoprof: reported → collected (transfer, BLAKE3)")], || {
                vec![it.autoprof()]
            }),
            Contender::peer("tar", &what, "ssh tar | tar x", || it.peer(&tar)),
            Contender::peer("rsync", &what, "rsync -a", || it.peer(&rsync)),
            Contender::peer("scp", &what, "scp -r", || {
                it.peer(&format!("exec scp -r -q -F {config} h1:{source} {target}"))
            }),
        ],
    )
}

impl Source<'_> {
    fn autoprof(&self) -> f64 {
        self.settle();
        // Links: what is copied would still be on its way to the disk.
        let command = format!("command:command='cp -rl {} all; exec sleep 1000'", self.source);
        let tmpdir = self.lab[1].tmpdir().as_str();
        let run = Run::go_by(&self.config, self.lab, "h1", &["--tmpdir", tmpdir, "-p", &command, "-d", "1"]);
        self.check(&run.directory.join("hosts/h1/command/all"));
        milliseconds(run.last("/event/event/event", "reported"), run.last("/event/what", "collected"))
    }

    fn peer(&self, line: &str) -> f64 {
        self.settle();
        let (took, _) = timed(Command::new("sh").args(["-c", line]));
        self.check(&self.target);
        took
    }

    /// Nobody pays for what the one before left to be written.
    fn settle(&self) {
        let _ = fs::remove_dir_all(&self.target);
        rustix::fs::sync();
    }

    fn check(&self, directory: &Utf8Path) {
        let found = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory} did not come: {error}")).count();
        assert_eq!(found, self.files, "{directory} is whole");
    }
}
