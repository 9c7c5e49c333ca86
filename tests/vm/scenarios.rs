//! What happens to the machine, and what must be true of the run afterwards.

mod aarch64;
mod background;
mod clock;
mod logout;
mod reboot;
mod silence;

use std::thread;
use std::time::Duration;

use crate::machine::Machine;

/// One thing that happens to a machine under autoprof.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// Options of QEMU for its machine.
    pub qemu: &'static [&'static str],
    /// Plays it; gives figures for its line back, and panics when something is not as it must be.
    pub play: fn(&mut Machine) -> String,
}

/// All of them, in the order in which they are played.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "premise",
        about: "without autoprof: a power cut loses what was not flushed, and only that",
        qemu: &[],
        play: silence::premise,
    },
    Scenario {
        name: "reboot",
        about: "a clean reboot, the client's directory on a disk that survives it",
        qemu: &[],
        play: reboot::with_kept_files,
    },
    Scenario {
        name: "reboot-tmp",
        about: "a clean reboot of a system that empties /tmp, where the client is by default",
        qemu: &[],
        play: reboot::with_lost_files,
    },
    Scenario { name: "reset", about: "the reset button, with a checkpoint every 5 s", qemu: &[], play: silence::reset },
    Scenario {
        name: "power-cut",
        about: "the power is cut, with a checkpoint every 5 s",
        qemu: &[],
        play: silence::power_cut,
    },
    Scenario { name: "reset-twice", about: "the reset button, and again", qemu: &[], play: silence::reset_twice },
    Scenario {
        name: "never-back",
        about: "the power is cut for good, with a checkpoint every 5 s",
        qemu: &[],
        play: silence::never_back,
    },
    Scenario {
        name: "background",
        about: "a clean reboot while nobody is connected, between `autoprof start` and `autoprof report`",
        qemu: &[],
        play: background::reboot,
    },
    Scenario { name: "clock", about: "the clock is set ahead and back by an hour", qemu: &[], play: clock::steps },
    Scenario {
        name: "logout",
        about: "KillUserProcesses=yes, and a background run of a user who logs out",
        qemu: &[],
        play: logout::kills_processes,
    },
];

/// Those of the aarch64 machine.
pub const AARCH64: &[Scenario] = &[
    Scenario {
        name: "presets",
        about: "the presets light and default, and perf on the PMU's cycles",
        qemu: &[],
        play: aarch64::presets,
    },
    Scenario {
        name: "counters",
        about: "cycles and instructions by the PMU, on a machine that counts its instructions",
        // QEMU knows how many instructions were executed only where it counts them, here 32 ns for each.
        qemu: &["-icount", "shift=5"],
        play: aarch64::counters,
    },
];

/// Lets data come in; not a wait for something to happen.
fn collect_for(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}
