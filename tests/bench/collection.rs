//! Bringing one big file back from one host.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Lab;

use crate::autoprof::{Run, milliseconds};
use crate::contender::{Contender, Measure, Row, Unit, take_turns, timed};
use crate::masters::Masters;

const GCM: &str = "aes128-gcm@openssh.com";

/// The file and who wants it.
struct Transfer<'a> {
    lab: &'a Lab,
    /// On the host, in the file system that autoprof's client writes to.
    source: Utf8PathBuf,
    /// Here, in the directory that autoprof's run directory is in.
    target: Utf8PathBuf,
    mebibytes: u32,
}

/// Measures the contenders with a file of random bytes, which nobody can compress.
pub fn measure(lab: &Lab, mebibytes: u32, runs: u32) -> Vec<Row> {
    let place = if Lab::namespaces_available() { Utf8Path::new("/tmp") } else { lab[1].tmpdir() };
    let source = place.join("bench-source");
    let make = format!("head -c {}M /dev/urandom > {source}", mebibytes);
    lab[1].exec(&["sh", "-c", &make]).expect_success();
    let transfer = Transfer { lab, source, target: lab.directory().join("bench-target"), mebibytes };

    let (gcm, default) = (Masters::open(lab, "gcm", &format!("Ciphers {GCM}")), Masters::open(lab, "default", ""));
    let (gcm, default) = (gcm.config(), default.config());
    let cold = lab.ssh_config();
    let what = format!("collection of {mebibytes} MiB, one host");
    let speed = |name: &str| Measure::new(&what, name, Unit::MebibytesPerSecond);
    let own = vec![
        speed("autoprof: phase collecting → collected (report step, verified by BLAKE3)"),
        speed("autoprof: reported → collected (the transfer alone, verified by BLAKE3)"),
    ];
    take_turns(
        runs,
        vec![
            Contender::new("autoprof", own, || transfer.autoprof()),
            Contender::single("scp", speed("scp, aes128-gcm, warm ControlMaster"), || transfer.scp(gcm, &[])),
            Contender::single("ssh", speed("ssh cat, aes128-gcm, warm ControlMaster"), || transfer.cat(gcm, &[])),
            Contender::single("scp", speed("scp, default cipher, warm ControlMaster"), || transfer.scp(default, &[])),
            Contender::single("ssh", speed("ssh cat, default cipher, warm ControlMaster"), || {
                transfer.cat(default, &[])
            }),
            Contender::single("scp", speed("scp, aes128-gcm, cold (with the connect)"), || {
                transfer.scp(cold.as_str(), &["-c", GCM])
            }),
            Contender::single("ssh", speed("ssh cat, aes128-gcm, cold (with the connect)"), || {
                transfer.cat(cold.as_str(), &["-c", GCM])
            }),
        ],
    )
}

impl Transfer<'_> {
    fn autoprof(&self) -> Vec<f64> {
        self.settle();
        // Into the profiler's own directory, where the client starts it; what lies there comes back.
        let command = format!("command:command='cp {} big; exec sleep 1000'", self.source);
        let tmpdir = self.lab[1].tmpdir().as_str();
        let run = Run::go(self.lab, "h1", &["--tmpdir", tmpdir, "-p", &command, "-d", "3"]);
        self.check(&run.directory().join("hosts/h1/command/big"));
        let phase = run.last("phase collecting", |event| event["type"] == "phase" && event["phase"] == "collecting");
        let collected = run.last_host("collected");
        let reported = run.last_client("reported");
        [phase, reported].map(|from| self.speed(milliseconds(from, collected))).into()
    }

    fn scp(&self, config: &str, more: &[&str]) -> f64 {
        self.settle();
        let source = format!("h1:{}", self.source);
        let mut scp = Command::new("scp");
        scp.args(["-q", "-F", config]).args(more).args([source.as_str(), self.target.as_str()]);
        let (took, _) = timed(&mut scp);
        self.done(took)
    }

    fn cat(&self, config: &str, more: &[&str]) -> f64 {
        self.settle();
        let target = File::create(&self.target).expect("the lab's directory takes a file");
        let mut ssh = Command::new("ssh");
        ssh.args(["-n", "-F", config]).args(more).args(["h1", "cat", self.source.as_str()]);
        ssh.env_remove("SSH_AUTH_SOCK").stdout(Stdio::from(target));
        let began = Instant::now();
        let status = ssh.status().expect("ssh can be started");
        let took = began.elapsed().as_secs_f64() * 1e3;
        assert!(status.success(), "{ssh:?}: {status}");
        self.done(took)
    }

    /// Nobody pays for what the one before left to be written.
    fn settle(&self) {
        let _ = fs::remove_file(&self.target);
        rustix::fs::sync();
    }

    fn done(&self, milliseconds: f64) -> f64 {
        self.check(&self.target);
        self.speed(milliseconds)
    }

    fn check(&self, file: &Utf8Path) {
        let bytes = fs::metadata(file).unwrap_or_else(|error| panic!("{file} did not come: {error}")).len();
        assert_eq!(bytes, u64::from(self.mebibytes) << 20, "{file} is whole");
    }

    fn speed(&self, milliseconds: f64) -> f64 {
        f64::from(self.mebibytes) / (milliseconds / 1e3)
    }
}
