//! One run with one fault.
use std::{fmt, process::Command, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Finished, Lab, Link, Running, Signal};

use crate::{
    fault::{Fault, Instant, Random},
    invariants::{self, Loss, Witness},
};

/// Only a hang takes longer.
const LONG: Duration = Duration::from_secs(150);
/// A profiler that writes numbered lines: whether any is missing shows in the file itself.
const COUNTER: &str = "command:command='i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done'";
/// How long the test lasts when nothing happens to it.
const TEST: &str = "echo the-test-began; sleep 1.6; exit 3";
/// The test's own status.
pub const STATUS: i32 = 3;

/// One run: what it is, and what happens to it.
#[derive(Debug)]
pub struct Round {
    pub fault: Fault,
    at: Instant,
    /// How long what is away is away.
    away: Duration,
    /// How much of the results comes back before the connection breaks.
    bytes: u64,
    /// Whether the clients' directories outlive a reboot.
    pub persistent: bool,
    pub checkpoints: bool,
    directory: Utf8PathBuf,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.persistent { "kept" } else { "wiped" };
        let checkpoints = if self.checkpoints { "checkpoints" } else { "no checkpoints" };
        write!(f, "{:<29} {}, {place}, {checkpoints}", self.fault.name(), self.at)
    }
}

impl Round {
    /// Draws a run's fault and everything else that is random in it.
    pub fn draw(number: u32, random: &mut Random, only: Option<&str>) -> Self {
        let drawn = random.one_of(&Fault::ALL);
        let fault = only.and_then(|name| Fault::ALL.into_iter().find(|f| f.name() == name)).unwrap_or(drawn);
        let (early, span) = (random.below(4) == 0, random.millis(0, 1500));
        let at = if early { Instant::AfterLaunch(span) } else { Instant::InWindow(span) };
        let directory = std::env::temp_dir().join(format!("autoprof-torture-{}-{number}", std::process::id()));
        Self {
            fault,
            at,
            away: random.millis(50, 3000),
            bytes: random.below(20_000),
            persistent: random.below(2) == 0,
            checkpoints: random.below(2) == 0,
            directory: Utf8PathBuf::from_path_buf(directory).expect("a temporary directory is UTF-8"),
        }
    }

    /// Where the run's directory is kept when something is wrong with it.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Does the run, injects the fault, and checks what must hold.
    ///
    /// # Panics
    /// When it does not.
    pub fn run(&self) -> Loss {
        std::fs::create_dir_all(&self.directory).expect("a directory for the run");
        let lab = Lab::builder(2).in_namespaces().start();
        let (link, config) = lab.link(1);
        let out = self.directory.join("run");
        let mut running = self.begin(&config, &out);
        self.wait(&mut running);
        let witness = Witness::look(&lab, self);
        let finished = self.inject(&lab, &link, running, &config, &out);
        let loss = invariants::check(self, &lab, &out, &finished, witness);
        let _ = std::fs::remove_dir_all(&self.directory);
        loss
    }

    fn begin(&self, config: &Utf8Path, out: &Utf8Path) -> Running {
        let tmpdir = self.tmpdir();
        let mut args = vec!["run", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-o", out.as_str()];
        args.extend(["--tmpdir", tmpdir, "-p", "proc:0.1", "-p", "vmstat", "-p", COUNTER]);
        if self.checkpoints {
            args.extend(["--checkpoint", "0.3"]);
        }
        args.extend(["--", "sh", "-c", TEST]);
        Running::start(lab::autoprof().args(args))
    }

    pub fn tmpdir(&self) -> &'static str {
        if self.persistent { "/var/tmp/profilers" } else { "/tmp/profilers" }
    }

    /// Waits for the fault's instant: a random one, so that this is the one place where time itself is waited for.
    fn wait(&self, running: &mut Running) {
        let span = match self.at {
            Instant::AfterLaunch(span) => span,
            Instant::InWindow(span) => {
                running.wait_for("the-test-began", LONG);
                span
            }
        };
        std::thread::sleep(span);
    }

    fn inject(&self, lab: &Lab, link: &Link, mut running: Running, config: &Utf8Path, out: &Utf8Path) -> Vec<Finished> {
        let client = |name: &str| lab[1].processes().into_iter().find(|p| p.command.contains(name));
        match self.fault {
            Fault::Nothing => {}
            Fault::Reboot => {
                lab[1].power_off();
                std::thread::sleep(self.away);
                lab[1].power_on();
            }
            Fault::ClientKilled => {
                client("autoprof-client run").iter().for_each(|p| p.signal(Signal::KILL));
            }
            Fault::ToolKilled => {
                client("vmstat").iter().for_each(|p| p.signal(Signal::KILL));
            }
            Fault::ConnectionsBroken => lab[1].kill_connections(),
            Fault::SshdAway => {
                lab[1].stop_sshd();
                lab[1].kill_connections();
                std::thread::sleep(self.away);
                lab[1].start_sshd();
            }
            Fault::NetworkSilent => {
                link.cut();
                std::thread::sleep(self.away);
                link.heal();
            }
            Fault::CollectionBroken => {
                // Counted from the end of the test on, when results come back.
                let waited = std::time::Instant::now();
                while !std::fs::read_to_string(out.join("events.jsonl")).is_ok_and(|t| t.contains("\"collecting\"}")) {
                    if waited.elapsed() > LONG {
                        break;
                    }
                    std::thread::yield_now();
                }
                link.break_after(self.bytes);
            }
            Fault::ControllerKilledThenReport | Fault::ControllerKilledThenAttach => running.signal(Signal::KILL),
            Fault::Interrupted => running.signal(Signal::INT),
            Fault::GivenUp => {
                running.signal(Signal::INT);
                std::thread::sleep(self.away / 10);
                running.signal(Signal::INT);
            }
        }
        let first = running.finish(LONG);
        let mut finished = vec![first];
        let then = match self.fault {
            Fault::ControllerKilledThenAttach => "attach",
            Fault::ControllerKilledThenReport | Fault::GivenUp => "report",
            // A host that was away when it was to be cleaned is cleaned by whoever comes back to the run, as it says.
            _ if finished[0].stderr.contains("left on h1: ") || finished[0].stderr.contains("could not be removed") => {
                "report"
            }
            _ => return finished,
        };
        if out.join("events.jsonl").exists() {
            let args = [then, out.as_str(), "--ssh-config", config.as_str()];
            finished.push(lab::run(lab::autoprof().args(args), LONG));
        }
        // A run that was killed before it knew its directory is for `clean`, with the user who says so.
        let sweep = "for d in \"$1\"/autoprof-*; do [ -e \"$d/control.yaml\" ] || rm -rf \"$d\"; done; rmdir \"$1\"";
        for host in lab.hosts() {
            host.exec(&["sh", "-c", sweep, "sh", self.tmpdir()]);
        }
        finished
    }
}

/// Runs a command that has to succeed.
pub fn output(command: &mut Command) -> String {
    lab::run(command, LONG).expect_success().stdout
}
