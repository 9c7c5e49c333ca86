//! Bringing one big file back from one host.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use lab::Lab;

use crate::autoprof::{Run, milliseconds, place};
use crate::bare;
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
    let source = place(lab).join("bench-source");
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
        Contender::peer("rsync", &what, "rsync -W, aes128-gcm, warm ControlMaster", || {
            it.peer(&format!("exec rsync -W -e 'ssh -F {gcm}' h1:{} {}", it.source, it.target))
        }),
        Contender::peer("sshd", &what, "russh alone, one thread, aes128-gcm: reads `cat`, writes nothing", || {
            let (took, bytes) = bare::cat(lab, it.source.as_str());
            assert_eq!(bytes, u64::from(mebibytes) << 20);
            it.speed(took)
        }),
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
        // Into the profiler's own directory, where the client starts it; what lies there comes back. A copy would still be
        // on its way to the disk while it is fetched, which the peers' source is not.
        let command = format!("command:command='ln {} big; exec sleep 1000'", self.source);
        let tmpdir = self.lab[1].tmpdir().as_str();
        let run = Run::go(self.lab, "h1", &["--tmpdir", tmpdir, "-p", &command, "-d", "1"]);
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

/// Measures how busy the machine is while results come from all hosts of the lab at once.
pub fn from_many(lab: &Lab, mebibytes: u32, runs: u32) -> Vec<Row> {
    let count = lab.hosts().len();
    let what = [
        format!("collection of {mebibytes} MiB from each of {count} hosts at once, MiB/s in all"),
        format!("busy CPUs while collecting from {count} hosts, %"),
    ];
    let rows = what.each_ref().map(|what| (&**what, "autoprof: phase collecting → last host collected"));
    take_turns(runs, vec![Contender::autoprof(&rows, || many(lab, mebibytes))])
}

fn many(lab: &Lab, mebibytes: u32) -> Vec<f64> {
    rustix::fs::sync();
    let count = lab.hosts().len();
    let command = format!("command:command='head -c {mebibytes}M /dev/urandom > big; exec sleep 1000'");
    // What is made in the window lies on the disk when the window is over.
    let run = {
        let meter = Meter::start();
        let run = Run::go(lab, &format!("h[1-{count}]"), &["-p", &command, "-d", "30"]);
        let (from, to) = (run.last("/phase", "collecting"), run.last("/event/what", "collected"));
        let all = f64::from(mebibytes) * f64::from(u32::try_from(count).expect("a number of hosts"));
        let busy = meter.busy(from, to);
        (all / (milliseconds(from, to) / 1e3), busy)
    };
    vec![run.0, run.1]
}

/// How busy the CPUs were when.
struct Meter {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Timestamp, u64, u64)>>,
}

impl Meter {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
                let all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
                let ticks: Vec<u64> = all.filter_map(|tick| tick.parse().ok()).collect();
                // The guests' time is in the users' already.
                let (total, idle) = (ticks[..8].iter().sum(), ticks[3] + ticks[4]);
                seen.push((Timestamp::now(), total, idle));
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        Self { over, thread }
    }

    /// Percent of the CPUs' time between two instants.
    #[expect(clippy::cast_precision_loss, reason = "ticks of seconds")]
    fn busy(self, from: Timestamp, to: Timestamp) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("the meter ends");
        let between: Vec<_> = seen.iter().filter(|(at, ..)| (from..=to).contains(at)).collect();
        let (Some(first), Some(last)) = (between.first(), between.last()) else { return 0.0 };
        let (total, idle) = (last.1 - first.1, last.2 - first.2);
        100.0 * (total - idle) as f64 / total.max(1) as f64
    }
}
