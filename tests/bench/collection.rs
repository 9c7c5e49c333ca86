//! Bringing one big file back from one host.

use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Lab;

use crate::autoprof::{Run, milliseconds};
use crate::contender::{Contender, Row, take_turns, timed};
use crate::masters::Masters;

const GCM: &str = "aes128-gcm@openssh.com";

/// The file, on the host in the file system that autoprof's client writes to, here in the one of its run directory.
struct Transfer<'a> {
    lab: &'a Lab,
    source: Utf8PathBuf,
    target: Utf8PathBuf,
    mebibytes: u32,
}

/// Measures the contenders with a file of random bytes, which nobody can compress.
pub fn measure(lab: &Lab, mebibytes: u32, runs: u32) -> Vec<Row> {
    let place = if Lab::namespaces_available() { Utf8Path::new("/tmp") } else { lab[1].tmpdir() };
    let source = place.join("bench-source");
    lab[1].exec(&["sh", "-c", &format!("head -c {mebibytes}M /dev/urandom > {source}")]).expect_success();
    let it = Transfer { lab, source, target: lab.directory().join("bench-target"), mebibytes };

    let (gcm, default) = (Masters::open(lab, "gcm", &format!("Ciphers {GCM}")), Masters::open(lab, "default", ""));
    let (gcm, default) = (gcm.config(), default.config());
    let cold = format!("{} -c {GCM}", lab.ssh_config());
    let what = format!("collection of {mebibytes} MiB, one host, MiB/s");
    let scp = |config: &str| it.peer(&format!("exec scp -q -F {config} h1:{} {}", it.source, it.target));
    let cat = |config: &str| it.peer(&format!("exec ssh -n -F {config} h1 cat {} > {}", it.source, it.target));
    let own = [
        (&*what, "autoprof: phase collecting → collected (report step, transfer, BLAKE3)"),
        (&what, "autoprof: reported → collected (transfer, BLAKE3)"),
    ];
    let contenders = vec![
        Contender::autoprof(&own, || it.autoprof()),
        Contender::peer("scp", &what, "scp, aes128-gcm, warm ControlMaster", || scp(gcm)),
        Contender::peer("ssh", &what, "ssh cat, aes128-gcm, warm ControlMaster", || cat(gcm)),
        Contender::peer("scp", &what, "scp, default cipher, warm ControlMaster", || scp(default)),
        Contender::peer("ssh", &what, "ssh cat, default cipher, warm ControlMaster", || cat(default)),
        Contender::peer("scp", &what, "scp, aes128-gcm, cold (with the connect)", || scp(&cold)),
        Contender::peer("ssh", &what, "ssh cat, aes128-gcm, cold (with the connect)", || cat(&cold)),
    ];
    take_turns(runs, contenders)
}

impl Transfer<'_> {
    fn autoprof(&self) -> Vec<f64> {
        self.settle();
        // Into the profiler's own directory, where the client starts it; what lies there comes back.
        let command = format!("command:command='cp {} big; exec sleep 1000'", self.source);
        let tmpdir = self.lab[1].tmpdir().as_str();
        let run = Run::go(self.lab, "h1", &["--tmpdir", tmpdir, "-p", &command, "-d", "3"]);
        self.check(&run.directory.join("hosts/h1/command/big"));
        let collected = run.last("/event/what", "collected");
        let from = [run.last("/phase", "collecting"), run.last("/event/event/event", "reported")];
        from.map(|from| self.speed(milliseconds(from, collected))).into()
    }

    fn peer(&self, line: &str) -> f64 {
        self.settle();
        let (took, _) = timed(Command::new("sh").args(["-c", line]));
        self.check(&self.target);
        self.speed(took)
    }

    /// Nobody pays for what the one before left to be written.
    fn settle(&self) {
        let _ = fs::remove_file(&self.target);
        rustix::fs::sync();
    }

    fn check(&self, file: &Utf8Path) {
        let bytes = fs::metadata(file).unwrap_or_else(|error| panic!("{file} did not come: {error}")).len();
        assert_eq!(bytes, u64::from(self.mebibytes) << 20, "{file} is whole");
    }

    fn speed(&self, milliseconds: f64) -> f64 {
        f64::from(self.mebibytes) / (milliseconds / 1e3)
    }
}
